"""SYSU-30k (Wang et al., IEEE TNNLS 2021): bags of pedestrians to train on; one match per query in 479,730.

    sysu_train_set_all/0000000001/ … 0000028310/          a bag each; who is who inside is not said
    sysu_test_set_all/query/000028311/000028311_c2_2.jpg
    sysu_test_set_all/gallery/000028311/000028311_c1_1.jpg, gallery/0000others/0000others_c1_1.jpg …
    meta/train.txt, query.txt, gallery.txt                one file name per line; may be absent

The identity is what stands before the first "_" of a name, the camera the number after "c";
`0000others` are distractors. It lies in `SYSU-30k-released/SYSU-30k-released/`. Everything is sorted by
name. All training images are 29 million paths, some gigabytes of memory: `bags` takes the first ones only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from papers_lib.datasets import folders
from papers_lib.datasets.folders import EMPTY, find, marked, standin
from papers_lib.datasets.reid import Side, side_of
from papers_lib.datasets.reid_layouts import Row
from papers_lib.errors import PapersError

NAME = "sysu30k"
TRAIN = "sysu_train_set_all"
TEST = {"query": "sysu_test_set_all/query", "gallery": "sysu_test_set_all/gallery"}
OTHERS = "0000others"
DISTRACTOR = 0
COUNTS: Mapping[str, int] = {"bags": 28_310, "query": 1_000, "gallery": 479_730, "distractors": 478_730}

# Folders of the released archive, one inside the other, as they are tried.
_INSIDE = ("", "SYSU-30k-released", "SYSU-30k-released/SYSU-30k-released")
# 18 digits fit an int64.
_NAME = re.compile(rf"(?P<id>[0-9]{{1,18}}|{OTHERS})_c(?P<camera>[0-9]{{1,4}})_\d+")


@dataclass(frozen=True, eq=False)
class Bags:
    """Training images: N `files`, and the bag [N] int64 of each, 0 .. B-1; a bag holds several people."""

    files: tuple[Path, ...]
    bags: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Sysu30k:
    """A label table in memory; no image is read. A distractor of the gallery has the identity 0.

    The last three are those of `Survey.known`.
    """

    root: Path
    train: Bags
    query: Side
    gallery: Side
    stand_in: bool
    fingerprint: str
    pixels: str = ""


@dataclass
class Survey(folders.Survey):
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
    def files(self) -> dict[str, list[str]]:
        """The files of each side, of the bags that were read only."""
        train = [file for files in self.train.values() for file in files]
        return {"train": train} | {side: [row.file for row in rows] for side, rows in self.sides.items()}

    @property
    def content(self) -> str:
        """SHA-256 of the file names and their sizes in bytes, by side; of the bags that were read only."""
        return self.digest(self.files)


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
    seen = survey(Path(root), bags)
    seen.admit(Path(root))
    # bags by their sorted names
    numbers = np.repeat(np.arange(len(seen.train)), [len(files) for files in seen.train.values()])  # [N]
    train = Bags(tuple(seen.base / file for file in seen.files["train"]), numbers.astype(np.int64))
    # Sides as those of the other re-ID sets, so that their evaluation takes them.
    query, gallery = (side_of(seen.base, seen.sides[side]) for side in TEST)
    return Sysu30k(seen.base, train, query, gallery, **seen.known)


def survey(root: Path, bags: int | None = None) -> Survey:
    """Read folders, names and lists under `root` and hold them against each other and the counts.

    Raises:
        PapersError: nothing to survey, a negative number of bags, or a broken `STANDIN.json`.
    """
    if bags is not None and bags < 0:
        raise PapersError(f"{bags} bags cannot be read; give 0 or more, or none for all")
    # One of the two sides is enough to tell it: the training side may be left out with bags=0.
    missing = f"neither sysu_test_set_all/ nor {TRAIN}/ is there"
    base, outer = find(root, NAME, _INSIDE, marked("sysu_test_set_all", TRAIN), missing)
    survey = Survey(NAME, base, outer, told=standin((base, outer), NAME, dict.fromkeys(COUNTS, int)))
    if bags != 0:
        _read_train(survey, bags)
    for side in TEST:
        _read_test(survey, side)
    if not survey.problems:  # a missing part would only be told again
        survey.problems += _wrong_queries(survey)
        _hold_lists(survey, bags)
        survey.hold_counts(_counts(survey, bags))
    survey.note_ignored()
    return survey


def _read_train(survey: Survey, bags: int | None) -> None:
    if not survey.has_folder(TRAIN, mend="add it, or load the test side with bags=0"):
        return
    # All folders are counted, and only those of the first bags are walked.
    names = survey.folders_in(TRAIN)
    survey.folders = len(names)
    survey.train = survey.images_by_folder(TRAIN, names=names[:bags])
    if not names:
        survey.fault(TRAIN, "has no bag; restore the folders, one per bag")


def _read_test(survey: Survey, side: str) -> None:
    if not survey.has_folder(TEST[side]):
        return
    images = survey.images_by_folder(TEST[side], empty="")
    # Who matches no query lies in one folder, 0000others.
    for folder, file in ((folder, file) for folder, files in images.items() for file in files):
        name = _NAME.match(file.rpartition("/")[2])
        # Folder and name both say who it is.
        if name is None:
            survey.fault(file, "has a name unlike 000028311_c1_1.jpg; rename it")
        elif name["id"] != folder:
            survey.fault(file, f"is identity {name['id']} in the folder of {folder}; move it")
        elif side == "query" and folder == OTHERS:
            survey.fault(file, "is a distractor, which only the gallery may have; move it there")
        else:
            identity = DISTRACTOR if folder == OTHERS else int(folder)
            survey.sides[side].append(Row(file, identity, int(name["camera"])))
    # Of names that are all wrong each is told already.
    if not survey.sides[side] and not survey.problems:
        survey.fault(TEST[side], EMPTY)


# -- the sides against each other, the lists and the counts --


def _wrong_queries(survey: Survey) -> Iterator[str]:
    # A query without any match has no rank: the one match of each is what is measured.
    there = {row.id for row in survey.sides["gallery"]}
    for identity in sorted({row.id for row in survey.sides["query"]} - there):
        yield f"identity {identity:09d} is a query and not in the gallery of {survey.base}; restore its match"


def _hold_lists(survey: Survey, bags: int | None) -> None:
    """Find names of the lists that nobody has; by their last part, as lists differ in what stands before."""
    for side, files in sorted(survey.files.items()):
        path = survey.base / "meta" / f"{side}.txt"
        # Of some bags, the list of all says nothing.
        if not path.is_file() or (side == "train" and bags is not None):
            continue
        there = {file.rpartition("/")[2] for file in files}  # the last part of each path

        def judge(line: str, there: set[str] = there) -> str:
            # "path label" or the path alone
            name = line.partition(" ")[0].rpartition("/")[2]
            return "" if name in there else f"{name} is missing; restore the image"

        survey.each_line(path, judge)


def _counts(survey: Survey, bags: int | None) -> Iterator[tuple[str, int, int]]:
    expected = survey.expected(COUNTS)
    yield "queries", len(survey.sides["query"]), expected["query"]
    yield "gallery images", len(survey.sides["gallery"]), expected["gallery"]
    yield "distractors", survey.distractors, expected["distractors"]
    # With bags=0 the training side need not be there.
    if bags != 0:
        yield "bags", survey.folders, expected["bags"]
