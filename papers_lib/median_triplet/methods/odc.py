"""ODC: Zhan et al., "Online Deep Clustering for Unsupervised Representation Learning" (CVPR 2020)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from papers_lib.median_triplet.methods import clusters
from papers_lib.median_triplet.methods.base import Batch, Logs, Method, Settings, full_precision, gathered
from papers_lib.median_triplet.methods.projector import classifier, initialised

SMALLEST = 20  # a cluster with fewer images is dissolved
CENTROIDS_EVERY = 10  # batches


class Odc(Method):
    """Equations 1 and 2: clusters that move on with each batch, instead of anew with each epoch.

    Two memories: a unit vector F_n and a label of each image, and the clusters' centroids C. A batch
    learns the labels that it finds, weighted by 1/√(size of the cluster), and then

        F_n ← L2(½ F_n + ½ L2(f)),   label ← argmax_c C_c·F_n .

    Images of clusters that are too small go to the nearest of the others; the place that falls vacant
    takes half of the largest cluster. Centroids are recomputed every tenth batch. k-means makes the
    first labels, from the untrained network. Settings as OpenSelfSup's, by the same authors.
    """

    recipe = "moco_v1"
    memory: Tensor
    pseudo_labels: Tensor
    centroids: Tensor
    batches: Tensor

    def __init__(self, settings: Settings, images_total: int, classes: int | None) -> None:
        super().__init__(settings)
        self.k = clusters.number_of_clusters(images_total, classes)
        self.smallest = max(1, min(SMALLEST, images_total // (4 * self.k)))
        self.neck = _neck(self.dimension, max(64, self.dimension // 4), 256)
        self.head = classifier(256, self.k)
        self.register_buffer("memory", torch.zeros(images_total, 256))
        self.register_buffer("pseudo_labels", torch.zeros(images_total, dtype=torch.int64))
        self.register_buffer("centroids", torch.zeros(self.k, 256))
        self.register_buffer("batches", torch.tensor(-1))  # since the first clustering

    @torch.no_grad()
    def begin_epoch(self, epoch: int, embed: Callable[[], Tensor]) -> None:
        """The first labels; later epochs find them made."""
        if self.batches >= 0:
            return
        self.neck.eval()
        self.memory.copy_(F.normalize(self.neck(embed().float())))
        self.neck.train(self.training)
        self.pseudo_labels.copy_(clusters.kmeans(self.memory, self.k, self.generator))
        self.centroids.copy_(clusters.means(self.memory, self.pseudo_labels, self.k))
        self.batches.zero_()

    def _loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        features = self.neck(self.encoder(batch.views[0]))
        scores = self.head(features)
        indices = batch.indices.to(scores.device)
        with full_precision(scores):
            weight = self.pseudo_labels.bincount(minlength=self.k).clamp(min=1).rsqrt()
            loss = F.cross_entropy(scores.float(), self.pseudo_labels[indices], weight=weight)
            self._move_on(gathered(indices), gathered(features.detach().float()))
        return loss, {}

    @torch.no_grad()
    def _move_on(self, indices: Tensor, features: Tensor) -> None:
        """Write the batch into the memory, relabel it, and keep the clusters large enough."""
        moved = F.normalize((self.memory[indices] + F.normalize(features)) / 2)
        self.memory[indices] = moved
        self.pseudo_labels[indices] = (moved @ self.centroids.T).argmax(1)
        self.batches += 1
        if self.batches % CENTROIDS_EVERY == 0:
            self.centroids.copy_(clusters.means(self.memory, self.pseudo_labels, self.k))
        small = self.pseudo_labels.bincount(minlength=self.k) < self.smallest
        if small.any():
            self._dissolve(small)

    def _dissolve(self, small: Tensor) -> None:
        """Empty the clusters of the mask [k]; split the largest, again and again, into their places."""
        labels = self.pseudo_labels
        homeless = small[labels].nonzero().flatten()
        scores = (self.memory[homeless] @ self.centroids.T).masked_fill(small, -torch.inf)
        labels[homeless] = scores.argmax(1)
        split = clusters.refilled(self.memory, labels, self.k)
        changed = torch.cat((labels[split != labels], split[split != labels])).unique()
        labels.copy_(split)
        for c in changed:
            self.centroids[c] = self.memory[labels == c].mean(0)


def _neck(inside: int, hidden: int, outside: int) -> nn.Sequential:
    """Linear – BN – ReLU – dropout – Linear – ReLU, as OpenSelfSup's (2048, 512, 256 for a ResNet-50)."""
    layers = nn.Sequential(
        nn.Linear(inside, hidden), nn.BatchNorm1d(hidden, momentum=0.001, affine=False),
        nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(hidden, outside), nn.ReLU(),
    )  # fmt: skip
    return initialised(layers)
