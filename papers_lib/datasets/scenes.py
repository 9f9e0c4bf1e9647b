"""Scenes with objects: what the readers of COCO and of VOC have in common.

A reader's `survey` takes down all that the annotations say and all that is wrong. No image is opened before
`picture`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from papers_lib.datasets import folders
from papers_lib.datasets.folders import COPY, find, marked, standin
from papers_lib.datasets.images import LARGEST, open_image, rgb
from papers_lib.errors import PapersError

SIDES = ("train", "test")

Outline = list[list[float]] | dict[str, Any]
"""Polygons of x, y, x, y, … or a run-length code, as COCO writes them."""


@dataclass(frozen=True, eq=False)
class Scene:
    """One image with its n objects.

    `boxes` [n, 4] float32 are x1, y1, x2, y2 in pixels from 0, the right and lower edge outside.
    `labels` [n] int64 count from 1; 0 is the background of a detector. `ignored` [n] bool marks crowds
    (COCO) and difficult objects (VOC): no one learns from them, and whoever finds one is neither right nor
    wrong. `outlines` has an object's mask, or is None where a data set has no masks.
    """

    file: Path
    height: int
    width: int
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    ignored: NDArray[np.bool_]
    outlines: tuple[Outline, ...] | None = None


@dataclass(frozen=True, eq=False)
class Scenes:
    """A data set for detection. Label i is `classes[i - 1]`; the last three are those of `Survey.known`."""

    name: str
    root: Path
    train: tuple[Scene, ...]
    test: tuple[Scene, ...]
    classes: tuple[str, ...]
    stand_in: bool
    fingerprint: str
    pixels: str = ""


@dataclass
class Survey(folders.Survey):
    """What the annotations and the folders say, and what is wrong."""

    classes: tuple[str, ...] = ()
    sides: dict[str, list[Scene]] = field(default_factory=lambda: {side: [] for side in SIDES})

    @property
    def content(self) -> str:
        """SHA-256 of classes, boxes and labels, and of each image's name and size in bytes."""
        digest = hashlib.sha256("\0".join([self.name, *self.classes]).encode())
        for side in SIDES:
            for scene in self.sides[side]:
                # A path from the data set's folder, so that the place does not count.
                file = scene.file.relative_to(self.base).as_posix()
                digest.update(f"\0{side}\0{file}:{self.sizes.get(file)}:{scene.outlines}".encode())
                digest.update(scene.boxes.tobytes() + scene.labels.tobytes() + scene.ignored.tobytes())
        return digest.hexdigest()

    def hold_folder(self, folder: str) -> list[str]:
        """The images of a folder, which must have some."""
        images = self.images_in(folder)
        if not images:
            self.problems.append(f"half a data set: no image in {self.base / folder}; restore its images")
        return images

    def has_file(self, path: Path) -> bool:
        """Whether the data set has that file; if not, it is taken down as half a data set."""
        there = path.is_file()
        if not there:
            self.problems.append(f"half a data set: {path} is missing; {COPY}")
        return there

    def hold_images(self, published: Mapping[str, int]) -> None:
        """Hold the number of images of each side against the published one, or the one rendered."""
        expected = self.expected(published)
        self.hold_counts((f"{side} images", len(self.sides[side]), expected[side]) for side in SIDES)

    def checked(self, root: Path) -> Scenes:
        """The data set.

        Raises:
            PapersError: there are problems; the message has the first, and how to see all.
        """
        self.admit(root)
        train, test = (tuple(self.sides[side]) for side in SIDES)
        return Scenes(self.name, self.base, train, test, self.classes, **self.known)


def begin(root: Path, name: str, official: str, mark: str) -> Survey:
    """The survey of the folder with `mark` in it: `root`, its folder `name` or `official`, or one inside.

    Raises:
        PapersError: it is nowhere, or its `STANDIN.json` is broken or of another data set.
    """
    base, outer = find(root, name, (official, ""), marked(mark), f"{mark} is not there")
    told = standin((base, outer), name, dict.fromkeys(SIDES, int))
    classes = told.get("classes") if told else []
    if not isinstance(classes, list) or not all(isinstance(word, str) for word in classes):
        raise PapersError(f"the STANDIN.json of {base} is broken (no classes); render the stand-in again")
    return Survey(name, base, outer, tuple(classes), told=told)


# -- what an annotation says --


class Drawn(NamedTuple):
    """One object as an annotation tells it, its box not yet judged."""

    box: tuple[float, float, float, float]
    label: int
    ignored: bool
    outline: Outline | None = None


def wrong_size(height: object, width: object) -> str:
    """What is wrong with the size of an image, or nothing."""
    if type(height) is not int or type(width) is not int or min(height, width) < 1:
        return f"has a size of {width!r:.40} x {height!r:.40} pixels"
    return f"claims {width}x{height} pixels, more than {LARGEST:,}" if height * width > LARGEST else ""


