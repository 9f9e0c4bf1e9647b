"""Lines over epochs or settings, by seed: what the figures of all papers have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from papers_lib.exhibits.figure import Figure
from papers_lib.exhibits.intervals import t_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

THIN = 0.6  # of a line: seeds stand behind their mean


def curves(
    axes: Axes,
    data: DataFrame,
    x: str,
    y: str,
    by: str,
    colours: Mapping[str, str],
    points: bool = False,
    band: bool = False,
) -> None:
    """A thin line per seed and a thick one their mean, a colour per value of the column `by`.

    A value with one seed alone has its thin line and no mean. With `points` each seed is a dot at each x,
    and the mean is thick whatever its seeds are. With `band` Student's 95 % interval of the mean stands for
    the seeds, where many lines of many seeds would hide each other.

    Args:
        axes: where to draw; its legend's labels are the values of `by`.
        data: one row a point, with the columns `x`, `y`, `by` and `seed`.
        x, y, by: names of columns.
        colours: of each value of `by`, in the order of the legend; values that it lacks are not drawn.
        points, band: see above.
    """
    import seaborn

    data = data[data[by].isin(list(colours))]
    # so that a legend has no names without lines
    shown = [name for name in colours if (data[by] == name).any()]
    if not shown:
        return
    shared: dict[str, Any] = {
        "data": data,
        "x": x,
        "y": y,
        "hue": by,
        "hue_order": shown,
        "palette": [colours[name] for name in shown],
        "ax": axes,
        "legend": False,  # labels are set below, once for both layers
    }
    seaborn.lineplot(**shared, errorbar=None)  # means; intervals stand in tables, by Student's t
    seeds = data.groupby(by)["seed"].nunique()
    # lines come in the order of hue_order
    for name, line in zip(shown, axes.get_lines(), strict=True):
        line.set_label(name)
        # the mean of one seed is that seed
        if seeds[name] == 1 and not points:
            line.set_linewidth(THIN)
    if band:
        for name in (name for name in shown if seeds[name] > 1):
            groups = data[data[by] == name].groupby(x)[y]
            ends = [t_interval(list(values)) for _, values in groups]
            low, high = [end.low for end in ends], [end.high for end in ends]
            axes.fill_between(list(groups.groups), low, high, color=colours[name], alpha=0.15, linewidth=0)
    elif points:
        seaborn.scatterplot(**shared, s=8)
    else:
        seaborn.lineplot(**shared, units="seed", estimator=None, linewidth=THIN, alpha=0.6)


def learning(runs: Mapping[str, Mapping[str, Any]], metric: str, label: str = "") -> Figure:
    """A line per run: what its history has of `metric`, epoch by epoch. For a live cell.

    Args:
        runs: the metrics of each run, by its name, with "history": one dictionary per epoch.
        metric: as the history calls it; an epoch without it is passed over. An entry's "epoch" is which one
            it is, where not all are kept.
        label: of the vertical axis; `metric` by default.
    """
    import pandas as pd
    from matplotlib.ticker import MaxNLocator

    points = [
        [name, int(of_epoch.get("epoch", number)), of_epoch[metric]]
        for name, metrics in runs.items()
        for number, of_epoch in enumerate(metrics["history"], 1)
        if metric in of_epoch
    ]
    data = pd.DataFrame(points, columns=["run", "epoch", metric])

    def draw(canvas: Any, data: DataFrame) -> None:
        axes = canvas.add_subplot()
        for name, line in data.groupby("run", sort=False):
            axes.plot(line["epoch"], line[metric], marker="o", label=name)
        axes.set(xlabel="epoch", ylabel=label or metric)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))  # whole epochs, as many as fit
        axes.legend()

    alt = f"{label or metric} by epoch of {', '.join(runs)}, trained by this cell."
    return Figure("learning", "Trained by this cell", alt, data, draw, size=(5.0, 2.6))
