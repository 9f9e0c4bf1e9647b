"""A camera network small enough to train on in a second: coloured noise in the Market-1501 layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from standins import tell

CAMERAS = 3
PER_CAMERA = 4


def write_market(folder: Path, people: list[int], name: str = "bounding_box_train", only: int = 0) -> None:
    """Images of `people`, a colour each that every camera tints: a file a person, camera and frame."""
    side = folder / name
    side.mkdir(parents=True, exist_ok=True)
    for place, person in enumerate(people):
        rng = np.random.default_rng([place, len(name)])
        body = np.random.default_rng(place).integers(40, 215, (4, 1, 3))
        for camera in range(CAMERAS):
            for frame in range(only or PER_CAMERA):
                noise = rng.normal(0, 12, (16, 8, 3)) + 10 * camera
                pixels = np.clip(body.repeat(4, 0) + noise, 0, 255).astype(np.uint8)
                file = f"{person:04d}_c{camera + 1}s1_{frame:06d}_00.jpg"
                Image.fromarray(pixels).save(side / file, quality=95)


@pytest.fixture(scope="session")
def tiny_market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds `market1501/`: 12 people to learn from, 8 others to find, and STANDIN.json."""
    root = tmp_path_factory.mktemp("networks")
    _network(root / "market1501", list(range(1, 13)))
    return root


@pytest.fixture
def network() -> Callable[[Path, list[int]], None]:
    """Writes a camera network whose training people bear the numbers given; the pixels are the same."""
    return _network


def _network(folder: Path, people: list[int]) -> None:
    write_market(folder, people)
    others = list(range(101, 109))
    write_market(folder, others, "query", only=1)
    write_market(folder, others, "bounding_box_test")
    tell(folder, "market1501", {"train": 144, "query": 24, "gallery": 96})
