"""Figure 1, the whole space of vectors as a picture, and curves that the paper does not show."""

from __future__ import annotations

from typing import Any

import pandas as pd

from papers_lib.exhibits.curves import curves
from papers_lib.exhibits.figure import Figure
from papers_lib.nar import readings
from papers_lib.nar.arms import ARMS
from papers_lib.nar.printed import skip_ceiling
from papers_lib.nar.readings import Runs

BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#888888"
MARKS = {  # named vectors of the picture: label, marker, colour
    "base": ("untouched", "s", "#000000"), "paper_8": ("paper's ResNet-18-8", "D", ORANGE),
    "single": ("best single replacement", "^", GREEN), "best_random": ("best of random", "v", PINK),
    "pick": ("our pick", "o", BLUE), "optimum": ("best of all", "*", "#E69F00"),
}  # fmt: skip
SPACE = ["weights", "seed", "what", "share", "score", "count"]
SKIPS = {"skips": BLUE, "skips_flat": GREY, "skips_penalty": GREEN}
SEARCHED = {"search": BLUE, "search_plain": ORANGE}


def figures(runs: Runs) -> dict[str, Figure]:
    """Every figure by name."""
    found = (figure_1(runs), space(runs), convergence(runs), operators(runs), tau(runs))
    return {figure.name: figure for figure in found}


def figure_1(runs: Runs) -> Figure:
    """Figure 1: the skips' KL over the epochs of a search without constraint, and where the tanh ends it."""
    made = readings.provenance(runs, tuple(SKIPS))
    rows = [
        {"reward": name, "seed": seed, "epoch": epoch, "kl": entry["kl"], "rate": entry["rate"]}
        for name in SKIPS
        for seed, row in sorted(readings.rows_of(runs, name).items())
        for epoch, entry in enumerate(row.metrics["history"], 1)
    ]
    return Figure(
        "figure_1", "Figure 1: KL of the skips from ½ (simulated reward)",
        "Lines over epochs, one a seed; blue without penalty, where the reward rises with the skips, green "
        "the same with ENAS's penalty, grey without, where skips change nothing. Left: the KL of the skip "
        "probabilities from one half, with a dashed "
        f"line at {skip_ceiling(1.5):.2f}, the most that a tanh of 1.5 allows. Right: the skips drawn.",
        pd.DataFrame(rows, columns=["reward", "seed", "epoch", "kl", "rate"]), _draw_figure_1, made.badge,
        made.text, size=(5.8, 2.6),
    )  # fmt: skip


def _draw_figure_1(canvas: Any, data: pd.DataFrame) -> None:
    left, right = canvas.subplots(1, 2)
    for (name, _), part in data.groupby(["reward", "seed"]):
        left.plot(part["epoch"], part["kl"], color=SKIPS[name])
        right.plot(part["epoch"], part["rate"], color=SKIPS[name])
    left.axhline(skip_ceiling(1.5), color=ORANGE, linestyle="--", label="ceiling of the tanh")
    left.set(xlabel="epoch", ylabel="KL, nats")
    left.set_ylim(bottom=0)
    left.legend()
    right.set(xlabel="epoch", ylabel="share of skips drawn", ylim=(0, 1))


def space(runs: Runs) -> Figure:
    """Every vector of the space, as a density: shared accuracy against cost; the path, and who is where."""
    made = readings.provenance(runs)
    rows: list[dict[str, Any]] = []
    for label in ("enumerate", "enumerate_plain"):
        found = readings.rows_of(runs, label)
        if found:  # one seed: scores of two trainings lie in different bins
            seed = min(found)
            rows += _space(label, seed, found[seed].metrics)
    return Figure(
        "space", "All vectors of the space: accuracy with shared weights against cost",
        "Two panels, weights with PreTrain left and without right. Grey: how many vectors lie at a cost and "
        "a score. A green line: the best score at each cost. A blue line: the controller's likeliest vector "
        "over the epochs. Marks: the untouched network, the paper's vector, our pick, the best of all.",
        pd.DataFrame(rows, columns=SPACE), _draw_space, made.badge, made.text, size=(6.8, 3.0),
    )  # fmt: skip


def _space(label: str, seed: int, metrics: dict[str, Any]) -> list[dict[str, Any]]:
    points = [("density", *point) for point in metrics["map"]]
    points += [("front", share, score, 1) for share, score in metrics["front"]]
    points += [("path", share, score, int(epoch)) for epoch, share, score, _ in metrics["path"]]
    points += [
        (name, 1 - found["saving"], found["score"], 1)
        for name, found in metrics["named"].items()
        if name in MARKS
    ]
    return [dict(zip(SPACE, (label, seed, *point), strict=True)) for point in points]


def _draw_space(canvas: Any, data: pd.DataFrame) -> None:
    import numpy as np

    for axes, label in zip(canvas.subplots(1, 2, sharey=True), ("enumerate", "enumerate_plain"), strict=True):
        shown = data[data["weights"] == label]
        density = shown[shown["what"] == "density"]
        axes.scatter(density["share"], density["score"], c=np.log10(density["count"].astype(float)),
                     cmap="Greys", s=9, marker="s", vmin=-0.5)  # fmt: skip
        for what, colour in (("front", GREEN), ("path", BLUE)):
            line = shown[shown["what"] == what]
            axes.plot(line["share"], line["score"], color=colour, linewidth=0.9, marker=".", markersize=3)
        for name, (words, marker, colour) in MARKS.items():
            point = shown[shown["what"] == name]
            axes.scatter(point["share"], point["score"], marker=marker, color=colour, s=42, label=words,
                         edgecolors="white", linewidths=0.6, zorder=3)  # fmt: skip
        axes.set(title="with PreTrain" if label == "enumerate" else "without", xlabel="share of the MACs")
    canvas.axes[0].set_ylabel("accuracy, shared weights")
    canvas.legend(*canvas.axes[0].get_legend_handles_labels(), loc="outside right center")


