"""The doors of the wing, on rows whose effects are planted."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from papers_lib.errors import PapersError
from papers_lib.exhibits import published
from papers_lib.exhibits.coverage import coverage
from papers_lib.exhibits.ledger import Row
from papers_lib.exhibits.table import NOT_RUN
from papers_lib.nar import claims as claims_of_paper
from papers_lib.nar import plan, readings, study
from papers_lib.nar.arms import ARMS, SWEEPS
from papers_lib.nar.plan import MODELS, SIZES, Settings
from papers_lib.nar.readings import percent
from papers_lib.runs.spec import Data, RunSpec

EFFECT = {"pick": 0.02, "paper_8": 0.01, "pick_16": 0.05, "optimum": -0.1}
VECTOR = {"pick": [0, 0, 0, 1, 0, 0, 0, 2], "pick_plain": [0, 0, 0, 0, 0, 0, 0, 1], "base": [0] * 8}


def standalone(spec: RunSpec, level: float) -> dict[str, Any]:
    vector = VECTOR.get(spec.label, list(spec.settings["vector"]) or [1] + [0] * 7)
    return {
        "vector": vector, "parameters": 100, "multiply_accumulates": 1000 - 10 * sum(vector),
        "accuracy": level, "train_accuracy": min(1.0, level + 0.1 - 2 * EFFECT.get(spec.label, 0.0)),
        "seconds_training": 1.0, "history": [{"loss": 1.0, "seconds": 1.0, "accuracy": level}],
    }  # fmt: skip


def search(spec: RunSpec) -> dict[str, Any]:
    decisions, operators = spec.settings["decisions"], spec.settings["operators"]
    plain = spec.settings["pretrain_epochs"] == 0
    flat = [1 / operators] * operators
    skewed = [0.7, *[0.3 / (operators - 1)] * (operators - 1)]
    pick = ([0] * 7 + [1]) if plain else [0, 0, 0, 1, 0, 0, 0, 2]
    pick = (pick * 2)[:decisions]
    history = [
        {"loss": 1.0, "seconds_shared": 1.0, "shares": [skewed if plain else flat] * decisions,
         "entropy": [2.0 - 0.2 * epoch - 0.01 * spec.seed] * decisions, "argmax": pick}
        | ({"reward": 0.5, "seconds_controller": 1.0} if epoch or plain else {})
        for epoch in range(4)
    ]  # fmt: skip
    return {
        "choices": {"pick": pick, "argmax": pick}, "samples": [{"vector": pick, "score": 0.5}],
        "history": history, "evaluations": 60, "seconds_shared": 4.0, "seconds_controller": 3.0,
        "multiply_accumulates": 1e12,
    }  # fmt: skip


def enumeration(spec: RunSpec) -> dict[str, Any]:
    if spec.settings["decisions"] == 16:
        return {
            "choices": {"pick": [0] * 16, "optimum": [1] * 16}, "tried": 9, "images": 8,
            "seconds_scoring": 1.0,
            "pick_score": 0.4, "best_score": 0.5, "base_score": 0.3, "random_score": 0.45, "draws": 20,
            "better_than_pick": 3, "random_better_than_pick": 1,
        }  # fmt: skip
    names = ("pick", "argmax", "optimum", "best_random", "single", "base", "paper_8", "paper_8_second")
    named = {
        name: {"vector": [0] * 8, "score": 0.5 - 0.01 * i, "rank": 10.0 * (i + 1) + spec.seed, "saving": 0.1}
        for i, name in enumerate(names)
    }
    named["optimum"] |= {"score": 0.9, "rank": 1.0}
    return {
        "choices": {"optimum": [1] * 8, "best_random": [2] * 8, "single": [1] + [0] * 7},
        "named": named, "singles": [], "mean": 0.4, "sd": 0.05, "quantiles": [0.1, 0.9],
        "top": {"count": 10, "sd": 0.001 + 1e-4 * spec.seed, "depth": 0.7 + 0.01 * spec.seed, "replaced": 2.0,
                "shares": []},
        "map": [[0.5, 0.4, 10], [1.0, 0.5, 1]], "front": [[0.5, 0.4], [1.0, 0.5]],
        "path": [[1, 1.0, 0.5, 4.0], [3, 0.9, 0.5, 3.0]], "count": 65536, "images": 128,
        "seconds_scoring": 10.0, "multiply_accumulates": 1e12, "draws": 2400,
        "block_calls": 87380, "naive_block_calls": 524288, "checked": 4,
        "max_difference_to_naive": 0.0,
        "reward_noise": {"se": 0.03 + 0.001 * spec.seed, "changed": {"1": 0.8, "5": 0.4}, "batches": 7,
                         "distinct": 9},
    }  # fmt: skip


def metrics(spec: RunSpec) -> dict[str, Any]:
    jitter = 0.0002 * ((len(spec.label) * 7 + spec.seed * 3) % 5)
    level = 0.6 + EFFECT.get(spec.label, 0.0) + 0.01 * spec.seed + jitter
    kind = spec.settings.get("kind", "faces")
    if kind == "standalone":
        return standalone(spec, level)
    if kind == "search":
        return search(spec)
    if kind == "enumerate":
        return enumeration(spec)
    if kind == "tau":
        values = {"batch": 0.4 + 0.01 * spec.seed, "running": 0.1, "recalibrated": 0.3, "macs": 0.5}
        points = [{"vector": [0] * 7 + [1], "alone": 0.5, "batch": 0.4, "running": 0.1, "recalibrated": 0.2,
                   "macs": 9.0}]  # fmt: skip
        return {"points": points, "tau": values, "tau_few": values}
    if kind == "skips":
        end = 0.4 if spec.settings["weight"] else 1.29
        return {"history": [{"kl": 0.1 + 0.01 * spec.seed, "rate": 0.5}, {"kl": end, "rate": 0.9}]}
    return {"verification": {"lfw": {"accuracy": 0.6}}, "proxy_accuracy": 0.5}


def row(spec: RunSpec) -> Row:
    return Row(
        identity=spec.identity, key=spec.identity, paper=spec.paper, profile=spec.profile,
        function=spec.function, settings=spec.settings, seed=spec.seed, data=spec.data,
        needs=tuple(n.asked() for n in spec.needs), metrics=metrics(spec), commit="c" * 40, dirty=False,
        code="f" * 64, torch="2.15.0", device="cpu", seconds=60.0 + len(spec.label),
        finished="2026-01-01T00:00:00Z",
    )  # fmt: skip


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAPERS_DATA", str(tmp_path / "nothing"))


@pytest.fixture
def specs(nowhere) -> list[RunSpec]:
    return plan.plan(Settings(profile="small"))


@pytest.fixture
def runs(specs):
    return [(spec, row(spec)) for spec in specs]


def test_the_plan_has_every_arm_once_a_seed(specs):
    assert len({spec.identity for spec in specs}) == len(specs)
    assert Counter(spec.label for spec in specs) == {
        name: 3 for name, arm in ARMS.items() if arm.kind != "imagenet"
    }
    first = [spec.label for spec in specs if spec.seed == 0][:6]
    assert first == ["base", "search", "enumerate", "pick", "best_random", "paper_8"]
    assert [spec.seed for spec in specs[: len(first)]] == [0] * len(first)


def test_a_run_names_the_finished_run_that_decides_its_vector(specs):
    by_name = {(spec.label, spec.seed): spec for spec in specs}
    for (name, seed), spec in by_name.items():
        needed = [need.identity for need in spec.needs]
        expected = [by_name[ARMS[name].needs, seed].identity] if ARMS[name].needs else []
        assert needed == expected, name
    pick, argmax = (by_name[name, 0] for name in ("pick", "argmax"))
    assert pick.settings["take"] == "pick" and pick.settings["vector"] == []
    assert {k for k in pick.settings if pick.settings[k] != argmax.settings[k]} == {"take"}
    plain = by_name["pick_plain", 0]
    assert plain.settings == pick.settings and plain.identity != pick.identity


@pytest.mark.parametrize("profile", ["smoke", "small", "medium", "paper"])
def test_a_spec_leaves_no_setting_to_a_default(nowhere, profile):
    for spec in plan.plan(Settings(profile=profile, seeds=(0,))):
        model = MODELS[ARMS[spec.label].kind]
        assert model.model_validate(spec.settings).model_dump(mode="json") == spec.settings


def test_runs_from_a_search_share_its_data_and_network(specs):
    for spec in specs:
        if spec.needs and spec.settings["kind"] in ("enumerate", "tau"):
            before = spec.needs[0]
            assert before.data == spec.data
            for name in ("seed", "images", "valid_size", "decisions", "operators", "width", "rule"):
                assert before.settings[name] == spec.settings[name], (spec.label, name)


def test_the_papers_vectors_are_trained_as_read(specs):
    given = [spec for spec in specs if not spec.needs and "vector" in spec.settings]
    vectors = {spec.label: spec.settings["vector"] for spec in given}
    assert vectors["base"] == [0] * 8
    assert vectors["paper_8"] == [1] + [0] * 7
    assert [i for i, code in enumerate(vectors["paper_16"]) if code] == [0, 3, 8, 15]
    assert sum(code != 0 for code in vectors["faces_5"]) == 5


def test_the_cheapest_single_replacement_is_found_by_counting_all():
    from papers_lib.nar.counting import count
    from papers_lib.nar.sampling import singles

    def macs(vector: tuple[int, ...]) -> int:
        return count(vector, "resnet18_cifar", image_size=32, classes=10).multiply_accumulates

    least = min(macs(tuple(vector)) for vector in singles(8).tolist())
    chosen = plan.cheapest_single(8)
    assert sum(code != 0 for code in chosen) == 1 and macs(chosen) == least


@pytest.mark.parametrize(
    "given, message",
    [
        ({"arms": ("serach",)}, "arms: unknown 'serach'"),
        ({"sweeps": ("table_5",)}, "sweeps: unknown 'table_5'"),
        ({"sweeps": ("tau", "tau")}, "tau stands twice"),
        ({"seeds": (1, 1)}, "1 stands twice"),
        ({"preset": "enas"}, "preset: unknown 'enas'"),
        ({"dataset": "svhn", "train": True}, "dataset: unknown 'svhn'"),
    ],
)
def test_bad_parameters_get_one_line(nowhere, given, message):
    with pytest.raises(PapersError, match=message) as error:
        plan.plan(Settings(**{"profile": "small", **given}))
    assert "\n" not in str(error.value)


def test_every_sweep_and_counterpart_is_an_arm():
    assert {arm.sweep for arm in ARMS.values()} == set(SWEEPS)
    for arm in ARMS.values():
        assert not arm.needs or arm.needs in ARMS
        assert not arm.against or arm.against in ARMS
    assert {kind for size in SIZES.values() for kind in size.by_kind} == set(MODELS)


def test_tables_have_every_printed_number_and_our_mean(runs):
    tables = study.tables(runs)
    printed = published.load("nar").query("exhibit == 'Table 5'")
    assert Counter(line[2] for line in tables["table_5"].rows) == Counter(printed["printed"])
    line = next(x for x in tables["table_5"].rows if x[:2] == ["ResNet-18-8", "CIFAR-10"])
    mean = sum(metrics(s)["accuracy"] for s, _ in runs if s.label == "paper_8") / 3
    assert line[3] == pytest.approx(100 * mean)
    assert line[-1] == "not comparable"
    assert all("not in our text" in line for line in tables["tables_1_to_3"].rows)


def test_claims_find_planted_effects(runs):
    claims = {claim.name: claim.finding.verdict for claim in study.claims(runs)}
    assert claims["C1a"] == claims["C1b"] == "holds"
    assert claims["C4e"] == "fails"  # the optimum trains worse than the pick
    assert claims["C4a"] == claims["C5a"] == claims["C6a"] == claims["C10a"] == claims["C8c"] == "holds"
    assert claims["C7a"] == "holds" and claims["C7b"] == claims["C7g"] == "fails"
    assert claims["C2a"] == claims["C2b"] == "holds" and claims["C2c"] == claims["C8d"] == "fails"
    assert claims["C11a"] == claims["C13a"] == claims["C13f"] == claims["C16a"] == "holds"
    assert claims["C18b"] == claims["C18c"] == "holds"
    assert claims["C17b"] == claims["C13d"] == "fails"
    assert {int(name[1:].rstrip("abcdefgh")) for name in claims} == set(range(1, 20))
    assert len(claims) == len(study.claims(runs))


def test_a_claim_of_equality_gives_its_margin(runs):
    claims = {claim.name: claim.finding for claim in study.claims(runs)}
    gap = claims["C1d"].difference
    assert gap is not None
    ours, base = (readings.mean(readings.percent(runs, name)) for name in ("paper_8", "base"))
    assert ours is not None and base is not None
    assert gap.mean == pytest.approx(ours + claims_of_paper.MARGIN - base)


def test_without_runs_everything_has_its_full_shape(specs, runs):
    empty = [(spec, None) for spec in specs]
    full, bare = study.tables(runs), study.tables(empty)
    assert full.keys() == bare.keys()
    for name, table in bare.items():
        if name not in ("vectors", "sixteen"):
            assert len(table.rows) == len(full[name].rows), name
    assert any(NOT_RUN in line for line in bare["table_5"].rows)
    assert {claim.finding.verdict for claim in study.claims(empty)} <= {"not tested", "holds", "fails"}
    for figure in study.figures(empty).values():
        assert figure.png


def test_a_missing_base_leaves_the_gap_empty_and_other_data_the_column(runs):
    table = study.tables([(s, None if s.label == "base" else r) for s, r in runs])["networks"]
    gap = table.columns.index("Δ to untouched")
    assert all(row[gap] is None for row in table.rows)
    assert readings.answer(runs, "ResNet-18", "CIFAR-10")[0] == percent(runs, "base")
    other = [(s, r.model_copy(update={"data": Data(name="cifar100")})) for s, r in runs]
    assert readings.answer(other, "ResNet-18", "CIFAR-10") == ({}, [], False)


def test_profile_paper_plans_imagenet_and_its_columns_read_it(nowhere):
    specs = plan.plan(Settings(profile="paper", sweeps=("imagenet",), seeds=(0,)))
    assert [spec.label for spec in specs] == ["imagenet", "imagenet_8", "imagenet_16"]
    assert {spec.data.name for spec in specs} == {"imagenet"}
    assert {spec.module for spec in specs} == {"papers_lib.nar.imagenet.training"}
    made = [(s, row(s).model_copy(update={"metrics": {"accuracy": 0.7, "top_5": 0.9}})) for s in specs]
    values, rows, comparable = readings.answer(made, "ResNet-18-8", "ImageNet Top-5")
    assert values == {0: 90.0} and len(rows) == 1 and comparable
    found = {claim.name: claim.finding.text for claim in study.claims(made)}
    assert "one seed" in found["C3a"]
    with pytest.raises(PapersError, match="imagenet"):
        plan.plan(Settings(profile="small", sweeps=("imagenet",)))


def test_arms_outside_the_sweeps_asked_for_are_refused_by_name(nowhere):
    with pytest.raises(PapersError, match="pick is in main"):
        plan.plan(Settings(profile="small", arms=("pick",), sweeps=("tau",)))
    with pytest.raises(PapersError, match="unknown 'foo'"):
        plan.plan(Settings(profile="small", dataset="foo"))


def test_figures_draw_what_the_runs_hold(runs):
    figures = study.figures(runs)
    space = figures["space"].data
    assert set(space["weights"]) == {"enumerate", "enumerate_plain"}
    assert {"density", "front", "path", "pick", "optimum", "paper_8"} <= set(space["what"])
    assert len(figures["figure_1"].data) == 18  # three runs of two epochs, three seeds
    for figure in figures.values():
        assert figure.png and len(figure.csv()) < 100_000


def test_drawn_faces_and_simulations_do_not_badge_the_rest(runs):
    stand_in = [
        (spec, made.model_copy(update={"data": made.data.model_copy(update={"stand_in": True})}))
        if spec.label.startswith("faces")
        else (spec, made)
        for spec, made in runs
    ]
    tables = study.tables(stand_in)
    assert tables["faces"].badge == "stand-in data"
    assert "stand-in" not in tables["networks"].badge


def test_coverage_counts_exact_cells_runs_and_quotes(runs):
    found = {x.exhibit: x for x in coverage("nar", published.load("nar"), study.cells(runs))}
    assert found["Table 4"].exact == 6 and found["Table 4"].missing == 0
    assert sum(found["Table 5"].reproduced.values()) == 3 and found["Table 5"].missing == 6
    assert found["settings"].quoted == found["settings"].printed
    assert found["text"].exact == 2


def test_doors_are_plain_json(runs):
    json.dumps([claim.as_dict() for claim in study.claims(runs)])
    json.dumps([erratum.as_dict() for erratum in study.errata()])
