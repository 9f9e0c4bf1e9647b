"""`python -m data_prep` with the person re-identification sets: check, import, make."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep.__main__ import main
from papers_lib.datasets import reid
from papers_lib.datasets.crops import load_images

TINY = (
    "train_ids 4",
    "test_ids 3",
    "cameras 3",
    "seen 2",
    "per_id 6",
    "per_test_id 6",
    "distractors 2",
    "pixels 16",
)
SMALL = ("identities 6", "cameras 3", "seen 2", "shots 2", "distractors 2", "height 32", "width 16")


def settings(*pairs: str) -> list[str]:
    return [part for pair in pairs for part in ("-p", *pair.split(" ", 1))]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("re id")
    for name in ("market1501", "dukemtmc", "msmt17_v1"):
        others = {"market1501": ["junk 2"], "msmt17_v1": ["distractors 0"]}.get(name, [])
        assert main(["make", name, str(root), *settings(*TINY, *others)]) == 0
    return root


@pytest.fixture
def copy(rendered: Path, tmp_path: Path):
    def at(name: str) -> Path:
        shutil.copytree(rendered / name, tmp_path / name)
        return tmp_path / name

    return at


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Ten one-colour images of several forms, and a leftover."""
    for i in range(10):
        path = tmp_path / "my images" / ("deep" * (i % 2)) / f"{i}.{'png' if i % 3 else 'JPG'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new(
            "L" if i == 4 else "RGB", (30, 20 + i), 25 * i if i == 4 else (25 * i, 255 - 25 * i, 90)
        ).save(path)
    (tmp_path / "my images" / "._3.JPG").write_bytes(b"mac")
    return tmp_path / "my images"


