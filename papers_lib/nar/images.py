"""The images of a run, whole in memory: uint8 on the device, cropped and flipped there a batch at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from papers_lib.datasets import classification, folder
from papers_lib.datasets.stream import moved
from papers_lib.errors import PapersError
from papers_lib.nar.options import Common

PAD = 4  # pixels on each side, for the random crop
MEAN, SD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of CIFAR-10's training images


class Parts(NamedTuple):
    """Disjoint indices of training images that no weight was trained with: three uses, three parts.

    What is chosen by some images looks better on them than it is: the best of many scores is the luckiest.
    """

    reward: Tensor  # of the controller and of the search
    choice: Tensor  # of the pick among the final samples, and of every best of several
    judge: Tensor  # of every score and rank that is reported


@dataclass(frozen=True, eq=False)
class Loaded:
    """Images [N, H, W, 3] uint8 and labels [N] int64 on the device; `chosen` are those of the run.

    `training` and `validation` part the chosen ones, as many of each class in the validation part.
    """

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    training: Tensor  # indices into `train`
    validation: Tensor  # indices into `train`, in an order that has all classes at its beginning
    classes: int

    @property
    def chosen(self) -> Tensor:
        """Indices of all images of the run."""
        return torch.cat((self.training, self.validation))

    def parts(self, score_images: int) -> Parts:
        """The validation part in three: for rewards, to choose by, and to judge what was chosen.

        Raises:
            PapersError: nothing is left for rewards.
        """
        rewards = len(self.validation) - 2 * score_images
        if rewards < 2:
            raise PapersError(
                f"{len(self.validation)} validation images leave none for rewards beside 2 × "
                f"{score_images} to choose and to judge by; raise valid_size or lower score_images"
            )
        return Parts(*self.validation.split([rewards, score_images, score_images]))

    def views(
        self,
        indices: Tensor,
        generator: torch.Generator,
        augment: bool,
        shift: int = PAD,
        reflect: bool = False,
        odd: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Training images normalised, cropped and mirrored or not, [B, 3, H, W], and their labels [B].

        `shift` and `reflect` are those of `augmented`. With `odd`, 0 or 1 by the epoch, those images are
        mirrored whose index is even or odd: each in every other epoch.
        """
        if not augment:
            return self.plain(indices)
        mirrored = None if odd is None else (indices + odd) % 2 == 0
        views = augmented(self.train[indices], generator, shift, reflect, mirrored)
        return normalised(views), self.train_labels[indices]

    def plain(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Training images as they are, normalised, [B, 3, H, W], and their labels [B]."""
        return normalised(self.train[indices]), self.train_labels[indices]


Given = tuple[str, str] | Loaded  # root folder and name, or tensors


def load(data: Given, settings: Common, where: torch.device) -> Loaded:
    """Read the data set, unless it is given, and part its training images, both by the seed.

    The validation part is an equal share of each class, not the last images as in the released code: where
    images lie by class, the last ones are of one class.

    Raises:
        PapersError: bad data, or fewer images than asked for.
    """
    if isinstance(data, Loaded):
        return data
    root, name = Path(data[0]), data[1]
    source = folder.classified(root) if name == folder.NAME else classification.load(root, name)
    labels = source.train.labels
    chosen = subset(labels, settings.images or len(labels), settings.seed)
    held = chosen[subset(labels[chosen], settings.valid_size, settings.seed + 1, "valid_size")]
    training = np.setdiff1d(chosen, held)  # in order: the epoch shuffles
    if len(training) < settings.batch_size:
        raise PapersError(
            f"{len(training)} training images do not fill one batch of {settings.batch_size}; "
            "lower batch_size or valid_size"
        )
    held = np.random.default_rng(settings.seed).permutation(held)  # so that its beginning has all classes
    size = settings.image_size or None  # None: as the images are
    return Loaded(
        train=torch.as_tensor(classification.load_images(source.train, size), device=where),
        train_labels=torch.as_tensor(labels, device=where),
        test=torch.as_tensor(classification.load_images(source.test, size), device=where),
        test_labels=torch.as_tensor(source.test.labels, device=where),
        training=torch.as_tensor(training, device=where),
        validation=torch.as_tensor(held, device=where),
        classes=len(source.classes),
    )


def subset(labels: np.ndarray, total: int, seed: int, setting: str = "images") -> np.ndarray:
    """Indices of `total` images in order, as many of each class as of any other, drawn by the seed.

    Raises:
        PapersError: there are fewer, a class has too few, or `total` is less than one of each; the message
            names the setting.
    """
    if total == len(labels):  # all: a class may have more than another
        return np.arange(len(labels))
    classes, counts = np.unique(labels, return_counts=True)
    share = total // len(classes)  # images per class
    if total > len(labels) or not 0 < share <= counts.min():
        raise PapersError(
            f"{total} images of {len(classes)} classes are asked for, the rarest class has {counts.min()}; "
            f"set {setting} between {len(classes)} and {len(classes) * counts.min()}"
        )
    random = np.random.default_rng(seed)
    parts = [random.choice(np.flatnonzero(labels == label), share, replace=False) for label in classes]
    return np.sort(np.concatenate(parts))


def shuffled(indices: Tensor, size: int, generator: torch.Generator) -> list[Tensor]:
    """An epoch's batches of indices, [size] each; the incomplete last one is left out."""
    order = torch.randperm(len(indices), generator=generator)[: len(indices) // size * size]
    return list(indices[moved(order, indices.device)].view(-1, size))


def normalised(images: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] → float32 [B, 3, H, W], channels-last in memory."""
    mean, sd = _constants(images.device)  # [3]
    return ((images.float() / 255 - mean) / sd).permute(0, 3, 1, 2)


@cache
def _constants(where: torch.device) -> tuple[Tensor, Tensor]:
    """MEAN and SD, copied to a device once and not for every batch."""
    return torch.tensor(MEAN, device=where), torch.tensor(SD, device=where)


def augmented(
    images: Tensor,
    generator: torch.Generator,
    shift: int = PAD,
    reflect: bool = False,
    mirrored: Tensor | None = None,
) -> Tensor:
    """Each image cropped at random from itself with a border of `shift`, and mirrored half of the time.

    uint8 [B, H, W, 3] → the same, in one gather; `generator` is the CPU's, so that a seed gives the same
    images on any device. The border is black, or with `reflect` the image's own mirror image; `mirrored`
    [B] says which images are mirrored, in the place of chance.
    """
    count, height, width = images.shape[:3]
    move = torch.randint(2 * shift + 1, (2, count, 1), generator=generator)  # down, across: [2, B, 1]
    drawn = torch.rand(count, 1, generator=generator) < 0.5  # [B, 1]
    down, across = moved(move, images.device)
    turned = moved(drawn, images.device) if mirrored is None else mirrored[:, None]  # [B, 1]
    straight = torch.arange(width, device=images.device)
    columns = across + torch.where(turned, straight.flip(0), straight)  # [B, W]
    rows = down + torch.arange(height, device=images.device)  # [B, H]
    which = torch.arange(count, device=images.device)[:, None, None]
    if reflect:  # −1 is 1 and H is H − 2: the edge itself stands once
        rows, columns = (_reflected(at - shift, side) for at, side in ((rows, height), (columns, width)))
        return images[which, rows[:, :, None], columns[:, None, :]]
    padded = F.pad(images, (0, 0, shift, shift, shift, shift))  # [B, H + 2 shift, W + 2 shift, 3]
    return padded[which, rows[:, :, None], columns[:, None, :]]


def _reflected(places: Tensor, side: int) -> Tensor:
    """Places −shift … side − 1 + shift as places of the image."""
    return (side - 1) - ((side - 1) - places.abs()).abs()
