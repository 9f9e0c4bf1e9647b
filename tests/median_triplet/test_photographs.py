"""Photographs, which do not fit: views cut from all of them, the same whoever reads them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from standins import tell
from tiny_median import TINY

from papers_lib import pilot
from papers_lib.datasets import classification
from papers_lib.median_triplet import augment, images, training
from papers_lib.median_triplet.options import TrainSettings

CPU = torch.device("cpu")
PLAIN = augment.Recipe(jitter=0.0, gray=0.0, scale=(0.1, 0.5), bicubic=True)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five classes of 4 + 2 pictures of two shapes: red grows to the right, green down."""
    root = tmp_path_factory.mktemp("data")
    for number in range(5):
        for side, count in (("train", 4), ("val", 2)):
            folder = root / "imagenet" / side / f"n{number:08d}"
            folder.mkdir(parents=True)
            for i in range(count):
                height, width = ((96, 160), (120, 80))[i % 2]
                picture = np.full((height, width, 3), 50 * number, np.uint8)
                picture[:, :, 0] = np.linspace(0, 255, width)
                picture[:, :, 1] = np.linspace(0, 255, height)[:, None]
                Image.fromarray(picture).save(folder / f"{i}.JPEG", quality=95)
    tell(root / "imagenet", "imagenet", {"train": 20, "test": 10, "classes": 5})
    return root


def settings(**changes: Any) -> TrainSettings:
    return TrainSettings.model_validate(TINY | {"image_size": 16, "batch_size": 4} | changes)


def load(root: Path, **changes: Any) -> images.Loaded:
    return images.load((str(root), "imagenet"), settings(**changes), CPU)


def views(
    root: Path, order: list[list[int]], recipes: tuple[augment.Recipe, ...], epoch: int = 0, seed: int = 0
) -> dict[int, torch.Tensor]:
    """The pair of views of each image, [2, 3, 16, 16]."""
    batches = load(root).train.views([torch.tensor(batch) for batch in order], recipes, seed, epoch, 16)
    return {
        index: torch.stack([view[i] for view in pair])
        for batch, pair in zip(order, batches, strict=True)
        for i, index in enumerate(batch)
    }


def test_views_are_cut_from_the_whole_photograph(root):
    """Each view is a window of the two ramps, which reaches where no middle square does."""
    mean, sd = (torch.tensor(x)[:, None, None] for x in (augment.MEAN, augment.SD))
    reached, mirrored = [], 0
    for epoch in range(8):
        for pair in views(root, [list(range(0, 20, 2))], (PLAIN, PLAIN), epoch).values():  # 160 wide, 96 high
            for view in pair * sd + mean:
                red, green = view[0].mean(0), view[1].mean(1)
                step = red.diff()
                assert (step > -0.01).all() or (step < 0.01).all()
                assert (green.diff() > -0.01).all()  # never upside down
                assert step.abs().max() < 0.08 and torch.allclose(view[0], red.expand(16, 16), atol=0.05)
                mirrored += int(step.mean() < 0)
                reached += red.tolist()
    assert min(reached) < 0.08 and max(reached) > 0.92  # the middle square is 0.2 … 0.8
    assert 40 < mirrored < 120  # of 160


def test_an_image_has_its_views_whatever_the_order_batches_and_workers(root, monkeypatch):
    for recipes, close in (((PLAIN, PLAIN), 0), (augment.RECIPES["byol"], 1e-4)):  # crops, and colours too
        monkeypatch.setenv("PAPERS_WORKERS", "1")
        one = views(root, [[0, 1, 2], [3, 4, 5]], recipes)
        monkeypatch.setenv("PAPERS_WORKERS", "2")
        two = views(root, [[5, 2], [4, 0], [3, 1]], recipes)
        for i in range(6):
            torch.testing.assert_close(one[i], two[i], rtol=close, atol=close)
            assert not torch.equal(one[i][0], one[i][1])
        for other in (views(root, [[0]], recipes, epoch=1), views(root, [[0]], recipes, seed=1)):
            assert not torch.equal(other[0], one[0])


def test_what_is_scored_is_the_middle_of_the_middle_square(root):
    """Resize to 8/7, centre crop: as the resident images, which are scaled twice."""
    loaded, survey = load(root), classification.load(root, "imagenet")
    scored = torch.cat(list(images.plain(loaded.test, 16, batch_size=3)))
    square = torch.from_numpy(np.array(classification.load_images(survey.test, 64)))
    assert scored.shape == (10, 3, 16, 16)
    assert (scored - augment.plain(square, 16)).abs().mean() < 0.05


@pytest.mark.parametrize("method", ["triplet", "deepcluster", "rotation"])
def test_a_run_is_the_same_with_and_without_workers_and_resumed(root, tmp_path, monkeypatch, method):
    results = []
    for workers in ("1", "2"):
        monkeypatch.setenv("PAPERS_WORKERS", workers)
        folder = tmp_path / workers
        folder.mkdir()
        result = training.train(settings(method=method), (str(root), "imagenet"), folder, "cpu")
        for entry in result["history"]:
            del entry["seconds"], entry["waiting"]
        del result["waiting"]
        results.append(result)
    assert results[0] == results[1] and results[0]["images"] == 20


def test_a_pilot_takes_a_few_steps_and_the_memory_of_all_images(root, tmp_path):
    with pilot.measuring(True) as noted:
        result = training.train(settings(epochs=50, batch_size=3), (str(root), "imagenet"), tmp_path, "cpu")
    assert len(result["history"]) == 2 and result["images"] == 20
    found = noted.summary()
    assert (found["epochs"], found["steps"]) == (50, 6) and found["seconds"] > 6 * 50 * found["step"]
