"""What `python -m data_prep` knows of a data set, and the steps that all of them share."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from papers_lib.errors import PapersError

CARDS = Path(__file__).with_name("cards")


@dataclass(frozen=True)
class Report:
    """What a check found: `problems` make it fail, `notes` do not; `summary` says what is there."""

    summary: str
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataSet:
    """One data set by name. `check` takes its folder, or the folder that holds it.

    `make(folder, size, options)` renders a stand-in into an empty folder, and `made(folder, size,
    options)` says whether the folder holds just that one; None where there is no stand-in.
    `survey` takes the same folder and opens no image; what it returns has `base`, the folder of the data
    set, and `problems`. `acknowledged` is a withdrawn data set for whoever asks for it all the same.
    `archives` names the files in which it is handed out, a tuple for each way: a SOURCE folder that holds
    all files of one way is unpacked, not copied.
    """

    name: str
    check: Callable[[Path], Report]
    make: Callable[[Path, str, dict[str, str]], None] | None = None
    made: Callable[[Path, str, dict[str, str]], bool] | None = None
    acknowledged: DataSet | None = None
    archives: tuple[tuple[str, ...], ...] = ()
    survey: Callable[[Path], Any] = field(kw_only=True)

    @property
    def card(self) -> Path:
        """The data card, Markdown."""
        return CARDS / f"{self.name}.md"

    @property
    def summary(self) -> str:
        """The card's first line of text."""
        lines = self.card.read_text(encoding="utf-8").splitlines()
        return next(line for line in lines if line and not line.startswith("#"))

    def withdrawn(self) -> DataSet:
        """The same, read only where `acknowledged` is asked for."""
        functions: dict[str, Any] = {"check": self.check, "survey": self.survey}
        known: Any = {n: partial(each, acknowledge_withdrawn=True) for n, each in functions.items()}
        return replace(self, acknowledged=replace(self, **known))

    def folder(self, root: Path) -> Path:
        """Where it is written: `root` when that bears its name, else a folder of its name inside."""
        return root if root.name == self.name else root / self.name


@contextmanager
def arriving(target: Path) -> Iterator[Path]:
    """An empty folder of `target`'s name, renamed to it when the block ends well, else removed.

    It waits alone inside a hidden folder beside the target, so that whoever looks from outside sees
    it as it will lie at last. What a killed process has left there before goes first.

    Raises:
        PapersError: the place cannot be written to.
    """
    waiting = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}" / target.name
    lock = None
    try:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _clear(target.parent)
            waiting.parent.mkdir()
            lock = _lock(waiting.parent)
            waiting.mkdir()
        except OSError as error:
            raise PapersError(
                f"cannot write to {target.parent} ({error.strerror}); choose another ROOT"
            ) from None
        try:
            yield waiting
            if target.is_dir() and not target.is_symlink():
                target.rmdir()  # empty, as `occupied` has seen
            waiting.rename(target)
        except OSError as error:
            where = error.filename or target
            raise PapersError(f"{where}: {error.strerror or error}; nothing was changed") from None
        finally:
            shutil.rmtree(waiting.parent, ignore_errors=True)
    finally:  # once more: a signal, of which one comes through, may have cut the first short
        shutil.rmtree(waiting.parent, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _clear(root: Path) -> None:
    """Remove the folders of `arriving` that nobody holds: their process was killed."""
    for left in root.glob(".*.????????"):
        known = re.fullmatch(r"\.(.+)\.[0-9a-f]{8}", left.name)
        with suppress(OSError):  # another user's stays
            if known and left.is_dir() and {inner.name for inner in left.iterdir()} <= {known[1]}:
                lock = _lock(left)
                if lock is not None:
                    shutil.rmtree(left, ignore_errors=True)
                    os.close(lock)


def _lock(folder: Path) -> int | None:
    """Hold `folder` as long as this process lives; None where another one does, or nobody can."""
    try:
        import fcntl
    except ImportError:  # Windows: what a killed process leaves stays
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held, or a file system without locks
        os.close(handle)
        return None
    return handle


def occupied(target: Path) -> bool:
    """Whether something lies at `target` already; an empty folder is nothing."""
    return target.is_symlink() or (target.exists() and not (target.is_dir() and not any(target.iterdir())))


def as_json(data: DataSet, root: Path, report: Report) -> dict[str, Any]:
    """A report for `--json`."""
    return {
        "name": data.name,
        "root": str(root),
        "ok": not report.problems,
        "summary": report.summary,
        "problems": list(report.problems),
        "notes": list(report.notes),
    }
