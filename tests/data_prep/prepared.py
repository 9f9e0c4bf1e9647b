"""What the tests of this folder share: tiny recipes, and how a command is called and refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_prep.__main__ import _datasets, main

PEOPLE = {"train_ids": "5", "test_ids": "2", "distractors": "2", "junk": "2"}
NETWORK = {"train_ids": "12", "test_ids": "2"}  # enough people for each camera to see somebody
PICTURES = {"classes": "10", "train": "3", "test": "2"}
SCENES = {"train": "5", "test": "4", "pixels": "64"}
FACES = {"identities": "4", "shots": "3", "pairs": "1", "pixels": "24"}
TINY: dict[str, dict[str, str]] = {
    "cars196": {"per_model": "4", "pixels": "16"},
    "market1501": PEOPLE,
    "dukemtmc": PEOPLE,
    "msmt17_v1": NETWORK,
    "msmt17_v2": NETWORK,
    "pedestrians_warmup": PEOPLE,
    "pedestrians_many": PEOPLE,
    "cifar10": PICTURES,
    "cifar100": PICTURES,
    "imagenette": PICTURES,
    "imagenet": PICTURES,
    "sysu30k": {"bags": "2", "people": "2", "queries": "2", "distractors": "2"},
    "coco2017": SCENES,
    "voc0712": SCENES,
    "faces_emore": FACES,
    "faces_own": FACES,
    "lfw": FACES,
}


def settings(**options: object) -> list[str]:
    """`-p NAME VALUE` of each."""
    return [word for name, value in options.items() for word in ("-p", name, str(value))]


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def times(folder: Path) -> dict[Path, int]:
    """When each was changed: equal before and after where nothing was touched."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def draw(root: Path, name: str, **options: str) -> Path:
    """The tiny stand-in of `name` with some settings changed, at `root / name`."""
    (root / name).mkdir(parents=True)
    _datasets()[name].stand_in.make(root / name, "smoke", TINY[name] | options)
    return root / name


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line in which a command refuses bad input."""
    assert main(list(map(str, arguments))) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    return captured.err
