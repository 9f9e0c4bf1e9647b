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
from papers_lib.median_triplet import distributed, prior
from papers_lib.median_triplet.methods import NAMES
from papers_lib.median_triplet.options import PRESETS, TrainSettings, TransferSettings
from papers_lib.median_triplet.study import STUDY, Settings, tables
from papers_lib.runs.spec import RunSpec
from papers_lib.runs.store import Store
from papers_lib.study import Results

EFFECT = {"median": 0.05, "prior": 0.1, "byol_x2": 0.06, "hardest": -0.1, "rank_5": 0.02}
METERS = {
    "cos_positive": 0.9,
    "cos_negative": 0.1,
    "rank_projections": 20.0,
    "rank_features": 30.0,
    "std_features": 0.8,
    "same_query_own": 0.1,
    "seconds": 10.0,
    "waiting": 0.1,
    "loss": 1.0,
} | {f"same_{what}_{k}": 0.1 for what in ("query", "batch") for k in ("1", "5", "median")}


def row(spec: RunSpec) -> Row:
    level = 0.4 + EFFECT.get(spec.label, 0.0) + 0.01 * spec.seed
    level += 0.0002 * ((len(spec.label) * 7 + spec.seed * 3) % 5)
    metrics: dict[str, object] = dict.fromkeys(("AP_box", "AP50_box", "AP75_box", "AP_mask", "rank1"), level)
    if "task" not in spec.settings:
        history = [METERS | {"knn": level - 0.1}, METERS | {"knn": level}]
        if spec.label == "hardest":
            history[-1] |= {"same_query_1": 0.9 + 0.001 * spec.seed}
        if spec.label == "median":
            history[-1] |= {"rank_projections": 5.0, "seconds": 20.0}
        metrics = {
            "linear": level,
            "linear_1": level - 0.05,
            "knn": level - 0.02,
            "knn_max": level,
            "own": level,
            "waiting": 0.1,
            "start": METERS | {"knn": 0.2},
            "history": history if spec.settings["epochs"] else [],
        }
    asked = {
        name: getattr(spec, name) for name in ("paper", "profile", "function", "settings", "seed", "data")
    }
    asked |= {"identity": spec.identity, "key": spec.identity, "needs": tuple(n.asked() for n in spec.needs)}
    origin = {"commit": "c" * 40, "dirty": False, "code": "f" * 64, "torch": "2.15.0", "device": "cpu"}
    return Row(**asked, **origin, metrics=metrics, seconds=60.0, finished="2026-01-01T00:00:00Z")


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAPERS_DATA", str(tmp_path / "nothing"))


def plan(**parameters) -> list[RunSpec]:
    return STUDY.plan(Settings(**{"profile": "small"} | parameters))


def by_label(**parameters) -> dict[str, RunSpec]:
    return {spec.label: spec for spec in plan(**parameters)}


@pytest.fixture
def results() -> Results:
    return Results([(spec, row(spec)) for spec in plan()])


# -- the plan --


def test_the_plan_has_every_arm_of_a_profile_once_per_seed_and_leaves_no_setting_to_a_default():
    specs = plan()
    assert len({spec.identity for spec in specs}) == len(specs)
    longest = STUDY.sizes["small"].more["longest"]
    planned = [name for name, arm in STUDY.arms.items() if arm.changes.get("epochs_times", 1) <= longest]
    assert Counter(spec.label for spec in specs) == dict.fromkeys(planned, 3)
    assert {spec.seed for spec in specs[:13]} == {0}
    for spec in specs:
        assert TrainSettings.model_validate(spec.settings).model_dump(mode="json") == spec.settings


def test_smoke_has_every_arm_and_every_transfer_once():
    specs = by_label(profile="smoke")
    transfers = {label: spec for label, spec in specs.items() if "task" in spec.settings}
    assert specs.keys() - transfers.keys() == STUDY.arms.keys()
    assert Counter(label.partition("/")[0] for label in transfers) == {
        "mask_rcnn": 11,
        "faster_rcnn": 11,
        "search": 4,
    }
    trained = {spec.identity for spec in specs.values()}
    for label, spec in transfers.items():
        (need,) = spec.needs
        assert need.identity in trained and need.settings["keep_weights"]
        assert spec.settings["start"] == ("random" if label.endswith("Random") else "encoder")


