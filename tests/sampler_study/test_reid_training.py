"""A run from images to mAP: every setting counts, it resumes, and it is blind to identities."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from papers_lib import checkpoint
from papers_lib.datasets import features
from papers_lib.errors import PapersError
from papers_lib.networks import backbones
from papers_lib.sampler_study import diagnosis, methods, training
from papers_lib.sampler_study.images import Loaded, Part, Unlabelled, augmented, prepared
from papers_lib.sampler_study.network import GeM, ReidNet, embed, head, training_mode
from papers_lib.sampler_study.options import TrainSettings
from papers_lib.sampler_study.training import rate, train

TINY = {"height": 16, "width": 8, "pad": 1, "backbone": "tiny16", "start": "scratch", "evaluate_every": 1}
TINY |= {"k1": 6, "k2": 2, "eps": 0.7, "batch_size": 8, "iters_per_epoch": 3, "inter_start_epoch": 1}
TINY |= {"epochs": 2, "warm_up_epochs": 1, "milestones": (1,)}
SUPERVISED = {"method": "supervised"}


def settings(**changes: Any) -> TrainSettings:
    return TrainSettings.model_validate(TINY | changes)


def go(root: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    folder.mkdir(exist_ok=True)
    return train(settings(**changes), (str(root), "market1501"), folder, "cpu")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state = checkpoint.load(folder / "checkpoint.pt")
    return state["net"] | {f"labels {n}": labels for n, labels in enumerate(state.get("labels", []))}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# -- every setting counts --

# Another value of each setting; below them settings that matter only beside others.
ALONE = {
    **{"seed": 1, "height": 24, "width": 16, "pad": 3, "erase_area": (0.2, 0.4), "erase_ratio": (1.0, 1.0)},
    **{"backbone": "tiny24", "stem_relu": True, "freeze_bn": "head"},
    **{"k1": 9, "k2": 4, "k1_includes_self": False, "eps": 0.5, "min_samples": 6, "camera_aware": False},
    **{"k": 2, "visited": 0.3, "batch_size": 6, "iters_per_epoch": 0, "tau": 0.05, "num_hard_negatives": 1},
    **{"inter_weight": 0.9, "inter_start_epoch": 0, "memory_momentum": 0.9, "memory_write": "eval"},
    **{"epochs": 1, "lr": 1e-3, "weight_decay": 0.1, "warm_up_epochs": 2, "milestones": ()},
    **{"evaluate_every": 2, "ap_rule": "trapezoid", "no_match": "zero"},
}
METHODS = ("random", "triplet_cluster", "group_cluster", "group_proxy", "spcl", "mmcl", "supervised", "none")
CASES: list[tuple[str, Any, dict[str, Any]]] = [
    *((name, value, {}) for name, value in ALONE.items()),
    *(("method", name, {}) for name in METHODS),
    *(("loss_weighting", name, {}) for name in ("mean", "sum")),
    *((name, ALONE[name], SUPERVISED) for name in ("seed", "batch_size", "epochs", "lr", "weight_decay")),
    ("freeze_bn", "all", SUPERVISED),
    ("iters_per_epoch", 5, SUPERVISED),
    ("precision", "bfloat16", {"height": 32, "width": 16}),
    ("eps_tol", 0.1, {"eps": 0.5}),
    *(("partial_group", name, {"k": 3}) for name in ("carry", "pad")),
    ("repeat", "cap", {"k": 6}),
    ("prefer_other_cameras", True, {"method": "triplet_cluster"}),
    ("groups_per_class", 2, {"method": "triplet_cluster"}),
    ("shuffle_batches", True, {"iters_per_epoch": 20}),
    ("tau", 0.05, {"method": "spcl"}),
    ("floor", 0.01, {"method": "spcl"}),
    ("memory_momentum", 0.9, {"method": "spcl"}),
    ("intra_loss", False, {"inter_start_epoch": 0}),
    ("inter_start_epoch", 0, {"method": "mmcl", "iters_per_epoch": 20}),
    ("memory_rebuild", "drawn", {"lr": 0.01}),
]
# `p` only says how many classes there must be; the others name or leave files. All are tested below.
ELSEWHERE = {"p", "start", "weights", "keep_weights", "pooling", "bad_start", "report"}


def changed_images(monkeypatch: pytest.MonkeyPatch, change: Callable[[Loaded], Loaded]) -> None:
    """Runs load what `change` makes of their images."""
    load = training.load
    monkeypatch.setattr(training, "load", lambda *arguments: change(load(*arguments)))


@pytest.fixture
def one_unmatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person of the query is not in the gallery."""

    def change(images: Loaded) -> Loaded:
        ids = images.gallery.ids.masked_fill(images.gallery.ids == images.query.ids[0], 9999)
        return images._replace(gallery=images.gallery._replace(ids=ids))

    changed_images(monkeypatch, change)


