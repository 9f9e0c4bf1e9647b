"""The images of a run, whole in memory: uint8 on the device, so that no step waits for a disk.

In their place can stand frozen features of fixed views (`papers_lib.datasets.features`): of each image a
first view as it is, and random ones, of which a step draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from papers_lib.datasets import classification, features
from papers_lib.errors import PapersError
from papers_lib.median_triplet import augment
from papers_lib.median_triplet.options import TrainSettings

Side = tuple[NDArray[Any], NDArray[np.int64]]  # images or features [N, …], labels [N]

KEPT_SIZE = 256  # longer sides are brought down to this when images are larger than a view


@dataclass(frozen=True, eq=False)
class Loaded:
    """Training and test images with labels [N] int64, on the device.

    Images are uint8 [N, H, W, 3], or features float32 [N, views, d].
    """

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
    train, test, classes = (_frozen if data[1] in features.NAMES else _pictures)(data, settings)
    if settings.classes:
        kept = np.random.default_rng(settings.seed).permutation(classes)[: settings.classes]
        train, test, classes = _only(train, kept), _only(test, kept), settings.classes
    chosen = subset(train[1], settings.images, settings.seed)
    if len(chosen) < settings.batch_size:
        raise PapersError(
            f"{len(chosen)} training images do not fill one batch of {settings.batch_size}; "
            "lower batch_size or take more images"
        )
    x, y, x_test, y_test = (
        torch.as_tensor(side, device=where) for side in (train[0][chosen], train[1][chosen], *test)
    )
    return Loaded(x, y, x_test, y_test, classes)


def _pictures(data: tuple[str, str], settings: TrainSettings) -> tuple[Side, Side, int]:
    survey = classification.load(Path(data[0]), data[1])
    # images no larger than a view are kept as they are
    size = None if settings.image_size <= 32 else KEPT_SIZE
    train, test = ((classification.load_images(s, size), s.labels) for s in (survey.train, survey.test))
    return train, test, len(survey.classes)


def _frozen(data: tuple[str, str], settings: TrainSettings) -> tuple[Side, Side, int]:
    del settings
    found = features.load(Path(data[0]), data[1])
    fine, is_test = found.labels["fine"], found.labels["test"] == 1
    views = int(found.labels["view"].max()) + 1
    # rows are view by view: [views · N, d] → [N, views, d]
    train = found.values[~is_test].reshape(views, -1, found.values.shape[-1]).swapaxes(0, 1)
    labels = fine[~is_test][: len(train)]
    return (train, labels), (found.values[is_test][:, None], fine[is_test]), int(fine.max()) + 1


def _only(side: Side, classes: NDArray[np.int64]) -> Side:
    """The images of these classes, which are numbered anew from 0."""
    kept = np.isin(side[1], classes)
    return side[0][kept], np.searchsorted(np.sort(classes), side[1][kept])


def drawn(images: Tensor, recipes: Sequence[augment.Recipe], seed: int, epoch: int) -> list[Any]:
    """What an epoch's views of each image are, for each recipe: alike in any order, batch and process."""
    numbers = np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)
    generator = torch.Generator().manual_seed(int(numbers[0]) >> 1)  # torch takes 63 bits
    if images.ndim == 4:
        height, width = images.shape[1:3]
        return [augment.draw(recipe, len(images), height, width, generator) for recipe in recipes]
    # of each image some of its other views, [N, views − 1]
    others = torch.rand(len(images), images.shape[1] - 1, generator=generator).argsort(1) + 1
    return list(others.T[: len(recipes)])


def views(
    images: Tensor, indices: Tensor, recipes: Sequence[augment.Recipe], draws: Sequence[Any], size: int
) -> tuple[Tensor, ...]:
    """The views of the images `indices` that were `drawn`: [B, 3, size, size] for each recipe.

    Of features different ones, [B, d].
    """
    chosen = indices.to(images.device)
    if images.ndim == 3:
        return tuple(images[chosen, view[indices].to(chosen)] for view in draws)
    return tuple(
        augment.apply(images[chosen], augment.Draw(*(field[indices] for field in draw)), recipe, size)
        for draw, recipe in zip(draws, recipes, strict=True)
    )


def plain(images: Tensor, size: int) -> Tensor:
    """Images as they are scored: [B, 3, size, size], or features [B, d]."""
    return augment.plain(images, size) if images.ndim == 4 else images[:, 0]


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
