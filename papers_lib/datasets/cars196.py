"""Stanford Cars (Krause et al., 3DRR 2013) as metric learning uses it: 98 classes train, 98 test.

The split by class and the counts 8,054 / 8,131 are those of Song et al. (CVPR 2016) and of
arXiv:1907.09245, section 4. `cars196_half` is a data set of its own name: the official training
half, 8,144 images of all 196 classes, of which 4,052 are of the training classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from papers_lib.datasets.cars196_layouts import COUNTS, survey
from papers_lib.errors import PapersError

NAMES = tuple(COUNTS)


@dataclass(frozen=True, eq=False)
class Cars196:
    """A label table in memory; no image is read.

    `files` has N paths, `keep` is where they are kept decoded. `fine` [N] int64 is the class in the devkit's
    order (0 .. 195), `coarse` [N] int64 its type, index into `coarse_names`. `train` [N] bool marks the
    images of the training classes. `boxes` [N, 4] int64 are x1, y1, x2, y2, from 1 and inclusive, in pixels;
    None where the layout has none. `stand_in`, `fingerprint` and `pixels` are those of `Survey.known`.
    """

    name: str
    root: Path
    files: tuple[Path, ...]
    boxes: NDArray[np.int64] | None
    fine: NDArray[np.int64]
    coarse: NDArray[np.int64]
    train: NDArray[np.bool_]
    class_names: tuple[str, ...]
    coarse_names: tuple[str, ...]
    stand_in: bool
    fingerprint: str
    pixels: str = ""
    keep: Path | None = None

    def split(self, side: Literal["train", "test"]) -> NDArray[np.int64]:
        """Indices [n] of the images of the training or of the test classes."""
        return np.flatnonzero(self.train if side == "train" else ~self.train)


def load(root: Path, name: str = "cars196", coarse_map: str = "type22") -> Cars196:
    """Read the labels of `name` under `root`, in whichever layout they lie there.

    Args:
        root: the data set's own folder, or the folder that holds it as `<name>/`.
        name: "cars196" or "cars196_half".
        coarse_map: "type22", the word before the year in the class name, or "body9", body styles;
            both are ours, the paper publishes none (see `cars196_types.csv`).

    Raises:
        PapersError: nothing there, half a data set, labels out of step with the images, a wrong
            count, an unknown name or map. The message names the first fault and how to see all.
    """
    seen = survey(Path(root), name)
    seen.admit(Path(root))
    c = seen.catalogue
    if coarse_map not in c.coarse:
        raise PapersError(f"unknown coarse_map {coarse_map!r}; known: {', '.join(c.coarse)}")
    # Types are numbered by their names, as classes are by the devkit.
    coarse_names = tuple(sorted(set(c.coarse[coarse_map])))
    types = np.array([coarse_names.index(word) for word in c.coarse[coarse_map]], dtype=np.int64)  # [C]
    position = {label: i for i, label in enumerate(c.classes)}
    fine = np.array([position[p.label] for p in seen.pictures], dtype=np.int64)  # [N]
    boxes = [p.box for p in seen.pictures if p.box is not None]
    return Cars196(
        name=name,
        root=seen.base,
        files=tuple(seen.base / p.file for p in seen.pictures),  # N
        boxes=np.array(boxes, dtype=np.int64) if boxes else None,  # [N, 4]
        fine=fine,
        coarse=types[fine],  # [N]
        train=np.array([label in c.training for label in c.classes])[fine],  # [N]
        class_names=c.classes,
        coarse_names=coarse_names,
        keep=seen.kept("images"),
        **seen.known,
    )
