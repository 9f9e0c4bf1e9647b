"""Runs of every kind from images to plain JSON: repeatable, resumable, and chained by what they decided."""

from __future__ import annotations

import itertools
import json
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
from papers_lib.nar import enumeration, fitting, images, schedules, scoring, searching, tau, training
from papers_lib.nar.counting import count
from papers_lib.nar.options import ScoreSettings, SearchSettings, StandaloneSettings, TauSettings

COMMON = {
    "decisions": 6, "width": 4, "valid_size": 20, "batch_size": 10, "precision": "float32",
}  # fmt: skip
SEARCH = COMMON | {
    "epochs": 3, "first_cycle": 1, "pretrain_epochs": 1, "updates": 2, "samples": 3, "reward_images": 10,
    "final_samples": 3, "score_images": 20, "bn_eval": "batch",
}  # fmt: skip
TIMES = ("seconds", "seconds_shared", "seconds_controller", "seconds_training", "seconds_scoring")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Ten classes of 6 + 2 images of noise around a colour of the class, 8 pixels wide."""
    root = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for number in range(10):
        for side, total in (("train", 6), ("test", 2)):
            folder = root / "cifar10" / side / f"class{number}"
            folder.mkdir(parents=True)
            for i in range(total):
                pixels = np.clip(random.normal(20 * number + 20, 30, (8, 8, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    tell(root / "cifar10", "cifar10", {"train": 60, "test": 20, "classes": 10})
    return str(root), "cifar10"


def go(kind: str, data: tuple[str, str], folder: Path, **more: Any) -> dict[str, Any]:
    """A run of one kind with all its settings."""
    folder.mkdir(exist_ok=True)
    needed, weights = more.pop("needed", None), more.pop("weights", None)
    base = SEARCH if kind == "search" else COMMON
    models = {"standalone": StandaloneSettings, "search": SearchSettings, "enumerate": ScoreSettings,
              "tau": TauSettings}  # fmt: skip
    settings = models[kind].model_validate(base | more).model_dump(mode="json")
    return training.run(settings, data, folder, "cpu", needed=needed, weights=weights)


@pytest.fixture(scope="module")
def searched(data, tmp_path_factory) -> tuple[dict[str, Any], Path]:
    """A finished search and the weights that it left."""
    folder = tmp_path_factory.mktemp("search")
    return go("search", data, folder), folder / "weights.pt"


def timeless(found: Any) -> Any:
    """A result without what the clock says."""
    if isinstance(found, dict):
        return {k: timeless(v) for k, v in found.items() if k not in TIMES}
    return [timeless(x) for x in found] if isinstance(found, list) else found


def test_a_training_repeats_itself_and_counts_itself(data, tmp_path):
    vector = (0, 1, 2, 3, 0, 0)
    one, two = (
        go("standalone", data, tmp_path / name, vector=vector, epochs=2, test_every=1) for name in "ab"
    )
    assert timeless(one) == timeless(two)
    assert one["vector"] == list(vector) and one["accuracy"] == one["history"][-1]["accuracy"]
    exact = count(vector, "resnet18_cifar", image_size=8, classes=10, width=4)
    assert (one["parameters"], one["multiply_accumulates"]) == exact
    json.dumps(one, allow_nan=False)


def test_the_training_accuracy_is_read_across_the_classes(data, tmp_path, monkeypatch):
    """Images lie by class in some copies: the first ones would be of few classes."""
    seen = []
    accuracy = fitting.Fit.accuracy

    def read(self: fitting.Fit, pixels: torch.Tensor, labels: torch.Tensor) -> float:
        seen.append(labels)
        return accuracy(self, pixels, labels)

    monkeypatch.setattr(training, "TRAIN_IMAGES", 12)
    monkeypatch.setattr(fitting.Fit, "accuracy", read)
    go("standalone", data, tmp_path / "run", vector=(0,) * 6, epochs=1)
    assert len(seen[-1]) <= 12 and len(seen[-1].unique()) >= 7


@pytest.mark.parametrize("kind, changes", [
    ("standalone", {"vector": (0,) * 6, "epochs": 3, "test_every": 1}),
    ("search", {}),
])  # fmt: skip
def test_a_killed_run_goes_on_as_if_nothing_had_happened(data, tmp_path, monkeypatch, kind, changes):
    whole = go(kind, data, tmp_path / "whole", **changes)
    save, saved = checkpoint.save, []

    def killed(path: Path, state: dict[str, Any]) -> None:
        save(path, state)
        saved.append(path)
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        go(kind, data, tmp_path / "half", **changes)
    monkeypatch.setattr(checkpoint, "save", save)
    assert timeless(go(kind, data, tmp_path / "half", **changes)) == timeless(whole)


def test_a_checkpoint_of_another_network_is_passed_over(data, tmp_path, capsys):
    go("standalone", data, tmp_path / "run", vector=(0,) * 6, epochs=1)
    found = go("standalone", data, tmp_path / "run", vector=(1,) * 6, epochs=1)
    assert len(found["history"]) == 1 and "afresh" in capsys.readouterr().out


def shapeless(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same names; the last matrix of another shape, so that what stands before it is taken first."""
    last = [name for name, value in weights.items() if value.ndim > 1][-1]
    return weights | {last: torch.zeros(99, 3)}