def wrong_box(box: Sequence[float], height: int, width: int) -> str:
    """What is wrong with x1, y1, x2, y2, or nothing. Boxes may reach a pixel out of the picture."""
    x1, y1, x2, y2 = box
    if not (x2 > x1 and y2 > y1):  # NaN too
        return "is empty"
    if x1 < -1 or y1 < -1 or x2 > width + 1 or y2 > height + 1:
        return f"reaches out of the {width}x{height} pixels"
    return ""


def wrong_outline(outline: object, height: int, width: int) -> str:
    """What is wrong with polygons or a run-length code in an image of that size, or nothing."""
    if isinstance(outline, list):
        whole = outline and all(_is_polygon(corners, max(height, width)) for corners in outline)
        return "" if whole else "has a polygon that is no list of x, y, x, y, … near the image"
    if not isinstance(outline, dict) or not isinstance(outline.get("counts"), list | str):
        return "has an outline that is neither polygons nor a run-length code"
    counts = outline["counts"]
    if isinstance(counts, str):
        return "has a compressed run-length code, whose counts are no list"
    whole = all(type(count) is int and count >= 0 for count in counts)
    if not whole or outline.get("size") != [height, width]:
        return "has a run-length code that is not of counts from 0 and of the image's size"
    # Runs fill the image to its last pixel.
    total = sum(counts)
    return f"has a run-length code of {total:.0f} pixels" if total != height * width else ""


def _is_polygon(corners: object, side: int) -> bool:
    """Whether these are pairs of numbers, none further out than the image is long."""
    if not isinstance(corners, list) or not corners or len(corners) % 2:
        return False
    try:
        return math.isfinite(math.fsum(corners)) and -side <= min(corners) <= max(corners) <= 2 * side
    except (TypeError, ValueError, OverflowError):  # of what is no number, or too large to add
        return False


def scene(file: Path, height: int, width: int, objects: Iterable[Drawn], masks: bool) -> Scene:
    """Collect the objects of one image."""
    drawn = list(objects)
    outlines = tuple(item.outline for item in drawn if item.outline is not None)
    return Scene(
        file,
        height,
        width,
        np.array([item.box for item in drawn], dtype=np.float32).reshape(-1, 4),  # [n, 4]
        np.array([item.label for item in drawn], dtype=np.int64),  # [n]
        np.array([item.ignored for item in drawn], dtype=np.bool_),  # [n]
        outlines if masks else None,
    )


# -- pixels --


def picture(of: Scene) -> NDArray[np.uint8]:
    """The pixels [H, W, 3] of a scene, RGB.

    Raises:
        PapersError: a broken image, or one of another size than its annotation says.
    """
    with open_image(of.file) as image:
        pixels = np.array(rgb(image))
    if pixels.shape[:2] != (of.height, of.width):
        raise PapersError(
            f"{of.file} has {pixels.shape[1]}x{pixels.shape[0]} pixels, its annotation says "
            f"{of.width}x{of.height}; take annotations and images of one release"
        )
    return pixels


def masks(of: Scene) -> NDArray[np.bool_]:
    """The objects' masks [n, H, W], to learn from; AP takes the outlines themselves.

    Raises:
        PapersError: the data set has no masks.
    """
    if of.outlines is None:
        raise PapersError(f"{of.file} has no masks; train faster_rcnn on it, or take coco2017")
    filled = np.zeros((len(of.outlines), of.height, of.width), dtype=np.bool_)  # [n, H, W]
    for i, outline in enumerate(of.outlines):
        if isinstance(outline, dict):  # counts of 0, 1, 0, … down the columns
            values = np.arange(len(outline["counts"])) % 2 == 1
            filled[i] = np.repeat(values, outline["counts"]).reshape(of.width, of.height).T
        else:
            for polygon in outline:
                corners = np.asarray(polygon, dtype=np.float64).reshape(-1, 2)  # [K, 2]
                filled[i] |= _polygon(corners, of.height, of.width)
    return filled


def _polygon(corners: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
    """The pixels whose centre lies inside: along a row, each edge that is crossed turns in and out over."""
    (x, y), (next_x, next_y) = corners.T, np.roll(corners, -1, axis=0).T  # [K] each
    centres = np.arange(height)[:, None] + 0.5  # [H, 1]
    # An edge crosses a row if its ends lie on both sides of the centres.
    row, edge = np.nonzero((y <= centres) != (next_y <= centres))
    # where the edge crosses the row, as a share of the edge
    share = (centres[row, 0] - y[edge]) / (next_y - y)[edge]
    # the first pixel whose centre lies right of the crossing
    crossed = np.ceil(x[edge] + share * (next_x - x)[edge] - 0.5).clip(0, width).astype(np.int64)
    turns = np.zeros((height, width + 1), dtype=np.bool_)  # whether an odd number of edges is crossed there
    np.logical_xor.at(turns, (row, crossed), True)
    return np.asarray(np.logical_xor.accumulate(turns, axis=1)[:, :width])
