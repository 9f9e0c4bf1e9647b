"""Classification sets: layouts, labels, pixels, the decoded copy, and what is refused."""

from __future__ import annotations

import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_sets import ANIMALS, flat, folders, published, ramp, refused, shade

from papers_lib.datasets import cifar_files, classification, classification_layouts
from papers_lib.datasets.cifar_files import BATCHES
from papers_lib.errors import PapersError

BUILDS: dict[str, Callable[[Path], Path]] = {"test": folders, "val": lambda r: folders(r, "val")}


@pytest.mark.parametrize("kind", BUILDS)
def test_class_folders_are_the_labels(kind, tmp_path):
    data = classification.load(BUILDS[kind](tmp_path / "ein Ordner" / "cifar10").parent, "cifar10")
    assert (data.classes, data.stand_in, data.title) == (ANIMALS, True, "CIFAR-10")
    for side, split in (("train", data.train), ("test", data.test)):
        pixels = classification.load_images(split)
        assert (pixels.shape[1:], pixels.dtype) == ((8, 8, 3), np.uint8)
        for file, label, image in zip(split.images, split.labels, pixels, strict=True):
            assert file.parent.name == ANIMALS[label]
            assert (image == shade(side, label, int(file.stem))).all()


def test_a_flat_folder_with_a_list(tmp_path):
    data = classification.load(flat(tmp_path), "imagenet")
    pixels = classification.load_images(data.test)
    expected = [
        shade("test", label, int(f.stem[:4]))
        for f, label in zip(data.test.images, data.test.labels, strict=True)
    ]
    assert pixels[:, 0, 0, 0].tolist() == expected
    assert sorted(data.test.labels.tolist()) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
@pytest.mark.parametrize("kind", ["python", "binary"])
def test_published_files(name, kind, tmp_path):
    inner = {"cifar10": {"python": "cifar-10-batches-py", "binary": "cifar-10-batches-bin"}}
    root = tmp_path / inner.get(name, {}).get(kind, f"cifar-100-{kind}")
    data = classification.load(published(root, name, kind).parent, name)
    pixels = classification.load_images(data.train)
    assert data.classes == ANIMALS
    assert len(pixels) == 4 * len(BATCHES[name, kind].train)
    for image, label in zip(pixels, data.train.labels, strict=True):
        assert (image == ramp(label)).all()
    assert not (root / classification.CACHE).exists()


@pytest.mark.parametrize("protocol", range(6))
def test_batches_of_any_pickle_protocol_hold_the_same(protocol, tmp_path):
    rows = np.stack([ramp(label) for label in (2, 0)]).transpose(0, 3, 1, 2).reshape(2, -1)
    for data in (rows, np.asfortranarray(rows)):
        for labels in ([2, 0], np.array([2, 0]), np.array([2, 0], ">i4"), list(np.array([2, 0]))):
            (tmp_path / "a").write_bytes(pickle.dumps({"data": data, "labels": labels}, protocol))
            pixels, found = cifar_files.read(tmp_path / "a", BATCHES["cifar10", "python"])
            assert found.tolist() == [2, 0]
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
    pixels, labels = cifar_files.read(tmp_path / "a", BATCHES["cifar10", "python"])
    assert labels.tolist() == [6, 9]
    assert (pixels.transpose(0, 3, 1, 2).ravel() == rows).all()


