"""Doersch et al., "Unsupervised Visual Representation Learning by Context Prediction" (ICCV 2015)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from papers_lib.median_triplet.methods.base import Batch, Logs, Method, Settings, full_precision
from papers_lib.median_triplet.methods.projector import classifier, initialised

CENTRE = 4  # of the nine places, counted along the rows
JITTER = 21 / 85  # of a cell, OpenSelfSup's: patches of 64 in cells of 85 px


class RelativeLocation(Method):
    """Which of the eight neighbours of the centre patch is this one? (Sections 3 and 3.1)

    As OpenSelfSup: a grid of three by three, patches at a random place within their cells, so that
    edges do not run on; all eight pairs of an image; features of neighbour and centre side by side into
    Linear – BN – ReLU – dropout and a classifier of eight. The nine patches pass together once. Not
    here: the paper's colour dropping against chromatic aberration.
    """

    def __init__(self, settings: Settings, images_total: int, classes: int | None) -> None:
        super().__init__(settings)
        width = 2 * self.dimension
        layers = nn.Sequential(
            nn.Linear(width, width), nn.BatchNorm1d(width, momentum=0.003),
            nn.ReLU(inplace=True), nn.Dropout(),
        )  # fmt: skip
        self.neck = initialised(layers, std=0.005, bias=0.1)
        self.head = classifier(width, 8)

    def _loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        cut = patches(batch.views[0], self.generator)
        features = self.encoder(cut.flatten(0, 1)).unflatten(0, (9, -1))
        scores = self.head(self.neck(pairs(features)))
        places = torch.arange(8, device=scores.device).repeat_interleave(len(batch.views[0]))
        with full_precision(scores):
            return F.cross_entropy(scores.float(), places), {}


def patches(images: Tensor, generator: torch.Generator) -> Tensor:
    """Nine patches [9, B, 3, p, p] of images [B, 3, s, s], along the rows of the grid, each jittered anew."""
    cell = images.shape[-1] // 3
    size = cell - max(1, round(JITTER * cell))
    corners = torch.randint(cell - size + 1, (2, 9, len(images)), generator=generator)
    grid = torch.stack((torch.arange(9) // 3, torch.arange(9) % 3)) * cell
    rows, columns = ((corners + grid[:, :, None])[..., None] + torch.arange(size)).to(images.device)
    own = torch.arange(len(images), device=images.device)[:, None, None]
    cut = images.permute(0, 2, 3, 1)[own, rows[..., None], columns[..., None, :]]  # [9, B, p, p, 3]
    return cut.permute(0, 1, 4, 2, 3)


def pairs(features: Tensor) -> Tensor:
    """Features [9, B, d] of the patches to [8B, 2d]: neighbour and centre, neighbour by neighbour."""
    around = torch.cat((features[:CENTRE], features[CENTRE + 1 :]))
    return torch.cat((around, features[CENTRE].expand_as(around)), 2).flatten(0, 1)
