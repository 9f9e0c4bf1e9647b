"""The doors of the wing, on rows whose effects are planted."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from papers_lib.errors import PapersError
from papers_lib.exhibits import published
from papers_lib.exhibits.coverage import coverage
from papers_lib.exhibits.ledger import Row
from papers_lib.exhibits.table import NOT_RUN
from papers_lib.runs.spec import RunSpec
from papers_lib.sampler_study import explore, plan, study
from papers_lib.sampler_study.arms import ARMS, CONTROLS, GRID, GRID_VALUES, MANY, RIVALS, SAMPLERS, SWEEPS
from papers_lib.sampler_study.options import PRESETS, TrainSettings
from papers_lib.sampler_study.plan import NETWORKS, SIZES, Settings, arm_of, identical
from papers_lib.sampler_study.readings import LOGGED, best_setting

# mAP = .3 + the arm's effect + the seed's own level + a little of both.
EFFECT = {"triplet_proxy_4": 0.2, "triplet_cluster_8": 0.15, "triplet_proxy_32": -0.25, "random": -0.1}
FROZEN = {"triplet_proxy_32_frozen": 0.1}


def row(spec: RunSpec) -> Row:
    arm = arm_of(spec)
    jitter = 0.001 * ((len(spec.label) * 7 + spec.seed * 3) % 5)
    level = 0.3 + (EFFECT | FROZEN).get(arm, 0.0) + 0.01 * spec.seed + jitter
    metrics = {"mAP": level, "R1": level + 0.1, "R5": level + 0.2, "R10": level + 0.3}
    logged = dict.fromkeys(LOGGED, 0.5) | {"largest_cluster": 100.0, "images_per_proxy": 3.5}
    history = [logged | metrics] * min(2, spec.settings["epochs"])
    if spec.settings["method"] in ("none", "supervised"):
        history = []
    return Row(
        identity=spec.identity, key=spec.identity, paper=spec.paper, profile=spec.profile,
        function=spec.function, settings=spec.settings, seed=spec.seed, data=spec.data,
        needs=tuple(n.asked() for n in spec.needs),
        metrics=metrics | {"start": metrics, "best": metrics, "last": metrics, "history": history},
        commit="c" * 40, dirty=False, code="f" * 64, torch="2.15.0", device="cpu",
        seconds=60.0, finished="2026-01-01T00:00:00Z",
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


def test_the_plan_has_every_arm_once_a_seed_and_the_grid_first(specs):
    assert len({spec.identity for spec in specs}) == len(specs)
    counts = Counter(spec.label for spec in specs)
    assert {arm_of(spec) for spec in specs} == set(ARMS)
    for network in NETWORKS:
        for arm in (*GRID, *RIVALS):
            six = arm.name in ("random", "group_cluster_1")
            assert counts[f"{network}/{arm.name}"] == (6 if six else 3), arm.name
    assert all(counts[f"market1501/{arm.name}"] == 3 for arm in CONTROLS)
    grid = sum(ARMS[arm_of(spec)].sweep == "grid" for spec in specs)
    assert {ARMS[arm_of(spec)].sweep for spec in specs[:grid]} == {"grid"}
    assert {spec.seed for spec in specs[: 22 * 3]} == {0}


def test_smoke_has_every_arm_once(nowhere):
    specs = plan.plan(Settings(profile="smoke"))
    assert {arm_of(spec) for spec in specs} == set(ARMS)
    assert {spec.seed for spec in specs} == {0}


def test_the_paper_profile_is_the_papers_settings_on_real_data(nowhere):
    specs = plan.plan(Settings(profile="paper", sweeps=("grid",)))
    for spec in specs:
        arm = ARMS[arm_of(spec)].changes
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
        specs = plan.plan(Settings(profile="paper", preset=name, arms=("triplet_cluster_4",)))
        assert specs
        for key in preset.keys() - {"iters_per_epoch", "batch_size"}:
            given = preset[key]
            assert specs[0].settings[key] == (list(given) if isinstance(given, tuple) else given), (name, key)


def test_fixed_p_keeps_four_classes_and_equal_samples_keep_the_samples(specs):
    by_name = {arm_of(spec): spec.settings for spec in specs}
    base = by_name["triplet_proxy_4"]
    for k in (2, 4, 16, 32):
        steps, samples = by_name[f"triplet_proxy_{k}_p4_steps"], by_name[f"triplet_proxy_{k}_p4_samples"]
        assert steps["p"] * steps["k"] == steps["batch_size"] == 4 * k
        assert steps["iters_per_epoch"] == base["iters_per_epoch"]
        drawn = base["iters_per_epoch"] * base["batch_size"]
        assert samples["iters_per_epoch"] * samples["batch_size"] == pytest.approx(drawn, rel=0.02)


def test_random_and_groups_of_one_draw_from_separate_streams(specs):
    from papers_lib.sampler_study.methods import STREAMS

    assert len(set(STREAMS)) == len(STREAMS)
    assert {arm.changes["method"] for arm in GRID} <= set(STREAMS)


def test_each_control_is_held_against_an_arm_that_is_run(specs):
    for arm in (*CONTROLS, *MANY):
        assert arm.against in ARMS, arm.name
        other = ARMS[arm.against]
        assert other.sweep in ("grid", arm.sweep)


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
    ],
)
def test_bad_parameters_get_one_line(nowhere, given, message):
    with pytest.raises(PapersError, match=message) as error:
        plan.plan(Settings(**{"profile": "small", **given}))
    assert "\n" not in str(error.value)


def test_data_that_is_needed_and_not_there_is_named(nowhere):
    with pytest.raises(PapersError, match="data_prep make"):
        plan.plan(Settings(profile="small", train=True))


def test_tables_have_every_printed_number_and_our_mean(runs):
    tables = study.tables(runs)
    printed = published.load("sampler_study")
    for number, exhibit in enumerate(("Table I", "Table II", "Table III", "Table IV"), 1):  # noqa: B007
        halves = [tables[f"table_{number}{half}"] for half in ("", "_ranks")]
        expected = Counter(printed.query("exhibit == @exhibit")["printed"])
        place = list(halves[0].columns).index("paper")
        assert Counter(line[place] for half in halves for line in half.rows) == expected
    line = next(x for x in tables["table_3"].rows if x[:3] == ["Market1501", "mAP", "K = 4"])
    assert line[4] == pytest.approx(51.0 + sum(0.1 * ((26 * 7 + s * 3) % 5) for s in range(3)) / 3)
    assert line[5] is None and line[-1] == "not comparable"


def test_table_1_takes_the_best_setting(runs):
    assert best_setting(runs, "market1501", "triplet_proxy") == "triplet_proxy_4"
    labels = {row[2] for row in study.tables(runs)["table_1"].rows}
    assert "Triplet Sampling (1), our best K = 8" in labels


def test_the_controls_find_a_planted_cure(runs):
    table = study.tables(runs)["batch_norm"]
    line = next(row for row in table.rows if row[0] == "Triplet, proxy labels, K = 32, all BN frozen")
    assert line[-1] == "holds"
    claims = {claim.name: claim for claim in study.claims(runs)}
    assert claims["C2d"].finding.verdict == "holds"
    assert claims["C1a"].finding.verdict == "holds"
    assert claims["C3b"].finding.verdict == "holds"


def test_without_runs_everything_has_its_full_shape(specs, runs):
    empty = [(spec, None) for spec in specs]
    full, bare = study.tables(runs), study.tables(empty)
    assert full.keys() == bare.keys()
    for name, table in bare.items():
        assert len(table.rows) == len(full[name].rows), name
    assert any(NOT_RUN in row for row in bare["table_2"].rows)
    assert {claim.finding.verdict for claim in study.claims(empty)} <= {"not tested", "holds"}
    for figure in study.figures(empty).values():
        assert figure.png


def test_groups_beyond_the_largest_cluster_are_marked_identical(specs, runs):
    shorter = [
        (spec, None if spec.label.endswith(("many_256", "many_1024")) else made) for spec, made in runs
    ]
    table = study.tables(shorter)["many"]
    texts = {row[0]: row[-1] for row in table.rows}
    assert texts["Group, N = 256"] == "identical to N = 128, not run"
    assert identical(256, 100) == 128 and identical(128, 100) is None and identical(1024, 100) == 128


def test_figures_draw_and_say_what_they_show(runs):
    for name, figure in study.figures(runs).items():
        assert figure.png.startswith(b"\x89PNG") and len(figure.png) < 120 * 1024, name


def test_the_saved_picture_stands_where_nobody_can_move_a_control(monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    figure = explore.explore("triplet_cluster", k=4, p=2)
    first = figure.data[figure.data["batch"] == 0]
    assert sorted(first["cluster"].value_counts()) == [4, 4]
    monkeypatch.setenv("JPY_SESSION_NAME", "x.ipynb")
    live = explore.explore()
    assert {child.description for child in live.children[:-1]} == {"sampler", "K or N", "P", "seed"}


def test_coverage_counts_each_printed_number_once(runs):
    found = {
        x.exhibit: x for x in coverage("sampler_study", published.load("sampler_study"), study.cells(runs))
    }
    assert found["Table II"].missing == 0 and sum(found["Table II"].reproduced.values()) == 84
    assert found["Table I"].quoted == 12
    assert sum(found["Table I"].reproduced.values()) == 80


def test_rows_are_plain_json(runs):
    json.dumps([claim.as_dict() for claim in study.claims(runs)], allow_nan=False)
    json.dumps([erratum.as_dict() for erratum in study.errata()], allow_nan=False)


def test_sizes_and_sweeps_are_what_the_house_promises():
    assert set(SIZES) == {"smoke", "small", "medium", "paper"}
    assert len(GRID) == 1 + len(SAMPLERS) * len(GRID_VALUES)
    assert SWEEPS[0] == "grid"
