"""`python -m data_prep` with the classification sets and SYSU-30k."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from standins import RECIPE

from data_prep.__main__ import main
from papers_lib.datasets import classification, classification_layouts, sysu30k
from papers_lib.datasets.crops import load_images as load_crops

TINY = {
    "cifar10": ["classes 3", "train 4", "test 2", "pixels 16"],
    "cifar100": ["classes 3", "train 4", "test 2", "pixels 16"],
    "imagenette": ["classes 3", "train 4", "test 2", "pixels 16"],
    "imagenet": ["classes 3", "train 4", "test 2", "pixels 16"],
    "sysu30k": ["bags 3", "people 2", "shots 2", "queries 3", "distractors 4", "pixels 16"],
}


def settings(name: str) -> list[str]:
    return [word for pair in TINY[name] for word in ("-p", *pair.split())]


def make(name: str, root: Path, *more: str) -> Path:
    assert main(["make", name, str(root), *settings(name), *more]) == 0
    return root / name


def jpeg(value: int = 90) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (value,) * 3).save(stream, "JPEG")
    return stream.getvalue()


def zips(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The two archives of a JPEG copy, of two classes, among other files."""
    known = classification_layouts.Known("CIFAR-10", (6, 2), 2, (), even=True)
    monkeypatch.setitem(classification_layouts.SETS, "cifar10", known)
    folder.mkdir()
    (folder / "README.md").write_text("not to be copied")
    for side, count in (("train", 3), ("test", 1)):
        with zipfile.ZipFile(folder / f"cifar10_jpeg_{side}.zip", "w") as archive:
            for name in ("cat", "dog"):
                for i in range(count):
                    archive.writestr(f"{side}/{name}/{i:04d}.jpg", jpeg())
                    archive.writestr(f"__MACOSX/{side}/{name}/._{i:04d}.jpg", b"mac")
    return folder


