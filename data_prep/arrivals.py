"""Import a data set: unpack an archive, or copy or link a folder; then check; then put it in place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from data_prep.archives import blocks, leftover, require_room, unpack
from data_prep.progress import shown
from data_prep.sets import DataSet, Report, arriving, occupied
from papers_lib.errors import PapersError

STANDIN = "STANDIN.json"


class _Unfit(Exception):
    """What arrived does not pass its check."""

    def __init__(self, report: Report) -> None:
        self.report = report


def bring(data: DataSet, source: Path, root: Path, link: bool = False) -> tuple[Path, Report]:
    """Import `source` to its folder under `root`; only what passes the check stays there.

    Of a folder, the data set's own one is taken, which may be `source` or lie in it. A data set that is
    there already and whole is left as it is. Anything else there is never touched.

    Raises:
        PapersError: no such source, none of the data set in it, an archive that is broken or reaches outside
            of its folder, a place that cannot be written to, holds something else or lies inside the source.
    """
    target = data.folder(root)
    if occupied(target):
        return target, _there(data, target)
    if not source.exists():
        raise PapersError(f"{source} does not exist; name an archive or a folder of {data.name}")
    if link and not source.is_dir():
        raise PapersError(f"--link needs a folder, and {source} is a file; leave --link out")
    archives = [] if link else _archives(data, source)
    try:
        if not archives:
            source = _looked(data, source, target)
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


def _there(data: DataSet, target: Path) -> Report:
    try:
        report = data.check(target)
    except PapersError:
        report = Report("", problems=("unknown",))
    if report.problems:
        raise PapersError(
            f"{target} is there already and is not a whole {data.name}; move it away, then import again"
        )
    return Report(f"{report.summary}, there already, nothing imported", notes=report.notes)


def _arrived(data: DataSet, source: Path, waiting: Path) -> Report:
    """The check of what was unpacked, in words of the source: the waiting folder soon is no more."""

    def told(line: str) -> str:
        return line.replace(str(waiting), str(source)).replace(str(waiting.parent), str(source))

    try:
        report = data.check(waiting.parent)
    except PapersError as error:
        inner = list(waiting.iterdir())
        if len(inner) == 1 and inner[0].is_dir():  # an archive with one folder around everything
            _lift(inner[0])
            return _arrived(data, source, waiting)
        raise PapersError(f"{told(str(error)).partition(';')[0]}; nothing was imported") from None
    return replace(report, problems=tuple(map(told, report.problems)))


def _lift(folder: Path) -> None:
    aside = folder.rename(folder.with_name(f".{folder.name}"))  # it may hold a folder of its own name
    for path in aside.iterdir():
        path.rename(aside.parent / path.name)
    aside.rmdir()


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


def _looked(data: DataSet, source: Path, target: Path) -> Path:
    """The data set's own folder in `source`: what is not there, or not whole, is not copied first."""
    try:
        place, problems = _found(data, source)
    except PapersError as error:
        raise PapersError(f"{str(error).partition(';')[0]}; nothing was imported") from None
    outer, inner = (Path(os.path.realpath(path)) for path in (place, target))
    if inner.is_relative_to(outer):
        raise PapersError(f"{target} would lie inside of {place}; choose a ROOT outside of it")
    if problems:
        raise _Unfit(data.check(place))
    return place


def _found(data: DataSet, folder: Path) -> tuple[Path, list[str]]:
    try:
        found = data.survey(folder)
    except PapersError:
        inner = [path for path in folder.iterdir() if not leftover(path.name)]
        if len(inner) == 1 and inner[0].is_dir():  # one folder around everything
            try:
                return _found(data, inner[0])
            except PapersError:
                pass  # the outer folder is the one that the user knows
        raise
    beside = found.base != folder and (found.base.parent / STANDIN).is_file()
    return found.base.parent if beside else found.base, found.problems


def _copy(source: Path, folder: Path) -> None:
    files = list(_files(source, ()))  # all, before the first is written
    require_room(source, folder, sum(blocks(path.stat().st_size) for path in files))
    for path in shown(files, len(files), "copying"):
        place = folder / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
        told = path.stat()
        os.utime(place, ns=(told.st_atime_ns, told.st_mtime_ns))


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
