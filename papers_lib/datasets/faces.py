"""Faces to train on and pairs to verify: record packs, class folders, LFW, and stand-ins of them.

`load` reads labels and pairs; `pixels` and `load_images` decode. Images are taken as they are, aligned
or not, and squashed to one square. Nothing here fetches faces but `fetch_lfw`, which asks scikit-learn to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from papers_lib.datasets.face_layouts import SETS, WITHDRAWN, Pairs, survey, survey_pairs
from papers_lib.datasets.face_records import Pack
from papers_lib.datasets.images import Pixels, decode, decoded
from papers_lib.errors import PapersError

NAMES = tuple(SETS)
MAKE = "python -m data_prep pairs FOLDER_OF_PEOPLE"


@dataclass(frozen=True, eq=False)
class Training:
    """N training images, with `labels` [N] int64, 0 .. C-1; `source` has their files, or is a record pack."""

    source: Pack | tuple[Path, ...]
    labels: NDArray[np.int64]
    identities: int

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int, size: int) -> Pixels:
        """One image, uint8 [size, size, 3], RGB; errors as `pixels`."""
        if isinstance(self.source, Pack):
            name = f"{self.source.file.path}, image {index}"
            return decode(self.source.image(index), (size, size), reduce=False, name=name)
        return decode(self.source[index], (size, size), reduce=False)

    def pixels(self, indices: Sequence[int], size: int) -> Pixels:
        """Some images, uint8 [n, size, size, 3], RGB.

        Raises:
            PapersError: one is missing or damaged; the message names it.
        """
        return decoded(len(indices), lambda i: self.image(indices[i], size), (size, size))


@dataclass(frozen=True, eq=False)
class Faces:
    """A data set of faces; no image is read. `train` is None where there are only pairs.

    `tests` has pairs by name; `title` is how a result names it, such as "MS1MV2". The last three are those
    of `Survey.known`.
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
    seen = survey(Path(root), name, acknowledge_withdrawn)
    seen.admit(Path(root), WITHDRAWN)
    train = None
    if seen.pack is not None:
        train = Training(seen.pack, seen.pack.labels, seen.pack.identities)
    elif seen.folders:
        files = tuple(seen.base / file for files in seen.folders.values() for file in files)
        # Identities are numbered by their sorted folders.
        sizes = [len(files) for files in seen.folders.values()]
        train = Training(files, np.repeat(np.arange(len(sizes), dtype=np.int64), sizes), len(sizes))
    return Faces(name, seen.title, seen.base, train, seen.tests, **seen.known)


def read_pairs(path: Path) -> Mapping[str, Pairs]:
    """The pairs of a list (`pairs.txt` or a `.bin`), or of a folder that holds lists; no image is read.

    Raises:
        PapersError: no such file, no pairs, or the first fault of a list.
    """
    seen = survey(path, "faces_own") if path.is_dir() else survey_pairs(path)
    if seen.problems or not seen.tests:
        raise PapersError(seen.problems[0] if seen.problems else f"{path} has no pairs; make some: {MAKE}")
    return seen.tests


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
        copy = f"import a copy: python -m data_prep import lfw SOURCE {folder}"
        raise PapersError(f"LFW cannot be fetched ({error}); {copy}") from None
    return load(folder / "lfw_home", "lfw")


def load_images(pairs: Pairs, size: int) -> Pixels:
    """All images of a list of pairs, uint8 [N, size, size, 3], RGB, in memory.

    Raises:
        PapersError: an image is missing or damaged; the message names it.
    """

    def image(i: int) -> Pixels:
        source = pairs.images[i]
        name = "" if isinstance(source, Path) else f"{pairs.name}.bin, image {i}"
        return decode(source, (size, size), reduce=False, name=name)

    return decoded(len(pairs.images), image, (size, size))
