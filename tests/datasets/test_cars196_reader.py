"""The label table of Cars196: layouts, splits, types, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from numpy.lib.recfunctions import drop_fields
from PIL import Image
from tiny_sets import CLASSES, LAYOUTS, class_folders, devkit, edited, empty, gone, grey, moved, put, refused

from papers_lib.datasets import cars196, cars196_layouts
from papers_lib.datasets.images import load_images

TOTAL, TRAIN = 23, 12


def hold_labels(cars):
    """Every pixel tells its class."""
    pixels = load_images(cars.files, (8, 8)).mean((1, 2, 3))
    greys = np.array([grey(label) for label in CLASSES])
    assert np.abs(pixels - greys[cars.fine]).max() < 3
    assert (len(cars.files), cars.train.sum()) == (TOTAL, TRAIN)


@pytest.mark.parametrize("layout", LAYOUTS)
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
    assert (len(cars.files), cars.train.sum()) == (12, 7)
    assert np.bincount(cars.fine).tolist() == [2, 3, 2, 1, 2, 2]


def test_half_alone_is_enough_for_the_half(tmp_path):
    root = devkit(tmp_path)
    shutil.rmtree(root / "cars_test")
    (root / "cars_test_annos_withlabels.mat").unlink()
    assert len(cars196.load(root, "cars196_half").files) == 12
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
    line = refused(cars196.load, root, "cars196", "type9")
    assert "unknown coarse_map 'type9'; known: type22, body9" in line


# What is refused

META, TRAIN_MAT = "devkit/cars_meta.mat", "devkit/cars_train_annos.mat"
TEST_MAT = "cars_test_annos_withlabels.mat"
HDF = b"\x89HDF\r\n\x1a\n"
HEADS_7_3 = (b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512) + HDF, HDF, b"x" * 512 + HDF)


def labels(file, change):
    """Change the table [1, N] of a label file."""

    def damage(root):
        table = scipy.io.loadmat(root / file)["annotations"]
        changed = change(table)
        scipy.io.savemat(root / file, {"annotations": table if changed is None else changed})

    return damage


def first(column, value):
    """Change one column of the first training image."""
    return labels(TRAIN_MAT, lambda table: table[column].__setitem__((0, 0), value))


def outside(root):
    Image.new("RGB", (4, 4)).save(root.parent / "outside.jpg")
    first("fname", "../../outside.jpg")(root)


def broken(file, lacks):
    name = Path(file).name
    return [
        (edited(file, lambda raw: raw[: len(raw) // 2]), f"{name} cannot be read"),
        (put(file, b""), f"{name} cannot be read"),
        (lambda root: scipy.io.savemat(root / file, {"other": 1}), f"{name} has no {lacks}"),
        (gone(file), f"{name} missing"),
    ]


ALDER, EMBER = CLASSES[0], CLASSES[4]
DEVKIT_REFUSED = [
    (moved("cars_train/00003.jpg", "cars_train/99999.jpg"), "00003.jpg is missing", "99999.jpg is in no"),
    (labels(TRAIN_MAT, lambda t: np.concatenate([t, t[:, :1]], 1)), "00001.jpg is listed 2 times"),
    (outside, "outside.jpg is missing"),
    (first("class", 0), "00001.jpg has the class 'number 0'"),
    (first("class", 7), "00001.jpg has the class 'number 7'"),
    (first("class", "two"), "the row of cars_train/00001.jpg is not made of numbers"),
    (labels(TEST_MAT, lambda t: drop_fields(t, "class", usemask=False)), "has no class in its annotations"),
    *((put(META, head + bytes(200)), "is a MATLAB 7.3 file, which is HDF5") for head in HEADS_7_3),
    *broken(META, "class_names"),
    *broken(TRAIN_MAT, "fname, class, bbox"),
    (edited("STANDIN.json", lambda told: told.replace(b"{", b'{"colour": "red", ', 1)), "parameter 'colour'"),
]
FOLDERS_REFUSED = [
    (gone(f"images/{ALDER}/0000.jpg"), "11 images of the 3 training", f"'{ALDER}' has 3 images, 4"),
    (gone(f"images/{ALDER}"), "8 images of the 3 training classes, 12", f"'{ALDER}' has no image"),
    (
        gone(f"images/{EMBER}/*[1-9].jpg", f"images/{EMBER}/1000.jpg"),
        "7 images of the 3 test classes, 11",
        f"'{EMBER}' has one image",
    ),
    (empty("images/Zebra 1999"), "no class of cars196 has this name"),
]
REFUSED = [(devkit, *row) for row in DEVKIT_REFUSED] + [(class_folders, *row) for row in FOLDERS_REFUSED]


@pytest.mark.parametrize("row", REFUSED)
def test_what_is_wrong_is_a_line(row, tmp_path):
    build, damage, words, *more = row
    root = build(tmp_path / "in")
    damage(root)
    line = refused(cars196.load, root)
    assert words in line
    for other in more:
        assert "1 more faults; see: python -m data_prep check cars196" in line
        assert other in "\n".join(cars196_layouts.survey(root, "cars196").problems)


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
