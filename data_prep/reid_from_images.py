"""A camera network made of any folder of images: each image an identity, each camera a transform.

A camera has a colour cast, an exposure, a blur, a noise, a window and a side of its own, fixed for all
that it sees; from shot to shot the window and the light vary a little. So the pipeline can be tried on real
pictures, such as those of Cars196. It asks for invariance to the transforms and for no recognition of
people: a result on it says nothing about re-identification. The layout is that of Market-1501.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter, ImageOps
from pydantic import Field

from data_prep.drawing import Rng, jpeg, picture, power, write
from data_prep.pictures import shown
from data_prep.sets import StandIn
from papers_lib.datasets.folders import SUFFIXES, is_left
from papers_lib.datasets.images import open_image, rgb
from papers_lib.datasets.reid_layouts import LAYOUTS, SIDES
from papers_lib.errors import PapersError
from papers_lib.files import resolve
from papers_lib.settings import Frozen

NAME = "reid_from_images"


class Recipe(Frozen):
    """What is made; one shot of each test identity and camera is a query."""

    images: str  # the folder to draw from
    seed: int = Field(0, ge=0)
    identities: int = Field(40, ge=4)  # half of them to train on
    cameras: int = Field(6, ge=2, le=99)
    seen: int = Field(3, ge=2)  # by so many cameras each
    shots: int = Field(3, ge=2)  # of an identity before a camera
    distractors: int = Field(10, ge=0)  # more images, seen once, in the gallery
    height: int = Field(64, ge=16, le=512)  # pixels
    width: int = Field(32, ge=16, le=512)
    gap: float = Field(0.5, ge=0, le=1)  # scales what sets the cameras apart


SIZES: dict[str, dict[str, Any]] = {
    "smoke": {},
    "small": {"identities": 240, "seen": 4, "shots": 4, "distractors": 100, "height": 128, "width": 64},
}


@dataclass(frozen=True)
class FromImages(StandIn):
    """What is known by its images, too, and by all of its recipe but the place where they lie."""

    def recipe(self, size: str, options: dict[str, str]) -> Recipe:
        """As of all stand-ins.

        Raises:
            PapersError: no `images`, too many `seen`, an unknown size or setting, a value out of range.
        """
        if size in self.sizes and not options.get("images"):
            raise PapersError(f"{NAME} is made of images; name their folder: -p images FOLDER")
        recipe: Recipe = super().recipe(size, options)
        if recipe.seen > recipe.cameras:
            raise PapersError(f"seen {recipe.seen} is more than cameras {recipe.cameras}; lower seen")
        return recipe

    def asked(self, size: str, recipe: Recipe) -> dict[str, Any]:
        """What it is known by: no path of one machine, but names and sizes of the images."""
        files = [f"{path.name}:{path.stat().st_size}" for path in _sources(recipe)]
        return {
            "name": NAME,
            "generator": self.drawing,
            "seed": recipe.seed,
            "made_from": f"images of the folder {Path(recipe.images).resolve().name}",
            "images_sha256": hashlib.sha256("\0".join(files).encode()).hexdigest(),
            "recipe": recipe.model_dump(exclude={"images"}),
        }

    def known_by(self, path: Path, content: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
        """What `content` says of that which `asked` says."""
        return {key: content.get(key) for key in asked}


def draw(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """Write the pictures; returns their counts.

    Raises:
        PapersError: no such folder of images, too few of them, or one that is broken.
    """
    sources, shots = _sources(recipe), _shots(recipe)
    cameras = [Camera(recipe, number) for number in range(recipe.cameras)]
    folders = dict(zip(SIDES, LAYOUTS[NAME].folders, strict=True))
    for i, (side, who, camera) in enumerate(shown(shots, len(shots), "making")):
        identity = who + 1 if who < recipe.identities else 0  # 0: a distractor
        path = folder / folders[side] / f"{identity:04d}_c{camera + 1}s1_{i:06d}_00.jpg"
        rng = np.random.default_rng([recipe.seed, 3, i])
        image = cameras[camera].shoot(_opened(sources[who]), recipe, rng)
        write(path, jpeg(image, quality=92))
    return {"counts": Counter(side for side, _, _ in shots)}


def _sources(recipe: Recipe) -> list[Path]:
    """The images drawn, identities first, then distractors."""
    folder, wanted = resolve(recipe.images), recipe.identities + recipe.distractors
    if not folder.is_dir():
        raise PapersError(f"{folder} is no folder; name one with images: -p images FOLDER")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    paths = [path for path in paths if not any(map(is_left, path.relative_to(folder).parts))]
    if len(paths) < wanted:
        raise PapersError(
            f"{folder} has {len(paths)} images, and {recipe.identities} identities with {recipe.distractors} "
            "distractors need one each; lower them with -p identities N -p distractors N"
        )
    order = np.random.default_rng([recipe.seed, 0]).permutation(len(paths))
    return [paths[i] for i in order[:wanted]]


def _shots(recipe: Recipe) -> list[tuple[str, int, int]]:
    """Side, source and camera of every picture. One camera goes round, so that each sees somebody."""
    rng = np.random.default_rng([recipe.seed, 1])
    shots = []
    for who in range(recipe.identities):
        always = who % recipe.cameras
        others = rng.permutation(np.setdiff1d(np.arange(recipe.cameras), always))
        first, later = ("train", "train") if who < recipe.identities // 2 else ("query", "gallery")
        for camera in sorted([always, *others[: recipe.seen - 1].tolist()]):
            shots += [(first if i == 0 else later, who, camera) for i in range(recipe.shots)]
    last = range(recipe.identities, recipe.identities + recipe.distractors)
    return shots + [("gallery", who, int(rng.integers(recipe.cameras))) for who in last]


@lru_cache(maxsize=1)  # the shots of one source follow one another
def _opened(source: Path) -> Image.Image:
    with open_image(source) as image:
        return rgb(ImageOps.exif_transpose(image))


class Camera:
    """What one camera does to all that it sees."""

    def __init__(self, recipe: Recipe, number: int) -> None:
        rng, gap = np.random.default_rng([recipe.seed, 2, number]), recipe.gap
        side = 1 - 0.3 * gap * rng.uniform(0, 1, 2)
        corner = (1 - side) * rng.uniform(0, 1, 2)
        self.window = np.concatenate([corner, corner + side])  # x1, y1, x2, y2
        self.cast = 1 + 0.5 * gap * rng.uniform(-1, 1, 3)  # red, green, blue
        self.exposure = float(2 ** (1.2 * gap * rng.uniform(-1, 1)))
        self.blur = float(1.2 * gap * rng.uniform(0, 1))  # pixels
        self.noise = float(0.08 * gap * rng.uniform(0, 1))  # share of full scale
        self.mirrored = bool(rng.random() < 0.5)

    def shoot(self, image: Image.Image, recipe: Recipe, rng: Rng) -> Image.Image:
        """One picture of `image` as this camera sees it now."""
        window = self.window + 0.04 * rng.uniform(-1, 1, 4)
        x1, y1, x2, y2 = np.clip(window, 0, 1) * [*image.size, *image.size]
        seen = image.resize((recipe.width, recipe.height), Image.Resampling.BICUBIC, box=(x1, y1, x2, y2))
        seen = ImageOps.mirror(seen) if self.mirrored else seen
        seen = seen.filter(ImageFilter.GaussianBlur(self.blur))
        light = np.asarray(seen, dtype=np.float64) / 255  # [height, width, 3]
        light = power(light, self.exposure) * self.cast * (1 + 0.05 * rng.normal())
        light += self.noise * rng.normal(size=light.shape)
        return picture((light * 255).round())


STAND_IN = FromImages(NAME, "reid-from-images 1", Recipe, SIZES, draw)  # no size has `images`
