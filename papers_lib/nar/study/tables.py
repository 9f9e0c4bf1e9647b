"""Table 5 beside ours, and what the paper lacks: exact ranks, random vectors, rankings, costs.

`exhibits.toml` has titles, columns and notes; each function here fills one table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from papers_lib.exhibits.intervals import rank_interval, t_interval
from papers_lib.exhibits.table import NOT_RUN, Cell, Table, comparison
from papers_lib.nar.counting import count
from papers_lib.nar.study import exhibits
from papers_lib.nar.study.printed import NOT_IN_OUR_TEXT
from papers_lib.nar.study.table_4 import code
from papers_lib.study import Arm, Results, Values, difference, gap, mean, not_run

if TYPE_CHECKING:
    from papers_lib.exhibits.ledger import Row
    from papers_lib.nar.study import Refinement

Rows = list[list[Cell]]
NAMED = {
    "pick": "our pick",
    "argmax": "the controller's likeliest",
    "best_random": "best of blind draws, equal cost",
    "optimum": "best of all by the choosing half",
    "single": "best single replacement",
    "base": "untouched",
    "paper_8": "paper's ResNet-18-8",
    "paper_8_second": "the same, second reading",
}
ENUMERATIONS = {"enumerate": "with PreTrain", "enumerate_plain": "without PreTrain"}  # by their weights
FACES = ("faces", "search_faces")  # kinds of run
BLIND = {"samples": "final samples", "equal_cost": "the search's images"}  # what the draws are as many as


def tables(study: Refinement, results: Results) -> dict[str, Table]:
    """Every table of this module by name, each with the badge and the footer of its runs."""
    filled = {
        "networks": networks(study, results),
        "ranks": ranks(study, results),
        "searches": searches(study, results),
        "blind": blind(study, results),
        "reward_noise": reward_noise(study, results),
        "depth": depth(study, results),
        "cost": cost(study, results),
        "tables_1_to_3": tables_1_to_3(),
        "faces": faces(study, results),
    }
    sources = {name: study.provenance(results) for name in filled}
    networks_of_faces = [arm.name for arm in study.arms.values() if arm.more["kind"] in FACES]
    sources |= {"tables_1_to_3": exhibits.EXACT, "faces": study.provenance(results, networks_of_faces)}
    real = any(not row.data.stand_in for name in networks_of_faces for row in results.rows(name).values())
    faces_are = {"drawn": "" if real else "drawn "}
    ours = {name: exhibits.table(name, rows, sources[name], **faces_are) for name, rows in filled.items()}
    return {"table_5": table_5(study, results)} | ours


def table_5(study: Refinement, results: Results) -> Table:
    """Table 5: the untouched net and the paper's vectors; ImageNet is for those who have it."""
    places = [place for place in study.printed if place[0] == "Table 5"]
    lines = [study.line(results, place[1:], place, study.comparable(results, place)) for place in places]
    labels = [arm.name for arm in study.arms.values() if arm.more["kind"] == "imagenet"]
    imagenet = "not run; profile paper has them"
    if any(results.rows(label) for label in labels):
        imagenet = study.provenance(results, labels).text
    title, source = exhibits.WORDS["table_5"]["title"], study.provenance(results)
    note = f"ImageNet columns: {imagenet}."
    return comparison("table_5", title, ("model", "data"), lines, source.badge, source.text, (note,))


def networks(study: Refinement, results: Results) -> Rows:
    """Every network trained on its own, each against its counterpart of the same seeds."""
    arms = [arm for arm in study.arms.values() if arm.more["kind"] == "standalone"]
    results = results.common([arm.name for arm in arms])  # as the means stand side by side
    base = results.values("base", "accuracy %")  # of the untouched network
    rows: Rows = []
    for arm in arms:
        ours = results.values(arm.name, "accuracy %")
        if not ours:
            rows.append(not_run(arm.label, 11, 0, "not tested"))
            continue
        overfit = difference(results.values(arm.name, "train_accuracy %"), ours)
        saving, replaced = (mean(study.read(results, arm.name, name)) for name in ("saving", "replaced"))
        other = results.values(arm.against, "accuracy %") if arm.name != arm.against else {}  # not of itself
        against = gap(ours, other)
        counterpart = study.arms[arm.against].label if against.interval else None
        row: list[Cell] = [arm.label, mean(ours), t_interval(list(ours.values()))]
        row += [mean(difference(ours, base)), saving, replaced, mean(overfit)]
        rows.append([*row, counterpart, against.interval, len(ours), against.verdict])
    return rows


