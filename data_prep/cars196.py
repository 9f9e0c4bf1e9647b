"""Stanford Cars, whole and half: check, and a stand-in of rendered vehicles in the devkit's layout.

As in the real set, the class name ends in its type and a year, training and test classes share no
model, each class has images in both official halves, and some type words are trims that one model
alone bears, so that `type22` has types of one class and `body9` has none.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from data_prep.drawing import Rng, jpeg, write
from data_prep.pictures import shown
from data_prep.sets import DataSet, StandIn
from data_prep.vehicles import STYLES, Vehicle, render
from papers_lib.datasets.cars196_layouts import Survey, survey
from papers_lib.settings import Frozen

NAMES = """
Alder Brisk Corvin Dovetail Ember Fjord Grove Harrow
Otter Heron Lynx Marten Plover Vole Wren Badger Finch Stoat Tern Hare Newt
GX R9 Type-Q SuperBed TT4 LX7 Corsa GTQ V12R SRX-6 ZQ1 Rallye XJK IPX Sprint Leggera
"""
MAKERS, MODELS, TRIMS = (line.split() for line in NAMES.strip().splitlines())


class Recipe(Frozen):
    """What is rendered."""

    seed: int = Field(0, ge=0)
    models: int = Field(40, ge=40, le=104, multiple_of=2)  # half of them for training
    per_model: int = Field(8, ge=4)  # images ± a quarter
    pixels: int = Field(64, ge=16, le=512)  # of either side


SIZES: dict[str, dict[str, Any]] = {
    "smoke": {},
    "small": {"models": 80, "per_model": 30, "pixels": 96},
}


def draw(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """Write images and label files of `recipe`; returns what the reader has to know of the classes."""
    rng = np.random.default_rng([recipe.seed, 0])
    names, vehicles, types = _models(recipe, rng)
    spread = recipe.per_model // 4
    images = recipe.per_model + rng.integers(-spread, spread + 1, recipe.models)
    counts = np.stack([(images + 1) // 2, images // 2])  # [official halves, models]
    labels = [  # the class of each image of an official half, shuffled as in the devkit
        np.random.default_rng([recipe.seed, 2, half]).permutation(
            np.repeat(np.arange(recipe.models), counts[half])
        )
        for half in range(2)
    ]
    cars = folder / "stanford_cars"
    jobs = [(half, i, label) for half in range(2) for i, label in enumerate(labels[half])]
    for half, i, label in shown(jobs, len(jobs), "rendering"):
        rng = np.random.default_rng([recipe.seed, 3 + half, i])
        picture = render(vehicles[label], recipe.pixels, rng)
        path = cars / ("cars_train", "cars_test")[half] / f"{i + 1:05d}.jpg"
        write(path, jpeg(picture, quality=int(rng.integers(70, 93))))

    (cars / "devkit").mkdir()
    _write_mat(cars / "devkit/cars_meta.mat", class_names=np.array([names], dtype=object))
    for file, half, with_class in (
        ("devkit/cars_train_annos.mat", 0, True),
        ("devkit/cars_test_annos.mat", 1, False),  # the devkit's own test list tells no class
        ("cars_test_annos_withlabels.mat", 1, True),
    ):
        _write_mat(cars / file, annotations=_annotations(labels[half], recipe.pixels, with_class))
    return {
        "classes": names,
        "training": names[: recipe.models // 2],
        "coarse": {"type22": types, "body9": [vehicle.style for vehicle in vehicles]},
        "counts": {"cars196": counts.sum(0).tolist(), "cars196_half": counts[0].tolist()},
    }


def _models(recipe: Recipe, rng: Rng) -> tuple[list[str], list[Vehicle], list[str]]:
    """Class names, designs and type words, training classes first."""
    half = recipe.models // 2
    pairs = rng.permutation(len(MAKERS) * len(MODELS))[: recipe.models]  # no name twice
    trims = list(rng.permutation(TRIMS))
    # the third model of some styles has a trim: two with the plain word are left in each half
    first = 2 * len(STYLES)
    with_trim = range(first, first + max(2, min(len(TRIMS) // 2, half // 10)))
    names, vehicles, types = [], [], []
    for i, pair in enumerate(pairs):
        style = list(STYLES)[i % half % len(STYLES)]
        types.append(str(trims.pop()) if i % half in with_trim else style)
        maker, model = MAKERS[pair % len(MAKERS)], MODELS[pair // len(MAKERS)]
        names.append(f"{maker} {model} {types[-1]} {1991 + int(rng.integers(22))}")
        vehicles.append(Vehicle(style, np.random.default_rng([recipe.seed, 1, i])))
    return names, vehicles, types


def _annotations(labels: NDArray[np.int64], pixels: int, with_class: bool) -> NDArray[np.void]:
    fields = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", *("class",) * with_class, "fname")
    table = np.empty((1, len(labels)), dtype=[(name, object) for name in fields])
    for i, label in enumerate(labels):
        table[0, i] = (1, 1, pixels, pixels, *(int(label) + 1,) * with_class, f"{i + 1:05d}.jpg")
    return table


def _write_mat(path: Path, **content: Any) -> None:
    import scipy.io

    stream = io.BytesIO()
    scipy.io.savemat(stream, content)
    text = b"MATLAB 5.0 MAT-file, a stand-in rendered by data_prep"  # SciPy's own text has the date
    path.write_bytes(text.ljust(116) + stream.getvalue()[116:])


# -- the data sets --


def _summary(found: Survey) -> str:
    c = found.catalogue
    train = sum(p.label in c.training for p in found.pictures)
    kind = "stand-in" if found.stand_in else "layout " + found.layout
    return (
        f"{found.name} ({kind}): {train} images of {len(c.side('training'))} training "
        f"classes, {len(found.pictures) - train} of {len(c.side('test'))} test classes"
    )


def _lone_types(found: Survey) -> Iterator[str]:
    """A training class alone in its type has no sibling: no quadruplet starts from its images."""
    c = found.catalogue
    for name, types in c.coarse.items():
        counts = Counter(t for t, label in zip(types, c.classes, strict=True) if label in c.training)
        lone = ", ".join(sorted(t for t, n in counts.items() if n == 1))
        if lone:
            yield f"{name}: one training class alone in its type, so without sibling: {lone}"


STAND_IN = StandIn("cars196", "vehicles 1", Recipe, SIZES, draw)
DATASETS = tuple(
    DataSet(name, partial(survey, name=name), _summary, stand_in, notes=_lone_types)
    for name, stand_in in (("cars196", STAND_IN), ("cars196_half", None))
)
