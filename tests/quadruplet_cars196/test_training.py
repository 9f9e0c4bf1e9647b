"""The loop on a tiny rendered data set: each step is the paper's, each setting counts, test labels do not."""

import dataclasses
import itertools
import json
import math
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from papers_lib import pilot
from papers_lib.datasets import features
from papers_lib.errors import PapersError
from papers_lib.networks import backbones
from papers_lib.quadruplet_cars196 import images, measures, training
from papers_lib.quadruplet_cars196.baselines import BASELINES
from papers_lib.quadruplet_cars196.embedding import build
from papers_lib.quadruplet_cars196.images import Images, centre_crop, load, random_crop, scale
from papers_lib.quadruplet_cars196.options import TrainSettings
from papers_lib.quadruplet_cars196.selection import select
from papers_lib.quadruplet_cars196.study import STUDY

CPU = torch.device("cpu")
TINY = {"resize": 16, "crop": 12, "backbone": "tiny16", "embedding_dim": 8, "start": "scratch"}
TINY |= {"batch_size": 8, "epochs": 1, "nmi_seeds": 1}


def settings(**changes) -> TrainSettings:
    return TrainSettings(**(TINY | changes))


@pytest.fixture
def data(tiny_cars: Path) -> tuple[str, str]:
    return str(tiny_cars / "standin"), "cars196"


@pytest.fixture
def train(data, tmp_path):
    numbers = itertools.count()

    def call(folder: str | None = None, weights=None, report=lambda *_: None, **changes):
        place = tmp_path / (folder or f"run {next(numbers)}")
        return training.train(settings(**changes), data, place, "cpu", weights, report), place

    return call


@pytest.fixture
def loop_of(data):
    def call(trained: Images | None = None, **changes) -> training.Loop:
        chosen = settings(**changes)
        torch.manual_seed(0)
        cars, _, classes = load(data, chosen)
        return training.Loop(chosen, build(chosen, classes, None, CPU), trained or cars, CPU)

    return call


@pytest.mark.parametrize("arm", [name for name, arm in STUDY.arms.items() if arm.sweep != "rates"])
def test_every_arm_trains_and_returns_finite_plain_json(arm, train):
    changes = {name: value for name, value in STUDY.arms[arm].changes.items() if name != "start"}
    metrics, _ = train(**changes)
    json.dumps(metrics, allow_nan=False)
    assert all(0 <= metrics[name] <= 1 for name in ("R@1", "R@8", "MAP@R", "NMI", "chance"))
    assert metrics["R@1"] <= metrics["R@2"] <= metrics["R@4"] <= metrics["R@8"]
    assert len(metrics["history"]) == changes.get("epochs", 1)
    assert ("positive_fallback" in str(metrics["history"])) == settings(**changes).learns_from_quadruplets


# A step --------------------------------------------------------------------------------------------


def oracle(chosen: TrainSettings, out, fine, coarse, batch) -> torch.Tensor:
    """The loss of one batch as the paper writes it, with the numbers of its Section 4."""
    if chosen.method in BASELINES:
        return BASELINES[chosen.method](out.embedding, fine) * chosen.batch_size
    labelled, quadruplets = torch.arange(len(fine)), None
    if chosen.method != "ce":
        first = {"method": chosen.method, "anchors": torch.arange(0, len(fine), 4)}
        found = batch.chosen or select(out.embedding.detach(), fine, coarse, **first)
        members, quadruplets = found.quadruplets, found.quadruplets[found.valid]
        labelled = members.flatten() if chosen.ce_on == "all" else members[:, 0]
    loss = 0.08 * F.cross_entropy(out.coarse[labelled], coarse[labelled], reduction="sum")
    loss = loss + 0.25 * F.cross_entropy(out.fine[labelled], fine[labelled], reduction="sum")
    if quadruplets is not None:
        r, p, m, n = (out.embedding[column] for column in quadruplets.T)
        p, m, n = (r - p).norm(dim=1), (r - m).norm(dim=1), (r - n).norm(dim=1)
        loss = loss + (F.relu(1 - m / (p + 0.7 - 0.3)) + F.relu(1 - n / (m + 0.3))).sum()
        loss = loss + sum(d.var(correction=0) for d in (p, m, n))
        loss = loss + F.relu(p.mean() - m.mean() + 0.7 - 0.3) + F.relu(m.mean() - n.mean() + 0.3)
    return loss