def ranks(study: Refinement, results: Results) -> Rows:
    """Where named vectors stand among all vectors, by the shared weights of each kind of search."""
    rows: Rows = []
    for label, weights in ENUMERATIONS.items():
        total = results.mean(label, "count")
        for name, words in NAMED.items():
            rank, chosen, judged, saving = (
                _named(results, label, name, what) for what in ("rank", "choice", "score", "saving")
            )
            if not rank or not total:  # not run, or a vector that it does not have
                rows.append([weights, *not_run(words, 7, 0)])
                continue
            interval = rank_interval(list(rank.values()), int(total))
            shares = [100 * (mean(values) or 0.0) for values in (chosen, judged, saving)]
            rows.append([weights, words, interval.mean, interval, *shares, len(rank)])
    return rows


def blind(study: Refinement, results: Results) -> Rows:
    """The pick against the best of blind draws: of as many as it is the best of, and of equal cost."""
    rows: Rows = []
    for label, weights in ENUMERATIONS.items():
        runs = results.rows(label)
        for key, words in BLIND.items():
            if not runs:
                rows.append([weights, *not_run(words, 8, 0)])
                continue
            found = [row.metrics["blind"][key] for row in runs.values()]
            total = min(row.metrics["count"] for row in runs.values())
            pick = rank_interval([row.metrics["named"]["pick"]["rank"] for row in runs.values()], total)
            expected = rank_interval([line["expected"] for line in found], total)
            agreement = results.mean(label, "agreement.tau")
            draws = max(line["draws"] for line in found)
            chances = ", ".join(f"{line['chance']:.2g}" for line in found)
            row: list[Cell] = [weights, words, draws, pick.mean, pick, expected.mean, chances]
            rows.append([*row, agreement, len(found)])
    return rows


def _named(results: Results, label: str, name: str, what: str) -> Values:
    """Score, rank or saving of a named vector in an enumeration, by seed, where it has it."""
    named = {seed: row.metrics.get("named", {}).get(name, {}) for seed, row in results.rows(label).items()}
    return {seed: float(entry[what]) for seed, entry in named.items() if what in entry}


def searches(study: Refinement, results: Results) -> Rows:
    """The searches: how diverse, how settled, what they chose."""
    metrics = ("diversity", "first entropy", "last entropy", "replaced", "evaluations", "minutes")
    rows: Rows = []
    for name in _searches(study):
        label, n = study.arms[name].label, len(results.rows(name))
        means = [mean(study.read(results, name, metric)) for metric in metrics]
        rows.append([label, *means, n] if n else not_run(label, 8, 0))
    return rows


def _searches(study: Refinement) -> list[str]:
    return [arm.name for arm in study.arms.values() if arm.more["kind"] == "search"]


def _interval(values: Values) -> list[Cell]:
    """Mean, interval, and number of seeds."""
    interval = t_interval(list(values.values())) if values else None
    return [interval.mean if interval else NOT_RUN, interval, len(values)]


def reward_noise(study: Refinement, results: Results) -> Rows:
    """What one reward batch adds to all final samples, and to each alone, against their true spread."""
    rows: Rows = []
    for name, label in ENUMERATIONS.items():
        own = study.read(results, name, "reward_noise.own %")
        if not own:
            rows.append(not_run(label, 8, 0))
            continue
        parts = [study.read(results, name, f"reward_noise.{part} %") for part in ("shared", "own", "spread")]
        changed = study.read(results, name, "reward_noise.changed.1 %")
        batches = study.read(results, name, "reward_noise.batches")
        everything = results.mean(name, "sd %")
        rows.append([label, *map(mean, parts), everything, mean(changed), mean(batches), len(own)])
    return rows


