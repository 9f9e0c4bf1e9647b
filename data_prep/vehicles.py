"""Invented vehicles: a body style gives the silhouette, a model its proportions and its details.

Every model is a solid: its side profile extruded over its width, seen by a camera whose angle, tilt
and distance differ from image to image, as do colour, light, background, occlusion and noise. What
tells two models of one style apart is what does so in a street: proportions, window line, wheels,
lights, grille, spoiler, trim. Colour tells nothing.

Lengths are in metres: x from the front bumper to the rear, y up from the ground, z from the side
near the camera to the far one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from data_prep.drawing import (
    SUPERSAMPLE,
    Ink,
    Points,
    Rng,
    circle,
    fill,
    ink,
    lit,
    picture,
    product,
    shrunk,
    smooth,
)

WIDTH = 1.8  # of a vehicle
GLASS: Ink = (58, 68, 80)
RUBBER: Ink = (28, 28, 30)
DARK: Ink = (40, 40, 42)
LAMP: Ink = (235, 235, 215)
TAIL: Ink = (190, 25, 25)

# length, hood height, belt height, roof height, clearance, wheel radius,
# and along x: windscreen base, roof start, roof end, rear window base
STYLES: dict[str, tuple[float, ...]] = {
    "Sedan": (4.7, 0.88, 0.98, 1.45, 0.20, 0.33, 1.35, 1.95, 3.20, 3.90),
    "Coupe": (4.5, 0.82, 0.92, 1.30, 0.16, 0.35, 1.55, 2.20, 2.85, 4.05),
    "SUV": (4.7, 1.10, 1.20, 1.78, 0.32, 0.40, 1.25, 1.70, 4.20, 4.62),
    "Hatchback": (4.0, 0.92, 1.00, 1.50, 0.19, 0.31, 1.05, 1.65, 3.10, 3.85),
    "Cab": (5.4, 1.10, 1.18, 1.82, 0.36, 0.41, 1.40, 1.85, 2.95, 3.15),
    "Convertible": (4.4, 0.82, 0.92, 1.28, 0.17, 0.34, 1.50, 2.00, 2.10, 2.20),
    "Wagon": (4.8, 0.88, 0.98, 1.48, 0.20, 0.33, 1.35, 1.95, 4.15, 4.68),
    "Van": (5.2, 1.20, 1.32, 2.20, 0.25, 0.34, 0.75, 1.25, 5.02, 5.16),
    "Minivan": (5.0, 1.02, 1.10, 1.75, 0.21, 0.33, 0.95, 1.70, 4.40, 4.92),
}
DETAILS = """
axles nose deck tilt pillars pillar window arc spokes rim hub lamp_shape lamp_size lamp_height tail_size
tail_height grille_width grille_height grille_bars spoiler stripe stripe_height cladding rails roof_tone
arch handle intake
"""


class Vehicle:
    """One model of a `style`: dimensions within some percent of the style's, all details free.

    `detail` has numbers in [0, 1), which the drawing reads each in its own way.
    """

    def __init__(self, style: str, rng: Rng) -> None:
        base = np.array(STYLES[style])
        sizes = base * (1 + 0.1 * rng.uniform(-1, 1, len(base)))
        sizes[6:] = base[6:] * sizes[0] / base[0] + 0.2 * rng.uniform(-1, 1, 4)
        sizes[7] = max(sizes[7], sizes[6] + 0.25)  # windscreen, roof and rear window stay in their order
        sizes[8] = min(max(sizes[8], sizes[7] + 0.08), sizes[0] - 0.15)
        sizes[9] = min(max(sizes[9], sizes[8] + 0.08), sizes[0] - 0.03)
        self.style, names = style, DETAILS.split()
        self.length, self.hood, self.belt, self.roof, self.clearance, self.wheel = sizes[:6].tolist()
        self.screen, self.front, self.back, self.rear = sizes[6:].tolist()
        self.detail = dict(zip(names, rng.uniform(size=len(names)).tolist(), strict=True))
        self.deck = self.belt + 0.16 * (self.detail["deck"] - 0.4)  # height of the boot


class Camera:
    """Projects points [n, 3] in metres to pixels; draws at random from where, and how light falls."""

    def __init__(self, side: int, length: float, rng: Rng) -> None:
        turn, tilt = math.radians(rng.uniform(-38, 38)), math.radians(rng.uniform(3, 12))
        c, s, ct, st = math.cos(turn), math.sin(turn), math.cos(tilt), math.sin(tilt)
        self.axes = np.array([[c, -s * st, -s * ct], [0, ct, -st], [s, c * st, c * ct]])  # columns
        self.near = rng.uniform(0.0, 0.05)  # strength of perspective
        extent = length * abs(c) + WIDTH * abs(s)  # metres across the picture
        self.scale = side * rng.uniform(0.86, 1.0) / extent
        self.centre = side * (np.array([0.5, 0.55]) + rng.uniform(-0.03, 0.03, 2))
        self.middle = np.array([length / 2, 0.75, WIDTH / 2])
        light = np.array([rng.uniform(-1, 1), rng.uniform(0.6, 1.4), rng.uniform(-1.2, 0.2)])
        self.light = light / math.sqrt(_dot(light, light))

    def __call__(self, points: Points) -> Points:
        """Where the points stand in the picture, in pixels [n, 2]."""
        seen = product(points - self.middle, self.axes)  # [n, 3], the last one away from the camera
        zoom = self.scale / (1 + self.near * seen[:, 2])
        return np.column_stack([self.centre[0] + seen[:, 0] * zoom, self.centre[1] - seen[:, 1] * zoom])

    def depth(self, point: Points) -> float:
        """How far away a point is; of a normal, below 0 where its face turns towards the camera."""
        return _dot(self.axes[:, 2], point)

    def shade(self, normal: Points) -> float:
        """Brightness of a face: half of it from everywhere, half from the light."""
        return 0.5 + 0.6 * max(0.0, _dot(self.light, normal))


def _dot(a: Points, b: Points) -> float:
    (ax, ay, az), (bx, by, bz) = a, b
    return float(ax * bx + ay * by + az * bz)


class Drawing:
    """Draws the faces of one vehicle of some colour on one picture."""

    def __init__(self, image: Image.Image, camera: Camera, vehicle: Vehicle, paint: Ink) -> None:
        self.draw, self.camera = ImageDraw.Draw(image), camera
        self.vehicle, self.detail, self.paint = vehicle, vehicle.detail, paint

    # -- shapes --

    def face(self, points: Any, colour: Ink, shade: float = 1.0) -> None:
        """A polygon [n, 3] in space."""
        fill(self.draw, self.camera(np.asarray(points)), ink(colour, shade))

    def side(self, outline: Any, colour: Ink, z: float = 0.0, shade: float = 1.0) -> None:
        """A polygon [n, 2] on the plane at depth z."""
        outline = np.asarray(outline)
        self.face(np.column_stack([outline, np.full(len(outline), z)]), colour, shade)

    def band(self, left: float, right: float, y: float, tall: float, colour: Ink) -> None:
        """A rectangle along the near side."""
        self.side([[left, y], [left, y + tall], [right, y + tall], [right, y]], colour, -0.01)

    def plate(self, x: float, y: Sequence[float], z: Sequence[float], colour: Ink) -> None:
        """A rectangle across the front or the rear, between two heights and two depths."""
        (low, high), (near, far) = y, z
        self.face([[x, low, near], [x, high, near], [x, high, far], [x, low, far]], colour)

    def disc(self, x: float, z: float, radius: float, colour: Ink) -> None:
        """A wheel's disc at the height of the wheels, parallel to the near side."""
        self.side((x, self.vehicle.wheel) + radius * circle(24), colour, z)

    def solid(self, outline: Points, inset: float, colours: Sequence[Ink], flank: Ink) -> None:
        """Extrude a clockwise outline [n, 2]; `colours` has one colour for each of its edges."""
        near, far = inset, WIDTH - inset
        edges = []
        for a, b, colour in zip(outline, np.roll(outline, -1, 0), colours, strict=True):
            normal = np.array([a[1] - b[1], b[0] - a[0], 0.0])  # outwards
            normal /= math.sqrt(_dot(normal, normal)) + 1e-9
            if self.camera.depth(normal) < 0:
                quad = np.array([[*a, near], [*b, near], [*b, far], [*a, far]])  # [4, 3]
                middle = (quad[0] + quad[1] + quad[2] + quad[3]) / 4
                edges.append((-self.camera.depth(middle), quad, colour, self.camera.shade(normal)))
        for _, quad, colour, shade in sorted(edges, key=lambda edge: edge[0]):  # far ones first
            self.face(quad, colour, shade)
        self.side(outline, flank, near, self.camera.shade(np.array([0.0, 0.0, -1.0])))

    # -- parts --

    def all_parts(self) -> None:
        """The vehicle, from the far parts to the near ones."""
        v = self.vehicle
        corners = [[0.0, 0.0, 0.0], [v.length, 0.0, 0.0], [v.length, 0.0, WIDTH], [0.0, 0.0, WIDTH]]
        self.face(corners, (48, 48, 50))  # shadow
        front, rear = 0.78 + 0.22 * self.detail["axles"], v.length - 0.85 - 0.2 * self.detail["nose"]
        for x in (front, rear):
            self.disc(x, WIDTH - 0.1, v.wheel, RUBBER)
        self._body()
        self._front()
        self._rear()
        self._trim()
        self._cabin()
        self._spoiler()
        for x in (front, rear):
            self._wheel(x)

    def _body(self) -> None:
        v, nose = self.vehicle, 0.04 + 0.22 * self.detail["nose"]
        profile = [(0.0, v.clearance), (0.0, v.clearance + 0.25), (0.06, v.hood - nose)]
        profile += [(0.12 + nose, v.hood - 0.06), (v.screen, v.hood + 0.04), (v.screen + 0.2, v.belt)]
        profile += [(max(v.rear, v.screen + 0.5), v.deck), (v.length - 0.05, v.deck - 0.04)]
        profile += [(v.length, v.clearance + 0.35), (v.length - 0.05, v.clearance)]
        self.solid(np.array(profile), 0.0, [self.paint] * len(profile), self.paint)

    def _front(self) -> None:
        """Lamps, grille and intake on the front plane, and the lamp's end on the side."""
        v, d = self.vehicle, self.detail
        y = v.clearance + 0.3 + (v.hood - v.clearance - 0.5) * (0.35 + 0.6 * d["lamp_height"])
        wide, tall = 0.18 + 0.3 * d["lamp_size"], 0.07 + 0.14 * (1 - d["lamp_shape"])
        if self.camera.depth(np.array([-1.0, 0.0, 0.0])) < 0:
            for z in (0.06, WIDTH - 0.06 - wide):
                self.plate(-0.01, (y, y + tall), (z, z + wide), LAMP)
            self._grille(y)
            if d["intake"] > 0.5:
                self.plate(-0.01, (v.clearance + 0.05, v.clearance + 0.17), (0.4, 1.4), DARK)
        self.side([[0.0, y], [0.0, y + tall], [0.12 + 0.3 * d["lamp_shape"], y + tall * 0.9]], LAMP, -0.01)

    def _grille(self, y: float) -> None:
        d, bar = self.detail, (170, 170, 172)
        half, tall = 0.16 + 0.36 * d["grille_width"], 0.08 + 0.3 * d["grille_height"]
        span = WIDTH / 2 - half, WIDTH / 2 + half
        low = max(y - 0.12, self.vehicle.clearance + 0.08)
        self.plate(-0.01, (low, low + tall), span, DARK)
        bars = 1 + int(4 * d["grille_bars"])
        for i in range(bars):
            if d["grille_bars"] * 4 % 1 < 0.5:  # lying, or upright
                at = low + tall * (i + 0.7) / (bars + 0.5)
                self.plate(-0.02, (at - 0.015, at + 0.015), span, bar)
            else:
                at = span[0] + 2 * half * (i + 0.7) / (bars + 0.5)
                self.plate(-0.02, (low, low + tall), (at - 0.02, at + 0.02), bar)

    def _rear(self) -> None:
        v, d, x = self.vehicle, self.detail, self.vehicle.length
        tall, wide = 0.08 + 0.3 * d["tail_size"], 0.14 + 0.3 * d["tail_height"]
        y = v.deck - 0.1 - tall - 0.12 * d["tail_height"]
        if self.camera.depth(np.array([1.0, 0.0, 0.0])) < 0:
            for z in (0.05, WIDTH - 0.05 - wide):
                self.plate(x, (y, y + tall), (z, z + wide), TAIL)
            self.plate(x, (y - 0.08, y + 0.05), (0.65, 1.15), (215, 215, 205))  # number
        end = [[x - 0.03, y], [x - 0.05, y + tall], [x - 0.3 * d["tail_height"] - 0.1, y + tall]]
        self.side(end, TAIL, -0.01)

    def _trim(self) -> None:
        """Cladding along the sill, a stripe, the doors' cuts and a handle."""
        v, d, paint = self.vehicle, self.detail, self.paint
        if d["cladding"] > 0.55:
            self.band(0.02, v.length - 0.04, v.clearance, 0.06 + 0.16 * d["cladding"], DARK)
        if d["stripe"] > 0.45:
            y = v.clearance + 0.25 + (v.hood - v.clearance - 0.3) * d["stripe_height"]
            tone = (225, 225, 225) if sum(paint) < 380 else (35, 35, 38)
            self.band(0.25, v.length - 0.25, y, 0.03 + 0.05 * d["stripe"], tone)
        for x in (v.screen + 0.25, v.screen + 1.15 + 0.4 * d["handle"]):
            self.band(x, x + 0.02, v.clearance + 0.12, v.belt - v.clearance - 0.12, ink(paint, 0.45))
        x = v.screen + 0.85 + 0.4 * d["handle"]  # between the two cuts
        self.band(x, x + 0.17, v.belt - 0.14, 0.04, ink(paint, 0.35))

    def _cabin(self) -> None:
        v, d, paint = self.vehicle, self.detail, self.paint
        if v.style == "Convertible":
            self._open()
            return
        arc, top = 0.07 * d["arc"], ink(paint, 0.35) if d["roof_tone"] > 0.75 else paint
        roof = [(v.front, v.roof - arc), ((v.front + v.back) / 2, v.roof), (v.back, v.roof - arc * 0.8)]
        outline = np.array([(v.screen, v.belt - 0.04), *roof, (v.rear, v.deck - 0.02)])
        self.solid(outline, 0.14, [GLASS, top, top, GLASS, paint], paint)
        self._windows(outline)
        if d["rails"] > 0.6 and v.style in ("SUV", "Wagon", "Minivan"):
            high = v.roof + 0.07
            self.side([[v.front, v.roof], [v.back, v.roof], [v.back, high], [v.front, high]], DARK, 0.2)

    def _open(self) -> None:
        v, d, belt = self.vehicle, self.detail, self.vehicle.belt
        top = [[v.front, v.roof, 0.2], [v.front, v.roof, 1.6]]  # of the windscreen
        self.face([[v.screen, belt, 0.1], *top, [v.screen, belt, 1.7]], GLASS, 0.9)
        x = v.front + 0.55 + 0.3 * d["pillar"]
        for z in (1.2, 0.4):  # seats
            self.side([[x, belt], [x + 0.1, belt + 0.26], [x + 0.28, belt + 0.26], [x + 0.3, belt]], DARK, z)
        length = 0.5 + 0.6 * d["window"]  # of the folded top
        fold = [[v.front + 1.1, belt], [v.front + 1.2, belt + 0.14], [v.front + 1.1 + length, belt]]
        self.side(fold, ink(self.paint, 0.3), 0.3)

    def _windows(self, outline: Points) -> None:
        """Panes of one band between pillars; the ends of the band lean as the screens do."""
        d, style = self.detail, self.vehicle.style
        count = 1 + int((2 if style in ("Coupe", "Cab") else 3) * d["pillars"])
        low = outline[0, 1] + 0.08 + 0.14 * d["tilt"] * np.array([0.2, 1.0])  # at both ends
        high = outline[1, 1] - 0.07 - 0.08 * d["window"]
        left, right = outline[0, 0] + 0.22, outline[4, 0] - 0.2
        if style == "Van":
            right = left + (right - left) * (0.3 + 0.7 * d["window"])
        above = outline[1, 0] + 0.12
        above_right = min(max(outline[3, 0] - 0.1, outline[1, 0] + 0.3), right)
        cuts, gap = np.linspace(0, 1, count + 1), 0.015 + 0.03 * d["pillar"]
        for a, b in zip(cuts[:-1] + gap * (cuts[:-1] > 0), cuts[1:] - gap * (cuts[1:] < 1), strict=True):
            sill = [(left + (right - left) * p, low[0] + (low[1] - low[0]) * p) for p in (a, b)]
            top = [(above + (above_right - above) * p, high) for p in (a, b)]
            self.side([sill[0], *top, sill[1]], GLASS, 0.13)

    def _spoiler(self) -> None:
        v, size = self.vehicle, self.detail["spoiler"]
        if size < 0.6 or v.style in ("Cab", "Van"):
            return
        rise = 0.05 + 0.22 * (size - 0.6) / 0.4
        wing = [(v.length - 0.45, v.deck + rise), (v.length - 0.02, v.deck + rise + 0.05)]
        foot = [(v.length - 0.15, v.deck - 0.03), (v.length - 0.3, v.deck - 0.03)]
        self.solid(np.array(wing + foot), 0.12, [ink(self.paint, 0.8)] * 4, ink(self.paint, 0.7))

    def _wheel(self, x: float) -> None:
        d, radius, tone = self.detail, self.vehicle.wheel, int(90 + 150 * self.detail["rim"])
        self.disc(x, 0.0, radius * (1.08 + 0.14 * d["arch"]), (18, 18, 20))  # the wheel's house
        self.disc(x, -0.02, radius, RUBBER)
        rim = radius * (0.58 + 0.2 * d["hub"])
        self.disc(x, -0.03, rim, (tone, tone, tone))
        spokes = 3 + int(6 * d["spokes"])
        wide = math.pi / spokes * 0.62
        for turn in np.arange(spokes) * 2 * math.pi / spokes:  # the gaps between the spokes
            corners = [(0.3, turn), (0.86, turn - wide), (0.86, turn + wide)]
            gap = [[x + rim * r * math.sin(t), radius + rim * r * math.cos(t)] for r, t in corners]
            self.side(gap, DARK, -0.035)