@pytest.mark.parametrize(
    "changes",
    [
        *({"method": name} for name in ("ce", "clustering", "method_1")),
        {"method": "random", "ce_on": "all"},
        {"method": "method_2", "no_sibling": "mask", "batch_size": 40},
        {"method": "method_2", "pool": "batch"},
    ],
    ids=str,
)
def test_two_steps_are_sgd_on_the_loss_that_the_paper_writes(changes, loop_of):
    loop = loop_of(**changes, augment=False, momentum=0.5, weight_decay=0.1, lr=0.01)
    net = deepcopy(loop.net).train()
    sgd = torch.optim.SGD(net.parameters(), 0.01, 0.5, weight_decay=0.1)
    loop.net.train()
    for batch in itertools.islice(loop.batches(), 2):
        out = net(centre_crop(loop.images.pixels[batch.rows], loop.settings.crop))
        fine, coarse = loop.images.fine[batch.rows], loop.images.coarse[batch.rows]
        loss = oracle(loop.settings, out, fine, coarse, batch)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        assert loop.step(batch)["loss"].item() == pytest.approx(loss.item(), rel=1e-5)
    for (name, weight), other in zip(loop.net.named_parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(weight, other, rtol=1e-4, atol=1e-5, msg=name)


def test_a_linear_schedule_falls_to_nothing_and_the_backbone_has_its_own_rate_after_the_heads(loop_of):
    changes = {"schedule": "linear", "backbone_lr": 0.1, "heads_first": 1}
    loop = loop_of(method="ce", lr=0.01, epochs=2, **changes)
    rates, before = [], deepcopy(loop.net.backbone.state_dict())
    loop.optimiser.register_step_pre_hook(
        lambda sgd, *_: rates.append([group["lr"] for group in sgd.param_groups])
    )

    def moved() -> list[bool]:
        return [not torch.equal(p, before[name]) for name, p in loop.net.backbone.named_parameters()]

    loop.run_epoch()
    assert not any(moved())
    loop.run_epoch()
    assert any(moved())
    total = 2 * loop.steps
    expected = [[0.01 * (1 - step / total), 0.001 * (1 - step / total)] for step in range(total)]
    np.testing.assert_allclose(rates, expected)


# Batches -------------------------------------------------------------------------------------------


def test_all_methods_take_as_many_steps_of_as_many_labels(loop_of):
    for changes, images_per_step in (
        ({"method": "random"}, 32),
        ({"method": "method_2", "pool": "batch"}, 32),
        ({"method": "semi_hard"}, 32),
        ({"method": "ce"}, 8),
        ({"method": "ce", "ce_on": "all"}, 32),
    ):
        loop = loop_of(**changes)
        sizes = [len(batch.rows) for batch in loop.batches()]
        assert len(sizes) == loop.steps == math.ceil(len(loop.references) / 8), changes
        assert set(sizes[:-1]) == {images_per_step}, changes


def test_references_without_a_sibling_are_left_out_or_masked(loop_of):
    fine, coarse = torch.tensor([0, 0, 1, 1, 2, 2, 3]), torch.tensor([0, 0, 0, 0, 1, 1, 0])
    few = Images(torch.zeros(7, 16, 16, 3, dtype=torch.uint8), fine, coarse)
    for no_sibling, expected in (("skip", [0, 1, 2, 3]), ("mask", [0, 1, 2, 3, 4, 5])):
        loop = loop_of(few, no_sibling=no_sibling, batch_size=4)
        assert loop.references.tolist() == expected
        batches = list(loop.batches())
        assert sorted(torch.cat([batch.rows[::4] for batch in batches]).tolist()) == expected
        assert sum(int(batch.chosen.valid.sum()) for batch in batches) == 4


@pytest.mark.parametrize(("every", "spans"), [(0, 1), (2, 5)])
def test_the_bank_is_embedded_anew_as_often_as_asked(every, spans, loop_of, monkeypatch):
    loop = loop_of(refresh_every=every)
    calls = []
    monkeypatch.setattr(loop, "bank", lambda: calls.append(1) or torch.randn(len(loop.images.fine), 4))
    assert (len(list(loop.batches())), len(calls)) == (10, spans)


def test_dropped_references_are_not_learnt_from(loop_of, monkeypatch):
    counts = {}
    for fallback in ("furthest_inside", "drop"):
        loop = loop_of(method="method_1", m1_fallback=fallback)
        tight = F.one_hot(loop.images.fine, 20).float()  # all positives inside the sphere
        spread = torch.randn(tight.shape, generator=torch.Generator().manual_seed(0))
        features = torch.where(loop.images.fine[:, None] < 10, tight, spread)
        monkeypatch.setattr(loop, "bank", lambda features=features: features)
        chosen = [batch.chosen for batch in loop.batches()]
        counts[fallback] = sum(len(selection.quadruplets) for selection in chosen)
        inside = sum(int(selection.positive_fallback.sum()) for selection in chosen)
        assert (inside > 0) == (fallback == "furthest_inside")
    assert 0 < counts["drop"] < counts["furthest_inside"] == len(loop.references)


def test_frozen_batch_norm_stays_frozen_when_the_bank_is_embedded(loop_of):
    for freeze in (False, True):
        loop = loop_of(freeze_bn=freeze)
        before = loop.net.backbone.stem[1].running_mean.clone()
        loop.run_epoch()
        assert torch.equal(loop.net.backbone.stem[1].running_mean, before) == freeze


def test_the_seed_draws_references_and_crops(loop_of):
    first = [next(loop_of(method="random", seed=seed).batches()).rows for seed in (0, 0, 1)]
    assert torch.equal(first[0], first[1]) and not torch.equal(first[0], first[2])


def test_random_crops_are_slices_of_the_images():
    pixels = torch.randint(0, 256, (3, 6, 6, 3), dtype=torch.uint8)
    crops = random_crop(pixels[[2, 0]], 4, torch.Generator().manual_seed(1))
    for crop, index in zip(crops, (2, 0), strict=True):
        windows = [pixels[index, y : y + 4, x : x + 4] for y in range(3) for x in range(3)]
        candidates = [w for window in windows for w in (window, window.flip(1))]
        assert any(torch.allclose(crop, scale(w[None])[0]) for w in candidates)


# Settings ------------------------------------------------------------------------------------------

# Of every setting another value. `weights` is the digest of a file; dropped references have a test above.
CHANGES = (
    {"seed": 1, "coarse_map": "body9", "coarse_shuffle": True, "use_boxes": True, "resize": 20, "crop": 10}
    | {"backbone": "tiny24", "embedding_dim": 4, "start": "file", "freeze_bn": True, "fc_start": "identity"}
    | {"coarse_head": "present", "normalise": False, "precision": "bfloat16", "augment": False}
    | {"method": "random", "pool": "batch", "refresh_every": 2, "sibling": "random", "no_sibling": "mask"}
    | {"lc1": 0.1, "lc2": 0.2, "lg1": 0.5, "lg2": 0.5, "eta": 0.5, "m1": 0.8, "m2": 0.2, "t1": 0.8, "t2": 0.2}
    | {"margin_rule": "text", "global_distance": "squared_over_4", "var_unbiased": True}
    | {"swap_ce_weights": True, "ce_on": "all", "reduction": "mean", "select": "held_out_classes"}
    | {"batch_size": 4, "epochs": 2, "lr": 1e-3, "momentum": 0.0, "weight_decay": 0.5, "nmi_seeds": 2}
    | {"backbone_lr": 0.1, "heads_first": 1, "schedule": "linear"}
)
ELSEWHERE = {"micro_batch", "weights", "m1_fallback"}


@pytest.fixture
def boxed(monkeypatch):
    """The tiny set with boxes that are smaller than its images."""
    real = images.cars196.load

    def half(*args):
        cars = real(*args)
        return dataclasses.replace(cars, boxes=np.maximum(cars.boxes // 2, 1))

    images._decoded.cache_clear()
    monkeypatch.setattr(images.cars196, "load", half)
    yield
    images._decoded.cache_clear()


def saved_backbone(place: Path) -> Path:
    """The backbone of a run's checkpoint as a file of its own."""
    net = torch.load(place / "checkpoint.pt", weights_only=True)["net"]
    state = {name.removeprefix("backbone."): v for name, v in net.items() if name.startswith("backbone.")}
    torch.save(state, place / "weights.pt")
    return place / "weights.pt"


@pytest.fixture(scope="module")
def plain_runs():
    """Metrics by settings: most cases change one setting of the same run."""
    return {}


@pytest.mark.parametrize("name", [name for name in TrainSettings.model_fields if name not in ELSEWHERE])
def test_changing_a_setting_changes_the_result(name, train, boxed, plain_runs):
    shared, weights = {"epochs": 0} if name == "seed" else {}, None  # an untrained network has its seed too
    if name == "start":
        weights = saved_backbone(train(method="ce", seed=1)[1])
    if str(shared) not in plain_runs:
        plain_runs[str(shared)] = train(**shared)[0]
    assert train(**shared, weights=weights, **{name: CHANGES[name]})[0] != plain_runs[str(shared)]


# What is chosen by -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"select": "held_out_classes", "epochs": 3, "lr": 0.01},
        {"coarse_shuffle": True, "coarse_head": "present"},
        {"pool": "batch"},
        {"method": "semi_hard"},
        {"method": "ce", "ce_on": "all"},
    ],
    ids=str,
)
def test_labels_of_test_images_change_no_weight_and_no_choice(changes, train, monkeypatch):
    real = images._decoded

    def lie(*args):
        (fine, coarse, trained), pixels = real(*args)
        fine, coarse = fine.clone(), coarse.clone()
        fine[~trained], coarse[~trained] = fine[~trained][0], coarse[~trained].flip(0)
        return (fine, coarse, trained), pixels

    told, place = train(**changes)
    monkeypatch.setattr(images, "_decoded", lie)
    lied, elsewhere = train(**changes)
    assert lied["chance"] == 1  # the lie was read, in evaluation
    assert lied["mined"] == told["mined"]
    assert [epoch["loss"] for epoch in lied["history"]] == [epoch["loss"] for epoch in told["history"]]
    one, other = (torch.load(at / "checkpoint.pt", weights_only=True)["net"] for at in (place, elsewhere))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_the_best_epoch_is_chosen_by_held_out_classes_and_restored(train, monkeypatch):
    planted, learnt, seen = iter((0.2, 0.6, 0.6, 0.4)), [], []

    class Loop(training.Loop):
        def run_epoch(self, report):
            learnt.append(set(self.images.fine.tolist()))
            super().run_epoch(report)

    def recall(net, judged, crop):
        seen.append((set(judged.fine.tolist()), deepcopy(net.backbone.state_dict())))
        return next(planted)

    monkeypatch.setattr(training, "Loop", Loop)
    monkeypatch.setattr(training, "recall_at_1", recall)
    _, place = train(select="held_out_classes", epochs=4)
    best = torch.load(place / "checkpoint.pt", weights_only=True)["best"][1]
    assert all(classes == set(range(16, 20)) for classes, _ in seen)  # the last fifth of the training classes
    assert learnt == [set(range(16))] * 4
    matches = [
        all(torch.equal(best[f"backbone.{name}"], v) for name, v in state.items()) for _, state in seen
    ]
    assert matches == [False, True, False, False]  # the earlier of two equally good


def test_types_are_dealt_by_lot_or_cut_to_those_present_and_never_in_the_test_set(data):
    plain, tested, (every, _) = load(data, settings())

    def types(split: Images) -> list[int]:
        of_class = [set(split.coarse[split.fine == name].tolist()) for name in split.fine.unique()]
        assert all(len(types) == 1 for types in of_class)
        return [types.pop() for types in of_class]

    lots = (settings(coarse_shuffle=True, seed=seed) for seed in (1, 2))
    (one, untouched, _), (two, _, _) = (load(data, lot) for lot in lots)
    assert sorted(types(one)) == sorted(types(two)) == sorted(types(plain))
    assert types(plain) != types(one) != types(two)
    assert torch.equal(untouched.coarse, tested.coarse)
    trained, _, (present, _) = load(data, settings(coarse_head="present"))
    assert int(trained.coarse.max()) + 1 == present < every


# Runs ------------------------------------------------------------------------------------------------


def test_a_killed_run_resumes_as_if_nothing_had_happened(train, tmp_path):
    options = {"epochs": 3, "select": "held_out_classes", "sibling": "random", "schedule": "linear"}
    whole, _ = train(**options)

    def die(step: int, total: int, note: str, numbers: dict[str, float]) -> None:
        if note == "epoch 3":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train("killed", report=die, **options)
    (tmp_path / "other").mkdir()
    torch.save({"epoch": 5}, tmp_path / "other" / "checkpoint.pt")  # of something else: passed over
    assert train("other", **options)[0] == whole
    seen = []
    resumed, _ = train("killed", report=lambda *told: seen.append(told), **options)
    assert resumed == whole
    steps = seen[0][1] // 3
    last = whole["history"][1]  # of the second epoch
    assert seen == [(2 * steps + step, 3 * steps, "epoch 3", last) for step in range(1, steps + 1)]


def test_a_start_from_a_file_carries_the_backbone_over_and_needs_its_weights(train):
    file = saved_backbone(train(method="ce")[1])
    state = torch.load(file, weights_only=True)
    for start in ({"start": "file"}, {"start": "imagenet", "weights": "a digest"}):
        net = build(settings(**start), (5, 9), file, CPU)
        assert all(torch.equal(value, state[name]) for name, value in net.backbone.state_dict().items())
        with pytest.raises(PapersError, match="needs weights"):
            build(settings(**start), (5, 9), None, CPU)


def test_frozen_features_have_no_backbone_and_no_crops():
    """The identity start is their first components, nothing is cropped, and the labels are the set's own."""
    changes = {"backbone": "features", "augment": False, "epochs": 1, "batch_size": 32, "embedding_dim": 16}
    where = (str(features.SHIPPED), "cars196_half_features")
    trained, tested, (types, models) = load(where, settings(**changes))
    assert (types, models) == (22, 98)
    assert [len(split.fine) for split in (trained, tested)] == [4052, 4092]
    net = build(settings(**changes, fc_start="identity"), (types, models), None, CPU, 384)
    torch.testing.assert_close(net(tested.pixels[:5]).raw, tested.pixels[:5, :16])
    batch = torch.tensor([3, 1])
    crop = images.crops(tested, batch, settings(**changes), torch.Generator(), CPU)
    assert torch.equal(crop, tested.pixels[batch])


def test_a_diverging_loss_is_one_line_and_no_result(train):
    with pytest.raises((FloatingPointError, PapersError), match=r"the loss is .* lower lr|finite"):
        train(lr=1e12, epochs=3, normalise=False)


def test_an_epoch_without_any_quadruplet_is_one_line(loop_of, monkeypatch):
    loop = loop_of()
    monkeypatch.setattr(loop, "batches", lambda: iter(()))
    with pytest.raises(PapersError, match="no reference has a quadruplet left"):
        loop.run_epoch()


# Measures --------------------------------------------------------------------------------------------


def test_variance_ratio_and_chance_against_loops():
    features = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2, 2])
    within = sum(float(((features[i] - features[labels == labels[i]].mean(0)) ** 2).sum()) for i in range(9))
    whole = float(((features - features.mean(0)) ** 2).sum())
    assert measures.within_over_all(features, labels) == pytest.approx(within / whole, rel=1e-5)
    hits = sum(labels[i] == labels[j] for i in range(9) for j in range(9) if i != j) / (9 * 8)
    assert measures.chance(labels) == pytest.approx(float(hits))


