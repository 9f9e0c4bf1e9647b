"""Read a zip or tar to its end: whole, with every checksum that it has, or not at all.

Python's `tarfile` takes a damaged header for the end of the archive, `bz2` and `lzma` end in silence
where another stream is damaged, and `zipfile` does not count its members: all of these are errors here.
A plain tar has no checksum of what its files hold; `check` opens the images.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

from data_prep.pictures import shown
from papers_lib.errors import PapersError

CHUNK = 1 << 20
BLOCK = 4096  # bytes that the smallest file takes on a disk
BY_HAND = "unpack it with another tool, and import the folder"
LONGEST_NAME = 1 << 20
# headers whose content `tarfile` reads into memory whole
NAME_TYPES = b"".join([tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, b"xgX"])
# what a name in an archive can be wrong by; other errors are the disk's
NAME_ERRORS = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}


class Member(NamedTuple):
    """One entry of an archive; `extract(name, folder)` writes it to `folder / name`, None for a folder."""

    name: str
    size: int
    extract: Callable[[str, Path], None] | None


def unpack(source: Path, folder: Path) -> None:
    """Unpack the zip or tar `source` into `folder`, without a Mac's leftovers.

    Raises:
        PapersError: it is no archive, damaged, encrypted or larger than the room on the disk, it has a
            name twice, or one that is not UTF-8 or reaches outside, or something else than files and folders.
    """
    with _one_line(source):
        members, needed, count = _kind(source), 0, 0
        for member in shown(members(source), None, "reading"):  # all headers, before anything is written
            inside(source, member.name)
            count, needed = count + 1, needed + blocks(member.size)
            require_room(source, folder, needed)
        for member in shown(members(source), count, "unpacking"):
            name = inside(source, member.name)
            if name is None:
                continue
            if member.extract is None:
                (folder / name).mkdir(parents=True, exist_ok=True)
            elif os.path.lexists(folder / name):
                raise PapersError(f"{source} has {name!r} twice; {BY_HAND}")
            else:
                member.extract(name, folder)


def inside(source: Path, name: str) -> str | None:
    """Where the member `name` lies, with "/" between its parts; None for the top folder and leftovers.

    Raises:
        PapersError: it reaches outside, or is not UTF-8.
    """
    plain = name.replace("\\", "/")  # as Windows writes them
    parts = [part for part in plain.split("/") if part not in ("", ".")]
    if plain.startswith("/") or ".." in parts or re.match("[A-Za-z]:", plain):
        raise PapersError(f"{source} reaches outside of its folder ({name!r}); it was not unpacked")
    if not name.isascii() and name.encode("utf-8", "replace").decode() != name:
        raise PapersError(f"{source} has a name that is not UTF-8 ({name!r}); {BY_HAND}")
    return None if not parts or any(map(leftover, parts)) else "/".join(parts)


def leftover(name: str) -> bool:
    """Whether a Mac has left it: `__MACOSX`, `._x` or `.DS_Store`."""
    return name in ("__MACOSX", ".DS_Store") or name.startswith("._")


def blocks(size: int) -> int:
    """The bytes that a file of `size` takes on a disk."""
    return (size // BLOCK + 1) * BLOCK


def require_room(source: Path, folder: Path, needed: int) -> None:
    """Refuse more bytes than the disk of `folder` has.

    Raises:
        PapersError: there is less room.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise PapersError(
            f"{source} needs {needed / 1e9:,.1f} GB or more, and the disk of ROOT has {free / 1e9:,.1f}; "
            "free some space, or choose another ROOT"
        )


@contextmanager
def _one_line(source: Path) -> Iterator[None]:
    """Whatever a damaged archive raises in the parsers becomes one line; the disk's errors stay."""
    try:
        yield
    except PapersError:
        raise
    except MemoryError:
        raise PapersError(f"{source} takes more memory than there is; {BY_HAND}") from None
    except NotImplementedError as error:
        raise PapersError(f"{source} is packed in a way that is unknown here ({error}); {BY_HAND}") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno and error.errno not in NAME_ERRORS:
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        reason = reason.partition("\n")[0] or type(error).__name__
        raise PapersError(f"{source} is broken ({reason}); fetch it again") from None


def _kind(source: Path) -> Callable[[Path], Iterator[Member]]:
    start = b""
    if source.is_file():  # a pipe or a device would keep us for good
        with source.open("rb") as file:
            start = file.read(tarfile.BLOCKSIZE)
    try:
        _Header.frombuf(start, "utf-8", "surrogateescape")
        return _tarred
    except (tarfile.TarError, ValueError):
        if start.startswith(tuple(COMPRESSED)) or len(start) == start.count(0) == tarfile.BLOCKSIZE:
            return _tarred
    if source.is_file() and zipfile.is_zipfile(source):
        return _zipped
    raise PapersError(
        f"{source} is neither a folder nor a whole zip or tar; fetch it again, or import a folder"
    )


def _refused(source: Path, name: str, what: str) -> PapersError:
    return PapersError(f"{source} holds {name!r}, which is {what}; {BY_HAND}")


# -- zip --


