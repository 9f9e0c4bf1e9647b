"""The paper's tables beside ours, Table 5 measured, and the controls that the paper lacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from papers_lib.exhibits.intervals import t_interval
from papers_lib.exhibits.table import NOT_RUN, Cell, Table, comparison
from papers_lib.median_triplet import prior
from papers_lib.median_triplet.study import printed
from papers_lib.study import Results, gap, mean, not_run

if TYPE_CHECKING:
    from papers_lib.median_triplet.study import Median

CLASSES = 10  # of CIFAR-10
TITLES = {
    "Table 1": "Table 1: linear accuracy of frozen features, %",
    "Table 2": "Table 2: Mask R-CNN C4, average precision, %",
    "Table 3": "Table 3: Faster R-CNN C4, average precision, %",
    "Table 4": "Table 4: search in SYSU-30k, rank-1, %",
    "Table 6": "Table 6: the margin C, linear accuracy, %",
    "Table 7": "Table 7: the rank k, linear accuracy, %",
}
SWEEPS = {
    "heads": "Which negative: the rank k",
    "controls": "What else could make the difference",
    "margins": "The margin C, and the scale of the distance",
    "lengths": "Other lengths of training",
    "batches": "Few negatives and many, at the same number of images",
    "banks": "MoCo v2 with a longer and a shorter queue",
}
RANKED = ("median", "prior", "hardest", "rank_5", "quarter", "three_quarters")  # heads with one k
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
ANCHORS = {  # ours -> row of lightly's table
    "simclr": "SimCLR",
    "moco_v2": "MoCo",
    "byol": "BYOL",
    "simsiam": "SimSiam",
    "byol_x2": None,
    "median": None,
    "prior": None,
    "smoothed": None,
    "supervised": None,
}


def tables(study: Median, results: Results) -> dict[str, Table]:
    """Every table by name."""
    every = [
        *(beside_ours(study, results, exhibit) for exhibit in TITLES),
        table_5(study, results),
        false_negatives(study, results),
        methods(study, results),
        anchors(study, results),
        *(sweep_table(study, results, sweep) for sweep in SWEEPS),
        *printed.tables(study.folder),
    ]
    return {table.name: table for table in every}


# -- the paper's --


def beside_ours(study: Median, results: Results, exhibit: str) -> Table:
    """A table of the paper, one line per printed number that a run can answer or that another paper made."""
    made = study.provenance(results)
    lines = [
        study.line(
            results,
            place[1:],
            place,
            made.comparable and not study.answer(results, place).quoted,
        )
        for place in study.printed
        if place[0] == exhibit and place[2] != "train epochs"
    ]
    name = f"table_{exhibit[-1]}"
    columns, fallen = ("method", "column"), collapsed(results)
    notes = [f"Collapsed, and averaged as they are: {', '.join(fallen)}."] if fallen else []
    return comparison(name, TITLES[exhibit], columns, lines, made.badge, made.text, notes=notes, decimals=1)


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
    return study.table(
        results,
        "table_5",
        "Table 5: share of batches in which any rank-k negative is of its query's class",
        ["k", "event", "printed at", "paper", "ours at", "ours", "95 % interval", "n"],
        rows,
        ("ImageNet has 1,000 classes, our data ten: the columns are not comparable, the directions are.",),
        decimals=4,
    )


# -- ranks --


def rank(head: Mapping[str, Any], n: int) -> int:
    """The rank that a head (settings `head` and `k`) takes in a batch of n images of ten classes."""
    if head["head"] == "prior":
        return prior.smallest_k(n, CLASSES)
    if head["head"] == "rank":
        k = head["k"]
        return int(k) if k >= 1 else max(1, round(k * n))
    return 1 if head["head"] == "hardest" else n // 2


def rank_of(study: Median, results: Results, arm: str) -> tuple[int, int]:
    """The rank of an arm's negative, and n of its batches: 128 where none has been run."""
    # all seeds of an arm have one batch size
    n = next((int(row.settings["batch_size"]) for row in results.rows(arm).values()), 128)
    return rank(study.arms[arm].changes, n), n


def tail(k: int, n: int) -> float:
    """Section 3.3's bound for the rank k of n images of ten classes, %."""
    return 100 * prior.tail(n - 1, 1 / CLASSES, k)


