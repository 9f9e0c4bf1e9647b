"""Every stand-in once, tiny: read it where it lies, or copy it before you break it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from prepared import TINY, draw


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn")
    for name in TINY:
        draw(root, name)
    return root


@pytest.fixture(scope="session")
def rendered(drawn: Path) -> Path:
    return drawn / "cars196"


@pytest.fixture
def copy(drawn: Path, tmp_path: Path) -> Callable[..., Path]:
    def at(place: str = "data", name: str = "cars196") -> Path:
        shutil.copytree(drawn / name, tmp_path / place / name)
        return tmp_path / place

    return at
