"""Training on ImageNet's layout: a tiny copy of drawn colours, resumed, tested, and broken."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from standins import tell

from papers_lib import checkpoint
from papers_lib.datasets import classification
from papers_lib.errors import PapersError
from papers_lib.nar.counting import count
from papers_lib.nar.imagenet import training
from papers_lib.nar.imagenet.options import ImageNetSettings

TINY = {
    "vector": (1, 0, 0, 0, 0, 0, 0, 0), "width": 4, "image_size": 32, "resize": 36, "epochs": 2,
    "batch_size": 6, "step_epochs": 1, "lr": 0.05, "workers": 0, "precision": "float32",
}  # fmt: skip
CLASSES = 6


@pytest.fixture
def data(tmp_path: Path) -> tuple[str, str]:
    """Six classes of 4 + 2 pictures of one colour a class, of two shapes."""
    root = tmp_path / "data"
    for number in range(CLASSES):
        for side, total in (("train", 4), ("val", 2)):
            folder = root / "imagenet" / side / f"n{number:08d}"
            folder.mkdir(parents=True)
            for i in range(total):
                shape = (48, 40, 3) if i % 2 else (40, 56, 3)
                pixels = np.full(shape, 40 * number, np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.JPEG")
    counts = {"train": 4 * CLASSES, "test": 2 * CLASSES, "classes": CLASSES}
    tell(root / "imagenet", "imagenet", counts)
    return str(root), "imagenet"


def go(data: tuple[str, str], folder: Path, **changes: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    settings = ImageNetSettings.model_validate(TINY | changes)
    return training.train(settings, data, folder, "cpu", lambda *_: None)


def timeless(found: dict[str, Any]) -> dict[str, Any]:
    history = [{k: v for k, v in entry.items() if k != "seconds"} for entry in found["history"]]
    return found | {"history": history}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_training_goes_on_as_if_nothing_had_happened(data, tmp_path, monkeypatch, workers):
    whole = go(data, tmp_path / "whole", workers=workers)
    save = checkpoint.save

    def killed(path: Path, state: dict[str, Any]) -> None:
        save(path, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        go(data, tmp_path / "half", workers=workers)
    monkeypatch.setattr(checkpoint, "save", save)
    assert timeless(go(data, tmp_path / "half", workers=workers)) == timeless(whole)
    cost = count(TINY["vector"], "resnet18", "A", 32, CLASSES, 4)
    assert (whole["parameters"], whole["multiply_accumulates"]) == cost


def test_accuracies_are_those_of_a_plain_loop_over_single_pictures(data):
    settings = ImageNetSettings.model_validate(TINY)
    loop = training.Loop(settings, classification.load(Path(data[0]), "imagenet"), torch.device("cpu"))
    loop.run_epoch()
    found = loop.accuracies()
    right = {1: 0, 5: 0}
    loop.network.eval()
    for file, label in zip(loop.test.dataset.split.images, loop.test.dataset.split.labels, strict=True):
        pixels = training.transforms(settings)[1](Image.open(file).convert("RGB"))
        image = (pixels / 255 - torch.tensor(training.MEAN)[:, None, None]) / torch.tensor(training.SD)[
            :, None, None
        ]
        order = loop.network(image[None])[0].argsort(descending=True).tolist()
        for k in right:
            right[k] += int(label) in order[:k]
    total = 2 * CLASSES
    assert found == pytest.approx({"accuracy": right[1] / total, "top_5": right[5] / total}, abs=1e-6)


def test_the_rate_falls_to_a_tenth_by_steps(data, tmp_path):
    settings = ImageNetSettings.model_validate(TINY)
    loop = training.Loop(settings, classification.load(Path(data[0]), "imagenet"), torch.device("cpu"))
    rates = []
    for _ in range(2):
        loop.run_epoch()
        rates.append(loop.optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx([0.05, 0.005])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_picture_is_one_clear_line(data, tmp_path, workers):
    broken = Path(data[0]) / "imagenet" / "train" / "n00000002" / "1.JPEG"
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(PapersError, match=r"1\.JPEG is not a whole image") as caught:
        go(data, tmp_path / "run", workers=workers)
    assert "\n" not in str(caught.value) and "Error:" not in str(caught.value)
    del caught
    gc.collect()  # ends the workers here and not in the midst of another test


def test_fewer_images_than_a_batch_are_refused(data, tmp_path):
    with pytest.raises(PapersError, match="24 training images do not fill one batch of 25"):
        go(data, tmp_path / "run", batch_size=25)