def depth(study: Refinement, results: Results) -> Rows:
    """Where replaced decisions lie: 0 the first, 1 the last, ½ by chance."""
    picks, labels = ("pick", "pick_plain"), {arm.name: arm.label for arm in study.arms.values()}
    rows: Rows = []
    for name in picks:
        found = _interval(study.read(results, name, "depth"))
        if results.rows(name) and not found[-1]:
            found[0] = None  # run, and nothing was replaced
        rows.append([labels[name], *found])
    for name, weights in ENUMERATIONS.items():
        top = _interval(results.values(name, "top.depth"))
        rows.append([f"Best hundredth of all vectors, weights {weights}", *top])
    return rows


def cost(study: Refinement, results: Results) -> Rows:
    """Minutes of every kind of run, and the operations of a search."""
    rows: Rows = []
    for name in ("base", *_searches(study), *ENUMERATIONS):
        minutes = results.minutes(name)
        metrics = {seed: row.metrics for seed, row in results.rows(name).items()}
        # A search counts all that it computes. A training's own count is of one image; an enumeration's
        # repeats the stem for every vector.
        macs = mean({seed: m["multiply_accumulates"] for seed, m in metrics.items() if "evaluations" in m})
        trees = {seed: m for seed, m in metrics.items() if "block_calls" in m}
        fewer = mean({seed: m["naive_block_calls"] / m["block_calls"] for seed, m in trees.items()})
        largest = max((m["max_difference_to_naive"] for m in trees.values()), default=None)
        teraflop = 2e-12 * macs if macs is not None else None  # a multiply and an add
        spent = mean(minutes) if minutes else NOT_RUN
        rows.append([study.arms[name].label, spent, teraflop, fewer, largest, len(minutes)])
    return rows


def tables_1_to_3() -> Rows:
    """Tables 1 to 3: what our text does not have, named and left empty."""
    return [[n, words, "not in our text"] for n, words in NOT_IN_OUR_TEXT.items() if n.startswith("Table")]


def faces(study: Refinement, results: Results) -> Rows:
    """LResNet50E-IR with vectors of ours: exact counts at full width, and verification.

    Vectors of a search stand where the profile has one.
    """
    size = study.sizes.get(results.profile)
    searches = size is not None and "search_faces" in size.more
    rows: Rows = []
    for arm in study.arms.values():
        if arm.more["kind"] not in FACES or (not searches and not arm.more["replacements"].isdecimal()):
            continue
        runs = results.rows(arm.name)
        for seed in sorted(runs) or (0,):
            rows.append([arm.label, seed, *_face_cells(study, arm, seed, runs.get(seed))])
    return rows


def _face_cells(study: Refinement, arm: Arm, seed: int, run: Row | None) -> list[Cell]:
    """Vector, parameters, multiply-accumulates, what these save in %, and accuracies by test."""
    vector = study.face_vector(arm, seed)
    if run and arm.more["kind"] == "search_faces":
        vector = tuple(run.metrics["choices"]["argmax"])
    elif run:
        vector = tuple(run.metrics["vector"])
    elif not arm.more["replacements"]:  # a search decides
        return [NOT_RUN] * 5
    parameters, macs = count(vector, "lresnet50e_ir", "A", 112, 512)
    base = count((0,) * 24, "lresnet50e_ir", "A", 112, 512).multiply_accumulates
    tests = sorted(run.metrics.get("verification", {}).items()) if run else ()  # by the set's name
    accuracies = "; ".join(
        f"{test} {100 * found['accuracy']:.1f} (raw pixels {100 * found['floor']['accuracy']:.1f})"
        for test, found in tests
    )
    return [code(vector), parameters, macs, 100 * (1 - macs / base), accuracies or None]
