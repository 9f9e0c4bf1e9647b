"""The paper's figure, drawn by the real samplers, and the curves that it does not show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from papers_lib.exhibits.curves import curves
from papers_lib.exhibits.figure import Figure
from papers_lib.sampler_study.study.tables import (
    BESIDE,
    GRID,
    NETWORKS,
    OTHERS,
    SAMPLERS,
    beside,
    grid,
    network_of_controls,
    title,
)
from papers_lib.study import Results

if TYPE_CHECKING:
    from papers_lib.sampler_study.methods import Groups
    from papers_lib.sampler_study.study import Samplers

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
CAMERAS = "os^D"
# A label list that the eye can check: cluster and camera of 24 images, in clusters of unequal size.
TOY_CLUSTERS = [0] * 7 + [1] * 5 + [2] * 4 + [3] * 3 + [4] * 3 + [5] * 2
TOY_CAMERAS = [0, 0, 0, 1, 1, 2, 3, 0, 1, 1, 2, 2, 0, 0, 3, 3, 1, 1, 2, 0, 2, 3, 1, 1]
SHOWN = (
    "random",
    "triplet_cluster_4",
    "triplet_cluster_32",
    "triplet_proxy_1",
    "triplet_proxy_4",
    "triplet_proxy_32",
)


def figures(study: Samplers, results: Results) -> dict[str, Figure]:
    """Every figure by name."""
    every = (
        samplers(),
        by_setting(study, results),
        p_by_k(study, results),
        by_epoch(study, results),
        classes(study, results),
    )
    return {figure.name: figure for figure in every}


def drawn(groups: Groups, method: str, k: int, batch_size: int, seed: int = 0) -> list[list[int]]:
    """The first two batches of images that a sampler draws, as training draws them.

    `method` is "random" or one of `SAMPLERS`; `k` is its K or N.

    Raises:
        PapersError: no batch can be made, or an unknown sampler.
    """
    from papers_lib.sampler_study.methods import sampler
    from papers_lib.sampler_study.options import TrainSettings

    settings = TrainSettings.model_validate(
        {"method": method, "k": k, "batch_size": batch_size, "iters_per_epoch": 2, "seed": seed}
    )
    return [indices.tolist() for indices in sampler(settings, groups, 0).batches()]


def batch(method: str, k: int, batch_size: int, seed: int = 0) -> pd.DataFrame:
    """`drawn` from the toy list: one row per drawn image."""
    import torch

    from papers_lib.sampler_study.methods import Groups
    from papers_lib.sampler_study.pseudo_labels import proxies

    clusters, cameras = torch.tensor(TOY_CLUSTERS), torch.tensor(TOY_CAMERAS)
    groups = Groups(clusters, proxies(clusters, cameras)[0], cameras)
    rows = [
        [method, number, place, image, TOY_CLUSTERS[image], TOY_CAMERAS[image]]
        for number, images in enumerate(drawn(groups, method, k, batch_size, seed))
        for place, image in enumerate(images)
    ]
    return pd.DataFrame(rows, columns=["sampler", "batch", "place", "image", "cluster", "camera"])


def samplers(k: int = 2, batch_size: int = 8) -> Figure:
    """Figure 1: two batches of each sampler, K = N = 2, from one list of 24 images."""
    names = ("random", *SAMPLERS)
    data = pd.concat([batch(name, k, batch_size) for name in names], ignore_index=True)
    return Figure(
        "figure_1",
        f"Figure 1: what each sampler puts into a batch, K = N = {k}",
        "Four panels of two rows, a row per batch, a mark per image, its colour the cluster and its shape "
        "the camera. Random batches mix at will; triplets come in equal groups of one cluster, or of one "
        "cluster and camera; groups come in runs of one cluster, the last of a cluster shorter.",
        data,
        _draw_samplers,
        size=(7.2, 2.7),
    )


def one_sampler(
    sampler: str = "triplet_proxy", images_per_class: int = 4, classes_per_batch: int = 2, seed: int = 0
) -> Figure:
    """A panel of Figure 1 for a reader's own choice: K or N images of each of P classes, P · K per batch.

    Raises:
        PapersError: no batch can be made, or an unknown sampler.
    """
    size = images_per_class * classes_per_batch
    data = batch(sampler, images_per_class, size, seed)
    first = data[data["batch"] == 0]
    clusters, images = first["cluster"].nunique(), first["image"].nunique()
    return Figure(
        "figure_1_live",
        f"First batch of {size}: clusters {clusters}, different images {images}",
        f"Two batches of the sampler {sampler}, {images_per_class} images per class, a mark per image.",
        data,
        _draw_samplers,
        size=(max(4.4, 1.6 + 0.27 * size), 2.25),
    )


def _title(sampler: str) -> str:
    return SAMPLERS[sampler].label if sampler in SAMPLERS else "Random"


CHOICES: dict[str, Sequence[Any]] = {  # of `one_sampler`, such that each can be made of the toy list
    "sampler": [(_title(name), name) for name in ("random", *SAMPLERS)],
    "images_per_class": (2, 4, 8),
    "classes_per_batch": (1, 2, 3),
    "seed": range(10),
}


def _draw_samplers(canvas: Any, data: pd.DataFrame) -> None:
    names = list(dict.fromkeys(data["sampler"]))
    rows = 2 if len(names) > 1 else 1
    panels = canvas.subplots(rows, -(-len(names) // rows), squeeze=False).flat
    for axes, name in zip(panels, names, strict=True):
        shown = data[data["sampler"] == name]
        for (cluster, camera), group in shown.groupby(["cluster", "camera"]):
            axes.scatter(
                group["place"], -group["batch"], marker=CAMERAS[camera], color=COLOURS[cluster], s=70
            )
        for row in shown.itertuples():
            axes.annotate(
                str(row.image),
                (row.place, -row.batch),
                (0, -13),
                textcoords="offset points",
                ha="center",
                size=6,
                color="#555555",
            )
        axes.set(
            title=_title(str(name)),
            xticks=[],
            yticks=[0, -1],
            yticklabels=["1", "2"],
            ylabel="batch",
            ylim=(-1.6, 0.5),
        )
    clusters = [(f"cluster {i}", "o", colour) for i, colour in enumerate(COLOURS)]
    cameras = [(f"camera {i + 1}", shape, "#777777") for i, shape in enumerate(CAMERAS)]
    for label, shape, colour in clusters + cameras:  # marks without a place, for the legend
        panels[0].scatter([], [], marker=shape, color=colour, label=label)
    canvas.legend(*panels[0].get_legend_handles_labels(), loc="outside right center")


def by_setting(study: Samplers, results: Results) -> Figure:
    """mAP over K and N: the paper's curves above, ours below, at the same seeds."""
    equal = grid(study, results)
    paper: list[dict[str, Any]] = []
    ours: list[dict[str, Any]] = []
    for network, column in beside(results).items():
        for method, (_, symbol, exhibit) in SAMPLERS.items():
            for k in GRID:
                place = {"network": network, "sampler": method, "k": k}
                printed = float(study.printed[exhibit, f"{symbol}={k}", f"{column} mAP"])
                paper.append({"of": "paper", **place, "seed": 0, "mAP": printed})
                values = equal.values(f"{network}/{method}_{k}", "mAP %")
                ours += [
                    {"of": "ours", **place, "seed": seed, "mAP": values[seed]} for seed in sorted(values)
                ]
    data = pd.DataFrame(paper + ours)
    return study.figure(
        results,
        "by_setting",
        "mAP by K and N: the paper above, ours below",
        "A column per camera network, the paper's numbers above and ours below; a line per sampler over K or "
        "N on a logarithmic axis, each row with a scale of its own. In the paper both triplet samplers fall "
        "to nothing at 32 and groups do not; ours are means with shaded 95 % intervals.",
        data,
        _draw_by_setting,
        size=(6.4, 3.7),
    )


