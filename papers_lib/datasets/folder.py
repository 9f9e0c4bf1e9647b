"""Images of one's own: a folder per class, any number of images in each. All four wings take it.

    folder/<class>/<image>                 a class
    folder/<kind>/<class>/<image>          with coarse labels: kinds of classes
    folder/<class>/cam1/<image>            with cameras: folders called cam1, camera 2, …
    folder/labels.csv                      or both from a table, with a line per class or per image

A line of `labels.csv` names a `class` or a `file`, by its path from the folder, and says its `coarse`, its
`camera` or its `split` (train or test). What it leaves out stays as the folders have it; what is said of an
image stands over what is said of its class.

What is not said is drawn, by a fixed seed: a fifth of each class to test where classes are learnt, half of
the classes where others are to be recognised. Without kinds, classes are dealt to kinds by lot: siblings that
mean nothing. Without cameras, all training images are of one, and a query is of another than the gallery.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from papers_lib.datasets import folders
from papers_lib.datasets.cars196 import Cars196
from papers_lib.datasets.classification import Classified, Split
from papers_lib.datasets.folders import BRING, read_text
from papers_lib.datasets.reid import ReID, Side
from papers_lib.errors import PapersError

NAME, LABELS, TOLD = "folder", "labels.csv", ("coarse", "camera", "split")
CAMERA = re.compile(r"cam(era)?[ _-]?\d+", re.IGNORECASE)
TEST, SEED = 0.2, 0  # share of a class's images to test, and the seed of every split
Labels = NDArray[np.int64]


@dataclass
class Row:
    """What is known of an image; empty text is not known."""

    file: str
    label: str
    coarse: str = ""
    camera: str = ""
    split: str = ""


@dataclass
class Survey(folders.Survey):
    """What folders and `labels.csv` say, and what is wrong."""

    rows: list[Row] = field(default_factory=list)

    @property
    def content(self) -> str:
        """SHA-256 of each image's name, size in bytes and labels."""
        rows = [[*vars(row).values(), self.sizes.get(row.file)] for row in self.rows]
        return hashlib.sha256(json.dumps([NAME, rows]).encode()).hexdigest()

    def inner(self, place: str) -> list[str]:
        """The folders in a folder."""
        return [entry.name for entry in self._entries(place) if entry.is_dir()]

    def column(self, name: str) -> list[str]:
        """One label of all images."""
        return [str(getattr(row, name)) for row in self.rows]


def survey(root: Path) -> Survey:
    """Read the folder `root`, or `folder/` in it; opens no image.

    Raises:
        PapersError: there is none, or none with images.
    """
    root = Path(root)
    base = root / NAME if (root / NAME).is_dir() else root
    found = Survey(NAME, base, base)
    for place in found.inner("") if base.is_dir() else []:
        _read(found, place)
    if not found.rows and not found.problems:
        raise PapersError(f"no {NAME} in {root}: no folder per class is there; {_bring(root)}")
    _read_labels(found)
    return found


def _bring(root: Path) -> str:
    return BRING.format(name=NAME, root=shlex.quote(str(root)))


def _read(found: Survey, place: str, coarse: str = "") -> None:
    """A class, or a kind with its classes."""
    inner = found.inner(place)
    cameras = [name for name in inner if CAMERA.fullmatch(name)]
    if not inner or cameras:
        files = [(file, "") for file in found.images_in(place)] if not inner else []
        files += [(file, camera) for camera in cameras for file in found.images_in(f"{place}/{camera}")]
        if not files or len(cameras) < len(inner):
            found.fault(
                place, "holds no image, or other folders beside its cameras'; a class has one or both"
            )
        found.rows += [Row(file, place, coarse, camera) for file, camera in files]
    elif coarse:
        found.fault(place, "holds folders in folders; put images into <class>/ or <kind>/<class>/")
    else:
        for name in inner:
            _read(found, f"{place}/{name}", coarse=place)


def _read_labels(found: Survey) -> None:
    path = found.base / LABELS
    if not path.is_file():
        return
    with found.telling():
        table = _table(path)
        by_class, by_file = (
            [(number, line) for number, line in table if bool(line["file"]) == one] for one in (False, True)
        )
        # what is said of an image stands over what is said of its class, wherever the lines stand
        for told in (by_class, by_file):
            _tell(found, path, told)


