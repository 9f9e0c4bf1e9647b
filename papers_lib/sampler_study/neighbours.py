"""Exact nearest neighbours of every point among all points, by blocks, without an N×N matrix.

The first neighbour of a point is the point itself; of equally near points the lower index comes
first. Nearness is symmetric, so every block of products serves its rows and its columns, which
halves the work. Where the processor multiplies bfloat16 faster, a search in bfloat16 finds more
candidates than asked for, float32 ranks them, and a bound on the rounding proves for each point that
no other can be among the nearest (but for the rounding of float32 itself); the few points without
proof are searched again in float32.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from papers_lib.compute import exact
from papers_lib.evaluation.nearness import Points, slices

MANY = 2  # times k candidates for each row: topk is faster then
LOW = 0xFFFFFFFF  # the half of a key that holds the index
NEVER = torch.iinfo(torch.int64).min


@exact()
def nearest(points: Points, k: int, chunk: int = 1024) -> tuple[Tensor, Tensor]:
    """The k nearest of each point, itself first: indices [N, k] int64, squared distances [N, k].

    Args:
        points: float32, on any device.
        k: at most N.
        chunk: working memory is a few matrices of chunk × chunk, and half the points' own where
            bfloat16 is used.
    """
    keys = _screened(points, k, chunk) if _screening_pays(points, k) else None
    if keys is None:
        keys = _search(points.nearness, points.half, k, chunk)
    nearness, indices = _unpack(keys)
    squared = nearness.mul_(-2).clamp_(min=0)
    squared[:, 0] = 0
    return indices, squared


@exact()
def squared_distances(points: Points, rows: Tensor, columns: Tensor) -> Tensor:
    """|x_i − x_j|² of the pairs (rows, columns), both [M]; the rows ascend."""
    return _nearness_of(points, rows, columns).mul_(-2).clamp_(min=0)


def _nearness_of(points: Points, rows: Tensor, columns: Tensor) -> Tensor:
    """Nearness of the pairs (rows, columns), both [M]; the rows ascend."""
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
    return dot.sub_(points.half[rows]).sub_(points.half[columns])


# Candidates in bfloat16 ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rounded:
    """The points about their mean in bfloat16, and how far from nearness theirs can be."""

    x: Tensor  # [N, d] bfloat16
    half: Tensor  # [N] float32, half the squared norms about the mean
    off: Tensor  # [N] float32, a bound for all pairs of the point

    @staticmethod
    def of(points: Points) -> _Rounded:
        """Distances do not depend on the mean, the rounding of products does."""
        mean = points.x.mean(0)
        x = torch.empty_like(points.x, dtype=torch.bfloat16)
        half, lost = torch.empty_like(points.half), torch.empty_like(points.half)
        for part in slices(0, len(points), 1024):
            centred = points.x[part] - mean
            x[part] = centred
            half[part] = centred.square().sum(1) / 2
            lost[part] = centred.sub_(x[part]).norm(dim=1)
        norm = (2 * half).sqrt() + lost
        most = norm.max()
        # |a·b − a'·b'| ≤ |a − a'| |b| + |a'| |b − b'|, and the product is rounded again …
        off = lost * most + norm * lost.max() + 2**-8 * norm * most
        # … after sums of d terms in float32, which hold for the half squares, too.
        off += x.shape[1] * 2**-23 * most.square()
        return _Rounded(x, half, off + 1e-6 * points.half.max())

    def nearness(self, rows: slice, columns: slice, out: Tensor) -> Tensor:
        """Nearness [rows, columns] within `off`, written to the front of the flat buffer `out`."""
        product = self.x[rows] @ self.x[columns].T
        block = out[: product.numel()].view_as(product)
        return torch.sub(product, self.half[rows, None], out=block).sub_(self.half[columns])


def _screening_pays(points: Points, k: int) -> bool:
    """Whether the processor has bfloat16 products (as far as torch tells), and enough to multiply."""
    known = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    fast = any(getattr(torch.cpu, name, bool)() for name in known)
    return points.x.device.type == "cpu" and fast and len(points) >= 100 * k and points.x.shape[1] >= 512


def _screened(points: Points, k: int, chunk: int) -> Tensor | None:
    """Keys of the k nearest by way of bfloat16; None where too few can be proven."""
    rounded = _Rounded.of(points)
    off, wide = rounded.off, min(2 * k + 8, len(points))
    keys = _search(rounded.nearness, points.half, wide, chunk)
    del rounded
    beyond = _unpack(keys[:, -1])[0] + off  # the nearest that a point outside the list can be
    keys = torch.cat([_ranked(points, part, keys[part], k) for part in slices(0, len(points), 2048)])
    unproven = (_unpack(keys[:, -1])[0] <= beyond).nonzero()[:, 0]
    if wide == len(points) or not len(unproven):
        return keys
    if len(unproven) > len(points) // 4:
        return None
    keys[unproven] = _directly(points, unproven, k, chunk)
    return keys


def _ranked(points: Points, rows: slice, keys: Tensor, k: int) -> Tensor:
    """Keys of the k nearest of consecutive rows among their candidates, in float32."""
    columns = _unpack(keys)[1].sort(dim=1).values
    row = torch.arange(rows.start, rows.stop)[:, None].expand_as(columns)
    values = _nearness_of(points, row.ravel(), columns.ravel()).view_as(columns)
    values.masked_fill_(columns == row, torch.inf)
    return _pack(values, columns).topk(k).values


def _directly(points: Points, rows: Tensor, k: int, chunk: int) -> Tensor:
    """Keys of the k nearest of some rows, in float32."""
    step = max(1, chunk * chunk // len(points))
    out, keys = points.buffer(step * len(points)), []
    for part in rows.split(step):
        block = points.nearness(part, slice(0, len(points)), out)
        block[torch.arange(len(part)), part] = torch.inf
        keys.append(_pack(*_best(block, k)).topk(k).values)  # equal ones by index
    return torch.cat(keys)


# The search by blocks ------------------------------------------------------------------------------


def _search(nearness: Callable[[slice, slice, Tensor], Tensor], like: Tensor, k: int, chunk: int) -> Tensor:
    """Sorted keys [N, k] of the k nearest, from a function of blocks of nearness; `like` is [N]."""
    keys = _pack(like.new_tensor(-torch.inf), LOW).repeat(len(like), k)
    out = like.new_empty(chunk * chunk)
    cuts = list(slices(0, len(like), chunk))
    # First every part against itself: where images of a class lie together, few others pass later.
    for rows in cuts:
        _take(keys[rows], nearness(rows, rows, out).fill_diagonal_(torch.inf), rows.start)
    for rows, columns in itertools.combinations(cuts, 2):
        block = nearness(rows, columns, out)
        _merge(keys[rows], block, columns.start)
        _merge(keys[columns], block.T, rows.start)
    return keys


def _merge(keys: Tensor, block: Tensor, first: int) -> None:
    """Take the candidates of a block, whose columns are the points from `first` on, into `keys`."""
    k = keys.shape[1]
    rows, columns = _where(block >= _unpack(keys[:, -1:])[0])
    if len(rows) > MANY * k * len(keys):
        _take(keys, block.contiguous(), first)
    elif len(rows):
        touched, row, count = rows.unique_consecutive(return_inverse=True, return_counts=True)
        place = torch.arange(len(rows), device=rows.device) - (count.cumsum(0) - count)[row]
        both = keys.new_full((len(touched), k + int(count.max())), NEVER)
        both[:, :k] = keys[touched]
        both[row, k + place] = _pack(block[rows, columns], columns + first)
        keys[touched] = both.topk(k).values


def _take(keys: Tensor, block: Tensor, first: int) -> None:
    """As `_merge`, for blocks of which much is taken."""
    values, at = _best(block, keys.shape[1])
    keys.copy_(torch.cat((keys, _pack(values, at + first)), 1).topk(keys.shape[1]).values)


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


# Keys ----------------------------------------------------------------------------------------------


def _pack(values: Tensor, indices: Tensor | int) -> Tensor:
    """Keys whose order is that of the float32 values and, where these are equal, of −indices."""
    bits = (values + 0.0).view(torch.int32)  # −0 becomes 0
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.long() << 32) | (LOW - indices)


def _unpack(keys: Tensor) -> tuple[Tensor, Tensor]:
    ordered = (keys >> 32).int()
    bits = ordered ^ ((ordered >> 31) & 0x7FFFFFFF)
    return bits.view(torch.float32), LOW - (keys & LOW)
