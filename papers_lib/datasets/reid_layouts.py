"""How person re-identification data lies on disk: three layouts, their counts, and all that can be wrong.

* Market: `bounding_box_train/`, `query/`, `bounding_box_test/` with `0002_c1s1_000451_03.jpg`, which is
  identity, camera and sequence, frame, box. Identity -1 is junk and dropped; 0000 is a distractor and kept.
* Duke: the same three folders with `0001_c2_f0046182.jpg`.
* MSMT: V1 `train/`, `test/`; V2, with blurred faces, `mask_train_v2/`, `mask_test_v2/`; in both a folder an
  identity, `0000/0000_045_12_0303morning_0006_2.jpg` with the camera in the third field, and
  `list_train.txt`, `list_val.txt`, `list_query.txt`, `list_gallery.txt` of "path identity". Training is
  list_train and list_val together; training and test identities both start from 0 and have nothing to do
  with one another.

`survey` lists folders and reads lists; it opens no image. Everything is sorted by name, so that no order
depends on the file system.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from papers_lib.datasets.folders import STANDIN, Found, lines, standin
from papers_lib.errors import PapersError

SIDES = ("train", "query", "gallery")
WITHDRAWN = (
    "dukemtmc was withdrawn by its authors in 2019, as people were recorded and published outside of the "
    "approved protocol: no new result should be produced with it"
)
"""The notice that whoever reads a real copy of DukeMTMC-reID gets to see."""

_FLAT = ("bounding_box_train", "query", "bounding_box_test")
_LISTS = {"train": ("list_train", "list_val"), "query": ("list_query",), "gallery": ("list_gallery",)}


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
    official: str
    folders: tuple[str, str, str]
    pattern: re.Pattern[str]
    example: str
    counts: Counts | None = None


_ID, _CAMERA = r"[0-9]{1,9}", r"[0-9]{1,4}"
_MARKET = re.compile(rf"(?P<id>-1|{_ID})_c(?P<camera>{_CAMERA})s\d+_")
_DUKE = re.compile(rf"(?P<id>{_ID})_c(?P<camera>{_CAMERA})_f\d+")
_MSMT = re.compile(
    rf"(?P<file>(?P<folder>{_ID})/(?P<id>{_ID})_\d+_(?P<camera>{_CAMERA})_\S*) (?P<listed>{_ID})"
)
_MARKET_NAME, _DUKE_NAME = "0002_c1s1_000451_03.jpg", "0001_c2_f0046182.jpg"
_MSMT_NAME = "0000/0000_045_12_0303morning_0006_2.jpg"
_MSMT_COUNTS = Counts((32621, 1041), (11659, 3060), (82161, 3060), 15)
_V1, _V2 = ("train", "test", "test"), ("mask_train_v2", "mask_test_v2", "mask_test_v2")
_MADE = Layout("market", "", _FLAT, _MARKET, _MARKET_NAME)

LAYOUTS: Mapping[str, Layout] = {
    "market1501": Layout(
        "market", "Market-1501-v15.09.15", _FLAT, _MARKET, _MARKET_NAME,
        Counts((12936, 751), (3368, 750), (15913, 751), 6, junk=3819),
    ),
    "dukemtmc": Layout(
        "duke", "DukeMTMC-reID", _FLAT, _DUKE, _DUKE_NAME,
        Counts((16522, 702), (2228, 702), (17661, 1110), 8),
    ),
    "msmt17_v1": Layout("msmt", "MSMT17_V1", _V1, _MSMT, _MSMT_NAME, _MSMT_COUNTS),
    "msmt17_v2": Layout("msmt", "MSMT17_V2", _V2, _MSMT, _MSMT_NAME, _MSMT_COUNTS),
    "pedestrians_warmup": _MADE,
    "pedestrians_many": _MADE,
    "reid_from_images": _MADE,
}  # fmt: skip


class Row(NamedTuple):
    """One image: its file, relative to the data set's folder, with what its name says."""

    file: str
    id: int
    camera: int  # from 1


