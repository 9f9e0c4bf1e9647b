"""The doors of the wing, on rows whose effects are planted."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from papers_lib.errors import PapersError
from papers_lib.exhibits.coverage import coverage
from papers_lib.exhibits.ledger import Row
from papers_lib.exhibits.table import NOT_RUN
from papers_lib.exhibits.verdicts import NOT_REPRODUCED
from papers_lib.runs.spec import RunSpec
from papers_lib.sampler_study.options import PRESETS, TrainSettings
from papers_lib.sampler_study.study import STUDY, Settings, explore
from papers_lib.sampler_study.study.tables import GRID, LAST_EPOCH, NETWORKS, SAMPLERS
from papers_lib.study import Results

# mAP = .3 + the arm's effect + the seed's own level + a little of both.
EFFECT = {"triplet_proxy_4": 0.2, "triplet_cluster_8": 0.15, "triplet_proxy_32": -0.25, "random": -0.1}
FROZEN = {"triplet_proxy_32_frozen": 0.1}


def arm_of(spec: RunSpec) -> str:
    return spec.label.rpartition("/")[2]


def row(spec: RunSpec) -> Row:
    jitter = 0.001 * ((len(spec.label) * 7 + spec.seed * 3) % 5)
    level = 0.3 + (EFFECT | FROZEN).get(arm_of(spec), 0.0) + 0.01 * spec.seed + jitter
    metrics = {"mAP": level, "R1": level + 0.1, "R5": level + 0.2, "R10": level + 0.3}
    logged = {name.removesuffix(" %"): 0.5 for name in LAST_EPOCH}
    logged |= {"largest_cluster": 100.0, "images_per_proxy": 3.5}
    history = [logged | metrics] * min(2, spec.settings["epochs"])
    if spec.settings["method"] in ("none", "supervised"):
        history = []
    return Row(
        identity=spec.identity,
        key=spec.identity,
        paper=spec.paper,
        profile=spec.profile,
        function=spec.function,
        settings=spec.settings,
        seed=spec.seed,
        data=spec.data,
        needs=tuple(n.asked() for n in spec.needs),
        metrics=metrics | {"start": metrics, "best": metrics, "last": metrics, "history": history},
        commit="c" * 40,
        dirty=False,
        code="f" * 64,
        torch="2.15.0",
        device="cpu",
        seconds=60.0,
        finished="2026-01-01T00:00:00Z",
    )


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAPERS_DATA", str(tmp_path / "nothing"))


@pytest.fixture
def specs(nowhere) -> list[RunSpec]:
    return STUDY.plan(Settings(profile="small"))


@pytest.fixture
def results(specs) -> Results:
    return Results([(spec, row(spec)) for spec in specs])


# -- the plan --


def test_the_plan_has_every_arm_once_a_seed_and_the_grid_first(specs):
    assert len({spec.identity for spec in specs}) == len(specs)
    expected = Counter()
    for arm in STUDY.arms.values():
        seeds = 6 if arm.name in ("random", "group_cluster_1") else 3
        networks = NETWORKS if arm.sweep in ("grid", "rivals") else ["market1501"]
        for network in ["pedestrians_many"] if arm.sweep == "many" else networks:
            expected[f"{network}/{arm.name}"] = seeds
    assert Counter(spec.label for spec in specs) == expected
    sweeps = [STUDY.arms[arm_of(spec)].sweep for spec in specs]
    assert list(dict.fromkeys(sweeps)) == list(STUDY.sweeps)
    assert sweeps == sorted(sweeps, key=STUDY.sweeps.index)
    assert {spec.seed for spec in specs[: 22 * 3]} == {0}
    names = {"random"} | {f"{method}_{k}" for method in SAMPLERS for k in GRID}
    assert {arm.name for arm in STUDY.arms.values() if arm.sweep == "grid"} == names


def test_smoke_has_every_arm_once(nowhere):
    specs = STUDY.plan(Settings(profile="smoke"))
    assert {arm_of(spec) for spec in specs} == set(STUDY.arms)
    assert {spec.seed for spec in specs} == {0}


def test_the_paper_profile_is_the_papers_settings_on_real_data(nowhere):
    specs = STUDY.plan(Settings(profile="paper", sweeps=("grid",)))
    for spec in specs:
        arm = STUDY.arms[arm_of(spec)].changes
        expected = TrainSettings.model_validate(arm | {"seed": spec.seed}).model_dump(mode="json")
        assert spec.settings == expected
        assert not spec.data.stand_in and not spec.needs
    assert {spec.data.name for spec in specs} == set(NETWORKS)


def test_a_spec_leaves_no_setting_to_a_default(specs):
    for spec in specs:
        assert TrainSettings.model_validate(spec.settings).model_dump(mode="json") == spec.settings


def test_every_preset_is_valid_and_reaches_the_runs(nowhere):
    for name, preset in PRESETS.items():
        TrainSettings.model_validate(preset)
        specs = STUDY.plan(Settings(profile="paper", preset=name, arms=("triplet_cluster_4",)))
        assert specs
        for key in preset.keys() - {"iters_per_epoch", "batch_size"}:
            given = preset[key]
            assert specs[0].settings[key] == (list(given) if isinstance(given, tuple) else given), (name, key)


def test_settings_relative_to_the_profiles(specs):
    by_name = {arm_of(spec): spec.settings for spec in specs}
    base = by_name["triplet_proxy_4"]
    for k in (2, 4, 16, 32):
        steps, samples = by_name[f"triplet_proxy_{k}_p4_steps"], by_name[f"triplet_proxy_{k}_p4_samples"]
        assert steps["p"] * steps["k"] == steps["batch_size"] == 4 * k
        assert steps["iters_per_epoch"] == base["iters_per_epoch"]
        drawn = base["iters_per_epoch"] * base["batch_size"]
        assert samples["iters_per_epoch"] * samples["batch_size"] == pytest.approx(drawn, rel=0.02)
    assert by_name["visit_all"]["iters_per_epoch"] == 2 * base["iters_per_epoch"]
    long = by_name["triplet_proxy_4_long"]
    assert (long["epochs"], long["milestones"]) == (24, [19])


def test_each_control_is_held_against_an_arm_that_is_run():
    for arm in STUDY.arms.values():
        if arm.sweep not in ("grid", "rivals"):
            assert STUDY.arms[arm.against].sweep in ("grid", arm.sweep), arm.name


@pytest.mark.parametrize(
    "given, message",
    [
        ({"arms": ("triplet_proxy_5",)}, "arms: unknown 'triplet_proxy_5'"),
        ({"sweeps": ("grids",)}, "sweeps: unknown 'grids'"),
        ({"sweeps": ("grid", "grid")}, "grid stands twice"),
        ({"seeds": (1, 1)}, "1 stands twice"),
        ({"preset": "capp"}, "preset: unknown 'capp'"),
        ({"dataset": "viper"}, "dataset: unknown 'viper'"),
        ({"weights": "nothing.pt", "profile": "paper"}, "no weights at"),
        ({"train": True}, "data_prep make"),
    ],
)
def test_bad_parameters_get_one_line(nowhere, given, message):
    with pytest.raises(PapersError, match=message) as error:
        STUDY.plan(Settings(**{"profile": "small", **given}))
    assert "\n" not in str(error.value)


# -- tables, claims, figures --


def test_tables_have_every_printed_number_and_our_mean(results):
    tables = STUDY.tables(results)
    printed = STUDY.published
    for number, exhibit in enumerate(("Table I", "Table II", "Table III", "Table IV"), 1):
        halves = [tables[f"table_{number}{half}"] for half in ("", "_ranks")]
        expected = Counter(printed[printed["exhibit"] == exhibit]["printed"])
        place = list(halves[0].columns).index("paper")
        assert Counter(line[place] for half in halves for line in half.rows) == expected
    line = next(x for x in tables["table_3"].rows if x[:3] == ["Market1501", "mAP", "K = 4"])
    assert line[4] == pytest.approx(51.0 + sum(0.1 * ((26 * 7 + s * 3) % 5) for s in range(3)) / 3)
    assert line[5] is None and line[-1] == "not comparable"
    # Table I takes the best setting of each sampler.
    assert STUDY.resolve(results, "market1501/triplet_proxy_best") == "market1501/triplet_proxy_4"
    assert "Triplet Sampling (1), our best K = 8" in {row[2] for row in tables["table_1"].rows}


def test_random_and_groups_of_one_stand_beside_the_others_at_the_same_seeds(results):
    assert (
        len(results.rows("market1501/group_cluster_1")) == 6 > len(results.rows("market1501/random_frozen"))
    )
    data = STUDY.figures(results)["by_setting"].data
    ours = data[data["of"] == "ours"].groupby(["network", "sampler", "k"])["seed"].agg(tuple)
    assert set(ours) == {(0, 1, 2)}
    tables = STUDY.tables(results)
    assert {row[-2] for name in ("table_1", "table_4") for row in tables[name].rows if row[-2]} == {3}
    assert {row[-1] for row in tables["spread"].rows} == {6}  # what all its seeds are for
    held = {row[0]: row for row in tables["batch_norm"].rows}["Random, all BN frozen"]
    three = results.values("market1501/random", "mAP %")
    assert held[6] == pytest.approx(sum(three[seed] for seed in range(3)) / 3)
    assert held[1] - held[6] == pytest.approx(held[7])


def test_the_controls_and_claims_find_what_was_planted(results):
    table = STUDY.tables(results)["batch_norm"]
    line = next(row for row in table.rows if row[0] == "Triplet, proxy labels, K = 32, all BN frozen")
    assert line[-1] == "yes"
    claims = {claim.name: claim for claim in STUDY.claims(results)}
    assert all(claims[name].finding.verdict == "holds" for name in ("C1a", "C2d", "C3b", "C6a", "C8b"))
    assert claims["C6b"].finding.verdict == NOT_REPRODUCED  # at K = 4, where the paper has 8 or 12
    assert claims["C6b"].finding.text == "seed 0: K = 4, seed 1: K = 4, seed 2: K = 4"
    assert claims["C7"].finding.text.startswith("Market1501: 3.5 images a proxy; DukeMTMC")
    json.dumps([claim.as_dict() for claim in claims.values()], allow_nan=False)


def test_without_runs_everything_has_its_full_shape(specs, results):
    empty = Results([(spec, None) for spec in specs])
    full, bare = STUDY.tables(results), STUDY.tables(empty)
    assert full.keys() == bare.keys()
    for name, table in bare.items():
        assert len(table.rows) == len(full[name].rows), name
    assert any(NOT_RUN in row for row in bare["table_2"].rows)
    assert {claim.finding.verdict for claim in STUDY.claims(empty)} <= {"not tested", "holds"}
    for figure in STUDY.figures(empty).values():
        assert figure.png


def test_groups_beyond_the_largest_cluster_are_marked_identical(results):
    def lines_without(*names: str) -> dict[str, list]:
        kept = [(spec, None if spec.label.endswith(names) else made) for spec, made in results.runs]
        return {row[0]: row for row in STUDY.tables(Results(kept))["many"].rows}

    lines = lines_without("many_256", "many_1024")
    assert lines["Group, N = 256"][-1] == lines["Group, N = 1024"][-1] == "identical to N = 128, not run"
    lines = lines_without("many_64", "many_128")  # no cluster is larger than 100
    assert lines["Group, N = 64"][1] == lines["Group, N = 128"][1] == NOT_RUN


def test_figures_draw_and_say_what_they_show(results):
    for name, figure in STUDY.figures(results).items():
        assert figure.png.startswith(b"\x89PNG") and len(figure.png) < 120 * 1024, name


def test_the_saved_picture_stands_where_nobody_can_move_a_control(monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    figure = explore.explore("triplet_cluster", k=4, p=2)
    first = figure.data[figure.data["batch"] == 0]
    assert sorted(first["cluster"].value_counts()) == [4, 4]
    monkeypatch.setenv("JPY_SESSION_NAME", "x.ipynb")
    live = explore.explore()
    assert {child.description for child in live.children[:-1]} == {"sampler", "K or N", "P", "seed"}


def test_coverage_counts_each_printed_number_once(results):
    counted = {x.exhibit: x for x in coverage(STUDY.name, STUDY.published, STUDY.cells(results))}
    assert counted["Table II"].missing == 0 and sum(counted["Table II"].reproduced.values()) == 84
    assert counted["Table I"].quoted == 12
    assert sum(counted["Table I"].reproduced.values()) == 80
