"""The label table of Cars196: layouts, splits, types, and what is refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image
from tiny_sets import edit, refused

from papers_lib.datasets import cars196, cars196_layouts
from papers_lib.datasets.images import load_images

ALL = ("A", "B", "C", "kaggle")
TOTAL, TRAIN, HALF, HALF_TRAIN = 23, 12, 12, 7


@pytest.mark.parametrize("layout", ALL)
def test_labels_are_those_of_the_pictures(layout, layouts, greys, tmp_path):
    cars = cars196.load(layouts[layout](tmp_path / "cars196"))
    pixels = load_images(cars.files, 8).float().mean((1, 2, 3)).numpy()
    assert np.abs(pixels - np.array(greys)[cars.fine]).max() < 3
    assert len(cars.files) == TOTAL
    assert cars.train.sum() == TRAIN
    assert cars.stand_in
    assert all(file.is_file() for file in cars.files)


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
def test_files_are_found_by_their_names(moves, layouts, greys, tmp_path):
    root = layouts["A"](tmp_path)
    for old, new in MOVES[moves].items():
        aside = (root / old).rename(root / "aside")
        (root / new).parent.mkdir(parents=True, exist_ok=True)
        aside.rename(root / new)
    cars = cars196.load(root)
    assert (len(cars.files), cars.train.sum()) == (TOTAL, TRAIN)
    pixels = load_images(cars.files, 8).float().mean((1, 2, 3)).numpy()
    assert np.abs(pixels - np.array(greys)[cars.fine]).max() < 3


def test_a_file_of_matlab_7_3_is_named(layouts, tmp_path):
    root = layouts["A"](tmp_path)
    head = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512) + b"\x89HDF\r\n\x1a\n"
    for raw in (head, head[512:], b"x" * 512 + head[512:]):
        (root / "devkit" / "cars_meta.mat").write_bytes(raw + bytes(200))
        assert (
            "cars_meta.mat is a MATLAB 7.3 file, which is HDF5 and not read here; save it with -v7"
            in refused(cars196.load, root)
        )


@pytest.mark.parametrize("layout", ALL)
def test_numbers_of_a_copy_do_not_matter(layout, layouts, greys, tmp_path):
    build = layouts[layout]
    straight = cars196.load(build(tmp_path / "a"))
    shuffled = cars196.load(build(tmp_path / "b", tuple(reversed(straight.class_names))))
    assert np.array_equal(straight.fine, shuffled.fine)
    assert np.array_equal(straight.train, shuffled.train)
    assert straight.class_names == shuffled.class_names


@pytest.mark.parametrize("layout", ["A", "B", "kaggle"])
def test_half_is_the_official_training_half(layout, layouts, tmp_path):
    cars = cars196.load(layouts[layout](tmp_path), "cars196_half")
    assert len(cars.files) == HALF
    assert cars.train.sum() == HALF_TRAIN
    assert np.bincount(cars.fine).tolist() == [2, 3, 2, 1, 2, 2]


def test_half_alone_is_enough_for_the_half(layouts, tmp_path):
    root = layouts["A"](tmp_path)
    shutil.rmtree(root / "cars_test")
    (root / "cars_test_annos_withlabels.mat").unlink()
    assert len(cars196.load(root, "cars196_half").files) == HALF
    line = refused(cars196.load, root)
    assert "half a data set: cars_test/ and cars_test_annos_withlabels.mat missing" in line
    assert "cars196_half" in line


def test_class_folders_without_official_split_have_no_half(layouts, tmp_path):
    assert "does not say which" in refused(cars196.load, layouts["C"](tmp_path), "cars196_half")


def test_types_follow_the_map(layouts, tmp_path):
    root = layouts["A"](tmp_path)
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


def test_splits_share_no_class_and_cover_all(layouts, tmp_path):
    cars = cars196.load(layouts["B"](tmp_path))
    train, test = cars.split("train"), cars.split("test")
    assert sorted([*train, *test]) == list(range(TOTAL))
    assert not set(cars.fine[train]) & set(cars.fine[test])


def test_boxes_are_read_by_name(layouts, tmp_path):
    for layout in ("A", "B"):
        cars = cars196.load(layouts[layout](tmp_path / layout))
        assert cars.boxes.tolist() == [[2, 3, 11, 7]] * TOTAL
    assert cars196.load(layouts["C"](tmp_path / "C")).boxes is None


# What is refused


def test_labels_out_of_step_with_the_images(layouts, tmp_path):
    root = layouts["A"](tmp_path)
    (root / "cars_train" / "00003.jpg").rename(root / "cars_train" / "99999.jpg")
    line = refused(cars196.load, root)
    assert "00003.jpg is missing" in line
    assert "1 more faults; see: python -m data_prep check cars196" in line
    problems = cars196_layouts.survey(root, "cars196").problems
    assert any("99999.jpg is in no label file" in p for p in problems)


def test_an_image_listed_twice(layouts, tmp_path):
    root = layouts["A"](tmp_path)
    path = root / "devkit" / "cars_train_annos.mat"
    table = scipy.io.loadmat(path)["annotations"]
    scipy.io.savemat(path, {"annotations": np.concatenate([table, table[:, :1]], 1)})
    assert "00001.jpg is listed 2 times" in refused(cars196.load, root)


def test_wrong_count_names_expected_and_found(layouts, tmp_path):
    root = layouts["C"](tmp_path)
    next((root / "images" / "Alder Otter Sedan 2001").iterdir()).unlink()
    line = refused(cars196.load, root)
    assert "11 images of the 3 training classes, 12 expected" in line
    problems = cars196_layouts.survey(root, "cars196").problems
    assert any("'Alder Otter Sedan 2001' has 3 images, 4 expected" in p for p in problems)


def test_class_without_image_and_with_one(layouts, tmp_path):
    root = layouts["C"](tmp_path)
    shutil.rmtree(root / "images" / "Alder Otter Sedan 2001")
    for image in sorted((root / "images" / "Ember Vole Van 2005").iterdir())[1:]:
        image.unlink()
    problems = cars196_layouts.survey(root, "cars196").problems
    assert any("'Alder Otter Sedan 2001' has no image" in p for p in problems)
    assert any("'Ember Vole Van 2005' has one image" in p for p in problems)


def test_unknown_class_folder(layouts, tmp_path):
    root = layouts["C"](tmp_path)
    (root / "images" / "Zebra 1999").mkdir()
    assert "no class of cars196 has this name" in refused(cars196.load, root)


@pytest.mark.parametrize("number", [0, 7, "two"])
def test_class_number_outside_the_list(number, layouts, tmp_path):
    root = layouts["A"](tmp_path)
    path = root / "devkit" / "cars_train_annos.mat"
    table = scipy.io.loadmat(path, squeeze_me=True)["annotations"]
    table["class"][0] = number
    scipy.io.savemat(path, {"annotations": table[None]})
    assert "00001.jpg" in refused(cars196.load, root)


def test_the_unlabelled_test_list_is_named(layouts, tmp_path):
    root = layouts["A"](tmp_path)
    path = root / "cars_test_annos_withlabels.mat"
    table = scipy.io.loadmat(path)["annotations"]
    rest = [name for name in table.dtype.names if name != "class"]
    bare = np.empty(table.shape, dtype=[(name, object) for name in rest])
    for name in rest:
        bare[name] = table[name]
    scipy.io.savemat(path, {"annotations": bare})
    assert "has no class in its annotations" in refused(cars196.load, root)


@pytest.mark.parametrize("file", ["devkit/cars_meta.mat", "devkit/cars_train_annos.mat"])
def test_broken_and_missing_label_files(file, layouts, tmp_path):
    root = layouts["A"](tmp_path)
    whole = (root / file).read_bytes()
    (root / file).write_bytes(whole[: len(whole) // 2])
    assert "cannot be read" in refused(cars196.load, root)
    (root / file).write_bytes(b"")
    assert "cannot be read" in refused(cars196.load, root)
    scipy.io.savemat(root / file, {"other": 1})
    assert f"{Path(file).name} has no {'class_names' if 'meta' in file else 'fname, class, bbox'}" in refused(
        cars196.load, root
    )
    (root / file).unlink()
    assert f"{Path(file).name} missing" in refused(cars196.load, root)


def test_a_label_cannot_reach_outside(layouts, tmp_path):
    root = layouts["A"](tmp_path / "in")
    Image.new("RGB", (4, 4)).save(tmp_path / "outside.jpg")
    path = root / "devkit" / "cars_train_annos.mat"
    table = scipy.io.loadmat(path, squeeze_me=True)["annotations"]
    table["fname"][0] = "../../outside.jpg"
    scipy.io.savemat(path, {"annotations": table[None]})
    assert "outside.jpg is missing" in refused(cars196.load, root)


# The real class list


def test_the_table_of_types_has_the_known_counts():
    catalogue = cars196_layouts._catalogue("cars196")
    assert len(catalogue.classes) == len(catalogue.known) == 196
    assert (len(set(catalogue.coarse["type22"])), len(set(catalogue.coarse["body9"]))) == (22, 9)
    train = [n for c, n in zip(catalogue.classes, catalogue.images, strict=True) if c in catalogue.training]
    assert (sum(train), sum(catalogue.images)) == (8054, 16185)
    assert set(catalogue.classes[:98]) == catalogue.training
    for label, word in zip(catalogue.classes, catalogue.coarse["type22"], strict=True):
        assert label.split()[-2] == word


def test_the_real_half_by_name(monkeypatch, tmp_path):
    catalogue = cars196_layouts._catalogue("cars196_half")
    for label in catalogue.classes:
        folder = tmp_path / "train" / label.replace("/", "-").replace(" ", "_")
        folder.mkdir(parents=True)
        for i in range(2):
            (folder / f"{i}.jpg").write_bytes(label.encode())
    assert "196 images of the 98 training classes, 4052 expected" in refused(
        cars196.load, tmp_path, "cars196_half"
    )
    monkeypatch.setitem(cars196_layouts.COUNTS, "cars196_half", (196, 196))
    cars = cars196.load(tmp_path, "cars196_half")
    assert not cars.stand_in
    assert cars.train.tolist() == (cars.fine < 98).tolist()
    assert [cars.class_names[f] for f in cars.fine] == [f.read_bytes().decode() for f in cars.files]
    lone = [n for n, c in zip(cars.coarse_names, _classes_of_type(cars), strict=True) if c == 1]
    assert lone == ["GS", "R", "SRT8", "Type-S", "Z06", "ZR1"]


def _classes_of_type(cars: cars196.Cars196) -> list[int]:
    return [len(set(cars.fine[cars.train & (cars.coarse == i)])) for i in range(len(cars.coarse_names))]


def test_real_images_where_they_are():
    root = os.environ.get("PAPERS_DATA", "")
    if not root or not (Path(root) / "cars196_half").is_dir():
        pytest.skip("no cars196_half in $PAPERS_DATA")
    cars = cars196.load(Path(root), "cars196_half")
    assert (cars.train.sum(), (~cars.train).sum()) == (4052, 4092)


def test_standin_schema_refuses_unknown_fields(layouts, tmp_path):
    root = layouts["A"](tmp_path)
    edit(root / "STANDIN.json", lambda told: told.update(colour="red"))
    assert "unknown parameter 'colour'" in refused(cars196.load, root)
