"""CIFAR-10, CIFAR-100, Imagenette and ImageNet: check, and stand-ins of rendered objects in class folders.

ImageNet's stand-in has its test images in one folder `val/` with `meta/val_labeled.txt`, the others'
lie in class folders. Class names are those of `data_prep.objects`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from data_prep.drawing import jpeg, write
from data_prep.objects import CLASSES, scene
from data_prep.pictures import shown
from data_prep.sets import DataSet, StandIn
from papers_lib.datasets.cifar_files import BATCHES
from papers_lib.datasets.classification_layouts import SETS, SIDES, VAL_LIST, Survey, survey
from papers_lib.settings import Frozen

ARCHIVES: dict[str, tuple[tuple[str, ...], ...]] = {
    "cifar10": (
        ("cifar-10-python.tar.gz",),
        ("cifar-10-binary.tar.gz",),
        ("cifar10_jpeg_train.zip", "cifar10_jpeg_test.zip"),
    ),
    "cifar100": (("cifar-100-python.tar.gz",), ("cifar-100-binary.tar.gz",)),
    "imagenette": (("imagenette2-160.tgz",), ("imagenette2-320.tgz",), ("imagenette2.tgz",)),
}
KINDS = {
    "python": "official pickles",
    "binary": "official binary files",
    "folders": "class folders",
    "list": "class folders, test labels in a list",
}


# -- check --


def _summary(found: Survey) -> str:
    train, test = (len(found.labels[side]) for side in SIDES)
    kind = f"{found.name}, stand-in" if found.stand_in else f"{found.title}, {KINDS[found.layout]}"
    return f"{kind}: {train:,} + {test:,} images, {len(found.classes)} classes"


def _notes(found: Survey) -> Iterator[str]:
    """Those of the survey, and official pickles that are not, byte by byte."""
    yield from found.notes
    if found.layout != "python" or found.problems:
        return
    from torchvision.datasets import CIFAR10, CIFAR100  # it knows the checksums

    official = CIFAR10 if found.name == "cifar10" else CIFAR100
    md5 = dict(official.train_list + official.test_list)
    md5[official.meta["filename"]] = official.meta["md5"]
    for file in BATCHES[found.name, "python"].files:
        with (found.base / file).open("rb") as content:
            digest = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False))
        if digest.hexdigest() != md5[file]:
            yield f"{found.base / file} is not the official file, by its MD5; say so with a result"


# -- make --


class Recipe(Frozen):
    """What is rendered."""

    seed: int = Field(0, ge=0)
    classes: int = Field(10, ge=2, le=len(CLASSES))
    train: int = Field(32, ge=1)  # images of each class
    test: int = Field(10, ge=1)
    pixels: int = Field(32, ge=16, le=512)  # of either side


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


def draw(name: str, folder: Path, recipe: Recipe) -> dict[str, Any]:
    """Write the pictures, and ImageNet's list; returns their counts."""
    classes = CLASSES[: recipe.classes]
    counts = {side: recipe.classes * getattr(recipe, side) for side in SIDES}
    shots = [
        (side, label, number)
        for side in SIDES
        for label in range(recipe.classes)
        for number in range(getattr(recipe, side))
    ]
    rows = []
    for side, label, number in shown(shots, sum(counts.values()), "rendering"):
        inner = side if side == "train" or name.startswith("cifar") else "val"
        path = folder / inner / classes[label] / f"{number:04d}.jpg"
        if name == "imagenet" and side == "test":
            # neighbours in the folder are of different classes, as in the real one
            path = folder / inner / f"val_{number * recipe.classes + label + 1:08d}.jpg"
            rows.append(f"{path.name} {sorted(classes).index(classes[label])}\n")
        rng = np.random.default_rng([recipe.seed, WORLDS[name], SIDES.index(side), label, number])
        write(path, jpeg(scene(label, recipe.pixels, rng)))
    if rows:
        write(folder / VAL_LIST, "".join(sorted(rows)).encode())
    return {"counts": counts | {"classes": recipe.classes}}


STAND_INS = {
    name: StandIn(name, "objects 1", Recipe, sizes, partial(draw, name)) for name, sizes in SIZES.items()
}
DATASETS = tuple(
    DataSet(
        name,
        partial(survey, name=name),
        _summary,
        STAND_INS[name],
        notes=_notes,
        archives=ARCHIVES.get(name, ()),
    )
    for name in SETS
)
