import re

import pytest

from papers_lib.exhibits import published

PAPER = "median_triplet"
OWN = {*(f"Table {n}" for n in range(1, 8)), "text", "settings"}
# Rows of each table, its columns, and the sum of each column, added up from the paper's own text.
TABLES = {
    "Table 1": (23, {"top-1 acc.": 1453.8, "train epochs": 7750}),
    "Table 2": (11, {"AP Box": 440.0, "AP Mask": 386.2}),
    "Table 3": (11, {"AP50 Box": 869.7, "AP Box": 581.0, "AP75 Box": 636.7}),
    "Table 4": (10, {"rank-1": 176.4}),
    "Table 5": (6, {"epoch 0": 0.8061, "epoch 180": 2.4184}),
    "Table 6": (1, {"C = 0.3": 28.3, "C = 1.2": 29.8, "C = 100": 30.0}),
    "Table 7": (1, {"rank-1": 28.9, "rank-5": 29.5, "rank-52": 30.0}),
}


@pytest.fixture(scope="module")
def frame():
    return published.load(PAPER)


@pytest.fixture(scope="module")
def value(frame):
    return frame.set_index(["exhibit", "row", "column"])["value"]


@pytest.mark.parametrize("table", TABLES)
def test_tables_are_whole_and_their_columns_add_up(frame, table):
    part = frame[frame["exhibit"] == table]
    rows, sums = TABLES[table]
    assert part["row"].nunique() == rows
    assert len(part) == rows * len(sums)
    assert {c: round(x["value"].sum(), 4) for c, x in part.groupby("column", sort=False)} == sums


def test_digits_are_as_printed_and_every_cell_names_its_place(frame):
    for name, pattern in (
        ("Table 5", r"0\.\d{4}"),
        ("Table [23467]", r"\d\d\.\d"),
        ("Table 1", r"\d+\.\d|\d+"),
    ):
        part = frame[frame["exhibit"].str.fullmatch(name)]
        assert part["printed"].str.fullmatch(pattern).all(), name
    own = frame[frame["exhibit"].isin(OWN)]
    assert own["source"].str.startswith("Wang et al. 2021, ").all()
    tables = own[own["exhibit"].str.startswith("Table")]
    assert all(row.source.endswith(f", {row.exhibit}") for row in tables.itertuples())
    assert own.loc[~own["exhibit"].str.startswith("Table"), "source"].str.contains("Section").all()


def test_tables_and_text_agree_where_the_paper_repeats_a_number(value):
    text, one = value["text"], value["Table 1"]
    assert text["ours", "top-1 acc."] == one["median triplet-600", "top-1 acc."] == 75.9
    assert text["BYOL", "top-1 acc."] == one["BYOL [19]-1000", "top-1 acc."] == 74.3
    assert text["supervised-270", "top-1 acc."] == one["supervised-270", "top-1 acc."] == 78.4
    assert text["ours, SYSU-30k", "rank-1"] == value["Table 4", "median triplet", "rank-1"] == 14.8
    assert text["BYOL, SYSU-30k", "rank-1"] == value["Table 4", "BYOL [19]", "rank-1"] == 12.7
    five = value["Table 5"].xs("epoch 180", level=1)
    assert text["rank-52, epoch 180", "probability"] == five["Top-1 accuracy, k = 52: Pr(ω|A)"]
    assert text["rank-5, epoch 180", "probability"] == five["Top-1 accuracy, k = 5: Pr(ω|A)"]
    assert text["Pr, m = 104, k = 52", "value"] == 6.53e-121
    assert text["Pr, m = 104, k = 5", "value"] == 3.03e-94


def test_events_b_are_more_frequent_than_a_and_masks_worse_than_boxes(value):
    for k in (1, 5, 52):
        for epoch in (0, 180):
            a, b = (value["Table 5", f"Top-1 accuracy, k = {k}: Pr(ω|{e})", f"epoch {epoch}"] for e in "AB")
            assert a < b
    two, three = value["Table 2"].unstack(), value["Table 3"].unstack()
    assert (two["AP Box"] > two["AP Mask"]).all()
    assert (three["AP50 Box"] > three["AP75 Box"]).all()


def test_numbers_of_others_stand_apart_and_name_a_public_source(frame):
    others = frame[~frame["exhibit"].isin(OWN)]
    assert not others["source"].str.startswith("Wang").any()
    assert others["source"].str.contains("/|et al").all()
    assert set(others["exhibit"]) == {
        "lightly, CIFAR-10",
        "solo-learn, CIFAR-10",
        "OpenSelfSup zoo",
        "OpenSelfSup, code",
        "wanggrun/triplet, read-me",
        "wanggrun/triplet, code",
        "SYSU-30k leaderboard",
        "MoCo read-me",
        "MoCo v1 paper",
        "MoCo v2 paper",
    }
    assert not any(re.search(r"\s$|^\s", text) for text in frame["printed"])


def test_the_anchors_of_small_data(value):
    lightly = value["lightly, CIFAR-10"]
    assert len(lightly) == 12 * 3 * 3
    assert lightly["BYOL", "kNN, batch 128, 200 epochs"] == 0.869
    assert lightly["BYOL", "runtime, batch 128, 200 epochs"] == 121.9
    assert lightly["SimCLR", "kNN, batch 128, 200 epochs"] == 0.847
    assert lightly["SimCLR", "memory, batch 512, 200 epochs"] == 4.9
    kinds = {
        kind: lightly[lightly.index.get_level_values(1).str.startswith(kind)] for kind in ("kNN", "runtime")
    }
    assert kinds["kNN"].between(0.68, 0.92).all() and kinds["runtime"].between(80, 600).all()
    solo = value["solo-learn, CIFAR-10"]
    assert len(solo) == 16
    assert solo["BYOL", "online Acc@1"] == 92.58


def test_detection_rows_of_the_paper_are_the_zoos_rounded_but_for_moco_v2_and_byol(value):
    names = {"Random": "Random", "supervised": "supervised-100", "SimCLR": "SimCLR [5]", "MoCo": "MoCo [21]"}
    names |= {"Relative-Loc": "Relative-Loc [10]", "Rotation-Pred": "Rotation-Pred [16]", "NPID": "NPID [44]"}
    columns = {
        "COCO": ("Table 2", ("AP Box", "AP Mask")),
        "VOC": ("Table 3", ("AP50 Box", "AP Box", "AP75 Box")),
    }
    zoo = value["OpenSelfSup zoo"]
    for data, (table, metrics) in columns.items():
        for metric in metrics:
            for name, row in names.items():
                assert zoo[name, f"{data} {metric}"] == pytest.approx(value[table, row, metric], abs=0.0501)
            assert zoo["MoCo v2", f"{data} {metric}"] != pytest.approx(
                value[table, "MoCo v2 [6]", metric], abs=0.0501
            )
