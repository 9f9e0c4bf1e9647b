"""How person re-identification data lies on disk: three layouts, their counts, and all that can be wrong.

* Market: `bounding_box_train/`, `query/`, `bounding_box_test/` with `0002_c1s1_000451_03.jpg`, which is
  identity, camera and sequence, frame, box. Identity -1 is junk and dropped; 0000 is a distractor and kept.
* Duke: the same three folders with `0001_c2_f0046182.jpg`.
* MSMT: V1 `train/`, `test/`; V2, with blurred faces, `mask_train_v2/`, `mask_test_v2/`; in both a folder per
  identity, `0000/0000_045_12_0303morning_0006_2.jpg` with the camera in the third field, and
  `list_train.txt`, `list_val.txt`, `list_query.txt`, `list_gallery.txt` of "path identity". Training is
  list_train and list_val together; training and test identities both start from 0 and have nothing to do
  with one another.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from papers_lib.datasets import folders
from papers_lib.datasets.folders import BRING_OR_RENDER, EMPTY, RENDER, STANDIN, find, marked, pick, standin
from papers_lib.errors import PapersError

SIDES = ("train", "query", "gallery")
WITHDRAWN = (
    "dukemtmc was withdrawn by its authors in 2019, as people were recorded and published outside of the "
    "approved protocol: no new result should be produced with it"
)
"""The notice that whoever reads a real copy of DukeMTMC-reID gets to see."""

_LISTS = {"train": ("list_train", "list_val"), "query": ("list_query",), "gallery": ("list_gallery",)}


# -- the layouts --


@dataclass(frozen=True)
class Counts:
    """Images and identities of each side of the published set; `junk` images are not among them."""

    train: tuple[int, int]
    query: tuple[int, int]
    gallery: tuple[int, int]
    cameras: int
    junk: int = 0


@dataclass(frozen=True)
class Layout:
    """Where a data set lies: its official folder, the folders inside, and the form of a file name.

    `pattern` has the groups `id` and `camera`; it is that of a file name, and with MSMT that of a line in a
    list. `folders` are those of the three sides. `counts` is None where the data is always rendered or made.
    """

    kind: Literal["market", "duke", "msmt"]
    pattern: re.Pattern[str]
    example: str
    folders: tuple[str, str, str] = ("bounding_box_train", "query", "bounding_box_test")
    official: str = ""
    counts: Counts | None = None
    mend: str = BRING_OR_RENDER


# Digits are bounded, so that every number fits an int64.
_ID, _CAMERA = r"[0-9]{1,9}", r"[0-9]{1,4}"
_MARKET = re.compile(rf"(?P<id>-1|{_ID})_c(?P<camera>{_CAMERA})s\d+_")
_DUKE = re.compile(rf"(?P<id>{_ID})_c(?P<camera>{_CAMERA})_f\d+")
_MSMT = re.compile(
    rf"(?P<file>(?P<folder>{_ID})/(?P<id>{_ID})_\d+_(?P<camera>{_CAMERA})_\S*) (?P<listed>{_ID})"
)
_MARKET_NAME, _DUKE_NAME = "0002_c1s1_000451_03.jpg", "0001_c2_f0046182.jpg"
_MSMT_NAME = "0000/0000_045_12_0303morning_0006_2.jpg"
_MARKET_COUNTS = Counts((12936, 751), (3368, 750), (15913, 751), cameras=6, junk=3819)
_DUKE_COUNTS = Counts((16522, 702), (2228, 702), (17661, 1110), cameras=8)
_MSMT_COUNTS = Counts((32621, 1041), (11659, 3060), (82161, 3060), cameras=15)
# train, query, gallery; the lists tell query and gallery apart
_V1, _V2 = ("train", "test", "test"), ("mask_train_v2", "mask_test_v2", "mask_test_v2")
_RENDER = f"render it: {RENDER}"

LAYOUTS: Mapping[str, Layout] = {
    "market1501": Layout(
        "market", _MARKET, _MARKET_NAME, official="Market-1501-v15.09.15", counts=_MARKET_COUNTS
    ),
    # withdrawn, so it is never fetched, only rendered
    "dukemtmc": Layout(
        "duke", _DUKE, _DUKE_NAME, official="DukeMTMC-reID", counts=_DUKE_COUNTS, mend=_RENDER
    ),
    "msmt17_v1": Layout("msmt", _MSMT, _MSMT_NAME, _V1, "MSMT17_V1", _MSMT_COUNTS),
    "msmt17_v2": Layout("msmt", _MSMT, _MSMT_NAME, _V2, "MSMT17_V2", _MSMT_COUNTS),
    "pedestrians_warmup": Layout("market", _MARKET, _MARKET_NAME, mend=_RENDER),
    "pedestrians_many": Layout("market", _MARKET, _MARKET_NAME, mend=_RENDER),
    "reid_from_images": Layout("market", _MARKET, _MARKET_NAME, mend=f"make it: {RENDER} -p images FOLDER"),
}


# -- the survey --


class Row(NamedTuple):
    """One image: its file, relative to the data set's folder, with what its name says."""

    file: str
    id: int
    camera: int  # from 1


