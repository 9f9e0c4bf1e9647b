"""Classification sets as images and labels: CIFAR-10, CIFAR-100, Imagenette, ImageNet, and stand-ins of them.

`load` reads labels and names; `load_images` gives the pixels. Image files are decoded once: the result
lies as one `.npy` beside the data, under a name that changes with the files, and is read from there
the next time (50,000 images of 32 pixels: 154 MB).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from papers_lib.datasets.cifar_files import Labels, Pixels
from papers_lib.datasets.classification_layouts import SETS, SIDES, survey
from papers_lib.datasets.images import fill, open_image, rgb
from papers_lib.errors import PapersError
from papers_lib.files import PlaceError, replacing

NAMES = tuple(SETS)
CACHE = ".decoded"
LARGEST = 4 * 2**30  # bytes of decoded images that are still kept on disk


@dataclass(frozen=True, eq=False)
class Split:
    """One side of a data set. `images` are pixels uint8 [N, H, W, 3], or N files; `labels` [N] int64.

    `cache` is the path, without suffix, at which decoded files are kept; None where there is no need.
    """

    images: Pixels | tuple[Path, ...]
    labels: Labels
    cache: Path | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Classified:
    """A data set with its labels. `title` is how a result names it, such as "CIFAR-10 (JPEG copy)".

    `classes` are the names, in the order of the labels. The last three are those of `Survey.known`.
    """

    name: str
    title: str
    root: Path
    train: Split
    test: Split
    classes: tuple[str, ...]
    stand_in: bool
    fingerprint: str
    pixels: str = ""


def load(root: Path, name: str) -> Classified:
    """Read the labels of `name` under `root`, in whichever layout they lie there; no image is opened.

    Args:
        root: the data set's own folder, or the one that holds it as `<name>/` or as its official folder.
        name: one of `NAMES`.

    Raises:
        PapersError: nothing there, half a data set, a wrong count, classes that differ between train and
            test, labels out of step with the images. The message names the first fault and how to see all.
    """
    seen = survey(Path(root), name)
    seen.admit(Path(root))
    known = seen.known
    # The time stands beside the content, which cannot see other bytes of the same number.
    content = known["pixels"] or known["fingerprint"]
    state = hashlib.sha256(f"{content} {seen.newest}".encode()).hexdigest()[:16]
    sides = []
    for side in SIDES:
        labels, cache = seen.labels[side], seen.base / CACHE / f"{side}-{state}"
        if side in seen.pixels:
            sides.append(Split(seen.pixels[side], labels))
        else:
            sides.append(Split(tuple(seen.base / file for file in seen.files[side]), labels, cache))
    return Classified(name, seen.title, seen.base, sides[0], sides[1], seen.classes, **known)


def load_images(split: Split, size: int | None = None, threads: int = 2) -> Pixels:
    """The pixels of a side, uint8 [N, H, W, 3], RGB, in memory; not to be changed in place.

    Decoded files are kept beside the data; where that cannot be written, they are decoded each time.

    Args:
        split: a side of `load`.
        size: the shorter side of each image is scaled to `size`, and the middle square is kept; None: as
            the images are, which must then be of one size.
        threads: decoders at once (Pillow works outside Python's lock).

    Raises:
        PapersError: an image is missing, empty, truncated or none at all, or images differ in size and
            none is given; the message names the file.
    """
    if size is not None and size < 1:
        raise PapersError(f"size {size} is no number of pixels; give 1 or more, or none")
    if isinstance(split.images, np.ndarray):
        return _squares(split.images, size, threads)
    path = None if split.cache is None else split.cache.with_name(f"{split.cache.name}-{size or 'own'}.npy")
    pixels = _kept(path, len(split))
    if pixels is None:
        pixels = _decode_all(split.images, size, threads)
        # Of a set as large as ImageNet the copy would cost more than decoding again.
        if path is not None and pixels.nbytes <= LARGEST:
            _keep(path, pixels)
    return pixels


def _squares(images: Pixels, size: int | None, threads: int) -> Pixels:
    if size is None or images.shape[1:3] == (size, size):
        return images
    pixels = np.empty((len(images), size, size, 3), dtype=np.uint8)  # [N, size, size, 3]
    fill(pixels, lambda i: np.asarray(_square(Image.fromarray(images[i]), size)), threads)
    return pixels


def _decode_all(files: Sequence[Path], size: int | None, threads: int) -> Pixels:
    first = decode(files[0], size).shape if files else (size or 0, size or 0, 3)
    pixels = np.empty((len(files), *first), dtype=np.uint8)  # [N, H, W, 3]

    def decoded(i: int) -> Pixels:
        image = decode(files[i], size)
        if image.shape != first:
            raise PapersError(
                f"{files[i]} has {image.shape[1]}x{image.shape[0]} pixels, {files[0]} {first[1]}x{first[0]}; "
                "give a size to scale them to"
            )
        return image

    fill(pixels, decoded, threads)
    return pixels


def decode(file: Path, size: int | None = None) -> Pixels:
    """One image [H, W, 3] of `load_images`."""
    with open_image(file) as image:
        if size is not None:
            # The JPEG decoder halves the image as often as leaves its shorter side at least `size`.
            (wide, high), factor = image.size, size / min(image.size)
            image.draft("RGB", (math.ceil(wide * factor), math.ceil(high * factor)))
        picture = rgb(image)
    return np.asarray(picture if size is None else _square(picture, size))


def _square(picture: Image.Image, size: int) -> Image.Image:
    """The middle square, scaled to `size`."""
    wide, high = picture.size
    # The box is cut out and scaled in one step.
    side = min(wide, high)
    x, y = (wide - side) / 2, (high - side) / 2
    return picture.resize((size, size), Image.Resampling.BILINEAR, box=(x, y, x + side, y + side))


# -- decoded images on disk --


def _kept(path: Path | None, count: int) -> Pixels | None:
    if path is None or not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            # Read whole, not mapped: the digest behind the pixels is held against them.
            pixels = np.lib.format.read_array(file, allow_pickle=False)
            whole = file.read() == _digest(pixels)
    except Exception:  # a damaged file raises almost anything: the images are decoded again
        return None
    return pixels if whole and pixels.ndim == 4 and len(pixels) == count else None


def _digest(pixels: NDArray[Any]) -> bytes:
    """What stands behind the pixels on disk."""
    digest = hashlib.sha256(f"{pixels.dtype} {pixels.shape}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


def _keep(path: Path, pixels: Pixels) -> None:
    """Write `pixels`, and remove what older files, or a killed process, left for this side and size."""
    # "train-<state>-<size>.npy"
    side, _, own = path.stem.split("-")
    # A folder that cannot be written costs time, nothing else.
    with suppress(PlaceError), replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, pixels, allow_pickle=False)
        file.write(_digest(pixels))
    for old in path.parent.glob(f"{side}-*-{own}.npy"):
        if old != path:
            with suppress(OSError):
                old.unlink()
