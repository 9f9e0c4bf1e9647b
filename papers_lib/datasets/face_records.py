"""insightface's face records in pure Python: `.rec` with `.idx`, `.lst` and `property`, and `.bin` pairs.

A `.rec` (dmlc-core's RecordIO, as mxnet writes it) is a row of parts, each on four bytes:

    u32 magic · u32 kind (upper 3 bits) and length (lower 29) · payload · padding to a multiple of 4

Kind 0 is a whole record; 1, 2, 3 are the first, middle and last parts of one that contains the magic word,
which stood between them. A record is `<IfQQ` (number of labels or 0, label, key, 0), then that number of
float32 labels, then the bytes of a JPEG or PNG. `.idx` has "key<tab>offset" lines.

A pack of faces has, at key 0, a header with labels (N + 1, N + 1 + C): images are the keys 1 .. N, and the
keys from N + 1 on are C identities without image whose labels are the first key and the last + 1. A pack
without header has only images. `property` is "C,height,width". https://github.com/deepinsight/insightface.
"""

from __future__ import annotations

import os
import pickle
import struct
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from papers_lib.datasets.cifar_files import Array, Arrays, column
from papers_lib.datasets.folders import lines, read_bytes, reading, reason
from papers_lib.errors import PapersError

Integers = NDArray[np.int64]

MAGIC = struct.pack("<I", 0xCED7230A)
PART = struct.Struct("<4sI")
HEAD = struct.Struct("<IfQQ")
WHOLE, FIRST, MIDDLE, LAST = range(4)
LENGTH_BITS = 29
LABELS = 2.0**63  # a label lies below, as an int64 does


@dataclass(frozen=True)
class Record:
    """One record: its labels (one or more), its key, and the bytes of its image file, if any."""

    labels: tuple[float, ...]
    key: int
    image: bytes


