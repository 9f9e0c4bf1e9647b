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
from papers_lib.median_triplet import distributed, plan, study
from papers_lib.median_triplet.arms import ARMS, SWEEPS, TRANSFERS
from papers_lib.median_triplet.methods import NAMES
from papers_lib.median_triplet.options import PRESETS, TrainSettings
from papers_lib.median_triplet.plan import SIZES, Settings
from papers_lib.median_triplet.rows import ROWS
from papers_lib.median_triplet.transfer_options import TransferSettings
from papers_lib.runs.spec import RunSpec
from papers_lib.runs.store import Store

EFFECT = {"median": 0.05, "prior": 0.1, "byol_x2": 0.06, "hardest": -0.1, "rank_5": 0.02}
METERS = {
    "cos_positive": 0.9, "cos_negative": 0.1, "rank_projections": 20.0, "rank_features": 30.0,
    "std_features": 0.8, "same_query_own": 0.1, "seconds": 10.0, "waiting": 0.1, "loss": 1.0,
} | {f"same_{what}_{k}": 0.1 for what in ("query", "batch") for k in ("1", "5", "median")}  # fmt: skip


def metrics(spec: RunSpec) -> dict[str, object]:
    jitter = 0.0002 * ((len(spec.label) * 7 + spec.seed * 3) % 5)
    level = 0.4 + EFFECT.get(spec.label, 0.0) + 0.01 * spec.seed + jitter
    if "task" in spec.settings:
        return {"AP_box": level, "AP50_box": level, "AP75_box": level, "AP_mask": level, "rank1": level}
    start = METERS | {"knn": 0.2}
    history = [METERS | {"knn": level - 0.1}, METERS | {"knn": level}]
    if spec.label == "hardest":
        history[-1] |= {"same_query_1": 0.9 + 0.001 * spec.seed}
    if spec.label == "median":
        history[-1] |= {"rank_projections": 5.0}
    return {
        "linear": level, "linear_1": level - 0.05, "knn": level - 0.02, "knn_max": level, "own": level,
        "waiting": 0.1, "start": start, "history": history if spec.settings["epochs"] else [],
    }  # fmt: skip


def row(spec: RunSpec) -> Row:
    return Row(
        identity=spec.identity, key=spec.identity, paper=spec.paper, profile=spec.profile,
        function=spec.function, settings=spec.settings, seed=spec.seed, data=spec.data,
        needs=tuple(n.asked() for n in spec.needs), metrics=metrics(spec), commit="c" * 40, dirty=False,
        code="f" * 64, torch="2.15.0", device="cpu", seconds=60.0, finished="2026-01-01T00:00:00Z",
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
    counts = Counter(spec.label for spec in specs)
    longest = SIZES["small"].longest
    planned = {name for name, arm in ARMS.items() if arm.changes.get("epochs_times", 1) <= longest}
    assert counts == dict.fromkeys(planned, 3)
    assert {spec.seed for spec in specs[:13]} == {0}


def test_smoke_has_every_arm_and_every_transfer_once(nowhere):
    specs = plan.plan(Settings(profile="smoke"))
    labels = Counter(spec.label for spec in specs)
    assert labels == dict.fromkeys([*ARMS, *(f"{t.task}/{t.row}" for t in TRANSFERS)], 1)
    transfers = [spec for spec in specs if "task" in spec.settings]
    assert all(len(spec.needs) == 1 and spec.needs[0].settings["keep_weights"] for spec in transfers)
    starts = {spec.label: spec.settings["start"] for spec in transfers}
    assert starts["mask_rcnn/Random"] == "random" and starts["mask_rcnn/BYOL"] == "encoder"
    trained = {spec.identity for spec in specs}
    assert all(spec.needs[0].identity in trained for spec in transfers)


def test_the_paper_profile_is_the_papers_settings(nowhere):
    specs = {spec.label: spec for spec in plan.plan(Settings(profile="paper"))}
    expected = TrainSettings(keep_weights=True).model_dump(mode="json")
    assert specs["median"].settings == expected
    assert specs["median"].data.name == "imagenet" and not specs["median"].data.stand_in
    assert specs["simclr_1000"].settings["epochs"] == 1000
    assert specs["moco"].settings["ema_base"] == 0.999
    found = specs["mask_rcnn/BYOL"].settings
    assert found == TransferSettings(task="mask_rcnn").model_dump(mode="json")


def test_the_number_of_processes_is_a_setting_that_one_leaves_out(nowhere, tmp_path, capsys, monkeypatch):
    """What several processes share is another computation; rows of one process are found as before."""
    one, two = (
        {spec.label: spec for spec in plan.plan(Settings(profile="small", processes=count))}
        for count in (1, 2)
    )
    assert "processes" not in one["median"].settings and two["median"].settings["processes"] == 2
    assert one["median"].identity != two["median"].identity
    assert one["odc"].identity == two["odc"].identity  # which trains in one process
    folder = Store(tmp_path).prepare(two["median"])
    assert distributed.main(str(folder)) == 2
    assert "of 2 processes, not 1: start it with" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert distributed.main(str(Store(tmp_path).prepare(one["median"]))) == 2
    assert "of 1 processes, not 2" in capsys.readouterr().err


def test_only_encoders_that_another_run_starts_from_leave_their_weights(nowhere):
    specs = plan.plan(Settings(profile="paper"))
    needed = {need.identity for spec in specs for need in spec.needs}
    trained = [spec for spec in specs if "task" not in spec.settings]
    assert {spec.identity for spec in trained if spec.settings["keep_weights"]} == needed


def test_a_spec_leaves_no_setting_to_a_default(specs):
    for spec in specs:
        assert TrainSettings.model_validate(spec.settings).model_dump(mode="json") == spec.settings


def test_arms_differ_only_in_what_they_say(specs):
    by_name = {spec.label: spec.settings for spec in specs}
    for name, changed in (
        ("byol_x2", {"loss_scale"}), ("byol_sizes", {"random_resolution"}), ("prior", {"method", "head"}),
        ("median_n32", {"method", "batch_size", "lr"}), ("moco_v2_queue_256", {"method", "queue"}),
    ):  # fmt: skip
        against = by_name["byol" if name.startswith("byol") else ARMS[name].against]
        assert {key for key in against if against[key] != by_name[name][key]} <= changed, name
    assert by_name["median_n32"]["lr"] / by_name["median"]["lr"] == pytest.approx(32 / 128)


def test_each_control_is_held_against_an_arm_that_is_run():
    assert all(arm.against in ARMS for arm in ARMS.values() if arm.sweep != "table_1")
    assert {arm.changes["method"] for arm in ARMS.values()} == set(NAMES)
    assert {arm.sweep for arm in ARMS.values()} | {"transfer"} == set(SWEEPS)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"arms": ("medain",)}, "arms: unknown 'medain'"),
        ({"sweeps": ("table1",)}, "sweeps: unknown 'table1'"),
        ({"sweeps": ("heads", "heads")}, "heads stands twice"),
        ({"seeds": (1, 1)}, "1 stands twice"),
        ({"preset": "cifra"}, "preset: unknown 'cifra'"),
        ({"dataset": "svhn", "train": True}, "dataset: unknown 'svhn'"),
    ],
)
def test_bad_parameters_get_one_line(nowhere, given, message):
    with pytest.raises(PapersError, match=message) as error:
        plan.plan(Settings(**{"profile": "small", **given}))
    assert "\n" not in str(error.value)