def test_the_paper_profile_is_the_papers_settings():
    specs = by_label(profile="paper")
    assert specs["median"].settings == TrainSettings(keep_weights=True).model_dump(mode="json")
    assert specs["median"].data.name == "imagenet" and not specs["median"].data.stand_in
    assert specs["simclr_1000"].settings["epochs"] == 1000
    assert specs["moco"].settings["ema_base"] == 0.999
    assert specs["mask_rcnn/BYOL"].settings == TransferSettings(task="mask_rcnn").model_dump(mode="json")
    needed = {need.identity for spec in specs.values() for need in spec.needs}
    kept = {spec.identity for spec in specs.values() if spec.settings.get("keep_weights")}
    assert kept == needed  # only encoders that another run starts from leave their weights
    for preset in PRESETS.values():
        TrainSettings.model_validate(preset)


def test_the_number_of_processes_is_a_setting_that_one_leaves_out(tmp_path, capsys, monkeypatch):
    """What several processes share is another computation; rows of one process are found as before."""
    one, two = (by_label(processes=count) for count in (1, 2))
    assert "processes" not in one["median"].settings and two["median"].settings["processes"] == 2
    assert one["median"].identity != two["median"].identity
    assert one["odc"].identity == two["odc"].identity  # which trains in one process
    folder = Store(tmp_path).prepare(two["median"])
    assert distributed.main(str(folder)) == 2
    assert "of 2 processes, not 1: start it with" in capsys.readouterr().err
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert distributed.main(str(Store(tmp_path).prepare(one["median"]))) == 2
    assert "of 1 processes, not 2" in capsys.readouterr().err


def test_arms_differ_only_in_what_they_say():
    specs = {label: spec.settings for label, spec in by_label(profile="paper").items()}
    for arm in STUDY.arms.values():
        base = specs[arm.against or "byol"]
        changed = {name for name, value in specs[arm.name].items() if base[name] != value}
        relative = {"epochs_times": {"epochs"}, "batch_times": {"batch_size", "lr"}}
        said = set().union(*(relative.get(name, {name}) for name in arm.changes))
        said |= {"keep_weights", "ema_base"} | ({"method", "epochs"} if arm.name == "random" else set())
        # an arm's counterpart may say what the arm does not
        assert changed <= said | set(STUDY.arms[arm.against or "byol"].changes), arm.name
    ratio = specs["median_n32"]["lr"] / specs["median"]["lr"]
    assert ratio == pytest.approx(32 / 128)
    assert {arm.changes["method"] for arm in STUDY.arms.values()} == set(NAMES)
    assert all(arm.against for arm in STUDY.arms.values() if arm.sweep != "table_1")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"arms": ("medain",)}, "arms: unknown 'medain'"),
        ({"sweeps": ("table1",)}, "sweeps: unknown 'table1'"),
        ({"sweeps": ("heads", "heads")}, "heads stands twice"),
        ({"seeds": (1, 1)}, "1 stands twice"),
        ({"preset": "cifra"}, "preset: unknown 'cifra'"),
        ({"dataset": "svhn"}, "dataset: unknown 'svhn'"),
        ({"train": True}, "data_prep"),  # data that is needed and not there
    ],
)
def test_bad_parameters_get_one_line(given, message):
    with pytest.raises(PapersError, match=message) as error:
        plan(**given)
    assert "\n" not in str(error.value)


def test_parameters_reach_the_runs():
    (spec,) = plan(arms=("median",), seeds=(7,), preset="paper", precision="bfloat16", dataset="cifar100")
    assert (spec.seed, spec.data.name) == (7, "cifar100")
    assert (spec.settings["optimiser"], spec.settings["precision"]) == ("lars", "bfloat16")


# -- what the runs say --


