"""The doors of the wing, on rows whose effects are planted."""

from collections import Counter

import pytest
from planted import planted

from papers_lib.errors import PapersError
from papers_lib.exhibits.coverage import coverage
from papers_lib.exhibits.ledger import Row
from papers_lib.exhibits.table import NOT_RUN
from papers_lib.median_triplet import prior
from papers_lib.median_triplet.methods import NAMES
from papers_lib.median_triplet.options import PRESETS, TrainSettings, TransferSettings
from papers_lib.median_triplet.study import STUDY, Settings, tables
from papers_lib.runs import worker
from papers_lib.runs.spec import RunSpec
from papers_lib.runs.store import Store
from papers_lib.study import Results

pytestmark = pytest.mark.usefixtures("nowhere")
EFFECT = {"median": 0.05, "prior": 0.1, "byol_x2": 0.06, "hardest": -0.1, "rank_5": 0.02}
EFFECT |= {"c2_median": 0.05, "c2_three_quarters": 0.08}
METERS = {"cos_positive": 0.9, "cos_negative": 0.1, "rank_projections": 20.0, "rank_features": 30.0}
METERS |= {"std_features": 0.8, "same_query_own": 0.1, "seconds": 10.0, "waiting": 0.1, "loss": 1.0}
METERS |= {f"same_{what}_{k}": 0.1 for what in ("query", "batch") for k in ("1", "5", "median")}


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
        images, classes = spec.settings["images"] or 50_000, spec.settings["classes"] or 10
        metrics = {
            "linear": level,
            "linear_1": level - 0.05,
            "knn": level - 0.02,
            "knn_max": level,
            "own": level,
        }
        metrics |= {"waiting": 0.1, "classes": classes, "images": images}
        metrics |= {
            "chance": (images / classes - 1) / (images - 1),
            "start": METERS | {"knn": 0.2, "flops": 1e6},
            "history": history if spec.settings["epochs"] else [],
        }
    return planted(spec, metrics)


def plan(**parameters) -> list[RunSpec]:
    return STUDY.plan(Settings(**{"profile": "frozen"} | parameters))


def by_label(**parameters) -> dict[str, RunSpec]:
    return {spec.label: spec for spec in plan(**parameters)}


@pytest.fixture
def results() -> Results:
    return Results([(spec, row(spec)) for spec in plan()])


# -- the plan --


def test_the_plan_has_every_arm_of_a_profile_once_per_seed_and_leaves_no_setting_to_a_default():
    specs = plan()
    assert len({spec.identity for spec in specs}) == len(specs)
    more = STUDY.sizes["frozen"].more
    planned = [
        name
        for name, arm in STUDY.arms.items()
        if arm.changes.get("epochs_times", 1) <= more["longest"] and arm.sweep not in more["without"]
    ]
    assert Counter(spec.label for spec in specs) == dict.fromkeys(planned, 10)
    first = [f"{spec.label} {spec.seed}" for spec in specs[:6]]
    assert first == ["byol 0", "byol_x2 0", "median 0", "prior 0", "rank_5 0", "byol 1"]
    for spec in specs:
        assert TrainSettings.model_validate(spec.settings).model_dump(mode="json") == spec.settings


def test_smoke_has_every_arm_on_pictures_and_every_transfer_once():
    specs = by_label(profile="smoke")
    transfers = {label: spec for label, spec in specs.items() if "task" in spec.settings}
    # features of cars are for `frozen`
    pictures = {name for name, arm in STUDY.arms.items() if not arm.more["data"] and arm.sweep != "ablation"}
    assert specs.keys() - transfers.keys() == pictures
    tasks = Counter(label.partition("/")[0] for label in transfers)
    assert tasks == {"mask_rcnn": 11, "faster_rcnn": 11, "search": 4}
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
    assert specs["mask_rcnn/BYOL"].settings == TransferSettings(task="mask_rcnn").model_dump(mode="json")
    needed = {need.identity for spec in specs.values() for need in spec.needs}
    kept = {spec.identity for spec in specs.values() if spec.settings.get("keep_weights")}
    assert kept == needed  # only encoders that another run starts from leave their weights
    for preset in PRESETS.values():
        TrainSettings.model_validate(preset)


