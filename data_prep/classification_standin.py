"""Stand-ins for the classification sets: rendered objects in class folders, with `STANDIN.json`.

ImageNet's stand-in has its test images in one folder `val/` with `meta/val_labeled.txt`, the others'
lie in class folders. Class names are those of `data_prep.objects`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from data_prep.objects import CLASSES, jpeg, scene
from data_prep.progress import shown
from data_prep.standins import StandIn
from papers_lib.datasets.classification_layouts import SIDES, VAL_LIST
from papers_lib.settings import Frozen


class Recipe(Frozen):
    """What is rendered: `train` and `test` images of each class, squares of `pixels`."""

    seed: int = Field(0, ge=0)
    classes: int = Field(10, ge=2, le=len(CLASSES))
    train: int = Field(32, ge=1)
    test: int = Field(10, ge=1)
    pixels: int = Field(32, ge=16, le=512)


MANY: dict[str, Any] = {"train": 500, "test": 100}
SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "cifar10": {"smoke": {}, "small": MANY},
    "cifar100": {"smoke": {"classes": 40, "train": 10, "test": 4}, "small": MANY | {"classes": 80}},
    "imagenette": {"smoke": {"pixels": 64}, "small": MANY | {"pixels": 128}},
    "imagenet": {
        "smoke": {"classes": 20, "train": 16, "test": 6, "pixels": 64},
        "small": {"classes": 80, "train": 100, "test": 20, "pixels": 128},
    },
}
WORLDS = {name: i for i, name in enumerate(SIZES)}
TEST = {"cifar10": "test", "cifar100": "test", "imagenette": "val", "imagenet": "val"}


def draw(name: str, folder: Path, recipe: Recipe) -> dict[str, Any]:
    """Write the pictures, and ImageNet's list; returns their counts."""
    shots = [
        (side, number, label)
        for side, count in (("train", recipe.train), ("test", recipe.test))
        for label in range(recipe.classes)
        for number in range(count)
    ]
    paths = _paths(name, folder, shots)
    for path in {path.parent for path in paths}:
        path.mkdir(parents=True, exist_ok=True)
    for (side, number, label), path in shown(zip(shots, paths, strict=True), len(shots), "rendering"):
        rng = np.random.default_rng([recipe.seed, WORLDS[name], SIDES.index(side), label, number])
        path.write_bytes(jpeg(scene(label, recipe.pixels, rng)))
    classes = recipe.classes
    return {"counts": {"train": classes * recipe.train, "test": classes * recipe.test, "classes": classes}}


def _paths(name: str, folder: Path, shots: list[tuple[str, int, int]]) -> list[Path]:
    """Where each picture goes; ImageNet's test images in one folder, their labels in a list."""
    paths, rows, ranks = [], [], _ranks(1 + max(label for _, _, label in shots))
    for side, number, label in shots:
        if name == "imagenet" and side == "test":
            # neighbours in the folder are of different classes, as in the real one
            file = f"val_{number * len(ranks) + label + 1:08d}.jpg"
            rows.append(f"{file} {ranks[label]}\n")
            paths.append(folder / "val" / file)
        else:
            side_folder = "train" if side == "train" else TEST[name]
            paths.append(folder / side_folder / CLASSES[label] / f"{number:04d}.jpg")
    if rows:
        (folder / VAL_LIST).parent.mkdir(parents=True)
        (folder / VAL_LIST).write_text("".join(sorted(rows)), encoding="utf-8")
    return paths


def _ranks(classes: int) -> list[int]:
    """The place of each class among the sorted names."""
    names = sorted(CLASSES[:classes])
    return [names.index(name) for name in CLASSES[:classes]]


STAND_INS = {
    name: StandIn(name, "objects 1", Recipe, sizes, partial(draw, name)) for name, sizes in SIZES.items()
}