def _table(path: Path) -> list[tuple[int, dict[str, str]]]:
    """The lines of `labels.csv`, numbered as an editor does, a cell by the name of its column."""
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True)
    table, known = [], ("file", "class", *TOLD)
    try:
        heads = [head.strip() for head in reader.fieldnames or ()]
        if not {"file", "class"} & set(heads) or set(heads) - set(known) or len(set(heads)) < len(heads):
            columns = f"give file or class, and {', '.join(TOLD)}, each once, with commas between them"
            there = f"has the columns {', '.join(sorted(heads))}" if heads else "is empty"
            raise PapersError(f"{path} {there}; {columns}")
        reader.fieldnames = heads
        for line in reader:
            if None in line:
                wrong = f"more cells than the {len(heads)} of its head; put names with commas into quotes"
                raise PapersError(f"{path}, line {reader.line_num}: {wrong}")
            cells = {name: (line.get(name) or "").strip() for name in known}
            table += [(reader.line_num, cells)] if any(cells.values()) else []
    except csv.Error as error:  # quotes that do not end, a cell of megabytes
        raise PapersError(f"{path}, from line {max(1, reader.line_num)}: {error}; mend that") from None
    return table


def _tell(found: Survey, path: Path, table: list[tuple[int, dict[str, str]]]) -> None:
    """Give what lines of one kind say to the images that they mean."""
    said: dict[tuple[str, str], tuple[str, int]] = {}  # value and line, by image and column
    for number, line in table:
        file, label = line["file"], line["class"]
        meant = [row for row in found.rows if (row.file == file if file else row.label == label)]
        wrong = "" if meant else f"'{file or label}' is not there"
        if file and label and meant and meant[0].label != label:
            wrong = f"'{file}' lies in the class '{meant[0].label}', not '{label}'"
        if line["split"] not in ("", "train", "test"):
            wrong = "a split is train or test"
        told = {name: line[name] for name in TOLD if line[name]}
        for row in meant:
            for name, value in told.items():
                before, where = said.setdefault((row.file, name), (value, number))
                if before != value:
                    wrong = f"the {name} of '{file or label}' is {value}, and {before} in line {where}"
            vars(row).update(told)
        if wrong:
            found.problems.append(f"{path}, line {number}: {wrong}; mend the line")


# -- what the wings read --


@dataclass(frozen=True, eq=False)
class Folder:
    """All N images: `files` and `labels` [N], which count into `classes`.

    `coarse`, `cameras` and `test` [N] are None where nothing says them; `test` marks the images of the test
    side. `keep` is where images are kept decoded.
    """

    root: Path
    files: tuple[Path, ...]
    labels: Labels
    classes: tuple[str, ...]
    coarse: Labels | None
    coarse_names: tuple[str, ...]
    cameras: Labels | None
    test: NDArray[np.bool_] | None
    keep: Path
    stand_in: bool
    fingerprint: str
    pixels: str

    def kept(self, part: str) -> Path:
        """Where those of a part are."""
        return self.keep.with_name(self.keep.name.replace("images", part, 1))


def load(root: Path) -> Folder:
    """Read `folder/` in `root`, or `root` if it has that name.

    Raises:
        PapersError: it is not there, or something is wrong with it, or it has one class alone.
    """
    root = Path(root)
    if not (root / NAME).is_dir() and root.name != NAME:
        raise PapersError(f"no {NAME} in {root}; {_bring(root)}")
    seen = survey(root)
    seen.admit(root)
    classes, labels = _numbered(seen.column("label"))
    if len(classes) < 2:
        raise PapersError(f"{seen.base} has one class alone; put the images into a folder per class")
    coarse, cameras, split = (_numbered(seen.column(name)) for name in ("coarse", "camera", "split"))
    return Folder(
        root=seen.base,
        files=tuple(seen.base / row.file for row in seen.rows),
        labels=labels,
        classes=classes,
        coarse=coarse[1] if all(coarse[0]) else None,  # some without: as if none had one
        coarse_names=coarse[0],
        cameras=cameras[1] if all(cameras[0]) and len(cameras[0]) > 1 else None,
        test=split[1] == 0 if split[0] == ("test", "train") else None,
        keep=seen.kept("images"),
        **seen.known,
    )


def _numbered(words: list[str]) -> tuple[tuple[str, ...], Labels]:
    names, numbers = np.unique(np.array(words, dtype=object).astype(str), return_inverse=True)
    return tuple(map(str, names)), numbers.astype(np.int64)