def _draw_by_setting(canvas: Any, data: pd.DataFrame) -> None:
    networks = list(dict.fromkeys(data["network"]))
    panels = canvas.subplots(2, len(networks), sharex=True, sharey="row", squeeze=False)
    colours = {label: colour for (label, *_), colour in zip(SAMPLERS.values(), COLOURS, strict=False)}
    data = data.assign(sampler=[SAMPLERS[method][0] for method in data["sampler"]])
    for row, of in zip(panels, ("paper", "ours"), strict=True):
        for axes, network in zip(row, networks, strict=True):
            shown = data[(data["of"] == of) & (data["network"] == network)]
            curves(axes, shown, "k", "mAP", "sampler", colours, points=of == "paper", band=of == "ours")
            axes.set_xscale("log", base=2)
            axes.set_xticks([1, 2, 4, 8, 16, 32], ["1", "2", "4", "8", "16", "32"])
            if of == "paper" or network in OTHERS:
                axes.set_title(NETWORKS.get(network, BESIDE) if of == "paper" else title(network))
        row[0].set_ylabel(f"{of}: mAP, %")
    for axes in panels[-1]:
        axes.set_xlabel("$K$ or $N$: images of a class, or at most of a group")
    canvas.legend(*panels[0][0].get_legend_handles_labels(), loc="outside right center")


def p_by_k(study: Samplers, results: Results) -> Figure:
    """mAP over P and K apart, at equal steps that visit every cluster: the product is the batch."""
    network = network_of_controls(results)
    arms = [arm for arm in study.arms.values() if arm.sweep == "p_by_k"]
    equal = results.common([f"{network}/{arm.name}" for arm in arms])
    rows = []
    for arm in arms:
        label = f"{network}/{arm.name}"
        cell = {"P": arm.changes["p"], "K": arm.changes["k"], "n": len(equal.rows(label))}
        rows.append(cell | {"mAP": equal.mean(label, "mAP %")})
    return study.figure(
        results,
        "p_by_k",
        f"mAP with P and K set apart, {title(network)}",
        "A grid of cells, P upwards and K to the right, each with its mean mAP, the darker the lower. The "
        "steps are the same everywhere, so that a cell differs from its neighbours in what a batch holds.",
        pd.DataFrame(rows, columns=["P", "K", "n", "mAP"]).astype({"mAP": float}),
        _draw_p_by_k,
        size=(4.8, 2.8),
    )


