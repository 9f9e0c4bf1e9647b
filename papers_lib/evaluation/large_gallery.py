"""Rank-1 in a gallery of hundreds of thousands, by counting: no list of neighbours, no matrix of all pairs.

A query's rank is 1 + the number of gallery images of other identities that are at least as similar as its
most similar true match. Distractors are valid wrong answers. For cameras, junk and mAP use
`reid_ranking.cmc_map`, which holds some queries by the whole gallery; here it is all queries by some of it,
so that the gallery is read once. SYSU-30k (Wang et al., IEEE TNNLS 2021): 1,000 queries, 479,730 images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from papers_lib.errors import PapersError
from papers_lib.evaluation.nearness import exact, slices

Array = Tensor | NDArray[Any]
TIE = {torch.float32: 1e-6, torch.float64: 1e-12}
"""Cosines this close are equal: what rounding does to the same product in blocks of different shapes."""

PAIRS = 4096  # true matches compared at once


@exact
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
    x, ids = _side("query", query, query_ids)
    y, other_ids = _side("gallery", gallery, gallery_ids)
    if x.shape[1] != y.shape[1]:
        raise PapersError(f"queries have {x.shape[1]} dimensions, the gallery {y.shape[1]}; embed both alike")
    x = _unit("query", x if x.dtype == torch.float64 else x.float())
    rows, columns = _matches(ids, other_ids)
    nearest = _nearest(x, y, rows, columns) - TIE[x.dtype]
    ahead = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    for part in slices(0, len(y), block):
        images = y[part].to(x)
        cosine = (x @ images.T).div_(_lengths("gallery", images).T)  # cheaper than a copy of unit vectors
        first, last = np.searchsorted(columns, (part.start, part.stop))
        own = (torch.from_numpy(v).to(x.device) for v in (rows[first:last], columns[first:last] - part.start))
        cosine[tuple(own)] = -torch.inf
        ahead += torch.count_nonzero(cosine >= nearest[:, None], dim=1)
    return {f"rank{k}": (ahead < k).double().mean().item() for k in ks}


def fuse_flips(features: Tensor, mirrored: Tensor) -> Tensor:
    """Features [N, d] of images and of their mirror images as one: each to length 1, added, to length 1."""
    return normalize(normalize(features) + normalize(mirrored))


def _matches(
    ids: NDArray[np.int64], others: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Every pair of a query and a true match: rows and columns [M], ordered by column."""
    order = np.argsort(others, kind="stable")
    start, stop = (np.searchsorted(others[order], ids, side=side) for side in ("left", "right"))
    counts = stop - start
    if not counts.all():
        lost = int(np.flatnonzero(counts == 0)[0])
        raise PapersError(
            f"query {lost} (identity {ids[lost]}) has no image of its identity in the gallery; restore it, "
            "or leave the query out"
        )
    rows = np.repeat(np.arange(len(ids)), counts)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    columns = order[np.repeat(start, counts) + within]
    by_column = np.argsort(columns, kind="stable")
    return rows[by_column], columns[by_column]


def _nearest(x: Tensor, y: Tensor, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Tensor:
    """[Q] the largest cosine of each query with a true match."""
    nearest = torch.full_like(x[:, 0], -torch.inf)
    for part in slices(0, len(rows), PAIRS):
        row = torch.from_numpy(rows[part])
        match = _unit("gallery", y[torch.from_numpy(columns[part]).to(y.device)].to(x))
        row = row.to(x.device)
        nearest.scatter_reduce_(0, row, (x[row] * match).sum(1), "amax")
    return nearest


def _unit(name: str, features: Tensor) -> Tensor:
    return features / _lengths(name, features)


def _lengths(name: str, features: Tensor) -> Tensor:
    norms = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    if not norms.isfinite().all():
        raise PapersError(
            f"{name} features hold NaN or infinity; the network diverged or its input is broken"
        )
    lengths: Tensor = norms.clamp_min_(1e-12)
    return lengths


def _side(name: str, features: Array, ids: Array) -> tuple[Tensor, NDArray[np.int64]]:
    x = torch.as_tensor(features).detach()
    people = np.asarray(ids.cpu() if isinstance(ids, Tensor) else ids)
    if x.ndim != 2 or people.shape != tuple(x.shape[:1]):
        raise PapersError(
            f"{name} features and ids are {tuple(x.shape)} and {people.shape}; they must be [N, d], [N]"
        )
    if not len(x):
        raise PapersError(f"the {name} is empty; give at least one image")
    if people.dtype.kind not in "iu":
        raise PapersError(f"{name} ids are {people.dtype}; give integers")
    return x, people.astype(np.int64)
