"""COCO 2017 instances (Lin et al., ECCV 2014): train2017 to train, val2017 to test.

    annotations/instances_train2017.json   annotations/instances_val2017.json
    train2017/000000000009.jpg …           val2017/000000000139.jpg …

Category numbers have gaps (80 of 1 … 90); labels here are 1 … 80 in their order. `survey` reads the two
annotation files whole, some gigabytes of memory at full size, and lists the folders.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from papers_lib.datasets.folders import ODD, read_json, reason
from papers_lib.datasets.scenes import (
    Drawn,
    Scenes,
    Survey,
    find,
    scene,
    told,
    wrong_box,
    wrong_counts,
    wrong_outline,
    wrong_size,
)
from papers_lib.errors import PapersError

NAME, OFFICIAL = "coco2017", "coco"
FOLDERS = {"train": "train2017", "test": "val2017"}
COUNTS = {"train": 118287, "test": 5000}
_MANY = 10**9  # no coordinate is as large
_COLUMNS: dict[str, dict[str, type]] = {
    "images": {"id": int, "height": int, "width": int, "file_name": str},
    "annotations": {"id": int, "image_id": int, "category_id": int, "bbox": list},
    "categories": {"id": int, "name": str},
}
EMPTY = frozenset({200365, 550395})
"""Images of train2017 with a box of no height each (cocodataset/cocoapi#355); such a box is left out."""


def load(root: Path) -> Scenes:
    """Read the annotations under `root`: the data set's own folder, or one with `coco2017/` or `coco/`.

    Raises:
        PapersError: nothing there, half a data set, annotations out of step with images or categories,
            empty boxes, a wrong count. The message names the first fault and how to see all.
    """
    return survey(Path(root)).checked(root)


def survey(root: Path) -> Survey:
    """Read both annotation files and hold them against the folders and the counts.

    Raises:
        PapersError: nothing to survey, or a broken `STANDIN.json`.
    """
    base = find(root, NAME, OFFICIAL, "annotations")
    found = Survey(NAME, base, told=told(base, NAME, OFFICIAL))
    for side, folder in FOLDERS.items():
        content = _content(found, base / "annotations" / f"instances_{folder}.json")
        there = set(found.images_in(folder))
        if not there:
            found.problems.append(f"half a data set: no image in {base / folder}; restore its images")
        elif content is not None:
            _read(found, side, content, there)
    if not found.problems:
        found.problems += wrong_counts(found, COUNTS)
    found.tell_ignored()
    return found


def _content(found: Survey, path: Path) -> dict[str, Any] | None:
    """An annotation file with its three lists, or a problem told."""
    if not path.is_file():
        found.problems.append(f"half a data set: {path} is missing; add it from the copy that you have")
        return None
    try:
        content = read_json(path)
        classes = _classes(content)
    except PapersError as error:
        found.problems.append(str(error))
        return None
    except (ValueError, TypeError, KeyError) as error:
        found.problems.append(f"{path} is no file of COCO instances ({reason(error)}); copy it again")
        return None
    if found.classes and found.classes != classes:
        found.problems.append(
            f"{path} has other categories than the training file; take files of one release"
        )
        return None
    found.classes = classes
    return dict(content) | {"path": path}


def _classes(content: Any) -> tuple[str, ...]:
    """The names of the categories, by their numbers; an error where a table does not have its columns."""
    for key, columns in _COLUMNS.items():
        for row in content[key]:
            for column, kind in columns.items():
                if type(row[column]) is not kind:
                    raise ValueError(f"{key}: a {column} that is no {kind.__name__}")
                if kind is str and ODD.search(row[column]):
                    raise ValueError(f"{key}: a {column} of no plain text, {row[column]!r:.40}")
    names = {row["id"]: row["name"] for row in content["categories"]}
    if not len(set(names.values())) == len(names) == len(content["categories"]):
        raise ValueError("a category twice")
    return tuple(names[number] for number in sorted(names))


def _read(found: Survey, side: str, content: dict[str, Any], there: set[str]) -> None:
    folder = FOLDERS[side]
    listed = {image["id"]: image for image in content["images"]}
    label = {c["id"]: found.classes.index(c["name"]) + 1 for c in content["categories"]}
    objects: dict[int, list[Drawn]] = {number: [] for number in listed}
    for annotation in content["annotations"]:
        wrong = _wrong(annotation, listed, label)
        if annotation["image_id"] in EMPTY and wrong.startswith("has a box that is empty"):
            found.notes.append(f"{_named(content, annotation)} {wrong}: known of the release, left out")
        elif wrong:
            found.problems.append(f"{_named(content, annotation)} {wrong}")
        else:
            objects[annotation["image_id"]].append(_drawn(annotation, label))
    for image in listed.values():
        if wrong := wrong_size(image["height"], image["width"]):
            found.problems.append(f"{content['path']}: image {image['id']} {wrong}; take a whole file")
    names = [f"{folder}/{image['file_name']}" for image in listed.values()]
    found.problems += _out_of_step(found, content["path"], names, there)
    found.sides[side] = [
        scene(found.base / name, image["height"], image["width"], objects[number], masks=True)
        for name, (number, image) in sorted(zip(names, listed.items(), strict=True), key=lambda pair: pair[0])
    ]


def _named(content: dict[str, Any], annotation: dict[str, Any]) -> str:
    return f"{content['path']}: annotation {annotation['id']}"


def _wrong(annotation: dict[str, Any], listed: dict[int, Any], label: dict[int, int]) -> str:
    """What is wrong with an annotation and what mends it; empty where nothing is."""
    image = listed.get(annotation["image_id"])
    if image is None:
        return f"is of image {annotation['image_id']}, which is not listed; take a whole file"
    if annotation["category_id"] not in label:
        return f"has category {annotation['category_id']}, which is not listed; take a whole file"
    size, corners = (image["height"], image["width"]), _corners(annotation)
    fault = wrong_box(corners, *size) if corners else "is no list of four numbers"
    if fault:
        box = f"{annotation['bbox']!r:.80}"
        return f"has a box that {fault} ({box} in {image['file_name']}); mend or remove it"
    if annotation.get("iscrowd", 0) not in (0, 1):
        return "has an iscrowd that is neither 0 nor 1; take the instances files"
    if not annotation.get("segmentation"):
        return "has no segmentation; take the instances files"
    fault = wrong_outline(annotation["segmentation"], *size)
    return f"{fault}; take the official instances files" if fault else ""


def _corners(annotation: dict[str, Any]) -> tuple[float, float, float, float] | None:
    """x1, y1, x2, y2; None where the box is not of four numbers."""
    box = annotation["bbox"]
    if len(box) != 4 or not all(type(each) in (int, float) and abs(each) < _MANY for each in box):
        return None
    x, y, width, height = map(float, box)
    return x, y, x + width, y + height


def _drawn(annotation: dict[str, Any], label: dict[int, int]) -> Drawn:
    corners, crowd = _corners(annotation), bool(annotation.get("iscrowd", 0))
    assert corners is not None  # as `_wrong` has seen
    return Drawn(corners, label[annotation["category_id"]], crowd, annotation["segmentation"])


def _out_of_step(found: Survey, path: Path, names: list[str], there: set[str]) -> Iterator[str]:
    times = Counter(names)
    for name, number in times.items():
        if name not in there:
            yield f"{found.base / name} is missing, but {path.name} lists it; restore the image"
        elif number > 1:
            yield f"{path}: {name} is listed {number} times; take a whole file"
    for name in sorted(there - times.keys()):
        yield f"{found.base / name} is not in {path.name}; take annotations in step, or move it elsewhere"
