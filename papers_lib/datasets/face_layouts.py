"""How face data lies on disk, and all that can be wrong with it: record packs, class folders, lists of pairs.

* pack: `train.rec`, `train.idx`, `property`, and test pairs `lfw.bin`, `cfp_fp.bin`, `agedb_30.bin` …, as
  insightface hands them out;
* folders: `train/<identity>/`, or `<identity>/` at once, any image files inside;
* pairs: `pairs.txt` of LFW with `<name>/<name>_0001.jpg` below `lfw/`, `lfw_funneled/`,
  `lfw-deepfunneled/` (scikit-learn's `lfw_home` has this), `test/`, or at once.

`pairs.txt` begins with "folds pairs" (pairs of either kind in a fold; LFW's own says "10 300"), or with the
number of pairs alone where there is one fold, which is refused; a line is "name 1 2" or "name 1 other 2",
between tabs.
http://vis-www.cs.umass.edu/lfw/README.txt. `survey` opens no image.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from papers_lib.datasets.face_records import Pack, read_bin, read_pack
from papers_lib.errors import PapersError

STANDIN = "STANDIN.json"
PAIRS = "pairs.txt"
FOLDS = 10
REC, IDX = "train.rec", "train.idx"
WITHDRAWN = (
    "faces_emore is MS-Celeb-1M cleaned, which Microsoft withdrew in 2019, as people were collected without "
    "being asked; do not publish new results on it, and consider deleting the copy"
)

_SUFFIXES = (".jpg", ".jpeg", ".png")
_FACES = ("", "lfw", "lfw_funneled", "lfw-deepfunneled", "test")


@dataclass(frozen=True)
class Known:
    """What is published of a data set: a title, the folders that copies have around it, and counts.

    `editions` are (images, identities) of each; `pairs` the number of pairs by test, `trains` whether it
    is trained on.
    """

    title: str
    inner: tuple[str, ...] = ()
    editions: Mapping[tuple[int, int], str] = field(default_factory=dict)
    pairs: Mapping[str, int] = field(default_factory=dict)
    trains: bool = True


TESTS = {"lfw": 6_000, "cfp_fp": 7_000, "cfp_ff": 7_000, "agedb_30": 6_000, "calfw": 6_000, "cplfw": 6_000}
SETS: Mapping[str, Known] = {
    "faces_emore": Known(
        "MS-Celeb-1M, cleaned",
        ("faces_emore", "faces_ms1m_112x112", "faces_ms1m-refine-v2_112x112"),
        {(3_804_846, 85_164): "MS1MV1", (5_822_653, 85_742): "MS1MV2"},
        TESTS,
    ),
    "faces_own": Known("own faces"),
    "lfw": Known("LFW", ("lfw_home",), {(13_233, 5_749): "LFW"}, {"lfw": 6_000}, trains=False),
}


@dataclass(frozen=True, eq=False)
class Pairs:
    """Verification pairs: N `images`, files or the bytes of files, and P pairs of their indices.

    `first` and `second` are [P] int64, `same` [P] bool; `folds` equal parts of the P, in their order, are
    those of the protocol. An image of several pairs is there once.
    """

    name: str
    images: tuple[Path, ...] | tuple[bytes, ...]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    same: NDArray[np.bool_]
    folds: int = FOLDS

    def __len__(self) -> int:
        return len(self.same)


@dataclass
class Survey:
    """What files and folders say, and what is wrong: `problems` and `notes` are lines for a reader.

    Training images are in `pack` or, by identity, in `folders`; `faces` has the images of pairs by their path
    without suffix. `sizes` are bytes.
    """

    name: str
    base: Path
    told: Mapping[str, Any] | None  # what `STANDIN.json` says; None for real data
    pack: Pack | None = None
    folders: dict[str, list[str]] = field(default_factory=dict)
    faces: dict[str, str] = field(default_factory=dict)
    tests: dict[str, Pairs] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def stand_in(self) -> bool:
        """Whether it is rendered."""
        return self.told is not None

    @property
    def images(self) -> int:
        """How many there are to train on, or in LFW's folders."""
        if self.pack is not None:
            return len(self.pack)
        return sum(map(len, self.folders.values())) or len(self.faces)

    @property
    def identities(self) -> int:
        """How many people these show."""
        if self.pack is not None:
            return self.pack.identities
        return len(self.folders) or len({file.rpartition("/")[0] for file in self.faces})

    @property
    def title(self) -> str:
        """How a result names it."""
        known = SETS[self.name]
        return (
            known.title if self.stand_in else known.editions.get((self.images, self.identities), known.title)
        )

    @property
    def fingerprint(self) -> str:
        """SHA-256 of names and sizes in bytes of all files, of a pack's offsets and labels, and of all pairs.

        Cheap, and the same wherever the folder lies. It cannot see an image that was replaced by another one
        of the same number of bytes.
        """
        digest = hashlib.sha256(self.name.encode())
        digest.update("\0".join(f"{file}:{size}" for file, size in sorted(self.sizes.items())).encode())
        if self.pack is not None:
            for numbers in (self.pack.offsets, self.pack.labels):
                digest.update(numbers.astype("<i8").tobytes())
        for name, test in sorted(self.tests.items()):
            digest.update(f"\0{name}:{test.folds}".encode())
            for values in (test.first, test.second, test.same):
                digest.update(values.astype("<i8").tobytes())
            names = (
                each.relative_to(self.base).as_posix() if isinstance(each, Path) else str(len(each))
                for each in test.images
            )
            digest.update("\0".join(names).encode())
        return digest.hexdigest()


