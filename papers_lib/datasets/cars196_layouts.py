"""How Stanford Cars lies on disk: its three layouts, its class list, and all that can be wrong.

Layouts, recognised by what is there:

* A, the devkit's and torchvision's: `cars_train/`, `cars_test/`, `devkit/cars_meta.mat`,
  `devkit/cars_train_annos.mat`, `cars_test_annos_withlabels.mat`, often inside `stanford_cars/`; Kaggle's
  copies have each a folder deeper, or flat, so files and folders are found by their names;
* B, one folder: `car_ims/` with `cars_annos.mat`;
* C, a folder a class: `images/<class name>/`, or `train/` and `test/` inside `car_data/`.

Copies number the classes differently, so a class is known by its name and never by its number;
fields of a `.mat` file are read by name, because the devkit's description lists them in another
order than its files. `survey` opens label files and lists folders; it opens no image.
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

from papers_lib.datasets import matlab
from papers_lib.datasets.folders import ODD, STANDIN, SUFFIXES, Found, is_left, read_text, reason, standin
from papers_lib.errors import PapersError
from papers_lib.settings import Frozen, validate

Box = tuple[int, ...]

COUNTS: Mapping[str, tuple[int, int]] = {"cars196": (8054, 8131), "cars196_half": (4052, 4092)}
"""Images of the 98 training and of the 98 test classes."""

_TYPES = Path(__file__).with_name("cars196_types.csv")
_BOX = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
_INSIDE = ("stanford_cars", "", "car_data/car_data", "car_data")
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
class Survey(Found):
    """What label files and folders say; where there is no problem, `pictures` and `sizes` name the same."""

    layout: str
    catalogue: Catalogue
    pictures: list[Picture] = field(default_factory=list)

    @property
    def content(self) -> str:
        """SHA-256 of the label table, the class list, and each image's name and size in bytes.

        Cheap, and the same wherever the folder lies. It cannot see an image that was replaced by
        another one of the same name and the same number of bytes.
        """
        c = self.catalogue
        maps = [list(types) for _, types in sorted(c.coarse.items())]
        rows = [[p.file, p.label, p.box, self.sizes.get(p.file)] for p in self.pictures]
        text = json.dumps([c.classes, sorted(c.training), maps, rows], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def survey(root: Path, name: str) -> Survey:
    """Read the label table under `root` and hold it against the folders and the known counts.

    Args:
        root: the data set's own folder, or the folder that holds it as `<name>/`.
        name: `cars196_half` is the official training half, all 196 classes.

    Raises:
        PapersError: an unknown name, nothing to survey, or a broken `STANDIN.json`.
    """
    if name not in COUNTS:
        raise PapersError(f"unknown data set {name!r}; known: {', '.join(COUNTS)}")
    base, layout, told = _find(Path(root), name)
    found = Survey(name, base, layout, _catalogue(name, base, told), told=told)
    {"A": _devkit, "B": _one_folder, "C": _class_folders}[layout](found)
    if not found.problems:  # a missing part would only be told again, image by image
        found.problems += [*_out_of_step(found), *_wrong_counts(found)]
    found.tell_ignored()
    return found


# Where it is


def _find(root: Path, name: str) -> tuple[Path, str, dict[str, Any] | None]:
    for outer in (root / name, root):
        inner = [each.name for each in _inside(outer, 1) if each != outer]
        around = inner if len(inner) == 1 and inner[0] not in COUNTS else []  # what an archive put around all
        for folder in (*_INSIDE, *around):
            base = outer / folder
            layout = next((k for k, marks in _MARKS.items() if _any_in(base, marks)), "")
            if layout and not (layout == "C" and folder in around):  # other data sets have such names, too
                return base, layout, standin((base, outer), "cars196", dict.fromkeys(COUNTS, list))
    raise PapersError(f"{_nothing(root, name)}; {mend(root, name)}")


def _any_in(base: Path, marks: Iterable[str]) -> bool:
    return any((base / mark).exists() for mark in marks)


def _inside(base: Path, depth: int = 2) -> list[Path]:
    """`base` and the folders in it, the nearest first."""
    places = [base]
    for place in places:  # it grows meanwhile
        if len(place.relative_to(base).parts) < depth:
            names = next(os.walk(place), ("", [], []))[1]
            places += [place / name for name in sorted(names) if not is_left(name)]
    return places


def _nothing(root: Path, name: str) -> str:
    if not root.is_dir():
        return f"no {name}: the folder {root} does not exist"
    if not any(root.iterdir()):
        return f"no {name}: the folder {root} is empty"
    return (
        f"no {name} in {root}: neither devkit/ with cars_train/, nor cars_annos.mat with car_ims/, "
        "nor images/<class>/ is there"
    )


def mend(root: Path, name: str) -> str:
    """The commands that bring a data set to `root`."""
    make = f" or render a stand-in: python -m data_prep make {name} {root}"
    return f"bring it: python -m data_prep import {name} SOURCE {root}" + make * (name == "cars196")


# The class list


def key(label: str) -> str:
    """A class name as all copies share it: without case, and with blanks for `_`, `-` and `/`.

    "Ram C/V Cargo Van Minivan 2012" cannot be a folder's name, and copies disagree on what stands
    for the slash.
    """
    return re.sub(r"[\s_/-]+", " ", label).strip().casefold()


def _catalogue(name: str, base: Path = Path(), told: dict[str, Any] | None = None) -> Catalogue:
    if told is not None:
        return _rendered(name, base, told)
    lines = read_text(_TYPES).splitlines()
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    return Catalogue(
        classes=tuple(row["class_name"] for row in rows),
        training=frozenset(row["class_name"] for row in rows if row["split"] == "train"),
        coarse={m: tuple(row[m] for row in rows) for m in ("type22", "body9")},
        counts=COUNTS[name],
        images=tuple(int(row["images"]) for row in rows) if name == "cars196" else None,
    )


def _rendered(name: str, base: Path, content: dict[str, Any]) -> Catalogue:
    try:
        told = validate(StandIn, content)
        images = told.counts[name]
        pairs = list(zip(told.classes, images, strict=True))
        _ = [list(zip(told.classes, types, strict=True)) for types in told.coarse.values()]
    except (ValueError, TypeError, AttributeError, KeyError, PapersError) as error:
        raise PapersError(
            f"the {STANDIN} of {base} is broken ({reason(error)}); render the stand-in again"
        ) from None
    training = frozenset(told.training)
    train = sum(n for label, n in pairs if label in training)
    counts = (train, sum(images) - train)
    return Catalogue(told.classes, training, told.coarse, counts, images)


# Layout A


def _devkit(found: Survey) -> None:
    parts = [("cars_train", "cars_train_annos.mat")]
    parts += [("cars_test", "cars_test_annos_withlabels.mat")] if found.name == "cars196" else []
    mats = _read(found, "cars_meta.mat", *(file for _, file in parts))
    names = _class_names(found, *mats["cars_meta.mat"])
    for part, file in parts:
        folder, (path, _) = _folder(found, part), mats[file]
        missing = [*_absent(folder, f"{part}/"), *_absent(path, file)]
        if missing:
            found.problems.append(_half(found, missing))
            continue
        found.images_in(folder)
        for row in _rows(found, *mats[file], ("fname", "class", *_BOX)):
            _add(found, f"{folder}/{row['fname']}", row, names, path)


def _folder(found: Survey, name: str) -> str:
    """The folder of this name, from `found.base`; of several, one inside the other, the last with images."""
    named = [place for place in _inside(found.base) if place.name == name]
    full = [place for place in named if any(each.suffix.lower() in SUFFIXES for each in place.iterdir())]
    return next((p.relative_to(found.base).as_posix() for p in (*full[::-1], *named)), "")


def _read(found: Survey, *names: str) -> dict[str, tuple[Path, dict[str, Any]]]:
    """Where each label file lies, and what it holds; "x (1).mat", a browser's second copy, is x.mat, too."""
    there: dict[str, Path] = {}
    mats = [path for place in _inside(found.base) for path in sorted(place.glob("*.[mM][aA][tT]"))]
    for path in sorted(mats, key=lambda path: len(path.name)):
        there.setdefault(re.sub(r"( ?\(\d+\)| - Copy)?\.mat$", ".mat", path.name, flags=re.I), path)
    content = matlab.read([there[name] for name in names if name in there])
    return {name: (path := there.get(name, Path()), content.get(path, {})) for name in names}


