"""How CIFAR-10, CIFAR-100, Imagenette and ImageNet lie on disk, their counts, and all that can be wrong.

Layouts, recognised by what is there:

* python, binary: CIFAR's own files (see `cifar_files`), in `cifar-10-batches-py/` and the like;
* folders: `train/<class>/` and `test/<class>/` or `val/<class>/`, any image files inside; a copy of
  CIFAR as JPEGs is not quite the published one, and says so in its title;
* list: as folders, but `val/` holds its images without class folders, and `meta/val_labeled.txt` has
  "name label" lines, labels counted along the sorted folders of `train/` (OpenSelfSup's ImageNet).

Imagenette's noisy labels (`noisy_imagenette.csv`) are not read: the folders have the clean ones.
Labels are positions in the sorted class names. `survey` opens no image file; CIFAR's own it reads.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from papers_lib.datasets.cifar_files import BATCHES, Labels, Pixels, class_names, read
from papers_lib.datasets.folders import Found, lines, number, standin
from papers_lib.errors import PapersError

SIDES = ("train", "test")
VAL_LIST = "meta/val_labeled.txt"

_TEST = ("test", "val")


@dataclass(frozen=True)
class Known:
    """What is published of a data set: title, images of train and test, classes.

    `inner` are folders that copies have around it; `even` says that all classes have equally many images.
    """

    title: str
    counts: tuple[int, int]
    classes: int
    inner: tuple[str, ...]
    even: bool = False


SETS: Mapping[str, Known] = {
    "cifar10": Known(
        "CIFAR-10", (50_000, 10_000), 10, ("cifar-10-batches-py", "cifar-10-batches-bin"), even=True
    ),
    "cifar100": Known(
        "CIFAR-100", (50_000, 10_000), 100, ("cifar-100-python", "cifar-100-binary"), even=True
    ),
    "imagenette": Known(
        "Imagenette", (9_469, 3_925), 10, ("imagenette2-160", "imagenette2-320", "imagenette2")
    ),
    "imagenet": Known("ImageNet", (1_281_167, 50_000), 1000, ("ILSVRC/Data/CLS-LOC", "ILSVRC2012")),
}


@dataclass
class Survey(Found):
    """What files and folders say, and what is wrong.

    `files` has the image files of each side, relative to `base` and in the order of `labels`; with the
    layouts python and binary it is empty and `pixels` has the images.
    """

    layout: str
    classes: tuple[str, ...] = ()
    files: dict[str, list[str]] = field(default_factory=lambda: {side: [] for side in SIDES})
    pixels: dict[str, Pixels] = field(default_factory=dict)
    labels: dict[str, Labels] = field(
        default_factory=lambda: {side: np.empty(0, dtype=np.int64) for side in SIDES}
    )

    @property
    def title(self) -> str:
        """How a result on it names it: "CIFAR-10 (JPEG copy)" where CIFAR's images lie as JPEGs."""
        copied = SETS[self.name].even and any(not f.endswith(".png") for f in self.files["train"])
        return SETS[self.name].title + " (JPEG copy)" * (copied and not self.stand_in)

    @property
    def content(self) -> str:
        """SHA-256 of the classes and, by side, of labels and each image's name and size in bytes.

        Cheap, and the same wherever the folder lies. It cannot see an image file that was replaced by
        another one of the same name and the same number of bytes. CIFAR's own files count by their pixels.
        """
        digest = hashlib.sha256(json.dumps([self.name, self.classes]).encode())
        for side in SIDES:
            rows = [f"{file}:{self.sizes.get(file)}" for file in self.files[side]]
            digest.update("\0".join(["", side, *rows, ""]).encode())
            digest.update(self.labels[side].astype("<i8").tobytes())
            if side in self.pixels:
                digest.update(self.pixels[side].data)
        return digest.hexdigest()


def survey(root: Path, name: str) -> Survey:
    """Read files and folders of `name` under `root` and hold them against the known counts.

    Args:
        root: the data set's own folder, or the one that holds it as `<name>/` or as its official folder.
        name: one of `SETS`.

    Raises:
        PapersError: an unknown name, nothing to survey, or a broken `STANDIN.json`.
    """
    if name not in SETS:
        raise PapersError(f"unknown data set {name!r}; known: {', '.join(SETS)}")
    base, layout = _find(Path(root), name)
    told = standin([base], name, dict.fromkeys((*SIDES, "classes"), int))
    found = Survey(name, base, layout, told=told)
    (_batches if layout in ("python", "binary") else _folders)(found)
    if not found.problems:  # a missing part would only be told again, class by class
        found.problems += [*_wrong_counts(found)]
    found.tell_ignored(base.parent if base.name in SETS[name].inner else None)
    return found


# Where it is


def _find(root: Path, name: str) -> tuple[Path, str]:
    for outer in (root / name, root):
        for inner in ("", *SETS[name].inner):
            layout = _layout(outer / inner, name)
            if layout:
                return outer / inner, layout
    raise PapersError(f"{_nothing(root, name)}; {mend(root, name)}")


def _layout(base: Path, name: str) -> str:
    for kind in ("python", "binary"):
        batches = BATCHES.get((name, kind))
        if batches and any((base / file).is_file() for file in batches.files):
            return kind
    if not any((base / side).is_dir() for side in ("train", *_TEST)):
        return ""
    return "list" if (base / VAL_LIST).is_file() else "folders"


