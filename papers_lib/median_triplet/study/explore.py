"""Images as the loss meets them, and the rank k under the reader's hands."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from papers_lib.datasets import classification
from papers_lib.errors import PapersError
from papers_lib.exhibits.figure import Figure
from papers_lib.exhibits.pictures import Picture, pictures
from papers_lib.median_triplet import prior
from papers_lib.settings import data_root

if TYPE_CHECKING:
    from torch import Tensor

OWN, OTHER = "#D55E00", "#0072B2"  # frames: of the query's class, of another
SIDE = 0.44  # inches of an image, so that ten classes fit a page
CELLS = 4  # an image's embedding has the mean colours of so many squares a side


class Album(NamedTuple):
    """Images [N, H, W, 3] uint8 with labels [N], equally many of each class, and the classes' names."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    badge: str  # says so where the images are no photographs


def album(root: str = "", per_class: int = 6) -> Album:
    """The first training images of each class of CIFAR-10; rendered stand-ins where `root` has none.

    Args:
        root: the folder that holds CIFAR-10's photographs; empty: the stand-ins that `make data` draws.

    Raises:
        PapersError: there are no stand-ins either.
    """
    drawn = data_root() / "standin"
    badge = "stand-in: rendered objects, no photographs"
    try:
        found = classification.load(data_root(root) if root else drawn, "cifar10")
    except PapersError as error:
        if not root:
            raise
        found, badge = classification.load(drawn, "cifar10"), f"{badge} ({error})"
    labels = found.train.labels
    of_class = [np.flatnonzero(labels == label)[:per_class] for label in range(len(found.classes))]
    chosen = np.concatenate(of_class)
    some = found.train.images
    kept = some[chosen] if isinstance(some, np.ndarray) else tuple(some[i] for i in chosen)
    images = classification.load_images(classification.Split(kept, labels[chosen]))
    return Album(images, labels[chosen], found.classes, badge if found.stand_in else "")


def strip(album: Album, rows: int = 1) -> Figure:
    """Images of each class, a column per class."""
    count = len(album.classes)
    of_class = album.images.reshape(count, -1, *album.images.shape[1:])  # [classes, images, H, W, 3]
    below = [textwrap.fill(name.replace("_", " "), 9) for name in album.classes]
    lines = {
        f"image {row + 1}": [
            Picture(of_class[label, row], f"{name} {row}", below[label] * (row == rows - 1))
            for label, name in enumerate(album.classes)
        ]
        for row in range(rows)
    }
    return pictures(
        "strip",
        "Training images of each class",
        f"Small square images in {count} columns, a class each: {', '.join(album.classes)}.",
        lines,
        album.badge,
        side=SIDE,
    )


