"""Has a representation collapsed? Three meters of features [N, d], on any device.

Self-supervised losses can fall while all images move to one point, into a few directions, or into a few
clumps; each meter sees one of these.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from papers_lib import arrays
from papers_lib.arrays import Array
from papers_lib.compute import exact
from papers_lib.errors import PapersError
from papers_lib.evaluation.nearness import of_ordinary_size, slices


@exact()
def effective_rank(features: Array) -> float:
    """exp(− Σ pᵢ log pᵢ) with pᵢ = σᵢ² / Σ σⱼ², σ the singular values of the features as they are.

    1 where all features are multiples of one vector, min(N, d) where all directions carry as much. (Roy
    and Vetterli, 2007, weigh by σ; squares make it the spectrum of the second moment.)

    Args:
        features: [N, d]; computed in float64, by the smaller of the two Gram matrices.

    Raises:
        PapersError: not a matrix with rows, values that are not finite, or zeros alone.
    """
    x = arrays.features("features", features)
    size = x.abs().max()
    if size == 0:
        raise PapersError("all features are zero, so they have no rank; the network is dead")
    x = x.double() / size  # squares of tiny features would vanish
    # σᵢ² are the eigenvalues of either Gram matrix; rounding can take a zero below zero.
    squares = torch.linalg.eigvalsh(x.T @ x if len(x) > x.shape[1] else x @ x.T).clamp(min=0)
    # entr(p) = − p log p, and 0 at 0.
    return float(torch.special.entr(squares / squares.sum()).sum().exp())


@exact()
def std_of_normalised(features: Array) -> float:
    """√d times the mean over dimensions of the standard deviation of the rows, brought to length 1.

    0 where all rows point the same way, about 1 where they are spread evenly over the sphere (the meter
    of Chen and He, "Exploring Simple Siamese Representation Learning", 2021).

    Args:
        features: [N, d], two rows or more.

    Raises:
        PapersError: fewer rows, or values that are not finite.
    """
    x = F.normalize(of_ordinary_size(arrays.features("features", features, least=2)))
    # Even over the sphere, a coordinate has variance 1 / d.
    return float(x.std(0).mean() * x.shape[1] ** 0.5)


@exact()
def clusters(features: Array, cosine: float = 0.9, chunk: int = 1536) -> int:
    """The number of connected components, two rows being connected where their cosine is above `cosine`.

    Args:
        features: [N, d].
        chunk: a block of cosines has at most chunk² values.

    Raises:
        PapersError: not a matrix with rows, or values that are not finite.
    """
    x = F.normalize(of_ordinary_size(arrays.features("features", features)))  # [N, d]
    labels: NDArray[np.int32] = np.arange(len(x), dtype=np.int32)  # [N] the component of each row
    for rows in slices(0, len(x), max(1, chunk * chunk // len(x))):
        edges = (x[rows] @ x[rows.start :].T > cosine).nonzero().cpu().numpy() + rows.start  # [E, 2]
        # The components so far are the nodes: joining them keeps the graph small.
        a, b = labels[edges].T
        graph = coo_array((np.ones(len(a), dtype=bool), (a, b)), shape=(labels.max() + 1,) * 2)
        labels = connected_components(graph, directed=False)[1][labels]
    return int(labels.max()) + 1