@dataclass
class Survey(Found):
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
        """SHA-256 of each side's file names and their sizes in bytes, which hold ids and cameras too.

        Cheap, and the same wherever the folder lies. It cannot see an image that was replaced by another
        one of the same name and the same number of bytes.
        """
        digest = hashlib.sha256(self.name.encode())
        for side in SIDES:
            rows = [f"{row.file}:{self.sizes.get(row.file)}" for row in self.sides[side]]
            digest.update("\0".join(["", side, *rows]).encode())
        return digest.hexdigest()


def survey(root: Path, name: str, acknowledge_withdrawn: bool = False) -> Survey:
    """Read the names and lists of `name` under `root` and hold them against each other and the counts.

    Args:
        root: the data set's own folder, or the one that holds it as `<name>/` or as its official folder.
        name: one of `LAYOUTS`.
        acknowledge_withdrawn: read a real copy of a withdrawn data set.

    Raises:
        PapersError: an unknown name, nothing to survey, a broken `STANDIN.json`, or a real copy of a
            withdrawn data set that was not acknowledged.
    """
    if name not in LAYOUTS:
        raise PapersError(f"unknown data set {name!r}; known: {', '.join(LAYOUTS)}")
    base = _find(Path(root), name)
    found = Survey(name, base, told=_stand_in(base, name))
    if name == "dukemtmc" and not found.stand_in:
        if not acknowledge_withdrawn:
            raise PapersError(
                "a real copy of dukemtmc is read only with acknowledge_withdrawn=True (command line: "
                f"--acknowledge-withdrawn); {WITHDRAWN}"
            )
        found.notes.append(WITHDRAWN)
    (_lists if found.layout.kind == "msmt" else _folders)(found)
    if all(found.sides.values()):  # a missing part is told already
        found.problems += [*_cameras(found), *_queries(found), *_wrong_counts(found)]
    found.tell_ignored(base.parent if base.name == found.layout.official else None)
    return found


# Where it is


def _find(root: Path, name: str) -> Path:
    layout = LAYOUTS[name]
    places = [root / name / layout.official, root / name, root / layout.official, root]
    base = next((b for b in places if any((b / f).is_dir() for f in layout.folders)), None)
    if base is None:
        raise PapersError(f"{_nothing(root, name, places)}; {mend(root, name)}")
    return base


def _nothing(root: Path, name: str, places: Iterable[Path]) -> str:
    if not root.is_dir():
        return f"no {name}: the folder {root} does not exist"
    if not any(root.iterdir()):
        return f"no {name}: the folder {root} is empty"
    other = {"msmt17_v1": "msmt17_v2", "msmt17_v2": "msmt17_v1"}.get(name, "")
    if other:
        marks, inside = LAYOUTS[other].folders, (*places, root / other, root / LAYOUTS[other].official)
        there = next((b / f for b in inside for f in marks if (b / f).is_dir()), None)
        if there:
            return f"no {name} in {root}: {there} belongs to {other}, whose results differ; use that name"
    wanted = dict.fromkeys(LAYOUTS[name].folders)
    return f"no {name} in {root}: none of {', '.join(f'{f}/' for f in wanted)} is there"


def mend(root: Path, name: str) -> str:
    """The commands that bring a data set to `root`. DukeMTMC-reID is only rendered."""
    if name == "reid_from_images":
        return f"make it: python -m data_prep make {name} {root} -p images FOLDER"
    make = f"python -m data_prep make {name} {root}"
    if LAYOUTS[name].counts is None or name == "dukemtmc":
        return f"render it: {make}"
    return f"bring it: python -m data_prep import {name} SOURCE {root} or render a stand-in: {make}"


def _stand_in(base: Path, name: str) -> Mapping[str, object] | None:
    """What `STANDIN.json` says, in the data set's folder or beside its official one."""
    outer = (base.parent,) if base.name == LAYOUTS[name].official else ()
    told = standin((base, *outer), name, {})
    if told is None and LAYOUTS[name].counts is None:
        raise PapersError(f"{base} has no {STANDIN}, and {name} is never a real data set; make it again")
    return told


