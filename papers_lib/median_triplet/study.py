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
from papers_lib.median_triplet import claims as claims_of_paper
from papers_lib.median_triplet import controls, drawings, printed, readings
from papers_lib.median_triplet import errata as errata_of_paper
from papers_lib.median_triplet.plan import PAPER, Settings, plan
from papers_lib.median_triplet.readings import Runs
from papers_lib.median_triplet.rows import RANKS, ROWS, Answer
from papers_lib.runs import progress
from papers_lib.runs.spec import RunSpec
from papers_lib.runs.store import needed_weights

__all__ = ["Settings", "cells", "claims", "errata", "figures", "plan", "run", "tables"]

TITLES = {
    "Table 1": "Table 1: linear accuracy of frozen features, %",
    "Table 2": "Table 2: Mask R-CNN C4, average precision, %",
    "Table 3": "Table 3: Faster R-CNN C4, average precision, %",
    "Table 4": "Table 4: search in SYSU-30k, rank-1, %",
    "Table 6": "Table 6: the margin C, linear accuracy, %",
    "Table 7": "Table 7: the rank k, linear accuracy, %",
}

# The probabilities of Section 3.3: m, classes, k.
TAILS = {f"Pr, m = 104, k = {k}": (104, printed.CLASSES, k) for k in (5, 52)}


def provenance(runs: Runs) -> Provenance:
    """Footer and badge of everything made from `runs`."""
    rows = readings.made(runs)
    found = origin.provenance(rows, runs[0][0].profile)
    same = bool(rows) and all(origin.comparable([row], row.data.name) for row in rows)
    return Provenance(found.text, found.badge if not same else "", same)


def run(spec: RunSpec) -> dict[str, Any]:
    """Train and evaluate what `spec` says, in the folder that the store gave it."""
    from papers_lib.median_triplet import training
    from papers_lib.median_triplet.options import TrainSettings, TransferSettings

    folder = Path(spec.folder)
    data, report = (spec.data.root, spec.data.name), progress.reporter(folder)
    if "task" not in spec.settings:
        settings = TrainSettings.model_validate(spec.settings)
        return training.train(settings, data, folder, spec.device, report)
    transfer = TransferSettings.model_validate(spec.settings)
    weights = needed_weights(spec) if transfer.start == "encoder" else folder
    return training.run_transfer(transfer, data, folder, weights, spec.device, report)


def tables(runs: Runs) -> dict[str, Table]:
    """Tables 1–7 beside ours, what the printed numbers say among themselves, and the controls."""
    found = {f"table_{name[-1]}": comparison_table(runs, name) for name in TITLES}
    made = provenance(runs)
    return found | controls.tables(runs, made) | errata_of_paper.tables()


def comparison_table(runs: Runs, exhibit: str) -> Table:
    """A table of the paper, one line a printed number that a run can answer."""
    made = provenance(runs)
    numbers = _printed(exhibit)
    lines = [
        Line((row, column), text, _values(runs, answer), made.comparable and answer is not None)
        for (row, column), text in numbers.items()
        if (exhibit, row, column) in ROWS
        for answer in [ROWS[exhibit, row, column]]
    ]
    notes = [f"Collapsed, and averaged as they are: {', '.join(fallen)}."] if (
        fallen := readings.collapsed(runs)
    ) else []  # fmt: skip
    return comparison(
        f"table_{exhibit[-1]}", TITLES[exhibit], ("method", "column"), lines, made.badge, made.text,
        notes=notes, decimals=1,
    )  # fmt: skip


def _values(runs: Runs, answer: Answer | None) -> dict[int, float]:
    return readings.percent(runs, answer.label, answer.metric) if answer else {}


def figures(runs: Runs) -> dict[str, Figure]:
    """Figures 1 to 3, the toys by the real selection code, and the curves that the paper does not show."""
    return drawings.figures(runs, provenance(runs))


def claims(runs: Runs) -> list[Claim]:
    """The paper's claims C1–C20, each with the verdict of our runs."""
    return claims_of_paper.claims(runs)


def errata() -> list[Erratum]:
    """What is wrong or missing in the paper, shown by code where it can be."""
    return errata_of_paper.errata()


def cells(runs: Runs) -> list[Cell]:
    """For `coverage`: our number for each printed cell; settings and other papers' rows are quoted."""
    numbers = published.load(PAPER)
    places = zip(numbers["exhibit"], numbers["row"], numbers["column"], strict=True)
    return [_cell(runs, *place) for place in places]


def _cell(runs: Runs, exhibit: str, row: str, column: str) -> Cell:
    if row in TAILS:
        return Cell(exhibit, row, column, float(printed.exact_tail(*TAILS[row])), kind="exact")
    if exhibit == "Table 5":
        k, event, epoch = RANKS[row], row[-2], column.removeprefix("epoch ")
        values = controls.omega(runs, k, event, "start" if epoch == "0" else "last")
        labels = [controls.OMEGA_ARMS[k]]
    else:
        answer = ROWS.get((exhibit, row, column))
        if answer is None:
            return Cell(exhibit, row, column, None, kind="quoted")
        values, labels = _values(runs, answer), [answer.label]
    rows = [found for label in labels for found in readings.rows_of(runs, label).values()]
    data = {origin.data_name(found) for found in rows}
    profile = runs[0][0].profile
    return Cell(exhibit, row, column, readings.mean(values), profile, ", ".join(sorted(data)))


def _printed(exhibit: str) -> dict[tuple[str, str], str]:
    found = published.load(PAPER).query("exhibit == @exhibit")
    places = zip(found["row"], found["column"], strict=True)
    return dict(zip(places, found["printed"], strict=True))
