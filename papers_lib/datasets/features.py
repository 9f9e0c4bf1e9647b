"""Sets of frozen features: what an ImageNet backbone says of real photographs, small enough to ship.

A backbone's features [N, D] are cut to their first principal components and rounded to int8. The images
do not travel: a fresh clone trains heads on real photographs, without a download and without a GPU. The
card of each set (`data_prep/cards/`) says of which images it is, their licence, and what makes it again.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from papers_lib.errors import PapersError
from papers_lib.files import replacing

SHIPPED = Path(__file__).with_name("shipped")
NAMES = tuple(sorted(folder.name for folder in SHIPPED.iterdir() if folder.is_dir()))
FILE = "features.npz"
LIMIT = 127  # codes lie in −127 .. 127


@dataclass(frozen=True, eq=False)
class Features:
    """A set of frozen features.

    `values` are float32 [N, d], or [N, views, d]; `labels` holds integers [N] by name (`fine`, `camera`).
    """

    name: str
    root: Path
    values: NDArray[np.float32]
    labels: dict[str, NDArray[np.int64]]
    fingerprint: str
    stand_in: bool = False
    pixels: str = ""


def load(root: Path, name: str) -> Features:
    """Read the set `name` in `root`, which holds it as `<name>/features.npz`.

    Raises:
        PapersError: it is not there, or is damaged.
    """
    path = root / name / FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PapersError(f"cannot read {path} ({error.strerror}); restore it") from None
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
        # x ≈ code · scale, component by component
        values = arrays.pop("codes").astype(np.float32) * arrays.pop("scale")
        labels = {key: array.astype(np.int64) for key, array in arrays.items()}
    except Exception as error:  # a damaged archive raises almost anything
        raise PapersError(f"{path} is no set of features ({type(error).__name__}); restore it") from None
    fingerprint = hashlib.sha256(content).hexdigest()
    return Features(name, root, values, labels, fingerprint)


def save(path: Path, values: NDArray[np.floating[Any]], labels: Mapping[str, NDArray[Any]]) -> None:
    """Round `values` [N, …, d] to int8, each component by its own scale, and write them with `labels`."""
    scale = (np.abs(values).max(tuple(range(values.ndim - 1))) / LIMIT).astype(np.float32)  # [d]
    codes = np.rint(values / np.maximum(scale, np.finfo(np.float32).tiny)).astype(np.int8)
    with replacing(path) as temporary, temporary.open("wb") as file:
        arrays: dict[str, Any] = {"codes": codes, "scale": scale, **labels}
        np.savez_compressed(file, **arrays)


def principal(values: NDArray[np.float32], fitted: NDArray[np.bool_], components: int) -> NDArray[np.float32]:
    """The first principal components [N, components] of `values` [N, D], fitted on the rows `fitted` [N]."""
    centred = values - values[fitted].mean(0)
    _, _, axes = np.linalg.svd(centred[fitted], full_matrices=False)  # [≤ D, D], the widest first
    axes = axes[:components]
    # LAPACK leaves the signs open: the largest entry of an axis is positive
    largest = np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], 1)
    projected: NDArray[np.float32] = (centred @ (axes * np.sign(largest)).T).astype(np.float32)
    return projected
