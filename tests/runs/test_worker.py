"""One run in this process: what is refused, and what a result carries."""

import json
import shutil
import subprocess
from datetime import datetime

import pytest
from hypothesis import given
from mutations import damaged, fuzz

from papers_lib.errors import PapersError
from papers_lib.files import PlaceError
from papers_lib.runs import progress, provenance, worker
from papers_lib.runs.planning import sha256
from papers_lib.runs.spec import Data, RunSpec
from papers_lib.runs.store import Failure, Store, read_result, read_spec, write_result


@pytest.fixture
def here(monkeypatch, request):
    monkeypatch.syspath_prepend(str(request.path.parent))


def test_result_carries_its_origin_and_nothing_of_the_host(store, toy, here):
    spec = toy("square", x=3)
    folder = store.prepare(spec)
    (folder / ".result.json.abc.tmp").touch()
    (folder / ".spec.json.abc.tmp").touch()  # another sweep prepares the same run
    assert worker.compute(folder) == {"status": "done"}
    record = json.loads((folder / "result.json").read_text())
    origin = record["provenance"]
    names = "code commit device dirty finished key python seconds torch"
    assert " ".join(sorted(origin)) == names
    assert origin["key"] == spec.key and origin["device"].startswith("cpu") and origin["seconds"] >= 0
    assert datetime.fromisoformat(origin["finished"]).utcoffset().total_seconds() == 0
    assert record["spec"]["folder"] == "" and str(store.root) not in (folder / "result.json").read_text()
    assert [path.name for path in folder.glob(".*.tmp")] == [".spec.json.abc.tmp"]
    assert worker.compute(folder) == {"status": "cached"}


def test_code_changed_since_the_folder_was_prepared(store, toy, here, monkeypatch):
    folder = store.prepare(toy("square", x=3))
    monkeypatch.setattr("papers_lib.runs.spec.code_fingerprint", lambda module, without: "changed")
    answer = worker.compute(folder)
    assert "prepared for other code" in answer["error"]
    assert not (folder / "failed.json").exists()


@pytest.mark.parametrize(
    "name", ["toy_wing.functions:none", "toy_wing.absent:run", "papers_lib.absent.study:run"]
)
def test_a_function_that_is_not_there(store, toy, here, name):
    folder = store.prepare(toy("square", x=3).model_copy(update={"function": name}))
    answer = worker.compute(folder)
    assert answer["status"] == "failed" and f"no function {name}" in answer["error"]


NO_DOORS = ["", "payload:run", "os:abort", "papers_lib.files:replacing", "toy_wing2.x:run"]
NO_DOORS += ["papers_lib_evil.study:run", "papers_lib.nar.study:plan", "papers_lib.nar.study:run:run"]
NO_DOORS += ["papers_lib.nar/../study:run", "papers_lib.nar.study:run\n"]


@pytest.mark.parametrize("name", NO_DOORS)
def test_a_function_that_is_no_door_is_never_imported(store, toy, tmp_path, monkeypatch, name):
    imported = tmp_path / "imported"
    (tmp_path / "payload.py").write_text(f"open({str(imported)!r}, 'w')\ndef run(spec): return {{}}")
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = store.prepare(toy("square", x=3).model_copy(update={"function": name}))
    answer = worker.compute(folder)
    assert answer["status"] == "failed" and "is no door of a paper" in answer["error"]
    assert not imported.exists() and not (folder / "failed.json").exists()


def test_data_that_is_another_when_the_run_begins(store, toy, here, tiny_cars, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(tiny_cars / "standin", root)
    from papers_lib.datasets import cars196

    data = Data(name="cars196", root=str(root), fingerprint=cars196.load(root).fingerprint, stand_in=True)
    spec = toy("square", x=3).model_copy(update={"data": data})
    assert worker.compute(store.prepare(spec)) == {"status": "done"}
    other = spec.model_copy(update={"data": data.model_copy(update={"fingerprint": "f" * 64})})
    answer = worker.compute(store.prepare(other))
    assert "is not the one that this run was prepared for" in answer["error"]
    assert store.failure(other).bad_input and store.result(other) is None
    shutil.rmtree(root)
    again = worker.compute(store.prepare(spec.model_copy(update={"settings": {"seed": 1, "x": 1}})))
    assert again["status"] == "failed" and "data_prep" in again["error"]


def test_a_file_that_is_another_when_the_run_begins(store, toy, here, tmp_path):
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"one")
    spec = toy("square", x=3, weights=sha256(weights))
    spec = spec.model_copy(update={"places": {"weights": str(weights)}})
    weights.write_bytes(b"other")
    folder = store.prepare(spec)
    assert "is not the file that it was" in worker.compute(folder)["error"]
    weights.write_bytes(b"one")
    assert worker.compute(folder) == {"status": "done"}


def test_what_fails_before_the_run_begins_is_one_line_and_not_recorded(store, toy, here, monkeypatch):
    folder = store.prepare(toy("square", x=3))
    for error, status in ((MemoryError(), "machine"), (RuntimeError("a\nbug"), "failed")):

        def broken(spec, error=error):
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(provenance, "gather", broken)
            answer = worker.compute(folder)
        assert answer["status"] == status and "\n" not in answer["error"]
    assert not (folder / "failed.json").exists()


def spec_of(**changes):
    values = {"paper": "toy", "function": "toy_wing.functions:square", "profile": "small"}
    values |= {"settings": {"seed": 0, "x": 3, "rate": 0.5}, "data": Data(name="none")}
    return RunSpec(**(values | changes))


