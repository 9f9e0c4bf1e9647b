"""The tables of the study: Table 1 beside ours, the controls, and what the selections really did."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from papers_lib.exhibits.table import NOT_RUN, Cell, Table, comparison
from papers_lib.exhibits.verdicts import Finding, greater
from papers_lib.quadruplet_cars196.study import errata
from papers_lib.study import Arm, Results, Statement, gap, mean, not_run

if TYPE_CHECKING:
    from papers_lib.quadruplet_cars196.study import Cars

METRICS = ("R@1", "R@2", "R@4", "R@8", "NMI")
CHOOSERS = (  # arms that differ in what they choose, and not only in what they do with it
    *("random", "method_1", "method_2", "nearest_sibling", "furthest_positive"),
    *("method_2_one_sibling", "method_2_shuffled", "method_2_body9", "method_2_in_batch", "method_2_fresh"),
)
LAST_EPOCH = {  # what the last epoch logged, and how a table names it; a path that ends in " %" is a share
    "positive_fallback %": "P+ by fallback",
    "sibling_fallback %": "P− by fallback",
    "active_1 %": "hinge 1 active",
    "active_2 %": "hinge 2 active",
    "D_RP": "D(R, P+)",
    "D_RM": "D(R, P−)",
    "D_RN": "D(R, N)",
}
MINED = {  # what both methods would choose on the final features
    "same_positive %": "same P+ in both",
    "same_sibling %": "same P− in both",
    "skips_a_closer_sibling %": "Method 2 skips a closer P−",
    "method_1_positive_rank %": "rank of P+, Method 1",
    "method_2_positive_rank %": "rank of P+, Method 2",
    "method_2_positive_fallback %": "P+ by fallback, Method 2",
    "method_2_sibling_fallback %": "P− by fallback, Method 2",
    "distinct_method_1": "different images, Method 1",
    "distinct_method_2": "different images, Method 2",
}
MAIN = ("core", "baselines", "controls")  # sweeps whose arms stand in `controls`


def tables(study: Cars, results: Results) -> dict[str, Table]:
    """Every table by name."""
    every = (
        errata.types_table(),
        table_1(study, results),
        errata.corrected_table(),
        *controls(study, results),
        rates(study, results),
        selection(study, results),
        final_features(study, results),
    )
    return {table.name: table for table in every}


def table_1(study: Cars, results: Results) -> Table:
    """Table 1: eight rows, five columns, one line per printed number."""
    made = study.provenance(results)
    # each once, in the paper's order
    rows = dict.fromkeys(row for exhibit, row, _ in study.printed if exhibit == "Table 1")
    lines = [
        study.line(
            results,
            (metric, study.arm_of_row[row].label),
            ("Table 1", row, metric),
            made.comparable,
        )
        for metric in METRICS
        for row in rows
    ]
    return comparison(
        "table_1",
        "Table 1: Recall@K and NMI on unseen classes, %",
        ("metric", "method"),
        lines,
        made.badge,
        made.text,
        notes=(f"Start of our runs: {start(results)}.",),
    )


def controls(study: Cars, results: Results) -> tuple[Table, Table]:
    """Every arm against the one that it is to be compared with, at the same seeds.

    `controls` has them all, and shows those that are held against another arm than random quadruplets;
    `against_random` has the rest.
    """
    metrics = ["R@1", "R@8", "MAP@R", "NMI", "AMI"]  # AMI: NMI without what chance gives
    columns = ["run", *metrics, "held against", "R@1, difference", "95 % interval", "n", "greater"]
    planned = {spec.label for spec, _ in results.runs}  # a profile need not have every sweep
    arms = [arm for arm in study.arms.values() if arm.sweep in MAIN and arm.name in planned]
    rows: list[list[Cell]] = []
    for arm in arms:
        ours = results.values(arm.name, "R@1 %")
        if not ours:
            rows.append(not_run(arm.label, len(columns), 0, "not tested"))
            continue
        means = [results.mean(arm.name, f"{metric} %") for metric in metrics]
        against = gap(ours, results.values(arm.against, "R@1 %"))
        nothing = (None, None, len(ours), None)  # random is held against nothing
        other = study.arms[arm.against].label if arm.against else None
        # mean of d_s, its interval, n, verdict
        rows.append([arm.label, *means, other, *(against if arm.against else nothing)])
    notes = (
        f"Start: {start(results)}.",
        "Greater: after Holm's correction for all rows of controls.csv; claims are corrected on their own.",
    )
    whole = study.table(
        results, "controls", "One change at a time: Recall@1 on unseen classes, %", columns, rows, notes=notes
    )
    of_random = [arm.name == "random" or arm.against == "random" for arm in arms]
    one_change = [row for row, first in zip(whole.rows, of_random, strict=True) if not first]
    others = [row for row, first in zip(whole.rows, of_random, strict=True) if first]
    against_random = replace(
        whole.part(["run", *metrics, *columns[-4:]], others),
        name="against_random",
        title="Held against random quadruplets: recall and clustering of unseen classes, %",
    )
    face = replace(
        whole.part(["run", "R@1", *columns[-5:]], one_change),
        notes=(*notes, "R@8, MAP@R, NMI and AMI of these rows are in controls.csv."),
    )
    return against_random, replace(whole, face=face)


def rates(study: Cars, results: Results) -> Table:
    """The grid of learning rates, judged on training classes held out: what each method is trained with."""
    grid = study.grid(results)
    rows: list[list[Cell]] = []
    for arm in study.arms.values():
        if arm.sweep == "rates":
            judged = [results.mean(f"{arm.name} {rate:g}", "history.-1.R@1 %") for rate in grid]
            known = [value for value in judged if value is not None]  # a rate above the highest has none
            best = f"{grid[judged.index(max(known))]:g}" if known else None
            rows.append([arm.label, *judged, best if known else NOT_RUN])
    return study.table(
        results,
        "rates",
        "Recall@1 on training classes held out, %, by learning rate",
        ["method", *(f"{rate:g}" for rate in grid), "chosen"],
        rows,
        notes=("Rates are of the sum of Eq. 6; rows with the mean have the rate times the batch size.",),
    )


def selection(study: Cars, results: Results) -> Table:
    """Fallbacks, active hinges and distances in the last epoch: what the rule really picked."""
    return study.table(
        results,
        "selection",
        "What was learnt from, last epoch: shares in %, mean distances",
        ["run", *LAST_EPOCH.values()],
        [_last_epoch(results, study.arms[name]) for name in CHOOSERS],
        notes=(
            "Hinge 1 of Eq. 5 parts P+ from P−, hinge 2 parts P− from N; active: not zero.",
            "Distances on the unit sphere, so that 2 is the largest there is.",
        ),
    )


def _last_epoch(results: Results, arm: Arm) -> list[Cell]:
    # no run, or one of no epochs
    if not any(row.metrics["history"] for row in results.rows(arm.name).values()):
        return [arm.label, *[NOT_RUN] * len(LAST_EPOCH)]
    return [arm.label, *(results.mean(arm.name, f"history.-1.{name}") for name in LAST_EPOCH)]


def final_features(study: Cars, results: Results) -> Table:
    """What Methods 1 and 2 would choose on the last features, and how tight the unseen classes are."""
    rows: list[list[Cell]] = []
    for name in ("random", "method_1", "method_2", "ce", "nearest_sibling", "furthest_positive"):
        paths = [*(f"mined.{choice}" for choice in MINED), "within_over_all"]
        means = [results.mean(name, path) for path in paths] if results.rows(name) else [NOT_RUN] * len(paths)
        rows.append([study.arms[name].label, *means])
    return study.table(
        results,
        "final_features",
        "On the final features: what the two methods choose, and the spread of classes",
        ["trained with", *MINED.values(), "within / all variance"],
        rows,
        notes=(
            "Choices on the training images, in %; different images in a reference, P+ and P− together.",
            "Spread: variance within the classes over all variance, unseen classes; 1 is no classes.",
        ),
    )


def start(results: Results) -> str:
    """In words: what the runs of this profile start from."""
    settings = results.runs[0][0].settings
    if settings["backbone"] == "features":
        return "frozen features of EfficientNet-Lite0, trained on ImageNet; the layer and the heads are new"
    names = {"imagenet": f"ImageNet weights of {settings['backbone']}", "file": "weights from a file"}
    return names.get(str(settings["start"]), "random weights") + "; embedding and heads are new"


def nmi_beyond_k_means(results: Results, line: Statement) -> Finding:
    """C3, with the noise of k-means: a difference below two of its standard deviations decides nothing."""
    finding = greater(results.values(line.a, line.metric), results.values(line.b, line.metric))
    noise = mean(results.values(line.b, "NMI_sd"))  # a fraction, over k-means seeds
    if finding.difference and noise is not None and finding.verdict != "undecided":
        twice = 200 * noise  # two standard deviations, in %
        if abs(finding.difference.mean) < twice:
            text = f"{finding.text}, but below two sd of k-means ({twice:.2f}): undecided"
            return Finding("undecided", text, finding.difference, finding.p)
    return finding