def test_tables_6_and_7_are_of_the_papers_own_length():
    """20 epochs and a probe of one, at `paper` by runs of their own."""
    found = Results([(spec, row(spec)) for spec in plan(profile="paper")])
    specs = by_label(profile="paper")
    seen = {}
    for place in STUDY.printed:
        if place[0] in ("Table 6", "Table 7"):
            answer = STUDY.answer(found, place)
            settings = specs[answer.label].settings
            assert (settings["epochs"], answer.metric) == (20, "linear_1 %")
            seen[place[2]] = (settings["head"], settings["k"], settings["margin"])
    assert seen == {
        "C = 0.3": ("median", 0, 0.3),
        "C = 1.2": ("median", 0, 1.2),
        "C = 100": ("median", 0, 100),
        "rank-1": ("hardest", 0, None),
        "rank-5": ("rank", 5, None),
        "rank-52": ("median", 0, None),
    }


# What the public configuration files say: images, rate, decay, epochs, where the rate falls, and to what.
FILES = {
    "supervised": (256, 0.1, 1e-4, 200, (60, 120, 180), 0.1),  # 100 epochs as `supervised_100`
    "relative_location": (512, 0.2, 1e-4, 70, (30, 50), 0.1),
    "rotation": (128, 0.2, 1e-4, 70, (30, 50), 0.1),
    "deepcluster": (512, 0.1, 1e-5, 200, (200,), 0.1),
    "odc": (512, 0.06, 1e-5, 440, (400,), 0.4),
    "npid": (256, 0.03, 1e-4, 200, (120, 160), 0.1),
    "moco": (256, 0.03, 1e-4, 200, (120, 160), 0.1),
    "moco_v2": (256, 0.03, 1e-4, 200, (), 0.1),
    "simsiam": (256, 0.05, 1e-4, 200, (), 0.1),
    "simclr": (256, 0.3, 1e-6, 200, (), 0.1),
}


def test_each_method_has_its_public_settings_beside_the_frame_and_a_row_says_which():
    own, frame = (by_label(profile="paper", preset=preset) for preset in ("", "paper"))
    for name, (images, lr, decay, epochs, falls, factor) in FILES.items():
        s = own[name].settings
        assert s["batch_size"] * s["accumulation"] == images
        assert (s["lr"], s["weight_decay"], s["epochs"], s["drop_factor"]) == (lr, decay, epochs, factor)
        assert [round(share * epochs) for share in s["drops"]] == list(falls)
        assert s["optimiser"] == ("lars" if name == "simclr" else "sgd")
        assert s["source"].startswith("configs/") and not frame[name].settings["source"]
        assert (frame[name].settings["lr"], frame[name].settings["accumulation"]) == (4.8, 40)
    assert own["moco"].settings["ema_base"] == frame["moco"].settings["ema_base"] == 0.999
    assert own["supervised_100"].settings["epochs"] == 100
    for name in ("byol", "median"):
        assert own[name].identity == frame[name].identity
    found = STUDY.tables(Results([(spec, row(spec)) for spec in plan(profile="paper")]))
    lines = {line[0]: line[2] for line in found["table_1"].rows}
    assert lines["MoCo [21]"] == "configs/selfsup/moco/r50_v1.py"
    assert lines["BYOL [19]-200"] == "one frame"
    assert "moco configs/selfsup/moco/r50_v1.py" in found["methods"].notes[-1]


def test_false_negatives_at_chance_are_not_fewer_than_chance():
    """Of 1,000 classes that are not equally large: chance is that of the data in hand."""
    rows = []
    for spec in plan(profile="paper", seeds=tuple(range(10)), sweeps=("main",)):
        made = row(spec)
        made.metrics.update({"classes": 1000, "images": 1_281_167, "chance": 0.001003})
        noise = 1e-6 * (-1) ** spec.seed
        made.metrics["history"][-1] |= {"same_query_median": 0.001003 + noise}
        rows.append((spec, made))
    claims = {claim.name: claim for claim in STUDY.claims(Results(rows))}
    assert claims["C4b"].finding.verdict == "undecided"
    assert "1,000 classes" in claims["C5a"].controls and "of 103 " in claims["C5a"].controls
    assert "from a quarter to 104 images" in claims["C8"].statement