def false_negatives(study: Median, results: Results) -> Table:
    """Table 5 by query, which is what a loss feels, against chance and against an ideal ranking."""
    rows: list[list[Cell]] = []
    for arm in RANKED:
        if not results.rows(arm):  # n is only known of a run
            continue
        k, n = rank_of(study, results, arm)
        start, last = (results.mean(arm, f"{when}.same_query_own %") for when in ("start", "history.-1"))
        # n / 10 of the images are of the class, the query one of them
        chance = 100 * (n / CLASSES - 1) / (n - 1)
        rows.append([study.arms[arm].label, k, n, start, last, chance, tail(k, n)])
    return study.table(
        results,
        "false_negatives",
        "Queries whose negative is of their class, %",
        ["run", "k", "n", "before training", "last epoch", "chance", "ideal ranking"],
        rows,
        ("Chance: about a tenth of the images are of the class. Ideal: all of the class come first.",),
    )


# -- what the paper lacks --


def sweep_table(study: Median, results: Results, sweep: str) -> Table:
    """A sweep of controls, each against its counterpart of the same seeds."""
    columns = ["run", "linear", "kNN", *LAST_EPOCH.values(), "counterpart", "95 % of Δ linear", "n"]
    columns.append("greater than counterpart")
    arms = [arm for arm in study.arms.values() if arm.sweep == sweep]
    rows: list[list[Cell]] = []
    for arm in [study.arms["median"], *arms] if sweep == "heads" else arms:
        ours = results.values(arm.name, "linear %")
        if not ours:
            rows.append(not_run(arm.label, len(columns), 0, "not tested"))
            continue
        other = results.values(arm.against, "linear %")
        logged = [results.mean(arm.name, f"history.-1.{name}") for name in LAST_EPOCH]
        means = [mean(ours), results.mean(arm.name, "knn %"), *logged, mean(other)]
        rows.append([arm.label, *means, *gap(ours, other)[1:]])
    notes = ("Counterpart: the run that differs only in what the name says. Ranks and cosines: last epoch.",)
    return study.table(results, sweep, f"{SWEEPS[sweep]}: accuracy in %", columns, rows, notes)


def methods(study: Median, results: Results) -> Table:
    """All methods of the frame at one length: accuracy by two probes, time, and signs of collapse."""
    columns = [
        "method",
        "linear",
        "95 % interval",
        "kNN",
        "kNN, best epoch",
        "rank of features",
        "spread",
        "minutes",
        "waiting, %",
        "n",
    ]
    metrics = ("knn %", "knn_max %", "history.-1.rank_features", "history.-1.std_features")
    arms = [arm for arm in study.arms.values() if arm.sweep == "table_1" and arm.name != "median"]
    rows: list[list[Cell]] = []
    for arm in [*arms, *(study.arms[name] for name in (*RANKED, "smoothed"))]:
        linear = results.values(arm.name, "linear %")
        if not linear:
            rows.append(not_run(arm.label, len(columns), 0))
            continue
        means = [results.mean(arm.name, metric) for metric in metrics]
        cost = [mean(results.minutes(arm.name)), results.mean(arm.name, "waiting %")]
        interval = t_interval(list(linear.values()))
        rows.append([arm.label, mean(linear), interval, *means, *cost, len(linear)])
    return study.table(
        results,
        "methods",
        "All methods in one frame, one schedule, one probe: accuracy in %",
        columns,
        rows,
        (
            "The best epoch is chosen on the test images: shown for published tables that do so, "
            "never judged.",
            "Waiting: share of the training time spent on making views.",
        ),
        decimals=dict.fromkeys(columns[1:-1], 1) | {"spread": 2},
    )


def anchors(study: Median, results: Results) -> Table:
    """Ours beside lightly's CIFAR-10 benchmark: kNN of the best epoch, as it reports, and of the last."""
    value = printed.numbers()["lightly, CIFAR-10"]
    rows: list[list[Cell]] = []
    for name, theirs in ANCHORS.items():
        lightly: list[Cell] = [None, None]  # kNN, %, and minutes
        if theirs:
            protocol = "batch 128, 200 epochs"
            knn, minutes = (float(value[theirs, f"{what}, {protocol}"]) for what in ("kNN", "runtime"))
            lightly = [100 * knn, minutes]
        best = results.mean(name, "knn_max %")
        last = [results.mean(name, metric) for metric in ("knn %", "linear %")]
        cost = [mean(results.minutes(name)), len(results.rows(name))]
        rows.append([study.arms[name].label, *lightly, NOT_RUN if best is None else best, *last, *cost])
    return study.table(
        results,
        "anchors",
        "Beside lightly's CIFAR-10 benchmark (batch 128, 200 epochs, one A6000)",
        [
            "method",
            "lightly: kNN, best epoch",
            "lightly: minutes",
            "ours: kNN, best epoch",
            "ours: kNN, last",
            "ours: linear, last",
            "ours: minutes",
            "n",
        ],
        rows,
        ("Same protocol only at profile medium; elsewhere ours is a narrower network on fewer images.",),
        decimals=1,
    )
