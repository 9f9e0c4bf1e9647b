"""Person re-identification: mean average precision and CMC of queries against a gallery.

The single-query protocol of Market-1501 (Zheng et al., "Scalable Person Re-identification: A
Benchmark", 2015), with every choice that published code leaves open written down:

* Features are compared by cosine, in float32 or float64; they need not be normalised.
* A query does not see the gallery's images of its own person by its own camera. Images with id −1
  (junk) are nowhere. Images with id 0 (distractors) are never a match, since no query has that id;
  nothing else about 0 is special.
* A match at exactly the similarity of a non-match ranks after it, whatever their order in the
  gallery, so that a collapsed embedding is not perfect.
* Without its own definition of the area under the curve mAP is ambiguous by a point or so, hence
  `ap`: "rectangle" is the mean of the precision at each match (torchreid, scikit-learn), "trapezoid"
  the mean of the precision before and at each match, 1 before the first item (Philbin et al.,
  Oxford 5k, 2007; Market-1501's own evaluation). CMC does not depend on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from papers_lib.errors import PapersError
from papers_lib.evaluation.nearness import exact, slices

Array = Tensor | NDArray[Any]
JUNK = -1
BUFFER = 64 * 2**20  # bytes of working memory: a block of similarities and what belongs to it
PER_MATCH = 64  # bytes that a place for a match takes in a block: index, value, rank, precision…


@exact
def cmc_map(
    query: Array,
    gallery: Array,
    query_ids: Array,
    gallery_ids: Array,
    query_cameras: Array,
    gallery_cameras: Array,
    ap: Literal["rectangle", "trapezoid"] = "rectangle",
    ks: Sequence[int] = (1, 5, 10),
    no_match: Literal["skip", "zero"] = "skip",
    per_query: bool = False,
) -> dict[str, Any]:
    """mAP and CMC as fractions: {"mAP": …, "R1": …, "R5": …, "R10": …, "queries": …, "no_match": …}.

    The similarities exist only as blocks of some queries by the gallery, and no list of neighbours is
    made: the rank of a match is its place among the matches plus the number of other images that are
    at least as similar, found in the sorted values of those.

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
    if ap not in ("rectangle", "trapezoid") or no_match not in ("skip", "zero"):
        raise PapersError(f"ap={ap!r}, no_match={no_match!r}; give rectangle or trapezoid, skip or zero")
    sides = (
        _side("query", query, query_ids, query_cameras),
        _side("gallery", gallery, gallery_ids, gallery_cameras),
    )
    (x, ids, cameras), (y, other_ids, other_cameras) = sides
    if x.shape[1] != y.shape[1]:
        raise PapersError(
            f"queries have {x.shape[1]} dimensions and the gallery {y.shape[1]}; give one network's"
        )
    task = Task.of(ids, other_ids, cameras, other_cameras, y.device)
    if not task.matched.any():
        raise PapersError(
            "no query has a match by another camera; check ids and cameras (without cameras: 0 and 1)"
        )
    precision = torch.zeros(len(x), dtype=torch.float64, device=y.device)
    first = torch.full_like(task.size, torch.iinfo(torch.int64).max)
    for rows, block in _similarities(x, y, task):
        ranks = task.ranks(rows, block)
        precision[rows], first[rows] = average_precision(ranks, task.count[rows], ap), ranks[:, 0]
    counted = task.matched if no_match == "skip" else task.valid
    result = {"mAP": precision[counted].mean().item()}
    result |= {f"R{k}": (first[counted] <= k).double().mean().item() for k in ks}
    counts = {"queries": int(counted.sum()), "no_match": int((task.valid & ~task.matched).sum())}
    return result | counts | ({"AP": precision[counted].tolist()} if per_query else {})


