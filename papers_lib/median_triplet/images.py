"""The images of a run, whole in memory: uint8 on the device, so that no step waits for a disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from papers_lib.datasets import classification
from papers_lib.errors import PapersError
from papers_lib.median_triplet.options import TrainSettings

KEPT_SIZE = 256  # longer sides are brought down to this when images are larger than a view


@dataclass(frozen=True, eq=False)
class Loaded:
    """Training and test images [N, H, W, 3] uint8 with labels [N] int64, on the device."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    classes: int


def load(data: tuple[str, str], settings: TrainSettings, where: torch.device) -> Loaded:
    """Read the data set; `settings.images` of the training images, the same number of each class.

    Raises:
        PapersError: bad data, or fewer images than a batch.
    """
    survey = classification.load(Path(data[0]), data[1])
    chosen = subset(survey.train.labels, settings.images, settings.seed)
    if len(chosen) < settings.batch_size:
        raise PapersError(
            f"{len(chosen)} training images do not fill one batch of {settings.batch_size}; "
            "lower batch_size or take more images"
        )
    # images no larger than a view are kept as they are
    size = None if settings.image_size <= 32 else KEPT_SIZE
    train = classification.load_images(survey.train, size)[chosen]  # uint8 [N, H, W, 3]
    test = classification.load_images(survey.test, size)  # uint8 [M, H, W, 3]
    return Loaded(
        torch.as_tensor(train, device=where),
        torch.as_tensor(survey.train.labels[chosen], device=where),
        torch.as_tensor(test, device=where),
        torch.as_tensor(survey.test.labels, device=where),
        len(survey.classes),
    )


def subset(labels: NDArray[np.int64], total: int, seed: int) -> NDArray[np.int64]:
    """Indices of `total` images, as many of each class as of any other; all of them for 0.

    Raises:
        PapersError: a class has too few.
    """
    if not total or total >= len(labels):
        return np.arange(len(labels))
    classes, counts = np.unique(labels, return_counts=True)
    share = total // len(classes)  # of each class
    random = np.random.default_rng(seed)
    parts = []
    for label, count in zip(classes, counts, strict=True):
        if count < share or not share:
            raise PapersError(
                f"class {label} has {count} images, {share} of each are asked for; "
                f"choose images between {len(classes)} and {len(classes) * counts.min()}"
            )
        parts.append(random.choice(np.flatnonzero(labels == label), share, replace=False))
    return np.sort(np.concatenate(parts))  # in the order of the data set
