"""PASCAL VOC07+12 (Everingham et al., IJCV 2010): trainval of 2007 and 2012 to train, test of 2007 to test.

    VOC2007/  VOC2012/      each with Annotations/<id>.xml  ImageSets/Main/<split>.txt  JPEGImages/<id>.jpg

Corners count pixels from 1, inclusive; boxes here are from 0 with the right and lower edge outside.
Objects marked difficult are `ignored`, as in VOC's own evaluation.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from papers_lib.datasets.folders import is_left, read_text, reason
from papers_lib.datasets.scenes import Drawn, Scene, Scenes, Survey, begin, scene, wrong_box, wrong_size

NAME, OFFICIAL = "voc0712", "VOCdevkit"
_WORDS = """
    aeroplane bicycle bird boat bottle bus car cat chair cow
    diningtable dog horse motorbike person pottedplant sheep sofa train tvmonitor
"""
CLASSES = tuple(_WORDS.split())
LISTS = {"train": (("VOC2007", "trainval"), ("VOC2012", "trainval")), "test": (("VOC2007", "test"),)}
COUNTS = {"train": 5011 + 11540, "test": 4952}


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
    survey = begin(root, NAME, OFFICIAL, "VOC2007")
    # A stand-in has classes of its own.
    survey.classes = survey.classes or CLASSES
    stems: dict[str, str] = {}  # the image of a path without its suffix
    for year in ("VOC2007", "VOC2012"):
        images = survey.hold_folder(f"{year}/JPEGImages")
        stems |= {image.rpartition(".")[0]: image for image in images}
        if not images:  # each annotation would be told to lack its own
            continue
        for path in sorted((survey.base / year / "Annotations").glob("*.xml")):
            if f"{year}/JPEGImages/{path.stem}" not in stems and not is_left(path.name):
                survey.problems.append(f"{path} has no image in {year}/JPEGImages; restore the image")
    if not survey.problems:  # what is missing would only be told again
        for side, lists in LISTS.items():
            for year, split in lists:
                survey.sides[side] += _read_list(survey, year, split, stems)
    if not survey.problems:
        survey.hold_images(COUNTS)
    survey.note_ignored()
    return survey


def _read_list(survey: Survey, year: str, split: str, stems: dict[str, str]) -> list[Scene]:
    path = survey.base / year / "ImageSets" / "Main" / f"{split}.txt"
    if not survey.has_file(path):
        return []
    # in the list's order, each once
    numbers: dict[str, None] = {}
    with survey.telling():
        numbers = dict.fromkeys(read_text(path).split())
    scenes = []
    for number in numbers:
        image = stems.get(f"{year}/JPEGImages/{number}")
        annotation = survey.base / year / "Annotations" / f"{number}.xml"
        if image is None:
            missing = survey.base / f"{year}/JPEGImages/{number}.jpg"
            survey.problems.append(f"{missing} is missing, but {path.name} lists it; restore the image")
        elif not annotation.is_file():
            survey.problems.append(
                f"{annotation} is missing, but {path.name} lists it; restore the annotation"
            )
        else:
            scenes += _read_annotation(survey, survey.base / image, annotation)
    return scenes


def _read_annotation(survey: Survey, image: Path, path: Path) -> list[Scene]:
    """The scene of one annotation, or nothing and the problems told."""
    try:
        root = ElementTree.parse(path).getroot()  # expat refuses entities that grow
        width, height = (int(_text(root, f"size/{side}")) for side in ("width", "height"))
        objects = [_object(survey.classes, item) for item in root.iterfind("object")]
    except (ElementTree.ParseError, OSError, ValueError, LookupError, RecursionError) as error:
        survey.problems.append(f"{path} cannot be read ({reason(error)}); restore the annotation")
        return []
    # Every fault of a file is told at once.
    faults = [f"has a box that {fault}" for item in objects if (fault := wrong_box(item.box, height, width))]
    faults += [] if objects else ["has no object"]
    faults += [fault] if (fault := wrong_size(height, width)) else []
    survey.problems += [f"{path} {fault}; mend or restore the annotation" for fault in faults]
    return [] if faults else [scene(image, height, width, objects, masks=False)]


def _object(classes: tuple[str, ...], item: ElementTree.Element) -> Drawn:
    name = _text(item, "name")
    if name not in classes:
        raise ValueError(f"unknown class {name!r}, known are {', '.join(classes[:3])} …")
    # Found by name: tools write the four corners in any order.
    x1, y1, x2, y2 = (float(_text(item, f"bndbox/{corner}")) for corner in ("xmin", "ymin", "xmax", "ymax"))
    # absent in annotations by other tools
    difficult = (item.findtext("difficult") or "0").strip() == "1"
    return Drawn((x1 - 1, y1 - 1, x2, y2), classes.index(name) + 1, difficult)  # from 1 inclusive to from 0


def _text(item: ElementTree.Element, path: str) -> str:
    text = item.findtext(path)
    if text is None or not text.strip():
        raise ValueError(f"no {path}")
    return text.strip()
