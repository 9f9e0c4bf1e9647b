"""How Stanford Cars lies on disk: its three layouts, its class list, and all that can be wrong.

Layouts, recognised by what is there:

* A, the devkit's and torchvision's: `cars_train/`, `cars_test/`, `devkit/cars_meta.mat`,
  `devkit/cars_train_annos.mat`, `cars_test_annos_withlabels.mat`, often inside `stanford_cars/`; Kaggle's
  copies have each a folder deeper, or flat, so files and folders are found by their names;
* B, one folder: `car_ims/` with `cars_annos.mat`;
* C, a folder per class: `images/<class name>/`, or `train/` and `test/` inside `car_data/`.

Copies number the classes differently, so a class is known by its name and never by its number;
fields of a `.mat` file are read by name, because the devkit's description lists them in another
order than its files.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from papers_lib.datasets import folders, matlab
from papers_lib.datasets.folders import BRING, BRING_OR_RENDER, ODD, STANDIN, SUFFIXES
from papers_lib.errors import PapersError
from papers_lib.settings import Frozen, validate

Box = tuple[int, ...]

COUNTS: Mapping[str, tuple[int, int]] = {"cars196": (8054, 8131), "cars196_half": (4052, 4092)}
"""Images of the 98 training and of the 98 test classes."""

_TYPES = Path(__file__).with_name("cars196_types.csv")
# Columns of the devkit, whose README has them in another order.
_BOX = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
# Folders that torchvision and Kaggle put around the data, "" for none, as they are tried.
_INSIDE = ("stanford_cars", "", "car_data/car_data", "car_data")
_MISSING = "neither devkit/ with cars_train/, nor cars_annos.mat with car_ims/, nor images/<class>/ is there"
# Any one is enough to tell a layout, so that half a copy is told as half.
_MARKS = {
    "A": ("devkit", "cars_train", "cars_test"),
    "B": ("cars_annos.mat", "car_ims"),
    "C": ("images", "train", "test"),
}


class StandIn(Frozen):
    """What `STANDIN.json` says of a rendered data set.

    `counts` has the images of each class, in the order of `classes`, for each data set name that
    the folder can be read as; `coarse` has the type of each class, for each coarse map.
    """

    name: str
    size: str
    seed: int
    options: dict[str, Any]
    drawing: str
    recipe: dict[str, Any]
    classes: tuple[str, ...]
    training: tuple[str, ...]
    coarse: dict[str, tuple[str, ...]]
    counts: dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Catalogue:
    """The class list [C] with what is known beforehand; `images` [C] only where it is known."""

    classes: tuple[str, ...]
    training: frozenset[str]
    coarse: Mapping[str, tuple[str, ...]]
    counts: tuple[int, int]
    images: tuple[int, ...] | None

    @cached_property
    def known(self) -> dict[str, str]:
        """The class name as it stands in `classes`, by its `key`."""
        return {key(label): label for label in self.classes}

    def side(self, side: str) -> list[str]:
        """The "training" or the "test" classes."""
        return [c for c in self.classes if (c in self.training) == (side == "training")]


@dataclass(frozen=True)
class Picture:
    """One row of the label table. `file` is relative to the data set's folder."""

    file: str
    label: str
    box: Box | None = None


