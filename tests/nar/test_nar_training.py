"""Runs of every kind, from images to plain JSON: by their settings, repeatable, resumable, and chained."""

import dataclasses
import itertools
import json
import math
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tiny_nar import COMMON, FACES, IMAGENET, SEARCH, SEARCH_FACES, generator

from papers_lib import checkpoint, pilot
from papers_lib.datasets import classification
from papers_lib.datasets import faces as face_sets
from papers_lib.errors import PapersError
from papers_lib.nar import enumeration, fitting, images, options, scoring, training
from papers_lib.nar.counting import count
from papers_lib.nar.imagenet import training as imagenet
from papers_lib.nar.networks import resnet18

CPU = torch.device("cpu")
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "standalone": (options.StandaloneSettings, COMMON | {"vector": (0,) * 6, "epochs": 2, "test_every": 1}),
    "search": (options.SearchSettings, SEARCH),
    "enumerate": (options.ScoreSettings, COMMON | {"checked": 3, "reward_images": 10, "vectors": 5}),
    "alone": (options.AloneSettings, COMMON | {"vectors": 5, "epochs": 1}),
    "skips": (options.SkipSettings, {"layers": 3, "epochs": 2, "updates": 30, "samples": 3, "gain": 1.0}),
    "faces": (options.FaceSettings, FACES),
    "search_faces": (options.FaceSearchSettings, SEARCH_FACES),
    "imagenet": (options.ImageNetSettings, IMAGENET),
}


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
def needs(few) -> dict[str, dict[str, Any]]:
    """What a run of a kind starts from."""
    picks = {"standalone": [1, 0, 1, 0, 1, 1], "faces": [1, 3] * 12}
    found = {kind: {"needed": {"choices": {"pick": pick}}} for kind, pick in picks.items()}
    return defaultdict(dict, found | {"enumerate": few})


@pytest.fixture(scope="module")
def finished(root, needs, tmp_path_factory):
    """Results by kind and changes, each computed once; a copy of the run's folder where one is asked for."""
    known: dict[str, tuple[Any, Path]] = {}

    def result(kind: str, changes: dict[str, Any] | None = None, to: Path | None = None) -> Any:
        key = json.dumps([kind, changes or {}])
        if key not in known:
            folder = tmp_path_factory.mktemp("run")
            known[key] = go(kind, root, folder, **(needs[kind] | (changes or {}))), folder
        found, folder = known[key]
        if to:
            shutil.copytree(folder, to)
        return timeless(found)

    return result


def go(kind: str, root: Path, folder: Path, **more: Any) -> dict[str, Any]:
    """A run of one kind with all its settings."""
    folder.mkdir(exist_ok=True, parents=True)
    needed, weights = more.pop("needed", None), more.pop("weights", None)
    model, base = KINDS[kind]
    settings = model.model_validate(base | more)
    if kind == "imagenet":
        return imagenet.train(settings, (str(root), "imagenet"), folder, "cpu", fitting.quiet)
    data = (str(root), "faces_own" if "faces" in kind else "cifar10")
    json_settings = settings.model_dump(mode="json")
    return training.run(json_settings, data, folder, "cpu", needed=needed, weights=weights)


def cifar(root: Path, settings: Any, where: torch.device = CPU) -> images.Loaded:
    return images.load((str(root), "cifar10"), settings, where)


def timeless(result: Any) -> Any:
    """A result without what the clock says."""
    if isinstance(result, dict):
        return {k: timeless(v) for k, v in result.items() if not k.startswith("seconds")}
    return [timeless(x) for x in result] if isinstance(result, list) else result


# -- settings ----------------------------------------------------------------------------------------------

