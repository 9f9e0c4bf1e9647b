"""`python -m data_prep import`: archives and folders, and what must never happen."""

import io
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prepared import content, refused
from standins import RECIPE

from data_prep.__main__ import main
from papers_lib.datasets import cars196, classification_layouts
from papers_lib.datasets.cifar_files import BATCHES


def packed(source, target, around=""):
    """`source`'s content as a zip or tar, by the target's suffix, inside a folder `around`."""
    names = [p for p in sorted(source.rglob("*")) if p.is_file()]
    is_zip = target.suffix == ".zip"
    with zipfile.ZipFile(target, "w") if is_zip else tarfile.open(target, "w:gz") as archive:
        for path in names:
            (archive.write if is_zip else archive.add)(path, around + str(path.relative_to(source)))
    return target


def run(*arguments):
    return main(["import", *map(str, arguments)])


@pytest.mark.parametrize("suffix", ["zip", "tgz"])
@pytest.mark.parametrize("around", ["", "cars196/", "some folder/cars196/"])
def test_archives_arrive_whole(suffix, around, rendered, tmp_path):
    source = packed(rendered, tmp_path / f"é {suffix}.{suffix}", around)
    assert run("cars196", source, tmp_path / "data") == 0
    assert len(cars196.load(tmp_path / "data").files) == len(cars196.load(rendered).files)
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["cars196"]


def test_a_folder_is_copied_or_linked(rendered, tmp_path):
    assert run("cars196", rendered, tmp_path / "copied") == 0
    assert content(tmp_path / "copied" / "cars196") == content(rendered)
    assert run("cars196", rendered, tmp_path / "linked", "--link") == 0
    assert (tmp_path / "linked" / "cars196").is_symlink()
    assert cars196.load(tmp_path / "linked").fingerprint == cars196.load(rendered).fingerprint


def test_what_is_there_and_broken_is_not_touched(copy, rendered, capsys):
    root = copy()
    next((root / "cars196" / "stanford_cars" / "cars_train").iterdir()).unlink()
    (root / "cars196" / "notes.txt").write_text("mine")
    before = content(root)
    assert "move it away" in refused(capsys, "import", "cars196", rendered, root)
    assert content(root) == before


@pytest.mark.parametrize("link", [(), ("--link",)])
def test_what_does_not_pass_the_check_is_not_imported(link, copy, tmp_path, capsys):
    source = copy("broken")
    train = source / "cars196" / "stanford_cars" / "cars_train"
    (train / "00001.jpg").write_bytes(b"")
    (train / "00002.jpg").unlink()
    assert run("cars196", source, tmp_path / "data", *link) == 1
    found = capsys.readouterr().out.splitlines()
    assert len(found) == 2
    assert all(str(source) in line for line in found)
    assert not list((tmp_path / "data").glob("*"))  # not even a hidden one


