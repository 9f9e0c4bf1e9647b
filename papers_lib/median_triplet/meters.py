"""What a run logs beside its loss: false negatives, collapse, and the spread of features.

Labels are read here and nowhere in a loss: to see how often the chosen negative is of the query's class
(Table 5), which the paper calls over-clustering.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from papers_lib import compute, processes
from papers_lib.evaluation import collapse
from papers_lib.median_triplet import heads
from papers_lib.median_triplet.methods import Batch, Method, OnlineTarget, Triplet

READINGS = 5  # batches per epoch that are looked at
KEPT = 1000  # images whose features are looked at


@torch.no_grad()
def of_batch(method: Method, labels: Tensor) -> dict[str, float]:
    """False negatives and the rank of the projections in the batch whose loss was computed last.

    For k = 1, 5, the median, and the method's own: `same_query_<k>`, the share of queries whose rank-k
    negative is of their class, and `same_batch_<k>`, 1 if any is (the paper's Ω counts batches). Nothing
    for methods without queries and targets.
    """
    if not isinstance(method, OnlineTarget) or not method.latest:
        return {}
    if len(method.latest[0][0]) > len(labels):  # the rivals are of all processes
        labels = processes.gathered(labels)
    n = len(labels)
    ranks: dict[str, int | float | None] = {"1": 1, "median": None}
    if n > 5:  # a batch of five has four negatives
        ranks["5"] = 5
    if isinstance(method, Triplet):
        ranks["own"] = method.k(n)
    readings: dict[str, list[float]] = defaultdict(list)  # of both pairs of views
    for query, target in method.latest:  # [B, out] each
        readings["rank_projections"].append(collapse.effective_rank(target))
        for name, k in ranks.items():
            same = labels[heads.selected(query, target, k)] == labels  # [B]
            readings[f"same_query_{name}"].append(float(same.float().mean()))
            readings[f"same_batch_{name}"].append(float(same.any()))
    return {name: sum(values) / len(values) for name, values in readings.items()}


def of_features(features: Tensor) -> dict[str, float]:
    """Effective rank and spread of the encoder's features, of up to `KEPT` images evenly taken.

    A network that is dead, all features zero, has rank 0 and spread 0.
    """
    kept = features[:: max(1, len(features) // KEPT)]  # [up to 2 · KEPT, d]
    if not kept.abs().max() > 0:
        return {"rank_features": 0.0, "std_features": 0.0}
    return {
        "rank_features": round(collapse.effective_rank(kept), 3),
        "std_features": round(collapse.std_of_normalised(kept), 4),
    }


@torch.no_grad()
def before_training(method: Method, batches: Iterable[Batch]) -> dict[str, float]:
    """`of_batch` of an untrained network, on a copy: statistics and random numbers of the run stay."""
    if not isinstance(method, OnlineTarget):
        return {}
    twin = copy.deepcopy(method).train()  # as in the first step
    readings = []
    for batch in batches:
        twin.loss(batch)
        readings.append(of_batch(twin, batch.labels))
    return mean(readings)


def flops(method: Method, batch: Batch, precision: compute.Precision) -> float:
    """Floating-point operations of a step per image, forwards and backwards, counted on a copy.

    In the training's precision, so that it takes no more memory than a step.
    """
    if not method.trained():
        return 0.0
    twin = copy.deepcopy(method).train()
    with FlopCounterMode(display=False) as counter:
        with compute.autocast(batch.labels.device, precision):
            loss = twin.loss(batch)[0]
        loss.backward()
    return float(counter.get_total_flops()) / len(batch.labels)


def mean(readings: list[dict[str, float]]) -> dict[str, float]:
    """The mean of each name over the readings that there are."""
    names = readings[0] if readings else ()
    return {name: round(sum(r[name] for r in readings) / len(readings), 5) for name in names}