def test_the_number_of_processes_is_a_setting_that_one_leaves_out(tmp_path, capsys, monkeypatch):
    """What several processes share is another computation; rows of one process are found as before."""
    one, two = (by_label(processes=count) for count in (1, 2))
    assert "processes" not in one["median"].settings and two["median"].settings["processes"] == 2
    assert one["median"].identity != two["median"].identity
    assert one["moco"].identity != two["moco"].identity
    # batches that cannot be dealt out are parted, and their negatives stay those of the whole batch
    pools = [spec.settings["negative_pool"] for spec in (one["median"], two["median"])]
    pools.append(by_label(profile="paper", processes=8)["median"].settings["negative_pool"])
    assert pools == ["micro_batch", "all_devices", "micro_batch"]
    transfers = by_label(profile="smoke", processes=2)
    for label in ("mask_rcnn/BYOL", "faster_rcnn/Random"):  # each process has a part of a step's pictures
        assert transfers[label].settings["processes"] == transfers[label].settings["accumulation"] == 2
    assert "processes" not in transfers["search/BYOL"].settings  # which runs in one
    folder = Store(tmp_path).prepare(two["median"])
    assert worker.main([str(folder)]) == 1
    assert "of 2 processes, not 1: start it with" in capsys.readouterr().out
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert worker.main([str(Store(tmp_path).prepare(one["median"]))]) == 1
    assert "in one process, and torchrun started 2: start it with" in capsys.readouterr().out


def test_arms_differ_only_in_what_they_say():
    specs = {label: spec.settings for label, spec in by_label(profile="smoke").items()}
    relative = {"epochs_times": {"epochs"}, "batch_times": {"batch_size", "lr"}, "images_times": {"images"}}
    for arm in (arm for arm in STUDY.arms.values() if arm.name in specs):
        base = specs[arm.against or "byol"]
        changed = {name for name, value in specs[arm.name].items() if base[name] != value}
        said = set().union(*(relative.get(name, {name}) for name in arm.changes))
        said |= {"keep_weights", "ema_base", "temperature", "negative_pool"}
        said |= {"method", "epochs"} if arm.name == "random" else set()
        # an arm's counterpart may say what the arm does not
        assert changed <= said | set(STUDY.arms[arm.against or "byol"].changes), arm.name
    ratio = specs["median_n32"]["lr"] / specs["median"]["lr"]
    assert ratio == pytest.approx(32 / 128)
    assert {arm.changes["method"] for arm in STUDY.arms.values()} == set(NAMES)
    # no arm is another by another name; a single epoch has no half
    for profile in STUDY.sizes.keys() - {"smoke"}:
        identities = [spec.identity for spec in plan(profile=profile)]
        assert len(set(identities)) == len(identities), profile


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sweeps": ("table1",)}, "sweeps: unknown 'table1'"),
        ({"preset": "cifra"}, "preset: unknown 'cifra'"),
        ({"dataset": "svhn"}, "dataset: unknown 'svhn'"),
        ({"train": True, "profile": "small"}, "data_prep"),  # data that is needed and not there
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
    asked = {"lr": 0.5, "epochs": 4, "batch_size": 64}
    half, short = plan(arms=("median_n32", "simsiam_100"), seeds=(7,), **asked)
    # what an arm gives relative to the profile is relative to what is asked for
    assert (half.settings["lr"], half.settings["batch_size"], half.settings["epochs"]) == (0.125, 16, 4)
    assert (short.settings["lr"], short.settings["batch_size"], short.settings["epochs"]) == (0.5, 64, 2)


# -- what the runs say --


def test_tables_have_every_printed_number_of_a_run_and_our_mean(results):
    found = STUDY.tables(results)
    for number in range(1, 8):
        table = found[f"table_{number}"]
        places = {place: text for place, text in STUDY.printed.items() if place[0] == f"Table {number}"}
        printed = [text for place, text in places.items() if place[2] != "train epochs"]
        place = list(table.columns).index("paper")
        assert Counter(line[place] for line in table.rows) == Counter(printed), number
    line = next(x for x in found["table_1"].rows if x[0] == "median triplet-200")
    levels = [row(spec).metrics["linear"] for spec, _ in results.runs if spec.label == "median"]
    assert line[3] == pytest.approx(100 * sum(levels) / 10)
    assert line[-1] == "not comparable"


