"""Vectors as drawn networks: two squares per block, coloured by their operator, and what each costs."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

import pandas as pd

from papers_lib.exhibits.figure import Figure
from papers_lib.nar import bench
from papers_lib.nar.counting import count
from papers_lib.nar.operators import NAMES, RESNET18, by_convolution, check_one_of
from papers_lib.nar.study import bench_tables, exhibits
from papers_lib.nar.study.table_4 import PLACEMENTS, code
from papers_lib.study import Results

if TYPE_CHECKING:
    from papers_lib.nar.study import Refinement

# By the operator's code: what was there is grey, so that a replacement is seen.
COLOURS = ("#BBBBBB", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00")
WORDS = dict(
    zip(
        NAMES,
        (
            "3×3 convolution (as it was)",
            "depthwise 3×3",
            "max pool 3×3",
            "average pool 3×3",
            "5×5 convolution",
            "depthwise 5×5",
        ),
        strict=True,
    )
)
CHOICES = [(WORDS[NAMES[operator]], operator) for operator in range(4)]  # for the controls of `network`
PER_STAGE = 4  # convolutions
CHANNELS = (64, 128, 256, 512)  # by stage
LINE = 0.14  # inches of a line of words


def architectures() -> Figure:
    """The networks of Table 4, drawn, with the first place of the missing zero."""
    rows = [(name, vectors[0], cost(vectors[0])) for name, vectors in PLACEMENTS.items()]
    return _drawn("architectures", rows)


def network(
    block_1: int = 1,
    block_2: int = 0,
    block_3: int = 0,
    block_4: int = 0,
    block_5: int = 0,
    block_6: int = 0,
    block_7: int = 0,
    block_8: int = 0,
) -> Figure:
    """The ResNet-18 of one operator per block, drawn, with its cost and what NAR-Bench knows of it.

    Raises:
        PapersError: an unknown operator.
    """
    vector = (block_1, block_2, block_3, block_4, block_5, block_6, block_7, block_8)
    return _drawn("network", [("ResNet-18", vector, f"{cost(vector)}\n{known(vector)}")])


def cost(vector: Sequence[int]) -> str:
    """Parameters and multiply-accumulates at 224 pixels, and what the latter save, in words."""
    parameters, macs = count(vector)
    saved = 1 - macs / count((0,) * 8).multiply_accumulates
    return f"{parameters / 1e6:.2f} M parameters\n{macs / 1e9:.2f} G operations, {saved:.1%} saved"


def known(vector: Sequence[int]) -> str:
    """What NAR-Bench knows of a vector of eight blocks: its ranks by each draw, and its accuracy."""
    found = bench_tables.known()
    entry, total = found.query(vector), len(found.counts)
    spans = {name: (min(ranks), max(ranks)) for name, ranks in entry.rank.items()}  # over draws
    ranks = [f"{low:,.0f} to {high:,.0f} {bench.WEIGHTS[name]}" for name, (low, high) in spans.items()]
    alone = [100 * x for x in entry.trained]
    trained = "not trained alone"
    if alone:
        trained = f"trained alone {len(alone)} times: {mean(alone):.1f} %, ± {stdev(alone):.1f}"
    return "\n".join([f"NAR-Bench, rank of {total:,}:", *ranks, trained])


def _drawn(name: str, rows: Sequence[tuple[str, Sequence[int], str]]) -> Figure:
    """A row per (label, vector, words beside it)."""
    data = [(label, code(check_one_of(vector, RESNET18)), words) for label, vector, words in rows]
    said = "; ".join(f"{label} {vector}: {' '.join(words.split())}" for label, vector, words in data)
    lines = sum(max(4, words.count("\n") + 1) for _, _, words in rows)
    return exhibits.figure(name, data, _draw, exhibits.EXACT, 0.95 + LINE * lines, said=said)


def _draw(canvas: Any, data: pd.DataFrame) -> None:
    axes = canvas.add_subplot()
    axes.set_axis_off()
    beside = max(4, *(words.count("\n") + 1 for words in data["words"])) / 4  # of a row's height
    axes.set(xlim=(-5.2, 29), ylim=(len(data) - 1 + beside / 2, -0.3 - beside / 2))
    used = {0}
    for y, row in enumerate(data.itertuples()):
        codes = [int(x) for x in row.vector.split()]
        used.update(codes)
        axes.text(-5.2, y, row.network, va="center", size=8)
        axes.plot([-1, _x(15) + 1], [y, y], color="#555555", linewidth=0.8, zorder=0)
        for block, pair in enumerate(by_convolution(codes, 8)):
            _draw_block(axes, block, pair, y)
        axes.text(20.4, y, row.words, va="center", size=7.5, linespacing=1.25)
    for stage, channels in enumerate(CHANNELS):
        axes.text(_x(stage * PER_STAGE) - 0.4, -0.72, f"{channels} channels", size=7, color="#555555")
    _legend(axes, used, loc="upper left", bbox_to_anchor=(0, 0), ncols=4)


def _x(convolution: int) -> float:
    """Where a convolution stands: a gap behind each block, a wider one behind each stage."""
    return convolution + 0.3 * (convolution // 2) + 0.3 * (convolution // PER_STAGE)


def _draw_block(axes: Any, block: int, pair: tuple[int, int], y: float) -> None:
    """Two operators, and the skip that leads round them."""
    from matplotlib.patches import Rectangle

    start = _x(2 * block)
    left, right, over = start - 0.55, start + 1.55, y - 0.36
    axes.plot([left, left, right, right], [y, over, over, y], color="#555555", linewidth=0.7, zorder=0)
    for place, operator in enumerate(pair):
        corner = (start + place - 0.42, y - 0.22)
        axes.add_patch(Rectangle(corner, 0.84, 0.44, facecolor=COLOURS[operator]))


def _legend(where: Any, operators: set[int], **options: Any) -> None:
    from matplotlib.patches import Patch

    patches = [Patch(color=COLOURS[i], label=WORDS[NAMES[i]]) for i in sorted(operators)]
    where.legend(handles=patches, fontsize=7.5, **options)


# -- what the searches chose -------------------------------------------------------------------------------


def picks(study: Refinement, results: Results) -> Figure:
    """The vectors that our searches chose: a row per search and seed, the pick and the likeliest vector."""
    rows = [
        (study.arms[name].label, seed, choice, code(row.metrics["choices"][choice]))
        for name in study.arms
        if study.arms[name].more["kind"] == "search"
        for seed, row in sorted(results.rows(name).items())
        for choice in ("pick", "argmax")
    ]
    lines = len(rows) // 2
    return exhibits.figure("picks", rows, _draw_picks, study.provenance(results), 1.3 + 0.16 * lines)


def _draw_picks(canvas: Any, data: pd.DataFrame) -> None:
    from matplotlib.colors import ListedColormap

    titles = {"pick": "the pick", "argmax": "the likeliest vector"}
    scale = {"cmap": ListedColormap(COLOURS), "vmin": -0.5, "vmax": len(COLOURS) - 0.5}
    used = {0}
    for axes, (choice, title) in zip(canvas.subplots(1, 2, sharey=True), titles.items(), strict=True):
        part = data[data["choice"] == choice]
        codes = [[int(x) for x in vector.split()] for vector in part["vector"]]
        used.update(x for row in codes for x in row)
        axes.pcolormesh(codes, edgecolors="white", linewidth=1.5, **scale)
        axes.set(title=title, xlabel="block")
        axes.set_xticks([i + 0.5 for i in range(len(codes[0]))], range(1, len(codes[0]) + 1))
        first = ~part["search"].duplicated()  # of its search, which is named there alone
        named = part["search"].where(first, "").str.cat(part["seed"].astype(str), sep="  ")
        axes.set_yticks([i + 0.5 for i in range(len(named))], named)
        axes.tick_params(length=0)
        axes.grid(False)
        axes.spines[:].set_visible(False)
    axes.invert_yaxis()
    _legend(canvas, used, loc="outside right center")
