"""Recall@K and MAP@R against pytorch-metric-learning's AccuracyCalculator, as it is and as tuned.

    python -m benchmarks.retrieval [--n 8131 --d 1024 --rounds 5 --json --no-default]

Class counts are those of the 98 test classes of Cars196; features are synthetic unit vectors. The
calculator's default (k=None) takes gigabytes, and about the same time whatever d is; it runs once,
between three runs of ours and three more, in a process of its own. `--no-default` leaves it out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.cars import classes, features, labels
from benchmarks.timing import Candidate, extra_memory, in_child, interleave, show
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


def candidates(x: Tensor, y: Tensor) -> list[Candidate]:
    """What is timed; the first is the yardstick."""
    eight = calculator("precision_at_1", 8)
    most = calculator("mean_average_precision_at_r", "max_bin_count")
    return [
        Candidate("PML precision_at_1, k=8", lambda: eight(x, y)),
        Candidate("recall_at_k, K=1,2,4,8", lambda: recall_at_k(x, y)),
        Candidate("PML MAP@R, k=max_bin_count", lambda: most(x, y)),
        Candidate("scores: K=1,2,4,8 and MAP@R", lambda: scores(x, y)),
        Candidate("(bare N×N product)", lambda: x @ x.T),
    ]


def beside_default(x: Tensor, y: Tensor) -> dict[str, float]:
    """The calculator's default, once: seconds and memory, with ours before and after it."""
    default = calculator("precision_at_1", None)
    recall_at_k(x, y)

    def seconds(function: Callable[[], object]) -> float:
        start = time.perf_counter()
        function()
        return time.perf_counter() - start

    ours = [seconds(lambda: recall_at_k(x, y)) for _ in range(3)]
    ours_mb = extra_memory(lambda: recall_at_k(x, y))
    start = time.perf_counter()
    mb = extra_memory(lambda: default(x, y))
    theirs = time.perf_counter() - start
    ours += [seconds(lambda: recall_at_k(x, y)) for _ in range(3)]
    return {"seconds": theirs, "mb": mb, "ours": statistics.median(ours), "ours_mb": ours_mb}


def agreement(x: Tensor, y: Tensor) -> dict[str, float]:
    """Absolute differences between their values and ours."""
    p1 = calculator("precision_at_1", 8)(x, y)
    precision = calculator("mean_average_precision_at_r", "max_bin_count")(x, y)
    return {
        "R@1": abs(recall_at_k(x, y, (1,))[1] - p1),
        "R@1 of scores": abs(scores(x, y, (1,))["R@1"] - p1),
        "MAP@R": abs(map_at_r(x, y) - precision),
    }


def main() -> int:
    """Parse, run, print; 2 where a peer is missing, 1 where values differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=8131)
    parser.add_argument("--d", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--no-default", action="store_true", help="leave out PML's k=None")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if importlib.util.find_spec("faiss") is None:
        print(NEEDS_FAISS, file=sys.stderr)
        return 2
    y = labels(classes("test"), options.n)
    x = features(y, options.d, spread=0.2)
    if options.child:
        torch.ones(512, 512) @ torch.ones(512, 512)  # the library's own buffers are there before
        if options.child == "default":
            print(json.dumps(beside_default(x, y)))
        else:
            print(json.dumps({"mb": extra_memory(candidates(x, y)[int(options.child)].run)}))
        return 0
    return report(x, y, options)


def report(x: Tensor, y: Tensor, options: argparse.Namespace) -> int:
    """Time, measure, compare and print."""
    size = ["--n", str(options.n), "--d", str(options.d), "--child"]
    lines = interleave(candidates(x, y), options.rounds)
    for at, line in enumerate(lines):
        line.memory_mb = in_child("benchmarks.retrieval", [*size, str(at)]).get("mb")
    differences = agreement(x, y)
    checks: dict[str, Any] = {
        "recall_at_k by PML k=8, time": round(lines[1].ratio, 3),
        "scores by PML max_bin_count, time": round(lines[3].ratio / lines[2].ratio, 3),
        "differences of value": {name: f"{value:.1e}" for name, value in differences.items()},
    }
    if not options.no_default:
        found = in_child("benchmarks.retrieval", [*size, "default"])
        checks["PML default (k=None), once, with recall_at_k beside it"] = found
        if "error" not in found:
            checks["PML default by recall_at_k"] = {
                "time": round(found["seconds"] / found["ours"], 1),
                "extra memory": round(found["mb"] / found["ours_mb"], 1),
            }
    title = f"Retrieval, N={options.n}, d={options.d}, float32, {len(y.unique())} classes"
    show(title, lines, checks, options.json)
    return int(max(differences.values()) > 1e-6)


if __name__ == "__main__":
    sys.exit(main())