def out(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("name", ["market1501", "dukemtmc", "msmt17_v1"])
def test_what_is_rendered_is_whole_and_says_so(name, rendered, capsys):
    assert main(["check", name, str(rendered)]) == 0
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 1
    assert f"{name} (stand-in): train " in captured.out
    assert "of 4 identities, query" in captured.out
    assert ("2 junk images" in captured.out) == (name == "market1501")
    assert captured.err == ""


def test_every_card_tells_what_its_reader_needs(capsys):
    assert main(["list", "--json"]) == 0
    cards = {e["name"]: Path(e["card"]).read_text() for e in json.loads(capsys.readouterr().out)}
    for name in reid.NAMES:
        for word in ("licence", "non-commercial", "## Ethics", "## Traps", "stand-in", "data_prep make"):
            assert word in cards[name], (name, word)
    for name in ("market1501", "dukemtmc", "msmt17_v1"):
        counts = reid.LAYOUTS[name].counts
        for number in (*counts.train, *counts.query, counts.gallery[0]):
            assert f"{number:,}" in cards[name]
    assert "Withdrawn" in cards["dukemtmc"]
    assert "never downloaded" in cards["dukemtmc"]


def test_check_tells_all_at_once_and_opens_junk_too(copy, capsys):
    root = copy("market1501")
    junk = next((root / "bounding_box_test").glob("-1_*"))
    junk.write_bytes(b"no image")
    train = sorted((root / "bounding_box_train").iterdir())
    train[0].write_bytes(train[0].read_bytes()[:-40])
    (root / "query" / "0001.jpg").write_bytes(b"")
    (root / "__MACOSX").mkdir()
    assert main(["check", "market1501", str(root)]) == 1
    captured = capsys.readouterr()
    found = captured.out.splitlines()
    assert len(found) == 4
    assert any("0001.jpg has a name that tells no identity and camera" in line for line in found)
    assert any("0001.jpg has zero bytes" in line for line in found)
    assert any(junk.name in line and "not a whole image" in line for line in found)
    assert any(train[0].name in line and "truncated" in line for line in found)
    assert captured.err.startswith("note: 1 leftovers of an archive or another program are ignored")


def test_a_withdrawn_copy_needs_the_acknowledgement(copy, tmp_path, capsys):
    source = copy("dukemtmc")
    (source / "STANDIN.json").unlink()
    assert main(["check", "dukemtmc", str(source)]) == 2
    assert "--acknowledge-withdrawn" in capsys.readouterr().err
    assert (
        main(["check", "dukemtmc", str(source), "--acknowledge-withdrawn"]) == 1
    )  # its counts are not the real ones
    captured = capsys.readouterr()
    assert "expected; restore the copy" in captured.out
    assert captured.err.startswith("note: dukemtmc was withdrawn by its authors in 2019")
    root = tmp_path / "other"
    assert main(["import", "dukemtmc", str(source), str(root)]) == 2
    refusal = capsys.readouterr().err
    assert len(refusal.splitlines()) == 1
    assert "--acknowledge-withdrawn" in refusal
    assert "nothing was imported" in refusal
    assert main(["import", "dukemtmc", str(source), str(root), "--acknowledge-withdrawn"]) == 1
    assert "16522 expected" in capsys.readouterr().out
    assert not (root / "dukemtmc").exists()


@pytest.mark.parametrize(
    ("name", "official"),
    [("market1501", "Market-1501-v15.09.15"), ("msmt17_v1", "MSMT17_V1"), ("dukemtmc", "x")],
)
def test_import_of_an_archive_made_on_a_mac(name, official, copy, tmp_path, capsys):
    source, archive = copy(name), tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sorted(p for p in source.rglob("*") if p.is_file()):
            packed.write(path, f"{official}/{path.relative_to(source)}")
            if official != "x":
                packed.writestr(
                    f"__MACOSX/{official}/{path.parent.relative_to(source)}/._{path.name}", b"mac"
                )
    assert main(["import", name, str(archive), str(tmp_path / "data")]) == 0
    captured = capsys.readouterr()
    assert "whole" in captured.out
    assert ("__MACOSX" in captured.err) == (official != "x")
    assert reid.load(tmp_path / "data", name).fingerprint == reid.load(source, name).fingerprint


def test_make_again_is_nothing_and_another_seed_is_refused(copy, capsys):
    root = copy("market1501")
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    arguments = ["make", "market1501", str(root), *settings(*TINY, "junk 2")]
    assert main(arguments) == 0
    assert main([*arguments, "--seed", "7"]) == 2
    assert "holds something else" in capsys.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == before


# reid_from_images


def test_each_image_is_an_identity_and_each_camera_a_transform(images, tmp_path, capsys):
    arguments = ["make", "reid-from-images", str(tmp_path), *settings(f"images {images}", *SMALL)]
    assert main([*arguments, "-p", "gap", "0"]) == 0
    assert "reid_from_images (stand-in): train 12 images of 3 identities" in out(capsys)[0]
    data = reid.load(tmp_path, "reid_from_images")
    told = json.loads((data.root / "STANDIN.json").read_text())
    assert told["made_from"] == "images of the folder my images"
    assert str(tmp_path) not in json.dumps(told)
    assert (data.cameras, data.stand_in) == (3, True)
    assert not set(data.train.ids.tolist()) & set(data.query.ids.tolist())
    assert sorted(data.gallery.ids.tolist()) == [0, 0, 4, 4, 5, 5, 6, 6]
    colour = load_images(data.train.files, 32, 16).float().mean((1, 2))
    for who in set(data.train.ids.tolist()):  # without a gap, cameras differ by light alone
        mine = colour[data.train.ids == who]
        others = colour[data.train.ids != who]
        assert (mine - mine.mean(0)).norm(dim=1).max() < (others - mine.mean(0)).norm(dim=1).min()


def test_cameras_differ_more_with_the_gap_and_stay_fixed(tmp_path):
    folder = tmp_path / "grey"
    folder.mkdir()
    for i in range(8):
        Image.new("RGB", (20, 20), (128, 128, 128)).save(folder / f"{i}.png")
    spread = {}
    for gap in (0.2, 1.0):
        root = tmp_path / f"gap {gap}"
        pairs = (f"images {folder}", *SMALL, f"gap {gap}")
        assert main(["make", "reid_from_images", str(root), *settings(*pairs)]) == 0
        data = reid.load(root, "reid_from_images")
        colour = load_images(data.train.files, 32, 16).float().mean((1, 2)).numpy()
        means = np.stack([colour[data.train.cameras == c].mean(0) for c in range(3)])
        within = max(colour[data.train.cameras == c].std(0).max() for c in range(3))
        spread[gap] = means.std(0).mean()
        assert within < 15  # light alone
    assert spread[1.0] > 2 * spread[0.2]


def test_the_same_images_and_seed_give_the_same_bytes(images, tmp_path, capsys):
    prints = {}
    for place, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        arguments = ["make", "reid_from_images", str(tmp_path / place), *settings(f"images {images}", *SMALL)]
        assert main([*arguments, "--seed", seed]) == 0
        root = tmp_path / place / "reid_from_images"
        prints[place] = {p.name: p.read_bytes() for p in root.rglob("*.*")}
    assert prints["a"] == prints["b"] != prints["c"]
    capsys.readouterr()
    assert main([*arguments[:2], str(tmp_path / "a"), *arguments[3:]]) == 0  # there already
    for path in images.rglob("*.png"):
        Image.new("RGB", (9, 9)).save(path)
    assert main([*arguments[:2], str(tmp_path / "a"), *arguments[3:]]) == 2  # made from other images
    assert "holds something else" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ((), "name their folder: -p images FOLDER"),
        (("images ROOT/none",), "none is no folder"),
        (("images ROOT/my images",), "has 10 images, and 40 identities with 10 distractors need one each"),
        (("images ROOT/my images", "seen 9"), "seen 9 is more than cameras 6"),
        (("images ROOT/my images", "camera 9"), "unknown parameter 'camera': did you mean 'cameras'?"),
        (("images ROOT/my images", "cameras 1"), "cameras: input should be greater than or equal to 2"),
        (("images ROOT/my images", "identities 4", "distractors 6"), "is not a whole image"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(pairs, message, images, tmp_path, capsys):
    if "whole" in message:
        for path in images.rglob("*.*"):
            path.write_bytes(b"no image")
    arguments = ["make", "reid_from_images", str(tmp_path / "root")]
    assert main([*arguments, *settings(*(p.replace("ROOT", str(tmp_path)) for p in pairs))]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert message in captured.err
    assert not (tmp_path / "root" / "reid_from_images").exists()


def test_import_of_what_is_only_made(copy, tmp_path, capsys):
    source = copy("market1501")
    assert main(["import", "pedestrians_many", str(source), str(tmp_path / "root")]) == 2
    assert "is a stand-in of market1501, not of pedestrians_many" in capsys.readouterr().err
