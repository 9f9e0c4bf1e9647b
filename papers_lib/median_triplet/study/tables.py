"""The paper's tables beside ours, Table 5 measured, and the controls that the paper lacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from papers_lib.exhibits.intervals import t_interval
from papers_lib.exhibits.ledger import Row
from papers_lib.exhibits.table import NOT_RUN, Cell, Table, comparison
from papers_lib.median_triplet import heads, prior
from papers_lib.median_triplet.study import printed
from papers_lib.study import Results, gap, mean, not_run

if TYPE_CHECKING:
    from papers_lib.median_triplet.study import Median

TITLES = {
    "Table 1": "Table 1: linear accuracy of frozen features, %",
    "Table 2": "Table 2: Mask R-CNN C4, average precision, %",
    "Table 3": "Table 3: Faster R-CNN C4, average precision, %",
    "Table 4": "Table 4: search in SYSU-30k, rank-1, %",
    "Table 6": "Table 6: the margin C, linear accuracy, %",
    "Table 7": "Table 7: the rank k, linear accuracy, %",
}
RANKED = ("hardest", "rank_5", "eighth", "prior", "quarter", "median", "three_quarters")  # heads with one k
CLASSES = (2, 5, 10, 196)  # of the sweep `classes`; the last are models of cars
RANKS = ("5", "eighth", "quarter", "median", "three_quarters")  # and its ranks
LAST_EPOCH = {  # what the last epoch logged, and how a table names it
    "cos_positive": "cos to the positive",
    "cos_negative": "cos to the negative",
    "same_query_own %": "false negatives, %",
    "rank_projections": "rank of projections",
    "rank_features": "rank of features",
    "std_features": "spread",
}
# Rows of Table 5: the arm trained with that k, and the rank that its meters read.
OMEGA = {
    "Top-1 accuracy, k = 1": ("hardest", "1"),
    "Top-1 accuracy, k = 5": ("rank_5", "5"),
    "Top-1 accuracy, k = 52": ("median", "median"),
}


class Rank(NamedTuple):
    """The rank k that an arm's head takes in batches of n, of images of so many classes."""

    k: int
    n: int
    classes: int
    same: float  # that another image of the training set is of an image's class

    @property
    def tail(self) -> float:
        """Section 3.3's bound, %."""
        return 100 * prior.tail(self.n - 1, 1 / self.classes, self.k)

    @property
    def chance(self) -> float:
        """How often another image of the training set is of the same class, %."""
        return 100 * self.same


def tables(study: Median, results: Results) -> dict[str, Table]:
    """Every table by name."""
    every = [
        *(beside_ours(study, results, exhibit) for exhibit in TITLES),
        table_5(study, results),
        false_negatives(study, results),
        methods(study, results),
        class_rank(study, results),
        controls(study, results),
        *printed.tables(study.folder),
    ]
    return {table.name: table for table in every}


# -- the paper's --


def beside_ours(study: Median, results: Results, exhibit: str) -> Table:
    """A table of the paper, one line per printed number that a run can answer or that another paper made."""
    made = study.provenance(results)
    sources = settings_of(results) if exhibit == "Table 1" else {}
    lines = []
    for place in study.printed:
        if place[0] != exhibit or place[2] == "train epochs":
            continue
        answer = study.answer(results, place)
        labels = (*place[1:], sources.get(answer.label if answer else "", "")) if sources else place[1:]
        quoted = answer is not None and answer.quoted
        lines.append(study.line(results, labels, place, made.comparable and not quoted))
    name = f"table_{exhibit[-1]}"
    columns, fallen = ("method", "column", "settings")[: 3 if sources else 2], collapsed(results)
    notes = [f"Collapsed, and averaged as they are: {', '.join(fallen)}."] if fallen else []
    return comparison(name, TITLES[exhibit], columns, lines, made.badge, made.text, notes=notes, decimals=1)


def settings_of(results: Results) -> dict[str, str]:
    """By arm, whose settings a run has: a public file's or the frame's; none if all are the frame's."""
    sources = {spec.label: spec.settings.get("source", "") for spec, _ in results.runs}
    return {arm: source or "one frame" for arm, source in sources.items()} if any(sources.values()) else {}


