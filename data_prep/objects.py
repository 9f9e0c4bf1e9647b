"""Invented objects: a class is a body with one kind of part, and nothing else.

Colours, textures, pose, light, background and clutter are drawn alike for all classes; several classes
share each body, and several each kind of part, so that a class is known by both together.

Shapes lie in a square from -1 to 1, x to the right and y down, as in a picture.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from data_prep.steady import Points, circle, hue, product, sine

Pixels = NDArray[np.uint8]
Field = NDArray[np.float32]

SUPERSAMPLE = 3  # drawn three times as large: Pillow's polygons have no smooth edges
ROUND = circle(48)


def _radial(radius: Points) -> Points:
    return ROUND * radius[:, None]


def _waves_around(count: int) -> Points:
    """The cosine [48] of `count` waves around the circle."""
    return np.resize(circle(len(ROUND) // count), ROUND.shape)[:, 0]


def _star(corners: int, inner: float) -> Points:
    points = circle(2 * corners, -math.pi / 2)
    points[1::2] *= inner
    return points


def _disc(x: float, y: float, radius: float) -> Points:
    return np.array([x, y]) + _radial(np.full(len(ROUND), radius))


def _bar(x0: float, y0: float, x1: float, y1: float, thick: float) -> Points:
    across = np.array([y0 - y1, x1 - x0]) / math.hypot(x1 - x0, y1 - y0) * thick / 2
    start, end = np.array([x0, y0]), np.array([x1, y1])
    return np.stack([start + across, end + across, end - across, start - across])


BODIES: dict[str, Points] = {
    "disc": _radial(np.full(len(ROUND), 0.95)),
    "box": circle(4, math.pi / 4) * 1.15,
    "wedge": circle(3, -math.pi / 2) * 1.15,
    "star": _star(5, 0.5) * 1.15,
    "cross": _radial(0.75 + 0.35 * _waves_around(4)),
    "pill": _radial(np.full(len(ROUND), 1.0)) * (1.15, 0.55),
    "gear": _radial(0.85 + 0.18 * np.sign(_waves_around(8))),
    "moon": np.concatenate([_disc(0, 0, 1)[12:37], _disc(0.45, 0, 0.97)[36:11:-1]]),
}

PARTS: dict[str, Sequence[Points]] = {
    "ears": (_disc(-0.36, -0.55, 0.25), _disc(0.36, -0.55, 0.25)),
    "legs": (_bar(-0.3, 0.3, -0.4, 1, 0.16), _bar(0.3, 0.3, 0.4, 1, 0.16)),
    "eye": (_disc(0, 0, 0.26),),
    "wings": (
        np.array([(-0.35, -0.1), (-1, -0.5), (-1, 0.3)]),
        np.array([(0.35, -0.1), (1, -0.5), (1, 0.3)]),
    ),
    "band": (_bar(-0.75, 0, 0.75, 0, 0.24),),
    "horn": (np.array([(-0.2, -0.4), (0, -1.05), (0.2, -0.4)]),),
    "wheels": (_disc(-0.4, 0.7, 0.27), _disc(0.4, 0.7, 0.27)),
    "tail": (_bar(0.3, 0.2, 1, 0.55, 0.18), _disc(0.95, 0.55, 0.17)),
    "dots": (_disc(-0.3, 0.22, 0.14), _disc(0.3, 0.22, 0.14), _disc(0, -0.28, 0.14)),
    "mast": (_bar(0, -1, 0, 0.3, 0.14), _bar(-0.35, -0.8, 0.35, -0.8, 0.14)),
}

BODY = 0.62  # half the width of a body: parts reach out of it
SHARED = 4  # bodies that the first forty classes share

CLASSES: tuple[str, ...] = tuple(
    f"{list(BODIES)[first + i]}_with_{part}"
    for first in range(0, len(BODIES), SHARED)
    for part in PARTS
    for i in range(SHARED)
)
"""The names of the 80 classes; among the first 4 n each of four bodies has n kinds of part."""


def draw(class_index: int, size: int, rng: np.random.Generator) -> tuple[Pixels, NDArray[np.bool_]]:
    """One object of a class, alone.

    Args:
        class_index: into `CLASSES`.
        size: side in pixels of the square around the object; 10 at least.
        rng: gives pose, colours, texture and light.

    Returns:
        rgb [size, size, 3], filled with the object's texture beyond its edges too, and the mask
        [size, size] of the pixels that are the object's.
    """
    body, parts = CLASSES[class_index].split("_with_")
    big, pose = size * SUPERSAMPLE, _pose(rng)
    lower = _filled(big, [product(BODIES[body] * BODY, pose)])
    upper = _filled(big, [product(points, pose) for points in PARTS[parts]])
    tones = _tones(rng)
    picture = np.where(upper[..., None], _texture(big, tones[0], rng), _texture(big, tones[1], rng))
    picture = picture * _light(big, rng)
    rgb = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    mask = Image.fromarray((255 * (lower | upper)).astype(np.uint8))
    small = [np.asarray(image.resize((size, size), Image.Resampling.BOX)) for image in (rgb, mask)]
    return small[0], small[1] >= 128


def scene(class_index: int, size: int, rng: np.random.Generator) -> Pixels:
    """One object of a class before a background with clutter, [size, size, 3]; noise on all of it."""
    picture = background(size, size, rng)
    side = round(size * rng.uniform(0.65, 1.0))
    x, y = (int(v) for v in rng.integers(0, size - side + 1, 2))
    paste(picture, *draw(class_index, side, rng), x, y)
    return grain(picture, rng)


def background(height: int, width: int, rng: np.random.Generator) -> Pixels:
    """What lies behind objects, [height, width, 3]: a texture, and bodies without parts, out of focus."""
    side = max(height, width)
    field = _texture(side, _colour(rng, rng.uniform(0.15, 0.9)), rng) * _light(side, rng)
    picture = Image.fromarray(np.clip(field, 0, 255).astype(np.uint8)).crop((0, 0, width, height))
    brush, bodies = ImageDraw.Draw(picture), list(BODIES.values())
    for _ in range(rng.integers(1, 5)):
        points = bodies[rng.integers(len(bodies))] * rng.uniform(0.1, 0.35)
        points = product(points, _pose(rng)) * side + rng.uniform(0, 1, 2) * (width, height)
        brush.polygon([(x, y) for x, y in points.tolist()], fill=_rgb(_colour(rng, rng.uniform(0.1, 0.95))))
    return np.array(picture.filter(ImageFilter.GaussianBlur(side / 64)))


def paste(picture: Pixels, rgb: Pixels, mask: NDArray[np.bool_], x: int, y: int) -> None:
    """Lay an object of `draw` into `picture` [H, W, 3] in place, its left upper corner at x, y inside."""
    window = picture[y : y + len(rgb), x : x + rgb.shape[1]]
    high, wide = window.shape[:2]
    window[mask[:high, :wide]] = rgb[:high, :wide][mask[:high, :wide]]


def grain(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """`picture` with the exposure and the noise of a camera."""
    noise = rng.standard_normal(picture.shape, dtype=np.float32) * np.float32(rng.uniform(2, 10))
    return np.clip(picture * np.float32(rng.uniform(0.75, 1.2)) + noise, 0, 255).astype(np.uint8)


def jpeg(picture: Pixels) -> bytes:
    """The bytes of a JPEG file, of quality 95."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def _pose(rng: np.random.Generator) -> Points:
    """A matrix [2, 2]: mirrored or not, stretched, sheared, turned by up to 30 degrees, a little smaller."""
    turn, (wide, high) = rng.uniform(-math.pi / 6, math.pi / 6), rng.uniform(0.72, 0.95, 2)
    turned = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    stretched = np.array([[wide * rng.choice([-1.0, 1.0]), 0.0], [rng.uniform(-0.15, 0.15), high]])
    return product(stretched, turned)