@dataclass
class Survey(folders.Survey):
    """What folders, names and lists say, and what is wrong.

    `sides` has the rows of train, query and gallery, sorted by file; `sizes` has junk images, too.
    """

    sides: dict[str, list[Row]] = field(default_factory=lambda: {side: [] for side in SIDES})
    junk: int = 0

    @property
    def layout(self) -> Layout:
        """Where it lies and how its names are built."""
        return LAYOUTS[self.name]

    @property
    def cameras(self) -> int:
        """C; cameras are 1 .. C where there is no problem."""
        return max((row.camera for rows in self.sides.values() for row in rows), default=0)

    @property
    def content(self) -> str:
        """SHA-256 of each side's file names, which hold ids and cameras too, and their sizes in bytes."""
        return self.digest({side: (row.file for row in self.sides[side]) for side in SIDES})


def survey(root: Path, name: str, acknowledge_withdrawn: bool = False) -> Survey:
    """Hold the names and lists of `name`, one of `LAYOUTS`, against each other and the counts.

    Raises:
        PapersError: an unknown name, nothing to survey, a broken `STANDIN.json`, or a real copy of a
            withdrawn data set that was not acknowledged.
    """
    layout = pick(name, LAYOUTS)
    # The official folder is tried first: a root may hold stand-ins beside it.
    inner = (layout.official, "")
    base, outer = find(root, name, inner, marked(*layout.folders), _missing(root, name), layout.mend)
    told = standin((base, outer), name, {})
    # Without counts there is nothing to hold a copy against.
    if told is None and layout.counts is None:
        raise PapersError(f"{base} has no {STANDIN}, and {name} is never a real data set; make it again")
    survey = Survey(name, base, outer, told=told)
    if name == "dukemtmc":
        survey.hold_withdrawn(WITHDRAWN, acknowledge_withdrawn)
    if layout.kind == "msmt":
        _read_lists(survey)
    else:
        _read_names(survey)
    # Names first, then what they say of each other.
    if all(survey.sides.values()):  # a missing part is told already
        _hold_cameras(survey)
        _hold_queries(survey)
        survey.hold_counts(_counts(survey))
    survey.note_ignored()
    return survey


def _missing(root: Path, name: str) -> str:
    """What to say where `name` is not under `root`: its other version, which may be there, is never read."""
    version = {"msmt17_v1": "msmt17_v2", "msmt17_v2": "msmt17_v1"}.get(name)
    # V2 has the faces blurred, so that one read as the other gives wrong numbers without an error.
    if version:
        layout, official = LAYOUTS[version], LAYOUTS[name].official
        inside = ("", name, official, f"{name}/{official}", version, layout.official)
        places = (root / place / folder for place in inside for folder in layout.folders)
        there = next((place for place in places if place.is_dir()), None)
        if there:
            return f"{there} belongs to {version}, whose results differ; use that name"
    # each once, in their order
    wanted = dict.fromkeys(LAYOUTS[name].folders)
    return f"none of {', '.join(f'{folder}/' for folder in wanted)} is there"


