"""How face data lies on disk, and all that can be wrong with it: record packs, class folders, lists of pairs.

* pack: `train.rec`, `train.idx`, `property`, and test pairs `lfw.bin`, `cfp_fp.bin`, `agedb_30.bin` …, as
  insightface hands them out;
* folders: `train/<identity>/`, or `<identity>/` at once, any image files inside;
* pairs: `pairs.txt` with a line of two paths from its own folder and 1 for one person or 0 for two, between
  tabs, as `python -m data_prep pairs` writes it; or `pairs.txt` of LFW with `<name>/<name>_0001.jpg` below
  `lfw/`, `lfw_funneled/`, `lfw-deepfunneled/` (scikit-learn's `lfw_home` has this), `test/`, or at once.

`pairs.txt` begins with "folds pairs" (pairs of either kind in a fold; LFW's own says "10 300"), or with the
number of pairs alone where there is one fold, which is refused; a line is "name 1 2" or "name 1 other 2",
between tabs.
http://vis-www.cs.umass.edu/lfw/README.txt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from papers_lib.datasets import folders
from papers_lib.datasets.face_records import Pack, read_bin, read_pack
from papers_lib.datasets.folders import SUFFIXES, find, lines, marked, number, pick, standin
from papers_lib.errors import PapersError

PAIRS = "pairs.txt"
FOLDS = 10
REC, IDX = "train.rec", "train.idx"
WITHDRAWN = (
    "faces_emore is MS-Celeb-1M cleaned, which Microsoft withdrew in 2019, as people were collected without "
    "being asked; do not publish new results on it, and consider deleting the copy"
)

# Where scikit-learn and the three alignments of LFW put the images; the last that is there counts.
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
class Survey(folders.Survey):
    """What files and folders say, and what is wrong.

    Training images are in `pack` or, by identity, in `folders`; `faces` has the images of pairs by what a
    list may call them, their path or that without suffix.
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
        return sum(map(len, self.folders.values())) or len(set(self.faces.values()))

    @property
    def identities(self) -> int:
        """How many people these show."""
        if self.pack is not None:
            return self.pack.identities
        return len(self.folders) or len({file.rpartition("/")[0] for file in self.faces.values()})

    @property
    def title(self) -> str:
        """How a result names it."""
        known = SETS[self.name]
        editions = {} if self.stand_in else known.editions
        return editions.get((self.images, self.identities), known.title)

    @property
    def content(self) -> str:
        """SHA-256 of names and sizes of all files, of a pack's offsets and labels, and of all pairs."""
        digest = hashlib.sha256(self.name.encode())
        digest.update("\0".join(f"{file}:{size}" for file, size in sorted(self.sizes.items())).encode())
        if self.pack is not None:
            for numbers in (self.pack.offsets, self.pack.labels):
                digest.update(numbers.astype("<i8").tobytes())
        for name, test in sorted(self.tests.items()):
            digest.update(f"\0{name}:{test.folds}".encode())
            # As 64 bits in Intel's order, whatever the machine has.
            for values in (test.first, test.second, test.same):
                digest.update(values.astype("<i8").tobytes())
            names = (
                each.relative_to(self.base).as_posix() if isinstance(each, Path) else str(len(each))
                for each in test.images
            )
            digest.update("\0".join(names).encode())
        return digest.hexdigest()


def survey(root: Path, name: str, acknowledge_withdrawn: bool = False) -> Survey:
    """Hold files and folders of `name`, one of `SETS`, against each other and the known counts.

    Raises:
        PapersError: an unknown name, nothing to survey, a broken `STANDIN.json`, or a withdrawn data set
            that was not acknowledged.
    """
    # What shows that a data set is there differs by its name.
    known, records = pick(name, SETS), marked(REC, IDX)
    is_there, missing = {
        "faces_emore": (records, f"neither {REC} nor {IDX} is there"),
        "faces_own": (
            lambda base: records(base) or _has_identities(base) or _has_pairs(base),
            f"neither {REC} nor a folder per identity with images is there, and no pairs",
        ),
        "lfw": (marked(PAIRS), f"no {PAIRS} is there"),
    }[name]
    base, outer = find(Path(root), name, ("", *known.inner), is_there, missing)
    told = standin((base, outer), name, {"images": int, "identities": int, "pairs": dict})
    survey = Survey(name, base, outer, told=told)
    if name == "faces_emore":
        survey.hold_withdrawn(WITHDRAWN, acknowledge_withdrawn)
    # LFW's folders have the images of its pairs, and nobody trains on them.
    if known.trains:
        _read_training(survey)
    for path in sorted(survey.base.glob("*.bin")):
        _read_bin(survey, path)
    if (survey.base / PAIRS).is_file():
        _read_pairs(survey, survey.base / PAIRS)
    if not survey.problems:
        _hold_counts(survey)
    survey.note_ignored()
    return survey


