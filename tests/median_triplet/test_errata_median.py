"""What the paper prints, and what is wrong with it: transcribed whole; an erratum falls with its numbers."""

import itertools
import math
from fractions import Fraction

import pytest
import torch
from planted import reprint

from papers_lib.median_triplet import heads
from papers_lib.median_triplet.study import STUDY, errata, printed

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
    "lightly, CIFAR-10": (12, None),
    "solo-learn, CIFAR-10": (16, None),
}
K1, K5, K52 = (f"Top-1 accuracy, k = {k}: Pr(ω|" for k in (1, 5, 52))


@pytest.fixture(scope="module")
def value():
    return printed.numbers()


# -- transcriptions --


@pytest.mark.parametrize("table", TABLES)
def test_tables_are_whole_and_their_columns_add_up(table):
    part = STUDY.published.query("exhibit == @table")
    rows, sums = TABLES[table]
    assert part["row"].nunique() == rows
    if sums:
        assert len(part) == rows * len(sums)
        assert {c: round(x["value"].sum(), 4) for c, x in part.groupby("column", sort=False)} == sums


def test_digits_are_as_printed_and_every_cell_names_its_place():
    frame = STUDY.published
    patterns = {"Table 5": r"0\.\d{4}", "Table [23467]": r"\d\d\.\d", "Table 1": r"\d+\.\d|\d+"}
    for name, pattern in patterns.items():
        part = frame[frame["exhibit"].str.fullmatch(name)]
        assert part["printed"].str.fullmatch(pattern).all(), name
    own, others = (frame[frame["exhibit"].isin(OWN) == inside] for inside in (True, False))
    assert own["source"].str.startswith("Wang et al. 2021, ").all()
    tables = own["exhibit"].str.startswith("Table")
    assert all(row.source.endswith(f", {row.exhibit}") for row in own[tables].itertuples())
    assert own.loc[~tables, "source"].str.contains("Section").all()
    # numbers of others stand apart and name a public source
    assert not others["source"].str.startswith("Wang").any()
    assert others["source"].str.contains("/|et al").all()


def test_tables_and_text_agree_where_the_paper_repeats_a_number(value):
    text, one, five = value["text"], value["Table 1"], value["Table 5"]
    assert text["ours", "top-1 acc."] == one["median triplet-600", "top-1 acc."] == 75.9
    assert text["BYOL", "top-1 acc."] == one["BYOL [19]-1000", "top-1 acc."] == 74.3
    assert text["supervised-270", "top-1 acc."] == one["supervised-270", "top-1 acc."] == 78.4
    assert text["ours, SYSU-30k", "rank-1"] == value["Table 4", "median triplet", "rank-1"] == 14.8
    assert text["BYOL, SYSU-30k", "rank-1"] == value["Table 4", "BYOL [19]", "rank-1"] == 12.7
    for k, row in ((52, K52), (5, K5)):
        assert text[f"rank-{k}, epoch 180", "probability"] == five[f"{row}A)", "epoch 180"]
    assert text["Pr, m = 104, k = 52", "value"] == 6.53e-121
    assert text["Pr, m = 104, k = 5", "value"] == 3.03e-94
    for row in (K1, K5, K52):
        assert all(five[f"{row}A)", f"epoch {n}"] < five[f"{row}B)", f"epoch {n}"] for n in (0, 180))
    assert value["lightly, CIFAR-10"]["BYOL", "kNN, batch 128, 200 epochs"] == 0.869
    assert value["lightly, CIFAR-10"]["BYOL", "runtime, batch 128, 200 epochs"] == 121.9


def test_detection_rows_of_the_paper_are_the_zoos_rounded_but_for_moco_v2(value):
    names = {"Random": "Random", "supervised": "supervised-100", "SimCLR": "SimCLR [5]", "MoCo": "MoCo [21]"}
    names |= {"Relative-Loc": "Relative-Loc [10]", "Rotation-Pred": "Rotation-Pred [16]", "NPID": "NPID [44]"}
    columns = {"COCO": ("Table 2", ("AP Box", "AP Mask")), "VOC": ("Table 3", ("AP50 Box", "AP75 Box"))}
    zoo = value["OpenSelfSup zoo"]
    for data, (table, metrics) in columns.items():
        for metric in metrics:
            for name, row in names.items():
                assert zoo[name, f"{data} {metric}"] == pytest.approx(value[table, row, metric], abs=0.0501)
            later = pytest.approx(value[table, "MoCo v2 [6]", metric], abs=0.0501)
            assert zoo["MoCo v2", f"{data} {metric}"] != later


