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
from typing import Literal, NamedTuple, get_args

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

NEVER = -torch.inf  # nearer than nothing


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

    def part(self, some: slice | Tensor) -> Selection:
        """The quadruplets of some of the anchors."""
        return Selection(
            self.quadruplets[some],
            self.positive_fallback[some],
            self.sibling_fallback[some],
            self.valid[some],
            self.left_out,
        )

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
    labels = _Labels.of(fine, coarse, points)
    rows = torch.arange(len(points)) if anchors is None else arrays.rows("anchors", anchors, len(points))
    rows = rows.to(points.x.device)
    alone = ~labels.has_positive[rows]
    only = ~labels.has_sibling[rows] & ~alone & (no_sibling == "skip")
    left_out = {"no_positive": int(alone.sum()), "no_sibling": int(only.sum()), "dropped": 0}
    rows = rows[~alone & ~only]  # [M]

    if method == "random":
        members = _random(labels, rows, sibling, generator)
    else:
        drawn = None if sibling == "union" else _draw_class(labels, rows, generator)
        whole = 2 * len(rows) > len(points) > chunk
        members = (_by_types if whole else _by_rows)(points, labels, rows, drawn, method, chunk)

    p, m, n, p_fallback, m_fallback = members
    valid = labels.has_sibling[rows]
    quadruplets = torch.stack((rows, p, torch.where(valid, m, rows), n), 1)  # [M, 4]
    selection = Selection(quadruplets, p_fallback.bool(), m_fallback.bool() & valid, valid, left_out)
    if method == "method_1" and m1_fallback == "drop":
        inside = selection.positive_fallback | selection.sibling_fallback
        left_out["dropped"] = int(inside.sum())
        selection = selection.part(~inside)
    return selection


# Labels ------------------------------------------------------------------------------------------


class _Labels(NamedTuple):
    """Labels as 0, 1, 2, …, types by their size; all tensors are [N] unless said."""

    fine: Tensor
    coarse: Tensor
    has_positive: Tensor  # bool, another image of the class
    has_sibling: Tensor  # bool, another class of the type
    type_of_class: Tensor  # [classes]

    @staticmethod
    def of(fine: Array, coarse: Array, points: Points) -> _Labels:
        """Labels of `points`, on their device."""
        count, where = len(points), points.x.device
        given = arrays.integers("fine", fine, count).to(where)
        names, of_class, class_sizes = torch.unique(given, return_inverse=True, return_counts=True)
        given = arrays.integers("coarse", coarse, count).to(where)
        _, of_type, type_sizes = torch.unique(given, return_inverse=True, return_counts=True)
        # The largest first: in pairs of types, blocks are then as few and as wide as they can be.
        of_type = type_sizes.argsort(descending=True, stable=True).argsort()[of_type]
        type_sizes = of_type.bincount()
        if len(type_sizes) < 2:
            raise PapersError("all images are of one coarse type, so none has a negative; use finer types")
        type_of_class = torch.empty_like(names)
        type_of_class[of_class] = of_type
        torn = type_of_class[of_class] != of_type
        if torn.any():
            name = names[of_class[torn][0]].item()
            raise PapersError(f"fine class {name} lies in two coarse types; give each class one type")
        class_size, type_size = class_sizes[of_class], type_sizes[of_type]  # [N]
        return _Labels(of_class, of_type, class_size > 1, class_size < type_size, type_of_class)


# Random members ----------------------------------------------------------------------------------
# Members of A anchors are [5, A]: the rows of P, M and N, and 1 where P and M are fallbacks.


def _uniform(rows: Tensor, generator: torch.Generator | None) -> Tensor:
    """One number in [0, 1) per row, drawn on the CPU so that every device draws the same."""
    return torch.rand(len(rows), generator=generator, dtype=torch.float64).to(rows.device)


def _draw_class(labels: _Labels, rows: Tensor, generator: torch.Generator | None) -> Tensor:
    """A sibling class for each row, uniform over the other classes of its type; its own if none."""
    by_type = labels.type_of_class.argsort(stable=True)  # classes, type after type
    count = labels.type_of_class.bincount()
    start = count.cumsum(0) - count
    own, kind = labels.fine[rows], labels.coarse[rows]
    place = by_type.argsort()[own] - start[kind]
    # From its own place 1, 2, … or count − 1 steps around the ring of its type's classes.
    step = 1 + (_uniform(rows, generator) * (count[kind] - 1)).long()
    return by_type[start[kind] + (place + step) % count[kind]]


def _random(labels: _Labels, rows: Tensor, sibling: str, generator: torch.Generator | None) -> Tensor:
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
        drawn = _draw_class(labels, rows, generator)
        m = class_start[drawn] + (_uniform(rows, generator) * sizes[drawn]).long()
    else:
        m = type_start[kind] + (_uniform(rows, generator) * (types[kind] - size)).long()
        m = m + size * (m >= start)  # jump over R's class
        m = m.clamp(max=len(place) - 1)  # no sibling at all: `select` puts R there
    never = torch.zeros_like(rows)
    return torch.stack((order[p], order[m], order[n], never, never))


# Nearest members ---------------------------------------------------------------------------------