def survey_pairs(path: Path) -> Survey:
    """A list of pairs alone, `.bin` or text, with the images that it names.

    Raises:
        PapersError: there is no such file.
    """
    if not path.is_file():
        raise PapersError(f"{path} is no file; name pairs.txt, a .bin, or a folder that holds one")
    if path.suffix.lower() in (".zip", ".tar"):
        raise PapersError(f"{path} is packed; unpack it: python -m data_prep import faces_own {path} data")
    survey = Survey("faces_own", path.parent, path.parent)
    if path.suffix.lower() == ".bin":
        _read_bin(survey, path)
    else:
        _read_pairs(survey, path)
    return survey


def _has_pairs(base: Path) -> bool:
    return (base / PAIRS).is_file() or any(base.glob("*.bin"))


def _has_identities(base: Path) -> bool:
    """Whether `base` has `train/`, or folders that hold images, of which a few are looked into."""
    # train/ alone is enough, so that an identity without images in it is named.
    if (base / "train").is_dir():
        return True
    inner = [path for path in base.iterdir() if path.is_dir()] if base.is_dir() else []
    return any(file.suffix.lower() in SUFFIXES for path in inner[:10] for file in path.iterdir())


# -- training images --


def _read_training(survey: Survey) -> None:
    # A pack wins over folders beside it; half a pack is never taken for folders.
    missing = [name for name in (REC, IDX) if not (survey.base / name).is_file()]
    if len(missing) == 1:
        survey.half(missing)
    elif not missing:
        with survey.telling():
            survey.pack = read_pack(survey.base)
            survey.sizes[REC] = survey.pack.file.size
    else:
        folder = "train" if (survey.base / "train").is_dir() else ""
        if not folder and (survey.base / PAIRS).is_file() and not _pairs_folder(survey):
            return  # as LFW lies: the people are those of the pairs, and nobody trains on them
        # Without train/, the folder test/ beside the identities has the images of pairs.
        names = [name for name in survey.folders_in(folder) if folder or name != "test"]
        empty = "is an identity without images; restore them, or remove its folder"
        survey.folders = survey.images_by_folder(folder, empty, names)


# -- pairs --


def _take(survey: Survey, test: Pairs, path: Path) -> None:
    """Keep what can be verified on; say what is wrong with the rest."""
    same, count = int(test.same.sum()), len(test)
    # A threshold needs pairs of both kinds.
    if same in (0, count):
        people = "same person" if same else "different people"
        wrong = f"all {count} pairs are of the {people}; take the whole list"
    elif test.folds < 2:
        wrong = (
            f"{count} pairs in {test.folds} fold, which leaves none to take a threshold from; "
            'begin it with "folds pairs", two folds or more'
        )
    elif test.name in survey.tests:
        wrong = f"{test.name}.bin beside it has pairs of the same name; rename that"
    elif count % test.folds:
        wrong = f"{count} pairs do not divide into {test.folds} folds; take the whole list"
    else:
        survey.tests[test.name] = test
        return
    survey.problems.append(f"{path}: {wrong}")


def _read_bin(survey: Survey, path: Path) -> None:
    with survey.telling():
        images, same = read_bin(path)
        # A .bin has the two images of each pair one behind the other.
        places = np.arange(len(images), dtype=np.int64).reshape(-1, 2)  # [P, 2]
        survey.sizes[path.name] = path.stat().st_size
        _take(survey, Pairs(path.stem, images, places[:, 0], places[:, 1], same), path)


def _pairs_folder(survey: Survey) -> str:
    """Where the images of LFW's own list lie."""
    return next((f for f in reversed(_FACES) if (survey.base / f).is_dir()), "")


