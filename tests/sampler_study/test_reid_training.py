"""A run from images to mAP: repeatable, resumable, and blind to the identities of the training set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from papers_lib import checkpoint
from papers_lib.errors import PapersError
from papers_lib.sampler_study import diagnosis, training
from papers_lib.sampler_study.images import augmented, prepared
from papers_lib.sampler_study.network import ReidNet, training_mode
from papers_lib.sampler_study.options import TrainSettings
from papers_lib.sampler_study.training import rate, train

TINY = {
    "height": 16, "width": 8, "pad": 1, "backbone": "tiny16", "start": "scratch", "k1": 6, "k2": 2,
    "eps": 0.7, "batch_size": 8, "iters_per_epoch": 3, "epochs": 2, "warm_up_epochs": 1, "milestones": (1,),
    "inter_start_epoch": 1, "evaluate_every": 1,
}  # fmt: skip
METHODS = ("random", "triplet_cluster", "triplet_proxy", "group_cluster", "group_proxy", "spcl", "mmcl")


def settings(**changes: Any) -> TrainSettings:
    return TrainSettings.model_validate(TINY | changes)


def go(root: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    return train(settings(**changes), (str(root), "market1501"), folder, "cpu")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_and_repeats_itself(tiny_market, tmp_path, method):
    found = [go(tiny_market, tmp_path / name, method=method, k=2) for name in "ab"]
    assert found[0] == found[1]
    assert len(found[0]["history"]) == 2
    assert found[0]["mAP"] == found[0]["last"]["mAP"]


def test_training_never_reads_an_identity(network, tmp_path):
    """The same pixels under other people's numbers: weights and pseudo-labels are the same to the bit."""
    states = []
    for name, people in (("a", list(range(1, 13))), ("b", list(range(50, 74, 2)))):
        network(tmp_path / name / "market1501", people)
        go(tmp_path / name, tmp_path / f"run_{name}")
        states.append(checkpoint.load(tmp_path / f"run_{name}" / "checkpoint.pt"))
    one, other = states
    assert one is not None and other is not None
    for key, value in one["net"].items():
        assert torch.equal(value, other["net"][key]), key
    assert all(torch.equal(a, b) for a, b in zip(one["labels"], other["labels"], strict=True))


def test_shuffled_identities_change_the_diagnosis_and_nothing_else(tiny_market, tmp_path, monkeypatch):
    """The ids that the reader gives are permuted after it: only `purity` and `found` may move."""
    told = go(tiny_market, tmp_path / "a")
    load = training.load

    def shuffled(*arguments: Any) -> Any:
        images = load(*arguments)
        order = torch.randperm(len(images.train_ids), generator=torch.Generator().manual_seed(0))
        return images._replace(train_ids=images.train_ids[order])

    monkeypatch.setattr(training, "load", shuffled)
    other = go(tiny_market, tmp_path / "b")
    read = [[epoch.pop(name) for epoch in found["history"] for name in ("purity", "found")]
            for found in (told, other)]  # fmt: skip
    assert read[0] != read[1]
    assert told == other


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tiny_market, tmp_path, monkeypatch):
    whole = go(tiny_market, tmp_path / "whole", epochs=3)
    save, saved = checkpoint.save, []

    def killed(path: Path, state: dict[str, Any]) -> None:
        save(path, state)
        saved.append(path)
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        go(tiny_market, tmp_path / "cut", epochs=3)
    monkeypatch.setattr(checkpoint, "save", save)
    assert go(tiny_market, tmp_path / "cut", epochs=3) == whole


@pytest.mark.parametrize("method", ["spcl", "mmcl", "triplet_proxy"])
def test_a_memory_that_outlives_an_epoch_is_in_the_checkpoint(tiny_market, tmp_path, method):
    changes = {"method": method, "epochs": 2, "memory_rebuild": "drawn"}
    whole = go(tiny_market, tmp_path / "whole", **changes)
    go(tiny_market, tmp_path / "cut", **changes | {"epochs": 1})
    again = go(tiny_market, tmp_path / "cut", **changes)
    assert again["history"][1] == whole["history"][1]


def test_supervised_training_learns_and_leaves_weights(tiny_market, tmp_path):
    found = go(
        tiny_market, tmp_path / "warm", method="supervised", keep_weights=True, epochs=3, iters_per_epoch=20,
        lr=3e-3,
    )  # fmt: skip
    assert found["history"][-1]["loss"] < found["history"][0]["loss"]
    weights = tmp_path / "warm" / "weights.pt"
    started = train(
        settings(start="warm", method="none"), (str(tiny_market), "market1501"), tmp_path, "cpu", weights
    )
    untrained = train(settings(method="none"), (str(tiny_market), "market1501"), tmp_path, "cpu")
    assert started["mAP"] > untrained["mAP"]


