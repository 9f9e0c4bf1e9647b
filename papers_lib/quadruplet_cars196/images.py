"""The images of a run: decoded once, split by class, resident on the device where they fit, cropped there.

An image is squashed to a square, as Song et al. (CVPR 2016) do; a training crop is cut later. At 256 pixels
the 16,185 images of Cars196 take 3.2 GB.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from papers_lib.datasets import cars196, features, folder
from papers_lib.datasets.images import load_images
from papers_lib.datasets.stream import resident, take
from papers_lib.errors import PapersError
from papers_lib.networks.backbones import MEAN, SD
from papers_lib.quadruplet_cars196.options import TrainSettings

HELD_OUT = 0.2  # share of the training classes that select="held_out_classes" sets aside


Labels = tuple[Tensor, Tensor, Tensor]  # fine [N], coarse [N], and whether of the training classes [N]


class Images(NamedTuple):
    """Images of one split, or frozen features of them, and their labels on the CPU."""

    pixels: Tensor  # [N, S, S, 3] uint8, or features [N, D]
    fine: Tensor  # [N]
    coarse: Tensor  # [N]

    def only(self, keep: Tensor) -> Images:
        """The images that `keep` [N] marks."""
        rows = keep.nonzero()[:, 0]
        return Images(self.pixels[rows.to(self.pixels.device)], self.fine[rows], self.coarse[rows])

    def to(self, where: torch.device) -> Images:
        """The same on the device, if they fit there."""
        return self._replace(pixels=resident(self.pixels, where))


Given = tuple[str, str] | tuple[Images, Images]  # root folder and name, or training and test images


def load(data: Given, settings: TrainSettings) -> tuple[Images, Images, tuple[int, int]]:
    """Training and test images on the CPU, and the number of coarse and fine classes to predict.

    Images that are given are taken as they are; their training classes are to count from 0.
    """
    first, second = data
    if isinstance(first, Images) and isinstance(second, Images):
        coarse = torch.cat((first.coarse, second.coarse))
        return first, second, (int(coarse.max()) + 1, int(first.fine.max()) + 1)
    root, name = str(first), str(second)
    if name in features.NAMES:
        labels, pixels = _shipped(root, name, settings.coarse_map)
    else:
        labels, pixels = _decoded(root, name, settings.coarse_map, settings.resize, settings.use_boxes)
    fine, coarse, train = labels  # [N] each
    types = int(coarse.max()) + 1
    if settings.coarse_shuffle:
        coarse = shuffle_types(fine, coarse, train, settings.seed)
    if settings.coarse_head == "present":
        present = torch.unique(coarse[train])  # types of test images alone are never read
        coarse = torch.searchsorted(present, coarse).clamp(max=len(present) - 1)
        types = len(present)
    every = Images(pixels, fine, coarse)
    return every.only(train), every.only(~train), (types, int(fine[train].max()) + 1)


@lru_cache(maxsize=2)  # runs of one process share what they decode
def _decoded(root: str, name: str, coarse_map: str, size: int, boxes: bool) -> tuple[Labels, Tensor]:
    own = name == folder.NAME
    cars = folder.kinds(Path(root)) if own else cars196.load(Path(root), name, coarse_map)
    if boxes and cars.boxes is None:
        raise PapersError(f"{name} in {root} carries no bounding boxes; use use_boxes=false")
    kind = f"{size}{'-boxes' * boxes}"
    keep = cars.keep and cars.keep.with_name(f"{cars.keep.name}-{kind}.npy")
    pixels = load_images(cars.files, (size, size), cars.boxes if boxes else None, keep=keep)  # [N, S, S, 3]
    fine, coarse = torch.from_numpy(cars.fine).long(), torch.from_numpy(cars.coarse).long()
    return (fine, coarse, torch.from_numpy(cars.train)), torch.from_numpy(pixels)


@lru_cache(maxsize=2)
def _shipped(root: str, name: str, coarse_map: str) -> tuple[Labels, Tensor]:
    found = features.load(Path(root), name)
    fine, coarse, train = (torch.from_numpy(found.labels[key]) for key in ("fine", coarse_map, "train"))
    return (fine, coarse, train.bool()), torch.from_numpy(found.values)


def shuffle_types(fine: Tensor, coarse: Tensor, train: Tensor, seed: int) -> Tensor:
    """Deal the types of the training classes out among them by lot: same group sizes, no meaning."""
    type_of_class = torch.zeros(int(fine.max()) + 1, dtype=coarse.dtype)
    type_of_class[fine] = coarse
    classes = fine[train].unique()
    lot = torch.randperm(len(classes), generator=torch.Generator().manual_seed(seed))
    type_of_class[classes] = type_of_class[classes][lot]
    return type_of_class[fine]  # classes of the test images keep their own


def hold_out(images: Images) -> tuple[Images, Images]:
    """Set the last fifth of the training classes aside, to choose by: never the test classes."""
    classes = images.fine.unique()
    aside = torch.isin(images.fine, classes[-max(1, int(len(classes) * HELD_OUT)) :])
    return images.only(~aside), images.only(aside)


def crops(
    images: Images, rows: Tensor, settings: TrainSettings, generator: torch.Generator, where: torch.device
) -> Tensor:
    """The training views [n, 3, crop, crop] of the images `rows` [n], augmented on the device."""
    pixels = take(images.pixels, rows, where)
    if pixels.ndim == 4 and settings.augment:  # features have no other views
        return random_crop(pixels, settings.crop, generator)
    return centre_crop(pixels, settings.crop)


def random_crop(pixels: Tensor, crop: int, generator: torch.Generator) -> Tensor:
    """Crops of images [n, S, S, 3], each at its own place and mirrored with probability ½: one gather."""
    n, side = pixels.shape[:2]
    corner = torch.randint(side - crop + 1, (2, n, 1), generator=generator)
    mirror = torch.rand(n, 1, generator=generator) < 0.5
    steps = torch.arange(crop)
    down = (corner[0] + steps).to(pixels.device)  # [n, crop]
    across = (corner[1] + torch.where(mirror, steps.flip(0), steps)).to(pixels.device)  # [n, crop]
    image = torch.arange(n, device=pixels.device)[:, None, None]
    return scale(pixels[image, down[:, :, None], across[:, None, :]])


def centre_crop(pixels: Tensor, crop: int) -> Tensor:
    """[B, S, S, 3] uint8 → [B, 3, crop, crop] float, channels-last in memory; features stay as they are."""
    if pixels.ndim == 2:
        return pixels
    start = (pixels.shape[1] - crop) // 2
    return scale(pixels[:, start : start + crop, start : start + crop])


def scale(pixels: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] → float [B, 3, H, W] with ImageNet's mean and standard deviation."""
    mean = torch.tensor(MEAN, device=pixels.device) * 255
    sd = torch.tensor(SD, device=pixels.device) * 255
    return ((pixels.float() - mean) / sd).permute(0, 3, 1, 2)