class RecordFile:
    """A `.rec`, read at offsets, from any thread.

    Raises:
        PapersError: it cannot be opened or is empty.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with reading(path):
            self._file = path.open("rb", buffering=0)
        self.size = os.fstat(self._file.fileno()).st_size
        if not self.size:
            raise PapersError(f"{path} has zero bytes; fetch it again")

    def payload(self, offset: int) -> bytes:
        """What is recorded at `offset`, its parts joined.

        Raises:
            PapersError: no record begins there, or it is cut short.
        """
        # The magic word stood where the parts were cut.
        parts = [self._bytes(start, length) for start, length in self._parts(offset)]
        return MAGIC.join(parts)

    def end(self, offset: int) -> int:
        """Where the record at `offset` ends, padding included; errors as `payload`."""
        *_, (start, length) = self._parts(offset)
        # padded to four bytes
        return start + length + -length % 4

    def record(self, offset: int) -> Record:
        """The record at `offset`, taken apart; errors as `payload`."""
        payload = self.payload(offset)
        try:
            count, label, key, _ = HEAD.unpack_from(payload)
            # A count of 0 says that the one label is in the head.
            labels = struct.unpack_from(f"<{count}f", payload, HEAD.size) if count else (label,)
        except struct.error:
            raise self._wrong(offset, "a record too short for its labels") from None
        for each in labels:
            self._hold_label(offset, each)
        return Record(labels, key, payload[HEAD.size + 4 * count :])

    def label(self, offset: int) -> int:
        """The first label of the record at `offset`, without reading its image; errors as `payload`."""
        kind, length = self._part(offset)
        # In parts, or without room for a label behind the head: the whole record is read.
        if kind != WHOLE or length < HEAD.size + 4:
            return int(self.record(offset).labels[0])
        head = self._bytes(offset + PART.size, HEAD.size + 4)
        count, label, *_ = HEAD.unpack_from(head)
        if count:
            (label,) = struct.unpack_from("<f", head, HEAD.size)
        self._hold_label(offset, label)
        return int(label)

    def _hold_label(self, offset: int, label: float) -> None:
        if not abs(label) < LABELS:  # nan is refused too
            raise self._wrong(offset, f"a label of {label:g}")

    def _parts(self, offset: int) -> Iterator[tuple[int, int]]:
        """Start and length of what each part of a record holds."""
        kind, length = self._part(offset)
        if kind not in (WHOLE, FIRST):
            raise self._wrong(offset, "the middle of a record")
        while True:
            start = offset + PART.size
            # Held before anything is read: a length of 512 MB costs no memory.
            if start + length > self.size:
                raise PapersError(
                    f"{self.path} is cut short: the record at byte {offset} needs {length} bytes, "
                    f"{self.size - start} are left; fetch it again"
                )
            yield start, length
            if kind in (WHOLE, LAST):
                return
            offset = start + length + -length % 4
            kind, length = self._part(offset)
            if kind not in (MIDDLE, LAST):
                raise self._wrong(offset, "another record before the end of the last one")

    def _part(self, offset: int) -> tuple[int, int]:
        """Kind and length of the part at `offset`."""
        # upper 3 bits: kind; lower 29: length
        magic, word = PART.unpack(self._bytes(offset, PART.size))
        if magic != MAGIC:
            raise self._wrong(offset, f"no record (magic 0x{magic[::-1].hex()}, not 0x{MAGIC[::-1].hex()})")
        return word >> LENGTH_BITS, word & (1 << LENGTH_BITS) - 1

    def _bytes(self, start: int, length: int) -> bytes:
        found = os.pread(self._file.fileno(), length, start)
        if len(found) < length:
            raise PapersError(
                f"{self.path} is cut short: {len(found)} of {length} bytes at byte {start}; fetch it again"
            )
        return found

    def _wrong(self, offset: int, what: str) -> PapersError:
        return PapersError(
            f"{self.path} has {what} at byte {offset}; its .idx is of another file, or one of them is "
            "damaged: fetch both again"
        )


@dataclass(frozen=True, eq=False)
class Pack:
    """The images of a `.rec`: `offsets` [N] in `file`, and `labels` [N] 0 .. C-1, int64.

    `own` [C] are the labels that the records themselves have in place of 0 .. C-1.
    `side` is height and width as `property` has them; None where there is no such file.
    """

    file: RecordFile
    offsets: Integers
    labels: Integers
    own: Integers
    identities: int
    side: tuple[int, int] | None

    def __len__(self) -> int:
        return len(self.offsets)

    def image(self, index: int) -> bytes:
        """The bytes of an image file.

        The record's label is held against the identity. Its key is not: shuffle_rec.py of insightface
        keeps the one from before.

        Raises:
            PapersError: the record is damaged, or of another identity.
        """
        record = self.file.record(int(self.offsets[index]))
        label, own = int(record.labels[0]), int(self.own[self.labels[index]])
        if label != own:
            raise PapersError(
                f"{self.file.path}, image {index} has label {label} among those of {own}; its .idx is out of "
                "step: fetch both again"
            )
        return record.image


def read_pack(folder: Path, stem: str = "train") -> Pack:
    """Read which images `<stem>.rec` holds, and of whom; no image is read.

    With a header, the identities' own records say it, and the first and last image of each are held
    against them; without, the label of each image is read.

    Raises:
        PapersError: a missing or broken file, an index out of step with the records, a `.rec` that is cut
            short (as tools leave it that unpack no more than 4 GiB), no image, an identity without image, an
            image of no identity or of two.
    """
    index = folder / f"{stem}.idx"
    keys, offsets = read_index(index)
    file = RecordFile(folder / f"{stem}.rec")
    last = int(offsets.max())
    if last >= file.size:
        raise PapersError(
            f"{file.path} is cut short: it has {file.size:,} bytes, and {index.name} goes on to byte "
            f"{last:,}; tools that unpack no more than 4 GiB leave it so: unpack or fetch it again"
        )
    left = file.size - file.end(last)
    if left > 0:
        raise PapersError(
            f"{index} is out of step: {left:,} bytes of {file.path.name} follow the last record "
            "that it names; take both from one source"
        )
    place = dict(zip(keys.tolist(), offsets.tolist(), strict=True))
    header = file.record(place[0]) if 0 in place else Record((0.0,), 0, b"")
    if len(header.labels) > 1:
        images, labels, own = _identities(file, place, header)
    else:
        # A header without labels is no image.
        images = offsets[keys > 0] if 0 in place and not header.image else offsets
        # In the order of the file, which is read from front to back.
        images = images[np.argsort(images)]
        own = np.array([file.label(offset) for offset in images.tolist()], dtype=np.int64)
        # own labels → 0 .. C-1
        own, labels = np.unique(own, return_inverse=True)
    count = len(own)
    if not count:
        raise PapersError(f"{file.path} has no image, only a header; fetch it again")
    announced = read_property(folder / "property")
    if announced and announced[0] != count:
        raise PapersError(
            f"{folder / 'property'} says {announced[0]} identities, {file.path} has {count}; take both from "
            "one source"
        )
    return Pack(file, images, labels.astype(np.int64), own, count, announced[1:] if announced else None)


def _identities(
    file: RecordFile, place: dict[int, int], header: Record
) -> tuple[Integers, Integers, Integers]:
    """Offsets [N] and labels [N] of the images, and own labels [C], by the identities' records."""
    start, stop = (int(value) for value in header.labels[:2])  # keys of the identities
    if not 1 < start < stop:
        raise PapersError(
            f"{file.path} has a header of images before key {start} and identities before key {stop}, which "
            "leaves none; fetch it again"
        )
    missing = next((key for key in range(1, stop) if key not in place), None)
    if missing is not None:
        raise PapersError(
            f"{file.path} announces keys 1 to {stop - 1}, and its .idx has no {missing}; take both from one "
            "source"
        )
    # [first key, last + 1) of each identity
    ranges = [_range(file, place, key, start) for key in range(start, stop)]
    end = 1  # of the images that are of an identity so far
    for first, after in (*sorted(ranges), (start, start)):
        if first != end:
            (begin, behind), whose = sorted((first, end)), "no identity" if end < first else "two identities"
            raise _out_of_step(file, f": the images {begin} to {behind - 1} are of {whose}")
        end = after
    own = []
    for first, after in ranges:  # the first and the last image stand for all
        labels = [file.label(place[key]) for key in (first, after - 1)]
        if labels[0] != labels[1]:
            raise _out_of_step(
                file,
                f": the images {first} and {after - 1} are of one identity and have labels {labels[0]} "
                f"and {labels[1]}",
            )
        own.append(labels[0])
    # Two identities of one label would be taken for one.
    if len(set(own)) < len(own):
        twice = next(label for i, label in enumerate(own) if label in own[:i])
        raise _out_of_step(file, f" has two identities of label {twice}")
    offsets = [place[key] for first, after in ranges for key in range(first, after)]
    counts = [after - first for first, after in ranges]
    return (
        np.array(offsets, dtype=np.int64),
        np.repeat(np.arange(len(ranges)), counts),
        np.array(own, dtype=np.int64),
    )