def test_an_archive_of_something_else_and_a_link_of_one_are_refused(tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("birds/1.jpg", "")
    command = ["import", "cars196", tmp_path / "a.zip", tmp_path / "data"]
    said = refused(capsys, *command)
    assert said.startswith(f"error: no cars196 in {tmp_path / 'a.zip'}") and "nothing was imported" in said
    assert "--link needs a folder" in refused(capsys, *command, "--link")


SLOW = """
import shutil, signal, sys, time
from data_prep.__main__ import main
from papers_lib.entry import stop_politely
copy, removed = shutil.copyfile, shutil.rmtree
def copied(*paths):
    print('copying', flush=True); time.sleep(5); return copy(*paths)
def removing(*a, **k):
    print('removing', flush=True); time.sleep(0.3); return removed(*a, **k)
shutil.copyfile, shutil.rmtree = copied, removing
for name in ('SIGINT', 'SIGTERM', 'SIGHUP'):  # nohup, or a job in the background
    signal.signal(getattr(signal, name), signal.SIG_DFL)
stop_politely()
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def started(rendered, tmp_path):
    """An import of `rendered` in a process of its own, which waits in the middle of its copy."""
    command = [sys.executable, "-c", SLOW, "import", "cars196", rendered, tmp_path / "data"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert process.stdout is not None and process.stdout.readline() == b"copying\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_and_a_second_one_leave_nothing(name, started, tmp_path):
    started.send_signal(getattr(signal, name))
    assert started.stdout.readline() == b"removing\n"
    started.send_signal(signal.SIGTERM)
    assert started.wait(timeout=20) == 128 + getattr(signal, name)
    assert list((tmp_path / "data").iterdir()) == []


def test_what_a_killed_import_left_goes_with_the_next_one_and_a_living_one_stays(
    started, rendered, tmp_path, capsys
):
    root = tmp_path / "data"
    mine = root / ".cars196.0123abcd"
    (mine / "notes").mkdir(parents=True)
    held = {path.name for path in root.iterdir()}
    assert len(held) == 2
    assert run("cars196", rendered, root) == 0
    assert {path.name for path in root.iterdir()} == {*held, "cars196"}
    started.kill()
    started.wait()
    assert run("cars196_half", rendered, root) == 0
    assert {path.name for path in root.iterdir()} == {"cars196", "cars196_half", mine.name}


def test_a_folder_that_holds_none_of_it_is_refused_before_a_copy(tmp_path, monkeypatch, capsys):
    (tmp_path / "downloads" / "films").mkdir(parents=True)
    (tmp_path / "downloads" / "films" / "1.mkv").write_bytes(b"large")
    monkeypatch.delattr(shutil, "copyfile")
    said = refused(capsys, "import", "cars196", tmp_path / "downloads", tmp_path / "data")
    assert f"no cars196 in {tmp_path / 'downloads'}" in said
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("link", [(), ("--link",)])
def test_of_a_folder_with_other_things_the_data_set_alone_is_taken(link, copy, tmp_path):
    source = copy("my downloads")
    (source / "film.mkv").write_bytes(b"large")
    (source / "gone").symlink_to(tmp_path / "nowhere")
    assert run("cars196", source, tmp_path / "data", *link) == 0
    assert content(tmp_path / "data" / "cars196") == content(source / "cars196")
    assert run("cars196", source, source / "inside", *link) == 0  # beside the data set's folder, not in it


@pytest.mark.parametrize("link", [(), ("--link",)])
@pytest.mark.parametrize("through", ["", "root", "source"])
def test_a_root_inside_of_the_source_is_refused(link, through, copy, tmp_path, capsys):
    source = copy() / "cars196"
    root = source / "stanford_cars" / "data"
    root.mkdir()
    before = sorted(source.rglob("*"))
    (tmp_path / "link").symlink_to(root if through == "root" else source)
    places = {"": (source, root), "root": (source, tmp_path / "link"), "source": (tmp_path / "link", root)}
    said = refused(capsys, "import", "cars196", *places[through], *link)
    assert "choose a ROOT outside of it" in said
    assert sorted(source.rglob("*")) == before


SPOILED = {
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link back": lambda path: path.symlink_to(path.parent),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a pipe": os.mkfifo,
}


@pytest.mark.parametrize("what", SPOILED)
def test_what_cannot_be_copied_is_a_line(what, copy, tmp_path, capsys):
    source = copy("source")
    extra = source / "cars196" / "stanford_cars" / "extra"
    SPOILED[what](extra)
    assert str(extra) in refused(capsys, "import", "cars196", source, tmp_path / "data")
    assert not list((tmp_path / "data").iterdir())


def test_links_to_files_and_folders_elsewhere_are_followed(copy, rendered, tmp_path):
    source, aside = copy("source") / "cars196", tmp_path / "aside"
    shutil.move(source / "stanford_cars" / "cars_train", aside)
    (source / "stanford_cars" / "cars_train").symlink_to(aside)
    (source / "._stanford_cars").write_bytes(b"mac")  # is left out
    assert run("cars196", source, tmp_path / "data") == 0
    shutil.rmtree(aside)
    assert content(tmp_path / "data" / "cars196") == content(rendered)


def test_places_begin_at_home_and_here(copy, rendered, tmp_path, monkeypatch, capsys):
    copy("my source")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path / "my source")
    assert run("cars196", "~/my source", "~/to here") == 0
    assert run("cars196", "cars196", "and here") == 0
    for root in (tmp_path / "to here", tmp_path / "my source" / "and here"):
        assert content(root / "cars196") == content(rendered)
    assert main(["check", "cars196", "~/to here"]) == 0
    capsys.readouterr()
    for arguments in (
        ["import", "cars196", "~nobody-here/x", "data"],
        ["import", "cars196", "cars196", "~nobody-here/x"],
        ["make", "reid_from_images", "data", "-p", "images", "~nobody-here/x"],
    ):
        assert refused(capsys, *arguments).startswith("error: ~nobody-here/x: no such user's home")


@pytest.fixture
def zips(tmp_path, monkeypatch):
    """The two archives of a JPEG copy of CIFAR-10, of two classes, among other files."""
    known = classification_layouts.Known("CIFAR-10", (6, 2), 2, (), even=True)
    monkeypatch.setitem(classification_layouts.SETS, "cifar10", known)
    folder, image = tmp_path / "my archives", io.BytesIO()
    folder.mkdir()
    (folder / "README.md").write_text("not to be copied")
    Image.new("RGB", (8, 8), (90, 90, 90)).save(image, "JPEG")
    for side, count in (("train", 3), ("test", 1)):
        with zipfile.ZipFile(folder / f"cifar10_jpeg_{side}.zip", "w") as archive:
            for name in (f"{kind}/{i:04d}.jpg" for kind in ("cat", "dog") for i in range(count)):
                archive.writestr(f"{side}/{name}", image.getvalue())
                archive.writestr(f"__MACOSX/{side}/._{name.replace('/', '_')}", b"mac")
    return folder


def test_a_folder_with_the_two_archives(zips, tmp_path, capsys):
    assert run("cifar10", zips, tmp_path / "data") == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("CIFAR-10 (JPEG copy), class folders: 6 + 2 images, 2 classes: whole")
    assert captured.err == ""
    assert sorted(p.name for p in (tmp_path / "data" / "cifar10").iterdir()) == ["test", "train"]
    assert run("cifar10", zips, tmp_path / "data") == 0
    assert "there already, nothing imported" in capsys.readouterr().out


def test_half_of_the_archives(zips, tmp_path, capsys):
    (zips / "cifar10_jpeg_test.zip").unlink()
    said = refused(capsys, "import", "cifar10", zips, tmp_path / "data")
    assert "cifar10_jpeg_test.zip missing" in said
    assert run("cifar10", zips / "cifar10_jpeg_train.zip", tmp_path / "data") == 1
    assert "half a data set: test/ or val/ missing" in capsys.readouterr().out
    assert not (tmp_path / "data" / "cifar10").exists()


def test_the_official_archive_beside_other_files(tmp_path, capsys):
    batches = BATCHES["cifar10", "python"]
    pixels = {"labels": list(range(10)), "data": np.zeros((10, 3072), np.uint8)}
    parts = {file: pickle.dumps(pixels, 2) for file in (*batches.train, *batches.test)}
    parts["batches.meta"] = pickle.dumps({"label_names": [f"c{i}" for i in range(10)]}, 2)
    counts = {"train": 50, "test": 10, "classes": 10}
    parts["STANDIN.json"] = json.dumps(RECIPE | {"name": "cifar10", "counts": counts}).encode()
    folder, source = tmp_path / "unpacked", tmp_path / "downloads"
    folder.mkdir()
    for file, data in parts.items():
        (folder / file).write_bytes(data)
    source.mkdir()
    (source / "something.pdf").write_bytes(b"else")
    packed(folder, source / "cifar-10-python.tar.gz", "cifar-10-batches-py/")
    assert run("cifar10", source, tmp_path / "data") == 0
    captured = capsys.readouterr()
    assert "50 + 10 images, 10 classes: whole" in captured.out
    assert captured.err.count("is not the official file, by its MD5") == 7
    assert [p.name for p in (tmp_path / "data" / "cifar10").iterdir()] == ["cifar-10-batches-py"]
