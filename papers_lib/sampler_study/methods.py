"""The methods of a run: how the images of an epoch are grouped, sampled in batches, and learnt from.

A learner begins an epoch by grouping the images, gives the loss of a batch, and writes the batch's features
into its memory. `sampler` makes the batches of its groups. Every sampler of the paper learns from
camera-aware proxies; SpCL and MMCL bring a memory of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from papers_lib.sampler_study import baselines, losses, pseudo_labels
from papers_lib.sampler_study.options import TrainSettings
from papers_lib.sampler_study.reference_samplers import reference
from papers_lib.sampler_study.samplers import GroupedSampler, GroupSampler, RandomSampler, TripletSampler

# Each method draws from a stream of random numbers of its own, by its place here.
STREAMS = ("random", "triplet_cluster", "triplet_proxy", "group_cluster", "group_proxy", "spcl", "mmcl")
EPS_GAP = 0.02  # SpCL: tighter and looser than eps by this much


@dataclass(frozen=True)
class Groups:
    """The pseudo-labels of an epoch: clusters and proxies [N], −1 for outliers, and the cameras [N]."""

    clusters: Tensor
    proxies: Tensor
    cameras: Tensor

    def summary(self) -> dict[str, float]:
        """How many clusters and proxies there are, the largest cluster, and the share of outliers."""
        inliers = self.clusters[self.clusters >= 0]
        proxies = float(self.proxies.max() + 1)
        return {
            "largest_cluster": float(inliers.bincount().max()) if len(inliers) else 0.0,
            "clusters": float(self.clusters.max() + 1),
            "proxies": proxies,
            "images_per_proxy": round(len(inliers) / max(1.0, proxies), 3),
            "outliers": round(float((self.clusters < 0).float().mean()), 5),
        }


def sampler(settings: TrainSettings, groups: Groups, epoch: int) -> GroupedSampler:
    """The sampler of one epoch; its seed differs by method, so that equal rules draw independently.

    Raises:
        PapersError: no batch can be made of these groups.
    """
    s = settings
    labels = (groups.proxies if s.method in ("triplet_proxy", "group_proxy") else groups.clusters).cpu()
    cameras = groups.cameras.cpu()
    seed = s.seed * len(STREAMS) + STREAMS.index(s.method)
    labels = some_classes(labels, s.visited, seed, epoch)
    common: dict[str, Any] = {
        "batch_size": s.batch_size,
        "iterations": s.iters_per_epoch or max(1, int((labels >= 0).sum()) // s.batch_size),
        "shuffle_batches": s.shuffle_batches,
        "seed": seed,
    }
    chosen: GroupedSampler
    if s.method.startswith("triplet"):
        chosen = TripletSampler(
            labels,
            s.k,
            s.p or None,
            partial_group=s.partial_group,
            repeat=s.repeat,
            cameras=cameras,
            prefer_other_cameras=s.prefer_other_cameras,
            groups_per_class=s.groups_per_class,
            **common,
        )
    elif s.method.startswith("group"):
        chosen = GroupSampler(labels, s.k, partial_group=s.partial_group, **common)
    elif s.method == "spcl":
        chosen = reference("spcl", labels, cameras, size=s.k, **common)
    else:
        chosen = RandomSampler(labels, **common)
    chosen.set_epoch(epoch)
    return chosen


def some_classes(labels: Tensor, share: float, seed: int, epoch: int) -> Tensor:
    """The labels [N] with a random `share` of the classes, and −1 for the images of all others."""
    classes = labels[labels >= 0].unique()
    if share == 1 or not len(classes):
        return labels
    generator = torch.Generator().manual_seed(len(STREAMS) * 1000 * seed + epoch)
    kept = classes[torch.randperm(len(classes), generator=generator)[: round(share * len(classes))]]
    return labels.where(torch.isin(labels, kept), -1)


class Learner(nn.Module):
    """What the loop asks of a method. Its buffers outlive an epoch, and are in the checkpoint.

    Args:
        settings: of the run.
        shape: (N, d), of the features of all images.
    """

    OF_IMAGES = True  # the memory is one vector per image, and outlives an epoch
    memory: Tensor

    def __init__(self, settings: TrainSettings, shape: tuple[int, int]) -> None:
        super().__init__()
        self.settings, self.epoch = settings, 0
        rows = torch.zeros(shape) if self.OF_IMAGES else torch.empty(0)
        self.register_buffer("memory", rows, persistent=self.OF_IMAGES)

    def begin(self, epoch: int, features: Tensor, cameras: Tensor) -> Groups:
        """Group the images by their features [N, d] and cameras [N], and make the memory ready."""
        raise NotImplementedError

    def loss(self, features: Tensor, indices: Tensor) -> Tensor:
        """The loss of a batch: features [B, d] of the images `indices` [B]."""
        raise NotImplementedError

    def write(self, features: Tensor, indices: Tensor) -> None:
        """Write the batch's features into the memory."""
        raise NotImplementedError


