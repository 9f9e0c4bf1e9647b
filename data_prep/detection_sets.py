"""COCO 2017 and VOC07+12: check, and stand-ins of drawn scenes in their layouts.

A scene has one to a few invented objects of `data_prep.objects`, which may cover one another. In COCO's
layout each has a polygon around what is seen of it, and some scenes have a crowd with a run-length code; in
VOC's, an object that is mostly covered is difficult.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from data_prep.drawing import Pixels, Rng, jpeg, write
from data_prep.objects import CLASSES, background, draw, grain, paste
from data_prep.pictures import shown
from data_prep.sets import DataSet, StandIn
from papers_lib.datasets import coco, voc
from papers_lib.datasets.images import open_image
from papers_lib.datasets.scenes import SIDES, Survey
from papers_lib.settings import Frozen

DRAWING = "scenes 1"
LEAST = 16  # pixels of an object that is annotated
Mask = NDArray[np.bool_]

# -- check --


def _summary(found: Survey) -> str:
    parts = [
        f"{side} {len(scenes)} images with {sum(len(s.labels) for s in scenes)} objects"
        for side, scenes in ((side, found.sides[side]) for side in SIDES)
    ]
    kind = " (stand-in)" if found.told else ""
    return f"{found.name}{kind}: {', '.join(parts)}, {len(found.classes)} classes"


def _other_sizes(found: Survey, problems: list[str]) -> Iterator[str]:
    if problems:  # not all images can be opened
        return
    for scene in (scene for side in SIDES for scene in found.sides[side]):
        with open_image(scene.file) as image:
            if image.size != (scene.width, scene.height):
                yield (
                    f"{scene.file} has {image.width}x{image.height} pixels, its annotation says "
                    f"{scene.width}x{scene.height}; take annotations and images of one release"
                )


# -- scenes --


class Recipe(Frozen):
    """What is drawn."""

    seed: int = Field(0, ge=0)
    classes: int = Field(4, ge=1, le=len(CLASSES))
    train: int = Field(16, ge=2)  # scenes
    test: int = Field(8, ge=1)
    objects: int = Field(3, ge=1, le=20)  # at most
    pixels: int = Field(96, ge=48, le=1024)  # of the shorter side, the longer has up to a third more


SIZES: dict[str, dict[str, Any]] = {
    "smoke": {},
    "small": {"classes": 20, "train": 600, "test": 200, "objects": 5, "pixels": 192},
}


class Item(NamedTuple):
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


def scene(recipe: Recipe, rng: Rng, crowd: bool) -> tuple[Pixels, list[Item]]:
    """A picture [H, W, 3] and its objects, of which something is seen; with `crowd`, small ones as one."""
    height, width = recipe.pixels, round(recipe.pixels * rng.uniform(1, 4 / 3))
    if rng.uniform() < 0.3:
        height, width = width, height
    image = background(height, width, rng)
    count = int(rng.integers(1, recipe.objects + 1))
    kinds = [int(kind) for kind in rng.integers(recipe.classes, size=count)]
    kinds.append(kinds[0])  # the crowd's, which is number `count`
    owner = np.full((height, width), -1)  # number of the object in front
    areas = [1] * (count + 1)  # pixels of each object before others cover it
    members = [count] * 3 if crowd else []
    for number in [*members, *range(count)]:  # the crowd behind all
        share = rng.uniform(0.15, 0.2) if number == count else rng.uniform(0.3, 0.7)
        side = max(10, round(recipe.pixels * share))
        rgb, mask = draw(kinds[number], side, rng)
        x, y = int(rng.integers(0, width - side + 1)), int(rng.integers(0, height - side + 1))
        paste(image, rgb, mask, x, y)
        owner[y : y + side, x : x + side][mask] = number
        areas[number] = int(mask.sum())
    items = []
    for number, (kind, area) in enumerate(zip(kinds, areas, strict=True)):
        mask = owner == number  # [H, W]
        if mask.sum() >= LEAST:
            items.append(Item(kind, mask, float(mask.sum() / area), crowd=number == count))
    return grain(image, rng), items


def _scenes(name: str, recipe: Recipe, side: str) -> Iterator[tuple[int, bytes, int, int, list[Item]]]:
    """Number from 1, JPEG, height and width, and objects of each scene of a side."""
    count = getattr(recipe, side)
    for i in shown(range(count), count, f"drawing {side}"):
        rng = np.random.default_rng([recipe.seed, NAMES.index(name), SIDES.index(side), i])
        image, items = scene(recipe, rng, crowd=name == coco.NAME and i % 4 == 3)
        yield i + 1, jpeg(image), len(image), image.shape[1], items


def _write(name: str, folder: Path, recipe: Recipe) -> dict[str, Any]:
    """Write the scenes of a data set and their annotations; returns their classes and counts."""
    (_write_coco if name == coco.NAME else _write_voc)(folder, recipe)
    return {"classes": CLASSES[: recipe.classes], "counts": {"train": recipe.train, "test": recipe.test}}


# -- COCO's layout --


def _write_coco(folder: Path, recipe: Recipe) -> None:
    numbers = [1 + kind + kind // 3 for kind in range(recipe.classes)]  # from 1 with gaps, as COCO's
    categories = [{"id": number, "name": CLASSES[kind]} for kind, number in enumerate(numbers)]
    for side, name in coco.FOLDERS.items():
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number, data, height, width, items in _scenes(coco.NAME, recipe, side):
            file = f"{number:012d}.jpg"
            write(folder / name / file, data)
            images.append({"id": number, "file_name": file, "height": height, "width": width})
            for item in items:
                x1, y1, x2, y2 = item.box
                annotation = {
                    "category_id": numbers[item.kind],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": int(item.mask.sum()),
                    "iscrowd": int(item.crowd),
                    "segmentation": _runs(item.mask) if item.crowd else _polygons(item.mask),
                    "id": len(annotations) + 1,
                    "image_id": number,
                }
                annotations.append(annotation)
        content = {
            "info": {"description": f"a stand-in drawn by data_prep, {DRAWING}"},
            "images": images,
            "annotations": annotations,
            "categories": categories,
        }
        write(folder / "annotations" / f"instances_{name}.json", json.dumps(content).encode())


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
    counts = np.diff(np.concatenate([[0], edges, [mask.size]]))  # one more than edges
    return {"size": list(mask.shape), "counts": counts.tolist()}


# -- VOC's layout --


def _write_voc(folder: Path, recipe: Recipe) -> None:
    first = max(1, recipe.train // 3)  # of 2007; the rest is of 2012
    lists: dict[Path, list[str]] = {}
    for side in SIDES:
        split, before = ("test", recipe.train) if side == "test" else ("trainval", 0)
        for number, data, height, width, items in _scenes(voc.NAME, recipe, side):
            year, stem = "VOC2007", f"{before + number:06d}"
            if side == "train" and number > first:
                year, stem = "VOC2012", f"2012_{stem}"
            write(folder / year / "JPEGImages" / f"{stem}.jpg", data)
            annotation = _annotation(year, stem, height, width, items)
            write(folder / year / "Annotations" / f"{stem}.xml", annotation.encode())
            lists.setdefault(folder / year / "ImageSets" / "Main" / f"{split}.txt", []).append(f"{stem}\n")
    for path, stems in lists.items():
        write(path, "".join(stems).encode())


def _annotation(year: str, stem: str, height: int, width: int, items: list[Item]) -> str:
    def add(to: ElementTree.Element, **values: object) -> None:
        for name, value in values.items():
            ElementTree.SubElement(to, name).text = str(value)

    top = ElementTree.Element("annotation")
    add(top, folder=year, filename=f"{stem}.jpg")
    add(ElementTree.SubElement(top, "size"), width=width, height=height, depth=3)
    for item in items:
        x1, y1, x2, y2 = item.box
        part = ElementTree.SubElement(top, "object")
        add(part, name=CLASSES[item.kind], truncated=0, difficult=int(item.seen < 0.4))
        add(ElementTree.SubElement(part, "bndbox"), xmin=x1 + 1, ymin=y1 + 1, xmax=x2, ymax=y2)
    ElementTree.indent(top)
    return ElementTree.tostring(top, encoding="unicode") + "\n"


SURVEYS = {coco.NAME: coco.survey, voc.NAME: voc.survey}
NAMES = tuple(SURVEYS)
STAND_INS = {name: StandIn(name, DRAWING, Recipe, SIZES, partial(_write, name)) for name in NAMES}
DATASETS = tuple(
    DataSet(name, SURVEYS[name], _summary, STAND_INS[name], more_problems=_other_sizes) for name in NAMES
)
