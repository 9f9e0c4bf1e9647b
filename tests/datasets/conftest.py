"""Tiny data sets in the three layouts: six classes, and every pixel tells its class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image
from standins import tell

CLASSES = (
    "Alder Otter Sedan 2001",
    "Brisk C/V Cargo Van 2002",
    "Corvin Lynx Sedan 2003",
    "Dovetail R9 2004",
    "Ember Vole Van 2005",
    "Fjord Hare Sedan 2006",
)
TRAINING = CLASSES[:3]
TYPES = ("Sedan", "Van", "Sedan", "R9", "Van", "Sedan")
STYLES = ("Sedan", "Van", "Sedan", "Van", "Van", "Sedan")
HALVES = ((2, 3, 2, 1, 2, 2), (2, 1, 2, 2, 3, 1))  # images of each class in the official halves


def grey(label: str) -> int:
    return 30 + 35 * CLASSES.index(label)


def picture(path: Path, label: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 8), (grey(label),) * 3).save(path, quality=95)


def structs(rows: Sequence[dict[str, object]]) -> np.ndarray:
    table = np.empty((1, len(rows)), dtype=[(name, object) for name in rows[0]])
    for i, row in enumerate(rows):
        table[0, i] = tuple(row.values())
    return table


def standin(root: Path) -> None:
    counts = {"cars196": [a + b for a, b in zip(*HALVES, strict=True)], "cars196_half": HALVES[0]}
    coarse = {"type22": TYPES, "body9": STYLES}
    root.mkdir(parents=True, exist_ok=True)
    tell(root, "cars196", counts, recipe={}, classes=CLASSES, training=TRAINING, coarse=coarse)


def annotation(number: int, **rest: object) -> dict[str, object]:
    """The order of the devkit's files, which is not the order of its description."""
    return {"bbox_x1": 2, "bbox_y1": 3, "bbox_x2": 11, "bbox_y2": 7, "class": number, **rest}


def devkit(root: Path, ids: Sequence[str] = CLASSES) -> Path:
    """Layout A; `ids` is the numbering of this copy."""
    standin(root)
    (root / "devkit").mkdir()
    scipy.io.savemat(root / "devkit" / "cars_meta.mat", {"class_names": np.array([list(ids)], dtype=object)})
    places = ("cars_train", "devkit/cars_train_annos"), ("cars_test", "cars_test_annos_withlabels")
    for counts, (folder, file) in zip(HALVES, places, strict=True):
        labels = [label for label, n in zip(CLASSES, counts, strict=True) for _ in range(n)]
        rows = []
        for i, label in enumerate(labels[::-1]):  # not in class order
            picture(root / folder / f"{i + 1:05d}.jpg", label)
            rows.append(annotation(ids.index(label) + 1, fname=f"{i + 1:05d}.jpg"))
        scipy.io.savemat(root / f"{file}.mat", {"annotations": structs(rows)})
    return root


def one_folder(root: Path, ids: Sequence[str] = CLASSES) -> Path:
    """Layout B."""
    standin(root)
    rows = []
    for test, counts in enumerate(HALVES):
        for label, n in zip(CLASSES, counts, strict=True):
            for _ in range(n):
                file = f"car_ims/{len(rows) + 1:06d}.jpg"
                picture(root / file, label)
                rows.append({"relative_im_path": file, **annotation(ids.index(label) + 1, test=test)})
    names = np.array([list(ids)], dtype=object)
    scipy.io.savemat(root / "cars_annos.mat", {"annotations": structs(rows), "class_names": names})
    return root


def class_folders(root: Path, ids: Sequence[str] = CLASSES) -> Path:
    """Layout C, `images/<class name>/`."""
    standin(root)
    for counts in HALVES:
        for label, n in zip(ids, (counts[CLASSES.index(c)] for c in ids), strict=True):
            folder = root / "images" / label.replace("/", "-")
            for _ in range(n):
                picture(folder / f"{len(list(folder.glob('*'))):04d}.jpg", label)
    return root


def kaggle(root: Path, ids: Sequence[str] = CLASSES) -> Path:
    """Layout C, `car_data/car_data/{train,test}/<class name>/`."""
    standin(root)
    for part, counts in zip(("train", "test"), HALVES, strict=True):
        for label, n in zip(CLASSES, counts, strict=True):
            for i in range(n):
                folder = root / "car_data" / "car_data" / part / label.replace("/", "-")
                picture(folder / f"{i:04d}.jpg", label)
    return root


LAYOUTS = {"A": devkit, "B": one_folder, "C": class_folders, "kaggle": kaggle}


@pytest.fixture
def layouts() -> dict[str, Callable[..., Path]]:
    return LAYOUTS


@pytest.fixture
def greys() -> list[int]:
    return [grey(label) for label in CLASSES]
