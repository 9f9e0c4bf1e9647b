"""Sweeps of toy runs in processes of their own, to be killed."""

import subprocess
import sys
import time

SWEEP = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts with it ignored
from papers_lib.runs.executors import execute
from papers_lib.runs.spec import Data, RunSpec
from papers_lib.runs.store import Store
executor, root, function, profile, n, settings = sys.argv[1:]
specs = [RunSpec(paper="toy", function=f"toy_wing.functions:{function}", profile=profile,
                 settings={"seed": 0, "x": x, **eval(settings)}, data=Data(name="none"))
         for x in range(int(n))]
summary = execute(executor, specs, Store(root), slots=2)
print("summary", summary.done, summary.cached, len(summary.failed))
"""


def sweep(store, function, n, profile="smoke", executor="local", **settings):
    arguments = [executor, str(store.root), function, profile, str(n), repr(settings)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", SWEEP, *arguments], **pipes, start_new_session=True)


def summary(process, seconds=120):
    """What a sweep says at its end: runs done, cached and failed."""
    output, errors = process.communicate(timeout=seconds)
    last = (output.splitlines() or [""])[-1].split()
    assert last[:1] == ["summary"], output + errors
    return tuple(map(int, last[1:]))


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def noted(store, spec, file="steps.txt"):
    """How many lines the toy run has left of what it computed."""
    path = store.folder(spec) / file
    return len(path.read_text().split()) if path.exists() else 0
