"""The loop on a tiny rendered data set: every method learns, resumes, and is counted the same."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from papers_lib.errors import PapersError
from papers_lib.quadruplet_cars196 import batches, embedding, training
from papers_lib.quadruplet_cars196.batches import Labels
from papers_lib.quadruplet_cars196.options import TrainSettings
from papers_lib.quadruplet_cars196.plan import ARMS
from papers_lib.quadruplet_cars196.splits import Images, hold_out, load, shuffle_types

TINY = {
    "resize": 16, "crop": 12, "backbone": "tiny16", "embedding_dim": 8, "start": "scratch",
    "batch_size": 8, "epochs": 1, "nmi_seeds": 1,
}  # fmt: skip


def settings(**changes) -> TrainSettings:
    return TrainSettings(**(TINY | changes))


@pytest.fixture
def data(tiny_cars: Path) -> tuple[str, str]:
    return str(tiny_cars / "standin"), "cars196"


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_trains_and_returns_finite_plain_json(arm, data, tmp_path):
    chosen = settings(**{k: v for k, v in ARMS[arm].changes.items() if k != "start"})
    metrics = training.train(chosen, data, tmp_path, device="cpu")
    json.dumps(metrics, allow_nan=False)
    assert all(0 <= metrics[name] <= 1 for name in ("R@1", "R@8", "MAP@R", "NMI", "chance"))
    assert metrics["R@1"] <= metrics["R@2"] <= metrics["R@4"] <= metrics["R@8"]
    assert len(metrics["history"]) == chosen.epochs
    assert all(math.isfinite(epoch["loss"]) for epoch in metrics["history"])
    assert ("positive_fallback" in str(metrics["history"])) == chosen.learns_from_quadruplets


def test_a_killed_run_resumes_as_if_nothing_had_happened(data, tmp_path):
    chosen = settings(epochs=3)
    whole = training.train(chosen, data, tmp_path / "whole", device="cpu")

    def die(step: int, total: int, note: str) -> None:
        if note == "epoch 3":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(chosen, data, tmp_path / "killed", device="cpu", report=die)
    seen = []
    resumed = training.train(
        chosen, data, tmp_path / "killed", device="cpu", report=lambda step, total, note: seen.append(note)
    )
    assert set(seen) == {"epoch 3"}
    assert resumed == whole


def test_a_checkpoint_of_something_else_is_passed_over(data, tmp_path):
    whole = training.train(settings(), data, tmp_path / "whole", device="cpu")
    (tmp_path / "other").mkdir()
    torch.save({"epoch": 5}, tmp_path / "other" / "checkpoint.pt")
    assert training.train(settings(), data, tmp_path / "other", device="cpu") == whole


def test_one_step_is_the_gradient_of_the_loss_that_the_settings_name(data, tmp_path):
    """A step of SGD on the summed loss moves the weights by −lr · gradient, oracle by hand."""
    chosen = settings(method="ce", ce_on="reference", augment=False, momentum=0.0, lr=0.01)
    train, _, classes = load(*data, chosen, torch.device("cpu"))
    torch.manual_seed(0)
    net = training.build(chosen, classes, None, torch.device("cpu"))
    loop = training.Loop(chosen, net, train, torch.device("cpu"))
    indices = torch.arange(8)
    net.train()
    images = embedding.centre_crop(train.pixels[indices], chosen.crop)
    out = net(images)
    coarse, fine = train.labels.coarse[indices], train.labels.fine[indices]
    ce = torch.nn.functional.cross_entropy
    loss = 0.08 * ce(out.coarse, coarse, reduction="sum") + 0.25 * ce(out.fine, fine, reduction="sum")
    expected = net.fc.weight - 0.01 * torch.autograd.grad(loss, net.fc.weight)[0]
    loop.step(batches.Batch(indices), lambda selection: None)
    assert torch.allclose(net.fc.weight, expected, atol=1e-6)


def test_all_methods_take_the_same_number_of_steps(data):
    train, _, _ = load(*data, settings(), torch.device("cpu"))
    expected = math.ceil(len(batches.anchors(train.labels, settings())) / 8)
    for method in ("random", "method_2", "ce", "semi_hard"):
        chosen = settings(method=method)
        stream = batches.epoch(
            chosen, train.labels, lambda: torch.randn(len(train.labels.fine), 4),
            torch.Generator().manual_seed(0), lambda selection: None,
        )  # fmt: skip
        assert sum(1 for _ in stream) == expected, method


def test_cross_entropy_alone_sees_as_many_labels_as_it_says(data):
    train, _, _ = load(*data, settings(), torch.device("cpu"))
    for ce_on, size in (("reference", 8), ("all", 32)):
        chosen = settings(method="ce", ce_on=ce_on)
        stream = batches.epoch(chosen, train.labels, torch.Tensor, torch.Generator(), lambda s: None)
        assert {len(batch.indices) for batch in stream} == {size}


def test_references_without_a_sibling_are_left_out_or_masked():
    labels = Labels(torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([0, 0, 0, 0, 1, 1]))
    assert batches.anchors(labels, settings()).tolist() == [0, 1, 2, 3]
    masked = settings(no_sibling="mask")
    assert batches.anchors(labels, masked).tolist() == [0, 1, 2, 3, 4, 5]
    features = torch.eye(6)
    stream = list(batches.epoch(masked, labels, lambda: features, torch.Generator(), lambda s: None))
    valid = torch.cat([batch.valid for batch in stream])
    assert valid.sum() == 4


def test_the_bank_is_refreshed_as_often_as_asked(data):
    train, _, _ = load(*data, settings(), torch.device("cpu"))
    for every, expected in ((0, 1), (2, None)):
        calls = []

        def bank(calls=calls):
            calls.append(1)
            return torch.randn(len(train.labels.fine), 4, generator=torch.Generator().manual_seed(len(calls)))

        chosen = settings(refresh_every=every)
        steps = sum(1 for _ in batches.epoch(chosen, train.labels, bank, torch.Generator(), lambda s: None))
        assert len(calls) == (expected or math.ceil(steps / every))


def test_frozen_batch_norm_stays_frozen_when_the_bank_is_embedded(data):
    """Statistics move in an epoch of Method 2, and do not with `freeze_bn`."""
    for freeze in (False, True):
        chosen = settings(freeze_bn=freeze)
        train, _, classes = load(*data, chosen, torch.device("cpu"))
        net = training.build(chosen, classes, None, torch.device("cpu"))
        before = net.backbone.stem[1].running_mean.clone()
        training.Loop(chosen, net, train, torch.device("cpu")).run_epoch(lambda step, note: None)
        assert torch.equal(net.backbone.stem[1].running_mean, before) == freeze


def test_random_crops_are_slices_of_the_images():
    images = torch.randint(0, 256, (3, 6, 6, 3), dtype=torch.uint8)
    crops = embedding.random_crop(images, torch.tensor([2, 0]), 4, torch.Generator().manual_seed(1))
    for crop, index in zip(crops, (2, 0), strict=True):
        windows = [images[index, y : y + 4, x : x + 4] for y in range(3) for x in range(3)]
        candidates = [w for window in windows for w in (window, window.flip(1))]
        assert any(torch.allclose(crop, embedding.scale(w[None])[0]) for w in candidates)


def test_held_out_classes_are_training_classes_and_leave_training():
    fine = torch.arange(10).repeat_interleave(2)
    kept, aside = hold_out(Images(torch.zeros(20, 2, 2, 3), Labels(fine, fine)))
    assert set(aside.labels.fine.tolist()) == {8, 9}
    assert not set(kept.labels.fine.tolist()) & {8, 9}


def test_held_out_selection_goes_back_to_the_best_epoch(data, tmp_path):
    metrics = training.train(settings(select="held_out_classes", epochs=2), data, tmp_path, device="cpu")
    assert len(metrics["history"]) == 2


def test_dealt_types_keep_their_sizes_and_leave_test_classes_alone():
    fine = torch.arange(12).repeat_interleave(3)
    coarse = torch.tensor([0] * 5 + [1] * 3 + [2] * 4).repeat_interleave(3)
    train = fine < 8
    dealt = shuffle_types(fine, coarse, train, seed=1)
    assert sorted(dealt[train].tolist()) == sorted(coarse[train].tolist())
    assert not torch.equal(dealt[train], coarse[train])
    assert torch.equal(dealt[~train], coarse[~train])
    assert all(len(set(dealt[fine == one].tolist())) == 1 for one in range(12))


def test_training_never_reads_the_labels_of_test_images(data, tmp_path, monkeypatch):
    """The same weights come out when all test images claim to be of one class."""
    states = []
    for lie in (False, True):
        real = training.load

        def fake(*args, real=real, lie=lie):
            train, tested, classes = real(*args)
            if lie:
                tested.labels.fine[:] = tested.labels.fine[0]
            return train, tested, classes

        monkeypatch.setattr(training, "load", fake)
        folder = tmp_path / str(lie)
        try:
            training.train(settings(keep_weights=True), data, folder, device="cpu")
        finally:
            monkeypatch.setattr(training, "load", real)
        states.append(torch.load(folder / "weights.pt", weights_only=True))
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_a_warm_start_carries_the_backbone_over_and_needs_its_weights(data, tmp_path):
    training.train(settings(method="ce", keep_weights=True), data, tmp_path, device="cpu")
    state = torch.load(tmp_path / "weights.pt", weights_only=True)
    net = training.build(settings(start="warm"), (5, 9), tmp_path / "weights.pt", torch.device("cpu"))
    assert all(torch.equal(value, state[name]) for name, value in net.backbone.state_dict().items())
    with pytest.raises(PapersError, match="start=warm needs weights"):
        training.build(settings(start="warm"), (5, 9), None, torch.device("cpu"))


def test_a_diverging_loss_is_one_line_and_no_result(data, tmp_path):
    with pytest.raises((FloatingPointError, PapersError), match=r"the loss is .* lower lr|finite"):
        training.train(settings(lr=1e12, epochs=3, normalise=False), data, tmp_path, device="cpu")


def test_dropped_references_leave_the_diagnostics_alone(data, tmp_path):
    chosen = settings(method="method_1", m1_fallback="drop", epochs=2)
    metrics = training.train(chosen, data, tmp_path, device="cpu")
    assert 0 <= metrics["mined"]["same_positive"] <= 1


def test_an_epoch_without_any_quadruplet_is_one_line(data, tmp_path, monkeypatch):
    monkeypatch.setattr(training.batches, "epoch", lambda *args: iter(()))
    with pytest.raises(PapersError, match="no reference has a quadruplet left"):
        training.train(settings(), data, tmp_path, device="cpu")


def test_variance_ratio_and_chance_against_loops():
    features = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2, 2])
    within = sum(float(((features[i] - features[labels == labels[i]].mean(0)) ** 2).sum()) for i in range(9))
    whole = float(((features - features.mean(0)) ** 2).sum())
    assert training.within_over_all(features, labels) == pytest.approx(within / whole, rel=1e-5)
    hits = sum(labels[i] == labels[j] for i in range(9) for j in range(9) if i != j) / (9 * 8)
    assert training.chance(labels) == pytest.approx(float(hits))


def test_present_types_get_a_smaller_head(data):
    _, _, everything = load(*data, settings(), torch.device("cpu"))
    train, _, present = load(*data, settings(coarse_head="present"), torch.device("cpu"))
    assert present[0] <= everything[0]
    assert int(train.labels.coarse.max()) < present[0]
