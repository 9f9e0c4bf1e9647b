"""The paper's two figures, the second one under the reader's hands, and curves that it does not show."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

import pandas as pd

from papers_lib.exhibits.curves import curves
from papers_lib.exhibits.figure import Figure
from papers_lib.study import Results

if TYPE_CHECKING:
    from torch import Tensor

    from papers_lib.quadruplet_cars196.selection import Method
    from papers_lib.quadruplet_cars196.study import Cars

BOXES = (  # of Figure 1: text, place, kind
    ("$X^R$ reference", 0.0, 3, "input"),
    ("$X^{P^+}$ same model", 0.0, 2, "input"),
    ("$X^{P^-}$ same type", 0.0, 1, "input"),
    ("$X^N$ other type", 0.0, 0, "input"),
    ("backbone\n(ResNet101)", 1.0, 1.5, "shared"),
    ("FC 1024\nembedding", 2.0, 1.5, "shared"),
    ("coarse and fine head\nEq. 4, on $X^R$", 3.15, 2.8, "loss"),
    ("joint loss\nEq. 5, per quadruplet", 3.15, 1.5, "loss"),
    ("global loss\nEq. 3, per batch", 3.15, 0.2, "loss"),
)
METHODS: tuple[Method, ...] = ("method_1", "method_2")
ROLES = {  # how they are written, and where, in points from their image
    "R": ("$R$", (7, -15)),
    "P+": ("$P^+$", (-22, -15)),
    "P−": ("$P^-$", (-20, 7)),
    "N": ("$N$", (7, 7)),
}
RECALL = "Recall@1, %"
BY_RATE = ("random", "method_2", "ce", "ce_all", "n_pairs", "clustering")
SHOWN = ("random", "method_1", "method_2", "ce", "ce_all", "nearest_sibling")


def figures(study: Cars, results: Results) -> dict[str, Figure]:
    """Every figure by name."""
    every = (framework(), selections(), recall_by_epoch(study, results), by_rate(study, results))
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
        size=(6.4, 2.7),
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
    from papers_lib.quadruplet_cars196.selection import select

    points, fine, coarse = toy()
    chosen = {
        method: select(points, fine, coarse, method=method, anchors=[0]).quadruplets[0].tolist()
        for method in METHODS
    }
    return _plane("figure_2", "Figure 2: the two selections on a plane", chosen)


def plane(radius: float = 1.0, reference: int = 0) -> Figure:
    """Figure 2 with a sphere of `radius` times D_RN about another reference: what both methods take then."""
    chosen = {method: choose(radius, reference, method) for method in METHODS}
    return _plane(
        "plane", f"Figure 2, the sphere {radius:g} times D(R, N) about image {reference}", chosen, radius
    )


def toy() -> tuple[Tensor, Tensor, Tensor]:
    """Points [36, 2] of six models of three types on a plane, their models [36] and their types [36]."""
    import torch

    # a draw in which both methods differ, without fallbacks
    generator = torch.Generator().manual_seed(278)
    # [6, 2], of the six models
    centres = torch.tensor([[0.0, 0.0], [1.6, 0.6], [-1.5, 1.2], [0.6, -1.7], [-1.6, -1.4], [2.2, -1.5]])
    # [6, 1, 2] + [6, 6, 2] → [36, 2]
    points = (centres[:, None] + 0.85 * torch.randn(6, 6, 2, generator=generator)).flatten(0, 1)
    points[0] = 0  # R, in the middle of the picture
    fine = torch.arange(6).repeat_interleave(6)
    coarse = torch.tensor([0, 0, 0, 1, 1, 2]).repeat_interleave(6)  # types of three, two and one models
    return points, fine, coarse


def choose(radius: float, reference: int, method: Method) -> list[int]:
    """R, P+, P− and N on the plane: the rule of `select`, where the sphere has `radius` times D_RN.

    At 1 it is the paper's rule; at 0 every image is outside; where all are inside, the furthest is taken.
    """
    import torch

    points, fine, coarse = toy()
    to_r = (points - points[reference]).norm(dim=1)  # D_Rx [36]
    negative = int(torch.where(coarse != coarse[reference], to_r, torch.inf).argmin())
    seen_from = reference if method == "method_2" else negative
    far = (points - points[seen_from]).norm(dim=1)
    positives = fine == fine[reference]
    positives[reference] = False
    chosen = [reference]
    for of_role in (positives, (coarse == coarse[reference]) & (fine != fine[reference])):
        outside = of_role & (to_r > radius * to_r[negative])
        nearest = torch.where(outside, far, torch.inf).argmin()
        furthest = torch.where(of_role, to_r, -torch.inf).argmax()
        chosen.append(int(nearest if outside.any() else furthest))
    return [*chosen, negative]


def _plane(name: str, title: str, chosen: Mapping[Method, list[int]], radius: float = 1.0) -> Figure:
    points, fine, coarse = toy()
    x, y = points.T.tolist()
    parts = []
    for method, members in chosen.items():
        roles = [""] * len(points)
        for role, index in zip(("R", "P+", "P−", "N"), members, strict=True):
            roles[index] = role
        labels = {"fine": fine.tolist(), "coarse": coarse.tolist(), "role": roles}
        parts.append(pd.DataFrame({"method": method, "x": x, "y": y, **labels, "radius": radius}))
    return Figure(
        name,
        title,
        "Two panels with the same points; shape is the model, colour the type. The nearest point of another "
        f"type, N, fixes a circle of {radius:g} times its distance about the reference R. Method 1 picks the "
        "positives outside the circle that lie closest to N, Method 2 those closest to R.",
        pd.concat(parts, ignore_index=True),
        _draw_plane,
        size=(6.6, 4.0),
    )


def _draw_plane(canvas: Any, data: pd.DataFrame) -> None:
    from matplotlib.patches import Circle
    from matplotlib.patheffects import withStroke

    # by Okabe and Ito: apart for colour-blind readers, too
    colours, shapes = ["#0072B2", "#D55E00", "#009E73"], "os^Dvp"
    panels = canvas.subplots(1, 2, sharey=True)
    for axes, (method, points) in zip(panels, data.groupby("method"), strict=True):
        for (fine, coarse), group in points.groupby(["fine", "coarse"]):
            label = f"model {fine + 1}, type {'ABC'[coarse]}"
            style = {"marker": shapes[fine], "color": colours[coarse], "label": label}
            axes.scatter(group["x"], group["y"], s=28, alpha=0.75, **style)
        chosen = points[points["role"] != ""].set_index("role")[["x", "y"]]  # role → x, y
        # outside of it lie the candidates
        radius = points["radius"].iloc[0] * ((chosen.loc["N"] - chosen.loc["R"]) ** 2).sum() ** 0.5
        axes.add_patch(Circle(tuple(chosen.loc["R"]), radius, fill=False, linestyle="--", color="#555555"))
        for role, (x, y) in zip(chosen.index, chosen.to_numpy(), strict=True):
            axes.scatter([x], [y], s=150, facecolors="none", edgecolors="black", linewidths=1.4)
            text, beside = ROLES[role]
            name = axes.annotate(text, (x, y), beside, textcoords="offset points", size=10)
            name.set_path_effects([withStroke(linewidth=3, foreground="white")])  # over other points
        axes.set(title=method.replace("_", " ").capitalize(), aspect="equal", xticks=[], yticks=[])
        axes.set(xlim=_room(points["x"]), ylim=_room(points["y"]))
    canvas.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=7)


def _room(values: pd.Series) -> tuple[float, float]:
    """The ends of an axis that has the values and some room, whatever circle is drawn."""
    return values.min() - 0.5, values.max() + 0.5


def recall_by_epoch(study: Cars, results: Results) -> Figure:
    """R@1 on unseen classes after every epoch: the mean over seeds, with its interval."""
    starts = {seed: row.metrics for seed, row in results.rows("start").items()}  # epoch 0
    rows = results.by_epoch(SHOWN, ["R@1"], 100, starts)
    data = pd.DataFrame(rows, columns=["arm", "seed", "epoch", "R@1"])
    labels = {arm.name: arm.label for arm in study.arms.values()}

    def draw(canvas: Any, data: pd.DataFrame) -> None:
        axes = canvas.add_subplot()
        colours = {labels[arm]: f"C{number}" for number, arm in enumerate(data["arm"].unique())}
        data = data.assign(arm=[labels[arm] for arm in data["arm"]])
        curves(axes, data, "epoch", "R@1", "arm", colours, band=True)
        axes.set(xlabel="epoch", ylabel=RECALL)
        axes.xaxis.get_major_locator().set_params(integer=True)  # no half epochs
        canvas.legend(*axes.get_legend_handles_labels(), loc="outside right center")

    return study.figure(
        results,
        "recall_by_epoch",
        "Recall@1 on car models never seen in training, by epoch",
        "Lines of Recall@1 over the epochs of training, one colour per method: the mean over seeds, in a "
        "band that is its 95 % interval.",
        data,
        draw,
        size=(7.2, 3.0),
    )


def by_rate(study: Cars, results: Results) -> Figure:
    """R@1 on training classes held out, over the grid of rates, and for the mean instead of the sum."""
    rows = [
        (study.arms[name].label, reduction, seed, rate, recall)
        for name in BY_RATE
        for reduction, arm in (("sum", f"rate_{name}"), ("mean", f"rate_{name}_mean"))
        for rate in study.grid(results)
        for seed, recall in results.values(f"{arm} {rate:g}", "history.-1.R@1 %").items()
    ]
    data = pd.DataFrame(rows, columns=["arm", "reduction", "seed", "rate", "R@1"])

    def draw(canvas: Any, data: pd.DataFrame) -> None:
        panels = canvas.subplots(1, 2, sharey=True)
        colours = {label: f"C{number}" for number, label in enumerate(data["arm"].unique())}
        for axes, reduction in zip(panels, ("sum", "mean"), strict=True):
            part = data[data["reduction"] == reduction]
            curves(axes, part, "rate", "R@1", "arm", colours, band=True)
            axes.set(title=f"{reduction} over the batch", xlabel="rate", ylabel=RECALL, xscale="log")
        canvas.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", fontsize=7)

    return study.figure(
        results,
        "by_rate",
        "Recall@1 on training classes held out, by learning rate",
        "Two panels of lines over the learning rate, one colour per method: the mean over seeds, with its "
        "95 % interval. Left the losses as printed, a sum over the batch; right their mean, at the rate "
        "times the batch size. Most lines rise and fall, each with its top at another rate.",
        data,
        draw,
        size=(7.2, 3.0),
    )
