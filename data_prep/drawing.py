"""The floor of all drawings: arithmetic that is the same everywhere, colours, shapes, light and JPEG.

Every bit has to be the same on all machines, since pictures are rounded from it. IEEE 754 fixes + − × ÷ and
the square root. It fixes no order of a sum, so that BLAS multiplies matrices as the processor likes, and
neither `**` nor `sin`, which NumPy computes on arrays as the processor likes. On single numbers the drawings
use `math`, in float64: its last bit moves no pixel.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Points = NDArray[np.float64]  # [n, 2], or [n, 3] in space
Pixels = NDArray[np.uint8]  # [height, width, 3]
Colour = tuple[float, float, float]  # 0 .. 255
Ink = tuple[int, int, int]
Real = TypeVar("Real", np.float32, np.float64)
Rng = np.random.Generator

SUPERSAMPLE = 3  # drawn three times as large: Pillow's polygons have no smooth edges
NEARLY_PI = 201 / 64

# -- arithmetic --


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
        root = np.sqrt(root)  # base^(1/2), base^(1/4), ...
        digit, rest = divmod(2 * rest, 1)
        if digit:
            result *= root
    return result.astype(base.dtype)


def sine(x: NDArray[Real], ahead: float = 0.0) -> NDArray[Real]:
    """The sine of angles of at most some hundreds, 1e-7 off; `ahead` by 0.5 half turns it is the cosine."""
    halves = np.rint(x / math.pi + ahead)
    turns = halves - ahead
    angle = x - turns * NEARLY_PI  # exact: few digits times few digits
    angle -= turns * (math.pi - NEARLY_PI)
    square = angle * angle
    series = np.zeros_like(square)  # sin a = a (1 − a²/3! + a⁴/5! − …)
    for n in (13, 11, 9, 7, 5, 3):
        series += (-1) ** (n // 2) / math.factorial(n)
        series *= square
    odd = np.abs(halves - 2 * np.rint(halves / 2))
    return np.asarray((angle + angle * series) * (1 - 2 * odd))


def circle(count: int, start: float = 0.0) -> Points:
    """`count` points [count, 2] around the unit circle, from an angle; rounded, so that a zero is one."""
    angles = [start + 2 * math.pi * i / count for i in range(count)]
    return np.array([(round(math.cos(angle), 12), round(math.sin(angle), 12)) for angle in angles])


# -- colours --


def hue(turn: float, saturation: float, value: float) -> Colour:
    """Red, green and blue, 0 .. 255, of a colour `turn` (0 .. 1) around the circle."""
    waves = (0.5 - 0.5 * math.cos(2 * math.pi * (turn + third / 3)) for third in range(3))
    r, g, b = (255 * value * (1 - saturation * wave) for wave in waves)
    return r, g, b


def ink(colour: Iterable[float], shade: float = 1.0, low: float = 0, high: float = 255) -> Ink:
    """What Pillow draws with: `colour`, brighter or darker by the factor `shade`."""
    r, g, b = (int(min(max(float(channel) * shade, low), high)) for channel in colour)
    return r, g, b


def near(colour: Iterable[float], by: float, rng: Rng) -> Ink:
    """A colour about `by` away."""
    return ink(np.add(tuple(colour), rng.normal(0, by, 3)))


# -- pictures --


def fill(draw: ImageDraw.ImageDraw, points: Points, colour: Ink | int) -> None:
    """A filled polygon of points [n, 2] in pixels."""
    draw.polygon([(x, y) for x, y in points.tolist()], fill=colour)


def lit(size: int, strength: float, rng: Rng, kind: type[Any] = np.float32) -> NDArray[Any]:
    """Light that falls from one side: factors around 1, [size, size, 1]."""
    across = np.linspace(-1, 1, size, dtype=kind)
    x, y = (kind(v) for v in rng.uniform(-strength, strength, 2))
    return np.asarray((1 + x * across[None] + y * across[:, None])[..., None])


def picture(pixels: NDArray[Any]) -> Image.Image:
    """A picture of numbers [height, width, 3] that are clipped to 0 .. 255 and rounded down."""
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def smooth(cells: NDArray[Any], width: int, height: int) -> Image.Image:
    """A few colours [rows, columns, 3] that run into each other."""
    return Image.fromarray(cells.astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)


def shrunk(large: Image.Image) -> Image.Image:
    """A picture drawn `SUPERSAMPLE` times as large, at its size."""
    wide, high = large.size
    return large.resize((wide // SUPERSAMPLE, high // SUPERSAMPLE), Image.Resampling.BOX)


def jpeg(image: Image.Image | Pixels, quality: int = 95) -> bytes:
    """The bytes of a JPEG file."""
    stream = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def write(path: Path, content: bytes) -> None:
    """Write a file, and the folders that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
