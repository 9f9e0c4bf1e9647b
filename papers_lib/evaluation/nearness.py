"""Blocks of nearness between points, without ever holding all pairs.

Nearness is −D²/2 = a·b − |a|²/2 − |b|²/2, larger is nearer: one matrix product gives a block of it,
and it orders like the Euclidean distance whether or not the points have length 1.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from papers_lib.errors import PapersError

P = ParamSpec("P")
T = TypeVar("T")


def exact(function: Callable[P, T]) -> Callable[P, T]:
    """Run without gradients and with full float32 products, whatever training has allowed."""

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            with torch.no_grad():
                return function(*args, **kwargs)
        finally:
            torch.set_float32_matmul_precision(before)

    return wrapper


@dataclass(frozen=True)
class Points:
    """Points x [N, d] and half their squared norms [N], on one device, float32 or float64."""

    x: Tensor
    half: Tensor

    @staticmethod
    def of(features: Tensor) -> Points:
        """Take features [N, d] of any float type; half precision is computed in float32.

        Raises:
            PapersError: not a matrix, or a value that is not finite.
        """
        if features.ndim != 2:
            raise PapersError(f"features are {tuple(features.shape)}; they must be [N, d]")
        x = features.detach()
        x = x if x.dtype == torch.float64 else x.float()
        # In parts, since the squares of all points would be a second copy of them.
        halves = [part.square().sum(1) / 2 for part in torch.split(x, 8192)]
        half = torch.cat(halves) if halves else x.new_empty(0)
        if not half.isfinite().all():
            raise PapersError("features hold NaN or infinity; the network diverged or its input is broken")
        return Points(x, half)

    def __len__(self) -> int:
        return len(self.half)

    def take(self, order: Tensor) -> Points:
        """The points in another order."""
        return Points(self.x[order], self.half[order])

    def buffer(self, size: int) -> Tensor:
        """Flat working memory for `nearness`, [size]."""
        return self.half.new_empty(size)

    def nearness(self, rows: Tensor | slice, columns: slice, out: Tensor) -> Tensor:
        """Nearness [rows, columns], written to the front of the flat buffer `out`."""
        a, b = self.x[rows], self.x[columns]
        block = out[: len(a) * len(b)].view(len(a), len(b))
        torch.add(self.half[rows][:, None], self.half[columns], out=block)
        return block.addmm_(a, b.T, beta=-1)


def slices(start: int, stop: int, step: int) -> Iterator[slice]:
    """Consecutive slices of about the same length, `step` at most, from `start` to `stop`."""
    count = -(-(stop - start) // step)
    cuts = [start + (stop - start) * i // max(count, 1) for i in range(count + 1)]
    return (slice(a, b) for a, b in itertools.pairwise(cuts))


def pairs(points: Points, groups: Sequence[slice], chunk: int) -> Iterator[tuple[slice, slice, Tensor]]:
    """Every pair of points of two different groups once, as (rows, columns, nearness block).

    `groups` are consecutive slices that cover the points. The rows of a block are of one group, the
    columns of any later ones. Nearness is symmetric, so a block serves its rows and its columns,
    which halves the products. A block is valid until the next one is asked for.
    """
    out = points.buffer(chunk * chunk)
    for group in groups:
        for rows in slices(group.start, group.stop, chunk):
            width = chunk * chunk // (rows.stop - rows.start)
            for columns in slices(group.stop, len(points), width):
                yield rows, columns, points.nearness(rows, columns, out)
