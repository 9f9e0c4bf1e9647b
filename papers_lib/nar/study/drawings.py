"""Figure 1, the whole space of vectors as a picture, and curves that the paper does not show."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pandas as pd

from papers_lib.exhibits.curves import curves
from papers_lib.exhibits.figure import Figure
from papers_lib.nar import bench
from papers_lib.nar.operators import NAMES
from papers_lib.nar.study import bench_tables, exhibits, vectors
from papers_lib.nar.study.printed import skip_ceiling
from papers_lib.study import Results

if TYPE_CHECKING:
    from papers_lib.nar.study import Refinement

BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#888888"
MARKS = {  # named vectors of the picture: label, marker, colour, size; larger ones stand behind smaller ones
    "base": ("untouched", "s", "#000000", 90),
    "paper_8": ("paper's ResNet-18-8", "D", ORANGE, 80),
    "single": ("best single replacement", "^", GREEN, 45),
    "best_random": ("best of blind draws", "v", PINK, 45),
    "optimum": ("best of all, by other images", "*", "#E69F00", 90),
    "pick": ("our pick", "o", BLUE, 28),
}
GREYS = {"1 to 9 vectors": "#DDDDDD", "10 to 99 vectors": "#AAAAAA", "100 vectors or more": "#666666"}
LEVELS = (1, 10, 100, 65537)  # vectors in a square
SKIPS = {  # arms of Figure 1: label, colour
    "skips": ("no penalty, the reward likes skips", BLUE),
    "skips_penalty": ("the same, with ENAS's penalty", GREEN),
    "skips_flat": ("no penalty, skips change nothing", GREY),
}
TOGETHER = 4  # epochs of a point in the picture of operators
SEARCHED = {"search": BLUE, "search_plain": ORANGE}  # with and without PreTrain
TITLES = {"search": "with PreTrain", "search_plain": "without PreTrain", "search_6": "six candidates"}


def figures(study: Refinement, results: Results) -> dict[str, Figure]:
    """Every figure by name."""
    every = (
        figure_1(study, results),
        space(study, results),
        convergence(study, results),
        operators(study, results),
        tau(),
        vectors.architectures(),
        vectors.picks(study, results),
    )
    return {figure.name: figure for figure in every}


def _epochs(results: Results, names: tuple[str, ...]) -> Iterator[tuple[str, int, int, dict[str, Any]]]:
    """Arm, seed, epoch from 1, and what the epoch logged."""
    for name in names:
        for seed, row in sorted(results.rows(name).items()):
            for epoch, entry in enumerate(row.metrics["history"], 1):
                yield name, seed, epoch, entry


def figure_1(study: Refinement, results: Results) -> Figure:
    """Figure 1: the skips' KL over the epochs of a search without constraint, and where the tanh ends it."""
    source = study.provenance(results, tuple(SKIPS))
    rows = [
        (name, seed, epoch, entry["kl"], entry["rate"])
        for name, seed, epoch, entry in _epochs(results, tuple(SKIPS))
    ]
    return exhibits.figure("figure_1", rows, _draw_figure_1, source, ceiling=skip_ceiling(1.5))


def _draw_figure_1(canvas: Any, data: pd.DataFrame) -> None:
    left, right = canvas.subplots(1, 2)
    data = data.assign(reward=[SKIPS[name][0] for name in data["reward"]])
    for axes, column in ((left, "kl"), (right, "rate")):
        curves(axes, data, "epoch", column, "reward", dict(SKIPS.values()))
    left.axhline(skip_ceiling(1.5), color=ORANGE, linestyle="--", label="ceiling of the tanh")
    left.set(xlabel="epoch", ylabel="KL, nats")
    left.set_ylim(bottom=0)  # a KL is never below
    right.set(xlabel="epoch", ylabel="share drawn", ylim=(0, 1))
    canvas.legend(*left.get_legend_handles_labels(), loc="outside right center")


def space(study: Refinement, results: Results) -> Figure:
    """Every vector of the space, as a density: shared accuracy against cost; the path, and who is where."""
    source = study.provenance(results)
    rows: list[tuple[Any, ...]] = []
    for label in ("enumerate", "enumerate_plain"):
        if seeds := results.rows(label):  # one seed: scores of two trainings lie in different bins
            seed = min(seeds)
            metrics = seeds[seed].metrics
            points = [("density", *point) for point in metrics["map"]]
            points += [("front", share, score, 1) for share, score in metrics["front"]]
            points += [("path", share, score, int(epoch)) for epoch, share, score, _ in metrics["path"]]
            for name, vector in metrics["named"].items():
                if name in MARKS:
                    points.append((name, 1 - vector["saving"], vector["score"], 1))
            rows += [(label, seed, *point) for point in points]
    return exhibits.figure("space", rows, _draw_space, source)


