"""SpCL and MMCL, the two rows of Table I that keep a memory of single images: their losses and choices.

Ge et al., "Self-paced Contrastive Learning with Hybrid Memory for Domain Adaptive Object Re-ID"
(NeurIPS 2020), without a source domain; Wang and Zhang, "Unsupervised Person Re-identification via
Multi-label Classification" (CVPR 2020), without its generated CamStyle images, on which its numbers
rest. Either memory is one unit vector per image, [N, d], written by `losses.update_memory`; `methods` trains
with them.

Cluster-Contrast needs nothing of its own: it is `losses.camera_aware_loss` with each cluster a proxy
of one and the same camera, `inter_weight=0, loss_weighting="mean"`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from papers_lib import arrays
from papers_lib.arrays import Array
from papers_lib.errors import PapersError
from papers_lib.sampler_study.losses import check_batch, similarities

RETAINED = 0.9  # SpCL: share of the clusters that the first epoch takes for independent
COMPARED = 2**24  # similarities that MMCL's label prediction holds at once


def own_classes(labels: Tensor) -> Tensor:
    """Labels [N] in which each outlier (−1) has a class of its own, numbered after the clusters."""
    outlier = labels < 0
    return torch.where(outlier, labels.max() + outlier.cumsum(0), labels)


def spcl_loss(
    features: Array, indices: Array, memory: Array, classes: Array, tau: float = 0.05, floor: float = 0.0
) -> Tensor:
    """SpCL's unified contrastive loss without a source domain, a scalar, the batch's mean of

        − log exp(⟨f, z₊⟩ / τ) / (Σ_k exp(⟨f, c_k⟩ / τ) + Σ_k exp(⟨f, v_k⟩ / τ))

    over the clusters' means c_k of the memory, not brought to length 1, and the un-clustered images
    v_k; z₊ is the one that the sample belongs to. The public code adds a `floor` of 1e-6 inside the logarithm
    and to the denominator.

    Args:
        features: [B, d] unit vectors; indices: [B] which images they are of.
        memory: [N, d]; classes: [N], 0 to C − 1 without gaps, as `own_classes` makes them.

    Raises:
        PapersError: as `losses.camera_aware_loss`, and classes that do not fit the memory.
    """
    x, images, m = check_batch(features, indices, memory)
    class_of = arrays.integers("classes", classes, len(m), least=0).to(m.device)  # [N]
    counts = class_of.bincount()  # [C]
    if not counts.all():
        raise PapersError(f"classes of {len(m)} images have gaps; take those of own_classes")
    # ⟨f, c_k⟩ is the mean of ⟨f, v⟩ over the images v of class k.
    to_images = similarities(x, m, tau)  # [B, N]
    sums = to_images.new_zeros(len(x), len(counts)).index_add(1, class_of, to_images)  # [B, C]
    logits = sums / counts
    if not floor:
        return F.cross_entropy(logits, class_of[images])
    exponentials = logits.exp()  # cosines over τ: at most e²⁰ for .05
    shares = exponentials / (exponentials.sum(1, keepdim=True) + floor)
    return F.nll_loss((shares + floor).log(), class_of[images])


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
    classes = own_classes(labels)  # [N]
    nothing = torch.zeros(int(classes.max()) + 1, dtype=torch.float64, device=labels.device)
    # Per image |I ∩ I'| / |I ∪ I'|, per class the best of its images.
    compact = overlap(classes, own_classes(tight))
    most_compact = nothing.scatter_reduce(0, classes, compact, "amax")
    independent = nothing.scatter_reduce(0, classes, overlap(classes, own_classes(loose)), "amax")
    if threshold is None:
        ranked = independent[classes.bincount() > 1].sort(descending=True).values
        threshold = float(ranked[min(len(ranked) - 1, round(RETAINED * len(ranked)))]) if len(ranked) else 0.0
    kept = (independent[classes] >= threshold) & (compact >= most_compact[classes])
    # What is left of a cluster must be two images at least.
    kept &= classes[kept].bincount(minlength=len(independent))[classes] > 1
    refined = torch.full_like(labels, -1)
    refined[kept] = classes[kept].unique(return_inverse=True)[1]
    return refined, threshold


def overlap(labels: Tensor, others: Tensor) -> Tensor:
    """|I ∩ I'| / |I ∪ I'| per image [N], of the two groups that hold it by two labellings from 0.

    Both sizes are counts of labels and of pairs of labels: no matrix of images by images.
    """
    pairs = labels * (others.max() + 1) + others  # a pair of labels as one number
    _, pair, counts = pairs.unique(return_inverse=True, return_counts=True)
    shared: Tensor = counts[pair].double()
    # |I ∪ I'| = |I| + |I'| − |I ∩ I'|
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
    to_all = memory[indices] @ memory.T  # [B, N]
    count = (to_all > threshold).sum(1)
    k = count.clamp(min=least)
    ranked = to_all.topk(max(1, int(count.max())), dim=1).indices
    taken = torch.zeros_like(ranked, dtype=torch.bool)
    places = torch.arange(ranked.shape[1], device=memory.device)
    alive = torch.arange(len(indices), device=memory.device)
    for some in places.split(max(1, COMPARED // to_all.numel())):
        candidates = ranked[alive][:, some]  # [alive, some]
        # How many images are nearer to the candidate than the sample: itself is one, unless it is the sample.
        similar = memory[candidates.flatten()] @ memory.T  # [alive · some, N]
        to_sample = similar.gather(1, indices[alive].repeat_interleave(len(some))[:, None])
        nearer = (similar > to_sample).sum(1).view_as(candidates)
        confirmed = (nearer <= k[alive, None]) & (some < count[alive, None])
        unbroken = confirmed.cumprod(1).bool()  # up to the first that is not confirmed
        taken[alive[:, None], some] = unbroken
        alive = alive[unbroken[:, -1]]
    positive = torch.zeros_like(to_all, dtype=torch.bool).scatter_(1, ranked, taken)
    return positive.scatter_(1, indices[:, None], True)


def mmcl_loss(
    features: Array, memory: Array, positive: Array, delta: float = 5.0, hard: float = 0.01
) -> Tensor:
    """MMCL's multi-label classification loss, a scalar, the mean over the samples of

        δ mean over P of (1 − M f)² + mean over the hardest share of the others of (1 + M f)²

    Args:
        features: [B, d]; memory: [N, d]; positive: [B, N] bool, P, at least one per sample.
        delta: δ, weight of the positives.
        hard: share of the other images, the most similar ones, of which one at least is taken.

    Raises:
        PapersError: as `losses.camera_aware_loss`, and `positive` that is not [B, N].
    """
    x = arrays.numbers("features", features)
    x, _, m = check_batch(x, torch.zeros(len(x), dtype=torch.int64, device=x.device), memory)
    mine = arrays.tensor("positive", positive).to(x.device).bool()
    if mine.shape != (len(x), len(m)):
        raise PapersError(f"positive is {arrays.shape(mine)}; it must be {(len(x), len(m))}")
    scores = similarities(x, m)  # M f, [B, N]
    # mean over P of (1 − M f)²
    near = ((1 - scores).square() * mine).sum(1) / mine.sum(1)
    # mean over the hardest of the others of (1 + M f)²
    others = (~mine).sum(1)
    taken = (hard * others.double()).long().clamp(min=1).minimum(others)
    ranked = scores.detach().masked_fill(mine, -torch.inf)
    hardest = scores.gather(1, ranked.topk(max(1, int(hard * len(m))), dim=1).indices)
    counted = torch.arange(hardest.shape[1], device=scores.device) < taken[:, None]
    far = ((1 + hardest).square() * counted).sum(1) / taken.clamp(min=1)
    return (delta * near + far).mean()