@pytest.fixture(scope="module")
def plain_runs() -> dict[str, tuple[dict[str, Any], dict[str, torch.Tensor]]]:
    """Metrics and weights by settings: many cases change one setting of the same run."""
    return {}


def test_every_setting_has_its_case():
    assert {name for name, _, _ in CASES} | ELSEWHERE == set(TrainSettings.model_fields)


@pytest.mark.parametrize("name, value, more", CASES, ids=lambda x: str(x).replace(" ", ""))
def test_changing_a_setting_changes_the_result(
    tiny_market, tmp_path, one_unmatched, plain_runs, name, value, more
):
    if str(more) not in plain_runs:
        plain_runs[str(more)] = go(tiny_market, tmp_path / "plain", **more), weights(tmp_path / "plain")
        assert go(tiny_market, tmp_path / "again", **more) == plain_runs[str(more)][0]
    plain, learnt = plain_runs[str(more)]
    changed = go(tiny_market, tmp_path / "changed", **more | {name: value})
    if name in ("ap_rule", "no_match", "evaluate_every"):  # what is measured, not what is learnt
        assert equal(learnt, weights(tmp_path / "changed"))
        assert changed != plain
    elif changed.get("history"):
        assert not equal(learnt, weights(tmp_path / "changed"))


def test_p_refuses_what_is_not_the_batch(tiny_market, tmp_path):
    with pytest.raises(PapersError, match="P·K = 3·2 is not the batch size 8"):
        go(tiny_market, tmp_path / "run", p=3, k=2)


def test_what_is_reported_is_the_last_epoch_or_the_best(tiny_market, tmp_path):
    changes = {"lr": 0.03, "epochs": 4, "milestones": ()}
    last, best = (go(tiny_market, tmp_path / name, **changes, report=name) for name in ("last", "best"))
    mean_aps = [epoch["mAP"] for epoch in last["history"]]
    assert last["mAP"] == mean_aps[-1] < max(mean_aps) == best["mAP"] == last["best"]["mAP"]
    assert equal(weights(tmp_path / "last"), weights(tmp_path / "best"))


def test_the_inter_camera_loss_joins_in_its_epoch(tiny_market, tmp_path):
    without = go(tiny_market, tmp_path / "without", inter_weight=0.0)["history"]
    later = go(tiny_market, tmp_path / "later")["history"]
    assert later[0] == without[0]
    assert later[1]["loss"] > without[1]["loss"]


@pytest.mark.parametrize("write", ["train", "eval"])
def test_the_memory_is_written_after_the_step(tiny_market, tmp_path, monkeypatch, write):
    """With the features that were learnt from, or with those that the new weights give the plain images."""
    images = training.load((str(tiny_market), "market1501"), settings(), torch.device("cpu"))
    torch.manual_seed(0)
    net = training.build(settings(), None, torch.device("cpu"))
    loop = training.Loop(settings(memory_write=write, lr=0.01, warm_up_epochs=0), net, images.train)
    learnt, checked = [], []
    loss = loop.learner.loss
    monkeypatch.setattr(loop.learner, "loss", lambda f, i: learnt.append(f.detach()) or loss(f, i))

    def written(features: torch.Tensor, indices: torch.Tensor) -> None:
        plain = embed(net, images.train.pixels[indices])
        assert not torch.equal(plain, learnt[-1])
        checked.append(torch.equal(features, plain if write == "eval" else learnt[-1]))

    monkeypatch.setattr(loop.learner, "write", written)
    loop.run_epoch()
    assert checked == [True] * 3


# -- identities --