def _absent(place: Path | str, name: str) -> list[str]:
    return [] if place not in (Path(), "") else [name]


def _half(found: Survey, missing: list[str]) -> str:
    line = f"half a data set: {' and '.join(missing)} missing in {found.base}"
    if any("test" in name for name in missing):
        return f"{line}; add the official test half, or use the name cars196_half"
    return f"{line}; add what is missing from the copy that you have"


def _class_names(found: Survey, path: Path, content: dict[str, Any]) -> list[str]:
    if path == Path():
        found.problems.append(_half(found, ["cars_meta.mat"]))
    elif "error" in content:
        found.problems.append(_unread(path, content))
    elif "class_names" not in content:
        found.problems.append(f"{path} has no class_names; take the file of the devkit")
    return [ODD.sub("?", name) for name in content.get("class_names", ())]


# Layout B


def _one_folder(found: Survey) -> None:
    name, folder = "cars_annos.mat", _folder(found, "car_ims")
    path, content = _read(found, name)[name]
    missing = [*_absent(path, name), *_absent(folder, "car_ims/")]
    if missing:
        found.problems.append(_half(found, missing))
        return
    names = _class_names(found, path, content)
    found.images_in(folder)
    for row in _rows(found, path, content, ("relative_im_path", "class", "test", *_BOX)) if names else ():
        file = folder.removesuffix("car_ims") + str(row["relative_im_path"])
        if found.name == "cars196_half" and row["test"]:
            found.sizes.pop(file, None)
        else:
            _add(found, file, row, names, path)


