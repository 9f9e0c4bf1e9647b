"""Invented objects: a class is a body with one kind of part, and nothing else.

Colours, textures, pose, light, background and clutter are drawn alike for all classes; several classes
share each body, and several each kind of part, so that a class is known by both together.

Shapes lie in a square from -1 to 1, x to the right and y down, as in a picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from data_prep.drawing import (
    SUPERSAMPLE,
    Pixels,
    Points,
    Rng,
    circle,
    fill,
    hue,
    ink,
    lit,
    picture,
    product,
    shrunk,
    sine,
)

Field = NDArray[np.float32]
ROUND = circle(48)  # [48, 2]


def _waves_around(count: int) -> Points:
    """The cosine [48] of `count` waves around the circle."""
    return np.resize(circle(len(ROUND) // count), ROUND.shape)[:, 0]


def _star(corners: int, inner: float) -> Points:
    points = circle(2 * corners, -math.pi / 2)
    points[1::2] *= inner
    return points


def _disc(x: float, y: float, radius: float) -> Points:
    return np.array([x, y]) + ROUND * radius


def _bar(x0: float, y0: float, x1: float, y1: float, thick: float) -> Points:
    across = np.array([y0 - y1, x1 - x0]) / math.hypot(x1 - x0, y1 - y0) * thick / 2
    start, end = np.array([x0, y0]), np.array([x1, y1])
    return np.stack([start + across, end + across, end - across, start - across])


BODIES: dict[str, Points] = {
    "disc": ROUND * 0.95,
    "box": circle(4, math.pi / 4) * 1.15,
    "wedge": circle(3, -math.pi / 2) * 1.15,
    "star": _star(5, 0.5) * 1.15,
    "cross": ROUND * (0.75 + 0.35 * _waves_around(4))[:, None],
    "pill": ROUND * (1.15, 0.55),
    "gear": ROUND * (0.85 + 0.18 * np.sign(_waves_around(8)))[:, None],
    "moon": np.concatenate([_disc(0, 0, 1)[12:37], _disc(0.45, 0, 0.97)[36:11:-1]]),
}
WING = np.array([(0.35, -0.1), (1, -0.5), (1, 0.3)])
PARTS: dict[str, Sequence[Points]] = {
    "ears": (_disc(-0.36, -0.55, 0.25), _disc(0.36, -0.55, 0.25)),
    "legs": (_bar(-0.3, 0.3, -0.4, 1, 0.16), _bar(0.3, 0.3, 0.4, 1, 0.16)),
    "eye": (_disc(0, 0, 0.26),),
    "wings": (WING * (-1, 1), WING),
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
    f"{body}_with_{part}"
    for first in range(0, len(BODIES), SHARED)
    for part in PARTS
    for body in list(BODIES)[first : first + SHARED]
)
"""The names of the 80 classes; among the first 4 n each of four bodies has n kinds of part."""

# x, y [size, size] to the share of the shade there
TEXTURES: Sequence[Callable[[Field, Field], Field]] = (
    lambda x, y: np.asarray(sine(x) > 0, dtype=np.float32),  # stripes
    lambda x, y: np.asarray(sine(x) * sine(y) > 0, dtype=np.float32),  # checks
    lambda x, y: np.asarray(sine(x, 0.5) + sine(y, 0.5) > 1.0, dtype=np.float32),  # spots
    lambda x, y: 0.5 + 0.5 * sine(x + sine(y)),  # waves
    lambda x, y: np.zeros_like(x),
)


def draw(class_index: int, size: int, rng: Rng) -> tuple[Pixels, NDArray[np.bool_]]:
    """One object of a class, alone.

    Args:
        class_index: into `CLASSES`.
        size: side in pixels of the square around the object; 10 at least.
        rng: gives pose, colours, texture and light.

    Returns:
        rgb [size, size, 3], filled with the object's texture beyond its edges too, and the mask
        [size, size] of the pixels that are the object's.
    """
    body, part = CLASSES[class_index].split("_with_")
    big, pose = size * SUPERSAMPLE, _pose(rng)
    masks = []
    for shapes in ([BODIES[body] * BODY], PARTS[part]):
        image = Image.new("1", (big, big))
        for points in shapes:
            fill(ImageDraw.Draw(image), (product(points, pose) + 1) * big / 2, 1)
        masks.append(np.array(image))
    lower, upper = masks  # [big, big] each

    # parts and body have colours of their own, one clearly lighter than the other
    dark, light = rng.uniform(0.1, 0.4), rng.uniform(0.65, 1.0)
    first, second = (dark, light) if rng.uniform() < 0.5 else (light, dark)
    tones = [_colour(first, rng), _colour(second, rng)]
    on_part, on_body = (_texture(big, tone, rng) for tone in tones)
    rgb = picture(np.where(upper[..., None], on_part, on_body) * lit(big, 0.2, rng))
    mask = Image.fromarray((255 * (lower | upper)).astype(np.uint8))
    return np.asarray(shrunk(rgb)), np.asarray(shrunk(mask)) >= 128


def scene(class_index: int, size: int, rng: Rng) -> Pixels:
    """One object of a class before a background with clutter, [size, size, 3]; noise on all of it."""
    image = background(size, size, rng)
    side = round(size * rng.uniform(0.65, 1.0))
    x, y = (int(v) for v in rng.integers(0, size - side + 1, 2))
    paste(image, *draw(class_index, side, rng), x, y)
    return grain(image, rng)


def background(height: int, width: int, rng: Rng) -> Pixels:
    """What lies behind objects, [height, width, 3]: a texture, and bodies without parts, out of focus."""
    side = max(height, width)
    field = _texture(side, _colour(rng.uniform(0.15, 0.9), rng), rng) * lit(side, 0.2, rng)
    image = picture(field).crop((0, 0, width, height))
    bodies = list(BODIES.values())
    for _ in range(rng.integers(1, 5)):
        points = bodies[rng.integers(len(bodies))] * rng.uniform(0.1, 0.35)
        points = product(points, _pose(rng)) * side + rng.uniform(0, 1, 2) * (width, height)
        fill(ImageDraw.Draw(image), points, ink(_colour(rng.uniform(0.1, 0.95), rng)))
    return np.array(image.filter(ImageFilter.GaussianBlur(side / 64)))


def paste(image: Pixels, rgb: Pixels, mask: NDArray[np.bool_], x: int, y: int) -> None:
    """Lay an object of `draw` into `image` [H, W, 3] in place, its left upper corner at x, y inside."""
    window = image[y : y + len(rgb), x : x + rgb.shape[1]]
    high, wide = window.shape[:2]
    window[mask[:high, :wide]] = rgb[:high, :wide][mask[:high, :wide]]


def grain(image: Pixels, rng: Rng) -> Pixels:
    """`image` with the exposure and the noise of a camera."""
    noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(2, 10))  # [H, W, 3]
    return np.asarray(picture(image * np.float32(rng.uniform(0.75, 1.2)) + noise))


def _pose(rng: Rng) -> Points:
    """A matrix [2, 2]: mirrored or not, stretched, sheared, turned by up to 30 degrees, a little smaller."""
    turn, (wide, high) = rng.uniform(-math.pi / 6, math.pi / 6), rng.uniform(0.72, 0.95, 2)
    turned = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    stretched = np.array([[wide * rng.choice([-1.0, 1.0]), 0.0], [rng.uniform(-0.15, 0.15), high]])
    return product(stretched, turned)


def _colour(value: float, rng: Rng) -> Field:
    return np.array(hue(rng.uniform(), rng.uniform(0.0, 0.8), value), dtype=np.float32)


def _texture(big: int, colour: Field, rng: Rng) -> Field:
    """A field [big, big, 3] of one colour and a shade of it, in one of `TEXTURES`, turned and scaled."""
    across = np.linspace(0, rng.uniform(6, 40), big, dtype=np.float32)  # radians: one to six waves
    turn = rng.uniform(0, math.pi)
    cos, sin = np.float32(math.cos(turn)), np.float32(math.sin(turn))
    x = cos * across[None] + sin * across[:, None]  # [big, big]
    y = cos * across[:, None] - sin * across[None]
    share = TEXTURES[int(rng.integers(len(TEXTURES)))](x, y)
    return np.asarray(colour * (1 - np.float32(rng.uniform(0.1, 0.35)) * share[..., None]))
