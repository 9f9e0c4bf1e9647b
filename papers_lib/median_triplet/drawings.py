"""Figures 1 to 3 of the paper, the last two by the real selection code, and curves that it does not show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from papers_lib.exhibits import published
from papers_lib.exhibits.curves import curves
from papers_lib.exhibits.figure import Figure
from papers_lib.exhibits.provenance import Provenance
from papers_lib.median_triplet import readings
from papers_lib.median_triplet.arms import ARMS, HEADS
from papers_lib.median_triplet.controls import own_rank
from papers_lib.median_triplet.readings import Runs
from papers_lib.median_triplet.toy import COMPUTED

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
CURVES = ("median", "prior", "byol", "byol_x2", "hardest", "smoothed", "simclr", "supervised")


def figures(runs: Runs, made: Provenance) -> dict[str, Figure]:
    """Every figure by name."""
    found = (
        figure_1(runs, made), figure_2(), figure_3(), by_epoch(runs, made), false_negatives(runs, made),
        effective_rank(runs, made),
    )  # fmt: skip
    return {figure.name: figure for figure in found}


def figure_1(runs: Runs, made: Provenance) -> Figure:
    """Figure 1: accuracy by epochs, the published points left, our runs right."""
    printed = published.load("median_triplet").query("exhibit == 'Table 1'")
    table = printed.pivot(index="row", columns="column", values="value")
    points: list[dict[str, Any]] = [
        {"of": "paper", "method": str(row), "epochs": entry["train epochs"], "accuracy": entry["top-1 acc."]}
        for row, entry in table.iterrows()
    ]
    for arm in ARMS.values():
        for row in readings.rows_of(runs, arm.name).values():
            points.append({"of": "ours", "method": arm.name, "epochs": float(row.settings["epochs"]),
                           "accuracy": 100 * float(row.metrics["linear"])})  # fmt: skip
    return Figure(
        "figure_1", "Figure 1: linear accuracy by epochs of training",
        "Two panels of points, linear accuracy over training epochs: the published points of Table 1 left, "
        "every run of ours right, the median triplet and BYOL marked by colour. In the paper the triplet's "
        "two points lie above all self-supervised ones.",
        pd.DataFrame(points, columns=["of", "method", "epochs", "accuracy"]), _draw_figure_1, made.badge,
        made.text, size=(7.6, 3.6),
    )  # fmt: skip


def _draw_figure_1(canvas: Any, data: pd.DataFrame) -> None:
    for axes, of in zip(canvas.subplots(1, 2), ("paper", "ours"), strict=True):
        shown = data[data["of"] == of]
        kinds = shown["method"].str.lower()
        groups = (
            ("other", ~kinds.str.contains("median|byol|supervised"), COLOURS[7]),
            ("BYOL", kinds.str.contains("byol"), COLOURS[0]),
            ("supervised", kinds.str.contains("supervised"), COLOURS[2]),
            ("median triplet", kinds.str.contains("median"), COLOURS[1]),
        )
        for label, chosen, colour in groups:
            part = shown[chosen]
            axes.scatter(part["epochs"], part["accuracy"], color=colour, label=label, s=22)
        axes.set(title=of, xlabel="epochs", ylabel="linear accuracy, %")
    canvas.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)


def figure_2() -> Figure:
    """Figure 2: what each negative makes of 104 free vectors, their Gram matrix in order of nearness."""
    return Figure(
        "figure_2", "Figure 2, computed: 104 free vectors, each an image, under five choices of negative",
        "Five panels of 104 points, the vectors projected on their two main directions. With k = 1 or 5 they "
        "are spread evenly; the larger k, the fewer the clumps; at k = n/2 they lie in three.",
        pd.read_csv(COMPUTED), _draw_figure_2, size=(8.0, 2.4),
    )  # fmt: skip


def _draw_figure_2(canvas: Any, data: pd.DataFrame) -> None:
    groups = list(data.groupby("negative", sort=False))
    for axes, (name, part) in zip(canvas.subplots(1, len(groups)), groups, strict=True):
        axes.scatter(part["x"], part["y"], s=8, color=COLOURS[0], alpha=0.6)
        rank, clumps = part["rank"].iloc[0], int(part["clumps"].iloc[0])
        axes.set(title=f"{name}\nrank {rank:.1f}, {clumps} clumps", xlim=(-1.1, 1.1), ylim=(-1.1, 1.1),
                 xticks=[], yticks=[], aspect="equal")  # fmt: skip


def toy_batch(n: int = 24, classes: int = 4, seed: int = 3) -> pd.DataFrame:
    """Unit vectors of a plane in `classes` clumps: angle, class, and the negatives of query 0 by rank."""
    import torch

    from papers_lib.median_triplet.heads import selected

    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(n) % classes
    angle = label * (2 * torch.pi / classes) + 0.28 * torch.randn(n, generator=generator)
    points = torch.stack((angle.cos(), angle.sin()), 1)
    ranks = (("k = 1", 1), ("k = 5", 5), ("k = n/2", None))
    chosen = {name: int(selected(points, points, k)[0]) for name, k in ranks}
    role = ["" for _ in range(n)]
    for name, index in chosen.items():
        role[index] = name
    role[0] = "query"
    return pd.DataFrame(
        {"x": points[:, 0].tolist(), "y": points[:, 1].tolist(), "class": label.tolist(), "role": role}
    )


def figure_3() -> Figure:
    """Figure 3: in a batch of four classes, which image each rank takes as the negative of one query."""
    return Figure(
        "figure_3", "Figure 3, computed: the negative that each rank takes",
        "24 points on a circle in four clumps of one class each. The hardest negative of the query, and "
        "that of rank 5, lie in its own clump: they are of its class; the median lies in another.",
        toy_batch(), _draw_figure_3, size=(4.4, 3.6),
    )  # fmt: skip


def _draw_figure_3(canvas: Any, data: pd.DataFrame) -> None:
    axes = canvas.add_subplot()
    for label, part in data.groupby("class"):
        axes.scatter(part["x"], part["y"], color=COLOURS[int(str(label))], s=36)
    for row in data[data["role"] != ""].itertuples():
        axes.annotate(str(row.role), (row.x, row.y), (1.25 * row.x, 1.25 * row.y), ha="center", size=8,
                      arrowprops={"arrowstyle": "-", "linewidth": 0.6})  # fmt: skip
    axes.set(xlim=(-1.6, 1.6), ylim=(-1.5, 1.5), xticks=[], yticks=[], aspect="equal")


def by_epoch(runs: Runs, made: Provenance) -> Figure:
    """kNN accuracy over the epochs: efficiency as a curve, where the paper has one point a method."""
    rows = list(readings.by_epoch(runs, CURVES, ("knn",)))
    return _curves(
        "by_epoch", "kNN accuracy by epoch", "kNN accuracy, %",
        "Lines of kNN accuracy over the epochs, a colour a method, a thin line a seed, a thick one the mean.",
        pd.DataFrame(rows, columns=["arm", "seed", "epoch", "knn"]).rename(columns={"knn": "value"}), made,
    )  # fmt: skip


def false_negatives(runs: Runs, made: Provenance) -> Figure:
    """The share of queries whose rank-k negative is of their class, by epoch, each in its own run."""
    arms = [arm.name for arm in HEADS if arm.name != "smoothed"]
    rows = list(readings.by_epoch(runs, arms, ("same_query_own",)))
    data = pd.DataFrame(rows, columns=["arm", "seed", "epoch", "same_query_own"])
    return _curves(
        "false_negatives", "False negatives by epoch: queries whose rank-k negative is of their class",
        "share of queries, %",
        "Lines of the share of queries whose chosen negative is of their own class, over the epochs, a "
        "colour a rank; chance is a tenth.",
        data.rename(columns={"same_query_own": "value"}), made,
    )  # fmt: skip


def _curves(name: str, title: str, ylabel: str, alt: str, data: pd.DataFrame, made: Provenance) -> Figure:
    data = data.assign(value=100 * data["value"].astype(float))

    def draw(canvas: Any, shown: pd.DataFrame) -> None:
        axes = canvas.add_subplot()
        arms = shown["arm"].unique()
        colours = {ARMS[arm].label: COLOURS[n % len(COLOURS)] for n, arm in enumerate(arms)}
        named = shown.assign(arm=[ARMS[arm].label for arm in shown["arm"]])
        curves(axes, named, "epoch", "value", "arm", colours)
        axes.set(xlabel="epoch", ylabel=ylabel)
        if len(shown):
            canvas.legend(*axes.get_legend_handles_labels(), loc="outside right center")

    return Figure(name, title, alt, data, draw, made.badge, made.text, size=(6.6, 3.0))


def effective_rank(runs: Runs, made: Provenance) -> Figure:
    """Effective rank of projections and features against the rank k of the negative."""
    rows = [
        {"of": of, "k": own_rank(arm.changes, int(next(iter(found.values())).settings["batch_size"])),
         "seed": seed, "rank": value}
        for of in ("rank_projections", "rank_features")
        for arm in HEADS
        if arm.name != "smoothed" and (found := readings.rows_of(runs, arm.name))
        for seed, value in readings.logged(runs, arm.name, of).items()
    ]  # fmt: skip
    return Figure(
        "effective_rank", "Effective rank at the last epoch, by the rank k of the negative",
        "Two panels of points, effective rank over k on a logarithmic axis: projections of a batch left, "
        "features of the encoder right, a point a seed.",
        pd.DataFrame(rows, columns=["of", "k", "seed", "rank"]), _draw_rank, made.badge, made.text,
        size=(7.0, 3.2),
    )  # fmt: skip


def _draw_rank(canvas: Any, data: pd.DataFrame) -> None:
    words: Sequence[tuple[str, str]] = (("rank_projections", "projections"), ("rank_features", "features"))
    for axes, (name, title) in zip(canvas.subplots(1, 2), words, strict=True):
        part = data[data["of"] == name]
        axes.scatter(part["k"], part["rank"], color=COLOURS[0], s=14)
        mean = part.groupby("k")["rank"].mean()
        axes.plot(mean.index, mean, color=COLOURS[0])
        axes.set_xscale("log", base=2)
        axes.set(title=title, xlabel="k", ylabel="effective rank")
        axes.set_ylim(bottom=0)