def _by_rows(
    points: Points, labels: _Labels, rows: Tensor, drawn: Tensor | None, method: str, chunk: int
) -> Tensor:
    """A few anchors against all points: one block of rows gives N, P and M."""
    everything, names = slice(0, len(points)), torch.arange(len(points), device=rows.device)
    step = min(max(1, chunk * chunk // len(points)), max(1, len(rows)))
    near, toward = points.buffer(step * len(points)), points.buffer(step * len(points))
    members = rows.new_empty(5, len(rows))
    for some in slices(0, len(rows), step):
        r = rows[some]  # [A]
        s = points.nearness(r, everything, near)  # [A, N] to R
        same = labels.fine == labels.fine[r, None]
        other = labels.coarse != labels.coarse[r, None]
        sibling = ~(same | other) if drawn is None else labels.fine == drawn[some, None]
        same[torch.arange(len(r), device=r.device), r] = False  # R itself is no positive

        # N = argmin D_Rx over the other types; D_RN is the radius of the sphere.
        s_n, n = torch.where(other, s, NEVER).max(1)
        t = points.nearness(n, everything, toward) if method == "method_1" else s  # [A, N] to N, or to R
        members[:, some] = _members(s, t, s_n, same, sibling, method, n, names)
    return members


def _by_types(
    points: Points, labels: _Labels, rows: Tensor, drawn: Tensor | None, method: str, chunk: int
) -> Tensor:
    """All or most anchors: points ordered by type, N from pairs of types, P and M within a type."""
    order = labels.coarse.argsort(stable=True)
    place, fine, points = order.argsort(), labels.fine[order], points.take(order)
    stops = labels.coarse.bincount().cumsum(0).tolist()
    types = [slice(start, stop) for start, stop in itertools.pairwise([0, *stops])]
    nearest, negative = _negatives(points, types, order, chunk)  # [N] in the order of the points

    largest = max(kind.stop - kind.start for kind in types)
    near, toward = (points.buffer(min(max(chunk * chunk, largest), largest**2)) for _ in "st")
    members = rows.new_empty(5, len(rows))
    for kind in types:
        inside = (place[rows] >= kind.start) & (place[rows] < kind.stop)
        anchors = inside.nonzero()[:, 0]
        for some in slices(0, len(anchors), max(1, chunk * chunk // (kind.stop - kind.start))):
            at = anchors[some]
            r = place[rows[at]]  # [A]
            s = points.nearness(r, kind, near)  # [A, T] to R, within the type
            same = fine[kind] == fine[r, None]
            sibling = ~same if drawn is None else fine[kind] == drawn[at, None]
            same[torch.arange(len(r), device=r.device), r - kind.start] = False  # R itself is no positive

            n = negative[r]
            t = points.nearness(place[n], kind, toward) if method == "method_1" else s  # [A, T] to N, or to R
            members[:, at] = _members(s, t, nearest[r], same, sibling, method, n, order[kind])
    return members


def _negatives(points: Points, types: list[slice], order: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """For each point, its nearest of another type: how near, and its index in `order`."""
    best = torch.full_like(points.half, NEVER)
    index = torch.zeros_like(order)
    out = points.buffer(chunk * chunk)
    for rows, columns, block in pairs(points, types, chunk):
        flags = out[: block.numel()].view_as(block)
        # Nearness is symmetric: a block serves its rows and its columns.
        for side, other, dim in ((rows, columns, 1), (columns, rows, 0)):
            value, name = _highest(block, order[other], dim, flags)
            tie = (value == best[side]) & (name < index[side])
            better = (value > best[side]) | tie
            best[side] = torch.where(better, value, best[side])
            index[side] = torch.where(better, name, index[side])
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
    winner = names[at]
    missed = (block.gather(dim, at.unsqueeze(dim)) != value).flatten()
    tied = (missed | (total > len(names))).nonzero()[:, 0]
    some = flags.index_select(1 - dim, tied) != 0
    along = names[None, :] if dim == 1 else names[:, None]
    winner[tied] = torch.where(some, along, names.max()).amin(dim)
    return value.squeeze(dim), winner


def _members(
    s: Tensor,
    t: Tensor,
    s_n: Tensor,
    same: Tensor,
    sibling: Tensor,
    method: str,
    n: Tensor,
    names: Tensor,
) -> Tensor:
    """The members [5, A] of anchors whose N is known.

    Args:
        s: [A, T] nearness of the T candidates to R.
        t: [A, T] nearness to what the method wants to be near: N in Method 1, else R.
        s_n: [A] nearness of N to R: the sphere.
        same, sibling: [A, T] bool, may the candidate be P, may it be M?
        method: which rule.
        n, names: [A] and [T] rows of the N and of the candidates.
    """
    outside = torch.where(s < s_n[:, None], t, NEVER)  # D_Rx > D_RN, strictly
    never = torch.zeros_like(n)
    if method == "furthest_positive":
        p, p_fallback = _furthest(s, same), never
    else:
        p, p_fallback = _nearest_outside(s, outside, same)
    if method == "nearest_sibling":
        m, m_fallback = torch.where(sibling, s, NEVER).argmax(1), never
    else:
        m, m_fallback = _nearest_outside(s, outside, sibling)
    return torch.stack((names[p], names[m], n, p_fallback, m_fallback))


def _nearest_outside(s: Tensor, outside: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
    """The member with the highest `outside`; where none is there, the furthest inside."""
    value, column = torch.where(members, outside, NEVER).max(1)
    fallback = value == NEVER
    stuck = fallback.nonzero()[:, 0]
    column[stuck] = _furthest(s[stuck], members[stuck])
    return column, fallback.long()


def _furthest(s: Tensor, members: Tensor) -> Tensor:
    return torch.where(members, s, torch.inf).argmin(1)
