"""The executor on real worker processes."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from sweeps import noted, sweep, wait_for

from papers_lib.errors import PapersError
from papers_lib.files import PlaceError
from papers_lib.runs import executors, local, worker
from papers_lib.runs.local import execute
from papers_lib.runs.store import Store


def test_computes_once_then_takes_from_the_store(store, toy):
    specs = [toy("square", x=x) for x in (2, 3)]
    got = []
    first = execute([*specs, specs[0]], store, slots=2, show=False, on_done=got.append)
    assert first == (2, 0, [])
    assert sorted(r.metrics["value"] for r in got) == [4, 9]
    assert execute(specs, store, show=False, on_done=got.append) == (0, 2, [])
    assert len(got) == 2
    assert store.result(specs[1]).metrics["value"] == 9


def test_smoke_shares_a_process_and_other_profiles_do_not(store, toy):
    for profile, processes in (("smoke", 1), ("small", 2)):
        specs = [toy("square", profile, x=x + 10 * processes) for x in range(2)]
        execute(specs, store, slots=1, show=False)
        assert len({store.result(s).metrics["pid"] for s in specs}) == processes


def test_needs_come_first_and_once(store, toy):
    base = [toy("square", x=x) for x in (1, 2)]
    middle = toy("total", needs=base)
    top = toy("total", needs=[middle, base[1]])
    assert execute([top, middle], store, slots=2, show=False).done == 4
    assert store.result(top).metrics == {"value": 9}
    assert execute([top], store, show=False) == (0, 1, [])


def test_dependents_of_a_failure_are_reported_not_recorded(store, toy, tmp_path):
    bad = toy("fail", mended=str(tmp_path / "mended"))
    child = toy("total", needs=[bad])
    summary = execute([child, toy("square", x=5)], store, show=False)
    assert summary.done == 1
    reasons = {s.key: reason for s, reason in summary.failed}
    assert "needs fail seed 0, which failed: ValueError: the toy fails" in reasons[child.key]
    assert store.state(child) == "todo"


@pytest.mark.parametrize(
    ("function", "reason", "before"),
    [
        ("fail", "ValueError: the toy fails", "failed before: "),
        ("bad_input", "no data here: give data_root", ""),  # that is tried again unasked
    ],
)
def test_a_failure_is_no_result_and_is_tried_again_when_asked(store, toy, tmp_path, function, reason, before):
    spec = toy(function, mended=str(tmp_path / "mended"))
    assert execute([spec], store, show=False).failed[0][1] == reason
    record = json.loads((store.folder(spec) / "failed.json").read_text())
    assert "functions.py" in record["traceback"]
    assert store.result(spec) is None and store.state(spec) == "failed"
    assert execute([spec], store, show=False).failed[0][1].startswith(before + reason)
    Path(spec.settings["mended"]).touch()
    assert execute([spec], store, retry_failed=before != "", show=False) == (1, 0, [])
    assert not (store.folder(spec) / "failed.json").exists()


@pytest.mark.parametrize("profile", ["smoke", "small"])
def test_a_killed_worker_loses_its_run_alone(store, toy, profile):
    specs = [toy("die", profile, x=x) for x in range(1, 4)]
    summary = execute(specs, store, slots=1, show=False)
    assert summary.done == 2
    [(spec, reason)] = summary.failed
    assert spec.settings["x"] == 2 and "SIGKILL" in reason and "resumes" in reason
    assert store.failure(spec) is None
    pids = {store.result(s).metrics["pid"] for s in specs if s != spec}
    assert len(pids) == 2, "the runs after it went on in a new process"
    assert execute(specs, store, show=False) == (1, 2, [])


def test_a_killed_worker_whose_child_lives_on_is_noticed(store, toy):
    spec = toy("die_with_child")
    [(_, reason)] = execute([spec], store, show=False).failed
    assert "SIGKILL" in reason
    os.kill(int((store.folder(spec) / "child").read_text()), signal.SIGKILL)  # it was still there


def test_killed_at_random_and_resumed_gives_the_same(store, toy):
    """SIGKILL of a sweep and all its workers, three times: it goes on, and each sum is right."""
    rng = random.Random(0)
    specs = [toy("steps", "small", x=x, steps=100) for x in range(3)]
    for _ in range(3):
        before = noted(store, specs[0])
        process = sweep(store, "steps", 3, "small", steps=100)
        wait_for(lambda before=before: noted(store, specs[0]) >= before + 5)
        time.sleep(0.2 * rng.random())
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    wait_for(lambda: not any(store.state(spec) == "running" for spec in specs))
    assert execute(specs, store, slots=2, show=False).failed == []
    for spec in specs:
        assert store.result(spec).metrics == {"sum": sum(i**2 for i in range(100))}
        assert not list(store.folder(spec).glob(".*.tmp"))
        assert noted(store, spec) <= 103, "at most the interrupted steps were computed twice"


@pytest.mark.parametrize("profile", ["smoke", "small"])
def test_no_worker_outlives_a_killed_sweep(store, toy, profile):
    process = sweep(store, "steps", 1, profile, steps=2000)
    spec = toy("steps", profile, x=0, steps=2000)
    wait_for(lambda: store.state(spec) == "running")
    os.kill(process.pid, signal.SIGKILL)  # the sweep alone
    process.wait()
    wait_for(lambda: store.state(spec) == "partial")


def test_two_sweeps_on_one_store_compute_each_run_once(store, toy):
    said = [process.communicate(timeout=60) for process in [sweep(store, "count", 6) for _ in range(2)]]
    assert [errors for _, errors in said] == ["", ""]
    ended = [list(map(int, output.splitlines()[-1].split()[1:3])) for output, _ in said]
    assert sum(done for done, _ in ended) == 6 and [done + cached for done, cached in ended] == [6, 6]
    assert [noted(store, toy("count", x=x), "calls.txt") for x in range(6)] == [1] * 6


def test_ctrl_c_stops_the_workers_and_says_how_to_resume(store, toy):
    process = sweep(store, "steps", 2, "small", steps=2000)
    folders = [store.folder(toy("steps", "small", x=x, steps=2000)) for x in range(2)]
    wait_for(lambda: all((f / "progress.json").exists() for f in folders))
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode != 0
    assert "stopped: 0/2 done" in errors and "the same command resumes" in errors
    with pytest.raises(ProcessLookupError):  # no worker is left in the group
        os.killpg(process.pid, 0)
    assert not any((f / "failed.json").exists() for f in folders)


def test_ctrl_c_twice_leaves_no_worker_and_no_failure(store, toy):
    process = sweep(store, "steps", 1, "small", steps=200)
    spec = toy("steps", "small", x=0, steps=200)
    wait_for((store.folder(spec) / "progress.json").exists)
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.05)
    process.communicate(timeout=20)
    wait_for(lambda: store.state(spec) == "partial")
    assert execute([spec], store, show=False) == (1, 0, [])
    assert store.result(spec).metrics == {"sum": sum(i**2 for i in range(200))}


def test_plain_lines_where_stdout_is_no_terminal(store, toy, capsys):
    execute([toy("square", x=1), toy("nothing")], store)
    out = capsys.readouterr().out
    assert "[1/2] done square seed 0 in 0 s" in out
    assert "FAILED nothing seed 0: TypeError: the run returned a NoneType" in out
    execute([toy("square", x=7)], store, show=False)
    assert capsys.readouterr().out == ""


def test_metrics_are_plain_finite_json(store, toy):
    nan, odd, pair = (toy("metrics", kind=kind) for kind in ("nan", "set", "tuple"))
    summary = execute([nan, odd, pair], store, show=False)
    reasons = {spec.settings["kind"]: reason for spec, reason in summary.failed}
    assert "metric 'odd' is no plain finite JSON value: Out of range float" in reasons["nan"]
    assert "metric 'odd'" in reasons["set"] and store.result(odd) is None
    assert store.result(pair).metrics == {"fine": 1, "odd": [1, 2]}


def test_output_goes_to_the_log_and_threads_are_shared_out(store, toy, monkeypatch):
    monkeypatch.setattr(local, "_cores", lambda: 6)
    spec, small = toy("noisy", profile="small"), toy("noisy", seed=1)
    execute([spec, small], store, slots=2, show=False)
    assert store.result(spec).metrics == {"threads": "3"}
    assert store.result(small).metrics == {"threads": "1"}  # one shared worker a slot, one thread each
    lines = (store.folder(spec) / "log.txt").read_text().splitlines()
    assert sorted(lines) == ["said by C", "said by the run"]


@pytest.mark.parametrize("where", ["file in the way/runs", "/proc/papers"])
def test_a_store_that_cannot_be_written(tmp_path, toy, where):
    (tmp_path / "file in the way").touch()
    root = tmp_path / where
    with pytest.raises(PlaceError, match="PAPERS_RUNS") as caught:
        execute([toy("square", x=1)], Store(root), show=False)
    assert str(root) in str(caught.value) and "\n" not in str(caught.value)


def test_a_disk_that_fills_up_records_no_failure(store, toy):
    for number, said in ((errno.ENOSPC, "no room left on the disk of "), (errno.EFBIG, "File too large")):
        good, full = toy("square", x=number), toy("refused_by_the_disk", errno=number)
        with pytest.raises(PlaceError, match=f"{said}.*PAPERS_RUNS"):
            execute([good, full], store, show=False)
        assert store.result(good) is not None
        assert store.failure(full) is None and store.state(full) == "todo"


def test_a_lost_shared_worker_between_runs_is_replaced(store, toy):
    """Killed while idle: the next run goes to a new process."""
    first, second = toy("square", x=1), toy("total", needs=[toy("square", x=1)])

    def kill(result):
        if "pid" in result.metrics:
            os.kill(result.metrics["pid"], signal.SIGKILL)
            time.sleep(0.1)

    assert execute([first, second], store, show=False, on_done=kill) == (2, 0, [])


def test_executors_by_name(store, toy, monkeypatch):
    assert executors.execute("local", [toy("square", x=1)], store, show=False).done == 1
    monkeypatch.setitem(sys.modules, "ray", None)  # as where it is not installed
    for name, reason in (("ray", "lacks the package ray: pip install"), ("slurm", "use 'local' or 'ray'")):
        with pytest.raises(PapersError, match=reason):
            executors.execute(name, [], store)
    with pytest.raises(PapersError, match="are for executor 'ray'"):
        executors.execute("local", [], store, num_gpus=1)


def test_a_run_in_another_process_is_waited_for(store, toy):
    spec = toy("count", x=1)
    process = sweep(store, "steps", 1, "small", steps=30, sleep=0.02)
    waited = toy("steps", "small", x=0, steps=30, sleep=0.02)
    wait_for(lambda: store.state(waited) == "running")
    summaries = []
    thread = threading.Thread(target=lambda: summaries.append(execute([waited, spec], store, show=False)))
    thread.start()
    thread.join(timeout=30)
    process.communicate(timeout=30)
    assert summaries == [(1, 1, [])]


@pytest.mark.parametrize("ahead", [120, -120, 10**9])
def test_a_failure_is_tried_again_whatever_the_clock_says(store, toy, tmp_path, ahead):
    """A file server's clock, or this one set back."""
    spec = toy("fail", mended=str(tmp_path / "mended"))
    execute([spec], store, show=False)
    when = time.time() + ahead
    os.utime(store.folder(spec) / "failed.json", (when, when))
    assert execute([spec], store, retry_failed=True, show=False).failed[0][1] == "ValueError: the toy fails"
    os.utime(store.folder(spec) / "failed.json", (when, when))
    (tmp_path / "mended").touch()
    assert execute([spec], store, retry_failed=True, show=False).done == 1