# -- Market and Duke: all is in the names --


def _read_names(survey: Survey) -> None:
    for side, folder in zip(SIDES, survey.layout.folders, strict=True):
        if not survey.has_folder(folder):
            continue
        files = survey.images_in(folder)
        if not files:
            survey.fault(folder, EMPTY)
        _hold_stems(survey, files)
        rows = _parsed(survey, folder, files)
        if survey.layout.kind == "market" and side == "gallery":
            survey.junk = sum(row.id == -1 for row in rows)
        elif survey.layout.kind == "market":
            for row in rows:
                if row.id < 1:
                    wrong = f"is a distractor or junk (identity {row.id}), which only the gallery may have"
                    survey.fault(row.file, f"{wrong}; move it there")
        # Junk is no image of the evaluation.
        survey.sides[side] = [row for row in rows if row.id != -1]


def _hold_stems(survey: Survey, files: Iterable[str]) -> None:
    """Refuse two images of one name in a side: public code that keys features by name mixes them up."""
    # Names without suffix: 0001.jpg and 0001.png would be one.
    stems: dict[str, str] = {}
    for file in files:
        first = stems.setdefault(file.rpartition("/")[2].rpartition(".")[0], file)
        if first != file:
            survey.fault(file, f"has the same name as {first}; rename one, or move it elsewhere")


def _parsed(survey: Survey, folder: str, files: list[str]) -> list[Row]:
    rows, bad = [], []
    # Names are parsed alone: no image is opened.
    for file in files:
        name = survey.layout.pattern.match(file.rpartition("/")[2])
        if name is None:
            bad.append(file)
        else:
            rows.append(Row(file, int(name["id"]), int(name["camera"])))
    # Not one fits: this is another data set, which is one fault and not thousands.
    if bad and not rows:
        wrong = f"none of {len(bad)} names is of {survey.name}, as in {bad[0]}"
        mend = f"they look like {survey.layout.example} there, so bring the right data set"
        survey.fault(f"{folder}:", f"{wrong}; {mend}")
    else:
        survey.problems += [_unparsed(survey, file) for file in bad]
    return rows


def _unparsed(survey: Survey, file: str) -> str:
    # What begins like an identity lacks the camera only.
    identified = re.match(r"(-1|\d+)_", file.rpartition("/")[2])
    wrong = "no camera in its name" if identified else "a name that tells no identity and camera"
    place = survey.base / file
    return f"{place} has {wrong}; rename it as in {survey.layout.example}, or move it elsewhere"


# -- MSMT17: lists say which image is where --


def _read_lists(survey: Survey) -> None:
    # Query and gallery share the folder of the test side.
    train, test, _ = survey.layout.folders
    for folder in (train, test):
        if survey.has_folder(folder) and not any(survey.images_by_folder(folder, empty="").values()):
            survey.fault(folder, EMPTY)
    # path → list, over all lists: no image may be in two
    listed: dict[str, str] = {}
    for side, names in _LISTS.items():
        folder = train if side == "train" else test
        rows = [row for name in names for row in _read_list(survey, folder, f"{name}.txt", listed)]
        survey.sides[side] = sorted(rows)
    for folder in (train, test):
        _hold_stems(survey, sorted(file for file in listed if file.startswith(f"{folder}/")))
    # Harmless, as the lists alone say what is evaluated.
    unlisted = sorted(survey.sizes.keys() - listed)
    if unlisted and all(survey.sides.values()):
        survey.notes.append(f"{len(unlisted)} images stand in no list and are left out, as {unlisted[0]}")


