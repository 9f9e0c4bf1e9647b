"""Ranking a gallery for re-identification against a plain loop, and against torchreid where it is there.

    python -m benchmarks.reid_ranking [--queries 3368 --gallery 15913 --d 2048 --spread 3 --rounds 3 --json]

Sizes are Market-1501's, with 750 persons, 6 cameras and 2,798 distractors in the gallery; features are
synthetic, and `--spread` sets how hard they are: a ranking of ours takes longer the later the last match
comes. All rankers are given the similarities or distances of all pairs, except in the row "whole", which
starts from features. What runs in Python by item takes part of the queries, and its seconds are
multiplied to all of them. torchreid is optional, and its Cython ranker has to be built.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.timing import Candidate, extra_memory, in_child, interleave, show
from papers_lib.evaluation.reid_ranking import Task, average_precision, cmc_map

PERSONS, CAMERAS, DISTRACTORS = 750, 6, 2798
PART = 40  # the plain loops take every 40th query
Score = tuple[float, float]  # mAP, R1
Sides = tuple[Tensor, Tensor, NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]


def world(options: argparse.Namespace) -> Sides:
    """Query and gallery features, ids and cameras, in `cmc_map`'s order."""
    rng = np.random.default_rng(0)
    counts = options.queries, options.gallery
    ids = [rng.integers(1, PERSONS + 1, count) for count in counts]
    ids[1][: DISTRACTORS * options.gallery // 15913] = 0
    cameras = [rng.integers(0, CAMERAS, count) for count in counts]
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(PERSONS + 1, options.d, generator=generator)
    x, y = (centres[torch.from_numpy(each)] for each in ids)
    y[ids[1] == 0] = torch.randn(int((ids[1] == 0).sum()), options.d, generator=generator)
    for each in (x, y):  # some images are harder than others
        noise = torch.randn(each.shape, generator=generator)
        each.add_(noise.mul_(options.spread * (0.5 + torch.rand(len(each), 1, generator=generator))))
    return normalize(x), normalize(y), ids[0], ids[1], cameras[0], cameras[1]


def means(scores: list[Any]) -> Score:
    """mAP and R1 of (AP, whether the first is a match) by query."""
    mean = np.mean(scores, axis=0)
    return float(mean[0]), float(mean[1])


def ours(similarity: NDArray[Any], *who: NDArray[Any]) -> Score:
    """The ranking part of `cmc_map`."""
    task = Task.of(*who)
    ranks = [task.ranks(q, similarity[q].copy()) for q in np.flatnonzero(task.matched).tolist()]
    scores = [(average_precision(each, "rectangle"), each[0] == 1) for each in ranks]
    return means(scores)


def whole(*sides: Any) -> Score:
    """`cmc_map` from features."""
    found = cmc_map(*sides)
    return found["mAP"], found["R1"]


def plain(similarity: NDArray[Any], *who: NDArray[Any]) -> Score:
    """Sort everything by query and walk down the list."""
    ids, others, cameras, seen_by = (each.tolist() for each in who)
    scores = []
    for q, row in enumerate(similarity):
        seen, first = 0, 0
        hits: list[float] = []
        for j in np.argsort(-row).tolist():
            if others[j] == ids[q] and seen_by[j] == cameras[q]:
                continue
            seen += 1
            if others[j] == ids[q]:
                first = first or seen
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


def candidates(sides: Sides, pairs: bool = True) -> list[Candidate]:
    """What is timed; the first is the yardstick. Without `pairs` only what starts from features runs."""
    x, y, *who = sides
    similarity = (x @ y.T if pairs else x.new_empty(0, 0)).numpy()
    part = [who[0][::PART], who[1], who[2][::PART], who[3]]
    scale, note = len(x) / len(part[0]), f"every {PART}th query, multiplied"
    found = [
        Candidate("ranking alone, as in cmc_map", lambda: ours(similarity, *who)),
        Candidate("plain loop", lambda: plain(similarity[::PART], *part), scale, note),
        Candidate("scikit-learn by query", lambda: by_sklearn(similarity[::PART], *part), scale, note),
        Candidate("whole: cmc_map", lambda: whole(*sides)),
        Candidate("(bare Q×G product)", lambda: x @ y.T),
    ]
    distance = 1 - similarity
    if python := torchreid("rank"):
        run = partial(python, distance[::PART], *part)
        found.append(Candidate("torchreid, Python", run, scale, note))
    if compiled := torchreid("rank_cylib.rank_cy"):
        found.append(Candidate("torchreid, Cython", partial(compiled, distance, *who)))
    return found


def agreement(sides: Sides) -> dict[str, float]:
    """Largest differences of mAP and R1 to ours, each on the queries that it takes."""
    similarity = (sides[0] @ sides[1].T).numpy()
    who = sides[2:]
    part = similarity[::PART], who[0][::PART], who[1], who[2][::PART], who[3]
    pairs = {
        "cmc_map": (whole(*sides), ours(similarity, *who)),
        "plain loop": (plain(*part), ours(*part)),
        "scikit-learn": (by_sklearn(*part), ours(*part)),
    }
    if python := torchreid("rank"):
        pairs["torchreid, Python"] = python(1 - part[0], *part[1:]), ours(*part)
    if compiled := torchreid("rank_cylib.rank_cy"):
        pairs["torchreid, Cython"] = compiled(1 - similarity, *who), ours(similarity, *who)
    return {name: max(abs(a - b) for a, b in zip(*both, strict=True)) for name, both in pairs.items()}


def main() -> int:
    """Parse, run, print; 1 where values differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=3368)
    parser.add_argument("--gallery", type=int, default=15913)
    parser.add_argument("--d", type=int, default=2048)
    parser.add_argument("--spread", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sides = world(options)
    if options.child is None:
        return report(sides, options)
    torch.ones(512, 512) @ torch.ones(512, 512)  # the library's own buffers are there before
    plan = candidates(sides, pairs=not 3 <= options.child <= 4)
    print(json.dumps({"mb": extra_memory(plan[options.child].run)}))
    return 0


def report(sides: Sides, options: argparse.Namespace) -> int:
    """Time, measure, compare and print."""
    lines = interleave(candidates(sides), options.rounds)
    size = [f"--{name}={getattr(options, name)}" for name in ("queries", "gallery", "d", "spread")]
    for at, line in enumerate(lines):
        if line.note:  # a part of the queries does not show the memory of all
            continue
        line.memory_mb = in_child("benchmarks.reid_ranking", [*size, f"--child={at}"]).get("mb")
    differences, found = agreement(sides), whole(*sides)
    product, mine = lines[4].ratio, lines[3].ratio
    checks: dict[str, Any] = {
        "mAP, R1 of this data": [round(value, 4) for value in found],
        "differences of value": {name: f"{value:.1e}" for name, value in differences.items()},
        "product and ranker by whole cmc_map, time": {
            line.name: round((product + line.ratio) / mine, 1) for line in (*lines[1:3], *lines[5:])
        },
    }
    title = f"Ranking for re-identification, {options.queries} × {options.gallery}, d={options.d}, float32"
    show(title, lines, checks, options.json)
    return int(max(differences.values()) > 1e-5)


if __name__ == "__main__":
    sys.exit(main())
