"""COCO 2017 and VOC07+12: check, and stand-ins of drawn scenes in their layouts.

A scene has one to a few invented objects of `data_prep.objects`, which may cover one another. In COCO's
layout each has a polygon around what is seen of it, and some scenes have a crowd with a run-length code; in
VOC's, an object that is mostly covered is difficult.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from data_prep.objects import CLASSES, Pixels, background, draw, grain, jpeg, paste
from data_prep.pictures import faults
from data_prep.progress import shown
from data_prep.sets import DataSet, Report
from data_prep.standins import StandIn
from papers_lib.datasets import coco, voc
from papers_lib.datasets.images import open_image
from papers_lib.datasets.scenes import SIDES, Survey
from papers_lib.settings import Frozen

DRAWING = "scenes 1"
SURVEYS = {coco.NAME: coco.survey, voc.NAME: voc.survey}
NAMES = tuple(SURVEYS)

Mask = NDArray[np.bool_]


class Recipe(Frozen):
    """What is drawn: `pixels` is the shorter side of a picture, the longer one up to a third more."""

    seed: int = Field(0, ge=0)
    classes: int = Field(4, ge=1, le=len(CLASSES))
    train: int = Field(16, ge=2)
    test: int = Field(8, ge=1)
    objects: int = Field(3, ge=1, le=20)  # at most
    pixels: int = Field(96, ge=48, le=1024)


SIZES: dict[str, dict[str, Any]] = {
    "smoke": {},
    "small": {"classes": 20, "train": 600, "test": 200, "objects": 5, "pixels": 192},
}


@dataclass(frozen=True)
class Item:
    """One object of a drawn scene: its class, what is seen of it [H, W], and the share of it that is."""

    kind: int
    mask: Mask
    seen: float
    crowd: bool = False

    @property
    def box(self) -> tuple[int, int, int, int]:
        """x1, y1, x2, y2 from 0, the right and lower edge outside."""
        rows, columns = np.flatnonzero(self.mask.any(1)), np.flatnonzero(self.mask.any(0))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def check(name: str, root: Path) -> Report:
    """Hold annotations, lists, folders and counts against each other, then open every image.

    Raises:
        PapersError: there is no such data set under `root`.
    """
    found = SURVEYS[name](root)
    files = [found.base / file for file in sorted(found.sizes)]
    problems = [*found.problems, *faults(files)]
    if not problems:
        problems += _other_sizes(found)
    return Report(_summary(found), tuple(problems), tuple(found.notes))


def _summary(found: Survey) -> str:
    parts = [
        f"{side} {len(scenes)} images with {sum(len(s.labels) for s in scenes)} objects"
        for side, scenes in ((side, found.sides[side]) for side in SIDES)
    ]
    kind = " (stand-in)" if found.told else ""
    return f"{found.name}{kind}: {', '.join(parts)}, {len(found.classes)} classes"


def _other_sizes(found: Survey) -> Iterator[str]:
    for scene in (scene for side in SIDES for scene in found.sides[side]):
        with open_image(scene.file) as image:
            if image.size != (scene.width, scene.height):
                yield (
                    f"{scene.file} has {image.width}x{image.height} pixels, its annotation says "
                    f"{scene.width}x{scene.height}; take annotations and images of one release"
                )


def draw_all(name: str, folder: Path, recipe: Recipe) -> dict[str, Any]:
    """Write the scenes of a data set and their annotations; returns their classes and counts."""
    (_write_coco if name == coco.NAME else _write_voc)(folder, recipe)
    return {
        "classes": CLASSES[: recipe.classes],
        "counts": {"train": recipe.train, "test": recipe.test},
    }


# Scenes


def scene(recipe: Recipe, rng: np.random.Generator, crowd: bool) -> tuple[Pixels, list[Item]]:
    """A picture [H, W, 3] and its objects, of which something is seen; with `crowd`, small ones as one."""
    height, width = recipe.pixels, round(recipe.pixels * rng.uniform(1, 4 / 3))
    if rng.uniform() < 0.3:
        height, width = width, height
    picture = background(height, width, rng)
    count = int(rng.integers(1, recipe.objects + 1))
    kinds = [int(kind) for kind in rng.integers(recipe.classes, size=count)]
    owner = np.zeros((height, width), dtype=np.int64)  # number of the object in front
    areas: list[int] = []
    members = [count] * 3 if crowd else []
    for number in [*members, *range(count)]:  # the crowd behind all
        share = rng.uniform(0.15, 0.2) if number == count else rng.uniform(0.3, 0.7)
        kind = kinds[0] if number == count else kinds[number]
        area = _place(picture, owner, kind, max(10, round(recipe.pixels * share)), number + 1, rng)
        areas += [area] if number < count else []
    items = _items(owner, kinds, areas) + _crowd(owner, kinds[0], count + 1)
    return grain(picture, rng), items


def _place(
    picture: Pixels, owner: NDArray[np.int64], kind: int, side: int, number: int, rng: np.random.Generator
) -> int:
    """Lay one object over the picture, and its number over `owner`; returns the pixels it has."""
    height, width = owner.shape
    rgb, mask = draw(kind, side, rng)
    x, y = int(rng.integers(0, width - side + 1)), int(rng.integers(0, height - side + 1))
    paste(picture, rgb, mask, x, y)
    owner[y : y + side, x : x + side][mask] = number
    return int(mask.sum())


def _items(owner: NDArray[np.int64], kinds: list[int], areas: list[int]) -> list[Item]:
    masks = [owner == number for number in range(1, len(kinds) + 1)]
    seen = [float(mask.sum() / area) for mask, area in zip(masks, areas, strict=True)]
    return [Item(k, m, s) for k, m, s in zip(kinds, masks, seen, strict=True) if m.sum() >= 16]


def _crowd(owner: NDArray[np.int64], kind: int, number: int) -> list[Item]:
    mask = owner == number
    return [Item(kind, mask, 1.0, crowd=True)] if mask.sum() >= 16 else []


def _scenes(
    name: str, recipe: Recipe, side: str, crowds: bool
) -> Iterator[tuple[int, bytes, Any, list[Item]]]:
    """Number from 1, JPEG, height and width, and objects of each scene of a side."""
    count = getattr(recipe, side)
    for i in shown(range(count), count, f"drawing {side}"):
        rng = np.random.default_rng([recipe.seed, NAMES.index(name), SIDES.index(side), i])
        picture, items = scene(recipe, rng, crowd=crowds and i % 4 == 3)
        yield i + 1, jpeg(picture), picture.shape[:2], items


# COCO's layout


def _write_coco(folder: Path, recipe: Recipe) -> None:
    (folder / "annotations").mkdir()
    for side, name in coco.FOLDERS.items():
        (folder / name).mkdir()
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number, data, (height, width), items in _scenes(coco.NAME, recipe, side, crowds=True):
            file = f"{number:012d}.jpg"
            (folder / name / file).write_bytes(data)
            images.append({"id": number, "file_name": file, "height": height, "width": width})
            for item in items:
                annotations.append(_instance(item) | {"id": len(annotations) + 1, "image_id": number})
        content = {
            "info": {"description": f"a stand-in drawn by data_prep, {DRAWING}"},
            "images": images,
            "annotations": annotations,
            "categories": [{"id": _category(i), "name": CLASSES[i]} for i in range(recipe.classes)],
        }
        path = folder / "annotations" / f"instances_{name}.json"
        path.write_text(json.dumps(content), encoding="utf-8")


def _category(kind: int) -> int:
    """Numbers from 1 with gaps, as COCO's."""
    return 1 + kind + kind // 3


