"""The page on scaling: its arithmetic is done again."""

from pathlib import Path

import pytest

from benchmarks import scaling

PAGE = Path(__file__).parents[1] / "docs" / "scaling.md"


def test_the_tables_of_the_page_are_the_models():
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    first = lines.index(scaling.model([0] * len(scaling.runs()))[0])
    rows = lines[first + 2 : first + 2 + len(scaling.runs())]
    counts = [int(row.split(" | ")[7]) for row in rows]  # of the plans, when the page was written
    assert lines[first : first + 2 + len(rows)] == scaling.model(counts)
    first = lines.index(scaling.neighbours()[0])
    assert lines[first : first + len(scaling.neighbours())] == scaling.neighbours()


def test_the_model_by_hand():
    median, market, *_ = scaling.runs()
    # 1,281,167 images, two views, four passes, 200 epochs, 2 · 4.089 GMAC, at 62.4 TFLOP/s
    assert median.hours() == pytest.approx(1_281_167 * 8 * 200 * 2 * 4.089e9 / 62.4e12 / 3600)
    # 400 steps of 32, thrice, and 12,936 features; half a square of 256 instead of one of 224 pixels
    assert market.passes == 51_336 and market.macs == pytest.approx(4.089e9 * 32_768 / 50_176)


def test_a_plan_is_never_over_before_one_of_its_runs():
    row = scaling.model([1] * len(scaling.runs()))[2].split(" | ")
    assert row[6] == row[-1].removesuffix(" |") == "75"


def test_the_plans_hold_every_training_of_the_model():
    assert all(count > 0 for count in scaling.planned())


@pytest.mark.parametrize("name", scaling.PATHS)
def test_every_path_can_be_measured(name):
    make, sizes = scaling.PATHS[name]
    assert scaling.seconds(make(sizes[0] // 8), repeats=1) > 0
