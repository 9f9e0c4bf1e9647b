"""Bring a data set into place: unpacked, copied or drawn beside it, checked, and only then renamed."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from data_prep.archives import blocks, leftover, require_room, unpack
from data_prep.pictures import shown
from data_prep.sets import DataSet, Report
from papers_lib.datasets.folders import STANDIN, Survey
from papers_lib.errors import PapersError


class _Unfit(Exception):
    """What arrived does not pass its check; raised, so that `arriving` removes it."""

    def __init__(self, report: Report) -> None:
        self.report = report


def bring(data: DataSet, source: Path, root: Path, link: bool = False) -> tuple[Path, Report]:
    """Import `source` to its folder under `root`; only what passes the check stays there.

    Of a folder, the data set's own one is taken, which may be `source` or lie in it. A data set that is
    there already and whole is left as it is; what else is there, or another one, is never touched.

    Raises:
        PapersError: no such source, none of the data set in it, an archive that is broken or reaches outside
            of its folder, a place that cannot be written to, holds something else or lies inside the source.
    """
    target = data.folder(root)
    if occupied(target):
        what = f"is not a whole {data.name}"
        with suppress(PapersError):
            report = data.check(target)
            if not report.problems and not _another(data, source, target):
                there = f"{report.summary}, there already, nothing imported"
                return target, Report(there, notes=report.notes)
            what = what if report.problems else f"is not what {source} holds"
        raise PapersError(f"{target} is there already and {what}; move it away, then import again")
    if not source.exists():
        raise PapersError(f"{source} does not exist; name an archive or a folder of {data.name}")
    if link and not source.is_dir():
        raise PapersError(f"--link needs a folder, and {source} is a file; leave --link out")
    archives = [] if link else _archives(data, source)
    try:
        if not archives:
            source = _own_folder(data, source, target)
        if link:
            return target, _link(data, source, target)
        with arriving(target) as waiting:
            for archive in archives:
                unpack(archive, waiting)
            if not archives:
                _copy(source, waiting)
            report = _arrived(data, source, waiting)
            if report.problems:
                raise _Unfit(report)
        return target, report
    except _Unfit as unfit:
        return target, unfit.report


def occupied(target: Path) -> bool:
    """Whether something lies at `target` already; an empty folder is nothing."""
    return target.is_symlink() or (target.exists() and not (target.is_dir() and not any(target.iterdir())))


def _another(data: DataSet, source: Path, target: Path) -> bool:
    """Whether the folder `source` holds other data than `target`, as names, sizes and labels say."""
    with suppress(PapersError):  # an archive, or nothing: not looked into
        found, there = data.survey(source), data.survey(target)
        return isinstance(found, Survey) and found.content != there.content
    return False


# -- the source --


def _archives(data: DataSet, source: Path) -> list[Path]:
    """`source`, or the archives of `data` that lie in the folder `source`; none where it is to be copied.

    Raises:
        PapersError: some archives of a data set that is handed out in several are there, and no folder.
    """
    if not source.is_dir():
        return [source]
    for names in data.archives:
        there = [source / name for name in names if (source / name).is_file()]
        missing = [name for name in names if source / name not in there]
        if there and not missing:
            return there
        if there and not any(path.is_dir() for path in source.iterdir()):
            raise PapersError(
                f"half a data set: {there[0].name} is in {source} and {' and '.join(missing)} missing; add it"
            )
    return []


def _own_folder(data: DataSet, source: Path, target: Path) -> Path:
    """The data set's own folder in `source`: what is not there, or not whole, is not copied first."""
    try:
        place, problems = _find(data, source)
    except PapersError as error:
        raise PapersError(f"{str(error).partition(';')[0]}; nothing was imported") from None
    outer, inner = (Path(os.path.realpath(path)) for path in (place, target))
    if inner.is_relative_to(outer):
        raise PapersError(f"{target} would lie inside of {place}; choose a ROOT outside of it")
    if problems:
        raise _Unfit(data.check(place))
    return place


def _find(data: DataSet, folder: Path) -> tuple[Path, list[str]]:
    try:
        survey = data.survey(folder)
    except PapersError:
        inner = [path for path in folder.iterdir() if not leftover(path.name)]
        if len(inner) == 1 and inner[0].is_dir():  # one folder around everything
            with suppress(PapersError):  # the outer folder is the one that the user knows
                return _find(data, inner[0])
        raise
    beside = survey.base != folder and (survey.base.parent / STANDIN).is_file()
    return survey.base.parent if beside else survey.base, survey.problems


def _link(data: DataSet, source: Path, target: Path) -> Report:
    report = data.check(source)
    if report.problems:
        raise _Unfit(report)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            target.rmdir()
        target.symlink_to(source.resolve(), target_is_directory=True)
    except OSError as error:
        raise PapersError(f"cannot write {target} ({error.strerror}); choose another ROOT") from None
    return report


def _copy(source: Path, folder: Path) -> None:
    files = list(_files(source, ()))  # all, before the first is written
    require_room(source, folder, sum(blocks(path.stat().st_size) for path in files))
    for path in shown(files, len(files), "copying"):
        place, times = folder / path.relative_to(source), path.stat()
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
        os.utime(place, ns=(times.st_atime_ns, times.st_mtime_ns))


def _files(folder: Path, around: tuple[str, ...]) -> Iterator[Path]:
    """The files below `folder`, links followed.

    Raises:
        PapersError: a link leads nowhere or back, or something is neither a file nor a folder.
    """
    real = os.path.realpath(folder)
    if real in around:
        raise PapersError(f"{folder} is a link that leads back to a folder around it; copy without it")
    for path in sorted(folder.iterdir()):
        if leftover(path.name):
            continue
        if path.is_dir():
            yield from _files(path, (*around, real))
        elif path.is_file():
            yield path
        else:
            what = "a link that leads nowhere" if path.is_symlink() else "neither a file nor a folder"
            raise PapersError(f"{path} is {what}; mend it, or copy without it")


# -- the arrival --


def _arrived(data: DataSet, source: Path, waiting: Path) -> Report:
    """The check of what was unpacked, in words of the source: the waiting folder soon is no more."""

    def renamed(line: str) -> str:
        return line.replace(str(waiting), str(source)).replace(str(waiting.parent), str(source))

    try:
        report = data.check(waiting.parent)
    except PapersError as error:
        inner = list(waiting.iterdir())
        if len(inner) != 1 or not inner[0].is_dir():
            raise PapersError(f"{renamed(str(error)).partition(';')[0]}; nothing was imported") from None
        # an archive with one folder around everything, which may hold a folder of its own name
        aside = inner[0].rename(waiting / f".{inner[0].name}")
        for path in aside.iterdir():
            path.rename(waiting / path.name)
        aside.rmdir()
        return _arrived(data, source, waiting)
    return replace(report, problems=tuple(map(renamed, report.problems)))


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
