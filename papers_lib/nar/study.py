"""The doors of this wing: what the notebook and the command line call.

`Runs` pairs each planned run with its ledger row, or with None where it has not been run.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from papers_lib.errors import PapersError
from papers_lib.exhibits import provenance as origin
from papers_lib.exhibits import published
from papers_lib.exhibits.claims import Claim, Erratum
from papers_lib.exhibits.coverage import Cell
from papers_lib.exhibits.figure import Figure
from papers_lib.exhibits.provenance import Provenance
from papers_lib.exhibits.table import Table
from papers_lib.nar import claims as claims_of_paper
from papers_lib.nar import controls, drawings, readings, table_4
from papers_lib.nar import errata as errata_of_paper
from papers_lib.nar.plan import PAPER, Settings, plan
from papers_lib.nar.readings import Runs
from papers_lib.runs import progress
from papers_lib.runs.spec import RunSpec
from papers_lib.runs.store import needed_weights, read_result

# Numbers of the text that are results, and that no run of ours has: of faces, and of a GPU not named.
RESULTS = ("LFW", "CFP-FP", "AgeDB-30", "fewer FLOPS", "GPU hours")

__all__ = ["Settings", "cells", "claims", "errata", "figures", "plan", "run", "tables"]


def provenance(runs: Runs) -> Provenance:
    """Footer and badge of everything made from runs on images of the study's own data."""
    return readings.provenance(runs)


def run(spec: RunSpec) -> dict[str, Any]:
    """Compute what `spec` says, in the folder that the store gave it; from the run it needs, if any.

    Raises:
        PapersError: the run that it needs has no result.
    """
    from papers_lib.nar import training

    folder = Path(spec.folder)
    needed, weights = None, None
    if spec.needs:
        before = Path(spec.needs[0].folder)
        result = read_result(before)
        if result is None:
            raise PapersError(f"{before} has no result; compute that run first")
        needed = result.metrics
        if spec.settings["kind"] != "standalone":
            weights = needed_weights(spec)
    report = progress.reporter(folder)
    data = (spec.data.root, spec.data.name)
    return training.run(spec.settings, data, folder, spec.device, report, needed, weights)


def tables(runs: Runs) -> dict[str, Table]:
    """Tables 4 and 5, what our text lacks, the exact rankings, and the controls."""
    return errata_of_paper.tables() | controls.tables(runs, provenance(runs))


def figures(runs: Runs) -> dict[str, Figure]:
    """Figure 1, the space of all vectors, and the curves of the search."""
    return drawings.figures(runs)


def claims(runs: Runs) -> list[Claim]:
    """The paper's claims C1–C19, each with the verdict of our runs."""
    return claims_of_paper.claims(runs)


def errata() -> list[Erratum]:
    """What is wrong or missing in the paper, shown by code where it can be."""
    return errata_of_paper.errata()


def cells(runs: Runs) -> list[Cell]:
    """For `coverage`: our number for each printed cell; Table 4 is exact, settings and prose are quoted."""
    found = published.load(PAPER)
    places = zip(found["exhibit"], found["row"], found["column"], strict=True)
    return [_cell(runs, *place) for place in places]


def _cell(runs: Runs, exhibit: str, row: str, column: str) -> Cell:
    exact = _exact_cells()
    if (exhibit, row, column) in exact:
        return Cell(exhibit, row, column, exact[exhibit, row, column], kind="exact")
    if exhibit != "Table 5":
        ours = exhibit == "text" and column in RESULTS
        return Cell(exhibit, row, column, None, kind="run" if ours else "quoted")
    values, rows, _ = readings.answer(runs, row, column)
    data = {origin.data_name(made) for made in rows}
    return Cell(exhibit, row, column, readings.mean(values), runs[0][0].profile, ", ".join(sorted(data)))


@cache
def _exact_cells() -> dict[tuple[str, str, str], float]:
    """Printed cells that need no run: Table 4's counts, and the savings in the text."""
    found = {("Table 4", *place): float(number) for place, number in table_4.exact_cells().items()}
    saved = {("text", model, "less FLOPS"): 100 * share for model, share in table_4.savings().items()}
    return found | {place: share for place, share in saved.items() if share}