def _test_classes(data: Folder, least: int) -> NDArray[np.bool_]:
    """Whether each class [C] is of the test side: as the table says of its images, else half by lot."""
    count = len(data.classes)
    if count < least:
        raise PapersError(f"{data.root} has {count} classes, {least} or more are needed; add classes")
    if data.test is not None:
        return np.array([bool(data.test[data.labels == label].all()) for label in range(count)])
    test = np.zeros(count, dtype=np.bool_)
    test[np.random.default_rng(SEED).permutation(count)[: count // 2]] = True
    return test


def classified(root: Path) -> Classified:
    """Classes to be learnt, and images of each to test by. Raises as `load`, and for a class of one image."""
    data = load(root)
    test = data.test
    if test is None:
        random, test = np.random.default_rng(SEED), np.zeros(len(data.labels), dtype=np.bool_)
        for label, name in enumerate(data.classes):
            rows = random.permutation(np.flatnonzero(data.labels == label))
            if len(rows) < 2:
                raise PapersError(f"{data.root / name} has one image; a class needs two or more")
            test[rows[: max(1, int(TEST * len(rows)))]] = True
    files = np.array(data.files, dtype=object)
    train, held = (
        Split(tuple(files[part]), data.labels[part], data.kept(side))
        for side, part in (("train", ~test), ("test", test))
    )
    known = (data.stand_in, data.fingerprint, data.pixels)
    return Classified(NAME, NAME, data.root, train, held, data.classes, *known)


def kinds(root: Path) -> Cars196:
    """Fine and coarse classes, half of the fine ones to test by. Raises as `load`, and for less than five."""
    data = load(root)
    test = _test_classes(data, 5)
    coarse, names = data.coarse, data.coarse_names
    if coarse is None:
        # each kind has classes of both sides
        of_class, random = np.zeros(len(test), dtype=np.int64), np.random.default_rng([SEED, 1])
        count = max(2, int((~test).sum()) // 4)
        for side in (test, ~test):
            of_class[random.permutation(np.flatnonzero(side))] = np.arange(side.sum()) % count
        coarse, names = of_class[data.labels], tuple(f"by lot {i + 1}" for i in range(count))
    # `fine` of the training classes is to count from 0, as of the cars
    order = np.argsort(test, kind="stable")
    place = np.argsort(order)
    return Cars196(
        name=NAME,
        root=data.root,
        files=data.files,
        boxes=None,
        fine=place[data.labels],
        coarse=coarse,
        train=~test[data.labels],
        class_names=tuple(data.classes[i] for i in order),
        coarse_names=names,
        stand_in=data.stand_in,
        fingerprint=data.fingerprint,
        pixels=data.pixels,
        keep=data.keep,
    )


def network(root: Path) -> ReID:
    """Classes as people, half of them to test by: of each and each camera one image asks for the others.

    Raises:
        PapersError: as `load`, fewer than four classes, or no image whose like another camera has.
    """
    data = load(root)
    test = _test_classes(data, 4)
    seen, random = data.cameras, np.random.default_rng([SEED, 2])
    cameras = np.zeros(len(data.labels), dtype=np.int64) if seen is None else seen
    query: list[int] = []
    for label in np.flatnonzero(test):
        rows = random.permutation(np.flatnonzero(data.labels == label))
        of = cameras[rows]
        if seen is None:
            query += rows[:1].tolist() if len(rows) > 1 else []
        elif len(np.unique(of)) > 1:
            query += [int(rows[of == camera][0]) for camera in np.unique(of) if (of == camera).sum() > 1]
    if not query:
        raise PapersError(f"{data.root}: no image has its like in another camera; add images to each class")
    asked = np.isin(np.arange(len(data.labels)), query)
    if seen is None:
        cameras = np.where(test[data.labels] & ~asked, 1, 0)
    of_test = test[data.labels]
    parts = {"train": ~of_test, "query": asked, "gallery": of_test & ~asked}
    files = np.array(data.files, dtype=object)
    train, asking, gallery = (
        Side(tuple(files[part]), data.labels[part], cameras[part], data.kept(name))
        for name, part in parts.items()
    )
    known = (data.stand_in, data.fingerprint, data.pixels)
    return ReID(NAME, data.root, train, asking, gallery, int(cameras.max()) + 1, *known)
