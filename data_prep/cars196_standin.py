"""A stand-in for Stanford Cars: rendered vehicles in the devkit's layout, with `STANDIN.json`.

As in the real set, the class name ends in its type and a year, training and test classes share no
model, each class has images in both official halves, and some type words are trims that one model
alone bears, so that `type22` has types of one class and `body9` has none.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from data_prep.progress import shown
from data_prep.standins import StandIn
from data_prep.vehicles import STYLES, Vehicle, design, jpeg, render
from papers_lib.settings import Frozen

MAKERS = ("Alder", "Brisk", "Corvin", "Dovetail", "Ember", "Fjord", "Grove", "Harrow")
MODELS = (
    "Otter", "Heron", "Lynx", "Marten", "Plover", "Vole", "Wren", "Badger", "Finch", "Stoat", "Tern",
    "Hare", "Newt",
)  # fmt: skip
TRIMS = (
    "GX", "R9", "Type-Q", "SuperBed", "TT4", "LX7", "Corsa", "GTQ", "V12R", "SRX-6", "ZQ1", "Rallye",
    "XJK", "IPX", "Sprint", "Leggera",
)  # fmt: skip


class Recipe(Frozen):
    """What is rendered. Half of the models are for training; a model has `per_model` images ± a quarter."""

    seed: int = Field(0, ge=0)
    models: int = Field(40, ge=40, le=104, multiple_of=2)
    per_model: int = Field(8, ge=4)
    pixels: int = Field(64, ge=16, le=512)


SIZES: dict[str, dict[str, Any]] = {
    "smoke": {},
    "small": {"models": 80, "per_model": 30, "pixels": 96},
}


def draw(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """Write images and label files of `recipe`; returns what the reader has to know of the classes."""
    rng = np.random.default_rng([recipe.seed, 0])
    names, vehicles, trims = _models(recipe, rng)
    counts = _counts(recipe, rng)
    cars = folder / "stanford_cars"
    _write_images(cars, recipe, vehicles, counts)
    _write_labels(cars, recipe, names, counts)
    return {
        "classes": names,
        "training": names[: recipe.models // 2],
        "coarse": {"type22": trims, "body9": [v.style for v in vehicles]},
        "counts": {"cars196": counts.sum(0).tolist(), "cars196_half": counts[0].tolist()},
    }


STAND_IN = StandIn("cars196", "vehicles 1", Recipe, SIZES, draw)
make, made = STAND_IN.make, STAND_IN.made


def _models(recipe: Recipe, rng: np.random.Generator) -> tuple[list[str], list[Vehicle], list[str]]:
    """Class names, designs and type words, training classes first."""
    half = recipe.models // 2
    pairs = rng.permutation(len(MAKERS) * len(MODELS))[: recipe.models]
    trims = list(rng.permutation(TRIMS))
    names, vehicles, words = [], [], []
    for i, pair in enumerate(pairs):
        style = list(STYLES)[i % half % len(STYLES)]
        word = str(trims.pop()) if _has_trim(i % half, half) else style
        maker, model = MAKERS[pair % len(MAKERS)], MODELS[pair // len(MAKERS)]
        names.append(f"{maker} {model} {word} {1991 + int(rng.integers(22))}")
        vehicles.append(design(style, np.random.default_rng([recipe.seed, 1, i])))
        words.append(word)
    return names, vehicles, words


def _has_trim(i: int, half: int) -> bool:
    """The third model of some styles: two with the plain word are left in each half."""
    first = 2 * len(STYLES)
    return first <= i < first + max(2, min(len(TRIMS) // 2, half // 10))


def _counts(recipe: Recipe, rng: np.random.Generator) -> NDArray[np.int64]:
    """Images [2, models] of each model in the two official halves."""
    spread = recipe.per_model // 4
    images = recipe.per_model + rng.integers(-spread, spread + 1, recipe.models)
    return np.stack([(images + 1) // 2, images // 2])


def _labels(recipe: Recipe, counts: NDArray[np.int64], half: int) -> NDArray[np.int64]:
    """The class of each image of an official half, shuffled as in the devkit."""
    labels = np.repeat(np.arange(recipe.models), counts[half])
    return np.random.default_rng([recipe.seed, 2, half]).permutation(labels)


def _write_images(cars: Path, recipe: Recipe, vehicles: list[Vehicle], counts: NDArray[np.int64]) -> None:
    jobs = []
    for half, name in enumerate(("cars_train", "cars_test")):
        (cars / name).mkdir(parents=True)
        jobs += [
            (cars / name / f"{i + 1:05d}.jpg", vehicles[label], [recipe.seed, 3 + half, i])
            for i, label in enumerate(_labels(recipe, counts, half))
        ]
    for path, vehicle, seed in shown(jobs, len(jobs), "rendering"):
        rng = np.random.default_rng(seed)
        path.write_bytes(jpeg(render(vehicle, recipe.pixels, rng), rng))


def _write_labels(cars: Path, recipe: Recipe, names: list[str], counts: NDArray[np.int64]) -> None:
    (cars / "devkit").mkdir()
    _write_mat(cars / "devkit" / "cars_meta.mat", {"class_names": np.array([names], dtype=object)})
    train, test = _labels(recipe, counts, 0), _labels(recipe, counts, 1)
    for file, labels, told in (
        ("devkit/cars_train_annos.mat", train, True),
        ("devkit/cars_test_annos.mat", test, False),  # the devkit's own test list tells no class
        ("cars_test_annos_withlabels.mat", test, True),
    ):
        _write_mat(cars / file, {"annotations": _annotations(labels, recipe.pixels, told)})


def _annotations(labels: NDArray[np.int64], pixels: int, told: bool) -> NDArray[np.void]:
    fields = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", *("class",) * told, "fname")
    table = np.empty((1, len(labels)), dtype=[(name, object) for name in fields])
    for i, label in enumerate(labels):
        number = (int(label) + 1,) * told
        table[0, i] = (1, 1, pixels, pixels, *number, f"{i + 1:05d}.jpg")
    return table


def _write_mat(path: Path, content: dict[str, Any]) -> None:
    import scipy.io

    stream = io.BytesIO()
    scipy.io.savemat(stream, content)
    text = b"MATLAB 5.0 MAT-file, a stand-in rendered by data_prep"  # SciPy's own text has the date
    path.write_bytes(text.ljust(116) + stream.getvalue()[116:])
