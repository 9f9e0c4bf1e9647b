"""Person re-identification: mean average precision and CMC of queries against a gallery.

The single-query protocol of Market-1501 (Zheng et al., "Scalable Person Re-identification: A
Benchmark", 2015), with every choice that published code leaves open written down:

* Features are compared by cosine, in float32 or float64; they need not be normalised.
* A query does not see the gallery's images of its own person by its own camera. Images with id −1
  (junk) are nowhere. Images with id 0 (distractors) are never a match, since no query has that id;
  nothing else about 0 is special.
* A match at exactly the similarity of a non-match ranks after it, whatever their order in the
  gallery, so that a collapsed embedding is not perfect.
* Published mAPs follow two rules that differ by up to a point or so, hence `ap`: "rectangle" is the
  mean of the precision at each match (torchreid, scikit-learn), "trapezoid" the mean of the precision
  before and at each match, 1 before the first item (Philbin et al., Oxford 5k, 2007; Market-1501's
  own evaluation). CMC does not depend on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from papers_lib import arrays
from papers_lib.arrays import Array
from papers_lib.compute import exact
from papers_lib.errors import PapersError
from papers_lib.evaluation.nearness import Directions, common_direction, of_ordinary_size, slices, unit

Ints = NDArray[np.int64]
Rule = Literal["rectangle", "trapezoid"]
NoMatch = Literal["skip", "zero"]
JUNK = -1
BUFFER = 64 * 2**20  # bytes of a block of similarities, with the features of its queries
COUNT = 150  # from so many others a match on, a pass for each match takes less time than a sort


@exact()
def cmc_map(
    query: Array,
    gallery: Array,
    query_ids: Array,
    gallery_ids: Array,
    query_cameras: Array,
    gallery_cameras: Array,
    ap: Rule = "rectangle",
    ks: Sequence[int] = (1, 5, 10),
    no_match: NoMatch = "skip",
    per_query: bool = False,
) -> dict[str, Any]:
    """mAP and CMC as fractions: {"mAP": …, "R1": …, "R5": …, "R10": …, "queries": …, "no_match": …}.

    The similarities exist only as blocks of some queries by the gallery, and no list of neighbours is
    made: the rank of a match is its place among the matches plus the number of other images that are
    at least as similar. Products run on the gallery's device, ranking on the CPU.

    Args:
        query, gallery: [Q, d] and [G, d] float; the gallery's device and type are computed in.
        query_ids, gallery_ids: [Q] and [G] integers; −1 is left out everywhere.
        query_cameras, gallery_cameras: [Q] and [G] integers. Data without cameras: all 0 and all 1.
        ap: the rule of average precision, see the module.
        ks: CMC@k is the share of queries whose first match is among the first k images they see.
        no_match: a query with no match by another camera is left out, or counts 0 everywhere.
        per_query: adds "AP", a list by query in their order, of the queries that count.

    Returns:
        "queries" is the number that the means are over, "no_match" how many had nothing to find.

    Raises:
        PapersError: shapes that do not fit, an unknown rule, features that are not finite, or no
            query with a match.
    """
    if ap not in get_args(Rule) or no_match not in get_args(NoMatch):
        raise PapersError(f"ap={ap!r}, no_match={no_match!r}; give rectangle or trapezoid, skip or zero")
    ks = arrays.wholes("K", ks)
    # x [Q, d], y [G, d]; ids and cameras [Q], [G]
    x, ids, cameras = _side("query", query, query_ids, query_cameras)
    y, other_ids, other_cameras = _side("gallery", gallery, gallery_ids, gallery_cameras)
    if x.shape[1] != y.shape[1]:
        raise PapersError(f"queries have {x.shape[1]} dimensions, the gallery {y.shape[1]}; embed both alike")
    task = Task.of(ids, other_ids, cameras, other_cameras)
    if not task.matched.any():
        raise PapersError(
            "no query has a match by another camera; check ids and cameras (without cameras: 0 and 1)"
        )
    precision, first = np.zeros(len(x)), np.full(len(x), np.inf)  # AP and rank of the first match, by query
    for q, row in _similarities(x, y, task):
        ranks = task.ranks(q, row)
        precision[q], first[q] = average_precision(ranks, ap), ranks[0]
    counted = task.matched if no_match == "skip" else task.valid
    result = {"mAP": float(precision[counted].mean())}
    result |= {f"R{k}": float((first[counted] <= k).mean()) for k in ks}
    counts = {"queries": int(counted.sum()), "no_match": int((task.valid & ~task.matched).sum())}
    return result | counts | ({"AP": precision[counted].tolist()} if per_query else {})


@dataclass(frozen=True)
class Task:
    """Who is whose match.

    In `order` the gallery's images lie by person, then camera. A query's person is the slice from
    `start` to `stop`, and the person by the query's own camera the slice `unseen` within that one.
    """

    order: Ints  # [G] indices into the gallery
    junk: Ints  # indices of the gallery's junk
    valid: NDArray[np.bool_]  # [Q] not junk
    start: Ints  # [Q]
    stop: Ints  # [Q]
    unseen: Ints  # [Q, 2], from start
    matched: NDArray[np.bool_]  # [Q] not junk, and with a match

    @staticmethod
    def of(query_ids: Ints, gallery_ids: Ints, query_cameras: Ints, gallery_cameras: Ints) -> Task:
        """The task for these ids and cameras, [Q] or [G]."""
        # Each side's key: person · cameras + camera, so that one sort groups by person, then camera.
        people = np.unique(np.concatenate([query_ids, gallery_ids]), return_inverse=True)[1]
        names, cameras = np.unique(np.concatenate([query_cameras, gallery_cameras]), return_inverse=True)
        query, gallery = np.split(people * len(names) + cameras, [len(query_ids)])
        order = np.argsort(gallery)
        person = query - cameras[: len(query)]  # the key of the person's first camera
        keys = np.stack([person, person + len(names), query, query + 1])  # [4, Q]
        start, stop, first, last = np.searchsorted(gallery[order], keys)
        valid = query_ids != JUNK
        matched = valid & (stop - start > last - first)  # an image by another camera
        unseen = np.stack([first - start, last - start], 1)
        return Task(order, np.flatnonzero(gallery_ids == JUNK), valid, start, stop, unseen, matched)

    def ranks(self, q: int, row: NDArray[np.floating]) -> Ints:
        """The ranks of the matches of a query, from 1, ascending.

        Only what is at least as similar as the last match is sorted or counted.

        Args:
            q: a query that has a match.
            row: [G] its similarities, −∞ for junk; overwritten.
        """
        person = self.order[self.start[q] : self.stop[q]]
        matches, (first, last) = row[person], self.unseen[q]
        if first < last:
            matches = np.concatenate((matches[:first], matches[last:]))
        matches.sort()  # ascending: the last match first
        row[person] = -np.inf
        others = row.take(np.flatnonzero(row >= matches[0]))
        # How many others are at least as similar as each match.
        if len(others) > COUNT * len(matches):
            ahead = np.array([np.count_nonzero(others >= match) for match in matches])
        else:
            others.sort()
            ahead = len(others) - others.searchsorted(matches)
        return ahead[::-1] + np.arange(1, len(matches) + 1)


def average_precision(ranks: Ints, rule: Rule) -> float:
    """Average precision from the ranks of all matches, from 1, ascending."""
    place = np.arange(1, len(ranks) + 1)
    precision = place / ranks  # at match n of rank r: n / r
    if rule == "trapezoid":
        # Before it (n − 1) / (r − 1), and 1 before the first item; the mean of both.
        before = (place - 1) / np.maximum(ranks - 1, 1)
        before[0] = before[0] if ranks[0] > 1 else 1
        precision = (precision + before) / 2
    return float(precision.sum() / len(ranks))


def _similarities(query: Tensor, gallery: Tensor, task: Task) -> Iterator[tuple[int, NDArray[np.floating]]]:
    """Each query that has a match, with its similarities [G]: a row of a block, free to overwrite.

    Cosine up to what the query alone decides, which does not change its ranking.
    """
    gallery = of_ordinary_size(gallery)
    centre = common_direction(gallery)
    directions = Directions.of(gallery, centre)
    active = np.flatnonzero(task.matched)
    step = max(1, BUFFER // (sum(gallery.shape) * gallery.element_size()))
    out = gallery.new_empty(min(step, len(active)) * len(gallery))
    for part in slices(0, len(active), step):
        few = torch.from_numpy(active[part])
        block = out[: len(few) * len(gallery)].view(len(few), len(gallery))  # [q, G]
        directions.cosines(unit(of_ordinary_size(query[few.to(query.device)].to(gallery)), centre), block)
        rows = block.cpu().numpy()
        rows[:, task.junk] = -np.inf
        yield from zip(few.tolist(), rows, strict=True)


def _side(name: str, features: Array, ids: Array, cameras: Array) -> tuple[Tensor, Ints, Ints]:
    """Features in float32 or float64, ids and cameras as arrays; checked."""
    x = arrays.features(f"{name} features", features)
    people, seen = (
        arrays.integers(f"{name} {what}", values, len(x)).cpu().numpy()
        for what, values in (("ids", ids), ("cameras", cameras))
    )
    return x, people, seen