class CameraAware(Learner):
    """Proxies, their memory, and the loss of CAP or of Eq. 1 (Section III-A)."""

    OF_IMAGES = False
    bank: Tensor | None  # [N, d], with memory_rebuild=drawn: a feature per image, as last drawn

    def __init__(self, settings: TrainSettings, shape: tuple[int, int]) -> None:
        super().__init__(settings, shape)
        self.register_buffer("bank", torch.zeros(shape) if settings.memory_rebuild == "drawn" else None)

    def begin(self, epoch: int, features: Tensor, cameras: Tensor) -> Groups:
        """Cluster the features, split the clusters by camera, and fill the memory with the means."""
        s, self.epoch = self.settings, epoch
        clusters = pseudo_labels.cluster(
            features, s.k1, s.k2, s.eps, s.min_samples, s.eps_tol, s.k1_includes_self
        ).to(features.device)  # [N]
        cameras = cameras.to(features.device)
        split = cameras if s.camera_aware else torch.zeros_like(cameras)
        self.proxies, self.proxy_clusters, self.proxy_cameras = pseudo_labels.proxies(clusters, split)
        if self.bank is not None:
            if epoch == 0:
                self.bank.copy_(features)
            features = self.bank
        if bool((clusters >= 0).any()):  # else the sampler says what is wrong
            self.memory = losses.proxy_means(features, self.proxies)  # [P, d]
        return Groups(clusters, self.proxies, cameras)

    def loss(self, features: Tensor, indices: Tensor) -> Tensor:
        """Eq. 1 as CAP completes it: within the cameras, and after some epochs between them."""
        s = self.settings
        return losses.camera_aware_loss(
            features,
            self.proxies[indices.to(features.device)],
            self.memory,
            self.proxy_clusters,
            self.proxy_cameras,
            s.tau,
            intra_loss=s.intra_loss,
            inter_weight=s.inter_weight if self.epoch >= s.inter_start_epoch else 0.0,
            num_hard_negatives=s.num_hard_negatives or None,
            loss_weighting=s.loss_weighting,
        )

    def write(self, features: Tensor, indices: Tensor) -> None:
        """The moving average, sample after sample in the batch's order."""
        indices = indices.to(features.device)
        losses.update_memory(self.memory, features, self.proxies[indices], self.settings.memory_momentum)
        if self.bank is not None:
            self.bank[indices] = F.normalize(features)


class Spcl(Learner):
    """SpCL: self-paced clusters of a memory of all images, and the loss over their means."""

    threshold: Tensor  # of independence, from the first epoch

    def __init__(self, settings: TrainSettings, shape: tuple[int, int]) -> None:
        super().__init__(settings, shape)
        self.register_buffer("threshold", torch.zeros((), dtype=torch.float64))

    def begin(self, epoch: int, features: Tensor, cameras: Tensor) -> Groups:
        """Cluster the memory, which holds the features of the first epoch, and keep what is reliable.

        In the groups, `clusters` has −1 for un-clustered images; `proxies` numbers each of them as a
        class of its own, as the loss sees it.
        """
        s = self.settings
        if epoch == 0:
            self.memory.copy_(F.normalize(features.detach().float()))
        radii = [s.eps + s.eps_tol + gap for gap in (0, -EPS_GAP, EPS_GAP)]
        graph = pseudo_labels.jaccard_graph(self.memory, s.k1, s.k2, max(radii), s.k1_includes_self)
        usual, tight, loose = (pseudo_labels.dbscan(graph, eps, s.min_samples) for eps in radii)
        independent = None if epoch == 0 else float(self.threshold)
        clusters, threshold = baselines.reliable(usual, tight, loose, independent)
        self.threshold.fill_(threshold)
        clusters = clusters.to(features.device)
        self.classes = baselines.own_classes(clusters)  # [N]
        return Groups(clusters, self.classes, cameras.to(features.device))

    def loss(self, features: Tensor, indices: Tensor) -> Tensor:
        """`spcl_loss` of a batch."""
        indices = indices.to(features.device)
        s = self.settings
        return baselines.spcl_loss(features, indices, self.memory, self.classes, s.tau, s.floor)

    def write(self, features: Tensor, indices: Tensor) -> None:
        """Move the images' memory towards their features."""
        momentum = self.settings.memory_momentum
        losses.update_memory(self.memory, features, indices.to(features.device), momentum)


class Mmcl(Learner):
    """MMCL: every image a class, and after `inter_start_epoch` several. An undrawn image's memory is 0."""

    def begin(self, epoch: int, features: Tensor, cameras: Tensor) -> Groups:
        """Each image is its own cluster and proxy."""
        self.epoch = epoch
        images = torch.arange(len(features), device=features.device)
        return Groups(images, images, cameras.to(features.device))

    def loss(self, features: Tensor, indices: Tensor) -> Tensor:
        """`mmcl_loss` of a batch: against single labels first, then against `multi_labels`."""
        indices = indices.to(features.device)
        if self.epoch > self.settings.inter_start_epoch:
            positive = baselines.multi_labels(self.memory, indices)  # [B, N]
        else:
            positive = indices[:, None] == torch.arange(len(self.memory), device=features.device)
        return baselines.mmcl_loss(features, self.memory, positive)

    def write(self, features: Tensor, indices: Tensor) -> None:
        """Move the images' memory; what stays of it grows from 0 in the first epoch towards one half."""
        momentum = 0.5 * self.epoch / max(1, self.settings.epochs)
        losses.update_memory(self.memory, features, indices.to(features.device), momentum)


LEARNERS: dict[str, type[Learner]] = {"spcl": Spcl, "mmcl": Mmcl}  # of all others: CameraAware
