from benchmarks import gpu_check
from benchmarks.gpu_check import Part, check, parts
from papers_lib.papers import get
from papers_lib.settings import repository, validate


def part(name, code, tmp_path, share=1.0):
    (tmp_path / f"{name}.py").write_text(code)
    return Part(name, name, (), share)


def test_a_part_that_fails_or_hangs_does_not_stop_the_others(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    todo = [
        part("good", "import os; print(os.environ['PAPERS_GPU_TESTS'])", tmp_path),
        part("bad", "raise SystemExit(3)", tmp_path),
        part("slow", "print('began', flush=True); import time; time.sleep(600)", tmp_path, share=0.05),
        part("last", "print('one'); print('two')", tmp_path),
    ]
    log = tmp_path / "new" / "log.txt"
    outcomes = check(todo, 60, log, "cpu")
    assert [outcome.result for outcome in outcomes] == [
        "passed",
        "failed with code 3",
        "ran out of time",
        "passed",
    ]
    assert [outcome.said for outcome in outcomes] == [["cpu"], [], ["began"], ["one", "two"]]
    assert "== slow\nbegan" in log.read_text()


def test_without_time_a_part_is_named_and_not_run(tmp_path):
    assert [x.result for x in check([part("never", "", tmp_path)], 1, tmp_path / "log", "cpu")] == [
        "no time left"
    ]


def test_the_smallest_sizes_and_the_real_ones_ask_for_the_same_parts():
    small, real = parts("cpu", ""), parts("cuda", "data")
    assert [x.name for x in small] == [x.name for x in real]
    assert all("medium" not in x.arguments for x in small)
    assert {x.name.rpartition(" ")[2] for x in real if x.name.startswith("pilot")} == set(gpu_check.PAPERS)


def test_the_data_that_the_pilots_read_is_written_down():
    text = (repository() / "docs" / "cluster.md").read_text(encoding="utf-8")
    for paper in gpu_check.PAPERS:
        # a profile without a data set has all networks of the paper: the first stands for them
        study = get(paper).study
        names = {spec.data.name for spec in study.plan(validate(study.parameters, {"profile": "medium"}))[:1]}
        assert names and all(f"`{name}`" in text for name in names), paper
