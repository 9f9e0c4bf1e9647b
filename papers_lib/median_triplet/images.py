"""The images of a run: uint8 on the device where they are small, else files of which workers cut views.

Views of a photograph are cut from all of it, as they are read, and drawn from (seed, epoch, image): order,
workers and processes do not change them. In the place of images can stand frozen features of fixed views
(`papers_lib.datasets.features`): of each image a first view as it is, and random ones, of which a step draws.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from papers_lib.datasets import classification, features, folder
from papers_lib.datasets.images import Box, cut, decode, middle_square, open_image
from papers_lib.datasets.stream import Stream, moved, random_of
from papers_lib.errors import PapersError
from papers_lib.median_triplet import augment
from papers_lib.median_triplet.options import TrainSettings

Side = tuple[NDArray[Any], NDArray[np.int64]]  # images, features or files [N, …], labels [N]
BATCH = 512  # images that are scored at once
Draws = tuple[Tensor, augment.Draw]  # views uint8 [B, s, s, 3], and what else was drawn for them


class Photographs:
    """N image files, which are read as they are needed."""

    def __init__(self, files: NDArray[np.bytes_], where: torch.device) -> None:
        self.files, self.device = files, where
        self._stream: Stream[tuple[int, int], list[Draws]] | None = None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, rows: slice) -> Photographs:
        return Photographs(self.files[rows], self.device)

    def views(
        self, order: Sequence[Tensor], recipes: Sequence[augment.Recipe], seed: int, epoch: int, size: int
    ) -> Iterator[tuple[Tensor, ...]]:
        """For each batch of `order` a random view of each image for each recipe, as `augment.view`."""
        read = partial(_read_views, self.files, tuple(recipes), seed, size)
        keys = ([(epoch, int(index)) for index in indices] for indices in order)
        self._stream = self._stream or Stream(read, self.device)  # of one run: always the same views
        for views in self._stream(keys):
            yield tuple(
                augment.apply(moved(pixels, self.device), drawn, recipe, size)
                for recipe, (pixels, drawn) in zip(recipes, views, strict=True)
            )

    def plain(self, size: int, batch_size: int) -> Iterator[Tensor]:
        """Images as they are scored, [≤ batch_size, 3, size, size], in order."""
        stream = Stream(partial(_read_plain, self.files, size), self.device, stay=False)
        parts = [range(len(self))[at : at + batch_size] for at in range(0, len(self), batch_size)]
        return (augment.plain(moved(pixels, self.device), size) for pixels in stream(parts))


Images = Tensor | Photographs


def _read_views(
    files: NDArray[np.bytes_],
    recipes: tuple[augment.Recipe, ...],
    seed: int,
    size: int,
    keys: Sequence[tuple[int, int]],
) -> list[Draws]:
    """Views of images by epoch and index, cut from the whole photograph, for each recipe."""
    views: list[list[NDArray[np.uint8]]] = [[] for _ in recipes]
    draws: list[list[augment.Draw]] = [[] for _ in recipes]
    for epoch, index in keys:
        generator = random_of(seed, epoch, index)
        with open_image(Path(os.fsdecode(files[index]))) as image:
            width, height = image.size
            drawn = [augment.draw(recipe, 1, height, width, generator) for recipe in recipes]
            corners = [one.box[0].tolist() for one in drawn]
            boxes: list[Box] = [(left, top, left + w, top + h) for top, left, h, w in corners]
            # Pillow's own filters, which antialias where they shrink
            kind = Image.Resampling.BICUBIC if recipes[0].bicubic else Image.Resampling.BILINEAR
            cuts = cut(image, boxes, (size, size), kind)
        for number, (one, pixels) in enumerate(zip(drawn, cuts, strict=True)):
            views[number].append(pixels[:, ::-1] if one.flipped else pixels)
            whole = torch.tensor([[0, 0, size, size]])
            draws[number].append(one._replace(box=whole, flipped=torch.tensor([False])))
    return [
        (torch.from_numpy(np.stack(each)), augment.Draw(*map(torch.cat, zip(*drawn, strict=True))))
        for each, drawn in zip(views, draws, strict=True)
    ]


def _read_plain(files: NDArray[np.bytes_], size: int, indices: Sequence[int]) -> Tensor:
    """The centres of images: of the middle square what is left of 8/7 · size, uint8 [B, size, size, 3]."""

    def centre(width: int, height: int) -> Box:
        left, top, right, bottom = middle_square(width, height)
        margin = (right - left) * (1 - 1 / augment.RESIZE) / 2
        return left + margin, top + margin, right - margin, bottom - margin

    return torch.from_numpy(
        np.stack([decode(Path(os.fsdecode(files[i])), (size, size), centre) for i in indices])
    )


@dataclass(frozen=True, eq=False)
class Loaded:
    """Training and test images with labels [N] int64, on the device.

    Images are uint8 [N, H, W, 3], features float32 [N, views, d], or photographs.
    """

    train: Images
    train_labels: Tensor
    test: Images
    test_labels: Tensor
    classes: int


def load(data: tuple[str, str] | Loaded, settings: TrainSettings, where: torch.device) -> Loaded:
    """Read the data set, unless it is given: `settings.images` training images, equally many of each class.

    Raises:
        PapersError: bad data, or fewer images than a batch.
    """
    if isinstance(data, Loaded):
        return data
    train, test, classes = (_frozen if data[1] in features.NAMES else _pictures)(data)
    if settings.classes:
        kept = np.random.default_rng(settings.seed).permutation(classes)[: settings.classes]
        train, test, classes = _only(train, kept), _only(test, kept), settings.classes
    chosen = subset(train[1], settings.images, settings.seed)
    if len(chosen) < settings.batch_size:
        raise PapersError(
            f"{len(chosen)} training images do not fill one batch of {settings.batch_size}; "
            "lower batch_size or take more images"
        )
    sides: list[Images] = [
        Photographs(x, where) if x.dtype.kind == "S" else torch.as_tensor(x, device=where)
        for x in (train[0][chosen], test[0])
    ]
    labels = [torch.as_tensor(y, device=where) for y in (train[1][chosen], test[1])]
    return Loaded(sides[0], labels[0], sides[1], labels[1], classes)


def _pictures(data: tuple[str, str]) -> tuple[Side, Side, int]:
    root, name = Path(data[0]), data[1]
    survey = folder.classified(root) if name == folder.NAME else classification.load(root, name)
    sides = (survey.train, survey.test)
    if survey.small:  # as they are
        images = [classification.load_images(side) for side in sides]
    else:  # paths as bytes, of which workers need no copies
        images = [np.array([os.fsencode(file) for file in side.images]) for side in sides]
    train, test = ((x, side.labels) for x, side in zip(images, sides, strict=True))
    return train, test, len(survey.classes)


def _frozen(data: tuple[str, str]) -> tuple[Side, Side, int]:
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


def views(
    images: Images,
    order: Sequence[Tensor],
    recipes: Sequence[augment.Recipe],
    seed: int,
    epoch: int,
    size: int,
) -> Iterator[tuple[Tensor, ...]]:
    """For each batch [B] of `order` a random view of each image for each recipe, [B, 3, size, size].

    Of features different ones, [B, d]. What an image's views of an epoch are depends on the seed, the epoch
    and its place alone: they are alike in any order, batch and process.
    """
    if isinstance(images, Photographs):
        yield from images.views(order, recipes, seed, epoch, size)
        return
    generator = random_of(seed, epoch)
    if images.ndim == 3:  # of each image some of its other views, [N, views − 1]
        others = torch.rand(len(images), images.shape[1] - 1, generator=generator).argsort(1) + 1
        for indices in order:
            chosen, numbers = indices.to(images.device), others[indices].to(images.device)
            yield tuple(images[chosen, numbers[:, i]] for i in range(len(recipes)))
        return
    height, width = images.shape[1:3]
    draws = [augment.draw(recipe, len(images), height, width, generator) for recipe in recipes]
    for indices in order:
        batch = images[indices.to(images.device)]
        yield tuple(
            augment.apply(batch, augment.Draw(*(field[indices] for field in drawn)), recipe, size)
            for drawn, recipe in zip(draws, recipes, strict=True)
        )


def plain(images: Images, size: int, batch_size: int = BATCH) -> Iterator[Tensor]:
    """Images as they are scored, in batches: [B, 3, size, size], or features [B, d]."""
    if isinstance(images, Photographs):
        return images.plain(size, batch_size)
    parts = images.split(batch_size)
    return (augment.plain(part, size) if part.ndim == 4 else part[:, 0] for part in parts)


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
