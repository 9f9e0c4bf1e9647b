"""Why many images per class in a small batch can ruin training: batch normalisation on a toy.

Features are a centroid a class plus noise. A batch normalised by its own mean and variance loses what its
images share; with one class in the batch that is the class itself.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from papers_lib.errors import PapersError
from papers_lib.exhibits.table import Cell, Table

SETTINGS = (1, 2, 4, 8, 12, 16, 32)  # Section IV-B
BATCH = 32  # Section IV-B
CLASSES, DIMENSION = 700, 256

Array = NDArray[np.float32]


class Toy(NamedTuple):
    """Share of images whose own proxy is the nearest of all, and mean cosine to it."""

    own_nearest: float
    cosine: float


def batch_norm_toy(
    k: int, p: int | None = None, noise: float = 1.0, *, batches: int = 150, seed: int = 0
) -> Toy:
    """What batch normalisation leaves of the class, with `k` images of each of `p` classes per batch.

    x = c_y + noise · e with c_y and e standard normal [256], 700 classes (a mean common to all would change
    nothing, the normalisation takes it away). The proxy of y is c_y as the population's normalisation
    leaves it; a batch is normalised by its own mean and variance; both then to length one. Without `p` the
    batch has 32 images, cut from groups of `k` as from the sampler's list: at 12, groups of 12, 12 and 8.

    Raises:
        PapersError: k, p, or batches below one, more classes than there are, or noise that is no scale.
    """
    classes = -(-BATCH // k) if p is None and k > 0 else p or 0
    if min(k, classes, batches) < 1 or classes > CLASSES or not 0 <= noise < np.inf:
        raise PapersError(
            f"batch_norm_toy: k={k}, p={p}, batches={batches}, noise={noise}; give k, batches and "
            f"p of at least one (p up to {CLASSES}), and noise of zero or more"
        )
    size = BATCH if p is None else k * p
    rng = np.random.default_rng(seed)
    centroids = rng.standard_normal((CLASSES, DIMENSION), dtype=np.float32)
    proxies = _unit((centroids - centroids.mean(0)) / np.sqrt(centroids.var(0) + noise**2))
    own = np.stack([np.repeat(rng.permutation(CLASSES)[:classes], k)[:size] for _ in range(batches)])
    noises = rng.standard_normal((batches, size, DIMENSION), dtype=np.float32)
    features = centroids[own] + np.float32(noise) * noises  # x = c_y + noise · e
    cosines = _unit(_normalise(features)).reshape(-1, DIMENSION) @ proxies.T
    nearest = cosines.argmax(1) == own.ravel()
    return Toy(float(nearest.mean()), float(cosines[np.arange(len(cosines)), own.ravel()].mean()))


@cache
def toy_table() -> Table:
    """Both measures by K in batches of 32, and for K of 16 and 32 again with four classes per batch."""
    cases = [*((k, None) for k in SETTINGS), (16, 4), (32, 4)]
    near, cosine = ([f"{what}, noise {noise}" for noise in (1, 2)] for what in ("own nearest, %", "cosine"))
    return Table(
        "toy",
        "What batch normalisation leaves of the class: a toy",
        ["K", "classes per batch", "images per batch", *near, *cosine],
        [_row(k, p) for k, p in cases],
        decimals={"classes per batch": 1} | dict.fromkeys(near, 1),
        notes=("Own nearest: images whose own proxy is the nearest of all; cosine: to the own proxy, mean.",),
        footer=f"{CLASSES} classes of {DIMENSION} dimensions, one seed; chance is {100 / CLASSES:.2f} %; a "
        "sufficient cause of the collapse at large K, no proof that it is the cause",
    )


def _row(k: int, p: int | None) -> list[Cell]:
    found = [batch_norm_toy(k, p, noise, batches=60) for noise in (1.0, 2.0)]
    size = BATCH if p is None else k * p
    cosines = [round(toy.cosine, 4) + 0.0 for toy in found]  # what is left of one is a processor's last bit
    return [k, size / k, size, *(100 * toy.own_nearest for toy in found), *cosines]


def _normalise(features: Array) -> Array:
    """Batch normalisation of [batches, images, d] over the images."""
    centred: Array = features - features.mean(1, keepdims=True)
    scale: Array = np.sqrt(centred.var(1, keepdims=True) + np.float32(1e-5))
    return centred / scale


def _unit(vectors: Array) -> Array:
    scaled: Array = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return scaled
