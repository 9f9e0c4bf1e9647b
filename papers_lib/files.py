"""Files that are whole or not there: written to a temporary name, flushed to disk, renamed."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from papers_lib.errors import PapersError

FULL = (errno.ENOSPC, errno.EDQUOT)


class PlaceError(PapersError):
    """A folder that cannot be written: full, read-only, or in the way of a file."""


def place_error(path: Path, error: OSError, mend: str = "choose another place") -> PlaceError:
    """One line that names the place and the mend."""
    if error.errno in FULL:
        return PlaceError(f"no room left on the disk of {path}: free some space, or {mend}")
    return PlaceError(f"cannot write {path} ({error.strerror}): make it writable, or {mend}")


@contextmanager
def replacing(path: Path, mend: str = "choose another place") -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes the place of `path` when the block succeeds.

    Raises:
        PlaceError: the folder is full, read-only or not a folder. `path` is as it was.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        temporary.chmod(0o644)  # mkstemp's 0600 would keep colleagues out of a shared store
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        raise place_error(path, error, mend) from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def resolve(place: Path | str) -> Path:
    """`place` as an absolute path, with `~` expanded; links in it stay as they are.

    Raises:
        PapersError: the home of a user that this machine does not know.
    """
    try:
        return Path(place).expanduser().absolute()
    except RuntimeError:
        raise PapersError(f"{place}: no such user's home here; write the path out") from None
