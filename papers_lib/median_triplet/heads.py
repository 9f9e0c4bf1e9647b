"""The rank-k triplet of Wang et al., "Solving Inefficiency of Self-supervised Representation Learning".

Equation 2, with the sign of its hinge as the public code has it; per query x with positive x⁺,

    ℓ = max(γ d(x, x⁺) − d(x, x⁻_rank-k) + C, 0),        d(x, y) = −s · x·y / (‖x‖ ‖y‖)

where rank-k is the k-th nearest negative. The paper has s = 1, its code 2 (wanggrun/triplet), and
γ = 2, C = 100: the argument lies in [−3s, 3s] + C, so that the hinge is never clipped and the loss is
linear. `margin=None`, the default, leaves constant and hinge out: the same gradient, and a value that
half precision does not round away.

Query i's positive is target i, its negatives are the n − 1 other targets. Which of them is rank k is
found without gradient; then one negative per query is gathered, and q·(z⁻ − γ z⁺) is all there is to
differentiate. Losses are computed in float32 (float64 for float64 features), also under autocast.

Features that are not finite, and rows of zeros, which have no direction, give a loss of NaN whatever the
rank: every target is the positive of a query. So no wait for the device is needed here; the training
loop looks at the loss.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from papers_lib import arrays
from papers_lib.arrays import Array
from papers_lib.compute import exact
from papers_lib.errors import PapersError

Hinge = Literal["relu", "printed"]
Rank = int | float | None


def rank_k_triplet(
    query: Array,
    target: Array,
    k: Rank = None,
    gamma: float = 2.0,
    *,
    margin: float | None = None,
    hinge: Hinge = "relu",
    distance_scale: float = 2.0,
) -> Tensor:
    """Equation 2, mean over the queries, a scalar.

    `hinge="printed"` is the formula as the paper prints it, max(γ d⁺ − d⁻, C), which has no gradient
    at the paper's C = 100, nor at any C ≥ 3s.

    Args:
        query: [n, d] predictions of one view.
        target: [n, d] projections of the other view, row by row of the same images. The gradient
            reaches them, too, unless the caller detaches them.
        k: the negative's rank as `rank` reads it; the default is the median of the negatives.
        gamma: γ, the weight of the positive.
        margin: C; None is the linear loss, γ d⁺ − d⁻.
        distance_scale: s.

    Raises:
        PapersError: shapes that differ, fewer than three images, a rank outside the batch, an unknown
            hinge, or the printed one without margin.
    """
    query, target = _images(query, target, margin, hinge)
    k, z = rank(k, len(query)), _unit(target)  # z: [n, d], rows of length 1
    negative = z[_select(query, z, k)]  # one per query, [n, d]
    return _loss(query, z, negative, gamma, margin, hinge, distance_scale)


def smoothed_triplet(
    query: Array,
    target: Array,
    first: int = 2,
    last: int = 10,
    gamma: float = 2.0,
    *,
    margin: float | None = None,
    hinge: Hinge = "relu",
    distance_scale: float = 2.0,
) -> Tensor:
    """The head of the newest public code: d⁻ is the mean distance of ranks `first` to `last`.

    Everything else as `rank_k_triplet`.

    Raises:
        PapersError: as there, or a batch without that many negatives.
    """
    query, target = _images(query, target, margin, hinge)
    n, first, last = len(query), arrays.whole("first", first), arrays.whole("last", last)
    if not 1 <= first <= last <= n - 1:
        raise PapersError(
            f"ranks {first} to {last} are not among the {n - 1} negatives that a batch of {n} images has; "
            f"give ranks of 1 to {n - 1}, or {last + 1} images or more"
        )
    z = _unit(target)  # [n, d]
    with torch.no_grad():  # which is nearest is no function that has a slope
        nearest = _similarities(query, z).topk(last, dim=1).indices  # [n, last]
    negative = F.embedding_bag(nearest[:, first - 1 :], z, mode="mean")  # [n, d]
    return _loss(query, z, negative, gamma, margin, hinge, distance_scale)


def rank(k: Rank, n: int) -> int:
    """The rank of the negative, 1 (the nearest) to n − 1, in a batch of `n` images.

    Args:
        k: an int is the rank itself; a float between 0 and 1 a fraction of n, rounded, at least 1; None
            is n // 2, which is where `torch.median` of the n − 1 negatives lies.

    Raises:
        PapersError: fewer than three images, or a rank that the batch does not have.
    """
    if n < 3:
        raise PapersError(f"a batch of {n} has no negatives to rank; give three images or more")
    if k is None:
        return n // 2  # the lower median of n − 1, as torch.median has it
    if isinstance(k, bool) or not isinstance(k, int | float) or (isinstance(k, float) and not 0 < k < 1):
        raise PapersError(
            f"k is {k!r}; it must be an int, a fraction between 0 and 1, or None for the median"
        )
    place = k if isinstance(k, int) else max(1, round(k * n))
    if not 1 <= place <= n - 1:
        raise PapersError(f"k={k} is out of range: of {n} images {n - 1} are negatives; give 1 to {n - 1}")
    return place


def selected(query: Array, target: Array, k: Rank = None) -> Tensor:
    """The target that is each query's negative of rank k, [n] int64.

    Exact: as a stable sort of the distances would have it, so that of equally near ones the lower index
    comes first, and the ranks 1 to n − 1 name every other image once.

    Raises:
        PapersError: as `rank_k_triplet`, or features that are not finite or have no direction (a wait
            for the device).
    """
    query, target = _images(query, target)
    k, z = rank(k, len(query)), _unit(target.detach())
    if not (z.isfinite().all() & _unit(query.detach()).isfinite().all()):
        raise PapersError(
            "features hold NaN, infinity or a row of zeros, which have no rank; "
            "lower the learning rate or check the images"
        )
    return _select(query, z, k)


def _images(
    query: Array, target: Array, margin: float | None = None, hinge: str = "relu"
) -> tuple[Tensor, Tensor]:
    """The checked features, [n, d] both."""
    arrays.one_of("hinge", hinge, ("relu", "printed"))
    if hinge == "printed" and margin is None:
        raise PapersError("the printed hinge, max(γ d⁺ − d⁻, C), needs its C; give a margin")
    q, z = arrays.tensor("query", query), arrays.tensor("target", target)
    if q.ndim != 2 or q.shape != z.shape or q.shape[1] == 0:
        raise PapersError(
            f"query and target are {arrays.shape(q)} and {arrays.shape(z)}; both must be [n, d]"
        )
    arrays.together("target", z, q)
    return q, z


def _full(features: Tensor) -> Tensor:
    return features.to(torch.promote_types(features.dtype, torch.float32))


def _unit(features: Tensor) -> Tensor:
    """Rows of length 1 in float32 or float64; a row of zeros becomes NaN, not a gradient of 1e12."""
    features = _full(features)
    lengths: Tensor = torch.linalg.vector_norm(features, dim=1, keepdim=True)  # [n, 1]
    return features / lengths


@exact()
def _similarities(query: Tensor, z: Tensor) -> Tensor:
    """Each query's similarities to all targets, [n, n], up to the query's length; its positive is last."""
    return (_full(query) @ z.T).fill_diagonal_(-torch.inf)


@torch.no_grad()
def _select(query: Tensor, z: Tensor, k: int) -> Tensor:
    """The index of the k-th nearest target, [n]."""
    s = _similarities(query, z)
    kth, place = s.kthvalue(len(s) - k + 1, dim=1, keepdim=True)  # [n, 1]
    equal = s == kth
    # Without ties kthvalue's own place is the answer; on other devices looking is a wait.
    if s.device.type == "cpu" and int(equal.count_nonzero()) == len(s):
        return place.squeeze(1)
    # Of those as near as the k-th, the one that makes k complete, counted from the lowest index.
    missing = k - (s > kth).sum(1, keepdim=True, dtype=torch.int32)  # [n, 1]
    reached = equal.cumsum(1, dtype=torch.int32) == missing  # [n, n]
    return reached.to(torch.uint8).argmax(1)


def _loss(
    query: Tensor,
    z: Tensor,
    negative: Tensor,
    gamma: float,
    margin: float | None,
    hinge: Hinge,
    distance_scale: float,
) -> Tensor:
    """The mean over the queries of what Equation 2 makes of unit targets and negatives, [n, d] each."""
    # γ d⁺ − d⁻ = s q·(z⁻ − γ z⁺) / ‖q‖
    q = _full(query)  # [n, d]
    dots = (q * torch.sub(negative, z, alpha=gamma)).sum(1)  # [n], which autocast leaves in full precision
    x = dots * (distance_scale * (q * q).sum(1).rsqrt())  # [n]
    if margin is not None:
        # the public code: max(x + C, 0); as printed: max(x, C)
        x = F.relu(x + margin) if hinge == "relu" else x.clamp(min=margin)
    return x.mean()
