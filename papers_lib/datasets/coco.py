"""COCO 2017 instances (Lin et al., ECCV 2014): train2017 to train, val2017 to test.

    annotations/instances_train2017.json   annotations/instances_val2017.json
    train2017/000000000009.jpg …           val2017/000000000139.jpg …

Category numbers have gaps (80 of 1 … 90); labels here are 1 … 80 in their order. `survey` reads the two
annotation files whole, some gigabytes of memory at full size, and lists the folders.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from papers_lib.datasets.scenes import (
    Drawn,
    Scenes,
    Survey,
    find,
    images,
    scene,
    told,
    wrong_box,
    wrong_counts,
)

NAME, OFFICIAL = "coco2017", "coco"
FOLDERS = {"train": "train2017", "test": "val2017"}
COUNTS = {"train": 118287, "test": 5000}
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
    found = Survey(NAME, base, told(base, NAME, OFFICIAL))
    for side, folder in FOLDERS.items():
        content = _content(found, base / "annotations" / f"instances_{folder}.json")
        found.sizes |= (there := images(base, folder))
        if not there:
            found.problems.append(f"half a data set: no image in {base / folder}; restore its images")
        elif content is not None:
            _read(found, side, content, there)
    if not found.problems:
        found.problems += wrong_counts(found, COUNTS)
    return found


def _content(found: Survey, path: Path) -> dict[str, Any] | None:
    """An annotation file with its three lists, or a problem told."""
    if not path.is_file():
        found.problems.append(f"half a data set: {path} is missing; add it from the copy that you have")
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        lists = [list(content[key]) for key in ("images", "annotations", "categories")]
        _ = [(int(i["id"]), int(i["height"]), int(i["width"]), str(i["file_name"])) for i in lists[0]]
        _ = [(int(a["id"]), a["image_id"], a["category_id"], len(a["bbox"]) == 4 or 1 / 0) for a in lists[1]]
        classes = tuple(str(c["name"]) for c in sorted(lists[2], key=lambda c: int(c["id"])))
    except (OSError, ValueError, TypeError, KeyError, ZeroDivisionError) as error:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        found.problems.append(f"{path} is no file of COCO instances ({reason}); copy it again")
        return None
    if found.classes and found.classes != classes:
        found.problems.append(
            f"{path} has other categories than the training file; take files of one release"
        )
        return None
    found.classes = classes
    return dict(content) | {"path": path}


def _read(found: Survey, side: str, content: dict[str, Any], there: dict[str, int]) -> None:
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
    fault = wrong_box(_corners(annotation), image["height"], image["width"])
    if fault:
        return f"has a box that {fault} ({annotation['bbox']} in {image['file_name']}); mend or remove it"
    if not annotation.get("segmentation"):
        return "has no segmentation; take the instances files"
    return ""


def _corners(annotation: dict[str, Any]) -> tuple[float, float, float, float]:
    x, y, width, height = map(float, annotation["bbox"])
    return x, y, x + width, y + height


def _drawn(annotation: dict[str, Any], label: dict[int, int]) -> Drawn:
    crowd = bool(annotation.get("iscrowd", 0))
    return Drawn(_corners(annotation), label[annotation["category_id"]], crowd, annotation["segmentation"])


def _out_of_step(found: Survey, path: Path, names: list[str], there: dict[str, int]) -> Iterator[str]:
    times = Counter(names)
    for name, number in times.items():
        if name not in there:
            yield f"{found.base / name} is missing, but {path.name} lists it; restore the image"
        elif number > 1:
            yield f"{path}: {name} is listed {number} times; take a whole file"
    for name in sorted(there.keys() - times.keys()):
        yield f"{found.base / name} is not in {path.name}; remove it, or take annotations in step"
