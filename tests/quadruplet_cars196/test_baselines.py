"""The baselines against plain loops on batches small enough for every triplet, pair and medoid set."""

import itertools
import math

import pytest
import torch
from sklearn.metrics import normalized_mutual_info_score
from torch.autograd import gradcheck

from papers_lib.errors import PapersError
from papers_lib.quadruplet_cars196 import baselines
from papers_lib.quadruplet_cars196.baselines import BASELINES, class_batches


def batch(seed=0, classes=3, per_class=3, spread=1.0, dim=4):
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat_interleave(per_class)
    x = torch.randn(len(labels), dim, generator=g, dtype=torch.float64)
    x = x + spread * torch.randn(classes, dim, generator=g, dtype=torch.float64)[labels]
    return torch.nn.functional.normalize(x, dim=1), labels


def matrix(x):
    return [[math.dist(a, b) for b in x.tolist()] for a in x.tolist()]


def triplets(labels):
    y = labels.tolist()
    every = range(len(y))
    return [
        (r, p, n)
        for r, p, n in itertools.product(every, repeat=3)
        if r != p and y[r] == y[p] and y[r] != y[n]
    ]


def mean_of_open(values):
    values = [v for v in values if v > 0]
    return sum(values) / max(1, len(values))


@pytest.mark.parametrize("seed", range(3))
def test_semi_hard(seed):
    x, labels = batch(seed)
    d = matrix(x)
    gaps = [d[r][p] ** 2 - d[r][n] ** 2 for r, p, n in triplets(labels)]
    semi = [gap + 0.2 for gap in gaps if -0.2 <= gap < 0]
    assert semi
    assert baselines.semi_hard(x, labels).item() == pytest.approx(mean_of_open(semi))


@pytest.mark.parametrize("seed", range(3))
def test_lifted(seed):
    x, labels = batch(seed)
    d, y = matrix(x), labels.tolist()
    values = []
    for a, b in itertools.permutations(range(len(y)), 2):
        if y[a] == y[b]:
            negatives = [math.exp(1 - d[e][n]) for e in (a, b) for n in range(len(y)) if y[n] != y[a]]
            values.append(max(0, math.log(sum(negatives)) + d[a][b]) ** 2 / 2)
    assert baselines.lifted(x, labels).item() == pytest.approx(sum(values) / len(values))


def test_n_pairs():
    x, labels = batch(1, classes=4, per_class=2)
    anchors, positives = x[0::2].tolist(), x[1::2].tolist()

    def dot(a, b):
        return sum(u * v for u, v in zip(a, b, strict=True))

    slow = 0.0
    for i, a in enumerate(anchors):
        scores = [dot(a, p) for p in positives]
        slow += math.log(sum(map(math.exp, scores))) - scores[i]
    assert baselines.n_pairs(x, labels).item() == pytest.approx(slow / 4)


@pytest.mark.parametrize("seed", range(3))
def test_triplet_global(seed):
    x, labels = batch(seed)
    d, y = matrix(x), labels.tolist()
    triplet = mean_of_open([d[r][p] ** 2 - d[r][n] ** 2 + 0.2 for r, p, n in triplets(labels)])
    pairs = list(itertools.combinations(range(len(y)), 2))
    near = [d[a][b] ** 2 / 4 for a, b in pairs if y[a] == y[b]]
    far = [d[a][b] ** 2 / 4 for a, b in pairs if y[a] != y[b]]

    def mean(v):
        return sum(v) / len(v)

    def variance(v):
        return mean([(u - mean(v)) ** 2 for u in v])

    slow = triplet + variance(near) + variance(far) + max(0, mean(near) - mean(far) + 0.4)
    assert baselines.triplet_global(x, labels).item() == pytest.approx(slow)


def slow_score(d, medoids):
    return -sum(min(d[i][j] for j in medoids) for i in range(len(d)))


def slow_margin(d, medoids, labels):
    clusters = [min(medoids, key=lambda j: d[i][j]) for i in range(len(d))]
    return 1 - normalized_mutual_info_score(labels.tolist(), clusters, average_method="geometric")


@pytest.mark.parametrize("seed", range(4))
def test_facility_score_margin_and_oracle(seed):
    x, labels = batch(seed, per_class=4)
    d = torch.tensor(matrix(x), dtype=torch.float64)
    for medoids in itertools.islice(itertools.combinations(range(12), 3), 0, None, 17):
        at = torch.tensor(medoids)
        assert baselines.facility_score(d, at).item() == pytest.approx(slow_score(matrix(x), medoids))
        margin = 1 - baselines.nmi_of_clusters(d[at].argmin(0)[None], labels).item()
        assert margin == pytest.approx(slow_margin(matrix(x), medoids, labels), abs=1e-9)
    oracle = -sum(
        min(sum(matrix(x)[i][j] for i in range(c, c + 4)) for j in range(c, c + 4)) for c in (0, 4, 8)
    )
    assert baselines.oracle_score(d, labels).item() == pytest.approx(oracle)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 5.0])