WHOLE = spec_of(needs=(spec_of(),), places={"weights": "w.pt"}).model_dump_json().encode()
FAILURE = Failure(error="e", traceback="t").model_dump_json().encode()
PROGRESS = progress.Progress(step=1, total=2, note="n").model_dump_json().encode()


@fuzz
@given(content=damaged(WHOLE))
def test_a_damaged_spec_is_one_line(tmp_path, monkeypatch, content):
    monkeypatch.setenv("PAPERS_WINGS", "")
    folder = tmp_path / "toy" / spec_of().key[:20]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spec.json").write_bytes(content)
    try:
        read_spec(folder)
    except PapersError as error:
        assert "\n" not in str(error)
    answer = worker.compute(folder)
    assert answer["status"] == "failed" and "\n" not in answer["error"] and "Error:" not in answer["error"]


@fuzz
@given(failure=damaged(FAILURE), shown=damaged(PROGRESS))
def test_damaged_news_of_a_run_are_passed_over(tmp_path, failure, shown):
    store, spec = Store(tmp_path), spec_of()
    folder = store.prepare(spec)
    (folder / "failed.json").write_bytes(failure)
    (folder / "progress.json").write_bytes(shown)
    said = store.failure(spec)
    assert said.bad_input or said.error != "unreadable failed.json"  # what cannot be read blocks no run
    found = progress.read(folder)
    assert found is None or 0 <= found.step / max(1, found.total) < 2**53


@pytest.mark.parametrize("with_digest", [True, False])
@fuzz
@given(where=damaged(bytes(range(256))))
def test_a_damaged_result_is_moved_aside(tmp_path, capsys, with_digest, where):
    """Damaged at the places where `where` differs: what is read is what was written, or nothing."""
    spec = spec_of()
    folder = Store(tmp_path).prepare(spec)
    write_result(folder, {"value": 0.5, "history": [{"loss": 1.5}]}, {"key": spec.key, "code": spec.code})
    path = folder / "result.json"
    record = json.loads(path.read_text())
    if not with_digest:
        del record["digest"]
    raw = bytearray(json.dumps(record, indent=1).encode())
    path.write_bytes(raw)
    whole = read_result(folder)
    assert whole is not None
    for place, (old, new) in enumerate(zip(bytes(range(256)), where, strict=False)):
        raw[(place * 7) % len(raw)] ^= old ^ new
    if len(where) < 128:
        del raw[len(where) * 3 :]
    path.write_bytes(raw)
    found = read_result(folder)
    if found is None:
        assert not path.exists()
    else:
        assert found.spec.key == whole.spec.key
        assert not with_digest or found.metrics == whole.metrics


def test_a_folder_that_is_no_run(tmp_path, capsys):
    assert worker.main([str(tmp_path)]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert "is no run folder" in answer["error"]
    assert worker.main([str(tmp_path / "not" / "there")]) == 1
    assert not list(tmp_path.iterdir())  # no lock is left, and no folder for one


def test_no_folder_and_no_number_of_processes_are_one_line(monkeypatch, capsys, tmp_path):
    assert worker.main([]) == 2
    assert capsys.readouterr().err.startswith("error: no run folder is named")
    monkeypatch.setenv("WORLD_SIZE", "all")
    assert worker.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == "error: WORLD_SIZE is 'all', which torchrun has not set: unset it\n"
    monkeypatch.setenv("WORLD_SIZE", "")
    assert worker.main([str(tmp_path)]) == 1  # empty is as if it were not set


def test_a_result_that_cannot_be_written_is_the_places_fault(store, toy, here, monkeypatch, capsys):
    folder = store.prepare(toy("square", x=3))

    def full(path, text):
        raise PlaceError("no room left on the disk of X: set PAPERS_RUNS")

    monkeypatch.setattr("papers_lib.runs.store.write", full)
    assert worker.main([str(folder)]) == 2
    assert json.loads(capsys.readouterr().out)["status"] == "place"
    assert not (folder / "failed.json").exists()


def test_progress_is_written_and_never_stops_a_run(tmp_path):
    assert progress.read(tmp_path) is None
    report = progress.reporter(tmp_path, every=1000)
    report(1, 10, "epoch 0")
    report(2, 10, "skipped: too soon")
    assert progress.read(tmp_path) == progress.Progress(step=1, total=10, note="epoch 0")
    report(10, 10, "end", {"loss": 0.5, "knn": float("nan")})
    assert progress.read(tmp_path).step == 10
    assert progress.read(tmp_path).numbers == {"loss": 0.5}  # what is no number draws no curve
    (tmp_path / "progress.json").write_text("{")
    assert progress.read(tmp_path) is None
    progress.reporter(tmp_path / "absent")(1, 2, "")


def test_commit_and_dirty_flag(monkeypatch, tmp_path, toy):
    """Without git, in a repository without a commit, and as files change."""

    def origin():
        found = provenance.gather(toy("square", x=1))
        return found["commit"], found["dirty"]

    def git(command):
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "core.hooksPath=/dev/null"]
        subprocess.run(["git", *who, *command.split()], cwd=tmp_path, check=True)

    monkeypatch.setattr(provenance, "repository", lambda: tmp_path)
    (tmp_path / "papers_lib").mkdir()
    (tmp_path / "papers_lib" / "a.py").touch()
    assert origin() == ("", True)
    git("init -q")
    assert origin() == ("", True)
    git("add .")
    git("commit -q -m first")
    commit, dirty = origin()
    assert len(commit) == 40 and not dirty
    (tmp_path / "ledger.jsonl").touch()
    assert origin() == (commit, False)
    (tmp_path / "papers_lib" / "new.py").touch()
    assert origin() == (commit, True)
