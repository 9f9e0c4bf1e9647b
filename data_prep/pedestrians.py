"""Invented pedestrians: a person has a body and clothes, a camera its own colours, view and street.

A picture is a box cut around one person, as a detector cuts it. What is the person's stays: height,
build, skin, hair, clothes and their pattern, shoes, a bag. What is the camera's stays with the
camera: colour cast, exposure, blur, scale, tilt, the direction in which people pass, the street
behind them, how often something stands before them. What is a passage's (one person before one
camera) is shared by its pictures: facing, the place in the street, the cut, the light. Pose, the
rest of the cut, occlusion and noise differ from picture to picture.

Lengths are in body heights: x across the body, y up from the ground, z forwards; pictures are twice
as high as wide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from data_prep.drawing import SUPERSAMPLE, Ink, Rng, hue, ink, near, picture, power, product, shrunk, smooth

Point = tuple[float, float]
Joint = tuple[float, float, float]

PANORAMA = 5  # widths of a picture in a camera's street
PATTERNS = ("plain", "bands", "stripes", "checks", "logo", "block", "panel")
LOWERS = ("trousers", "trousers", "trousers", "shorts", "skirt")
BAGS = ("none", "none", "backpack", "shoulder", "hand")
HAIRS = ("short", "short", "long", "bald", "cap")
SKINS: Sequence[Ink] = ((244, 208, 177), (229, 184, 143), (198, 146, 105), (150, 101, 67), (96, 63, 44))
HAIR_COLOURS: Sequence[Ink] = ((24, 20, 18), (48, 34, 26), (92, 62, 38), (170, 130, 80), (150, 146, 142))


class Look(NamedTuple):
    """How hard a data set is."""

    gap: float  # scales what tells cameras apart
    occ: float  # share of pictures with something before the person
    clutter: float  # things in the street for each width of a picture
    jit: float  # scales what the cut and the pose jitter
    lum: float  # scales what the light does


class Person:
    """One identity, drawn by `rng`. Sizes are factors, patterns and kinds words of the tables above."""

    def __init__(self, rng: Rng) -> None:
        self.height, self.build = rng.uniform(0.9, 1.04), rng.uniform(0.8, 1.3)
        self.skin = near(SKINS[int(rng.integers(len(SKINS)))], 8, rng)
        self.hair = HAIRS[rng.integers(len(HAIRS))]
        self.hair_colour = near(HAIR_COLOURS[int(rng.integers(len(HAIR_COLOURS)))], 10, rng)
        self.upper, self.second = _cloth(rng), _cloth(rng)
        self.pattern, self.bands = PATTERNS[rng.integers(len(PATTERNS))], int(rng.integers(2, 6))
        self.sleeve = bool(rng.uniform() < 0.6)  # down to the hand
        self.hem = float(rng.choice([0.5, 0.46, 0.36], p=[0.5, 0.35, 0.15]))
        self.lower, self.lower_colour = LOWERS[rng.integers(len(LOWERS))], _cloth(rng)
        self.seam = bool(rng.uniform() < 0.2)
        self.shoes = _cloth(rng)
        self.bag, self.bag_colour = BAGS[rng.integers(len(BAGS))], _cloth(rng)
        self.side = int(rng.choice([-1, 1]))  # where the bag hangs


def _cloth(rng: Rng) -> Ink:
    chromatic = rng.uniform() < 0.75  # a quarter of all clothes are black, grey or white
    value = rng.uniform(0.3, 0.95) if chromatic else rng.uniform(0.06, 0.95)
    saturation = rng.uniform(0.45, 1.0) if chromatic else rng.uniform(0.0, 0.06)
    return ink(hue(rng.uniform(), saturation, value))


# -- the camera --

TRAITS = "gamma haze blur noise scale tilt lean facing occ wall ground horizon"
NAMED, LEAKS, GAINS = 12, 9, 3  # traits; the last two from colour channel to channel, and of each channel


def network(height: int, look: Look, count: int, rng: Rng) -> list[Camera]:
    """Draw `count` cameras for pictures of `height` pixels.

    Each trait is drawn from `count` equal parts of its range, one part per camera, so that networks of
    one `gap` are about equally hard, whatever the seed.
    """
    traits = NAMED + LEAKS + GAINS
    parts = rng.permuted(np.tile(np.arange(count), (traits, 1)), axis=1)  # [traits, cameras]
    values = 2 * (parts + rng.uniform(size=parts.shape)) / count - 1
    return [Camera(height, look, column, np.random.default_rng(rng.integers(2**63))) for column in values.T]


class Camera:
    """One camera; `traits` are 24 numbers in -1 .. 1, `rng` draws the street behind the people."""

    def __init__(self, height: int, look: Look, traits: NDArray[np.float64], rng: Rng) -> None:
        gap, self.height, self.look = look.gap, height, look
        t = dict(zip(TRAITS.split(), traits[:NAMED].tolist(), strict=True))
        # channels leak into each other, then have a gain each: [3, 3]
        mixed = np.eye(3) + gap * 0.45 * (1 + traits[NAMED:-GAINS].reshape(3, 3))
        gain = np.array([math.exp(gap * 0.9 * trait) for trait in traits[-GAINS:].tolist()])
        self.colours = np.asarray(mixed / (mixed[0] + mixed[1] + mixed[2]) * 0.95 * gain, dtype=np.float32)
        self.gamma = math.exp(1.2 * gap * t["gamma"])
        self.haze = gap * 0.2 * (1 + t["haze"])  # share of grey in every pixel
        self.blur = gap * 0.6 * (1 + t["blur"]) * height / 64  # pixels
        self.noise = 0.005 + 0.015 * gap * (1 + t["noise"])
        self.scale = 1 + gap * (0.15 * t["scale"] - 0.05)
        self.tilt = gap * 0.35 * (1 + t["tilt"])  # from above
        self.lean = gap * 0.2 * t["lean"]  # to the side
        self.facing = math.pi * t["facing"]  # of most people, in radians
        self.spread = 1.1 - 0.5 * min(1.0, gap)  # of their facing
        self.occ = look.occ * (1 + 0.7 * t["occ"])  # share of pictures with something before the person
        self.street = _street(height * SUPERSAMPLE, look.clutter, t, rng)


class Passage:
    """What the pictures of one person before one camera share; facing 0 is towards it, in radians."""

    def __init__(self, camera: Camera, rng: Rng) -> None:
        jit, lum = camera.look.jit, camera.look.lum
        there_or_back = math.pi * (rng.uniform() < 0.4)
        self.facing = camera.facing + there_or_back + rng.normal(0, camera.spread)
        self.place = rng.uniform()  # in the street, from left to right
        self.shift = jit * rng.normal(0, 0.03), jit * rng.normal(0, 0.02)
        self.scale = 1 + jit * rng.normal(0, 0.04)
        self.light = math.exp(lum * rng.normal(0, 1.5))
        self.ramp = lum * rng.normal(0, 2.0)  # how much more light on the right
        self.stride = rng.uniform(0.02, 0.16)


def _street(height: int, clutter: float, traits: dict[str, float], rng: Rng) -> Image.Image:
    """Wall, ground and things, `PANORAMA` pictures wide."""
    width = PANORAMA * height // 2
    wall = 135 + 45 * traits["wall"] + rng.uniform(-35, 35, (2, 12, 1)) + rng.uniform(-20, 20, (2, 12, 3))
    street = smooth(wall, width, height)
    draw = ImageDraw.Draw(street)
    horizon = int(height * (0.52 + 0.25 * traits["horizon"]))
    ground = 135 + 60 * traits["ground"]
    draw.rectangle((0, horizon, width, height), fill=near((int(ground),) * 3, 10, rng))
    if rng.uniform() < 0.5:  # slabs, a kerb, a zebra crossing
        tone, step = near((int(ground * rng.uniform(0.6, 1.4)),) * 3, 5, rng), rng.uniform(0.2, 0.8)
        for x in np.arange(0, width, height * step / 2):
            far = x + height * rng.uniform(0.1, 0.3)
            draw.line((x, horizon, far, height), fill=tone, width=max(1, int(height * 0.02)))
    for _ in range(rng.poisson(clutter * PANORAMA)):
        x, w, h = rng.uniform(0, width), rng.uniform(0.03, 0.3) * height, rng.uniform(0.1, 0.6) * height
        foot = horizon + rng.uniform(0, 0.5) * (height - horizon)
        shape = draw.ellipse if rng.uniform() < 0.3 else draw.rectangle
        shape((x, foot - h, x + w, foot), fill=near((int(rng.uniform(40, 210)),) * 3, 20, rng))
    return street


# -- the picture --


def render(
    who: Person | None, camera: Camera, passage: Passage, rng: Rng, masked: bool = False
) -> Image.Image:
    """One picture, RGB, `camera.height` × half of it.

    `masked` blurs the face. With nobody in it, it is what a detector cuts by mistake.
    """
    high = camera.height * SUPERSAMPLE
    wide = high // 2
    slack = camera.street.width - wide
    start = int(passage.place * slack)  # of the cut through the street
    if who:
        step = camera.look.jit * rng.normal(0, 0.05) * wide
        start = int(np.clip(passage.place * slack + step, 0, slack))
    box = camera.street.crop((start, 0, start + wide, high))
    if who:
        figure = Figure(box, who, camera, passage, rng)
        figure.body()
        if masked:
            x, y = figure.at((0.0, 0.915, 0.0))
            half = 0.07 * figure.scale
            face = (int(x - half), int(y - half), int(x + half), int(y + half))
            box.paste(box.crop(face).filter(ImageFilter.BoxBlur(half / 2)), face)
    if not who or rng.uniform() < camera.occ:
        _occlude(box, rng)
    return _develop(shrunk(box), camera, passage, rng)


def _occlude(box: Image.Image, rng: Rng) -> None:
    """A post, something low, or a passer-by cut by the side of the picture."""
    wide, high = box.size
    draw, kind, colour = ImageDraw.Draw(box), rng.integers(3), _cloth(rng)
    if kind == 0:
        x = rng.uniform(0.1, 0.8) * wide
        draw.rectangle((x, 0, x + rng.uniform(0.06, 0.16) * wide, high), fill=colour)
    elif kind == 1:
        draw.rectangle((0, rng.uniform(0.65, 0.85) * high, wide, high), fill=colour)
    else:
        x, r, top = rng.choice([0.0, 1.0]) * wide, rng.uniform(0.2, 0.4) * wide, rng.uniform(0.1, 0.3) * high
        draw.rounded_rectangle((x - r, top, x + r, 0.6 * high), 0.6 * r, fill=colour)
        draw.rectangle((x - 0.8 * r, 0.55 * high, x + 0.8 * r, high), fill=_cloth(rng))
        head = (x - 0.4 * r, top - 0.9 * r, x + 0.4 * r, top + 0.1 * r)
        draw.ellipse(head, fill=SKINS[int(rng.integers(5))])


def _develop(box: Image.Image, camera: Camera, passage: Passage, rng: Rng) -> Image.Image:
    """Blur, then the camera's colours, the light of the passage, and noise."""
    if camera.blur > 0.1:
        box = box.filter(ImageFilter.GaussianBlur(camera.blur))
    pixels = np.asarray(box, dtype=np.float32) / np.float32(255)  # [height, width, 3]
    light = passage.light * math.exp(camera.look.lum * rng.normal())
    ramp = 1 + passage.ramp * np.linspace(-1, 1, pixels.shape[1], dtype=np.float32)[None, :, None]
    pixels = np.clip(product(pixels, camera.colours) * (ramp * np.float32(light)), 0, 1.1)
    pixels = power(pixels, float(np.float32(camera.gamma))) * (1 - camera.haze) + camera.haze * 0.6
    pixels = pixels + rng.standard_normal(pixels.shape, dtype=np.float32) * np.float32(camera.noise)
    return picture(pixels * 255)


