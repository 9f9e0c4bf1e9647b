"""A classifier on made-up or real labels: rotation, relative location, supervised; and no training at all."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from papers_lib import processes
from papers_lib.errors import PapersError
from papers_lib.median_triplet.methods.base import (
    Batch,
    Logs,
    Method,
    Settings,
    classifier,
    cross_entropy,
    initialised,
)

CENTRE = 4  # of the nine places, counted along the rows
JITTER = 21 / 85  # of a cell, OpenSelfSup's: patches of 64 in cells of 85 px


class Rotation(Method):
    """Gidaris et al., "Unsupervised Representation Learning by Predicting Image Rotations" (ICLR 2018).

    Equations 2 and 3: all four rotations of each image in one batch, and which one it is.
    """

    def __init__(self, settings: Settings, images_total: int, classes: int | None) -> None:
        super().__init__(settings, images_total, classes)
        self.head = classifier(self.dimension, 4)  # quarter turns

    def _loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        images, turns = rotated(batch.views[0])  # [4B, 3, s, s], [4B]
        return cross_entropy(self.head(self.encoder(images)), turns), {}


def rotated(images: Tensor) -> tuple[Tensor, Tensor]:
    """[B, 3, s, s] turned by 0, 90, 180 and 270 degrees, counter-clockwise: [4B, 3, s, s], and 0 … 3 [4B]."""
    turned = torch.cat([torch.rot90(images, turns, (2, 3)) for turns in range(4)])
    turns = torch.arange(4, device=images.device).repeat_interleave(len(images))
    return turned.contiguous(memory_format=torch.channels_last), turns


class RelativeLocation(Method):
    """Doersch et al., "Unsupervised Visual Representation Learning by Context Prediction" (ICCV 2015).

    Which of the eight neighbours of the centre patch is this one? (Sections 3 and 3.1) As OpenSelfSup: a
    grid of three by three, patches at a random place within their cells, so that edges do not run on; all
    eight pairs of an image; features of neighbour and centre side by side into Linear – BN – ReLU –
    dropout and a classifier of eight. The nine patches pass together once. Against chromatic aberration two
    thirds of the images are grey, where the paper drops colours.
    """

    recipe = "relative_location"

    def __init__(self, settings: Settings, images_total: int, classes: int | None) -> None:
        super().__init__(settings, images_total, classes)
        width = 2 * self.dimension
        layers = nn.Sequential(
            nn.Linear(width, width),
            nn.BatchNorm1d(width, momentum=0.003),
            nn.ReLU(inplace=True),
            nn.Dropout(),
        )
        self.neck = initialised(layers, std=0.005, bias=0.1)
        self.head = classifier(width, 8)

    def _loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        cut = patches(batch.views[0], self.generator)  # [9, B, 3, p, p]
        features = self.encoder(cut.flatten(0, 1)).unflatten(0, (9, -1))  # [9, B, d]
        scores = self.head(self.neck(pairs(features)))  # [8B, 8]
        places = torch.arange(8, device=scores.device).repeat_interleave(len(batch.views[0]))
        return cross_entropy(scores, places), {}


def patches(images: Tensor, generator: torch.Generator) -> Tensor:
    """Nine patches [9, B, 3, p, p] of images [B, 3, s, s], along the rows of the grid, each jittered anew."""
    cell = images.shape[-1] // 3
    size = cell - max(1, round(JITTER * cell))  # p
    # within the cell; image by image, so that several processes draw what one would
    total, mine = processes.drawn(len(images))
    corners = torch.randint(cell - size + 1, (total, 2, 9), generator=generator)[mine].permute(1, 2, 0)
    grid = torch.stack((torch.arange(9) // 3, torch.arange(9) % 3)) * cell  # [2, 9]
    # [9, B, p] each
    rows, columns = ((corners + grid[:, :, None])[..., None] + torch.arange(size)).to(images.device)
    image = torch.arange(len(images), device=images.device)[:, None, None]
    cut = images.permute(0, 2, 3, 1)[image, rows[..., None], columns[..., None, :]]  # [9, B, p, p, 3]
    return cut.permute(0, 1, 4, 2, 3)


def pairs(features: Tensor) -> Tensor:
    """Features [9, B, d] of the patches to [8B, 2d]: neighbour and centre, neighbour by neighbour."""
    around = torch.cat((features[:CENTRE], features[CENTRE + 1 :]))  # [8, B, d]
    return torch.cat((around, features[CENTRE].expand_as(around)), 2).flatten(0, 1)


class Supervised(Method):
    """Cross-entropy with the labels, the only method that reads them.

    Raises:
        PapersError: no number of classes.
    """

    def __init__(self, settings: Settings, images_total: int, classes: int | None) -> None:
        super().__init__(settings, images_total, classes)
        if classes is None:
            raise PapersError("supervised needs the number of classes; give a data set that has labels")
        self.head = classifier(self.dimension, classes)

    def _loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        return cross_entropy(self.head(self.encoder(batch.views[0])), batch.labels), {}


class Random(Method):
    """The encoder as it was drawn. It has no loss, and training skips it."""

    def trained(self) -> list[nn.Parameter]:
        """Nothing."""
        return []
