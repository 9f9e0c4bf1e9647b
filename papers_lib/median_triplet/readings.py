"""Reading the runs: per-seed values of an arm, what its epochs logged, and rows of tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from papers_lib.exhibits.intervals import paired
from papers_lib.exhibits.ledger import Row
from papers_lib.exhibits.table import NOT_RUN, Cell
from papers_lib.exhibits.verdicts import greater
from papers_lib.median_triplet.arms import ARMS
from papers_lib.runs.spec import RunSpec

Runs = Sequence[tuple[RunSpec, Row | None]]
# What the last epoch logged: its name, in words, and the factor to the unit shown.
LOGGED: dict[str, tuple[str, float]] = {
    "cos_positive": ("cos to the positive", 1),
    "cos_negative": ("cos to the negative", 1),
    "same_query_own": ("false negatives, %", 100),
    "rank_projections": ("rank of projections", 1),
    "rank_features": ("rank of features", 1),
    "std_features": ("spread", 1),
}


def rows_of(runs: Runs, label: str) -> dict[int, Row]:
    """The rows of an arm, or of a transfer, by seed."""
    return {row.seed: row for spec, row in runs if row is not None and spec.label == label}


def made(runs: Runs) -> list[Row]:
    """All rows that there are."""
    return [row for _, row in runs if row is not None]


def percent(runs: Runs, label: str, metric: str = "linear") -> dict[int, float]:
    """A metric by seed, in %; nothing for a run that has none."""
    found = {seed: row.metrics.get(metric) for seed, row in rows_of(runs, label).items()}
    return {seed: 100 * float(value) for seed, value in found.items() if value is not None}


def minutes(runs: Runs, label: str) -> dict[int, float]:
    """Minutes that a run took, all of it, by seed."""
    return {seed: row.seconds / 60 for seed, row in rows_of(runs, label).items()}


def logged(runs: Runs, label: str, name: str, epoch: int = -1) -> dict[int, float]:
    """What an epoch (the last) logged under `name`, by seed, in the unit that `LOGGED` shows."""
    factor = LOGGED.get(name, ("", 1.0))[1]
    histories = {seed: row.metrics.get("history") for seed, row in rows_of(runs, label).items()}
    return {
        seed: factor * float(history[epoch][name])
        for seed, history in histories.items()
        if history and name in history[epoch]
    }


def at_start(runs: Runs, label: str, name: str) -> dict[int, float]:
    """What was read under `name` before training, by seed."""
    starts: dict[int, dict[str, Any]] = {
        seed: row.metrics.get("start") or {} for seed, row in rows_of(runs, label).items()
    }
    return {seed: float(start[name]) for seed, start in starts.items() if name in start}


def mean(values: dict[int, float]) -> float | None:
    """The mean over seeds, None of nothing."""
    return sum(values.values()) / len(values) if values else None


def control_row(runs: Runs, name: str) -> list[Cell]:
    """A line of the controls: accuracies, meters, and the paired difference to its counterpart."""
    arm = ARMS[name]
    ours, other = percent(runs, name), percent(runs, arm.against) if arm.against else {}
    if not ours:
        return [arm.label, NOT_RUN, *[None] * (len(LOGGED) + 3), 0, "not tested"]
    held = [mean(logged(runs, name, key)) for key in LOGGED]
    means: list[Cell] = [mean(ours), mean(percent(runs, name, "knn")), *held]
    if not ours.keys() & other.keys():
        return [arm.label, *means, mean(other), None, len(ours), "not tested"]
    gap = paired(ours, other)
    return [arm.label, *means, mean(other), gap, gap.n, greater(ours, other).verdict]


def by_epoch(runs: Runs, arms: Sequence[str], names: Sequence[str]) -> Iterator[dict[str, float | str]]:
    """Long form of the histories: arm, seed, epoch (0 is before training), and what was logged."""
    for arm in arms:
        for seed, row in sorted(rows_of(runs, arm).items()):
            entries = [row.metrics["start"], *row.metrics["history"]]
            for epoch, entry in enumerate(entries):
                if found := {name: entry[name] for name in names if name in entry}:
                    yield {"arm": arm, "seed": seed, "epoch": epoch, **found}


def collapsed(runs: Runs) -> list[str]:
    """Runs whose features point all the same way at the end, by name: never averaged in silence."""
    return [
        f"{spec.label} seed {spec.seed}"
        for spec, row in runs
        if row and (history := row.metrics.get("history")) and history[-1]["std_features"] < 0.01
    ]
