"""Clusters as labels: DeepCluster makes them anew before each epoch, ODC moves them with each batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from papers_lib.median_triplet.methods import kmeans
from papers_lib.median_triplet.methods.base import (
    Batch,
    Logs,
    Method,
    Settings,
    classifier,
    cross_entropy,
    full_precision,
    initialised,
)
from papers_lib.processes import gathered

SMALLEST = 20  # ODC: a cluster with fewer images is dissolved
CENTROIDS_EVERY = 10  # batches


class DeepCluster(Method):
    """Caron et al., "Deep Clustering for Unsupervised Learning of Visual Features" (ECCV 2018).

    Equations 2 and 1 in turn: k-means on all features before each epoch, then learn its labels. Features
    are whitened by PCA (256-d) and brought to length 1; the classifier starts anew with each clustering.
    The paper draws images uniformly over clusters, "equivalent to weight the contribution of an input by
    the inverse of the size of its cluster": here the loss is weighted. Without the paper's Sobel filter,
    so that the encoder sees the images that all others see.
    """

    recipe = "clusters"
    whole = True
    pseudo_labels: Tensor
    weights: Tensor
    clustered: Tensor

    def __init__(self, settings: Settings, images_total: int, classes: int | None) -> None:
        super().__init__(settings, images_total, classes)
        self.k = kmeans.number_of_clusters(images_total, classes)
        self.head = classifier(self.dimension, self.k)
        self.register_buffer("pseudo_labels", torch.zeros(images_total, dtype=torch.int64))
        self.register_buffer("weights", torch.ones(self.k))  # of the clusters in the loss
        self.register_buffer("clustered", torch.tensor(-1))  # the epoch that the labels are of

    def clusters_before(self, epoch: int) -> bool:
        """Before each epoch."""
        return epoch > int(self.clustered)

    @torch.no_grad()
    def cluster(self, features: Tensor, epoch: int) -> list[nn.Parameter]:
        """Cluster, and forget the classifier."""
        labels = kmeans.kmeans(kmeans.whitened(features), self.k, self.generator)  # [N]
        self.pseudo_labels.copy_(labels)
        self.weights.copy_(1 / self.pseudo_labels.bincount(minlength=self.k))
        # N(0, 0.01²), as at the start
        weight = torch.empty(self.head.weight.shape).normal_(std=0.01, generator=self.generator)
        self.head.weight.copy_(weight)
        nn.init.zeros_(self.head.bias)
        self.clustered.fill_(epoch)
        return list(self.head.parameters())

    def _loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        scores = self.head(self.encoder(batch.views[0]))  # [B, k]
        labels = self.pseudo_labels[batch.indices.to(scores.device)]  # [B]
        return cross_entropy(scores, labels, self.weights), {}


class Odc(Method):
    """Zhan et al., "Online Deep Clustering for Unsupervised Representation Learning" (CVPR 2020).

    Equations 1 and 2: clusters that move on with each batch. Two memories: a unit vector F_n and a label
    of each image, and the clusters' centroids C. A batch learns the labels that it finds, weighted by
    1/√(size of the cluster), and then

        F_n ← L2(½ F_n + ½ L2(f)),   label ← argmax_c C_c·F_n .

    Images of clusters that are too small go to the nearest of the others; the place that falls vacant
    takes half of the largest cluster. Centroids are recomputed every tenth batch. k-means makes the
    first labels, from the untrained network. Settings as OpenSelfSup's, by the same authors.
    """

    recipe = "clusters"
    whole = True
    memory: Tensor
    pseudo_labels: Tensor
    centroids: Tensor
    batches: Tensor

    def __init__(self, settings: Settings, images_total: int, classes: int | None) -> None:
        super().__init__(settings, images_total, classes)
        self.k = kmeans.number_of_clusters(images_total, classes)
        self.smallest = max(1, min(SMALLEST, images_total // (4 * self.k)))
        hidden = max(64, self.dimension // 4)
        layers = nn.Sequential(  # OpenSelfSup's: 2048, 512, 256 for a ResNet-50
            nn.Linear(self.dimension, hidden),
            nn.BatchNorm1d(hidden, momentum=0.001, affine=False),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(hidden, 256),
            nn.ReLU(),
        )
        self.neck = initialised(layers)
        self.head = classifier(256, self.k)
        self.register_buffer("memory", torch.zeros(images_total, 256))
        self.register_buffer("pseudo_labels", torch.zeros(images_total, dtype=torch.int64))
        self.register_buffer("centroids", torch.zeros(self.k, 256))
        self.register_buffer("batches", torch.tensor(-1))  # since the first clustering

    def clusters_before(self, epoch: int) -> bool:
        """Before the first epoch alone."""
        return int(self.batches) < 0

    @torch.no_grad()
    def cluster(self, features: Tensor, epoch: int) -> list[nn.Parameter]:
        """The first labels; the neck, untrained, normalises by the whole set and drops out as in training."""
        self.memory.copy_(F.normalize(self.neck(features)))
        self.pseudo_labels.copy_(kmeans.kmeans(self.memory, self.k, self.generator))
        self.centroids.copy_(kmeans.means(self.memory, self.pseudo_labels, self.k))
        self.batches.zero_()
        return []

    def _loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        features = self.neck(self.encoder(batch.views[0]))  # [B, 256]
        scores = self.head(features)  # [B, k]
        indices = batch.indices.to(scores.device)
        # 1/√(size of the cluster), [k]
        weight = self.pseudo_labels.bincount(minlength=self.k).clamp(min=1).rsqrt()
        loss = cross_entropy(scores, self.pseudo_labels[indices], weight)
        with full_precision(scores):
            self._move_on(gathered(indices), gathered(features.detach().float()))
        return loss, {}

    @torch.no_grad()
    def _move_on(self, indices: Tensor, features: Tensor) -> None:
        """Write the batch into the memory, relabel it, and keep the clusters large enough."""
        # F_n ← L2(½ F_n + ½ L2(f)),   label ← argmax_c C_c·F_n
        moved = F.normalize((self.memory[indices] + F.normalize(features)) / 2)
        self.memory[indices] = moved
        self.pseudo_labels[indices] = (moved @ self.centroids.T).argmax(1)
        self.batches += 1
        if self.batches % CENTROIDS_EVERY == 0:
            self.centroids.copy_(kmeans.means(self.memory, self.pseudo_labels, self.k))
        small = self.pseudo_labels.bincount(minlength=self.k) < self.smallest  # [k]
        if small.any():
            self._dissolve(small)

    def _dissolve(self, small: Tensor) -> None:
        """Empty the clusters of the mask [k]; split the largest, again and again, into their places."""
        labels = self.pseudo_labels
        homeless = small[labels].nonzero().flatten()  # images of small clusters
        scores = (self.memory[homeless] @ self.centroids.T).masked_fill(small, -torch.inf)
        labels[homeless] = scores.argmax(1)
        split = kmeans.refilled(self.memory, labels, self.k)
        # both halves of each cluster that was split get new centroids
        changed = torch.cat((labels[split != labels], split[split != labels])).unique()
        labels.copy_(split)
        for c in changed:
            self.centroids[c] = self.memory[labels == c].mean(0)
