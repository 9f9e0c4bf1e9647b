"""Lists of pairs of one's own people: balanced, seeded, in folds that share nobody, and read again."""

import json
import zipfile
from pathlib import Path

import pytest
from PIL import Image
from prepared import refused

from data_prep.__main__ import main
from data_prep.pairs import make_pairs
from papers_lib.datasets import faces
from papers_lib.errors import PapersError


def people(folder, shots):
    """As many people as `shots` is long, with so many images each, of four formats."""
    for who, count in enumerate(shots):
        (folder / f"p {who:02d}").mkdir(parents=True)
        for i in range(count):
            suffix = ("pgm", "bmp", "png", "JPG")[i % 4]
            Image.new("L", (8, 8), 9 * who + i).save(folder / f"p {who:02d}" / f"{i}.{suffix}")
    return folder


def read(file):
    """The pairs of each fold."""
    head, *lines = file.read_text().splitlines()
    folds, half = map(int, head.split("\t"))
    rows = [line.split("\t") for line in lines]
    assert len(rows) == 2 * folds * half
    pairs = [(a, b, same == "1") for a, b, same in rows]
    return [pairs[i : i + 2 * half] for i in range(0, len(pairs), 2 * half)]


def test_folds_are_balanced_true_and_share_nobody(tmp_path):
    folder = people(tmp_path / "who", [4, 3, 2, 1] * 10)
    made = make_pairs(folder, count=2, seed=5)
    assert (made.file, made.pairs, made.people, made.apart) == (folder / "pairs.txt", 2, 40, True)
    folds = read(made.file)
    assert len(folds) == 10
    for fold in folds:
        assert [same for _, _, same in fold] == [True, True, False, False]
        for a, b, same in fold:
            assert a != b and (Path(a).parent == Path(b).parent) == same and (folder / a).is_file()
    seen = [{Path(path).parent for a, b, _ in fold for path in (a, b)} for fold in folds]
    assert sum(map(len, seen)) == len(set.union(*seen))
    unordered = [frozenset(pair[:2]) for fold in folds for pair in fold]
    assert len(set(unordered)) == len(unordered)
    texts = []
    for seed in (5, 6):
        made.file.unlink()
        make_pairs(folder, count=2, seed=seed)
        texts.append(read(made.file))
    assert texts[0] == folds != texts[1]


def test_few_people_share_the_folds_and_that_is_said(tmp_path, capsys):
    folder = people(tmp_path, [8, 8, 1])
    assert main(["pairs", str(folder), "--count", "5", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"file": str(folder / "pairs.txt"), "pairs": 5, "people": 3, "apart": False}
    pairs = [pair for fold in read(folder / "pairs.txt") for pair in fold]
    assert len({frozenset(pair[:2]) for pair in pairs}) == 100


def test_more_pairs_than_there_are_is_all_that_there_are(tmp_path):
    """Two people of four images have 12 pairs of one person: one in each of ten folds."""
    assert make_pairs(people(tmp_path, [4, 4]), count=10**12).pairs == 1


def test_a_list_is_read_as_it_was_written_and_needs_no_training_part(tmp_path, capsys):
    folder = people(tmp_path / "faces", [3] * 20)
    for file, place in ((tmp_path / "mine.txt", tmp_path / "mine.txt"), (folder / "pairs.txt", folder)):
        make_pairs(folder, file, count=1)  # beside the folder, and in it
        [(name, pairs)] = faces.read_pairs(place).items()
        assert (name, len(pairs), pairs.folds, int(pairs.same.sum())) == ("pairs", 20, 10, 10)
        listed = [(file.parent / a, file.parent / b, same) for fold in read(file) for a, b, same in fold]
        first, second = ([pairs.images[i] for i in side] for side in (pairs.first, pairs.second))
        assert list(zip(first, second, pairs.same.tolist(), strict=True)) == listed
    with zipfile.ZipFile(tmp_path / "own.zip", "w") as archive:
        for file in sorted(folder.rglob("*.*")):
            archive.write(file, file.relative_to(folder))
    assert main(["import", "faces_own", str(tmp_path / "own.zip"), str(tmp_path / "data")]) == 0
    said = capsys.readouterr()
    assert "60 images of 20 identities, 20 pairs pairs" in said.out and said.err == ""
    data = faces.load(tmp_path / "data", "faces_own")
    assert data.train is None and len(data.tests["pairs"]) == 20


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a/0.png\ta/1.png\t1", "line 2: a/1.png is missing"),
        ("a/0.png\t../b/0.png\t0", "line 2: ../b/0.png is missing"),
        ("a/0.png\tb/0.png\t2", 'line 2: is no "name 1 2"'),
        ("a/0.png\ta/0.png\t1", "line 2: is an image with itself; take it out"),
        ("a/0.png\tb/0.png\t0\nb/0.png\ta/0.png\t0", "line 3: is the pair of line 2 again; take it out"),
    ],
)
def test_a_broken_line_is_named(tmp_path, line, message):
    for who in "ab":
        (tmp_path / "in" / who).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "in" / who / "0.png")
    (tmp_path / "in" / "pairs.txt").write_text(f"10\t300\n{line}\n")
    with pytest.raises(PapersError, match=message):
        faces.read_pairs(tmp_path / "in" / "pairs.txt")


def test_bad_input_is_one_line(tmp_path, capsys):
    folder = people(tmp_path / "who", [2] * 20)
    for arguments, message in (
        ([tmp_path / "nowhere"], "is no folder"),
        ([folder, tmp_path / "else" / "pairs.txt"], "is no folder at or below"),
        ([folder / "p 00"], "0 folders with images"),
        ([people(tmp_path / "one", [1] * 30)], "too few images"),
        ([folder, "--count", "0"], "--count 0"),
    ):
        assert message in refused(capsys, "pairs", *arguments)
    make_pairs(folder)
    assert "is there already" in refused(capsys, "pairs", folder)
