"""Figures 1 to 3 of the paper, the last two by the real selection code, and curves that it does not show."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from papers_lib.exhibits.figure import Figure
from papers_lib.exhibits.intervals import t_interval
from papers_lib.median_triplet.study import tables
from papers_lib.study import Results, difference

if TYPE_CHECKING:
    from papers_lib.median_triplet.study import Median

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
CURVES = ("median", "prior", "byol", "byol_x2", "hardest", "smoothed", "simclr", "supervised")


def figures(study: Median, results: Results) -> dict[str, Figure]:
    """Every figure by name."""
    every = (
        figure_1(study, results),
        figure_2(),
        figure_3(),
        by_epoch(study, results),
        false_negatives(study, results),
        effective_rank(study, results),
        accuracy_by_rank(study, results),
    )
    return {figure.name: figure for figure in every}


def figure_1(study: Median, results: Results) -> Figure:
    """Figure 1: accuracy by epochs, the published points left, our means over seeds right."""
    table_1 = study.published.query("exhibit == 'Table 1'")
    table = table_1.pivot(index="row", columns="column", values="value")
    points: list[list[Any]] = [
        ["paper", str(row), entry["train epochs"], entry["top-1 acc."], None, None]
        for row, entry in table.iterrows()
    ]
    for arm in study.arms.values():
        rows = results.rows(arm.name)
        # the methods of Table 1, and no other rank, margin or number of classes
        if not rows or not (arm.more["table_1"] or arm.changes["method"] == "supervised"):
            continue
        ends = t_interval(list(results.values(arm.name, "linear %").values()))
        epochs = float(next(iter(rows.values())).settings["epochs"])  # alike for all seeds
        points.append(["ours", arm.name, epochs, ends.mean, ends.low, ends.high])
    return study.figure(
        results,
        "figure_1",
        "Figure 1: linear accuracy by epochs of training",
        "Two panels of points, linear accuracy over training epochs: the published points of Table 1 left, "
        "our means with their 95 % intervals right, the median triplet and BYOL marked by colour. In the "
        "paper the triplet's later point lies above all self-supervised ones.",
        pd.DataFrame(points, columns=["of", "method", "epochs", "accuracy", "low", "high"]),
        _draw_figure_1,
        size=(5.8, 2.3),
    )


def _draw_figure_1(canvas: Any, data: pd.DataFrame) -> None:
    for axes, of in zip(canvas.subplots(1, 2), ("paper", "ours"), strict=True):
        panel = data[data["of"] == of]
        kinds = panel["method"].str.lower()
        groups = (
            # the triplet last, on top of the others
            ("other", ~kinds.str.contains("median|byol|supervised"), COLOURS[7]),
            ("BYOL", kinds.str.contains("byol"), COLOURS[0]),
            ("supervised", kinds.str.contains("supervised"), COLOURS[2]),
            ("median triplet", kinds.str.contains("median"), COLOURS[1]),
        )
        for label, chosen, colour in groups:
            part = panel[chosen]
            axes.vlines(part["epochs"], part["low"], part["high"], color=colour, linewidth=1)
            axes.scatter(part["epochs"], part["accuracy"], color=colour, label=label, s=22)
        axes.set(title=of, xlabel="epochs", ylabel="linear accuracy, %")
    canvas.legend(*axes.get_legend_handles_labels(), loc="outside right center")


def figure_2() -> Figure:
    """Figure 2: what each negative makes of 104 free vectors, on their two main directions."""
    from papers_lib.median_triplet.toy import COMPUTED

    return Figure(
        "figure_2",
        "Figure 2, computed: 104 free vectors, each an image, under five choices of negative",
        "Five panels of 104 points, the vectors projected on their two main directions. With k = 1 each "
        "vector stays alone; the larger k, the fewer the clumps; at k = n/2 they lie in three.",
        pd.read_csv(COMPUTED),
        _draw_figure_2,
        size=(7.2, 2.1),
    )


def _draw_figure_2(canvas: Any, data: pd.DataFrame) -> None:
    groups = list(data.groupby("negative", sort=False))
    for axes, (name, part) in zip(canvas.subplots(1, len(groups)), groups, strict=True):
        axes.scatter(part["x"], part["y"], s=8, color=COLOURS[0], alpha=0.6)
        rank, clumps = part["rank"].iloc[0], int(part["clumps"].iloc[0])
        title = str(name).replace("k = ", "$k$ = ").replace("n/", "$n$/")
        axes.set(title=title, xlim=(-1.1, 1.1), ylim=(-1.1, 1.1), xticks=[], yticks=[], aspect="equal")
        axes.set_xlabel(f"{clumps} clumps\neffective rank {rank:.1f}", size=8)


def toy_batch(n: int = 24, classes: int = 4, seed: int = 3) -> pd.DataFrame:
    """Unit vectors of a plane in `classes` clumps: angle, class, and the negatives of query 0 by rank."""
    import torch

    from papers_lib.median_triplet.heads import selected

    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(n) % classes
    # one clump per class, of deviation 0.28 rad
    angle = label * (2 * torch.pi / classes) + 0.28 * torch.randn(n, generator=generator)
    points = torch.stack((angle.cos(), angle.sin()), 1)
    roles = [""] * n
    for name, k in (("k = 1", 1), ("k = 5", 5), ("k = n/2", None)):
        roles[int(selected(points, points, k)[0])] = name
    roles[0] = "query"
    x, y = points.T.tolist()
    return pd.DataFrame({"x": x, "y": y, "class": label.tolist(), "role": roles})


def figure_3() -> Figure:
    """Figure 3: in a batch of four classes, which image each rank takes as the negative of one query."""
    return Figure(
        "figure_3",
        "Figure 3, computed: each rank's negative",
        "24 points on a circle in four clumps of one class each. The hardest negative of the query, and "
        "that of rank 5, lie in its own clump: they are of its class; the median lies in another.",
        toy_batch(),
        _draw_figure_3,
        size=(4.4, 2.7),
    )


def _draw_figure_3(canvas: Any, data: pd.DataFrame) -> None:
    axes = canvas.add_subplot()
    for label, part in data.groupby("class"):
        number = int(str(label))
        axes.scatter(part["x"], part["y"], color=COLOURS[number], s=36, label=f"class {number + 1}")
    line = {"arrowstyle": "-", "linewidth": 0.6}
    marked = data[data["role"] != ""]
    marked = marked.assign(angle=np.arctan2(marked["y"], marked["x"]))
    for _, part in marked.groupby("class"):
        # names of near points stand apart from each other, outside of the circle
        turns = part["angle"].mean() + 0.3 * (np.arange(len(part)) - (len(part) - 1) / 2)
        for row, turn in zip(part.sort_values("angle").itertuples(), turns, strict=True):
            place = (1.4 * np.cos(turn), 1.4 * np.sin(turn))
            name = str(row.role).replace("k", "$k$").replace("n/2", "$n$/2")
            axes.annotate(name, (row.x, row.y), place, ha="center", va="center", size=8, arrowprops=line)
    axes.set(xlim=(-1.4, 1.75), ylim=(-1.3, 1.5), xticks=[], yticks=[], aspect="equal")
    canvas.legend(*axes.get_legend_handles_labels(), loc="outside right center")


def by_epoch(study: Median, results: Results) -> Figure:
    """kNN accuracy over the epochs: efficiency as a curve, where the paper has one point per method."""
    return _curves(
        study,
        results,
        "by_epoch",
        "kNN accuracy by epoch",
        "kNN accuracy, %",
        "Lines of kNN accuracy over the epochs, a colour per method: means over seeds, with their 95 % "
        "intervals at the last epoch.",
        "knn",
        CURVES,
    )


def false_negatives(study: Median, results: Results) -> Figure:
    """The share of queries whose rank-k negative is of their class, by epoch, each in its own run."""
    return _curves(
        study,
        results,
        "false_negatives_by_epoch",
        "False negatives by epoch: queries whose rank-k negative is of their class",
        "share of queries, %",
        "Lines of the share of queries whose chosen negative is of their own class, over the epochs, a "
        "colour per rank: means over seeds, with 95 % intervals at the last epoch.",
        "same_query_own",
        tables.RANKED,
    )


def _curves(
    study: Median,
    results: Results,
    name: str,
    title: str,
    ylabel: str,
    alt: str,
    metric: str,
    arms: Iterable[str],
) -> Figure:
    rows = results.by_epoch(tuple(arms), (metric,), 100)  # in %
    data = pd.DataFrame(rows, columns=["arm", "seed", "epoch", metric]).rename(columns={metric: "value"})
    labels = {arm.name: arm.label for arm in study.arms.values()}
    if not data.empty:
        ends = data[data["epoch"] == data["epoch"].max()].groupby("arm")["value"].mean()
        highest, lowest = labels[str(ends.idxmax())], labels[str(ends.idxmin())]
        alt += f" {highest} ends highest, at {ends.max():.1f} %; {lowest} lowest, at {ends.min():.1f} %."

    def draw(canvas: Any, data: pd.DataFrame) -> None:
        axes = canvas.add_subplot()
        last = data["epoch"].max()
        for i, (arm, part) in enumerate(data.groupby("arm", sort=False)):
            colour, means = COLOURS[i % len(COLOURS)], part.groupby("epoch")["value"].mean()
            ends = t_interval(list(part[part["epoch"] == part["epoch"].max()]["value"]))
            width = 1.5 if ends.n > 1 else 0.6  # one seed has no mean
            axes.plot(means.index, means, color=colour, linewidth=width, label=labels[str(arm)])
            if ends.n > 1:
                # side by side, right of the last epoch
                axes.vlines(last * (1.02 + 0.02 * i), ends.low, ends.high, color=colour, linewidth=1.5)
        axes.set(xlabel="epoch (bars: 95 % intervals at the last)", ylabel=ylabel)
        canvas.legend(*axes.get_legend_handles_labels(), loc="outside right center")

    return study.figure(results, name, title, alt, data, draw, size=(6.4, 2.7))


def effective_rank(study: Median, results: Results) -> Figure:
    """Effective rank of projections and features against the rank k of the negative."""
    rows = [
        {"of": of, "k": tables.rank_of(study, results, arm).k, "seed": seed, "rank": value}
        for of in ("rank_projections", "rank_features")
        for arm in tables.RANKED
        for seed, value in results.values(arm, f"history.-1.{of}").items()
    ]
    data = pd.DataFrame(rows, columns=["of", "k", "seed", "rank"])
    means = data[data["of"] == "rank_projections"].groupby("k")["rank"].mean()
    ends = (
        f" Projections fill {means.iloc[0]:.1f} directions at k = {means.index[0]} and {means.iloc[-1]:.1f} "
        f"at k = {means.index[-1]}, on average."
        if rows
        else ""
    )
    return study.figure(
        results,
        "effective_rank",
        "Effective rank at the last epoch, by the rank k of the negative",
        "Two panels, effective rank over k on a logarithmic axis: projections of a batch left, features of "
        f"the encoder right, a point per seed and a line through the means.{ends}",
        data,
        _draw_rank,
        size=(5.4, 2.2),
    )


def _draw_rank(canvas: Any, data: pd.DataFrame) -> None:
    panels = ("projections", "features")
    for axes, title in zip(canvas.subplots(1, 2), panels, strict=True):
        part = data[data["of"] == f"rank_{title}"]
        axes.scatter(part["k"], part["rank"], color=COLOURS[0], s=10, alpha=0.6, label="seed")
        mean = part.groupby("k")["rank"].mean()
        axes.plot(mean.index, mean, color=COLOURS[0], label="mean")
        axes.set_xscale("log", base=2)  # k from 1 to 96
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.set(title=title, xlabel="rank $k$ of the negative", ylabel="effective rank")
        axes.set_ylim(bottom=0)
    axes.legend(loc="lower left")


def accuracy_by_rank(study: Median, results: Results) -> Figure:
    """kNN accuracy over BYOL's, and the share of false negatives, over rank, a line per number of classes."""
    rows: list[dict[str, float]] = []
    for count in tables.CLASSES:
        for rank in tables.RANKS:
            arm = f"c{count}_{rank}"
            taken = tables.rank_of(study, results, arm)
            over = difference(results.values(arm, "knn %"), results.values(f"c{count}_byol", "knn %"))
            shares = results.values(arm, "history.-1.same_query_own %")
            for seed in sorted(over):
                values = {"over_byol": over[seed], "false_negatives": shares[seed]}
                rows.append({"classes": count, "rank": taken.k / taken.n, "seed": seed} | values)
    return study.figure(
        results,
        "accuracy_by_rank",
        "Class count and rank: gain over BYOL, and false negatives",
        "Two panels over the rank as a share of the batch, a line per number of classes with 95 % intervals: "
        "kNN accuracy above BYOL's of the same seed left, the share of false negatives right.",
        pd.DataFrame(rows, columns=["classes", "rank", "seed", "over_byol", "false_negatives"]),
        _draw_accuracy_by_rank,
        size=(6.0, 2.4),
    )


def _draw_accuracy_by_rank(canvas: Any, data: pd.DataFrame) -> None:
    panels = {"over_byol": "gain of kNN, points", "false_negatives": "false negatives, %"}
    for axes, (column, label) in zip(canvas.subplots(1, 2), panels.items(), strict=True):
        for i, (classes, part) in enumerate(data.groupby("classes")):
            groups = part.groupby("rank")[column]
            intervals = [t_interval(list(values)) for _, values in groups]
            means = [interval.mean for interval in intervals]
            # one seed alone has no interval to draw
            half = [i.high - i.mean if i.n > 1 else 0.0 for i in intervals]
            # side by side, so that intervals do not hide each other
            places = [float(str(share)) + 0.008 * i for share in groups.groups]
            axes.errorbar(places, means, half, color=COLOURS[i], marker="o", label=f"{classes} classes")
        axes.set(xlabel="rank of the negative, $k/n$", ylabel=label)
    axes.set_ylim(bottom=0)
    canvas.legend(*axes.get_legend_handles_labels(), loc="outside right center")
