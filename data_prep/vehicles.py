"""Invented vehicles: a body style gives the silhouette, a model its proportions and its details.

Every model is a solid: its side profile extruded over its width, seen by a camera whose angle, tilt
and distance differ from image to image, as do colour, light, background, occlusion and noise. What
tells two models of one style apart is what does so in a street: proportions, window line, wheels,
lights, grille, spoiler, trim. Colour tells nothing.

Lengths are in metres: x from the front bumper to the rear, y up from the ground, z from the side
near the camera to the far one.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from data_prep.steady import Points, circle, product

Colour = tuple[int, int, int]

SUPERSAMPLE = 3  # drawn three times as large: Pillow's polygons have no smooth edges
WIDTH = 1.8  # of a vehicle

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


@dataclass(frozen=True)
class Vehicle:
    """One model: a style, its own dimensions in the order of `STYLES`, and its details.

    Each detail is a number in [0, 1) that the drawing reads in its own way.
    """

    style: str
    dimensions: tuple[float, ...]
    detail: dict[str, float]


DETAILS = (
    "axles", "nose", "deck", "tilt", "pillars", "pillar", "window", "arc", "spokes", "rim", "hub",
    "lamp_shape", "lamp_size", "lamp_height", "tail_size", "tail_height", "grille_width",
    "grille_height", "grille_bars", "spoiler", "stripe", "stripe_height", "cladding", "rails",
    "roof_tone", "arch", "handle", "intake",
)  # fmt: skip


def design(style: str, rng: np.random.Generator) -> Vehicle:
    """Draw a model of `style`: dimensions within some percent of the style's, all details free."""
    base = np.array(STYLES[style])
    own = base * (1 + 0.1 * rng.uniform(-1, 1, len(base)))
    own[6:] = base[6:] * own[0] / base[0] + 0.2 * rng.uniform(-1, 1, 4)
    own[7] = max(own[7], own[6] + 0.25)
    own[8] = min(max(own[8], own[7] + 0.08), own[0] - 0.15)
    own[9] = min(max(own[9], own[8] + 0.08), own[0] - 0.03)
    values = rng.uniform(size=len(DETAILS))
    return Vehicle(style, tuple(map(float, own)), dict(zip(DETAILS, map(float, values), strict=True)))


class Camera:
    """Projects points [n, 3] in metres to pixels; draws at random from where, and how light falls."""

    def __init__(self, side: int, length: float, rng: np.random.Generator) -> None:
        turn, tilt = math.radians(rng.uniform(-38, 38)), math.radians(rng.uniform(3, 12))
        c, s, ct, st = math.cos(turn), math.sin(turn), math.cos(tilt), math.sin(tilt)
        self.axes = np.array([[c, -s * st, -s * ct], [0, ct, -st], [s, c * st, c * ct]])  # columns
        self.near = rng.uniform(0.0, 0.05)
        extent = length * abs(c) + WIDTH * abs(s)
        self.scale = side * rng.uniform(0.86, 1.0) / extent
        self.centre = side * (np.array([0.5, 0.55]) + rng.uniform(-0.03, 0.03, 2))
        self.middle = np.array([length / 2, 0.75, WIDTH / 2])
        light = np.array([rng.uniform(-1, 1), rng.uniform(0.6, 1.4), rng.uniform(-1.2, 0.2)])
        self.light = light / _length(light)

    def __call__(self, points: Points) -> list[tuple[float, float]]:
        """Where the points stand in the picture, in pixels."""
        seen = product(points - self.middle, self.axes)
        zoom = self.scale / (1 + self.near * seen[:, 2])
        x, y = self.centre[0] + seen[:, 0] * zoom, self.centre[1] - seen[:, 1] * zoom
        return list(zip(x.tolist(), y.tolist(), strict=True))

    def faces(self, normal: Points) -> bool:
        """Whether a face with this outward normal turns towards the camera."""
        return self.depth(normal) < 0

    def shade(self, normal: Points) -> float:
        """Brightness of a face: half of it from everywhere, half from the light."""
        return 0.5 + 0.6 * max(0.0, _dot(self.light, normal))

    def depth(self, point: Points) -> float:
        """How far away a point, or a direction, is."""
        return _dot(self.axes[:, 2], point)


