"""Printed commands, pasted into a shell of somebody else; and torchrun."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from standins import tell

from papers_lib.datasets import known
from papers_lib.exhibits import cost
from papers_lib.median_triplet.options import TrainSettings
from papers_lib.runs import sweep, worker
from papers_lib.runs.spec import Data, RunSpec
from papers_lib.runs.store import Store, lock

ROOT = Path(__file__).parents[2]


def printed(specs, store):
    runs = [store.located(spec) for spec in sweep.ordered(specs, store)]
    for spec in runs:
        store.prepare(spec)
    return [worker.command(sweep.ordered([spec], store)) for spec in runs]


def pasted(command):
    """A shell that knows nothing of this process, in the folder of all."""
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(["sh", "-c", command], cwd="/", env=environment, **pipes)


def test_every_line_alone_and_all_at_once(store, toy):
    """Each computes what it needs, or waits for it; nothing is computed twice."""
    base = [toy("count", x=x) for x in (1, 2)]
    top = toy("total", needs=base)
    apex = toy("total", needs=[top, base[0]])
    commands = printed([apex], store)
    assert len(commands) == 4
    processes = [pasted(command) for command in reversed(commands)]
    for process in processes:
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0 and not errors, output + errors
    assert store.result(apex).metrics == {"value": 4}
    for spec in base:
        assert len((store.folder(spec) / "calls.txt").read_text().split()) == 1


def test_a_line_whose_need_fails_says_so(store, toy, tmp_path):
    bad = toy("fail", mended=str(tmp_path / "mended"))
    process = pasted(printed([toy("total", needs=[bad])], store)[1])
    answers = [json.loads(line) for line in process.communicate(timeout=60)[0].splitlines()]
    assert process.returncode == 1
    assert answers[0]["error"] == "ValueError: the toy fails" and "needs the run" in answers[1]["error"]


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """A training of two processes of the one wing that shares a run out."""
    root = tmp_path_factory.mktemp("data")
    for side, count in (("train", 4), ("test", 2)):
        for label in range(10):
            folder = root / "cifar10" / side / f"class_{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (32, 32), (25 * label, 40 * number, 99)).save(folder / f"{number}.png")
    tell(root / "cifar10", "cifar10", {"train": 40, "test": 20, "classes": 10})
    sys.path.insert(0, str(ROOT / "tests" / "median_triplet"))
    from tiny_median import TINY

    values = TrainSettings.model_validate(TINY | {"accumulation": 2, "processes": 2, "epochs": 1})
    data = known.load(root, "cifar10")
    return RunSpec(
        paper="median_triplet",
        function="papers_lib.median_triplet.study:run",
        profile="smoke",
        settings=values.model_dump(mode="json"),
        data=Data(name="cifar10", root=str(root), fingerprint=data.fingerprint, stand_in=True),
        device="cpu",
    )


@pytest.mark.timeout(240)
def test_torchrun_computes_a_run_of_two_processes(tmp_path, training):
    store = Store(tmp_path)
    output, errors = pasted(printed([training], store)[0]).communicate(timeout=200)
    assert json.loads(output) == {"status": "done"}, output + errors
    assert store.result(training).metrics["history"]


@pytest.mark.timeout(240)
def test_a_pilot_of_two_processes_ends(tmp_path, training):
    """All of them leave out the same steps: else the first is waited for."""
    settings = training.settings | {"epochs": 9, "batch_size": 3}
    tried = training.model_copy(update={"settings": settings}).as_pilot()
    store = Store(tmp_path)
    process = pasted(printed([tried], store)[0])
    try:
        output, errors = process.communicate(timeout=200)
    finally:
        process.terminate()
    assert json.loads(output) == {"status": "done"}, output + errors
    found = store.result(tried).metrics["pilot"]
    assert (found["epochs"], found["steps"]) == (9, 40 // 6)
    assert "each of 2 processes" in cost.pilot_line(store.result(tried))


@pytest.mark.timeout(240)
def test_torchrun_and_a_run_of_one_process_is_one_line(store, toy):
    spec = toy("square", x=1)
    alone = printed([spec], store)[0]
    start = "-m torch.distributed.run --standalone --nproc-per-node 2 -m papers_lib.runs.worker"
    process = pasted(alone.replace("-m papers_lib.runs.worker", start))
    output, _ = process.communicate(timeout=200)
    assert process.returncode != 0 and output.count("\n") == 1
    assert f"torchrun started 2: start it with `{alone}`" in json.loads(output)["error"]
    assert store.failure(spec) is None


def test_a_busy_run_ends_all_its_processes(store, toy, monkeypatch, capsys):
    """The others would wait for the first."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    folder = store.prepare(toy("square", x=1, processes=2))
    with lock(folder):
        assert worker.one_by_one([str(folder)]) == 1
    assert json.loads(capsys.readouterr().out) == {"status": "busy"}
