"""Table 5 beside ours, and what the paper lacks: exact ranks, random vectors, rankings, costs.

`exhibits.toml` has titles, columns and notes; each function here fills one table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from papers_lib.exhibits.intervals import t_interval
from papers_lib.exhibits.table import NOT_RUN, Cell, Table, comparison
from papers_lib.exhibits.verdicts import greater
from papers_lib.nar.counting import count
from papers_lib.nar.study import exhibits
from papers_lib.nar.study.printed import NOT_IN_OUR_TEXT
from papers_lib.nar.study.table_4 import code
from papers_lib.study import Results, Values, difference, gap, mean, not_run

if TYPE_CHECKING:
    from papers_lib.nar.study import Refinement

Rows = list[list[Cell]]
NAMED = ("pick", "argmax", "optimum", "best_random", "single", "base", "paper_8", "paper_8_second")
ENUMERATIONS = ("enumerate", "enumerate_plain")  # weights with and without PreTrain
FACES = ("faces", "faces_5", "faces_8")
STATISTICS = {  # of batch normalisation, under which the shared weights rank; and the ranking by cost
    "batch": "the batch's own",
    "running": "running",
    "recalibrated": "recalibrated",
    "macs": "cost alone",
}


def tables(study: Refinement, results: Results) -> dict[str, Table]:
    """Every table of this module by name, each with the badge and the footer of its runs."""
    filled = {
        "networks": networks(study, results),
        "ranks": ranks(study, results),
        "searches": searches(study, results),
        "tau": tau(study, results),
        "reward_noise": reward_noise(study, results),
        "depth": depth(study, results),
        "cost": cost(study, results),
        "tables_1_to_3": tables_1_to_3(),
        "faces": faces(study, results),
        "vectors": vectors(study, results),
        "sixteen": sixteen(results),
    }
    sources = {name: study.provenance(results) for name in filled}
    sources |= {"tables_1_to_3": exhibits.EXACT, "faces": study.provenance(results, FACES)}
    ours = {name: exhibits.table(name, rows, sources[name]) for name, rows in filled.items()}
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
    base = results.values("base", "accuracy %")  # of the untouched network
    rows: Rows = []
    for arm in study.arms.values():
        if arm.more["kind"] != "standalone":
            continue
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
    for label in ENUMERATIONS:
        weights, total = study.arms[label].label, results.mean(label, "count")
        for name in NAMED:
            rank, score, saving = (_named(results, label, name, what) for what in ("rank", "score", "saving"))
            if not rank or not total:  # not run, or a vector that it does not have
                rows.append([weights, *not_run(name, 8, 0)])
                continue
            regret = difference(_named(results, label, "optimum", "score"), score)
            place = [mean(rank), 100 * (mean(rank) or 0) / total, t_interval(list(rank.values()))]
            points = mean({seed: 100 * value for seed, value in regret.items()})
            shares = [100 * (mean(values) or 0) for values in (score, saving)]
            rows.append([weights, name, *place, shares[0], points, shares[1], len(rank)])
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


def tau(study: Refinement, results: Results) -> Rows:
    """Kendall's τ between shared and stand-alone accuracy, by the statistics of batch normalisation."""
    rows: Rows = []
    for name in ("tau", "tau_plain"):
        for part, sample in (("tau", "all"), ("tau_few", "1 to 4 replaced")):
            for key, statistics in STATISTICS.items():
                values = results.values(name, f"{part}.{key}")
                above = greater(values, dict.fromkeys(values, 0.0))
                rows.append([study.arms[name].label, sample, statistics, *_interval(values), above])
    return rows


def _interval(values: Values) -> list[Cell]:
    """Mean, interval, and number of seeds."""
    interval = t_interval(list(values.values())) if values else None
    return [interval.mean if interval else NOT_RUN, interval, len(values)]


