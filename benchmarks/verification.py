"""Ten-fold verification by one sort against the public loop over 400 thresholds; TAR at FAR likewise.

    python -m benchmarks.verification [--pairs 6000 --rounds 7 --json]

`--pairs` is a multiple of 20; LFW has 6000, CFP-FP 7000.

The loops are written for this purpose after insightface's verification.py: thresholds 0 to 4 in steps of
0.01 for accuracy, of 0.001 for TAR at FAR; each tried on nine folds and, for the curve, on the tenth. They
count what they accept by numpy as there. Distances are synthetic, and both get the same.

Beside seconds it prints what the grid costs: how much accuracy on the nine folds it gives away, and the FAR
that each reaches. The exit code is 1 where the exact threshold is worse on its own folds than the grid's.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import timing
from benchmarks.timing import Case
from papers_lib.evaluation.verification import ten_fold

FOLDS = 10
FAR = 1e-3
GRID = np.arange(0, 4, 0.01)
FINE = np.arange(0, 4, 0.001)
Distances = NDArray[np.float64]
Answers = NDArray[np.bool_]


def world(pairs: int, spread: float = 0.16) -> tuple[Distances, Answers]:
    """Distances of pairs, half of them genuine, in folds of both kinds; some lie on the wrong side."""
    rng = np.random.default_rng(0)
    same = np.tile(np.repeat([True, False], pairs // (2 * FOLDS)), FOLDS)
    # d = |a − b|² = 2 − 2 cos(a, b)
    cosines = np.where(same, rng.normal(0.45, spread, pairs), rng.normal(0.0, spread, pairs))
    return np.clip(2 - 2 * cosines, 0, 4), same


def rates(threshold: float, d: Distances, same: Answers) -> tuple[float, float, float]:
    """True and false acceptance and accuracy below a threshold."""
    accepted = d < threshold
    tp, fp = np.sum(accepted & same), np.sum(accepted & ~same)
    tn, fn = np.sum(~accepted & ~same), np.sum(~accepted & same)
    # TAR = TP / (TP + FN), FAR = FP / (FP + TN)
    return tp / max(1, tp + fn), fp / max(1, fp + tn), (tp + tn) / len(d)


def folds(pairs: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Indices of the nine folds and of the tenth, in order."""
    parts = np.split(np.arange(pairs), FOLDS)
    return [(np.concatenate(parts[:k] + parts[k + 1 :]), parts[k]) for k in range(FOLDS)]


def accuracy_by_loop(d: Distances, same: Answers) -> dict[str, Any]:
    """The public protocol's accuracy; its curve is made too, as there."""
    accuracies, thresholds = [], []
    for train, test in folds(len(d)):
        # -- the threshold of the grid that is best on nine folds --
        on_train = [rates(t, d[train], same[train])[2] for t in GRID]
        best = GRID[int(np.argmax(on_train))]
        # -- the curve of the tenth fold, which the public code draws, and its accuracy --
        for t in GRID:
            rates(t, d[test], same[test])
        accuracies.append(rates(best, d[test], same[test])[2])
        thresholds.append(best)
    return {"accuracy": float(np.mean(accuracies)), "thresholds": thresholds}


def tar_by_loop(d: Distances, same: Answers) -> tuple[float, float]:
    """The public protocol's TAR at FAR 0.001, and the FAR that it reaches, both means over folds."""
    reached = []
    for train, test in folds(len(d)):
        fars = np.array([rates(t, d[train], same[train])[1] for t in FINE])
        # linear interpolation of thresholds over a grid in which one FAR stands many times
        threshold = float(np.interp(FAR, fars, FINE)) if fars.max() >= FAR else 0.0
        reached.append(rates(threshold, d[test], same[test])[:2])
    tar, far = np.mean(reached, axis=0)
    return float(tar), float(far)


def given_away(d: Distances, same: Answers, ours: list[float], grid: list[float]) -> tuple[float, float]:
    """Accuracy on the nine folds that the grid gives away: least and greatest over folds."""
    lost = [
        rates(mine, d[train], same[train])[2] - rates(theirs, d[train], same[train])[2]
        for (train, _), mine, theirs in zip(folds(len(d)), ours, grid, strict=True)
    ]
    return min(lost), max(lost)


def main() -> int:
    """One table, and what the grid of thresholds costs."""
    options = timing.options(__doc__, rounds=7, pairs=6000)
    d, same = world(options.pairs)
    whole = partial(ten_fold, d, same, FOLDS, (FAR,))
    cases = [
        Case("loop over 400 thresholds, accuracy", partial(accuracy_by_loop, d, same)),
        Case("loop over 4000 thresholds, TAR at FAR", partial(tar_by_loop, d, same)),
        Case("ten_fold, both", whole, note="one sort"),
    ]
    table = timing.compare(cases, options)
    accuracy, both_rates, one_sort = (case.name for case in cases)
    grid, ours, (tar, far) = accuracy_by_loop(d, same), whole(), tar_by_loop(d, same)
    # The exact threshold must be as good on its own folds as any of the grid.
    least, most = given_away(d, same, ours["thresholds"], grid["thresholds"])
    rate, times = ours["tar"][0], table.ratio(accuracy, one_sort)
    checks = {
        "times faster than the loop for accuracy": round(times, 1),
        "times faster than both loops": round(times + table.ratio(both_rates, one_sort), 1),
        "accuracy, loop and ours": f"{grid['accuracy']:.5f} {ours['accuracy']:.5f}",
        "accuracy on nine folds that the grid gives away, least and greatest": f"{least:.5f} {most:.5f}",
        f"TAR at FAR {FAR}, loop (FAR reached)": f"{tar:.5f} ({far:.5f})",
        f"TAR at FAR {FAR}, ours (FAR reached)": f"{rate.tar:.5f} ({rate.reached:.5f})",
    }
    title = f"{options.pairs} pairs in {FOLDS} folds"
    return timing.show(title, table, checks, options, agree=least >= 0)


if __name__ == "__main__":
    sys.exit(main())
