"""Faces of people who do not exist, drawn from numbers.

A person is a shape of head and features and some colours; a picture adds pose, expression, light,
background, and the years that went by. Points lie in a square from -1 to 1, x to the right and y down; a
feature sits on an ellipsoid, so that turning the head moves and narrows it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from data_prep.objects import Pixels, background, grain
from data_prep.steady import Points, circle, product

Colour = tuple[float, float, float]

SUPERSAMPLE = 3  # drawn three times as large: Pillow's polygons have no smooth edges
ROUND = circle(24)
DEPTH = 0.7  # of the head, in the unit of its width

SKINS: Sequence[Colour] = (
    (244, 208, 177), (231, 180, 143), (208, 151, 113), (174, 116, 78), (134, 84, 56), (92, 58, 42),
)  # fmt: skip
HAIRS: Sequence[Colour] = (
    (28, 22, 20), (66, 42, 28), (120, 78, 44), (196, 158, 96), (150, 62, 36), (132, 130, 128),
)  # fmt: skip
IRISES: Sequence[Colour] = ((70, 44, 28), (96, 130, 168), (92, 118, 74), (40, 30, 26))
STYLES = ("bald", "short", "fringe", "long", "bun")
GREY: Colour = (190, 190, 190)
RANGES: dict[str, tuple[float, float]] = {
    "wide": (0.46, 0.62), "high": (0.66, 0.82), "jaw": (0.55, 1.0), "eye_x": (0.17, 0.27),
    "eye_y": (-0.2, -0.02), "eye": (0.065, 0.115), "slant": (-0.25, 0.25), "lids": (0.4, 0.75),
    "brow_y": (0.1, 0.19), "brow": (0.02, 0.065), "brow_tilt": (-0.3, 0.3), "nose": (0.16, 0.3),
    "nostrils": (0.06, 0.14), "mouth_y": (0.3, 0.44), "mouth": (0.13, 0.27), "lips": (0.03, 0.075),
    "beard": (-2.0, 1.0), "mole_x": (-0.3, 0.3), "mole_y": (0.05, 0.35), "mole": (-0.04, 0.035),
    "hairline": (0.42, 0.66), "glasses": (-2.0, 1.0),
}  # fmt: skip


class Person(NamedTuple):
    """What all pictures of somebody have in common; `shape` has a number of each of `RANGES`."""

    skin: Colour
    hair: Colour
    iris: Colour
    style: str
    shape: dict[str, float]


class Pose(NamedTuple):
    """How the head is held, angles in radians, and where in the picture."""

    yaw: float
    pitch: float
    roll: float
    scale: float
    x: float
    y: float


def person(rng: np.random.Generator) -> Person:
    """Somebody new."""
    colours = (SKINS, HAIRS, IRISES)
    skin, hair, iris = (_varied(each[int(rng.integers(len(each)))], rng) for each in colours)
    shape = {name: float(rng.uniform(*span)) for name, span in RANGES.items()}
    return Person(skin, hair, iris, STYLES[int(rng.integers(len(STYLES)))], shape)


def picture(who: Person, size: int, rng: np.random.Generator, yaw: float = 0.4, age: float = 0.0) -> Pixels:
    """One picture of somebody, [size, size, 3].

    Args:
        who: the person.
        size: side in pixels.
        rng: gives pose, expression, light and background.
        yaw: the head is turned by up to this angle, in radians, to either side; 1.2 is nearly a profile.
        age: 0 … 1, how many years went by: hair turns grey and lines appear.
    """
    big = size * SUPERSAMPLE
    behind = Image.fromarray(background(size, size, rng)).resize((big, big), Image.Resampling.BILINEAR)
    pose = Pose(
        rng.uniform(-yaw, yaw), rng.uniform(-0.2, 0.2), rng.normal(0, 0.07), rng.uniform(0.92, 1.08),
        *rng.uniform(-0.05, 0.05, 2),
    )  # fmt: skip
    brush = _Brush(behind, who.shape, pose)
    _head(brush, who, age)
    _eyes(brush, who, rng.uniform(0.75, 1.15), rng.uniform(-0.02, 0.03))
    _nose(brush, who)
    _mouth(brush, who, rng.uniform(-0.05, 0.06), max(0.0, rng.normal(0, 0.03)))
    _lines(brush, who, age)
    lit = np.asarray(behind, dtype=np.float32) * _light(big, rng)
    small = Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8)).resize((size, size), Image.Resampling.BOX)
    return grain(np.asarray(small), rng)


class _Brush:
    """Draws shapes that sit on a head into a square image."""

    def __init__(self, image: Image.Image, shape: dict[str, float], pose: Pose) -> None:
        self.draw = ImageDraw.Draw(image)
        self.side = image.size[0]
        self.radii = np.array([shape["wide"], shape["high"]])
        self.pose = pose

    def fill(self, points: Points, colour: Colour) -> None:
        """A polygon [n, 2]."""
        self.draw.polygon(self._seen(points), fill=_bytes(colour))

    def line(self, points: Points, colour: Colour, thick: float) -> None:
        """A line along points [n, 2]."""
        self.draw.line(self._seen(points), fill=_bytes(colour), width=max(1, round(thick * self.side / 2)))

    def _seen(self, points: Points) -> list[tuple[float, float]]:
        """Pixels of points of the head: turned about its axes, then in the plane, then moved."""
        pose, (x, y) = self.pose, points.T
        across, along = ((points / self.radii) ** 2).T
        front = np.sqrt(np.clip(1 - (across + along), 0, 1))  # 1 in the middle, 0 at the edge
        z = DEPTH * self.radii[0] * front
        edge = math.hypot(
            math.cos(pose.yaw), DEPTH * math.sin(pose.yaw)
        )  # the outline narrows less than that
        x = x * (front * math.cos(pose.yaw) + (1 - front) * edge) + z * math.sin(pose.yaw)
        y = y * math.cos(pose.pitch) + z * math.sin(pose.pitch)
        cos, sin = pose.scale * math.cos(pose.roll), pose.scale * math.sin(pose.roll)
        x, y = x * cos - y * sin + pose.x, x * sin + y * cos + pose.y + 0.08
        return [
            (float(a), float(b))
            for a, b in zip((x + 1) * self.side / 2, (y + 1) * self.side / 2, strict=True)
        ]


def _oval(x: float, y: float, wide: float, high: float, tilt: float = 0.0) -> Points:
    cos, sin = math.cos(tilt), math.sin(tilt)
    points = product(ROUND * (wide, high), np.array([[cos, sin], [-sin, cos]]))
    return np.asarray(points + np.array([x, y]))


def _head(brush: _Brush, who: Person, age: float) -> None:
    """Hair behind, neck, outline, ears, beard, hair in front."""
    s, hair = who.shape, _mixed(who.hair, GREY, age)
    wide, high = s["wide"], s["high"]
    if who.style == "long":
        brush.fill(_oval(0, 0.15, 1.25 * wide, 1.15 * high), hair)
    if who.style == "bun":
        brush.fill(_oval(0, -1.02 * high, 0.45 * wide, 0.3 * high), hair)
    if who.style != "bald":
        brush.fill(_oval(0, -0.12, 1.1 * wide, 1.02 * high), hair)
    brush.fill(_oval(0, 0.95 * high, 0.55 * wide, 0.45 * high), _shade(who.skin, 0.8))
    for side in (-1, 1):
        brush.fill(_oval(side * wide, 0.02, 0.09, 0.15), _shade(who.skin, 0.9))
    outline = _oval(0, 0, wide, high)
    lower = np.clip(outline[:, 1] / high, 0, 1)  # a narrow jaw draws the lower half in
    outline[:, 0] *= 1 - (1 - s["jaw"]) * lower**2
    brush.fill(outline, who.skin)
    if s["beard"] > 0:
        chin = outline[outline[:, 1] > 0.15 * high] * (0.98, 0.99)
        brush.fill(chin, _mixed(who.skin, hair, 0.4 + 0.6 * s["beard"]))
    if who.style != "bald":
        top = outline[outline[:, 1] < -s["hairline"] * high * (0.75 if who.style == "fringe" else 1.0)]
        brush.fill(top * (1.02, 1.04), hair)


def _eyes(brush: _Brush, who: Person, opened: float, raised: float) -> None:
    s, dark = who.shape, _shade(who.hair, 0.8)
    for side in (-1, 1):
        x, y, r = side * s["eye_x"], s["eye_y"], s["eye"]
        brush.fill(_oval(x, y, r, r * s["lids"] * opened, side * s["slant"]), (240, 240, 236))
        brush.fill(_oval(x, y, 0.5 * r, min(0.5, s["lids"] * opened) * r), who.iris)
        brush.fill(_oval(x, y, 0.22 * r, 0.22 * r), (12, 12, 12))
        brow = y - s["brow_y"] - raised
        brush.fill(_oval(x * 1.05, brow, 1.5 * r, s["brow"], side * s["brow_tilt"]), dark)
        if s["glasses"] > 0:
            ring = _oval(x, y, 1.6 * r, 1.45 * r)
            brush.line(np.concatenate([ring, ring[:1]]), (30, 30, 34), 0.025)
    if s["glasses"] > 0:
        bridge = s["eye_x"] - 1.6 * s["eye"]
        brush.line(np.array([(-bridge, s["eye_y"]), (bridge, s["eye_y"])]), (30, 30, 34), 0.025)


def _nose(brush: _Brush, who: Person) -> None:
    s, tip, wide = who.shape, who.shape["eye_y"] + who.shape["nose"], who.shape["nostrils"]
    ridge = np.array([(-0.03, s["eye_y"]), (0.03, s["eye_y"]), (wide, tip), (-wide, tip)])
    brush.fill(ridge, _shade(who.skin, 0.9))
    brush.fill(_oval(0, tip, s["nostrils"], 0.045), _shade(who.skin, 0.84))
    for side in (-1, 1):
        brush.fill(_oval(side * 0.5 * s["nostrils"], tip + 0.015, 0.022, 0.014), _shade(who.skin, 0.5))
    if s["mole"] > 0:
        brush.fill(_oval(s["mole_x"], s["mole_y"], s["mole"], s["mole"]), _shade(who.skin, 0.45))


def _mouth(brush: _Brush, who: Person, smile: float, opened: float) -> None:
    s = who.shape
    mouth = _oval(0, s["mouth_y"], s["mouth"], s["lips"] + opened)
    mouth[:, 1] -= smile * (mouth[:, 0] / s["mouth"]) ** 2  # the corners go up
    brush.fill(mouth, _mixed(who.skin, (170, 40, 52), 0.55))
    inner = _oval(0, s["mouth_y"], 0.8 * s["mouth"], 0.012 + opened)
    inner[:, 1] -= smile * (inner[:, 0] / s["mouth"]) ** 2
    brush.fill(inner, (80, 24, 28) if opened < 0.03 else (236, 230, 222))


def _lines(brush: _Brush, who: Person, age: float) -> None:
    """On the forehead and beside the mouth, the darker the older."""
    if age <= 0:
        return
    s, colour = who.shape, _shade(who.skin, 1 - 0.4 * age)
    for k in (1, 2):
        y = s["eye_y"] - s["brow_y"] - 0.07 * k
        brush.line(np.array([(-0.2, y), (0, y - 0.015), (0.2, y)]), colour, 0.02)
    for side in (-1, 1):
        brush.line(np.array([(side * s["nostrils"], s["mouth_y"] - 0.12), (side * s["mouth"], s["mouth_y"])]),
                   colour, 0.02)  # fmt: skip


def _light(big: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Light of some colour from one side, [big, big, 3]."""
    across = np.linspace(-1, 1, big, dtype=np.float32)
    x, y = (np.float32(v) for v in rng.uniform(-0.35, 0.35, 2))
    tone = rng.uniform(0.9, 1.1, 3).astype(np.float32)
    return np.asarray((1 + x * across[None] + y * across[:, None])[..., None] * tone)


def _varied(colour: Colour, rng: np.random.Generator) -> Colour:
    r, g, b = (float(v) for v in np.array(colour) * rng.uniform(0.9, 1.1))
    return r, g, b


def _shade(colour: Colour, factor: float) -> Colour:
    r, g, b = (v * factor for v in colour)
    return r, g, b


def _mixed(colour: Colour, other: Colour, share: float) -> Colour:
    r, g, b = (v + (w - v) * min(share, 1.0) for v, w in zip(colour, other, strict=True))
    return r, g, b


def _bytes(colour: Colour) -> tuple[int, int, int]:
    r, g, b = (int(np.clip(v, 0, 255)) for v in colour)
    return r, g, b
