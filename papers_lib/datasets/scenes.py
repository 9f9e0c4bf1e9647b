"""Scenes with objects: what the readers of COCO and of VOC have in common.

A reader's `survey` takes down all that the annotations say and all that is wrong; `first` lets nothing
pass that has a problem. No image is opened before `picture`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from papers_lib.datasets.images import _rgb
from papers_lib.errors import PapersError

STANDIN = "STANDIN.json"
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
    """A data set for detection. Label i is `classes[i - 1]`; `fingerprint` is that of `Survey`."""

    name: str
    root: Path
    train: tuple[Scene, ...]
    test: tuple[Scene, ...]
    classes: tuple[str, ...]
    stand_in: bool
    fingerprint: str


@dataclass
class Survey:
    """What the annotations and the folders say, and what is wrong: `problems` and `notes` are lines.

    `sizes` has the bytes of every image on disk, by its path from `base`.
    """

    name: str
    base: Path
    told: Mapping[str, Any] | None  # what `STANDIN.json` says; None for real data
    classes: tuple[str, ...] = ()
    sides: dict[str, list[Scene]] = field(default_factory=lambda: {side: [] for side in SIDES})
    sizes: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of classes, boxes and labels, and of each image's name and size in bytes.

        Cheap, and the same wherever the folder lies. It cannot see an image that was replaced by another
        one of the same name and the same number of bytes.
        """
        digest = hashlib.sha256("\0".join([self.name, *self.classes]).encode())
        for side in SIDES:
            for scene in self.sides[side]:
                file = scene.file.relative_to(self.base).as_posix()
                digest.update(f"\0{side}\0{file}:{self.sizes.get(file)}:{scene.outlines}".encode())
                digest.update(scene.boxes.tobytes() + scene.labels.tobytes() + scene.ignored.tobytes())
        return digest.hexdigest()

    def checked(self, root: Path) -> Scenes:
        """The data set.

        Raises:
            PapersError: there are problems; the message has the first, and how to see all.
        """
        if self.problems:
            more = f"and {len(self.problems) - 1} more faults; " if len(self.problems) > 1 else ""
            see = f"python -m data_prep check {self.name} {root}"
            raise PapersError(f"{self.problems[0]} ({more}see: {see})")
        train, test = (tuple(self.sides[side]) for side in SIDES)
        return Scenes(
            self.name, self.base, train, test, self.classes, self.told is not None, self.fingerprint
        )


def find(root: Path, name: str, official: str, mark: str) -> Path:
    """The folder with `mark` in it: `root`, its folder `name` or `official`, or the one inside the other.

    Raises:
        PapersError: it is nowhere.
    """
    places = (root / name / official, root / name, root / official, root)
    base = next((place for place in places if (place / mark).exists()), None)
    if base is not None:
        return base
    what = f"{mark} is not there"
    if not root.is_dir():
        what = f"the folder {root} does not exist"
    elif not any(root.iterdir()):
        what = f"the folder {root} is empty"
    raise PapersError(
        f"no {name} in {root}: {what}; bring it: python -m data_prep import {name} SOURCE {root} or "
        f"render a stand-in: python -m data_prep make {name} {root}"
    )


