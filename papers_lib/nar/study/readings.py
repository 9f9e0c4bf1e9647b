"""What is read of the runs beside their plain metrics: by arm and seed, under the names of `claims.csv`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from papers_lib.nar.study.printed import mean_depth, skip_ceiling
from papers_lib.study import Results, Values

Metrics = dict[str, Any]


def read(results: Results, label: str, metric: str) -> Values:
    """A metric of an arm by seed: minutes, the saving in MACs, one of `READINGS`, or a plain path.

    A search whose final samples are all one vector, or that has one reward batch, says nothing of noise.
    """
    if metric == "minutes":
        return results.minutes(label)
    if metric.startswith("reward_noise."):
        rows = results.rows(label)
        told = {seed for seed, row in rows.items() if "own" in row.metrics["reward_noise"]}
        results = Results([(s, row if s.seed in told else None) for s, row in results.runs])
    if metric == "saving":  # multiply-accumulates saved against the untouched network, in %
        ours, base = (results.values(name, "multiply_accumulates") for name in (label, "base"))
        return {seed: 100 * (1 - ours[seed] / base[seed]) for seed in ours.keys() & base.keys()}
    if metric not in READINGS:
        return results.values(label, metric)
    values = {seed: READINGS[metric](row.metrics) for seed, row in results.rows(label).items()}
    return {seed: float(value) for seed, value in values.items() if value is not None}


def vector_of(metrics: Metrics) -> list[int]:
    """The vector that a run trained, or that a search chose."""
    vector: list[int] = metrics["vector"] if "vector" in metrics else metrics["choices"]["pick"]
    return vector


def depth(metrics: Metrics) -> float | None:
    """Mean place of the replaced decisions of the vector, 0 the first and 1 the last; None of none."""
    vector = vector_of(metrics)
    return mean_depth(vector) if any(vector) else None


def replaced(metrics: Metrics) -> float:
    """How many decisions are not the untouched network's."""
    return sum(code != 0 for code in vector_of(metrics))  # 0 is the untouched operator


def entropy(metrics: Metrics, epoch: int) -> float:
    """The controller's entropy behind an epoch, in bits per decision."""
    bits: list[float] = metrics["history"][epoch]["entropy"]  # [N]
    return sum(bits) / len(bits)


def diversity(metrics: Metrics, epochs: slice) -> float:
    """Entropy of the operators that trained the shared weights, bits per decision, mean over epochs."""

    def bits(shares: Sequence[float]) -> float:
        return -sum(p * math.log2(p) for p in shares if p > 0)

    rows = [row for entry in metrics["history"][epochs] for row in entry["shares"]]  # [epochs · N][K]
    return sum(bits(row) for row in rows) / len(rows)


def settled(metrics: Metrics) -> float:
    """How often, in the second half of the epochs, the likeliest vector was the last one."""
    history = metrics["history"][len(metrics["history"]) // 2 :]  # the second half
    same = [bool(entry["argmax"] == history[-1]["argmax"]) for entry in history]
    return sum(same) / len(same)


def large_kernels(metrics: Metrics) -> float:
    """How often the last epoch drew a 5×5, in %."""
    shares: list[list[float]] = metrics["history"][-1]["shares"]
    return 100 * sum(sum(row[4:]) for row in shares) / len(shares)


READINGS: dict[str, Callable[[Metrics], float | None]] = {
    "depth": depth,
    "replaced": replaced,
    "distinct operators": lambda m: len(set(vector_of(m))),
    "first entropy": lambda m: entropy(m, 0),
    "last entropy": lambda m: entropy(m, -1),
    "diversity": lambda m: diversity(m, slice(None)),
    "last diversity": lambda m: diversity(m, slice(-1, None)),
    "settled": settled,
    "share of 5×5": large_kernels,
    # ranks in decades: the judge's rank of the pick, and of the best of blind draws that the choice picks
    "log pick rank": lambda m: math.log10(m["named"]["pick"]["rank"]),
    "log blind samples": lambda m: math.log10(m["blind"]["samples"]["expected"]),
    "log blind equal cost": lambda m: math.log10(m["blind"]["equal_cost"]["expected"]),
    "near the ceiling": lambda m: 0.9 * skip_ceiling(1.5),  # of Figure 1's KL, as released
}