def test_training_never_reads_an_identity(network, tmp_path):
    """The same pixels under other people's numbers: weights and pseudo-labels are the same to the bit."""
    for name, people in (("a", list(range(1, 13))), ("b", list(range(50, 74, 2)))):
        network(tmp_path / name / "market1501", people)
        go(tmp_path / name, tmp_path / f"run_{name}")
    assert equal(weights(tmp_path / "run_a"), weights(tmp_path / "run_b"))


@pytest.mark.parametrize(
    "method, hidden", [("triplet_proxy", "train"), ("triplet_proxy", "test"), ("supervised", "test")]
)
def test_shuffled_identities_change_what_is_read_off_and_nothing_else(
    tiny_market, tmp_path, monkeypatch, method, hidden
):
    """Those of the training images move `purity` and `found`, those of the test images the scores."""

    def mixed(ids: torch.Tensor) -> torch.Tensor:
        return ids[torch.randperm(len(ids), generator=torch.Generator().manual_seed(0))]

    def shuffled(images: Loaded) -> Loaded:
        if hidden == "train":
            return images._replace(train_ids=mixed(images.train_ids))
        return images._replace(query=images.query._replace(ids=mixed(images.query.ids)))

    told = go(tiny_market, tmp_path / "a", method=method)
    changed_images(monkeypatch, shuffled)
    other = go(tiny_market, tmp_path / "b", method=method)
    read_off = ("purity", "found") if hidden == "train" else ("mAP", "R1", "R5", "R10")
    read = [[epoch.pop(name) for epoch in run["history"] for name in read_off] for run in (told, other)]
    assert read[0] != read[1]
    assert told["history"] == other["history"]
    assert equal(weights(tmp_path / "a"), weights(tmp_path / "b"))


# -- resuming --


@pytest.mark.parametrize("method", ["triplet_proxy", "spcl", "mmcl", "supervised"])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(tiny_market, tmp_path, monkeypatch, method):
    changes = {"method": method, "epochs": 3, "memory_rebuild": "drawn"}
    whole = go(tiny_market, tmp_path / "whole", **changes)
    save, saved = checkpoint.save, []

    def killed(path: Path, state: dict[str, Any]) -> None:
        save(path, state)
        saved.append(path)
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        go(tiny_market, tmp_path / "cut", **changes)
    monkeypatch.setattr(checkpoint, "save", save)
    assert go(tiny_market, tmp_path / "cut", **changes) == whole
    assert equal(weights(tmp_path / "cut"), weights(tmp_path / "whole"))


def test_a_checkpoint_of_other_images_is_left_aside(tiny_market, tmp_path, capsys):
    go(tiny_market, tmp_path / "run")
    images = training.load((str(tiny_market), "market1501"), settings(), torch.device("cpu")).train
    net = training.build(settings(), None, torch.device("cpu"))
    fewer = type(images)(images.pixels[:50], images.cameras[:50])
    loop = training.Loop(settings(), net, fewer)
    assert not loop.resume(checkpoint.load(tmp_path / "run" / "checkpoint.pt"))
    assert "starts afresh (its image_count is 144)" in capsys.readouterr().out
    assert loop.epoch == 0


def test_supervised_training_learns_and_leaves_weights(tiny_market, tmp_path):
    warm = tmp_path / "warm"
    run = go(tiny_market, warm, **SUPERVISED, keep_weights=True, epochs=3, iters_per_epoch=20, lr=3e-3)
    assert run["history"][-1]["loss"] < run["history"][0]["loss"]
    left = checkpoint.load(warm / "checkpoint.pt")["optimiser"]["param_groups"][0]["lr"]
    assert left < 3e-3 / 1000  # the one cycle has come to its end
    data = (str(tiny_market), "market1501")
    started = train(settings(start="warm", method="none"), data, tmp_path, "cpu", warm / "weights.pt")
    untrained = train(settings(method="none"), data, tmp_path, "cpu")
    assert started["mAP"] == run["mAP"] > untrained["mAP"]
    with pytest.raises(PapersError, match="-p weights"):
        go(tiny_market, tmp_path / "run", start="file")


# -- what goes wrong --


