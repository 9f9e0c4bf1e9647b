"""k-means that leaves no cluster empty, on any device, and always the same for the same numbers."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from papers_lib.compute import exact
from papers_lib.errors import PapersError

ENTRIES = 2**24  # of a block of the [N, k] scores


def number_of_clusters(images_total: int, classes: int | None) -> int:
    """Ten times the classes, as DeepCluster and ODC take on ImageNet; never more than half the images.

    Raises:
        PapersError: no number of classes, or fewer than four images.
    """
    if classes is None:
        raise PapersError("deepcluster and odc take ten clusters a class; give the number of classes")
    if images_total < 4:
        raise PapersError(f"{images_total} images cannot be clustered; give at least 4")
    return min(10 * classes, images_total // 2)


@exact()
def kmeans(features: Tensor, k: int, generator: torch.Generator, rounds: int = 20) -> Tensor:
    """Labels [N], 0 to k − 1, none without a member. Lloyd's rounds from k images drawn at random.

    Args:
        features: [N, d] float32.
        k: clusters, at most N.
        generator: on the CPU; draws the first centroids.
    """
    # k of the images, [k, d]
    centroids = features[torch.randperm(len(features), generator=generator)[:k].to(features.device)]
    labels = refilled(features, nearest(features, centroids), k)
    for _ in range(rounds):
        before = labels
        labels = refilled(features, nearest(features, means(features, labels, k)), k)
        if torch.equal(labels, before):
            break
    return labels


@exact()
def nearest(features: Tensor, centroids: Tensor) -> Tensor:
    """The centroid with the least distance, [N]: ‖x − c‖² = ‖x‖² − 2 (x·c − ½‖c‖²)."""
    half = centroids.square().sum(1) / 2  # ½‖c‖², [k]
    return torch.cat(
        [(features[rows] @ centroids.T - half).argmax(1) for rows in _blocks(features, centroids)]
    )


@exact()
def means(features: Tensor, labels: Tensor, k: int) -> Tensor:
    """The mean of each cluster, [k, d]; 0 for an empty one. By products, whose sums are repeatable."""
    sums = features.new_zeros(k, features.shape[1])
    for rows in _blocks(features, sums):
        # [k, block] · [block, d]
        sums += F.one_hot(labels[rows], k).T.to(features.dtype) @ features[rows]
    return sums / labels.bincount(minlength=k).clamp(min=1)[:, None]


@exact()
def refilled(features: Tensor, labels: Tensor, k: int) -> Tensor:
    """`labels` with each empty cluster given half of the cluster that is largest then; N ≥ k."""
    labels = labels.clone()
    for empty in (labels.bincount(minlength=k) == 0).nonzero().flatten().tolist():
        members = (labels == labels.bincount().argmax()).nonzero().flatten()  # of the largest
        labels[members[halves(features[members])]] = empty
    return labels


def halves(features: Tensor, rounds: int = 10) -> Tensor:
    """Bool [N ≥ 2], which rows go to the second part: 2-means from two rows far apart.

    Neither part is empty: rows that are all the same are dealt out in turn.
    """
    # two rows far apart: the farthest from the mean, and the farthest from that
    first = features[(features - features.mean(0)).square().sum(1).argmax()]
    second = features[(features - first).square().sum(1).argmax()]
    labels = nearest(features, torch.stack((first, second)))
    for _ in range(rounds):
        before = labels
        labels = nearest(features, means(features, labels, 2))
        if torch.equal(labels, before):
            break
    if labels.min() == labels.max():  # all rows the same
        labels = torch.arange(len(features), device=features.device) % 2
    return labels.bool()


@exact()
def whitened(features: Tensor, dimension: int = 256) -> Tensor:
    """PCA to at most `dimension` directions, each brought to variance 1, then rows to length 1."""
    centred = features - features.mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(features))  # ascending
    kept = values[-dimension:] > 1e-6 * values[-1]  # the others are rounding
    # 1/σ along each direction, 0 along the others
    scales = torch.where(kept, values[-dimension:].clamp(min=1e-30).rsqrt(), 0)
    return F.normalize(centred @ (vectors[:, -dimension:] * scales))


def _blocks(features: Tensor, centroids: Tensor) -> Iterator[slice]:
    size = max(1, ENTRIES // len(centroids))
    return (slice(i, i + size) for i in range(0, len(features), size))
