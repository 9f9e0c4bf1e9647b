"""Person re-identification data as image paths, identities and cameras: train, query, gallery.

Market-1501 (Zheng et al., ICCV 2015), DukeMTMC-reID (Zheng et al., ICCV 2017, on Ristani et al., 2016;
withdrawn), MSMT17 (Wei et al., CVPR 2018), and what `data_prep` renders or makes in their layouts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from papers_lib.datasets.reid_layouts import LAYOUTS, WITHDRAWN, Row, survey

NAMES = tuple(LAYOUTS)


@dataclass(frozen=True, eq=False)
class Side:
    """The images of train, query or gallery, sorted by file.

    `files` has N paths, `ids` [N] int64 the identities as the names say (those of train and of query and
    gallery are not the same people, whatever their numbers), `cameras` [N] int64 0 .. C-1. `keep` is where
    they are kept decoded.
    """

    files: tuple[Path, ...]
    ids: NDArray[np.int64]
    cameras: NDArray[np.int64]
    keep: Path | None = None


def side_of(base: Path, rows: Sequence[Row], keep: Path | None = None) -> Side:
    """The images of the `rows` of a survey."""
    return Side(
        files=tuple(base / row.file for row in rows),
        ids=np.array([row.id for row in rows], dtype=np.int64),  # [N]
        cameras=np.array([row.camera - 1 for row in rows], dtype=np.int64),  # [N], names count from 1
        keep=keep,
    )


@dataclass(frozen=True, eq=False)
class ReID:
    """A label table in memory; no image is read.

    The gallery is without junk (identity -1) and with distractors (0000 in the Market layout). `cameras`
    is C. The last three are those of `Survey.known`.
    """

    name: str
    root: Path
    train: Side
    query: Side
    gallery: Side
    cameras: int
    stand_in: bool
    fingerprint: str
    pixels: str = ""


def load(root: Path, name: str, acknowledge_withdrawn: bool = False) -> ReID:
    """Read names and lists of `name` under `root`.

    Args:
        root: the data set's own folder, or the one that holds it as `<name>/` or as its official folder,
            such as `Market-1501-v15.09.15/`.
        name: one of `NAMES`.
        acknowledge_withdrawn: read a real copy of DukeMTMC-reID all the same; a notice goes to stderr.

    Raises:
        PapersError: nothing there, half a data set, names that do not parse or collide, cameras with a gap
            or one only, an image that a list names and nobody has, a query without gallery, a wrong count,
            a withdrawn set. The message names the first fault and how to see all.
    """
    seen = survey(Path(root), name, acknowledge_withdrawn)
    seen.admit(Path(root), WITHDRAWN)
    train, query, gallery = (side_of(seen.base, rows, seen.kept(side)) for side, rows in seen.sides.items())
    return ReID(name, seen.base, train, query, gallery, seen.cameras, **seen.known)
