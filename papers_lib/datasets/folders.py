"""The survey that all readers of data sets share: one walk over folders, and every fault as a line.

A reader states its layout (where the data set lies, which folders, what a file's name means, how many images
are expected) and fills a `Survey`; what is wrong is taken down, all of it, and nothing here opens an image.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from papers_lib.errors import PapersError

STANDIN = "STANDIN.json"
RECIPE = ("name", "size", "seed", "options", "drawing")
"""What `STANDIN.json` says of how a stand-in was drawn; `drawing` is the version of what draws."""

SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".ppm", ".pgm", ".bmp", ".webp", ".tif", ".tiff")
"""Of the files that are read as images, in any case."""

ODD = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""A character that no name may have: it breaks a line, or is not UTF-8."""

DECODED = ".decoded"
"""The folder, in a data set's own, of what was decoded."""

BRING = "bring it: python -m data_prep import {name} SOURCE {root}"
RENDER = "python -m data_prep make {name} {root}"
BRING_OR_RENDER = f"{BRING} or render a stand-in: {RENDER}"
"""What to do where a data set is not there."""
DRAW = "`make data` draws it"

COPY = "add it from the copy that you have"
EMPTY = "holds no image; restore its images"

_UNREAD = (".gif", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".dng", ".cr2", ".cr3", ".nef", ".arw")
_LEFT = ("__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir")  # and all that begins with a dot
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")

T = TypeVar("T")