@pytest.fixture
def embedded(data):
    """The training images, and features that know nothing of them."""
    trained, _, _ = load(data, settings())
    return trained, torch.randn(len(trained.fine), 4, generator=torch.Generator().manual_seed(0))


def test_what_would_be_chosen_is_counted_over_the_references(embedded):
    """Dropped references leave these numbers alone: all methods choose for all that have a quadruplet."""
    trained, features = embedded
    counts = measures.mined(features, trained, settings(m1_fallback="drop", no_sibling="mask"))
    chosen = (select(features, trained.fine, trained.coarse, method) for method in ("method_1", "method_2"))
    one, two = (selection.quadruplets for selection in chosen)
    assert counts["same_positive"] == pytest.approx(sum((one == two)[:, 1].tolist()) / len(one), abs=1e-5)
    assert counts["same_sibling"] == pytest.approx(sum((one == two)[:, 2].tolist()) / len(one), abs=1e-5)
    different = len(set(two[:, 1].tolist())) + len(set(two[:, 2].tolist()))
    assert counts["distinct_method_2"] == pytest.approx(different / len(two), abs=1e-5)


def test_the_rank_of_the_positive_is_the_share_of_class_mates_that_are_nearer(embedded):
    trained, features = embedded
    shares = []
    for r, p, *_ in select(features, trained.fine, trained.coarse, "method_2").quadruplets.tolist():
        mates = [i for i, name in enumerate(trained.fine) if name == trained.fine[r] and i not in (r, p)]
        to_r = (features - features[r]).norm(dim=1)
        if mates:
            shares.append(sum(bool(to_r[i] < to_r[p]) for i in mates) / len(mates))
    counts = measures.mined(features, trained, settings())
    assert counts["method_2_positive_rank"] == pytest.approx(sum(shares) / len(shares), abs=1e-5)


