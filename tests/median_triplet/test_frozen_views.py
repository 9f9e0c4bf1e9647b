"""Frozen features of fixed views as a run's images, and the work of a step on them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_median import TINY

from papers_lib.datasets import features
from papers_lib.evaluation.probes import knn_accuracy
from papers_lib.median_triplet import images, meters, methods, training
from papers_lib.median_triplet.options import TrainSettings

NAME, N, VIEWS, D = "cifar10_views_features", 60, 4, 64


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 training images of ten classes in four views each, and 20 test images.

    A row holds image, view and class in its first three components, to be known by.
    """
    folder = tmp_path_factory.mktemp("data")
    fine = np.arange(N) % 10
    image, view = np.tile(np.arange(N), VIEWS), np.repeat(np.arange(VIEWS), N)
    values = np.random.default_rng(0).normal(size=(N * VIEWS + 20, D)).astype(np.float32)
    values[: N * VIEWS, :3] = np.stack([image, view, fine[image]], 1)
    labels = {
        "fine": np.concatenate([fine[image], np.arange(20) % 10]),
        "view": np.concatenate([view, np.zeros(20, int)]),
        "test": np.repeat([0, 1], [N * VIEWS, 20]),
    }
    features.save(folder / NAME / features.FILE, values, {k: v.astype(np.uint8) for k, v in labels.items()})
    return folder


def load(root: Path, **changes: Any) -> images.Loaded:
    asked = TrainSettings.model_validate(TINY | {"backbone": "mlp64"} | changes)
    return images.load((str(root), NAME), asked, torch.device("cpu"))


def test_a_training_image_has_its_views_and_a_test_image_one(root):
    loaded = load(root)
    assert loaded.train.shape == (N, VIEWS, D) and loaded.test.shape == (20, 1, D)
    # to the step of int8 codes
    assert torch.allclose(loaded.train[:, :, 0], torch.arange(float(N))[:, None].expand(N, VIEWS), atol=0.3)
    assert torch.allclose(loaded.train[:, :, 1], torch.arange(float(VIEWS)).expand(N, VIEWS), atol=0.1)
    assert loaded.train_labels.tolist() == [i % 10 for i in range(N)]
    assert loaded.classes == 10


def test_a_batch_takes_two_different_random_views_of_each_image(root):
    train = load(root).train
    seen = set()
    for epoch in range(50):
        one, two = next(images.views(train, [torch.arange(N)], [None, None], 0, epoch, 0))
        assert torch.equal(one[:, 0].round(), two[:, 0].round())  # of one image
        pairs = torch.stack((one[:, 1], two[:, 1]), 1).round().int()
        assert (pairs[:, 0] != pairs[:, 1]).all() and pairs.min() == 1  # never the image as it is
        seen |= {tuple(pair) for pair in pairs.tolist()}
        # of an image they are the same in any batch
        some = torch.tensor([31, 2, 7])
        alone = next(images.views(train, [some], [None, None], 0, epoch, 0))
        assert torch.equal(alone[0], one[some]) and torch.equal(alone[1], two[some])
    assert len(seen) == 6  # all ordered pairs of three
    assert (next(images.plain(train, 0))[:, 1].abs() < 0.1).all()


def test_the_seed_chooses_classes_alike_in_both_halves_and_numbers_them_anew(root):
    chosen = []
    for seed in range(5):
        loaded = load(root, classes=2, seed=seed, images=8)
        assert loaded.classes == 2 and loaded.train_labels.bincount().tolist() == [4, 4]
        assert loaded.test_labels.bincount().tolist() == [2, 2]
        # by the class that each row holds
        kinds = loaded.train[:, 0, 2].round().int()
        classes = [kinds[loaded.train_labels == label].unique().tolist() for label in (0, 1)]
        assert [len(found) for found in classes] == [1, 1]
        chosen.append((*classes[0], *classes[1]))
    assert len(set(chosen)) > 1 and all(a < b for a, b in chosen)


def test_the_work_of_a_step_is_that_of_its_matrix_products(root):
    """Supervised on features: three linear layers; the first needs no gradient of its inputs."""
    asked = TrainSettings.model_validate(TINY | {"backbone": "mlp64", "method": "supervised"})
    method = methods.build("supervised", asked, N, 10)
    loop = training.Loop(asked, method, load(root))
    batch = next(loop.read(loop.order(), 0))
    first, inner, last = 64 * 256, 256 * 256, 256 * 10
    # 2 per multiply-accumulate: forwards, gradients of weights, gradients of inputs
    work = 2 * (2 * (first + inner + last) + inner + last)
    for precision in ("float32", "bfloat16"):  # what needs half the memory is as much work
        assert meters.flops(method, batch, precision) == work
    assert meters.flops(methods.build("random", asked, N, 10), batch, "float32") == 0


def test_counting_the_work_of_a_step_runs_in_the_precision_of_training(root):
    asked = TrainSettings.model_validate(TINY | {"backbone": "mlp64", "precision": "bfloat16"})
    method = methods.build("supervised", asked, N, 10)
    loop = training.Loop(asked, method, load(root))
    counted = []

    def flops(_method, _batch, precision):
        counted.append(precision)
        return 0.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meters, "flops", flops)
        loop.read_start()
    assert counted == ["bfloat16"]


def test_the_start_says_how_the_features_are_without_a_network(root, tmp_path):
    asked = TrainSettings.model_validate(TINY | {"backbone": "mlp64", "epochs": 1})
    result = training.train(asked, (str(root), NAME), tmp_path, "cpu")
    data = load(root)
    sides = (data.train[:, 0], data.train_labels, data.test[:, 0], data.test_labels)
    assert result["start"]["knn_features"] == round(knn_accuracy(*sides, asked.knn_k, asked.knn_tau), 6)
    assert (result["classes"], result["images"]) == (10, N)
