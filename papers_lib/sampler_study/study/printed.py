"""The paper's printed numbers as functions of K, N and data set, and what they say among themselves."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pandas as pd

from papers_lib.exhibits import published
from papers_lib.exhibits.table import Cell, Table

PAPER = "sampler_study"
SETS = ("Market1501", "DukeMTMC", "MSMT17")
METRICS = ("mAP", "R1", "R5", "R10")
SWEEPS = {
    "Table II": "Triplet Sampling (1)",
    "Table III": "Triplet Sampling (2)",
    "Table IV": "Group Sampling",
}
TRIPLET = ("Table II", "Table III")


def visited(k: int, classes: int, samples: int = 12_800) -> float:
    """Share of `classes` that an epoch of `samples` images visits with `k` images per class.

    min(1, samples / (k · classes)), as each pass over the list has one group of k a class; samples is
    32 · 400 (Section IV-D).
    """
    return min(1.0, samples / (k * classes))


def visited_table(
    market: int = 710, msmt17: int = 1000, market_proxies: int = 3411, msmt17_proxies: int = 10_077
) -> Table:
    """The share of clusters and of proxies visited in an epoch beside the printed mAP, by K.

    The defaults: Market-1501's clusters as in Cluster-Contrast's public log; the number of the paper's
    text for MSMT17; 600 and 1,000 clusters seen by 6 and 15 cameras for the proxies.
    """
    value = numbers()
    cases = [
        ("Table II", "Market1501", "clusters", market),
        ("Table II", "MSMT17", "clusters", msmt17),
        ("Table III", "Market1501", "proxies", market_proxies),
        ("Table III", "MSMT17", "proxies", msmt17_proxies),
    ]
    samples = samples_an_epoch(value)
    rows: list[list[Cell]] = [[k] for k in by_setting(value, "Table II", "MSMT17")]
    columns = ["K"]
    for table, name, kind, classes in cases:
        mean_ap = by_setting(value, table, name)
        columns += [f"{name}: {classes:,} {kind} visited", f"{table} mAP, {name}"]
        for row in rows:
            k = int(str(row[0]))
            row += [100 * visited(k, classes, samples), mean_ap[k]]
    return Table(
        "visited",
        "Clusters and proxies visited in an epoch, and the printed mAP, %",
        columns,
        rows,
        decimals=1,
        footer=f"min(1, {samples:,} / (K · classes)); published numbers alone; how many classes there were "
        "the paper does not say",
    )


def table_1_corrected() -> Table:
    """Table I's rows of the three samplers again, as the best of Tables II–IV by mAP and by R1."""
    value = numbers()
    rows: list[list[Cell]] = []
    for table, row in SWEEPS.items():
        for name in SETS:
            source = source_row(value, table, name) or None
            best, first = (best_setting(value, table, name, metric) for metric in ("mAP", "R1"))
            printed = four(value, "Table I", row, name)[:2]
            by_map, by_r1 = four(value, table, best, name)[:2], four(value, table, first, name)[1]
            rows.append([row, name, *printed, source, best, *by_map, first, by_r1])
    columns = ["sampler", "data set", "mAP as printed", "R1 as printed", "printed row is"]
    columns += ["best by mAP", "mAP", "R1", "best by R1", "highest R1"]
    whole = Table(
        "table_1_corrected",
        "Table I, recomputed from Tables II–IV, %",
        columns,
        rows,
        decimals=1,
        footer="published numbers alone; the best of seven settings on the test set is optimistic",
    )
    others = [row for row in rows if row[4] != row[5]]  # the printed row is not the best
    notes = [
        f"The other {len(rows) - len(others)} of {len(rows)} rows print the setting that is best by mAP."
    ]
    return replace(whole, face=replace(whole, rows=others, notes=notes))


def duplicates_table() -> Table:
    """Every two settings of Tables II–IV that print the same mAP and R1 on one data set."""
    value = numbers()
    rows: list[list[Cell]] = [
        [name, *(f"{table} {row}" for table, row in pair), ", ".join(same), ", ".join(other) or None]
        for name, pair, same, other in repeats(value)
    ]
    columns = ["data set", "one", "other", "equal", "different"]
    footer = f"{len(SETS) * 210} pairs compared; published numbers alone"
    return Table("duplicates", "Settings that print the same numbers", columns, rows, footer=footer)


def numbers() -> pd.Series:
    """Every printed number by exhibit, row and column."""
    return published.by_place(published.load(PAPER))


def by_setting(value: pd.Series, table: str, name: str, metric: str = "mAP") -> dict[int, float]:
    """Setting (K or N) -> number, in the table's order."""
    return {int(row[2:]): float(x) for row, x in value[table].xs(f"{name} {metric}", level=1).items()}


def best_setting(value: pd.Series, table: str, name: str, metric: str = "mAP") -> str:
    """The row of `table` with the highest number, as printed (`K=8`)."""
    return str(value[table].xs(f"{name} {metric}", level=1).idxmax())


def four(value: pd.Series, table: str, row: str, name: str) -> tuple[float, ...]:
    """mAP, R1, R5 and R10 of a row on one data set."""
    return tuple(float(value[table, row, f"{name} {metric}"]) for metric in METRICS)


def source_row(value: pd.Series, table: str, name: str) -> str:
    """The setting whose four numbers Table I prints."""
    printed = four(value, "Table I", SWEEPS[table], name)
    rows = value[table].index.unique(0)
    return next((row for row in rows if four(value, table, row, name) == printed), "")


def samples_an_epoch(value: pd.Series) -> int:
    """Images that an epoch draws: batch size times iterations (Section IV-D)."""
    return int(value["text", "samples per epoch", "value"])


def repeats(value: pd.Series) -> list[tuple[str, list[tuple[str, str]], list[str], list[str]]]:
    """Data set, the two (table, row), the metrics that are equal and those that are not."""
    places = [(table, row) for table in SWEEPS for row in value[table].index.unique(0)]
    twins = []
    for name in SETS:
        for one, other in combinations(places, 2):
            both = zip(METRICS, four(value, *one, name), four(value, *other, name), strict=True)
            same = [metric for metric, a, b in both if a == b]
            if same[:2] == ["mAP", "R1"]:
                twins.append((name, [one, other], same, [m for m in METRICS if m not in same]))
    return twins