def _zipped(source: Path) -> Iterator[Member]:
    with zipfile.ZipFile(source) as archive:
        _whole_list(source, archive.infolist())
        for info in archive.infolist():
            mode = info.external_attr >> 16 if info.create_system == 3 else 0  # 3: Unix
            folder = info.filename.endswith(("/", "\\"))
            if info.flag_bits & 1:
                raise _refused(source, info.filename, "encrypted")
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR) or (folder and info.file_size):
                raise _refused(source, info.filename, "neither a file nor a folder")
            extract = None if folder else partial(_unzip, archive, info)
            yield Member(info.filename, info.file_size, extract)


def _unzip(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, folder: Path) -> None:
    info.filename = name
    archive.extract(info, folder)
    if (folder / name).stat().st_size != info.file_size:
        raise zipfile.BadZipFile(f"{name} is cut short")


def _whole_list(source: Path, members: list[zipfile.ZipInfo]) -> None:
    """Hold the list of members against the last record, its count modulo 2^16, and both ends of the file."""
    with source.open("rb") as file:
        start = file.read(4)
        file.seek(max(0, source.stat().st_size - 22 - 0xFFFF))  # the record has 22 bytes, then a comment
        tail = file.read()
    at = tail.rfind(b"PK\5\6")
    count, comment = (int.from_bytes(tail[at + i : at + i + 2], "little") for i in (10, 20))
    if count != 0xFFFF and (len(members) - count) % 0x10000:
        raise zipfile.BadZipFile(f"{len(members)} members are listed, {count} are promised")
    if at + 22 + comment != len(tail):
        raise zipfile.BadZipFile("something follows its end")
    if start == b"PK\3\4" and all(info.header_offset for info in members):
        raise zipfile.BadZipFile("it begins with a member that is not listed, perhaps of another zip")


# -- tar --


def _tarred(source: Path) -> Iterator[Member]:
    with source.open("rb") as file:
        start = file.read(6)
        file.seek(0)
        opened = next((open_ for magic, open_ in COMPRESSED.items() if start.startswith(magic)), None)
        stream: Any = io.BufferedReader(opened(file), CHUNK) if opened else file
        mode: Any = "r|" if opened else "r:"  # a plain tar is skipped through, not read
        with tarfile.open(fileobj=stream, mode=mode, bufsize=tarfile.BLOCKSIZE, tarinfo=_Header) as archive:
            for info in archive:
                yield _member(source, archive, info)
        while chunk := stream.read(CHUNK):
            if chunk.strip(b"\0"):
                raise tarfile.ReadError("something follows its end, perhaps another tar")


def _member(source: Path, archive: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    if info.size < 0:  # by an extended header, which `_Header` does not see
        raise tarfile.ReadError("a damaged header")
    if info.isdir():
        return Member(info.name, 0, None)
    if info.islnk():
        return Member(info.name, 0, partial(_relink, source, info.linkname))
    if info.issym():
        raise PapersError(
            f"{source} holds {info.name!r}, which is a link; pack it with the files that links lead to, or "
            "import a folder"
        )
    if not info.isreg():
        raise _refused(source, info.name, "neither a file nor a folder")
    return Member(info.name, info.size, partial(_untar, archive, info))


def _untar(archive: tarfile.TarFile, info: tarfile.TarInfo, name: str, folder: Path) -> None:
    info.name = name
    archive.extract(info, folder, set_attrs=False, filter="data")


def _relink(source: Path, first: str, name: str, folder: Path) -> None:
    """A hard link: the same file under a second name."""
    there = inside(source, first)
    if there is None or not (folder / there).is_file():
        raise _refused(source, name, f"a link to {first!r}, which is not there")
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(folder / there, folder / name)
    except OSError:  # a file system without hard links
        require_room(source, folder, (folder / there).stat().st_size)
        shutil.copyfile(folder / there, folder / name)


class _Header(tarfile.TarInfo):
    """A header that is whole; only zero bytes are the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Parse one block.

        Raises:
            tarfile.ReadError: a damaged header, or the file has ended without the mark of the end.
        """
        try:
            info = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError:
            if len(buf) == buf.count(0) == tarfile.BLOCKSIZE:
                raise
            raise tarfile.ReadError("a damaged header" if buf else "it ends early") from None
        if info.size < 0 or (info.type in NAME_TYPES and info.size > LONGEST_NAME):
            raise tarfile.ReadError("a damaged header")
        return info


class _Streams(io.RawIOBase):
    """What the compressed streams of a file hold, one after the other, with nothing else in the file."""

    def __init__(self, begin: Callable[[], Any], file: IO[bytes]) -> None:
        self.file, self.begin, self.current = file, begin, begin()

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Some bytes; none at the end of the last stream.

        Raises:
            EOFError: the last stream is cut short. What the decompressor raises, for a damaged one.
        """
        while True:
            data = b""
            if self.current.eof:
                data = self.current.unused_data.lstrip(b"\0")  # zeros may pad xz
                while not data and (chunk := self.file.read(CHUNK)):
                    data = chunk.lstrip(b"\0")
                if not data:
                    return 0
                self.current = self.begin()
            elif self.current.needs_input:
                data = self.file.read(CHUNK)
                if not data:
                    raise EOFError("it is cut short")
            out = self.current.decompress(data, len(buffer))
            if out:
                buffer[: len(out)] = out
                return len(out)


COMPRESSED: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": partial(_Streams, bz2.BZ2Decompressor),
    b"\xfd7zXZ\0": partial(_Streams, lzma.LZMADecompressor),
}