# -- errata --

MUTATIONS = {
    "E2": {("Table 6", "Top-1 accuracy", "C = 1.2"): 30.1},
    "E3": {("Table 6", "Top-1 accuracy", "C = 1.2"): 30.0},
    "E4": {("text", "Pr, m = 104, k = 5", "value"): 8.47e-8},
    "E5": {("settings", "m", "value"): 103},
    "E6": {("Table 5", f"{K1}A)", "epoch 0"): 0.1612},
    "E7": {("Table 5", f"{K52}A)", "epoch 0"): 0.0987},
    "E8": {("Table 5", f"{K5}A)", "epoch 180"): 0.0105},
    "E9": {("text", "rank-5, epoch 180", "probability"): 1.4e-6},
    "E14": {("Table 1", "median triplet-600", "train epochs"): 600},
    "E15": {("Table 1", "ODC [46]", "top-1 acc."): 57.7},
    "E16": {("Table 1", "SimCLR [5]", "top-1 acc."): 61.9, ("Table 1", "MoCo [21]", "top-1 acc."): 60.6},
    "E17": {("text", "supervised, goal line", "top-1 acc."): 76.3},
    "E19": {("wanggrun/triplet, code", "linear evaluation, learning rate", "value"): 30},
    "E20": {("wanggrun/triplet, code", "size of online views", "lowest"): 224},
    "E21": {("Table 2", "median triplet", "AP Box"): 42.1},
    "E22": {
        ("Table 3", row, "AP Box"): 54.0 for row in ("MoCo [21]", "Relative-Loc [10]", "Rotation-Pred [16]")
    },
    "E24": {("SYSU-30k leaderboard", "ResNet-50", "rank-1"): 14.0},
    "E25": {("Table 1", "MoCo v2 [6]", "top-1 acc."): 71.6},
    "E26": {("Table 7", "Top-1 accuracy", "rank-1"): 25.0, ("Table 7", "Top-1 accuracy", "rank-5"): 27.5},
}
BY_CODE = {"E1", "E11", "E12"}  # a loss, a formula, and that nothing is below itself; see below


def test_every_computed_erratum_can_fall():
    assert [e.name for e in STUDY.errata()] == [f"E{n}" for n in range(1, 27)]
    assert errata.CHECKS.keys() == MUTATIONS.keys() | BY_CODE


@pytest.mark.parametrize("name", MUTATIONS)
def test_an_erratum_falls_when_something_else_is_printed(monkeypatch, name):
    reprint(monkeypatch, "median_triplet", MUTATIONS[name])
    assert not errata.CHECKS[name](printed.numbers())[1]


def test_a_hinge_with_the_right_sign_would_clear_the_first_erratum(monkeypatch, value):
    real = heads.rank_k_triplet
    monkeypatch.setattr(heads, "rank_k_triplet", lambda *a, **k: real(*a, **{**k, "hinge": "relu"}))
    assert not errata.CHECKS["E1"](value)[1]


def test_margins_that_never_cut_leave_the_same_gradients():
    assert errata.same_gradients((6.0, 100.0, None), 52)
    assert not errata.same_gradients((0.3, None), 52)


def test_active_triplets_are_those_of_a_plain_loop():
    count = 0
    for seed in range(errata.BATCHES):
        generator = torch.Generator().manual_seed(seed)
        query, target = (torch.randn(104, 256, generator=generator) for _ in range(2))
        cosine = torch.nn.functional.normalize(query) @ torch.nn.functional.normalize(target).T
        for i, row in enumerate(cosine.tolist()):
            distances = sorted(-c for j, c in enumerate(row) if j != i)
            count += -2 * row[i] - distances[51] > 0.3
    assert 0 < count == errata.active_triplets(0.3, 52)
    assert errata.active_triplets(100.0, 52) == 0


def test_the_temperature_cancels_only_outside_the_exponential():
    outside, inside = (
        [errata.info_nce(0.6, (0.5, 0.1), tau, x) for tau in (0.1, 0.5)] for x in (False, True)
    )
    assert outside[0] == pytest.approx(outside[1])
    assert inside[0] != pytest.approx(inside[1], rel=0.1)
    assert inside[1] == pytest.approx(math.log(1 + math.exp(-0.2) + math.exp(-1)))


