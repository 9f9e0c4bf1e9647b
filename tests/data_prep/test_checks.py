"""`python -m data_prep check`: everything that is wrong, at once, a line each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from data_prep.__main__ import main
from papers_lib.datasets import coco, faces


@pytest.fixture
def problems(capsys: pytest.CaptureFixture[str]):
    """The problems and the notes of a data set that is not whole."""

    def check(name: str, root: Path) -> tuple[list[str], str]:
        capsys.readouterr()
        assert main(["check", name, str(root)]) == 1
        captured = capsys.readouterr()
        return captured.out.splitlines(), captured.err

    return check


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-60])


# -- cars196 --


def test_a_whole_set_is_one_line_with_its_lone_types_as_notes(drawn, capsys):
    assert main(["check", "cars196", str(drawn)]) == 0
    captured = capsys.readouterr()
    assert "whole" in captured.out and len(captured.out.splitlines()) == 1
    assert "note: type22: one training class alone in its type" in captured.err
    assert main(["check", "cars196_half", str(drawn / "cars196")]) == 0


def test_every_kind_of_broken_image_is_named(copy, problems, capsys):
    root = copy("mit Leerzeichen ü")
    train = root / "cars196" / "stanford_cars" / "cars_train"
    (train / "00001.jpg").unlink()
    (train / "00002.jpg").write_bytes(b"")
    cut(train / "00003.jpg")
    (train / "00004.jpg").write_text("no image")
    Image.new("RGB", (1, 1)).save(train / "00005.jpg")
    Image.new("L", (5, 5)).save(train / "00006.jpg")
    Image.new("CMYK", (5, 5)).save(train / "00007.jpg")
    Image.new("RGB", (5, 5)).save(train / "extra.jpg")
    found, _ = problems("cars196", root)
    expected = {
        "00001.jpg": "is missing, but the labels name it",
        "00002.jpg": "zero bytes",
        "00003.jpg": "truncated",
        "00004.jpg": "not a whole image",
        "00005.jpg": "a single pixel",
        "extra.jpg": "in no label file",
    }
    assert len(found) == len(expected)
    for file, words in expected.items():
        assert [line for line in found if file in line and words in line], (file, found)
    assert main(["check", "cars196", str(root), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["problems"] == found
    assert told["ok"] is False
    assert list(told) == ["name", "root", "ok", "summary", "problems", "notes"]


def test_counts_and_lone_classes(copy, problems):
    root = copy()
    path = root / "cars196" / "STANDIN.json"
    told = json.loads(path.read_text())
    told["counts"]["cars196"][0] += 1
    path.write_text(json.dumps(told))
    found, _ = problems("cars196", root)
    assert any("training classes" in line and "expected" in line for line in found)
    assert any(repr(told["classes"][0]) in line for line in found)


def test_half_a_set(copy, problems):
    root = copy()
    shutil.rmtree(root / "cars196" / "stanford_cars" / "cars_test")
    assert "half a data set: cars_test/ missing" in problems("cars196", root)[0][0]
    assert main(["check", "cars196_half", str(root / "cars196")]) == 0


def test_labels_of_another_numbering(copy, problems):
    root = copy()
    path = root / "cars196" / "stanford_cars" / "devkit" / "cars_meta.mat"
    names = scipy.io.loadmat(path)["class_names"]
    names[0, 0] = "Trabant 601 Sedan 1964"
    scipy.io.savemat(path, {"class_names": names})
    found, _ = problems("cars196", root)
    assert found and all("Trabant" in line for line in found)


# -- the other sets --


def test_a_network_with_names_and_junk(copy, problems, drawn, capsys):
    assert main(["check", "market1501", str(drawn)]) == 0
    assert "2 junk images" in capsys.readouterr().out
    root = copy("data", "market1501") / "market1501"
    junk = next((root / "bounding_box_test").glob("-1_*"))
    junk.write_bytes(b"no image")
    train = sorted((root / "bounding_box_train").iterdir())
    cut(train[0])
    (root / "query" / "0001.jpg").write_bytes(b"")
    (root / "__MACOSX").mkdir()
    found, notes = problems("market1501", root)
    assert len(found) == 4
    assert any("0001.jpg has a name that tells no identity and camera" in line for line in found)
    assert any("0001.jpg has zero bytes" in line for line in found)
    assert any(junk.name in line and "not a whole image" in line for line in found)
    assert any(train[0].name in line and "truncated" in line for line in found)
    assert notes.startswith("note: 1 leftovers of an archive or another program are ignored")


def test_class_folders(copy, problems):
    root = copy("data", "cifar10")
    train = root / "cifar10" / "train" / "disc_with_ears"
    cut(train / "0000.jpg")
    (train / "0001.jpg").write_bytes(b"")
    (train / "0002.jpg").unlink()
    (train / "._0003.jpg").write_bytes(b"mac")
    found, notes = problems("cifar10", root)
    assert len(found) == 3
    assert "29 train images, 30 expected" in found[0]
    assert "0000.jpg is not a whole image" in found[1]
    assert "0001.jpg has zero bytes" in found[2]
    assert "leftovers of an archive or another program" in notes


def test_scenes_of_another_size_and_broken_ones(copy, problems):
    root = copy("data", "coco2017")
    scene = coco.load(root).train[0]
    Image.new("RGB", (5, 5)).save(scene.file)
    assert f"{scene.file} has 5x5 pixels" in problems("coco2017", root)[0][0]
    scene.file.write_bytes(b"")
    coco.load(root).train[1].file.unlink()
    found, _ = problems("coco2017", root)
    assert len(found) == 2
    assert "is missing" in found[0] and "zero bytes" in found[1]


def test_scenes_that_are_not_as_many_as_told(copy, problems):
    root = copy("data", "voc0712")
    path = root / "voc0712" / "STANDIN.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps(told | {"counts": {"train": 6, "test": 4}}))
    assert problems("voc0712", root)[0][0].startswith("voc0712 has 5 train images, 6 expected")


def test_every_image_of_a_record_pack_is_opened(copy, problems):
    root = copy("data", "faces_emore") / "faces_emore"
    data = faces.load(root, "faces_emore")
    for file, image in (("train.rec", data.train.source.image(1)), ("lfw.bin", data.tests["lfw"].images[3])):
        (root / file).write_bytes((root / file).read_bytes().replace(image, bytes(len(image))))
    (root / "train.lst").write_text("1\ta.jpg\t0\n")
    found, _ = problems("faces_emore", root)
    assert len(found) == 3
    assert "lfw.bin, image 3 is not a whole image" in found[0]
    assert "train.rec, image 1 is not a whole image" in found[1]
    assert "train.lst has 1 images, the records 12" in found[2]


def test_every_label_of_a_record_pack_is_read_and_its_list(copy, problems):
    root = copy("data", "faces_emore") / "faces_emore"
    rows = (root / "train.lst").read_text().splitlines()
    rows[2], rows[3] = rows[3], rows[2]
    (root / "train.lst").write_text("\n".join(rows))
    rec = bytearray((root / "train.rec").read_bytes())
    pack = faces.load(root, "faces_emore").train.source
    start = int(pack.offsets[1]) + 8 + 24  # the label of the middle one of three
    rec[start : start + 4] = np.float32(1).tobytes()
    (root / "train.rec").write_bytes(rec)
    found, _ = problems("faces_emore", root)
    assert len(found) == 2
    assert "image 1 has label 1 among those of 0" in found[0]
    assert "train.lst has other identities than the records" in found[1]


def test_broken_files_of_face_folders(copy, problems):
    root = copy("data", "faces_own") / "faces_own"
    files = sorted((root / "train").rglob("*.jpg"))
    files[0].write_bytes(b"")
    cut(files[1])
    (root / "train" / "00000" / "notes.txt").write_text("x")
    found, notes = problems("faces_own", root)
    assert len(found) == 2
    assert "zero bytes" in found[0]
    assert "not a whole image" in found[1]
    assert "1 entries that are no image" in notes
