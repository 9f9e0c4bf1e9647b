"""Rank-1, 5 and 10 in a large gallery by blocked counting, against sorting the gallery for every query.

    python -m benchmarks.large_gallery [--queries 50 --gallery 20000 --d 2048 --block 8192 --rounds 5 --json]

Sizes are a part of SYSU-30k's test side (1,000 queries, 479,730 images); one match per query, the rest are
distractors; features are synthetic. "Sorted, query by query" does as the released evaluation does: the
gallery is read once more for every query. "Sorted at once" holds all similarities. The exit code is 1 where
ranks differ.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks import timing
from benchmarks.timing import Case
from papers_lib.evaluation.large_gallery import rank_one

KS = (1, 5, 10)


def world(queries: int, count: int, d: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Query and gallery features and ids; the match of query i is somewhere in the gallery."""
    generator = torch.Generator().manual_seed(0)
    gallery = torch.randn(count, d, generator=generator)
    places = torch.randperm(count, generator=generator)[:queries]
    # As far off as leaves some queries right and some wrong.
    query = gallery[places] + 14 * torch.randn(queries, d, generator=generator)
    # Distractors have id 0, matches 1 … Q.
    ids = torch.zeros(count, dtype=torch.int64)
    ids[places] = torch.arange(1, queries + 1)
    return normalize(query), normalize(gallery), ids[places], ids


def shares(places: list[int]) -> dict[str, float]:
    """Of queries whose match is among the first k."""
    return {f"rank{k}": sum(place < k for place in places) / len(places) for k in KS}


def one_by_one(query: Tensor, gallery: Tensor, ids: Tensor, others: Tensor) -> dict[str, float]:
    """A product and a full sort for each query."""
    places = []
    for features, identity in zip(query, ids, strict=True):
        order = torch.argsort(gallery @ features, descending=True)  # [G]
        places.append(int((others[order] == identity).nonzero()[0, 0]))
    return shares(places)


def at_once(query: Tensor, gallery: Tensor, ids: Tensor, others: Tensor) -> dict[str, float]:
    """One product, one full sort of all rows."""
    order = torch.argsort(query @ gallery.T, dim=1, descending=True)  # [Q, G]
    return shares((others[order] == ids[:, None]).int().argmax(1).tolist())


def main() -> int:
    """One table, with the memory of every way."""
    options = timing.options(__doc__, rounds=5, queries=50, gallery=20_000, d=2048, block=8192)
    data = world(options.queries, options.gallery, options.d)
    query, gallery, _, _ = data
    ours = f"rank_one, blocks of {options.block}"
    cases = [
        Case("sorted, query by query", lambda: one_by_one(*data)),
        Case("sorted at once", lambda: at_once(*data)),
        Case(ours, lambda: rank_one(*data, block=options.block)),
        Case("(bare product)", lambda: query @ gallery.T),
    ]
    table = timing.compare(cases, options, memory=cases)
    # -- agreement --
    ranks = rank_one(*data)
    same = ranks == one_by_one(*data) == at_once(*data)
    checks = {
        "rank_one is faster than sorting by query, times": round(
            table.ratio("sorted, query by query", ours), 2
        ),
        "rank_one is faster than sorting at once, times": round(table.ratio("sorted at once", ours), 2),
        "ranks": ranks,
        "same ranks": same,
    }
    title = f"Rank-1 of {options.queries} queries in {options.gallery} images, d={options.d}, float32"
    return timing.show(title, table, checks, options, agree=same)


if __name__ == "__main__":
    sys.exit(main())
