"""What holds for the survey of every data set: where it is found, what is told, what its content is."""

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from standins import RECIPE, tell
from tiny_sets import BUILD, INSIDE, edit, refused
from tiny_sets import OFFICIAL as OFFICIAL_OF_PEOPLE

from data_prep.__main__ import _datasets
from papers_lib.datasets import cars196_layouts, classification_layouts, face_layouts, known, reid_layouts
from papers_lib.datasets.folders import Survey, read_json
from papers_lib.errors import PapersError

OFFICIAL = {
    "cars196": "stanford_cars",
    "cifar10": "cifar-10-batches-py",
    "imagenet": "ILSVRC2012",
    **OFFICIAL_OF_PEOPLE,
    "sysu30k": INSIDE,
    "coco2017": "coco",
    "voc0712": "VOCdevkit",
    "faces_emore": "faces_ms1m_112x112",
    "lfw": "lfw_home",
}
NAMES = tuple(BUILD)
MISSING = {
    "cars196": "neither devkit/ with cars_train/",
    "cifar10": "neither data_batch_1 with test_batch, nor train/",
    "imagenet": "no train/ and test/ or val/",
    "msmt17_v2": "none of mask_train_v2/, mask_test_v2/ is there",
    "sysu30k": "neither sysu_test_set_all/ nor sysu_train_set_all/",
    "coco2017": "annotations is not there",
    "voc0712": "VOC2007 is not there",
    "faces_emore": "neither train.rec nor train.idx",
    "lfw": "no pairs.txt",
    "faces_own": "neither train.rec nor a folder per identity",
}


def survey(root, name):
    dataset = _datasets()[name]
    return dataset.survey(root, **({"acknowledge_withdrawn": True} if dataset.withdrawn else {}))


# -- where it is --


@pytest.mark.parametrize("name", NAMES)
def test_it_is_found_in_its_folder_or_in_one_around_it(name, made, copy, tmp_path):
    prints = {known.load(made, name).fingerprint}
    official = OFFICIAL.get(name, "")
    for i, inside in enumerate(dict.fromkeys(("", name, official, f"{name}/{official}".rstrip("/")))):
        root = tmp_path / f"pl äce {i}"
        base = copy(name, f"{root.name}/{inside}")
        for start in {root, root / name if inside.split("/")[0] == name else root, base}:
            data = known.load(start, name)
            assert (data.root, data.stand_in) == (base, True)
            prints.add(data.fingerprint)
        if official and inside.endswith(official):  # what tells of it may lie beside the official folder
            shutil.move(base / "STANDIN.json", root / inside.removesuffix(official) / "STANDIN.json")
            assert known.load(root, name).stand_in and known.load(base, name).stand_in
    assert len(prints) == 1


@pytest.mark.parametrize("name", NAMES)
def test_nothing_there(name, tmp_path):
    assert f"no {name}: the folder {tmp_path} is empty" in refused(known.load, tmp_path, name)
    absent = tmp_path / "none"
    assert f"no {name}: the folder {absent} does not exist" in refused(known.load, absent, name)
    (tmp_path / "notes.txt").write_text("no images")
    line = refused(known.load, tmp_path, name)
    assert MISSING.get(name, ": none of ") in line
    assert f"python -m data_prep make {name} {tmp_path}" in line
    assert ("data_prep import" in line) == (name != "dukemtmc")  # which is never fetched, only rendered


def test_names_that_nobody_knows(tmp_path):
    line = refused(known.load, tmp_path, "cars")
    assert "unknown data set 'cars': `python -m data_prep list` names all" in line
    for layouts in (cars196_layouts, classification_layouts, reid_layouts, face_layouts):
        assert "unknown data set 'cars'; known: " in refused(layouts.survey, tmp_path, "cars")


# -- STANDIN.json --


@pytest.mark.parametrize("name", NAMES)
def test_a_broken_standin_file(name, copy):
    root = copy(name)
    path = root / "STANDIN.json"
    whole = read_json(path)
    texts = (b"", b"{", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"name": "%s"}' % name.encode())
    for text in texts:
        path.write_bytes(text)
        assert "STANDIN.json is broken" in refused(known.load, root, name)
    tell(root, name, {"images": 1, "identities": 1, "pairs": 3, "train": "x", "cars196": 3})
    assert "STANDIN.json" in refused(known.load, root, name)
    tell(root, "of_another", whole["counts"])
    assert f"is a stand-in of of_another, not of {name}" in refused(known.load, root, name)
    path.write_text("{}")
    edit(path, lambda told: told.update(name=name, counts=whole["counts"]))
    line = refused(known.load, root, name)
    assert "is of an earlier version (no size, seed, options, drawing): remove the folder" in line


def test_the_fingerprint_of_what_is_drawn_is_its_recipe(copy):
    root = copy("market1501")
    drawn = survey(root, "market1501")
    assert drawn.known == {"stand_in": True, "fingerprint": drawn.fingerprint, "pixels": drawn.content}
    prints = {drawn.fingerprint}
    for key in RECIPE:
        edit(root / "STANDIN.json", lambda told, key=key: told.update({key: "another"}))
        prints.add(survey(root, "market1501").fingerprint)
    assert len(prints) == 1 + len(RECIPE)
    edit(root / "STANDIN.json", lambda told: told.update(made_from="somebody's images"))
    of_images = survey(root, "market1501")
    assert of_images.known == {"stand_in": True, "fingerprint": drawn.content, "pixels": ""}


# -- what is in it --


