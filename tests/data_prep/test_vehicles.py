"""The stand-in: what is drawn, and what is written."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torchvision

from data_prep import cars196_standin
from data_prep.vehicles import STYLES, design, render
from papers_lib.datasets import cars196
from papers_lib.errors import PapersError


def pixels(style: str, model: int, image: int) -> np.ndarray:
    vehicle = design(style, np.random.default_rng(model))
    return np.asarray(render(vehicle, 24, np.random.default_rng(image)))


@pytest.mark.parametrize("style", STYLES)
def test_pictures_follow_the_seed_the_model_and_the_image(style):
    assert np.array_equal(pixels(style, 0, 0), pixels(style, 0, 0))
    assert pixels(style, 0, 0).shape == (24, 24, 3)
    assert (pixels(style, 0, 0) != pixels(style, 1, 0)).any()
    assert (pixels(style, 0, 0) != pixels(style, 0, 1)).mean() > 0.5


def test_dimensions_stay_in_order():
    for style in STYLES:
        for seed in range(50):
            length, *_, screen, front, back, rear = design(style, np.random.default_rng(seed)).dimensions
            assert 0 < screen < front < back < rear < length


def test_the_standin_is_what_it_says(rendered):
    told = json.loads((rendered / "STANDIN.json").read_text())
    cars = cars196.load(rendered.parent)
    assert cars.stand_in
    assert cars.class_names == tuple(told["classes"])
    assert np.bincount(cars.fine).tolist() == told["counts"]["cars196"]
    assert {cars.class_names[f] for f in cars.fine[cars.train]} == set(told["training"])
    assert len(told["classes"]) == 40 == 2 * len(told["training"])
    assert told["drawing"] and told["recipe"]["seed"] == told["seed"] == 0


def test_type22_has_types_of_one_model_and_body9_has_none(rendered):
    for coarse_map, lone_types in (("type22", True), ("body9", False)):
        cars = cars196.load(rendered, coarse_map=coarse_map)
        for side in (cars.train, ~cars.train):
            models = {(f, c) for f, c in zip(cars.fine[side], cars.coarse[side], strict=True)}
            sizes = Counter(c for _, c in models)
            assert (1 in sizes.values()) is lone_types
            assert len(sizes) >= 8
    words = [label.split()[-2] for label in cars196.load(rendered).class_names]
    told = json.loads((rendered / "STANDIN.json").read_text())
    assert words == told["coarse"]["type22"]


def test_torchvision_reads_the_same_labels(rendered):
    cars = cars196.load(rendered)
    label_of = dict(zip(cars.files, cars.fine, strict=True))
    for split in ("train", "test"):
        theirs = torchvision.datasets.StanfordCars(str(rendered), split=split)
        assert theirs.classes == list(cars.class_names)
        for file, label in theirs._samples:
            assert label_of.pop(Path(file)) == label
    assert not label_of


def test_same_seed_same_bytes_other_seed_other_bytes(rendered, tmp_path):
    contents = []
    for name, seed in (("a", "0"), ("b", "1")):
        (tmp_path / name).mkdir()
        cars196_standin.make(tmp_path / name, "smoke", {"per_model": "4", "pixels": "16", "seed": seed})
        contents.append(files(tmp_path / name))
    assert contents[0] == files(rendered)
    assert contents[1] != contents[0]


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        ("huge", {}, "unknown size 'huge'; known: smoke, small"),
        ("smoke", {"model": "50"}, "did you mean 'models'"),
        ("smoke", {"models": "39"}, "models"),
        ("smoke", {"models": "many"}, "models"),
        ("smoke", {"seed": "-1"}, "seed"),
        ("smoke", {"pixels": "NaN"}, "pixels"),
    ],
)
def test_a_bad_recipe_is_one_line(size, options, message, tmp_path):
    with pytest.raises(PapersError, match=message) as caught:
        cars196_standin.make(tmp_path, size, options)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
