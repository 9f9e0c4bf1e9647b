"""What is of ImageNet alone: its two accuracies, its rate, and pictures that workers cannot read."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from standins import tell
from torchvision.transforms import v2

from papers_lib.datasets import classification
from papers_lib.errors import PapersError
from papers_lib.nar.fitting import quiet
from papers_lib.nar.imagenet import training
from papers_lib.nar.options import ImageNetSettings

CLASSES = 6
SETTINGS = ImageNetSettings(
    width=4,
    image_size=32,
    resize=36,
    epochs=2,
    batch_size=6,
    step_epochs=1,
    lr=0.05,
    precision="float32",
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six classes of 4 + 2 pictures of one colour per class, of two shapes."""
    root = tmp_path / "data"
    for number in range(CLASSES):
        for side, total in (("train", 4), ("val", 2)):
            folder = root / "imagenet" / side / f"n{number:08d}"
            folder.mkdir(parents=True)
            for i in range(total):
                shape = (48, 40, 3) if i % 2 else (40, 56, 3)
                Image.fromarray(np.full(shape, 40 * number, np.uint8)).save(folder / f"{i}.JPEG")
    tell(root / "imagenet", "imagenet", {"train": 4 * CLASSES, "test": 2 * CLASSES, "classes": CLASSES})
    return root


def test_accuracies_are_those_of_a_plain_loop_and_the_rate_falls_to_a_tenth(root):
    fit = training.ImageNetFit(SETTINGS, classification.load(root, "imagenet"), torch.device("cpu"))
    rates = []
    for _ in range(2):
        fit.run_epoch()
        rates.append(fit.optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx([0.05, 0.005])
    result, right = fit.accuracies(), {1: 0, 5: 0}
    mean, sd = (torch.tensor(x)[:, None, None] for x in (training.MEAN, training.SD))
    testing = v2.Compose([v2.Resize(SETTINGS.resize), v2.CenterCrop(SETTINGS.image_size), v2.PILToTensor()])
    for file, label in zip(fit.test.images, fit.test.labels, strict=True):
        pixels = testing(Image.open(file).convert("RGB"))
        order = fit.network(((pixels / 255 - mean) / sd)[None])[0].argsort(descending=True).tolist()
        for k in right:
            right[k] += int(label) in order[:k]
    total = 2 * CLASSES
    assert result == pytest.approx({"accuracy": right[1] / total, "top_5": right[5] / total}, abs=1e-6)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_broken_picture_is_one_clear_line(root, tmp_path, workers, monkeypatch):
    monkeypatch.setenv("PAPERS_WORKERS", workers)
    broken = root / "imagenet" / "train" / "n00000002" / "1.JPEG"
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(PapersError, match=r"1\.JPEG is not a whole image") as caught:
        training.train(SETTINGS, (str(root), "imagenet"), tmp_path, "cpu", quiet)
    assert "\n" not in str(caught.value) and "Error:" not in str(caught.value)
    del caught
    gc.collect()  # ends the workers here and not in the midst of another test


def test_a_middle_larger_than_the_image_is_refused(root, tmp_path):
    with pytest.raises(PapersError, match="image_size=40 of resize=36"):
        training.train(
            SETTINGS.model_copy(update={"image_size": 40}), (str(root), "imagenet"), tmp_path, "cpu", quiet
        )
