"""Selection of quadruplets over a whole set of embeddings (Karaman et al., Section 3.3).

    random      P, M and N uniform under the class constraints (the baseline, reference [9])
    method_1    N nearest to R; P and M nearest *to N* among those outside the sphere (3.3.1)
    method_2    N nearest to R; P and M nearest *to R* among those outside the sphere (3.3.2)

and two controls that the paper lacks: `nearest_sibling` (Method 2, but M is the sibling nearest to
R) and `furthest_positive` (Method 2, but P is the furthest of R's class). The sphere has centre R
and radius D_RN; outside is strictly outside; of equally near candidates the lowest index wins.

Everything is compared on −D²/2 = a·b − |a|²/2 − |b|²/2, larger is nearer, so that embeddings need
not have length 1, though the paper's losses ask for it. No N×N matrix ever exists. For the whole
set the rows are ordered by coarse type; each pair of types is multiplied once and gives the nearest
row and the nearest column at the same time, which halves the work of a full product.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from papers_lib import arrays
from papers_lib.arrays import Array
from papers_lib.compute import exact
from papers_lib.errors import PapersError
from papers_lib.evaluation.nearness import Points, pairs, slices

Method = Literal["random", "method_1", "method_2", "nearest_sibling", "furthest_positive"]
Sibling = Literal["union", "random"]
Fallback = Literal["furthest_inside", "drop"]
NoSibling = Literal["skip", "mask"]
METHODS: tuple[Method, ...] = get_args(Method)

NEVER = -torch.inf


@dataclass(frozen=True)
class Selection:
    """The quadruplets of M anchors, in the order of the anchors, and how they came about.

    Attributes:
        quadruplets: [M, 4] rows of the features: R (anchor), P (X^{P+}), M (X^{P-}), N.
        positive_fallback: [M] bool, no P lay outside the sphere: the furthest inside was taken.
        sibling_fallback: [M] bool, the same for M.
        valid: [M] bool, False where R has no sibling (`no_sibling="mask"`); its M is R itself.
        left_out: anchors without a quadruplet: `no_positive` (only image of its class),
            `no_sibling` (only class of its type), `dropped` (Method 1 with `m1_fallback="drop"`).
    """

    quadruplets: Tensor
    positive_fallback: Tensor
    sibling_fallback: Tensor
    valid: Tensor
    left_out: dict[str, int]

    @property
    def fallback_counts(self) -> dict[str, int]:
        """How often the fallback chose P and M, and how many anchors were left out and why."""
        positive, sibling = int(self.positive_fallback.sum()), int(self.sibling_fallback.sum())
        return {"positive": positive, "sibling": sibling, **self.left_out}


@exact()
def select(
    features: Array,
    fine: Array,
    coarse: Array,
    method: Method = "method_2",
    *,
    anchors: Array | None = None,
    sibling: Sibling = "union",
    m1_fallback: Fallback = "furthest_inside",
    no_sibling: NoSibling = "skip",
    generator: torch.Generator | None = None,
    chunk: int = 1536,
) -> Selection:
    """Choose P, M and N for every anchor. Whole set, batch, or a few anchors against the set.

    Args:
        features: [N, d], normalised by the caller, on any device; half precision is computed in
            float32.
        fine, coarse: [N] integer labels; each fine class lies in one coarse type.
        method: see the module's head.
        anchors: rows to use as R, in this order, or a Boolean mask [N] (default: all rows).
        sibling: search all sibling classes for M, or draw one first (3.3.2 read literally).
        m1_fallback: as Method 2's, since the paper gives Method 1 none; or leave such anchors out.
        no_sibling: an anchor whose type has one class is skipped, or kept with `valid` False.
        generator: on the CPU, for random draws (default: torch's global one).
        chunk: working memory is a few matrices of chunk × chunk; the result does not depend on it.

    Raises:
        PapersError: what is no matrix of finite features with an integer label of each kind a row, an
            unknown option, a fine class in two types, a single coarse type, or anchors out of range.
    """
    arrays.one_of("method", method, METHODS)
    arrays.one_of("sibling", sibling, get_args(Sibling))
    arrays.one_of("m1_fallback", m1_fallback, get_args(Fallback))
    arrays.one_of("no_sibling", no_sibling, get_args(NoSibling))
    chunk = arrays.whole("chunk", chunk)
    points = Points.of(features)
    labels = _labels(
        *(
            arrays.integers(name, given, len(points)).to(points.x.device)
            for name, given in (("fine", fine), ("coarse", coarse))
        )
    )
    rows, left_out = _usable(labels, _anchors(anchors, labels), no_sibling)
    if method == "random":
        return _random(labels, rows, sibling, generator, left_out)
    drawn = None if sibling == "union" else _draw_class(labels, rows, _uniform(rows, generator))
    space = _Space(points, labels.fine, labels.coarse)
    by = _by_types if 2 * len(rows) > len(points) > chunk else _by_rows
    found = by(space, rows, drawn, method, chunk)
    return _assemble(labels, rows, found, left_out, method == "method_1" and m1_fallback == "drop")


# Labels ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Labels:
    """Labels as 0, 1, 2, …, and how many share them; all tensors are [N] unless said."""

    fine: Tensor
    coarse: Tensor
    class_size: Tensor
    type_size: Tensor
    type_of_class: Tensor  # [classes]


def _labels(fine: Tensor, coarse: Tensor) -> _Labels:
    fine_names, fine, class_sizes = torch.unique(fine, return_inverse=True, return_counts=True)
    _, coarse, type_sizes = torch.unique(coarse, return_inverse=True, return_counts=True)
    coarse = type_sizes.argsort(descending=True, stable=True).argsort()[coarse]  # largest first
    type_sizes = coarse.bincount()
    if len(type_sizes) < 2:
        raise PapersError("all images are of one coarse type, so none has a negative; use finer types")
    type_of_class = torch.empty_like(fine_names, dtype=torch.long)
    type_of_class[fine] = coarse
    split = type_of_class[fine] != coarse
    if split.any():
        name = fine_names[fine[split][0]].item()
        raise PapersError(f"fine class {name} lies in two coarse types; give each class one type")
    return _Labels(fine, coarse, class_sizes[fine], type_sizes[coarse], type_of_class)


def _anchors(anchors: Array | None, labels: _Labels) -> Tensor:
    count, device = len(labels.fine), labels.fine.device
    if anchors is None:
        return torch.arange(count, device=device)
    return arrays.rows("anchors", anchors, count).to(device)


def _usable(labels: _Labels, rows: Tensor, no_sibling: str) -> tuple[Tensor, dict[str, int]]:
    """The anchors that can have a quadruplet, and why the others cannot."""
    alone = labels.class_size[rows] == 1
    only = (labels.class_size == labels.type_size)[rows] & ~alone & (no_sibling == "skip")
    left_out = {"no_positive": int(alone.sum()), "no_sibling": int(only.sum()), "dropped": 0}
    return rows[~alone & ~only], left_out


# Random members ----------------------------------------------------------------------------------


def _uniform(rows: Tensor, generator: torch.Generator | None) -> Tensor:
    """One number in [0, 1) a row, drawn on the CPU so that every device draws the same."""
    return torch.rand(len(rows), generator=generator, dtype=torch.float64).to(rows.device)


def _draw_class(labels: _Labels, rows: Tensor, u: Tensor) -> Tensor:
    """A sibling class for each row, uniform over the other classes of its type; its own if none."""
    by_type = labels.type_of_class.argsort(stable=True)  # classes, type after type
    count = labels.type_of_class.bincount()
    start = count.cumsum(0) - count
    own, kind = labels.fine[rows], labels.coarse[rows]
    place = by_type.argsort()[own] - start[kind]
    step = 1 + (u * (count[kind] - 1)).long()
    return by_type[start[kind] + (place + step) % count[kind]]


def _random(
    labels: _Labels,
    rows: Tensor,
    sibling: str,
    generator: torch.Generator | None,
    left_out: dict[str, int],
) -> Selection:
    """Uniform members: with the rows ordered by type and class, each set is a slice or two."""
    order = (labels.coarse * (labels.fine.max() + 1) + labels.fine).argsort(stable=True)
    place = order.argsort()
    sizes, types = labels.fine.bincount(), labels.coarse.bincount()
    type_start = types.cumsum(0) - types
    class_start = place.new_full(sizes.shape, len(place)).scatter_reduce(0, labels.fine, place, "amin")
    own, kind = labels.fine[rows], labels.coarse[rows]
    start, size = class_start[own], sizes[own]

    p = start + (_uniform(rows, generator) * (size - 1)).long()
    p = p + (p >= place[rows])  # jump over R
    n = (_uniform(rows, generator) * (len(place) - types[kind])).long()
    n = n + types[kind] * (n >= type_start[kind])  # jump over R's type
    if sibling == "random":
        drawn = _draw_class(labels, rows, _uniform(rows, generator))
        m = class_start[drawn] + (_uniform(rows, generator) * sizes[drawn]).long()
    else:
        m = type_start[kind] + (_uniform(rows, generator) * (types[kind] - size)).long()
        m = m + size * (m >= start)  # jump over R's class
        m = m.clamp(max=len(place) - 1)  # no sibling at all: `_assemble` puts R there
    none = torch.zeros_like(rows, dtype=torch.bool)
    return _assemble(labels, rows, _Found(order[p], order[m], order[n], none, none), left_out)


# Nearest members ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """For each anchor the rows of P, M and N, and whether P and M are fallbacks."""

    p: Tensor
    m: Tensor
    n: Tensor
    p_fallback: Tensor
    m_fallback: Tensor


@dataclass(frozen=True)
class _Space:
    """The points that are compared, and their labels."""

    points: Points
    fine: Tensor
    coarse: Tensor

    def take(self, order: Tensor) -> _Space:
        """The same in another order."""
        return _Space(self.points.take(order), self.fine[order], self.coarse[order])


def _by_rows(space: _Space, rows: Tensor, drawn: Tensor | None, method: str, chunk: int) -> _Found:
    """A few anchors against all points: one block of rows gives N, P and M."""
    points, count = space.points, len(space.points)
    step = max(1, chunk * chunk // count)
    everything = slice(0, count)
    step = min(step, max(1, len(rows)))
    near, toward = points.buffer(step * count), points.buffer(step * count)
    parts: list[tuple[Tensor, ...]] = []
    for some in slices(0, len(rows), step):
        r = rows[some]
        s = points.nearness(r, everything, near)
        other = space.coarse != space.coarse[r, None]
        s_n, n = torch.where(other, s, NEVER).max(1)
        t = points.nearness(n, everything, toward) if method == "method_1" else s
        same, sibling = _members(space, r, everything, None if drawn is None else drawn[some])
        parts.append((n, *_positives(s, t, s_n, same, sibling & ~other, method)))
    n, p, m, p_fallback, m_fallback = _concatenate(parts, rows)
    return _Found(p, m, n, p_fallback, m_fallback)


def _by_types(space: _Space, rows: Tensor, drawn: Tensor | None, method: str, chunk: int) -> _Found:
    """All or most anchors: points ordered by type, N from pairs of types, P and M within a type."""
    order = space.coarse.argsort(stable=True)
    kinds = _type_slices(space.coarse)
    space = space.take(order)
    points = space.points
    nearest, negative = _negatives(points, kinds, order, chunk)
    place = order.argsort()
    largest = max(kind.stop - kind.start for kind in kinds)
    near, toward = (points.buffer(min(max(chunk * chunk, largest), largest**2)) for _ in "st")
    parts: list[tuple[Tensor, ...]] = []
    slots = []
    for kind in kinds:
        inside = (place[rows] >= kind.start) & (place[rows] < kind.stop)
        slot = inside.nonzero()[:, 0]
        step = max(1, chunk * chunk // (kind.stop - kind.start))
        for some in slices(0, len(slot), step):
            at = slot[some]
            r = place[rows[at]]
            s = points.nearness(r, kind, near)
            n = negative[r]
            t = points.nearness(place[n], kind, toward) if method == "method_1" else s
            same, sibling = _members(space, r, kind, None if drawn is None else drawn[at])
            p, m, *fallbacks = _positives(s, t, nearest[r], same, sibling, method)
            parts.append((n, order[kind.start + p], order[kind.start + m], *fallbacks))
            slots.append(at)
    back = torch.cat(slots).argsort() if slots else rows
    n, p, m, p_fallback, m_fallback = (part[back] for part in _concatenate(parts, rows))
    return _Found(p, m, n, p_fallback, m_fallback)


def _negatives(points: Points, kinds: list[slice], order: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """For each point, its nearest of another type: how near, and its index in `order`."""
    best = torch.full_like(points.half, NEVER)
    index = torch.zeros_like(order)
    out = points.buffer(chunk * chunk)
    for rows, columns, block in pairs(points, kinds, chunk):
        flags = out[: block.numel()].view_as(block)
        for side, other, dim in ((rows, columns, 1), (columns, rows, 0)):
            value, found = _highest(block, order[other], dim, flags)
            tie = (value == best[side]) & (found < index[side])
            better = (value > best[side]) | tie
            best[side] = torch.where(better, value, best[side])
            index[side] = torch.where(better, found, index[side])
    return best, index


def _highest(block: Tensor, names: Tensor, dim: int, flags: Tensor) -> tuple[Tensor, Tensor]:
    """The highest values along `dim`, and the lowest of the names that have them.

    With places counted from 1, the sum of the places of the highest value is one of these places if
    and only if there is one. Three vectorised passes are several times faster than one `max` with
    indices, and the rows with ties are few.
    """
    value = block.amax(dim, keepdim=True)
    torch.eq(block, value, out=flags)
    places = torch.arange(1, len(names) + 1, device=block.device, dtype=block.dtype)
    total = places.new_empty(value.numel())
    # Into `out`, where autocast does not reach.
    torch.mv(flags if dim == 1 else flags.T, places, out=total)
    at = total.long().sub_(1).clamp_(max=len(names) - 1)
    found = names[at]
    missed = (block.gather(dim, at.unsqueeze(dim)) != value).flatten()
    tied = (missed | (total > len(names))).nonzero()[:, 0]
    some = flags.index_select(1 - dim, tied) != 0
    along = names[None, :] if dim == 1 else names[:, None]
    found[tied] = torch.where(some, along, names.max()).amin(dim)
    return value.squeeze(dim), found


def _members(space: _Space, rows: Tensor, columns: slice, drawn: Tensor | None) -> tuple[Tensor, Tensor]:
    """[rows, columns] bool: may the column be P, may it be M? Types are left to the caller."""
    fine, own = space.fine[columns], space.fine[rows, None]
    same, sibling = fine == own, fine != own
    if drawn is not None:
        sibling &= fine == drawn[:, None]
    same[torch.arange(len(rows), device=rows.device), rows - columns.start] = False  # R itself
    return same, sibling


def _positives(
    s: Tensor, t: Tensor, s_n: Tensor, same: Tensor, sibling: Tensor, method: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Columns of P and M, and where each is a fallback.

    Args:
        s: [rows, columns] nearness to R.
        t: [rows, columns] nearness to what the method wants to be near: N in Method 1, else R.
        s_n: [rows] nearness of N to R: the sphere.
    """
    outside = torch.where(s < s_n[:, None], t, NEVER)
    never = torch.zeros_like(s_n, dtype=torch.bool)
    if method == "furthest_positive":
        p, p_fallback = _furthest(s, same), never
    else:
        p, p_fallback = _nearest_outside(s, outside, same)
    if method == "nearest_sibling":
        m, m_fallback = torch.where(sibling, s, NEVER).argmax(1), never
    else:
        m, m_fallback = _nearest_outside(s, outside, sibling)
    return p, m, p_fallback, m_fallback


def _nearest_outside(s: Tensor, outside: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
    """The member with the highest `outside`; where none is there, the furthest inside."""
    value, column = torch.where(members, outside, NEVER).max(1)
    fallback = value == NEVER
    stuck = fallback.nonzero()[:, 0]
    column[stuck] = _furthest(s[stuck], members[stuck])
    return column, fallback


def _furthest(s: Tensor, members: Tensor) -> Tensor:
    return torch.where(members, s, torch.inf).argmin(1)


# Putting together --------------------------------------------------------------------------------


def _assemble(
    labels: _Labels, rows: Tensor, found: _Found, left_out: dict[str, int], drop: bool = False
) -> Selection:
    valid = (labels.class_size < labels.type_size)[rows]
    m = torch.where(valid, found.m, rows)
    quadruplets = torch.stack((rows, found.p, m, found.n), 1)
    m_fallback = found.m_fallback & valid
    keep = ~(found.p_fallback | m_fallback) if drop else torch.ones_like(valid)
    left_out = {**left_out, "dropped": int((~keep).sum())}
    return Selection(quadruplets[keep], found.p_fallback[keep], m_fallback[keep], valid[keep], left_out)


def _concatenate(parts: list[tuple[Tensor, ...]], rows: Tensor) -> tuple[Tensor, ...]:
    none = rows.bool()  # of no anchors; never used otherwise
    return tuple(map(torch.cat, zip(*parts, strict=True))) or (rows, rows, rows, none, none)


def _type_slices(coarse: Tensor) -> list[slice]:
    stops = coarse.bincount().cumsum(0).tolist()
    return [slice(a, b) for a, b in itertools.pairwise([0, *stops])]