@pytest.mark.parametrize("seed", range(4))
def test_every_greedy_step_is_the_best_one(seed, gamma):
    x, labels = batch(seed, spread=0.3)
    slow_d, chosen = matrix(x), []
    for _ in range(3):
        chosen.append(
            max(
                (j for j in range(9) if j not in chosen),
                key=lambda j: (
                    slow_score(slow_d, [*chosen, j]) + gamma * slow_margin(slow_d, [*chosen, j], labels)
                ),
            )
        )
    d = torch.tensor(slow_d, dtype=torch.float64)
    assert baselines.greedy_medoids(d, labels, gamma).tolist() == chosen


@pytest.mark.parametrize("seed", range(6))
def test_greedy_keeps_its_promise(seed):
    """F(S) − F({farthest possible}) is monotone submodular: greedy reaches 1 − 1/e of the best."""
    x, labels = batch(seed, classes=3, per_class=4, spread=0.5)
    d = matrix(x)
    bottom = -2.0 * len(d)  # no distance of unit vectors is above 2: the score of an empty set
    best = max(slow_score(d, s) for s in itertools.combinations(range(12), 3)) - bottom
    medoids = baselines.greedy_medoids(torch.tensor(d, dtype=torch.float64), labels, 0.0)
    greedy = slow_score(d, medoids.tolist()) - bottom
    assert (1 - 1 / math.e) * best <= greedy <= best + 1e-9


def test_facility_location_is_the_hinge_of_its_parts_and_zero_when_solved():
    x, labels = batch(2, spread=0.2)
    d = torch.tensor(matrix(x), dtype=torch.float64)
    medoids = baselines.greedy_medoids(d, labels, 1.0).tolist()
    slow = slow_score(matrix(x), medoids) + slow_margin(matrix(x), medoids, labels)
    slow = max(0, slow - baselines.oracle_score(d, labels).item()) / 9
    assert slow > 0
    assert baselines.facility_location(x, labels).item() == pytest.approx(slow)
    solved = torch.eye(3, dtype=torch.float64)[labels]
    assert baselines.facility_location(solved, labels).item() == 0


def test_nmi_of_clusters_at_its_ends():
    labels = torch.tensor([0, 0, 1, 1])
    rows = torch.tensor([[5, 5, 2, 2], [0, 0, 0, 0], [0, 1, 0, 1]])
    assert baselines.nmi_of_clusters(rows, labels).tolist() == pytest.approx([1, 0, 0], abs=1e-9)
    one = torch.zeros(4, dtype=torch.long)
    assert baselines.nmi_of_clusters(one[None], one).item() == 1


@pytest.mark.parametrize("name", BASELINES)
def test_gradients_match_differences(name):
    x, labels = batch(3, spread=0.2)
    assert gradcheck(lambda v: BASELINES[name](v, labels), x.requires_grad_(), atol=1e-4)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3], [0, 0, 1, 1]])
def test_collapsed_and_one_sided_batches_stay_finite(name, labels):
    x = torch.nn.functional.normalize(torch.ones(4, 3), dim=1).requires_grad_()
    loss = BASELINES[name](x, torch.tensor(labels))
    assert loss.ndim == 0 and loss.isfinite()
    loss.backward()
    assert x.grad is None or x.grad.isfinite().all()


def draw(*arguments, seed=0):
    return class_batches(*arguments, torch.Generator().manual_seed(seed))


def test_class_batches_are_balanced_without_replacement():
    fine = torch.arange(40) % 8 * 3
    batches = draw(fine, 5, 4, 6)
    assert batches.shape == (6, 20)
    for indices in batches:
        classes, counts = fine[indices].unique(return_counts=True)
        assert len(classes) == 5 and (counts == 4).all()
        assert len(indices.unique()) == 20
        assert (fine[indices].view(5, 4) == fine[indices].view(5, 4)[:, :1]).all()
    assert torch.equal(batches, draw(fine, 5, 4, 6))
    assert not torch.equal(batches, draw(fine, 5, 4, 6, seed=1))
    assert len(draw(fine, 5, 4, 60).unique()) == 40  # everything has its turn


def test_class_batches_go_round_where_there_is_too_little():
    fine = torch.tensor([0, 1, 1, 1, 1, 1, 1])
    for indices in draw(fine, 4, 3, 5):
        assert (fine[indices] == 0).sum() == 6  # two classes, asked for four: each comes twice
        assert len(indices[fine[indices] == 1].unique()) == 6  # and its second turn is of new images


def test_class_batches_refuse_nothing_to_draw_from():
    for arguments in ((torch.tensor([]), 2, 2, 1), (torch.tensor([0]), 0, 2, 1)):
        with pytest.raises(PapersError, match="1 or more"):
            class_batches(*arguments)