def test_tables_have_every_printed_number_of_a_run_and_our_mean(results):
    found = STUDY.tables(results)
    for number in range(1, 8):
        table = found[f"table_{number}"]
        printed = [
            text
            for (exhibit, _, column), text in STUDY.printed.items()
            if exhibit == f"Table {number}" and column != "train epochs"
        ]
        place = list(table.columns).index("paper")
        assert Counter(line[place] for line in table.rows) == Counter(printed), number
    line = next(x for x in found["table_1"].rows if x[0] == "median triplet-200")
    levels = [row(spec).metrics["linear"] for spec, _ in results.runs if spec.label == "median"]
    assert line[3] == pytest.approx(100 * sum(levels) / 3)
    assert line[-1] == "not comparable"


def test_claims_find_planted_effects(results):
    claims = {claim.name: claim for claim in STUDY.claims(results)}
    verdicts = {name: claim.finding.verdict for name, claim in claims.items()}
    assert len(claims) == len(STUDY.claims(results))
    assert verdicts["C1a"] == "holds"  # median over BYOL
    assert verdicts["C1c"] == "fails"  # not over BYOL with its loss doubled
    assert verdicts["C1e"] == "fails"  # nor in BYOL's time, half of its own
    assert verdicts["C11a"] == verdicts["C5c"] == verdicts["C3a"] == verdicts["C3b"] == "holds"
    assert verdicts["C6e"] == "fails"  # the planted rows of the two differ
    assert verdicts["C13"] == "holds"  # planted a constant below
    assert verdicts["C15a"] == "holds" and verdicts["C15b"] == "fails" and verdicts["C17"] == "holds"
    assert verdicts["C18b"] == "not tested"  # longer than `small` goes
    assert "than the tail of 0.76 %" in claims["C7a"].statement  # k = 22 of 127 negatives


def test_ranks_and_tails_are_those_of_the_heads():
    ranks = {name: tables.rank(STUDY.arms[name].changes, 128) for name in tables.RANKED}
    assert ranks == {
        "median": 64,
        "prior": 22,
        "hardest": 1,
        "rank_5": 5,
        "quarter": 32,
        "three_quarters": 96,
    }
    assert tables.tail(22, 128) == 100 * prior.tail(127, 0.1, 22)


def test_frequencies_given_a_pair_are_those_of_all_batches_over_its_probability(results):
    for _, made in results.runs:
        made.settings["batch_size"] = 4
    given = STUDY.read(results, "hardest", "start.same_batch_1 given B")
    assert given == pytest.approx(dict.fromkeys(range(3), 0.1 / (1 - 0.9 * 0.8 * 0.7)))


def test_without_runs_everything_has_its_full_shape(results):
    empty = Results([(spec, None) for spec, _ in results.runs])
    full, bare = STUDY.tables(results), STUDY.tables(empty)
    assert full.keys() == bare.keys()
    for name, table in bare.items():
        if name != "false_negatives":
            assert len(table.rows) == len(full[name].rows), name
    assert any(NOT_RUN in line for line in bare["table_1"].rows)
    assert {claim.finding.verdict for claim in STUDY.claims(empty)} <= {"not tested", "holds", "fails"}
    assert all(figure.png for figure in STUDY.figures(empty).values())
    json.dumps([claim.as_dict() for claim in STUDY.claims(results)])


def test_a_collapsed_run_is_named(results):
    results.rows("simsiam")[1].metrics["history"][-1] |= {"std_features": 0.001}
    assert "simsiam seed 1" in " ".join(STUDY.tables(results)["table_1"].notes)


def test_coverage_counts_cells_of_runs_and_quotes_the_rest(results):
    cells = STUDY.cells(results)
    found = {x.exhibit: x for x in coverage("median_triplet", STUDY.published, cells)}
    assert found["Table 6"].missing == found["Table 7"].missing == found["Table 5"].missing == 0
    assert sum(found["Table 6"].reproduced.values()) == 3
    assert found["Table 2"].missing == found["Table 2"].printed  # no transfer at small
    assert found["settings"].quoted == found["settings"].printed
    assert found["Table 4"].quoted == 6
    assert found["text"].exact == 2
