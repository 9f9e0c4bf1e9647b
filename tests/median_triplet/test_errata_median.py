import json
import math
from fractions import Fraction
from itertools import combinations

import pytest
import torch

from papers_lib.exhibits import published
from papers_lib.median_triplet import disagreements, printed, prior
from papers_lib.median_triplet import errata as wing

READ = {"E10", "E13", "E18", "E23"}
K1, K5, K52 = (f"Top-1 accuracy, k = {k}: Pr(ω|" for k in (1, 5, 52))


def mutate(monkeypatch, changes):
    """Let the paper, or what is quoted beside it, print other numbers."""
    frame = published.load("median_triplet")
    places = list(zip(frame["exhibit"], frame["row"], frame["column"], strict=True))
    for place, value in changes.items():
        frame.loc[places.index(place), "value"] = value
    monkeypatch.setattr(published, "load", lambda paper: frame)


def find(name):
    return next(erratum for erratum in wing.errata() if erratum.name == name)


def test_all_errata_hold_and_most_are_computed():
    errata = wing.errata()
    assert [e.name for e in errata] == [f"E{n}" for n in range(1, 27)]
    assert [e.name for e in errata if e.holds is not True] == []
    assert {e.name for e in errata if not e.computed} == READ
    assert all(e.printed and e.right and e.shown_by and "\n" not in e.shown_by for e in errata)
    json.dumps([e.as_dict() for e in errata])


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
        ("Table 3", "MoCo [21]", "AP Box"): 54.0,
        ("Table 3", "Relative-Loc [10]", "AP Box"): 54.0,
        ("Table 3", "Rotation-Pred [16]", "AP Box"): 54.0,
    },
    "E24": {("SYSU-30k leaderboard", "ResNet-50", "rank-1"): 14.0},
    "E25": {("Table 1", "MoCo v2 [6]", "top-1 acc."): 71.6},
    "E26": {("Table 7", "Top-1 accuracy", "rank-1"): 25.0, ("Table 7", "Top-1 accuracy", "rank-5"): 27.5},
}
BY_CODE = {"E1", "E11", "E12"}  # a loss, a formula, and that nothing is below itself; see below


@pytest.mark.parametrize("name", MUTATIONS)
def test_an_erratum_falls_when_something_else_is_printed(monkeypatch, name):
    mutate(monkeypatch, MUTATIONS[name])
    assert find(name).holds is False


def test_every_computed_erratum_can_fall():
    assert {e.name for e in wing.errata() if e.computed} == set(MUTATIONS) | BY_CODE


def test_a_hinge_with_the_right_sign_would_clear_the_first_erratum(monkeypatch):
    from papers_lib.median_triplet import heads

    real = heads.rank_k_triplet
    monkeypatch.setattr(heads, "rank_k_triplet", lambda *a, **k: real(*a, **{**k, "hinge": "relu"}))
    assert find("E1").holds is False


def test_a_margin_that_cuts_would_clear_the_second_erratum():
    assert wing.same_gradients((6.0, 100.0, None), 52)
    assert not wing.same_gradients((0.3, None), 52)


def test_active_triplets_are_those_of_a_plain_loop():
    count = 0
    for seed in range(wing.BATCHES):
        generator = torch.Generator().manual_seed(seed)
        query, target = (torch.randn(104, 256, generator=generator) for _ in range(2))
        cosine = torch.nn.functional.normalize(query) @ torch.nn.functional.normalize(target).T
        for i, row in enumerate(cosine.tolist()):
            distances = sorted(-c for j, c in enumerate(row) if j != i)
            count += -2 * row[i] - distances[51] > 0.3
    assert 0 < count == wing.active_triplets(0.3, 52)
    assert wing.active_triplets(100.0, 52) == 0


def test_the_temperature_cancels_only_outside_the_exponential():
    outside, inside = ([wing.info_nce(0.6, (0.5, 0.1), tau, x) for tau in (0.1, 0.5)] for x in (False, True))
    assert outside[0] == pytest.approx(outside[1])
    assert inside[0] != pytest.approx(inside[1], rel=0.1)
    assert inside[1] == pytest.approx(math.log(1 + math.exp(-0.2) + math.exp(-1)))


def test_exact_tails_are_those_of_all_outcomes_and_of_the_fast_function():
    for m, classes, k in ((4, 3, 2), (5, 2, 3), (3, 4, 0), (3, 4, 4)):
        chosen = [s for n in range(k, m + 1) for s in combinations(range(m), n)]
        p = Fraction(1, classes)
        each = sum((p ** len(s) * (1 - p) ** (m - len(s)) for s in chosen), Fraction(0))
        assert printed.exact_tail(m, classes, k) == each
    for k in (1, 5, 52):
        assert prior.tail(104, 1e-3, k) == pytest.approx(float(printed.exact_tail(104, 1000, k)), rel=1e-9)


