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

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from data_prep.steady import hue, power, product

Colour = tuple[int, int, int]
Point = tuple[float, float]
Joint = tuple[float, float, float]

SUPERSAMPLE = 3  # drawn three times as large: Pillow's polygons have no smooth edges
PANORAMA = 5  # widths of a picture in a camera's street

PATTERNS = ("plain", "bands", "stripes", "checks", "logo", "block", "panel")
LOWERS = ("trousers", "trousers", "trousers", "shorts", "skirt")
BAGS = ("none", "none", "backpack", "shoulder", "hand")
HAIRS = ("short", "short", "long", "bald", "cap")
SKINS = ((244, 208, 177), (229, 184, 143), (198, 146, 105), (150, 101, 67), (96, 63, 44))
HAIR_COLOURS = ((24, 20, 18), (48, 34, 26), (92, 62, 38), (170, 130, 80), (150, 146, 142))


@dataclass(frozen=True)
class Look:
    """How hard a data set is.

    `gap` scales what tells cameras apart, `occ` is the share of pictures with something before the
    person, `clutter` the number of things in the street for each width of a picture, `jit` scales
    what the cut and the pose jitter, `lum` what the light does.
    """

    gap: float
    occ: float
    clutter: float
    jit: float
    lum: float


@dataclass(frozen=True)
class Person:
    """One identity. Sizes are factors, patterns and kinds words of the tables above."""

    height: float
    build: float
    skin: Colour
    hair: str
    hair_colour: Colour
    upper: Colour
    second: Colour
    pattern: str
    bands: int
    sleeve: bool
    hem: float
    lower: str
    lower_colour: Colour
    seam: bool
    shoes: Colour
    bag: str
    bag_colour: Colour
    side: int


def person(rng: np.random.Generator) -> Person:
    """Draw an identity."""
    return Person(
        height=rng.uniform(0.9, 1.04),
        build=rng.uniform(0.8, 1.3),
        skin=_near(SKINS[rng.integers(len(SKINS))], 8, rng),
        hair=HAIRS[rng.integers(len(HAIRS))],
        hair_colour=_near(HAIR_COLOURS[rng.integers(len(HAIR_COLOURS))], 10, rng),
        upper=_cloth(rng),
        second=_cloth(rng),
        pattern=PATTERNS[rng.integers(len(PATTERNS))],
        bands=int(rng.integers(2, 6)),
        sleeve=bool(rng.uniform() < 0.6),
        hem=rng.choice([0.5, 0.46, 0.36], p=[0.5, 0.35, 0.15]),
        lower=LOWERS[rng.integers(len(LOWERS))],
        lower_colour=_cloth(rng),
        seam=bool(rng.uniform() < 0.2),
        shoes=_cloth(rng),
        bag=BAGS[rng.integers(len(BAGS))],
        bag_colour=_cloth(rng),
        side=int(rng.choice([-1, 1])),
    )


def _cloth(rng: np.random.Generator) -> Colour:
    """A quarter of all clothes are black, grey or white."""
    chromatic = rng.uniform() < 0.75
    value = rng.uniform(0.3, 0.95) if chromatic else rng.uniform(0.06, 0.95)
    saturation = rng.uniform(0.45, 1.0) if chromatic else rng.uniform(0.0, 0.06)
    r, g, b = map(int, hue(rng.uniform(), saturation, value))
    return r, g, b


def _near(colour: Colour, by: float, rng: np.random.Generator) -> Colour:
    r, g, b = (int(v) for v in np.clip(np.add(colour, rng.normal(0, by, 3)), 0, 255))
    return r, g, b


def _dim(colour: Colour, shade: float) -> Colour:
    r, g, b = colour
    return int(min(255.0, r * shade)), int(min(255.0, g * shade)), int(min(255.0, b * shade))


@dataclass(frozen=True)
class Passage:
    """One person before one camera: facing in radians (0 towards it), place in the street, cut, light."""

    facing: float
    place: float
    shift: Point
    scale: float
    light: float
    ramp: float
    stride: float