@pytest.mark.parametrize("method", ["method_2", "ce", "clustering"])
def test_micro_batches_give_the_gradient_of_the_whole_batch(method, loop_of):
    whole, parts = (loop_of(method=method, freeze_bn=True, micro_batch=size) for size in (0, 5))
    for loop in (whole, parts):
        loop.net.train()
        backbones.freeze_batch_norm(loop.net)
        loop.step(next(loop.batches()))
    for (name, ours), theirs in zip(parts.net.named_parameters(), whole.net.parameters(), strict=True):
        if method == "clustering" and name.startswith(("coarse", "fine")):
            assert ours.grad is None and theirs.grad is None  # no weight decay either
            continue
        assert theirs.grad.abs().max() > 0, name
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5, msg=name)
    with pytest.raises(PapersError, match="micro_batch is exact only"):
        loop_of(micro_batch=4)


def test_tensors_are_taken_as_they_are(data, tmp_path):
    trained, tested, _ = load(data, settings())
    whole = training.train(settings(epochs=1), data, tmp_path / "a", "cpu")
    assert training.train(settings(epochs=1), (trained, tested), tmp_path / "b", "cpu") == whole


def test_a_pilot_selects_from_all_images_and_takes_a_few_steps(train):
    with pilot.measuring(True) as noted:
        metrics, _ = train(epochs=30, batch_size=2)
    assert len(metrics["history"]) == 2 and "same_sibling" in metrics["mined"]
    found = noted.summary()
    assert found["epochs"] == 30 and found["steps"] > pilot.STEPS and found["images"] > 0
