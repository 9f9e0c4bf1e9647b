import re
from itertools import product

import pytest

from papers_lib.exhibits import published

PAPER = "sampler_study"
SETS = ("Market1501", "DukeMTMC", "MSMT17")
METRICS = ("mAP", "R1", "R5", "R10")
SETTINGS = (1, 2, 4, 8, 12, 16, 32)
SWEEPS = {"Table II": "K", "Table III": "K", "Table IV": "N"}
METHODS = [
    *("MMCL [19]", "SpCL [7]", "GCL [23]", "CAP [6]", "Random Sampling"),
    *("Triplet Sampling (1)", "Triplet Sampling (2)", "Group Sampling"),
]


@pytest.fixture(scope="module")
def frame():
    return published.load(PAPER)


@pytest.fixture(scope="module")
def value(frame):
    return frame.set_index(["exhibit", "row", "column"])["value"]


def test_every_table_has_all_its_cells_in_the_papers_order(frame):
    rows = {table: [f"{letter}={n}" for n in SETTINGS] for table, letter in SWEEPS.items()}
    columns = [f"{name} {metric}" for name in SETS for metric in METRICS]
    for table, names in {"Table I": METHODS, **rows}.items():
        part = frame[frame["exhibit"] == table]
        printed = [(row, column) for row in names for column in columns]
        blank = [(row, c) for row, c in printed if row == "SpCL [7]" and c.startswith("Duke")]
        cells = list(zip(part["row"], part["column"], strict=True))
        assert cells == [cell for cell in printed if cell not in blank], table


def test_digits_are_as_printed_and_every_cell_names_its_table(frame):
    tables = frame[frame["exhibit"].str.startswith("Table")]
    assert len(tables) == 92 + 3 * 84
    assert all(re.fullmatch(r"\d?\d\.\d", text) for text in tables["printed"])
    assert set(tables["unit"]) == {"%"}
    assert all(row.source.endswith(f", {row.exhibit}") for row in tables.itertuples())


def test_recall_rises_with_rank_and_stays_above_map_in_every_row(value):
    for table in ("Table I", *SWEEPS):
        for row, name in product(value[table].index.unique(0), SETS):
            if (row, name) != ("SpCL [7]", "DukeMTMC"):
                four = [value[table, row, f"{name} {metric}"] for metric in METRICS]
                assert four == sorted(four), (table, row, name)


def test_the_best_settings_are_those_of_the_text(value):
    text = value["text"]["optimal K"]
    duke_and_market = {text[f"Market1501 and DukeMTMC, {which}"] for which in ("one", "other")}
    msmt17 = {text[f"MSMT17, {which}"] for which in ("one", "other")}
    column = {(t, name): value[t].xs(f"{name} mAP", level=1) for t, name in product(SWEEPS, SETS)}
    best = {place: int(numbers.idxmax()[2:]) for place, numbers in column.items()}
    for table in ("Table II", "Table III"):
        assert {best[table, "Market1501"], best[table, "DukeMTMC"]} <= duke_and_market == {8, 12}
    assert {best["Table II", "MSMT17"], best["Table III", "MSMT17"]} == msmt17 == {4, 8}
    assert [best["Table IV", name] for name in SETS] == [16, 12, 8]


def test_table_1_prints_rows_of_the_other_tables(value):
    sources = {
        "Triplet Sampling (1)": ("Table II", ("K=8", "K=8", "K=8")),
        "Triplet Sampling (2)": ("Table III", ("K=8", "K=8", "K=4")),
        "Group Sampling": ("Table IV", ("N=16", "N=16", "N=8")),
    }
    for row, (table, settings) in sources.items():
        for (name, setting), metric in product(zip(SETS, settings, strict=True), METRICS):
            cell = f"{name} {metric}"
            assert value["Table I", row, cell] == value[table, setting, cell], (row, cell)


def test_settings_of_the_text(value):
    text = value["text"]
    assert (text["temperature", "value"], text["maximum distance", "value"]) == (0.09, 0.5)
    assert [*text["K"]] == [*text["N"]] == list(SETTINGS)
    batch, iterations = text["batch size", "value"], text["iterations per epoch", "value"]
    assert batch * iterations == text["samples per epoch", "value"] == 12_800
    assert [text["cameras", name] for name in SETS] == [6, 8, 15]


def test_numbers_of_others_say_how_they_were_read(frame):
    own = frame["exhibit"].str.startswith("Table") | (frame["exhibit"] == "text")
    assert frame.loc[~own, "source"].str.contains("secondary source").all()
    assert frame.loc[own, "source"].str.startswith("Cao et al. 2024").all()
