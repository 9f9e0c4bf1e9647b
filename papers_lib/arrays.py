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
    x = values if isinstance(values, Tensor) else _from_array(name, values)
    plain = x.layout == torch.strided and not (x.is_nested or x.is_quantized or x.is_meta)
    if not plain or x.is_complex():
        what = f"({str(x.layout).removeprefix('torch.')}, {x.device})"
        raise PapersError(f"{name} of type {kind(x)} are no real numbers in a dense tensor {what}")
    return x.resolve_neg()  # a lazily negated tensor has no NumPy view


def numbers(name: str, values: Array, ndim: int = 2, like: Tensor | None = None) -> Tensor:
    """`values` as floats [N, d], or of another `ndim`: float64 stays, all else becomes float32 unless float.

    Gradients stay, and values are not looked at: for losses, which may not wait for a GPU. `like` is a
    tensor whose shape and device they must have.

    Raises:
        PapersError: as `tensor`, another shape, or another device.
    """
    x = tensor(name, values)
    if x.ndim != ndim:
        raise PapersError(f"{name} are {shape(x)}; they must be {'[N, d]' if ndim == 2 else '[N]'}")
    if like is not None:
        if x.shape != like.shape:
            raise PapersError(f"{name} are {shape(x)} beside {shape(like)}; both must be of one shape")
        together(name, x, like)
    return x if x.is_floating_point() else x.float()


def features(name: str, values: Array, least: int = 1, wide: bool = True) -> Tensor:
    """Features [N, d] without gradient, all finite: float64 stays where `wide`, all else becomes float32.

    Raises:
        PapersError: as `tensor`, no matrix with `least` rows and a column, or a value that is not finite.
    """
    x = tensor(name, values).detach()
    if x.ndim != 2 or len(x) < least or x.shape[1] == 0:
        raise PapersError(f"{name} are {shape(x)}; they must be [N, d] with N ≥ {least} and d ≥ 1")
    x = x if wide and x.dtype == torch.float64 else x.float()  # [N, d]
    if x.numel() and not torch.stack(torch.aminmax(x)).isfinite().all():  # NaN is both extremes
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
    x = tensor(name, values)
    typed = x.numel() > 0  # an empty list is of no type
    fraction_or_mask = x.is_floating_point() or x.dtype == torch.bool
    if (typed and fraction_or_mask) or x.ndim != 1 or count not in (None, len(x)):
        many = "[N]" if count is None else f"[{count}]"
        raise PapersError(f"{name} are {kind(x)} {shape(x)}; they must be integers {many}")
    unsigned, x = x.dtype == torch.uint64, x.long()
    if unsigned and (x < 0).any():  # wrapped round
        raise PapersError(f"{name} reach beyond 2**63; number them from 0")
    if len(x) and (least is not None or below is not None):
        low, high = torch.stack(torch.aminmax(x)).tolist()
        if (least is not None and low < least) or (below is not None and high >= below):
            reach = f"{least} or more" if below is None else f"{least or 0} to {below - 1}"
            raise PapersError(f"{name} run from {low} to {high}; they must be {reach}")
    return x


def rows(name: str, chosen: Array, count: int) -> Tensor:
    """Which of `count` rows: a Boolean mask [count], or numbers of rows in any order; as numbers, int64.

    Raises:
        PapersError: as `integers`, or a mask of another length.
    """
    x = tensor(name, chosen)
    if x.dtype == torch.bool and x.numel():
        if x.shape != (count,):
            raise PapersError(f"{name} are a mask {shape(x)} for {count} rows; give one answer a row")
        return x.nonzero()[:, 0]
    return integers(name, chosen, least=0, below=count)


def whole(name: str, value: Any, least: int = 1) -> int:
    """A whole number, `least` or more, as a plain int.

    Raises:
        PapersError: another.
    """
    number = None
    if getattr(value, "dtype", type(value)) not in (bool, np.bool_, torch.bool):
        # A tensor of several numbers is torch's RuntimeError.
        with suppress(TypeError, ValueError, RuntimeError):
            number = operator.index(value)
    if number is None or number < least:
        raise PapersError(f"{name} is {value!r}; it must be a whole number, {least} or more")
    return number


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


def together(name: str, x: Tensor, like: Tensor) -> None:
    """Refuse tensors on two devices."""
    if x.device != like.device:
        raise PapersError(f"{name} are on {x.device} and the rest on {like.device}; move them together")


def shape(x: Tensor) -> str:
    """For a message."""
    return str(tuple(x.shape))


def kind(x: Tensor) -> str:
    """The type of its numbers, for a message."""
    return str(x.dtype).removeprefix("torch.")


def _from_array(name: str, values: Any) -> Tensor:
    if isinstance(values, Sequence) and len(values) and all(isinstance(value, Tensor) for value in values):
        try:
            return torch.stack([tensor(name, value) for value in values])
        except RuntimeError:
            raise PapersError(f"{name} are tensors of several shapes or devices; give one tensor") from None
    try:
        array = np.asarray(values)
    except Exception:  # whatever another library's arrays may raise
        array = np.asarray(None)
    if np.ma.is_masked(values) or array.dtype.kind not in "biuf":
        raise PapersError(
            f"{name} of type {array.dtype} are no real numbers; give a tensor or an array of numbers "
            "(np.unique(names, return_inverse=True)[1] numbers names)"
        )
    # torch takes neither long doubles, other byte orders nor negative strides.
    dtype = array.dtype.newbyteorder("=") if array.dtype.itemsize <= 8 else np.dtype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of read-only memory: nothing here writes to what it is given
        return torch.from_numpy(np.require(array, dtype, "C"))
