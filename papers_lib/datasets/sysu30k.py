"""SYSU-30k (Wang et al., IEEE TNNLS 2021): bags of pedestrians to train on; one match a query in 479,730.

    sysu_train_set_all/0000000001/ … 0000028310/          a bag each; who is who inside is not said
    sysu_test_set_all/query/000028311/000028311_c2_2.jpg
    sysu_test_set_all/gallery/000028311/000028311_c1_1.jpg, gallery/0000others/0000others_c1_1.jpg …
    meta/train.txt, query.txt, gallery.txt                a file name a line; may be absent

The identity is what stands before the first "_" of a name, the camera the number after "c";
`0000others` are distractors. It lies in `SYSU-30k-released/SYSU-30k-released/`. Everything is sorted by
name. All training images are 29 million paths, some gigabytes of memory: `bags` takes the first ones only.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from papers_lib.datasets.folders import Found, lines, standin
from papers_lib.datasets.reid import Side
from papers_lib.errors import PapersError

NAME = "sysu30k"
TRAIN = "sysu_train_set_all"
TEST = {"query": "sysu_test_set_all/query", "gallery": "sysu_test_set_all/gallery"}
OTHERS = "0000others"
DISTRACTOR = 0
COUNTS: Mapping[str, int] = {"bags": 28_310, "query": 1_000, "gallery": 479_730, "distractors": 478_730}

_INSIDE = ("", "SYSU-30k-released", "SYSU-30k-released/SYSU-30k-released")
_NAME = re.compile(rf"(?P<id>[0-9]{{1,18}}|{OTHERS})_c(?P<camera>[0-9]{{1,4}})_\d+")


@dataclass(frozen=True, eq=False)
class Bags:
    """Training images: N `files`, and the bag [N] int64 of each, 0 .. B-1; a bag holds several people."""

    files: tuple[Path, ...]
    bags: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Sysu30k:
    """A label table in memory; no image is read. A distractor of the gallery has the identity 0.

    The last three are those of `Found.known`, with the limits of `Survey.content`.
    """

    root: Path
    train: Bags
    query: Side
    gallery: Side
    stand_in: bool
    fingerprint: str
    pixels: str = ""


class Row(NamedTuple):
    """One test image: its file, relative to the data set's folder, with what its name says."""

    file: str
    id: int
    camera: int  # from 1


@dataclass
class Survey(Found):
    """What folders, names and lists say, and what is wrong.

    `train` has the files of each bag that was read, `folders` the number of bags there are.
    """

    train: dict[str, list[str]] = field(default_factory=dict)
    folders: int = 0
    sides: dict[str, list[Row]] = field(default_factory=lambda: {side: [] for side in TEST})

    @property
    def distractors(self) -> int:
        """Images of the gallery that match no query."""
        return sum(row.id == DISTRACTOR for row in self.sides["gallery"])

    @property
    def content(self) -> str:
        """SHA-256 of the file names and their sizes in bytes, by side; of the bags that were read only.

        Cheap, and the same wherever the folder lies. It cannot see an image that was replaced by another
        one of the same name and the same number of bytes.
        """
        digest = hashlib.sha256(NAME.encode())
        parts = {"train": [file for files in self.train.values() for file in files]}
        parts |= {side: [row.file for row in rows] for side, rows in self.sides.items()}
        for side, files in parts.items():
            digest.update("\0".join(["", side, *(f"{f}:{self.sizes.get(f)}" for f in files)]).encode())
        return digest.hexdigest()


def load(root: Path, bags: int | None = None) -> Sysu30k:
    """Read folders and names under `root`.

    Args:
        root: the data set's own folder, or the one that holds it as `sysu30k/` or as its official folder.
        bags: how many bags of the training side to read, the first by name; None: all; 0: the test side
            alone, and the training side need not be there.

    Raises:
        PapersError: nothing there, half a data set, names that do not parse, a query whose identity the
            gallery lacks, a file that a list names and nobody has, a wrong count. The message names the
            first fault and how to see all.
    """
    found = survey(Path(root), bags)
    found.refuse(Path(root))
    numbers = [bag for bag, files in enumerate(found.train.values()) for _ in files]
    return Sysu30k(
        root=found.base,
        train=Bags(
            tuple(found.base / file for files in found.train.values() for file in files),
            np.array(numbers, dtype=np.int64),
        ),
        query=_side(found, "query"),
        gallery=_side(found, "gallery"),
        **found.known,
    )


def _side(found: Survey, side: str) -> Side:
    rows = found.sides[side]
    return Side(
        files=tuple(found.base / row.file for row in rows),
        ids=np.array([row.id for row in rows], dtype=np.int64),
        cameras=np.array([row.camera - 1 for row in rows], dtype=np.int64),
    )


