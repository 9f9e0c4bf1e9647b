"""Runs of a few milliseconds for the executor's tests. None imports torch."""

import errno
import json
import os
import signal
import time
from pathlib import Path

from papers_lib.errors import PapersError
from papers_lib.runs.progress import reporter


def square(spec):
    return {"value": spec.settings["x"] ** 2, "pid": os.getpid()}


def total(spec):
    """Sum of the needs' values, read from their folders."""
    values = [json.loads(Path(n.folder, "result.json").read_text()) for n in spec.needs]
    return {"value": sum(v["metrics"]["value"] for v in values)}


def steps(spec):
    """A sum over steps, kept in a checkpoint after each; notes in steps.txt what it computed."""
    folder = Path(spec.folder)
    state = {"step": 0, "sum": 0}
    if (folder / "state.json").exists():
        state = json.loads((folder / "state.json").read_text())
    report = reporter(folder, every=0)
    while state["step"] < spec.settings["steps"]:
        time.sleep(spec.settings.get("sleep", 0.01))
        state = {"step": state["step"] + 1, "sum": state["sum"] + state["step"] ** 2}
        with (folder / "steps.txt").open("a") as file:
            file.write(f"{state['step']}\n")
        (folder / "state.new").write_text(json.dumps(state))
        (folder / "state.new").replace(folder / "state.json")
        report(state["step"], spec.settings["steps"], "toy")
    return {"sum": state["sum"]}


def count(spec):
    """Slow enough for two sweeps to meet; notes each call."""
    with Path(spec.folder, "calls.txt").open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(0.15)
    return {"value": spec.settings["x"]}


def fail(spec):
    if Path(spec.settings["mended"]).exists():
        return {"value": 1}
    raise ValueError("the toy\nfails")


def bad_input(spec):
    if Path(spec.settings["mended"]).exists():
        return {"value": 1}
    raise PapersError("no data here: give data_root")


def die(spec):
    if spec.settings["x"] == 2 and not Path(spec.folder, "died").exists():
        Path(spec.folder, "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"value": spec.settings["x"], "pid": os.getpid()}


def leave(spec):
    os._exit(3)


def noisy(spec):
    print("said by the run")
    os.write(1, b"said by C\n")
    return {"threads": os.environ["OMP_NUM_THREADS"]}


def metrics(spec):
    values = {"nan": float("nan"), "set": {1}, "tuple": (1, 2)}
    return {"fine": 1, "odd": values[spec.settings["kind"]]}


def nothing(spec):
    return None


def refused_by_the_disk(spec):
    number = spec.settings["errno"]
    raise OSError(number, os.strerror(number))


def die_with_child(spec):
    """Die while a forked child, as a data loader's, still holds the worker's pipe."""
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    Path(spec.folder, "child").write_text(str(child))
    os.kill(os.getpid(), signal.SIGKILL)


def short(spec):
    """Runs out of what its settings say, until there is more."""
    if Path(spec.settings["mended"]).exists():
        return {"value": 1, "pid": os.getpid()}
    Path(spec.folder, "pid").write_text(str(os.getpid()))
    errors = {
        "memory": MemoryError(),
        "torch": RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        "files": OSError(errno.EMFILE, "Too many open files"),
    }
    raise errors[spec.settings["kind"]]


def end_by(spec):
    print("about to end", flush=True)
    os.kill(os.getpid(), spec.settings["signal"])
    time.sleep(5)


def leaves_files(spec):
    for name in ("checkpoint.pt", "checkpoint.pt.corrupt", "weights.pt"):
        Path(spec.folder, name).touch()
    return {"value": 1}