def _range(file: RecordFile, place: dict[int, int], key: int, start: int) -> tuple[int, int]:
    """First key and last + 1 of an identity's images."""
    labels = file.record(place[key]).labels
    if len(labels) < 2:
        raise _out_of_step(file, f", key {key}: an image where an identity should be")
    first, after = int(labels[0]), int(labels[1])
    if not 1 <= first < after <= start:
        raise PapersError(
            f"{file.path}, key {key}: an identity without images (keys {first} to {after - 1} of "
            f"{start - 1}); fetch a whole pack, or pack it again without that identity"
        )
    return first, after


def _out_of_step(file: RecordFile, what: str) -> PapersError:
    return PapersError(f"{file.path}{what}; its .idx is out of step: fetch both again")


def read_index(path: Path) -> tuple[Integers, Integers]:
    """Keys [K] and offsets [K] of an `.idx`.

    Raises:
        PapersError: it is missing, empty, no list of "key<tab>offset" lines, or has a key or an offset twice.
    """
    # Millions of lines: one call of numpy, no loop.
    words = read_bytes(path).removeprefix(BOM_UTF8).split()
    try:
        # [K, 2]: key, offset
        pairs = np.array(words, dtype=np.int64).reshape(-1, 2)
    except (ValueError, OverflowError):
        pairs = np.empty((0, 2), dtype=np.int64)
    if not len(pairs) or pairs.min() < 0:
        raise PapersError(f'{path} is no list of "key offset" lines; fetch it again')
    keys, offsets = pairs.T
    for what, values in (("key", keys), ("offset", offsets)):
        if len(np.unique(values)) < len(values):
            raise PapersError(f"{path} is out of step: it has a {what} twice; fetch it again")
    return keys.copy(), offsets.copy()


