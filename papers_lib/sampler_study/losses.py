"""The proxy memory and the loss of camera-aware proxies.

Equation 1 of Cao et al., "Exploring Sampler Strategies in Unsupervised Person Re-identification
Training", and the two-term loss of Wang et al., "Camera-aware Proxies for Unsupervised Person
Re-Identification" (CAP, AAAI 2021), from which its training is taken. A proxy is a cluster as one
camera sees it; the memory M holds one unit vector per proxy. No gradient ever reaches the memory.
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

LossWeighting = Literal["per_camera", "sum", "mean"]


@exact(gradients=True)
def camera_aware_loss(
    features: Array,
    targets: Array,
    memory: Array,
    proxy_clusters: Array,
    proxy_cameras: Array,
    tau: float = 0.07,
    *,
    intra_loss: bool = True,
    inter_weight: float = 0.5,
    num_hard_negatives: int | None = 50,
    loss_weighting: LossWeighting = "per_camera",
) -> Tensor:
    """CAP's loss of a batch, a scalar; with z = M f / τ, per sample

        intra = − log softmax(z over the proxies of the sample's camera) at its own proxy
        inter = logsumexp(z over P₊ ∪ P₋) − mean(z over P₊)

    and intra + inter_weight · inter together. P₊ are the proxies of the sample's cluster, in all
    cameras; P₋ the most similar proxies of other clusters. `per_camera` takes the mean of each camera
    in the batch and sums these means, so that the loss grows with the number of cameras, and a lone
    sample of a rare camera weighs most. Equation 1 of Cao et al. is
    `intra_loss=False, inter_weight=1.0, loss_weighting="sum"`.

    Every proxy enters a denominator once. (The public code of CAP counts positives twice where other
    clusters have fewer than `num_hard_negatives` proxies.)

    Args:
        features: [B, d] unit vectors; half precision is cast to that of the memory.
        targets: [B] the samples' proxies, 0 to P − 1.
        memory: [P, d] unit vectors, as `proxy_means` makes them.
        proxy_clusters, proxy_cameras: [P] cluster and camera of each proxy.
        tau: temperature τ.
        inter_weight: weight of the inter-camera part; 0 leaves it out.
        num_hard_negatives: how many proxies P₋ has at most; None takes all other clusters' proxies.

    Raises:
        PapersError: shapes that do not fit, no samples or proxies, targets outside the memory, NaN in
            the features, or an unknown weighting.
    """
    x, y, m = check_batch(features, targets, memory)
    clusters = arrays.integers("proxy_clusters", proxy_clusters, len(m)).to(m.device)  # [P]
    cameras = arrays.integers("proxy_cameras", proxy_cameras, len(m)).to(m.device)  # [P]
    logits = similarities(x, m, tau)  # z, [B, P]
    total = logits.new_zeros(len(logits))
    if intra_loss:
        # − log softmax(z over the proxies of the sample's camera) at its own proxy
        total = total + _cross_entropy(logits, cameras[y][:, None] == cameras, y)
    if inter_weight:
        positive = clusters[y][:, None] == clusters  # P₊, [B, P]
        counted = torch.ones_like(positive)
        if num_hard_negatives is not None:
            others = logits.detach().masked_fill(positive, -torch.inf)
            hardest = others.topk(min(num_hard_negatives, len(m))).indices
            # Where negatives run out, topk goes on with positives; a union counts them once.
            counted = positive.scatter(1, hardest, True)  # P₊ ∪ P₋
        # logsumexp(z over P₊ ∪ P₋) − mean(z over P₊), the first by the cross-entropy at the sample's proxy
        at_own = logits.gather(1, y[:, None]).squeeze(1)
        mean = (logits * positive).sum(1) / positive.sum(1)
        total = total + inter_weight * (_cross_entropy(logits, counted, y) + at_own - mean)
    if loss_weighting == "sum":
        return total.sum()
    if loss_weighting == "mean":
        return total.mean()
    if loss_weighting != "per_camera":
        raise PapersError(f"loss_weighting is '{loss_weighting}'; it must be one of per_camera, sum, mean")
    # Σ over cameras of the mean of each
    of_sample = cameras[y]
    return (total / (of_sample[:, None] == of_sample).sum(1)).sum()


def _cross_entropy(logits: Tensor, counted: Tensor, targets: Tensor) -> Tensor:
    """− log softmax over the proxies that count [B, P], at the sample's own: [B]."""
    return F.cross_entropy(logits.masked_fill(~counted, -torch.inf), targets, reduction="none")


@exact()
def proxy_means(features: Array, proxies: Array) -> Tensor:
    """The memory at the start of an epoch: the mean feature of each proxy, of length 1.

    Args:
        features: [N, d]; half precision is cast to float32.
        proxies: [N] proxy of each sample, 0 to P − 1 without gaps; −1, an outlier, enters no mean.

    Returns:
        [P, d].

    Raises:
        PapersError: no proxies, or a number between that no sample has.
    """
    x = arrays.features("features", features)
    proxy = arrays.integers("proxies", proxies, len(x), least=-1).to(x.device)
    kept = proxy >= 0
    if not kept.any():
        raise PapersError(f"none of {len(x)} samples is in a proxy; cluster with a larger eps")
    labels = proxy[kept]
    counts = labels.bincount()
    if not counts.all():
        raise PapersError(f"proxy {int((counts == 0).nonzero()[0])} has no sample; number them without gaps")
    sums = x.new_zeros(len(counts), x.shape[1]).index_add_(0, labels, x[kept])
    return F.normalize(sums / counts[:, None])


@exact()
def update_memory(memory: Tensor, features: Array, targets: Array, momentum: float = 0.2) -> None:
    """M[y] ← L2(m M[y] + (1 − m) f) for each sample (f, y) in batch order, in place (CAP).

    Several samples of a proxy write one after the other, each write brought to length 1. Writes to
    different proxies do not meet: all first samples of a proxy are written at once, then all second
    ones, so that the number of rounds is the most samples that any proxy has in the batch.

    Args:
        memory: [P, d], changed; features: [B, d]; targets: [B]; momentum: m, the share that stays.

    Raises:
        PapersError: as `camera_aware_loss`, or a memory that is no tensor of floats: a copy would be written.
    """
    x, proxy, m = check_batch(features, targets, memory)
    if m is not memory:
        raise PapersError("the memory is changed in place; give a tensor of floats")
    x = x.detach().to(memory.dtype)
    # The turn of a sample: how many of its proxy stand before it in the batch.
    order = proxy.argsort(stable=True)
    places = torch.arange(len(proxy), device=proxy.device)
    turn = places - torch.searchsorted(proxy[order], proxy[order])
    by_turn = order[turn.argsort(stable=True)]
    for rows in by_turn.split(turn.bincount().tolist()):
        y = proxy[rows]
        memory[y] = F.normalize(momentum * memory[y] + (1 - momentum) * x[rows])


@exact(gradients=True)
def similarities(features: Tensor, memory: Tensor, tau: float = 1.0) -> Tensor:
    """M f / τ for each sample, [B, P], in the memory's precision, also under autocast; M is a constant."""
    return features.to(memory.dtype) / tau @ memory.detach().T


def check_batch(features: Array, targets: Array, memory: Array) -> tuple[Tensor, Tensor, Tensor]:
    """Features [B, d], targets [B] and memory [P, d] as tensors on one device, with one wait for it.

    Raises:
        PapersError: on what would go wrong later.
    """
    x, m = arrays.numbers("features", features), arrays.numbers("memory", memory)
    arrays.together("features", x, m)
    if len(m) == 0:
        raise PapersError(f"the memory is {arrays.shape(m)}; it must be [P, d] with at least one proxy")
    if x.shape[1] != m.shape[1]:
        raise PapersError(
            f"features {arrays.shape(x)} and memory {arrays.shape(m)} do not fit; both are [·, d]"
        )
    y = arrays.integers("targets", targets, len(x)).to(x.device)
    if len(x) == 0:
        raise PapersError("the batch is empty; leave it out")
    low, high, finite = torch.stack((y.min(), y.max(), x.isfinite().all())).tolist()
    if low < 0 or high >= len(m):
        raise PapersError(
            f"targets run from {low} to {high}, the memory's rows from 0 to {len(m) - 1}; "
            "leave outliers (-1) out of the batch"
        )
    if not finite:
        raise PapersError(
            "the features hold NaN or infinite values; lower the learning rate or check the images"
        )
    return x, y, m
