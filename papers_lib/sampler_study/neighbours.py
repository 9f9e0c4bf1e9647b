"""Exact nearest neighbours of every point among all points, by blocks, without an N×N matrix.

The first neighbour of a point is the point itself; of equally near points the lower index comes
first. Nearness is symmetric, so every block of products serves its rows and its columns, which
halves the work.
"""

from __future__ import annotations

import torch
from torch import Tensor

from papers_lib.evaluation.nearness import Points, exact, slices

LOW = 0xFFFFFFFF  # the half of a key that holds the index


@exact
def nearest(points: Points, k: int, chunk: int = 1536) -> tuple[Tensor, Tensor]:
    """The k nearest of each point, itself first: indices [N, k] int64, squared distances [N, k].

    Args:
        points: float32, on any device.
        k: at most N.
        chunk: working memory is a few matrices of chunk × chunk.
    """
    keys = torch.full((len(points), k), torch.iinfo(torch.int64).min, device=points.x.device)
    out = points.buffer(chunk * chunk)
    cuts = list(slices(0, len(points), chunk))
    for at, rows in enumerate(cuts):
        for columns in cuts[at:]:
            block = points.nearness(rows, columns, out)
            if rows == columns:
                block.fill_diagonal_(torch.inf)
            else:
                _merge(keys[columns], block.T.contiguous(), rows.start)
            _merge(keys[rows], block, columns.start)
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
    values, at = _best(block, k)
    both = torch.cat((keys, _pack(values, at + first)), 1)
    keys.copy_(both.topk(k).values)


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


def _pack(values: Tensor, indices: Tensor) -> Tensor:
    """Keys whose order is that of the float32 values and, where these are equal, of −indices."""
    bits = (values + 0.0).view(torch.int32)  # −0 becomes 0
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.long() << 32) | (LOW - indices)


def _unpack(keys: Tensor) -> tuple[Tensor, Tensor]:
    ordered = (keys >> 32).int()
    bits = ordered ^ ((ordered >> 31) & 0x7FFFFFFF)
    return bits.view(torch.float32), LOW - (keys & LOW)