CHANGED: dict[str, dict[str, Any]] = {
    "common": {
        "seed": 1, "images": 60, "image_size": 12, "valid_size": 30, "decisions": 8, "operators": 3,
        "augment": False, "score_images": 7, "rule": "enas", "width": 6, "batch_size": 8,
        "momentum": 0.0, "weight_decay": 0.3, "precision": "bfloat16",
    },
    "standalone": {
        "take": "pick", "vector": (1,) * 6, "epochs": 1, "lr": 0.02, "warm_up_epochs": 1.0, "test_every": 2,
        "label_smoothing": 0.5, "border": "reflect", "shift": 2, "flip": "alternate", "test_flip": True,
    },
    "search": {
        "epochs": 2, "lr": 0.1, "lr_min": 0.04, "first_cycle": 4, "pretrain_epochs": 2,
        "pretrain_sampling": "strict_fair", "preset": "enas_paper", "updates": 3, "samples": 4,
        "reward_images": 15, "bn_eval": "running", "cost_weight": 0.5, "final_samples": 5,
        "baseline": "leave_one_out",
    },
    "enumerate": {"checked": 4, "reward_images": 6, "random": 7, "vectors": 6, "batch_size": 3},
    "alone": {"vectors": 6, "repeat": 1, "epochs": 2, "lr": 0.01},
    "skips": {"layers": 4, "preset": "enas_paper", "epochs": 3, "updates": 20, "samples": 4,
              "gain": 0.5, "noise": 0.1, "weight": 5.0, "target": 0.1},
    "faces": {
        "image_size": 24, "identities": 3, "shots": 5, "held_out": 1, "vector": (3,) * 24, "width": 3,
        "embedding": 6, "scale": 16.0, "margin": 0.4, "lr": 0.01, "lr_min": 0.09, "first_cycle": 1,
        "epochs": 1, "batch_size": 7, "operators": 2, "take": "pick",
    },
    "imagenet": {
        "label_smoothing": 0.5, "vector": (0,) * 8, "image_size": 24, "resize": 100, "epochs": 1,
        "batch_size": 5, "lr": 0.01, "step_epochs": 2,
    },
}  # fmt: skip
CHANGED["search_faces"] = CHANGED["faces"] | {
    "held_out": 3, "decisions": 48, "operators": 3, "first_cycle": 2, "epochs": 2, "score_images": 3,
}  # fmt: skip
# What a search's weights and images fix is refused if it is another; nothing of these is trained with.
GIVEN = {"decisions", "operators", "rule", "width"}
IDLE = {
    "standalone": {"score_images"},
    "alone": {"score_images"},
    "enumerate": {"augment", "momentum", "weight_decay"} | GIVEN,
    "search_faces": set(options.Controlled.model_fields),  # told by `search`, which is the same loop
}
# What a setting needs beside it to matter.
BESIDE = {
    ("standalone", "decisions"): {"take": "random_same"},
    ("standalone", "operators"): {"take": "random_same"},
    ("standalone", "rule"): {"vector": (1,) * 6},
    ("skips", "target"): {"weight": 1.0},
    ("faces", "rule"): {"vector": (3,) * 24},
    ("faces", "operators"): {"take": "random_same"},
    ("enumerate", "batch_size"): {"vectors": 40},  # of normalisation: few answers turn
    ("imagenet", "resize"): {"lr": 0.03, "epochs": 4},  # else too few test images turn
}


SETTINGS = [
    (kind, name)
    for kind, (model, _) in KINDS.items()
    for name in model.model_fields
    if name not in {"kind", "benchmark"} | IDLE.get(kind, set())  # the latter is cuDNN's alone
]


@pytest.mark.parametrize(("kind", "name"), SETTINGS)
def test_every_setting_changes_the_result(finished, kind, name):
    value = (CHANGED["common"] | CHANGED[kind])[name]
    beside = BESIDE.get((kind, name), {})
    assert finished(kind, beside | {name: value}) != finished(kind, beside)


@pytest.mark.parametrize("name", sorted(GIVEN))
def test_a_run_from_a_search_is_of_its_network(root, few, tmp_path, name):
    with pytest.raises(PapersError, match="are of another network"):
        go("enumerate", root, tmp_path, **(few | {name: CHANGED["common"][name]}))


def swapped(source: Any) -> Any:
    """The same data with test labels of another class, or pairs that are the same where they were not."""
    if isinstance(source, face_sets.Faces):
        tests = {k: dataclasses.replace(v, same=v.same[::-1].copy()) for k, v in source.tests.items()}
        return dataclasses.replace(source, tests=tests)
    labels = (source.test.labels + 1) % len(source.classes)
    return dataclasses.replace(source, test=dataclasses.replace(source.test, labels=labels))