def test_without_clusters_the_first_epoch_says_what_mends_it(tiny_market, tmp_path):
    with pytest.raises(PapersError, match=r"clusters too badly.*eps"):
        go(tiny_market, tmp_path / "run", eps=1e-4, min_samples=40)


def test_a_collapse_after_the_first_epoch_is_a_result(tiny_market, tmp_path, monkeypatch):
    real = training.sampler

    def fails_later(s: TrainSettings, groups: Any, epoch: int) -> Any:
        if epoch:
            raise PapersError("no class to sample from")
        return real(s, groups, epoch)

    monkeypatch.setattr(training, "sampler", fails_later)
    found = go(tiny_market, tmp_path / "run")
    assert found["history"][1]["skipped"] == 1.0
    assert found["history"][1]["mAP"] == found["history"][0]["mAP"]


def test_a_loss_that_is_not_finite_is_an_error(tiny_market, tmp_path, monkeypatch):
    monkeypatch.setattr(training.Loop, "_step", lambda self, indices: torch.tensor(float("nan")))
    with pytest.raises(FloatingPointError, match="lower lr"):
        go(tiny_market, tmp_path / "run")


def test_weights_are_asked_for(tiny_market, tmp_path):
    with pytest.raises(PapersError, match="-p weights"):
        go(tiny_market, tmp_path / "run", start="warm")


@pytest.mark.parametrize(
    "epoch, expected", [(0, 0.01), (5, 0.505), (10, 1.0), (19, 1.0), (20, 0.1), (39, 0.1), (40, 0.01)]
)
def test_the_learning_rate_is_caps(epoch, expected):
    assert rate(TrainSettings(), epoch) == pytest.approx(expected)


def test_augmentation_flips_shifts_and_erases_and_no_more():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (1, 16, 8, 3), dtype=torch.uint8, generator=generator)
    s = settings(pad=2)
    batch = augmented(pixels, torch.zeros(400, dtype=torch.long), s, generator)
    assert batch.shape == (400, 3, 16, 8)
    plain = prepared(pixels)[0]
    same = (batch == plain).flatten(1).all(1).sum()
    mirrored = (batch == plain.flip(2)).flatten(1).all(1).sum()
    # 1/2 · 1/25 · 1/2 of each is as it was, and as many mirrored.
    assert 0 < same < 20 and 0 < mirrored < 20
    fill = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    erased = (batch == fill).all(1).flatten(1).float().mean(1)
    assert 0.35 < (erased > 0).float().mean() < 0.65
    assert erased.max() < 0.3


def test_no_padding_and_no_erasing_is_only_a_flip():
    pixels = torch.randint(
        0, 256, (1, 16, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    s = settings(pad=0, erase_area=(0.0, 0.0))
    batch = augmented(pixels, torch.zeros(64, dtype=torch.long), s, torch.Generator().manual_seed(1))
    plain = prepared(pixels)[0]
    flipped = [torch.equal(image, plain.flip(2)) for image in batch]
    assert all(torch.equal(image, plain) or f for image, f in zip(batch, flipped, strict=True))
    assert 15 < sum(flipped) < 49


@pytest.mark.parametrize("name, expected", [("tiny16", 128), ("resnet18", 512)])
def test_the_network_keeps_its_last_resolution_and_has_no_stem_relu(name, expected):
    s = settings(backbone=name)
    net = training.build(s, None, torch.device("cpu"))
    assert net(torch.randn(4, 3, 32, 16)).shape == (4, expected)
    last = list(net.backbone.children())[-1] if name == "tiny16" else net.backbone.layer4
    convolutions = [m for m in list(last.modules()) if isinstance(m, torch.nn.Conv2d)]  # type: ignore[union-attr]
    tail = convolutions[-3:]
    assert all(m.stride == (1, 1) for m in tail)
    assert not net.bn.bias.requires_grad
    stem = net.backbone.stem[2] if name == "tiny16" else net.backbone.relu  # type: ignore[index, union-attr]
    assert isinstance(stem, torch.nn.Identity)


@pytest.mark.parametrize(
    "freeze, head, inside", [("none", True, True), ("head", False, True), ("all", False, False)]
)
def test_frozen_batch_normalisation_is_frozen_where_it_says(freeze, head, inside):
    net: ReidNet = training.build(settings(), None, torch.device("cpu"))
    training_mode(net, freeze)
    modes = {m.training for m in net.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert net.bn.training is head
    assert modes == {inside}


def test_purity_by_hand():
    clusters = torch.tensor([0, 0, 0, 1, 1, -1])
    ids = torch.tensor([5, 5, 9, 9, 9, 5])
    assert diagnosis.purity(clusters, ids) == pytest.approx(4 / 5)
    assert diagnosis.purity(torch.full((6,), -1), ids) == 0.0
