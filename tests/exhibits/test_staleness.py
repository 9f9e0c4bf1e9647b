"""`why`: what is said of rows that no longer answer what is asked."""

import subprocess
from pathlib import Path

import pytest
from planted import planted

from papers_lib.exhibits import cost, staleness
from papers_lib.exhibits.ledger import Row
from papers_lib.runs import fingerprint
from papers_lib.runs.spec import Data, RunSpec
from papers_lib.runs.store import Store

ROOT = Path(__file__).parents[2]


def spec(fingerprint: str = "", **settings) -> RunSpec:
    return RunSpec(
        paper="quadruplet_cars196", function="papers_lib.quadruplet_cars196.study:run", profile="small",
        settings={"seed": 0, "method": "method_2", "epochs": 8} | settings,
        data=Data(name="cars196_half", fingerprint=fingerprint), label="method_2",
    )  # fmt: skip


def row(of: RunSpec, **changes) -> Row:
    return planted(of, **{"metrics": {}, "commit": "HEAD", "code": of.code, "seconds": 90.0} | changes)


def test_a_row_of_todays_code_is_current_and_a_missing_one_not_run():
    reasons = staleness.why([spec(), spec(seed=1)], [row(spec())])
    assert [reason.state for reason in reasons] == ["current", "not run"]


def test_other_code_names_the_files_that_changed(monkeypatch):
    training = "papers_lib/quadruplet_cars196/training.py"

    def shown(args, **_):
        """What git shows: today's files, but for one."""
        file = args[-1].partition(":")[2]
        text = b"x = 1" if file == training else (ROOT / file).read_bytes()
        return subprocess.CompletedProcess(args, 0, stdout=text)

    monkeypatch.setattr(fingerprint.subprocess, "run", shown)
    reason = staleness.why([spec()], [row(spec(), code="other", commit="abc")])[0]
    assert reason.state == "older code"
    assert reason.text == f"made at abc; since then: {training}"


@pytest.mark.parametrize(
    ("again", "state", "said"),
    [
        ({"mAP": 0.4 + 1e-9, "history": [{"loss": 1.5, "seconds": 9.0}]}, "repeated", "in 1 of 1 runs"),
        ({"mAP": 0.41, "history": [{"loss": 1.5, "seconds": 2.0}]}, "older code", "in 0 of 1 runs"),
        ({"mAP": 0.4, "history": []}, "older code", "in 0 of 1 runs"),
    ],
)
def test_rows_of_older_code_stand_where_todays_code_repeats_their_arm(again, state, said):
    metrics = {"mAP": 0.4, "history": [{"loss": 1.5, "seconds": 2.0}]}
    old = {"code": "other", "commit": "0" * 40, "metrics": metrics}
    other = spec(seed=1, method="random")
    rows = [row(spec(seed=seed), key=f"{seed}", **old) for seed in (0, 1)]
    rows += [row(other, **old), row(spec(), key="new", metrics=again, finished="2026-01-02T00:00:00Z")]
    reasons = staleness.why([spec(), spec(seed=1), other], rows)
    assert [reason.state for reason in reasons] == ["current", state, "older code"]
    assert all(f"today's code gives the same numbers {said}" in reason.text for reason in reasons[1:])


@pytest.mark.parametrize(
    ("device", "mAP", "state", "said"),
    [
        ("cpu", 0.4256, "older code", "; today's code gives the same numbers in 0 of 1 runs repeated"),
        (
            "cpu (AMD AVX512)",
            0.4256,
            "older code",
            "; runs repeated on another processor differ: 1",
        ),  # another processor, or another code: cannot be told
        (
            "cpu (AMD AVX512)",
            0.423,
            "repeated",
            "; today's code gives the same numbers in 1 of 1 runs repeated",
        ),
    ],
)
def test_what_another_processor_rounds_otherwise_says_nothing_of_the_code(device, mAP, state, said):
    old = {"code": "other", "commit": "0" * 40, "metrics": {"mAP": 0.423}}
    rows = [row(spec(seed=seed), key=f"{seed}", **old) for seed in (0, 1)]
    new = {"metrics": {"mAP": mAP}, "device": device, "finished": "2026-01-02T00:00:00Z"}
    reason = staleness.why([spec(seed=1)], [*rows, row(spec(), key="new", **new)])[0]
    assert (reason.state, reason.text.partition("is not here")[2]) == (state, said)