TRAITS = (
    "gamma", "haze", "blur", "noise", "scale", "tilt", "lean", "facing", "occ", "wall", "ground", "horizon",
)  # fmt: skip
LEAKS = 9  # from channel to channel
GAINS = 3


def network(height: int, look: Look, count: int, rng: np.random.Generator) -> list[Camera]:
    """Draw `count` cameras for pictures of `height` pixels.

    Each trait is drawn from `count` equal parts of its range, one part a camera, so that networks of
    one `gap` are about equally hard, whatever the seed.
    """
    traits = len(TRAITS) + LEAKS + GAINS
    parts = rng.permuted(np.tile(np.arange(count), (traits, 1)), axis=1)
    values = 2 * (parts + rng.uniform(size=parts.shape)) / count - 1
    return [Camera(height, look, column, np.random.default_rng(rng.integers(2**63))) for column in values.T]


class Camera:
    """One camera; `traits` are 24 numbers in -1 .. 1, `rng` draws the street behind the people."""

    def __init__(
        self, height: int, look: Look, traits: NDArray[np.float64], rng: np.random.Generator
    ) -> None:
        gap, self.height, self.look = look.gap, height, look
        t = dict(zip(TRAITS, traits.tolist(), strict=False))
        leaks, gains = traits[len(TRAITS) : -GAINS].reshape(3, 3), traits[-GAINS:]
        self.colours = _colours(gap, leaks, gains)
        self.gamma = math.exp(1.2 * gap * t["gamma"])
        self.haze = gap * 0.2 * (1 + t["haze"])
        self.blur = gap * 0.6 * (1 + t["blur"]) * height / 64
        self.noise = 0.005 + 0.015 * gap * (1 + t["noise"])
        self.scale = 1 + gap * (0.15 * t["scale"] - 0.05)
        self.tilt = gap * 0.35 * (1 + t["tilt"])
        self.lean = gap * 0.2 * t["lean"]
        self.facing = math.pi * t["facing"]
        self.spread = 1.1 - 0.5 * min(1.0, gap)
        self.occ = look.occ * (1 + 0.7 * t["occ"])
        self.street = _street(height * SUPERSAMPLE, look.clutter, t, rng)

    def passage(self, rng: np.random.Generator) -> Passage:
        """Draw what the pictures of one person before this camera share."""
        jit, lum = self.look.jit, self.look.lum
        there_or_back = math.pi * (rng.uniform() < 0.4)
        return Passage(
            facing=self.facing + there_or_back + rng.normal(0, self.spread),
            place=rng.uniform(),
            shift=(jit * rng.normal(0, 0.03), jit * rng.normal(0, 0.02)),
            scale=1 + jit * rng.normal(0, 0.04),
            light=math.exp(lum * rng.normal(0, 1.5)),
            ramp=lum * rng.normal(0, 2.0),
            stride=rng.uniform(0.02, 0.16),
        )


def _colours(gap: float, leaks: NDArray[np.float64], gains: NDArray[np.float64]) -> NDArray[np.float32]:
    """A camera's colours [3, 3]: its channels leak into each other, then have a gain each."""
    mixed = np.eye(3) + gap * 0.45 * (1 + leaks)
    gain = np.array([math.exp(gap * 0.9 * each) for each in gains.tolist()])
    return np.asarray(mixed / (mixed[0] + mixed[1] + mixed[2]) * 0.95 * gain, dtype=np.float32)


