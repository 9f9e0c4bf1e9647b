"""`python -m data_prep import`: archives and folders, and what must never happen."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from data_prep.__main__ import main
from papers_lib.datasets import cars196


def packed(source: Path, target: Path, around: str = "") -> Path:
    """`source`'s content as a zip or tar, by the target's suffix, inside a folder `around`."""
    names = [p for p in sorted(source.rglob("*")) if p.is_file()]
    if target.suffix == ".zip":
        with zipfile.ZipFile(target, "w") as archive:
            for path in names:
                archive.write(path, around + str(path.relative_to(source)))
    else:
        with tarfile.open(target, "w:gz") as archive:
            for path in names:
                archive.add(path, around + str(path.relative_to(source)))
    return target


def run(*arguments: object) -> int:
    return main(["import", *map(str, arguments)])


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("suffix", ["zip", "tgz"])
@pytest.mark.parametrize("around", ["", "cars196/", "some folder/cars196/"])
def test_archives_arrive_whole(suffix, around, rendered, tmp_path, capsys):
    source = packed(rendered, tmp_path / f"é {suffix}.{suffix}", around)
    assert run("cars196", source, tmp_path / "data") == 0
    assert "whole" in capsys.readouterr().out
    assert len(cars196.load(tmp_path / "data").files) == len(cars196.load(rendered).files)
    assert [p.name for p in (tmp_path / "data").iterdir()] == ["cars196"]


def test_a_folder_is_copied_or_linked(rendered, tmp_path):
    assert run("cars196", rendered, tmp_path / "copied") == 0
    assert content(tmp_path / "copied" / "cars196") == content(rendered)
    assert run("cars196", rendered, tmp_path / "linked", "--link") == 0
    assert (tmp_path / "linked" / "cars196").is_symlink()
    assert cars196.load(tmp_path / "linked").fingerprint == cars196.load(rendered).fingerprint


def test_the_half_arrives_under_its_own_name(rendered, tmp_path):
    assert run("cars196_half", rendered, tmp_path) == 0
    assert cars196.load(tmp_path, "cars196_half").name == "cars196_half"


def test_what_is_there_and_whole_is_left_alone(copy, rendered, tmp_path, capsys):
    root = copy()
    before = content(root)
    assert run("cars196", rendered, root) == 0
    assert "nothing imported" in capsys.readouterr().out
    assert content(root) == before


def test_what_is_there_and_broken_is_not_touched(copy, rendered, capsys):
    root = copy()
    next((root / "cars196" / "stanford_cars" / "cars_train").iterdir()).unlink()
    (root / "cars196" / "notes.txt").write_text("mine")
    before = content(root)
    assert run("cars196", rendered, root) == 2
    assert "move it away" in capsys.readouterr().err
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
    assert not (tmp_path / "data" / "cars196").exists()
    assert not list((tmp_path / "data").glob(".*")) if (tmp_path / "data").exists() else True


@pytest.mark.parametrize(
    "name", ["../evil.txt", "/tmp/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:/evil"]
)
@pytest.mark.parametrize("suffix", ["zip", "tgz"])
def test_an_archive_cannot_reach_outside(name, suffix, tmp_path, capsys):
    source = tmp_path / f"evil.{suffix}"
    if suffix == "zip":
        with zipfile.ZipFile(source, "w") as archive:
            archive.writestr(name, "evil")
    else:
        with tarfile.open(source, "w:gz") as archive:
            info = tarfile.TarInfo(name)
            info.size = 4
            archive.addfile(info, io.BytesIO(b"evil"))
    assert run("cars196", source, tmp_path / "in" / "data") == 2
    assert "reaches outside" in capsys.readouterr().err
    assert {p.name for p in tmp_path.rglob("*")} == {source.name, "in", "data"}


def test_a_link_out_of_a_tar_is_refused(tmp_path, capsys):
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as archive:
        info = tarfile.TarInfo("cars_train")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(info)
    assert run("cars196", tmp_path / "a.tgz", tmp_path / "data") == 2
    assert "a.tgz holds 'cars_train', which is a link" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["zip", "tgz"])
def test_a_broken_archive_is_one_line(suffix, rendered, tmp_path, capsys):
    source = packed(rendered, tmp_path / f"a.{suffix}")
    source.write_bytes(source.read_bytes()[:-2000])
    assert run("cars196", source, tmp_path / "data") == 2
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 1
    assert "fetch it again" in captured.err
    assert not list((tmp_path / "data").iterdir())


def test_an_archive_of_something_else(tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("birds/1.jpg", "")
    assert run("cars196", tmp_path / "a.zip", tmp_path / "data") == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: no cars196 in {tmp_path / 'a.zip'}")
    assert "nothing was imported" in message
    assert len(message.splitlines()) == 1


def test_link_of_a_file_is_refused(tmp_path, capsys):
    (tmp_path / "a.zip").write_bytes(b"")
    assert run("cars196", tmp_path / "a.zip", tmp_path / "data", "--link") == 2
    assert "--link needs a folder" in capsys.readouterr().err


def test_interrupted_unpacking_leaves_nothing(rendered, tmp_path, monkeypatch):
    source = packed(rendered, tmp_path / "a.zip")
    monkeypatch.setattr(zipfile.ZipFile, "extract", _interrupt)
    assert run("cars196", source, tmp_path / "data") == 130
    assert not list((tmp_path / "data").iterdir())
    monkeypatch.undo()
    assert run("cars196", source, tmp_path / "data") == 0
    shutil.rmtree(tmp_path / "data")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def started(rendered, tmp_path):
    """An import of `rendered` in a process of its own, which waits in the middle of its copy."""
    code = (
        "import shutil, signal, sys, time\n"
        "from data_prep.__main__ import main\n"
        "from papers_lib.entry import stop_politely\n"
        "copy, removed = shutil.copyfile, shutil.rmtree\n"
        "def copied(*paths):\n"
        "    print('copying', flush=True); time.sleep(5); return copy(*paths)\n"
        "def removing(*a, **k):\n"
        "    print('removing', flush=True); time.sleep(0.3); return removed(*a, **k)\n"
        "shutil.copyfile, shutil.rmtree = copied, removing\n"
        "for name in ('SIGINT', 'SIGTERM', 'SIGHUP'):\n"  # nohup, or a job in the background
        "    signal.signal(getattr(signal, name), signal.SIG_DFL)\n"
        "stop_politely()\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    command = [sys.executable, "-c", code, "import", "cars196", rendered, tmp_path / "data"]
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
    monkeypatch.setattr(shutil, "copyfile", _interrupt)
    assert run("cars196", tmp_path / "downloads", tmp_path / "data") == 2
    assert f"no cars196 in {tmp_path / 'downloads'}" in capsys.readouterr().err
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
    assert run("cars196", *places[through], *link) == 2
    assert "choose a ROOT outside of it" in capsys.readouterr().err
    assert sorted(source.rglob("*")) == before


def _nowhere(path: Path) -> None:
    path.symlink_to("nowhere")


def _back(path: Path) -> None:
    path.symlink_to(path.parent)


def _itself(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize("spoil", [_nowhere, _back, _itself, os.mkfifo])
def test_what_cannot_be_copied_is_a_line(spoil, copy, tmp_path, capsys):
    source = copy("source")
    spoil(source / "cars196" / "stanford_cars" / "extra")
    assert run("cars196", source, tmp_path / "data") == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert str(source / "cars196" / "stanford_cars" / "extra") in said
    assert not list((tmp_path / "data").iterdir())


def test_links_to_files_and_folders_elsewhere_are_followed(copy, rendered, tmp_path):
    source, aside = copy("source") / "cars196", tmp_path / "aside"
    shutil.move(source / "stanford_cars" / "cars_train", aside)
    (source / "stanford_cars" / "cars_train").symlink_to(aside)
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
        assert main(arguments) == 2
        assert capsys.readouterr().err.startswith("error: ~nobody-here/x: no such user's home")