def read_property(path: Path) -> tuple[int, int, int] | None:
    """Identities, height and width; None where there is no such file.

    Raises:
        PapersError: it says something else, or a number below 1.
    """
    if not path.is_file():
        return None
    try:
        identities, height, width = (
            int(word) for word in read_bytes(path).removeprefix(BOM_UTF8).split(b",")
        )
        if min(identities, height, width) < 1:
            raise ValueError
    except ValueError:
        raise PapersError(
            f'{path} is not "identities,height,width", each from 1; write that, or remove it'
        ) from None
    return identities, height, width


def read_list(path: Path) -> tuple[list[str], Integers]:
    """Paths and labels [N] of a `.lst`: number, path, label, in insightface's order or mxnet's.

    Raises:
        PapersError: it is missing, or a line is neither.
    """
    paths, labels = [], []
    for number, line in lines(path):
        words = line.split("\t")
        try:
            try:
                label, file = float(words[1]), words[2]  # mxnet's order
            except ValueError:
                label, file = float(words[2]), words[1]  # insightface's
            labels.append(np.int64(int(label)))
        except (IndexError, ValueError, OverflowError):
            raise PapersError(
                f'{path}, line {number}: not "number path label" between tabs; mend it, or remove the list'
            ) from None
        paths.append(file)
    return paths, np.array(labels, dtype=np.int64)


# -- pairs --


def _files(images: Any) -> tuple[bytes, ...]:
    """The bytes of image files; what stands there often is copied once."""
    if not isinstance(images, list | tuple):
        raise TypeError(f"a {type(images).__name__} where a list of images should be")
    copied: dict[int, bytes] = {}  # by the object's identity
    for image in images:
        content = image.values if isinstance(image, Array) else image
        if isinstance(content, bytes):
            copied[id(image)] = content
        elif isinstance(content, np.ndarray) and content.dtype == np.uint8:
            copied[id(image)] = copied.get(id(image)) or content.tobytes()
        else:
            raise TypeError(f"a {type(content).__name__} where the bytes of an image should be")
    return tuple(copied[id(image)] for image in images)


def read_bin(path: Path) -> tuple[tuple[bytes, ...], NDArray[np.bool_]]:
    """Image files [2 P], two a pair, and whether the two show one person [P], of a `.bin`.

    Such a file is a pickle, of Python 2 or 3; only what such a list needs is unpickled, as a pickle can run
    any program.

    Raises:
        PapersError: it is missing, broken, of another kind, asks for more than bytes and arrays, or has
            answers other than 0 and 1.
    """
    try:
        # never `pickle.load`: a pickle can run any program
        images, same = Arrays(read_bytes(path), encoding="bytes").load()
        files = _files(images)
        for value in column(same):
            if value not in (0, 1):
                raise ValueError(f"an answer of {value!r:.40} where True or False should be")
        answers = np.array(column(same), dtype=bool)  # [P]
    except PapersError:
        raise
    except Exception as error:  # a broken pickle raises almost anything
        what = "refused as a" if isinstance(error, pickle.UnpicklingError) else "not a whole"
        raise PapersError(f"{path} is {what} pickle of pairs ({reason(error)}); fetch it again") from None
    if not len(answers) or len(files) != 2 * len(answers):
        raise PapersError(f"{path} has {len(files)} images for {len(answers)} pairs; fetch it again")
    return files, answers