def _street(height: int, clutter: float, traits: dict[str, float], rng: np.random.Generator) -> Image.Image:
    """Wall, ground and things, `PANORAMA` pictures wide."""
    width = PANORAMA * height // 2
    wall = 135 + 45 * traits["wall"] + rng.uniform(-35, 35, (2, 12, 1)) + rng.uniform(-20, 20, (2, 12, 3))
    picture = Image.fromarray(wall.astype(np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    horizon = int(height * (0.52 + 0.25 * traits["horizon"]))
    ground = 135 + 60 * traits["ground"]
    draw.rectangle((0, horizon, width, height), fill=_near((int(ground),) * 3, 10, rng))
    if rng.uniform() < 0.5:  # slabs, a kerb, a zebra crossing
        tone, step = _near((int(ground * rng.uniform(0.6, 1.4)),) * 3, 5, rng), rng.uniform(0.2, 0.8)
        for x in np.arange(0, width, height * step / 2):
            far = x + height * rng.uniform(0.1, 0.3)
            draw.line((x, horizon, far, height), fill=tone, width=max(1, int(height * 0.02)))
    for _ in range(rng.poisson(clutter * PANORAMA)):
        x, w, h = rng.uniform(0, width), rng.uniform(0.03, 0.3) * height, rng.uniform(0.1, 0.6) * height
        foot = horizon + rng.uniform(0, 0.5) * (height - horizon)
        box = (x, foot - h, x + w, foot)
        (draw.ellipse if rng.uniform() < 0.3 else draw.rectangle)(
            box, fill=_near((int(rng.uniform(40, 210)),) * 3, 20, rng)
        )
    return picture


class Figure:
    """Draws parts of one body, at one facing, on one picture."""

    def __init__(
        self, picture: Image.Image, who: Person, camera: Camera, passage: Passage, rng: np.random.Generator
    ) -> None:
        jit = camera.look.jit
        self.draw, self.who = ImageDraw.Draw(picture), who
        self.wide, self.high = picture.size
        facing = passage.facing + jit * rng.normal(0, 0.2)
        self.cos, self.sin = math.cos(facing), math.sin(facing)
        self.tilt, self.lean = camera.tilt, camera.lean
        self.scale = 0.9 * self.high * who.height * camera.scale * passage.scale
        self.scale *= 1 + jit * rng.normal(0, 0.03)
        self.left = self.wide * (0.5 + passage.shift[0] + jit * rng.normal(0, 0.03))
        self.foot = self.high * (0.95 + passage.shift[1] + jit * rng.normal(0, 0.015))
        self.swing = passage.stride * math.sin(rng.uniform(0, 2 * math.pi))

    def at(self, joint: Joint) -> Point:
        """Where a joint stands in the picture; a tilted camera sees legs shorter, shoulders wider."""
        x, y, z = joint
        across = (x * self.cos + z * self.sin) * (1 + self.tilt * (y - 0.6)) + self.lean * (y - 0.5)
        up = y * (1 - 0.45 * self.tilt * (1 - y))
        return self.left + across * self.scale, self.foot - up * self.scale

    def half(self, across: float, deep: float) -> float:
        """Half the width of an elliptic trunk, seen at the facing."""
        return self.who.build * math.hypot(across * self.cos, deep * self.sin)

    def plate(self, points: Sequence[Point], colour: Colour) -> None:
        """A polygon in the picture."""
        self.draw.polygon(points, fill=colour)

    def limb(self, joints: Sequence[Joint], widths: Sequence[float], colour: Colour) -> None:
        """A chain of joints, as thick at each as `widths` says."""
        points, thick = [self.at(j) for j in joints], self.scale * math.sqrt(self.who.build)
        for (a, b), (p, q) in zip(pairwise(points), pairwise(widths), strict=True):
            length = math.hypot(b[0] - a[0], b[1] - a[1]) + 1e-6
            nx, ny = (b[1] - a[1]) / length * thick / 2, (a[0] - b[0]) / length * thick / 2
            quad = [(a[0] + nx * p, a[1] + ny * p), (b[0] + nx * q, b[1] + ny * q)]
            quad += [(b[0] - nx * q, b[1] - ny * q), (a[0] - nx * p, a[1] - ny * p)]
            self.plate(quad, colour)
            self.ball(b, q * thick / 2, q * thick / 2, colour)

    def ball(self, centre: Point, wide: float, high: float, colour: Colour) -> None:
        """An ellipse; its half axes are in pixels."""
        x, y = centre
        self.draw.ellipse((x - wide, y - high, x + wide, y + high), fill=colour)

    def trunk(self, low: float, high: float, below: float, above: float) -> list[Point]:
        """Corners of a trunk between two heights, of two half widths: left low, left high, right high..."""
        (x0, y0), (x1, y1), s = self.at((0, low, 0)), self.at((0, high, 0)), self.scale
        return [(x0 - below * s, y0), (x1 - above * s, y1), (x1 + above * s, y1), (x0 + below * s, y0)]


def _patch(corners: list[Point], u: Point, v: Point) -> list[Point]:
    """The part of a trunk between two shares of its width and two of its height (0 = low)."""
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = corners
    points = []
    for s, t in ((u[0], v[0]), (u[0], v[1]), (u[1], v[1]), (u[1], v[0])):
        left, right = (ax + (bx - ax) * t, ay + (by - ay) * t), (dx + (cx - dx) * t, dy + (cy - dy) * t)
        points.append((left[0] + (right[0] - left[0]) * s, left[1] + (right[1] - left[1]) * s))
    return points


def render(
    who: Person, camera: Camera, passage: Passage, rng: np.random.Generator, masked: bool = False
) -> Image.Image:
    """One picture, RGB, `camera.height` × half of it; `masked` blurs the face."""
    high = camera.height * SUPERSAMPLE
    wide = high // 2
    slack = camera.street.width - wide
    start = int(np.clip(passage.place * slack + camera.look.jit * rng.normal(0, 0.05) * wide, 0, slack))
    picture = camera.street.crop((start, 0, start + wide, high))
    figure = Figure(picture, who, camera, passage, rng)
    _body(figure)
    if masked:
        _mask(picture, figure)
    if rng.uniform() < camera.occ:
        _occlude(picture, rng)
    small = picture.resize((camera.height // 2, camera.height), Image.Resampling.BOX)
    return _develop(small, camera, passage, rng)


def backdrop(camera: Camera, rng: np.random.Generator) -> Image.Image:
    """A picture without a person: what a detector cuts by mistake."""
    passage = camera.passage(rng)
    high = camera.height * SUPERSAMPLE
    start = int(passage.place * (camera.street.width - high // 2))
    picture = camera.street.crop((start, 0, start + high // 2, high))
    _occlude(picture, rng)
    small = picture.resize((camera.height // 2, camera.height), Image.Resampling.BOX)
    return _develop(small, camera, passage, rng)


def _body(f: Figure) -> None:
    near = 1 if f.sin < 0 else -1  # the side of the body that is nearer to the camera
    front = f.cos > 0
    if front:
        _backpack(f)
    _arm(f, -near, 0.72)
    _leg(f, -near, 0.75)
    _leg(f, near, 1.0)
    if f.who.lower == "skirt":
        low, high = f.half(0.14, 0.11), f.half(0.1, 0.08)
        f.plate(f.trunk(0.3, 0.54, low, high), f.who.lower_colour)
    _torso(f)
    _head(f)
    _arm(f, near, 0.88)
    if not front:
        _backpack(f)
    _bag(f)


def _leg(f: Figure, side: int, shade: float) -> None:
    who, swing = f.who, side * f.swing
    x = 0.05 * side * who.build
    hip, knee = (x, 0.52, 0.0), (x, 0.28, 0.5 * swing + 0.02)
    ankle = (x, 0.05 + 0.1 * max(0.0, -swing), swing - 0.3 * abs(swing))
    skin, cloth = _dim(who.skin, shade), _dim(who.lower_colour, shade)
    toe = (x, ankle[1] - 0.03, ankle[2] + 0.06)
    f.limb([ankle, toe], [0.055, 0.05], _dim(who.shoes, shade))
    if who.lower == "trousers":
        f.limb([hip, knee, ankle], [0.115, 0.085, 0.065], cloth)
        if who.seam:
            f.limb([hip, knee, ankle], [0.02, 0.02, 0.02], _dim(who.second, shade))
    else:
        f.limb([hip, knee, ankle], [0.09, 0.065, 0.045], skin)
        if who.lower == "shorts":
            f.limb([hip, (x, 0.3, 0.45 * swing + 0.02)], [0.12, 0.115], cloth)


def _arm(f: Figure, side: int, shade: float) -> None:
    who, swing = f.who, -side * f.swing
    x = 0.135 * side * who.build
    shoulder, elbow = (x, 0.79, 0.0), (1.12 * x, 0.64, 0.35 * swing - 0.01)
    hand = (1.15 * x, 0.5, 0.9 * swing + 0.02)
    f.limb([shoulder, elbow, hand], [0.06, 0.05, 0.04], _dim(who.skin, shade))
    end = hand if who.sleeve else elbow
    cloth = who.second if who.pattern == "block" else who.upper
    chain = [shoulder, elbow, (end[0], end[1] + 0.03, end[2])] if who.sleeve else [shoulder, elbow]
    f.limb(chain, [0.075, 0.068, 0.055][: len(chain)], _dim(cloth, shade))


def _torso(f: Figure) -> None:
    who = f.who
    corners = f.trunk(who.hem, 0.82, f.half(0.115, 0.085), f.half(0.135, 0.08))
    f.plate(corners, who.upper)
    top = f.trunk(0.82, 0.855, f.half(0.135, 0.08), f.half(0.06, 0.05))
    f.plate(top, who.upper)
    _pattern(f, corners)


def _pattern(f: Figure, corners: list[Point]) -> None:
    who, second, n = f.who, f.who.second, f.who.bands
    if who.pattern in ("bands", "checks"):
        for i in range(n):
            f.plate(_patch(corners, (0, 1), ((i + 0.3) / n, (i + 0.75) / n)), second)
    if who.pattern in ("stripes", "checks"):
        tone = _dim(second, 0.6 if who.pattern == "checks" else 1.0)
        for i in range(n):
            f.plate(_patch(corners, ((i + 0.3) / n, (i + 0.65) / n), (0, 1)), tone)
    if who.pattern == "block":
        f.plate(_patch(corners, (0, 1), (0.55, 1)), second)
    middle = 0.5 + 0.3 * f.sin
    if who.pattern == "logo":
        half, low = 0.14 + 0.04 * n, 0.35 if n % 2 else 0.5
        f.plate(
            _patch(corners, (middle - half * abs(f.cos), middle + half * abs(f.cos)), (low, 0.85)), second
        )
    if who.pattern == "panel":
        f.plate(_patch(corners, (0.3, 0.7), (0, 1)), second)


def _head(f: Figure) -> None:
    who, s = f.who, f.scale
    x, y = f.at((0.0, 0.915, 0.012))
    f.limb([(0.0, 0.83, 0.0), (0.0, 0.88, 0.005)], [0.06, 0.055], _dim(who.skin, 0.85))
    if who.hair == "long":
        f.plate(f.trunk(0.8, 0.92, 0.062, 0.055), who.hair_colour)
    crown = who.skin if who.hair == "bald" else who.second if who.hair == "cap" else who.hair_colour
    f.ball((x, y - 0.008 * s), 0.056 * s, 0.07 * s, crown)
    if f.cos > -0.5:
        wide = 0.03 + 0.016 * max(0.0, f.cos)
        f.ball((x + 0.03 * f.sin * s, y + 0.016 * s), wide * s, 0.05 * s, who.skin)


def _backpack(f: Figure) -> None:
    """A box behind the trunk: whole from behind, an edge from the side, straps from the front."""
    if f.who.bag != "backpack":
        return
    x, _ = f.at((0.0, 0.68, -0.1))
    corners = f.trunk(0.58, 0.8, f.half(0.07, 0.07), f.half(0.065, 0.055))
    off = x - (corners[1][0] + corners[2][0]) / 2
    f.plate([(px + off, py) for px, py in corners], f.who.bag_colour)
    f.plate(
        [(px + off, py) for px, py in _patch(corners, (0.2, 0.8), (0.1, 0.4))], _dim(f.who.bag_colour, 0.7)
    )


def _bag(f: Figure) -> None:
    who, side = f.who, f.who.side
    if who.bag == "backpack" and f.cos > 0:
        for x in (-0.075, 0.075):
            f.limb([(x * who.build, 0.83, 0.05), (x * who.build, 0.6, 0.07)], [0.025, 0.025], who.bag_colour)
    if who.bag == "shoulder":
        hip = (side * 0.15 * who.build, 0.5, 0.0)
        z = 0.08 if f.cos > 0 else -0.08
        f.limb([(-side * 0.08, 0.83, z), (side * 0.11 * who.build, 0.55, z)], [0.02, 0.02], who.bag_colour)
        f.limb([hip, (hip[0], 0.43, 0.0)], [0.12, 0.13], who.bag_colour)
    if who.bag == "hand":
        x = side * 0.16 * who.build
        f.limb([(x, 0.47, 0.02), (x, 0.36, 0.02)], [0.04, 0.14], who.bag_colour)


def _mask(picture: Image.Image, f: Figure) -> None:
    x, y = f.at((0.0, 0.915, 0.0))
    half = 0.07 * f.scale
    box = (int(x - half), int(y - half), int(x + half), int(y + half))
    picture.paste(picture.crop(box).filter(ImageFilter.BoxBlur(half / 2)), box)


def _occlude(picture: Image.Image, rng: np.random.Generator) -> None:
    """A post, something low, or a passer-by cut by the side of the picture."""
    wide, high = picture.size
    draw, kind, colour = ImageDraw.Draw(picture), rng.integers(3), _cloth(rng)
    if kind == 0:
        x = rng.uniform(0.1, 0.8) * wide
        draw.rectangle((x, 0, x + rng.uniform(0.06, 0.16) * wide, high), fill=colour)
    elif kind == 1:
        draw.rectangle((0, rng.uniform(0.65, 0.85) * high, wide, high), fill=colour)
    else:
        x, r, top = rng.choice([0.0, 1.0]) * wide, rng.uniform(0.2, 0.4) * wide, rng.uniform(0.1, 0.3) * high
        draw.rounded_rectangle((x - r, top, x + r, 0.6 * high), 0.6 * r, fill=colour)
        draw.rectangle((x - 0.8 * r, 0.55 * high, x + 0.8 * r, high), fill=_cloth(rng))
        draw.ellipse((x - 0.4 * r, top - 0.9 * r, x + 0.4 * r, top + 0.1 * r), fill=SKINS[rng.integers(5)])


def _develop(picture: Image.Image, camera: Camera, passage: Passage, rng: np.random.Generator) -> Image.Image:
    """Blur, then the camera's colours, the light of the passage, and noise."""
    if camera.blur > 0.1:
        picture = picture.filter(ImageFilter.GaussianBlur(camera.blur))
    pixels = np.asarray(picture, dtype=np.float32) / np.float32(255)
    light = passage.light * math.exp(camera.look.lum * rng.normal())
    ramp = 1 + passage.ramp * np.linspace(-1, 1, pixels.shape[1], dtype=np.float32)[None, :, None]
    pixels = np.clip(product(pixels, camera.colours) * (ramp * np.float32(light)), 0, 1.1)
    pixels = power(pixels, float(np.float32(camera.gamma))) * (1 - camera.haze) + camera.haze * 0.6
    pixels = pixels + rng.standard_normal(pixels.shape, dtype=np.float32) * np.float32(camera.noise)
    return Image.fromarray((np.clip(pixels, 0, 1) * 255).astype(np.uint8))


def jpeg(picture: Image.Image) -> bytes:
    """The bytes of a JPEG file, of quality 95."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=95)
    return stream.getvalue()
