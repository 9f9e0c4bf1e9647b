"""A camera network small enough to train on in a second: coloured noise in the Market-1501 layout."""

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


def write_network(folder, people):
    """12 `people` to learn from, whose numbers change no pixel, 8 others to find, and STANDIN.json."""
    others = list(range(101, 109))
    write_market(folder, people)
    write_market(folder, others, "query", only=1)
    write_market(folder, others, "bounding_box_test")
    tell(folder, "market1501", {"train": 144, "query": 24, "gallery": 96})


@pytest.fixture
def network():
    return write_network


@pytest.fixture(scope="session")
def tiny_market(tmp_path_factory):
    """A folder that holds `market1501/`."""
    root = tmp_path_factory.mktemp("networks")
    write_network(root / "market1501", list(range(1, 13)))
    return root
