"""Rank-1 in a gallery of hundreds of thousands, by counting: no list of neighbours, no matrix of all pairs.

A query's rank is 1 + the number of gallery images of other identities that are at least as similar as its
most similar true match. Distractors are valid wrong answers. For cameras, junk and mAP use
`reid_ranking.cmc_map`, which holds some queries by the whole gallery; here it is all queries by some of it,
so that the gallery is read once. SYSU-30k (Wang et al., IEEE TNNLS 2021): 1,000 queries, 479,730 images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from papers_lib import arrays
from papers_lib.arrays import Array
from papers_lib.compute import exact
from papers_lib.errors import PapersError
from papers_lib.evaluation.nearness import Directions, common_direction, slices, unit

TIE = {torch.float32: 1e-6, torch.float64: 1e-12}
"""Cosines this close are equal: what rounding does to the same product in blocks of different shapes."""

PAIRS = 4096  # true matches compared at once


@exact()
def rank_one(
    query: Array,
    gallery: Array,
    query_ids: Array,
    gallery_ids: Array,
    ks: Sequence[int] = (1, 5, 10),
    block: int = 8192,
) -> dict[str, float]:
    """Share of queries with a true match among the k most similar images: {"rank1": …, "rank5": …, …}.

    Cosine similarity; features need not have length 1. A wrong image that is as similar as the match, up
    to `TIE`, counts as nearer, so that collapsed features score 0 and not 1. Working memory is queries ×
    `block`, on the queries' device; the gallery may lie elsewhere, and moves there block by block.

    Args:
        query, gallery: [Q, d] and [G, d] float.
        query_ids, gallery_ids: [Q] and [G] integers.
        ks: the k.
        block: gallery images at a time.

    Raises:
        PapersError: shapes that do not fit, features that are not finite, or a query whose identity the
            gallery lacks.
    """
    x = arrays.features("query features", query)
    y = arrays.numbers("gallery features", gallery).detach()  # looked at block by block
    ids = arrays.integers("query ids", query_ids, len(x)).cpu().numpy()
    other_ids = arrays.integers("gallery ids", gallery_ids, len(y)).cpu().numpy()
    ks, block = arrays.wholes("K", ks), arrays.whole("block", block)
    if x.shape[1] != y.shape[1]:
        raise PapersError(f"queries have {x.shape[1]} dimensions, the gallery {y.shape[1]}; embed both alike")
    # -- the bar: each query's most similar true match --
    centre = common_direction(y[:: max(1, len(y) // PAIRS)].to(x))
    x = unit(x, centre)
    rows, columns = _matches(ids, other_ids)
    nearest = _nearest(x, y, rows, columns, centre)  # [Q]
    # -- count what reaches it, block by block --
    ahead = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    for part in slices(0, len(y), block):
        directions = Directions.of(y[part].to(x), centre)
        if not (directions.scale > 0).all():
            raise PapersError(f"gallery features {arrays.BROKEN}")
        cosine = directions.cosines(x)  # [Q, block]
        # The true matches in this block are nobody's wrong answer.
        first, last = np.searchsorted(columns, (part.start, part.stop))
        places = (rows[first:last], columns[first:last] - part.start)
        cosine[tuple(torch.from_numpy(at).to(x.device) for at in places)] = -torch.inf
        ahead += torch.count_nonzero(cosine >= nearest[:, None], dim=1)
    return {f"rank{k}": (ahead < k).double().mean().item() for k in ks}


@exact()
def fuse_flips(features: Array, mirrored: Array) -> Tensor:
    """Features [N, d] of images and of their mirror images as one: each to length 1, added, to length 1.

    Raises:
        PapersError: what is no matrix of finite features, or matrices of two shapes.
    """
    first = arrays.features("features", features)
    second = arrays.numbers("mirrored features", mirrored, like=first).to(first)
    return unit(unit(first) + unit(second))


def _matches(
    ids: NDArray[np.int64], others: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every pair of a query and a true match: rows and columns [M], ordered by column."""
    order = np.argsort(others, kind="stable")
    # A query's matches are order[start : stop].
    start, stop = (np.searchsorted(others[order], ids, side=side) for side in ("left", "right"))
    counts = stop - start
    if not counts.all():
        lost = int(np.flatnonzero(counts == 0)[0])
        raise PapersError(
            f"query {lost} (identity {ids[lost]}) has no image of its identity in the gallery; restore it, "
            "or leave the query out"
        )
    rows = np.repeat(np.arange(len(ids)), counts)  # [M]
    # 0, 1, … within each query's matches
    within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    columns = order[np.repeat(start, counts) + within]
    by_column = np.argsort(columns, kind="stable")
    return rows[by_column], columns[by_column]


def _nearest(
    x: Tensor, y: Tensor, rows: NDArray[np.int64], columns: NDArray[np.int64], centre: Tensor | None
) -> Tensor:
    """[Q] the largest cosine of each query with a true match, less what counts as a tie with it."""
    nearest = torch.full_like(x[:, 0], -torch.inf)
    reach = x.new_zeros(())
    for part in slices(0, len(rows), PAIRS):
        row = torch.from_numpy(rows[part]).to(x.device)
        match = unit(y[torch.from_numpy(columns[part]).to(y.device)].to(x), centre)  # [m, d]
        cosine = (x[row] * match).sum(1)
        if centre is not None:  # q·g = (q − c)·(g − c) − |g − c|²/2 + what q decides
            cosine -= match.square().sum(1) / 2
        nearest.scatter_reduce_(0, row, cosine, "amax")
        reach = torch.maximum(reach, torch.linalg.vector_norm(match, dim=1).max())
    lengths, tie = torch.linalg.vector_norm(x, dim=1), TIE[x.dtype]
    # About a centre cosines are as small as the lengths are, and unit vectors keep their own rounding.
    return nearest - (tie if centre is None else tie * (lengths * reach + (lengths + reach + tie) / 8))