def two_views(album: Album, names: tuple[str, ...] = ("byol",), seed: int = 0) -> Figure:
    """Images as they are, and two random views of each, by a recipe per row."""
    import torch

    from papers_lib.median_triplet import augment

    shown = [0, len(album.images) // 2]  # of two classes
    lines: dict[str, list[Picture]] = {}
    for name in names:
        generator = torch.Generator().manual_seed(seed)
        made = [augment.view(album.images[shown], recipe, generator) for recipe in augment.RECIPES[name]]
        lines[f"recipe\n“{name}”"] = [
            Picture(image, f"{name} {i} {what}", what)
            for i, place in enumerate(shown)
            for what, image in (
                ("as it is", album.images[place]),
                *((f"view {v}", _bytes(view[i])) for v, view in enumerate(made, 1)),
            )
        ]
    return pictures(
        "two_views",
        "Two images, and two views of each",
        "Two images, each followed by two random views of it: crops in other colours, some mirrored, grey or "
        "blurred.",
        lines,
        album.badge,
        side=SIDE,
    )


def _bytes(view: Tensor) -> Any:
    """A normalised view [3, H, W] as uint8 [H, W, 3]."""
    import torch

    from papers_lib.median_triplet.augment import MEAN, SD

    x = view.permute(1, 2, 0) * torch.tensor(SD) + torch.tensor(MEAN)
    return (255 * x.clamp(0, 1)).round().to(torch.uint8).numpy()


def embedded(album: Album, knows_class: bool = False) -> Tensor:
    """A fixed embedding [N, 48] of colours alone, or [N, 48 + classes] of one that knows the class first.

    Mean colours of 4 × 4 squares, centred over the batch, at length 1: a rounding of a pixel moves them by
    far less than images differ. The class is a direction of its own, so that an image of the query's class
    is always nearer than any other.
    """
    import torch
    import torch.nn.functional as F

    n, height, width = album.images.shape[:3]
    tall, wide = height // CELLS, width // CELLS
    whole = album.images[:, : CELLS * tall, : CELLS * wide].astype(np.float64)
    cells = torch.from_numpy(whole.reshape(n, CELLS, tall, CELLS, wide, 3).mean((2, 4)).reshape(n, -1))
    colours = F.normalize(cells - cells.mean(0))
    if not knows_class:
        return colours
    return torch.cat((colours / 2, F.one_hot(torch.from_numpy(album.labels)).double()), 1)


def negatives(album: Album, queries: tuple[int, ...] = (27,)) -> Figure:
    """The negatives of rank 1, 5, the smallest safe rank and n/2, the album being a batch.

    Of two embeddings: one of colours alone, and one that ranks as Section 3.3 supposes.
    """
    from papers_lib.median_triplet.heads import selected

    n, count = len(album.images), len(album.classes)
    ranks = (1, prior.smallest_k(n, count), n // 2)
    lines: dict[str, list[Picture]] = {}
    for query in queries:
        label = album.labels[query]
        for knows_class, name in ((False, "colours alone"), (True, "class first")):
            points = embedded(album, knows_class)
            found = {k: int(selected(points, points, k)[query]) for k in ranks}
            row = [Picture(album.images[query], f"image {query}", "query")]
            for k, i in found.items():
                frame = OWN if album.labels[i] == label else OTHER
                row.append(Picture(album.images[i], f"image {i}", f"rank {k}", frame))
            lines[f"{album.classes[label].replace('_', ' ')},\n{name}"] = row
    return pictures(
        "negatives",
        f"The negative that each rank takes from a batch of {n}",
        f"Two rows per query, of features that see colours alone and of features that know the class: the "
        f"query and its negatives of rank {', '.join(map(str, ranks))}. An orange frame marks a negative of "
        "the query's own class, which is a false one; a blue frame marks any other.",
        lines,
        album.badge,
        "orange frame: of the query's class, a false negative; blue: of another",
        SIDE,
    )


def expected(k: int = 5, batch_size: int = 128, classes: int = 10) -> Figure:
    """How many of a batch's queries have a false negative at rank k, under two extremes of the ranking.

    Ideal: all images of the query's class come first (Section 3.3's tail). Ignorant: any order, so that one
    negative of `classes` is of the query's class. A rank beyond the batch is taken as its last.

    Raises:
        PapersError: no classes, or a batch without negatives.
    """
    if batch_size < 2 or classes < 1 or k < 1:
        raise PapersError(f"k={k}, batch_size={batch_size}, classes={classes}; give 1, 2 and 1 or more")
    k, share = min(k, batch_size - 1), 1 / classes
    ranks = range(1, batch_size)
    ideal = [batch_size * prior.tail(batch_size - 1, share, rank) for rank in ranks]
    data = pd.DataFrame({"k": ranks, "ideal": ideal, "ignorant": batch_size * share})
    at = data.loc[k - 1, "ideal"]

    def draw(canvas: Any, data: pd.DataFrame) -> None:
        axes = canvas.add_subplot()
        axes.plot(data["k"], data["ideal"], color=OWN, label="ideal ranking")
        axes.plot(
            data["k"], data["ignorant"], color=OTHER, linestyle="--", label="features that know nothing"
        )
        axes.plot(k, data["ideal"][k - 1], "o", color="black", label=f"$k$ = {k}")
        axes.axvline(batch_size // 2, color="#999999", linewidth=0.8, label="the median, $n/2$")
        axes.set(xlabel="rank $k$ of the negative", ylabel="false negatives per batch")
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.set_ylim(bottom=0)
        canvas.legend(*axes.get_legend_handles_labels(), loc="outside right center")

    said = f"{at:.4g} of {batch_size} queries" if at >= 0.001 else f"fewer than 0.001 of {batch_size} queries"
    return Figure(
        "expected",
        f"n = {batch_size}, {classes} classes, k = {k}: {said} under ideal ranking",
        f"The expected number of queries with a false negative falls from {ideal[0]:.3g} to 0 as the rank k "
        f"grows, beside the constant {batch_size * share:.3g} of features that know nothing.",
        data,
        draw,
        size=(6.2, 2.3),
    )
