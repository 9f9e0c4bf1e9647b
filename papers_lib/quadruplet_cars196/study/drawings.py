"""The paper's two figures and the curves that it does not show."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import TYPE_CHECKING, Any

import pandas as pd

from papers_lib.exhibits.curves import curves
from papers_lib.exhibits.figure import Figure
from papers_lib.study import Arm, Results

if TYPE_CHECKING:
    from papers_lib.quadruplet_cars196.study import Cars

BOXES = (  # of Figure 1: text, place, kind
    ("X^R reference", 0.0, 3, "input"),
    ("X^P+ same model", 0.0, 2, "input"),
    ("X^P− same type", 0.0, 1, "input"),
    ("X^N other type", 0.0, 0, "input"),
    ("backbone\n(ResNet101)", 1.0, 1.5, "shared"),
    ("FC 1024\nembedding", 2.0, 1.5, "shared"),
    ("coarse and fine head\nEq. 4, on X^R", 3.15, 2.8, "loss"),
    ("joint loss\nEq. 5, a quadruplet", 3.15, 1.5, "loss"),
    ("global loss\nEq. 3, a batch", 3.15, 0.2, "loss"),
)
BASELINES = ("semi_hard", "lifted", "n_pairs", "clustering", "triplet_global")
SHOWN = ("random", "method_1", "method_2", "ce", "ce_all", "nearest_sibling")


def figures(study: Cars, results: Results) -> dict[str, Figure]:
    """Every figure by name."""
    every = (
        framework(),
        selections(),
        rates(study, results),
        recall_by_epoch(study, results),
        fallbacks(study, results),
    )
    return {figure.name: figure for figure in every}


def framework() -> Figure:
    """Figure 1: four images, one shared network, three losses."""
    boxes = pd.DataFrame(BOXES, columns=["text", "x", "y", "kind"])
    return Figure(
        "figure_1",
        "Figure 1: the framework",
        "Four images, reference, positive, sibling and negative, pass one weight-shared backbone and a fully "
        "connected layer of 1024; the embedding feeds the joint loss of each quadruplet and the global loss "
        "of the batch, the reference's also a coarse and a fine classifier.",
        boxes,
        _draw_framework,
        size=(6.4, 3.0),
    )


def _draw_framework(canvas: Any, data: pd.DataFrame) -> None:
    axes = canvas.add_subplot()
    axes.set(xlim=(-0.5, 3.75), ylim=(-0.6, 3.6))
    axes.axis("off")
    colours = {"input": "#D3EBF8", "shared": "#F8E2B3", "loss": "#B3DFD2"}
    drawn = {
        row.text: axes.text(
            row.x,
            row.y,
            row.text,
            ha="center",
            va="center",
            size=8,
            zorder=3,
            bbox={"boxstyle": "round,pad=0.4", "facecolor": colours[row.kind], "edgecolor": "#555555"},
        )
        for row in data.itertuples()
    }
    kinds = {kind: list(group["text"]) for kind, group in data.groupby("kind")}
    # images → backbone → embedding → losses
    arrows = [*product(kinds["input"], kinds["shared"][:1]), tuple(kinds["shared"])]
    for start, end in [*arrows, *product(kinds["shared"][1:], kinds["loss"])]:
        a, b = drawn[start], drawn[end]
        shape = {  # from edge to edge of the boxes
            "arrowstyle": "->",
            "color": "#555555",
            "patchA": a.get_bbox_patch(),
            "patchB": b.get_bbox_patch(),
        }
        axes.annotate("", b.get_position(), a.get_position(), arrowprops=shape)


def selections() -> Figure:
    """Figure 2: what Methods 1 and 2 choose on a plane, by the real `select`."""
    data = toy()
    return Figure(
        "figure_2",
        "Figure 2: the two selections on a plane",
        "Two panels with the same points; shape is the model, colour the type. The nearest point of another "
        "type fixes a circle about the reference. Method 1 picks the positives outside the circle that lie "
        "closest to the negative, Method 2 those closest to the reference.",
        data,
        _draw_selections,
        size=(7.2, 3.9),
    )


def toy() -> pd.DataFrame:
    """Points of six models of three types on a plane, and the roles that each method gives them.

    Columns: method, x, y, fine, coarse, role ("R", "P+", "P−", "N" or empty).
    """
    import torch

    from papers_lib.quadruplet_cars196.selection import select

    # a draw in which both methods differ, without fallbacks
    generator = torch.Generator().manual_seed(278)
    # [6, 2], of the six models
    centres = torch.tensor([[0.0, 0.0], [1.6, 0.6], [-1.5, 1.2], [0.6, -1.7], [-1.6, -1.4], [2.2, -1.5]])
    # [6, 1, 2] + [6, 6, 2] → [36, 2]
    points = (centres[:, None] + 0.85 * torch.randn(6, 6, 2, generator=generator)).flatten(0, 1)
    points[0] = 0  # R, in the middle of the picture
    fine = torch.arange(6).repeat_interleave(6)
    coarse = torch.tensor([0, 0, 0, 1, 1, 2]).repeat_interleave(6)  # types of three, two and one models
    parts = []
    for method in ("method_1", "method_2"):
        chosen = select(points, fine, coarse, method=method, anchors=[0]).quadruplets[0]
        roles = [""] * len(points)
        for name, index in zip(("R", "P+", "P−", "N"), chosen.tolist(), strict=True):
            roles[index] = name
        x, y = points.T.tolist()
        labels = {"fine": fine.tolist(), "coarse": coarse.tolist(), "role": roles}
        parts.append(pd.DataFrame({"method": method, "x": x, "y": y, **labels}))
    return pd.concat(parts, ignore_index=True)


def _draw_selections(canvas: Any, data: pd.DataFrame) -> None:
    from matplotlib.patches import Circle

    # by Okabe and Ito: apart for colour-blind readers, too
    colours, shapes = ["#0072B2", "#D55E00", "#009E73"], "os^Dvp"
    panels = canvas.subplots(1, 2, sharey=True)
    for axes, (method, points) in zip(panels, data.groupby("method"), strict=True):
        for (fine, coarse), group in points.groupby(["fine", "coarse"]):
            axes.scatter(group["x"], group["y"], marker=shapes[fine], color=colours[coarse], s=28, alpha=0.75)
        chosen = points[points["role"] != ""].set_index("role")[["x", "y"]]  # role → x, y
        # D_RN: outside of it lie the candidates
        radius = float(((chosen.loc["N"] - chosen.loc["R"]) ** 2).sum() ** 0.5)
        axes.add_patch(Circle(tuple(chosen.loc["R"]), radius, fill=False, linestyle="--", color="#555555"))
        for role, (x, y) in zip(chosen.index, chosen.to_numpy(), strict=True):
            axes.scatter([x], [y], s=150, facecolors="none", edgecolors="black", linewidths=1.4)
            axes.annotate(role, (x, y), (6, 6), textcoords="offset points", weight="bold")
        axes.set(title=method.replace("_", " ").capitalize(), aspect="equal", xticks=[], yticks=[])


def rates(study: Cars, results: Results) -> Figure:
    """How much the learning rate decides: R@1 on held-out training classes over the grid."""
    grid = study.grid(results)

    def panel(arm: Arm) -> str:
        return "other losses" if arm.changes.get("method") in BASELINES else "Eq. 6 and cross-entropy"

    rows = [
        {"arm": arm.label, "rate": rate, "seed": seed, "R@1": value, "panel": panel(arm)}
        for arm in study.arms.values()
        if arm.sweep == "rates"
        for rate in grid
        for seed, value in results.values(f"{arm.name} {rate:g}", "history.-1.R@1 %").items()
    ]
    data = pd.DataFrame(rows, columns=["arm", "rate", "seed", "R@1", "panel"])

    def draw(canvas: Any, data: pd.DataFrame) -> None:
        panels = canvas.subplots(1, 2, sharey=True)
        for axes, name in zip(panels, ("Eq. 6 and cross-entropy", "other losses"), strict=True):
            part = data[data["panel"] == name]
            colours = {arm: f"C{number}" for number, arm in enumerate(part["arm"].unique())}
            curves(axes, part, "rate", "R@1", "arm", colours, points=True)
            axes.set(title=name, xlabel="learning rate, of a sum over the batch", xscale="log")
            if len(part):
                axes.legend(*axes.get_legend_handles_labels(), fontsize=6, loc="lower left")
        panels[0].set_ylabel(NAMES["R@1"])

    made = study.provenance(results)
    return Figure(
        "sensitivity",
        "Recall@1 on training classes held out, by learning rate",
        "Two panels of lines: Recall@1 on held-out training classes over a grid of learning rates, a colour "
        "per method, dots for seeds; the paper's loss and cross-entropy left, the other losses right.",
        data,
        draw,
        made.badge,
        made.text,
        size=(7.6, 4.2),
    )


def recall_by_epoch(study: Cars, results: Results) -> Figure:
    """R@1 on unseen classes after every epoch, each seed a thin line, the mean a thick one."""
    starts = {seed: row.metrics for seed, row in results.rows("start").items()}  # epoch 0
    return _curves(
        study,
        results,
        "recall_by_epoch",
        "Recall@1 on unseen classes by epoch",
        "Lines of Recall@1 over the epochs of training, one colour per method, a thin line per seed and a "
        "thick one their mean.",
        results.by_epoch(SHOWN, ["R@1"], 100, starts),
        ["R@1"],
    )


def fallbacks(study: Cars, results: Results) -> Figure:
    """How often the selection had to fall back inside the sphere, by epoch."""
    values = ["positive_fallback", "sibling_fallback"]
    return _curves(
        study,
        results,
        "fallbacks",
        "Selections by fallback, by epoch",
        "Lines of the share of references whose positive, and whose sibling, was taken from inside the "
        "sphere because none lay outside, over the epochs, one colour per method.",
        # no epoch 0: nothing was chosen yet
        results.by_epoch(("method_1", "method_2", "nearest_sibling"), values, 100, {}),
        values,
    )


def _curves(
    study: Cars,
    results: Results,
    name: str,
    title: str,
    alt: str,
    rows: Iterable[dict[str, float | str]],
    values: list[str],
) -> Figure:
    data = pd.DataFrame(rows, columns=["arm", "seed", "epoch", *values])
    labels = {arm.name: arm.label for arm in study.arms.values()}

    def draw(canvas: Any, data: pd.DataFrame) -> None:
        panels = canvas.subplots(1, len(values), squeeze=False)[0]
        colours = {labels[arm]: f"C{number}" for number, arm in enumerate(data["arm"].unique())}
        data = data.assign(arm=[labels[arm] for arm in data["arm"]])
        for axes, value in zip(panels, values, strict=True):
            curves(axes, data, "epoch", value, "arm", colours)
            axes.set(xlabel="epoch", ylabel=NAMES[value])
            axes.xaxis.get_major_locator().set_params(integer=True)  # no half epochs
            if "fallback" in value:
                axes.set_ylim(bottom=0)  # shares, whose 0 says something
        canvas.legend(*panels[0].get_legend_handles_labels(), loc="outside right center")

    made = study.provenance(results)
    return Figure(name, title, alt, data, draw, made.badge, made.text, size=(7.6, 3.8))


NAMES = {
    "R@1": "Recall@1, %",
    "positive_fallback": "P+ by fallback, %",
    "sibling_fallback": "P− by fallback, %",
}
