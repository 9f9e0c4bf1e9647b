"""SpCL and MMCL, the two rows of Table I that keep a memory of single images.

Ge et al., "Self-paced Contrastive Learning with Hybrid Memory for Domain Adaptive Object Re-ID"
(NeurIPS 2020), without a source domain; Wang and Zhang, "Unsupervised Person Re-identification via
Multi-label Classification" (CVPR 2020), without its generated CamStyle images, on which its numbers
rest. Either memory is one unit vector an image, [N, d], written by `losses.update_memory`.

Cluster-Contrast needs nothing of its own: it is `losses.camera_aware_loss` with each cluster a proxy
of one and the same camera, `inter_weight=0, loss_weighting="mean"`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from papers_lib import arrays
from papers_lib.arrays import Array
from papers_lib.errors import PapersError
from papers_lib.sampler_study import pseudo_labels
from papers_lib.sampler_study.losses import check_batch, similarities, update_memory

if TYPE_CHECKING:  # learners imports this module
    from papers_lib.sampler_study.learners import Groups
    from papers_lib.sampler_study.options import TrainSettings

EPS_GAP = 0.02  # SpCL: tighter and looser than eps by this much
RETAINED = 0.9  # SpCL: share of the clusters that the first epoch takes for independent
COMPARED = 2**24  # similarities that MMCL's label prediction holds at once


class Spcl:
    """A learner for `training`: self-paced clusters of the memory, and the loss over their means."""

    def __init__(self, settings: TrainSettings) -> None:
        self.settings = settings
        self.memory: Tensor | None = None
        self.threshold: float | None = None  # of independence, from the first epoch

    def begin(self, epoch: int, features: Tensor, cameras: Tensor) -> Groups:
        """Cluster the memory, which holds the features of the first epoch, and keep what is reliable.

        In the groups, `clusters` has −1 for un-clustered images; `proxies` numbers each of them as a
        class of its own, as the loss sees it.
        """
        from papers_lib.sampler_study.learners import Groups

        s = self.settings
        if self.memory is None:
            self.memory = F.normalize(features.detach().float())
        tight, usual, loose = (s.eps + s.eps_tol + gap for gap in (-EPS_GAP, 0, EPS_GAP))
        graph = pseudo_labels.jaccard_graph(self.memory, s.k1, s.k2, loose, s.k1_includes_self)
        labels = [pseudo_labels.dbscan(graph, eps, s.min_samples) for eps in (usual, tight, loose)]
        clusters, self.threshold = reliable(labels[0], labels[1], labels[2], self.threshold)
        clusters = clusters.to(features.device)
        self.classes = own_classes(clusters)
        return Groups(clusters, self.classes, cameras.to(features.device))

    def loss(self, features: Tensor, indices: Tensor) -> Tensor:
        """`spcl_loss` of a batch."""
        assert self.memory is not None
        indices = indices.to(features.device)
        return spcl_loss(features, indices, self.memory, self.classes, self.settings.tau)

    def write(self, features: Tensor, indices: Tensor) -> None:
        """Move the images' memory towards their features."""
        assert self.memory is not None
        update_memory(self.memory, features, indices.to(features.device), self.settings.memory_momentum)

    def state(self) -> dict[str, Any]:
        """What outlives an epoch."""
        return {"memory": self.memory, "threshold": self.threshold}

    def resume(self, state: dict[str, Any], where: torch.device) -> None:
        """Take up `state`."""
        self.memory = None if state["memory"] is None else state["memory"].to(where)
        self.threshold = state["threshold"]


