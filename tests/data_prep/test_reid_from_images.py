"""`make reid_from_images`: each image an identity, each camera a transform."""

import json

import numpy as np
import pytest
from PIL import Image
from prepared import content, refused, settings

from data_prep import features as prep
from data_prep.__main__ import main
from papers_lib.datasets import features, reid
from papers_lib.datasets.images import load_images

SMALL = {"identities": 6, "cameras": 3, "seen": 2, "shots": 2, "distractors": 2, "height": 32, "width": 16}


def make(root, *more, **options):
    """The exit code of drawing into `root`."""
    return main(["make", "reid_from_images", str(root), *settings(**options), *more])


@pytest.fixture
def images(tmp_path):
    """Ten one-colour images of several forms, and a leftover."""
    for i in range(10):
        path = tmp_path / "my images" / ("deep" * (i % 2)) / f"{i}.{'png' if i % 3 else 'JPG'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        mode, colour = ("L", 25 * i) if i == 4 else ("RGB", (25 * i, 255 - 25 * i, 90))
        Image.new(mode, (30, 20 + i), colour).save(path)
    (tmp_path / "my images" / "._3.JPG").write_bytes(b"mac")
    return tmp_path / "my images"


def test_each_image_is_an_identity_and_each_camera_a_transform(images, tmp_path, capsys):
    arguments = ["make", "reid-from-images", str(tmp_path), *settings(images=images, **SMALL)]
    assert main([*arguments, "-p", "gap", "0"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("reid_from_images (stand-in): train 12 images of 3 identities")
    data = reid.load(tmp_path, "reid_from_images")
    told = json.loads((data.root / "STANDIN.json").read_text())
    assert told["made_from"] == "images of the folder my images"
    assert str(tmp_path) not in json.dumps(told)
    assert (data.cameras, data.stand_in) == (3, True)
    assert not set(data.train.ids.tolist()) & set(data.query.ids.tolist())
    assert sorted(data.gallery.ids.tolist()) == [0, 0, 4, 4, 5, 5, 6, 6]
    colour = load_images(data.train.files, (32, 16)).mean((1, 2))
    for who in set(data.train.ids.tolist()):  # without a gap, cameras differ by light alone
        mine = colour[data.train.ids == who]
        others = colour[data.train.ids != who]
        near, far = (np.linalg.norm(x - mine.mean(0), axis=1) for x in (mine, others))
        assert near.max() < far.min()


def test_cameras_differ_more_with_the_gap_and_stay_fixed(tmp_path):
    folder = tmp_path / "grey"
    folder.mkdir()
    for i in range(8):
        Image.new("RGB", (20, 20), (128, 128, 128)).save(folder / f"{i}.png")
    spread = {}
    for gap in (0.2, 1.0):
        root = tmp_path / f"gap {gap}"
        assert make(root, images=folder, gap=gap, **SMALL) == 0
        data = reid.load(root, "reid_from_images")
        colour = load_images(data.train.files, (32, 16)).mean((1, 2))
        by_camera = [colour[data.train.cameras == camera] for camera in range(3)]
        spread[gap] = np.stack([colours.mean(0) for colours in by_camera]).std(0).mean()
        assert max(colours.std(0).max() for colours in by_camera) < 15  # light alone
    assert spread[1.0] > 2 * spread[0.2]


def test_the_same_images_and_seed_give_the_same_bytes(images, tmp_path, capsys):
    made = {}
    for place, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        assert make(tmp_path / place, "--seed", seed, images=images, **SMALL) == 0
        made[place] = content(tmp_path / place)
    assert made["a"] == made["b"] != made["c"]
    assert make(tmp_path / "a", images=images, **SMALL) == 0  # there already
    for path in images.rglob("*.png"):
        Image.new("RGB", (9, 9)).save(path)
    capsys.readouterr()
    again = ["make", "reid_from_images", tmp_path / "a", *settings(images=images, **SMALL)]
    assert "holds something else" in refused(capsys, *again)  # made from other images
    assert content(tmp_path / "a") == made["a"]


def test_features_of_the_network_keep_who_was_seen_by_which_camera(images, tmp_path, monkeypatch):
    root = tmp_path / "root"
    assert make(root, images=images, **SMALL) == 0
    random = np.random.default_rng(0)
    monkeypatch.setattr(prep, "embed", lambda pixels, recipe: random.normal(size=(len(pixels), 6)))
    prep._cars_cameras(tmp_path / "made", prep.Recipe(images=str(root), components=4))
    found, network = features.load(tmp_path, "made"), reid.load(root, "reid_from_images")
    assert found.values.shape == (len(found.labels["side"]), 4)
    for side, part in enumerate((network.train, network.query, network.gallery)):
        mine = found.labels["side"] == side
        assert found.labels["identity"][mine].tolist() == part.ids.tolist()
        assert found.labels["camera"][mine].tolist() == part.cameras.tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "name their folder: -p images FOLDER"),
        ({"images": "none"}, "none is no folder"),
        ({"images": "my images"}, "has 10 images, and 40 identities with 10 distractors need one each"),
        ({"images": "my images", "cameras": 1}, "cameras: input should be greater than or equal to 2"),
        ({"images": "my images", "identities": 4, "distractors": 6}, "is not a whole image"),
    ],
)
def test_bad_input_is_one_line(options, message, images, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if "whole" in message:
        for path in images.rglob("*.*"):
            path.write_bytes(b"no image")
    assert message in refused(capsys, "make", "reid_from_images", tmp_path / "root", *settings(**options))
    assert not (tmp_path / "root" / "reid_from_images").exists()