def _filled(big: int, shapes: Sequence[Points]) -> NDArray[np.bool_]:
    image = Image.new("1", (big, big))
    brush = ImageDraw.Draw(image)
    for points in shapes:
        brush.polygon([(x, y) for x, y in ((points + 1) * big / 2).tolist()], fill=1)
    return np.array(image)


def _tones(rng: np.random.Generator) -> tuple[Field, Field]:
    """Colours of the parts and of the body, one clearly lighter than the other."""
    dark, light = rng.uniform(0.1, 0.4), rng.uniform(0.65, 1.0)
    first, second = (dark, light) if rng.uniform() < 0.5 else (light, dark)
    return _colour(rng, first), _colour(rng, second)


def _colour(rng: np.random.Generator, value: float) -> Field:
    return np.array(hue(rng.uniform(), rng.uniform(0.0, 0.8), value), dtype=np.float32)


def _rgb(colour: Field) -> tuple[int, int, int]:
    r, g, b = (int(v) for v in colour)
    return r, g, b


def _stripes(x: Field, y: Field) -> Field:
    return np.asarray(sine(x) > 0, dtype=np.float32)


def _checks(x: Field, y: Field) -> Field:
    return np.asarray(sine(x) * sine(y) > 0, dtype=np.float32)


def _spots(x: Field, y: Field) -> Field:
    return np.asarray(sine(x, 0.5) + sine(y, 0.5) > 1.0, dtype=np.float32)


def _waves(x: Field, y: Field) -> Field:
    return 0.5 + 0.5 * sine(x + sine(y))


def _plain(x: Field, y: Field) -> Field:
    return np.zeros(np.broadcast_shapes(x.shape, y.shape), dtype=np.float32)


TEXTURES: tuple[Callable[[Field, Field], Field], ...] = (_stripes, _checks, _spots, _waves, _plain)


def _texture(big: int, colour: Field, rng: np.random.Generator) -> Field:
    """A field [big, big, 3] of one colour and a shade of it, in one of `TEXTURES`, turned and scaled."""
    across = np.linspace(0, rng.uniform(6, 40), big, dtype=np.float32)
    turn = rng.uniform(0, math.pi)
    cos, sin = np.float32(math.cos(turn)), np.float32(math.sin(turn))
    x = cos * across[None] + sin * across[:, None]
    y = cos * across[:, None] - sin * across[None]
    share = TEXTURES[rng.integers(len(TEXTURES))](x, y)
    return colour * (1 - np.float32(rng.uniform(0.1, 0.35)) * share[..., None])


def _light(big: int, rng: np.random.Generator) -> Field:
    """Light that falls from one side, [big, big, 1]."""
    across = np.linspace(-1, 1, big, dtype=np.float32)
    x, y = (np.float32(v) for v in rng.uniform(-0.2, 0.2, 2))
    return (1 + x * across[None] + y * across[:, None])[..., None]
