"""`python -m data_prep`: list, make, and what all commands refuse."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from prepared import refused, settings

from data_prep import faces as prep
from data_prep.__main__ import main
from papers_lib.datasets import cars196, classification, faces, reid

WORDS = {
    **dict.fromkeys(("cars196", "cars196_half"), ("icence", "on-commercial", "thics", "pytorch/vision#7545")),
    **dict.fromkeys(reid.NAMES, ("licence", "non-commercial", "## Ethics", "## Traps")),
    **dict.fromkeys(faces.NAMES, ("licence", "## Ethics", "## Traps", "## Checksums")),
}
WORDS["dukemtmc"] += ("Withdrawn", "never downloaded")
WORDS["faces_emore"] += ("Withdrawn", "never downloaded", "3,804,846", "85,164", "5,822,653", "85,742")
WORDS["lfw"] += ("13,233", "5,749", "6,000")


def test_list_has_a_line_and_a_card_for_each(capsys):
    assert main(["list"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    known = ["cars196", "cars196_half", *reid.NAMES, *classification.NAMES, "sysu30k"]
    assert names[: len(known)] == known
    assert main(["list", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in entries] == names
    cards = {entry["name"]: Path(entry["card"]).read_text() for entry in entries}
    assert all(entry["summary"] in cards[entry["name"]] for entry in entries)
    for name, words in WORDS.items():
        assert [word for word in words if word not in cards[name]] == [], name
    for name in ("market1501", "dukemtmc", "msmt17_v1"):
        counts = reid.LAYOUTS[name].counts
        for number in (*counts.train, *counts.query, counts.gallery[0]):
            assert f"{number:,}" in cards[name]
    assert set(prep.OF) == set(faces.NAMES)


def test_module_runs_as_a_command():
    command = [sys.executable, "-m", "data_prep", "check", "cars196", "/no/where"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert "does not exist" in done.stderr


@pytest.mark.parametrize("place", ["cars196", "", "st and ïn/cars196"])
def test_make_writes_where_the_library_looks(place, tmp_path, capsys):
    root = tmp_path / place
    arguments = ["make", "cars196", str(root), *settings(per_model=4, pixels=16)]
    assert main(arguments) == 0
    assert "stand-in" in capsys.readouterr().out
    holder = root.parent if place else root
    assert cars196.load(root).stand_in
    assert cars196.load(holder).root == holder / "cars196" / "stanford_cars"
    assert [p.name for p in holder.iterdir()] == ["cars196"]
    assert main(arguments) == 0  # there already


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["make", "cars197", "ROOT"], "unknown data set 'cars197'; known: cars196, cars196_half"),
        (["make", "cars196_half", "ROOT"], "no stand-in of cars196_half"),
        (["import", "cars196", "ROOT/none.zip", "ROOT"], "none.zip does not exist"),
        (["make", "cars196", "/dev/null/data"], "cannot write to /dev/null/data"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, tmp_path, capsys):
    root = str(tmp_path / "root")
    assert message in refused(capsys, *(a.replace("ROOT", root) for a in arguments))
    assert not (tmp_path / "root").exists()


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch, capsys):
    def full(self, data):
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    said = refused(capsys, "make", "cars196", tmp_path / "cars196")
    assert "No space left on device; nothing was changed" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "note"), [("dukemtmc", "note: dukemtmc was"), ("faces_emore", "in 2019")])
def test_a_withdrawn_copy_needs_the_acknowledgement(name, note, copy, tmp_path, capsys):
    source = copy("a", name) / name
    (source / "STANDIN.json").unlink()
    assert "--acknowledge-withdrawn" in refused(capsys, "check", name, source)
    said = refused(capsys, "import", name, source, tmp_path / "b")
    assert "--acknowledge-withdrawn" in said and "nothing was imported" in said
    for arguments in (["check", name, str(source)], ["import", name, str(source), str(tmp_path / "b")]):
        assert main([*arguments, "--acknowledge-withdrawn"]) == 1  # its counts are not the real ones
        captured = capsys.readouterr()
        assert "expected" in captured.out
        assert note in captured.err
    assert not (tmp_path / "b" / name).exists()
