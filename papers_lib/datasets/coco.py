"""COCO 2017 instances (Lin et al., ECCV 2014): train2017 to train, val2017 to test.

    annotations/instances_train2017.json   annotations/instances_val2017.json
    train2017/000000000009.jpg …           val2017/000000000139.jpg …

Category numbers have gaps (80 of 1 … 90); labels here are 1 … 80 in their order. `survey` reads the two
annotation files whole, some gigabytes of memory at full size, and lists the folders.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from papers_lib.datasets import scenes
from papers_lib.datasets.folders import ODD, read_json, reason
from papers_lib.datasets.scenes import Drawn, Scenes, Survey
from papers_lib.errors import PapersError

NAME, OFFICIAL = "coco2017", "coco"
FOLDERS = {"train": "train2017", "test": "val2017"}
COUNTS = {"train": 118287, "test": 5000}
_MANY = 10**9  # no coordinate is as large; a larger one may be no float
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
    # Any file or folder of this name will do, so that half a copy is told as half.
    survey = scenes.begin(root, NAME, OFFICIAL, "annotations")
    # A stand-in tells its classes, too, but the files are what is read.
    survey.classes = ()  # those of the files
    for side, folder in FOLDERS.items():
        path = survey.base / "annotations" / f"instances_{folder}.json"
        content = _content(survey, path)
        images = set(survey.hold_folder(folder))
        # Without images, each annotation would be told to lack its own.
        if images and content is not None:
            _read(survey, side, path, content, images)
    if not survey.problems:
        survey.hold_images(COUNTS)
    survey.note_ignored()
    return survey


def _content(survey: Survey, path: Path) -> dict[str, Any] | None:
    """An annotation file with its three lists; None where a problem is told."""
    if not survey.has_file(path):
        return None
    try:
        content = read_json(path)
        classes = _classes(content)
    except PapersError as error:
        survey.problems.append(str(error))
        return None
    except (ValueError, TypeError, KeyError) as error:
        survey.problems.append(f"{path} is no file of COCO instances ({reason(error)}); copy it again")
        return None
    # The training file is read first, and its labels hold for both.
    if survey.classes and survey.classes != classes:
        survey.fault(path, "has other categories than the training file; take files of one release")
        return None
    survey.classes = classes
    return dict(content)


def _classes(content: Any) -> tuple[str, ...]:
    """The names of the categories, by their numbers; an error where a table does not have its columns."""
    # A bool is no int here, so that types are compared and not `isinstance`.
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


def _read(survey: Survey, side: str, path: Path, content: dict[str, Any], there: set[str]) -> None:
    # An annotation knows its image by number, the folder by name.
    listed = {image["id"]: image for image in content["images"]}
    # Numbers have gaps (1 … 90), labels have none (1 … 80).
    label = {c["id"]: survey.classes.index(c["name"]) + 1 for c in content["categories"]}
    objects: dict[int, list[Drawn]] = {number: [] for number in listed}
    for annotation in content["annotations"]:
        number = annotation["image_id"]
        item, where = _object(annotation, listed.get(number), label), f"{path}: annotation {annotation['id']}"
        if isinstance(item, Drawn):
            objects[number].append(item)
        # Two boxes of the release are empty, and every copy has them.
        elif number in EMPTY and item.startswith("has a box that is empty"):
            survey.notes.append(f"{where} {item}: known of the release, left out")
        else:
            survey.problems.append(f"{where} {item}")
    names = {number: f"{FOLDERS[side]}/{image['file_name']}" for number, image in listed.items()}
    for number, image in listed.items():
        if wrong := scenes.wrong_size(image["height"], image["width"]):
            survey.problems.append(f"{path}: image {number} {wrong}; take a whole file")
    survey.hold_listed(names.values(), sorted(there), f"{path.name} lists it", f"is not in {path.name}")
    # Sorted by file name, an image without objects, too: it is evaluated.
    for number in sorted(listed, key=names.__getitem__):
        image, height, width = survey.base / names[number], listed[number]["height"], listed[number]["width"]
        survey.sides[side].append(scenes.scene(image, height, width, objects[number], masks=True))


def _object(annotation: dict[str, Any], image: dict[str, Any] | None, label: dict[int, int]) -> Drawn | str:
    """An object, or what is wrong with its annotation and what mends it."""
    if image is None or annotation["category_id"] not in label:
        what = "is of image" if image is None else "has category"
        number = annotation["image_id" if image is None else "category_id"]
        return f"{what} {number}, which is not listed; take a whole file"
    size, box, fault = (image["height"], image["width"]), annotation["bbox"], "is no list of four numbers"
    corners = (0.0, 0.0, 0.0, 0.0)
    if len(box) == 4 and all(type(value) in (int, float) and abs(value) < _MANY for value in box):
        # COCO: x, y, width, height; here x1, y1, x2, y2
        x, y, width, height = map(float, box)
        corners = (x, y, x + width, y + height)
        fault = scenes.wrong_box(corners, *size)
    if fault:
        return f"has a box that {fault} ({box!r:.80} in {image['file_name']}); mend or remove it"
    # Captions and keypoints have neither of the two.
    crowd, outline = annotation.get("iscrowd", 0), annotation.get("segmentation")
    if crowd not in (0, 1) or not outline:
        fault = "no segmentation" if crowd in (0, 1) else "an iscrowd that is neither 0 nor 1"
        return f"has {fault}; take the instances files"
    if fault := scenes.wrong_outline(outline, *size):
        return f"{fault}; take the official instances files"
    return Drawn(corners, label[annotation["category_id"]], bool(crowd), outline)
