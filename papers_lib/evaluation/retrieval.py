"""Retrieval of the same class among all other samples: Recall@K and MAP@R.

One rule everywhere: a query is every sample, its gallery is all others (itself removed by index, so
that duplicates stay in); a sample of another class at the distance of a match, as far as rounding can
tell, counts as nearer than it, so that a collapsed embedding scores 0 and not 1; a sample alone in its
class has nothing to find and is left out of the mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from papers_lib import arrays
from papers_lib.arrays import Array
from papers_lib.compute import exact
from papers_lib.errors import PapersError
from papers_lib.evaluation.nearness import Points, pairs, slices
from papers_lib.evaluation.reid_ranking import cmc_map as cmc_map  # noqa: PLC0414 (a name others build on)


@exact()
def recall_at_k(
    features: Array, labels: Array, ks: Sequence[int] = (1, 2, 4, 8), chunk: int = 1536
) -> dict[int, float]:
    """Share of queries with a sample of their class among the K nearest others, by K.

    A query's rank is the number of samples of other classes that are at least as near as its
    nearest match, and is counted block by block: no list of neighbours is needed.

    Args:
        features: [N, d] float, on any device; Euclidean distance (normalise for cosine).
        labels: [N] integers.
        ks: the K.
        chunk: working memory is two matrices of chunk × chunk, or of chunk × the largest class.

    Raises:
        PapersError: what is no matrix of finite features with an integer label per row, a K or chunk below
            1, or no class with two samples.
    """
    gallery, chunk = _gallery(features, labels), arrays.whole("chunk", chunk)
    points = gallery.points
    best = torch.full_like(points.half, -torch.inf)  # [N] nearness of the nearest match
    ahead = torch.zeros_like(best)  # [N] how many of other classes are at least as near
    groups = list(_groups(gallery.sizes, chunk))
    out, flags = points.buffer(chunk * chunk), points.buffer(chunk * chunk)
    # -- within groups of whole classes: all matches, and some others --
    for group in groups:
        for rows in slices(group.start, group.stop, chunk):
            for columns in slices(group.start, group.stop, chunk):
                block = points.nearness(rows, columns, out)
                same = gallery.same(rows, columns)
                matches = _matches(block, same, rows.start - columns.start)
                best[rows] = torch.maximum(best[rows], matches.amax(1))
                # A group with several classes is one block, so `best` is complete for its rows.
                flag = flags[: block.numel()].view_as(block)
                block.masked_fill_(same, torch.nan)  # NaN is never ahead, not even of −∞
                ahead[rows] += torch.ge(block, points.tie(rows, best[rows, None]), out=flag).sum(1)
    # -- between groups: only others, each block for its rows and its columns --
    best = points.tie(slice(None), best)
    for rows, columns, block in pairs(points, groups, chunk):
        flag = flags[: block.numel()].view_as(block)
        ahead[rows] += torch.ge(block, best[rows, None], out=flag).sum(1)
        ahead[columns] += torch.ge(block, best[columns], out=flag).sum(0)
    return _recall(ahead[gallery.matched], ks)


def map_at_r(features: Array, labels: Array, chunk: int = 1536) -> float:
    """Mean average precision at R (Musgrave et al., "A Metric Learning Reality Check", 2020).

    With R the number of a query's matches: (1/R) Σ_{i ≤ R} precision(i) · [the i-th is a match].
    Arguments, rules and errors as `recall_at_k`.
    """
    return scores(features, labels, (), chunk)["MAP@R"]


@exact()
def scores(
    features: Array, labels: Array, ks: Sequence[int] = (1, 2, 4, 8), chunk: int = 1536
) -> dict[str, float]:
    """Recall@K and MAP@R in one pass: {"R@1": …, "MAP@R": …}, as fractions.

    Arguments, rules and errors as `recall_at_k`.
    """
    gallery, chunk = _gallery(features, labels), arrays.whole("chunk", chunk)
    step = max(1, chunk * chunk // len(gallery.points))
    out = gallery.points.buffer(step * len(gallery.points))
    ahead = torch.zeros_like(gallery.labels)
    precision = torch.zeros_like(gallery.points.half)
    for rows in slices(0, len(ahead), step):
        ranks = _ranks(gallery, rows, out, max(arrays.wholes("K", ks), default=1))  # [rows, most]
        count = gallery.size[rows] - 1  # R, [rows]
        # (1/R) Σ i / rank(i) over the matches i whose rank is R at most.
        place = torch.arange(1, ranks.shape[1] + 1, device=ranks.device)
        ahead[rows] = ranks[:, 0] - 1
        hits = (place / ranks).masked_fill(ranks > count[:, None], 0)
        precision[rows] = hits.sum(1).to(precision.dtype) / count
    recalls = _recall(ahead[gallery.matched], ks)
    return {
        **{f"R@{k}": value for k, value in recalls.items()},
        "MAP@R": precision[gallery.matched].double().mean().item(),
    }


@dataclass(frozen=True)
class _Gallery:
    """The samples ordered by class, so that a class is a slice; tensors are [N]."""

    points: Points
    labels: Tensor  # 0, 1, 2, …
    size: Tensor  # of the sample's class
    sizes: list[int]  # by class

    @property
    def matched(self) -> Tensor:
        return self.size > 1

    def same(self, rows: slice, columns: slice) -> Tensor:
        """Where the labels of a block agree, bool."""
        return self.labels[rows, None] == self.labels[columns]


def _gallery(features: Array, labels: Array) -> _Gallery:
    points = Points.of(features)
    names = arrays.integers("labels", labels, len(points)).to(points.x.device)
    numbers, order = torch.unique(names, return_inverse=True)[1].sort(stable=True)
    sizes = numbers.bincount()
    if sizes.max() < 2:
        raise PapersError("no class has two samples, so no query has a match; give more samples")
    return _Gallery(points.take(order), numbers, sizes[numbers], sizes.tolist())


def _groups(sizes: list[int], chunk: int) -> Iterator[slice]:
    """Slices of whole classes, up to `chunk` samples together or one larger class alone."""
    start = stop = 0
    for size in sizes:
        if stop > start and stop + size - start > chunk:
            yield slice(start, stop)
            start = stop
        stop += size
    yield slice(start, stop)


def _ranks(gallery: _Gallery, rows: slice, out: Tensor, kmax: int) -> Tensor:
    """[rows, R of the largest class here, at least 1]: rank of the 1st, 2nd, … match of each row.

    Exact up to the larger of R and `kmax`; beyond it, and where a row has fewer matches, larger.
    """
    points, labels = gallery.points, gallery.labels
    block = points.nearness(rows, slice(0, len(points)), out)  # [rows, N]
    # The classes of these rows are one window of columns.
    first, last = (int(labels[at]) for at in (rows.start, rows.stop - 1))
    before = sum(gallery.sizes[:first])
    window = slice(before, before + sum(gallery.sizes[first : last + 1]))
    same = gallery.same(rows, window)
    most = max(1, max(gallery.sizes[first : last + 1]) - 1)
    matches = _matches(block[:, window], same, rows.start - window.start).topk(most).values  # [rows, most]
    block[:, window].masked_fill_(same, -torch.inf)
    others = block.topk(min(max(most, kmax), len(points))).values
    # rank(i) = i + the others that are at least as near.
    nearer = torch.searchsorted(-others, -points.tie(rows, matches), right=True)
    return nearer + torch.arange(1, most + 1, device=nearer.device)


def _matches(block: Tensor, same: Tensor, offset: int) -> Tensor:
    """The block with −∞ at all but the matches; row i itself is column i + offset, if there."""
    matches = block.masked_fill(~same, -torch.inf)
    matches.diagonal(offset).fill_(-torch.inf)
    return matches


def _recall(ahead: Tensor, ks: Sequence[int]) -> dict[int, float]:
    return {k: (ahead < k).double().mean().item() for k in arrays.wholes("K", ks)}