def test_without_clusters_the_first_epoch_is_waited_out_or_says_what_mends_it(tiny_market, tmp_path):
    none = {"eps": 1e-4, "min_samples": 40}
    result = go(tiny_market, tmp_path / "run", **none, bad_start="skip")
    assert [epoch["skipped"] for epoch in result["history"]] == [1.0] * len(result["history"])
    assert result["mAP"] == result["start"]["mAP"]  # it stays as it was
    with pytest.raises(PapersError, match=r"clusters too badly.*eps"):
        go(tiny_market, tmp_path / "refused", **none)


def test_a_collapse_after_the_first_epoch_is_a_result(tiny_market, tmp_path, monkeypatch):
    real = training.sampler

    def fails_later(s: TrainSettings, groups: Any, epoch: int) -> Any:
        if epoch:
            raise PapersError("no class to sample from")
        return real(s, groups, epoch)

    monkeypatch.setattr(training, "sampler", fails_later)
    history = go(tiny_market, tmp_path / "run")["history"]
    assert history[1]["skipped"] == 1.0
    assert history[1]["mAP"] == history[0]["mAP"]


@pytest.mark.parametrize("method", ["triplet_proxy", "supervised"])
def test_a_loss_that_is_not_finite_is_an_error(tiny_market, tmp_path, method):
    with pytest.raises((FloatingPointError, PapersError), match="lower"):
        go(tiny_market, tmp_path / "run", method=method, lr=1e30, warm_up_epochs=0, milestones=())


# -- the schedule, the images, the network --


@pytest.mark.parametrize(
    "epoch, expected", [(0, 0.01), (5, 0.505), (10, 1.0), (19, 1.0), (20, 0.1), (39, 0.1), (40, 0.01)]
)
def test_the_learning_rate_is_caps(epoch, expected):
    assert rate(TrainSettings(), epoch) == pytest.approx(expected)


@pytest.fixture
def image() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (1, 16, 8, 3), dtype=torch.uint8, generator=generator)


def test_augmentation_flips_shifts_and_erases_and_no_more(image):
    batch = augmented(image[[0] * 400], settings(pad=2), torch.Generator().manual_seed(1))
    assert batch.shape == (400, 3, 16, 8)
    plain = prepared(image)[0]
    same = (batch == plain).flatten(1).all(1).sum()
    mirrored = (batch == plain.flip(2)).flatten(1).all(1).sum()
    # 1/2 · 1/25 · 1/2 of each is as it was, and as many mirrored.
    assert 0 < same < 20 and 0 < mirrored < 20
    fill = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    erased = (batch == fill).all(1).flatten(1).float().mean(1)
    assert 0.35 < (erased > 0).float().mean() < 0.65
    assert erased.max() < 0.3


def test_no_padding_and_no_erasing_is_only_a_flip(image):
    s = settings(pad=0, erase_area=(0.0, 0.0))
    batch = augmented(image[[0] * 64], s, torch.Generator().manual_seed(1))
    plain = prepared(image)[0]
    flipped = [torch.equal(one, plain.flip(2)) for one in batch]
    assert all(torch.equal(one, plain) or f for one, f in zip(batch, flipped, strict=True))
    assert 15 < sum(flipped) < 49


@pytest.mark.parametrize("name, expected", [("tiny16", 128), ("resnet18", 512)])
def test_the_network_keeps_its_last_resolution_and_has_no_stem_relu(name, expected):
    net = training.build(settings(backbone=name), None, torch.device("cpu"))
    assert net(torch.randn(4, 3, 32, 16)).shape == (4, expected)
    last = list(net.backbone.children())[-1] if name == "tiny16" else net.backbone.layer4
    convolutions = [m for m in last.modules() if isinstance(m, torch.nn.Conv2d)]
    assert all(m.stride == (1, 1) for m in convolutions[-3:])
    assert not net.bn.bias.requires_grad
    assert isinstance(net.backbone.stem[2] if name == "tiny16" else net.backbone.relu, torch.nn.Identity)


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
    # One person in two clusters: the clusters are pure, the person is half found.
    halves, one = torch.tensor([0, 0, 1, 1]), torch.zeros(4, dtype=torch.int64)
    found = diagnosis.with_purity([{"loss": 1.0}], [halves], one)
    assert found == [{"loss": 1.0, "purity": 1.0, "found": 0.5}]


