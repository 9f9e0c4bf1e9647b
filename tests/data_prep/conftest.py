"""One tiny stand-in for all tests of this folder, to be copied before it is broken."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from data_prep import cars196


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rendered") / "cars196"
    folder.mkdir()
    cars196.STAND_IN.make(folder, "smoke", {"per_model": "4", "pixels": "16"})
    return folder


@pytest.fixture
def copy(rendered: Path, tmp_path: Path) -> Callable[[str], Path]:
    def at(place: str = "data") -> Path:
        shutil.copytree(rendered, tmp_path / place / "cars196")
        return tmp_path / place

    return at