# Market and Duke: all is in the names


def _folders(found: Survey) -> None:
    for side, folder in zip(SIDES, found.layout.folders, strict=True):
        if not (found.base / folder).is_dir():
            found.problems.append(_half(found, f"{folder}/"))
            continue
        files = found.images_in(folder)
        if not files:
            found.problems.append(f"{found.base / folder} holds no image; restore its images")
        found.problems += [*_same_stem(found, files)]
        found.sides[side] = _kept(found, side, _parsed(found, folder, files))


def _half(found: Survey, missing: str) -> str:
    return f"half a data set: {missing} missing in {found.base}; add it from the copy that you have"


def _same_stem(found: Survey, files: Iterable[str]) -> Iterator[str]:
    """Two images of one name in a side: public code that keys features by name mixes them up."""
    stems: dict[str, str] = {}
    for file in files:
        first = stems.setdefault(file.rpartition("/")[2].rpartition(".")[0], file)
        if first != file:
            yield f"{found.base / file} has the same name as {first}; rename one, or move it elsewhere"


def _parsed(found: Survey, folder: str, files: list[str]) -> list[Row]:
    match, rows, bad = found.layout.pattern.match, [], []
    for file in files:
        named = match(file.rpartition("/")[2])
        if named is None:
            bad.append(file)
        else:
            rows.append(Row(file, int(named["id"]), int(named["camera"])))
    if bad and not rows:
        found.problems.append(
            f"{found.base / folder}: none of {len(bad)} names is of {found.name}, as in {bad[0]}; they look "
            f"like {found.layout.example} there, so bring the right data set"
        )
    else:
        found.problems += [_unparsed(found, file) for file in bad]
    return rows


def _unparsed(found: Survey, file: str) -> str:
    wanted = f"rename it as in {found.layout.example}, or move it elsewhere"
    name = file.rpartition("/")[2]
    if re.match(r"(-1|\d+)_", name):
        return f"{found.base / file} has no camera in its name; {wanted}"
    return f"{found.base / file} has a name that tells no identity and camera; {wanted}"


def _kept(found: Survey, side: str, rows: list[Row]) -> list[Row]:
    if found.layout.kind != "market":
        return rows
    kept = [row for row in rows if row.id != -1]
    if side == "gallery":
        found.junk += len(rows) - len(kept)
        return kept
    found.problems += [
        f"{found.base / row.file} is a distractor or junk (identity {row.id}), which only the gallery may "
        "have; move it there"
        for row in rows
        if row.id < 1
    ]
    return kept


# MSMT17: lists say which image is where


def _lists(found: Survey) -> None:
    train, test, _ = found.layout.folders
    for folder in (train, test):
        if not (found.base / folder).is_dir():
            found.problems.append(_half(found, f"{folder}/"))
        elif not _nested(found, folder):
            found.problems.append(f"{found.base / folder} holds no image; restore its images")
    listed: dict[str, str] = {}
    for side, names in _LISTS.items():
        rows: list[Row] = []
        for name in names:
            rows += _listed(found, train if side == "train" else test, f"{name}.txt", listed)
        found.sides[side] = sorted(rows)
    found.problems += [*_same_stem(found, sorted(f for f in listed if f.startswith(f"{train}/")))]
    found.problems += [*_same_stem(found, sorted(f for f in listed if f.startswith(f"{test}/")))]
    unlisted = sorted(found.sizes.keys() - listed)
    if unlisted and all(found.sides.values()):
        found.notes.append(f"{len(unlisted)} images stand in no list and are left out, as {unlisted[0]}")


def _nested(found: Survey, folder: str) -> int:
    """Images in the folders of `folder`, one an identity."""
    return sum(len(found.images_in(f"{folder}/{name}")) for name in found.folders_in(folder))