# -- arithmetic on printed numbers --


def test_tails_are_exact_and_stand_beside_the_printed_ones():
    for m, classes, k in ((4, 3, 2), (5, 2, 3), (3, 4, 0), (3, 4, 4)):
        batches = itertools.product(range(classes), repeat=m)
        most = sum(batch.count(0) >= k for batch in batches)
        assert printed.exact_tail(m, classes, k) == Fraction(most, classes**m)
    rows = {(row[0], row[1]): row[2:] for row in printed.tails_table().rows}
    assert len(rows) == 10
    assert rows[104, 52] == ["1.504e-126", "6.53e-121", "4.3e+05"]
    assert rows[104, 5] == ["8.469e-08", "3.03e-94", "2.8e+86"]
    assert rows[103, 52][:2] == ["7.529e-127", None]


def test_table_5_implies_six_numbers_none_of_which_is_pr_b(value):
    rows = printed.table_5_consistency().rows
    assert [round(row[4], 3) for row in rows] == [0.951, 0.971, 0.949, 0.987, 0.947, 0.472]
    absent = math.prod(1 - taken / 1000 for taken in range(104))
    assert all(row[7] == pytest.approx(1 - absent) and not row[5] <= row[7] <= row[6] for row in rows)
    assert rows[0][8] == pytest.approx(1 - 0.999**104)
    ratio = printed.implied(value, 52, 180)
    corners = [(0.0110 + a) / (0.0233 + b) for a in (-5e-5, 5e-5) for b in (-5e-5, 5e-5)]
    assert (ratio.low, ratio.high) == (pytest.approx(min(corners)), pytest.approx(max(corners)))


def test_the_smallest_k_is_the_first_below_one_percent():
    table = printed.smallest_k_table()
    rows = {row[0]: row[2:] for row in table.rows}
    assert rows["CIFAR-10, Imagenette"] == [19, 22, 31, 38, 68]
    assert rows["SYSU-30k"][:3] == [1, 1, 1]
    for row in table.rows[:-1]:
        for n, k in zip(printed.BATCHES, row[2:], strict=True):
            assert float(printed.exact_tail(n - 1, row[1], k)) < 0.01
            assert k == 1 or float(printed.exact_tail(n - 1, row[1], k - 1)) >= 0.01


def test_random_resolution_halves_a_step_of_byol_and_epochs_are_not_work(value):
    share = printed.random_resolution(value)
    assert (round(share.online, 3), round(share.target, 3), round(share.step, 2)) == (0.538, 0.633, 0.56)
    drawn = torch.randint(96, 225, (200_000,), generator=torch.Generator().manual_seed(0)).double()
    assert (drawn**2).mean().item() / 224**2 == pytest.approx(share.online, rel=0.01)
    assert printed.supervised_epochs("BYOL [19]-1000", 3) == pytest.approx(8)
    work = {row[0]: row[3:] for row in printed.compute_table().rows}
    assert work["supervised-270"][0] == 270
    assert work["median triplet-200"] == pytest.approx([480, 480 * 0.5616], rel=1e-3)
    assert work["BYOL [19]-200"][1] is None


def test_the_gap_of_box_and_mask_is_smallest_for_the_papers_own_row(value):
    gaps = errata.box_mask_gaps(value)
    assert len(gaps) == 11 and min(gaps, key=gaps.get) == "median triplet"
    assert gaps["median triplet"] == 4.0 and gaps["MoCo [21]"] == 5.4


def test_disagreements_quote_the_numbers_that_are_transcribed(value):
    text = {row[0]: row for row in printed.disagreements_table(STUDY.folder).rows}
    assert len(text) == 15
    boxes = [value["Table 2", "median triplet", c] for c in ("AP Box", "AP Mask")]
    assert " / ".join(map(str, boxes)) in text["COCO and VOC"][1]
    read_me = value["wanggrun/triplet, read-me"]["Triplet"]
    assert f"{read_me['COCO AP Box']} / {read_me['COCO AP Mask']}" in text["COCO and VOC"][2]
    sizes = value["wanggrun/triplet, code"]["size of online views"]
    assert f"{sizes['lowest']:.0f}–{sizes['highest']:.0f}" in text["resolution of the views"][2]
