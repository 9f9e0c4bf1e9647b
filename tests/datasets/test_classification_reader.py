"""Classification sets: layouts, labels, pixels, the decoded copy, and what is refused."""

import os
import pickle
import struct
from functools import partial

import numpy as np
import pytest
from PIL import Image
from tiny_sets import (
    ANIMALS,
    edited,
    empty,
    flat,
    folders,
    gone,
    listed,
    moved,
    published,
    put,
    ramp,
    refused,
    shade,
)

from papers_lib.datasets import cifar_files, classification, classification_layouts
from papers_lib.datasets.cifar_files import BATCHES
from papers_lib.datasets.folders import DECODED

PYTHON = BATCHES["cifar10", "python"]


cifar = partial(published, name="cifar10", kind="python")
binary = partial(published, name="cifar10", kind="binary")


@pytest.mark.parametrize("test", ["test", "val"])
def test_class_folders_are_the_labels(test, tmp_path):
    data = classification.load(folders(tmp_path, test), "cifar10")
    assert (data.classes, data.stand_in, data.title) == (ANIMALS, True, "CIFAR-10")
    for side, split in (("train", data.train), ("test", data.test)):
        pixels = classification.load_images(split)
        assert (pixels.shape[1:], pixels.dtype) == ((8, 8, 3), np.uint8)
        for file, label, image in zip(split.images, split.labels, pixels, strict=True):
            assert file.parent.name == ANIMALS[label]
            assert (image == shade(side, label, int(file.stem))).all()


def test_a_flat_folder_with_a_list(tmp_path):
    side = classification.load(flat(tmp_path), "imagenet").test
    assert sorted(side.labels.tolist()) == [0, 0, 1, 1, 2, 2]
    greys = [shade("test", label, int(f.stem[:4])) for f, label in zip(side.images, side.labels, strict=True)]
    assert classification.load_images(side)[:, 0, 0, 0].tolist() == greys


@pytest.mark.parametrize(("name", "kind"), BATCHES)
def test_published_files(name, kind, tmp_path):
    word = "batches-py" if kind == "python" else "batches-bin"
    root = tmp_path / (f"cifar-10-{word}" if name == "cifar10" else f"cifar-100-{kind}")
    data = classification.load(published(root, name, kind).parent, name)
    pixels = classification.load_images(data.train)
    assert data.classes == ANIMALS
    assert len(pixels) == 4 * len(BATCHES[name, kind].train)
    assert all((image == ramp(label)).all() for image, label in zip(pixels, data.train.labels, strict=True))
    assert not (root / DECODED).exists()


@pytest.mark.parametrize("protocol", range(6))
def test_batches_of_any_pickle_protocol_hold_the_same(protocol, tmp_path):
    rows = np.stack([ramp(label) for label in (2, 0)]).transpose(0, 3, 1, 2).reshape(2, -1)
    for data in (rows, np.asfortranarray(rows)):
        for labels in ([2, 0], np.array([2, 0]), np.array([2, 0], ">i4"), list(np.array([2, 0]))):
            (tmp_path / "a").write_bytes(pickle.dumps({"data": data, "labels": labels}, protocol))
            pixels, read = cifar_files.read(tmp_path / "a", PYTHON)
            assert read.tolist() == [2, 0]
            assert (pixels == np.stack([ramp(2), ramp(0)])).all()


def test_a_batch_as_python_2_wrote_it(tmp_path):
    """Text for bytes, and the names of the numpy of its day: the one in which CIFAR is handed out."""
    rows = np.arange(2 * 3072).astype(np.uint8)
    (tmp_path / "a").write_bytes(
        b"\x80\x02}q\x01(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff"
        b"\xff\xff\xffK\x00tb\x89T" + struct.pack("<i", rows.size) + rows.tobytes() + b"tb"
        b"U\x06labels](K\x06K\x09eu."
    )
    pixels, labels = cifar_files.read(tmp_path / "a", PYTHON)
    assert labels.tolist() == [6, 9]
    assert (pixels.transpose(0, 3, 1, 2).ravel() == rows).all()


