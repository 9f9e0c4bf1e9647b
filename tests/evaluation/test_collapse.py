"""The meters of collapse against plain formulas, loops, and shapes whose answer is known."""

import math

import pytest
import torch

from papers_lib.evaluation.collapse import clusters, effective_rank, std_of_normalised


def features(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("n", "d"), [(30, 7), (7, 30), (12, 12), (1, 5), (5, 1)])
def test_effective_rank_is_the_entropy_of_the_squared_singular_values(n, d):
    x = features(n, d) * torch.logspace(0, 2, d)
    p = [float(v) ** 2 for v in torch.linalg.svdvals(x.double())]
    entropy = -sum(v / sum(p) * math.log(v / sum(p)) for v in p)
    assert effective_rank(x) == pytest.approx(math.exp(entropy), rel=1e-6)


def test_effective_rank_of_known_shapes():
    assert effective_rank(torch.eye(6)) == pytest.approx(6)
    assert effective_rank(torch.ones(9, 4)) == pytest.approx(1)
    angles = torch.tensor([0.0, 2, 4]) * math.pi / 3
    triangle = torch.stack((angles.cos(), angles.sin(), 0 * angles), 1)
    assert effective_rank(triangle.repeat(5, 1)) == pytest.approx(2)
    for scale in (1e-30, 1e30):
        assert effective_rank(scale * torch.eye(6)) == pytest.approx(6)


def test_std_equals_the_loop():
    x = features(9, 4)
    rows = [[v / math.hypot(*row) for v in row] for row in x.tolist()]
    columns = list(zip(*rows, strict=True))
    means = [sum(c) / 9 for c in columns]
    stds = [math.sqrt(sum((v - m) ** 2 for v in c) / 8) for c, m in zip(columns, means, strict=True)]
    assert std_of_normalised(x) == pytest.approx(sum(stds) / 4 * 2, rel=1e-6)


def slow_clusters(x, cosine):
    """By walking from row to row."""
    rows = [[v / math.hypot(*row) for v in row] for row in x.tolist()]
    left, count = set(range(len(rows))), 0
    while left:
        count, walk = count + 1, [left.pop()]
        while walk:
            here = rows[walk.pop()]
            near = {j for j in left if sum(a * b for a, b in zip(here, rows[j], strict=True)) > cosine}
            left -= near
            walk += near
    return count


@pytest.mark.parametrize("chunk", [1, 7, 30, 1536])
@pytest.mark.parametrize("cosine", [0.9, 0.97, 0.99])
def test_clusters_equal_the_walk_in_blocks_of_any_size(cosine, chunk):
    """In three dimensions rows chain into long components, which cross the blocks."""
    x = features(120, 3)
    want = slow_clusters(x, cosine)
    assert clusters(x, cosine, chunk) == want
    assert 0 < want < 120 and (cosine < 0.95 or want > 1)


def test_clusters_of_known_shapes():
    assert clusters(torch.eye(7)) == 7
    assert clusters(torch.ones(300, 4), chunk=64) == 1
    assert clusters(torch.ones(1, 4)) == 1
