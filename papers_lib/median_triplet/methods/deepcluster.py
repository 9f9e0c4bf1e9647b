"""DeepCluster: Caron et al., "Deep Clustering for Unsupervised Learning of Visual Features" (ECCV 2018)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from papers_lib.median_triplet.methods import clusters
from papers_lib.median_triplet.methods.base import Batch, Logs, Method, Settings, full_precision
from papers_lib.median_triplet.methods.projector import classifier


class DeepCluster(Method):
    """Equations 2 and 1 in turn: k-means on all features before each epoch, then learn its labels.

    Features are whitened by PCA (256-d) and brought to length 1; the classifier starts anew with each
    clustering. The paper draws images uniformly over clusters, "equivalent to weight the contribution
    of an input by the inverse of the size of its cluster": here the loss is weighted. Without the
    paper's Sobel filter, so that the encoder sees the images that all others see.
    """

    recipe = "moco_v1"
    pseudo_labels: Tensor
    weights: Tensor
    clustered: Tensor

    def __init__(self, settings: Settings, images_total: int, classes: int | None) -> None:
        super().__init__(settings)
        self.k = clusters.number_of_clusters(images_total, classes)
        self.head = classifier(self.dimension, self.k)
        self.register_buffer("pseudo_labels", torch.zeros(images_total, dtype=torch.int64))
        self.register_buffer("weights", torch.ones(self.k))  # of the clusters in the loss
        self.register_buffer("clustered", torch.tensor(-1))  # the epoch that the labels are of

    @torch.no_grad()
    def begin_epoch(self, epoch: int, embed: Callable[[], Tensor]) -> None:
        """Cluster, and forget the classifier."""
        if epoch <= self.clustered:
            return
        features = clusters.whitened(embed().float())
        self.pseudo_labels.copy_(clusters.kmeans(features, self.k, self.generator))
        self.weights.copy_(1 / self.pseudo_labels.bincount(minlength=self.k))
        weight = torch.empty(self.head.weight.shape).normal_(std=0.01, generator=self.generator)
        self.head.weight.copy_(weight)
        nn.init.zeros_(self.head.bias)
        self.clustered.fill_(epoch)

    def _loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        scores = self.head(self.encoder(batch.views[0]))
        labels = self.pseudo_labels[batch.indices.to(scores.device)]
        with full_precision(scores):
            return F.cross_entropy(scores.float(), labels, weight=self.weights), {}
