"""Ranking a gallery for re-identification against a plain loop, and against torchreid where it is there.

    python -m benchmarks.reid_ranking [--queries 3368 --gallery 15913 --d 2048 --spread 3 --rounds 3 --json]

Sizes are Market-1501's, with 750 persons, 6 cameras and 2,798 distractors in the gallery; features are
synthetic, and `--spread` sets how hard they are: a ranking of ours takes longer the later the last match
comes. All rankers are given the similarities or distances of all pairs, except in the row "whole", which
starts from features. What runs in Python by item takes part of the queries, and its seconds are
multiplied to all of them. torchreid is optional, and its Cython ranker has to be built. The exit code is 1
where values differ.
"""

from __future__ import annotations

import importlib
import sys
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks import timing
from benchmarks.timing import Case
from papers_lib.evaluation.reid_ranking import Task, average_precision, cmc_map

PERSONS, CAMERAS, DISTRACTORS = 750, 6, 2798
PART = 40  # the plain loops take every 40th query
OURS, WHOLE, PRODUCT = "ranking alone, as in cmc_map", "whole: cmc_map", "(bare Q×G product)"
Score = tuple[float, float]  # mAP, R1
Sides = tuple[Tensor, Tensor, NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]


def world(options: Namespace) -> Sides:
    """Query and gallery features, ids and cameras, in `cmc_map`'s order."""
    rng = np.random.default_rng(0)
    counts = options.queries, options.gallery
    ids = [rng.integers(1, PERSONS + 1, count) for count in counts]
    # Distractors are images of nobody else.
    ids[1][: DISTRACTORS * options.gallery // 15913] = 0
    cameras = [rng.integers(0, CAMERAS, count) for count in counts]
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(PERSONS + 1, options.d, generator=generator)
    # x [Q, d], y [G, d]
    x, y = (centres[torch.from_numpy(persons)] for persons in ids)
    y[ids[1] == 0] = torch.randn(int((ids[1] == 0).sum()), options.d, generator=generator)
    for side in (x, y):  # some images are harder than others
        noise = torch.randn(side.shape, generator=generator)
        side.add_(noise.mul_(options.spread * (0.5 + torch.rand(len(side), 1, generator=generator))))
    return normalize(x), normalize(y), ids[0], ids[1], cameras[0], cameras[1]


def means(scores: list[Any]) -> Score:
    """mAP and R1 of (AP, whether the first is a match) by query."""
    mean = np.mean(scores, axis=0)
    return float(mean[0]), float(mean[1])


def ours(similarity: NDArray[Any], *who: NDArray[Any]) -> Score:
    """The ranking part of `cmc_map`."""
    task = Task.of(*who)
    ranks = [task.ranks(q, similarity[q].copy()) for q in np.flatnonzero(task.matched).tolist()]
    return means([(average_precision(matches, "rectangle"), matches[0] == 1) for matches in ranks])


def whole(*sides: Any) -> Score:
    """`cmc_map` from features."""
    scores = cmc_map(*sides)
    return scores["mAP"], scores["R1"]


def plain(similarity: NDArray[Any], *who: NDArray[Any]) -> Score:
    """Sort everything by query and walk down the list."""
    ids, others, cameras, seen_by = (values.tolist() for values in who)
    scores = []
    for q, row in enumerate(similarity):  # [G]
        seen, first = 0, 0
        hits: list[float] = []
        for j in np.argsort(-row).tolist():
            if others[j] == ids[q] and seen_by[j] == cameras[q]:
                continue  # a query does not see its own person by its own camera
            seen += 1
            if others[j] == ids[q]:
                first = first or seen
                # precision at this match
                hits.append((len(hits) + 1) / seen)
        if hits:
            scores.append((sum(hits) / len(hits), first == 1))
    return means(scores)


def by_sklearn(similarity: NDArray[Any], *who: NDArray[Any]) -> Score:
    """scikit-learn's average precision by query."""
    ids, others, cameras, seen_by = who
    scores = []
    for q, row in enumerate(similarity):
        keep = (others != ids[q]) | (seen_by != cameras[q])
        match, values = (others == ids[q])[keep], row[keep]
        if match.any():
            scores.append((average_precision_score(match, values), match[values.argmax()]))
    return means(scores)


def torchreid(name: str) -> Callable[..., Score] | None:
    """A ranker of torchreid by the end of its module's name, if it can be imported."""
    for package in ("torchreid.metrics", "torchreid.reid.metrics"):
        try:
            module = importlib.import_module(f"{package}.{name}")
        except ImportError:
            continue
        ranker = getattr(module, "evaluate_cy", None) or module.eval_market1501

        def score(distance: NDArray[Any], *who: NDArray[Any], ranker: Any = ranker) -> Score:
            cmc, mean = ranker(distance, *who, 50)
            return float(mean), float(cmc[0])

        return score
    return None


def main() -> int:
    """One table, with the memory of what takes all queries."""
    options = timing.options(__doc__, rounds=3, queries=3368, gallery=15913, d=2048, spread=3.0)
    sides = world(options)
    x, y, *who = sides
    similarity = (x @ y.T).numpy()  # [Q, G]
    distance = 1 - similarity
    # What runs in Python by item takes every 40th query, and is checked on these.
    some = [who[0][::PART], who[1], who[2][::PART], who[3]]
    scale, note = len(x) / len(some[0]), f"every {PART}th query, multiplied"
    cases = [
        Case(OURS, lambda: ours(similarity, *who)),
        Case("plain loop", lambda: plain(similarity[::PART], *some), scale, note),
        Case("scikit-learn by query", lambda: by_sklearn(similarity[::PART], *some), scale, note),
        Case(WHOLE, lambda: whole(*sides)),
        Case(PRODUCT, lambda: x @ y.T),
    ]
    if python := torchreid("rank"):
        cases.append(Case("torchreid, Python", lambda: python(distance[::PART], *some), scale, note))
    if compiled := torchreid("rank_cylib.rank_cy"):
        cases.append(Case("torchreid, Cython", lambda: compiled(distance, *who)))
    table = timing.compare(cases, options, memory=[case for case in cases if not case.note])

    # -- agreement --
    # Largest differences of mAP and R1 to ours, each on the queries that it takes.
    on_all, on_some = ours(similarity, *who), ours(similarity[::PART], *some)
    peers = [case for case in cases if case.name not in (OURS, PRODUCT)]
    apart = {
        case.name: float(np.abs(np.subtract(case.run(), on_some if case.note else on_all)).max())
        for case in peers
    }
    checks: dict[str, Any] = {
        "mAP, R1 of this data": [round(value, 4) for value in whole(*sides)],
        "differences of value": {name: f"{value:.1e}" for name, value in apart.items()},
        "product and ranker by whole cmc_map, time": {
            case.name: round(table.ratio(PRODUCT, WHOLE) + table.ratio(case.name, WHOLE), 1)
            for case in peers
            if case.name != WHOLE
        },
    }
    title = f"Ranking for re-identification, {options.queries} × {options.gallery}, d={options.d}, float32"
    return timing.show(title, table, checks, options, agree=max(apart.values()) <= 1e-5)


if __name__ == "__main__":
    sys.exit(main())
