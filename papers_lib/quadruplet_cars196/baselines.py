"""The losses that Table 1 compares with, on one class-balanced batch each.

Every loss takes embeddings [B, D] and labels [B] and gives a scalar, a mean over what it sums. Embeddings
have length 1, but for Lifted Structure and N-pairs. Reference numbers are the paper's.
Margins are those of the cited papers where a batch of unit vectors leaves them a meaning, and
pytorch-metric-learning's defaults else.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from papers_lib import arrays
from papers_lib.arrays import Array
from papers_lib.compute import exact
from papers_lib.errors import PapersError


@exact(gradients=True)
def semi_hard(embeddings: Array, labels: Array, margin: float = 0.2) -> Tensor:
    """FaceNet [18]: [D_RP² − D_RN² + m]₊ over triplets with D_RP² < D_RN² < D_RP² + m."""
    return _triplets(*_batch(embeddings, labels), margin, semi_hard=True)


@exact(gradients=True)
def lifted(embeddings: Array, labels: Array, margin: float = 1.0) -> Tensor:
    """Lifted structure [21]: ½ [log Σ exp(m − D_neg) + D_pos]₊² over the positive pairs; the sum
    runs over the negatives of both ends. No positive pair costs 0.

    It is meant for embeddings of their own length (setting `normalise`), as the authors of [21] train it.
    On the unit sphere no distance passes 2, so that two hundred negatives weigh nearly alike.
    """
    embeddings, labels = _batch(embeddings, labels)
    d = _distances(embeddings)  # [B, B]
    same = labels[:, None] == labels
    # log Σ_{n: y_n ≠ y_i} exp(m − D_in), [B]
    ends = (margin - d).masked_fill(same, -torch.inf).logsumexp(1)
    a, b = same.triu(1).nonzero().T  # [pairs] each
    hinge = F.relu(torch.logaddexp(ends[a], ends[b]) + d[a, b])
    return hinge.square().sum() / (2 * max(1, len(a)))


@exact(gradients=True)
def n_pairs(embeddings: Array, labels: Array, penalty: float = 0.002) -> Tensor:
    """N-pairs [4]: cross-entropy of an anchor's product with its positive against other positives.

    One pair per class. Embeddings keep their own length, on which the scale of the products rests, and
    penalty · mean |x|² holds it down: on the unit sphere the loss could hardly fall.
    """
    from pytorch_metric_learning.distances import DotProductSimilarity
    from pytorch_metric_learning.losses import NPairsLoss

    embeddings, labels = _batch(embeddings, labels)
    products = DotProductSimilarity(normalize_embeddings=False)
    loss: Tensor = NPairsLoss(distance=products)(embeddings, labels)
    return loss + penalty * embeddings.square().sum(1).mean()


@exact(gradients=True)
def triplet_global(
    embeddings: Array, labels: Array, margin: float = 0.2, t: float = 0.4, lg: float = 1.0
) -> Tensor:
    """Kumar et al. [20]: a triplet loss (Eq. 2 over all triplets) plus the global loss of two kinds of
    pairs, var D₊ + var D₋ + λ [μ₊ − μ₋ + t]₊ with D² / 4 in the place of D.

    t is the difference t1 − t2 of the quadruplet paper, and λ its λ_g1.
    """
    embeddings, labels = _batch(embeddings, labels)
    triplet = _triplets(embeddings, labels, margin, semi_hard=False)
    same = (labels[:, None] == labels).triu(1)  # [B, B], each pair once
    other = (labels[:, None] != labels).triu(1)
    if not (same.any() and other.any()):
        return triplet
    quarter = _distances(embeddings).square() / 4
    near, far = quarter[same], quarter[other]
    variances = near.var(correction=0) + far.var(correction=0)  # var D₊ + var D₋
    # … + λ [μ₊ − μ₋ + t]₊
    return triplet + variances + lg * F.relu(near.mean() - far.mean() + t)


def _triplets(x: Tensor, labels: Tensor, margin: float, semi_hard: bool) -> Tensor:
    """Mean [D_RP² − D_RN² + m]₊ over the triplets of a batch: the semi-hard ones, or all."""
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.losses import TripletMarginLoss
    from pytorch_metric_learning.miners import TripletMarginMiner
    from pytorch_metric_learning.reducers import MeanReducer

    squared = LpDistance(power=2)
    miner = TripletMarginMiner(margin=margin, type_of_triplets="semihard", distance=squared)
    triplets = miner(x, labels) if semi_hard else None  # None: all of them
    hinge = TripletMarginLoss(margin=margin, distance=squared, reducer=MeanReducer())
    loss: Tensor = hinge(x, labels, triplets)
    return loss


# Clustering: facility location -------------------------------------------------------------------


@exact(gradients=True)
def facility_location(embeddings: Array, labels: Array, gamma: float = 1.0) -> Tensor:
    """ "Clustering" [22] (Song et al., CVPR 2017): the structured hinge

        (1/B) [ max_S { F(S) + γ Δ(S) } − F̃ ]₊

    F(S) = −Σ_i min_{j ∈ S} D_ij is the facility-location score of a set of medoids S, as many as
    the batch has classes; Δ(S) = 1 − NMI of the clusters of S with the labels; F̃ is the score of
    the best medoid of each class. The maximum is sought greedily (`greedy_medoids`); the original's
    local search afterwards (PAM) is left out. The original is a sum over the batch; this is its mean.
    """
    embeddings, labels = _batch(embeddings, labels)
    d = _distances(embeddings)  # [B, B]
    with torch.no_grad():
        medoids = greedy_medoids(d, labels, gamma)  # S
        margin = gamma * (1 - nmi_of_clusters(d[medoids].argmin(0)[None], labels)[0])  # γ Δ(S)
    # (1/B) [F(S) + γ Δ(S) − F̃]₊
    hinge = facility_score(d, medoids) + margin - oracle_score(d, labels)
    return F.relu(hinge) / len(labels)


def facility_score(d: Tensor, medoids: Tensor) -> Tensor:
    """F(S) = −Σ_i min_{j ∈ S} D_ij, from distances [B, B] and the indices S."""
    return -d[medoids].amin(0).sum()


def oracle_score(d: Tensor, labels: Tensor) -> Tensor:
    """F̃ = Σ_c max_{j ∈ c} −Σ_{i ∈ c} D_ij: every class served by its own best medoid."""
    same = labels[:, None] == labels
    costs = (d * same).sum(1)  # [B], of j as the medoid of its class
    _, names = torch.unique(labels, return_inverse=True)
    best = costs.new_full((int(names.max()) + 1,), torch.inf)
    return -best.scatter_reduce(0, names, costs, "amin").sum()


def greedy_medoids(d: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """As many medoids as classes, each the one that then makes F(S) + γ Δ(S) highest.

    F is monotone and submodular (up to a constant), so that for γ = 0 the gain over the first medoid
    set reaches (1 − 1/e) of the best. Ties go to the lowest index.
    """
    _, names = labels.unique(return_inverse=True)
    count = int(names.max()) + 1
    nearest = torch.full_like(d[0], torch.inf)  # min_{j ∈ S} D_ij, [B]
    cluster = torch.zeros_like(labels)  # which of S that is, [B]
    free = torch.ones_like(labels, dtype=torch.bool)
    chosen: list[Tensor] = []
    for step in range(count):
        score = -torch.minimum(d, nearest).sum(1)  # F of S and each candidate, [B]
        if gamma:
            clusters = torch.where(d < nearest, step, cluster)  # [candidate, B]
            score = score + gamma * (1 - _nmi(clusters, names, step + 1, count))
        best = score.masked_fill(~free, -torch.inf).argmax()
        cluster = torch.where(d[best] < nearest, step, cluster)
        nearest = torch.minimum(nearest, d[best])
        free[best] = False
        chosen.append(best)
    return torch.stack(chosen)


def nmi_of_clusters(clusters: Tensor, labels: Tensor) -> Tensor:
    """MI / √(H(clusters) H(labels)), as [22] has it, of each row of clusters [R, B] with labels [B].

    Where both are one cluster it is 1; where one of them is, 0.
    """
    _, names = torch.unique(labels, return_inverse=True)
    _, clusters = torch.unique(clusters, return_inverse=True)
    return _nmi(clusters, names, int(clusters.max()) + 1, int(names.max()) + 1)


def _nmi(clusters: Tensor, names: Tensor, width: int, classes: int) -> Tensor:
    """`nmi_of_clusters` of clusters numbered below `width` and labels numbered below `classes`."""
    items = clusters.shape[1]  # B
    cell = clusters * classes + names  # [R, B] places in the tables of both labels
    table = torch.zeros(len(clusters), width * classes, dtype=torch.long, device=names.device)
    table.scatter_add_(1, cell, torch.ones_like(cell))
    joint = table.view(-1, width, classes)  # how many of a cluster and a class
    # −p log p of p = n / B, n = 0 … B: looked up, since a logarithm of every cell would take most of the time
    share = torch.arange(items + 1, dtype=torch.float64, device=names.device) / items
    terms = torch.special.entr(share)
    h_clusters, h_labels = terms[joint.sum(2)].sum(1), terms[joint.sum(1)].sum(1)
    mutual = h_clusters + h_labels - terms[table].sum(1)  # MI = H(u) + H(v) − H(u, v)
    both_one = (h_clusters == 0) & (h_labels == 0)
    norm = (h_clusters * h_labels).sqrt().clamp(min=1e-12)
    return torch.where(both_one, 1.0, mutual / norm).clamp(0, 1)


def _batch(embeddings: Array, labels: Array) -> tuple[Tensor, Tensor]:
    x = arrays.numbers("embeddings", embeddings)
    return x, arrays.integers("labels", labels, len(x)).to(x.device)


def _distances(embeddings: Tensor) -> Tensor:
    # Without the matrix-product shortcut: D_ii is exactly 0 and its gradient too.
    return torch.cdist(embeddings, embeddings, compute_mode="donot_use_mm_for_euclid_dist")


BASELINES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "semi_hard": semi_hard,
    "lifted": lifted,
    "n_pairs": n_pairs,
    "clustering": facility_location,
    "triplet_global": triplet_global,
}
FREE_LENGTH = ("n_pairs",)  # those that take embeddings as they are


# Batches -----------------------------------------------------------------------------------------


@exact()
def class_batches(
    fine: Array,
    classes: int,
    per_class: int,
    steps: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Class-balanced batches: in each, `per_class` random images of `classes` random classes.

    Classes and images are drawn without replacement; a set with fewer classes than asked for, or a
    class with fewer images, starts again from its beginning.

    Args:
        fine: [N] labels.

    Returns:
        [steps, classes · per_class] long, indices into `fine`.

    Raises:
        PapersError: no labels, or a number below 1.
    """
    fine = arrays.integers("fine", fine).cpu()
    if len(fine) == 0 or min(classes, per_class) < 1 or steps < 0:
        raise PapersError(
            f"{steps} batches of {classes} classes × {per_class} images from {len(fine)} labels: "
            "each must be 1 or more"
        )
    _, names, sizes = torch.unique(fine, return_inverse=True, return_counts=True)
    starts = sizes.cumsum(0) - sizes
    batches = torch.empty(steps, classes * per_class, dtype=torch.long)
    for step in range(steps):
        # A random order inside each class: sorted by class plus a number in [0, 1).
        shuffle = torch.rand(len(fine), generator=generator, dtype=torch.float64)
        order = (names + shuffle).argsort()
        deck = torch.randperm(len(sizes), generator=generator)
        turn = torch.arange(classes)
        drawn = deck[turn % len(sizes)]  # [classes]
        # A class that comes a second time goes on where its first turn ended.
        at = (turn // len(sizes) * per_class)[:, None] + torch.arange(per_class)  # [classes, per_class]
        batches[step] = order[starts[drawn, None] + at % sizes[drawn, None]].flatten()
    return batches
