"""Pseudo-labels: DBSCAN on the k-reciprocal Jaccard distance, exact and sparse (never N×N).

The distance is the re-ranking distance of Zhong et al. ("Re-ranking Person Re-identification with
k-reciprocal Encoding", CVPR 2017) as clustering methods for person re-identification use it. With
N(i, k) the k nearest of image i, i itself the first of them:

    R(i, k) = {j ∈ N(i, k) : i ∈ N(j, k)}
    R*(i)   = R(i, k1) and every R(c, k1/2), c ∈ R(i, k1), with |R(i, k1) ∩ R(c, k1/2)| > 2/3 |R(c, k1/2)|
    V_i(j)  = exp(−|x_i − x_j|²) for j ∈ R*(i), divided by its sum over j
    V_i     ← mean of V_j over the k2 nearest j of i                        (query expansion)
    d(i, j) = 1 − t / (2 − t),  t = Σ_n min(V_i(n), V_j(n))

Rows of V have some tens of entries, so they are kept as sparse rows, and distances are computed
only for pairs that can be near enough: Σ min(a, b) ≤ Σ √(a·b), and the right side is a sparse product.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from papers_lib import arrays
from papers_lib.arrays import Array
from papers_lib.compute import exact
from papers_lib.errors import PapersError
from papers_lib.evaluation.nearness import Points, near_origin, slices
from papers_lib.sampler_study.neighbours import nearest, squared_distances

PRODUCTS = 4_000_000  # of a part of the graph: bounds its working memory
PAIRS = 65_536  # compared exactly at once
ROUNDING = 1e-5  # of the float32 bound, generously


@exact()
def cluster(
    features: Array,
    k1: int = 20,
    k2: int = 6,
    eps: float = 0.5,
    min_samples: int = 4,
    eps_tol: float = 1e-6,
    k1_includes_self: bool = True,
) -> Tensor:
    """Pseudo-labels [N] int64 by DBSCAN on the Jaccard distance; −1 for outliers.

    Args:
        features: [N, d] float, normalised by the caller; the neighbours are searched on its device
            in float32, the rest runs on the CPU.
        k1, k2: neighbours for the k-reciprocal sets and for the query expansion.
        eps, min_samples: of DBSCAN; an image counts itself.
        eps_tol: added to eps. Two images that share 4 of k2 = 6 neighbours lie at exactly 1/2, so
            that without it rounding decides at eps = 0.5.
        k1_includes_self: the image itself is one of the k1 (as in the code of SpCL, CAP and
            Cluster Contrast), or comes on top of them (as in the re-ranking code).

    Returns:
        Labels on the device of the features, numbered as scikit-learn does: by the first core
        image of a cluster. All of them may be −1.

    Raises:
        PapersError: as `jaccard_graph`, eps outside (0, 1], or min_samples < 1.
    """
    if not 0 < eps <= 1:
        raise PapersError(f"eps={eps}; a Jaccard distance lies in (0, 1]")
    arrays.whole("min_samples", min_samples)  # before the long part
    x = arrays.tensor("features", features)
    graph = jaccard_graph(x, k1, k2, eps + eps_tol, k1_includes_self)
    return dbscan(graph, eps + eps_tol, min_samples).to(x.device)


@exact()
def proxies(labels: Array, cameras: Array) -> tuple[Tensor, Tensor, Tensor]:
    """Camera-aware proxies: each cluster split by camera, numbered by (cluster, camera).

    Args:
        labels: [N] integers, −1 for outliers.
        cameras: [N] integers.

    Returns:
        Proxy labels [N] int64 (−1 for outliers), and the cluster [P] and the camera [P] of each proxy.

    Raises:
        PapersError: lengths that differ, or labels that are no integers from −1 on.
    """
    clusters = arrays.integers("labels", labels, least=-1)
    by_camera = arrays.integers("cameras", cameras, len(clusters)).to(clusters.device)
    inlier = clusters >= 0
    pairs = torch.stack((clusters[inlier], by_camera[inlier]), 1)
    kinds, number = torch.unique(pairs, dim=0, return_inverse=True)  # [P, 2], [inliers]
    proxy = torch.full_like(clusters, -1)
    proxy[inlier] = number
    return proxy, kinds[:, 0], kinds[:, 1]


@exact()
def jaccard_graph(
    features: Array, k1: int = 20, k2: int = 6, limit: float = 0.5, k1_includes_self: bool = True
) -> csr_array:
    """Jaccard distances [N, N] of the pairs with distance ≤ `limit`, symmetric, as sparse rows.

    Distances of 0, such as those on the diagonal, are stored entries. Pairs that share no neighbour
    have distance 1 and are never stored. Arguments as `cluster`.

    Raises:
        PapersError: features that are not [N, d] or not finite, k1 or k2 < 1, fewer images than
            neighbours asked for, or a limit ≤ 0.
    """
    k1, k2 = arrays.whole("k1", k1), arrays.whole("k2", k2)
    width = k1 + (not k1_includes_self)
    if not limit > 0:
        raise PapersError(f"limit={limit}; a Jaccard distance lies in (0, 1]")
    x = near_origin(arrays.features("features", features, wide=False))  # unscaled: V is of their distances
    points = Points.at(x)
    if len(points) < max(width, k2):
        raise PapersError(f"{len(points)} images for k1={k1}, k2={k2}; give more images or lower k1 and k2")
    indices, squared = nearest(points, max(width, k2))  # [N, k]
    ranks = indices.cpu().numpy().astype(np.int32)
    members = _expanded(ranks[:, :width], round(k1 / 2) + 1)
    weights = _weights(points, members, indices, squared)
    # V_i ← mean of V_j over the k2 nearest j
    weights = (_rows_of(ranks[:, :k2], 1 / k2) @ weights).tocsr()
    weights.sort_indices()
    return _graph(weights, limit)


def dbscan(graph: csr_array, eps: float, min_samples: int = 4) -> Tensor:
    """DBSCAN on a symmetric sparse graph of distances whose stored entries include the diagonal.

    Labels [N] int64, equal to scikit-learn's, which takes ten times as long: −1 for outliers, clusters
    numbered by their first core image, and a border image belongs to the first of the clusters that reach it.

    Args:
        graph: from `jaccard_graph`, with a limit of at least eps.
        eps, min_samples: as `cluster`, without tolerance.

    Raises:
        PapersError: eps ≤ 0 or min_samples < 1.
    """
    if not eps > 0:
        raise PapersError(f"eps={eps}; a Jaccard distance lies in (0, 1]")
    arrays.whole("min_samples", min_samples)  # an image counts itself
    near = graph.tocoo()
    kept = near.data <= eps
    i, j = near.row[kept], near.col[kept]
    n = graph.shape[0]
    # -- clusters are the connected components of the core images --
    core = np.bincount(i, minlength=n) >= min_samples  # [N]
    inner = core[i] & core[j]
    links = coo_array((np.ones(inner.sum(), bool), (i[inner], j[inner])), shape=graph.shape)
    _, component = connected_components(links, directed=False)
    cores = core.nonzero()[0]
    _, first, cluster = np.unique(component[cores], return_index=True, return_inverse=True)
    labels = np.full(n, n, np.int64)  # n: in no cluster yet
    labels[cores] = np.argsort(np.argsort(first))[cluster]
    # -- a border image takes the lowest label of the cores that reach it --
    reached = core[i] & ~core[j]
    border = labels.copy()
    np.minimum.at(border, j[reached], labels[i[reached]])
    border[border == n] = -1
    return torch.from_numpy(border)


def _rows_of(ranks: NDArray[np.int32], value: float) -> csr_array:
    """Rows [N, N] that hold `value` at the nearest [N, k] of each image."""
    count, k = ranks.shape
    starts = np.arange(0, count * k + 1, k)
    return csr_array((np.full(count * k, value), ranks.ravel(), starts), shape=(count, count))


def _reciprocal(ranks: NDArray[np.int32]) -> csr_array:
    """R(i, k) as rows of ones, from the k nearest [N, k]."""
    forward = _rows_of(ranks, 1)
    return forward.multiply(forward.T.tocsr()).tocsr()  # j is near i and i is near j


def _expanded(ranks: NDArray[np.int32], half: int) -> csr_array:
    """R*(i) as rows with sorted columns, from the k nearest [N, k]; the values have no meaning."""
    near, halves = _reciprocal(ranks), _reciprocal(ranks[:, :half])
    size = halves.sum(1)
    common = (near @ halves.T).multiply(near).tocsr()  # |R(i, k1) ∩ R(c, k1/2)| for c ∈ R(i, k1)
    common.data = (3 * common.data > 2 * size[common.indices]).astype(np.int32)
    common.eliminate_zeros()
    members = (near + common @ halves).tocsr()
    members.sort_indices()
    return members


def _weights(points: Points, members: csr_array, indices: Tensor, squared: Tensor) -> csr_array:
    """V before query expansion, [N, N]. Distances come from the search [N, k] where it has them."""
    count = len(points)
    i = np.repeat(np.arange(count), np.diff(members.indptr))
    # A pair (i, j) as one number, i · N + j, so that one sorted list is searched for all.
    wanted = torch.from_numpy(i * count + members.indices).to(indices.device)
    known, order = (torch.arange(count, device=indices.device)[:, None] * count + indices).ravel().sort()
    at = torch.searchsorted(known, wanted).clamp_(max=len(known) - 1)
    distances = squared.ravel()[order[at]]
    missing = known[at] != wanted
    distances[missing] = squared_distances(points, wanted[missing] // count, wanted[missing] % count)
    # exp(−|x_i − x_j|²), divided by the row's sum
    values = np.exp(-distances.cpu().numpy().astype(np.float64))
    values /= np.add.reduceat(values, members.indptr[:-1])[i]
    return csr_array((values, members.indices, members.indptr), shape=members.shape)


def _graph(weights: csr_array, limit: float) -> csr_array:
    """Distances ≤ limit from V [N, N], both directions and the diagonal."""
    diagonal = np.arange(weights.shape[0], dtype=np.int32)
    rows, columns, values = [diagonal], [diagonal], [np.zeros(len(diagonal))]
    for i, j in _candidates(weights, limit):
        for part in slices(0, len(i), PAIRS):
            # t = Σ_n min(V_i(n), V_j(n)), d = 1 − t / (2 − t)
            t = weights[i[part]].minimum(weights[j[part]]).sum(1)
            d = np.maximum(1 - t / (2 - t), 0)
            near = d <= limit
            rows += [i[part][near], j[part][near]]
            columns += [j[part][near], i[part][near]]
            values += [d[near], d[near]]
    places = np.concatenate(rows), np.concatenate(columns)
    graph = coo_array((np.concatenate(values), places), shape=weights.shape).tocsr()
    graph.sort_indices()
    return graph


def _candidates(weights: csr_array, limit: float) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32]]]:
    """Pairs i < j whose bound Σ √(V_i V_j) lets them be within the limit."""
    least = 2 * (1 - limit) / (2 - limit) - ROUNDING  # d ≤ limit ⟺ t ≥ 2 (1 − limit) / (2 − limit)
    roots = weights.astype(np.float32)
    np.sqrt(roots.data, out=roots.data)
    # Consecutive rows with about as many products each.
    shared = np.bincount(roots.indices, minlength=roots.shape[1])
    products = np.cumsum(np.add.reduceat(shared[roots.indices], roots.indptr[:-1]))
    cuts = np.searchsorted(products, np.arange(PRODUCTS, products[-1], PRODUCTS))
    for first, end in itertools.pairwise(np.unique([0, *cuts, roots.shape[0]]).tolist()):
        bound = (roots[first:end] @ roots[first:].T).tocoo()
        kept = (bound.data >= least) & (bound.col > bound.row)
        yield bound.row[kept] + first, bound.col[kept] + first
