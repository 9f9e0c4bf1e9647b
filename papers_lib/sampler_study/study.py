"""The doors of this wing: what the notebook and the command line call.

`Runs` pairs each planned run with its ledger row, or with None where it has not been run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from papers_lib.exhibits import provenance as origin
from papers_lib.exhibits import published
from papers_lib.exhibits.claims import Claim, Erratum
from papers_lib.exhibits.coverage import Cell
from papers_lib.exhibits.figure import Figure
from papers_lib.exhibits.provenance import Provenance
from papers_lib.exhibits.table import Line, Table, comparison
from papers_lib.runs import progress
from papers_lib.runs.spec import RunSpec
from papers_lib.runs.store import needed_weights
from papers_lib.sampler_study import claims as claims_of_paper
from papers_lib.sampler_study import controls, drawings, readings
from papers_lib.sampler_study import errata as errata_of_paper
from papers_lib.sampler_study.arms import GRID_VALUES, SAMPLERS, arm_name
from papers_lib.sampler_study.plan import PAPER, Settings, plan
from papers_lib.sampler_study.readings import COLUMNS, METRICS, Runs

__all__ = ["Settings", "cells", "claims", "errata", "figures", "plan", "run", "tables"]

# The rows of Table I: what is printed, and the arm that answers it; None where the paper's number is
# another paper's and no run of ours can stand beside it.
ROWS_1 = {
    "MMCL [19]": "mmcl",
    "SpCL [7]": "spcl",
    "GCL [23]": None,
    "CAP [6]": "cap",
    "Random Sampling": "random",
    "Triplet Sampling (1)": "triplet_cluster",
    "Triplet Sampling (2)": "triplet_proxy",
    "Group Sampling": "group_cluster",
}

# Each table in two parts, mAP and ranks, since all its lines together are more than a reader takes in.
HALVES = {"": METRICS[:1], "_ranks": METRICS[1:]}


def provenance(runs: Runs) -> Provenance:
    """Footer and badge of everything made from `runs`."""
    rows = readings.made(runs)
    found = origin.provenance(rows, runs[0][0].profile)
    same = bool(rows) and all(origin.comparable([row], name) for row in rows for name in [row.data.name])
    return Provenance(found.text, found.badge if not same else "", same)


def run(spec: RunSpec) -> dict[str, Any]:
    """Train and evaluate what `spec` says, in the folder that the store gave it."""
    from papers_lib.sampler_study.options import TrainSettings
    from papers_lib.sampler_study.training import train

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
    """Tables I–IV beside ours, what the paper's arithmetic says, and the controls that it lacks."""
    return {
        **{f"table_1{name}": table_1(runs, name, metrics) for name, metrics in HALVES.items()},
        **{
            f"table_{number}{name}": table_by_setting(runs, number, method, name, metrics)
            for number, method in enumerate(SAMPLERS, 2)
            for name, metrics in HALVES.items()
        },
        **controls.tables(runs, provenance(runs)),
        **errata_of_paper.tables(),
    }


def table_1(runs: Runs, half: str = "", metrics: Sequence[str] = HALVES[""]) -> Table:
    """Table I: eight rows, three camera networks; a line a printed number."""
    made = provenance(runs)
    printed = _printed("Table I")
    lines = []
    for network, column in COLUMNS.items():
        for metric in metrics:
            for row in ROWS_1:
                if (text := printed.get((row, f"{column} {metric}"))) is None:
                    continue
                arm = _arm_of_row(runs, network, row)
                values = readings.percent(runs, network, arm, metric) if arm else {}
                # A number of another paper at its own settings is never ours to compare with.
                same = made.comparable and row not in list(ROWS_1)[:4]
                lines.append(Line((column, metric, _row_label(row, arm)), text, values, same))
    return comparison(
        f"table_1{half}", "Table I: samplers and earlier work, %", ("data set", "metric", "method"), lines,
        made.badge, made.text,
        notes=(
            "Best setting of each sampler by mean mAP on the test set, as in the paper: optimistic.",
            "GCL is quoted only; our MMCL has no CamStyle images, which the published number needs.",
            f"Start of our runs: {readings.starts(runs)}.",
        ), decimals=1,
    )  # fmt: skip


