"""Recall@K and MAP@R against pytorch-metric-learning's AccuracyCalculator, as it is and as tuned.

    python -m benchmarks.retrieval [--n 8131 --d 1024 --rounds 5 --json --no-default]

Class counts are those of the 98 test classes of Cars196; features are synthetic unit vectors. The
calculator's default (k=None) takes gigabytes, and about the same time whatever d is; it runs once,
between three runs of ours and three more, in a process of its own. `--no-default` leaves it out. The
exit code is 2 where a peer is missing, 1 where values differ.
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks import timing
from benchmarks.cars import classes, features, labels
from benchmarks.timing import Case, extra_memory
from papers_lib.evaluation.retrieval import map_at_r, recall_at_k, scores

NEEDS_FAISS = (
    "benchmarks.retrieval: faiss is missing, which pytorch-metric-learning searches with; "
    "install it with: pip install -e '.[bench]'"
)


def calculator(metric: str, k: Any) -> Callable[[Tensor, Tensor], float]:
    """pytorch-metric-learning's value of one metric."""
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

    accuracy = AccuracyCalculator(include=(metric,), k=k)
    return lambda x, y: float(accuracy.get_accuracy(x, y)[metric])


def beside_default(x: Tensor, y: Tensor) -> dict[str, float]:
    """The calculator's default, once: seconds and memory, with ours before and after it."""
    default = calculator("precision_at_1", None)
    recall_at_k(x, y)  # warms up

    def ours() -> float:
        start = time.perf_counter()
        recall_at_k(x, y)
        return time.perf_counter() - start

    seconds = [ours() for _ in range(3)]
    ours_mb = extra_memory(ours)
    start = time.perf_counter()
    mb = extra_memory(lambda: default(x, y))
    theirs = time.perf_counter() - start
    seconds += [ours() for _ in range(3)]
    return {"seconds": theirs, "mb": mb, "ours": statistics.median(seconds), "ours_mb": ours_mb}


def main() -> int:
    """One table, with the memory of every way."""
    options = timing.options(__doc__, rounds=5, n=8131, d=1024, no_default=False)
    if importlib.util.find_spec("faiss") is None:
        print(NEEDS_FAISS, file=sys.stderr)
        return 2
    y = labels(classes("test"), options.n)
    x = features(y, options.d, spread=0.2)
    if options.child == "default":
        torch.ones(512, 512) @ torch.ones(512, 512)  # the library's own buffers are there before
        print(json.dumps(beside_default(x, y)))
        return 0
    eight = calculator("precision_at_1", 8)
    most = calculator("mean_average_precision_at_r", "max_bin_count")
    cases = [
        Case("PML precision_at_1, k=8", lambda: eight(x, y)),
        Case("recall_at_k, K=1,2,4,8", lambda: recall_at_k(x, y)),
        Case("PML MAP@R, k=max_bin_count", lambda: most(x, y)),
        Case("scores: K=1,2,4,8 and MAP@R", lambda: scores(x, y)),
        Case("(bare N×N product)", lambda: x @ x.T),
    ]
    table = timing.compare(cases, options, memory=cases)
    # -- agreement --
    precision = eight(x, y)
    apart = {
        "R@1": abs(recall_at_k(x, y, (1,))[1] - precision),
        "R@1 of scores": abs(scores(x, y, (1,))["R@1"] - precision),
        "MAP@R": abs(map_at_r(x, y) - most(x, y)),
    }
    pml_recall, recall, pml_map, both, _ = (case.name for case in cases)
    checks: dict[str, Any] = {
        "recall_at_k by PML k=8, time": round(table.ratio(recall, pml_recall), 3),
        "scores by PML max_bin_count, time": round(table.ratio(both, pml_map), 3),
        "differences of value": {name: f"{value:.1e}" for name, value in apart.items()},
    }
    # -- the calculator as it is, which fits no round --
    if not options.no_default:
        default = timing.in_child("default")
        checks["PML default (k=None), once, with recall_at_k beside it"] = default
        if "error" not in default:
            checks["PML default by recall_at_k"] = {
                "time": round(default["seconds"] / default["ours"], 1),
                "extra memory": round(default["mb"] / default["ours_mb"], 1),
            }
    title = f"Retrieval, N={options.n}, d={options.d}, float32, {len(y.unique())} classes"
    return timing.show(title, table, checks, options, agree=max(apart.values()) <= 1e-6)


if __name__ == "__main__":
    sys.exit(main())
