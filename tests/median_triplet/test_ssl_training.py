"""A run from images to accuracy: its steps, its settings, its resumption, and what it may not look at."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from standins import tell
from tiny_median import TINY

from papers_lib import checkpoint
from papers_lib.errors import PapersError
from papers_lib.median_triplet import meters, methods, training
from papers_lib.median_triplet.images import subset
from papers_lib.median_triplet.options import TrainSettings
from papers_lib.median_triplet.training import train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten classes of 4 + 2 images of noise around a colour of the class."""
    root = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for number, name in enumerate("abcdefghij"):
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
    """A result without what the clock says."""
    folder.mkdir(exist_ok=True)
    result = train(settings(**changes), (str(data), "cifar10"), folder, "cpu")
    assert 0 <= (result.pop("waiting") or 0) <= 1
    for entry in result["history"]:
        assert entry.pop("seconds") > 0 and 0 <= entry.pop("waiting") <= 1
    return result


def make_loop(data: Path, **changes: Any) -> training.Loop:
    asked = settings(**changes)
    torch.manual_seed(asked.seed)
    loaded = training.load((str(data), "cifar10"), asked, torch.device("cpu"))
    method = methods.build(asked.method, asked, len(loaded.train), loaded.classes)
    return training.Loop(asked, method, loaded)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load_weights(folder / "weights.pt")


# -- what a step does --


SUMS = {"momentum": 0.0, "weight_decay": 0.0, "schedule_epochs": 9}