def render(vehicle: Vehicle, side: int, rng: Rng) -> Image.Image:
    """One photograph of a model, RGB, side × side pixels; all that is not the model comes from `rng`."""
    image = _background(side * SUPERSAMPLE, rng)
    camera = Camera(side * SUPERSAMPLE, vehicle.length, rng)
    Drawing(image, camera, vehicle, _paint(rng)).all_parts()
    if rng.uniform() < 0.25:
        _occlude(image, rng)
    if rng.uniform() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return _develop(shrunk(image), rng)


def _paint(rng: Rng) -> Ink:
    grey = rng.uniform(70, 215)
    return ink(grey + rng.uniform(-1, 1, 3) * rng.choice([6, 60]), low=15, high=250)


def _background(side: int, rng: Rng) -> Image.Image:
    cells = int(rng.integers(2, 6)), int(rng.integers(2, 6))
    image = smooth(rng.uniform(90, 190, (*cells, 1)) + rng.uniform(-20, 20, (*cells, 3)), side, side)
    draw = ImageDraw.Draw(image)
    horizon = int(side * rng.uniform(0.4, 0.7))
    for _ in range(int(rng.integers(0, 5))):  # houses, trees
        x, w, h = rng.uniform(-0.1, 1), rng.uniform(0.05, 0.35), rng.uniform(0.05, 0.5)
        shape = draw.ellipse if rng.uniform() < 0.3 else draw.rectangle
        shape((x * side, horizon - h * side, (x + w) * side, horizon), fill=_paint(rng))
    draw.rectangle((0, horizon, side, side), fill=ink((255, 250, 245), rng.uniform(90, 170) / 255))
    return image


def _occlude(image: Image.Image, rng: Rng) -> None:
    """A post, or a low box, before the vehicle."""
    side, x = image.size[0], rng.uniform(0, 0.95)
    if rng.uniform() < 0.5:
        left, top, right = x, 0.0, x + rng.uniform(0.02, 0.07)
    else:
        left, top, right = x - 0.1, rng.uniform(0.68, 0.85), x + rng.uniform(0.05, 0.3)
    ImageDraw.Draw(image).rectangle((left * side, top * side, right * side, side), fill=_paint(rng))


def _develop(image: Image.Image, rng: Rng) -> Image.Image:
    """Blur, a gradient of light, contrast, colour cast and sensor noise."""
    if rng.uniform() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.6)))
    pixels = np.asarray(image, dtype=np.float64)  # [side, side, 3]
    light = lit(len(pixels), 0.2, rng, np.float64)  # [side, side, 1]
    cast = rng.uniform(0.92, 1.08, 3)  # red, green, blue
    pixels = (pixels - 128) * rng.uniform(0.75, 1.1) + 128 + rng.uniform(-20, 20)
    return picture(pixels * light * cast + rng.normal(0, rng.uniform(1, 6), pixels.shape))
