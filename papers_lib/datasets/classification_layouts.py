"""How CIFAR-10, CIFAR-100, Imagenette and ImageNet lie on disk, their counts, and all that can be wrong.

Layouts, recognised by what is there:

* python, binary: CIFAR's own files (see `cifar_files`), in `cifar-10-batches-py/` and the like;
* folders: `train/<class>/` and `test/<class>/` or `val/<class>/`, any image files inside; a copy of
  CIFAR as JPEGs is not quite the published one, and says so in its title;
* list: as folders, but `val/` holds its images without class folders, and `meta/val_labeled.txt` has
  "name label" lines, labels counted along the sorted folders of `train/` (OpenSelfSup's ImageNet).

Imagenette's noisy labels (`noisy_imagenette.csv`) are not read: the folders have the clean ones.
Labels are positions in the sorted class names.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from papers_lib.datasets import folders
from papers_lib.datasets.cifar_files import BATCHES, Labels, Pixels, class_names, read
from papers_lib.datasets.folders import find, number, pick, standin

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
class Survey(folders.Survey):
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
        # PNG keeps the pixels, JPEG does not.
        copied = SETS[self.name].even and any(not f.endswith(".png") for f in self.files["train"])
        return SETS[self.name].title + " (JPEG copy)" * (copied and not self.stand_in)

    @property
    def content(self) -> str:
        """SHA-256 of the classes and, by side, of labels and each image's name and size in bytes.

        CIFAR's own files count by their pixels.
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
    """Hold files and folders of `name`, one of `SETS`, under `root` against the known counts.

    Raises:
        PapersError: an unknown name, nothing to survey, or a broken `STANDIN.json`.
    """
    known, files = pick(name, SETS), BATCHES.get((name, "python"))
    own = f"neither {files.train[0]} with {files.test[0]}, nor " if files else "no "
    missing = f"{own}train/ and test/ or val/ with a folder per class are there"
    base, outer = find(Path(root), name, ("", *known.inner), lambda base: _layout(base, name), missing)
    told = standin((base, outer), name, dict.fromkeys((*SIDES, "classes"), int))
    survey = Survey(name, base, outer, _layout(base, name), told=told)
    # CIFAR's own files hold pixels and labels at once; of folders the names are read.
    if survey.layout in ("python", "binary"):
        _read_batches(survey)
    else:
        _read_folders(survey)
    if not survey.problems:  # a missing part would only be told again, class by class
        _hold_counts(survey)
    survey.note_ignored()
    return survey


def _layout(base: Path, name: str) -> str:
    # CIFAR's own files win over folders beside them: they are the published pixels.
    for kind in ("python", "binary"):
        batches = BATCHES.get((name, kind))
        if batches and any((base / file).is_file() for file in batches.files):
            return kind
    if not any((base / side).is_dir() for side in ("train", *_TEST)):
        return ""
    return "list" if (base / VAL_LIST).is_file() else "folders"


# -- CIFAR's own files --


def _read_batches(survey: Survey) -> None:
    batches = BATCHES[survey.name, survey.layout]
    # A file by its name says more than a count that is a fifth too small.
    missing = [file for file in batches.files if not (survey.base / file).is_file()]
    if missing:
        survey.half(missing)
        return
    with survey.telling():
        survey.classes = class_names(survey.base / batches.meta, batches)
        for side, files in (("train", batches.train), ("test", batches.test)):
            # In the order of the published batches.
            parts = [read(survey.base / file, batches) for file in files]
            survey.pixels[side] = np.concatenate([pixels for pixels, _ in parts])  # [N, 32, 32, 3]
            survey.labels[side] = labels = np.concatenate([labels for _, labels in parts])  # [N]
            outside = (labels < 0) | (labels >= len(survey.classes))
            if outside.any():
                wrong = f"{outside.sum()} {side} labels are none of the {len(survey.classes)} classes"
                survey.problems.append(f"{survey.base}: {wrong} of {batches.meta}; fetch the files again")


# -- a folder per class --


def _read_folders(survey: Survey) -> None:
    test = next((side for side in _TEST if (survey.base / side).is_dir()), "")
    missing = ["train/"] * (not (survey.base / "train").is_dir()) + ["test/ or val/"] * (not test)
    if missing:
        survey.half(missing)
        return
    train = _class_folders(survey, "train")
    survey.classes = tuple(sorted(train))
    _take(survey, "train", train)
    if survey.layout == "list":
        _read_list(survey, test)
        return
    held_out = _class_folders(survey, test)
    # Each side is held against the other.
    for here, there, folder in ((train, held_out, test), (held_out, train, "train")):
        absent = sorted(here.keys() - there.keys())
        if absent:
            wrong = f"has no folder of {len(absent)} classes, as {absent[0]!r}"
            survey.fault(folder, f"{wrong}; train and test must have the same classes")
    if not survey.problems:
        _take(survey, "test", held_out)


def _class_folders(survey: Survey, folder: str) -> dict[str, list[str]]:
    # An empty class is told there: without images it would still take a label.
    classes = survey.images_by_folder(folder)
    if not classes:
        survey.fault(folder, "has no class folders; put each image below a folder of its class")
    return classes


def _take(survey: Survey, side: str, classes: dict[str, list[str]]) -> None:
    survey.files[side] = [file for files in classes.values() for file in files]
    # Labels are positions in the sorted names, of test, too.
    numbers = [survey.classes.index(name) for name in classes]
    survey.labels[side] = np.repeat(
        np.array(numbers, dtype=np.int64), [len(files) for files in classes.values()]
    )  # [N]


# -- a list of labels beside a folder without classes --


def _read_list(survey: Survey, folder: str) -> None:
    # A list may be in any order: the images are taken sorted by name.
    there, count = set(survey.images_in(folder)), len(survey.classes)
    rows: dict[str, int] = {}

    def judge(line: str) -> str:
        name, _, word = line.rpartition(" ")
        file, label = f"{folder}/{name}", number(word)
        if label is None or label >= count:
            return f"{word!r} is no label of {count} classes, counted from 0; take the right list"
        if file in rows:
            return f"{file} is listed again; take a whole list"
        if file not in there:
            return f"{file} is missing; restore the image"
        rows[file] = label
        return ""

    survey.each_line(survey.base / VAL_LIST, judge)
    # A shortened list would give a smaller test side, and another accuracy.
    unlisted = sorted(there - rows.keys())
    if unlisted:
        more = f"and {len(unlisted) - 1} more images"
        survey.fault(unlisted[0], f"{more} are not in {VAL_LIST}; take the whole list")
    survey.files["test"] = sorted(rows)
    survey.labels["test"] = np.array([rows[file] for file in sorted(rows)], dtype=np.int64)  # [N]


# -- the counts --


def _hold_counts(survey: Survey) -> None:
    known = SETS[survey.name]
    published = dict(zip((*SIDES, "classes"), (*known.counts, known.classes), strict=True))
    expected = survey.expected(published)
    right = len(survey.problems)
    survey.hold_counts((f"{side} images", len(survey.labels[side]), expected[side]) for side in SIDES)
    survey.hold_counts([("classes", len(survey.classes), expected["classes"])])
    # Published CIFAR has 5,000 and 1,000 images per class; a renamed folder would not show in the sums.
    if not known.even or survey.stand_in or len(survey.problems) > right:
        return
    for side in SIDES:
        share = len(survey.labels[side]) // len(survey.classes)
        for label, count in sorted(Counter(survey.labels[side].tolist()).items()):
            name = f"class {survey.classes[label]!r}"
            survey.hold_counts([(f"{side} images", count, share)], of=name)
