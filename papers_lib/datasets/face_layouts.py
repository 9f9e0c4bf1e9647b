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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from papers_lib.datasets.face_records import Pack, read_bin, read_pack
from papers_lib.datasets.folders import SUFFIXES, Found, lines, number, standin
from papers_lib.errors import PapersError

PAIRS = "pairs.txt"
FOLDS = 10
REC, IDX = "train.rec", "train.idx"
WITHDRAWN = (
    "faces_emore is MS-Celeb-1M cleaned, which Microsoft withdrew in 2019, as people were collected without "
    "being asked; do not publish new results on it, and consider deleting the copy"
)

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
class Survey(Found):
    """What files and folders say, and what is wrong.

    Training images are in `pack` or, by identity, in `folders`; `faces` has the images of pairs by their path
    without suffix.
    """

    pack: Pack | None = None
    folders: dict[str, list[str]] = field(default_factory=dict)
    faces: dict[str, str] = field(default_factory=dict)
    tests: dict[str, Pairs] = field(default_factory=dict)

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
    def content(self) -> str:
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
    told = standin([base], name, {"images": int, "identities": int, "pairs": dict})
    found = Survey(name, base, told=told)
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
    found.tell_ignored()
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
    return any(file.suffix.lower() in SUFFIXES for path in inner[:10] for file in path.iterdir())


# Training images


def _training(found: Survey) -> None:
    files = [found.base / file for file in (REC, IDX)]
    missing = [path.name for path in files if not path.is_file()]
    if len(missing) == 1:
        found.problems.append(
            f"half a data set: {missing[0]} missing in {found.base}; add it from the copy that you have"
        )
    elif not missing:
        with found.telling():
            found.pack = read_pack(found.base)
            found.sizes[REC] = found.pack.file.size
    else:
        _class_folders(found, "train/" if (found.base / "train").is_dir() else "")


def _class_folders(found: Survey, folder: str) -> None:
    for name in found.folders_in(folder):
        if folder or name != "test":
            found.folders[name] = found.images_in(f"{folder}{name}")
    empty = [name for name, files in found.folders.items() if not files]
    found.problems += [
        f"{found.base / folder / name} is an identity without images; restore them, or remove its folder"
        for name in empty
    ]


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
        found.problems.append(f"{path}: {test.name}.bin beside it has pairs of the same name; rename that")
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
    with found.telling():
        head, rows = _head(list(lines(path)))
    if len(found.problems) > known:
        return
    places: dict[str, int] = {}
    pairs: list[tuple[int, int, bool]] = []
    for count, line in rows:
        names = _pair(line)
        missing = [f"{name}.jpg" for name in names if name not in found.faces]
        if not names:
            wrong = 'is no "name 1 2" nor "name 1 other 2"; mend the line'
        else:
            wrong = f"{missing[0]} is missing in {found.base / folder}; restore the image" if missing else ""
        if wrong:
            found.problems.append(f"{path}, line {count}: {wrong}")
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
    inner = f"{folder}/" if folder else ""
    files = [f for name in found.folders_in(folder) for f in found.images_in(f"{inner}{name}")]
    return {file.removeprefix(inner).rpartition(".")[0]: file for file in files}


def _head(rows: list[tuple[int, str]]) -> tuple[tuple[int, int] | None, list[tuple[int, str]]]:
    """Folds and number of pairs as the first line says them, if it does, and the lines that follow."""
    words = [number(word) for word in rows[0][1].split()] if rows else []
    if len(words) == 1 and words[0] is not None:
        return (1, 2 * words[0]), rows[1:]
    if len(words) == 2 and words[0] is not None and words[1] is not None:
        return (words[0], 2 * words[0] * words[1]), rows[1:]
    return None, rows


def _pair(line: str) -> tuple[str, ...]:
    """The two images of a line, without suffix; none where it is no pair."""
    words = line.split("\t") if "\t" in line else line.split()
    if len(words) == 3:
        words = [words[0], words[1], words[0], words[2]]
    if len(words) != 4 or number(words[1]) is None or number(words[3]) is None:
        return ()
    return tuple(f"{name}/{name}_{int(count):04d}" for name, count in (words[:2], words[2:]))


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