def _arm_of_row(runs: Runs, network: str, row: str) -> str | None:
    name = ROWS_1[row]
    return readings.best_setting(runs, network, name) if name in SAMPLERS else name


def _row_label(row: str, arm: str | None) -> str:
    if arm is None or arm.rpartition("_")[0] not in SAMPLERS:
        return row
    method, _, k = arm.rpartition("_")
    return f"{row}, our best {SAMPLERS[method][1]} = {k}"


def table_by_setting(
    runs: Runs, number: int, method: str, half: str = "", metrics: Sequence[str] = HALVES[""]
) -> Table:
    """Table II, III or IV: seven settings, three camera networks; a line a printed number."""
    made = provenance(runs)
    label, symbol, exhibit = SAMPLERS[method]
    printed = _printed(exhibit)
    lines = [
        Line(
            (column, metric, f"{symbol} = {k}"),
            printed[f"{symbol}={k}", f"{column} {metric}"],
            readings.percent(runs, network, arm_name(method, k), metric),
            made.comparable,
        )
        for network, column in COLUMNS.items()
        for metric in metrics
        for k in GRID_VALUES
    ]
    return comparison(
        f"table_{number}{half}", f"{exhibit}: {label.lower()}, by {symbol}, %",
        ("data set", "metric", symbol), lines, made.badge, made.text, decimals=1,
    )  # fmt: skip


def figures(runs: Runs) -> dict[str, Figure]:
    """Figure 1 of the paper by the real samplers, and the curves that it does not show."""
    made = provenance(runs)
    return {
        "figure_1": drawings.samplers(),
        "by_setting": drawings.by_setting(runs, made),
        "by_epoch": drawings.by_epoch(runs, made),
        "classes": drawings.classes(runs, made),
    }


def claims(runs: Runs) -> list[Claim]:
    """The paper's claims C1–C16, each with the verdict of our runs."""
    return claims_of_paper.claims(runs)


def errata() -> list[Erratum]:
    """What is wrong or missing in the paper, shown by code where it can be."""
    return errata_of_paper.errata()


def cells(runs: Runs) -> list[Cell]:
    """For `coverage`: our number for each printed cell; quoted rows and settings are not ours to make."""
    printed = published.load(PAPER)
    found = []
    for place in zip(printed["exhibit"], printed["row"], printed["column"], strict=True):
        found.append(_cell(runs, *place))
    return found


def _cell(runs: Runs, exhibit: str, row: str, column: str) -> Cell:
    methods = {table: method for method, (_, _, table) in SAMPLERS.items()}
    if exhibit not in ("Table I", *methods) or ROWS_1.get(row, "") is None:
        return Cell(exhibit, row, column, None, kind="quoted")
    name, _, metric = column.rpartition(" ")
    network = next(network for network, printed in COLUMNS.items() if printed == name)
    k = row.partition("=")[2]
    arm = _arm_of_row(runs, network, row) if exhibit == "Table I" else f"{methods[exhibit]}_{k}"
    assert arm is not None
    values = readings.percent(runs, network, arm, metric)
    rows = readings.rows_of(runs, network, arm).values()
    data = {origin.data_name(row) for row in rows}
    value = readings.mean(values)
    return Cell(exhibit, row, column, value, runs[0][0].profile, ", ".join(sorted(data)))


def _printed(exhibit: str) -> dict[tuple[str, str], str]:
    found = published.load(PAPER).query("exhibit == @exhibit")
    places = zip(found["row"], found["column"], strict=True)
    return dict(zip(places, found["printed"], strict=True))