@pytest.mark.parametrize(
    ("changes", "epochs", "groups"),
    [
        (
            {"lr": 0.002, "momentum": 0.8, "weight_decay": 0.01, "ema_base": 0.9, "warm_up_epochs": 0.6},
            2,
            [1] * 5,
        ),
        (SUMS | {"accumulation": 2, "batch_size": 10}, 1, [2, 2]),
        (SUMS | {"accumulation": 2}, 1, [2, 2, 1]),  # a last step by its own mean
        (SUMS | {"accumulation": 7}, 1, [5]),
    ],
)
def test_epochs_are_a_plain_loop(data, changes, epochs, groups):
    """SGD with decay and momentum, the cosine, the moving average: formulas, one tensor after the other.

    `groups`: the batches of each step, by whose mean gradient it moves.
    """
    loop = make_loop(data, **changes)
    twin, s, steps = copy.deepcopy(loop), loop.settings, len(groups)
    assert (loop.batches, loop.steps) == (sum(groups), steps)
    for _ in range(epochs):
        loop.run_epoch()
    assert all(p.grad is None for p in loop.method.trained())
    trained, target = twin.method.trained(), list(twin.method.target.parameters())
    online = [*twin.method.encoder.parameters(), *twin.method.projector.parameters()]
    velocity = [torch.zeros_like(p) for p in trained]
    warm, total = round(s.warm_up_epochs * steps), (s.schedule_epochs or 2) * steps
    twin.method.train()
    for step in range(epochs * steps):
        if step % steps == 0:
            batches = twin.read(twin.order(), step // steps)
        size = groups[step % steps]
        for _ in range(size):
            (twin.method.loss(next(batches))[0] / size).backward()
        lr = s.lr * (1 + math.cos(math.pi * step / total)) / 2
        if step < warm:
            lr *= 1e-4 + (1 - 1e-4) * step / warm
        with torch.no_grad():
            for p, v in zip(trained, velocity, strict=True):
                v.mul_(s.momentum).add_(p.grad + s.weight_decay * p)
                p.sub_(lr * v)
                p.grad = None
            m = 1 - (1 - s.ema_base) * (math.cos(math.pi * step / (2 * steps)) + 1) / 2
            for xi, theta in zip(target, online, strict=True):
                xi.mul_(m).add_((1 - m) * theta)
    atol = 1e-5 if epochs == 1 else 1e-4
    for (name, ours), theirs in zip(loop.method.named_parameters(), twin.method.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=atol, msg=name)


def test_the_rate_falls_where_it_is_told(data):
    loop = make_loop(data, epochs=10, drops=(0.6, 0.8), drop_factor=0.1, warm_up_epochs=2.0, warm_ratio=0.5)
    rates = [loop.rate(step) for step in (0, 5, 10, 29, 30, 39, 40, 49)]
    assert rates == pytest.approx([0.5, 0.75, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_a_head_and_a_predictor_have_what_is_their_own(data):
    odc = make_loop(data, method="odc", momentum=0.9, head_momentum=0.0, head_weight_decay=0.25)
    rest, head = sorted(odc.optimiser.param_groups, key=lambda group: -group["momentum"])
    assert (head["momentum"], head["weight_decay"]) == (0.0, 0.25) and rest["momentum"] == 0.9
    assert [id(p) for p in head["params"]] == [id(p) for p in odc.method.head.parameters()]
    assert len(rest["params"]) + 2 == len(odc.method.trained())
    loop = make_loop(data, method="simsiam", constant_predictor=True, lr=0.04)
    loop.run_epoch()
    loop.run_epoch()
    falling, constant = (group["lr"] for group in loop.optimiser.param_groups)
    assert constant == 0.04 and falling == pytest.approx(0.04 * loop.rate(9)) and falling < 0.01


def test_a_classifier_that_starts_anew_has_no_old_momentum(data):
    loop = make_loop(data, method="deepcluster", weight_decay=0.0)
    loop.run_epoch()
    for p in loop.method.head.parameters():
        loop.optimiser.state[p]["momentum_buffer"].fill_(1e6)
    loop.run_epoch()
    assert all(p.abs().max() < 1 for p in loop.method.head.parameters())


# -- settings --

# What a setting is changed to; for some, what the run has otherwise for it to matter.
ALONE = {
    "seed": 1, "image_size": 10, "images": 20, "classes": 5, "recipe": "simclr", "backbone": "tiny24",
    "projector_hidden": 12, "projector_out": 6, "method": "byol", "head": "hardest", "gamma": 1.5,
    "margin": 0.1, "distance_scale": 1.0, "view_reduction": "mean", "loss_scale": 2.0, "ema_base": 0.5,
    "ema_buffers": True, "optimiser": "lars", "lr": 0.1, "momentum": 0.5, "weight_decay": 0.1,
    "batch_size": 10, "accumulation": 2, "epochs": 1, "warm_up_epochs": 1.0, "schedule_epochs": 4,
    "drops": (0.5,), "knn_every": 2, "knn_k": 40, "probe_epochs": 20, "probe_lrs": (0.001,),
}  # fmt: skip
BESIDE = {
    "k": (3, {"head": "rank", "k": 2}),
    "hinge": ("printed", {"margin": 0.1}),
    "temperature": (0.5, {"method": "simclr"}),
    "queue": (8, {"method": "moco_v2"}),
    "random_resolution": (True, {"image_size": 16}),
    "online_sizes": ((0.5, 0.6), {"image_size": 16, "random_resolution": True}),
    "target_sizes": ((0.6, 0.7), {"image_size": 16, "random_resolution": True}),
    "lr_inside": (False, {"optimiser": "lars"}),
    "weight_decay of lars": (0.1, {"optimiser": "lars", "lr": 4.8}),
    "warm_ratio": (0.5, {"warm_up_epochs": 1.0}),
    "drop_factor": (0.5, {"drops": (0.5,)}),
    "head_momentum": (0.0, {"method": "odc"}),
    "head_weight_decay": (0.1, {"method": "relative_location", "image_size": 12}),
    "constant_predictor": (True, {"method": "simsiam"}),
    "precision": ("bfloat16", {"image_size": 16}),
    "knn_tau": (0.001, {"knn_k": 40}),
}
CHANGES: dict[str, tuple[Any, dict[str, Any]]] = {name: (value, {}) for name, value in ALONE.items()} | BESIDE
# `negative_pool` and `processes` matter where there are several, `keep_weights` to the folder: see below;
# `source` is a name.
ELSEWHERE = {"negative_pool", "processes", "keep_weights", "source"}


@pytest.fixture(scope="module")
def outcome(data, tmp_path_factory) -> Callable[..., tuple[dict[str, Any], dict[str, Any]]]:
    """Result and networks of a run, computed once per settings."""
    kept: dict[str, Any] = {}

    def of(**changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        key = settings(**changes).model_dump_json()
        if key not in kept:
            folder = tmp_path_factory.mktemp("run")
            kept[key] = go(data, folder, **changes), checkpoint.load(folder / "checkpoint.pt")["method"]
        return kept[key]

    return of


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_changes_the_result(outcome, name):
    value, other = CHANGES[name]
    result, networks = outcome(**other)
    changed, moved = outcome(**other | {name.split()[0]: value})
    same = networks.keys() == moved.keys() and all(torch.equal(networks[n], moved[n]) for n in networks)
    assert not same or result != changed
    if name.startswith(("knn", "probe")):
        assert same  # what only evaluates trains nothing


def test_no_setting_is_left_out():
    assert {name.split()[0] for name in CHANGES} | ELSEWHERE == set(TrainSettings.model_fields)


# -- what a run may not look at --


@pytest.fixture
def with_other_labels(data, tmp_path, monkeypatch):
    """Results with and without the labels of one side moved on; the weights are the same to the bit."""

    def results(side: str, **changes: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        result = go(data, tmp_path / "a", keep_weights=True, **changes)
        load = training.load

        def moved(*arguments: Any) -> Any:
            loaded = load(*arguments)
            object.__setattr__(loaded, side, getattr(loaded, side).roll(5))
            return loaded

        monkeypatch.setattr(training, "load", moved)
        other = go(data, tmp_path / "b", keep_weights=True, **changes)
        one, two = weights(tmp_path / "a"), weights(tmp_path / "b")
        assert all(torch.equal(one[name], two[name]) for name in one)
        return result, other

    return results


@pytest.mark.parametrize("changes", [{"head": "prior"}, {"method": "supervised"}, {"method": "deepcluster"}])
def test_the_test_labels_change_no_weight_and_no_choice(with_other_labels, changes):
    result, other = with_other_labels("test_labels", **changes)
    for choice in ("lr", "held_out"):
        assert result["probe"][choice] == other["probe"][choice]
    assert (result["linear"], result["knn"]) != (other["linear"], other["knn"])


def test_self_supervision_never_reads_a_label_but_in_its_meters(with_other_labels):
    result, other = with_other_labels("train_labels")
    assert [e["loss"] for e in result["history"]] == [e["loss"] for e in other["history"]]
    assert result["history"][-1]["same_query_1"] != other["history"][-1]["same_query_1"]


# -- whole runs --


@pytest.mark.parametrize("method", ["moco_v2", "deepcluster", "supervised"])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(data, tmp_path, monkeypatch, method):
    changes = {"method": method, "random_resolution": True, "epochs": 3}
    whole = go(data, tmp_path / "whole", **changes)
    assert len(whole["history"]) == 3 and whole["knn"] == whole["history"][-1]["knn"]
    assert whole["knn_max"] == max(entry["knn"] for entry in whole["history"])
    assert ("own" in whole) == (method == "supervised")
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
    assert go(data, tmp_path / "half", **changes) == whole


def test_a_result_keeps_the_epochs_with_an_accuracy_and_a_report_has_the_latest_numbers(data, tmp_path):
    seen: list[tuple[Any, ...]] = []
    asked = settings(epochs=5, knn_every=2)
    result = train(asked, (str(data), "cifar10"), tmp_path, "cpu", lambda *given: seen.append(given))
    assert [entry["epoch"] for entry in result["history"]] == [2, 4, 5]
    assert all("knn" in entry for entry in result["history"])
    assert [step for step, *_ in seen] == [0, 1, 2, 3, 4, 5] and {total for _, total, *_ in seen} == {5}
    assert seen[0][3] == {"knn": result["start"]["knn"]}
    assert seen[3][3]["knn"] == result["history"][0]["knn"]  # of epoch 2, after the third
    last = result["history"][-1]
    assert seen[-1][3] == {"loss": last["loss"], "knn": last["knn"]}


def test_chance_is_that_of_the_data_in_hand(data):
    loop = make_loop(data)
    labels = torch.tensor([0] * 7 + [1] * 3)
    object.__setattr__(loop.images, "train_labels", labels)
    pairs = [(i, j) for i in range(10) for j in range(10) if i != j]
    same = sum(bool(labels[i] == labels[j]) for i, j in pairs)
    assert loop.result()["chance"] == pytest.approx(same / len(pairs))


def test_random_weights_are_probed_and_not_trained(data, tmp_path):
    result = go(data, tmp_path / "run", method="random", epochs=0, keep_weights=True)
    assert result["history"] == [] and result["knn_max"] is None
    torch.manual_seed(0)
    fresh = methods.build("random", settings(method="random"), 40, 10).encoder.state_dict()
    assert all(torch.equal(weights(tmp_path / "run")[name], fresh[name]) for name in fresh)


def test_the_meters_count_false_negatives_as_a_loop_does(data):
    loop = make_loop(data, head="rank", k=3, batch_size=12)
    batch = next(loop.read(loop.order(), 0))
    assert len(batch.views) == 2 and batch.views[0].shape == (12, 3, 8, 8)
    loop.method.train().loss(batch)
    hits: list[bool] = []
    for query, target in loop.method.latest:
        q, z = torch.nn.functional.normalize(query), torch.nn.functional.normalize(target)
        for i in range(len(q)):
            order = sorted((-float(q[i] @ z[j]), j) for j in range(len(z)) if j != i)
            hits.append(bool(batch.labels[order[2][1]] == batch.labels[i]))
    share = meters.of_batch(loop.method, batch.labels)["same_query_own"]
    assert share == pytest.approx(sum(hits) / len(hits))


def test_reading_the_start_leaves_the_run_as_it_was(data):
    loop = make_loop(data)
    before, drawn = copy.deepcopy(loop.method.state_dict()), loop.generator.get_state()
    loop.read_start()
    assert torch.equal(drawn, loop.generator.get_state())
    assert all(torch.equal(before[name], value) for name, value in loop.method.state_dict().items())
    assert {"same_query_1", "rank_features", "knn"} <= loop.start.keys()


def test_a_loss_that_is_not_finite_stops_the_run(data, tmp_path, monkeypatch):
    nothing = torch.full((), math.nan, requires_grad=True)
    monkeypatch.setattr(methods.Method, "loss", lambda self, batch: (nothing * 1, {}))
    with pytest.raises(FloatingPointError, match="lower lr"):
        go(data, tmp_path / "run", method="simclr")


@pytest.mark.parametrize(
    ("changes", "message"),
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