@pytest.mark.parametrize("name", NAMES)
def test_the_content_follows_names_and_sizes_and_not_the_place(name, copy, monkeypatch):
    root, elsewhere = copy(name), copy(name, "two words")
    before = survey(root, name)
    assert survey(elsewhere, name).content == before.content
    scandir = os.scandir

    class Backwards(AbstractContextManager, Iterator):
        def __init__(self, path):
            self.entries = iter(sorted(scandir(path), key=lambda entry: entry.name, reverse=True))

        def __next__(self):
            return next(self.entries)

        def __exit__(self, *_): ...

    monkeypatch.setattr(os, "scandir", Backwards)
    assert survey(root, name).content == before.content  # whatever the order of the file system
    monkeypatch.undo()
    used = [file for file in before.sizes if not file.endswith((".rec", ".bin")) and "-1_c" not in file]
    for file in used[:1]:
        image = root / file
        image.write_bytes(b"x" * image.stat().st_size)
        assert survey(root, name).content == before.content  # its limit
        image.write_bytes(b"other")
        assert survey(root, name).content != before.content


@pytest.mark.parametrize("name", NAMES)
def test_leftovers_are_no_faults(name, copy):
    root = copy(name)
    before = survey(root, name)
    folders = {(root / file).parent for file in before.sizes} | {root}
    for folder in folders:
        (folder / "._00001.jpg").write_bytes(b"mac")
        (folder / "Thumbs.db").write_bytes(b"windows")
        (folder / ".ipynb_checkpoints").mkdir()
        (folder / ".ipynb_checkpoints" / "00001-checkpoint.jpg").write_bytes(b"jupyter")
        (folder / "__MACOSX").mkdir()
    after = survey(root, name)
    assert (after.problems, after.content) == ([], before.content)
    littered = [note for note in after.notes if "leftovers of an archive or another program" in note]
    assert len(littered) == 1
    assert int(littered[0].split()[0]) >= (1 if name == "faces_emore" else 4)


def test_what_is_ignored_is_noted_by_its_kind_and_never_to_be_removed(copy):
    root = copy("faces_own")
    for name in ("notes.txt", "._0001.jpg", "raw.xyz"):
        (root / "train" / "00000" / name).write_bytes(b"x")
    (root / "train" / "loose.jpg").write_bytes(b"x")
    notes = survey(root, "faces_own").notes
    assert [note.partition(" are ignored, as ")[0] for note in notes] == [
        "1 leftovers of an archive or another program",
        "1 images outside of the folders that are read",
        "2 entries that are no image",
    ]
    assert not any("remove" in note for note in notes)


@pytest.mark.parametrize("what", ["a link to nothing", "a pipe", "no UTF-8", "two lines", "heic", "gif"])
def test_names_and_files_that_cannot_be_read_are_one_line(what, copy):
    inside = copy("faces_own") / "train" / "00000"
    if what == "a link to nothing":
        (inside / "x.jpg").symlink_to("nowhere.jpg")
    elif what == "a pipe":
        os.mkfifo(inside / "x.jpg")
    else:
        name = {"no UTF-8": b"caf\xe9.jpg", "two lines": b"a\nb.jpg"}.get(what, b"x." + what.encode())
        Path(os.fsdecode(bytes(inside) + b"/" + name)).write_bytes(b"x")
    line = refused(known.load, inside.parents[1], "faces_own")
    assert str(inside) in line
    if what in ("heic", "gif"):
        assert f"x.{what} is of a format that is not read, {what}; save it as JPEG" in line


# -- real copies --


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("faces_own", "voc0712", "cars196")])
def test_counts_are_held_against_the_published_ones(name, copy):
    root = copy(name)
    (root / "STANDIN.json").unlink()
    problems = survey(root, name).problems
    assert problems and all("expected; restore the copy in" in line for line in problems)
    line = refused(known.load, root, name)
    assert f"see: python -m data_prep check {name} {root}" in line
    assert (f"(and {len(problems) - 1} more faults; " in line) == (len(problems) > 1)
    assert line.startswith(f"{problems[0]} (")


def test_images_where_they_are_hold_what_is_told_or_published():
    root = Path(os.environ.get("PAPERS_DATA", "none"))
    names = [name for name in (*NAMES, "cars196_half") if (root / name).is_dir()]
    if not names:
        pytest.skip("no data set in $PAPERS_DATA")
    assert all(known.load(root, name).fingerprint for name in names)


@pytest.mark.parametrize("name", ["dukemtmc", "faces_emore"])
def test_a_withdrawn_copy_is_read_only_when_acknowledged(name, copy, capsys, monkeypatch):
    layouts = reid_layouts if name == "dukemtmc" else face_layouts
    root = copy(name)
    known.load(root, name)
    assert capsys.readouterr().err == ""  # a stand-in needs no notice
    (root / "STANDIN.json").unlink()
    line = refused(layouts.survey, root, name)
    assert "acknowledge_withdrawn=True (command line: --acknowledge-withdrawn)" in line
    assert layouts.WITHDRAWN in line and "in 2019" in line
    assert "--acknowledge-withdrawn" in refused(known.load, root, name)  # how to see all its faults
    monkeypatch.setattr(Survey, "hold_counts", lambda *_, **__: None)
    monkeypatch.setattr(face_layouts, "_hold_counts", lambda *_: None)
    assert not known.load(root, name).stand_in
    assert capsys.readouterr().err == f"{layouts.WITHDRAWN}\n"


def test_text_that_is_no_json_is_one_line_and_a_byte_order_mark_is_no_text(tmp_path):
    path = tmp_path / "a.json"
    for raw in (b"[" * 200_000, b"NaN", b'{"a": -Infinity}', b'"\\ud800"', b"\xff\xfe{\0}\0", b""):
        path.write_bytes(raw)
        with pytest.raises(PapersError, match=r"a\.json is broken \(.*\); copy it again"):
            read_json(path)
    path.write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(path) == [1]
