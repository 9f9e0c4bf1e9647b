"""The tables that the paper lacks: what explains the K sweep, and how much of it is noise."""

from __future__ import annotations

from papers_lib.exhibits.provenance import Provenance
from papers_lib.exhibits.table import NOT_RUN, Cell, Table
from papers_lib.sampler_study import readings
from papers_lib.sampler_study.arms import ARMS, GRID, MANY_VALUES, NOISY, RIVALS
from papers_lib.sampler_study.plan import MANY_DATA, NETWORKS, identical
from papers_lib.sampler_study.readings import COLUMNS, LOGGED, Runs

HELD = (
    "run", "mAP", "R1", "clusters a batch", "different images", "purity, %", "counterpart", "Δ mAP",
    "95 % interval", "n", "greater than counterpart",
)  # fmt: skip
TITLES = {
    "fixed_p": "K at a fixed number of classes, P = 4",
    "batch_norm": "Batch normalisation frozen, or kept out of the memory",
    "loss": "The other choices, one changed at a time",
    "eps": "The same at eps = 0.6",
    "long": "The same for 24 epochs",
}


def tables(runs: Runs, made: Provenance) -> dict[str, Table]:
    """Every table of the controls by name."""
    found = {sweep: _held(runs, made, sweep, title) for sweep, title in TITLES.items()}
    return found | {
        "rows_without_a_sampler": rivals(runs, made),
        "spread": spread(runs, made),
        "diagnosis": diagnosis(runs, made),
        "many": many(runs, made),
    }


def _held(runs: Runs, made: Provenance, sweep: str, title: str) -> Table:
    rows = [
        readings.control_row(runs, _network(runs), arm.name) for arm in ARMS.values() if arm.sweep == sweep
    ]
    note = "Counterpart: the arm of Tables II–IV from which the row differs in what its name says."
    return Table(sweep, f"{title}: mAP on {COLUMNS.get(_network(runs), _network(runs))}, %", list(HELD), rows,
                 made.badge, made.text, (note,), decimals=1)  # fmt: skip


def _network(runs: Runs) -> str:
    """The network that the controls were run on: the first of the plan."""
    names = {spec.data.name for spec, _ in runs}
    return next((name for name in NETWORKS if name in names), sorted(names)[0])


def rivals(runs: Runs, made: Provenance) -> Table:
    """What bounds the samplers: no training, random weights, identity labels; and the earlier methods."""
    rows: list[list[Cell]] = []
    for network, column in COLUMNS.items():
        for arm in RIVALS:
            values = {m: readings.percent(runs, network, arm.name, m) for m in readings.METRICS}
            means = [readings.mean(values[m]) for m in readings.METRICS]
            best = readings.mean(readings.percent(runs, network, arm.name, at="best"))
            shown: list[Cell] = [NOT_RUN if means[0] is None else means[0], *means[1:], best]
            rows.append([column, arm.label, *shown, len(values["mAP"])])
    return Table(
        "rows_without_a_sampler", "Without a sampler, with labels, and earlier methods, %",
        ["data set", "run", *readings.METRICS, "best epoch's mAP", "n"], rows, made.badge, made.text,
        ("The best epoch is chosen on the test set; it is shown beside the last one, and never reported.",),
        decimals=1,
    )  # fmt: skip


def spread(runs: Runs, made: Provenance) -> Table:
    """Random sampling and groups of one are the same distribution: how far apart do runs of it lie?"""
    rows = [readings.spread_row(runs, network, arm) for network in COLUMNS for arm in NOISY]
    return Table(
        "spread", "Run-to-run spread of one distribution, mAP in %",
        ["data set", "sampler", "mean", "95 % interval", "sd", "smallest", "largest", "n"], rows,
        made.badge, made.text,
        ("The two draw from one distribution by separate streams of random numbers.",), decimals=1,
    )  # fmt: skip


def diagnosis(runs: Runs, made: Provenance) -> Table:
    """What a batch of each setting held, and how many clusters an epoch reached: means of the last epoch."""
    network = _network(runs)
    rows = [readings.diagnosis_row(runs, network, arm.name) for arm in GRID]
    words = [text for text, _ in LOGGED.values()]
    return Table(
        "diagnosis", f"What the last epoch held, {COLUMNS.get(network, network)}",
        ["setting", "mAP, %", *words], rows, made.badge, made.text,
        ("Purity and identities were read after training, for this table alone.",), decimals=1,
    )  # fmt: skip


def many(runs: Runs, made: Provenance) -> Table:
    """N up to the largest cluster, on rendered people with at least 128 images each."""
    rows: list[list[Cell]] = []
    for n in MANY_VALUES:
        arm = f"many_{n}"
        row = readings.control_row(runs, MANY_DATA, arm)
        if not readings.rows_of(runs, MANY_DATA, arm) and (twin := _twin(runs, n)):
            row = [row[0], f"as N = {twin}", *[None] * 7, 0, f"identical to N = {twin}, not run"]
        rows.append(row)
    return Table("many", "N up to the largest cluster, %", list(HELD), rows, made.badge, made.text,
                 ("Counterpart: N = 1.",), decimals=1)  # fmt: skip


def _twin(runs: Runs, n: int) -> int | None:
    """The N whose runs had no cluster larger than it, if it is smaller than n."""
    largest = [
        value
        for m in MANY_VALUES
        for value in readings.logged(runs, MANY_DATA, f"many_{m}", "largest_cluster").values()
    ]
    return identical(n, int(max(largest))) if largest else None
