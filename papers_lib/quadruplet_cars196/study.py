"""The doors of this wing: what the notebook and the command line call.

`Runs` pairs each planned run with its ledger row, or with None where it has not been run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from papers_lib.exhibits import provenance as origin
from papers_lib.exhibits import published
from papers_lib.exhibits.claims import Claim, Erratum
from papers_lib.exhibits.coverage import Cell
from papers_lib.exhibits.figure import Figure
from papers_lib.exhibits.provenance import Provenance
from papers_lib.exhibits.table import Line, Table, comparison
from papers_lib.quadruplet_cars196 import claims as claims_of_paper
from papers_lib.quadruplet_cars196 import drawings, readings
from papers_lib.quadruplet_cars196 import errata as errata_of_paper
from papers_lib.quadruplet_cars196.plan import ARMS, CONTROLS, PAPER, TABLE_1, Arm, Settings, plan
from papers_lib.quadruplet_cars196.readings import Runs
from papers_lib.runs import progress
from papers_lib.runs.spec import RunSpec
from papers_lib.runs.store import needed_weights

__all__ = ["Settings", "cells", "claims", "errata", "figures", "plan", "run", "tables"]

METRICS = ("R@1", "R@2", "R@4", "R@8", "NMI")
QUADRUPLETS = (None, "random", "method_1", "method_2", "nearest_sibling", "furthest_positive")


def provenance(runs: Runs) -> Provenance:
    """Footer and badge of everything made from `runs`."""
    return origin.provenance(readings.made(runs), runs[0][0].profile, dataset="cars196")


def run(spec: RunSpec) -> dict[str, Any]:
    """Train and evaluate what `spec` says, in the folder that the store gave it."""
    from papers_lib.quadruplet_cars196.options import TrainSettings
    from papers_lib.quadruplet_cars196.training import train

    folder = Path(spec.folder)
    weights = needed_weights(spec) if spec.needs else None
    if "weights" in spec.places:
        weights = Path(spec.places["weights"])
    return train(
        TrainSettings.model_validate(spec.settings),
        (spec.data.root, spec.data.name),
        folder,
        device=spec.device,
        weights=weights,
        report=progress.reporter(folder),
    )


def tables(runs: Runs) -> dict[str, Table]:
    """Table 1 beside ours, the controls that the paper lacks, what selection really did, and its features."""
    return {
        "types": errata_of_paper.types_table(),
        "table_1": table_1(runs),
        "table_1_corrected": errata_of_paper.corrected_table(),
        "controls": controls(runs),
        "selection": selection(runs),
        "final_features": final_features(runs),
    }


def table_1(runs: Runs) -> Table:
    """Table 1: eight rows, five columns, one line a printed number."""
    made = provenance(runs)
    printed = published.load(PAPER).query("exhibit == 'Table 1'").set_index(["row", "column"])["printed"]
    lines = [
        Line(
            (metric, arm.label),
            printed[arm.paper_row, metric],
            readings.percent(runs, arm.name, metric),
            made.comparable,
        )
        for metric in METRICS
        for arm in TABLE_1
    ]
    return comparison(
        "table_1", "Table 1: Recall@K and NMI on unseen classes, %", ("metric", "method"), lines,
        made.badge, made.text, notes=(f"Start of our runs: {readings.start(runs)}.",),
    )  # fmt: skip


def controls(runs: Runs) -> Table:
    """Rows that the paper does not have; each against random quadruplets of the same seeds."""
    made = provenance(runs)
    names = ["random", "method_1", "method_2", *(arm.name for arm in CONTROLS)]
    rows = [readings.control_row(runs, ARMS[name]) for name in names]
    columns = [
        "run", "R@1", "R@8", "MAP@R", "NMI", "AMI",
        "R@1 − random", "95 % interval", "n", "greater than random",
    ]  # fmt: skip
    notes = (
        f"Start: {readings.start(runs)}, where the row does not say from scratch.",
        "Each row is held against random quadruplets of the same start and seeds.",
    )
    return Table(
        "controls", "Controls: recall on unseen classes, %", columns, rows, made.badge, made.text, notes
    )


def selection(runs: Runs) -> Table:
    """Fallbacks, active hinges and distances in the last epoch: what the rule really picked."""
    made = provenance(runs)
    names = [arm.name for arm in ARMS.values() if arm.changes.get("method") in QUADRUPLETS]
    return Table(
        "selection", "What was learnt from, last epoch: shares in %, mean distances",
        ["run", *readings.LAST_EPOCH.values()], [readings.last_epoch(runs, ARMS[name]) for name in names],
        made.badge, made.text,
        notes=("On the unit sphere, but for the row that says not normalised.",),
    )  # fmt: skip


def final_features(runs: Runs) -> Table:
    """What Methods 1 and 2 would choose on the last features, and how tight the unseen classes are."""
    made = provenance(runs)
    names = ("random", "method_1", "method_2", "ce", "nearest_sibling", "furthest_positive")
    return Table(
        "final_features", "On the final features: what the two methods choose, and the spread of classes",
        ["trained with", *readings.MINED.values(), readings.WITHIN],
        [readings.final(runs, ARMS[name]) for name in names], made.badge, made.text,
        notes=(
            "Choices on the training images, in %; different images in a reference, P+ and P− together.",
            "Spread: variance within the classes over all variance, unseen classes; 1 is no classes.",
        ),
    )  # fmt: skip


def figures(runs: Runs) -> dict[str, Figure]:
    """Figures 1 and 2 of the paper, and the curves over epochs that it does not show."""
    made = provenance(runs)
    return {
        "figure_1": drawings.framework(),
        "figure_2": drawings.selections(),
        "recall_by_epoch": drawings.recall_by_epoch(runs, made),
        "fallbacks": drawings.fallbacks(runs, made),
    }


def claims(runs: Runs) -> list[Claim]:
    """The paper's claims C1–C15, each with the verdict of our runs."""
    return claims_of_paper.claims(runs)


def errata() -> list[Erratum]:
    """What is wrong or missing in the paper, shown by code where it can be."""
    return errata_of_paper.errata()


def cells(runs: Runs) -> list[Cell]:
    """For `coverage`: our number for each printed cell; settings and quoted works are not ours to make."""
    found = [_run_cell(runs, "Table 1", arm, metric, metric) for arm in TABLE_1 for metric in METRICS]
    for arm in TABLE_1[-2:]:
        found.append(_run_cell(runs, "text", arm, "R@1", "R@1"))
        found.append(_run_cell(runs, "text", arm, "gain in R@1", "R@1", minus="random"))
    printed = published.load(PAPER)
    stated = printed[~printed["exhibit"].isin(["Table 1", "text"])]
    places = zip(stated["exhibit"], stated["row"], stated["column"], strict=True)
    return found + [Cell(*place, None, kind="quoted") for place in places]


def _run_cell(runs: Runs, exhibit: str, arm: Arm, column: str, metric: str, minus: str = "") -> Cell:
    """The mean over seeds, or the mean difference to the arm `minus`, in %."""
    values = readings.percent(runs, arm.name, metric)
    if minus:
        other = readings.percent(runs, minus, metric)
        values = {seed: values[seed] - other[seed] for seed in values.keys() & other.keys()}
    rows = readings.rows_of(runs, arm.name).values()
    data = {origin.data_name(row) for row in rows}
    mean = sum(values.values()) / len(values) if values else None
    return Cell(exhibit, arm.paper_row, column, mean, runs[0][0].profile, ", ".join(sorted(data)))
