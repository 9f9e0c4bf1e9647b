"""Files that are whole or not there: written to a temporary name, flushed to disk, renamed. And locks."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, SoftFileLock, Timeout

from papers_lib.errors import PapersError

FULL = (errno.ENOSPC, errno.EDQUOT)
# What file systems answer that lack a call: FAT and NTFS, CIFS, shared folders of virtual machines, FUSE.
LACKING = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOTTY)
ABANDONED = 86_400  # seconds after which a temporary file of another machine is nobody's

_HERE = f"{zlib.crc32(os.uname().nodename.encode() if hasattr(os, 'uname') else b''):08x}"
_writing: set[str] = set()  # the temporary files of this process


class PlaceError(PapersError):
    """A folder that cannot be written: full, read-only, or in the way of a file."""


def place_error(path: Path, error: OSError, mend: str = "choose another place") -> PlaceError:
    """One line that names the place and the mend."""
    if error.errno in FULL:
        return PlaceError(f"no room left on the disk of {path}: free some space, or {mend}")
    return PlaceError(f"cannot write {path} ({error.strerror}): make it writable, or {mend}")


@contextmanager
def replacing(path: Path, mend: str = "choose another place") -> Iterator[Path]:
    """Yield a temporary path; it takes the place of `path` when the block succeeds.

    A link stays, and what it points to is replaced. A file that is there keeps its mode, a new one has
    that of the umask. What a killed write of `path` left is removed.

    Raises:
        PlaceError: the folder is full, read-only or not a folder, or `path` is read-only. It is as it was.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        target = Path(os.path.realpath(path))
        old = _replaceable(target)
        # A new file beside the target, by the name of which others see whether its writer lives.
        temporary = target.with_name(f".{target.name}.{_HERE}-{os.getpid()}-{secrets.token_hex(4)}.tmp")
        _writing.add(temporary.name)
        temporary.touch(exist_ok=False)
        if old is not None:
            with suppress(OSError):  # a file system without groups and modes
                os.chown(temporary, -1, old.st_gid)
            with suppress(OSError):
                temporary.chmod(stat.S_IMODE(old.st_mode))
        _remove_abandoned(target, temporary.stat().st_mtime)
        yield temporary
        _sync(temporary)
        temporary.replace(target)
        with suppress(OSError):  # the file is in its place; some file systems cannot flush a folder
            _sync(target.parent)
    except OSError as error:
        raise place_error(path, error, mend) from error
    finally:
        if temporary is not None:
            _writing.discard(temporary.name)
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, timeout: float = 0) -> Iterator[None]:
    """Hold the lock file `path`; the kernel releases it when its holder dies.

    Where the file system has no such locks, the file's presence is the lock. A lock file that another
    user owns needs to be readable only.

    Raises:
        Timeout: another process has it, and keeps it for `timeout` seconds.
        OSError: the lock file can be neither written nor read.
    """
    lock = FileLock(path, timeout)
    try:
        lock.acquire()
    except PermissionError:
        with _read_only_lock(path, timeout):
            yield
        return
    except OSError as error:
        if error.errno not in LACKING:
            raise
        lock = SoftFileLock(path.with_name(f"{path.name}.soft"), timeout)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _read_only_lock(path: Path, timeout: float) -> Iterator[None]:
    """The same lock of the kernel, which `filelock` opens for writing only."""
    import fcntl

    handle, end = os.open(path, os.O_RDONLY), time.monotonic() + timeout
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise Timeout(str(path)) from None
                time.sleep(0.05)
        yield
    finally:
        os.close(handle)


def _replaceable(target: Path) -> os.stat_result | None:
    """What is there, if anything; refuses a link into a folder that is not, and a file that is read-only."""
    if target.is_symlink():
        raise OSError(errno.ELOOP, "its links lead in a circle")
    if not target.parent.is_dir():
        raise OSError(errno.ENOENT, f"it is a link to {target}, whose folder is not there")
    if not target.exists():
        return None
    old = target.stat()
    if not old.st_mode & 0o222 or not os.access(target, os.W_OK):  # root may write it, and should not
        raise OSError(errno.EACCES, "it is read-only")
    return old


def _remove_abandoned(target: Path, now: float) -> None:
    """Remove the temporary files of writes of `target` that were killed; `now` by the file system's clock."""
    with suppress(OSError):
        for old in target.parent.iterdir():
            name = old.name
            if not name.startswith(f".{target.name}.") or not name.endswith(".tmp") or name in _writing:
                continue
            if _writer_is_gone(name) or now - old.stat().st_mtime > ABANDONED:
                old.unlink(missing_ok=True)


def _writer_is_gone(name: str) -> bool:
    """Whether the process that `.target.MACHINE-PROCESS-random.tmp` names was of this machine, and ended."""
    machine, _, rest = name.removesuffix(".tmp").rpartition(".")[2].partition("-")
    process = rest.partition("-")[0]
    if machine != _HERE or not process.isdecimal():
        return False
    if int(process) == os.getpid():
        return True  # an earlier process had our number: what we write is in `_writing`
    try:
        os.kill(int(process), 0)  # signal 0 only asks
    except ProcessLookupError:
        return True
    except OSError:  # it is there, and another user's
        return False
    return False


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in LACKING:
            raise
    finally:
        os.close(handle)


def resolve(place: Path | str) -> Path:
    """`place` as an absolute path, with `~` expanded; links in it stay as they are.

    Raises:
        PapersError: a user's home that this machine does not know, or what no file system takes.
    """
    try:
        path = Path(place).expanduser().absolute()
        path.lstat()
    except RuntimeError:
        raise PapersError(f"{place}: no such user's home here; write the path out") from None
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return path
    except (OSError, ValueError) as error:
        raise PapersError(
            f"{str(place)[:60]!r} cannot be a path ({error}); name another place"[:200]
        ) from None
    return path