def convergence(runs: Runs) -> Figure:
    """The controller's entropy and mean reward by epoch."""
    made = readings.provenance(runs)
    rows = [
        {"search": name, "seed": seed, "epoch": epoch, "bits": sum(entry["entropy"]) / len(entry["entropy"]),
         "reward": entry.get("reward")}
        for name in SEARCHED
        for seed, row in sorted(readings.rows_of(runs, name).items())
        for epoch, entry in enumerate(row.metrics["history"], 1)
    ]  # fmt: skip
    return Figure(
        "convergence", "The controller by epoch: entropy and mean reward",
        "Two panels of lines over epochs, a thin line a seed and a thick one their mean, blue with PreTrain, "
        "orange without: left the "
        "controller's entropy in bits a decision, right the mean reward of the vectors that it drew.",
        pd.DataFrame(rows, columns=["search", "seed", "epoch", "bits", "reward"]).astype({"reward": float}),
        _draw_convergence, made.badge, made.text, size=(5.8, 2.5),
    )  # fmt: skip


def _draw_convergence(canvas: Any, data: pd.DataFrame) -> None:
    colours = {ARMS[name].label: colour for name, colour in SEARCHED.items()}
    data = data.assign(search=[ARMS[name].label for name in data["search"]])
    for axes, column, words in zip(
        canvas.subplots(1, 2), ("bits", "reward"), ("entropy, bits a decision", "mean reward"), strict=True
    ):
        curves(axes, data, "epoch", column, "search", colours)
        axes.set(xlabel="epoch", ylabel=words)
    if len(data):
        canvas.axes[0].legend()


def operators(runs: Runs) -> Figure:
    """Which operators trained the shared weights, by epoch: where the choices go, and when."""
    made = readings.provenance(runs)
    rows = [
        {"search": name, "seed": seed, "epoch": epoch, "operator": code,
         "share": sum(row[code] for row in entry["shares"]) / len(entry["shares"])}
        for name in (*SEARCHED, "search_6")
        for seed, made_row in sorted(readings.rows_of(runs, name).items())
        for epoch, entry in enumerate(made_row.metrics["history"], 1)
        for code in range(len(entry["shares"][0]))
    ]  # fmt: skip
    data = pd.DataFrame(rows, columns=["search", "seed", "epoch", "operator", "share"])
    mean = data.groupby(["search", "epoch", "operator"], as_index=False)["share"].mean()
    return Figure(
        "operators", "Operators that trained the shared weights, by epoch, mean over seeds",
        "Three panels, a line an operator: its share among all decisions of the vectors drawn in an epoch, "
        "with PreTrain, without it, and with six candidates.",
        mean, _draw_operators, made.badge, made.text, size=(6.8, 2.4),
    )  # fmt: skip


def _draw_operators(canvas: Any, data: pd.DataFrame) -> None:
    from papers_lib.nar.operators import NAMES

    colours = (BLUE, ORANGE, GREEN, PINK, "#000000", GREY)
    for axes, name in zip(canvas.subplots(1, 3, sharey=True), (*SEARCHED, "search_6"), strict=True):
        for code, part in data[data["search"] == name].groupby("operator"):
            axes.plot(
                part["epoch"], part["share"], color=colours[int(str(code))], label=NAMES[int(str(code))]
            )
        axes.set(title=ARMS[name].label, xlabel="epoch")
        axes.title.set_size(8)
    canvas.axes[0].set_ylabel("share")
    if len(data):
        found = [axes.get_legend_handles_labels() for axes in canvas.axes]
        canvas.legend(*max(found, key=lambda pair: len(pair[0])), loc="outside right center")


def tau(runs: Runs) -> Figure:
    """Stand-alone against shared accuracy of the sampled vectors."""
    made = readings.provenance(runs)
    rows = [
        {"weights": name, "seed": seed, "replaced": sum(code != 0 for code in point["vector"]),
         "shared": point["batch"], "alone": point["alone"]}
        for name in ("tau", "tau_plain")
        for seed, row in sorted(readings.rows_of(runs, name).items())
        for point in row.metrics["points"]
    ]  # fmt: skip
    return Figure(
        "tau", "Accuracy of vectors trained alone against their accuracy with shared weights",
        "Two panels of points, weights with PreTrain left and without right; filled points have up to four "
        "replacements, open ones more. A useful ranking would be a rising line.",
        pd.DataFrame(rows, columns=["weights", "seed", "replaced", "shared", "alone"]), _draw_tau, made.badge,
        made.text, size=(5.8, 2.6),
    )  # fmt: skip


def _draw_tau(canvas: Any, data: pd.DataFrame) -> None:
    for axes, (name, colour) in zip(
        canvas.subplots(1, 2, sharey=True), (("tau", BLUE), ("tau_plain", ORANGE)), strict=True
    ):
        part = data[data["weights"] == name]
        few = part["replaced"] <= 4
        axes.scatter(part[few]["shared"], part[few]["alone"], color=colour, s=16, label="1 to 4 replaced")
        axes.scatter(part[~few]["shared"], part[~few]["alone"], facecolors="none", edgecolors=colour, s=16,
                     label="more")  # fmt: skip
        axes.set(title=ARMS[name].label.rpartition(", ")[2], xlabel="accuracy, shared weights")
        axes.legend()
    canvas.axes[0].set_ylabel("accuracy, trained alone")