def survey(root: Path, name: str, acknowledge_withdrawn: bool = False) -> Survey:
    """Read files and folders of `name` under `root` and hold them against each other and the known counts.

    Args:
        root: the data set's own folder, or the one that holds it as `<name>/` or as its official folder.
        name: one of `SETS`.
        acknowledge_withdrawn: read a real copy of a withdrawn data set.

    Raises:
        PapersError: an unknown name, nothing to survey, a broken `STANDIN.json`, or a withdrawn data set
            that was not acknowledged.
    """
    if name not in SETS:
        raise PapersError(f"unknown data set {name!r}; known: {', '.join(SETS)}")
    base = _find(Path(root), name)
    found = Survey(name, base, _told(base, name))
    if name == "faces_emore" and not found.stand_in:
        if not acknowledge_withdrawn:
            raise PapersError(
                "a real copy of faces_emore is read only with acknowledge_withdrawn=True (command line: "
                f"--acknowledge-withdrawn); {WITHDRAWN}"
            )
        found.notes.append(WITHDRAWN)
    if SETS[name].trains:
        _training(found)
    _tests(found)
    if not found.problems:
        found.problems += _wrong_counts(found)
    if found.ignored:
        first = sorted(found.ignored)[0]
        found.notes.append(
            f"{len(found.ignored)} entries that are no image are ignored and can be removed, as {first}"
        )
    return found


# Where it is


def _find(root: Path, name: str) -> Path:
    for outer in (root / name, root):
        for base in (outer / inner for inner in ("", *SETS[name].inner)):
            if _there(base, name):
                return base
    mend = (
        f"bring it: python -m data_prep import {name} SOURCE {root} or render a stand-in: "
        f"python -m data_prep make {name} {root}"
    )
    if not root.is_dir():
        raise PapersError(f"no {name}: the folder {root} does not exist; {mend}")
    parts = {"faces_emore": f"neither {REC} nor {IDX}", "lfw": f"no {PAIRS}"}
    missing = parts.get(name, f"neither {REC} nor a folder an identity with images")
    raise PapersError(f"no {name} in {root}: {missing} is there; {mend}")


def _there(base: Path, name: str) -> bool:
    if name == "lfw":
        return (base / PAIRS).is_file()
    if any((base / file).is_file() for file in (REC, IDX)):
        return True
    return name == "faces_own" and _has_identities(base)


