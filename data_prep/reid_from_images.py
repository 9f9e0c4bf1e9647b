"""A camera network made of any folder of images: each image an identity, each camera a transform.

A camera has a colour cast, an exposure, a blur, a noise, a window and a side of its own, fixed for all
that it sees; from shot to shot the window and the light vary a little. So the pipeline can be tried on real
pictures, such as those of Cars196. It asks for invariance to the transforms and for no recognition of
people: a result on it says nothing about re-identification. The layout is that of Market-1501.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps
from pydantic import Field

from data_prep.progress import shown
from data_prep.steady import power
from papers_lib.datasets.folders import STANDIN, SUFFIXES, is_left
from papers_lib.datasets.images import open_image, rgb
from papers_lib.errors import PapersError
from papers_lib.files import resolve
from papers_lib.settings import Frozen, parse, validate

NAME = "reid_from_images"
GENERATOR = "reid-from-images 1"  # raised with every change that alters a picture


class Recipe(Frozen):
    """What is made.

    `identities` images of the folder `images` are drawn, half of them to train on. `seen` of the `cameras`
    see an identity, `shots` times each; one shot of each test identity and camera is a query. `gap` scales
    what sets the cameras apart. `distractors` more images are seen once, in the gallery.
    """

    images: str
    seed: int = Field(0, ge=0)
    identities: int = Field(40, ge=4)
    cameras: int = Field(6, ge=2, le=99)
    seen: int = Field(3, ge=2)
    shots: int = Field(3, ge=2)
    distractors: int = Field(10, ge=0)
    height: int = Field(64, ge=16, le=512)
    width: int = Field(32, ge=16, le=512)
    gap: float = Field(0.5, ge=0, le=1)


SIZES: dict[str, dict[str, Any]] = {
    "smoke": {},
    "small": {"identities": 240, "seen": 4, "shots": 4, "distractors": 100, "height": 128, "width": 64},
}


@dataclass(frozen=True)
class Camera:
    """What one camera does to all that it sees: shares of full scale, pixels, and a window of the image."""

    cast: NDArray[np.float64]
    exposure: float
    blur: float
    noise: float
    window: tuple[float, float, float, float]
    mirrored: bool


def make(folder: Path, size: str, options: dict[str, str]) -> None:
    """Make a camera network of the images of `options["images"]` in an empty `folder`.

    The same recipe and images give the same bytes with the same Pillow.

    Raises:
        PapersError: no such folder, too few images, an unknown size or setting, a value out of range.
    """
    recipe = _recipe(size, options)
    sources = _sources(recipe)
    cameras = [_camera(recipe, i) for i in range(recipe.cameras)]
    shots = _shots(recipe)
    for i, (part, who, camera) in enumerate(shown(shots, len(shots), "making")):
        rng = np.random.default_rng([recipe.seed, 3, i])
        identity = who + 1 if who < recipe.identities else 0
        path = folder / _FOLDERS[part] / f"{identity:04d}_c{camera + 1}s1_{i:06d}_00.jpg"
        path.parent.mkdir(exist_ok=True)
        _shoot(_opened(sources[who]), cameras[camera], recipe, rng).save(path, quality=92)
    counts = Counter(part for part, _, _ in shots)
    told = {"name": NAME, "generator": GENERATOR, **_told(recipe, sources), "counts": counts}
    (folder / STANDIN).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def made(folder: Path, size: str, options: dict[str, str]) -> bool:
    """Whether `folder` holds what `make` would make now, by its `STANDIN.json` and the source's files."""
    recipe = _recipe(size, options)
    try:
        told = json.loads((folder / STANDIN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    asked = {"name": NAME, "generator": GENERATOR, **_told(recipe, _sources(recipe))}
    return isinstance(told, dict) and {key: told.get(key) for key in asked} == asked


_FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}


def _recipe(size: str, options: dict[str, str]) -> Recipe:
    if size not in SIZES:
        raise PapersError(f"unknown size {size!r}; known: {', '.join(SIZES)}")
    if not options.get("images"):
        raise PapersError(f"{NAME} is made of images; name their folder: -p images FOLDER")
    recipe = validate(Recipe, SIZES[size] | parse(Recipe, options))
    if recipe.seen > recipe.cameras:
        raise PapersError(f"seen {recipe.seen} is more than cameras {recipe.cameras}; lower seen")
    return recipe


def _told(recipe: Recipe, sources: list[Path]) -> dict[str, Any]:
    """The recipe and what it was made from: no path of one machine, but names and sizes of the images."""
    files = [f"{path.name}:{path.stat().st_size}" for path in sources]
    return {
        "seed": recipe.seed,
        "made_from": f"images of the folder {Path(recipe.images).resolve().name}",
        "images_sha256": hashlib.sha256("\0".join(files).encode()).hexdigest(),
        "recipe": recipe.model_dump(exclude={"images"}),
    }


def _sources(recipe: Recipe) -> list[Path]:
    """The images drawn, identities first, then distractors."""
    folder, wanted = resolve(recipe.images), recipe.identities + recipe.distractors
    if not folder.is_dir():
        raise PapersError(f"{folder} is no folder; name one with images: -p images FOLDER")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not _is_left(p, folder))
    if len(found) < wanted:
        raise PapersError(
            f"{folder} has {len(found)} images, and {recipe.identities} identities with {recipe.distractors} "
            "distractors need one each; lower them with -p identities N -p distractors N"
        )
    drawn = np.random.default_rng([recipe.seed, 0]).permutation(len(found))[:wanted]
    return [found[i] for i in drawn]