@pytest.mark.parametrize(
    ("between", "today", "of_another_arm", "state"),
    [
        (0.4, 0.3, 0.2, "repeated"),  # the second processor rounds to 0.3, by both versions
        (0.4, 0.31, 0.2, "older code"),
        (0.41, 0.3, 0.2, "older code"),
        (0.4, 0.3, 0.21, "older code"),  # the step to today's code changes an arm
    ],
)
def test_repeats_of_one_version_after_another_lead_to_todays(between, today, of_another_arm, state):
    def made(of: RunSpec, mAP: float, day: int, **more) -> Row:
        key = f"{of.seed} {day} {more}"
        return row(of, metrics={"mAP": mAP}, key=key, finished=f"2026-01-0{day}T00:00:00Z", **more)

    first, second, amd = {"code": "first"}, {"code": "second"}, {"device": "cpu (AMD AVX512)"}
    other = spec(seed=9, method="random")
    rows = [made(spec(seed=seed), 0.4, 1, **first) for seed in (0, 1)]
    rows += [made(spec(), between, 2, **second)]
    rows += [made(spec(seed=9), 0.3, 3, **second, **amd), made(spec(seed=9), today, 4, **amd)]
    rows += [made(other, 0.2, 3, **second, **amd), made(other, of_another_arm, 4, **amd)]
    assert staleness.why([spec(seed=1)], rows)[0].state == state


def test_an_unknown_commit_is_said_to_be_unknown():
    reason = staleness.why([spec()], [row(spec(), code="other", commit="0" * 40)])[0]
    assert "commit is not here" in reason.text


def test_other_data_shows_both_fingerprints():
    reason = staleness.why([spec("a" * 64)], [row(spec("b" * 64))])[0]
    assert (reason.state, "aaaaaaaaaaaa here, bbbbbbbbbbbb" in reason.text) == ("other data", True)


def test_a_row_that_nothing_asks_for_says_which_setting_differs():
    reasons = staleness.why([spec()], [row(spec(epochs=9))])
    assert reasons[1].state == "not asked"
    assert reasons[1].text == "epochs 9 in the row, 8 asked"


@pytest.mark.parametrize(("method", "seconds"), [("method_2", 90), ("random", 30), ("ce", 60)])
def test_cost_is_the_median_of_the_same_method_else_of_the_profile(method, seconds, tmp_path):
    rows = [row(spec()), row(spec(method="random"), seconds=30.0)]
    found = cost.estimate([spec(method=method, seed=7)], rows, Store(tmp_path))
    assert (found["to_do"], found["seconds"], found["unknown"]) == (1, seconds, 0)


def test_cost_is_that_of_the_runs_own_length_by_the_rows_of_its_kind(tmp_path):
    rows = [row(spec(kind="search", epochs=80), seconds=800.0), row(spec(epochs=4), seconds=45.0)]
    found = cost.estimate([spec(seed=7), spec(kind="search", epochs=16)], rows, Store(tmp_path))
    assert found["seconds"] == 90 + 160
    steps = spec(iters_per_epoch=100, batch_size=32)
    found = cost.estimate([spec(iters_per_epoch=300, batch_size=8)], [row(steps)], Store(tmp_path))
    assert found["seconds"] == round(90 * 3 / 4)


def test_cost_of_a_kind_never_measured_is_said_to_be_unknown(tmp_path):
    found = cost.estimate([spec()], [], Store(tmp_path))
    assert (found["seconds"], found["unknown"]) == (0, 1)
    assert cost.sentence(found).startswith("1 runs to do, 0 in the store; the time of 1 is unknown")
    assert "minutes" not in cost.sentence(found)
