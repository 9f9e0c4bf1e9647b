"""Packs, class folders and LFW as `faces` reads them, and one line for each way they are out of step."""

import os
import pickle
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_sets import edit, edited, empty, gone, put, refused

from papers_lib.datasets import face_layouts, faces


@pytest.mark.parametrize("suffix", ["webp", "BMP", "tif", "pgm"])
def test_photographs_of_any_suffix_are_read(suffix, tmp_path):
    for who in ("ada", "bob"):
        (tmp_path / "train" / who).mkdir(parents=True)
        for i in range(2):
            file = tmp_path / "train" / who / f"{i}.jpg"
            Image.new("RGB", (9, 9), (i * 9,) * 3).save(file)
    file.rename(file.with_suffix(f".{suffix}"))
    Image.new("L", (9, 9), 77).save(file.with_suffix(f".{suffix}"))
    data = faces.load(tmp_path, "faces_own")
    assert data.train.pixels([3], 9).mean() == pytest.approx(77, abs=1)


def test_a_pack_and_class_folders_hold_the_same_people(made):
    pack, folders = (faces.load(made, name) for name in ("faces_emore", "faces_own"))
    assert pack.stand_in and folders.stand_in
    for data in (pack, folders):
        assert data.train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
        assert (len(data.train), data.train.identities) == (12, 3)
    assert np.array_equal(pack.train.pixels(range(12), 16), folders.train.pixels(range(12), 16))
    assert pack.train.pixels([5, 0], 24).shape == (2, 24, 24, 3)
    assert set(pack.tests) == {"lfw", "cfp_fp", "agedb_30"}
    assert set(folders.tests) == {"pairs"}


def test_pairs_of_a_bin_and_of_pairs_txt_are_the_same(made):
    ours = faces.load(made / "lfw", "lfw")
    assert ours.train is None
    of_bin, of_list = faces.load(made, "faces_emore").tests["lfw"], ours.tests["lfw"]
    assert (len(of_list), of_list.folds) == (20, 10)
    assert of_list.same.tolist() == of_bin.same.tolist() == [True, False] * 10
    for side in ("first", "second"):
        theirs = faces.load_images(of_bin, 16)[getattr(of_bin, side)]
        assert np.array_equal(faces.load_images(of_list, 16)[getattr(of_list, side)], theirs)
    names = [of_list.images[i].name for i in (*of_list.first[:2], *of_list.second[:2])]
    assert names == [f"Nobody_000{i}_000{j}.jpg" for i, j in ((0, 1), (0, 3), (0, 2), (1, 4))]


def test_an_image_of_several_pairs_is_there_once(copy):
    root = copy("lfw")
    pair = ["Nobody_0000\t1\t2", "Nobody_0000\t1\tNobody_0001\t4"]
    lines = ["2\t1", *pair, *pair]
    (root / "pairs.txt").write_text("\n".join(lines))
    edit(root / "STANDIN.json", lambda told: told["counts"].update(pairs={"lfw": 4}))
    found = faces.load(root, "lfw").tests["lfw"]
    assert (len(found.images), found.folds) == (3, 2)
    assert (found.first.tolist(), found.second.tolist()) == ([0, 0, 0, 0], [1, 2, 1, 2])


@pytest.mark.parametrize("folder", ["lfw_funneled", "lfw-deepfunneled", "", "test"])
def test_lfw_lies_in_any_of_its_folders(folder, copy, made):
    root = copy("lfw")
    if folder:
        (root / "lfw").rename(root / folder)
    else:
        for path in (root / "lfw").iterdir():
            path.rename(root / path.name)
        (root / "lfw").rmdir()
    ours = faces.load(root, "lfw").tests["lfw"]
    theirs = faces.load(made, "lfw").tests["lfw"]
    assert [p.name for p in ours.images] == [p.name for p in theirs.images]


def test_class_folders_need_no_train_folder(copy):
    root = copy("faces_own")
    expected = faces.load(root, "faces_own")
    for path in (root / "train").iterdir():
        path.rename(root / path.name)
    (root / "train").rmdir()
    found = faces.load(root, "faces_own")
    assert found.train.labels.tolist() == expected.train.labels.tolist()
    assert len(found.tests["pairs"]) == 20


def test_a_changed_pair_changes_the_digest_of_content(copy):
    root = copy("lfw")
    before = faces.load(root, "lfw").pixels
    lines = (root / "pairs.txt").read_text().splitlines()
    lines[1], lines[3] = lines[3], lines[1]
    (root / "pairs.txt").write_text("\n".join(lines))
    assert faces.load(root, "lfw").pixels != before


# What is wrong