def _read_pairs(survey: Survey, path: Path) -> None:
    """The pairs of a list, and the images "name/name_0001" that it may name where it names no paths."""
    before = len(survey.problems)
    folder = _pairs_folder(survey)
    inner = f"{folder}/" if folder else ""
    images = [file for files in survey.images_by_folder(folder, empty="").values() for file in files]
    # pairs.txt names no suffix, and copies differ in it.
    survey.ignored = [place for place in survey.ignored if place != path.name]
    survey.faces = {file.removeprefix(inner).rpartition(".")[0]: file for file in images}
    # A list that cannot be read to its end says nothing about its pairs.
    rows: list[tuple[int, str]] = []
    with survey.telling():
        rows = list(lines(path))
    if len(survey.problems) > before:
        return
    # Without a head, the ten folds of LFW's protocol.
    folds, announced = FOLDS, len(rows)
    head = [number(word) for word in rows[0][1].split()] if rows else []
    if len(head) in (1, 2) and None not in head:  # "folds pairs", or "pairs" of one fold
        *more, half = (count or 0 for count in head)
        folds, rows = (more or [1])[0], rows[1:]
        announced = 2 * half * folds
    places: dict[str, int] = {}  # of an image among those of all pairs
    pairs: list[tuple[int, int, bool]] = []
    listed: dict[frozenset[int], int] = {}  # the line of each pair
    for count, line in rows:
        paths = _paths(survey, line)
        names, same = paths or _pair(line)
        suffix = "" if paths else ".jpg"
        missing = [f"{name}{suffix}" for name in names if name not in survey.faces]
        if not names:
            survey.problems.append(
                f'{path}, line {count}: is no "name 1 2", "name 1 other 2" nor "path path 0"; mend the line'
            )
        elif missing:
            place = survey.base if paths else survey.base / folder
            survey.problems.append(
                f"{path}, line {count}: {missing[0]} is missing in {place}; restore the image"
            )
        else:
            # An image of several pairs gets one place, and is embedded once.
            first, second = (places.setdefault(name, len(places)) for name in names)
            before_it = listed.setdefault(frozenset((first, second)), count)
            # Either would count as evidence that it is not. LFW's own list is taken as it is published.
            if survey.name != "lfw" and (first == second or before_it != count):
                wrong = "an image with itself" if first == second else f"the pair of line {before_it} again"
                survey.problems.append(f"{path}, line {count}: is {wrong}; take it out")
            pairs.append((first, second, same))
    # A list that was cut short still parses.
    if announced != len(rows):
        survey.problems.append(f"{path} announces {announced} pairs and has {len(rows)}; take the whole list")
    if len(survey.problems) == before:
        table = np.array(pairs, dtype=np.int64).reshape(-1, 3)  # [P, 3]
        files = tuple(survey.base / survey.faces[name] for name in places)
        name = "lfw" if survey.name == "lfw" else "pairs"
        _take(survey, Pairs(name, files, table[:, 0], table[:, 1], table[:, 2] > 0, folds), path)


def _paths(survey: Survey, line: str) -> tuple[tuple[str, ...], bool] | None:
    """The two paths of a line and whether they show one person; None where it is of LFW's kind.

    What is there is taken down in `survey.faces`, under the path itself.
    """
    words = line.split("\t") if "\t" in line else line.split()
    if len(words) != 3 or words[2] not in ("0", "1") or not ("/" in words[0] and "/" in words[1]):
        return None
    for name in words[:2]:
        inside = not Path(name).is_absolute() and ".." not in Path(name).parts
        if name not in survey.faces and inside and (survey.base / name).is_file():
            status = (survey.base / name).stat()
            survey.faces[name], survey.sizes[name] = name, status.st_size
            survey.newest = max(survey.newest, status.st_mtime_ns)
    return tuple(words[:2]), words[2] == "1"


def _pair(line: str) -> tuple[tuple[str, ...], bool]:
    """The two images of a line of LFW's, without suffix, and whether they show one person; none of others."""
    # Between tabs a name may have blanks; lists of one's own often have blanks alone.
    words = line.split("\t") if "\t" in line else line.split()
    if len(words) == 3:  # "name 1 2": one person
        words = [words[0], words[1], words[0], words[2]]
    if len(words) != 4 or number(words[1]) is None or number(words[3]) is None:
        return (), False
    # LFW's own naming: name/name_0001
    names = tuple(f"{name}/{name}_{int(count):04d}" for name, count in (words[:2], words[2:]))
    return names, words[0] == words[2]


# -- the counts --


def _hold_counts(survey: Survey) -> None:
    known, there = SETS[survey.name], (survey.images, survey.identities)
    # The two editions of MS1M differ in images and identities, and in results.
    editions, pairs = list(known.editions), dict(known.pairs)
    if survey.told is not None:
        counts = survey.told["counts"]
        editions, pairs = [(counts["images"], counts["identities"])], counts["pairs"]
        for name in pairs.keys() - survey.tests.keys():
            survey.problems.append(f"{survey.base} has no pairs {name!r}; render the stand-in again")
    if editions and there not in editions:
        right = " or ".join(f"{images:,} of {identities:,}" for images, identities in editions)
        people = f"{there[0]:,} images of {there[1]:,} identities"
        survey.problems.append(
            f"{survey.name} has {people}, {right} expected; restore the copy in {survey.base}"
        )
    # Of a list of one's own nothing is published.
    for name, test in survey.tests.items():
        survey.hold_counts([("pairs", len(test), pairs.get(name, len(test)))], of=name)