def collapsed(results: Results) -> list[str]:
    """Runs whose features point all the same way at the end, by name: never averaged in silence."""
    return [
        f"{spec.label} seed {spec.seed}"
        for spec, row in results.runs
        if row and (history := row.metrics.get("history")) and history[-1]["std_features"] < 0.01
    ]


def table_5(study: Median, results: Results) -> Table:
    """Table 5: frequencies of a false negative in a batch, before training and at its end."""
    rows: list[list[Cell]] = []
    for place, text in study.printed.items():
        exhibit, row, column = place
        if exhibit != "Table 5":
            continue
        # by seed, each the mean over the batches that were looked at
        values = list(study.answers(results, study.answer(results, place)).values())
        ours = t_interval(values) if values else None
        k = row.removeprefix("Top-1 accuracy, ")[: -len(": Pr(ω|A)")]
        cells = ["k = n/2" if k == "k = 52" else k, f"Pr(Ω|{row[-2]})", column, text]
        when = "before training" if column == "epoch 0" else "last epoch"
        rows.append([*cells, when, ours.mean if ours else NOT_RUN, ours, len(values)])
    whole = study.table(
        results,
        "table_5",
        "Table 5: share of batches in which any rank-k negative is of its query's class",
        ["k", "event", "printed at", "paper", "ours at", "ours", "95 % interval", "n"],
        rows,
        ("ImageNet has 1,000 classes: where the data have fewer, the directions alone are comparable.",),
        decimals=4,
    )
    # before and after training side by side, where the CSV has a line each
    pairs = zip(rows[::2], rows[1::2], strict=True)
    short: list[list[Cell]] = [
        [*first[:2], first[3], last[3], first[5], last[5], last[7]] for first, last in pairs
    ]
    columns = ["k", "event", "paper, epoch 0", "paper, epoch 180", "ours, before", "ours, last epoch", "n"]
    return replace(whole, face=replace(whole, columns=columns, rows=short))


# -- ranks --


def rank_of(study: Median, results: Results, arm: str) -> Rank:
    """What an arm's head takes; where none has been run, of ten classes, as CIFAR-10 has."""
    for row in results.rows(arm).values():  # alike for all seeds
        return rank_of_run(row)
    planned = [spec.settings for spec, _ in results.runs if spec.label == arm]
    n = planned[0]["batch_size"] if planned else 128
    return _rank(study.arms[arm].changes, int(n), 10, 4999 / 49_999)


def rank_of_run(row: Row) -> Rank:
    """What the head of a run took."""
    metrics, n = row.metrics, int(row.settings["batch_size"])
    return _rank(row.settings, n, metrics["classes"], metrics["chance"])


def _rank(head: Mapping[str, Any], n: int, classes: int, same: float) -> Rank:
    """Of a run's settings `method`, `head` and `k`; of a run without a head the median's."""
    if head.get("head") == "prior":
        return Rank(prior.smallest_k(n, classes), n, classes, same)
    k = {"rank": head.get("k"), "hardest": 1}.get(head.get("head", ""))
    k = int(k) if k and k >= 1 else k  # settings hold floats
    return Rank(heads.rank(k, n), n, classes, same)


def false_negatives(study: Median, results: Results) -> Table:
    """Table 5 by query, which is what a loss feels, against chance and against an ideal ranking."""
    rows: list[list[Cell]] = []
    for arm in RANKED:
        if not results.rows(arm):  # n is only known of a run
            continue
        taken = rank_of(study, results, arm)
        start, last = (results.mean(arm, f"{when}.same_query_own %") for when in ("start", "history.-1"))
        rows.append([study.arms[arm].label, *taken[:2], start, last, taken.chance, taken.tail])
    return study.table(
        results,
        "false_negatives",
        "Queries whose rank-k negative is of their own class, %",
        ["run", "k", "n", "before training", "last epoch", "chance", "ideal ranking"],
        rows,
        ("Chance: the negative drawn blindly. Ideal: all images of the query's class rank first.",),
    )


# -- what the paper lacks --