def reward_noise(study: Refinement, results: Results) -> Rows:
    """One reward batch against the spread of the scores that are to be told apart."""
    rows: Rows = []
    for name in ENUMERATIONS:
        label, runs = study.arms[name].label, results.rows(name)
        if not runs:
            rows.append(not_run(label, 8, 0))
            continue
        spreads = [100 * (results.mean(name, path) or 0) for path in ("reward_noise.se", "sd", "top.sd")]
        changed = []
        for batches in ("1", "5"):  # of a selection; a small validation part has fewer
            shares = {s: row.metrics["reward_noise"]["changed"].get(batches) for s, row in runs.items()}
            known = mean({seed: share for seed, share in shares.items() if share is not None})
            changed.append(None if known is None else 100 * known)
        rows.append([label, *spreads, *changed, results.mean(name, "reward_noise.batches"), len(runs)])
    return rows


def depth(study: Refinement, results: Results) -> Rows:
    """Where replaced decisions lie: 0 the first, 1 the last, ½ by chance."""
    picks, labels = ("pick", "pick_plain", "pick_16"), {arm.name: arm.label for arm in study.arms.values()}
    rows: Rows = [[labels[name], *_interval(study.read(results, name, "depth"))] for name in picks]
    tops = {name: _interval(results.values(name, "top.depth")) for name in ENUMERATIONS}
    return rows + [[f"Top 1 %: {labels[name]}", *interval] for name, interval in tops.items()]


def cost(study: Refinement, results: Results) -> Rows:
    """Minutes of every kind of run, and the operations of a search."""
    rows: Rows = []
    for name in ("base", *_searches(study), *ENUMERATIONS, "beam_16", "tau"):
        minutes = results.minutes(name)
        metrics = {seed: row.metrics for seed, row in results.rows(name).items()}
        # A search counts all that it computes. A training's own count is of one image; an enumeration's
        # repeats the stem for every vector.
        macs = mean({seed: m["multiply_accumulates"] for seed, m in metrics.items() if "evaluations" in m})
        trees = {seed: m for seed, m in metrics.items() if "block_calls" in m}
        fewer = mean({seed: m["naive_block_calls"] / m["block_calls"] for seed, m in trees.items()})
        largest = max((m["max_difference_to_naive"] for m in trees.values()), default=None)
        petaflop = 2e-15 * macs if macs is not None else None  # a multiply and an add
        spent = mean(minutes) if minutes else NOT_RUN
        rows.append([study.arms[name].label, spent, petaflop, fewer, largest, len(minutes)])
    return rows


def tables_1_to_3() -> Rows:
    """Tables 1 to 3: what our text does not have, named and left empty."""
    return [[n, words, "not in our text"] for n, words in NOT_IN_OUR_TEXT.items() if n.startswith("Table")]


def faces(study: Refinement, results: Results) -> Rows:
    """LResNet50E-IR with vectors of ours: exact counts at full width, verification of drawn faces."""
    base = count((0,) * 24, "lresnet50e_ir", "A", 112, 512).multiply_accumulates
    rows: Rows = []
    for spec, row in results.runs:
        if spec.label not in FACES:
            continue
        vector = spec.settings["vector"]
        parameters, macs = count(vector, "lresnet50e_ir", "A", 112, 512)
        tests = sorted(row.metrics["verification"].items()) if row else ()  # by the name of the set
        accuracies = "; ".join(f"{name} {100 * test['accuracy']:.1f}" for name, test in tests)
        label, saved = study.arms[spec.label].label, 100 * (1 - macs / base)
        rows.append([label, spec.seed, code(vector), parameters, macs, saved, accuracies or NOT_RUN])
    return rows


def vectors(study: Refinement, results: Results) -> Rows:
    """The vectors that our searches chose, a line per seed."""
    rows: Rows = []
    for name in _searches(study):
        for seed, row in sorted(results.rows(name).items()):
            pick, likeliest = (code(row.metrics["choices"][choice]) for choice in ("pick", "argmax"))
            rows.append([study.arms[name].label, seed, pick, likeliest])
    return rows


def sixteen(results: Results) -> Rows:
    """16 decisions: beam search and random vectors against the pick, by the same weights and images."""
    rows: Rows = []
    for seed, row in sorted(results.rows("beam_16").items()):
        m = row.metrics  # of a beam search
        scores = [100 * m[f"{name}_score"] for name in ("base", "pick", "random", "best")]
        counts = [m[name] for name in ("draws", "random_better_than_pick", "tried", "better_than_pick")]
        rows.append([seed, *scores, *counts, code(m["choices"]["optimum"])])
    return rows
