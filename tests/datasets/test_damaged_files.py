"""Every parser of files from outside, on damaged ones: a line that says so, or the data set."""

import io
import json
import os
import pickle
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import damaged, fuzz
from PIL import Image
from tiny_sets import LAYOUTS, devkit

from data_prep.__main__ import _datasets
from data_prep.pictures import fault
from papers_lib.datasets import cars196, classification, coco, faces, known, matlab, scenes, voc
from papers_lib.datasets.cifar_files import BATCHES, class_names, read
from papers_lib.datasets.face_records import read_bin, read_list
from papers_lib.datasets.images import FORMATS, decode, open_image
from papers_lib.errors import PapersError

FILES = {
    "cifar10": ("STANDIN.json", "train/*/*", ".decoded/train-*.npy"),
    "imagenet": ("meta/val_labeled.txt",),
    "coco2017": ("STANDIN.json", "annotations/instances_train2017.json"),
    "voc0712": ("STANDIN.json", "VOC2007/**/trainval.txt", "VOC2007/Annotations/*.xml"),
    "sysu30k": ("STANDIN.json", "meta/query.txt"),
    "msmt17_v1": ("list_train.txt",),
    "market1501": ("STANDIN.json",),
    "faces_emore": ("STANDIN.json", "train.rec", "train.idx", "property", "lfw.bin"),
    "lfw": ("pairs.txt",),
}


@pytest.fixture(scope="module")
def spoilt(made, tmp_path_factory):
    """Copies of the hand-made data sets, to be damaged and mended."""
    root = Path(shutil.copytree(made, tmp_path_factory.mktemp("spoilt") / "sets"))
    for name in FILES:
        use(root, name)
    return root


def use(root, name):
    """All that is read of a data set: the check of it, its labels, and what it learns from."""
    report = _datasets()[name].check(root)
    assert not any("\n" in line for line in report.problems)
    data = known.load(root, name)
    if name in (coco.NAME, voc.NAME):
        for scene in data.train:
            scenes.picture(scene)
            if name == coco.NAME:
                scenes.masks(scene)
    elif name in classification.NAMES:
        classification.load_images(data.train, 16)
    elif name in faces.NAMES:
        for pairs in data.tests.values():
            faces.load_images(pairs, 8)
        if data.train is not None:
            data.train.pixels(range(len(data.train)), 8)


def held(call):
    """Run it; what it raises is one line."""
    try:
        call()
    except PapersError as error:
        assert "\n" not in str(error) and str(error)


WRONG = (None, True, -1, 0, 10**30, 1.5, float("inf"), "", "x", "\ud800", "a\nb", [], [1], [[]], {}, {"x": 1})


@st.composite
def bent(draw, content):
    """A copy of JSON with something else in one place."""
    copy = json.loads(json.dumps(content))
    at = copy
    while True:
        key = draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        if not isinstance(at[key], dict | list) or not at[key] or draw(st.integers(0, 3)) == 0:
            at[key] = draw(st.sampled_from(WRONG))
            return copy
        at = at[key]


CONTENTS = {
    "damaged": damaged,
    "of wrong types": lambda whole: bent(json.loads(whole)).map(lambda content: json.dumps(content).encode()),
}
CASES = [("damaged", name, pattern) for name, patterns in FILES.items() for pattern in patterns]
CASES += [("of wrong types", *case) for _, *case in CASES if case[1].endswith(".json")]


@pytest.mark.parametrize(("how", "name", "pattern"), CASES)
def test_damaged_files_are_one_line(how, name, pattern, spoilt):
    path = min((spoilt / name).glob(pattern))
    whole = path.read_bytes()

    @fuzz
    @given(CONTENTS[how](whole))
    def holds(raw):
        path.write_bytes(raw)
        held(lambda: use(spoilt, name))

    try:
        holds()
    finally:
        path.write_bytes(whole)