def controls(study: Median, results: Results) -> Table:
    """Every arm of the frame against its counterpart of the same seeds."""
    columns = ["run", "kNN", "linear", *LAST_EPOCH.values(), "counterpart", "95 % of Δ kNN", "n"]
    columns.append("greater than counterpart")
    arms = [a for a in study.arms.values() if a.against and a.sweep not in ("classes", "others", "pictures")]
    rows: list[list[Cell]] = []
    for arm in arms:
        ours = results.values(arm.name, "knn %")
        if not ours:
            rows.append(not_run(arm.label, len(columns), 0, "not tested"))
            continue
        other = results.values(arm.against, "knn %")
        logged = [results.mean(arm.name, f"history.-1.{name}") for name in LAST_EPOCH]
        means = [mean(ours), results.mean(arm.name, "linear %"), *logged, mean(other)]
        rows.append([arm.label, *means, *gap(ours, other)[1:]])
    whole = study.table(
        results,
        "controls",
        "Which negative, and what else could make the difference: kNN accuracy in %",
        columns,
        rows,
        (
            "Counterpart: the run that differs only in what the name says. False negatives and ranks are of "
            "the last epoch; the CSV has the linear probe, cosines and spread too.",
        ),
    )
    shown = ("run", "kNN", "counterpart", "95 % of Δ kNN", "greater than counterpart", "false negatives, %")
    return replace(whole, face=whole.part((*shown, "rank of projections", "n")))


def methods(study: Median, results: Results) -> Table:
    """All methods of the frame at one length: accuracy by two probes, counted work, and signs of collapse."""
    columns = ["method", "kNN", "95 % interval", "at the start", "linear", "rank of features", "spread"]
    columns += ["MFLOP per image", "GFLOP per run", "n"]
    metrics = ("start.knn %", "linear %", "history.-1.rank_features", "history.-1.std_features")
    rows: list[list[Cell]] = []
    sources = settings_of(results)
    for arm in study.arms.values():
        if arm.sweep not in ("main", "ranks", "others", "pictures"):
            continue
        knn = results.values(arm.name, "knn %")
        if not knn:
            rows.append(not_run(arm.label, len(columns), 0))
            continue
        means = [results.mean(arm.name, metric) for metric in metrics]
        row = next(iter(results.rows(arm.name).values()))  # work is alike for all seeds
        step = row.metrics["start"]["flops"]
        work = [step / 1e6, step * row.metrics["images"] * int(row.settings["epochs"]) / 1e9]
        interval = t_interval(list(knn.values()))
        rows.append([arm.label, mean(knn), interval, *means, *work, len(knn)])
    notes = ["Work: floating-point operations of a step, in products and convolutions, both directions."]
    starts = {seed: row.metrics["start"] for seed, row in results.rows("byol").items()}
    if given := {seed: 100 * at["knn_features"] for seed, at in starts.items() if "knn_features" in at}:
        notes.append(f"The features that the networks are given have kNN {mean(given):.1f} on their own.")
    title = "All methods with one schedule and one probe: accuracy in %"
    if sources:
        title = "All methods by one probe: accuracy in %"
        own = ", ".join(f"{arm} {source}" for arm, source in sources.items() if source != "one frame")
        notes.append(f"One schedule, but for the settings of public configuration files: {own}.")
    whole = study.table(
        results,
        "methods",
        title,
        columns,
        rows,
        notes,
        decimals=dict.fromkeys(columns[1:-1], 1) | {"spread": 2},
    )
    shown = [name for name in columns if name not in ("spread", "GFLOP per run")]  # what fits a screen
    return replace(whole, face=whole.part(shown))


def class_rank(study: Median, results: Results) -> Table:
    """Accuracy and false negatives over rank, for subsets of few classes and of many."""
    rows: list[list[Cell]] = []
    columns = [
        "classes",
        "negative",
        "k",
        "n",
        "kNN",
        "over BYOL",
        "95 % of it",
        "false negatives, %",
        "ideal ranking, %",
    ]
    for count in CLASSES:
        for rank in RANKS:
            arm = f"c{count}_{rank}"
            ours, other = (results.values(name, "knn %") for name in (arm, f"c{count}_byol"))
            if not ours:
                rows.append(not_run(study.arms[arm].label, len(columns)))
                continue
            taken = rank_of(study, results, arm)
            name = study.arms[arm].label.partition(", ")[2]
            over = gap(ours, other)
            share = results.mean(arm, "history.-1.same_query_own %")
            rows.append([count, name, *taken[:2], mean(ours), *over[:2], share, taken.tail])
    return study.table(
        results,
        "class_rank",
        "Class count and rank: kNN accuracy, %, of subsets of 1,000 images (cars: 980)",
        columns,
        rows,
        ("The seed chooses classes and images. Ideal: all images of the query's class rank first.",),
    )
