"""Faces to train on and pairs to verify: record packs, class folders, LFW, and stand-ins of them.

`load` reads labels and pairs; `pixels` and `load_images` decode. Images are taken as they are, aligned
or not, and scaled to one square. Nothing here fetches faces but `fetch_lfw`, which asks scikit-learn to.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from papers_lib.datasets.face_layouts import SETS, WITHDRAWN, Pairs, Survey, survey
from papers_lib.datasets.face_records import Pack
from papers_lib.datasets.images import open_image, rgb
from papers_lib.errors import PapersError

NAMES = tuple(SETS)
Pixels = NDArray[np.uint8]

_CHUNK = 32  # images a task: a task each would cost more than a small image


@dataclass(frozen=True, eq=False)
class Training:
    """N training images, with `labels` [N] int64, 0 .. C-1; `source` has their files, or is a record pack."""

    source: Pack | tuple[Path, ...]
    labels: NDArray[np.int64]
    identities: int

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self, indices: Sequence[int], size: int, threads: int = 2) -> Pixels:
        """Some images, uint8 [n, size, size, 3], RGB.

        Raises:
            PapersError: one is missing or damaged; the message names it.
        """
        return _decoded(lambda i: self._image(indices[i]), len(indices), size, threads)

    def _image(self, index: int) -> tuple[Path | bytes, str]:
        if isinstance(self.source, Pack):
            return self.source.image(index), f"{self.source.file.path}, image {index}"
        return self.source[index], str(self.source[index])


@dataclass(frozen=True, eq=False)
class Faces:
    """A data set of faces; no image is read. `train` is None for LFW; `tests` has pairs by name.

    `title` is how a result names it, such as "MS1MV2". The last three are those of `Found.known`, with
    the limits of `Survey.content`.
    """

    name: str
    title: str
    root: Path
    train: Training | None
    tests: Mapping[str, Pairs]
    stand_in: bool
    fingerprint: str
    pixels: str = ""


def load(root: Path, name: str, acknowledge_withdrawn: bool = False) -> Faces:
    """Read which images and pairs `name` has under `root`.

    Args:
        root: the data set's own folder, or the one that holds it as `<name>/` or as its official folder.
        name: one of `NAMES`.
        acknowledge_withdrawn: read a real copy of faces_emore all the same; a notice goes to stderr.

    Raises:
        PapersError: nothing there, half a data set, records or pairs that are broken, out of step or miss an
            image, a wrong count, a withdrawn set. The message names the first fault and how to see all.
    """
    found = survey(Path(root), name, acknowledge_withdrawn)
    withdrawn = WITHDRAWN in found.notes
    found.refuse(Path(root), " --acknowledge-withdrawn" * withdrawn)
    if withdrawn:
        print(WITHDRAWN, file=sys.stderr)
    return Faces(name, found.title, found.base, _training(found), found.tests, **found.known)


def fetch_lfw(folder: Path) -> Faces:
    """LFW as `sklearn.datasets.fetch_lfw_pairs` fetches it below `folder`, where it is not there yet.

    This goes to the network, and is called by nothing else here.

    Raises:
        PapersError: it cannot be fetched, or what came is no whole LFW.
    """
    from sklearn.datasets import fetch_lfw_pairs

    try:
        fetch_lfw_pairs(subset="10_folds", data_home=str(folder), resize=0.1)  # small: only its files count
    except OSError as error:
        raise PapersError(f"LFW cannot be fetched ({error}); import a copy: python -m data_prep import "
                          f"lfw SOURCE {folder}") from None  # fmt: skip
    return load(folder / "lfw_home", "lfw")


def load_images(pairs: Pairs, size: int, threads: int = 2) -> Pixels:
    """All images of a list of pairs, uint8 [N, size, size, 3], RGB, in memory.

    Raises:
        PapersError: an image is missing or damaged; the message names it.
    """

    def image(i: int) -> tuple[Path | bytes, str]:
        one = pairs.images[i]
        return one, str(one) if isinstance(one, Path) else f"{pairs.name}.bin, image {i}"

    return _decoded(image, len(pairs.images), size, threads)


def _training(found: Survey) -> Training | None:
    if not SETS[found.name].trains:
        return None
    if found.pack is not None:
        return Training(found.pack, found.pack.labels, found.pack.identities)
    files = tuple(found.base / file for folder in found.folders.values() for file in folder)
    sizes = [len(folder) for folder in found.folders.values()]
    return Training(files, np.repeat(np.arange(len(sizes), dtype=np.int64), sizes), len(sizes))


def _decoded(image: Callable[[int], tuple[Path | bytes, str]], count: int, size: int, threads: int) -> Pixels:
    """`count` images of a square, each found, with its name, by `image`."""
    pixels = np.empty((count, size, size, 3), dtype=np.uint8)

    def fill(start: int) -> None:
        for i in range(start, min(start + _CHUNK, count)):
            pixels[i] = decode(*image(i), size)

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(fill, range(0, count, _CHUNK)):
            pass
    return pixels


def decode(image: Path | bytes, name: str, size: int) -> Pixels:
    """One image [size, size, 3]; what is no square is squashed to one.

    Raises:
        PapersError: it is missing or damaged; the message has its `name`.
    """
    with open_image(image, name) as opened:
        picture = rgb(opened)
        if picture.size != (size, size):
            picture = picture.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(picture)