class Mmcl:
    """A learner for `training`: every image a class, and after `inter_start_epoch` several."""

    def __init__(self, settings: TrainSettings) -> None:
        self.settings = settings
        self.memory: Tensor | None = None
        self.epoch = 0

    def begin(self, epoch: int, features: Tensor, cameras: Tensor) -> Groups:
        """Each image is its own cluster and proxy; the memory is 0 until an image is drawn."""
        from papers_lib.sampler_study.learners import Groups

        self.epoch = epoch
        if self.memory is None:
            self.memory = torch.zeros(features.shape, device=features.device)
        images = torch.arange(len(features), device=features.device)
        return Groups(images, images, cameras.to(features.device))

    def loss(self, features: Tensor, indices: Tensor) -> Tensor:
        """`mmcl_loss` of a batch: against single labels first, then against `multi_labels`."""
        assert self.memory is not None
        indices = indices.to(features.device)
        if self.epoch > self.settings.inter_start_epoch:
            return mmcl_loss(features, self.memory, multi_labels(self.memory, indices))
        images = torch.arange(len(self.memory), device=features.device)
        return mmcl_loss(features, self.memory, indices[:, None] == images)

    def write(self, features: Tensor, indices: Tensor) -> None:
        """Move the images' memory; what stays of it grows from 0 in the first epoch towards one half."""
        assert self.memory is not None
        momentum = 0.5 * self.epoch / max(1, self.settings.epochs)
        update_memory(self.memory, features, indices.to(features.device), momentum)

    def state(self) -> dict[str, Any]:
        """What outlives an epoch."""
        return {"memory": self.memory}

    def resume(self, state: dict[str, Any], where: torch.device) -> None:
        """Take up `state`."""
        self.memory = None if state["memory"] is None else state["memory"].to(where)


def own_classes(labels: Tensor) -> Tensor:
    """Labels [N] in which each outlier (−1) has a class of its own, numbered after the clusters."""
    outlier = labels < 0
    return torch.where(outlier, labels.max() + outlier.cumsum(0), labels)


def spcl_loss(features: Array, indices: Array, memory: Array, classes: Array, tau: float = 0.05) -> Tensor:
    """SpCL's unified contrastive loss without a source domain, a scalar, the batch's mean of

        − log exp(⟨f, z₊⟩ / τ) / (Σ_k exp(⟨f, c_k⟩ / τ) + Σ_k exp(⟨f, v_k⟩ / τ))

    over the clusters' means c_k of the memory, not brought to length 1, and the un-clustered images
    v_k; z₊ is the one that the sample belongs to.

    Args:
        features: [B, d] unit vectors; indices: [B] which images they are of.
        memory: [N, d]; classes: [N], 0 to C − 1 without gaps, as `own_classes` makes them.

    Raises:
        PapersError: as `losses.camera_aware_loss`, and classes that do not fit the memory.
    """
    x, images, m = check_batch(features, indices, memory)
    own = arrays.integers("classes", classes, len(m), least=0).to(m.device)
    counts = own.bincount()
    if not counts.all():
        raise PapersError(f"classes of {len(m)} images have gaps; take those of own_classes")
    to_images = similarities(x, m, tau)
    sums = to_images.new_zeros(len(x), len(counts)).index_add(1, own, to_images)
    return F.cross_entropy(sums / counts, own[images])


def reliable(
    labels: Tensor, tight: Tensor, loose: Tensor, threshold: float | None = None
) -> tuple[Tensor, float]:
    """SpCL's self-paced choice: what three values of eps agree on.

    A cluster is independent where it survives a looser criterion, and an image is compact in it where
    it survives a tighter one; both are measured by `overlap`. A cluster keeps its images if its
    independence, the best of its images, reaches the threshold, and of them those whose compactness
    is the best in the cluster.

    Args:
        labels, tight, loose: [N] by eps, by a smaller and by a larger one; −1 for outliers.
        threshold: of independence; None takes the one that nine clusters in ten reach, which SpCL
            does in its first epoch alone.

    Returns:
        Labels [N] without gaps, −1 for outliers and for what is not reliable, and the threshold.
    """
    classes = own_classes(labels)
    compact = overlap(classes, own_classes(tight))
    best_compact = _best(compact, classes)
    independent = _best(overlap(classes, own_classes(loose)), classes)
    if threshold is None:
        ranked = independent[classes.bincount() > 1].sort(descending=True).values
        threshold = float(ranked[min(len(ranked) - 1, round(RETAINED * len(ranked)))]) if len(ranked) else 0.0
    kept = (independent[classes] >= threshold) & (compact >= best_compact[classes])
    kept &= classes[kept].bincount(minlength=len(independent))[classes] > 1
    refined = torch.full_like(labels, -1)
    refined[kept] = classes[kept].unique(return_inverse=True)[1]
    return refined, threshold


