"""`python -m data_prep check`: everything that is wrong, at once, a line each."""

import json

import numpy as np
import pytest
import scipy.io
from PIL import Image

from data_prep.__main__ import main
from papers_lib.datasets import coco, faces


@pytest.fixture
def problems(capsys):
    """The problems and the notes of a data set that is not whole."""

    def check(name, root):
        capsys.readouterr()
        assert main(["check", name, str(root)]) == 1
        captured = capsys.readouterr()
        return captured.out.splitlines(), captured.err

    return check


def cut(path):
    path.write_bytes(path.read_bytes()[:-60])


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
    assert list(told) == ["name", "root", "ok", "summary", "problems", "notes"]
    assert (told["problems"], told["ok"]) == (found, False)


def test_labels_of_another_numbering(copy, problems):
    root = copy()
    path = root / "cars196" / "stanford_cars" / "devkit" / "cars_meta.mat"
    names = scipy.io.loadmat(path)["class_names"]
    names[0, 0] = "Trabant 601 Sedan 1964"
    scipy.io.savemat(path, {"class_names": names})
    found, _ = problems("cars196", root)
    assert found and all("Trabant" in line for line in found)


@pytest.mark.parametrize(
    ("name", "images"),
    [
        ("market1501", "bounding_box_train/*"),
        ("market1501", "bounding_box_test/-1_*"),  # junk is no part of a side, and opened all the same
        ("cifar10", "train/disc_with_ears/*"),
        ("faces_own", "train/00000/*"),
    ],
)
def test_every_image_of_a_set_is_opened(name, images, copy, problems):
    root = copy("data", name) / name
    first, second = sorted(root.glob(images))[:2]
    cut(first)
    second.write_bytes(b"")
    (root / "__MACOSX").mkdir()
    found, notes = problems(name, root)
    assert [line.partition(";")[0].partition(" (")[0] for line in found] == [
        f"{first} is not a whole image",
        f"{second} has zero bytes",
    ]
    assert "note: 1 leftovers of an archive or another program are ignored" in notes


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
    pack = faces.load(root, "faces_emore").train.source
    with (root / "train.rec").open("r+b") as file:
        file.seek(int(pack.offsets[1]) + 8 + 24)  # the label of the middle one of three
        file.write(np.float32(1).tobytes())
    found, _ = problems("faces_emore", root)
    assert len(found) == 2
    assert "image 1 has label 1 among those of 0" in found[0]
    assert "train.lst has other identities than the records" in found[1]
