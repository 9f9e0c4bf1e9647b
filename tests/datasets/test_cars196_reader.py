"""The label table of Cars196: layouts, splits, types, and what is refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from PIL import Image
from tiny_sets import CLASSES, LAYOUTS, devkit, edit, grey, refused

from papers_lib.datasets import cars196, cars196_layouts
from papers_lib.datasets.images import load_images

ALL = ("A", "B", "C", "kaggle")
TOTAL, TRAIN, HALF, HALF_TRAIN = 23, 12, 12, 7


def hold_labels(cars: cars196.Cars196) -> None:
    """Every pixel tells its class."""
    pixels = load_images(cars.files, 8).float().mean((1, 2, 3)).numpy()
    greys = np.array([grey(label) for label in CLASSES])
    assert np.abs(pixels - greys[cars.fine]).max() < 3
    assert (len(cars.files), cars.train.sum()) == (TOTAL, TRAIN)


@pytest.mark.parametrize("layout", ALL)
def test_labels_are_those_of_the_pictures_however_a_copy_numbers_them(layout, tmp_path):
    build = LAYOUTS[layout]
    straight = cars196.load(build(tmp_path / "a"))
    hold_labels(straight)
    shuffled = cars196.load(build(tmp_path / "b", tuple(reversed(straight.class_names))))
    for part in ("fine", "train", "class_names"):
        assert np.array_equal(getattr(straight, part), getattr(shuffled, part))
    train, test = straight.split("train"), straight.split("test")
    assert sorted([*train, *test]) == list(range(TOTAL))
    assert not set(straight.fine[train]) & set(straight.fine[test])
    if layout in ("A", "B"):  # boxes are read by the names of their columns
        assert straight.boxes.tolist() == [[2, 3, 11, 7]] * TOTAL
    else:
        assert straight.boxes is None


MOVES = {
    "a folder deeper": {
        "cars_train": "cars_train/cars_train",
        "cars_test": "cars_test/cars_test",
        "devkit": "car_devkit/devkit",
    },
    "flat": {f"devkit/{name}": name for name in ("cars_meta.mat", "cars_train_annos.mat")},
    "beside the images": {"devkit/cars_meta.mat": "cars_train/cars_meta.mat"},
    "a second copy": {
        "cars_test_annos_withlabels.mat": "cars_test_annos_withlabels (1).mat",
        "devkit/cars_meta.mat": "devkit/cars_meta(1).mat",
    },
    "inside an archive's folder": {
        name: f"archive/{name}"
        for name in ("cars_train", "cars_test", "devkit", "cars_test_annos_withlabels.mat")
    },
}


@pytest.mark.parametrize("moves", MOVES)
def test_files_are_found_by_their_names(moves, tmp_path):
    root = devkit(tmp_path)
    for old, new in MOVES[moves].items():
        aside = (root / old).rename(root / "aside")
        (root / new).parent.mkdir(parents=True, exist_ok=True)
        aside.rename(root / new)
    hold_labels(cars196.load(root))


@pytest.mark.parametrize("layout", ["A", "B", "kaggle"])
def test_half_is_the_official_training_half(layout, tmp_path):
    cars = cars196.load(LAYOUTS[layout](tmp_path), "cars196_half")
    assert (len(cars.files), cars.train.sum()) == (HALF, HALF_TRAIN)
    assert np.bincount(cars.fine).tolist() == [2, 3, 2, 1, 2, 2]


def test_half_alone_is_enough_for_the_half(tmp_path):
    root = devkit(tmp_path)
    shutil.rmtree(root / "cars_test")
    (root / "cars_test_annos_withlabels.mat").unlink()
    assert len(cars196.load(root, "cars196_half").files) == HALF
    line = refused(cars196.load, root)
    assert "half a data set: cars_test/ and cars_test_annos_withlabels.mat missing" in line
    assert "cars196_half" in line
    classes = LAYOUTS["C"](tmp_path / "C")
    assert "does not say which" in refused(cars196.load, classes, "cars196_half")


def test_types_follow_the_map(tmp_path):
    root = devkit(tmp_path)
    words, styles = cars196.load(root), cars196.load(root, coarse_map="body9")
    assert words.coarse_names == ("R9", "Sedan", "Van")
    assert styles.coarse_names == ("Sedan", "Van")
    for cars in (words, styles):
        for fine, coarse in zip(cars.fine, cars.coarse, strict=True):
            word = cars.class_names[fine].split()[-2]
            assert cars.coarse_names[coarse] == ("Van" if cars is styles and word == "R9" else word)
    assert "unknown coarse_map 'type9'; known: type22, body9" in refused(
        cars196.load, root, "cars196", "type9"
    )


# What is refused

META, TRAIN_MAT, TEST_MAT = (
    "devkit/cars_meta.mat",
    "devkit/cars_train_annos.mat",
    "cars_test_annos_withlabels.mat",
)
HDF = b"\x89HDF\r\n\x1a\n"
HEAD_7_3 = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512) + HDF


def labels(file: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Change the table [1, N] of a label file."""

    def damage(root: Path) -> None:
        table = scipy.io.loadmat(root / file)["annotations"]
        changed = change(table)
        scipy.io.savemat(root / file, {"annotations": table if changed is None else changed})

    return damage


def first(column: str, value: object) -> Callable[[Path], None]:
    """Change one column of the first training image."""
    return labels(TRAIN_MAT, lambda table: table[column].__setitem__((0, 0), value))


def without_class(table: Any) -> Any:
    rest = [name for name in table.dtype.names if name != "class"]
    bare = np.empty(table.shape, dtype=[(name, object) for name in rest])
    for name in rest:
        bare[name] = table[name]
    return bare


