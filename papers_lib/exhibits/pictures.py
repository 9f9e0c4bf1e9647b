"""Images in rows: a strip of a data set, a batch, quadruplets, a query and what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from papers_lib.exhibits.figure import Figure

if TYPE_CHECKING:
    from pandas import DataFrame

SIDE = 0.62  # inches of an image
LABEL = 1.1  # inches of a row's label
WORDS = 0.17  # inches of a caption


class Picture(NamedTuple):
    """An image [H, W, 3] of bytes, its name in the data set, what stands below it, and its frame's colour."""

    image: Any
    name: str
    caption: str = ""
    colour: str = ""


def pictures(
    name: str,
    title: str,
    alt: str,
    rows: Mapping[str, Sequence[Picture]],
    badge: str = "",
    footer: str = "",
    side: float = SIDE,
) -> Figure:
    """A row of images per label; a frame's colour says what the text around the figure gives it.

    The data of the figure are the images' names, captions and colours: rendered images differ between
    machines by a rounding, which is no other figure.
    """
    import pandas as pd

    placed = {(i, j): found for i, row in enumerate(rows.values()) for j, found in enumerate(row)}
    columns = ["row", "label", "column", "image", "caption", "colour"]
    labels = list(rows)
    data = pd.DataFrame([[i, labels[i], j, *found[1:]] for (i, j), found in placed.items()], columns=columns)
    widest = max((len(row) for row in rows.values()), default=1)
    low = side + WORDS * any(found.caption for found in placed.values())
    label = LABEL if any(labels) else 0.1

    def draw(canvas: Any, data: DataFrame) -> None:
        grid = canvas.add_gridspec(len(rows), widest + 1, width_ratios=[label, *[side] * widest])
        for i, text in enumerate(labels):
            axes = canvas.add_subplot(grid[i, 0])
            axes.set_axis_off()
            axes.text(0, 0.5, text, va="center", size=8, transform=axes.transAxes)
        for row in data.itertuples():
            axes = canvas.add_subplot(grid[row.row, row.column + 1])
            axes.imshow(placed[row.row, row.column].image, aspect="equal", interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.grid(False)
            axes.set_xlabel(row.caption, size=6.5, labelpad=2)
            axes.spines[:].set(visible=bool(row.colour), color=row.colour or "black", linewidth=2)

    size = (max(label + side * widest + 0.1, 4.0), low * len(rows) + 0.6)
    return Figure(name, title, alt, data, draw, badge, footer, size)
