"""What public functions take: tensors, NumPy arrays, lists, pandas' Series and frames, as checked tensors.

Every refusal is one line that names the argument. Nothing is guessed: numbers with a fraction are no
labels, a Boolean mask is no list of row numbers, and what holds no plain numbers is not taken for some.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from papers_lib.errors import PapersError

Array = Tensor | ArrayLike
BROKEN = "hold NaN or infinity; the network diverged or its input is broken"


def tensor(name: str, values: Array) -> Tensor:
    """`values` as a tensor of real numbers, on its device and with its gradient; a copy only where needed.

    Raises:
        PapersError: text, objects, dates, complex numbers, missing values, rows of several lengths, or
            tensors that are sparse, quantised or without data.
    """
    found = values if isinstance(values, Tensor) else _from_array(name, values)
    plain = found.layout == torch.strided and not (found.is_nested or found.is_quantized or found.is_meta)
    if not plain or found.is_complex():
        what = f"({str(found.layout).removeprefix('torch.')}, {found.device})"
        raise PapersError(f"{name} of type {kind(found)} are no real numbers in a dense tensor {what}")
    return found.resolve_neg()


def numbers(name: str, values: Array, ndim: int = 2, like: Tensor | None = None) -> Tensor:
    """`values` as floats [N, d], or of another `ndim`: float64 stays, all else becomes float32 unless float.

    Gradients stay, and values are not looked at: for losses, which may not wait for a GPU. `like` is a
    tensor whose shape and device they must have.

    Raises:
        PapersError: as `tensor`, another shape, or another device.
    """
    found = tensor(name, values)
    if found.ndim != ndim:
        raise PapersError(f"{name} are {shape(found)}; they must be {'[N, d]' if ndim == 2 else '[N]'}")
    if like is not None:
        if found.shape != like.shape:
            raise PapersError(f"{name} are {shape(found)} beside {shape(like)}; both must be of one shape")
        together(name, found, like)
    return found if found.is_floating_point() else found.float()


def features(name: str, values: Array, least: int = 1, wide: bool = True) -> Tensor:
    """Features [N, d] without gradient, all finite: float64 stays where `wide`, all else becomes float32.

    Raises:
        PapersError: as `tensor`, no matrix with `least` rows and a column, or a value that is not finite.
    """
    x = tensor(name, values).detach()
    if x.ndim != 2 or len(x) < least or x.shape[1] == 0:
        raise PapersError(f"{name} are {shape(x)}; they must be [N, d] with N ≥ {least} and d ≥ 1")
    x = x if wide and x.dtype == torch.float64 else x.float()
    if x.numel() and not torch.stack(torch.aminmax(x)).isfinite().all():  # NaN is both
        raise PapersError(f"{name} {BROKEN}")
    return x


def integers(
    name: str, values: Array, count: int | None = None, least: int | None = None, below: int | None = None
) -> Tensor:
    """Labels, ids or cameras [N] as int64, on their device.

    Args:
        count: how many there must be, one for each of something.
        least, below: the range that they must lie in (a wait, where they are on a GPU).

    Raises:
        PapersError: as `tensor`, floats or answers of yes and no, another shape, or out of range.
    """
    found = tensor(name, values)
    # An empty list is of no type.
    whole_numbers = not found.numel() or not (found.is_floating_point() or found.dtype == torch.bool)
    if not whole_numbers or found.ndim != 1 or count not in (None, len(found)):
        many = "[N]" if count is None else f"[{count}]"
        raise PapersError(f"{name} are {kind(found)} {shape(found)}; they must be integers {many}")
    unsigned, found = found.dtype == torch.uint64, found.long()
    if unsigned and (found < 0).any():  # wrapped round
        raise PapersError(f"{name} reach beyond 2**63; number them from 0")
    if len(found) and (least is not None or below is not None):
        low, high = torch.stack(torch.aminmax(found)).tolist()
        if (least is not None and low < least) or (below is not None and high >= below):
            reach = f"{least} or more" if below is None else f"{least or 0} to {below - 1}"
            raise PapersError(f"{name} run from {low} to {high}; they must be {reach}")
    return found


def rows(name: str, chosen: Array, count: int) -> Tensor:
    """Which of `count` rows: a Boolean mask [count], or numbers of rows in any order; as numbers, int64.

    Raises:
        PapersError: as `integers`, or a mask of another length.
    """
    found = tensor(name, chosen)
    if found.dtype == torch.bool and found.numel():
        if found.shape != (count,):
            raise PapersError(f"{name} are a mask {shape(found)} for {count} rows; give one answer a row")
        return found.nonzero()[:, 0]
    return integers(name, chosen, least=0, below=count)


def whole(name: str, value: Any, least: int = 1) -> int:
    """A whole number, `least` or more, as a plain int.

    Raises:
        PapersError: another.
    """
    found = None
    if getattr(value, "dtype", type(value)) not in (bool, np.bool_, torch.bool):
        # A tensor of several numbers is torch's RuntimeError.
        with suppress(TypeError, ValueError, RuntimeError):
            found = operator.index(value)
    if found is None or found < least:
        raise PapersError(f"{name} is {value!r}; it must be a whole number, {least} or more")
    return found


def wholes(name: str, values: Any, least: int = 1) -> list[int]:
    """One whole number or several, as a list; see `whole`."""
    try:
        several = list(values)
    except TypeError:
        several = [values]
    return [whole(name, value, least) for value in several]


def one_of(name: str, value: Any, known: Sequence[str]) -> None:
    """Refuse a value that an option does not have."""
    if value not in known:
        raise PapersError(f"{name} is {value!r}; it must be one of {', '.join(known)}")


def together(name: str, found: Tensor, like: Tensor) -> None:
    """Refuse tensors on two devices."""
    if found.device != like.device:
        raise PapersError(f"{name} are on {found.device} and the rest on {like.device}; move them together")


def shape(found: Tensor) -> str:
    """For a message."""
    return str(tuple(found.shape))


def kind(found: Tensor) -> str:
    """The type of its numbers, for a message."""
    return str(found.dtype).removeprefix("torch.")


def _from_array(name: str, values: Any) -> Tensor:
    if isinstance(values, Sequence) and len(values) and all(isinstance(value, Tensor) for value in values):
        try:
            return torch.stack([tensor(name, value) for value in values])
        except RuntimeError:
            raise PapersError(f"{name} are tensors of several shapes or devices; give one tensor") from None
    try:
        found = np.asarray(values)
    except Exception:  # whatever another library's arrays may raise
        found = np.asarray(None)
    if np.ma.is_masked(values) or found.dtype.kind not in "biuf":
        raise PapersError(
            f"{name} of type {found.dtype} are no real numbers; give a tensor or an array of numbers "
            "(np.unique(names, return_inverse=True)[1] numbers names)"
        )
    # torch takes neither long doubles, other byte orders nor negative strides.
    dtype = found.dtype.newbyteorder("=") if found.dtype.itemsize <= 8 else np.dtype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of read-only memory: nothing here writes to what it is given
        return torch.from_numpy(np.require(found, dtype, "C"))
