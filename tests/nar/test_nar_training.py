"""Runs of every kind, from images to plain JSON: by their settings, repeatable, resumable, and chained."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from standins import tell

from data_prep import faces as face_prep
from papers_lib import checkpoint
from papers_lib.datasets import classification
from papers_lib.datasets import faces as face_sets
from papers_lib.errors import PapersError
from papers_lib.nar import enumeration, fitting, images, scoring, training
from papers_lib.nar.counting import count
from papers_lib.nar.imagenet import training as imagenet
from papers_lib.nar.networks import resnet18
from papers_lib.nar.options import (
    FaceSettings,
    ImageNetSettings,
    ScoreSettings,
    SearchSettings,
    SkipSettings,
    StandaloneSettings,
    TauSettings,
)

CPU = torch.device("cpu")
COMMON = {"decisions": 6, "width": 4, "valid_size": 20, "batch_size": 10, "precision": "float32"}
SEARCH = COMMON | {
    "epochs": 3,
    "first_cycle": 1,
    "pretrain_epochs": 1,
    "updates": 2,
    "samples": 3,
    "reward_images": 10,
    "final_samples": 3,
    "score_images": 20,
    "bn_eval": "batch",
}
FACES = {
    "image_size": 16,
    "identities": 4,
    "shots": 6,
    "held_out": 2,
    "width": 2,
    "embedding": 8,
    "scale": 8.0,
    "margin": 0.1,
    "cycle": 2,
    "epochs": 2,
    "batch_size": 8,
    "precision": "float32",
}
IMAGENET = {
    "vector": (1, 0, 0, 0, 0, 0, 0, 0),
    "width": 4,
    "image_size": 32,
    "resize": 36,
    "epochs": 2,
    "batch_size": 6,
    "step_epochs": 1,
    "lr": 0.05,
    "workers": 0,
    "precision": "float32",
}
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "standalone": (StandaloneSettings, COMMON | {"vector": (0,) * 6, "epochs": 2, "test_every": 1}),
    "search": (SearchSettings, SEARCH),
    "enumerate": (ScoreSettings, COMMON | {"score_images": 20, "checked": 3, "reward_images": 10}),
    "tau": (TauSettings, COMMON | {"vectors": 5, "epochs": 1, "score_images": 20}),
    "skips": (SkipSettings, {"layers": 3, "epochs": 2, "updates": 30, "samples": 3, "gain": 1.0}),
    "faces": (FaceSettings, FACES),
    "imagenet": (ImageNetSettings, IMAGENET),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CIFAR-10 of 6 + 2 noisy images per class, ImageNet of 6 classes in two shapes, and drawn faces."""
    root = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for number, (side, total) in itertools.product(range(10), (("train", 6), ("test", 2))):
        folder = root / "cifar10" / side / f"class{number}"
        folder.mkdir(parents=True)
        for i in range(total):
            pixels = np.clip(random.normal(20 * number + 20, 30, (8, 8, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
    tell(root / "cifar10", "cifar10", {"train": 60, "test": 20, "classes": 10})
    for number, (side, total) in itertools.product(range(6), (("train", 4), ("val", 2))):
        folder = root / "imagenet" / side / f"n{number:08d}"
        folder.mkdir(parents=True)
        for i in range(total):
            shape = (48, 40, 3) if i % 2 else (40, 56, 3)
            pixels = random.integers(40 * number, 40 * number + 40, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.JPEG")
    tell(root / "imagenet", "imagenet", {"train": 24, "test": 12, "classes": 6})
    (root / "faces_own").mkdir()
    recipe = {"identities": "5", "shots": "6", "pairs": "1", "pixels": "16"}
    face_prep.STAND_INS["faces_own"].make(root / "faces_own", "smoke", recipe)
    return root


@pytest.fixture(scope="module")
def searches(root, tmp_path_factory) -> dict[int, tuple[dict[str, Any], Path]]:
    """Finished searches of 2 and of 4 operators: metrics and shared weights. 64 vectors are soon scored."""
    done = {}
    for operators in (2, 4):
        folder = tmp_path_factory.mktemp("search")
        done[operators] = (go("search", root, folder, operators=operators), folder / "weights.pt")
    return done


@pytest.fixture(scope="module")
def few(searches) -> dict[str, Any]:
    """What a run of 64 vectors starts from."""
    return {"operators": 2, "needed": searches[2][0], "weights": searches[2][1]}


@pytest.fixture(scope="module")
def finished(root, few, tmp_path_factory):
    """A finished run of each kind, computed once: its result, and a copy of its folder."""
    known: dict[str, tuple[Any, Path]] = {}

    def copy(kind: str, to: Path) -> tuple[Any, dict[str, Any]]:
        more = few if kind in ("enumerate", "tau") else {}
        if kind not in known:
            folder = tmp_path_factory.mktemp(kind)
            known[kind] = (go(kind, root, folder, **more), folder)
        result, folder = known[kind]
        shutil.copytree(folder, to)
        return timeless(result), more

    return copy


def go(kind: str, root: Path, folder: Path, **more: Any) -> dict[str, Any]:
    """A run of one kind with all its settings."""
    folder.mkdir(exist_ok=True, parents=True)
    needed, weights = more.pop("needed", None), more.pop("weights", None)
    model, base = KINDS[kind]
    settings = model.model_validate(base | more)
    if kind == "imagenet":
        return imagenet.train(settings, (str(root), "imagenet"), folder, "cpu", fitting.quiet)
    data = (str(root), "faces_own" if kind == "faces" else "cifar10")
    json_settings = settings.model_dump(mode="json")
    return training.run(json_settings, data, folder, "cpu", needed=needed, weights=weights)


def timeless(result: Any) -> Any:
    """A result without what the clock says."""
    if isinstance(result, dict):
        return {k: timeless(v) for k, v in result.items() if not k.startswith("seconds")}
    return [timeless(x) for x in result] if isinstance(result, list) else result


# -- settings ----------------------------------------------------------------------------------------------

CHANGED: dict[str, dict[str, Any]] = {
    "common": {
        "seed": 1, "images": 40, "image_size": 12, "valid_size": 10, "decisions": 8, "operators": 3,
        "rule": "enas", "width": 6, "batch_size": 8, "momentum": 0.0, "weight_decay": 0.3,
        "precision": "bfloat16",
    },
    "standalone": {"take": "pick", "vector": (1,) * 6, "epochs": 1, "lr": 0.02, "warm_up_epochs": 1.0,
                   "test_every": 2},
    "search": {
        "epochs": 2, "lr": 0.1, "lr_min": 0.04, "first_cycle": 4, "pretrain_epochs": 2,
        "pretrain_sampling": "strict_fair", "preset": "enas_paper", "updates": 3, "samples": 4,
        "reward_images": 15, "bn_eval": "running", "cost_weight": 0.5, "final_samples": 5, "score_images": 13,
    },
    "enumerate": {"score_images": 13, "checked": 4, "reward_images": 6, "beam": 3, "random": 7},
    "tau": {"vectors": 6, "epochs": 2, "lr": 0.01, "score_images": 13},
    "skips": {"seed": 1, "layers": 4, "preset": "enas_paper", "epochs": 3, "updates": 20, "samples": 4,
              "gain": 0.5, "noise": 0.1, "weight": 5.0, "target": 0.1},
    "faces": {
        "seed": 1, "image_size": 24, "identities": 3, "shots": 5, "held_out": 1, "vector": (3,) * 24,
        "rule": "enas", "width": 3, "embedding": 6, "scale": 16.0, "margin": 0.4, "lr": 0.01, "lr_min": 0.09,
        "cycle": 1, "epochs": 1, "batch_size": 7, "momentum": 0.0, "weight_decay": 0.3,
        "precision": "bfloat16",
    },
    "imagenet": {
        "seed": 1, "vector": (0,) * 8, "rule": "enas", "width": 6, "image_size": 40, "resize": 64,
        "epochs": 1, "batch_size": 5, "lr": 0.01, "step_epochs": 2, "momentum": 0.0, "weight_decay": 0.3,
        "workers": 1, "precision": "bfloat16",
    },
}  # fmt: skip
# What a search's weights and images fix is refused if it is another; nothing of these is trained with.
GIVEN = {"decisions", "operators", "rule", "width"}
IDLE = {"enumerate": {"batch_size", "momentum", "weight_decay"} | GIVEN, "tau": GIVEN}
# What a setting needs beside it to matter.
BESIDE = {
    ("standalone", "decisions"): {"take": "random_same"},
    ("standalone", "operators"): {"take": "random_same"},
    ("standalone", "rule"): {"vector": (1,) * 6},
    ("enumerate", "beam"): {"decisions": 16},
    ("skips", "target"): {"weight": 1.0},
    ("faces", "rule"): {"vector": (3,) * 24},
}


def fields() -> list[tuple[str, str]]:
    return [
        (kind, name) for kind, (model, _) in KINDS.items() for name in model.model_fields if name != "kind"
    ]


@pytest.fixture(scope="module")
def results(root, searches, tmp_path_factory):
    """Results by kind and changes, each computed once."""
    known: dict[str, Any] = {}

    def result(kind: str, changes: dict[str, Any]) -> Any:
        key = json.dumps([kind, changes])
        if key not in known:
            folder = tmp_path_factory.mktemp("run")
            needed, weights = searches[2]
            if kind == "standalone":
                needed = {"choices": {"pick": [1, 0, 1, 0, 1, 1]}}
            elif changes.get("decisions") == 16:
                needed = go("search", root, folder / "search", decisions=16, operators=2, epochs=1)
                weights = folder / "search" / "weights.pt"
            small = {"operators": 2} if kind in ("enumerate", "tau") else {}
            known[key] = timeless(go(kind, root, folder, needed=needed, weights=weights, **(small | changes)))
        return known[key]

    return result


@pytest.mark.parametrize(("kind", "name"), fields())
def test_every_setting_changes_the_result(results, kind, name):
    if name in IDLE.get(kind, ()):
        return
    value = (CHANGED[kind] if name in CHANGED[kind] else CHANGED["common"])[name]
    beside = BESIDE.get((kind, name), {})
    assert results(kind, beside | {name: value}) != results(kind, beside)


@pytest.mark.parametrize("kind", ["enumerate", "tau"])
@pytest.mark.parametrize("name", sorted(GIVEN))
def test_a_run_from_a_search_is_of_its_network(root, few, tmp_path, kind, name):
    with pytest.raises(PapersError, match="are of another network"):
        go(kind, root, tmp_path, **(few | {name: CHANGED["common"][name]}))


def swapped(source: Any) -> Any:
    """The same data with test labels of another class, or pairs that are the same where they were not."""
    if isinstance(source, face_sets.Faces):
        tests = {k: dataclasses.replace(v, same=v.same[::-1].copy()) for k, v in source.tests.items()}
        return dataclasses.replace(source, tests=tests)
    labels = (source.test.labels + 1) % len(source.classes)
    return dataclasses.replace(source, test=dataclasses.replace(source.test, labels=labels))


@pytest.mark.parametrize("kind", ["standalone", "search", "enumerate", "tau", "faces", "imagenet"])
def test_test_labels_change_no_weight_and_no_choice(root, finished, tmp_path, monkeypatch, kind):
    plain, more = finished(kind, tmp_path / "plain")
    for module in (classification, face_sets):
        load = module.load
        monkeypatch.setattr(module, "load", lambda *a, f=load, **k: swapped(f(*a, **k)))
    hidden = timeless(go(kind, root, tmp_path / "hidden", **more))
    for result in (plain, hidden):
        seen = [result, *(entry for entry in result.get("history", ()))]
        tested = [
            entry.pop(name, None)
            for entry in (seen if kind != "faces" else seen[:1])
            for name in ("accuracy", "top_5", "verification")
        ]
        assert any(tested) or kind in ("search", "enumerate", "tau")
    assert hidden == plain
    states = [checkpoint.load(tmp_path / name / "checkpoint.pt") for name in ("plain", "hidden")]
    for name in {"network", "supernet", "head"} & states[0].keys():
        for a, b in zip(states[0][name].values(), states[1][name].values(), strict=True):
            assert torch.equal(a, b)


# -- repeated, killed, and damaged -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "skips"])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(root, finished, tmp_path, monkeypatch, kind):
    whole, more = finished(kind, tmp_path / "whole")
    json.dumps(whole, allow_nan=False)
    save = checkpoint.save

    def killed(path: Path, state: dict[str, Any]) -> None:
        save(path, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        go(kind, root, tmp_path / "half", **more)
    monkeypatch.setattr(checkpoint, "save", save)
    assert checkpoint.load(tmp_path / "half" / "checkpoint.pt")
    assert timeless(go(kind, root, tmp_path / "half", **more)) == whole


def shapeless(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same names; the last matrix of another shape, so that what stands before it is taken first."""
    last = [name for name, value in weights.items() if value.ndim > 1][-1]
    return weights | {last: torch.zeros(99, 3)}


MISFITS: dict[str, list[tuple[str, Any]]] = {
    "standalone": [("network", None), ("network", shapeless), ("optimiser", {}),
                   ("generator", torch.zeros(3)), ("epoch", "x"), ("history", [])],
    "search": [("supernet", shapeless), ("reinforce", {}), ("epoch", 99), ("macs", "x"), ("history", None)],
    "faces": [("network", None), ("head", {}), ("optimiser", {}), ("epoch", "1"), ("vector", [3] * 24)],
    "imagenet": [("optimiser", {}), ("history", [])],
    "enumerate": [("seconds", "x"), ("scores", None), ("scores", [1.0]), ("scores", torch.zeros(7)),
                  ("scores", torch.zeros(64, dtype=torch.int64)),
                  ("scores", torch.full((64,), 7.0).double())],
    "tau": [("alone", None), ("alone", [0.1] * 6), ("alone", ["x"]), ("alone", [math.nan]), ("alone", [2.0])],
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name", "change"), [(kind, *misfit) for kind, misfits in MISFITS.items() for misfit in misfits]
)
def test_a_checkpoint_that_does_not_fit_is_a_fresh_start(
    root, finished, tmp_path, capsys, kind, name, change
):
    whole, more = finished(kind, tmp_path / "run")
    path = tmp_path / "run" / "checkpoint.pt"
    state = checkpoint.load(path)
    checkpoint.save(path, state | {name: change(state[name]) if callable(change) else change})
    assert timeless(go(kind, root, tmp_path / "run", **more)) == whole
    assert capsys.readouterr().out.count("the run starts afresh") == 1


def test_a_checkpoint_of_another_network_is_passed_over(root, tmp_path, capsys):
    go("standalone", root, tmp_path, vector=(0,) * 6)
    assert go("standalone", root, tmp_path, vector=(1,) * 6)["vector"] == [1] * 6
    assert "afresh" in capsys.readouterr().out


def test_scores_that_are_known_are_not_computed_again(root, few, tmp_path, monkeypatch):
    whole = go("enumerate", root, tmp_path, **few)
    walk, walked = enumeration._walk, []
    monkeypatch.setattr(enumeration, "_walk", lambda *a: walked.append(len(a[3])) or walk(*a))
    assert timeless(go("enumerate", root, tmp_path, **few)) == timeless(whole)
    assert walked == [3, 3]  # the search's samples on both reward batches, and no vector of the tree


# -- a stand-alone training --------------------------------------------------------------------------------


def test_a_training_is_that_of_a_plain_loop(root, tmp_path):
    """Nesterov's SGD with weight decay, by hand: v ← μ v + g,  w ← w − η (g + μ v)."""
    changes = {"epochs": 2, "warm_up_epochs": 1.0, "lr": 0.05, "weight_decay": 0.01}
    vector = (0, 1, 2, 3, 0, 0)
    result = go("standalone", root, tmp_path, vector=vector, **changes)
    settings = StandaloneSettings.model_validate(COMMON | changes)
    loaded = images.load((str(root), "cifar10"), settings, CPU)
    torch.manual_seed(0)
    network, generator = resnet18(vector, classes=10, width=4).train(), torch.Generator().manual_seed(0)
    speeds = [torch.zeros_like(p) for p in network.parameters()]
    for epoch in range(2):
        order = torch.randperm(60, generator=generator)
        for number in range(6):
            batch = loaded.chosen[order[10 * number : 10 * number + 10]]
            x = images.normalised(images.augmented(loaded.train[batch], generator))
            loss = F.cross_entropy(network(x), loaded.train_labels[batch])
            gradients = torch.autograd.grad(loss, list(network.parameters()))
            rate = 0.05 * (number / 6 if epoch == 0 else (1 + math.cos(math.pi * number / 6)) / 2)
            with torch.no_grad():
                for p, gradient, v in zip(network.parameters(), gradients, speeds, strict=True):
                    g = gradient + 0.01 * p
                    v.mul_(0.9).add_(g)
                    p.sub_(rate * (g + 0.9 * v))
    state = checkpoint.load(tmp_path / "checkpoint.pt")["network"]
    for name, value in network.named_parameters():
        torch.testing.assert_close(state[name], value.data, rtol=1e-3, atol=1e-5)
    exact = count(vector, "resnet18_cifar", image_size=8, classes=10, width=4)
    assert (result["parameters"], result["multiply_accumulates"]) == exact
    assert result["accuracy"] == result["history"][-1]["accuracy"]


def test_the_training_accuracy_is_read_across_the_classes(root, tmp_path, monkeypatch):
    """Images lie by class in some copies: the first ones would be of few classes."""
    seen, accuracy = [], fitting.Fit.accuracy
    monkeypatch.setattr(fitting, "TRAIN_IMAGES", 12)
    monkeypatch.setattr(fitting.Fit, "accuracy", lambda *a: seen.append(a[2]) or accuracy(*a))
    go("standalone", root, tmp_path)
    assert len(seen[-1]) <= 12 and len(seen[-1].unique()) >= 7


def test_a_needed_run_decides_the_vector(root, tmp_path):
    needed = {"choices": {"pick": [1, 0, 2, 0, 0, 0], "optimum": [3] * 6}}
    assert go("standalone", root, tmp_path / "a", take="pick", needed=needed)["vector"] == [1, 0, 2, 0, 0, 0]
    drawn = set()
    for seed in range(6):
        settings = StandaloneSettings.model_validate(COMMON | {"take": "random_same", "seed": seed})
        drawn.add(fitting.vector_of(settings, needed))
    assert len(drawn) > 1 and {sum(code != 0 for code in vector) for vector in drawn} == {2}
    with pytest.raises(PapersError, match="decided no vector 'best_random'"):
        go("standalone", root, tmp_path / "no", take="best_random", needed=needed)


# -- the search --------------------------------------------------------------------------------------------


def new_search(root: Path, **changes: Any) -> training.Search:
    settings = SearchSettings.model_validate(SEARCH | changes)
    torch.manual_seed(settings.seed)
    return training.Search(settings, images.load((str(root), "cifar10"), settings, CPU), CPU)


def test_a_search_says_what_it_did(searches):
    result, _ = searches[4]
    assert result["evaluations"] == 2 * 2 * 3  # updates × samples of the two epochs behind PreTrain
    scores = [sample["score"] for sample in result["samples"]]
    assert result["choices"]["pick"] == result["samples"][scores.index(max(scores))]["vector"]
    pretraining, *others = result["history"]
    assert "reward" not in pretraining and all("reward" in entry for entry in others)
    for entry in result["history"]:
        assert all(sum(row) == pytest.approx(1, abs=1e-3) for row in entry["shares"])
        assert all(0 < bits <= 2 for bits in entry["entropy"])


def test_a_search_counts_what_it_computes(root, monkeypatch):
    """Three times a vector's operations per training image; per reward image what no beginning shares."""
    loop, total = new_search(root, epochs=2, updates=1), 0.0
    fixed = loop.costs.fixed.multiply_accumulates
    forward, rewards = loop.supernet.forward, loop.rewards

    def trained(x: torch.Tensor, vector: list[int]) -> torch.Tensor:
        nonlocal total
        total += 3 * len(x) * count(vector, "resnet18_cifar", image_size=8, classes=10, width=4)[1]
        return forward(x, vector)

    def rewarded(vectors: torch.Tensor) -> torch.Tensor:
        nonlocal total
        rows = [tuple(row) for row in vectors.tolist()]
        total += 10 * fixed * len(rows)
        for start in {row[:end] for row in rows for end in range(1, 7)}:
            whole, before = ((*code, *[0] * (6 - len(code))) for code in (start, start[:-1]))
            sums = [loop.costs.macs(vector) for vector in (whole, before)]
            total += 10 * (sums[0] - sums[1] + loop.costs.choices[len(start) - 1][0].multiply_accumulates)
        return rewards(vectors)

    monkeypatch.setattr(loop.supernet, "forward", trained)
    monkeypatch.setattr(loop, "rewards", rewarded)
    for _ in range(2):
        loop.run_epoch()
    assert loop.macs == total


def test_pretraining_leaves_the_controller_alone(root):
    loop = new_search(root, pretrain_epochs=2)
    before = {k: v.clone() for k, v in loop.controller.state_dict().items()}
    loop.run_epoch()
    assert all(torch.equal(before[k], v) for k, v in loop.controller.state_dict().items())
    assert loop.evaluations == 0
    for _ in range(2):
        loop.run_epoch()
    assert not all(torch.equal(before[k], v) for k, v in loop.controller.state_dict().items())


def test_rewards_and_the_last_choice_are_accuracy_less_the_cost(root):
    loop = new_search(root, cost_weight=0.5, reward_images=20)
    vectors = torch.tensor([[0] * 6, [1, 2, 3, 0, 0, 0]])
    plain = loop.accuracies(vectors.tolist(), loop.images.validation)
    macs = [count(v, "resnet18_cifar", image_size=8, classes=10, width=4)[1] for v in vectors.tolist()]
    expected = [float(a) - 0.5 * m / macs[0] for a, m in zip(plain, macs, strict=True)]
    assert loop.rewards(vectors).tolist() == pytest.approx(expected, abs=1e-6)
    result = new_search(root, cost_weight=1000.0, final_samples=12).result()
    cheapest = min((sample["vector"] for sample in result["samples"]), key=loop.costs.macs)
    assert result["choices"]["pick"] == cheapest


def test_a_search_with_fused_sgd_trains_what_the_default_one_trains(root):
    """Fused SGD, a GPU's, refuses a list of momenta of which some are missing, and most operators rest."""
    loops = [new_search(root, pretrain_epochs=2) for _ in range(2)]
    for group in loops[1].optimiser.param_groups:
        group |= {"fused": True, "foreach": False}
    for loop in loops:
        loop.run_epoch()
    for a, b in zip(*(loop.supernet.parameters() for loop in loops), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_strict_fairness_sums_the_gradients_of_all_operators_before_a_step(root):
    fair = new_search(root, pretrain_epochs=1, pretrain_sampling="strict_fair")
    steps, step = [], fair.optimiser.step

    def seen() -> None:
        modules = (m for block in fair.supernet._blocks for m in block.conv1)
        steps.append(all(next(m.parameters()).grad is not None for m in modules))
        step()

    fair.optimiser.step = seen  # type: ignore[method-assign]
    fair.run_epoch()  # PreTrain: 4 batches of 10 images, one step
    assert steps == [True]
    fair.run_epoch()
    assert len(steps) == 5


# -- what a finished search is worth -----------------------------------------------------------------------


def test_enumeration_ranks_and_picks_as_a_plain_loop_does(root, tmp_path, searches):
    needed, weights = searches[4]
    result = go("enumerate", root, tmp_path, needed=needed, weights=weights, random=9)
    assert result["count"] == 4096 and result["max_difference_to_naive"] == 0
    assert result["naive_block_calls"] / result["block_calls"] == pytest.approx(6 * 4096 / 5460)
    scores = checkpoint.load(tmp_path / "checkpoint.pt")["scores"].tolist()
    pick = result["named"]["pick"]
    score = scores[enumeration.index_of(pick["vector"])]
    above, equal = sum(s > score for s in scores), sum(s == score for s in scores)
    assert pick["score"] == score and pick["rank"] == above + (equal + 1) / 2
    assert result["named"]["optimum"]["score"] == max(scores)
    singles = [scores[enumeration.index_of(entry["vector"])] for entry in result["singles"]]
    assert len(singles) == 18 and result["named"]["single"]["score"] == max(singles)
    assert sum(n for _, _, n in result["map"]) == 4096
    front = [score for _, score in result["front"]]
    assert front == sorted(front) and front[-1] == max(scores)
    assert len(result["quantiles"]) == 101 and result["top"]["count"] == 41
    every = itertools.product(range(4), repeat=6)
    loop = new_search(root)
    assert result["multiply_accumulates"] == 20 * loop.costs.macs_together(every)


def test_ties_do_not_change_the_choice():
    table = torch.tensor([[0.5, 0.5, 0.4], [0.5, 0.5, 0.4], [0.6, 0.5, 0.7]])
    assert scoring.share_changed(table, 3) == 0
    third = pytest.approx(1 / 3, abs=0.05)  # the third batch, a third of draws
    assert scoring.share_changed(table, 1) == third


def test_sixteen_decisions_take_a_beam(root, tmp_path):
    needed = go("search", root, tmp_path / "search", decisions=16, epochs=1, pretrain_epochs=0)
    weights = tmp_path / "search" / "weights.pt"
    result = go("enumerate", root, tmp_path, decisions=16, beam=2, needed=needed, weights=weights)
    assert 16 < result["tried"] <= 1 + 16 * 3 * 2
    assert len(result["choices"]["optimum"]) == 16 and result["best_score"] >= result["base_score"]
    assert result["choices"]["pick"] == needed["choices"]["pick"]


def test_tau_correlates_what_it_lists(root, few, tmp_path):
    result = go("tau", root, tmp_path, **few, vectors=6)
    points = result["points"]
    assert len(points) == 6
    assert all(1 <= sum(code != 0 for code in p["vector"]) <= 4 for p in points[3:])
    pairs = list(itertools.combinations(points, 2))
    signs = [np.sign((a["alone"] - b["alone"]) * (a["macs"] - b["macs"])) for a, b in pairs]
    ties = math.prod(1 - np.mean([a[k] == b[k] for a, b in pairs]) for k in ("alone", "macs"))
    assert ties and result["tau"]["macs"] == pytest.approx(np.mean(signs) / math.sqrt(ties), abs=1e-4)
    assert scoring.kendall([{"alone": 0.5, "batch": float(i)} for i in range(4)], "batch") is None


@pytest.mark.parametrize("kind", ["enumerate", "tau"])
@pytest.mark.parametrize(("change", "message"), [
    (lambda state: None, "No such file"),
    (lambda state: state | {"fc.bias": torch.zeros(99)}, "are of another network"),
    (lambda state: {"a": torch.zeros(1)}, "are of another network"),
    (lambda state: state | {"fc.bias": torch.full((10,), math.nan)}, "hold NaN or infinity"),
    (bytes, "refused"),
])  # fmt: skip
def test_weights_of_no_use_are_one_line_that_mends(root, few, tmp_path, kind, change, message):
    weights = tmp_path / "search" / "weights.pt"
    weights.parent.mkdir()
    if change is bytes:
        weights.write_bytes(few["weights"].read_bytes()[:3000])
    elif state := change(checkpoint.load_weights(few["weights"])):
        checkpoint.save(weights, state)
    with pytest.raises(PapersError, match=message) as error:
        go(kind, root, tmp_path / "run", **(few | {"weights": weights}))
    text, place = str(error.value), weights.parent if "NaN" in message else weights.with_name("result.json")
    assert "\n" not in text and len(text) < 500
    assert text.endswith(f"remove {place}, and the sweep computes that search again")


def test_a_needed_run_that_is_no_search_is_named(root, few, tmp_path):
    with pytest.raises(PapersError, match="has no choices, history, reward_images, samples in its") as error:
        go("enumerate", root, tmp_path, **(few | {"needed": {}}))
    assert f"remove {few['weights'].with_name('result.json')}" in str(error.value)
    with pytest.raises(PapersError, match="starts from a finished search"):
        go("enumerate", root, tmp_path)


# -- images and rates --------------------------------------------------------------------------------------


def test_images_are_those_of_the_files_and_the_validation_part_is_kept_out(root):
    settings = SearchSettings.model_validate(SEARCH)
    loaded = images.load((str(root), "cifar10"), settings, CPU)
    for side, pixels in (("train", loaded.train), ("test", loaded.test)):
        files = sorted((root / "cifar10" / side).glob("*/*.png"))
        assert pixels.tolist() == [np.asarray(Image.open(file)).tolist() for file in files]
    held = loaded.train_labels[loaded.validation]
    assert torch.bincount(held, minlength=10).tolist() == [2] * 10
    assert not set(loaded.validation.tolist()) & set(loaded.training.tolist())
    assert sorted(loaded.chosen.tolist()) == list(range(60))


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("standalone", {"images": 5}, "5 images of 10 classes"),
        ("standalone", {"images": 61}, "61 images.*set images between 10 and 60"),
        ("standalone", {"valid_size": 61}, "61 images .* set valid_size between 10 and 60"),
        ("standalone", {"batch_size": 64}, "do not fill one batch of 64"),
        ("imagenet", {"batch_size": 25}, "24 training images do not fill one batch of 25"),
        ("faces", {"identities": 6}, "5 identities have 6 images or more, 6 are asked for"),
        ("faces", {"shots": 7}, "0 identities have 7 images or more"),
        ("faces", {"batch_size": 17}, "a batch of 17 is more than the 16 training images"),
        ("faces", {"vector": (0,) * 23}, "too short"),
        ("faces", {"vector": (0,) * 23 + (9,)}, "no operator"),
    ],
)
def test_settings_that_the_data_cannot_serve_get_one_line(root, tmp_path, kind, changes, message):
    with pytest.raises(PapersError, match=message) as error:
        go(kind, root, tmp_path, **changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["standalone", "search", "faces", "imagenet"])
def test_a_loss_that_is_not_finite_stops_the_run(root, tmp_path, kind):
    with pytest.raises(FloatingPointError, match="lower lr"):
        go(kind, root, tmp_path, lr=1e38)


def test_crops_and_flips_are_those_of_a_plain_loop():
    batch = torch.randint(0, 256, (5, 6, 7, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    views = images.augmented(batch, torch.Generator().manual_seed(1))
    again = torch.Generator().manual_seed(1)
    shift = torch.randint(2 * images.PAD + 1, (2, 5, 1), generator=again)
    flipped = torch.rand(5, 1, generator=again) < 0.5
    for i in range(5):
        padded = torch.zeros(6 + 2 * images.PAD, 7 + 2 * images.PAD, 3, dtype=torch.uint8)
        padded[images.PAD : -images.PAD, images.PAD : -images.PAD] = batch[i]
        top, left = int(shift[0, i]), int(shift[1, i])
        crop = padded[top : top + 6, left : left + 7]
        assert torch.equal(views[i], crop.flip(1) if flipped[i] else crop)


def test_normalised_images_are_channels_last():
    x = images.normalised(torch.zeros(2, 4, 4, 3, dtype=torch.uint8))
    assert x.shape == (2, 3, 4, 4) and x.is_contiguous(memory_format=torch.channels_last)
    black = [-m / s for m, s in zip(images.MEAN, images.SD, strict=True)]
    assert x[0, :, 0, 0].tolist() == pytest.approx(black)


def test_rates_restart_and_rise_where_they_should():
    paper = FaceSettings()
    for start in (0, 10, 30, 70, 150):
        assert fitting.sgdr(start, paper.cycle, paper.lr_min, paper.lr) == pytest.approx(0.1)
    for end in (10, 30, 70, 150):
        rate = fitting.sgdr(end - 1e-6, paper.cycle, paper.lr_min, paper.lr)
        assert rate == pytest.approx(1e-4, abs=1e-8)
    assert fitting.sgdr(20, 10) == pytest.approx(0.5) and paper.epochs == 150
    assert fitting.warm_cosine(1, 10, 2) == 0.5 and fitting.warm_cosine(2, 10, 2) == 1
    assert fitting.warm_cosine(10, 10, 2) == pytest.approx(0)