@dataclass
class Survey(folders.Survey):
    """What label files and folders say; where there is no problem, `pictures` and `sizes` name the same."""

    layout: str
    catalogue: Catalogue
    pictures: list[Picture] = field(default_factory=list)

    @property
    def content(self) -> str:
        """SHA-256 of the label table, the class list, and each image's name and size in bytes."""
        c = self.catalogue
        types = [list(words) for _, words in sorted(c.coarse.items())]
        rows = [[p.file, p.label, p.box, self.sizes.get(p.file)] for p in self.pictures]
        # Without blanks, and in the order of the label files.
        text = json.dumps([c.classes, sorted(c.training), types, rows], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def survey(root: Path, name: str) -> Survey:
    """Hold the label table of `name` under `root` against the folders and the known counts.

    Raises:
        PapersError: an unknown name, nothing to survey, or a broken `STANDIN.json`.
    """
    folders.pick(name, COUNTS)
    root = Path(root)
    mend = BRING_OR_RENDER if name == "cars196" else BRING
    # A zip is often unpacked to a folder of its own name.
    archives = [folder for outer in (root / name, root) for folder in _archive(outer)]
    inside = (*_INSIDE, *archives)
    base, outer = folders.find(
        root, name, inside, lambda base: _layout(base, base.name in archives), _MISSING, mend
    )
    told = folders.standin((base, outer), "cars196", dict.fromkeys(COUNTS, list))
    survey = Survey(name, base, outer, _layout(base), _catalogue(name, base, told), told=told)
    # C has its labels in folder names, A and B in files of MATLAB.
    if survey.layout == "C":
        _class_folders(survey)
    else:
        _labelled(survey)
    if not survey.problems:  # a missing part would only be told again, image by image
        survey.hold_listed(
            [p.file for p in survey.pictures], survey.sizes, "the labels name it", "is in no label file"
        )
        _hold_counts(survey)
    survey.note_ignored()
    return survey


# -- where it is --


def _layout(base: Path, archive: bool = False) -> str:
    """The layout that lies in `base`, if any; in an archive's folder, C's names may be another data set's."""
    kinds = [kind for kind, marks in _MARKS.items() if folders.marked(*marks)(base)]
    return kinds[0] if kinds and not (archive and kinds[0] == "C") else ""


def _archive(outer: Path) -> list[str]:
    """The one folder in `outer`, which an archive may have put around everything."""
    # Two folders or more are data sets beside each other, not an archive's.
    names = _folder_names(outer)
    return names if len(names) == 1 and names[0] not in (*COUNTS, *_INSIDE) else []


def _folder_names(place: Path) -> list[str]:
    names = next(os.walk(place), ("", [], []))[1]
    return [name for name in sorted(names) if not folders.is_left(name)]


def _inside(base: Path) -> list[Path]:
    """`base`, the folders in it and those in these, the nearest first."""
    near = [base / name for name in _folder_names(base)]
    return [base, *near, *(place / name for place in near for name in _folder_names(place))]


# -- the class list --


def key(label: str) -> str:
    """A class name as all copies share it: without case, and with blanks for `_`, `-` and `/`.

    "Ram C/V Cargo Van Minivan 2012" cannot be a folder's name, and copies disagree on what stands
    for the slash.
    """
    return re.sub(r"[\s_/-]+", " ", label).strip().casefold()


def _catalogue(name: str, base: Path = Path(), told: dict[str, Any] | None = None) -> Catalogue:
    """The published class list, or the one that `STANDIN.json` in `base` tells."""
    if told is None:
        lines = folders.read_text(_TYPES).splitlines()
        rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
        return Catalogue(
            classes=tuple(row["class_name"] for row in rows),
            training=frozenset(row["class_name"] for row in rows if row["split"] == "train"),
            coarse={m: tuple(row[m] for row in rows) for m in ("type22", "body9")},
            counts=COUNTS[name],
            # How the images of a class fall into the official halves is not in the table.
            images=tuple(int(row["images"]) for row in rows) if name == "cars196" else None,
        )
    try:
        standin = validate(StandIn, told)
        images = standin.counts[name]
        if any(len(values) != len(standin.classes) for values in (images, *standin.coarse.values())):
            raise ValueError("another length than the class list")
    except (ValueError, KeyError, PapersError) as error:
        wrong = f"the {STANDIN} of {base} is broken ({folders.reason(error)})"
        raise PapersError(f"{wrong}; render the stand-in again") from None
    # The counts of the two sides follow from those of the classes.
    training = frozenset(standin.training)
    train = sum(n for label, n in zip(standin.classes, images, strict=True) if label in training)
    return Catalogue(standin.classes, training, standin.coarse, (train, sum(images) - train), images)


# -- layouts A and B: images and a table of labels --


def _labelled(survey: Survey) -> None:
    """Read each part, which is a folder of images and the file of their labels."""
    parts = {"cars_train": "cars_train_annos.mat", "cars_test": "cars_test_annos_withlabels.mat"}
    meta: str = "cars_meta.mat"
    columns: tuple[str, ...] = ("fname", "class", *_BOX)
    if survey.layout == "B":
        parts, meta = {"car_ims": "cars_annos.mat"}, "cars_annos.mat"
        columns = ("relative_im_path", "class", "test", *_BOX)
    elif survey.name == "cars196_half":
        del parts["cars_test"]
    # B keeps class names and rows in one file.
    mats = _label_files(survey, [meta, *parts.values()])
    if meta not in mats and meta not in parts.values():
        _half(survey, [meta])
    path, content = mats.get(meta, (Path(), {}))
    names = [ODD.sub("?", name) for name in content.get("class_names", ())]  # in this copy's numbering
    if meta in mats and not content.keys() & {"class_names", "error"}:
        survey.fault(path, "has no class_names; take the file of the devkit")
    for part, file in parts.items():
        folder = _folder(survey, part)
        if not folder or file not in mats:
            _half(survey, [f"{part}/"] * (not folder) + [file] * (file not in mats))
            continue
        # Walked first, so that labels are held against what is there.
        survey.images_in(folder)
        for row in _rows(survey, *mats[file], columns):
            # A names the file alone, B the path from the folder around.
            image = f"{folder}/{str(row[columns[0]]).removeprefix(f'{part}/')}"
            if survey.name == "cars196_half" and row.get("test"):
                survey.sizes.pop(image, None)  # of the official test half
            elif names:  # what is wrong with them is told already
                _add(survey, image, row, names, mats[file][0])


def _label_files(survey: Survey, names: list[str]) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Where each label file lies, and what it holds; "x (1).mat", a browser's second copy, is x.mat, too."""
    there: dict[str, Path] = {}
    mats = [path for place in _inside(survey.base) for path in sorted(place.glob("*.[mM][aA][tT]"))]
    # The shortest name first: the original wins over its copies.
    for path in sorted(mats, key=lambda path: len(path.name)):
        there.setdefault(re.sub(r"( ?\(\d+\)| - Copy)?\.mat$", ".mat", path.name, flags=re.I), path)
    wanted = {name: there[name] for name in names if name in there}
    content = matlab.read(list(wanted.values()))
    for path in wanted.values():
        error = content.get(path, {}).get("error")
        if error == "v7.3":
            wrong = "is a MATLAB 7.3 file, which is HDF5 and not read here"
            survey.fault(path, f"{wrong}; save it with -v7 in MATLAB, or take the file of the devkit")
        elif error:
            survey.fault(path, f"cannot be read ({error}); copy the file again")
    return {name: (path, content.get(path, {})) for name, path in wanted.items()}


def _folder(survey: Survey, name: str) -> str:
    """The folder of this name, from `base`; of several, one inside the other, the last with images."""
    # Kaggle's cars_train/cars_train/: the outer one has no image.
    named = [place for place in _inside(survey.base) if place.name == name]
    full = [place for place in named if any(file.suffix.lower() in SUFFIXES for file in place.iterdir())]
    return next((p.relative_to(survey.base).as_posix() for p in (*full[::-1], *named)), "")


def _half(survey: Survey, missing: list[str]) -> None:
    # The training half alone is a data set of its own.
    mend = "add what is missing from the copy that you have"
    if any("test" in name for name in missing):
        mend = "add the official test half, or use the name cars196_half"
    survey.half(missing, mend)


def _rows(
    survey: Survey, path: Path, content: dict[str, Any], fields: tuple[str, ...]
) -> Iterator[Mapping[str, Any]]:
    """The rows of a label file by their columns; none where it is told what is wrong with it."""
    if "error" in content:
        return
    there = content.get("fields", ())
    absent = [name for name in fields if name not in there]
    if absent:
        mend = "take the file of the devkit"
        if absent == ["class"]:
            mend = "the devkit's own test list has no classes: take cars_test_annos_withlabels.mat"
        survey.fault(path, f"has no {', '.join(absent)} in its annotations; {mend}")
        return
    for row in content["rows"]:
        # A name goes into messages, which are one line.
        plain = (ODD.sub("?", value) if isinstance(value, str) else value for value in row)
        yield dict(zip(there, plain, strict=True))


def _add(survey: Survey, file: str, row: Mapping[str, Any], names: list[str], path: Path) -> None:
    # MATLAB's values come as any type, and a damaged file has text for numbers.
    try:
        number, box = int(row["class"]), tuple(int(row[name]) for name in _BOX)
    except (TypeError, ValueError, OverflowError):
        survey.problems.append(f"{path}: the row of {file} is not made of numbers; take a whole file")
        return
    # The number counts in this copy's own list; what is known of a class goes by its name.
    label = names[number - 1] if 0 < number <= len(names) else f"number {number}"
    known = survey.catalogue.known.get(key(label))
    if known is None:
        wrong = (
            f"{path}: {file} has the class {label!r}, which is none of the {len(survey.catalogue.classes)}"
        )
        survey.problems.append(f"{wrong}; take the label file that belongs to these images")
    else:
        survey.pictures.append(Picture(file, known, box))


# -- layout C: a folder per class --


def _class_folders(survey: Survey) -> None:
    official = [part for part in ("train", "test") if (survey.base / part).is_dir()]
    if survey.name == "cars196_half":
        if "train" not in official:
            wrong = "does not say which images are the official training half"
            survey.fault("images", f"{wrong}; use the name cars196, or a copy with devkit/")
            return
        # The official half is the folder train/.
        official = ["train"]
    elif len(official) == 1:
        _half(survey, ["test/" if official == ["train"] else "train/"])
        return
    # `images/<class>/` has both halves in one.
    for part in official or ["images"]:
        for folder in survey.folders_in(part):
            label = survey.catalogue.known.get(key(folder))
            if label is None:
                survey.fault(f"{part}/{folder}:", f"no class of {survey.name} has this name; rename it")
            else:
                survey.pictures += [Picture(file, label) for file in survey.images_in(f"{part}/{folder}")]


# -- the counts --


def _hold_counts(survey: Survey) -> None:
    c = survey.catalogue
    # Recall@1 needs two images of a class, so that one alone is a fault, too.
    images = Counter(p.label for p in survey.pictures)
    for side, expected in zip(("training", "test"), c.counts, strict=True):
        classes = c.side(side)
        count = sum(images[label] for label in classes)
        survey.hold_counts([(f"images of the {len(classes)} {side} classes", count, expected)])
    known: Iterable[int | None] = c.images or [None] * len(c.classes)
    for label, right in zip(c.classes, known, strict=True):
        count, wrong = images[label], ""
        if count == 0:
            wrong = "no image"
        elif count == 1 and right != 1:
            wrong = "one image, so none that is positive to it"
        elif right not in (None, count):
            wrong = f"{count} images, {right} expected"
        if wrong:
            survey.problems.append(f"class {label!r} has {wrong}; restore its images in {survey.base}")
