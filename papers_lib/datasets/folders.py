"""What all readers of data sets share: one walk over folders, one way to read text, JSON and `STANDIN.json`.

A reader's survey is a `Found`, which takes down every fault as a line; nothing here opens an image.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from papers_lib.errors import PapersError

STANDIN = "STANDIN.json"
RECIPE = ("name", "size", "seed", "options", "drawing")
"""What `STANDIN.json` says of how a stand-in was drawn; `drawing` is the version of what draws."""
SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".ppm", ".pgm", ".bmp", ".webp", ".tif", ".tiff")
"""Of the files that are read as images, in any case."""

ODD = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""A character that no name may have: it breaks a line, or is not UTF-8."""

_UNREAD = (".gif", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".dng", ".cr2", ".cr3", ".nef", ".arw")
_LEFT = ("__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir")  # and all that begins with a dot
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


@dataclass
class Found:
    """What is seen of a data set: `problems` and `notes` are lines for a reader; notes spoil nothing.

    `told` is what `STANDIN.json` says, None for real data. `sizes` has the bytes of every image on disk by
    its path from `base`, `newest` the latest change of any, in nanoseconds. `ignored` are paths of all else.
    """

    name: str
    base: Path
    told: Mapping[str, Any] | None = field(default=None, kw_only=True)
    sizes: dict[str, int] = field(default_factory=dict, kw_only=True)
    newest: int = field(default=0, kw_only=True)
    ignored: list[str] = field(default_factory=list, kw_only=True)
    problems: list[str] = field(default_factory=list, kw_only=True)
    notes: list[str] = field(default_factory=list, kw_only=True)

    @property
    def stand_in(self) -> bool:
        """Whether it is rendered, or made from other images."""
        return self.told is not None

    @property
    def content(self) -> str:
        """SHA-256 of labels, names and sizes in bytes; each reader says of what."""
        raise NotImplementedError

    @property
    def drawn(self) -> bool:
        """Whether a recipe is all that it was made from; what is made of somebody's images is not."""
        return self.told is not None and "made_from" not in self.told

    @property
    def fingerprint(self) -> str:
        """What tells this data from other data: the content, but of what is drawn the recipe.

        So a stand-in is the same one on every machine, whatever its libraries make of the last bits.
        """
        if self.told is None or not self.drawn:
            return self.content
        told = json.dumps([self.name, {key: self.told[key] for key in RECIPE}], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()

    @property
    def known(self) -> dict[str, Any]:
        """What a loaded data set keeps; `pixels`, the content of what is drawn, is provenance of results."""
        pixels = self.content if self.drawn else ""
        return {"stand_in": self.stand_in, "fingerprint": self.fingerprint, "pixels": pixels}

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Take down a `PapersError` of the block as a problem, and go on behind it."""
        try:
            yield
        except PapersError as error:
            self.problems.append(str(error))

    def refuse(self, root: Path, options: str = "") -> None:
        """Let nothing pass that has a problem.

        Raises:
            PapersError: the first problem, and the command (with `options`) that shows all.
        """
        if self.problems:
            more = f"and {len(self.problems) - 1} more faults; " if len(self.problems) > 1 else ""
            see = f"see: python -m data_prep check {self.name} {root}{options}"
            raise PapersError(f"{self.problems[0]} ({more}{see})")

    def images_in(self, folder: str) -> list[str]:
        """The images that lie in `folder`, sorted, their sizes taken down; none where there is no folder.

        Raises:
            PapersError: the folder cannot be listed.
        """
        files = []
        for entry in self._entries(folder):
            file, suffix = _path(folder, entry.name), "." + entry.name.rpartition(".")[2].lower()
            if suffix in _UNREAD and entry.is_file():
                self.problems.append(
                    f"{self.base / file} is of a format that is not read, {suffix[1:]}; save it as JPEG"
                )
            elif suffix not in SUFFIXES or entry.is_dir():
                self.ignored.append(file)
            elif entry.is_file():
                told = entry.stat()
                self.sizes[file], self.newest = told.st_size, max(self.newest, told.st_mtime_ns)
                files.append(file)
            else:
                what = "a link that leads nowhere" if entry.is_symlink() else "no file"
                self.problems.append(f"{self.base / file} is {what}; restore the image")
        return files

    def folders_in(self, folder: str) -> list[str]:
        """The names of the folders in `folder`, sorted; errors as `images_in`."""
        entries = [(entry.name, entry.is_dir()) for entry in self._entries(folder)]
        self.ignored += [_path(folder, name) for name, is_folder in entries if not is_folder]
        return [name for name, is_folder in entries if is_folder]

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        place, kept = self.base / folder, []
        try:
            with os.scandir(place) as listed:
                entries = sorted(listed, key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise PapersError(f"{place} cannot be listed ({error.strerror}); make it readable") from None
        for entry in entries:
            if is_left(entry.name):
                self.ignored.append(_path(folder, entry.name))
            elif ODD.search(entry.name):
                self.problems.append(
                    f"{place} holds the name {os.fsencode(entry.name)!r}, which is no plain UTF-8; rename it"
                )
            else:
                kept.append(entry)
        return kept

    def tell_ignored(self, outer: Path | None = None) -> None:
        """Note what is ignored; `outer` is a folder around the data set that an archive may have littered."""
        around = [base / "__MACOSX" for base in (outer, self.base) if base is not None]
        kinds: dict[str, list[str]] = {
            "leftovers of an archive or another program": [str(path) for path in around if path.exists()],
            "images outside of the folders that are read": [],
            "entries that are no image": [],
        }
        left, loose, other = kinds.values()
        for path in sorted(set(self.ignored)):
            name = path.rpartition("/")[2]
            kind = left if is_left(name) else loose if name.lower().endswith(SUFFIXES) else other
            if str(self.base / path) not in kind:
                kind.append(str(self.base / path))
        self.notes += [f"{len(p)} {what} are ignored, as {p[0]}" for what, p in kinds.items() if p]


def _path(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def is_left(name: str) -> bool:
    """Whether a file or a folder of this name is what a Mac, Windows or Jupyter leaves behind."""
    return name[0] == "." or name in _LEFT


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """The number, from 1, and the text of each line that is not blank.

    It is UTF-8, with or without a byte-order mark.

    Raises:
        PapersError: the file cannot be read, or is no such text.
    """
    with _reading(path), path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line.strip()


def read_text(path: Path, mend: str = "save it as UTF-8, or restore it") -> str:
    """The whole text of a file; as `lines`."""
    with _reading(path, mend):
        return path.read_text(encoding="utf-8-sig")


@contextmanager
def _reading(path: Path, mend: str = "save it as UTF-8, or restore it") -> Iterator[None]:
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
            json.dumps(content, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise PapersError(f"{path} is broken ({reason(error)}); {mend}") from None
    return content


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number")


def reason(error: BaseException) -> str:
    """The first line of what an exception says, or its name."""
    said = str(error).partition("\n")[0].rstrip(",: ")
    if not said or isinstance(error, KeyError):
        said = f"{type(error).__name__}: {said}".rstrip(": ")
    return said[:200]


def number(word: str) -> int | None:
    """A number from 0 of at most nine digits; None for any other word."""
    return int(word) if len(word) < 10 and word.isdecimal() else None


def _is_count(value: object) -> bool:
    """Whether it is a number of things, or a table or a list of such."""
    if isinstance(value, dict | list):
        return all(map(_is_count, value.values() if isinstance(value, dict) else value))
    return isinstance(value, int)


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
    whole = isinstance(there, dict) and all(isinstance(there.get(key), kind) for key, kind in counts.items())
    if not whole or not _is_count(there) or not isinstance(told.get("name", ""), str):
        raise PapersError(f"{path} is broken (no name or counts); {mend}")
    if told.get("name", name) != name:
        of = ODD.sub("?", told["name"])
        raise PapersError(f"{path} is a stand-in of {of}, not of {name}; use that name, or another ROOT")
    if "made_from" not in told:
        recipe_told(path, name, told)
    return dict(told)


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
