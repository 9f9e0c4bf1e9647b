"""An architecture as a tuple of ints: one operator's code a decision, in the order of the layers."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from papers_lib.errors import PapersError
from papers_lib.nar.operators import CODED, NAMES

# Decisions: 8 blocks or 16 convolutions; 6 blocks are the net without its last stage.
RESNET18 = (6, 8, 16)
LRESNET50E_IR = (24, 48)  # blocks, convolutions
UNITS = (3, 4, 14, 3)  # blocks a stage of LResNet50E-IR


def check(vector: Sequence[int], decisions: int, operators: int = CODED) -> tuple[int, ...]:
    """The vector as a tuple of `decisions` codes below `operators`.

    Raises:
        PapersError: too short, too long, or with an unknown operator.
    """
    return check_one_of(vector, (decisions,), operators)


def check_one_of(
    vector: Sequence[int], decisions: Sequence[int], operators: int = len(NAMES)
) -> tuple[int, ...]:
    """The vector as a tuple of codes below `operators`, of one of several lengths.

    Raises:
        PapersError: too short, too long, of a length between, or with an unknown operator.
    """
    try:
        found = tuple(vector)
    except TypeError:
        raise PapersError(f"the vector is {vector!r}; give one operator a decision, as a list") from None
    codes = []
    if fault := _length(len(found), decisions):
        counts = " or ".join(map(str, decisions))
        text = f"{fault}: {len(found)} entries for {counts} decisions"
        raise PapersError(f"{text}; give one operator a decision")
    for place, code in enumerate(found):
        number = _whole(code)
        if number is None or not 0 <= number < operators:
            known = ", ".join(f"{number} {name}" for number, name in enumerate(NAMES[:operators]))
            raise PapersError(f"entry {place} of the vector is no operator: {code!r}; known are {known}")
        codes.append(number)
    return tuple(codes)


def check_sizes(**sizes: int) -> None:
    """Channels, classes, pixels: whole numbers from 1.

    Raises:
        PapersError: another; the message has its name.
    """
    for name, size in sizes.items():
        if (_whole(size) or 0) < 1:
            raise PapersError(f"{name} is {size!r}; give a whole number, 1 or more")


def _whole(value: Any) -> int | None:
    """The value as a plain int, NumPy's and tensors' too; None for all else, booleans among it."""
    if isinstance(value, bool) or str(getattr(value, "dtype", "")) == "torch.bool":
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def _length(found: int, decisions: Sequence[int]) -> str:
    if found in decisions:
        return ""
    if found < min(decisions):
        return "the vector is too short"
    return "the vector is too long" if found > max(decisions) else "the vector has a wrong length"


def by_convolution(vector: Sequence[int], blocks: int) -> list[tuple[int, int]]:
    """The operators of each block's two convolutions; one entry a block stands for both."""
    if len(vector) == blocks:
        return [(code, code) for code in vector]
    return list(zip(vector[::2], vector[1::2], strict=True))