class Brush:
    """Draws faces of a solid on one picture."""

    def __init__(self, picture: Image.Image, camera: Camera) -> None:
        self.draw, self.camera = ImageDraw.Draw(picture), camera

    def face(self, points: Points, colour: Colour, shade: float = 1.0) -> None:
        """A polygon in space."""
        self.draw.polygon(self.camera(points), fill=_dim(colour, shade))

    def side(self, outline: Points, colour: Colour, z: float = 0.0, shade: float = 1.0) -> None:
        """A polygon [n, 2] on the plane at depth z."""
        self.face(np.column_stack([outline, np.full(len(outline), z)]), colour, shade)

    def solid(self, outline: Points, inset: float, colours: list[Colour], flank: Colour) -> None:
        """Extrude a clockwise outline [n, 2]; `colours` has one colour for each of its edges."""
        near, far = inset, WIDTH - inset
        edges = []
        for a, b, colour in zip(outline, np.roll(outline, -1, 0), colours, strict=True):
            normal = np.array([a[1] - b[1], b[0] - a[0], 0.0])
            normal /= _length(normal) + 1e-9
            if self.camera.faces(normal):
                quad = np.array([[*a, near], [*b, near], [*b, far], [*a, far]])
                middle = (quad[0] + quad[1] + quad[2] + quad[3]) / 4
                edges.append((-self.camera.depth(middle), quad, colour, normal))
        for _, quad, colour, normal in sorted(edges, key=lambda edge: edge[0]):
            self.face(quad, colour, self.camera.shade(normal))
        self.side(outline, flank, near, self.camera.shade(np.array([0.0, 0.0, -1.0])))

    def disc(self, x: float, y: float, z: float, radius: float, colour: Colour) -> None:
        """A wheel's disc, parallel to the near side."""
        self.side((x, y) + radius * circle(24), colour, z)


def _dot(a: Points, b: Points) -> float:
    (ax, ay, az), (bx, by, bz) = a, b
    return float(ax * bx + ay * by + az * bz)


def _length(a: Points) -> float:
    return math.sqrt(_dot(a, a))


def _dim(colour: Colour, shade: float) -> Colour:
    r, g, b = (int(min(255.0, channel * shade)) for channel in colour)
    return r, g, b


GLASS: Colour = (58, 68, 80)
RUBBER: Colour = (28, 28, 30)
DARK: Colour = (40, 40, 42)
LAMP: Colour = (235, 235, 215)
TAIL: Colour = (190, 25, 25)


def render(vehicle: Vehicle, side: int, rng: np.random.Generator) -> Image.Image:
    """One photograph of a model, RGB, side × side pixels; all that is not the model comes from `rng`."""
    large = side * SUPERSAMPLE
    picture = _background(large, rng)
    camera = Camera(large, vehicle.dimensions[0], rng)
    brush = Brush(picture, camera)
    _shadow(brush, vehicle)
    _vehicle(brush, vehicle, _paint(rng))
    if rng.uniform() < 0.25:
        _occlude(picture, rng)
    if rng.uniform() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return _develop(picture.resize((side, side), Image.Resampling.BOX), rng)


def _paint(rng: np.random.Generator) -> Colour:
    grey = rng.uniform(70, 215)
    tint = rng.uniform(-1, 1, 3) * rng.choice([6, 60])
    r, g, b = (int(v) for v in np.clip(grey + tint, 15, 250))
    return r, g, b


