"""The doors of the wing, on rows whose effects are planted."""

from __future__ import annotations

import json

import pytest

from papers_lib.errors import PapersError
from papers_lib.exhibits.ledger import Row
from papers_lib.quadruplet_cars196 import study
from papers_lib.quadruplet_cars196.options import TrainSettings
from papers_lib.quadruplet_cars196.plan import ARMS, CONTROLS, PRESETS, TABLE_1, Settings, plan
from papers_lib.quadruplet_cars196.readings import MINED
from papers_lib.runs.spec import RunSpec

EFFECT = {"method_2": 0.05, "method_2_long": -0.05, "method_1": 0.02, "nearest_sibling": 0.08}


def row(spec: RunSpec) -> Row:
    """R@1 is .3 + the arm's planted effect + the seed's own level + a little of both."""
    jitter = 0.001 * ((len(spec.label) * 7 + spec.seed * 3) % 5)
    r1 = 0.3 + EFFECT.get(spec.label, 0.0) + 0.02 * spec.seed + jitter
    epoch = {"loss": 1.0, "R@1": r1, "positive_fallback": 0.1, "sibling_fallback": 0.0, "active_1": 0.5}
    mined = dict.fromkeys(MINED, 0.25) | {"distinct_method_1": 0.8, "distinct_method_2": 1.0 + jitter}
    metrics = {
        "R@1": r1, "R@2": r1 + 0.1, "R@4": r1 + 0.2, "R@8": r1 + 0.3, "MAP@R": 0.1, "NMI": r1,
        "NMI_sd": 0.001, "AMI": r1 / 2, "within_over_all": 0.5, "chance": 0.01,
        "history": [epoch] * spec.settings["epochs"], "mined": mined,
    }  # fmt: skip
    return Row(
        identity=spec.identity, key=spec.identity, paper=spec.paper, profile=spec.profile,
        function=spec.function, settings=spec.settings, seed=spec.seed, data=spec.data,
        needs=tuple(n.asked() for n in spec.needs),
        metrics=metrics, commit="c" * 40, dirty=False, code="f" * 64, torch="2.15.0", device="cpu",
        seconds=60.0, finished="2026-01-01T00:00:00Z",
    )  # fmt: skip


@pytest.fixture
def specs(places, monkeypatch) -> list[RunSpec]:
    monkeypatch.setenv("PAPERS_DATA", str(places / "nothing"))
    return plan(Settings(profile="small"))


@pytest.fixture
def runs(specs):
    return [(spec, row(spec)) for spec in specs]


def test_the_plan_has_every_arm_and_seed_once_and_the_telling_ones_first(specs):
    assert len(specs) == len(ARMS) * 3 == len({spec.identity for spec in specs})
    assert {spec.label for spec in specs[:12]} == {"random", "method_2", "method_1", "ce", "ce_all", "start"}
    assert {spec.label for spec in specs} == {arm.name for arm in TABLE_1 + CONTROLS}


def test_a_spec_leaves_no_setting_to_a_default(specs):
    for spec in specs:
        assert spec.settings.keys() == TrainSettings.model_fields.keys()
        assert TrainSettings.model_validate(spec.settings).model_dump(mode="json") == spec.settings


def test_all_arms_of_a_seed_start_from_one_warm_run(specs):
    warm = {need.identity for spec in specs if spec.seed == 0 for need in spec.needs}
    assert len(warm) == 2  # and one long one
    assert {spec.label for spec in specs for need in spec.needs if need.label == "long warm"} == {
        arm.name for arm in ARMS.values() if arm.long_start
    }
    assert all(spec.needs == () for spec in specs if spec.settings["start"] == "scratch")


def test_arms_differ_from_method_2_only_as_they_say(specs):
    by_name = {spec.label: spec for spec in specs if spec.seed == 0}
    base = by_name["method_2"].settings
    for arm in ARMS.values():
        changed = {k: v for k, v in by_name[arm.name].settings.items() if base[k] != v}
        assert changed == {k: v for k, v in arm.changes.items() if base[k] != v}, arm.name


def test_the_paper_preset_has_the_printed_settings(places):
    chosen = plan(Settings(profile="paper", methods=("method_2",), seeds=(0,)))[0].settings
    printed = {
        "lc1": 0.08, "lc2": 0.25, "lg1": 1, "lg2": 1, "eta": 1, "m1": 0.7, "t1": 0.7, "m2": 0.3, "t2": 0.3,
        "lr": 0.0003, "momentum": 0.9, "embedding_dim": 1024, "backbone": "resnet101", "start": "imagenet",
    }  # fmt: skip
    assert {name: chosen[name] for name in printed} == printed


def test_a_long_start_is_planned_only_where_the_start_is_warm(places):
    labels = {spec.label for spec in plan(Settings(profile="paper"))}
    assert labels == {arm.name for arm in ARMS.values() if not arm.long_start}


def test_unknown_methods_are_one_line(places):
    with pytest.raises(PapersError, match="methods: unknown 'methd_2'; known are"):
        plan(Settings(methods=("methd_2",)))


