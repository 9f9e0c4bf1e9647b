"""Faces of people who do not exist, drawn from numbers.

A person is a shape of head and features and some colours; a picture adds pose, expression, light,
background, and the years that went by. Points lie in a square from -1 to 1, x to the right and y down; a
feature sits on an ellipsoid, so that turning the head moves and narrows it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from data_prep.drawing import (
    SUPERSAMPLE,
    Colour,
    Pixels,
    Points,
    Rng,
    circle,
    fill,
    ink,
    lit,
    picture,
    product,
    shrunk,
)
from data_prep.objects import background, grain

ROUND = circle(24)  # [24, 2]
DEPTH = 0.7  # of the head, in the unit of its width
SKINS = ((244, 208, 177), (231, 180, 143), (208, 151, 113), (174, 116, 78), (134, 84, 56), (92, 58, 42))
HAIRS = ((28, 22, 20), (66, 42, 28), (120, 78, 44), (196, 158, 96), (150, 62, 36), (132, 130, 128))
IRISES = ((70, 44, 28), (96, 130, 168), (92, 118, 74), (40, 30, 26))
STYLES = ("bald", "short", "fringe", "long", "bun")
GREY, RIM = (190, 190, 190), (30, 30, 34)
RANGES: dict[str, tuple[float, float]] = {  # what is there or not, as a beard, is there above 0
    "wide": (0.46, 0.62),
    "high": (0.66, 0.82),
    "jaw": (0.55, 1.0),
    "eye_x": (0.17, 0.27),
    "eye_y": (-0.2, -0.02),
    "eye": (0.065, 0.115),
    "slant": (-0.25, 0.25),
    "lids": (0.4, 0.75),
    "brow_y": (0.1, 0.19),
    "brow": (0.02, 0.065),
    "brow_tilt": (-0.3, 0.3),
    "nose": (0.16, 0.3),
    "nostrils": (0.06, 0.14),
    "mouth_y": (0.3, 0.44),
    "mouth": (0.13, 0.27),
    "lips": (0.03, 0.075),
    "beard": (-2.0, 1.0),
    "mole_x": (-0.3, 0.3),
    "mole_y": (0.05, 0.35),
    "mole": (-0.04, 0.035),
    "hairline": (0.42, 0.66),
    "glasses": (-2.0, 1.0),
}


class Person:
    """What all pictures of somebody have in common; `shape` has a number of each of `RANGES`."""

    def __init__(self, rng: Rng) -> None:
        self.skin, self.hair, self.iris = (
            tuple(np.array(table[int(rng.integers(len(table)))]) * rng.uniform(0.9, 1.1))
            for table in (SKINS, HAIRS, IRISES)
        )
        self.shape = {name: float(rng.uniform(*span)) for name, span in RANGES.items()}
        self.style = STYLES[int(rng.integers(len(STYLES)))]


def render(who: Person, size: int, rng: Rng, yaw: float = 0.4, age: float = 0.0) -> Pixels:
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
    head = Head(behind, who, age, yaw, rng)
    head.outline()
    head.eyes(rng.uniform(0.75, 1.15), rng.uniform(-0.02, 0.03))
    head.nose()
    head.mouth(rng.uniform(-0.05, 0.06), max(0.0, rng.normal(0, 0.03)))
    if age > 0:
        head.lines()
    light = lit(big, 0.35, rng) * rng.uniform(0.9, 1.1, 3).astype(np.float32)  # of some colour
    return grain(np.asarray(shrunk(picture(np.asarray(behind, dtype=np.float32) * light))), rng)


def _oval(x: float, y: float, wide: float, high: float, tilt: float = 0.0) -> Points:
    cos, sin = math.cos(tilt), math.sin(tilt)
    points = product(ROUND * (wide, high), np.array([[cos, sin], [-sin, cos]]))
    return np.asarray(points + np.array([x, y]))


def _mixed(colour: Colour, other: Colour, share: float) -> Colour:
    r, g, b = (v + (w - v) * min(share, 1.0) for v, w in zip(colour, other, strict=True))
    return r, g, b


class Head:
    """Draws shapes that sit on one head, in one pose, into a square image."""

    def __init__(self, image: Image.Image, who: Person, age: float, yaw: float, rng: Rng) -> None:
        self.draw, self.side, self.who, self.age = ImageDraw.Draw(image), image.size[0], who, age
        self.radii = np.array([who.shape["wide"], who.shape["high"]])
        # angles in radians, then size and place in the picture
        self.yaw, self.pitch, self.roll = rng.uniform(-yaw, yaw), rng.uniform(-0.2, 0.2), rng.normal(0, 0.07)
        self.scale, (self.x, self.y) = rng.uniform(0.92, 1.08), rng.uniform(-0.05, 0.05, 2)

    def fill(self, points: Points, colour: Colour, shade: float = 1.0) -> None:
        """A polygon [n, 2] on the head."""
        fill(self.draw, self.seen(points), ink(colour, shade))

    def line(self, points: Any, colour: Colour, thick: float, shade: float = 1.0) -> None:
        """A line along points [n, 2] on the head."""
        places = [(x, y) for x, y in self.seen(np.asarray(points)).tolist()]
        self.draw.line(places, fill=ink(colour, shade), width=max(1, round(thick * self.side / 2)))

    def seen(self, points: Points) -> Points:
        """Pixels [n, 2] of points of the head: turned about its axes, then in the plane, then moved."""
        x, y = points.T
        across, along = ((points / self.radii) ** 2).T
        front = np.sqrt(np.clip(1 - (across + along), 0, 1))  # 1 in the middle, 0 at the edge
        z = DEPTH * self.radii[0] * front  # towards us, on the ellipsoid
        edge = math.hypot(math.cos(self.yaw), DEPTH * math.sin(self.yaw))  # the outline narrows less
        x = x * (front * math.cos(self.yaw) + (1 - front) * edge) + z * math.sin(self.yaw)
        y = y * math.cos(self.pitch) + z * math.sin(self.pitch)
        cos, sin = self.scale * math.cos(self.roll), self.scale * math.sin(self.roll)
        x, y = x * cos - y * sin + self.x, x * sin + y * cos + self.y + 0.08
        return np.column_stack([(x + 1) * self.side / 2, (y + 1) * self.side / 2])

    def outline(self) -> None:
        """Hair behind, neck, head, ears, beard, hair in front."""
        s, skin, style = self.who.shape, self.who.skin, self.who.style
        wide, high, hair = s["wide"], s["high"], _mixed(self.who.hair, GREY, self.age)
        if style == "long":
            self.fill(_oval(0, 0.15, 1.25 * wide, 1.15 * high), hair)
        if style == "bun":
            self.fill(_oval(0, -1.02 * high, 0.45 * wide, 0.3 * high), hair)
        if style != "bald":
            self.fill(_oval(0, -0.12, 1.1 * wide, 1.02 * high), hair)
        self.fill(_oval(0, 0.95 * high, 0.55 * wide, 0.45 * high), skin, 0.8)
        for side in (-1, 1):
            self.fill(_oval(side * wide, 0.02, 0.09, 0.15), skin, 0.9)
        outline = _oval(0, 0, wide, high)
        lower = np.clip(outline[:, 1] / high, 0, 1)  # a narrow jaw draws the lower half in
        outline[:, 0] *= 1 - (1 - s["jaw"]) * lower**2
        self.fill(outline, skin)
        if s["beard"] > 0:
            chin = outline[outline[:, 1] > 0.15 * high] * (0.98, 0.99)
            self.fill(chin, _mixed(skin, hair, 0.4 + 0.6 * s["beard"]))
        if style != "bald":
            top = outline[outline[:, 1] < -s["hairline"] * high * (0.75 if style == "fringe" else 1.0)]
            self.fill(top * (1.02, 1.04), hair)  # stands out a little

    def eyes(self, opened: float, raised: float) -> None:
        """With brows, `raised` by so much, and glasses."""
        s = self.who.shape
        y, r = s["eye_y"], s["eye"]
        for side in (-1, 1):
            x = side * s["eye_x"]
            self.fill(_oval(x, y, r, r * s["lids"] * opened, side * s["slant"]), (240, 240, 236))
            self.fill(_oval(x, y, 0.5 * r, min(0.5, s["lids"] * opened) * r), self.who.iris)
            self.fill(_oval(x, y, 0.22 * r, 0.22 * r), (12, 12, 12))
            brow = _oval(x * 1.05, y - s["brow_y"] - raised, 1.5 * r, s["brow"], side * s["brow_tilt"])
            self.fill(brow, self.who.hair, 0.8)
            if s["glasses"] > 0:
                ring = _oval(x, y, 1.6 * r, 1.45 * r)
                self.line(np.concatenate([ring, ring[:1]]), RIM, 0.025)
        if s["glasses"] > 0:
            bridge = s["eye_x"] - 1.6 * r  # half of it, between the rims
            self.line([(-bridge, y), (bridge, y)], RIM, 0.025)

    def nose(self) -> None:
        """Ridge, tip, nostrils, and a mole."""
        s, skin = self.who.shape, self.who.skin
        tip, wide = s["eye_y"] + s["nose"], s["nostrils"]
        self.fill(np.array([(-0.03, s["eye_y"]), (0.03, s["eye_y"]), (wide, tip), (-wide, tip)]), skin, 0.9)
        self.fill(_oval(0, tip, wide, 0.045), skin, 0.84)
        for side in (-1, 1):
            self.fill(_oval(side * 0.5 * wide, tip + 0.015, 0.022, 0.014), skin, 0.5)
        if s["mole"] > 0:
            self.fill(_oval(s["mole_x"], s["mole_y"], s["mole"], s["mole"]), skin, 0.45)

    def mouth(self, smile: float, opened: float) -> None:
        """Lips, and teeth where it is open."""
        s, inside = self.who.shape, (80, 24, 28) if opened < 0.03 else (236, 230, 222)
        lips = s["mouth"], s["lips"] + opened, _mixed(self.who.skin, (170, 40, 52), 0.55)
        for wide, high, colour in (lips, (0.8 * s["mouth"], 0.012 + opened, inside)):
            part = _oval(0, s["mouth_y"], wide, high)
            part[:, 1] -= smile * (part[:, 0] / s["mouth"]) ** 2  # the corners go up
            self.fill(part, colour)

    def lines(self) -> None:
        """On the forehead and beside the mouth, the darker the older."""
        s, skin, shade = self.who.shape, self.who.skin, 1 - 0.4 * self.age
        for k in (1, 2):
            y = s["eye_y"] - s["brow_y"] - 0.07 * k
            self.line([(-0.2, y), (0, y - 0.015), (0.2, y)], skin, 0.02, shade)
        for side in (-1, 1):
            fold = [(side * s["nostrils"], s["mouth_y"] - 0.12), (side * s["mouth"], s["mouth_y"])]
            self.line(fold, skin, 0.02, shade)