def _instance(item: Item) -> dict[str, Any]:
    x1, y1, x2, y2 = item.box
    return {
        "category_id": _category(item.kind),
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": int(item.mask.sum()),
        "iscrowd": int(item.crowd),
        "segmentation": _runs(item.mask) if item.crowd else _polygons(item.mask),
    }


def _polygons(mask: Mask) -> list[list[float]]:
    """Lines around the mask's parts, x, y, x, y, …; a hole is not told, as in COCO's polygons."""
    from contourpy import contour_generator  # matplotlib's

    # A pixel's value lies in its middle, at a half in COCO's coordinates; a frame of zeros closes all lines.
    lines: Any = contour_generator(z=np.pad(mask, 1).astype(np.float64)).lines(0.5)
    return [np.round(line - 0.5, 2).ravel().tolist() for line in lines if len(line) > 3]


def _runs(mask: Mask) -> dict[str, Any]:
    """Lengths of runs of 0, 1, 0, … down the columns, the first of them of 0."""
    flat = np.concatenate([[False], mask.T.ravel()])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], edges, [mask.size]]))
    return {"size": list(mask.shape), "counts": counts.tolist()}


# VOC's layout


def _write_voc(folder: Path, recipe: Recipe) -> None:
    first = max(1, recipe.train // 3)  # of 2007; the rest is of 2012
    for year in ("VOC2007", "VOC2012"):
        for inner in ("Annotations", "ImageSets/Main", "JPEGImages"):
            (folder / year / inner).mkdir(parents=True)
    lists: dict[tuple[str, str], list[str]] = {}
    for side in SIDES:
        for number, data, size, items in _scenes(voc.NAME, recipe, side, crowds=False):
            of_2007 = side == "test" or number <= first
            year, split = "VOC2007" if of_2007 else "VOC2012", "test" if side == "test" else "trainval"
            stem = f"{number + recipe.train * (side == 'test'):06d}"
            stem = stem if of_2007 else f"2012_{stem}"
            lists.setdefault((year, split), []).append(stem)
            (folder / year / "JPEGImages" / f"{stem}.jpg").write_bytes(data)
            path = folder / year / "Annotations" / f"{stem}.xml"
            path.write_text(_annotation(year, stem, size, items), encoding="utf-8")
    for (year, split), stems in lists.items():
        path = folder / year / "ImageSets" / "Main" / f"{split}.txt"
        path.write_text("".join(f"{stem}\n" for stem in stems), encoding="utf-8")


def _annotation(year: str, stem: str, size: tuple[int, int], items: list[Item]) -> str:
    top = ElementTree.Element("annotation")
    _add(top, folder=year, filename=f"{stem}.jpg")
    _add(ElementTree.SubElement(top, "size"), width=size[1], height=size[0], depth=3)
    for item in items:
        each = ElementTree.SubElement(top, "object")
        _add(each, name=CLASSES[item.kind], truncated=0, difficult=int(item.seen < 0.4))
        x1, y1, x2, y2 = item.box
        _add(ElementTree.SubElement(each, "bndbox"), xmin=x1 + 1, ymin=y1 + 1, xmax=x2, ymax=y2)
    ElementTree.indent(top)
    return ElementTree.tostring(top, encoding="unicode") + "\n"


def _add(to: ElementTree.Element, **values: object) -> None:
    for name, value in values.items():
        ElementTree.SubElement(to, name).text = str(value)


STAND_INS = [StandIn(name, DRAWING, Recipe, SIZES, partial(draw_all, name)) for name in NAMES]
DATASETS = tuple(
    DataSet(s.name, partial(check, s.name), s.make, s.made, survey=SURVEYS[s.name]) for s in STAND_INS
)
