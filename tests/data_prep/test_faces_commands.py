"""`python -m data_prep` with faces."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from data_prep import faces as prep
from data_prep.__main__ import main
from data_prep.face_drawings import STYLES, person, picture
from papers_lib.datasets import faces

TINY = ["-p", "identities", "2", "-p", "shots", "3", "-p", "pairs", "1", "-p", "pixels", "16"]


def make(name: str, root: Path, *more: str) -> Path:
    assert main(["make", name, str(root), *TINY, *more]) == 0
    return root / name


@pytest.mark.parametrize("name", faces.NAMES)
def test_make_check_and_make_again(name, tmp_path, capsys):
    root = make(name, tmp_path)
    assert main(["check", name, str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert f"{name} (stand-in): " in captured.out
    assert captured.err == ""
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    make(name, tmp_path)
    assert main(["make", name, str(tmp_path), *TINY, "--seed", "7"]) == 2
    assert "holds something else" in capsys.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == before
    assert main(["make", name, str(tmp_path / "x"), "-p", "pixels", "8"]) == 2
    assert main(["make", name, str(tmp_path / "x"), "--size", "huge"]) == 2
    assert not (tmp_path / "x" / name).exists()


def test_the_same_recipe_gives_the_same_bytes(tmp_path):
    found = []
    for place, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        root = make("faces_emore", tmp_path / place, "--seed", seed)
        found.append(
            [(root / name).read_bytes() for name in ("train.rec", "lfw.bin", "cfp_fp.bin", "agedb_30.bin")]
        )
    assert found[0] == found[1] != found[2]


def test_a_person_is_nearer_to_themselves_than_to_others():
    """Means of six pictures in half size, so that pose and light average out."""

    def mean(seed: int, start: int) -> np.ndarray:
        who = person(np.random.default_rng([0, seed]))
        shots = [picture(who, 16, np.random.default_rng([1, seed, start + i]), yaw=0.1) for i in range(6)]
        return np.mean(shots, 0)[4:12, 4:12].ravel()

    first, second = (np.stack([mean(seed, start) for seed in range(8)]) for start in (0, 6))
    nearest = np.linalg.norm(first[:, None] - second[None], axis=2).argmin(1)
    assert (nearest == np.arange(8)).sum() >= 5  # one by chance


@pytest.mark.parametrize("style", STYLES)
def test_every_face_can_be_drawn_turned_and_old(style):
    who = person(np.random.default_rng(0))._replace(style=style)
    who.shape.update(glasses=0.5, beard=0.5, mole=0.03)
    front, aside, old = (
        picture(who, 32, np.random.default_rng(1), yaw, age)
        for yaw, age in ((0.0, 0.0), (1.2, 0.0), (0.0, 1.0))
    )
    assert front.shape == (32, 32, 3)
    assert front.dtype == np.uint8
    assert (front != aside).mean() > 0.1
    assert (front != old).any()


def test_check_opens_every_image_and_tells_all_at_once(tmp_path, capsys):
    root = make("faces_emore", tmp_path)
    data = faces.load(root, "faces_emore")
    pack = data.train.source
    image = pack.image(1)
    content = (root / "train.rec").read_bytes().replace(image, bytes(len(image)))
    (root / "train.rec").write_bytes(content)
    pairs = data.tests["lfw"].images[3]
    (root / "lfw.bin").write_bytes((root / "lfw.bin").read_bytes().replace(pairs, bytes(len(pairs))))
    (root / "train.lst").write_text("1\ta.jpg\t0\n")
    capsys.readouterr()
    assert main(["check", "faces_emore", str(root)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert "lfw.bin, image 3 is not a whole image" in lines[0]
    assert "train.rec, image 1 is not a whole image" in lines[1]
    assert "train.lst has 1 images, the records 6" in lines[2]


def test_check_reads_every_label_and_the_list(tmp_path, capsys):
    root = make("faces_emore", tmp_path)
    rows = (root / "train.lst").read_text().splitlines()
    rows[2], rows[3] = rows[3], rows[2]
    (root / "train.lst").write_text("\n".join(rows))
    rec = bytearray((root / "train.rec").read_bytes())
    pack = faces.load(root, "faces_emore").train.source
    start = int(pack.offsets[1]) + 8 + 24  # the label of the middle one of three
    rec[start : start + 4] = np.float32(1).tobytes()
    (root / "train.rec").write_bytes(rec)
    capsys.readouterr()
    assert main(["check", "faces_emore", str(root), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["problems"]
    assert len(found) == 2
    assert "image 1 has label 1 among those of 0" in found[0]
    assert "train.lst has other identities than the records" in found[1]


def test_check_names_broken_files_of_folders(tmp_path, capsys):
    root = make("faces_own", tmp_path)
    files = sorted((root / "train").rglob("*.jpg"))
    files[0].write_bytes(b"")
    files[1].write_bytes(files[1].read_bytes()[:-40])
    (root / "train" / "00000" / "notes.txt").write_text("x")
    assert main(["check", "faces_own", str(root)]) == 1
    captured = capsys.readouterr()
    lines = captured.out.splitlines()[1:]
    assert len(lines) == 2
    assert "zero bytes" in lines[0]
    assert "not a whole image" in lines[1]
    assert "1 entries that are no image" in captured.err


def test_a_withdrawn_copy_needs_the_acknowledgement(tmp_path, capsys):
    root = make("faces_emore", tmp_path / "a")
    (root / "STANDIN.json").unlink()
    assert main(["check", "faces_emore", str(root)]) == 2
    assert "--acknowledge-withdrawn" in capsys.readouterr().err
    assert main(["import", "faces_emore", str(root), str(tmp_path / "b")]) == 2
    assert main(["import", "faces_emore", str(root), str(tmp_path / "b"), "--acknowledge-withdrawn"]) == 1
    captured = capsys.readouterr()
    assert "6 images of 2 identities" in captured.out
    assert "withdrew in 2019" in captured.err
    assert not (tmp_path / "b" / "faces_emore").exists()


def test_import_of_scikit_learns_folder(tmp_path, capsys):
    root = make("lfw", tmp_path / "a")
    home = tmp_path / "lfw_home"
    shutil.copytree(root, home)
    (home / "lfw").rename(home / "lfw_funneled")
    assert main(["import", "lfw", str(home), str(tmp_path / "b")]) == 0
    assert len(faces.load(tmp_path / "b", "lfw").tests["lfw"]) == 20


def test_cards_say_what_a_reader_needs(capsys):
    assert main(["list", "--json"]) == 0
    cards = {e["name"]: Path(e["card"]).read_text() for e in json.loads(capsys.readouterr().out)}
    for name in faces.NAMES:
        for word in (
            "licence",
            "## Ethics",
            "## Traps",
            "## Checksums",
            "stand-in",
            f"data_prep make {name}",
        ):
            assert word in cards[name], (name, word)
    for word in ("Withdrawn", "2019", "never downloaded", "3,804,846", "85,164", "5,822,653", "85,742"):
        assert word in cards["faces_emore"]
    for word in ("13,233", "5,749", "6,000"):
        assert word in cards["lfw"]
    assert set(prep.OF) == set(faces.NAMES)