def _is_left(path: Path, folder: Path) -> bool:
    return any(map(is_left, path.relative_to(folder).parts))


def _shots(recipe: Recipe) -> list[tuple[str, int, int]]:
    """Part, source and camera of every picture. One camera goes round, so that each sees somebody."""
    rng = np.random.default_rng([recipe.seed, 1])
    train, shots = recipe.identities // 2, []
    for who in range(recipe.identities):
        others = rng.permutation(np.setdiff1d(np.arange(recipe.cameras), who % recipe.cameras))
        for camera in sorted([who % recipe.cameras, *others[: recipe.seen - 1].tolist()]):
            first, later = ("train", "train") if who < train else ("query", "gallery")
            shots += [(first if i == 0 else later, who, camera) for i in range(recipe.shots)]
    last = range(recipe.identities, recipe.identities + recipe.distractors)
    return shots + [("gallery", who, int(rng.integers(recipe.cameras))) for who in last]


def _camera(recipe: Recipe, number: int) -> Camera:
    rng, gap = np.random.default_rng([recipe.seed, 2, number]), recipe.gap
    side = 1 - 0.3 * gap * rng.uniform(0, 1, 2)
    left, top = (1 - side) * rng.uniform(0, 1, 2)
    return Camera(
        cast=1 + 0.5 * gap * rng.uniform(-1, 1, 3),
        exposure=float(2 ** (1.2 * gap * rng.uniform(-1, 1))),
        blur=float(1.2 * gap * rng.uniform(0, 1)),
        noise=float(0.08 * gap * rng.uniform(0, 1)),
        window=(float(left), float(top), float(left + side[0]), float(top + side[1])),
        mirrored=bool(rng.random() < 0.5),
    )


@lru_cache(maxsize=1)  # the shots of one source follow one another
def _opened(source: Path) -> Image.Image:
    with open_image(source) as image:
        return rgb(ImageOps.exif_transpose(image))


def _shoot(image: Image.Image, camera: Camera, recipe: Recipe, rng: np.random.Generator) -> Image.Image:
    """One picture of `image` as `camera` sees it now."""
    window = np.array(camera.window) + 0.04 * rng.uniform(-1, 1, 4)
    x1, y1, x2, y2 = np.clip(window, 0, 1) * [*image.size, *image.size]
    size = recipe.width, recipe.height
    seen = image.resize(size, Image.Resampling.BICUBIC, box=(x1, y1, x2, y2))
    seen = ImageOps.mirror(seen) if camera.mirrored else seen
    light = np.asarray(seen.filter(ImageFilter.GaussianBlur(camera.blur)), dtype=np.float64) / 255
    light = power(light, camera.exposure) * camera.cast * (1 + 0.05 * rng.normal())
    light += camera.noise * rng.normal(size=light.shape)
    return Image.fromarray((np.clip(light, 0, 1) * 255).round().astype(np.uint8))