def _has_identities(base: Path) -> bool:
    """Whether `base` has `train/`, or folders that hold images."""
    if (base / "train").is_dir():
        return True
    inner = [path for path in base.iterdir() if path.is_dir()] if base.is_dir() else []
    return any(file.suffix.lower() in _SUFFIXES for path in inner[:10] for file in path.iterdir())


def _told(base: Path, name: str) -> Mapping[str, Any] | None:
    path = base / STANDIN
    if not path.is_file():
        return None
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        of, counts = str(told["name"]), told["counts"]
        whole = all(isinstance(counts[what], int) for what in ("images", "identities"))
        wrong = "" if whole and isinstance(counts["pairs"], dict) else "no counts"
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        of, wrong = "", str(error) or type(error).__name__
    if wrong:
        raise PapersError(f"{path} is broken ({wrong}); render the stand-in again")
    if of != name:
        raise PapersError(f"{path} is a stand-in of {of}, not of {name}; use that name, or another ROOT")
    return dict(told)


# Training images


def _training(found: Survey) -> None:
    files = [found.base / file for file in (REC, IDX)]
    missing = [path.name for path in files if not path.is_file()]
    if len(missing) == 1:
        found.problems.append(
            f"half a data set: {missing[0]} missing in {found.base}; add it from the copy that you have"
        )
    elif not missing:
        try:
            found.pack = read_pack(found.base)
            found.sizes[REC] = found.pack.file.size
        except PapersError as error:
            found.problems.append(str(error))
    else:
        _class_folders(found, "train/" if (found.base / "train").is_dir() else "")


def _class_folders(found: Survey, folder: str) -> None:
    with os.scandir(found.base / folder) as entries:
        inner = sorted(entry.name for entry in entries if entry.is_dir() and entry.name[0] not in "._")
    for name in inner if folder else [each for each in inner if each != "test"]:
        files = sorted(_images(found, f"{folder}{name}"))
        if files:
            found.folders[name] = files
        else:
            found.problems.append(
                f"{found.base / folder / name} is an identity without images; restore them, or remove "
                "the folder"
            )


def _images(found: Survey, folder: str) -> Iterator[str]:
    """The images that lie in `folder`, with their sizes taken down; the rest is ignored, and noted."""
    with os.scandir(found.base / folder) as entries:
        for entry in entries:
            file = f"{folder}/{entry.name}"
            if entry.name.lower().endswith(_SUFFIXES) and entry.name[:2] != "._" and entry.is_file():
                found.sizes[file] = entry.stat().st_size
                yield file
            else:
                found.ignored.append(file)


# Pairs


def _tests(found: Survey) -> None:
    for path in sorted(found.base.glob("*.bin")):
        try:
            images, same = read_bin(path)
        except PapersError as error:
            found.problems.append(str(error))
            continue
        places = np.arange(len(images), dtype=np.int64).reshape(-1, 2)
        found.sizes[path.name] = path.stat().st_size
        test = Pairs(path.stem, images, places[:, 0], places[:, 1], same)
        _take(found, test, str(path))
    if (found.base / PAIRS).is_file():
        _listed(found)
    if not found.tests and not found.problems and not SETS[found.name].trains:
        found.problems.append(f"{found.base} has no pairs; add {PAIRS}")


def _take(found: Survey, test: Pairs, path: str) -> None:
    """Keep what can be verified on; say what is wrong with the rest."""
    same = int(test.same.sum())
    if same in (0, len(test)):
        kind = "same person" if same else "different people"
        found.problems.append(f"{path}: all {len(test)} pairs are of the {kind}; take the whole list")
    elif test.folds < 2:
        found.problems.append(
            f"{path}: {len(test)} pairs in {test.folds} fold, which leaves none to take a threshold from; "
            'begin it with "folds pairs", two folds or more'
        )
    elif test.name in found.tests:
        found.problems.append(
            f"{path}: {test.name}.bin beside it has pairs of the same name; rename or remove that"
        )
    elif len(test) % test.folds:
        found.problems.append(
            f"{path}: {len(test)} pairs do not divide into {test.folds} folds; take the whole list"
        )
    else:
        found.tests[test.name] = test


