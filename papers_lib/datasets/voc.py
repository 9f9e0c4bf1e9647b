"""PASCAL VOC07+12 (Everingham et al., IJCV 2010): trainval of 2007 and 2012 to train, test of 2007 to test.

    VOC2007/  VOC2012/      each with Annotations/<id>.xml  ImageSets/Main/<split>.txt  JPEGImages/<id>.jpg

Corners count pixels from 1, inclusive; boxes here are from 0 with the right and lower edge outside.
Objects marked difficult are `ignored`, as in VOC's own evaluation.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from papers_lib.datasets.folders import is_left, read_text, reason
from papers_lib.datasets.scenes import (
    Drawn,
    Scene,
    Scenes,
    Survey,
    find,
    scene,
    told,
    wrong_box,
    wrong_counts,
    wrong_size,
)

NAME, OFFICIAL = "voc0712", "VOCdevkit"
CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
LISTS = {"train": (("VOC2007", "trainval"), ("VOC2012", "trainval")), "test": (("VOC2007", "test"),)}
COUNTS = {"train": 5011 + 11540, "test": 4952}

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def load(root: Path) -> Scenes:
    """Read lists and annotations under `root`: the folder with VOC2007 and VOC2012, or one that holds it
    as `voc0712/` or `VOCdevkit/`.

    Raises:
        PapersError: nothing there, half a data set, lists, annotations and images out of step, an unknown
            class, empty boxes, a wrong count. The message names the first fault and how to see all.
    """
    return survey(Path(root)).checked(root)


def survey(root: Path) -> Survey:
    """Read lists and annotations and hold them against the folders and the counts; opens no image.

    Raises:
        PapersError: nothing to survey, or a broken `STANDIN.json`.
    """
    base = find(root, NAME, OFFICIAL, "VOC2007")
    found = Survey(NAME, base, told=told(base, NAME, OFFICIAL))
    found.classes = tuple(found.told["classes"]) if found.told else CLASSES
    for year in ("VOC2007", "VOC2012"):
        there = found.images_in(f"{year}/JPEGImages")
        if there:
            found.problems += _alone(base, year, there)
        else:
            found.problems.append(
                f"half a data set: no image in {base / year / 'JPEGImages'}; restore its images"
            )
    if not found.problems:
        stems = {file.rpartition(".")[0]: file for file in found.sizes}
        for side, lists in LISTS.items():
            for year, split in lists:
                found.sides[side] += _listed(found, year, split, stems)
    if not found.problems:
        found.problems += wrong_counts(found, COUNTS)
    found.tell_ignored()
    return found


def _alone(base: Path, year: str, there: list[str]) -> Iterator[str]:
    """Annotations whose image is not there."""
    stems = {name.rpartition("/")[2].rpartition(".")[0] for name in there}
    for path in sorted((base / year / "Annotations").glob("*.xml")):
        if path.stem not in stems and not is_left(path.name):
            yield f"{path} has no image in {year}/JPEGImages; restore the image"


def _listed(found: Survey, year: str, split: str, stems: dict[str, str]) -> list[Scene]:
    path = found.base / year / "ImageSets" / "Main" / f"{split}.txt"
    if not path.is_file():
        found.problems.append(f"half a data set: {path} is missing; add it from the copy that you have")
        return []
    scenes = []
    numbers: dict[str, None] = {}
    with found.telling():
        numbers = dict.fromkeys(read_text(path).split())
    for number in numbers:
        image = stems.get(f"{year}/JPEGImages/{number}")
        annotation = found.base / year / "Annotations" / f"{number}.xml"
        if image is None:
            missing = found.base / f"{year}/JPEGImages/{number}.jpg"
            found.problems.append(f"{missing} is missing, but {path.name} lists it; restore the image")
        elif not annotation.is_file():
            found.problems.append(
                f"{annotation} is missing, but {path.name} lists it; restore the annotation"
            )
        else:
            scenes += _annotated(found, found.base / image, annotation)
    return scenes


def _annotated(found: Survey, image: Path, path: Path) -> list[Scene]:
    """The scene of one annotation, or nothing and the problems told."""
    try:
        tree = ElementTree.parse(path)
        width, height = (int(_text(tree.getroot(), f"size/{side}")) for side in ("width", "height"))
        objects = [_object(found.classes, each) for each in tree.iterfind("object")]
    except (ElementTree.ParseError, OSError, ValueError, LookupError, RecursionError) as error:
        found.problems.append(f"{path} cannot be read ({reason(error)}); restore the annotation")
        return []
    wrong = [f"has a box that {w}" for w in (wrong_box(o.box, height, width) for o in objects) if w]
    wrong = wrong if objects else ["has no object"]
    wrong += [each] if (each := wrong_size(height, width)) else []
    found.problems += [f"{path} {each}; mend or restore the annotation" for each in wrong]
    return [] if wrong else [scene(image, height, width, objects, masks=False)]


def _object(classes: tuple[str, ...], each: ElementTree.Element) -> Drawn:
    name = _text(each, "name")
    if name not in classes:
        raise ValueError(f"unknown class {name!r}, known are {', '.join(classes[:3])} …")
    x1, y1, x2, y2 = (float(_text(each, f"bndbox/{corner}")) for corner in _CORNERS)
    difficult = (each.findtext("difficult") or "0").strip() == "1"
    return Drawn((x1 - 1, y1 - 1, x2, y2), classes.index(name) + 1, difficult)


def _text(of: ElementTree.Element, path: str) -> str:
    found = of.findtext(path)
    if found is None or not found.strip():
        raise ValueError(f"no {path}")
    return found.strip()
