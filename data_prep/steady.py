"""Arithmetic whose every bit is the same on all machines, for pictures that are rounded from it.

IEEE 754 fixes + − × ÷ and the square root. It fixes no order of a sum, so that BLAS multiplies matrices as
the processor likes, and neither `**` nor `sin`, which NumPy computes on arrays as the processor likes.
On single numbers the drawings use `math`, in float64: its last bit moves no pixel.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
NEARLY_PI = 201 / 64
Real = TypeVar("Real", np.float32, np.float64)


def product(rows: NDArray[Real], matrix: NDArray[Real]) -> NDArray[Real]:
    """`rows` [..., k] times `matrix` [k, m], summed from the first of the k to the last."""
    total: NDArray[Real] = rows[..., :1] * matrix[0]
    for i in range(1, len(matrix)):
        total = total + rows[..., i : i + 1] * matrix[i]
    return total


def power(base: NDArray[Real], exponent: float) -> NDArray[Real]:
    """`base ** exponent` of numbers from 0: the product of the roots that the exponent's bits name."""
    whole, rest = divmod(exponent, 1)
    root = base.astype(np.float64)
    result = np.ones_like(root)
    for _ in range(int(whole)):
        result *= root
    while rest:
        root = np.sqrt(root)
        digit, rest = divmod(2 * rest, 1)
        if digit:
            result *= root
    return result.astype(base.dtype)


def sine(x: NDArray[Real], ahead: float = 0.0) -> NDArray[Real]:
    """The sine of angles of at most some hundreds, 1e-7 off; `ahead` by 0.5 half turns it is the cosine.

    An angle less its half turns goes into the series.
    """
    halves = np.rint(x / math.pi + ahead)
    turns = halves - ahead
    angle = x - turns * NEARLY_PI  # exact: few digits times few digits
    angle -= turns * (math.pi - NEARLY_PI)
    square = angle * angle
    series = np.zeros_like(square)
    for n in (13, 11, 9, 7, 5, 3):
        series += (-1) ** (n // 2) / math.factorial(n)
        series *= square
    odd = np.abs(halves - 2 * np.rint(halves / 2))
    return np.asarray((angle + angle * series) * (1 - 2 * odd))


def hue(turn: float, saturation: float, value: float) -> list[float]:
    """Red, green and blue, 0 .. 255, of a colour `turn` (0 .. 1) around the circle."""
    waves = [0.5 - 0.5 * math.cos(2 * math.pi * (turn + third / 3)) for third in range(3)]
    return [255 * value * (1 - saturation * wave) for wave in waves]


def circle(count: int, start: float = 0.0) -> Points:
    """`count` points [count, 2] around the unit circle, from an angle; rounded, so that a zero is one."""
    angles = [start + 2 * math.pi * i / count for i in range(count)]
    return np.array([(round(math.cos(angle), 12), round(math.sin(angle), 12)) for angle in angles])
