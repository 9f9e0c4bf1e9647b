"""Every data set in a folder of its own, and copies of one to be damaged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_sets import BUILD


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("every")
    for name, build in BUILD.items():
        (root / name).mkdir()
        build(root / name)
    return root


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Callable[..., Path]:
    def to(name: str, place: str = "here") -> Path:
        return Path(shutil.copytree(made / name, tmp_path / place))

    return to
