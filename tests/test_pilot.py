"""A pilot's arithmetic by a made-up clock, and that nothing takes a pilot for evidence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from papers_lib import pilot
from papers_lib.errors import PapersError
from papers_lib.exhibits import cost, ledger
from papers_lib.runs import store, worker
from papers_lib.runs.spec import Data, RunSpec
from papers_lib.runs.store import Result, Store, read_result

CODE = "toy_wing.study:run"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def spend(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(pilot, "_now", lambda: made.now)
    return made


def run(clock: Clock, epochs: int = 10) -> list[tuple[int, int]]:
    """3 s before, epochs of 1 s and 100 steps of half a second (the first of all waits 7 s), 2 s after."""
    done = []

    def batches() -> Iterator[int]:
        for number in range(100):
            clock.spend(7.0 if not done else 0.0)
            yield number

    clock.spend(3)
    for epoch in pilot.epochs(0, epochs):
        clock.spend(1)
        for number in pilot.steps(batches(), 100, images=8):
            clock.spend(0.5)
            done.append((epoch, number))
    for _ in pilot.steps(range(40), 40):
        clock.spend(0.05)
    return done


def test_outside_of_a_pilot_nothing_is_left_out(clock):
    assert run(clock) == [(epoch, number) for epoch in range(10) for number in range(100)]
    with pilot.measuring(False) as nothing:
        assert nothing is None and len(run(clock)) == 1000
    assert pilot.few(100) == 100 and pilot.repeated([1], 3) == [1]


def test_a_pilot_takes_two_epochs_of_a_few_steps_and_knows_the_whole(clock):
    with pilot.measuring(True) as noted:
        assert run(clock) == [(epoch, number) for epoch in range(2) for number in range(pilot.STEPS)]
        assert pilot.few(100) == pilot.STEPS and pilot.repeated([1, 2], 5) == [1, 2, 1, 2, 1]
    found = noted.summary()
    assert found["seconds"] == pytest.approx(3 + 10 * (1 + 100 * 0.5) + 40 * 0.05)
    assert (found["step"], found["steps"], found["images"]) == (pytest.approx(0.5), 100, pytest.approx(16))
    assert found["epochs"] == 10 and found["memory"] > 1e6
    before = clock.now
    run(clock)
    assert clock.now - before > 500  # the pilot is over


def test_a_run_without_epochs_takes_as_long_as_its_pilot(clock):
    with pilot.measuring(True) as noted:
        for _ in pilot.epochs(0, 0):
            raise AssertionError
        for _ in pilot.steps(range(20), 20):
            clock.spend(0.5)
        clock.spend(1)
    assert noted.summary()["seconds"] == pytest.approx(11)


def spec(**changes: Any) -> RunSpec:
    values = {"paper": "toy", "function": CODE, "profile": "paper", "settings": {"seed": 0, "method": "a"}}
    return RunSpec(**values | {"data": Data(name="toy"), "label": "a"} | changes)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "runs"))
    monkeypatch.setenv("PAPERS_WINGS", "toy_wing")


def test_a_pilot_is_another_run_and_so_is_one_that_needs_a_pilot(toy):
    whole = spec(needs=(spec(settings={"seed": 0, "method": "b"}),))
    assert "pilot" not in whole.asked()
    tried = whole.as_pilot()
    assert tried.key != whole.key and tried.identity != whole.identity
    assert tried.needs[0].pilot and tried.settings == whole.settings


def test_no_ledger_takes_a_pilot(toy):
    told = {"commit": "c", "dirty": False, "code": "d", "torch": "2", "device": "cpu", "seconds": 1.0}
    told |= {"key": spec().as_pilot().key, "finished": "2026-01-01T00:00:00+00:00"}
    result = Result(spec=spec().as_pilot(), metrics={"x": 1}, provenance=told)
    with pytest.raises(PapersError, match="is a pilot, which is no evidence"):
        ledger.from_result(result)
    row = ledger.from_result(result.model_copy(update={"spec": spec()}))  # whoever takes the mark away
    with pytest.raises(PapersError, match="do not give its"):
        ledger._line(row.model_copy(update={"identity": spec().as_pilot().identity}))


def test_the_worker_measures_and_a_dry_run_reads_it(toy, tmp_path, monkeypatch):
    place = Store(tmp_path)
    specs = [spec(settings={"seed": seed, "method": method}) for method in "ab" for seed in range(3)]
    firsts = cost.heaviest_of_each(specs)
    assert [(each.settings["method"], each.seed, each.pilot) for each in firsts] == [
        ("a", 0, True),
        ("b", 0, True),
    ]
    monkeypatch.setattr(worker, "_resolve", lambda name: lambda spec: {"x": 1.0})
    folder = place.prepare(firsts[0])
    assert worker.compute(folder)["status"] == "done", store.Store(tmp_path).failure(firsts[0])
    seconds = read_result(folder).metrics["pilot"]["seconds"]
    found = cost.estimate(specs, [], place)
    assert (found["to_do"], found["unknown"]) == (6, 3)  # nothing is known of b
    assert found["seconds"] == round(3 * seconds)
    assert cost.pilot_line(place.result(firsts[0])).startswith("pilot of a: ")


def of(**settings: Any) -> RunSpec:
    return spec(settings={"seed": 0, "method": "a", "epochs": 10} | settings)


def test_the_pilot_of_a_kind_is_its_heaviest_run(toy):
    specs = [
        of(batch_size=8),
        of(method="b"),
        of(batch_size=64),
        of(batch_size=64, epochs=2),
        of(batch_size=2),
    ]
    found = [
        (each.settings["method"], each.settings.get("batch_size")) for each in cost.heaviest_of_each(specs)
    ]
    assert found == [("a", 64), ("b", None)]
    assert cost.heaviest_of_each(specs)[0].settings["epochs"] == 10  # the first of equals


@pytest.mark.parametrize(
    ("asked", "measured", "seconds"),
    [
        ({"epochs": 70, "batch_size": 8}, {"batch_size": 64}, 7000),  # a pass, however many at once
        ({"images": 1000}, {"images": 4000}, 250),
        ({"images": 0}, {"images": 4000}, 1000),  # how many the data has is not told
        # half of the pilot's 1000 s are steps
        ({"iters_per_epoch": 300, "batch_size": 4}, {"iters_per_epoch": 100, "batch_size": 12}, 1000),
        ({"iters_per_epoch": 100, "batch_size": 4}, {"iters_per_epoch": 100, "batch_size": 16}, 500 + 125),
        (
            {"iters_per_epoch": 200, "batch_size": 4, "epochs": 5},
            {"iters_per_epoch": 100, "batch_size": 4},
            (500 + 1000) / 2,
        ),
        ({"iters_per_epoch": 0, "batch_size": 4}, {"iters_per_epoch": 100, "batch_size": 16}, 1000),
    ],
)
def test_a_pilot_tells_of_longer_and_shorter_runs_of_its_kind(
    asked, measured, seconds, toy, tmp_path, monkeypatch
):
    summary = {"seconds": 1000.0, "epochs": 10, "memory": 0.0, "step": 0.5, "steps": 100, "images": 1.0}
    monkeypatch.setattr(pilot.Cost, "summary", lambda cost: summary)
    monkeypatch.setattr(worker, "_resolve", lambda name: lambda spec: {})
    place = Store(tmp_path)
    assert worker.compute(place.prepare(of(**measured).as_pilot()))["status"] == "done"
    assert cost.estimate([of(**asked)], [], place)["seconds"] == seconds


def test_a_pilot_of_two_processes_tells_nothing_of_one():
    assert cost.kind(of(processes=2)) != cost.kind(of())