def _background(side: int, rng: np.random.Generator) -> Image.Image:
    cells = int(rng.integers(2, 6)), int(rng.integers(2, 6))
    coarse = rng.uniform(90, 190, (*cells, 1)) + rng.uniform(-20, 20, (*cells, 3))
    picture = Image.fromarray(coarse.astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    horizon = int(side * rng.uniform(0.4, 0.7))
    for _ in range(int(rng.integers(0, 5))):  # houses, trees
        x, w, h = rng.uniform(-0.1, 1), rng.uniform(0.05, 0.35), rng.uniform(0.05, 0.5)
        box = (x * side, horizon - h * side, (x + w) * side, horizon)
        (draw.ellipse if rng.uniform() < 0.3 else draw.rectangle)(box, fill=_paint(rng))
    ground = rng.uniform(90, 170)
    draw.rectangle((0, horizon, side, side), fill=_dim((255, 250, 245), ground / 255))
    return picture


def _shadow(brush: Brush, vehicle: Vehicle) -> None:
    length = vehicle.dimensions[0]
    corners = [[0.0, 0.0], [length, 0.0], [length, WIDTH], [0.0, WIDTH]]
    brush.face(np.array([[x, 0.0, z] for x, z in corners]), (48, 48, 50))


def _vehicle(brush: Brush, vehicle: Vehicle, paint: Colour) -> None:
    _wheels(brush, vehicle, far=True)
    _body(brush, vehicle, paint)
    _front(brush, vehicle)
    _rear(brush, vehicle)
    _trim(brush, vehicle, paint)
    _cabin(brush, vehicle, paint)
    _spoiler(brush, vehicle, paint)
    _wheels(brush, vehicle, far=False)


def _body(brush: Brush, vehicle: Vehicle, paint: Colour) -> None:
    length, hood, belt, _, clearance, _, screen, *_, rear = vehicle.dimensions
    nose = 0.04 + 0.22 * vehicle.detail["nose"]
    outline = np.array(
        [
            [0.0, clearance],
            [0.0, clearance + 0.25],
            [0.06, hood - nose],
            [0.12 + nose, hood - 0.06],
            [screen, hood + 0.04],
            [screen + 0.2, belt],
            [max(rear, screen + 0.5), _deck(vehicle)],
            [length - 0.05, _deck(vehicle) - 0.04],
            [length, clearance + 0.35],
            [length - 0.05, clearance],
        ]
    )
    brush.solid(outline, 0.0, [paint] * len(outline), paint)


def _deck(vehicle: Vehicle) -> float:
    return vehicle.dimensions[2] + 0.16 * (vehicle.detail["deck"] - 0.4)


def _cabin(brush: Brush, vehicle: Vehicle, paint: Colour) -> None:
    _, _, belt, roof, _, _, screen, front, back, rear = vehicle.dimensions
    arc = 0.07 * vehicle.detail["arc"]
    top = _dim(paint, 0.35) if vehicle.detail["roof_tone"] > 0.75 else paint
    outline = np.array(
        [
            [screen, belt - 0.04],
            [front, roof - arc],
            [(front + back) / 2, roof],
            [back, roof - arc * 0.8],
            [rear, _deck(vehicle) - 0.02],
        ]
    )
    if vehicle.style == "Convertible":
        _open(brush, vehicle, paint)
    else:
        brush.solid(outline, 0.14, [GLASS, top, top, GLASS, paint], paint)
        _windows(brush, vehicle, outline)
        if vehicle.detail["rails"] > 0.6 and vehicle.style in ("SUV", "Wagon", "Minivan"):
            rail = [[front, roof], [back, roof], [back, roof + 0.07], [front, roof + 0.07]]
            brush.side(np.array(rail), DARK, 0.2)


def _open(brush: Brush, vehicle: Vehicle, paint: Colour) -> None:
    _, _, belt, roof, _, _, screen, front, *_ = vehicle.dimensions
    glass = [[screen, belt, 0.1], [front, roof, 0.2], [front, roof, 1.6], [screen, belt, 1.7]]
    brush.face(np.array(glass), GLASS, 0.9)
    for z in (1.2, 0.4):
        x = front + 0.55 + 0.3 * vehicle.detail["pillar"]
        seat = [[x, belt], [x + 0.1, belt + 0.26], [x + 0.28, belt + 0.26], [x + 0.3, belt]]
        brush.side(np.array(seat), DARK, z)
    length = 0.5 + 0.6 * vehicle.detail["window"]  # the folded top
    fold = [[front + 1.1, belt], [front + 1.2, belt + 0.14], [front + 1.1 + length, belt]]
    brush.side(np.array(fold), _dim(paint, 0.3), 0.3)


def _windows(brush: Brush, vehicle: Vehicle, outline: Points) -> None:
    count = 1 + int(3 * vehicle.detail["pillars"])
    if vehicle.style in ("Coupe", "Cab"):
        count = 1 + int(2 * vehicle.detail["pillars"])
    low = outline[0, 1] + 0.08 + 0.14 * vehicle.detail["tilt"] * np.array([0.2, 1.0])
    high = outline[1, 1] - 0.07 - 0.08 * vehicle.detail["window"]
    left, right = (outline[0, 0] + 0.22, outline[4, 0] - 0.2)
    if vehicle.style == "Van":
        right = left + (right - left) * (0.3 + 0.7 * vehicle.detail["window"])
    cuts = np.linspace(0, 1, count + 1)
    gap = 0.015 + 0.03 * vehicle.detail["pillar"]
    for a, b in zip(cuts[:-1] + gap * (cuts[:-1] > 0), cuts[1:] - gap * (cuts[1:] < 1), strict=True):
        brush.side(_pane(outline, low, high, left, right, (a, b)), GLASS, 0.13)


def _pane(
    outline: Points, low: Points, high: float, left: float, right: float, part: tuple[float, float]
) -> Points:
    """The part of the window band between the two pillars; its ends lean as the screens do."""
    upper = outline[1, 0] + 0.12, max(outline[3, 0] - 0.1, outline[1, 0] + 0.3)
    upper = upper[0], min(upper[1], right)
    below = [left + (right - left) * p for p in part]
    above = [upper[0] + (upper[1] - upper[0]) * p for p in part]
    sill = [low[0] + (low[1] - low[0]) * p for p in part]
    return np.array([[below[0], sill[0]], [above[0], high], [above[1], high], [below[1], sill[1]]])


def _wheels(brush: Brush, vehicle: Vehicle, far: bool) -> None:
    length, *_, radius = vehicle.dimensions[:6]
    front = 0.78 + 0.22 * vehicle.detail["axles"]
    tone = int(90 + 150 * vehicle.detail["rim"])
    for x in (front, length - 0.85 - 0.2 * vehicle.detail["nose"]):
        if far:
            brush.disc(x, radius, WIDTH - 0.1, radius, RUBBER)
            continue
        arch = radius * (1.08 + 0.14 * vehicle.detail["arch"])
        brush.disc(x, radius, 0.0, arch, (18, 18, 20))
        brush.disc(x, radius, -0.02, radius, RUBBER)
        _rim(brush, vehicle, x, radius, (tone, tone, tone))


def _rim(brush: Brush, vehicle: Vehicle, x: float, radius: float, tone: Colour) -> None:
    rim = radius * (0.58 + 0.2 * vehicle.detail["hub"])
    brush.disc(x, radius, -0.03, rim, tone)
    spokes = 3 + int(6 * vehicle.detail["spokes"])
    for turn in np.arange(spokes) * 2 * math.pi / spokes:  # the gaps between the spokes
        wide = math.pi / spokes * 0.62
        corners = [(0.3, turn), (0.86, turn - wide), (0.86, turn + wide)]
        gap = [[x + rim * r * math.sin(t), radius + rim * r * math.cos(t)] for r, t in corners]
        brush.side(np.array(gap), DARK, -0.035)


def _front(brush: Brush, vehicle: Vehicle) -> None:
    """Lamps, grille and intake on the front plane, and the lamp's end on the side."""
    _, hood, _, _, clearance, *_ = vehicle.dimensions
    d = vehicle.detail
    y = clearance + 0.3 + (hood - clearance - 0.5) * (0.35 + 0.6 * d["lamp_height"])
    wide, tall = 0.18 + 0.3 * d["lamp_size"], 0.07 + 0.14 * (1 - d["lamp_shape"])
    if brush.camera.faces(np.array([-1.0, 0.0, 0.0])):
        for z in (0.06, WIDTH - 0.06 - wide):
            _plate(brush, -0.01, (y, y + tall), (z, z + wide), LAMP)
        _grille(brush, vehicle, y)
        if d["intake"] > 0.5:
            _plate(brush, -0.01, (clearance + 0.05, clearance + 0.17), (0.4, 1.4), DARK)
    end = [[0.0, y], [0.0, y + tall], [0.12 + 0.3 * d["lamp_shape"], y + tall * 0.9]]
    brush.side(np.array(end), LAMP, -0.01)


def _grille(brush: Brush, vehicle: Vehicle, y: float) -> None:
    d = vehicle.detail
    half, tall = 0.16 + 0.36 * d["grille_width"], 0.08 + 0.3 * d["grille_height"]
    span = WIDTH / 2 - half, WIDTH / 2 + half
    low = max(y - 0.12, vehicle.dimensions[4] + 0.08)
    _plate(brush, -0.01, (low, low + tall), span, DARK)
    bars = 1 + int(4 * d["grille_bars"])
    for i in range(bars):
        if d["grille_bars"] * 4 % 1 < 0.5:
            at = low + tall * (i + 0.7) / (bars + 0.5)
            _plate(brush, -0.02, (at - 0.015, at + 0.015), span, (170, 170, 172))
        else:
            at = span[0] + 2 * half * (i + 0.7) / (bars + 0.5)
            _plate(brush, -0.02, (low, low + tall), (at - 0.02, at + 0.02), (170, 170, 172))


def _rear(brush: Brush, vehicle: Vehicle) -> None:
    length, *_ = vehicle.dimensions
    d, deck = vehicle.detail, _deck(vehicle)
    tall, wide = 0.08 + 0.3 * d["tail_size"], 0.14 + 0.3 * d["tail_height"]
    y = deck - 0.1 - tall - 0.12 * d["tail_height"]
    if brush.camera.faces(np.array([1.0, 0.0, 0.0])):
        for z in (0.05, WIDTH - 0.05 - wide):
            _plate(brush, length, (y, y + tall), (z, z + wide), TAIL)
        _plate(brush, length, (y - 0.08, y + 0.05), (0.65, 1.15), (215, 215, 205))
    end = [[length - 0.03, y], [length - 0.05, y + tall], [length - 0.3 * d["tail_height"] - 0.1, y + tall]]
    brush.side(np.array(end), TAIL, -0.01)


def _plate(
    brush: Brush, x: float, height: tuple[float, float], depth: tuple[float, float], colour: Colour
) -> None:
    (low, high), (near, far) = height, depth
    corners = [[x, low, near], [x, high, near], [x, high, far], [x, low, far]]
    brush.face(np.array(corners), colour)


def _trim(brush: Brush, vehicle: Vehicle, paint: Colour) -> None:
    """Cladding along the sill, a stripe, the door's cut and its handle."""
    length, hood, belt, _, clearance, _, screen, *_ = vehicle.dimensions
    d = vehicle.detail
    if d["cladding"] > 0.55:
        _band(brush, (0.02, length - 0.04), clearance, 0.06 + 0.16 * d["cladding"], DARK)
    if d["stripe"] > 0.45:
        y = clearance + 0.25 + (hood - clearance - 0.3) * d["stripe_height"]
        tone = (225, 225, 225) if sum(paint) < 380 else (35, 35, 38)
        _band(brush, (0.25, length - 0.25), y, 0.03 + 0.05 * d["stripe"], tone)
    for x in (screen + 0.25, screen + 1.15 + 0.4 * d["handle"]):
        _band(brush, (x, x + 0.02), clearance + 0.12, belt - clearance - 0.12, _dim(paint, 0.45))
    x = screen + 0.85 + 0.4 * d["handle"]
    _band(brush, (x, x + 0.17), belt - 0.14, 0.04, _dim(paint, 0.35))


def _band(brush: Brush, span: tuple[float, float], y: float, tall: float, colour: Colour) -> None:
    left, right = span
    box = [[left, y], [left, y + tall], [right, y + tall], [right, y]]
    brush.side(np.array(box), colour, -0.01)


def _spoiler(brush: Brush, vehicle: Vehicle, paint: Colour) -> None:
    size = vehicle.detail["spoiler"]
    if size < 0.6 or vehicle.style in ("Cab", "Van"):
        return
    length, deck = vehicle.dimensions[0], _deck(vehicle)
    rise = 0.05 + 0.22 * (size - 0.6) / 0.4
    wing = np.array([[length - 0.45, deck + rise], [length - 0.02, deck + rise + 0.05]])
    foot = np.array([[length - 0.15, deck - 0.03], [length - 0.3, deck - 0.03]])
    brush.solid(np.vstack([wing, foot]), 0.12, [_dim(paint, 0.8)] * 4, _dim(paint, 0.7))


def _occlude(picture: Image.Image, rng: np.random.Generator) -> None:
    """A post, or a low box, before the vehicle."""
    side, draw = picture.size[0], ImageDraw.Draw(picture)
    x = rng.uniform(0, 0.95)
    if rng.uniform() < 0.5:
        box = (x, 0.0, x + rng.uniform(0.02, 0.07), 1.0)
    else:
        box = (x - 0.1, rng.uniform(0.68, 0.85), x + rng.uniform(0.05, 0.3), 1.0)
    left, top, right, bottom = (v * side for v in box)
    draw.rectangle((left, top, right, bottom), fill=_paint(rng))


def _develop(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Blur, a gradient of light, contrast, colour cast and sensor noise."""
    if rng.uniform() < 0.3:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.6)))
    pixels = np.asarray(picture, dtype=np.float64)
    side = len(pixels)
    ramp = np.linspace(-1, 1, side)[None, :] * rng.uniform(-0.2, 0.2)
    ramp = 1 + ramp + np.linspace(-1, 1, side)[:, None] * rng.uniform(-0.2, 0.2)
    cast = rng.uniform(0.92, 1.08, 3)
    pixels = (pixels - 128) * rng.uniform(0.75, 1.1) + 128 + rng.uniform(-20, 20)
    pixels = pixels * ramp[:, :, None] * cast + rng.normal(0, rng.uniform(1, 6), pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def jpeg(picture: Image.Image, rng: np.random.Generator) -> bytes:
    """The bytes of a JPEG file, of a quality that differs from image to image."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=int(rng.integers(70, 93)))
    return stream.getvalue()
