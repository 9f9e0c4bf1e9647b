"""The page on scaling: its arithmetic is done again."""

from pathlib import Path

import pytest

from benchmarks import scaling

PAGE = Path(__file__).parents[1] / "docs" / "scaling.md"


def test_the_tables_of_the_page_are_the_models():
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    for table in (scaling.model(scaling.planned()), scaling.neighbours()):
        first = lines.index(table[0])
        assert lines[first : first + len(table)] == table


def test_the_model_by_hand():
    median, market, *_ = scaling.runs()
    # 1,281,167 images, two views, four passes, 200 epochs, 2 · 4.089 GMAC, at 62.4 TFLOP/s
    assert median.hours() == pytest.approx(1_281_167 * 8 * 200 * 2 * 4.089e9 / 62.4e12 / 3600)
    # 400 steps of 32, thrice, and 12,936 features; half a square of 256 instead of one of 224 pixels
    assert market.passes == 51_336 and market.macs == pytest.approx(4.089e9 * 32_768 / 50_176)


def test_a_plan_is_never_over_before_one_of_its_runs():
    row = scaling.model([[1.0, 2.0]] * len(scaling.runs()))[2].split(" | ")
    assert row[6:] == ["75", "2", "224", "149", "149 |"]


def test_a_sampler_that_draws_more_images_is_a_longer_run():
    market = scaling.runs()[1]
    lengths = scaling.planned()[1]
    # P = 8, K = 32 at thrice the iterations: 24 times the images, and the features of all once
    longest = (24 * 400 * 32 * 3 + 12_936) / market.passes
    assert max(lengths) == pytest.approx(longest) and min(lengths) < 1


@pytest.mark.parametrize("name", scaling.PATHS)
def test_every_path_can_be_measured(name):
    make, sizes = scaling.PATHS[name]
    assert scaling.seconds(make(sizes[0] // 8), repeats=1) > 0