def test_a_failure_that_another_sweep_just_met_is_not_tried_again(store, toy, tmp_path):
    spec = toy("fail", mended=str(tmp_path / "mended"))
    one = local.LocalSweep(store, 1, True, None, local.display(False))
    one.pending = {spec.key: spec}
    execute([spec], store, show=False)
    assert not one._ready(spec.key, spec) and "failed before" in one.lost[spec.key][1]


@pytest.mark.parametrize(
    ("kind", "profile"), [("memory", "smoke"), ("torch", "small"), ("files", "smoke"), ("memory", "small")]
)
def test_a_fault_of_the_machine_is_not_one_of_the_run(store, toy, tmp_path, profile, kind):
    """It is said and not recorded; the next run has a process of its own; the same command goes on."""
    specs = [toy("short", profile, mended=str(tmp_path / "mended"), kind=kind), toy("square", profile, x=2)]
    summary = execute(specs, store, show=False)
    [(spec, reason)] = summary.failed
    assert spec == specs[0] and "the same command goes on" in reason and "\n" not in reason
    assert store.failure(spec) is None and summary.done == 1
    first = (store.folder(spec) / "pid").read_text()
    assert first != str(store.result(specs[1]).metrics["pid"])
    (tmp_path / "mended").touch()
    assert execute(specs, store, show=False) == (1, 1, [])