def _listed(found: Survey) -> None:
    """The pairs of `pairs.txt`."""
    path, known = found.base / PAIRS, len(found.problems)
    folder = next((f for f in reversed(_FACES) if (found.base / f).is_dir()), "")
    found.faces = _face_files(found, folder)
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    head, rows = _head(lines)
    places: dict[str, int] = {}
    pairs: list[tuple[int, int, bool]] = []
    for number, line in rows:
        names = _pair(line)
        missing = [f"{name}.jpg" for name in names if name not in found.faces]
        if not names:
            wrong = 'is no "name 1 2" nor "name 1 other 2"; mend the line'
        else:
            wrong = f"{missing[0]} is missing in {found.base / folder}; restore the image" if missing else ""
        if wrong:
            found.problems.append(f"{path}, line {number}: {wrong}")
            continue
        first, second = (places.setdefault(name, len(places)) for name in names)
        pairs.append((first, second, names[0].partition("/")[0] == names[1].partition("/")[0]))
    folds, announced = head or (FOLDS, len(rows))
    if announced != len(rows):
        found.problems.append(f"{path} announces {announced} pairs and has {len(rows)}; take the whole list")
    if len(found.problems) == known:
        table = np.array(pairs, dtype=np.int64).reshape(-1, 3)
        files = tuple(found.base / found.faces[name] for name in places)
        name = "lfw" if found.name == "lfw" else "pairs"
        _take(found, Pairs(name, files, table[:, 0], table[:, 1], table[:, 2] > 0, folds), str(path))


def _face_files(found: Survey, folder: str) -> dict[str, str]:
    """Every image "name/name_0001" below `folder`, with its file."""
    with os.scandir(found.base / folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir() and entry.name[0] != ".")
    inner = f"{folder}/" if folder else ""
    files = [file for name in names for file in sorted(_images(found, f"{inner}{name}"))]
    return {file.removeprefix(inner).rpartition(".")[0]: file for file in files}


def _head(lines: list[str]) -> tuple[tuple[int, int] | None, list[tuple[int, str]]]:
    """Folds and number of pairs as the first line says them, if it does, and the lines that follow."""
    rows = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    words = rows[0][1].split() if rows else []
    if not words or len(words) > 2 or not all(word.isdecimal() for word in words):
        return None, rows
    folds, pairs = (int(words[0]), int(words[1])) if len(words) == 2 else (1, int(words[0]))
    return (folds, 2 * folds * pairs), rows[1:]


def _pair(line: str) -> tuple[str, ...]:
    """The two images of a line, without suffix; none where it is no pair."""
    words = line.strip().split("\t") if "\t" in line else line.split()
    if len(words) == 3:
        words = [words[0], words[1], words[0], words[2]]
    if len(words) != 4 or not (words[1].isdecimal() and words[3].isdecimal()):
        return ()
    return tuple(f"{name}/{name}_{int(number):04d}" for name, number in (words[:2], words[2:]))


# Counts


def _wrong_counts(found: Survey) -> Iterator[str]:
    known, there = SETS[found.name], (found.images, found.identities)
    if found.told is not None:
        counts = found.told["counts"]
        editions, pairs = [(counts["images"], counts["identities"])], counts["pairs"]
        for name in pairs.keys() - found.tests.keys():
            yield f"{found.base} has no pairs {name!r}; render the stand-in again"
    else:
        editions, pairs = list(known.editions), dict(known.pairs)
    if editions and there not in editions:
        right = " or ".join(f"{images:,} of {identities:,}" for images, identities in editions)
        yield (
            f"{found.name} has {there[0]:,} images of {there[1]:,} identities, {right} expected; restore the "
            f"copy in {found.base}"
        )
    for name, test in found.tests.items():
        if name in pairs and len(test) != pairs[name]:
            yield f"{name} has {len(test)} pairs, {pairs[name]} expected; restore the copy in {found.base}"
