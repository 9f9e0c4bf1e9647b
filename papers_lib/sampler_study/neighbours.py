"""Exact nearest neighbours of every point among all points, by blocks, without an N×N matrix.

The first neighbour of a point is the point itself; of equally near points the lower index comes first.
Nearness is symmetric, so every block of products serves its rows and its columns, which halves the work.

A search carries keys, int64: the float32 nearness above, and below it the index, turned round, so that the
largest key is the nearest point and, of equally near ones, that of the lowest index.
"""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import torch
from torch import Tensor

from papers_lib.compute import exact
from papers_lib.evaluation.nearness import Points, slices

LOW = 0xFFFFFFFF  # the half of a key that holds the index
MANY = 2  # times k candidates for each row: topk of the whole block is faster then


@exact()
def nearest(points: Points, k: int, chunk: int = 1024) -> tuple[Tensor, Tensor]:
    """The k nearest of each point, itself first: indices [N, k] int64, squared distances [N, k].

    Args:
        points: float32, on any device.
        k: at most N.
        chunk: working memory is a few matrices of chunk × chunk.
    """
    keys = _pack(points.half.new_tensor(-torch.inf), LOW).repeat(len(points), k)  # [N, k], sorted
    out = points.buffer(chunk * chunk)
    cuts = list(slices(0, len(points), chunk))
    # First every part against itself: where images of a class lie together, few others pass later.
    for rows in cuts:
        _merge_all(keys[rows], points.nearness(rows, rows, out).fill_diagonal_(torch.inf), rows.start)
    for rows, columns in itertools.combinations(cuts, 2):
        block = points.nearness(rows, columns, out)  # [rows, columns]
        _merge(keys[rows], block, columns.start)
        _merge(keys[columns], block.T, rows.start)
    nearness, indices = _unpack(keys)
    squared = nearness.mul_(-2).clamp_(min=0)  # D² = −2 · nearness
    squared[:, 0] = 0
    return indices, squared


@exact()
def squared_distances(points: Points, rows: Tensor, columns: Tensor) -> Tensor:
    """|x_i − x_j|² of the pairs (rows, columns), both [M]; the rows ascend."""
    x = points.x
    if x.device.type == "cpu":  # seven times as fast as to gather both
        starts = torch.searchsorted(rows, torch.arange(len(x) + 1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # sparse rows are announced as beta
            pairs = torch.sparse_csr_tensor(starts, columns, x.new_zeros(len(columns)), (len(x), len(x)))
            dot: Tensor = torch.sparse.sampled_addmm(pairs, x, x.T).values()
    else:
        parts = zip(rows.split(8192), columns.split(8192), strict=True)
        dot = torch.cat([(x[i] * x[j]).sum(1) for i, j in parts])
    nearness = dot.sub_(points.half[rows]).sub_(points.half[columns])  # a·b − |a|²/2 − |b|²/2
    return nearness.mul_(-2).clamp_(min=0)


def _merge(keys: Tensor, block: Tensor, first: int) -> None:
    """Take the candidates of a block, whose columns are the points from `first` on, into `keys` [rows, k]."""
    k = keys.shape[1]
    rows, columns = _where(block >= _unpack(keys[:, -1:])[0])
    if len(rows) > MANY * k * len(keys):
        _merge_all(keys, block, first)
    elif len(rows):
        touched, row, count = rows.unique_consecutive(return_inverse=True, return_counts=True)
        place = torch.arange(len(rows), device=rows.device) - (count.cumsum(0) - count)[row]
        both = keys.new_full((len(touched), k + int(count.max())), torch.iinfo(torch.int64).min)
        both[:, :k] = keys[touched]
        both[row, k + place] = _pack(block[rows, columns], columns + first)
        keys[touched] = both.topk(k).values


def _merge_all(keys: Tensor, block: Tensor, first: int) -> None:
    """As `_merge`, for blocks of which much is taken."""
    columns = torch.arange(first, first + block.shape[1], device=block.device)
    keys.copy_(torch.cat((keys, _pack(block, columns)), 1).topk(keys.shape[1]).values)


def _where(flags: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns of the flags that are set, by row; the flags may be a transposed block."""
    if flags.device.type != "cpu":
        rows, columns = flags.nonzero().unbind(1)
        return rows, columns
    # torch takes six times as long as numpy to find few among many, and numpy needs them in a line.
    turned = not flags.is_contiguous()
    line = torch.from_numpy(np.flatnonzero((flags.T if turned else flags).numpy()))
    width = flags.shape[0 if turned else 1]
    rows, columns = line // width, line % width
    if not turned:
        return rows, columns
    order = columns.argsort(stable=True)
    return columns[order], rows[order]


def _pack(values: Tensor, indices: Tensor | int) -> Tensor:
    """Keys whose order is that of the float32 values and, where these are equal, of −indices."""
    bits = (values + 0.0).view(torch.int32)  # −0 becomes 0
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # negative floats ascend as integers, too
    return (ordered.long() << 32) | (LOW - indices)


def _unpack(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Values and indices of keys."""
    ordered = (keys >> 32).int()
    bits = ordered ^ ((ordered >> 31) & 0x7FFFFFFF)
    return bits.view(torch.float32), LOW - (keys & LOW)