@pytest.mark.parametrize("kind, name, change", [
    ("standalone", "network", None), ("standalone", "network", shapeless), ("standalone", "optimiser", {}),
    ("standalone", "generator", torch.zeros(3)), ("standalone", "epoch", "x"), ("standalone", "history", []),
    ("search", "supernet", None), ("search", "supernet", shapeless), ("search", "optimiser", {}),
    ("search", "reinforce", {}), ("search", "generator", None), ("search", "epoch", 99),
    ("search", "macs", "x"), ("search", "history", None),
])  # fmt: skip
def test_a_checkpoint_that_does_not_fit_is_a_fresh_start(data, tmp_path, capsys, kind, name, change):
    more = {"vector": (0,) * 6, "epochs": 2, "test_every": 1} if kind == "standalone" else {"epochs": 2}
    whole = go(kind, data, tmp_path, **more)
    path = tmp_path / "checkpoint.pt"
    state = checkpoint.load(path)
    checkpoint.save(path, state | {name: change(state[name]) if callable(change) else change})
    assert timeless(go(kind, data, tmp_path, **more)) == timeless(whole)
    assert capsys.readouterr().out.count("the run starts afresh") == 1


def test_a_search_repeats_itself_and_says_what_it_did(data, tmp_path, searched):
    found, _ = searched
    assert timeless(go("search", data, tmp_path / "again")) == timeless(found)
    assert found["evaluations"] == 2 * 2 * 3  # updates × samples of the two epochs behind PreTrain
    scores = [sample["score"] for sample in found["samples"]]
    best = found["samples"][scores.index(max(scores))]["vector"]
    assert found["choices"]["pick"] == best
    pretraining, *others = found["history"]
    assert "reward" not in pretraining and all("reward" in entry for entry in others)
    for entry in found["history"]:
        assert all(sum(row) == pytest.approx(1, abs=1e-3) for row in entry["shares"])
        assert all(0 < bits <= 2 for bits in entry["entropy"])


def test_pretraining_leaves_the_controller_alone(data):
    loop = _search(data, pretrain_epochs=2)
    before = {k: v.clone() for k, v in loop.controller.state_dict().items()}
    loop.run_epoch()
    assert all(torch.equal(before[k], v) for k, v in loop.controller.state_dict().items())
    assert loop.evaluations == 0
    loop.run_epoch()
    loop.run_epoch()
    assert not all(torch.equal(before[k], v) for k, v in loop.controller.state_dict().items())


def _search(data: tuple[str, str], **changes: Any) -> searching.Search:
    settings = SearchSettings.model_validate(SEARCH | changes)
    torch.manual_seed(settings.seed)
    where = torch.device("cpu")
    return searching.Search(settings, images.load(data, settings, where), where)


def test_a_reward_is_accuracy_less_the_cost(data):
    loop = _search(data, cost_weight=0.5, reward_images=20)
    vectors = torch.tensor([[0] * 6, [1, 2, 3, 0, 0, 0]])
    found = loop.rewards(vectors)
    plain = loop.score(vectors.tolist(), loop.images.validation)
    macs = [count(tuple(v), "resnet18_cifar", image_size=8, classes=10, width=4)[1] for v in vectors.tolist()]
    expected = [float(a) - 0.5 * m / macs[0] for a, m in zip(plain, macs, strict=True)]
    assert found.tolist() == pytest.approx(expected, abs=1e-6)


