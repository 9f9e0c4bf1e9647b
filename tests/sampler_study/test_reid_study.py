"""The doors of the wing, on rows whose effects are planted."""

from collections import Counter
from itertools import product

import pytest
import torch
from planted import planted

from papers_lib.errors import PapersError
from papers_lib.exhibits.coverage import coverage
from papers_lib.exhibits.ledger import Row
from papers_lib.exhibits.table import NOT_RUN
from papers_lib.runs.spec import RunSpec
from papers_lib.sampler_study.options import PRESETS, TrainSettings
from papers_lib.sampler_study.samplers import visits
from papers_lib.sampler_study.study import STUDY, Settings, drawings
from papers_lib.sampler_study.study.tables import GRID, LAST_EPOCH, NETWORKS, SAMPLERS, title
from papers_lib.study import Results

# mAP = .3 + the arm's effect + the seed's own level + a little of both.
EFFECT = {"triplet_proxy_4": 0.2, "triplet_cluster_8": 0.15, "triplet_proxy_32": -0.25, "random": -0.1}
EFFECT |= {"triplet_cluster_32_frozen": 0.1, "p4_k32": 0.1}


def arm_of(spec: RunSpec) -> str:
    return spec.label.rpartition("/")[2]


def row(spec: RunSpec) -> Row:
    jitter = 0.001 * ((len(spec.label) * 7 + spec.seed * 3) % 5)
    level = 0.3 + EFFECT.get(arm_of(spec), 0.0) + 0.01 * spec.seed + jitter
    metrics = {"mAP": level, "R1": level + 0.1, "R5": level + 0.2, "R10": level + 0.3}
    logged = {name.removesuffix(" %"): 0.5 for name in LAST_EPOCH}
    logged |= {"largest_cluster": 100.0, "images_per_proxy": 3.5}
    history = [logged | metrics] * min(2, spec.settings["epochs"])
    if spec.settings["method"] in ("none", "supervised"):
        history = []
    whole = metrics | {"start": metrics, "best": metrics, "last": metrics, "history": history}
    return planted(spec, whole)


@pytest.fixture
def specs(nowhere) -> list[RunSpec]:
    return STUDY.plan(Settings(profile="medium"))


@pytest.fixture
def results(specs) -> Results:
    return Results([(spec, row(spec)) for spec in specs])


def test_the_plan_has_every_arm_once_a_seed_sweep_by_sweep(specs):
    assert len({spec.identity for spec in specs}) == len(specs)
    expected = Counter()
    for arm in STUDY.arms.values():
        for network in NETWORKS if arm.sweep in ("grid", "rivals") else ["market1501"]:
            expected[f"{network}/{arm.name}"] = 3
    assert Counter(spec.label for spec in specs) == expected
    sweeps = [STUDY.arms[arm_of(spec)].sweep for spec in specs]
    assert list(dict.fromkeys(sweeps)) == list(STUDY.sweeps)
    assert sweeps == sorted(sweeps, key=STUDY.sweeps.index)
    assert {spec.seed for spec in specs[:16]} == {0}
    names = {"random"} | {f"{method}_{k}" for method in SAMPLERS for k in GRID}
    assert {arm.name for arm in STUDY.arms.values() if arm.sweep == "grid"} == names


@pytest.mark.parametrize("profile", ["smoke", "frozen", "small"])
def test_a_profile_with_one_network_has_every_arm_once_a_seed(nowhere, profile):
    specs, size = STUDY.plan(Settings(profile=profile)), STUDY.sizes[profile]
    expected = {(f"{size.dataset}/{arm}", seed) for arm in STUDY.arms for seed in size.seeds}
    assert Counter((spec.label, spec.seed) for spec in specs) == Counter(expected)


def test_what_a_reader_turns_reaches_the_runs_that_do_not_fix_it_themselves(nowhere):
    turned = {"lr": 0.5, "epochs": 3, "batch_size": 24, "iterations": 7, "tau": 0.2, "eps": 0.7}
    spec, cell = STUDY.plan(Settings(profile="frozen", seeds=(0,), arms=("random", "p4_k32"), **turned))[::-1]
    assert spec.label.endswith("/random")
    assert all(spec.settings[name] == value for name, value in turned.items() if name != "iterations")
    assert spec.settings["iters_per_epoch"] == 7
    assert (cell.settings["batch_size"], cell.settings["iters_per_epoch"]) == (128, 21)


def test_the_paper_profile_is_the_papers_settings_on_real_data(nowhere):
    specs = STUDY.plan(Settings(profile="paper", sweeps=("grid",)))
    for spec in specs:
        arm = STUDY.arms[arm_of(spec)].changes
        assert spec.settings == TrainSettings(**arm, seed=spec.seed).model_dump(mode="json")
        assert not spec.data.stand_in and not spec.needs
    assert {spec.data.name for spec in specs} == set(NETWORKS)


def test_a_spec_leaves_no_setting_to_a_default(specs):
    for spec in specs:
        assert TrainSettings.model_validate(spec.settings).model_dump(mode="json") == spec.settings


def test_every_preset_is_valid_and_reaches_the_runs(nowhere):
    for name, preset in PRESETS.items():
        given = TrainSettings(**preset).model_dump(mode="json")
        spec = STUDY.plan(Settings(profile="paper", preset=name, arms=("triplet_cluster_4",)))[0]
        for key in preset.keys() - {"iters_per_epoch", "batch_size"}:
            assert spec.settings[key] == given[key], (name, key)