def test_a_worker_that_crashed_names_its_log_and_one_that_was_killed_resumes(store, toy):
    crashes = ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL")
    specs = {
        name: toy("end_by", signal=int(getattr(signal, name))) for name in (*crashes, "SIGKILL", "SIGTERM")
    }
    summary = execute([*specs.values(), toy("leave")], store, slots=2, show=False)
    failed = {spec.key: reason for spec, reason in summary.failed}
    assert "ended with code 3: no message" in failed[toy("leave").key]
    for name, spec in specs.items():
        reason, log = failed[spec.key], store.folder(spec) / "log.txt"
        crashed = name in crashes
        assert name in reason and ("the same command resumes" in reason) != crashed
        assert (str(log) in reason) == crashed and "about to end" in log.read_text()
        assert ("functions.py" in log.read_text()) == crashed  # where it crashed


def test_checkpoints_go_when_the_result_is_there(store, toy):
    spec, other = toy("leaves_files", x=1), toy("leaves_files", x=2)
    execute([spec], store, show=False)
    store.prepare(other)
    subprocess.run(worker.command([store.located(other)]), shell=True, check=True, capture_output=True)
    for one in (spec, other):
        assert store.result(one) is not None
        left = sorted(path.name for path in store.folder(one).iterdir())
        assert left == [".lock", "log.txt", "result.json", "spec.json", "weights.pt"]
    for name in ("checkpoint.pt", "weights.pt.corrupt"):  # the worker was killed in between
        (store.folder(spec) / name).touch()
    execute([spec], store, show=False)
    assert not list(store.folder(spec).glob("*.corrupt")) + list(store.folder(spec).glob("checkpoint*"))


def test_a_run_of_several_processes_has_a_command_of_torchrun(store, toy):
    spec = toy("square", x=1, processes=2)
    command = worker.command([store.located(spec)])
    assert "torch.distributed.run --standalone --nproc-per-node 2 -m papers_lib.runs.worker" in command
    [(_, reason)] = execute([spec], store, show=False).failed
    assert "of 2 processes, not 1" in reason and command in reason and "-p processes 1" in reason