def test_tails_stand_beside_the_printed_ones():
    rows = {(row[0], row[1]): row[2:] for row in printed.tails_table().rows}
    assert len(rows) == 10
    assert rows[104, 52] == ["1.504e-126", "6.53e-121", "4.3e+05"]
    assert rows[104, 5] == ["8.469e-08", "3.03e-94", "2.8e+86"]
    assert rows[103, 52][:2] == ["7.529e-127", None]


def test_table_5_implies_six_numbers_none_of_which_is_pr_b():
    rows = printed.table_5_consistency().rows
    assert [round(row[4], 3) for row in rows] == [0.951, 0.971, 0.949, 0.987, 0.947, 0.472]
    absent = 1.0
    for taken in range(104):
        absent *= 1 - taken / 1000
    assert all(row[7] == pytest.approx(1 - absent) and not row[5] <= row[7] <= row[6] for row in rows)
    assert rows[0][8] == pytest.approx(1 - 0.999**104)


def test_the_range_of_a_ratio_holds_what_the_last_digits_leave_open():
    found = printed.implied(printed.numbers(), 52, 180)
    corners = [(0.0110 + a) / (0.0233 + b) for a in (-5e-5, 5e-5) for b in (-5e-5, 5e-5)]
    assert (found.low, found.high) == (pytest.approx(min(corners)), pytest.approx(max(corners)))
    assert found.value == pytest.approx(110 / 233)


def test_the_smallest_k_is_the_first_below_one_percent():
    table = printed.smallest_k_table()
    rows = {row[0]: row[2:] for row in table.rows}
    assert rows["CIFAR-10, Imagenette"] == [19, 22, 31, 38, 68]
    assert rows["CIFAR-100, ImageNet-100"][:2] == [5, 5] and rows["CIFAR-100, ImageNet-100"][3:] == [8, 12]
    assert rows["SYSU-30k"][:3] == [1, 1, 1]
    for row in table.rows[:-1]:
        for n, k in zip(printed.BATCHES, row[2:], strict=True):
            assert float(printed.exact_tail(n - 1, row[1], k)) < 0.01
            assert k == 1 or float(printed.exact_tail(n - 1, row[1], k - 1)) >= 0.01


def test_random_resolution_halves_a_step_of_byol():
    share = printed.random_resolution(printed.numbers())
    assert (round(share.online, 3), round(share.target, 3), round(share.step, 2)) == (0.538, 0.633, 0.56)
    drawn = torch.randint(96, 225, (200_000,), generator=torch.Generator().manual_seed(0)).double()
    assert (drawn**2).mean().item() / 224**2 == pytest.approx(share.online, rel=0.01)
    assert printed.pixel_share(224, 224) == 1


def test_epochs_in_work():
    assert printed.supervised_epochs("BYOL [19]-1000", 3) == pytest.approx(8)
    assert printed.supervised_epochs("supervised-270", 270) == 270
    work = {row[0]: row[3:] for row in printed.compute_table().rows}
    assert work["median triplet-200"][0] == pytest.approx(480)
    assert work["median triplet-200"][1] == pytest.approx(480 * 0.5616, rel=1e-3)
    assert work["BYOL [19]-200"][1] is None


def test_the_gap_of_box_and_mask_is_smallest_for_the_papers_own_row():
    gaps = printed.box_mask_gaps(printed.numbers())
    assert len(gaps) == 11 and min(gaps, key=gaps.get) == "median triplet"
    assert gaps["median triplet"] == 4.0 and gaps["MoCo [21]"] == 5.4


def test_tables_are_named_as_they_are_and_the_same_bytes_twice():
    once, again = wing.tables(), wing.tables()
    assert list(once) == ["tails", "table_5_consistency", "smallest_k", "compute", "disagreements"]
    assert [table.csv() for table in once.values()] == [table.csv() for table in again.values()]


def test_disagreements_quote_the_numbers_that_are_transcribed():
    value = printed.numbers()
    text = {row[0]: row for row in disagreements.ROWS}
    assert len(text) == len(disagreements.ROWS) == 15
    boxes = [value["Table 2", "median triplet", c] for c in ("AP Box", "AP Mask")]
    assert " / ".join(map(str, boxes)) in text["COCO and VOC"][1]
    read_me = value["wanggrun/triplet, read-me"]["Triplet"]
    assert f"{read_me['COCO AP Box']} / {read_me['COCO AP Mask']}" in text["COCO and VOC"][2]
    sizes = value["wanggrun/triplet, code"]["size of online views"]
    assert f"{sizes['lowest']:.0f}–{sizes['highest']:.0f}" in text["resolution of the views"][2]
