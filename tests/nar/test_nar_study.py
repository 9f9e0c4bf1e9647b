"""The doors of the wing, on rows whose effects are planted."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from planted import planted

from papers_lib.errors import PapersError
from papers_lib.exhibits.coverage import coverage
from papers_lib.exhibits.ledger import Row
from papers_lib.exhibits.table import NOT_RUN
from papers_lib.nar.counting import count
from papers_lib.nar.options import RECIPES
from papers_lib.nar.sampling import singles
from papers_lib.nar.study import KINDS, STUDY, Settings, cheapest_single, table_4
from papers_lib.runs.spec import Data, RunSpec
from papers_lib.study import Results, mean

EFFECT = {"pick": 0.02, "paper_8": 0.01, "paper_16": 0.05, "optimum": -0.1, "pick_one_out": 0.04}
VECTOR = {"pick": [0, 0, 0, 1, 0, 0, 0, 2], "pick_plain": [0, 0, 0, 0, 0, 0, 0, 1], "base": [0] * 8}
NAMED = ("pick", "argmax", "optimum", "best_random", "single", "base", "paper_8", "paper_8_second")


def standalone(spec: RunSpec) -> dict[str, Any]:
    """Accuracies are .6 + the arm's planted effect + the seed's own level + a little of both."""
    jitter = 0.0002 * ((len(spec.label) * 7 + spec.seed * 3) % 5)
    level = 0.6 + EFFECT.get(spec.label, 0.0) + 0.01 * spec.seed + jitter
    vector = VECTOR.get(spec.label, list(spec.settings["vector"]) or [1] + [0] * 7)
    return {
        "vector": vector,
        "multiply_accumulates": 1000 - 10 * sum(vector),
        "accuracy": level,
        "train_accuracy": min(1.0, level + 0.1 - 2 * EFFECT.get(spec.label, 0.0)),
    }


def search(spec: RunSpec) -> dict[str, Any]:
    decisions, operators = spec.settings["decisions"], spec.settings["operators"]
    plain = spec.settings["pretrain_epochs"] == 0
    shares = [0.7, *[0.3 / (operators - 1)] * (operators - 1)] if plain else [1 / operators] * operators
    pick = [0, 0, 0, 0, 0, 0, 0, 1] if plain else [0, 0, 0, 1, 0, 0, 0, 2]
    pick = (pick * 2)[:decisions]
    history = []
    for epoch in range(4):
        bits = 2.0 - 0.2 * epoch - 0.01 * spec.seed
        entry = {"shares": [shares] * decisions, "entropy": [bits] * decisions, "argmax": pick}
        history.append(entry | ({"reward": 0.5} if epoch or plain else {}))
    return {
        "choices": {"pick": pick, "argmax": pick},
        "history": history,
        "evaluations": 60,
        "multiply_accumulates": 1e12,
    }


def enumeration(spec: RunSpec) -> dict[str, Any]:
    named = {
        name: {"choice": 0.6, "score": 0.5 - 0.01 * i, "rank": 10.0 * (i + 1) + spec.seed, "saving": 0.1}
        for i, name in enumerate(NAMED)
    }
    named["optimum"] |= {"score": 0.9, "rank": 1.0}
    noise = {"shared": 0.04, "own": 0.03 + 0.001 * spec.seed, "spread": 0.005, "batches": 7, "distinct": 9}
    return {
        "named": named,
        "sd": 0.05,
        "top": {"sd": 0.001 + 1e-4 * spec.seed, "depth": 0.7 + 0.01 * spec.seed},
        "map": [[0.5, 0.4, 10], [1.0, 0.5, 1]],
        "front": [[0.5, 0.4], [1.0, 0.5]],
        "path": [[1, 1.0, 0.5, 4.0], [3, 0.9, 0.5, 3.0]],
        "count": 65536,
        "draws": 2400,
        "multiply_accumulates": 1e12,
        "block_calls": 87380,
        "naive_block_calls": 524288,
        "max_difference_to_naive": 0.0,
        "blind": {
            "samples": {"draws": 10, "expected": 6000.0 + spec.seed, "chance": 0.001},
            "equal_cost": {"draws": 512, "expected": 5.0 + spec.seed / 10, "chance": 0.9},
        },
        "agreement": {"tau": 0.3 + 0.01 * spec.seed, "rho": 0.4},
        "reward_noise": noise | {"changed": {"1": 0.8, "5": 0.4}},
    }


def skips(spec: RunSpec) -> dict[str, Any]:
    end = 0.4 if spec.settings["weight"] else 1.29
    return {"history": [{"kl": 0.1 + 0.01 * spec.seed, "rate": 0.5}, {"kl": end, "rate": 0.9}]}


METRICS = {
    "standalone": standalone,
    "search": search,
    "enumerate": enumeration,
    "alone": lambda spec: {"points": [{"vector": [0] * 7 + [1], "accuracy": 0.5, "train_accuracy": 1.0}]},
    "skips": skips,
    "imagenet": lambda spec: {"accuracy": 0.7, "top_5": 0.9},
    "faces": lambda spec: {
        "vector": spec.settings["vector"] if spec.settings["take"] == "vector" else [0] * 22 + [1, 3],
        "verification": {"lfw": {"accuracy": 0.6, "floor": {"accuracy": 0.55}}},
    },
    "search_faces": lambda spec: {"choices": {"pick": [0] * 22 + [1, 3], "argmax": [2] + [0] * 23}},
}


def row(spec: RunSpec) -> Row:
    metrics = METRICS[STUDY.arms[spec.label].more["kind"]](spec)
    return planted(spec, metrics, seconds=60.0 + len(spec.label))


def plan(profile: str = "small", **parameters: Any) -> list[RunSpec]:
    return STUDY.plan(Settings(profile=profile, **parameters))


def filled(specs: list[RunSpec]) -> Results:
    return Results([(spec, row(spec)) for spec in specs])


def changed(results: Results, change: Callable[[str, Row], dict[str, Any]]) -> Results:
    """The same runs, but for the fields that `change` gives for a label and its row."""
    return Results([(spec, row.model_copy(update=change(spec.label, row))) for spec, row in results.runs])


@pytest.fixture
def specs(nowhere) -> list[RunSpec]:
    return plan()


@pytest.fixture
def results(specs) -> Results:
    return filled(specs)


# -- the plan ----------------------------------------------------------------------------------------------


def test_the_plan_has_every_arm_once_per_seed(specs):
    assert len({spec.identity for spec in specs}) == len(specs)
    kinds = {"standalone", "search", "enumerate", "skips"}
    possible = [name for name, arm in STUDY.arms.items() if arm.more["kind"] in kinds]
    assert Counter(spec.label for spec in specs) == dict.fromkeys(possible, 5)
    first = [spec.label for spec in specs if spec.seed == 0][:6]
    assert first == ["base", "search", "enumerate", "pick", "best_random", "paper_8"]
    assert [spec.seed for spec in specs[:6]] == [0] * 6


def test_a_run_names_the_finished_run_that_decides_its_vector_and_shares_its_data(specs):
    by_name = {(spec.label, spec.seed): spec for spec in specs}
    same = ("seed", "images", "valid_size", "score_images", "decisions", "operators", "width", "rule")
    for (name, seed), spec in by_name.items():
        before = STUDY.arms[name].more["needs"]
        assert [need.identity for need in spec.needs] == ([by_name[before, seed].identity] if before else [])
        for need in spec.needs:
            assert need.data == spec.data
            for setting in same:
                assert need.settings[setting] == spec.settings[setting], (name, setting)
    pick, argmax = (by_name[name, 0] for name in ("pick", "argmax"))
    assert pick.settings["take"] == "pick" and pick.settings["vector"] == []
    assert {k for k in pick.settings if pick.settings[k] != argmax.settings[k]} == {"take"}
    plain = by_name["pick_plain", 0]
    assert plain.settings == pick.settings and plain.identity != pick.identity


@pytest.mark.parametrize("profile", ["smoke", "frozen", "small", "medium", "paper"])
def test_a_spec_leaves_no_setting_to_a_default(nowhere, profile):
    kinds = set()
    for spec in plan(profile, seeds=(0,)):
        kind = STUDY.arms[spec.label].more["kind"]
        kinds.add(kind)
        assert KINDS[kind].model_validate(spec.settings).model_dump(mode="json") == spec.settings
    assert kinds == set(STUDY.sizes[profile].more) & set(KINDS)


def test_what_needs_no_search_has_more_seeds_unless_seeds_are_asked_for(nowhere):
    seeds: dict[str, list[int]] = {}
    for spec in plan("frozen"):
        seeds.setdefault(spec.label, []).append(spec.seed)
    more, others = STUDY.sizes["frozen"].seeds, list(range(6))
    assert len(more) == 12
    assert all(seeds[name] == list(more) for name in ("base", "paper_8", "paper_16"))
    assert all(
        seeds[name] == others for name in ("pick", "enumerate", "single_cheapest", "search_6", "skips")
    )
    assert {spec.label for spec in plan("frozen", seeds=(1000,))} >= {"base", "pick", "skips"}


def test_the_papers_vectors_are_trained_as_read(specs):
    vectors = {spec.label: tuple(spec.settings.get("vector", ())) for spec in specs if not spec.needs}
    assert vectors["base"] == (0,) * 8
    assert vectors["paper_8"] == table_4.PLACEMENTS["ResNet-18-8"][0]
    assert vectors["paper_16"] == table_4.PLACEMENTS["ResNet-18-16"][0]
    drawn = [STUDY.face_vector(STUDY.arms[name], 0) for name in ("faces", "faces_5", "faces_8")]
    assert [sum(map(bool, vector)) for vector in drawn] == [0, 5, 8]
    one_replaced = [tuple(v) for v in singles(8).tolist()]
    cheapest = min(one_replaced, key=lambda v: count(v, "resnet18_cifar", image_size=32, classes=10)[1])
    assert vectors["single_cheapest"] == cheapest_single(8) == cheapest


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sweeps": ("imagenet",)}, "sweeps: unknown 'imagenet'"),
        ({"preset": "enas"}, "preset: unknown 'enas'"),
        ({"recipe": "hlb"}, "recipe: unknown 'hlb'"),
        ({"dataset": "svhn", "train": True}, "dataset: unknown 'svhn'"),
        ({"arms": ("pick",), "sweeps": ("skips",)}, "pick is in main"),
    ],
)
def test_bad_parameters_get_one_line(nowhere, given, message):
    with pytest.raises(PapersError, match=message) as error:
        plan(**given)
    assert "\n" not in str(error.value)


def test_parameters_reach_the_runs_that_they_are_of(nowhere):
    given = {"precision": "bfloat16", "preset": "enas_code", "dataset": "cifar100"}
    numbers = {"lr": 0.02, "epochs": 3, "batch_size": 20, "search_epochs": 7, "images": 4000, "width": 4}
    for spec in plan(seeds=(4,), **given, **numbers):
        kind = STUDY.arms[spec.label].more["kind"]
        assert spec.seed == 4
        own = {"standalone": {"lr": 0.02, "epochs": 3}, "search": {"lr": 0.05, "epochs": 7}}.get(kind, {})
        if kind in ("standalone", "search", "enumerate"):
            own |= {"batch_size": 20, "images": 4000, "width": 4}
        assert spec.settings | own == spec.settings
        assert spec.settings.get("precision") == (None if kind == "skips" else "bfloat16")
        assert spec.settings.get("preset") == ("enas_code" if kind in ("search", "skips") else None)
        assert spec.data.name == {"skips": "simulated"}.get(kind, "cifar100")


def test_medium_is_for_a_gpu_and_paper_as_printed(nowhere):
    (medium,), (paper,) = (plan(name, arms=("search",), seeds=(0,)) for name in ("medium", "paper"))
    times = medium.settings["batch_size"] / paper.settings["batch_size"]
    assert times == 4  # equal images mean equal movement
    for rate in ("lr", "lr_min"):
        assert medium.settings[rate] == pytest.approx(times * paper.settings[rate])
    kinds = {spec.settings["kind"]: spec.settings for spec in plan("medium") if "kind" in spec.settings}
    assert all(settings["benchmark"] for kind, settings in kinds.items() if kind != "skips")
    assert not any("benchmark" in spec.settings for spec in plan("paper"))


def test_a_lack_of_data_names_the_sweeps_that_do_without(root):
    given = {"data_root": str(root), "seeds": (0,)}
    with pytest.raises(
        PapersError, match=r"no faces_emore .*; or leave out what needs it: -p sweeps "
    ) as error:
        plan("medium", **given)
    there = str(error.value).rpartition(" ")[2].split(",")
    assert there == ["main", "controls", "ablations", "skips"]
    planned = plan("medium", **given, sweeps=tuple(there))
    assert {spec.data.name for spec in planned} == {"cifar10", "simulated"}
    with pytest.raises(PapersError, match=r"render a stand-in: [^;]*$"):  # nothing is left to name
        plan("medium", **given, sweeps=("faces",))


# -- tables, figures, claims -------------------------------------------------------------------------------


def test_tables_have_every_printed_number_and_our_mean(results):
    tables = STUDY.tables(results)
    printed = [text for place, text in STUDY.printed.items() if place[0] == "Table 5"]
    assert Counter(line[2] for line in tables["table_5"].rows) == Counter(printed)
    line = next(x for x in tables["table_5"].rows if x[:2] == ["ResNet-18-8", "CIFAR-10"])
    assert line[3] == pytest.approx(results.mean("paper_8", "accuracy %"))
    assert line[-1] == "not comparable"
    assert all("not in our text" in line for line in tables["tables_1_to_3"].rows)


def test_claims_find_planted_effects(results):
    claims = STUDY.claims(results)
    verdicts = {claim.name: claim.finding.verdict for claim in claims}
    holds = "C1a C1b C2a C2b C4a C8c C9a C10a C11a C16a C16c C18b C18c"
    fails = "C2c C4b C4e C7i C8d C13d C17b"  # C4e: the optimum trains worse than the pick
    assert {name: verdicts[name] for name in holds.split()} == dict.fromkeys(holds.split(), "holds")
    assert {name: verdicts[name] for name in fails.split()} == dict.fromkeys(fails.split(), "fails")
    # the same difference in all five seeds: their signs alone cannot decide
    assert {verdicts[name] for name in ("C5a", "C6a", "C13f")} == {"undecided"}
    assert {int(name[1:].rstrip("abcdefghi")) for name in verdicts} == set(range(1, 19)) - {14}
    assert len(verdicts) == len(claims)
    gap = next(claim.finding for claim in claims if claim.name == "C1d").difference
    ours, base = (results.mean(name, "accuracy %") for name in ("paper_8", "base"))
    assert gap.mean == pytest.approx(ours + 0.3 - base)  # a claim of equality has a margin


def test_without_runs_everything_has_its_full_shape(specs, results):
    empty = Results([(spec, None) for spec in specs])
    full, bare = STUDY.tables(results), STUDY.tables(empty)
    assert full.keys() == bare.keys()
    for name, table in bare.items():
        assert len(table.rows) == len(full[name].rows), name
    assert any(NOT_RUN in line for line in bare["table_5"].rows)
    assert all(figure.png for figure in STUDY.figures(empty).values())


def test_a_missing_base_leaves_the_gap_empty_and_other_data_the_column(results):
    without = Results([(s, None if s.label == "base" else r) for s, r in results.runs])
    table = STUDY.tables(without)["networks"]
    gap = table.columns.index("Δ to untouched")
    assert all(row[gap] is None for row in table.rows)
    place = ("Table 5", "ResNet-18", "CIFAR-10")
    assert STUDY.answers(results, STUDY.answer(results, place)) == results.values("base", "accuracy %")
    other = changed(results, lambda label, row: {"data": Data(name="cifar100")})
    assert STUDY.answer(other, place) is None and not STUDY.comparable(other, place)


def test_profile_paper_plans_imagenet_and_its_columns_read_it(nowhere):
    specs = plan("paper", sweeps=("imagenet",), seeds=(0,))
    assert [spec.label for spec in specs] == ["imagenet", "imagenet_8", "imagenet_16"]
    assert {spec.data.name for spec in specs} == {"imagenet"}
    assert {spec.module for spec in specs} == {"papers_lib.nar.imagenet.training"}
    results, place = filled(specs), ("Table 5", "ResNet-18-8", "ImageNet Top-5")
    assert STUDY.answers(results, STUDY.answer(results, place)) == {0: 90.0}
    assert STUDY.comparable(results, place)
    texts = {claim.name: claim.finding.text for claim in STUDY.claims(results)}
    assert "one seed" in texts["C3a"]


def test_figures_draw_what_the_runs_hold(results):
    figures = STUDY.figures(results)
    space = figures["space"].data
    assert set(space["weights"]) == {"enumerate", "enumerate_plain"}
    assert {"density", "front", "path", "pick", "optimum", "paper_8"} <= set(space["what"])
    assert len(figures["figure_1"].data) == 30  # three runs of two epochs, five seeds
    picks = figures["picks"].data
    assert len(picks) == 40  # four searches, five seeds, the pick and the likeliest
    assert set(picks[picks["search"] == "Search with PreTrain"]["vector"]) == {"0 0 0 1 0 0 0 2"}
    for figure in figures.values():
        assert figure.png and len(figure.csv()) < 100_000


def test_the_face_table_has_the_search_where_the_profile_has_one(nowhere):
    lines = STUDY.tables(Results([(spec, None) for spec in plan("frozen")]))["faces"].rows
    assert [line[0] for line in lines] == [STUDY.arms[name].label for name in ("faces", "faces_5", "faces_8")]
    paper = plan("paper", sweeps=("faces",), seeds=(0,))
    by_label = {spec.label: spec for spec in paper}
    assert by_label["pick_faces"].needs[0].identity == by_label["search_faces"].identity
    empty = STUDY.tables(Results([(spec, None) for spec in paper]))["faces"]
    assert len(empty.rows) == 6 and empty.rows[-1][2] == NOT_RUN
    table = STUDY.tables(filled(paper))["faces"]
    vectors = {line[0]: line[2] for line in table.rows}
    assert vectors[STUDY.arms["pick_faces"].label] == " ".join(map(str, [0] * 22 + [1, 3]))
    assert vectors[STUDY.arms["search_faces"].label] == " ".join(map(str, [2] + [0] * 23))
    macs = [count(v, "lresnet50e_ir", "A", 112, 512)[1] for v in ([0] * 24, [0] * 22 + [1, 3])]
    line = next(line for line in table.rows if line[0] == STUDY.arms["pick_faces"].label)
    assert line[4] == macs[1] and line[5] == pytest.approx(100 * (1 - macs[1] / macs[0]))
    assert line[6] == "lfw 60.0 (raw pixels 55.0)"


def test_a_data_set_of_faces_is_for_face_networks_alone(nowhere):
    given = {"dataset": "faces_own", "seeds": (0,), "batch_size": 32, "epochs": 3, "search_epochs": 4}
    specs = plan("paper", **given, width=16)
    assert {spec.label for spec in specs} == {a.name for a in STUDY.arms.values() if a.sweep == "faces"}
    assert {spec.data.name for spec in specs} == {"faces_own"}
    for spec in specs:
        own = {"batch_size": 32, "epochs": 4 if spec.label == "search_faces" else 3, "width": 16}
        assert spec.settings | own | {"identities": 0, "shots": 0} == spec.settings  # all, not the proxy task
    with pytest.raises(PapersError, match="unknown"):
        plan("paper", dataset="faces_own", arms=("base",))


def test_a_recipe_is_of_networks_trained_alone_and_leaves_no_trace_elsewhere(nowhere):
    plain, fast = (plan("paper", seeds=(0,), recipe=name) for name in ("", "airbench"))
    for a, b in zip(plain, fast, strict=True):
        changed = RECIPES["airbench"] if STUDY.arms[a.label].more["kind"] == "standalone" else {}
        assert b.settings == a.settings | changed
        assert not RECIPES["airbench"].keys() & a.settings.keys()  # rows of the ledger keep their names


def test_a_pick_that_replaces_nothing_is_not_called_not_run(results):
    def untouched(label, row):
        return {"metrics": row.metrics | {"vector": [0] * 8}} if label == "pick_plain" else {}

    table = STUDY.tables(changed(results, untouched))["depth"]
    line = next(x for x in table.rows if "without" in str(x[0]))
    assert NOT_RUN not in line and line[-1] == 0


def test_drawn_faces_and_simulations_do_not_badge_the_rest(nowhere):
    """At `paper` what runs on CIFAR-10 alone needs no badge, whatever faces, skips and ImageNet are of."""

    def drawn(label, row):
        faces = label.startswith("faces")
        return {"data": row.data.model_copy(update={"stand_in": True})} if faces else {}

    tables = STUDY.tables(changed(filled(plan("paper")), drawn))
    assert tables["faces"].badge == "stand-in data"
    assert tables["networks"].badge == "" and "cifar10" in tables["networks"].footer
    assert not any(name in tables["networks"].footer for name in ("faces", "simulated", "imagenet"))


def test_coverage_counts_exact_cells_runs_and_quotes(results):
    counts = {x.exhibit: x for x in coverage("nar", STUDY.published, STUDY.cells(results))}
    assert counts["Table 4"].exact == 6 and counts["Table 4"].missing == 0
    assert sum(counts["Table 5"].reproduced.values()) == 3 and counts["Table 5"].missing == 6
    assert counts["settings"].quoted == counts["settings"].printed
    assert counts["text"].exact == 2 and counts["text"].missing == 8


def test_readings_are_those_of_plain_arithmetic(results):
    saved = STUDY.read(results, "pick", "saving")
    assert saved == {seed: pytest.approx(3.0) for seed in range(5)}  # 970 of 1000
    assert mean(STUDY.read(results, "search", "diversity")) == pytest.approx(2.0)  # four alike
    assert mean(STUDY.read(results, "search_plain", "diversity")) == pytest.approx(1.3568, abs=1e-4)
    assert STUDY.read(results, "pick", "depth") == {seed: pytest.approx(5 / 7) for seed in range(5)}
    assert STUDY.read(results, "base", "depth") == {}
    assert STUDY.read(results, "search_6", "share of 5×5")[0] == pytest.approx(100 / 3)
    assert STUDY.read(results, "search", "settled")[0] == 1
    assert STUDY.read(results, "enumerate", "log pick rank")[0] == 1
    assert STUDY.read(results, "enumerate", "log blind samples")[0] == pytest.approx(3.778, abs=1e-3)
    assert STUDY.read(results, "enumerate", "reward_noise.own %")[0] == pytest.approx(3)
