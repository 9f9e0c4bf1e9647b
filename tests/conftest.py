"""Shared: a tiny rendered data set, and places that no test shares with the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from data_prep import cars196

# Where tests marked `cuda` compute; PAPERS_GPU_TESTS=cpu runs those of them that need not have a card.
GPU = os.environ.get("PAPERS_GPU_TESTS") or ("cuda" if torch.cuda.is_available() else "")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where none is."""
    placed = torch.cuda.is_available() or (GPU and "gpu" in getattr(item, "fixturenames", ()))
    if item.get_closest_marker("cuda") and not placed:
        pytest.skip("needs a GPU")


@pytest.fixture
def gpu() -> str:
    """The device of a test that runs on a GPU, or in its place."""
    return GPU


@pytest.fixture(scope="session")
def tiny_cars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds `cars196/`: 40 rendered models, about four images of 16 px each."""
    root = tmp_path_factory.mktemp("data")
    folder = root / "standin" / "cars196"
    folder.mkdir(parents=True)
    cars196.STAND_IN.make(folder, "smoke", {"per_model": "4", "pixels": "16"})
    return root


@pytest.fixture
def places(tmp_path: Path, tiny_cars: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs, figures and data of a test of its own."""
    monkeypatch.setenv("PAPERS_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("PAPERS_FIGURES", str(tmp_path / "figures"))
    monkeypatch.setenv("PAPERS_LEDGER", str(tmp_path / "figures"))
    monkeypatch.setenv("PAPERS_DATA", str(tiny_cars))
    return tmp_path


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No data set is there."""
    monkeypatch.setenv("PAPERS_DATA", str(tmp_path / "nothing"))