def test_options_of_the_notebook_reach_the_runs(places):
    changed = Settings(
        methods=("method_2",), seeds=(5,), coarse_map="body9", sibling="random", backbone="tiny16"
    )
    spec = plan(changed)[0]
    assert (spec.seed, spec.settings["coarse_map"], spec.settings["sibling"]) == (5, "body9", "random")
    assert spec.settings["backbone"] == spec.needs[0].settings["backbone"] == "tiny16"


def test_weights_are_named_by_their_content_not_their_place(places):
    one, two = places / "a.pt", places / "b.pt"
    one.write_bytes(b"weights")
    two.write_bytes(b"weights")
    specs = [plan(Settings(methods=("method_2",), seeds=(0,), weights=str(path)))[0] for path in (one, two)]
    assert specs[0].identity == specs[1].identity
    assert specs[0].settings["start"] == "file"
    assert specs[0].places != specs[1].places


def test_table_1_has_all_forty_printed_numbers_beside_ours(runs):
    table = study.table_1(runs)
    assert len(table.rows) == 40
    method_2 = next(line for line in table.rows if line[:2] == ["R@1", "Method 2"])
    assert method_2[2] == "66.06"
    assert method_2[3] == pytest.approx(
        100 * sum(row(s).metrics["R@1"] for s, _ in runs if s.label == "method_2") / 3
    )
    assert method_2[4] is None  # another profile and data set: no difference to the paper
    assert method_2[-2:] == [3, "not comparable"]
    assert "not comparable" in table.badge


def test_rows_that_are_missing_read_not_run(specs):
    empty = [(spec, None) for spec in specs]
    for name, table in study.tables(empty).items():
        if name not in ("types", "table_1_corrected"):
            assert "not run" in repr(table), name
    assert {claim.finding.verdict for claim in study.claims(empty)} == {
        "not tested",
        "fails",
    }  # C10 needs no run
    assert all(figure.csv() for figure in study.figures(empty).values())


def test_planted_effects_are_found_and_no_others(runs):
    verdicts = {claim.name: claim.finding.verdict for claim in study.claims(runs)}
    assert (verdicts["C1a"], verdicts["C1b"], verdicts["C2"]) == ("holds", "holds", "holds")
    assert verdicts["C1e"] == "fails"  # from the longer start Method 2 was planted below random
    assert verdicts["C5"] == "fails"  # the nearest sibling was planted above Method 2
    assert verdicts["C10"] == "fails"  # by printed numbers alone
    assert verdicts["C12"] == "holds"
    assert verdicts["C13"] == "undecided"  # planted equal
    assert (verdicts["C1c"], verdicts["C1d"]) == ("holds", "holds")
    assert len(verdicts) == 23


def test_the_state_of_the_art_is_every_cited_work_in_both_metrics(runs):
    finding = next(claim for claim in study.claims(runs) if claim.name == "C10").finding
    assert "Proxy-NCA [2] (73.20): Method 1 -8.35, Method 2 -7.14" in finding.text
    assert "Smart Mining [1] (59.50): Method 1 -2.18, Method 2 -2.50" in finding.text


def test_what_the_methods_choose_on_the_final_features_is_shown(runs):
    lines = {line[0]: line for line in study.final_features(runs).rows}
    assert lines["Method 2"][1:] == pytest.approx([25, 25, 25, 25, 25, 0.8, lines["Method 2"][7], 0.5])


def test_controls_are_differences_to_random_of_the_same_seeds(runs):
    lines = {line[0]: line for line in study.controls(runs).rows}
    gaps = [row(a).metrics["R@1"] - row(b).metrics["R@1"] for a, _ in runs for b, _ in runs
            if (a.label, b.label) == ("method_2", "random") and a.seed == b.seed]  # fmt: skip
    assert lines["Method 2"][6] == pytest.approx(100 * sum(gaps) / 3)
    assert lines["Method 2"][-1] == "holds"
    assert lines["Random quadruplets"][6:] == [None, None, 3, None]


def test_coverage_counts_what_has_runs(runs, specs):
    cells = study.cells(runs)
    assert sum(cell.kind == "run" and cell.value is not None for cell in cells) == 44
    assert all(cell.value is None for cell in study.cells([(spec, None) for spec in specs]))


def test_every_erratum_that_code_shows_is_found_to_hold():
    errata = study.errata()
    assert [e.name for e in errata] == [f"E{n}" for n in range(1, 15)]
    assert all(erratum.holds for erratum in errata)
    assert sum(erratum.computed for erratum in errata) == 9
    json.dumps([erratum.as_dict() for erratum in errata])


def test_exhibits_are_the_same_bytes_twice(runs, tmp_path):
    for folder in ("a", "b"):
        for exhibit in (*study.tables(runs).values(), *study.figures(runs).values()):
            exhibit.save(tmp_path / folder)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(names) == 6 * 2 + 4 * 3
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_every_profile_has_a_preset_and_seeds():
    assert set(PRESETS) == {"smoke", "small", "medium", "paper"}
    assert all(len(preset.seeds) >= 2 for preset in PRESETS.values())