# Layout C


def _class_folders(found: Survey) -> None:
    official = [part for part in ("train", "test") if (found.base / part).is_dir()]
    if found.name == "cars196_half" and "train" not in official:
        found.problems.append(
            f"{found.base / 'images'} does not say which images are the official training half; "
            "use the name cars196, or a copy with devkit/"
        )
        return
    if len(official) == 1 and found.name == "cars196":
        absent = {"train": "test", "test": "train"}[official[0]]
        found.problems.append(_half(found, [f"{absent}/"]))
        return
    for part in (official or ["images"])[: 1 if found.name == "cars196_half" else None]:
        for folder in found.folders_in(part):
            _one_class(found, f"{part}/{folder}", found.catalogue.known.get(key(folder)))


def _one_class(found: Survey, folder: str, label: str | None) -> None:
    if label is None:
        found.problems.append(f"{found.base / folder}: no class of {found.name} has this name; rename it")
        return
    found.pictures += [Picture(file, label) for file in found.images_in(folder)]


# Reading


def _unread(path: Path, content: dict[str, Any]) -> str:
    if content["error"] == "v7.3":
        return (
            f"{path} is a MATLAB 7.3 file, which is HDF5 and not read here; save it with -v7 in MATLAB, or "
            "take the file of the devkit"
        )
    return f"{path} cannot be read ({content['error']}); copy the file again"


def _rows(
    found: Survey, path: Path, content: dict[str, Any], fields: tuple[str, ...]
) -> Iterator[Mapping[str, Any]]:
    if "error" in content:
        line = _unread(path, content)
        found.problems += [line] if line not in found.problems else []
        return
    there = content.get("fields", ())
    absent = [name for name in fields if name not in there]
    if absent:
        hint = "the devkit's own test list has no classes: take cars_test_annos_withlabels.mat"
        found.problems.append(
            f"{path} has no {', '.join(absent)} in its annotations; "
            + (hint if absent == ["class"] else "take the file of the devkit")
        )
        return
    for row in content["rows"]:
        plain = (ODD.sub("?", value) if isinstance(value, str) else value for value in row)
        yield dict(zip(there, plain, strict=True))


def _add(found: Survey, file: str, row: Mapping[str, Any], names: list[str], path: Path) -> None:
    if not names:  # told already
        return
    try:
        number, box = int(row["class"]), tuple(int(row[name]) for name in _BOX)
    except (TypeError, ValueError, OverflowError):
        found.problems.append(f"{path}: the row of {file} is not made of numbers; take a whole file")
        return
    label = names[number - 1] if 0 < number <= len(names) else f"number {number}"
    known = found.catalogue.known.get(key(label))
    if known is None:
        found.problems.append(
            f"{path}: {file} has the class {label!r}, which is none of the {len(found.catalogue.classes)}"
            "; take the label file that belongs to these images"
        )
    else:
        found.pictures.append(Picture(file, known, box))


# Holding the table against the folders and the counts


def _out_of_step(found: Survey) -> Iterator[str]:
    listed = Counter(p.file for p in found.pictures)
    for file, times in listed.items():
        if file not in found.sizes:
            yield f"{found.base / file} is missing, but the labels name it; restore the image"
        elif times > 1:
            yield f"{found.base / file} stands {times} times in the label file; take a whole file"
    for file in found.sizes:
        if file not in listed:
            yield f"{found.base / file} is in no label file; take labels in step, or move it elsewhere"


def _wrong_counts(found: Survey) -> Iterator[str]:
    c = found.catalogue
    images = Counter(p.label for p in found.pictures)
    for side, expected in zip(("training", "test"), c.counts, strict=True):
        count = sum(images[label] for label in c.side(side))
        if count != expected:
            yield (
                f"{found.name} has {count} images of the {len(c.side(side))} {side} classes, "
                f"{expected} expected; restore the copy in {found.base}"
            )
    known = c.images or (None,) * len(c.classes)
    for label, number in zip(c.classes, known, strict=True):
        wrong = _wrong_class(images[label], number)
        if wrong:
            yield f"class {label!r} has {wrong}; restore its images in {found.base}"


def _wrong_class(count: int, expected: int | None) -> str:
    if count == 0:
        return "no image"
    if count == 1 and expected != 1:
        return "one image, so none that is positive to it"
    return f"{count} images, {expected} expected" if expected not in (None, count) else ""
