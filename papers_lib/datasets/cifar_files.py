"""CIFAR-10 and CIFAR-100 as published (Krizhevsky 2009): Python pickles and plain binary files.

Pickles can run any code, so that only what an array needs is unpickled, in memory of the file's size.
Layouts: https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from papers_lib.datasets.folders import lines, read_bytes, reason
from papers_lib.errors import PapersError

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]

SIDE = 32
VALUES = 3 * SIDE * SIDE  # of an image: red, green, blue, each by rows


@dataclass(frozen=True)
class Batches:
    """The files of one published layout.

    `labels` is the key of the labels in a pickle, `names` that of the class names; a binary record has
    `head` label bytes, the last of which counts.
    """

    train: tuple[str, ...]
    test: tuple[str, ...]
    meta: str
    labels: str = ""
    names: str = ""
    head: int = 1

    @property
    def files(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.train, *self.test, self.meta)


_FIVE = tuple(f"data_batch_{i}" for i in range(1, 6))

BATCHES: Mapping[tuple[str, str], Batches] = {
    ("cifar10", "python"): Batches(_FIVE, ("test_batch",), "batches.meta", "labels", "label_names"),
    ("cifar100", "python"): Batches(("train",), ("test",), "meta", "fine_labels", "fine_label_names"),
    ("cifar10", "binary"): Batches(
        tuple(f"{name}.bin" for name in _FIVE), ("test_batch.bin",), "batches.meta.txt"
    ),
    ("cifar100", "binary"): Batches(("train.bin",), ("test.bin",), "fine_label_names.txt", head=2),
}


def read(path: Path, batches: Batches) -> tuple[Pixels, Labels]:
    """Images [N, 32, 32, 3] and labels [N] of one file.

    Raises:
        PapersError: the file is missing, broken, of another kind, or asks for more than arrays.
    """
    if not batches.labels:
        return _binary(path, batches.head)
    content = _unpickled(path)
    try:
        rows = np.asarray(content["data"].values)  # [N, 3072]
        labels = np.array(column(content[batches.labels]), dtype=np.int64)  # [N]
        if rows.dtype != np.uint8 or rows.shape != (len(labels), VALUES):
            raise ValueError(f"{rows.shape} values of {rows.dtype} for {len(labels)} labels")
    except (KeyError, AttributeError, TypeError, ValueError, OverflowError) as error:
        raise PapersError(f"{path} is no batch of images ({reason(error)}); fetch it again") from None
    return _images(rows), labels


def class_names(path: Path, batches: Batches) -> tuple[str, ...]:
    """The class names, in the order of the labels.

    Raises:
        PapersError: the file is missing, broken or of another kind.
    """
    if batches.labels:
        names = _unpickled(path).get(batches.names)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise PapersError(f"{path} has no {batches.names}; fetch it again")
        return tuple(names)
    return tuple(line for _, line in lines(path))


def _binary(path: Path, head: int) -> tuple[Pixels, Labels]:
    content = np.frombuffer(read_bytes(path), dtype=np.uint8)
    # There is no header: the length is all that can be held.
    if not len(content) or len(content) % (head + VALUES):
        raise PapersError(
            f"{path} has {len(content)} bytes, not a multiple of {head + VALUES}; fetch it again"
        )
    records = content.reshape(-1, head + VALUES)  # [N, head + 3072]
    return _images(records[:, head:]), records[:, head - 1].astype(np.int64)


def _images(rows: Pixels) -> Pixels:
    # [N, 3 · 32 · 32] → [N, 32, 32, 3]
    return np.ascontiguousarray(rows.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))


# -- unpickling --

# No objects, no void, no text: their bytes would be addresses or sizes.
_PLAIN = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")


class _Kind:
    """Stands for numpy's dtype, which would read a file's bytes as addresses if its state says so.

    It is one of plain numbers or truth values, and takes nothing but the byte order from a state.

    Raises:
        pickle.UnpicklingError: a dtype of anything else.
    """

    def __init__(self, name: Any, *_: Any) -> None:
        name = _text(name)
        if name not in _PLAIN:
            raise pickle.UnpicklingError(f"it asks for an array of {name!r:.40}")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        self.dtype = self.dtype.newbyteorder(_text(state[1]))


class Array:
    """Stands for numpy's array while a pickle is read; `values` are the array."""

    def __init__(self, values: NDArray[Any] | None = None) -> None:
        self.values = np.empty(0) if values is None else values

    def __setstate__(self, state: Any) -> None:
        # numpy's own state: version, shape, dtype, Fortran's order, bytes
        _, shape, kind, by_columns, content = state
        self.values = _values(content, kind, shape, "F" if by_columns else "C")


def column(values: Any) -> list[Any]:
    """What stands in a list or in an array.

    Raises:
        ValueError: it is neither, or a list with more than numbers and text inside.
    """
    if isinstance(values, Array):
        return list(values.values.tolist())
    if not isinstance(values, list) or not all(
        isinstance(v, int | float | str | bytes | None) for v in values
    ):
        raise ValueError("no list of numbers where one should be")
    return values


def _values(content: Any, kind: Any, shape: Any, order: Any = "C") -> NDArray[Any]:
    content = content.encode("latin1") if isinstance(content, str) else content  # Python 2 had bytes as text
    return np.frombuffer(content, kind.dtype).reshape(shape, order=order)


def _text(word: Any) -> Any:
    return word.decode("latin1") if isinstance(word, bytes) else word


class Arrays(pickle._Unpickler):
    """Unpickles arrays, as `Array`, numbers, text, lists and dictionaries, and nothing else.

    In Python, as the one in C takes four gigabytes for nine bytes that name a high place in its memo.
    """

    read: Any  # both are set when it loads
    append: Any

    def __init__(self, content: bytes, encoding: str) -> None:
        super().__init__(io.BytesIO(content), encoding=encoding)
        self._left = len(content)  # bytes that may still be made of text: each stands in the file once

    def _encoded(self, text: str) -> bytes:
        # Encoding one text again and again would fill the memory.
        self._left -= len(text)
        if self._left < 0:
            raise pickle.UnpicklingError("it asks for more bytes than it has")
        return text.encode("latin1")

    def _bytearray(self) -> None:
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(bytearray(self.read(size)))  # Python's own makes room for `size` before it reads

    dispatch: ClassVar[dict[int, Any]] = pickle._Unpickler.dispatch | {pickle.BYTEARRAY8[0]: _bytearray}

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name; all others are refused."""
        known: dict[str, Any] = {
            "ndarray": None,  # the class that `_reconstruct` is told to make, never called itself
            "dtype": _Kind,
            "_reconstruct": lambda *_: Array(),
            "_frombuffer": lambda content, kind, shape, order, *_: Array(
                _values(content, kind, shape, order)
            ),
            "scalar": lambda kind, content: _values(content, kind, ()).item(),
        }
        # numpy moved its modules between 1.x and 2.x; the names stayed.
        if module.partition(".")[0] == "numpy" and name in known:
            return known[name]
        if (module, name) == ("_codecs", "encode"):  # bytes, as Python 3 writes them for Python 2
            return lambda text, _: self._encoded(text)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _unpickled(path: Path) -> dict[str, Any]:
    try:
        content = Arrays(read_bytes(path), encoding="latin1").load()
    except PapersError:
        raise
    except Exception as error:  # a broken pickle raises almost anything
        raise PapersError(
            f"{path} is not a whole pickle of arrays ({reason(error)}); fetch it again"
        ) from None
    if not isinstance(content, dict):
        raise PapersError(f"{path} is a pickle of something else; fetch it again")
    return content