def test_a_search_with_fused_sgd_trains_what_the_default_one_trains(data):
    """Fused SGD, a GPU's, refuses a list of momenta of which some are missing, and most operators rest."""
    loops = [_search(data, pretrain_epochs=2) for _ in range(2)]
    for group in loops[1].optimiser.param_groups:
        group |= {"fused": True, "foreach": False}
    for loop in loops:
        loop.run_epoch()
    for a, b in zip(*(loop.supernet.parameters() for loop in loops), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_strict_fairness_sums_the_gradients_of_all_operators_before_a_step(data):
    fair = _search(data, pretrain_epochs=1, pretrain_sampling="strict_fair")
    steps, step = [], fair.optimiser.step

    def seen() -> None:
        modules = (m for block in fair.supernet._blocks for m in block.conv1)
        steps.append(all(next(m.parameters()).grad is not None for m in modules))
        step()

    fair.optimiser.step = seen  # type: ignore[method-assign]
    fair.run_epoch()  # PreTrain: 4 batches of 10 images, one step
    assert steps == [True] and fair.paths_a_step() == 1
    fair.run_epoch()
    assert len(steps) == 5


def test_the_last_choice_weighs_the_cost_as_the_reward_does(data):
    loop = _search(data, cost_weight=1000.0, final_samples=12)
    found = loop.result()
    assert found["choices"]["pick"] == min((sample["vector"] for sample in found["samples"]), key=loop._macs)


def test_ties_do_not_change_the_choice():
    table = torch.tensor([[0.5, 0.5, 0.4], [0.5, 0.5, 0.4], [0.6, 0.5, 0.7]])
    assert scoring._changed(table, 3) == 0
    assert scoring._changed(table, 1) == pytest.approx(1 / 3, abs=0.05)  # the third batch, a third of draws


def test_enumeration_ranks_and_picks_as_a_plain_loop_does(data, tmp_path, searched):
    needed, weights = searched
    found = go("enumerate", data, tmp_path / "all", needed=needed, weights=weights, score_images=20,
               checked=5,
               reward_images=10, random=9)  # fmt: skip
    assert found["count"] == 4096 and found["max_difference_to_naive"] == 0
    assert found["naive_block_calls"] / found["block_calls"] == pytest.approx(6 * 4096 / 5460)
    scores = checkpoint.load(tmp_path / "all" / "checkpoint.pt")["scores"].tolist()
    pick = found["named"]["pick"]
    mine = scores[enumeration.index_of(pick["vector"])]
    above, equal = sum(s > mine for s in scores), sum(s == mine for s in scores)
    assert pick["score"] == mine and pick["rank"] == above + (equal + 1) / 2
    assert found["named"]["optimum"]["score"] == max(scores)
    singles = [scores[enumeration.index_of(entry["vector"])] for entry in found["singles"]]
    assert len(singles) == 18 and found["named"]["single"]["score"] == max(singles)
    assert sum(n for _, _, n in found["map"]) == 4096
    front = [score for _, score in found["front"]]
    assert front == sorted(front) and front[-1] == max(scores)
    assert len(found["quantiles"]) == 101 and found["top"]["count"] == 41


def test_scores_that_are_known_are_not_computed_again(data, tmp_path, searched, monkeypatch):
    needed, weights = searched
    more = {"needed": needed, "weights": weights, "score_images": 20, "checked": 2, "reward_images": 10}
    whole = go("enumerate", data, tmp_path / "one", **more)

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("a block was evaluated")

    monkeypatch.setattr(enumeration, "_walk", refused)
    with pytest.raises(AssertionError):
        go("enumerate", data, tmp_path / "two", **more)
    with pytest.raises(AssertionError):  # the tree is done; the reward batches are not
        go("enumerate", data, tmp_path / "one", **more)
    monkeypatch.undo()
    assert timeless(go("enumerate", data, tmp_path / "one", **more)) == timeless(whole)


@pytest.mark.parametrize("name, value", [
    ("seconds", "x"), ("scores", None), ("scores", [1.0]), ("scores", torch.zeros(7)),
    ("scores", torch.zeros(4096, dtype=torch.int64)), ("scores", torch.full((4096,), 7.0).double()),
])  # fmt: skip
def test_scores_of_a_checkpoint_that_do_not_fit_are_computed_again(
    data, tmp_path, searched, capsys, name, value
):
    scored = ScoreSettings.model_validate(COMMON)
    world = images.load(data, scored, torch.device("cpu"))
    net = scoring.network_of(scored, world, searched[1], torch.device("cpu"))
    x, y = images.normalised(world.train[world.validation[:4]]), world.train_labels[world.validation[:4]]
    state = {"scores": torch.ones(4096, dtype=torch.float64), "seconds": 0.0}
    checkpoint.save(tmp_path / "checkpoint.pt", state)
    assert scoring._score_all(scored, net, x, y, 10, tmp_path, training.quiet)["scores"].min() == 1
    checkpoint.save(tmp_path / "checkpoint.pt", state | {name: value})
    found = scoring._score_all(scored, net, x, y, 10, tmp_path, training.quiet)["scores"]
    assert found.min() < 1 and "the run starts afresh" in capsys.readouterr().out


@pytest.mark.parametrize("change, message", [
    (lambda state: None, "No such file"),
    (lambda state: state | {"fc.bias": torch.zeros(99)}, "are of another network"),
    (lambda state: {"a": torch.zeros(1)}, "are of another network"),
    (lambda state: state | {"fc.bias": torch.full((10,), math.nan)}, "hold NaN or infinity"),
])  # fmt: skip
@pytest.mark.parametrize("kind", ["enumerate", "tau"])
def test_weights_of_no_use_are_one_line_that_mends(data, tmp_path, searched, kind, change, message):
    weights = tmp_path / "search" / "weights.pt"
    weights.parent.mkdir()
    if state := change(checkpoint.load_weights(searched[1])):
        checkpoint.save(weights, state)
    with pytest.raises(PapersError, match=message) as error:
        go(kind, data, tmp_path / "run", needed=searched[0], weights=weights, score_images=20)
    text, place = str(error.value), weights.parent if "NaN" in message else weights.with_name("result.json")
    assert "\n" not in text and len(text) < 400
    assert text.endswith(f"remove {place}, and the sweep computes that search again")


def test_cut_weights_are_one_line_that_mends(data, tmp_path, searched):
    weights = tmp_path / "weights.pt"
    weights.write_bytes(searched[1].read_bytes()[:3000])
    with pytest.raises(PapersError, match=f"remove {tmp_path / 'result.json'}, and the sweep computes"):
        go("enumerate", data, tmp_path / "run", needed=searched[0], weights=weights, score_images=20)


def test_a_needed_run_without_a_searchs_metrics_is_named(data, tmp_path, searched):
    with pytest.raises(PapersError, match="has no choices, history, reward_images, samples in its") as error:
        go("enumerate", data, tmp_path / "run", needed={}, weights=searched[1], score_images=20)
    assert f"remove {searched[1].with_name('result.json')}" in str(error.value)


def test_sixteen_decisions_take_a_beam(data, tmp_path):
    wide = {"decisions": 16}
    needed = go("search", data, tmp_path / "search", **wide, epochs=1, pretrain_epochs=0)
    found = go("enumerate", data, tmp_path / "beam", **wide, needed=needed, score_images=20, beam=2,
               weights=tmp_path / "search" / "weights.pt")  # fmt: skip
    assert 16 < found["tried"] <= 1 + 16 * 3 * 2
    assert len(found["choices"]["optimum"]) == 16 and found["best_score"] >= 0
    assert found["choices"]["pick"] == needed["choices"]["pick"]


def test_a_needed_run_decides_the_vector(data, tmp_path, searched):
    needed = {"choices": {"pick": [1, 0, 2, 0, 0, 0], "optimum": [3] * 6}}
    for take, expected in (("pick", (1, 0, 2, 0, 0, 0)), ("optimum", (3,) * 6)):
        asked = StandaloneSettings.model_validate(COMMON | {"take": take})
        assert training.chosen(asked, needed) == expected
    drawn = {
        training.chosen(
            StandaloneSettings.model_validate(COMMON | {"take": "random_same", "seed": s}), needed
        )
        for s in range(6)
    }
    assert len(drawn) > 1 and {sum(code != 0 for code in vector) for vector in drawn} == {2}
    found = go("standalone", data, tmp_path / "run", take="pick", needed=searched[0], epochs=1)
    assert found["vector"] == searched[0]["choices"]["pick"]
    with pytest.raises(PapersError, match="decided no vector 'best_random'"):
        go("standalone", data, tmp_path / "no", take="best_random", needed=needed, epochs=1)


def test_a_run_without_its_search_is_refused(data, tmp_path):
    with pytest.raises(PapersError, match="starts from a finished search"):
        go("enumerate", data, tmp_path / "run", score_images=20)


def test_tau_correlates_what_it_lists(data, tmp_path, searched):
    found = go(
        "tau", data, tmp_path / "tau", weights=searched[1], needed={}, vectors=6, epochs=1, score_images=20
    )
    points = found["points"]
    assert len(points) == 6
    assert all(1 <= sum(code != 0 for code in p["vector"]) <= 4 for p in points[3:])
    pairs = list(itertools.combinations(points, 2))
    signs = [np.sign((a["alone"] - b["alone"]) * (a["macs"] - b["macs"])) for a, b in pairs]
    ties = [math.prod(1 - np.mean([a[k] == b[k] for a, b in pairs]) for k in ("alone", "macs"))]
    expected = np.mean(signs) / math.sqrt(ties[0]) if ties[0] else None
    assert found["tau"]["macs"] == (None if expected is None else pytest.approx(expected, abs=1e-4))
    assert go("tau", data, tmp_path / "tau", weights=searched[1], needed={}, vectors=6, epochs=1,
              score_images=20) == found  # fmt: skip


@pytest.mark.parametrize("state", [
    {"a": 1}, {"alone": None}, {"alone": [0.1] * 5}, {"alone": ["x"]}, {"alone": [math.nan]},
    {"alone": [2.0]},
])  # fmt: skip
def test_accuracies_of_a_checkpoint_that_do_not_fit_are_measured_again(
    data, tmp_path, searched, capsys, monkeypatch, state
):
    monkeypatch.setattr(tau, "_alone", lambda *_: 0.25)
    checkpoint.save(tmp_path / "checkpoint.pt", state)
    found = go("tau", data, tmp_path, weights=searched[1], needed={}, vectors=4, score_images=20)
    assert [point["alone"] for point in found["points"]] == [0.25] * 4
    assert "the run starts afresh" in capsys.readouterr().out


def test_kendall_of_no_spread_is_nothing():
    points = [{"alone": 0.5, "batch": float(i)} for i in range(4)]
    assert tau.kendall(points, "batch") is None


def test_the_validation_part_is_of_all_classes_and_kept_out(data):
    settings = SearchSettings.model_validate(SEARCH)
    found = images.load(data, settings, torch.device("cpu"))
    held = found.train_labels[found.validation]
    assert torch.bincount(held, minlength=10).tolist() == [2] * 10
    assert not set(found.validation.tolist()) & set(found.training.tolist())
    assert sorted(found.chosen.tolist()) == list(range(60))
    other = images.load(data, settings.model_copy(update={"seed": 1}), torch.device("cpu"))
    assert other.validation.tolist() != found.validation.tolist()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"images": 5}, "5 images of 10 classes"),
        ({"images": 61}, "61 images.*set images between 10 and 60"),
        ({"valid_size": 61}, "61 images .* set valid_size between 10 and 60"),
        ({"batch_size": 64}, "do not fill one batch of 64"),
    ],
)
def test_settings_that_the_data_cannot_serve_get_one_line(data, tmp_path, changes, message):
    with pytest.raises(PapersError, match=message) as error:
        go("standalone", data, tmp_path / "run", vector=(0,) * 6, **changes)
    assert "\n" not in str(error.value)


