"""One run in this process: what is refused, and what a result carries."""

import json
from datetime import datetime

import pytest

from papers_lib.files import PlaceError
from papers_lib.runs import progress, provenance, worker
from papers_lib.runs.store import lock


@pytest.fixture
def here(monkeypatch, request):
    monkeypatch.syspath_prepend(str(request.path.parent))


def test_result_carries_its_origin_and_nothing_of_the_host(store, toy, here):
    spec = toy("square", x=3)
    folder = store.prepare(spec)
    (folder / ".result.json.abc.tmp").touch()
    assert worker.compute(folder) == {"status": "done"}
    record = json.loads((folder / "result.json").read_text())
    origin = record["provenance"]
    assert set(origin) == {
        "commit", "dirty", "code", "key", "torch", "device", "python", "seconds", "finished",
    }  # fmt: skip
    assert origin["key"] == spec.key and origin["device"] == "cpu" and origin["seconds"] >= 0
    assert datetime.fromisoformat(origin["finished"]).utcoffset().total_seconds() == 0
    assert record["spec"]["folder"] == "" and str(store.root) not in (folder / "result.json").read_text()
    assert not list(folder.glob(".*.tmp"))
    assert worker.compute(folder) == {"status": "cached"}


def test_busy_while_another_holds_the_lock(store, toy):
    folder = store.prepare(toy("square", x=3))
    with lock(folder):
        assert worker.compute(folder) == {"status": "busy"}


def test_needs_must_be_finished(store, toy):
    answer = worker.compute(store.prepare(toy("total", needs=[toy("square", x=1)])))
    assert answer["status"] == "failed" and "needs the run" in answer["error"]


def test_code_changed_since_the_folder_was_prepared(store, toy, here, monkeypatch):
    folder = store.prepare(toy("square", x=3))
    monkeypatch.setattr("papers_lib.runs.spec.code_fingerprint", lambda module: "changed")
    answer = worker.compute(folder)
    assert "prepared for other code" in answer["error"]
    assert not (folder / "failed.json").exists()


@pytest.mark.parametrize("name", ["toy_wing.functions:none", "toy_wing.absent:run", "papers_lib.absent.study:run"])
def test_a_function_that_is_not_there(store, toy, here, name):
    folder = store.prepare(toy("square", x=3).model_copy(update={"function": name}))
    answer = worker.compute(folder)
    assert answer["status"] == "failed" and f"no function {name}" in answer["error"]


def test_a_folder_that_is_no_run(tmp_path, capsys):
    assert worker.main([str(tmp_path)]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert "is no run folder" in answer["error"]


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
    report(10, 10, "end")
    assert progress.read(tmp_path).step == 10
    (tmp_path / "progress.json").write_text("{")
    assert progress.read(tmp_path) is None
    progress.reporter(tmp_path / "absent")(1, 2, "")


def test_commit_and_dirty_flag(monkeypatch, tmp_path):
    monkeypatch.setattr(provenance, "repository", lambda: tmp_path)
    assert provenance._commit() == ("", True)
    for command in ("init -q", "add .", "commit -q -m first"):
        (tmp_path / "papers_lib").mkdir(exist_ok=True)
        (tmp_path / "papers_lib" / "a.py").touch()
        _git(tmp_path, command)
    commit, dirty = provenance._commit()
    assert len(commit) == 40 and not dirty
    (tmp_path / "ledger.jsonl").touch()
    assert provenance._commit() == (commit, False)
    (tmp_path / "papers_lib" / "new.py").touch()
    assert provenance._commit() == (commit, True)


def _git(folder, command):
    import subprocess

    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "core.hooksPath=/dev/null"]
    subprocess.run(["git", *who, *command.split()], cwd=folder, check=True)
