"""Lines by seed: thin ones, and a thick mean where there are several."""

import pandas as pd
import pytest
from matplotlib.figure import Figure

from papers_lib.exhibits.curves import THIN, curves, learning

DATA = pd.DataFrame(
    [("a", seed, x, x + seed) for seed in (0, 2) for x in (1, 2)] + [("b", 0, 1, 5.0), ("c", 0, 1, 7.0)],
    columns=["arm", "seed", "x", "y"],
)
COLOURS = {"b": "#ff0000", "a": "#0000ff"}


def test_the_mean_is_thick_and_named_and_each_seed_is_thin():
    axes = Figure().add_subplot()
    curves(axes, DATA, "x", "y", "arm", COLOURS)
    assert axes.get_legend_handles_labels()[1] == ["b", "a"]
    lone, mean, *seeds = axes.get_lines()
    assert lone.get_linewidth() == THIN and lone.get_color() == "#ff0000"
    assert mean.get_linewidth() > THIN and mean.get_ydata().tolist() == [2, 3]
    drawn = sorted(line.get_ydata().tolist() for line in seeds if len(line.get_ydata()))
    assert drawn == [[1, 2], [3, 4], [5]]
    assert all(line.get_linewidth() == THIN for line in seeds)


@pytest.mark.parametrize("points", [False, True])
def test_nothing_is_drawn_of_nothing(points):
    axes = Figure().add_subplot()
    curves(axes, DATA.head(0), "x", "y", "arm", COLOURS, points)
    assert not axes.get_lines() and not axes.collections


def test_points_are_the_seeds():
    axes = Figure().add_subplot()
    curves(axes, DATA, "x", "y", "arm", {"a": "#0000ff"}, points=True)
    assert len(axes.get_lines()) == 1
    assert sorted(axes.collections[0].get_offsets().tolist()) == [[1, 1], [1, 3], [2, 2], [2, 4]]


def test_a_learning_curve_has_a_point_per_epoch_that_measured():
    runs = {"a": {"history": [{"R@1": 0.1}, {"loss": 2.0}, {"R@1": 0.3}]}, "b": {"history": [{"R@1": 0.2}]}}
    figure = learning(runs, "R@1", "Recall@1")
    assert figure.data.values.tolist() == [["a", 1, 0.1], ["a", 3, 0.3], ["b", 1, 0.2]]
    assert "Recall@1 by epoch of a, b" in figure.alt and figure.png
    assert learning({}, "R@1").data.empty
