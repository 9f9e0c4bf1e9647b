"""Reading the runs: per-seed values of an arm, in the unit that tables show."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from papers_lib.exhibits import provenance as origin
from papers_lib.exhibits.ledger import Row
from papers_lib.exhibits.provenance import Provenance
from papers_lib.runs.spec import RunSpec

Runs = Sequence[tuple[RunSpec, Row | None]]
Values = dict[int, float]
APART = ("faces", "skips", "imagenet")  # arms on data of their own
# Which arm and which metric of it answer a printed number of Table 5, and on which data.
MODELS = {"ResNet-18": ("base", "imagenet"), "ResNet-18-8": ("paper_8", "imagenet_8"),
          "ResNet-18-16": ("paper_16", "imagenet_16")}  # fmt: skip
COLUMNS = {"CIFAR-10": ("cifar10", "accuracy"), "ImageNet Top-1": ("imagenet", "accuracy"),
           "ImageNet Top-5": ("imagenet", "top_5")}  # fmt: skip


def provenance(runs: Runs, labels: Sequence[str] = ()) -> Provenance:
    """Footer and badge of what is made from some arms, by default from all on the study's own images."""
    rows = [
        row
        for spec, row in runs
        if row is not None and (spec.label in labels if labels else not spec.label.startswith(APART))
    ]
    return origin.provenance(rows, runs[0][0].profile, "cifar10")


def answer(runs: Runs, model: str, column: str) -> tuple[Values, list[Row], bool]:
    """What answers a number of Table 5: values in %, their rows, and whether they are comparable with it.

    Nothing where the runs are on other data than the column's.
    """
    dataset, metric = COLUMNS[column]
    label = MODELS[model][column != "CIFAR-10"]
    rows = list(rows_of(runs, label).values())
    if any(row.data.name != dataset for row in rows):
        return {}, [], False
    return percent(runs, label, metric), rows, origin.comparable(rows, dataset)


def rows_of(runs: Runs, label: str) -> dict[int, Row]:
    """The rows of an arm by seed."""
    return {row.seed: row for spec, row in runs if row is not None and spec.label == label}


def read(runs: Runs, label: str, of: Callable[[dict[str, Any]], float | None]) -> Values:
    """A number of each row's metrics by seed; nothing where there is none."""
    found = {seed: of(row.metrics) for seed, row in rows_of(runs, label).items()}
    return {seed: float(value) for seed, value in found.items() if value is not None}


def percent(runs: Runs, label: str, metric: str = "accuracy") -> Values:
    """A metric in %, by seed."""
    return {seed: 100 * value for seed, value in read(runs, label, lambda m: m.get(metric)).items()}


def vector(runs: Runs, label: str) -> dict[int, list[int]]:
    """The vector that each run trained, or that each search chose."""
    return {
        seed: row.metrics["vector"] if "vector" in row.metrics else row.metrics["choices"]["pick"]
        for seed, row in rows_of(runs, label).items()
    }


def replaced(runs: Runs, label: str) -> Values:
    """How many decisions are not the untouched network's, by seed."""
    return {seed: float(sum(code != 0 for code in codes)) for seed, codes in vector(runs, label).items()}


def saving(runs: Runs, label: str) -> Values:
    """Multiply-accumulates saved against the untouched network, in %, by seed."""
    found, base = (read(runs, name, lambda m: m["multiply_accumulates"]) for name in (label, "base"))
    return {seed: 100 * (1 - found[seed] / base[seed]) for seed in found.keys() & base.keys()}


def minutes(runs: Runs, label: str) -> Values:
    """Minutes that a run took, all of it, by seed."""
    return {seed: row.seconds / 60 for seed, row in rows_of(runs, label).items()}


def named(runs: Runs, label: str, name: str, what: str) -> Values:
    """Score, rank or saving of a named vector in an enumeration, by seed."""
    return read(runs, label, lambda m: m.get("named", {}).get(name, {}).get(what))


def entropy(runs: Runs, label: str, epoch: int = -1) -> Values:
    """The controller's entropy behind an epoch, in bits a decision, by seed."""
    return read(
        runs, label, lambda m: sum(m["history"][epoch]["entropy"]) / len(m["history"][epoch]["entropy"])
    )


def diversity(runs: Runs, label: str, epochs: slice = slice(None)) -> Values:
    """Entropy of the operators that trained the shared weights, bits a decision, mean over epochs."""

    def of(metrics: dict[str, Any]) -> float:
        shares = [row for entry in metrics["history"][epochs] for row in entry["shares"]]
        return sum(_bits(row) for row in shares) / len(shares)

    return read(runs, label, of)


def _bits(shares: Sequence[float]) -> float:
    return -sum(p * math.log2(p) for p in shares if p > 0)


def mean(values: Values) -> float | None:
    """The mean over seeds, None of nothing."""
    return sum(values.values()) / len(values) if values else None
