"""Gidaris et al., "Unsupervised Representation Learning by Predicting Image Rotations" (ICLR 2018)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from papers_lib.median_triplet.methods.base import Batch, Logs, Method, Settings, full_precision
from papers_lib.median_triplet.methods.projector import classifier


class Rotation(Method):
    """Equations 2 and 3: all four rotations of each image in one batch, and which one it is."""

    def __init__(self, settings: Settings, images_total: int, classes: int | None) -> None:
        super().__init__(settings)
        self.head = classifier(self.dimension, 4)

    def _loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        images, turns = rotated(batch.views[0])
        scores = self.head(self.encoder(images))
        with full_precision(scores):
            return F.cross_entropy(scores.float(), turns), {}


def rotated(images: Tensor) -> tuple[Tensor, Tensor]:
    """[B, 3, s, s] turned by 0, 90, 180 and 270 degrees, counter-clockwise: [4B, 3, s, s], and 0 … 3 [4B]."""
    turned = torch.cat([torch.rot90(images, turns, (2, 3)) for turns in range(4)])
    turns = torch.arange(4, device=images.device).repeat_interleave(len(images))
    return turned.contiguous(memory_format=torch.channels_last), turns
