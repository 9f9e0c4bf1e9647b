"""Images for runs that take a moment."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from standins import tell

from data_prep import faces


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CIFAR-10 of 8 + 2 noisy images per class, ImageNet of 6 classes of 4 + 2 in two shapes, drawn faces."""
    root, random = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for number, (side, total) in itertools.product(range(10), (("train", 8), ("test", 2))):
        folder = root / "cifar10" / side / f"class{number}"
        folder.mkdir(parents=True)
        for i in range(total):
            pixels = np.clip(random.normal(20 * number + 20, 30, (8, 8, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    tell(root / "cifar10", "cifar10", {"train": 80, "test": 20, "classes": 10})
    for number, (side, total) in itertools.product(range(6), (("train", 4), ("val", 2))):
        folder = root / "imagenet" / side / f"n{number:08d}"
        folder.mkdir(parents=True)
        for i in range(total):
            shape = (48, 40, 3) if i % 2 else (40, 56, 3)
            pixels = random.integers(40 * number, 40 * number + 40, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.JPEG")
    tell(root / "imagenet", "imagenet", {"train": 24, "test": 12, "classes": 6})
    for name in ("faces_own", "lfw"):
        (root / name).mkdir()
        recipe = {"identities": "5", "shots": "6", "pairs": "1", "pixels": "16"}
        faces.STAND_INS[name].make(root / name, "smoke", recipe)
    return root