def _nothing(root: Path, name: str) -> str:
    if not root.is_dir():
        return f"no {name}: the folder {root} does not exist"
    if not any(root.iterdir()):
        return f"no {name}: the folder {root} is empty"
    batches = BATCHES.get((name, "python"))
    own = f"neither {batches.train[0]} with {batches.test[0]}, nor " if batches else "no "
    return f"no {name} in {root}: {own}train/ and test/ or val/ with a folder a class are there"


def mend(root: Path, name: str) -> str:
    """The commands that bring a data set to `root`."""
    return (
        f"bring it: python -m data_prep import {name} SOURCE {root} or render a stand-in: "
        f"python -m data_prep make {name} {root}"
    )


def _half(found: Survey, missing: str) -> str:
    return f"half a data set: {missing} missing in {found.base}; add it from the copy that you have"


# CIFAR's own files


def _batches(found: Survey) -> None:
    batches = BATCHES[found.name, found.layout]
    missing = [file for file in batches.files if not (found.base / file).is_file()]
    if missing:
        found.problems.append(_half(found, " and ".join(missing)))
        return
    with found.telling():
        found.classes = class_names(found.base / batches.meta, batches)
        for side, files in (("train", batches.train), ("test", batches.test)):
            parts = [read(found.base / file, batches) for file in files]
            found.pixels[side] = np.concatenate([pixels for pixels, _ in parts])
            found.labels[side] = np.concatenate([labels for _, labels in parts])
    if found.problems:
        return
    for side in SIDES:
        outside = (found.labels[side] < 0) | (found.labels[side] >= len(found.classes))
        if outside.any():
            found.problems.append(
                f"{found.base}: {outside.sum()} {side} labels are none of the {len(found.classes)} classes "
                f"of {batches.meta}; fetch the files again"
            )


# A folder a class


def _folders(found: Survey) -> None:
    test = next((side for side in _TEST if (found.base / side).is_dir()), "")
    missing = ["train/"] * (not (found.base / "train").is_dir()) + ["test/ or val/"] * (not test)
    if missing:
        found.problems.append(_half(found, " and ".join(missing)))
        return
    train = _class_folders(found, "train")
    found.classes = tuple(sorted(train))
    _take(found, "train", train)
    if found.layout == "list":
        _listed(found, test)
        return
    held_out = _class_folders(found, test)
    for here, there, folder in ((train, held_out, test), (held_out, train, "train")):
        absent = sorted(here.keys() - there.keys())
        if absent:
            found.problems.append(
                f"{found.base / folder} has no folder of {len(absent)} classes, as {absent[0]!r}; train and "
                "test must have the same classes"
            )
    if not found.problems:
        _take(found, "test", held_out)


def _class_folders(found: Survey, folder: str) -> dict[str, list[str]]:
    """The images of each class below `folder`, sorted."""
    classes = {name: found.images_in(f"{folder}/{name}") for name in found.folders_in(folder)}
    found.problems += [
        f"{found.base / folder / name} holds no image; restore its images"
        for name, files in classes.items()
        if not files
    ]
    if not classes:
        found.problems.append(
            f"{found.base / folder} has no class folders; put each image below a folder of its class"
        )
    return classes


def _take(found: Survey, side: str, classes: dict[str, list[str]]) -> None:
    index = {name: i for i, name in enumerate(found.classes)}
    found.files[side] = [file for files in classes.values() for file in files]
    numbers = [index[name] for name, files in classes.items() for _ in files]
    found.labels[side] = np.array(numbers, dtype=np.int64)


# A list of labels beside a folder without classes


def _listed(found: Survey, folder: str) -> None:
    there, path = set(found.images_in(folder)), found.base / VAL_LIST
    rows: dict[str, int] = {}
    with found.telling():
        for count, line in lines(path):
            name, _, word = line.rpartition(" ")
            file, label = f"{folder}/{name}", number(word)
            wrong = (
                f"{word!r} is no label of {len(found.classes)} classes, counted from 0; take the right list"
            )
            if label is not None and label < len(found.classes):
                wrong = _wrong_row(file, there, rows)
                rows |= {} if wrong else {file: label}
            if wrong:
                found.problems.append(f"{path}, line {count}: {wrong}")
    unlisted = sorted(there - rows.keys())
    if unlisted:
        found.problems.append(
            f"{found.base / unlisted[0]} and {len(unlisted) - 1} more images are not in {VAL_LIST}; take the "
            "whole list"
        )
    found.files["test"] = sorted(rows)
    found.labels["test"] = np.array([rows[file] for file in sorted(rows)], dtype=np.int64)


def _wrong_row(file: str, there: set[str], rows: Mapping[str, int]) -> str:
    if file in rows:
        return f"{file} is listed again; take a whole list"
    return "" if file in there else f"{file} is missing; restore the image"


# Holding it against the counts


def _wrong_counts(found: Survey) -> Iterator[str]:
    known = SETS[found.name]
    expected = (*known.counts, known.classes)
    if found.told:
        expected = tuple(found.told["counts"][what] for what in (*SIDES, "classes"))
    there = (*(len(found.labels[side]) for side in SIDES), len(found.classes))
    for what, count, right in zip(("train images", "test images", "classes"), there, expected, strict=True):
        if count != right:
            yield f"{found.name} has {count} {what}, {right} expected; restore the copy in {found.base}"
    if known.even and not found.stand_in and there == expected:
        yield from _uneven(found)


def _uneven(found: Survey) -> Iterator[str]:
    for side in SIDES:
        share = len(found.labels[side]) // len(found.classes)
        for label, count in sorted(Counter(found.labels[side].tolist()).items()):
            if count != share:
                yield (
                    f"class {found.classes[label]!r} has {count} {side} images, {share} expected; restore "
                    f"the copy in {found.base}"
                )
