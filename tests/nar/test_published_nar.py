import math
import re

import pytest

from papers_lib.exhibits import published
from papers_lib.nar.study import printed

OWN = {"Table 4", "Table 5", "text", "settings"}


@pytest.fixture(scope="module")
def frame():
    return published.load("nar")


@pytest.fixture(scope="module")
def value():
    return printed.numbers()


def test_tables_are_whole_and_their_columns_add_up(frame):
    five = frame[frame["exhibit"] == "Table 5"]
    sums = {column: round(part["value"].sum(), 2) for column, part in five.groupby("column", sort=False)}
    assert sums == {"CIFAR-10": 280.89, "ImageNet Top-1": 207.99, "ImageNet Top-5": 267.00}
    four = frame[frame["exhibit"] == "Table 4"]
    rows = four.groupby("row", sort=False).size().to_dict()
    assert rows == {"ResNet-18": 9, "ResNet-18-8": 9, "ResNet-18-16": 17}
    entries = four[four["column"].str.startswith("Architecture")]
    sums = entries.groupby("row", sort=False)["value"].sum().to_dict()
    assert sums == {"ResNet-18": 0, "ResNet-18-8": 1, "ResNet-18-16": 6}


def test_digits_are_as_printed_and_every_cell_names_its_place(frame):
    assert frame[frame["exhibit"] == "Table 5"]["printed"].str.fullmatch(r"\d\d\.\d\d").all()
    four = frame[frame["exhibit"] == "Table 4"]
    counts = four[~four["column"].str.startswith("Architecture")]
    assert list(counts["printed"]) == ["1.17e7", "1.76e9", "1.16e7", "1.57e9", "0.92e7", "1.41e9"]
    own = frame[frame["exhibit"].isin(OWN)]
    assert own["source"].str.startswith("Jiang, Zhao, Pang 2019, ").all()
    assert own["source"].str.contains(r"v1 or v2\), (?:Table|Section) \d").all()


def test_what_our_text_lacks_has_no_number(frame):
    assert not set(frame["exhibit"]) & {"Table 1", "Table 2", "Table 3"}
    assert list(printed.NOT_IN_OUR_TEXT)[:3] == ["Table 1", "Table 2", "Table 3"]
    rows = printed.not_in_our_text_table().rows
    assert {row[2] for row in rows} == {"not in our text"}
    assert not any(re.search(r"\d", row[1]) for row in rows[1:])


def test_text_and_tables_agree_where_the_paper_repeats_itself(value):
    for model in ("ResNet-18-8", "ResNet-18-16"):
        cells = value["Table 4"][model]
        replaced = sum(x != 0 for name, x in cells.items() if name.startswith("Architecture"))
        assert replaced == value["text", model, "operators replaced"]
        flops = [value["Table 4", row, "FLOPS"] for row in ("ResNet-18", model)]
        assert round(100 * (1 - flops[1] / flops[0])) == value["text", model, "less FLOPS"]
    proxy = value["settings"]["proxy task"]
    assert proxy["identities"] * proxy["images per identity"] == proxy["images"]
    assert proxy["training images per identity"] + proxy["validation images per identity"] == 40
    cifar = value["settings"]["CIFAR-10"]
    assert cifar["training images"] + cifar["test images"] == cifar["images"]


def test_numbers_of_others_stand_apart_and_name_a_public_source(frame):
    others = frame[~frame["exhibit"].isin(OWN)]
    assert not others["source"].str.startswith("Jiang").any()
    assert others["source"].str.contains("/|et al").all()


def test_test_sets_have_the_sizes_that_the_paper_states(value):
    images = {"CIFAR-10": 10_000, "ImageNet Top-1": 50_000, "ImageNet Top-5": 50_000}
    pairs = {"LFW": 6000, "CFP-FP": 7000, "AgeDB-30": 6000}
    assert printed.sizes_of_tests(value) == images | pairs


def test_gains_and_their_standard_errors(value):
    found = {(gain.model, gain.data): gain for gain in printed.gains(value)}
    assert len(found) == 9
    expected = {
        ("ResNet-18-8", "CIFAR-10"): (0.26, 26, 0.75),
        ("ResNet-18-16", "CIFAR-10"): (0.25, 25, 0.72),
        ("ResNet-18-8", "ImageNet Top-1"): (0.03, 15, 0.10),
        ("ResNet-18-16", "ImageNet Top-1"): (-0.21, -105, -0.72),
        ("NAR, LResNet50E-IR", "LFW"): (0.07, 4, 0.72),
        ("NAR, LResNet50E-IR", "CFP-FP"): (0.07, 5, 0.27),
        ("NAR, LResNet50E-IR", "AgeDB-30"): (0.27, 16, 0.87),
    }
    for key, (points, items, z) in expected.items():
        gain = found[key]
        assert (gain.points, round(gain.gained), round(gain.z, 2)) == (points, items, z)
    by_hand = 100 * math.sqrt(0.9372 * 0.0628 / 10_000 + 0.9346 * 0.0654 / 10_000)
    assert found["ResNet-18-8", "CIFAR-10"].error == pytest.approx(by_hand)


def test_multiples_are_those_of_a_plain_search():
    for percent, items in ((96.86, 6000), (97.13, 6000), (97.54, 7000), (50.0, 10)):
        text = f"{percent:.2f}"
        rounded = [k for k in range(items + 1) if f"{100 * k / items:.2f}" == text]
        truncated = [k for k in range(items + 1) if math.floor(10_000 * k / items) == round(100 * percent)]
        assert printed.multiples(percent, items) == (rounded, truncated)
    assert printed.multiples(96.86, 6000) == ([], [5812])


def test_mean_depth_is_a_half_by_chance():
    assert printed.mean_depth((1, 0, 0, 2)) == 0.5
    assert printed.mean_depth((0, 0, 3)) == 1
    assert printed.mean_depth((1, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 2, 0)) == pytest.approx(25 / 4 / 15)
