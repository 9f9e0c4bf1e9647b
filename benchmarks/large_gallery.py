"""Rank-1, 5 and 10 in a large gallery by blocked counting, against sorting the gallery for every query.

    python -m benchmarks.large_gallery [--queries 50 --gallery 20000 --d 2048 --block 8192 --rounds 5 --json]

Sizes are a part of SYSU-30k's test side (1,000 queries, 479,730 images); one match a query, the rest are
distractors; features are synthetic. "Sorted, query by query" does as the released evaluation does: the
gallery is read once more for every query. "Sorted at once" holds all similarities.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.timing import Candidate, extra_memory, in_child, interleave, show
from papers_lib.evaluation.large_gallery import rank_one

KS = (1, 5, 10)
Sides = tuple[Tensor, Tensor, Tensor, Tensor]


def world(options: argparse.Namespace) -> Sides:
    """Query and gallery features and ids; the match of query i is somewhere in the gallery."""
    generator = torch.Generator().manual_seed(0)
    gallery = torch.randn(options.gallery, options.d, generator=generator)
    places = torch.randperm(options.gallery, generator=generator)[: options.queries]
    # As far off as leaves some queries right and some wrong.
    query = gallery[places] + 14 * torch.randn(options.queries, options.d, generator=generator)
    ids = torch.zeros(options.gallery, dtype=torch.int64)
    ids[places] = torch.arange(1, options.queries + 1)
    return normalize(query), normalize(gallery), ids[places], ids


def _shares(places: list[int]) -> dict[str, float]:
    return {f"rank{k}": sum(place < k for place in places) / len(places) for k in KS}


def one_by_one(query: Tensor, gallery: Tensor, ids: Tensor, others: Tensor) -> dict[str, float]:
    """A product and a full sort for each query."""
    places = []
    for features, identity in zip(query, ids, strict=True):
        order = torch.argsort(gallery @ features, descending=True)
        places.append(int((others[order] == identity).nonzero()[0, 0]))
    return _shares(places)


def at_once(query: Tensor, gallery: Tensor, ids: Tensor, others: Tensor) -> dict[str, float]:
    """One product, one full sort of all rows."""
    order = torch.argsort(query @ gallery.T, dim=1, descending=True)
    return _shares((others[order] == ids[:, None]).int().argmax(1).tolist())


def candidates(data: Sides, block: int) -> list[Candidate]:
    """What is timed; the first is the yardstick."""
    query, gallery, _, _ = data
    rows: list[tuple[str, Callable[[], Any]]] = [
        ("sorted, query by query", lambda: one_by_one(*data)),
        ("sorted at once", lambda: at_once(*data)),
        (f"rank_one, blocks of {block}", lambda: rank_one(*data, block=block)),
        ("(bare product)", lambda: query @ gallery.T),
    ]
    return [Candidate(name, run) for name, run in rows]


def main() -> int:
    """Parse, run, print; 1 where values differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--gallery", type=int, default=20_000)
    parser.add_argument("--d", type=int, default=2048)
    parser.add_argument("--block", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    data = world(options)
    choices = candidates(data, options.block)
    if options.child is not None:
        torch.ones(512, 512) @ torch.ones(512, 512)  # the library's own buffers are there before
        print(f'{{"mb": {extra_memory(choices[options.child].run)}}}')
        return 0
    return report(data, choices, options)


def report(data: Sides, choices: list[Candidate], options: argparse.Namespace) -> int:
    """Time, measure, compare and print."""
    lines = interleave(choices, options.rounds)
    names = ("queries", "gallery", "d", "block")
    size = [part for name in names for part in (f"--{name}", str(getattr(options, name)))]
    for at, line in enumerate(lines):
        line.memory_mb = in_child("benchmarks.large_gallery", [*size, "--child", str(at)]).get("mb")
    ours, theirs, sorted_ = rank_one(*data), one_by_one(*data), at_once(*data)
    checks = {
        "rank_one is faster than sorting by query, times": round(1 / lines[2].ratio, 2),
        "rank_one is faster than sorting at once, times": round(lines[1].ratio / lines[2].ratio, 2),
        "ranks": ours,
        "same ranks": ours == theirs == sorted_,
    }
    title = f"Rank-1 of {options.queries} queries in {options.gallery} images, d={options.d}, float32"
    show(title, lines, checks, options.json)
    return int(not checks["same ranks"])


if __name__ == "__main__":
    sys.exit(main())
