"""Import a data set: unpack an archive, or copy or link a folder; then check; then put it in place."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath

from data_prep.progress import shown
from data_prep.sets import DataSet, Report, arriving, occupied
from papers_lib.errors import PapersError

_BROKEN = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, RuntimeError, NotImplementedError)


class _Unfit(Exception):
    """What arrived does not pass its check."""

    def __init__(self, report: Report) -> None:
        self.report = report


def bring(data: DataSet, source: Path, root: Path, link: bool = False) -> tuple[Path, Report]:
    """Import `source` to its folder under `root`; only what passes the check stays there.

    A data set that is there already and whole is left as it is. Anything else there is never
    touched.

    Raises:
        PapersError: no such source, an archive that is broken or reaches outside of its folder, a
            place that cannot be written to or holds something else.
    """
    target = data.folder(root)
    if occupied(target):
        return target, _there(data, target)
    if not source.exists():
        raise PapersError(f"{source} does not exist; name an archive or a folder of {data.name}")
    try:
        if link:
            return target, _link(data, source, target)
        with arriving(target) as waiting:
            for part in _parts(data, source):
                _fill(part, waiting)
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
    if not source.is_dir():
        raise PapersError(f"--link needs a folder, and {source} is a file; leave --link out")
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


def _parts(data: DataSet, source: Path) -> list[Path]:
    """The archives of `data` that lie in the folder `source`; `source` itself where there are none.

    Raises:
        PapersError: some archives of a data set that is handed out in several are there, and no folder.
    """
    for names in data.archives if source.is_dir() else ():
        there = [source / name for name in names if (source / name).is_file()]
        missing = [name for name in names if source / name not in there]
        if there and not missing:
            return there
        if there and not any(path.is_dir() for path in source.iterdir()):
            raise PapersError(
                f"half a data set: {there[0].name} is in {source} and {' and '.join(missing)} missing; add it"
            )
    return [source]


def _fill(source: Path, folder: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, folder, dirs_exist_ok=True)
    elif zipfile.is_zipfile(source):
        _unpack(source, folder, _unzip)
    elif tarfile.is_tarfile(source):
        _unpack(source, folder, _untar)
    else:
        raise PapersError(f"{source} is neither a folder nor a whole zip or tar; fetch it again")


def _unpack(source: Path, folder: Path, unpack: Callable[[Path, Path], None]) -> None:
    try:
        unpack(source, folder)
    except _BROKEN as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise PapersError(f"{source} is broken ({reason}); fetch it again") from None


def _unzip(source: Path, folder: Path) -> None:
    with zipfile.ZipFile(source) as archive:
        names = archive.namelist()
        _stay_inside(source, names)
        for name in shown(names, len(names), "unpacking"):
            archive.extract(name, folder)


def _untar(source: Path, folder: Path) -> None:
    with tarfile.open(source) as archive:
        members = archive.getmembers()
        _stay_inside(source, [member.name for member in members])
        for member in shown(members, len(members), "unpacking"):
            archive.extract(member, folder, filter="data")


def _stay_inside(source: Path, names: Iterable[str]) -> None:
    for name in names:
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
            raise PapersError(f"{source} reaches outside of its folder ({name!r}); it was not unpacked")
