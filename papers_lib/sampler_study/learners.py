"""What is learnt from the pseudo-labels of an epoch: camera-aware proxies, SpCL's or MMCL's memory.

A learner begins an epoch by grouping the images, gives the loss of a batch, and writes the batch's
features into its memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from papers_lib.sampler_study import losses, pseudo_labels
from papers_lib.sampler_study.baselines import Mmcl, Spcl
from papers_lib.sampler_study.options import TrainSettings


@dataclass(frozen=True)
class Groups:
    """The pseudo-labels of an epoch: clusters and proxies [N], −1 for outliers, and the cameras [N]."""

    clusters: Tensor
    proxies: Tensor
    cameras: Tensor

    def summary(self) -> dict[str, float]:
        """How many clusters and proxies there are, the largest cluster, and the share of outliers."""
        inliers = self.clusters[self.clusters >= 0]
        return {
            "largest_cluster": float(inliers.bincount().max()) if len(inliers) else 0.0,
            "clusters": float(self.clusters.max() + 1),
            "proxies": float(self.proxies.max() + 1),
            "images_per_proxy": round(len(inliers) / max(1.0, float(self.proxies.max() + 1)), 3),
            "outliers": round(float((self.clusters < 0).float().mean()), 5),
        }


class Learner(Protocol):
    """What the loop asks of a method."""

    def begin(self, epoch: int, features: Tensor, cameras: Tensor) -> Groups:
        """Group the images by their features [N, d] and cameras [N], and make the memory ready."""

    def loss(self, features: Tensor, indices: Tensor) -> Tensor:
        """The loss of a batch: features [B, d] of the images `indices` [B]."""

    def write(self, features: Tensor, indices: Tensor) -> None:
        """Write the batch's features into the memory."""

    def state(self) -> dict[str, Any]:
        """What outlives an epoch."""

    def resume(self, state: dict[str, Any], where: torch.device) -> None:
        """Take up `state`."""


def learner(settings: TrainSettings) -> Learner:
    """The learner of `settings.method`; every sampler of the paper learns from camera-aware proxies."""
    if settings.method == "spcl":
        return Spcl(settings)
    return Mmcl(settings) if settings.method == "mmcl" else CameraAware(settings)


class CameraAware:
    """Proxies, their memory, and the loss of CAP or of Eq. 1 (Section III-A)."""

    def __init__(self, settings: TrainSettings) -> None:
        self.settings = settings
        self.bank: Tensor | None = None  # memory_rebuild=drawn: a feature an image, as last drawn
        self.epoch = 0

    def begin(self, epoch: int, features: Tensor, cameras: Tensor) -> Groups:
        """Cluster the features, split the clusters by camera, and fill the memory with the means."""
        s = self.settings
        self.epoch = epoch
        clusters = pseudo_labels.cluster(
            features, s.k1, s.k2, s.eps, s.min_samples, s.eps_tol, s.k1_includes_self
        ).to(features.device)
        cameras = cameras.to(features.device)
        split = cameras if s.camera_aware else torch.zeros_like(cameras)
        self.proxies, self.proxy_clusters, self.proxy_cameras = pseudo_labels.proxies(clusters, split)
        if s.memory_rebuild == "drawn":
            self.bank = features.clone() if self.bank is None else self.bank
            features = self.bank
        if bool((clusters >= 0).any()):  # else the sampler says what is wrong
            self.memory = losses.proxy_means(features, self.proxies)
        return Groups(clusters, self.proxies, cameras)

    def loss(self, features: Tensor, indices: Tensor) -> Tensor:
        """Eq. 1 as CAP completes it: within the cameras, and after some epochs between them."""
        s = self.settings
        return losses.camera_aware_loss(
            features, self.proxies[indices.to(features.device)], self.memory,
            self.proxy_clusters, self.proxy_cameras, s.tau, intra_loss=s.intra_loss,
            inter_weight=s.inter_weight if self.epoch >= s.inter_start_epoch else 0.0,
            num_hard_negatives=s.num_hard_negatives or None, loss_weighting=s.loss_weighting,
        )  # fmt: skip

    def write(self, features: Tensor, indices: Tensor) -> None:
        """The moving average, sample after sample in the batch's order."""
        indices = indices.to(features.device)
        losses.update_memory(self.memory, features, self.proxies[indices], self.settings.memory_momentum)
        if self.bank is not None:
            self.bank[indices] = F.normalize(features)

    def state(self) -> dict[str, Any]:
        """What outlives an epoch."""
        return {"bank": self.bank}

    def resume(self, state: dict[str, Any], where: torch.device) -> None:
        """Take up `state`."""
        self.bank = None if state["bank"] is None else state["bank"].to(where)