# -- the body --


class Figure:
    """Draws one body, at one facing, on one picture."""

    def __init__(self, box: Image.Image, who: Person, camera: Camera, passage: Passage, rng: Rng) -> None:
        jit, self.draw, self.who, (wide, high) = camera.look.jit, ImageDraw.Draw(box), who, box.size
        facing = passage.facing + jit * rng.normal(0, 0.2)
        self.cos, self.sin = math.cos(facing), math.sin(facing)
        self.tilt, self.lean = camera.tilt, camera.lean
        self.scale = 0.9 * high * who.height * camera.scale * passage.scale
        self.scale *= 1 + jit * rng.normal(0, 0.03)
        self.left = wide * (0.5 + passage.shift[0] + jit * rng.normal(0, 0.03))
        self.foot = high * (0.95 + passage.shift[1] + jit * rng.normal(0, 0.015))
        self.swing = passage.stride * math.sin(rng.uniform(0, 2 * math.pi))

    def at(self, joint: Joint) -> Point:
        """Where a joint stands in the picture; a tilted camera sees legs shorter, shoulders wider."""
        x, y, z = joint
        across = (x * self.cos + z * self.sin) * (1 + self.tilt * (y - 0.6)) + self.lean * (y - 0.5)
        up = y * (1 - 0.45 * self.tilt * (1 - y))
        return self.left + across * self.scale, self.foot - up * self.scale

    def limb(self, joints: Sequence[Joint], widths: Sequence[float], colour: Ink, shade: float = 1.0) -> None:
        """A chain of joints, as thick at each as `widths` says."""
        points, thick = [self.at(joint) for joint in joints], self.scale * math.sqrt(self.who.build)
        tone = ink(colour, shade)
        for (a, b), (p, q) in zip(pairwise(points), pairwise(widths), strict=True):
            length = math.hypot(b[0] - a[0], b[1] - a[1]) + 1e-6
            # the normal to the chain, half as long as it is thick
            nx, ny = (b[1] - a[1]) / length * thick / 2, (a[0] - b[0]) / length * thick / 2
            quad = [(a[0] + nx * p, a[1] + ny * p), (b[0] + nx * q, b[1] + ny * q)]
            quad += [(b[0] - nx * q, b[1] - ny * q), (a[0] - nx * p, a[1] - ny * p)]
            self.draw.polygon(quad, fill=tone)
            self.ball(b, q * thick / 2, q * thick / 2, tone)

    def ball(self, centre: Point, wide: float, high: float, colour: Ink) -> None:
        """An ellipse; its half axes are in pixels."""
        x, y = centre
        self.draw.ellipse((x - wide, y - high, x + wide, y + high), fill=colour)

    def half(self, across: float, deep: float) -> float:
        """Half the width of an elliptic trunk, seen at the facing."""
        return self.who.build * math.hypot(across * self.cos, deep * self.sin)

    def trunk(self, low: float, high: float, below: float, above: float) -> list[Point]:
        """Corners of a trunk between two heights, of two half widths: left low, left high, right high..."""
        (x0, y0), (x1, y1), s = self.at((0, low, 0)), self.at((0, high, 0)), self.scale
        return [(x0 - below * s, y0), (x1 - above * s, y1), (x1 + above * s, y1), (x0 + below * s, y0)]

    def patch(self, corners: list[Point], u: Point, v: Point, colour: Ink) -> None:
        """The part of a trunk between two shares of its width and two of its height (0 = low)."""
        (ax, ay), (bx, by), (cx, cy), (dx, dy) = corners
        points = []
        for s, t in ((u[0], v[0]), (u[0], v[1]), (u[1], v[1]), (u[1], v[0])):
            left, right = (ax + (bx - ax) * t, ay + (by - ay) * t), (dx + (cx - dx) * t, dy + (cy - dy) * t)
            points.append((left[0] + (right[0] - left[0]) * s, left[1] + (right[1] - left[1]) * s))
        self.draw.polygon(points, fill=colour)

    def body(self) -> None:
        """All parts, from the far ones to the near ones."""
        near_side = 1 if self.sin < 0 else -1
        if self.cos > 0:
            self._backpack()
        self._arm(-near_side, 0.72)
        self._leg(-near_side, 0.75)
        self._leg(near_side, 1.0)
        if self.who.lower == "skirt":
            skirt = self.trunk(0.3, 0.54, self.half(0.14, 0.11), self.half(0.1, 0.08))
            self.draw.polygon(skirt, fill=self.who.lower_colour)
        self._torso()
        self._head()
        self._arm(near_side, 0.88)
        if self.cos <= 0:
            self._backpack()
        self._bag()

    def _leg(self, side: int, shade: float) -> None:
        who, swing, x = self.who, side * self.swing, 0.05 * side * self.who.build
        hip, knee = (x, 0.52, 0.0), (x, 0.28, 0.5 * swing + 0.02)
        ankle = (x, 0.05 + 0.1 * max(0.0, -swing), swing - 0.3 * abs(swing))
        self.limb([ankle, (x, ankle[1] - 0.03, ankle[2] + 0.06)], [0.055, 0.05], who.shoes, shade)
        if who.lower == "trousers":
            self.limb([hip, knee, ankle], [0.115, 0.085, 0.065], who.lower_colour, shade)
            if who.seam:
                self.limb([hip, knee, ankle], [0.02, 0.02, 0.02], who.second, shade)
        else:
            self.limb([hip, knee, ankle], [0.09, 0.065, 0.045], who.skin, shade)
            if who.lower == "shorts":
                self.limb([hip, (x, 0.3, 0.45 * swing + 0.02)], [0.12, 0.115], who.lower_colour, shade)

    def _arm(self, side: int, shade: float) -> None:
        who, swing, x = self.who, -side * self.swing, 0.135 * side * self.who.build
        shoulder, elbow = (x, 0.79, 0.0), (1.12 * x, 0.64, 0.35 * swing - 0.01)
        hand = (1.15 * x, 0.5, 0.9 * swing + 0.02)
        self.limb([shoulder, elbow, hand], [0.06, 0.05, 0.04], who.skin, shade)
        chain = [shoulder, elbow]
        if who.sleeve:
            chain.append((hand[0], hand[1] + 0.03, hand[2]))
        cloth = who.second if who.pattern == "block" else who.upper
        self.limb(chain, [0.075, 0.068, 0.055][: len(chain)], cloth, shade)

    def _torso(self) -> None:
        who, second, n = self.who, self.who.second, self.who.bands
        corners = self.trunk(who.hem, 0.82, self.half(0.115, 0.085), self.half(0.135, 0.08))
        shoulders = self.trunk(0.82, 0.855, self.half(0.135, 0.08), self.half(0.06, 0.05))
        self.draw.polygon(corners, fill=who.upper)
        self.draw.polygon(shoulders, fill=who.upper)
        if who.pattern in ("bands", "checks"):
            for i in range(n):
                self.patch(corners, (0, 1), ((i + 0.3) / n, (i + 0.75) / n), second)
        if who.pattern in ("stripes", "checks"):
            tone = ink(second, 0.6 if who.pattern == "checks" else 1.0)
            for i in range(n):
                self.patch(corners, ((i + 0.3) / n, (i + 0.65) / n), (0, 1), tone)
        if who.pattern == "block":
            self.patch(corners, (0, 1), (0.55, 1), second)
        if who.pattern == "logo":  # narrower from the side
            middle, half = 0.5 + 0.3 * self.sin, (0.14 + 0.04 * n) * abs(self.cos)
            self.patch(corners, (middle - half, middle + half), (0.35 if n % 2 else 0.5, 0.85), second)
        if who.pattern == "panel":
            self.patch(corners, (0.3, 0.7), (0, 1), second)

    def _head(self) -> None:
        who, s = self.who, self.scale
        x, y = self.at((0.0, 0.915, 0.012))
        self.limb([(0.0, 0.83, 0.0), (0.0, 0.88, 0.005)], [0.06, 0.055], who.skin, 0.85)
        if who.hair == "long":
            self.draw.polygon(self.trunk(0.8, 0.92, 0.062, 0.055), fill=who.hair_colour)
        crown = {"bald": who.skin, "cap": who.second}.get(who.hair, who.hair_colour)
        self.ball((x, y - 0.008 * s), 0.056 * s, 0.07 * s, crown)
        if self.cos > -0.5:  # something of the face is seen
            wide = 0.03 + 0.016 * max(0.0, self.cos)
            self.ball((x + 0.03 * self.sin * s, y + 0.016 * s), wide * s, 0.05 * s, who.skin)

    def _backpack(self) -> None:
        """A box behind the trunk: whole from behind, an edge from the side, straps from the front."""
        if self.who.bag != "backpack":
            return
        x, _ = self.at((0.0, 0.68, -0.1))
        corners = self.trunk(0.58, 0.8, self.half(0.07, 0.07), self.half(0.065, 0.055))
        off = x - (corners[1][0] + corners[2][0]) / 2
        corners = [(px + off, py) for px, py in corners]
        self.draw.polygon(corners, fill=self.who.bag_colour)
        self.patch(corners, (0.2, 0.8), (0.1, 0.4), ink(self.who.bag_colour, 0.7))

    def _bag(self) -> None:
        who, side, colour = self.who, self.who.side, self.who.bag_colour
        if who.bag == "backpack" and self.cos > 0:
            for x in (-0.075, 0.075):
                self.limb([(x * who.build, 0.83, 0.05), (x * who.build, 0.6, 0.07)], [0.025, 0.025], colour)
        if who.bag == "shoulder":
            hip, z = side * 0.15 * who.build, 0.08 if self.cos > 0 else -0.08
            self.limb([(-side * 0.08, 0.83, z), (side * 0.11 * who.build, 0.55, z)], [0.02, 0.02], colour)
            self.limb([(hip, 0.5, 0.0), (hip, 0.43, 0.0)], [0.12, 0.13], colour)
        if who.bag == "hand":
            x = side * 0.16 * who.build
            self.limb([(x, 0.47, 0.02), (x, 0.36, 0.02)], [0.04, 0.14], colour)