def test_data_that_is_needed_and_not_there_is_named(nowhere):
    with pytest.raises(PapersError, match="data_prep"):
        plan.plan(Settings(profile="small", train=True))


def test_tables_have_every_printed_number_of_a_run_and_our_mean(runs):
    tables = study.tables(runs)
    printed = published.load("median_triplet")
    for exhibit in (f"Table {n}" for n in (1, 2, 3, 4, 5, 6, 7)):
        table = tables[f"table_{exhibit[-1]}"]
        expected = printed.query("exhibit == @exhibit and column != 'train epochs'")["printed"]
        place = list(table.columns).index("paper")
        assert Counter(line[place] for line in table.rows) == Counter(expected), exhibit
    line = next(x for x in tables["table_1"].rows if x[0] == "median triplet-200")
    mean = sum(float(metrics(s)["linear"]) for s, _ in runs if s.label == "median") / 3  # type: ignore[arg-type]
    assert line[3] == pytest.approx(100 * mean)
    assert line[-1] == "not comparable"


def test_every_answer_names_a_printed_cell():
    printed = published.load("median_triplet")
    places = set(zip(printed["exhibit"], printed["row"], printed["column"], strict=True))
    assert set(ROWS) <= places


def test_claims_find_planted_effects(runs):
    claims = {claim.name: claim.finding.verdict for claim in study.claims(runs)}
    assert claims["C1a"] == "holds"  # median over BYOL
    assert claims["C1c"] == "fails"  # not over BYOL with its loss doubled
    assert claims["C11a"] == claims["C5c"] == claims["C3a"] == claims["C3b"] == "holds"
    assert claims["C6e"] == "fails"  # the planted rows of the two differ
    assert claims["C15a"] == "holds" and claims["C15b"] == "fails" and claims["C17"] == "holds"
    assert claims["C18b"] == "not tested"  # longer than `small` goes
    assert len(claims) == len(study.claims(runs))


def test_without_runs_everything_has_its_full_shape(specs, runs):
    empty = [(spec, None) for spec in specs]
    full, bare = study.tables(runs), study.tables(empty)
    assert full.keys() == bare.keys()
    for name, table in bare.items():
        if name != "false_negatives":
            assert len(table.rows) == len(full[name].rows), name
    assert any(NOT_RUN in line for line in bare["table_1"].rows)
    assert {claim.finding.verdict for claim in study.claims(empty)} <= {"not tested", "holds", "fails"}
    for figure in study.figures(empty).values():
        assert figure.png


def test_a_collapsed_run_is_named(specs):
    runs = []
    for spec in specs:
        made = row(spec)
        if spec.label == "simsiam" and spec.seed == 1:
            made.metrics["history"][-1] |= {"std_features": 0.001}
        runs.append((spec, made))
    assert "simsiam seed 1" in " ".join(study.tables(runs)["table_1"].notes)


def test_coverage_counts_cells_of_runs_and_quotes_the_rest(runs):
    cells = study.cells(runs)
    found = {x.exhibit: x for x in coverage("median_triplet", published.load("median_triplet"), cells)}
    assert found["Table 6"].missing == found["Table 7"].missing == found["Table 5"].missing == 0
    assert sum(found["Table 6"].reproduced.values()) == 3
    assert found["Table 2"].missing == found["Table 2"].printed  # no transfer at small
    assert found["settings"].quoted == found["settings"].printed
    assert found["Table 4"].quoted == 6
    assert found["text"].exact == 2


def test_doors_are_plain_json(runs):
    json.dumps([claim.as_dict() for claim in study.claims(runs)])
    json.dumps([erratum.as_dict() for erratum in study.errata()])


def test_every_preset_is_valid():
    for preset in PRESETS.values():
        TrainSettings.model_validate(preset)
