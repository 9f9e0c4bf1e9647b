"""Exact nearest neighbours of every point among all points, by blocks, without an N×N matrix.

The first neighbour of a point is the point itself; of equally near points the lower index comes
first. Nearness is symmetric, so every block of products serves its rows and its columns, which
halves the work.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor

from papers_lib.evaluation.nearness import Points, exact, slices

MANY = 2  # times k candidates for each row: topk is faster then
LOW = 0xFFFFFFFF  # the half of a key that holds the index


@exact
def nearest(points: Points, k: int, chunk: int = 1024) -> tuple[Tensor, Tensor]:
    """The k nearest of each point, itself first: indices [N, k] int64, squared distances [N, k].

    Args:
        points: float32, on any device.
        k: at most N.
        chunk: working memory is a few matrices of chunk × chunk.
    """
    nothing = _pack(points.half.new_tensor(-torch.inf), LOW)
    keys = nothing.repeat(len(points), k)
    out = points.buffer(chunk * chunk)
    cuts = list(slices(0, len(points), chunk))
    # First every part against itself: where images of a class lie together, few others pass later.
    for rows in cuts:
        block = points.nearness(rows, rows, out).fill_diagonal_(torch.inf)
        _merge(keys[rows], block, rows.start)
    for rows, columns in itertools.combinations(cuts, 2):
        block = points.nearness(rows, columns, out)
        _merge(keys[rows], block, columns.start)
        _merge(keys[columns], block.T, rows.start)
    nearness, indices = _unpack(keys)
    squared = nearness.mul_(-2).clamp_(min=0)
    squared[:, 0] = 0
    return indices, squared


@exact
def squared_distances(points: Points, rows: Tensor, columns: Tensor, chunk: int = 1024) -> Tensor:
    """|x_i − x_j|² of the pairs (rows, columns), both [M]."""
    found = points.buffer(len(rows))
    for part in slices(0, len(rows), chunk):
        i, j = rows[part], columns[part]
        dot = (points.x[i] * points.x[j]).sum(1)
        found[part] = points.half[i] + points.half[j] - dot
    return found.mul_(2).clamp_(min=0)


def _merge(keys: Tensor, block: Tensor, first: int) -> None:
    """Take the candidates of a block, whose columns are the points from `first` on, into `keys`."""
    k = keys.shape[1]
    passed = _where(block >= _unpack(keys[:, -1:])[0])
    if len(passed[0]) > MANY * k * len(keys):
        values, at = _best(block.contiguous(), k)
        keys.copy_(torch.cat((keys, _pack(values, at + first)), 1).topk(k).values)
        return
    rows, columns = passed
    found, own, count = rows.unique_consecutive(return_inverse=True, return_counts=True)
    if not len(found):
        return
    place = torch.arange(len(rows), device=rows.device) - (count.cumsum(0) - count)[own]
    both = keys[0, 0].new_full((len(found), k + int(count.max())), torch.iinfo(torch.int64).min)
    both[:, :k] = keys[found]
    both[own, k + place] = _pack(block[rows, columns], columns + first)
    keys[found] = both.topk(k).values


def _where(flags: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns of the flags that are set, by row."""
    if flags.is_cuda:
        rows, columns = flags.nonzero().unbind(1)
        return rows, columns
    # torch takes six times as long to find few among many.
    turned = not flags.is_contiguous()
    flat = torch.from_numpy(np.flatnonzero((flags.T if turned else flags).numpy()))
    width = flags.shape[0] if turned else flags.shape[1]
    rows, columns = flat // width, flat % width
    if turned:
        order = columns.argsort(stable=True)
        return columns[order], rows[order]
    return rows, columns


def _best(block: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row and where; of equal ones those furthest left."""
    if block.shape[1] <= k:
        at = torch.arange(block.shape[1], device=block.device)
        return block, at.expand_as(block)
    values, at = block.topk(k + 1)
    # topk takes any of the equal values at its border: those rows are sorted.
    tied = (values[:, k] == values[:, k - 1]).nonzero()[:, 0]
    values, at = values[:, :k], at[:, :k]
    if len(tied):
        fully = block[tied].sort(dim=1, descending=True, stable=True)
        values[tied], at[tied] = fully.values[:, :k], fully.indices[:, :k]
    return values, at


def _pack(values: Tensor, indices: Tensor | int) -> Tensor:
    """Keys whose order is that of the float32 values and, where these are equal, of −indices."""
    bits = (values + 0.0).view(torch.int32)  # −0 becomes 0
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.long() << 32) | (LOW - indices)


def _unpack(keys: Tensor) -> tuple[Tensor, Tensor]:
    ordered = (keys >> 32).int()
    bits = ordered ^ ((ordered >> 31) & 0x7FFFFFFF)
    return bits.view(torch.float32), LOW - (keys & LOW)