def _listed(found: Survey, folder: str, name: str, listed: dict[str, str]) -> list[Row]:
    """The rows of one list. `listed` has each file so far with its list, and gets those of this one."""
    path = found.base / name
    if not path.is_file():
        found.problems.append(_half(found, name))
        return []
    rows = []
    with found.telling():
        for number, line in lines(path):
            row = _row(found, folder, line)
            if isinstance(row, str):
                found.problems.append(f"{path}, line {number}: {row}")
            elif row.file in listed:
                found.problems.append(
                    f"{path}, line {number}: {row.file} is listed again, first in {listed[row.file]}; "
                    "take whole lists"
                )
            else:
                listed[row.file] = name
                rows.append(row)
    if not rows:
        found.problems.append(f"{path} lists no image of {folder}/; take the official list")
    return rows


def _row(found: Survey, folder: str, line: str) -> Row | str:
    """A line of a list, or what is wrong with it."""
    told = found.layout.pattern.fullmatch(line)
    if told is None:
        return _unlike(found, folder, line)
    file, inside, identity, camera, listed = told.groups()
    file = f"{folder}/{file}"
    if file not in found.sizes:
        return f"{file} is missing; restore the image"
    if not int(inside) == int(identity) == int(listed):
        return f"{file} is listed as identity {listed}; name, folder and list must agree: take whole lists"
    return Row(file, int(identity), int(camera))


def _unlike(found: Survey, folder: str, line: str) -> str:
    file, _, identity = line.rpartition(" ")
    if file.count("/") != 1 or not identity.isdecimal():
        return f"{line!r} is not folder/name and identity; take the official list"
    return _unparsed(found, f"{folder}/{file}")


# Holding the sides against each other and the counts


def _cameras(found: Survey) -> Iterator[str]:
    there = {row.camera for rows in found.sides.values() for row in rows}
    if len(there) == 1:
        yield (
            f"{found.base} has one camera, and a query is only matched across cameras; "
            "bring images of a second one"
        )
    missing = sorted(set(range(1, max(there) + 1)) - there)
    if missing or 0 in there:
        wrong = f"{_some(missing)} missing" if missing else "0 among them"
        yield (
            f"{found.base}: cameras are {_some(sorted(there))}, with {wrong}; number them "
            "from 1 without a gap in the file names"
        )


def _some(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:20])) + ", …" * (len(numbers) > 20)


def _queries(found: Survey) -> Iterator[str]:
    """Identities of the query that the gallery lacks; those it has from their own camera only are noted."""
    seen: dict[int, set[int]] = {}
    for row in found.sides["gallery"]:
        seen.setdefault(row.id, set()).add(row.camera)
    for identity, images in sorted(Counter(row.id for row in found.sides["query"]).items()):
        if identity not in seen:
            yield (
                f"identity {identity} has {images} images in the query and none in the gallery of "
                f"{found.base}; restore them"
            )
    unmatched = [r for r in found.sides["query"] if r.id in seen and not seen[r.id] - {r.camera}]
    if unmatched:
        found.notes.append(
            f"{len(unmatched)} queries have no match in another camera, as {unmatched[0].file}; "
            "evaluation follows its no_match rule there"
        )


def _wrong_counts(found: Survey) -> Iterator[str]:
    for what, there, expected in _told_counts(found) if found.told else _published_counts(found):
        if there != expected:
            yield f"{found.name} has {there} {what}, {expected} expected; restore the copy in {found.base}"


def _told_counts(found: Survey) -> Iterator[tuple[str, int, int]]:
    """Files of each side against what `STANDIN.json` says was written; the gallery's are with junk."""
    counts = found.told["counts"] if found.told else {}
    for side in SIDES:
        number = len(found.sides[side]) + found.junk * (side == "gallery")
        yield f"{side} images", number, counts.get(side, 0)


def _published_counts(found: Survey) -> Iterator[tuple[str, int, int]]:
    counts = found.layout.counts
    if counts is None:
        return
    for side in SIDES:
        images, identities = getattr(counts, side)
        yield f"{side} images", len(found.sides[side]), images
        yield f"{side} identities", len({row.id for row in found.sides[side]}), identities
    yield "junk images", found.junk, counts.junk
    yield "cameras", found.cameras, counts.cameras