def test_the_factorial_changes_one_thing_at_a_time(specs):
    by_name = {arm_of(spec): spec.settings for spec in specs}
    steps = set()
    for arm in STUDY.arms.values():
        made = by_name[arm.name]
        if arm.sweep in ("p_by_k", "factorial"):
            assert made["p"] * made["k"] == made["batch_size"]
        if arm.sweep == "p_by_k":
            steps.add(made["iters_per_epoch"])
        if arm.sweep == "factorial":
            changed = {name for name in made if made[name] != by_name[arm.against][name]}
            assert changed == ({"visited"} if "quarter" in arm.name else {"iters_per_epoch"}), arm.name
        if arm.sweep in ("factorial", "batch_norm", "loss"):  # held against an arm that is run
            assert STUDY.arms[arm.against].sweep in ("grid", "p_by_k", "factorial"), arm.name
    assert steps == {3 * by_name["random"]["iters_per_epoch"]}


@pytest.mark.parametrize(
    "given, message",
    [
        ({"sweeps": ("grids",)}, "sweeps: unknown 'grids'"),
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


def test_settings_stand_beside_each_other_at_the_same_seeds(results):
    more = [(spec, made) for spec, made in results.runs if spec.seed < 2 or arm_of(spec) == "random"]
    uneven = Results(more)
    data = STUDY.figures(uneven)["by_setting"].data
    ours = data[data["of"] == "ours"].groupby(["network", "sampler", "k"])["seed"].agg(tuple)
    assert set(ours) == {(0, 1)}
    held = {row[0]: row for row in STUDY.tables(uneven)["batch_norm"].rows}["Random, all BN frozen"]
    place = len(held) - 5  # counterpart, difference, interval, n, verdict
    two = results.values("market1501/random", "mAP %")
    assert held[place] == pytest.approx((two[0] + two[1]) / 2)
    assert held[1] - held[place] == pytest.approx(held[place + 1])


def test_the_controls_and_claims_find_what_was_planted(results):
    table = STUDY.tables(results)["batch_norm"]
    line = next(row for row in table.rows if row[0] == "Triplet, cluster labels, K = 32, all BN frozen")
    assert line[-1] == "yes"
    claims = {claim.name: claim for claim in STUDY.claims(results)}
    assert all(claims[name].finding.verdict == "holds" for name in ("C1", "C2b", "C2e", "C2h", "C3b", "C6a"))
    assert claims["C4"].finding.verdict == "undecided"  # nothing was planted


def test_one_network_of_ours_stands_beside_the_first_printed_one(nowhere):
    specs = STUDY.plan(Settings(profile="frozen"))
    results = Results([(spec, row(spec)) for spec in specs])
    tables = STUDY.tables(results)
    assert {line[0] for line in tables["table_2"].rows} == {"cars"} == {title("reid_from_images")}
    printed = STUDY.published
    of_market = printed[(printed["exhibit"] == "Table II") & (printed["column"] == "Market1501 mAP")]
    place = list(tables["table_2"].columns).index("paper")
    assert [line[place] for line in tables["table_2"].rows] == list(of_market["printed"])
    assert STUDY.resolve(results, "random") == "cars_cameras_features/random"
    cells = STUDY.figures(results)["p_by_k"].data.set_index(["P", "K"])["mAP"]
    assert cells[4, 32] == pytest.approx(results.mean("cars_cameras_features/p4_k32", "mAP %"))


def test_without_runs_tables_have_their_full_shape(specs, results):
    empty = Results([(spec, None) for spec in specs])
    full, bare = STUDY.tables(results), STUDY.tables(empty)
    lengths = [{name: len(table.rows) for name, table in tables.items()} for tables in (full, bare)]
    assert lengths[0] == lengths[1]
    assert any(NOT_RUN in row for row in bare["table_2"].rows)
    assert all(figure.png for figure in STUDY.figures(empty).values())


def test_figures_draw_and_say_what_they_show(results):
    for name, figure in STUDY.figures(results).items():
        assert figure.png.startswith(b"\x89PNG") and len(figure.png) < 120 * 1024, name


def test_every_choice_of_the_explorer_can_be_drawn_and_counts_its_batch():
    choices = drawings.CHOICES
    names = ("sampler", "images_per_class", "classes_per_batch")
    for (_, name), k, p in product(*(choices[given] for given in names)):
        figure = drawings.one_sampler(name, k, p)
        first = [torch.tensor(figure.data[figure.data["batch"] == 0]["image"].tolist())]
        counted = visits(first, torch.tensor(drawings.TOY_CLUSTERS))
        assert figure.title == (
            f"First batch of {k * p}: clusters {counted['distinct_classes']:.0f}, "
            f"different images {counted['distinct_images']:.0f}"
        )


def test_coverage_counts_each_printed_number_once(results):
    counted = {x.exhibit: x for x in coverage(STUDY.name, STUDY.published, STUDY.cells(results))}
    assert counted["Table II"].missing == 0 and sum(counted["Table II"].reproduced.values()) == 84
    assert counted["Table I"].quoted == 12
    assert sum(counted["Table I"].reproduced.values()) == 80