def told(base: Path, name: str, official: str) -> dict[str, Any] | None:
    """What `STANDIN.json` in `base`, or beside the official folder, says; None for real data.

    Raises:
        PapersError: it is broken, or of another data set.
    """
    outer = (base.parent,) if base.name == official else ()
    path = next((b / STANDIN for b in (base, *outer) if (b / STANDIN).is_file()), None)
    if path is None:
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        of, _ = str(found["name"]), {side: int(found["counts"][side]) for side in SIDES}
        _ = [str(word) for word in found["classes"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise PapersError(f"{path} is broken ({error}); render the stand-in again") from None
    if of != name:
        raise PapersError(f"{path} is a stand-in of {of}, not of {name}; use that name, or another ROOT")
    return dict(found)


def images(base: Path, folder: str, suffix: str = ".jpg") -> dict[str, int]:
    """Bytes of each image in `folder`, by its path from `base`; nothing where there is no folder."""
    if not (base / folder).is_dir():
        return {}
    with os.scandir(base / folder) as entries:
        return {
            f"{folder}/{entry.name}": entry.stat().st_size
            for entry in entries
            if entry.name.lower().endswith(suffix) and entry.name[:2] != "._" and entry.is_file()
        }


def wrong_counts(found: Survey, published: Mapping[str, int]) -> Iterator[str]:
    """A line for each side whose number of images is not the published one, or the one rendered."""
    expected = found.told["counts"] if found.told else published
    for side in SIDES:
        count = len(found.sides[side])
        if count != expected[side]:
            yield (
                f"{found.name} has {count} {side} images, {expected[side]} expected; "
                f"restore the copy in {found.base}"
            )


class Drawn(NamedTuple):
    """One object as an annotation tells it, its box not yet judged."""

    box: tuple[float, float, float, float]
    label: int
    ignored: bool
    outline: Outline | None = None


def wrong_box(box: Sequence[float], height: int, width: int) -> str:
    """What is wrong with x1, y1, x2, y2, or nothing. Boxes may reach a pixel out of the picture."""
    x1, y1, x2, y2 = box
    if not (x2 > x1 and y2 > y1):  # NaN too
        return "is empty"
    if x1 < -1 or y1 < -1 or x2 > width + 1 or y2 > height + 1:
        return f"reaches out of the {width}x{height} pixels"
    return ""


def scene(file: Path, height: int, width: int, objects: Iterable[Drawn], masks: bool) -> Scene:
    """Collect the objects of one image."""
    every = list(objects)
    outlines = tuple(each.outline for each in every if each.outline is not None)
    return Scene(
        file,
        height,
        width,
        np.array([each.box for each in every], dtype=np.float32).reshape(-1, 4),
        np.array([each.label for each in every], dtype=np.int64),
        np.array([each.ignored for each in every], dtype=np.bool_),
        outlines if masks else None,
    )


def picture(of: Scene) -> NDArray[np.uint8]:
    """The pixels [H, W, 3] of a scene, RGB.

    Raises:
        PapersError: a broken image, or one of another size than its annotation says.
    """
    try:
        with Image.open(of.file) as image:
            pixels = np.array(_rgb(image))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = str(error).partition(" '")[0] or type(error).__name__
        raise PapersError(f"{of.file} is not a whole image ({reason}); restore it") from None
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
    filled = [_filled(outline, of.height, of.width) for outline in of.outlines]
    return np.stack(filled) if filled else np.zeros((0, of.height, of.width), dtype=np.bool_)


def _filled(outline: Outline, height: int, width: int) -> NDArray[np.bool_]:
    if isinstance(outline, dict):
        return _runs(outline, height, width)
    mask = np.zeros((height, width), dtype=np.bool_)
    for polygon in outline:
        mask |= _polygon(np.asarray(polygon, dtype=np.float64).reshape(-1, 2), height, width)
    return mask


def _polygon(corners: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
    """The pixels whose centre lies inside: along a row, each edge that is crossed turns in and out over."""
    (x, y), (next_x, next_y) = corners.T, np.roll(corners, -1, axis=0).T
    centres = np.arange(height)[:, None] + 0.5
    row, edge = np.nonzero((y <= centres) != (next_y <= centres))
    share = (centres[row, 0] - y[edge]) / (next_y - y)[edge]
    crossed = np.ceil(x[edge] + share * (next_x - x)[edge] - 0.5).clip(0, width).astype(np.int64)
    turns = np.zeros((height, width + 1), dtype=np.bool_)
    np.logical_xor.at(turns, (row, crossed), True)
    return np.asarray(np.logical_xor.accumulate(turns, axis=1)[:, :width])


def _runs(code: dict[str, Any], height: int, width: int) -> NDArray[np.bool_]:
    """An uncompressed run-length code: counts of 0, 1, 0, … down the columns."""
    counts = code["counts"]
    if isinstance(counts, str | bytes):
        raise PapersError(
            "a compressed run-length code; take the official annotations, whose counts are lists"
        )
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T