def raw(file: str, content: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda root: (root / file).write_bytes(content((root / file).read_bytes()))


def removed(folder: str, keep: int) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        for image in sorted((root / "images" / folder).iterdir())[keep:]:
            image.unlink()

    return damage


def unlisted(root: Path) -> None:
    (root / "cars_train" / "00003.jpg").rename(root / "cars_train" / "99999.jpg")


def outside(root: Path) -> None:
    Image.new("RGB", (4, 4)).save(root.parent / "outside.jpg")
    first("fname", "../../outside.jpg")(root)


REFUSED = [
    ("A", unlisted, ["00003.jpg is missing", "99999.jpg is in no label file"]),
    ("A", labels(TRAIN_MAT, lambda t: np.concatenate([t, t[:, :1]], 1)), ["00001.jpg is listed 2 times"]),
    ("A", outside, ["outside.jpg is missing"]),
    *(("A", first("class", number), ["00001.jpg has the class 'number "]) for number in (0, 7)),
    ("A", first("class", "two"), ["the row of cars_train/00001.jpg is not made of numbers"]),
    ("A", labels(TEST_MAT, without_class), ["has no class in its annotations"]),
    *(
        ("A", raw(META, content), ["cars_meta.mat is a MATLAB 7.3 file, which is HDF5 and not read here"])
        for content in (lambda _: HEAD_7_3, lambda _: HDF, lambda _: b"x" * 512 + HDF)
    ),
    *(
        ("A", damage, [f"{Path(file).name} {words}"])
        for file, lacks in ((META, "class_names"), (TRAIN_MAT, "fname, class, bbox"))
        for damage, words in (
            (raw(file, lambda whole: whole[: len(whole) // 2]), "cannot be read"),
            (raw(file, lambda _: b""), "cannot be read"),
            (lambda root, file=file: scipy.io.savemat(root / file, {"other": 1}), f"has no {lacks}"),
            (lambda root, file=file: (root / file).unlink(), "missing"),
        )
    ),
    (
        "C",
        removed(CLASSES[0], 3),
        ["11 images of the 3 training classes, 12 expected", f"'{CLASSES[0]}' has 3 images, 4 expected"],
    ),
    (
        "C",
        lambda root: shutil.rmtree(root / "images" / CLASSES[0]),
        ["8 images of the 3 training classes, 12 expected", f"'{CLASSES[0]}' has no image"],
    ),
    (
        "C",
        removed(CLASSES[4], 1),
        ["7 images of the 3 test classes, 11 expected", f"'{CLASSES[4]}' has one image"],
    ),
    ("C", lambda root: (root / "images" / "Zebra 1999").mkdir(), ["no class of cars196 has this name"]),
    (
        "A",
        lambda root: edit(root / "STANDIN.json", lambda told: told.update(colour="red")),
        ["unknown parameter 'colour'"],
    ),
]


@pytest.mark.parametrize(("layout", "damage", "words"), REFUSED)
def test_what_is_wrong_is_a_line(layout, damage, words, tmp_path):
    root = LAYOUTS[layout](tmp_path / "in")
    damage(root)
    line = refused(cars196.load, root)
    assert words[0] in line
    if len(words) > 1:
        assert "1 more faults; see: python -m data_prep check cars196" in line
        assert words[1] in "\n".join(cars196_layouts.survey(root, "cars196").problems)


# The real class list


def test_the_table_of_types_has_the_known_counts():
    catalogue = cars196_layouts._catalogue("cars196")
    assert len(catalogue.classes) == len(catalogue.known) == 196
    assert (len(set(catalogue.coarse["type22"])), len(set(catalogue.coarse["body9"]))) == (22, 9)
    train = [n for c, n in zip(catalogue.classes, catalogue.images, strict=True) if c in catalogue.training]
    assert (sum(train), sum(catalogue.images)) == (8054, 16185)
    assert set(catalogue.classes[:98]) == catalogue.training
    assert [label.split()[-2] for label in catalogue.classes] == list(catalogue.coarse["type22"])


def test_the_real_half_by_name(monkeypatch, tmp_path):
    for label in cars196_layouts._catalogue("cars196_half").classes:
        folder = tmp_path / "train" / label.replace("/", "-").replace(" ", "_")
        folder.mkdir(parents=True)
        for i in range(2):
            (folder / f"{i}.jpg").write_bytes(label.encode())
    line = refused(cars196.load, tmp_path, "cars196_half")
    assert "196 images of the 98 training classes, 4052 expected" in line
    monkeypatch.setitem(cars196_layouts.COUNTS, "cars196_half", (196, 196))
    cars = cars196.load(tmp_path, "cars196_half")
    assert not cars.stand_in
    assert cars.train.tolist() == (cars.fine < 98).tolist()
    assert [cars.class_names[f] for f in cars.fine] == [f.read_bytes().decode() for f in cars.files]
    classes = [len(set(cars.fine[cars.train & (cars.coarse == i)])) for i in range(len(cars.coarse_names))]
    lone = [name for name, count in zip(cars.coarse_names, classes, strict=True) if count == 1]
    assert lone == ["GS", "R", "SRT8", "Type-S", "Z06", "ZR1"]


def test_real_images_where_they_are():
    root = os.environ.get("PAPERS_DATA", "")
    if not root or not (Path(root) / "cars196_half").is_dir():
        pytest.skip("no cars196_half in $PAPERS_DATA")
    cars = cars196.load(Path(root), "cars196_half")
    assert (cars.train.sum(), (~cars.train).sum()) == (4052, 4092)
