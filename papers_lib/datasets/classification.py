"""Classification sets as images and labels: CIFAR-10, CIFAR-100, Imagenette, ImageNet, and stand-ins of them.

`load` reads labels and names; `load_images` gives the pixels. Image files are decoded once, and mapped from
one file beside the data (50,000 images of 32 pixels: 154 MB).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from papers_lib.datasets.cifar_files import Labels, Pixels
from papers_lib.datasets.classification_layouts import SETS, SIDES, survey
from papers_lib.datasets.images import cut, decode, decoded, middle_square
from papers_lib.errors import PapersError

NAMES = tuple(SETS)


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

    @property
    def small(self) -> bool:
        """Whether all images are of one small size, as CIFAR's: they are kept whole and as they are."""
        return self.name in ("cifar10", "cifar100")


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
    sides = []
    for side in SIDES:
        if side in seen.pixels:
            sides.append(Split(seen.pixels[side], seen.labels[side]))
        else:
            files = tuple(seen.base / file for file in seen.files[side])
            sides.append(Split(files, seen.labels[side], seen.kept(side)))
    return Classified(name, seen.title, seen.base, sides[0], sides[1], seen.classes, **seen.known)


def load_images(split: Split, size: int | None = None) -> Pixels:
    """The pixels of a side, uint8 [N, H, W, 3], RGB, in memory or mapped; not to be changed in place.

    Args:
        split: a side of `load`.
        size: the shorter side of each image is scaled to `size`, and the middle square is kept; None: as
            the images are, which must then be of one size.

    Raises:
        PapersError: an image is missing, empty, truncated or none at all, or images differ in size and
            none is given; the message names the file.
    """
    if size is not None and size < 1:
        raise PapersError(f"size {size} is no number of pixels; give 1 or more, or none")
    images, square = split.images, None if size is None else (size, size)
    if isinstance(images, np.ndarray):
        if square is None or images.shape[1:3] == square:
            return images
        arrays = images

        def scaled(i: int) -> Pixels:
            image = Image.fromarray(arrays[i])
            return cut(image, [middle_square(*image.size)], square, reduce=False)[0]

        return decoded(len(arrays), scaled, square)
    files = images
    first = cache(lambda: decode(files[0], square, middle_square).shape)

    def one(i: int) -> Pixels:
        image = decode(files[i], square, middle_square)
        if square is None and image.shape != (shape := first()):
            raise PapersError(
                f"{files[i]} has {image.shape[1]}x{image.shape[0]} pixels, {files[0]} {shape[1]}x{shape[0]}; "
                "give a size to scale them to"
            )
        return image

    keep = split.cache and split.cache.with_name(f"{split.cache.name}-{size or 'own'}.npy")
    return decoded(len(files), one, square, keep)