def test_torchvision_reads_the_same(tmp_path, monkeypatch):
    datasets = pytest.importorskip("torchvision.datasets")
    data = classification.load(
        published(tmp_path / "cifar-10-batches-py", "cifar10", "python").parent, "cifar10"
    )
    monkeypatch.setattr(datasets.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr(datasets.CIFAR10, "_load_meta", lambda self: None)
    theirs = datasets.CIFAR10(tmp_path, train=True)
    assert (theirs.data == data.train.images).all()
    assert theirs.targets == data.train.labels.tolist()


def test_jpegs_of_cifar_are_a_copy_by_name(tmp_path, monkeypatch):
    known = classification_layouts.SETS["cifar10"]
    monkeypatch.setitem(
        classification_layouts.SETS,
        "cifar10",
        classification_layouts.Known(known.title, (15, 6), 3, (), even=True),
    )
    for suffix, title in (("jpg", "CIFAR-10 (JPEG copy)"), ("png", "CIFAR-10")):
        root = folders(tmp_path / suffix, suffix=suffix)
        (root / "STANDIN.json").unlink()
        data = classification.load(root, "cifar10")
        assert (data.title, data.stand_in) == (title, False)


def test_decoded_once(tmp_path, monkeypatch):
    root = folders(tmp_path)
    first = classification.load_images(classification.load(root, "cifar10").train)
    assert len(list((root / classification.CACHE).iterdir())) == 1
    asked: list[Path] = []
    decode = classification.decode
    monkeypatch.setattr(classification, "decode", lambda f, s=None: asked.append(f) or decode(f, s))
    data = classification.load(root, "cifar10")
    assert (classification.load_images(data.train) == first).all()
    assert not asked
    assert classification.load_images(data.train, 4).shape == (15, 4, 4, 3)  # another size, another file
    assert len(set(asked)) == 15


def repaint(file: Path, value: int) -> None:
    """Another image of the same size in bytes."""
    Image.new("RGB", (8, 8), (value,) * 3).save(file)
    file.write_bytes(file.read_bytes().ljust(200, b"\0"))


@pytest.mark.parametrize(
    "fault", ["changed", "half", "other", "a flipped bit of a pixel", "of the shape", "a zip"]
)
def test_a_copy_that_is_stale_or_broken_is_made_anew(fault, tmp_path):
    root = folders(tmp_path)
    repaint(root / "train" / "ant" / "0000.png", 0)
    before = classification.load(root, "cifar10")
    classification.load_images(before.train)
    kept = next((root / classification.CACHE).iterdir())
    if fault == "changed":
        repaint(before.train.images[0], 200)
        os.utime(before.train.images[0], ns=(1, 2**62))
    elif fault == "half":
        kept.write_bytes(kept.read_bytes()[:200])
    elif fault == "other":
        np.save(kept, np.zeros((3, 8, 8, 3), dtype=np.uint8))
    elif fault == "a zip":
        kept.write_bytes(b"PK\3\4 and more")
    else:
        raw = bytearray(kept.read_bytes())
        raw[raw.index(b"(15, 8") + 6 if fault == "of the shape" else 128 + 5] ^= 1
        kept.write_bytes(raw)
    data = classification.load(root, "cifar10")
    pixels = classification.load_images(data.train)
    assert data.fingerprint == before.fingerprint
    assert pixels[0, 0, 0, 0] == (200 if fault == "changed" else 0)
    assert pixels[1:, 0, 0, 0].tolist() == [shade("train", n // 5, n % 5) for n in range(1, 15)]
    assert len(list((root / classification.CACHE).iterdir())) == 1  # nothing is left of the old one


def test_a_place_that_cannot_be_written_is_decoded_in_memory(tmp_path, monkeypatch):
    root = folders(tmp_path)
    (root / classification.CACHE).write_text("in the way")
    data = classification.load(root, "cifar10")
    assert classification.load_images(data.train).shape == (15, 8, 8, 3)
    assert (root / classification.CACHE).read_text() == "in the way"


def test_scaled_to_the_middle_square(tmp_path):
    root = folders(tmp_path)
    image = np.zeros((40, 80, 3), dtype=np.uint8)
    image[:, 20:60] = 250  # the middle square
    file = root / "train" / "ant" / "0000.png"
    Image.fromarray(image).save(file)
    split = classification.load(root, "cifar10").train
    scaled = classification.load_images(split, 10)
    assert scaled.shape == (15, 10, 10, 3)
    assert (scaled[0, :, 1:-1] == 250).all()
    with pytest.raises(PapersError, match="give a size"):
        classification.load_images(split)
    with pytest.raises(PapersError, match="size 0"):
        classification.load_images(split, 0)
    arrays = classification.Split(np.full((3, 40, 80, 3), 9, dtype=np.uint8), np.zeros(3, dtype=np.int64))
    assert (classification.load_images(arrays, 10) == 9).all()


@pytest.mark.parametrize("fault", ["truncated", "empty", "text", "missing"])
def test_a_broken_image_is_named_in_one_line(fault, tmp_path):
    root = folders(tmp_path)
    split = classification.load(root, "cifar10").train
    bad = split.images[7]
    whole = bad.read_bytes()
    bad.unlink()
    if fault != "missing":
        bad.write_bytes({"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"hello"}[fault])
    with pytest.raises(PapersError) as caught:
        classification.load_images(split)
    assert str(bad) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (root / classification.CACHE).exists()


def test_the_content_sees_labels_and_pixels(tmp_path):
    one = folders(tmp_path / "one")
    print_of = classification.load(one, "cifar10").pixels
    (one / "train" / "ant" / "0000.png").rename(one / "train" / "bee" / "9999.png")
    assert classification.load(one, "cifar10").pixels != print_of
    pickles = published(tmp_path / "p", "cifar10", "python")
    before = classification.load(pickles, "cifar10").pixels
    content = (pickles / "data_batch_2").read_bytes()
    (pickles / "data_batch_2").write_bytes(content.replace(bytes(range(9, 32)), bytes(range(8, 31))))
    assert classification.load(pickles, "cifar10").pixels != before


# What is refused


def test_half_a_set(tmp_path):
    root = folders(tmp_path / "a")
    shutil.rmtree(root / "test")
    assert "half a data set: test/ or val/ missing" in refused(classification.load, root, "cifar10")
    root = published(tmp_path / "b", "cifar10", "python")
    (root / "data_batch_3").unlink()
    assert "half a data set: data_batch_3 missing" in refused(classification.load, root, "cifar10")


def test_classes_that_differ_or_are_empty(tmp_path):
    root = folders(tmp_path)
    (root / "test" / "cat").rename(root / "test" / "cow")
    found = classification_layouts.survey(root, "cifar10").problems
    assert ["'cat'" in line or "'cow'" in line for line in found] == [True, True]
    (root / "train" / "emu").mkdir()
    assert "emu holds no image" in refused(classification.load, root, "cifar10")


def test_wrong_counts(tmp_path):
    root = folders(tmp_path)
    (root / "train" / "bee" / "0002.png").unlink()
    assert "cifar10 has 14 train images, 15 expected" in refused(classification.load, root, "cifar10")
    (root / "STANDIN.json").unlink()
    problems = classification_layouts.survey(root, "cifar10").problems
    assert [line.partition(";")[0] for line in problems] == [
        "cifar10 has 14 train images, 50000 expected",
        "cifar10 has 6 test images, 10000 expected",
        "cifar10 has 3 classes, 10 expected",
    ]


def test_classes_of_uneven_size(tmp_path, monkeypatch):
    known = classification_layouts.Known("CIFAR-10", (15, 6), 3, (), even=True)
    monkeypatch.setitem(classification_layouts.SETS, "cifar10", known)
    root = folders(tmp_path)
    (root / "STANDIN.json").unlink()
    (root / "train" / "ant" / "0000.png").rename(root / "train" / "bee" / "0009.png")
    assert "class 'ant' has 4 train images, 5 expected" in refused(classification.load, root, "cifar10")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0000_0.png 3", "'3' is no label of 3 classes"),
        ("0000_0.png cat", "'cat' is no label"),
        ("nobody.png 1", "val/nobody.png is missing"),
        ("0000_2.png 0", "val/0000_2.png is listed again"),
    ],
)
def test_a_list_out_of_step(line, message, tmp_path):
    root = flat(tmp_path)
    path = root / "meta" / "val_labeled.txt"
    path.write_text(path.read_text() + line + "\n")
    assert f"{path}, line 7: {message}" in refused(classification.load, root, "imagenet")


def test_an_image_that_the_list_leaves_out(tmp_path):
    root = flat(tmp_path)
    path = root / "meta" / "val_labeled.txt"
    path.write_text("\n".join(path.read_text().splitlines()[1:]))
    assert "0000_2.png and 0 more images are not in meta/val_labeled.txt" in refused(
        classification.load, root, "imagenet"
    )


class Evil:
    def __reduce__(self):
        return (os.system, ("touch pwned",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(Evil(), protocol=2), "asks for posix.system"),
        (b"", "not a whole pickle"),
        (pickle.dumps([1]), "a pickle of something else"),
        (pickle.dumps({"data": [[1, 2]], "labels": [0]}), "no batch of images"),
        (pickle.dumps({"labels": [0]}), "no batch of images (KeyError: 'data')"),
        (pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [10**30]}), "no batch of images"),
        (pickle.dumps({"data": [[300] * 3072], "labels": [0]}), "no batch of images"),
        (pickle.dumps({"data": np.full((1, 3072), 300.7), "labels": [0]}), "values of float64 for 1 labels"),
        (pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [9]}, 2), "1 train labels are none"),
    ],
)
def test_pickles_that_are_no_batches(content, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = published(tmp_path / "c", "cifar10", "python")
    (root / "data_batch_4").write_bytes(content)
    assert message in refused(classification.load, root, "cifar10")
    assert not (tmp_path / "pwned").exists()


def test_binary_files_of_a_wrong_length(tmp_path):
    root = published(tmp_path / "c", "cifar10", "binary")
    (root / "test_batch.bin").write_bytes(b"x" * 3072)
    assert "test_batch.bin has 3072 bytes, not a multiple of 3073" in refused(
        classification.load, root, "cifar10"
    )


def test_real_images_where_they_are():
    root = os.environ.get("PAPERS_DATA", "")
    if not root or not (Path(root) / "cifar10").is_dir():
        pytest.skip("no cifar10 in $PAPERS_DATA")
    data = classification.load(Path(root), "cifar10")
    if not data.stand_in:
        assert (len(data.train), len(data.test), len(data.classes)) == (50_000, 10_000, 10)