def survey(root: Path, bags: int | None = None) -> Survey:
    """Read folders, names and lists under `root` and hold them against each other and the counts.

    Raises:
        PapersError: nothing to survey, a negative number of bags, or a broken `STANDIN.json`.
    """
    if bags is not None and bags < 0:
        raise PapersError(f"{bags} bags cannot be read; give 0 or more, or none for all")
    found = _found(Path(root))
    if bags != 0:
        _train(found, bags)
    for side in TEST:
        _test(found, side)
    if not found.problems:  # a missing part would only be told again
        found.problems += [*_queries(found), *_lists(found, bags), *_wrong_counts(found, bags)]
    found.tell_ignored()
    return found


def _found(root: Path) -> Survey:
    for outer in (root / NAME, root):
        for base in (outer / inner for inner in _INSIDE):
            if (base / "sysu_test_set_all").is_dir() or (base / TRAIN).is_dir():
                return Survey(NAME, base, told=standin((base, outer), NAME, dict.fromkeys(COUNTS, int)))
    mend = (
        f"bring it: python -m data_prep import {NAME} SOURCE {root} or render a stand-in: "
        f"python -m data_prep make {NAME} {root}"
    )
    if not root.is_dir():
        raise PapersError(f"no {NAME}: the folder {root} does not exist; {mend}")
    raise PapersError(f"no {NAME} in {root}: neither sysu_test_set_all/ nor {TRAIN}/ is there; {mend}")


# Folders


def _train(found: Survey, bags: int | None) -> None:
    if not (found.base / TRAIN).is_dir():
        found.problems.append(
            f"half a data set: {TRAIN}/ missing in {found.base}; add it, or load the test side with bags=0"
        )
        return
    names = found.folders_in(TRAIN)
    found.folders = len(names)
    for name in names[:bags]:
        found.train[name] = found.images_in(f"{TRAIN}/{name}")
        if not found.train[name]:
            found.problems.append(f"{found.base / TRAIN / name} holds no image; restore its images")
    if not names:
        found.problems.append(f"{found.base / TRAIN} has no bag; restore the folders, one a bag")


def _test(found: Survey, side: str) -> None:
    folder = TEST[side]
    if not (found.base / folder).is_dir():
        found.problems.append(
            f"half a data set: {folder}/ missing in {found.base}; add it from the copy that you have"
        )
        return
    for name in found.folders_in(folder):
        for file in found.images_in(f"{folder}/{name}"):
            row = _row(found, side, name, file)
            if isinstance(row, str):
                found.problems.append(row)
            else:
                found.sides[side].append(row)
    if not found.sides[side] and not found.problems:
        found.problems.append(f"{found.base / folder} holds no image; restore its images")


def _row(found: Survey, side: str, folder: str, file: str) -> Row | str:
    """A test image, or what is wrong with its name."""
    named = _NAME.match(file.rpartition("/")[2])
    if named is None:
        return f"{found.base / file} has a name unlike 000028311_c1_1.jpg; rename it"
    if named["id"] != folder:
        return f"{found.base / file} is identity {named['id']} in the folder of {folder}; move it"
    if side == "query" and folder == OTHERS:
        return f"{found.base / file} is a distractor, which only the gallery may have; move it there"
    return Row(file, DISTRACTOR if folder == OTHERS else int(folder), int(named["camera"]))


# Holding the sides against each other, the lists and the counts


def _queries(found: Survey) -> Iterator[str]:
    there = {row.id for row in found.sides["gallery"]}
    for identity in sorted({row.id for row in found.sides["query"]} - there):
        yield f"identity {identity:09d} is a query and not in the gallery of {found.base}; restore its match"


def _lists(found: Survey, bags: int | None) -> Iterator[str]:
    """Names of the lists that nobody has; by their last part, as lists differ in what stands before it."""
    parts = {side: [row.file for row in rows] for side, rows in found.sides.items()}
    if bags is None:
        parts["train"] = [file for files in found.train.values() for file in files]
    for side, files in sorted(parts.items()):
        path = found.base / "meta" / f"{side}.txt"
        if not path.is_file():
            continue
        names = {file.rpartition("/")[2] for file in files}
        with found.telling():
            for number, line in lines(path):
                name = line.split(" ")[0].rpartition("/")[2]
                if name not in names:
                    yield f"{path}, line {number}: {name} is missing; restore the image"


def _wrong_counts(found: Survey, bags: int | None) -> Iterator[str]:
    expected = COUNTS if found.told is None else found.told["counts"]
    there = {side: len(rows) for side, rows in found.sides.items()} | {"distractors": found.distractors}
    if bags != 0:
        there["bags"] = found.folders
    words = {"bags": "bags", "query": "queries", "gallery": "gallery images", "distractors": "distractors"}
    for what, number in there.items():
        if number != expected[what]:
            yield (
                f"{NAME} has {number} {words[what]}, {expected[what]} expected; restore the copy in "
                f"{found.base}"
            )
