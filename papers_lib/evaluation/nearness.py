"""Blocks of nearness between points, without ever holding all pairs.

Nearness is −D²/2 = a·b − |a|²/2 − |b|²/2, larger is nearer: one matrix product gives a block of it,
and it orders like the Euclidean distance whether or not the points have length 1.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from papers_lib import arrays
from papers_lib.arrays import Array

TIE = 16  # units of rounding
PART = 2048  # points at a time, where all would need a second copy
FAR = 15 / 16  # of the squares of all points their mean's: from there on the mean is taken off


@dataclass(frozen=True)
class Points:
    """Points x [N, d] and half their squared norms [N], on one device, float32 or float64."""

    x: Tensor
    half: Tensor

    @staticmethod
    def of(features: Array) -> Points:
        """Take features [N, d] of any float type, half precision in float32, for the order of distances.

        Raises:
            PapersError: as `arrays.features`.
        """
        return Points.at(near_origin(of_ordinary_size(arrays.features("features", features))))

    @staticmethod
    def at(x: Tensor) -> Points:
        """The points as they are."""
        # In parts, since the squares of all points would be a second copy of them.
        return Points(x, torch.cat([part.square().sum(1) / 2 for part in torch.split(x, PART)]))

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
        # a·b − |a|²/2 − |b|²/2
        torch.add(self.half[rows][:, None], self.half[columns], out=block)
        return block.addmm_(a, b.T, beta=-1)

    def tie(self, rows: slice, nearness: Tensor) -> Tensor:
        """What counts as just as near to the rows as `nearness`, [rows] or [rows, …].

        The same pair rounds otherwise in a block of another shape, by units of |a|² and of D².
        """
        half = self.half[rows] if nearness.ndim == 1 else self.half[rows, None]
        return nearness - TIE * torch.finfo(self.half.dtype).eps * (half - nearness)


def of_ordinary_size(x: Tensor) -> Tensor:
    """The points [N, d], by a power of two nearer to 1 where their squares would leave float32."""
    low, high = torch.aminmax(x)
    size = float(torch.maximum(high, -low))
    if size == 0 or 1e-12 < size < 1e12:
        return x
    half = -math.frexp(size)[1] // 2
    return x * 2.0**half * 2.0**half  # in two steps: the whole factor may be beyond float32 itself


def near_origin(x: Tensor) -> Tensor:
    """The points [N, d] about their mean, if that is far away; most are as they come.

    |a|² + |b|² − 2ab rounds by |a|², so that a clump far from the origin loses its distances; and points
    that are all equal become zeros, which no rounding tells apart.
    """
    mean = far_mean(x)
    return x if mean is None else x - mean


def far_mean(x: Tensor) -> Tensor | None:
    """The mean of points [N, d] where it holds nearly all of |x|², else None.

    It is rounded to a power of two below the points' spread, so that to take it off rounds next to nothing
    and distances that were equal stay so; the mean of equal points is exactly they.
    """
    total, squares = x.new_zeros(x.shape[1], dtype=torch.float64), 0.0  # Σ x, Σ |x|²
    for part in torch.split(x, PART):
        wide = part.double()
        total, squares = total + wide.sum(0), squares + float(wide.square().sum())
    mean = total / len(x)  # [d]
    squares, of_mean = squares / len(x), float(mean @ mean)
    if of_mean <= FAR * squares:
        return None
    # The spread per dimension: √((E|x|² − |E x|²) / d).
    if squares - of_mean > 1e-12 * of_mean:  # else rounding alone
        grid = 2.0 ** (math.frexp(math.sqrt((squares - of_mean) / x.shape[1]))[1] - 1)
        mean = (mean / grid).round() * grid
    return mean.to(x)


@dataclass(frozen=True)
class Directions:
    """A gallery whose cosines with queries are asked for, up to a constant of each query.

    Where all directions nearly agree, cosines differ in digits that float32 lacks. Then both sides are
    taken about a common centre c: with unit vectors, q·g = (q − c)·(g − c) − |g − c|²/2 + what q decides.
    """

    rows: Tensor  # [G, d], of any length; about the centre they are those of unit vectors
    scale: Tensor  # [G] that brings the rows of the gallery to length 1; not above 0 where they are broken
    off: Tensor | None  # [G] |g − c|²/2, with a centre

    @staticmethod
    def of(gallery: Tensor, centre: Tensor | None) -> Directions:
        """The rows of `gallery` [G, d]; those of zeros have cosine 0 with everything."""
        lengths = torch.linalg.vector_norm(gallery, dim=1)
        scale = 1 / lengths.clamp_min(1e-12)
        if centre is None:
            return Directions(gallery, scale, None)
        rows = unit(gallery, centre)
        return Directions(rows, scale, (rows.square().sum(1) + (lengths == 0)) / 2)

    def cosines(self, queries: Tensor, out: Tensor | None = None) -> Tensor:
        """[Q, G], of unit queries about the centre (`unit`)."""
        block = torch.mm(queries, self.rows.T, out=out)
        return block.mul_(self.scale) if self.off is None else block.sub_(self.off)


def common_direction(gallery: Tensor) -> Tensor | None:
    """The centre for `Directions`, seen from some thousands of rows; None where directions differ."""
    return far_mean(unit(gallery[:: max(1, len(gallery) // PART)]))


def unit(x: Tensor, centre: Tensor | None = None) -> Tensor:
    """Rows [N, d] brought to length 1, then taken about a centre."""
    rows: Tensor = x / torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min(1e-12)
    return rows if centre is None else rows - centre


def slices(start: int, stop: int, step: int) -> Iterator[slice]:
    """Consecutive slices of about the same length, `step` at most, from `start` to `stop`."""
    count = -(-(stop - start) // step)  # ⌈length / step⌉
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
            # A block keeps chunk² values whatever its height.
            width = chunk * chunk // (rows.stop - rows.start)
            for columns in slices(group.stop, len(points), width):
                yield rows, columns, points.nearness(rows, columns, out)
