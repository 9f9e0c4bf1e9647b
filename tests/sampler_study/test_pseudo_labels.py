"""Pseudo-labels against the equations as plain loops over dense lists, and DBSCAN against scikit-learn."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.cluster import DBSCAN

from papers_lib.errors import PapersError
from papers_lib.evaluation.nearness import Points
from papers_lib.sampler_study import neighbours, pseudo_labels
from papers_lib.sampler_study.neighbours import nearest, squared_distances
from papers_lib.sampler_study.pseudo_labels import cluster, dbscan, jaccard_graph, proxies


def clusters(seed, count=60, classes=6, d=8, spread=0.5):
    """Unit features about a few centres, as a network gives them."""
    g = torch.Generator().manual_seed(seed)
    centre = torch.randn(classes, d, generator=g)
    own = torch.randint(0, classes, (count,), generator=g)
    return torch.nn.functional.normalize(centre[own] + spread * torch.randn(count, d, generator=g), dim=1)


def lattice(seed, count=60, step=1.0):
    """Small integer points: full of equal distances and of duplicates, and exact in float32."""
    return step * torch.randint(-2, 3, (count, 2), generator=torch.Generator().manual_seed(seed))


def slow_nearest(x, k):
    """Indices of the k nearest of each, itself first, then by distance and index."""
    everyone = range(len(x))
    order = [sorted(everyone, key=lambda j: (j != i, math.dist(x[i], x[j]) ** 2, j)) for i in everyone]
    return [row[:k] for row in order]


def slow_jaccard(x, k1, k2, k1_includes_self):
    """The dense matrix of distances, equation by equation."""
    x = x.double().tolist()
    everyone = range(len(x))
    width = k1 if k1_includes_self else k1 + 1
    near = slow_nearest(x, max(width, k2))

    def reciprocal(i, k):
        return {j for j in near[i][:k] if i in near[j][:k]}

    v = []
    for i in everyone:
        first = reciprocal(i, width)
        members = set(first)
        for c in first:
            half = reciprocal(c, round(k1 / 2) + 1)
            if 3 * len(first & half) > 2 * len(half):
                members |= half
        row = [math.exp(-(math.dist(x[i], x[j]) ** 2)) if j in members else 0.0 for j in everyone]
        v.append([value / sum(row) for value in row])
    v = [[sum(v[j][n] for j in near[i][:k2]) / k2 for n in everyone] for i in everyone]
    t = [[sum(map(min, v[i], v[j])) for j in everyone] for i in everyone]
    return np.array([[1 - value / (2 - value) for value in row] for row in t])


def same_within(graph, dense, limit):
    """Whether the graph holds the distances ≤ limit, and only those; those at the limit may differ."""
    held = np.full(dense.shape, np.inf)
    entries = graph.tocoo()
    held[entries.row, entries.col] = entries.data
    inside = dense <= limit - 1e-6
    np.testing.assert_allclose(held[inside], dense[inside], atol=1e-6)
    assert not np.isfinite(held[dense > limit + 1e-6]).any()


# The near lattice is drawn together so that no weight vanishes.
WORLDS = {"clusters": clusters, "lattice": lattice, "near lattice": partial(lattice, step=0.25)}


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("includes_self", [True, False])
@pytest.mark.parametrize(("k1", "k2"), [(8, 3), (20, 6), (7, 1), (1, 1), (3, 9)])
def test_distances_equal_the_equations(world, includes_self, k1, k2):
    x = WORLDS[world](3)
    dense = slow_jaccard(x, k1, k2, includes_self)
    assert k1 == 1 or (dense < 0.5).sum() > len(x)  # not only the diagonal
    for limit in (0.3, 0.5, 0.999):
        same_within(jaccard_graph(x, k1, k2, limit, includes_self), dense, limit)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("includes_self", [True, False])
@pytest.mark.parametrize("k2", [1, 4])
def test_labels_equal_the_dense_form(world, includes_self, k2):
    for seed in range(3):
        x = WORLDS[world](seed)
        dense = np.maximum(slow_jaccard(x, 9, k2, includes_self), 0)
        for eps in (0.35, 0.5, 0.6):
            expected = DBSCAN(eps=eps + 1e-6, min_samples=4, metric="precomputed").fit_predict(dense)
            found = cluster(x, 9, k2, eps, 4, k1_includes_self=includes_self)
            assert found.tolist() == expected.tolist()


def test_parts_and_chunks_change_nothing(monkeypatch):
    x = clusters(1, count=90)
    whole = jaccard_graph(x, 10, 3, 0.6)
    monkeypatch.setattr(pseudo_labels, "PRODUCTS", 500)
    monkeypatch.setattr(pseudo_labels, "PAIRS", 16)
    parts = jaccard_graph(x, 10, 3, 0.6)
    np.testing.assert_array_equal(parts.toarray(), whole.toarray())
    np.testing.assert_array_equal(parts.indices, whole.indices)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("chunk", [7, 16, 1536])
@pytest.mark.parametrize("k", [1, 5, 20, 50])
def test_nearest_equals_sorting(world, chunk, k):
    x = WORLDS[world](2, count=50)
    indices, squared = nearest(Points.of(x), k, chunk)
    expected = slow_nearest(x.double().tolist(), k)
    assert indices.tolist() == expected
    i = torch.arange(50)[:, None]
    exact = (x[i].double() - x[indices].double()).square().sum(2)
    torch.testing.assert_close(squared.double(), exact, atol=1e-6, rtol=1e-6)
    pairs = squared_distances(Points.of(x), i.expand_as(indices).ravel(), indices.ravel())
    torch.testing.assert_close(pairs.double(), exact.ravel(), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("k", [1, 4, 12])
def test_bfloat16_changes_no_neighbour(world, k, monkeypatch):
    x = WORLDS[world](4, count=400).mul(64).round() / 64  # products that float32 holds exactly
    points = Points.at(x + 3)  # far from the origin
    expected = nearest(points, k, chunk=64)
    monkeypatch.setattr(neighbours, "_screening_pays", lambda *_: True)
    found = nearest(points, k, chunk=64)
    assert torch.equal(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1], atol=1e-5, rtol=1e-5)


def test_bfloat16_stays_within_its_bound():
    for spread in (0.01, 1.0):
        points = Points.of(clusters(0, count=300, d=64, spread=spread))
        rounded = neighbours._Rounded.of(points)
        every = slice(0, 300)
        exact = points.nearness(every, every, points.buffer(300 * 300))
        error = (rounded.nearness(every, every, points.buffer(300 * 300)) - exact).abs().amax(1)
        assert (error <= rounded.off).all()
        assert rounded.off.max() < 50 * error.max()  # and the bound says something


def test_points_without_proof_are_searched_again(monkeypatch):
    # 30 points nearly at one place, so near each other that bfloat16 cannot tell, among 400 others.
    x = clusters(7, count=430, classes=100, d=32).mul(64).round() / 64
    x[200:230] = x[200] + (x[230:260] * 2).round() / 2048  # products that float32 holds exactly
    points, again = Points.of(x), []
    directly = neighbours._directly
    monkeypatch.setattr(neighbours, "_screening_pays", lambda *_: True)
    monkeypatch.setattr(neighbours, "_directly", lambda p, r, *rest: again.append(r) or directly(p, r, *rest))
    indices, _ = nearest(points, 3, chunk=100)
    assert set(range(200, 230)) <= set(again[0].tolist())
    monkeypatch.undo()
    assert torch.equal(indices, nearest(points, 3)[0])


def test_four_of_six_shared_neighbours_lie_within_one_half():
    # Each V is the mean of six images' own, so that two that share 4 of 6 have t = 4/6, the knife edge.
    shared = np.zeros((2, 8))
    shared[0, :6] = shared[1, [0, 1, 2, 3, 6, 7]] = 1 / 6
    weights = csr_array(np.concatenate((shared, np.eye(8)[2:])))
    graph = pseudo_labels._graph(weights, 0.5 + 1e-6)
    assert graph[0, 1] == pytest.approx(0.5, abs=1e-9)
    assert (0, 1) in zip(*graph.nonzero(), strict=True)


def test_one_point_more_than_k1_and_all_duplicates():
    for x, k1, k2 in ((torch.ones(9, 4) / 2, 8, 2), (clusters(0, count=21), 20, 6)):
        dense = np.maximum(slow_jaccard(x, k1, k2, True), 0)
        expected = DBSCAN(eps=0.5 + 1e-6, min_samples=4, metric="precomputed").fit_predict(dense)
        assert cluster(x, k1, k2).tolist() == expected.tolist()


def slow_dbscan(dense, eps, least):
    """Clusters grown from each core image in turn; what is reached belongs to the first that reaches it."""
    near = [[j for j, d in enumerate(row) if d <= eps] for row in dense]
    labels, number = [-1] * len(near), 0
    for i in range(len(near)):
        if labels[i] != -1 or len(near[i]) < least:
            continue
        labels[i], queue = number, [i]
        for j in queue:
            for other in near[j] if len(near[j]) >= least else []:
                if labels[other] == -1:
                    labels[other] = number
                    queue.append(other)
        number += 1
    return labels


@pytest.mark.parametrize("seed", range(5))
def test_dbscan_of_a_sparse_graph_is_the_growing_of_clusters(seed):
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 12, (70, 2)) / 10  # equal distances, borders between two clusters, duplicates
    dense = np.hypot(*(points[:, None] - points).transpose(2, 0, 1))
    rows, columns = (dense <= 0.5).nonzero()
    graph = csr_array((dense[rows, columns], (rows, columns)), shape=dense.shape)
    for eps, least in ((0.1, 2), (0.1, 4), (0.15, 5), (0.21, 9), (0.05, 1), (0.05, 4)):
        assert dbscan(graph, eps, least).tolist() == slow_dbscan(dense, eps, least)


def test_all_outliers_is_an_answer():
    x = torch.eye(30)[:, :30]
    assert cluster(x, k1=3, k2=1, eps=0.01).tolist() == [-1] * 30


def test_half_precision_is_taken():
    assert cluster(clusters(0).half(), 8, 3).shape == (60,)


def test_proxies_are_clusters_by_camera():
    labels = torch.tensor([1, -1, 0, 1, 0, 1, 0])
    cameras = torch.tensor([2, 0, 5, 0, 5, 2, 1])
    proxy, of_cluster, of_camera = proxies(labels, cameras)
    assert proxy.tolist() == [3, -1, 1, 2, 1, 3, 0]
    assert (of_cluster.tolist(), of_camera.tolist()) == ([0, 0, 1, 1], [1, 5, 0, 2])
    nothing = proxies(torch.full((4,), -1), torch.zeros(4, dtype=torch.int64))
    assert [part.tolist() for part in nothing] == [[-1] * 4, [], []]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cluster(clusters(0, count=19)), "19 images for k1=20"),
        (lambda: cluster(clusters(0, count=20), k1_includes_self=False), "20 images for k1=20"),
        (lambda: cluster(clusters(0), k1=0), "k1 is 0"),
        (lambda: cluster(clusters(0), k2=0), "k2 is 0"),
        (lambda: cluster(clusters(0), eps=0), "eps=0"),
        (lambda: cluster(clusters(0), eps=1.5), "eps=1.5"),
        (lambda: cluster(clusters(0), eps=math.nan), "eps=nan"),
        (lambda: cluster(clusters(0), min_samples=0), "min_samples is 0"),
        (lambda: jaccard_graph(clusters(0), limit=0), "limit=0"),
        (lambda: proxies([0, 0, 0], [0] * 4), r"cameras are int64 \(4,\)"),
    ],
)
def test_bad_input_is_told_in_one_line(call, message):
    with pytest.raises(PapersError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
