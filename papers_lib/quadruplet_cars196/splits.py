"""The images of a run: resident on the device, split by class, cropped there."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from papers_lib.datasets import cars196
from papers_lib.datasets.images import load_images
from papers_lib.errors import PapersError
from papers_lib.quadruplet_cars196.batches import Labels
from papers_lib.quadruplet_cars196.embedding import centre_crop, random_crop
from papers_lib.quadruplet_cars196.options import TrainSettings

HELD_OUT = 0.2  # share of the training classes that select="held_out_classes" sets aside


class Images:
    """Resident images of one split, uint8 [N, S, S, 3], and their labels."""

    def __init__(self, pixels: Tensor, labels: Labels) -> None:
        self.pixels, self.labels = pixels, labels

    def only(self, keep: Tensor) -> Images:
        """The images that `keep` [N] marks."""
        rows = keep.nonzero()[:, 0]
        labels = Labels(self.labels.fine[rows], self.labels.coarse[rows])
        return Images(self.pixels[rows.to(self.pixels.device)], labels)


def load(
    root: str, name: str, settings: TrainSettings, where: torch.device
) -> tuple[Images, Images, tuple[int, int]]:
    """Training and test images on the device, and the number of coarse and fine classes to predict."""
    cars, pixels = _decoded(root, name, settings.coarse_map, settings.resize, settings.use_boxes)
    fine, coarse = torch.from_numpy(cars.fine).long(), torch.from_numpy(cars.coarse).long()
    coarse_classes = len(cars.coarse_names)
    train = torch.from_numpy(cars.train)
    if settings.coarse_shuffle:
        coarse = shuffle_types(fine, coarse, train, settings.seed)
    if settings.coarse_head == "present":
        present = torch.unique(coarse[train])  # types of test images alone are never read
        coarse = torch.searchsorted(present, coarse).clamp(max=len(present) - 1)
        coarse_classes = len(present)
    all_images = Images(pixels.to(where), Labels(fine, coarse))
    counts = coarse_classes, int(fine[train].max()) + 1
    return all_images.only(train), all_images.only(~train), counts


@lru_cache(maxsize=2)
def _decoded(root: str, name: str, coarse_map: str, size: int, boxes: bool) -> tuple[cars196.Cars196, Tensor]:
    cars = cars196.load(Path(root), name, coarse_map)
    if boxes and cars.boxes is None:
        raise PapersError(f"{name} in {root} carries no bounding boxes; use use_boxes=false")
    pixels = load_images(cars.files, size, cars.boxes if boxes else None)
    return cars, pixels.permute(0, 2, 3, 1).contiguous()


def shuffle_types(fine: Tensor, coarse: Tensor, train: Tensor, seed: int) -> Tensor:
    """Deal the types of the training classes out among them by lot: same group sizes, no meaning."""
    classes, first = _first_of_each(fine[train])
    types = coarse[train][first]
    dealt = types[torch.randperm(len(types), generator=torch.Generator().manual_seed(seed))]
    shuffled = coarse.clone()
    for one, new in zip(classes.tolist(), dealt.tolist(), strict=True):
        shuffled[fine == one] = new
    return shuffled


def _first_of_each(labels: Tensor) -> tuple[Tensor, list[int]]:
    classes = labels.unique()
    return classes, [int((labels == one).nonzero()[0]) for one in classes]


def hold_out(images: Images) -> tuple[Images, Images]:
    """Set the last fifth of the training classes aside, to choose by: never the test classes."""
    classes = images.labels.fine.unique()
    aside = torch.isin(images.labels.fine, classes[-max(1, int(len(classes) * HELD_OUT)) :])
    return images.only(~aside), images.only(aside)


def crops(images: Images, indices: Tensor, settings: TrainSettings, generator: torch.Generator) -> Tensor:
    """A training batch [n, 3, crop, crop], augmented on the device."""
    if settings.augment:
        return random_crop(images.pixels, indices, settings.crop, generator)
    return centre_crop(images.pixels[indices.to(images.pixels.device)], settings.crop)