def _draw_p_by_k(canvas: Any, data: pd.DataFrame) -> None:
    axes = canvas.add_subplot()
    cells = data.pivot(index="P", columns="K", values="mAP")  # [P, K]
    if cells.notna().any(axis=None):
        image = axes.imshow(cells, origin="lower", cmap="cividis", aspect="auto")
        canvas.colorbar(image, ax=axes, label="mAP, %")
    middle = (cells.min(axis=None) + cells.max(axis=None)) / 2
    for y, values in enumerate(cells.to_numpy()):
        for x, value in enumerate(values):
            shown = "not run" if pd.isna(value) else f"{value:.1f}"
            # black where there is no cell, too
            axes.text(x, y, shown, ha="center", va="center", color="white" if value <= middle else "black")
    axes.grid(visible=False)
    axes.set(xlabel="images per cluster, $K$", ylabel="clusters per batch, $P$")
    axes.set_xticks(range(cells.shape[1]), cells.columns)
    axes.set_yticks(range(cells.shape[0]), cells.index)


def by_epoch(study: Samplers, results: Results) -> Figure:
    """mAP over the epochs: which settings learn, and which fall below their start."""
    network = network_of_controls(results)
    lines = grid(study, results).by_epoch([f"{network}/{arm}" for arm in SHOWN], ["mAP"], factor=100)
    data = pd.DataFrame(list(lines), columns=["arm", "seed", "epoch", "mAP"])
    labels = {name: study.arms[name].label for name in SHOWN}  # what readers see; the CSV has the names

    def draw(canvas: Any, data: pd.DataFrame) -> None:
        axes = canvas.add_subplot()
        colours = dict(zip((labels[arm] for arm in data["arm"].unique()), COLOURS, strict=False))
        curves(axes, data.assign(arm=data["arm"].map(labels)), "epoch", "mAP", "arm", colours, band=True)
        axes.set(xlabel="epoch", ylabel="mAP, %")
        canvas.legend(*axes.get_legend_handles_labels(), loc="outside right center")

    return study.figure(
        results,
        "by_epoch",
        f"mAP by epoch, {title(network)}",
        "Lines of mean mAP over the epochs with shaded 95 % intervals, a colour per setting; epoch 0 is the "
        "start before any training. All lines rise from it; the two of K = 32 end lowest.",
        data,
        draw,
        size=(6.4, 2.7),
    )


def classes(study: Samplers, results: Results) -> Figure:
    """mAP against the number of clusters in a batch: the quantity that K changes at a fixed batch."""
    network, equal = network_of_controls(results), grid(study, results)
    rows = []
    for method in SAMPLERS:
        for k in GRID:
            label = f"{network}/{method}_{k}"
            held = equal.mean(label, "history.-1.distinct_classes")
            if held is not None:
                mean_ap = equal.mean(label, "mAP %")
                rows.append({"sampler": method, "k": k, "classes": held, "mAP": mean_ap})
    data = pd.DataFrame(rows, columns=["sampler", "k", "classes", "mAP"])
    return study.figure(
        results,
        "classes",
        f"mAP by clusters in a batch of 32, {title(network)}",
        "Mean mAP against the mean number of different clusters in a batch in the last epoch, a line per "
        "sampler and a dot per K or N, from 32 at the left to 1 at the right. The lines of triplets rise "
        "from one cluster to four and are nearly level beyond; groups never have fewer than four.",
        data,
        _draw_classes,
        size=(5.6, 3.0),
    )


def _draw_classes(canvas: Any, data: pd.DataFrame) -> None:
    axes = canvas.add_subplot()
    for number, (method, group) in enumerate(data.groupby("sampler", sort=False)):
        sampler, colour = SAMPLERS[str(method)], COLOURS[number]
        axes.plot(group["classes"], group["mAP"], marker="o", color=colour, label=sampler.label)
        # the ends alone are named, since the dots between them stand close together
        places = [(8, (-3, 4, -9)[number]), (8, -4) if sampler.symbol == "K" else (-6, 7)]
        for row, place in zip(group.iloc[[0, -1]].itertuples(), places, strict=True):
            axes.annotate(
                f"${sampler.symbol}$ = {row.k}",
                (row.classes, row.mAP),
                place,
                textcoords="offset points",
                size=7,
                color=colour,
            )
    axes.set_xscale("log", base=2)
    axes.set_xticks([1, 2, 4, 8, 16, 32], ["1", "2", "4", "8", "16", "32"])
    axes.set(xlabel="different clusters in a batch of 32", ylabel="mAP, %")
    axes.margins(x=0.1, y=0.12)
    axes.legend(loc="lower right")