@dataclass
class Survey:
    """What is seen of a data set that lies in `base`, or an archive's folder inside of `outer`.

    `problems` and `notes` are lines for a reader; notes spoil nothing. `told` is what `STANDIN.json` says,
    None for real data. `sizes` has the bytes of every image by its path from `base`, `newest` the latest
    change of any, in nanoseconds. `ignored` are the paths of all else.
    """

    name: str
    base: Path
    outer: Path
    told: Mapping[str, Any] | None = field(default=None, kw_only=True)
    sizes: dict[str, int] = field(default_factory=dict, kw_only=True)
    newest: int = field(default=0, kw_only=True)
    ignored: list[str] = field(default_factory=list, kw_only=True)
    problems: list[str] = field(default_factory=list, kw_only=True)
    notes: list[str] = field(default_factory=list, kw_only=True)

    # -- what it is --

    @property
    def stand_in(self) -> bool:
        """Whether it is rendered, or made from other images."""
        return self.told is not None

    @property
    def content(self) -> str:
        """SHA-256 of labels, names and sizes in bytes; each reader says of what.

        Cheap, and the same wherever the folder lies. It cannot see an image that was replaced by another one
        of the same name and the same number of bytes.
        """
        raise NotImplementedError

    @property
    def fingerprint(self) -> str:
        """What tells this data from other data: the content, but of what is drawn the recipe.

        So a stand-in is the same one on every machine, whatever its libraries make of the last bits.
        """
        return str(self.known["fingerprint"])

    @property
    def known(self) -> dict[str, Any]:
        """What a loaded data set keeps; `pixels`, the content of what is drawn, is provenance of results."""
        # What is drawn is known by its recipe; all else by its content.
        if self.told is None or "made_from" in self.told:
            return {"stand_in": self.stand_in, "fingerprint": self.content, "pixels": ""}
        recipe = json.dumps([self.name, {key: self.told[key] for key in RECIPE}], sort_keys=True)
        fingerprint = hashlib.sha256(recipe.encode()).hexdigest()
        return {"stand_in": True, "fingerprint": fingerprint, "pixels": self.content}

    def kept(self, part: str) -> Path:
        """Where decoded images of a part are kept, without suffix; another path when a file changes."""
        # The time stands beside the content, which cannot see other bytes of the same number.
        content = self.known["pixels"] or self.known["fingerprint"]
        state = hashlib.sha256(f"{content} {self.newest}".encode()).hexdigest()[:16]
        return self.base / DECODED / f"{part}-{state}"

    def digest(self, sides: Mapping[str, Iterable[str]]) -> str:
        """SHA-256 of the files of each side and their sizes in bytes."""
        digest = hashlib.sha256(self.name.encode())
        for side, files in sides.items():
            rows = (f"{file}:{self.sizes.get(file)}" for file in files)
            digest.update("\0".join(["", side, *rows]).encode())
        return digest.hexdigest()

    # -- the walk --

    def images_in(self, folder: str) -> list[str]:
        """The images that lie in `folder`, sorted, their sizes taken down; none where there is no folder.

        Raises:
            PapersError: the folder cannot be listed.
        """
        files = []
        for entry in self._entries(folder):
            # `entry` knows its kind from the listing: no call per file but the one for its size.
            file, suffix = _path(folder, entry.name), "." + entry.name.rpartition(".")[2].lower()
            if suffix in _UNREAD and entry.is_file():
                self.fault(file, f"is of a format that is not read, {suffix[1:]}; save it as JPEG")
            elif suffix not in SUFFIXES or entry.is_dir():
                self.ignored.append(file)
            elif entry.is_file():
                status = entry.stat()
                self.sizes[file], self.newest = status.st_size, max(self.newest, status.st_mtime_ns)
                files.append(file)
            else:
                what = "a link that leads nowhere" if entry.is_symlink() else "no file"
                self.fault(file, f"is {what}; restore the image")
        return files

    def folders_in(self, folder: str) -> list[str]:
        """The names of the folders in `folder`, sorted; errors as `images_in`."""
        entries = [(entry.name, entry.is_dir()) for entry in self._entries(folder)]
        self.ignored += [_path(folder, name) for name, is_folder in entries if not is_folder]
        return [name for name, is_folder in entries if is_folder]

    def images_by_folder(
        self, folder: str, empty: str = EMPTY, names: Sequence[str] | None = None
    ) -> dict[str, list[str]]:
        """The images of each folder in `folder`, or of those of the `names`; errors as `images_in`.

        `empty` is what is said of a folder without images; nothing if it is blank.
        """
        names = self.folders_in(folder) if names is None else names
        images = {name: self.images_in(_path(folder, name)) for name in names}
        for name, files in images.items():
            if empty and not files:
                self.fault(_path(folder, name), empty)
        return images

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        """What lies in `folder`, sorted by name, so that no order depends on the file system."""
        place = self.base / folder
        kept = []
        try:
            with os.scandir(place) as listed:
                entries = sorted(listed, key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise PapersError(f"{place} cannot be listed ({error.strerror}); make it readable") from None
        for entry in entries:
            if entry.name == DECODED:
                continue
            if is_left(entry.name):
                self.ignored.append(_path(folder, entry.name))
            elif ODD.search(entry.name):
                name = os.fsencode(entry.name)
                self.fault(folder, f"holds the name {name!r}, which is no plain UTF-8; rename it")
            else:
                kept.append(entry)
        return kept

    # -- what is wrong --

    def fault(self, place: str | Path, what: str) -> None:
        """Take down what is wrong with a file or a folder (its path may be from `base`) and what mends it."""
        self.problems.append(f"{self.base / place} {what}")

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Take down a `PapersError` of the block as a problem, and go on behind it."""
        try:
            yield
        except PapersError as error:
            self.problems.append(str(error))

    def half(self, missing: Iterable[str], mend: str = COPY) -> None:
        """Take down what a data set lacks: folders with a slash behind, and files."""
        self.problems.append(f"half a data set: {' and '.join(missing)} missing in {self.base}; {mend}")

    def has_folder(self, name: str, mend: str = COPY) -> bool:
        """Whether the data set has that part; if not, it is taken down as half a data set."""
        there = (self.base / name).is_dir()
        if not there:
            self.half([f"{name}/"], mend)
        return there

    def each_line(self, path: Path, judge: Callable[[str], str]) -> None:
        """Let `judge` take in each line of a list; what it says is wrong with one, with the line's number."""
        with self.telling():
            for number, line in lines(path):
                if wrong := judge(line):
                    self.problems.append(f"{path}, line {number}: {wrong}")

    def hold_listed(self, listed: Iterable[str], there: Iterable[str], named: str, unnamed: str) -> None:
        """Hold the images that labels list against those that are there; the last two are words for it."""
        # Every difference is a line: labels of one release and images of another are common.
        times = Counter(listed)
        for file, count in times.items():
            if file not in self.sizes:
                self.fault(file, f"is missing, but {named}; restore the image")
            elif count > 1:
                self.fault(file, f"is listed {count} times; take a whole file")
        for file in there:
            if file not in times:
                self.fault(file, f"{unnamed}; take labels in step, or move it elsewhere")

    def expected(self, published: Mapping[str, int]) -> Mapping[str, int]:
        """The counts to hold it against: the published ones, or those that a stand-in tells."""
        return published if self.told is None else self.told["counts"]

    def hold_counts(self, counts: Iterable[tuple[str, int, int]], of: str = "") -> None:
        """Take down each (what, number there, number expected) of a part, or of all, whose numbers differ."""
        self.problems += [
            f"{of or self.name} has {there} {what}, {expected} expected; restore the copy in {self.base}"
            for what, there, expected in counts
            if there != expected
        ]

    def hold_withdrawn(self, notice: str, acknowledged: bool) -> None:
        """Note that the data set was withdrawn, where this is a real copy.

        Raises:
            PapersError: nobody has acknowledged it.
        """
        if not self.stand_in and not acknowledged:
            raise PapersError(
                f"a real copy of {self.name} is read only with acknowledge_withdrawn=True (command line: "
                f"--acknowledge-withdrawn); {notice}"
            )
        self.notes += [] if self.stand_in else [notice]

    def note_ignored(self) -> None:
        """Note what was ignored: what an archive leaves around the data set, too."""
        littered = dict.fromkeys([self.outer / "__MACOSX", self.base / "__MACOSX"])
        # The folders beside the data set are no part of the walk.
        left = [str(path) for path in littered if path.exists()]
        loose: list[str] = []
        other: list[str] = []
        for path in sorted(set(self.ignored)):
            name, place = path.rpartition("/")[2], str(self.base / path)
            if is_left(name):
                left += [place] if place not in left else []
            else:
                (loose if name.lower().endswith(SUFFIXES) else other).append(place)
        for what, places in (
            ("leftovers of an archive or another program", left),
            ("images outside of the folders that are read", loose),
            ("entries that are no image", other),
        ):
            self.notes += [f"{len(places)} {what} are ignored, as {places[0]}"] if places else []

    def admit(self, root: Path, withdrawn: str = "") -> None:
        """Let nothing pass that has a problem; the notice of what was `withdrawn` goes to stderr.

        Raises:
            PapersError: the first problem, and the command that shows all.
        """
        # A stand-in of a withdrawn set needs no notice.
        withdrawn = withdrawn if withdrawn in self.notes else ""
        if self.problems:
            more = f"and {len(self.problems) - 1} more faults; " if len(self.problems) > 1 else ""
            option = " --acknowledge-withdrawn" if withdrawn else ""
            see = f"see: python -m data_prep check {self.name} {root}{option}"
            raise PapersError(f"{self.problems[0]} ({more}{see})")
        if withdrawn:
            print(withdrawn, file=sys.stderr)


def _path(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def is_left(name: str) -> bool:
    """Whether a file or a folder of this name is what a Mac, Windows or Jupyter leaves behind."""
    return name[0] == "." or name in _LEFT


# -- where it is --


def pick(name: str, sets: Mapping[str, T]) -> T:
    """What is known of the data set `name`.

    Raises:
        PapersError: nothing is; the message has the names of all.
    """
    if name not in sets:
        raise PapersError(f"unknown data set {name!r}; known: {', '.join(sets)}")
    return sets[name]


def marked(*marks: str) -> Callable[[Path], bool]:
    """A test of whether a folder has one of the `marks`, which are paths from it."""
    return lambda base: any((base / mark).exists() for mark in marks)


def find(
    root: Path,
    name: str,
    inner: Sequence[str],
    is_there: Callable[[Path], object],
    missing: str,
    mend: str = BRING_OR_RENDER,
) -> tuple[Path, Path]:
    """The folder of a data set, and the one around what an archive put around it.

    Args:
        root: the data set's own folder, or the one that holds it as `<name>/`.
        name: the data set.
        inner: the folders that copies have around it, "" for none, in the order in which they are tried.
        is_there: whether a folder is the data set's.
        missing: what to say of a folder where it is not.
        mend: what mends that, with `{name}` and `{root}` in it.

    Raises:
        PapersError: it is nowhere.
    """
    for outer in (root / name, root):
        for folder in inner:
            base = outer / folder
            if not is_there(base):
                continue
            if base != outer:
                return base, outer
            # It may be such an inner folder itself, of as many parts as the longest that fits.
            # "a/b" of `inner` takes two parts off.
            depth = max((len(Path(each).parts) for each in inner if each and base.match(each)), default=0)
            return base, (base.parents[depth - 1] if depth else base)
    if not root.is_dir():
        what = f"no {name}: the folder {root} does not exist"
    elif not any(root.iterdir()):
        what = f"no {name}: the folder {root} is empty"
    else:
        what = f"no {name} in {root}: {missing}"
    if root.name == "standin":
        mend = DRAW
    raise PapersError(f"{what}; {mend.format(name=name, root=shlex.quote(str(root)))}")


# -- text --


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """The number, from 1, and the text of each line that is not blank.

    It is UTF-8, with or without a byte-order mark.

    Raises:
        PapersError: the file cannot be read, or is no such text.
    """
    # Windows and its editors begin UTF-8 with a mark, which "utf-8-sig" drops.
    with reading(path), path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line.strip()


def read_text(path: Path, mend: str = "save it as UTF-8, or restore it") -> str:
    """The whole text of a file; as `lines`."""
    with reading(path, mend):
        return path.read_text(encoding="utf-8-sig")


def read_bytes(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        PapersError: it cannot be read.
    """
    with reading(path):
        return path.read_bytes()


@contextmanager
def reading(path: Path, mend: str = "save it as UTF-8, or restore it") -> Iterator[None]:
    """Say in one line why a file cannot be read.

    Raises:
        PapersError: it cannot, or is no UTF-8.
    """
    try:
        yield
    except OSError as error:
        raise PapersError(f"{path} cannot be read ({error.strerror}); restore it") from None
    except UnicodeDecodeError as error:
        wrong = f"byte {error.start}, 0x{error.object[error.start]:02x}, is no UTF-8"
        raise PapersError(f"{path} is broken ({wrong}); {mend}") from None


def read_json(path: Path, mend: str = "copy it again") -> Any:
    """What a JSON file says.

    Raises:
        PapersError: the file cannot be read, is no JSON, is nested too deep, or has NaN, infinity or half a
            character; the line ends in `mend`.
    """
    text = read_text(path, mend)
    try:
        content = json.loads(text, parse_constant=_no_number)
        if _SURROGATE.search(text):
            json.dumps(content, ensure_ascii=False).encode()  # which half a character cannot be
    except (ValueError, RecursionError) as error:
        raise PapersError(f"{path} is broken ({reason(error)}); {mend}") from None
    return content


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number")


def reason(error: BaseException) -> str:
    """The first line of what an exception says, or its name."""
    # A KeyError says the key alone, which nobody understands.
    said = str(error).partition("\n")[0].rstrip(",: ")
    if not said or isinstance(error, KeyError):
        said = f"{type(error).__name__}: {said}".rstrip(": ")
    return said[:200]


def number(word: str) -> int | None:
    """A number from 0 of at most nine digits; None for any other word."""
    return int(word) if len(word) < 10 and word.isdecimal() else None


# -- stand-ins --


def standin(places: Iterable[Path], name: str, counts: Mapping[str, type]) -> dict[str, Any] | None:
    """What the first `STANDIN.json` in `places` says; None for real data.

    Args:
        places: folders where it may lie.
        name: the data set that it must be of.
        counts: what its `counts` must have, with the type of each.

    Raises:
        PapersError: it is broken, of an earlier version, or of another data set.
    """
    path = next((place / STANDIN for place in places if (place / STANDIN).is_file()), None)
    if path is None:
        return None
    mend = "render the stand-in again"
    told = read_json(path, mend)
    there = told.get("counts") if isinstance(told, dict) else None
    # Readers index these counts, so that their types are held here.
    whole = isinstance(there, dict) and all(isinstance(there.get(key), kind) for key, kind in counts.items())
    if not whole or not _is_count(there) or not isinstance(told.get("name", ""), str):
        raise PapersError(f"{path} is broken (no name or counts); {mend}")
    if told.get("name", name) != name:
        other = ODD.sub("?", told["name"])
        raise PapersError(f"{path} is a stand-in of {other}, not of {name}; use that name, or another ROOT")
    # What is made from images has no recipe that could be drawn again.
    if "made_from" not in told:
        recipe_told(path, name, told)
    return dict(told)


def _is_count(value: object) -> bool:
    """Whether it is a number of things, or a table or a list of such."""
    if isinstance(value, dict | list):
        return all(map(_is_count, value.values() if isinstance(value, dict) else value))
    return isinstance(value, int)


def recipe_told(path: Path, name: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe in what the `STANDIN.json` at `path`, of the stand-in `name`, says.

    Raises:
        PapersError: it is of an earlier version, which did not tell all of it.
    """
    missing = [key for key in RECIPE if key not in told]
    if missing:
        raise PapersError(
            f"{path} is of an earlier version (no {', '.join(missing)}): remove the folder {path.parent}, "
            f"then make it again: python -m data_prep make {name} {path.parent} --size SIZE"
        )
    return {key: told[key] for key in RECIPE}