@dataclass(frozen=True)
class Task:
    """Who is whose match. The gallery's images ordered by person, then camera, lie in `order`, so that
    a query's person is a slice of it, and the person by the query's own camera a slice of that.
    """

    order: Tensor  # [G] indices into the gallery
    junk: Tensor  # indices of the gallery's junk
    valid: Tensor  # [Q] bool, not junk
    start: Tensor  # [Q] where the query's person begins in `order`
    size: Tensor  # [Q] images of the person
    own: Tensor  # [Q, 2] the part of these by the query's camera, from start
    count: Tensor  # [Q] matches: of the person, by other cameras

    @staticmethod
    def of(
        query_ids: Tensor,
        gallery_ids: Tensor,
        query_cameras: Tensor,
        gallery_cameras: Tensor,
        device: torch.device,
    ) -> Task:
        """The task for these ids and cameras, each [Q] or [G] integers."""
        valid, junk = query_ids != JUNK, (gallery_ids == JUNK).nonzero().flatten()
        people = torch.cat([query_ids, gallery_ids]).unique(return_inverse=True)[1]
        names, cameras = torch.cat([query_cameras, gallery_cameras]).unique(return_inverse=True)
        query, gallery = (people * len(names) + cameras).split([len(query_ids), len(gallery_ids)])
        keys, order = gallery.sort(stable=True)
        person = query - cameras[: len(query)]  # the key of the person's first camera
        start, stop = torch.searchsorted(keys, person), torch.searchsorted(keys, person + len(names))
        own = torch.stack([torch.searchsorted(keys, query + one) for one in (0, 1)], 1) - start[:, None]
        count = torch.where(valid, stop - start - own[:, 1] + own[:, 0], 0)
        parts = (order, junk, valid, start, stop - start, own, count)
        return Task(*(part.to(device) for part in parts))

    @property
    def matched(self) -> Tensor:
        """[Q] bool: the query has a match."""
        return self.count > 0

    def ranks(self, rows: Tensor, block: Tensor) -> Tensor:
        """[B, P] the ranks of the matches of each row, from 1, ascending; overwrites the block.

        Args:
            rows: [B] queries that have a match.
            block: [B, G] their similarities, any that order the gallery.

        P is the most images of one person among the rows; beyond a row's count ranks mean nothing.
        """
        size, own = self.size[rows, None], self.own[rows]
        place = torch.arange(int(size.max()), device=block.device)
        at = self.order[self.start[rows, None] + torch.minimum(place, size - 1)]
        hidden = (place >= size) | ((place >= own[:, :1]) & (place < own[:, 1:]))
        values = block.gather(1, at).masked_fill_(hidden, -torch.inf).sort(1, descending=True).values
        block.scatter_(1, at, -torch.inf).index_fill_(1, self.junk, -torch.inf)
        return block.shape[1] - torch.searchsorted(_sorted(block), values) + place + 1


def average_precision(ranks: Tensor, count: Tensor, rule: str) -> Tensor:
    """[B] float64 average precision from the ranks [B, P] of each row's first count [B] matches."""
    place = torch.arange(1, ranks.shape[1] + 1, device=ranks.device)
    precision = place.double() / ranks
    if rule == "trapezoid":
        before = ((place - 1).double() / (ranks - 1)).masked_fill_(ranks == 1, 1)
        precision = (precision + before) / 2
    return precision.masked_fill_(place > count[:, None], 0).sum(1) / count


def _sorted(block: Tensor) -> Tensor:
    """Rows ascending; on a CPU in place, by NumPy, whose sort of values alone is vectorised."""
    if block.is_cuda:
        return block.sort(1).values
    block.numpy().sort(axis=1)
    return block


def _similarities(query: Tensor, gallery: Tensor, task: Task) -> Iterator[tuple[Tensor, Tensor]]:
    """Blocks of (queries [B], similarities [B, G]) of all queries with a match, in one buffer.

    Cosine up to the length of the query, which does not change its ranking.
    """
    scale = 1 / torch.linalg.vector_norm(gallery, dim=1).clamp_min_(1e-12)
    active = task.matched.nonzero().flatten()
    row = sum(gallery.shape) * gallery.element_size() + int(task.size.max()) * PER_MATCH
    step = max(1, BUFFER // row)
    out = gallery.new_empty(min(step, len(active)) * len(gallery))
    for part in slices(0, len(active), step):
        rows = active[part]
        block = out[: len(rows) * len(gallery)].view(len(rows), len(gallery))
        torch.mm(query[rows.to(query.device)].to(gallery), gallery.T, out=block)
        yield rows, block.mul_(scale)


def _side(name: str, features: Array, ids: Array, cameras: Array) -> tuple[Tensor, Tensor, Tensor]:
    """Features in float32 or float64, ids and cameras int64 on the CPU; checked."""
    x = torch.as_tensor(features).detach()
    whole = [
        torch.as_tensor(np.array(each)) if isinstance(each, np.ndarray) else each.cpu()
        for each in (ids, cameras)
    ]
    if x.ndim != 2 or any(each.shape != x.shape[:1] for each in whole):
        shapes = ", ".join(str(tuple(each.shape)) for each in (x, *whole))
        raise PapersError(f"{name} features, ids, cameras are {shapes}; they must be [N, d], [N], [N]")
    if any(each.is_floating_point() for each in whole):
        raise PapersError(f"{name} ids and cameras must be integers; convert them")
    x = x if x.dtype == torch.float64 else x.float()
    if not torch.linalg.vector_norm(x, dim=1).isfinite().all():
        raise PapersError(
            f"{name} features hold NaN or infinity; the network diverged or its input is broken"
        )
    return x, whole[0].long(), whole[1].long()