def test_claims_find_planted_effects(results):
    claims = {claim.name: claim for claim in STUDY.claims(results)}
    verdicts = {name: claim.finding.verdict for name, claim in claims.items()}
    assert verdicts["C1a"] == "holds"  # median over BYOL
    assert verdicts["C1b"] == "fails"  # not over BYOL with its loss doubled
    assert verdicts["C11a"] == verdicts["C3a"] == verdicts["C0a"] == "holds"
    assert verdicts["C13"] == "holds"  # planted a constant below
    assert verdicts["C21a"] == verdicts["C21d"] == "holds" and verdicts["C21b"] == "fails"
    assert "than the tail of 0.76 %" in claims["C7a"].statement  # k = 22 of 127 negatives
    assert "not tested" not in verdicts.values()  # at the profile that the chapter shows


def test_ranks_tails_and_chance_are_of_the_classes_in_hand(results):
    ranks = {name: tables.rank_of(STUDY, results, name).k for name in tables.RANKED}
    fractions = {"eighth": 16, "quarter": 32, "median": 64, "three_quarters": 96}
    assert ranks == {"hardest": 1, "rank_5": 5, "prior": 22} | fractions
    taken = tables.rank_of(STUDY, results, "prior")
    assert taken.tail == 100 * prior.tail(127, 0.1, 22)
    # 250 of 2,500 images are of a class: 249 of the 2,499 others
    assert taken.chance == pytest.approx(100 * 249 / 2499)
    two = tables.rank_of(STUDY, results, "c2_median")
    assert (two.classes, two.chance) == (2, pytest.approx(100 * 499 / 999))
    # before any run, of CIFAR-10
    assert tables.rank_of(STUDY, Results([]), "median") == (64, 128, 10, 4999 / 49_999)


def test_accuracy_over_rank_stands_beside_byol_of_the_same_seeds(results):
    lines = {tuple(line[:2]): line for line in STUDY.tables(results)["class_rank"].rows}
    assert len(lines) == 20
    line = lines[2, "k = 3n/4"]
    assert line[2:4] == [96, 128]
    ours, byol = (
        {spec.seed: made.metrics["knn"] for spec, made in results.runs if spec.label == label}
        for label in ("c2_three_quarters", "c2_byol")
    )
    assert line[5] == pytest.approx(100 * sum(ours[seed] - byol[seed] for seed in range(10)) / 10)
    assert line[7] == pytest.approx(10) and line[8] == pytest.approx(100 * prior.tail(127, 0.5, 96))


def test_methods_name_the_accuracy_of_frozen_features_without_a_network(results):
    assert len(STUDY.tables(results)["methods"].notes) == 1  # images have none
    for seed, made in results.rows("byol").items():
        made.metrics["start"] |= {"knn_features": 0.5 + 0.02 * seed}
    assert "kNN 59.0 on their own" in STUDY.tables(results)["methods"].notes[1]


def test_frequencies_given_a_pair_are_those_of_all_batches_over_its_probability(results):
    for _, made in results.runs:
        made.settings["batch_size"] = 4
    given = STUDY.read(results, "hardest", "start.same_batch_1 given B")
    assert given == pytest.approx(dict.fromkeys(range(10), 0.1 / (1 - 0.9 * 0.8 * 0.7)))


def test_without_runs_everything_has_its_full_shape(results):
    empty = Results([(spec, None) for spec, _ in results.runs])
    full, bare = STUDY.tables(results), STUDY.tables(empty)
    assert full.keys() == bare.keys()
    for name, table in bare.items():
        if name != "false_negatives":
            assert len(table.rows) == len(full[name].rows), name
    for name in ("table_1", "methods", "class_rank"):  # one line each
        assert repr(bare[name]).count("\n") == 0 and NOT_RUN in repr(bare[name]), name
    assert all(figure.png for figure in STUDY.figures(empty).values())


def test_a_collapsed_run_is_named(results):
    results.rows("simsiam")[1].metrics["history"][-1] |= {"std_features": 0.001}
    assert "simsiam seed 1" in " ".join(STUDY.tables(results)["table_1"].notes)


def test_coverage_counts_cells_of_runs_and_quotes_the_rest(results):
    cells = STUDY.cells(results)
    found = {x.exhibit: x for x in coverage("median_triplet", STUDY.published, cells)}
    assert found["Table 6"].missing == found["Table 7"].missing == found["Table 5"].missing == 0
    assert sum(found["Table 6"].reproduced.values()) == 3
    assert found["Table 2"].missing == found["Table 2"].printed  # no transfer at frozen
    assert found["settings"].quoted == found["settings"].printed
    assert found["Table 4"].quoted == 6
    assert found["text"].exact == 2
