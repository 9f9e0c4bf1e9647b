"""A run from images to accuracy: repeatable, resumable, and blind to labels but for the probes."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from standins import tell

from papers_lib import checkpoint
from papers_lib.errors import PapersError
from papers_lib.median_triplet import meters, training
from papers_lib.median_triplet.images import subset
from papers_lib.median_triplet.methods.base import Batch
from papers_lib.median_triplet.methods.frame import OnlineTarget
from papers_lib.median_triplet.options import TrainSettings
from papers_lib.median_triplet.training import train

TINY = {
    "image_size": 8, "backbone": "tiny16", "projector_hidden": 16, "projector_out": 8,
    "random_resolution": False,
    "optimiser": "sgd", "lr": 0.05, "batch_size": 8, "accumulation": 1, "epochs": 2, "warm_up_epochs": 0.0,
    "knn_every": 1, "knn_k": 5, "probe_epochs": 2, "precision": "float32", "queue": 16, "recipe": "cifar",
}  # fmt: skip
CLASSES = tuple("abcdefghij")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten classes of 4 + 2 images of noise around a colour of the class."""
    root = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for number, name in enumerate(CLASSES):
        for side, count in (("train", 4), ("test", 2)):
            folder = root / "cifar10" / side / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = np.clip(random.normal(20 * number + 20, 30, (8, 8, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    tell(root / "cifar10", "cifar10", {"train": 40, "test": 20, "classes": 10})
    return root


def settings(**changes: Any) -> TrainSettings:
    return TrainSettings.model_validate(TINY | changes)


def go(data: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    return train(settings(**changes), (str(data), "cifar10"), folder, "cpu")


def timeless(found: dict[str, Any]) -> dict[str, Any]:
    """A result without what the clock says."""
    history = [
        {k: v for k, v in entry.items() if k not in ("seconds", "waiting")} for entry in found["history"]
    ]
    return {k: v for k, v in found.items() if k != "waiting"} | {"history": history}


@pytest.mark.parametrize(
    "method", ["triplet", "byol", "simclr", "moco_v2", "deepcluster", "rotation", "supervised"]
)
def test_a_method_trains_and_repeats_itself(data, tmp_path, method):
    one, two = (go(data, tmp_path / name, method=method) for name in "ab")
    assert timeless(one) == timeless(two)
    assert len(one["history"]) == 2
    assert one["knn"] == one["history"][-1]["knn"]
    assert one["knn_max"] == max(entry["knn"] for entry in one["history"])
    assert 0 <= one["waiting"] <= 1
    assert ("own" in one) == (method == "supervised")


def test_random_weights_are_probed_and_not_trained(data, tmp_path):
    found = go(data, tmp_path / "run", method="random", epochs=0, keep_weights=True)
    assert found["history"] == [] and found["knn_max"] is None
    torch.manual_seed(0)
    fresh = training.methods.build("random", settings(method="random"), 40, 10).encoder.state_dict()
    kept = checkpoint.load_weights(tmp_path / "run" / "weights.pt")
    assert all(torch.equal(kept[name], fresh[name]) for name in fresh)


def test_self_supervision_never_reads_a_label(data, tmp_path, monkeypatch):
    """Labels are shuffled behind its back: the weights are the same to the bit, the meters are not."""
    told = go(data, tmp_path / "a", keep_weights=True)
    load = training.load

    def shuffled(*arguments: Any) -> Any:
        images = load(*arguments)
        order = torch.randperm(len(images.train_labels), generator=torch.Generator().manual_seed(1))
        object.__setattr__(images, "train_labels", images.train_labels[order])
        return images

    monkeypatch.setattr(training, "load", shuffled)
    other = go(data, tmp_path / "b", keep_weights=True)
    one, two = (checkpoint.load_weights(tmp_path / name / "weights.pt") for name in "ab")
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert [e["loss"] for e in told["history"]] == [e["loss"] for e in other["history"]]
    assert told["history"][-1]["same_query_1"] != other["history"][-1]["same_query_1"]


@pytest.mark.parametrize("method", ["triplet", "moco_v2", "odc"])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(data, tmp_path, monkeypatch, method):
    changes = {"method": method, "random_resolution": True, "epochs": 3}
    whole = go(data, tmp_path / "whole", **changes)
    save, saved = checkpoint.save, []

    def killed(path: Path, state: dict[str, Any]) -> None:
        save(path, state)
        saved.append(path)
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        go(data, tmp_path / "half", **changes)
    monkeypatch.setattr(checkpoint, "save", save)
    assert timeless(go(data, tmp_path / "half", **changes)) == timeless(whole)


def test_accumulated_batches_are_one_step(data, tmp_path):
    """The gradient of accumulated batches is the mean of theirs, and the weights move once for them."""
    loop = _loop(data, accumulation=2, batch_size=10, momentum=0.0, weight_decay=0.0)
    loop.method.train()
    before = [p.detach().clone() for p in loop.method.trained()]
    batches = [loop.batch(indices) for indices in loop.order()[:2]]
    loop._step(batches[0], 0)
    assert all(torch.equal(a, b) for a, b in zip(before, loop.method.trained(), strict=True))
    summed = [p.grad.clone() for p in loop.method.trained()]
    loop.optimiser.zero_grad(set_to_none=True)
    loop.method.loss(batches[0])[0].backward()
    for half, p in zip(summed, loop.method.trained(), strict=True):
        torch.testing.assert_close(2 * half, p.grad, rtol=1e-4, atol=1e-6)
    loop._step(batches[1], 1)
    assert not all(torch.equal(a, b) for a, b in zip(before, loop.method.trained(), strict=True))


def test_batches_that_fill_no_step_leave_no_gradient_to_the_next_epoch(data):
    loop = _loop(data, accumulation=2, batch_size=8)
    assert loop.batches == 5
    loop.run_epoch()
    assert all(p.grad is None for p in loop.method.trained())


def _loop(data: Path, **changes: Any) -> training.Loop:
    asked = settings(**changes)
    torch.manual_seed(asked.seed)
    images = training.load((str(data), "cifar10"), asked, torch.device("cpu"))
    method = training.methods.build(asked.method, asked, len(images.train), images.classes)
    return training.Loop(asked, method, images)


def test_the_meters_count_false_negatives_as_a_loop_does(data):
    loop = _loop(data, head="rank", k=3, batch_size=12)
    batch = loop.batch(loop.order()[0])
    loop.method.train()
    loop.method.loss(batch)
    found = meters.of_batch(loop.method, batch.labels)
    hits: list[bool] = []
    assert isinstance(loop.method, OnlineTarget)
    for query, target in loop.method.latest:
        q, z = torch.nn.functional.normalize(query), torch.nn.functional.normalize(target)
        for i in range(len(q)):
            order = sorted((-float(q[i] @ z[j]), j) for j in range(len(z)) if j != i)
            hits.append(bool(batch.labels[order[2][1]] == batch.labels[i]))
    assert found["same_query_own"] == pytest.approx(sum(hits) / len(hits))


def test_reading_the_start_leaves_the_run_as_it_was(data):
    loop = _loop(data)
    before = {k: v.clone() for k, v in loop.method.state_dict().items() if isinstance(v, torch.Tensor)}
    drawn = loop.generator.get_state()
    loop.read_start()
    assert torch.equal(drawn, loop.generator.get_state())
    after = loop.method.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert {"same_query_1", "rank_features", "knn"} <= loop.start.keys()


def test_a_loss_that_is_not_finite_stops_the_run(data, tmp_path, monkeypatch):
    monkeypatch.setattr(
        training.methods.Method,
        "loss",
        lambda self, batch: (next(self.parameters()).sum() * float("nan"), {}),
    )
    with pytest.raises(FloatingPointError, match="lower lr"):
        go(data, tmp_path / "run", method="simclr")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"batch_size": 64}, "do not fill one batch of 64"),
        ({"images": 5}, "of each are asked for"),
        ({"head": "rank", "k": 9}, "out of range"),
        ({"head": "smoothed"}, "ranks 2 to 10"),
        ({"batch_size": 2}, "three images"),
    ],
)
def test_settings_that_the_data_cannot_serve_get_one_line(data, tmp_path, changes, message):
    with pytest.raises(PapersError, match=message) as error:
        go(data, tmp_path / "run", **changes)
    assert "\n" not in str(error.value)


def test_a_subset_is_balanced_and_of_its_seed():
    labels = np.repeat(np.arange(5), [9, 8, 7, 6, 5])
    chosen = subset(labels, 20, seed=1)
    assert np.bincount(labels[chosen]).tolist() == [4] * 5
    assert chosen.tolist() == subset(labels, 20, seed=1).tolist() != subset(labels, 20, seed=2).tolist()
    assert subset(labels, 0, seed=1).tolist() == list(range(35))


def test_the_rate_rises_and_falls_to_nothing(data):
    loop = _loop(data, epochs=10, warm_up_epochs=2.0, warm_ratio=0.1)
    rates = [loop.rate(step, 5) for step in range(50)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10] == pytest.approx((1 + math.cos(math.pi * 10 / 50)) / 2)  # the cosine from step 0 on
    assert rates[10] == max(rates) and 0 <= rates[-1] < 0.01
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))


def test_a_batch_has_as_many_views_as_its_method_wants(data):
    for method, views in (("triplet", 2), ("rotation", 1)):
        loop = _loop(data, method=method)
        batch = loop.batch(loop.order()[0])
        assert isinstance(batch, Batch) and len(batch.views) == views
        assert batch.views[0].shape == (8, 3, 8, 8)