def test_a_real_copy_is_named_by_its_edition(copy, monkeypatch):
    root = copy("faces_emore")
    (root / "STANDIN.json").unlink()
    line = refused(faces.load, root, "faces_emore", True)
    assert "12 images of 3 identities, 3,804,846 of 85,164 or 5,822,653 of 85,742 expected" in line
    known = face_layouts.Known("x", (), {(12, 3): "MS1MV9"}, {"lfw": 20})
    monkeypatch.setitem(face_layouts.SETS, "faces_emore", known)
    assert faces.load(root, "faces_emore", acknowledge_withdrawn=True).title == "MS1MV9"


def bin_of(name, same):
    return put(name, pickle.dumps(([b"x"] * (2 * len(same)), same)))


def rows(change):
    """Other lines of pairs.txt."""
    return edited("pairs.txt", lambda text: b"\n".join(change(text.splitlines())))


def of_length(pairs, length):
    return [pair for pair in pairs[1:] if len(pair.split()) == length]


def two_broken(root):
    put("lfw.bin", b"junk")(root)
    os.truncate(root / "train.rec", 900)


PAIRS_REFUSED = [
    (lambda lines: lines[:-1], "announces 20 pairs and has 19"),
    (lambda lines: lines[1:-1], "19 pairs do not divide into 10 folds"),
    (lambda lines: [b"1\t5", *of_length(lines, 3)], "all 10 pairs are of the same person"),
    (lambda lines: [b"5", *of_length(lines, 4)], "all 10 pairs are of the different people"),
    (lambda lines: [*lines[:3], b"Nobody_0000\tone\ttwo", *lines[4:]], 'line 4: is no "name 1 2"'),
    (lambda lines: [*lines[:3], b"Nobody_0000", *lines[4:]], 'line 4: is no "name 1 2"'),
    (lambda lines: [b"10", *lines[1:]], "pairs.txt: 20 pairs in 1 fold, which leaves none"),
    (lambda lines: [b"1\t10", *lines[1:]], "pairs.txt: 20 pairs in 1 fold, which leaves none"),
    (lambda lines: [b"0\t0"], "all 0 pairs"),
    (lambda lines: [], "all 0 pairs"),
]
HALVES = [True, False] * 10
REFUSED = [
    ("faces_emore", gone("train.idx"), "half a data set: train.idx missing"),
    ("faces_emore", two_broken, "cut short"),
    ("faces_emore", two_broken, "and 1 more faults; see: python -m data_prep check faces_emore"),
    ("faces_emore", gone("cfp_fp.bin"), "no pairs 'cfp_fp'"),
    ("faces_emore", bin_of("lfw.bin", [True] * 10), "lfw.bin: all 10 pairs are of the same person"),
    ("faces_emore", bin_of("lfw.bin", HALVES[:3]), "lfw.bin: 3 pairs do not divide into 10 folds"),
    ("faces_emore", bin_of("lfw.bin", HALVES + HALVES[:10]), "lfw has 30 pairs, 20 expected"),
    ("faces_own", empty("train/nobody"), "nobody is an identity without images"),
    ("faces_own", bin_of("pairs.bin", HALVES), "pairs.txt: pairs.bin beside it has pairs of the same name"),
    ("lfw", gone("lfw/*/Nobody_0000_0002.jpg"), "line 2: Nobody_0000/Nobody_0000_0002.jpg is missing in"),
    *(("lfw", rows(change), words) for change, words in PAIRS_REFUSED),
]


@pytest.mark.parametrize(("name", "damage", "words"), REFUSED)
def test_what_is_wrong_is_a_line(name, damage, words, copy):
    root = copy(name)
    damage(root)
    assert words in refused(faces.load, root, name)


def test_a_damaged_image_of_a_pack_or_of_pairs_is_named_by_its_number(copy):
    data = faces.load(copy("faces_emore"), "faces_emore")
    broken = face_layouts.Pairs("lfw", (b"x", b"y"), np.array([0]), np.array([1]), np.array([True]))
    assert "lfw.bin, image 0 is not a whole image" in refused(faces.load_images, broken, 16)
    path = data.train.source.file.path
    with path.open("r+b") as file:  # of a record that was read before
        file.seek(int(data.train.source.offsets[1]) + 8 + 24 + 8)
        file.write(bytes(200))
    assert f"{path}, image 1 is not a whole image" in refused(data.train.pixels, [1], 16)


def test_scikit_learn_fetches_lfw_to_its_own_place(made, tmp_path, monkeypatch):
    def fetch_lfw_pairs(subset, data_home, resize):
        assert subset == "10_folds"
        shutil.copytree(made / "lfw", Path(data_home) / "lfw_home")

    module = types.ModuleType("sklearn.datasets")
    module.fetch_lfw_pairs = fetch_lfw_pairs
    monkeypatch.setitem(sys.modules, "sklearn.datasets", module)
    assert len(faces.fetch_lfw(tmp_path).tests["lfw"]) == 20

    def offline(**_):
        raise OSError("no network")

    module.fetch_lfw_pairs = offline
    assert "LFW cannot be fetched" in refused(faces.fetch_lfw, tmp_path)