def _read_list(survey: Survey, folder: str, name: str, listed: dict[str, str]) -> list[Row]:
    """The rows of one list. `listed` has each file so far with its list, and gets those of this one."""
    if not (survey.base / name).is_file():
        survey.half([name])
        return []
    rows: list[Row] = []

    # An image in two lists would be trained and tested on.
    def judge(line: str) -> str:
        row = _row(survey, folder, line)
        if isinstance(row, str):
            return row
        if row.file in listed:
            return f"{row.file} is listed again, first in {listed[row.file]}; take whole lists"
        listed[row.file] = name
        rows.append(row)
        return ""

    survey.each_line(survey.base / name, judge)
    if not rows:
        survey.fault(name, f"lists no image of {folder}/; take the official list")
    return rows


def _row(survey: Survey, folder: str, line: str) -> Row | str:
    """A line of a list, or what is wrong with it."""
    words = survey.layout.pattern.fullmatch(line)
    # A path with "..", or none at all, is no line of a list; one without camera is named as an image is.
    if words is None:
        file, _, identity = line.rpartition(" ")
        if file.count("/") != 1 or not identity.isdecimal():
            return f"{line!r} is not folder/name and identity; take the official list"
        return _unparsed(survey, f"{folder}/{file}")
    file = f"{folder}/{words['file']}"
    if file not in survey.sizes:
        return f"{file} is missing; restore the image"
    # Three places say who it is.
    if not int(words["folder"]) == int(words["id"]) == int(words["listed"]):
        wrong = f"{file} is listed as identity {words['listed']}"
        return f"{wrong}; name, folder and list must agree: take whole lists"
    return Row(file, int(words["id"]), int(words["camera"]))


# -- the sides against each other and the counts --


def _hold_cameras(survey: Survey) -> None:
    there = {row.camera for rows in survey.sides.values() for row in rows}
    if len(there) == 1:
        wrong = "has one camera, and a query is only matched across cameras"
        survey.fault("", f"{wrong}; bring images of a second one")
    # C is the largest number, and every camera becomes a row of a table.
    missing = sorted(set(range(1, max(there) + 1)) - there)
    if missing or 0 in there:
        wrong = f"{_some(missing)} missing" if missing else "0 among them"
        mend = "number them from 1 without a gap in the file names"
        survey.problems.append(f"{survey.base}: cameras are {_some(sorted(there))}, with {wrong}; {mend}")


def _some(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:20])) + ", …" * (len(numbers) > 20)


def _hold_queries(survey: Survey) -> None:
    """Refuse identities of the query that the gallery lacks; note those of their own camera only."""
    cameras: dict[int, set[int]] = {}  # in which an identity of the gallery was seen
    for row in survey.sides["gallery"]:
        cameras.setdefault(row.id, set()).add(row.camera)
    for identity, images in sorted(Counter(row.id for row in survey.sides["query"]).items()):
        if identity not in cameras:
            wrong = f"identity {identity} has {images} images in the query and none in the gallery"
            survey.problems.append(f"{wrong} of {survey.base}; restore them")
    # Evaluation leaves out matches of the query's own camera.
    unmatched = [r for r in survey.sides["query"] if r.id in cameras and not cameras[r.id] - {r.camera}]
    if unmatched:
        survey.notes.append(
            f"{len(unmatched)} queries have no match in another camera, as {unmatched[0].file}; "
            "evaluation follows its no_match rule there"
        )


def _counts(survey: Survey) -> Iterator[tuple[str, int, int]]:
    """What is there and what is expected; a stand-in tells its files, so that its gallery is with junk."""
    published = survey.layout.counts  # of a real copy: identities, junk and cameras, too
    for side, rows in survey.sides.items():
        if survey.told is not None:
            junk = survey.junk if side == "gallery" else 0
            yield f"{side} images", len(rows) + junk, survey.told["counts"].get(side, 0)
        elif published is not None:
            images, identities = getattr(published, side)
            yield f"{side} images", len(rows), images
            yield f"{side} identities", len({row.id for row in rows}), identities
    if survey.told is None and published is not None:
        yield "junk images", survey.junk, published.junk
        yield "cameras", survey.cameras, published.cameras