def test_each_method_draws_from_a_stream_of_its_own():
    groups = methods.Groups(torch.arange(64), torch.arange(64), torch.zeros(64, dtype=torch.int64))
    drawn = [methods.sampler(settings(method=m, k=1), groups, 0).batches()[0] for m in methods.STREAMS]
    assert len({tuple(batch.tolist()) for batch in drawn}) == len(methods.STREAMS)


# -- frozen features --


def test_a_share_of_the_classes_is_drawn_whole_and_anew_each_epoch():
    labels = torch.arange(8).repeat_interleave(torch.arange(1, 9)) - 1  # classes −1, 0 … 6
    kept = [methods.some_classes(labels, 3 / 7, 0, epoch) for epoch in range(20)]
    for found in kept:
        classes = found[found >= 0].unique()
        assert len(classes) == 3
        assert torch.equal(found >= 0, torch.isin(labels, classes))
    assert len({tuple(found.unique().tolist()) for found in kept}) > 5
    assert torch.equal(methods.some_classes(labels, 1.0, 0, 0), labels)


def test_the_head_of_frozen_features_starts_with_their_cosines():
    features = torch.randn(9, 6, generator=torch.Generator().manual_seed(0))
    net = ReidNet(head(6), 6, stem_relu=False)
    found, expected = embed(net, features), torch.nn.functional.normalize(features)
    assert torch.allclose(found @ found.T, expected @ expected.T, atol=1e-5)
    views = augmented(features[[3, 3, 1]], settings(), torch.Generator())
    assert torch.equal(views, features[[3, 3, 1]])


def test_shipped_features_are_a_camera_network_that_a_head_learns_from(tmp_path):
    where = (str(features.SHIPPED), "cars_cameras_features")
    images = training.load(where, settings(), torch.device("cpu"))
    parts = (images.train_ids, images.query.ids, images.gallery.ids)
    assert [len(ids) for ids in parts] == [1920, 480, 1440]
    trained, asked, found = (set(ids.tolist()) for ids in parts)
    assert not trained & asked and asked == found
    changes = {"method": "random", "k1": 20, "k2": 6, "eps": 0.5, "batch_size": 32, "iters_per_epoch": 30}
    result = train(settings(**changes, lr=1e-3, warm_up_epochs=0), where, tmp_path, "cpu")
    assert result["mAP"] > result["start"]["mAP"] + 0.02


def test_gem_is_the_mean_for_one_and_the_largest_for_many_and_is_learnt():
    maps = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)) + 0.1
    pool = GeM()
    expected = (maps.double() ** 3).mean((2, 3), keepdim=True) ** (1 / 3)
    torch.testing.assert_close(pool(maps), expected.float())
    for power, wanted in ((1.0, maps.mean((2, 3), keepdim=True)), (400.0, maps.amax((2, 3), keepdim=True))):
        with torch.no_grad():
            pool.p.fill_(power)
        torch.testing.assert_close(pool(maps), wanted, rtol=0.02, atol=1e-6)
    assert pool(maps.bfloat16()).dtype == torch.float32
    net = ReidNet(*backbones.build("resnet18"), stem_relu=True, pooling="gem")
    net(torch.rand(2, 3, 32, 16)).sum().backward()
    assert net.backbone.avgpool.p.grad.abs() > 0
    with pytest.raises(PapersError, match="torchvision's ResNets"):
        ReidNet(*backbones.build("tiny16"), stem_relu=True, pooling="gem")


def test_tensors_are_taken_as_they_are(tmp_path):
    """As a data set of the same pixels would be, and without one."""
    people, cameras = torch.arange(12).repeat_interleave(8), torch.arange(96) % 4
    noise = torch.randint(0, 9, (96, 16, 8, 3), generator=torch.Generator().manual_seed(0))
    pixels = (people[:, None, None, None] * 20 + noise).byte()
    learnt, other = (Part(pixels[rows], people[rows], cameras[rows]) for rows in (people < 8, people >= 8))
    given = Loaded(Unlabelled(learnt.pixels, learnt.cameras), learnt.ids, other, other)
    result = train(settings(epochs=1), given, tmp_path, "cpu")
    assert result["parts"] == {"train": 64, "query": 32, "gallery": 32} and len(result["history"]) == 1