NAMES = {
    "market1501": ("query", b"0001_c1s1_000451_03.jpg"),
    "sysu30k": ("sysu_test_set_all/query", b"000028311_c2_2.jpg"),
    "cifar10": ("train", b"cat.png"),
    "voc0712": ("VOC2007/JPEGImages", b"000005.jpg"),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("folder", [False, True])
def test_names_of_files_and_folders_are_one_line(folder, name, spoilt):
    inside, usual = NAMES[name]

    @fuzz
    @given(damaged(usual))
    def holds(raw):
        path = spoilt / name / inside / os.fsdecode(raw.replace(b"/", b"").replace(b"\0", b"")[:200] or b"x")
        if path.exists():
            return
        path.mkdir() if folder else path.write_bytes(b"x")
        try:
            held(lambda: use(spoilt, name))
        finally:
            path.rmdir() if folder else path.unlink()

    holds()


# Label files of the cars, whose reader may end its process


def test_damaged_label_files_of_the_cars_are_one_line(tmp_path, monkeypatch):
    """Eight a process, which is what costs; a damaged one does not keep the next from being read."""
    roots = {name: LAYOUTS[name](tmp_path / name) for name in ("A", "B")}
    files = [
        (root, path, path.read_bytes(), matlab.read([*root.rglob("*.mat")]))
        for root in roots.values()
        for path in sorted(root.rglob("*.mat"))
    ]

    @settings(fuzz, max_examples=max(fuzz.max_examples // 8, 1))
    @given(st.data())
    def holds(data):
        root, path, whole, content = data.draw(st.sampled_from(files))
        copies = [tmp_path / f"{i}.mat" for i in range(8)]
        for copy in copies:
            copy.write_bytes(data.draw(damaged(whole)))
        for said in matlab.read(copies).values():
            monkeypatch.setattr(matlab, "read", lambda paths, said=said: content | {path: said})
            held(lambda: cars196.load(root))
            monkeypatch.undo()

    holds()


@pytest.mark.parametrize(
    ("code", "seconds", "says"),
    [("import os; os.abort()", 60, "crashes"), ("import time; time.sleep(90)", 6, "6 seconds")],
)
def test_a_label_reader_that_dies_or_hangs_is_told(code, seconds, says, tmp_path, monkeypatch):
    """The files before it are read all the same, and those behind it."""
    root = devkit(tmp_path)
    program = tmp_path / "reader.py"
    bad, imports = "cars_train_annos.mat", "    import scipy.io\n"
    text = Path(matlab.__file__).read_text()
    program.write_text(text.replace(imports, f"    if path.name == {bad!r}: {code}\n{imports}"))
    monkeypatch.setattr(matlab, "__file__", str(program))
    monkeypatch.setattr(matlab, "SECONDS", seconds)
    with pytest.raises(PapersError, match=rf"{bad} cannot be read \(it .*{says}"):
        cars196.load(root)


# CIFAR's own files, lists, and pickles that ask for much


ROWS = np.arange(2 * 3072, dtype=np.uint8).reshape(2, 3072)
BATCH = pickle.dumps({"data": ROWS, "labels": [0, 1], "label_names": ["a", "b"]}, protocol=2)
LIST = b"1\tada/0.jpg\t0\n2\tbob/0.jpg\t1\n"


@fuzz
@given(python=damaged(BATCH), binary=damaged(bytes(2 * 3073)), listed=damaged(LIST))
def test_damaged_batches_and_lists_are_one_line(tmp_path, python, binary, listed):
    a, b, c = tmp_path / "batch", tmp_path / "bin", tmp_path / "list"
    for path, raw in ((a, python), (b, binary), (c, listed)):
        path.write_bytes(raw)
    held(lambda: read(a, BATCHES["cifar10", "python"]))
    held(lambda: class_names(a, BATCHES["cifar10", "python"]))
    held(lambda: read(b, BATCHES["cifar10", "binary"]))
    held(lambda: class_names(c, BATCHES["cifar10", "binary"]))
    held(lambda: read_list(c))


def doubled(times):
    """A list of two lists of two lists …, which is small in a pickle and large when it is spelt out."""
    found = [1]
    for _ in range(times):
        found = [found, found]
    return found


ENCODED = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"
HUNGRY = {
    "a high place in the memo": b"\x80\x02Nr\xff\xff\xff\x0f.",
    "bytes that are not there": b"\x80\x04B\xff\xff\xff\x7f.",
    "an array of bytes that are not there": b"\x80\x05\x96\0\0\0\0\x01\0\0\0.",
    "lists of lists as answers": pickle.dumps(([b"a", b"b"], doubled(40))),
    "lists of lists as a batch": pickle.dumps({"data": doubled(40), "labels": doubled(40)}),
    "one text, encoded often": b"\x80\x02X\x00\x00\x10\x00" + b"x" * 2**20 + b"q\0(" + 500 * ENCODED + b"t.",
}


@pytest.mark.parametrize("what", HUNGRY)
def test_a_small_pickle_takes_little_memory(what, tmp_path):
    path = tmp_path / "lfw.bin"
    path.write_bytes(HUNGRY[what])
    tracemalloc.start()
    try:
        for reader in (read_bin, lambda p: read(p, BATCHES["cifar10", "python"])):
            with pytest.raises(PapersError, match=r"lfw\.bin"):
                reader(path)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


# Images


def image(kind, mode="RGB"):
    out = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (12, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(out, kind)
    return out.getvalue()


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_damaged_and_truncated_images_are_one_line(mode, kind, tmp_path):
    path, whole = tmp_path / "0001.jpg", image(kind, mode)
    path.write_bytes(whole)
    assert fault(path) == "" == fault(whole, "it")

    @fuzz
    @given(damaged(whole))
    def holds(raw):
        path.write_bytes(raw)
        said = fault(path)
        assert "\n" not in said and (not said or str(path) in said)
        for reads in (lambda: decode(path, (4, 4)), lambda: decode(path, None)):
            if said and raw:
                with pytest.raises(PapersError):
                    reads()
            else:
                held(reads)

    holds()
    for left in (0, 1, 20, len(whole) // 2, len(whole) - 13):
        path.write_bytes(whole[:left])
        assert fault(path)


def test_a_flipped_bit_of_a_png_is_seen(tmp_path):
    """Its checksums are read; Pillow alone takes it for another picture or for the same."""
    whole = bytearray(image("PNG"))
    for at in range(len(whole) - 12):  # behind that there is only the word that ends the file
        whole[at] ^= 4
        with pytest.raises(PapersError, match="it is not a whole image"), open_image(bytes(whole), "it"):
            pass
        whole[at] ^= 4