def test_torchvision_reads_the_same(tmp_path, monkeypatch):
    datasets = pytest.importorskip("torchvision.datasets")
    data = classification.load(cifar(tmp_path / "cifar-10-batches-py").parent, "cifar10")
    monkeypatch.setattr(datasets.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(datasets.CIFAR10, "_load_meta", lambda self: None)
    theirs = datasets.CIFAR10(tmp_path, train=True)
    assert (theirs.data == data.train.images).all()
    assert theirs.targets == data.train.labels.tolist()


@pytest.mark.parametrize(("suffix", "title"), [("jpg", "CIFAR-10 (JPEG copy)"), ("png", "CIFAR-10")])
def test_jpegs_of_cifar_are_a_copy_by_name(suffix, title, tmp_path, monkeypatch):
    tiny = classification_layouts.Known("CIFAR-10", (15, 6), 3, (), even=True)
    monkeypatch.setitem(classification_layouts.SETS, "cifar10", tiny)
    root = folders(tmp_path, suffix=suffix)
    (root / "STANDIN.json").unlink()
    data = classification.load(root, "cifar10")
    assert (data.title, data.stand_in) == (title, False)
    (root / "train" / "ant" / f"0000.{suffix}").rename(root / "train" / "bee" / f"0009.{suffix}")
    assert "class 'ant' has 4 train images, 5 expected" in refused(classification.load, root, "cifar10")


# The decoded copy


def maps(root):
    return list((root / DECODED).glob("*.npy"))


def test_decoded_once(tmp_path, monkeypatch):
    root = folders(tmp_path)
    first = classification.load_images(classification.load(root, "cifar10").train)
    assert len(maps(root)) == 1
    decoded, decode = [], classification.decode
    monkeypatch.setattr(classification, "decode", lambda f, *rest: decoded.append(f) or decode(f, *rest))
    data = classification.load(root, "cifar10")
    assert (classification.load_images(data.train) == first).all()
    assert not decoded
    assert classification.load_images(data.train, 4).shape == (15, 4, 4, 3)  # another size, another file
    assert len(set(decoded)) == 15


def repaint(file, value):
    """Another image of the same size in bytes."""
    Image.new("RGB", (8, 8), (value,) * 3).save(file)
    file.write_bytes(file.read_bytes().ljust(200, b"\0"))


def flipped(kept, at):
    raw = bytearray(kept.read_bytes())
    raw[at(raw)] ^= 1
    kept.write_bytes(raw)


STALE = {
    "changed": lambda kept: repaint(kept.parents[1] / "train" / "ant" / "0000.png", 200),
    "half": lambda kept: kept.write_bytes(kept.read_bytes()[:200]),
    "other": lambda kept: np.save(kept, np.zeros((3, 8, 8, 3), dtype=np.uint8)),
    "a zip": lambda kept: kept.write_bytes(b"PK\3\4 and more"),
    "a flipped bit of a pixel": lambda kept: flipped(kept, lambda raw: 128 + 5),
    "a flipped bit of the shape": lambda kept: flipped(kept, lambda raw: raw.index(b"(15, 8") + 6),
}


@pytest.mark.parametrize("fault", STALE)
def test_a_copy_that_is_stale_or_broken_is_made_anew(fault, tmp_path):
    root = folders(tmp_path)
    image = root / "train" / "ant" / "0000.png"
    repaint(image, 0)
    before = classification.load(root, "cifar10")
    classification.load_images(before.train)
    STALE[fault](maps(root)[0])
    if fault == "changed":
        os.utime(image, ns=(1, 2**62))
    data = classification.load(root, "cifar10")
    pixels = classification.load_images(data.train)
    assert data.fingerprint == before.fingerprint
    assert pixels[0, 0, 0, 0] == (200 if fault == "changed" else 0)
    assert pixels[1:, 0, 0, 0].tolist() == [shade("train", n // 5, n % 5) for n in range(1, 15)]
    assert len(maps(root)) == 1  # nothing is left of the old one


def test_a_place_that_cannot_be_written_is_decoded_in_memory(tmp_path):
    root = folders(tmp_path)
    (root / DECODED).write_text("in the way")
    data = classification.load(root, "cifar10")
    assert classification.load_images(data.train).shape == (15, 8, 8, 3)
    assert (root / DECODED).read_text() == "in the way"


def test_scaled_to_the_middle_square(tmp_path):
    root = folders(tmp_path)
    image = np.zeros((40, 80, 3), dtype=np.uint8)
    image[:, 20:60] = 250  # the middle square
    Image.fromarray(image).save(root / "train" / "ant" / "0000.png")
    split = classification.load(root, "cifar10").train
    scaled = classification.load_images(split, 10)
    assert scaled.shape == (15, 10, 10, 3)
    assert (scaled[0, :, 1:-1] == 250).all()
    assert "give a size" in refused(classification.load_images, split)
    assert "size 0" in refused(classification.load_images, split, 0)
    arrays = classification.Split(np.full((3, 40, 80, 3), 9, dtype=np.uint8), np.zeros(3, dtype=np.int64))
    assert (classification.load_images(arrays, 10) == 9).all()


def test_the_content_sees_labels_and_pixels(tmp_path):
    one = folders(tmp_path / "one")
    before = classification.load(one, "cifar10").pixels
    (one / "train" / "ant" / "0000.png").rename(one / "train" / "bee" / "9999.png")
    assert classification.load(one, "cifar10").pixels != before
    pickles = cifar(tmp_path / "p")
    before = classification.load(pickles, "cifar10").pixels
    content = (pickles / "data_batch_2").read_bytes()
    (pickles / "data_batch_2").write_bytes(content.replace(bytes(range(9, 32)), bytes(range(8, 31))))
    assert classification.load(pickles, "cifar10").pixels != before


# What is refused


LIST = "meta/val_labeled.txt"
ROW = np.zeros((1, 3072), np.uint8)
BATCHES_REFUSED = [
    (b"cposix\nsystem\n(S'touch pwned'\ntR.", "asks for posix.system"),
    (b"", "not a whole pickle"),
    (pickle.dumps([1]), "a pickle of something else"),
    (pickle.dumps({"data": [[1, 2]], "labels": [0]}), "no batch of images"),
    (pickle.dumps({"labels": [0]}), "no batch of images (KeyError: 'data')"),
    (pickle.dumps({"data": ROW, "labels": [10**30]}), "no batch of images"),
    (pickle.dumps({"data": [[300] * 3072], "labels": [0]}), "no batch of images"),
    (pickle.dumps({"data": ROW + 300.7, "labels": [0]}), "values of float64 for 1 labels"),
    (pickle.dumps({"data": ROW, "labels": [9]}, 2), "1 train labels are none"),
]
REFUSED = [
    (folders, gone("test"), "half a data set: test/ or val/ missing"),
    (folders, moved("test/cat", "test/cow"), "as 'cat'; train and test", "as 'cow'; train and test"),
    (folders, empty("train/emu"), "emu holds no image", "as 'emu'"),
    (folders, gone("train/bee/0002.png"), "cifar10 has 14 train images, 15 expected"),
    (folders, gone("STANDIN.json"), "15 train images, 50000", "6 test images, 10000", "3 classes, 10"),
    (flat, listed(LIST, "0000_0.png 3"), f"{LIST}, line 7: '3' is no label of 3 classes"),
    (flat, listed(LIST, "0000_0.png cat"), f"{LIST}, line 7: 'cat' is no label"),
    (flat, listed(LIST, "nobody.png 1"), f"{LIST}, line 7: val/nobody.png is missing"),
    (flat, listed(LIST, "0000_2.png 0"), f"{LIST}, line 7: val/0000_2.png is listed again"),
    (flat, edited(LIST, lambda text: text[text.index(b"\n") :]), f"0 more images are not in {LIST}"),
    (cifar, gone("data_batch_3"), "half a data set: data_batch_3 missing"),
    *((cifar, put("data_batch_4", content), words) for content, words in BATCHES_REFUSED),
    (binary, put("test_batch.bin", b"x" * 3072), "test_batch.bin has 3072 bytes, not a multiple of 3073"),
]


@pytest.mark.parametrize("row", REFUSED)
def test_what_is_wrong_is_a_line(row, tmp_path, monkeypatch):
    build, damage, *words = row
    monkeypatch.chdir(tmp_path)
    root, name = build(tmp_path / "c"), "imagenet" if build is flat else "cifar10"
    damage(root)
    assert words[0] in refused(classification.load, root, name)
    problems = classification_layouts.survey(root, name).problems
    assert len(problems) == len(words)
    assert all(word in problem for word, problem in zip(words, problems, strict=True))
    assert not (tmp_path / "pwned").exists()