def test_all_images_are_no_more_than_there_are():
    labels = np.repeat(np.arange(10), 500)
    assert images.subset(labels, 5000, 0).tolist() == list(range(5000))
    with pytest.raises(PapersError, match="10000 images of 10 classes"):
        images.subset(labels, 10000, 0)


def test_a_loss_that_is_not_finite_stops_the_run():
    with pytest.raises(FloatingPointError, match="lower lr"):
        fitting.mean_loss([torch.tensor(float("nan"))], 1)


def test_crops_and_flips_are_those_of_a_plain_loop():
    batch = torch.randint(0, 256, (5, 6, 7, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = images.augmented(batch, torch.Generator().manual_seed(1))
    again = torch.Generator().manual_seed(1)
    shift = torch.randint(2 * images.PAD + 1, (2, 5, 1), generator=again)
    flipped = torch.rand(5, 1, generator=again) < 0.5
    for i in range(5):
        padded = torch.zeros(6 + 2 * images.PAD, 7 + 2 * images.PAD, 3, dtype=torch.uint8)
        padded[images.PAD : -images.PAD, images.PAD : -images.PAD] = batch[i]
        top, left = int(shift[0, i]), int(shift[1, i])
        crop = padded[top : top + 6, left : left + 7]
        assert torch.equal(found[i], crop.flip(1) if flipped[i] else crop)


def test_normalised_images_are_channels_last():
    found = images.normalised(torch.zeros(2, 4, 4, 3, dtype=torch.uint8))
    assert found.shape == (2, 3, 4, 4) and found.is_contiguous(memory_format=torch.channels_last)
    assert found[0, :, 0, 0].tolist() == pytest.approx(
        [-m / s for m, s in zip(images.MEAN, images.SD, strict=True)]
    )


def test_rates_restart_and_rise_where_they_should():
    starts = [epoch for epoch in range(70) if schedules.sgdr(epoch, 10) == 1]
    assert starts == [0, 10, 30]
    assert schedules.sgdr(69.999, 10, 0.01) == pytest.approx(0.01, abs=1e-4)
    assert schedules.warm_cosine(1, 10, 2) == 0.5 and schedules.warm_cosine(2, 10, 2) == 1
    assert schedules.warm_cosine(10, 10, 2) == pytest.approx(0)