def _draw_space(canvas: Any, data: pd.DataFrame) -> None:
    from matplotlib.patches import Patch

    for axes, label in zip(canvas.subplots(1, 2, sharey=True), ("enumerate", "enumerate_plain"), strict=True):
        panel = data[data["weights"] == label].assign(score=lambda part: 100 * part["score"])
        density = panel[panel["what"] == "density"]
        for grey, (low, high) in zip(GREYS.values(), pairwise(LEVELS), strict=True):
            part = density[density["count"].between(low, high, inclusive="left")]
            axes.scatter(part["share"], part["score"], color=grey, s=7, marker="s", antialiased=False)
        lines = {"front": ("best score at each cost", GREEN), "path": ("likeliest vector, by epoch", BLUE)}
        for what, (words, colour) in lines.items():
            line = panel[panel["what"] == what]
            thin = {"color": colour, "linewidth": 0.9, "marker": ".", "markersize": 3, "label": words}
            axes.plot(line["share"], line["score"], **thin)
        for name, (words, marker, colour, size) in MARKS.items():
            point = panel[panel["what"] == name]
            axes.scatter(
                point["share"],
                point["score"],
                marker=marker,
                color=colour,
                s=size,
                label=words,
                edgecolors="white",  # marks stand out from the density
                linewidths=0.6,
                zorder=3,
            )
        axes.set(title=TITLES["search" if label == "enumerate" else "search_plain"])
        axes.set(xlabel="operations, share of the untouched")
    canvas.axes[0].set_ylabel("accuracy, shared weights, %")
    handles, words = canvas.axes[0].get_legend_handles_labels()
    densities = [Patch(color=grey, label=label) for label, grey in GREYS.items()]
    canvas.legend([*densities, *handles], [*GREYS, *words], loc="outside right center", fontsize=7)


def convergence(study: Refinement, results: Results) -> Figure:
    """The controller's entropy and mean reward by epoch."""
    source = study.provenance(results)
    rows = [
        (name, seed, epoch, sum(entry["entropy"]) / len(entry["entropy"]), entry.get("reward", math.nan))
        for name, seed, epoch, entry in _epochs(results, tuple(SEARCHED))
    ]
    colours = {TITLES[name]: colour for name, colour in SEARCHED.items()}

    def draw(canvas: Any, data: pd.DataFrame) -> None:
        data = data.assign(search=[TITLES[name] for name in data["search"]], reward=100 * data["reward"])
        words = {"bits": "entropy, bits", "reward": "reward, %"}
        for axes, column in zip(canvas.subplots(1, 2), words, strict=True):
            curves(axes, data, "epoch", column, "search", colours)
            axes.set(xlabel="epoch", ylabel=words[column])
        canvas.legend(*canvas.axes[0].get_legend_handles_labels(), loc="outside right center")

    return exhibits.figure("convergence", rows, draw, source)


def operators(study: Refinement, results: Results) -> Figure:
    """Which operators trained the shared weights, by epoch: where the choices go, and when."""
    source = study.provenance(results)
    names = tuple(name for name in TITLES if results.rows(name)) or ("search",)
    rows = [
        (name, seed, epoch, code, sum(row[code] for row in entry["shares"]) / len(entry["shares"]))
        for name, seed, epoch, entry in _epochs(results, names)
        for code in range(len(entry["shares"][0]))
    ]
    data = pd.DataFrame(rows, columns=["search", "seed", "epoch", "operator", "share"])
    # a picture of every epoch would be one of their noise
    data["epoch"] = (data["epoch"] - 1) // TOGETHER * TOGETHER + (1 + TOGETHER) / 2

    def draw(canvas: Any, data: pd.DataFrame) -> None:
        panels = canvas.subplots(1, len(names), sharey=True, squeeze=False)[0]
        for axes, name in zip(panels, names, strict=True):
            shares = data[data["search"] == name].pivot(index="operator", columns="epoch", values="share")
            codes = [int(code) for code in shares.index]
            axes.stackplot(
                shares.columns,
                100 * shares.to_numpy(),
                colors=[vectors.COLOURS[code] for code in codes],
                labels=[vectors.WORDS[NAMES[code]] for code in codes],
            )
            axes.set(title=TITLES[name], xlabel="epoch", ylim=(0, 100))
            axes.margins(x=0)
        canvas.axes[0].set_ylabel("share, %")
        legends = [axes.get_legend_handles_labels() for axes in canvas.axes]
        handles, words = max(legends, key=lambda pair: len(pair[0]))
        # from above, as they are stacked
        canvas.legend(handles[::-1], words[::-1], loc="outside right center")

    mean = data.groupby(["search", "epoch", "operator"], as_index=False)["share"].mean()
    return exhibits.figure("operators", mean, draw, source)


def tau() -> Figure:
    """Stand-alone against shared accuracy of the benchmark's sample, in the first draw."""
    known, rows = bench_tables.known(), list[tuple[Any, ...]]()
    replaced, alone = (known.sample != 0).sum(1).tolist(), known.trained.mean(1).tolist()
    for name, draws in known.shared.items():
        shared = draws[0].judge[known.places].tolist()
        rows += [(name, *point) for point in zip(replaced, shared, alone, strict=True)]

    def draw(canvas: Any, data: pd.DataFrame) -> None:
        for axes, name in zip(canvas.subplots(1, 2, sharey=True), bench.WEIGHTS, strict=True):
            part = data[data["weights"] == name]
            few, more = part[part["replaced"] <= 4], part[part["replaced"] > 4]  # as in the table `bench`
            full, empty = {"color": BLUE}, {"facecolors": "none", "edgecolors": BLUE}
            axes.scatter(100 * few["shared"], 100 * few["alone"], s=16, label="up to 4 replaced", **full)
            axes.scatter(100 * more["shared"], 100 * more["alone"], s=16, label="5 to 8 replaced", **empty)
            axes.set(title=bench.WEIGHTS[name], xlabel="accuracy, shared weights, %")
        canvas.axes[0].set_ylabel("accuracy alone, %")
        canvas.legend(*canvas.axes[0].get_legend_handles_labels(), loc="outside right center")

    return exhibits.figure("tau_networks", rows, draw, exhibits.EXACT)
