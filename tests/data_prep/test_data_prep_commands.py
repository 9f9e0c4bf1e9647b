"""`python -m data_prep`: list, check, make."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import scipy.io
from PIL import Image

from data_prep.__main__ import main
from papers_lib.datasets import cars196, classification, reid


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_list_has_a_line_and_a_card_for_each(capsys):
    assert main(["list"]) == 0
    names = [line.split()[0] for line in lines(capsys)]
    known = ["cars196", "cars196_half", *reid.NAMES, *classification.NAMES, "sysu30k"]
    assert names[: len(known)] == known
    assert main(["list", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    for entry in entries:
        assert entry["summary"] in Path(entry["card"]).read_text()
    for entry in entries[:2]:
        card = Path(entry["card"]).read_text()
        for word in ("licence", "non-commercial", "pytorch/vision#7545", "ethics", "MD5", "Krause"):
            assert word in card or word.capitalize() in card


def test_module_runs_as_a_command():
    done = subprocess.run(
        [sys.executable, "-m", "data_prep", "check", "cars196", "/no/where"],
        capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "does not exist" in done.stderr


def test_check_of_a_whole_set_is_one_line(copy, capsys):
    root = copy()
    assert main(["check", "cars196", str(root)]) == 0
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 1
    assert "whole" in captured.out
    assert "note: type22: one training class alone in its type" in captured.err
    assert main(["check", "cars196_half", str(root / "cars196")]) == 0


def test_check_names_all_faults_at_once(copy, capsys):
    root = copy("mit Leerzeichen ü")
    train = root / "cars196" / "stanford_cars" / "cars_train"
    (train / "00001.jpg").unlink()
    (train / "00002.jpg").write_bytes(b"")
    (train / "00003.jpg").write_bytes((train / "00003.jpg").read_bytes()[:-60])
    (train / "00004.jpg").write_text("no image")
    Image.new("RGB", (1, 1)).save(train / "00005.jpg")
    Image.new("L", (5, 5)).save(train / "00006.jpg")
    Image.new("CMYK", (5, 5)).save(train / "00007.jpg")
    Image.new("RGB", (5, 5)).save(train / "extra.jpg")
    assert main(["check", "cars196", str(root)]) == 1
    found = lines(capsys)
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


def test_check_counts_and_lone_classes(copy, capsys):
    root = copy()
    path = root / "cars196" / "STANDIN.json"
    told = json.loads(path.read_text())
    told["counts"]["cars196"][0] += 1
    path.write_text(json.dumps(told))
    assert main(["check", "cars196", str(root)]) == 1
    found = lines(capsys)
    assert any("training classes" in line and "expected" in line for line in found)
    assert any(repr(told["classes"][0]) in line for line in found)


def test_check_of_half_a_set(copy, capsys):
    root = copy()
    cars = root / "cars196" / "stanford_cars"
    shutil.rmtree(cars / "cars_test")
    assert main(["check", "cars196", str(root)]) == 1
    assert "half a data set: cars_test/ missing" in lines(capsys)[0]
    assert main(["check", "cars196_half", str(root / "cars196")]) == 0


def test_check_of_labels_of_another_numbering(copy, capsys):
    root = copy()
    path = root / "cars196" / "stanford_cars" / "devkit" / "cars_meta.mat"
    names = scipy.io.loadmat(path)["class_names"]
    names[0, 0] = "Trabant 601 Sedan 1964"
    scipy.io.savemat(path, {"class_names": names})
    assert main(["check", "cars196", str(root)]) == 1
    assert all("Trabant" in line for line in lines(capsys))


@pytest.mark.parametrize("place", ["cars196", "", "st and ïn/cars196"])
def test_make_writes_where_the_library_looks(place, tmp_path, capsys):
    root = tmp_path / place
    arguments = ["make", "cars196", str(root), "-p", "per_model", "4", "-p", "pixels", "16"]
    assert main(arguments) == 0
    assert "stand-in" in capsys.readouterr().out
    assert cars196.load(root).stand_in
    holder = root.parent if place else root
    assert cars196.load(holder).root == holder / "cars196" / "stanford_cars"
    assert [p.name for p in holder.iterdir()] == ["cars196"]
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    assert main(arguments) == 0  # there already
    assert main([*arguments, "--seed", "7"]) == 2
    assert "holds something else" in capsys.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["make", "cars197", "ROOT"], "unknown data set 'cars197'; known: cars196, cars196_half"),
        (["make", "cars196_half", "ROOT"], "no stand-in of cars196_half"),
        (["make", "cars196", "ROOT", "--size", "big"], "unknown size 'big'"),
        (["check", "cars196", "ROOT"], "does not exist"),
        (["import", "cars196", "ROOT/none.zip", "ROOT"], "none.zip does not exist"),
        (["make", "cars196", "/dev/null/data"], "cannot write to /dev/null/data"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, tmp_path, capsys):
    root = str(tmp_path / "root")
    assert main([a.replace("ROOT", root) for a in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert message in captured.err


def test_read_only_destination(tmp_path, capsys):
    tmp_path.chmod(0o555)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("this user may write anywhere")
        assert main(["make", "cars196", str(tmp_path / "cars196")]) == 2
    finally:
        tmp_path.chmod(0o755)
    assert "cannot write to" in capsys.readouterr().err


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch, capsys):
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    assert main(["make", "cars196", str(tmp_path / "cars196")]) == 2
    captured = capsys.readouterr()
    assert "No space left on device; nothing was changed" in captured.err
    assert len(captured.err.splitlines()) == 1
    assert not list(tmp_path.iterdir())