@pytest.mark.parametrize("name", TINY)
def test_make_check_load_and_make_again(name, tmp_path, capsys):
    root = make(name, tmp_path)
    assert main(["check", name, str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert "stand-in" in captured.out
    assert captured.err == ""
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    make(name, tmp_path)
    assert main(["make", name, str(tmp_path), *settings(name), "--seed", "7"]) == 2
    assert "holds something else" in capsys.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == before


@pytest.mark.parametrize("name", [n for n in TINY if n != "sysu30k"])
def test_a_rendered_set_is_read_with_its_labels(name, tmp_path):
    root = make(name, tmp_path)
    data = classification.load(root, name)
    assert data.stand_in
    assert data.classes == ("box_with_ears", "disc_with_ears", "wedge_with_ears")
    assert [f.parent.name for f in data.train.images] == [data.classes[i] for i in data.train.labels]
    assert np.bincount(data.test.labels).tolist() == [2, 2, 2]
    assert classification.load_images(data.test).shape == (6, 16, 16, 3)


def test_labels_of_the_list_are_those_of_the_folders(tmp_path):
    """ImageNet's test images lie without class folders: as many pixels differ as with other seeds."""
    flat = classification.load(make("imagenet", tmp_path), "imagenet")
    assert {f.parent.name for f in flat.test.images} == {"val"}
    rows = (flat.root / "meta" / "val_labeled.txt").read_text().splitlines()
    assert [f"{f.name} {label}" for f, label in zip(flat.test.images, flat.test.labels, strict=True)] == rows
    # the first picture is the first class drawn, a disc, which is second among the sorted names
    assert rows[0] == "val_00000001.jpg 1"


def test_the_same_recipe_gives_the_same_bytes(tmp_path):
    prints = {}
    for place, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        roots = [make(name, tmp_path / place, "--seed", seed) for name in ("cifar10", "sysu30k")]
        prints[place] = [p.read_bytes() for root in roots for p in sorted(root.rglob("*.jpg"))]
    assert prints["a"] == prints["b"] != prints["c"]
    assert len(set(prints["a"])) == len(prints["a"])


def test_a_query_is_like_its_match(tmp_path):
    options = ["-p", "queries", "8", "-p", "distractors", "8", "-p", "gap", "0", "-p", "pixels", "32"]
    assert main(["make", "sysu30k", str(tmp_path), *options]) == 0
    data = sysu30k.load(tmp_path)
    assert len(data.train.files) == 144
    query, gallery = (
        load_crops(s.files, 32, 16).float().flatten(1).numpy() for s in (data.query, data.gallery)
    )
    order = ((query[:, None] - gallery[None]) ** 2).sum(2).argsort(1)
    ranks = [
        int(np.flatnonzero(data.gallery.ids[o] == i)[0]) for o, i in zip(order, data.query.ids, strict=True)
    ]
    assert np.mean(ranks) < 5  # 7.5 by chance


def test_import_of_a_folder_with_the_two_archives(tmp_path, monkeypatch, capsys):
    source = zips(tmp_path / "my archives", monkeypatch)
    assert main(["import", "cifar10", str(source), str(tmp_path / "data")]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("CIFAR-10 (JPEG copy), class folders: 6 + 2 images, 2 classes: whole")
    assert captured.err == ""
    assert sorted(p.name for p in (tmp_path / "data" / "cifar10").iterdir()) == ["test", "train"]
    assert main(["check", "cifar10", str(tmp_path / "data")]) == 0
    assert main(["import", "cifar10", str(source), str(tmp_path / "data")]) == 0
    assert "there already, nothing imported" in capsys.readouterr().out


def test_import_of_half_of_the_archives(tmp_path, monkeypatch, capsys):
    source = zips(tmp_path / "source", monkeypatch)
    (source / "cifar10_jpeg_test.zip").unlink()
    assert main(["import", "cifar10", str(source), str(tmp_path / "data")]) == 2
    assert "cifar10_jpeg_test.zip missing" in capsys.readouterr().err
    assert main(["import", "cifar10", str(source / "cifar10_jpeg_train.zip"), str(tmp_path / "data")]) == 1
    assert "half a data set: test/ or val/ missing" in capsys.readouterr().out
    assert not (tmp_path / "data" / "cifar10").exists()


def test_an_archive_that_reaches_outside_is_refused(tmp_path, monkeypatch, capsys):
    source = zips(tmp_path / "source", monkeypatch)
    with zipfile.ZipFile(source / "cifar10_jpeg_test.zip", "a") as archive:
        archive.writestr("../outside.jpg", jpeg())
    assert main(["import", "cifar10", str(source), str(tmp_path / "data")]) == 2
    assert "reaches outside of its folder" in capsys.readouterr().err
    assert not list((tmp_path / "data").iterdir())


def test_a_killed_import_leaves_nothing_and_is_repeated(tmp_path, monkeypatch, capsys):
    source = zips(tmp_path / "source", monkeypatch)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "extract", killed)
        assert main(["import", "cifar10", str(source), str(tmp_path / "data")]) == 130
    assert not list((tmp_path / "data").iterdir())
    assert main(["import", "cifar10", str(source), str(tmp_path / "data")]) == 0
    assert "whole" in capsys.readouterr().out


def test_import_of_the_official_archive_beside_other_files(tmp_path, capsys):
    import pickle

    from papers_lib.datasets.cifar_files import BATCHES

    batches = BATCHES["cifar10", "python"]
    content = {"labels": [i % 10 for i in range(10)], "data": np.zeros((10, 3072), np.uint8)}
    source = tmp_path / "downloads"
    source.mkdir()
    (source / "something.pdf").write_bytes(b"else")
    counts = {"train": 50, "test": 10, "classes": 10}
    parts = {file: pickle.dumps(content, 2) for file in (*batches.train, *batches.test)}
    parts["batches.meta"] = pickle.dumps({"label_names": [f"c{i}" for i in range(10)]}, 2)
    parts["STANDIN.json"] = json.dumps(RECIPE | {"name": "cifar10", "counts": counts}).encode()
    with tarfile.open(source / "cifar-10-python.tar.gz", "w:gz") as archive:
        for file, data in parts.items():
            info = tarfile.TarInfo(f"cifar-10-batches-py/{file}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    assert main(["import", "cifar10", str(source), str(tmp_path / "data")]) == 0
    captured = capsys.readouterr()
    assert "50 + 10 images, 10 classes: whole" in captured.out
    assert captured.err.count("is not the official file, by its MD5") == 7
    assert [p.name for p in (tmp_path / "data" / "cifar10").iterdir()] == ["cifar-10-batches-py"]


def test_check_names_all_faults_at_once(tmp_path, capsys):
    root = make("cifar10", tmp_path)
    train = root / "train" / "disc_with_ears"
    (train / "0000.jpg").write_bytes((train / "0000.jpg").read_bytes()[:-60])
    (train / "0001.jpg").write_bytes(b"")
    (train / "0002.jpg").unlink()
    (train / "._0003.jpg").write_bytes(b"mac")
    capsys.readouterr()
    assert main(["check", "cifar10", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    found = captured.out.splitlines()
    assert len(found) == 3
    assert "11 train images, 12 expected" in found[0]
    assert "0000.jpg is not a whole image" in found[1]
    assert "0001.jpg has zero bytes" in found[2]
    assert "leftovers of an archive or another program" in captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["make", "cifar10", "ROOT", "--size", "big"], "unknown size 'big'; known: smoke, small"),
        (
            ["make", "cifar10", "ROOT", "-p", "classes", "81"],
            "classes: input should be less than or equal to 80",
        ),
        (["make", "sysu30k", "ROOT", "-p", "bag", "3"], "unknown parameter 'bag': did you mean 'bags'?"),
        (["check", "imagenet", "ROOT"], "does not exist"),
        (["check", "sysu30k", "ROOT"], "does not exist"),
        (["import", "cifar100", "ROOT/none", "ROOT"], "none does not exist"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, tmp_path, capsys):
    root = str(tmp_path / "root")
    assert main([a.replace("ROOT", root) for a in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert message in captured.err