@pytest.mark.parametrize("kind", ["standalone", "alone", "search", "enumerate", "faces", "imagenet"])
def test_test_labels_change_no_weight_and_no_choice(root, finished, needs, tmp_path, monkeypatch, kind):
    plain = finished(kind, to=tmp_path / "plain")
    for module in (classification, face_sets):
        load = module.load
        monkeypatch.setattr(module, "load", lambda *a, f=load, **k: swapped(f(*a, **k)))
    hidden = timeless(go(kind, root, tmp_path / "hidden", **needs[kind]))
    for result in (plain, hidden):
        seen = [result, *result.get("history", result.get("points", ()))]
        tested = [
            entry.pop(name, None)
            for entry in (seen if kind != "faces" else seen[:1])
            for name in ("accuracy", "top_5", "verification")
        ]
        assert any(tested) or kind in ("search", "enumerate")
    assert hidden == plain
    states = [checkpoint.load(tmp_path / name / "checkpoint.pt") for name in ("plain", "hidden")]
    for name in {"network", "supernet", "head"} & states[0].keys():
        for a, b in zip(states[0][name].values(), states[1][name].values(), strict=True):
            assert torch.equal(a, b)


# -- repeated, killed, and damaged -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "skips"])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(root, finished, needs, tmp_path, monkeypatch, kind):
    whole, folder = finished(kind), tmp_path / "half"
    json.dumps(whole, allow_nan=False)
    save = checkpoint.save

    def killed(path: Path, state: dict[str, Any]) -> None:
        save(path, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        go(kind, root, folder, **needs[kind])
    monkeypatch.setattr(checkpoint, "save", save)
    assert checkpoint.load(folder / "checkpoint.pt")
    assert timeless(go(kind, root, folder, **needs[kind])) == whole


@pytest.mark.parametrize("kind", ["standalone", "search", "alone", "faces", "search_faces", "imagenet"])
def test_a_pilot_is_a_whole_result_after_a_few_steps(root, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(pilot, "STEPS", 2)
    changes = {"vectors": 40} if kind == "alone" else {"epochs": 40}
    with pilot.measuring(True) as noted:
        result = go(kind, root, tmp_path / "run", **changes)
    json.dumps(result, allow_nan=False)
    assert len(result["points" if kind == "alone" else "history"]) == 2
    found = noted.summary()
    assert found["epochs"] == 40 and found["steps"] >= 2 and found["images"] > 0 and found["seconds"] > 0


def shapeless(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same names; the last matrix of another shape, so that what stands before it is taken first."""
    last = [name for name, value in weights.items() if value.ndim > 1][-1]
    return weights | {last: torch.zeros(99, 3)}


MISFITS: dict[str, list[tuple[str, Any]]] = {
    "standalone": [("network", shapeless), ("history", [])],
    "search": [("supernet", shapeless), ("reinforce", {}), ("epoch", 99), ("macs", "x")],
    "faces": [("head", {}), ("vector", [3] * 24)],
    "imagenet": [("optimiser", {})],
    "enumerate": [("seconds", "x"), ("scores", None), ("scores", [1.0]), ("scores", torch.zeros(2, 7)),
                  ("scores", torch.zeros(2, 64, dtype=torch.int64)), ("scores", torch.zeros(1, 64).double()),
                  ("scores", torch.full((2, 64), 7.0).double())],
    "alone": [("points", None), ("points", lambda points: points * 2), ("points", ["x"]),
              ("points", lambda points: points[1:]),
              ("points", lambda points: [points[0] | {"accuracy": math.nan}]),
              ("points", lambda points: [points[0] | {"train_accuracy": 2.0}])],
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name", "change"), [(kind, *misfit) for kind, misfits in MISFITS.items() for misfit in misfits]
)
def test_a_checkpoint_that_does_not_fit_is_a_fresh_start(
    root, finished, needs, tmp_path, capsys, kind, name, change
):
    whole = finished(kind, to=tmp_path / "run")
    path = tmp_path / "run" / "checkpoint.pt"
    state = checkpoint.load(path)
    checkpoint.save(path, state | {name: change(state[name]) if callable(change) else change})
    assert timeless(go(kind, root, path.parent, **needs[kind])) == whole
    assert capsys.readouterr().out.count("the run starts afresh") == 1


def test_scores_that_are_known_are_not_computed_again(root, few, tmp_path, monkeypatch):
    whole = go("enumerate", root, tmp_path, **few)
    walk, walked = enumeration._walk, []
    monkeypatch.setattr(enumeration, "_walk", lambda *a: walked.append(len(a[3])) or walk(*a))
    assert timeless(go("enumerate", root, tmp_path, **few)) == timeless(whole)
    # the search's samples on both batches of rewards, the sample by running statistics, no vector of the tree
    assert walked == [len({tuple(s["vector"]) for s in few["needed"]["samples"]})] * 2 + [5]


# -- a stand-alone training --------------------------------------------------------------------------------


def test_a_training_is_that_of_a_plain_loop(root, tmp_path):
    """Nesterov's SGD with weight decay, by hand: v ← μ v + g,  w ← w − η (g + μ v)."""
    changes = {"epochs": 2, "warm_up_epochs": 1.0, "lr": 0.05, "weight_decay": 0.01, "images": 60}
    vector = (0, 1, 2, 3, 0, 0)
    result = go("standalone", root, tmp_path, vector=vector, **changes)
    loaded = cifar(root, options.StandaloneSettings.model_validate(COMMON | changes))
    torch.manual_seed(0)
    network, draws = resnet18(vector, classes=10, width=4).train(), generator()
    speeds = [torch.zeros_like(p) for p in network.parameters()]
    for epoch in range(2):
        order = torch.randperm(60, generator=draws)
        for number in range(6):
            batch = loaded.chosen[order[10 * number : 10 * number + 10]]
            x = images.normalised(images.augmented(loaded.train[batch], draws))
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
    same = options.StandaloneSettings.model_validate(COMMON | {"take": "random_same"})
    drawn = {fitting.vector_of(same.model_copy(update={"seed": seed}), needed) for seed in range(6)}
    assert len(drawn) > 1 and {sum(code != 0 for code in vector) for vector in drawn} == {2}
    with pytest.raises(PapersError, match="decided no vector 'best_random'"):
        go("standalone", root, tmp_path / "no", take="best_random", needed=needed)


# -- the search --------------------------------------------------------------------------------------------


def new_search(root: Path, **changes: Any) -> training.Search:
    settings = options.SearchSettings.model_validate(SEARCH | changes)
    torch.manual_seed(settings.seed)
    return training.Search(settings, cifar(root, settings), CPU)


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
        total += 10 * fixed * len(vectors)
        for start in {tuple(row[:end]) for row in vectors.tolist() for end in range(1, 7)}:
            total += 10 * loop.costs.choices[len(start) - 1][start[-1]].multiply_accumulates
        return rewards(vectors)

    monkeypatch.setattr(loop.supernet, "forward", trained)
    monkeypatch.setattr(loop, "rewards", rewarded)
    for _ in range(2):
        loop.run_epoch()
    assert loop.macs == total


def test_rewards_and_the_last_choice_are_accuracy_less_the_cost(root):
    loop = new_search(root, cost_weight=0.5, reward_images=20)
    vectors = torch.tensor([[0] * 6, [1, 2, 3, 0, 0, 0]])
    plain = loop.accuracies(vectors.tolist(), loop.parts.reward)
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


def test_enumeration_chooses_by_one_half_and_ranks_by_the_other(root, tmp_path, searches):
    needed, weights = searches[4]
    result = go("enumerate", root, tmp_path, needed=needed, weights=weights, random=9)
    assert result["count"] == 4096 and result["max_difference_to_naive"] == 0
    assert result["naive_block_calls"] / result["block_calls"] == pytest.approx(6 * 4096 / 5460)
    kept = checkpoint.load(tmp_path / "scores.pt")
    choice, judge = (kept[name].tolist() for name in ("choice", "judge"))
    loop = new_search(root)
    loop.supernet.load_state_dict(checkpoint.load_weights(weights))
    pick = result["named"]["pick"]
    place = enumeration.index_of(pick["vector"])
    for scores, part in ((choice, loop.parts.choice), (judge, loop.parts.judge)):
        assert scores[place] == loop.accuracies([pick["vector"]], part)[0]
    above, equal = sum(s > judge[place] for s in judge), sum(s == judge[place] for s in judge)
    assert (pick["choice"], pick["score"]) == (choice[place], judge[place])
    assert pick["rank"] == above + (equal + 1) / 2
    assert result["named"]["optimum"]["choice"] == max(choice)
    singles = [choice[code * 4**place] for code in (1, 2, 3) for place in range(6)]
    assert result["named"]["single"]["choice"] == max(singles)
    assert sum(n for _, _, n in result["map"]) == 4096
    front = [score for _, score in result["front"]]
    assert front == sorted(front) and front[-1] == max(judge)
    assert result["top"]["count"] == 41
    every = itertools.product(range(4), repeat=6)
    assert result["multiply_accumulates"] == 20 * loop.costs.macs_together(every)


def test_the_best_of_blind_draws_is_that_of_all_pairs_of_draws():
    """Four vectors, of which two tie by the choice and two by the judge; 16 pairs of draws."""
    choice, judge = np.array([0.5, 0.7, 0.7, 0.2]), np.array([0.3, 0.1, 0.6, 0.3])
    scored = scoring.Scored(choice, judge, np.array([9.0, 8.0, 7.0, 1.0]), 1, 4)
    assert scored.order.tolist() == [2, 1, 0, 3]  # of equal ones the cheapest
    assert scored.ranks.tolist() == [2.5, 4, 1, 2.5]
    found = [min(pair, key=lambda v: scored.order[v]) for pair in itertools.product(range(4), repeat=2)]
    ranks = [scored.ranks[v] for v in found]
    expected = {"draws": 2, "expected": pytest.approx(np.mean(ranks), abs=1e-3)}
    assert scored.blind(2, 2.5) == expected | {"chance": pytest.approx(np.mean(np.array(ranks) <= 2.5))}
    assert scored.blind(1, 4) == {"draws": 1, "expected": 2.5, "chance": 1}
    assert scored.best([[0], [1], [3]]) == [1]


def test_a_choice_and_a_judge_that_agree_give_the_floor_of_blind_draws():
    scores = np.random.default_rng(0).permutation(4096) / 4096
    scored = scoring.Scored(scores, scores, np.zeros(4096), 6, 4)
    # E of the best rank = Σ_r P(all 100 draws rank r or worse)
    expected = sum((rank / 4096) ** 100 for rank in range(1, 4097))
    assert scored.blind(100, 1)["expected"] == pytest.approx(expected, abs=1e-3)
    assert scored.agreement() == {"tau": 1, "rho": 1}
    split = scoring.Scored(scores, np.random.default_rng(1).permutation(4096) / 4096, scored.macs, 6, 4)
    assert abs(split.agreement()["tau"]) < 0.05  # another order says nothing of this one
    assert split.blind(100, 1)["expected"] == pytest.approx(2048.5, abs=600)


def test_the_parts_of_a_reward_are_those_that_made_it():
    draws = generator()
    batch, sample = (s * torch.randn(400, generator=draws).double() for s in (0.04, 0.01))
    own = 0.03 * torch.randn(400, 400, generator=draws).double()
    assert scoring.components(0.5 + batch[:, None] + sample + own) == {
        "shared": pytest.approx(0.04, rel=0.1),
        "own": pytest.approx(0.03, rel=0.02),
        "spread": pytest.approx(0.01, rel=0.1),
    }
    alike = scoring.components(0.5 + batch[:, None] + 0 * own)
    assert (alike["own"], alike["spread"]) == pytest.approx((0, 0), abs=1e-6)


def test_ties_do_not_change_the_choice():
    table = torch.tensor([[0.5, 0.5, 0.4], [0.5, 0.5, 0.4], [0.6, 0.5, 0.7]])
    assert scoring.share_changed(table, 3) == 0
    assert scoring.share_changed(table, 1) == pytest.approx(1 / 3, abs=0.05)  # the third batch


def test_three_disjoint_parts_reward_choose_and_judge(root, monkeypatch):
    loop = new_search(root)
    parts = [set(part.tolist()) for part in loop.parts]
    assert [len(part) for part in parts] == [20, 10, 10]
    assert set.union(*parts) == set(loop.images.validation.tolist())
    seen: list[set[int]] = []
    accuracies = training.Search.accuracies

    def watched(self, vectors, indices, norm="batch"):
        seen.append(set(indices.tolist()))
        return accuracies(self, vectors, indices, norm)

    monkeypatch.setattr(training.Search, "accuracies", watched)
    for _ in range(2):
        loop.run_epoch()
    loop.result()
    assert all(part <= parts[0] for part in seen[:-1]) and seen[-1] == parts[1]
    with pytest.raises(PapersError, match="40 validation images leave none for rewards beside 2 × 20"):
        loop.images.parts(20)


def test_vectors_alone_are_trained_on_the_images_of_the_shared_weights(root, tmp_path):
    result = go("alone", root, tmp_path, vectors=3, epochs=2)
    recipe = options.StandaloneSettings.model_validate(COMMON | {"epochs": 2})
    loaded = cifar(root, recipe)
    for point in result["points"]:
        torch.manual_seed(0)
        fit = fitting.Fit(recipe, point["vector"], loaded, loaded.training, CPU)
        fit.run_epoch()
        fit.run_epoch()
        assert point["accuracy"] == fit.accuracy(loaded.test, loaded.test_labels)
    assert [sum(map(bool, point["vector"])) for point in result["points"]] == [0, 1, 1]
    again = go("alone", root, tmp_path / "again", vectors=3, epochs=2, repeat=1)
    assert [p["vector"] for p in again["points"]] == [p["vector"] for p in result["points"]]
    assert again["points"] != result["points"]


@pytest.mark.parametrize(("change", "message"), [
    (lambda state: None, "No such file"),
    (lambda state: state | {"fc.bias": torch.zeros(99)}, "are of another network"),
    (lambda state: {"a": torch.zeros(1)}, "are of another network"),
    (lambda state: state | {"fc.bias": torch.full((10,), math.nan)}, "hold NaN or infinity"),
    (bytes, "refused"),
])  # fmt: skip
def test_weights_of_no_use_are_one_line_that_mends(root, few, tmp_path, change, message):
    weights = tmp_path / "search" / "weights.pt"
    weights.parent.mkdir()
    if change is bytes:
        weights.write_bytes(few["weights"].read_bytes()[:3000])
    elif state := change(checkpoint.load_weights(few["weights"])):
        checkpoint.save(weights, state)
    with pytest.raises(PapersError, match=message) as error:
        go("enumerate", root, tmp_path / "run", **(few | {"weights": weights}))
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
    loaded = cifar(root, options.SearchSettings.model_validate(SEARCH))
    for side, pixels in (("train", loaded.train), ("test", loaded.test)):
        files = sorted((root / "cifar10" / side).glob("*/*.png"))
        assert pixels.tolist() == [np.asarray(Image.open(file)).tolist() for file in files]
    held = loaded.train_labels[loaded.validation]
    assert torch.bincount(held, minlength=10).tolist() == [4] * 10
    assert not set(loaded.validation.tolist()) & set(loaded.training.tolist())
    assert sorted(loaded.chosen.tolist()) == list(range(80))


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("standalone", {"images": 5}, "5 images of 10 classes"),
        ("standalone", {"images": 81}, "81 images.*set images between 10 and 80"),
        ("standalone", {"valid_size": 81}, "81 images .* set valid_size between 10 and 80"),
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


@pytest.mark.parametrize(("border", "shift"), [("constant", images.PAD), ("reflect", 2)])
def test_crops_and_flips_are_those_of_a_plain_loop(border, shift):
    batch = torch.randint(0, 256, (5, 6, 7, 3), dtype=torch.uint8, generator=generator())
    views = images.augmented(batch, generator(1), shift=shift, reflect=border == "reflect")
    again = generator(1)
    moves, flipped = (
        torch.randint(2 * shift + 1, (2, 5, 1), generator=again),
        torch.rand(5, 1, generator=again),
    )
    padded = F.pad(batch.permute(0, 3, 1, 2).float(), (shift,) * 4, mode=border).permute(0, 2, 3, 1)
    for i in range(5):
        top, left = int(moves[0, i]), int(moves[1, i])
        crop = padded[i, top : top + 6, left : left + 7]
        assert torch.equal(views[i].float(), crop.flip(1) if flipped[i] < 0.5 else crop)


def test_flips_alternate_by_index():
    batch = torch.randint(0, 256, (5, 6, 7, 3), dtype=torch.uint8, generator=generator())
    labels, none = torch.zeros(5, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
    loaded = images.Loaded(batch, labels, batch, labels, none, none, 2)
    rows = torch.tensor([4, 1, 2])
    plain = loaded.plain(rows)[0]
    for odd in (0, 1):  # of the epoch
        views, _ = loaded.views(rows, generator(), True, shift=0, odd=odd)
        for i, row in enumerate(rows.tolist()):
            assert torch.equal(views[i], plain[i].flip(2) if (row + odd) % 2 == 0 else plain[i])


def test_flip_at_test_adds_the_mirror_images_logits(root):
    made = options.StandaloneSettings(**KINDS["standalone"][1])
    loaded = cifar(root, made)
    for flip in (False, True):
        fit = fitting.Fit(made.model_copy(update={"test_flip": flip}), (0,) * 6, loaded, loaded.chosen, CPU)
        fit.run_epoch()
        with torch.no_grad():
            x = images.normalised(loaded.test)
            logits = fit.network.eval()(x) + (fit.network(x.flip(3)) if flip else 0)
        expected = float((logits.argmax(1) == loaded.test_labels).double().mean())
        assert fit.accuracy(loaded.test, loaded.test_labels) == pytest.approx(expected, abs=1e-6)


@pytest.mark.cuda
def test_no_step_waits_for_the_gpu(root, gpu, monkeypatch):
    """CUDA refuses every copy that the CPU waits for, from an epoch's beginning to its mean loss."""
    where, made = torch.device(gpu), options.StandaloneSettings(**KINDS["standalone"][1])
    loaded = cifar(root, made, where)
    fit = fitting.Fit(made, (0,) * 6, loaded, loaded.chosen, where)
    fit.run_epoch()  # what needs a first time has it
    steps = []

    def refuse(waits: bool) -> None:
        if where.type == "cuda":
            torch.cuda.set_sync_debug_mode("error" if waits else "default")

    def mean_loss(losses: list[torch.Tensor], epoch: int) -> float:
        refuse(False)
        steps.append(len(losses))
        return 0.0

    monkeypatch.setattr(fitting, "mean_loss", mean_loss)
    refuse(True)
    try:
        fit.run_epoch()
    finally:
        refuse(False)
    assert steps == [8]


def test_normalised_images_are_channels_last():
    x = images.normalised(torch.zeros(2, 4, 4, 3, dtype=torch.uint8))
    assert x.shape == (2, 3, 4, 4) and x.is_contiguous(memory_format=torch.channels_last)
    black = [-m / s for m, s in zip(images.MEAN, images.SD, strict=True)]
    assert x[0, :, 0, 0].tolist() == pytest.approx(black)


def test_rates_restart_and_rise_where_they_should():
    paper = options.FaceSettings()
    for start in (0, 10, 30, 70, 150):
        assert fitting.sgdr(start, paper.first_cycle, paper.lr_min, paper.lr) == pytest.approx(0.1)
    for end in (10, 30, 70, 150):
        rate = fitting.sgdr(end - 1e-6, paper.first_cycle, paper.lr_min, paper.lr)
        assert rate == pytest.approx(1e-4, abs=1e-8)
    assert fitting.sgdr(20, 10) == pytest.approx(0.5) and paper.epochs == 150
    assert fitting.warm_cosine(1, 10, 2) == 0.5 and fitting.warm_cosine(2, 10, 2) == 1
    assert fitting.warm_cosine(10, 10, 2) == pytest.approx(0)