def overlap(labels: Tensor, others: Tensor) -> Tensor:
    """|I ∩ I'| / |I ∪ I'| per image [N], of the two groups that hold it by two labellings from 0.

    Both sizes are counts of labels and of pairs of labels: no matrix of images by images.
    """
    pairs = labels * (others.max() + 1) + others
    _, own, counts = pairs.unique(return_inverse=True, return_counts=True)
    shared: Tensor = counts[own].double()
    return shared / (labels.bincount()[labels] + others.bincount()[others] - shared)


@torch.no_grad()
def multi_labels(memory: Tensor, indices: Tensor, threshold: float = 0.6, least: int = 10) -> Tensor:
    """MMCL's memory-based positive label prediction: which images show each sample's person.

    Candidates of image i are those with similarity above the threshold in the memory, the most
    similar first. One is confirmed if i is among its own k nearest others, k being the number of
    candidates, i included, or `least` where these are fewer. Candidates are taken up to the first
    that is not confirmed. (The public code then adds that one where it is the very first.)

    Args:
        memory: [N, d] unit vectors; indices: [B].

    Returns:
        [B, N] bool, true for the image itself.
    """
    to_all = memory[indices] @ memory.T
    count = (to_all > threshold).sum(1)
    k = count.clamp(min=least)
    ranked = to_all.topk(max(1, int(count.max())), dim=1).indices
    taken = torch.zeros_like(ranked, dtype=torch.bool)
    places = torch.arange(ranked.shape[1], device=memory.device)
    alive = torch.arange(len(indices), device=memory.device)
    for some in places.split(max(1, COMPARED // to_all.numel())):
        confirmed = _rank(memory, indices[alive], ranked[alive][:, some]) <= k[alive, None]
        first = (confirmed & (some < count[alive, None])).cumprod(1).bool()
        taken[alive[:, None], some] = first
        alive = alive[first[:, -1]]
    positive = torch.zeros_like(to_all, dtype=torch.bool).scatter_(1, ranked, taken)
    return positive.scatter_(1, indices[:, None], True)


def mmcl_loss(
    features: Array, memory: Array, positive: Array, delta: float = 5.0, hard: float = 0.01
) -> Tensor:
    """MMCL's multi-label classification loss, a scalar, the mean over the samples of

        δ mean over P of (1 − M f)² + mean over the hardest share of the others of (1 + M f)²

    Args:
        features: [B, d]; memory: [N, d]; positive: [B, N] bool, P, at least one a sample.
        delta: δ, weight of the positives.
        hard: share of the other images, the most similar ones, of which one at least is taken.

    Raises:
        PapersError: as `losses.camera_aware_loss`, and `positive` that is not [B, N].
    """
    x = arrays.numbers("features", features)
    x, _, m = check_batch(x, torch.zeros(len(x), dtype=torch.int64, device=x.device), memory)
    own = arrays.tensor("positive", positive).to(x.device).bool()
    if own.shape != (len(x), len(m)):
        raise PapersError(f"positive is {arrays.shape(own)}; it must be {(len(x), len(m))}")
    scores = similarities(x, m)
    near = ((1 - scores).square() * own).sum(1) / own.sum(1)
    others = (~own).sum(1)
    taken = (hard * others.double()).long().clamp(min=1).minimum(others)
    ranked = scores.detach().masked_fill(own, -torch.inf)
    hardest = scores.gather(1, ranked.topk(max(1, int(hard * len(m))), dim=1).indices)
    counted = torch.arange(hardest.shape[1], device=scores.device) < taken[:, None]
    far = ((1 + hardest).square() * counted).sum(1) / taken.clamp(min=1)
    return (delta * near + far).mean()


def _best(scores: Tensor, classes: Tensor) -> Tensor:
    """The highest score in each class."""
    best: Tensor = scores.new_zeros(int(classes.max()) + 1).scatter_reduce(0, classes, scores, "amax")
    return best


def _rank(memory: Tensor, indices: Tensor, candidates: Tensor) -> Tensor:
    """How many images are nearer to each candidate [A, S] than the image [A] that it is a candidate of.

    The candidate itself is one of them, unless it is that image.
    """
    similar = memory[candidates.flatten()] @ memory.T
    own = similar.gather(1, indices.repeat_interleave(candidates.shape[1])[:, None])
    return (similar > own).sum(1).view_as(candidates)
