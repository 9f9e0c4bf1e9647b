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


def mean(values):
    return sum(values) / max(1, len(values))


def gaps(d, y):
    """D_RP² − D_RN² of every triplet."""
    n = range(len(y))
    triplets = [t for t in itertools.product(n, n, n) if t[0] != t[1] and y[t[0]] == y[t[1]] != y[t[2]]]
    return [d[r][p] ** 2 - d[r][n] ** 2 for r, p, n in triplets]


def slow_semi_hard(x, y):
    semi = [gap + 0.2 for gap in gaps(matrix(x), y) if -0.2 <= gap < 0]
    assert semi
    return mean([value for value in semi if value > 0])


def slow_lifted(x, y):
    d, values = matrix(x), []
    for a, b in itertools.permutations(range(len(y)), 2):
        if y[a] == y[b]:
            negatives = [math.exp(1 - d[e][n]) for e in (a, b) for n in range(len(y)) if y[n] != y[a]]
            values.append(max(0, math.log(sum(negatives)) + d[a][b]) ** 2 / 2)
    return mean(values)


def slow_n_pairs(x, y):
    """Anchor and positive are the first two of each class."""
    firsts = [y.index(name) for name in sorted(set(y))]
    products = (x @ x.T).tolist()
    sums = [math.log(sum(math.exp(products[i][j + 1]) for j in firsts)) for i in firsts]
    entropy = mean([total - products[i][i + 1] for i, total in zip(firsts, sums, strict=True)])
    return entropy + 0.002 * mean([sum(v * v for v in row) for row in x.tolist()])


def slow_triplet_global(x, y):
    d = matrix(x)
    triplet = mean([max(0, gap + 0.2) for gap in gaps(d, y)])
    pairs = list(itertools.combinations(range(len(y)), 2))
    near = [d[a][b] ** 2 / 4 for a, b in pairs if y[a] == y[b]]
    far = [d[a][b] ** 2 / 4 for a, b in pairs if y[a] != y[b]]
    variances = (mean([(u - mean(v)) ** 2 for u in v]) for v in (near, far))
    return triplet + sum(variances) + max(0, mean(near) - mean(far) + 0.4)


def slow_score(d, medoids):
    return -sum(min(d[i][j] for j in medoids) for i in range(len(d)))


def slow_margin(d, medoids, labels):
    clusters = [min(medoids, key=lambda j: d[i][j]) for i in range(len(d))]
    return 1 - normalized_mutual_info_score(labels, clusters, average_method="geometric")


def slow_oracle(d, y):
    groups = [[i for i, label in enumerate(y) if label == name] for name in set(y)]
    return -sum(min(sum(d[i][j] for i in group) for j in group) for group in groups)


def slow_medoids(d, y, gamma):
    def value(medoids):
        return slow_score(d, medoids) + gamma * slow_margin(d, medoids, y)

    chosen = []
    for _ in set(y):
        free = [j for j in range(len(y)) if j not in chosen]
        chosen.append(max(free, key=lambda j: value([*chosen, j])))
    return chosen


def slow_clustering(x, y):
    d = matrix(x)
    medoids = slow_medoids(d, y, 1.0)
    return max(0, slow_score(d, medoids) + slow_margin(d, medoids, y) - slow_oracle(d, y)) / len(y)


SLOW = {"semi_hard": slow_semi_hard, "lifted": slow_lifted, "n_pairs": slow_n_pairs}
SLOW |= {"triplet_global": slow_triplet_global, "clustering": slow_clustering}


@pytest.mark.parametrize("name", BASELINES)
def test_values_are_those_of_loops_and_gradients_of_differences(name):
    for seed in range(3):
        x, labels = batch(seed, per_class=2 if name == "n_pairs" else 3, spread=0.5)
        expected = SLOW[name](x, labels.tolist())
        assert expected > 0
        assert BASELINES[name](x, labels).item() == pytest.approx(expected)
    assert gradcheck(lambda v: BASELINES[name](v, labels), x.requires_grad_(), atol=1e-4)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3], [0, 0, 1, 1]])
def test_collapsed_and_one_sided_batches_stay_finite(name, labels):
    x = torch.nn.functional.normalize(torch.ones(4, 3), dim=1).requires_grad_()
    loss = BASELINES[name](x, torch.tensor(labels))
    assert loss.ndim == 0 and loss.isfinite()
    loss.backward()
    assert x.grad is None or x.grad.isfinite().all()


@pytest.mark.parametrize("seed", range(4))
def test_facility_score_margin_oracle_and_every_greedy_step(seed):
    x, labels = batch(seed, spread=0.3)
    slow, d, y = matrix(x), torch.tensor(matrix(x), dtype=torch.float64), labels.tolist()
    sets = list(itertools.combinations(range(9), 3))
    for medoids in sets[::7]:
        at = torch.tensor(medoids)
        assert baselines.facility_score(d, at).item() == pytest.approx(slow_score(slow, medoids))
        margin = 1 - baselines.nmi_of_clusters(d[at].argmin(0)[None], labels).item()
        assert margin == pytest.approx(slow_margin(slow, medoids, y), abs=1e-9)
    assert baselines.oracle_score(d, labels).item() == pytest.approx(slow_oracle(slow, y))
    for gamma in (5.0, 0.5, 0.0):
        chosen = baselines.greedy_medoids(d, labels, gamma).tolist()
        assert chosen == slow_medoids(slow, y, gamma)
    # F(S) − F({farthest possible}) is monotone submodular: without γ greedy reaches 1 − 1/e of the best.
    bottom = -2.0 * len(d)  # no distance of unit vectors is above 2: the score of an empty set
    best, greedy = (
        score - bottom for score in (max(slow_score(slow, s) for s in sets), slow_score(slow, chosen))
    )
    assert (1 - 1 / math.e) * best <= greedy <= best + 1e-9


def test_clustering_and_nmi_at_their_ends():
    solved = torch.eye(3, dtype=torch.float64).repeat_interleave(3, 0)
    assert baselines.facility_location(solved, torch.arange(3).repeat_interleave(3)).item() == 0
    labels = torch.tensor([0, 0, 1, 1])
    rows = torch.tensor([[5, 5, 2, 2], [0, 0, 0, 0], [0, 1, 0, 1]])
    assert baselines.nmi_of_clusters(rows, labels).tolist() == pytest.approx([1, 0, 0], abs=1e-9)
    one = torch.zeros(4, dtype=torch.long)
    assert baselines.nmi_of_clusters(one[None], one).item() == 1


def test_class_batches_are_balanced_without_replacement():
    fine = torch.arange(40) % 8 * 3
    batches, same, other = (class_batches(fine, 5, 4, 6, torch.Generator().manual_seed(n)) for n in (0, 0, 1))
    assert torch.equal(batches, same) and not torch.equal(batches, other)
    assert batches.shape == (6, 20)
    for indices in batches:
        classes, counts = fine[indices].unique(return_counts=True)
        assert len(classes) == 5 and (counts == 4).all()
        assert len(indices.unique()) == 20
        assert (fine[indices].view(5, 4) == fine[indices].view(5, 4)[:, :1]).all()
    assert len(class_batches(fine, 5, 4, 60).unique()) == 40  # everything has its turn


def test_class_batches_go_round_where_there_is_too_little_and_refuse_nothing():
    fine = torch.tensor([0, 1, 1, 1, 1, 1, 1])
    for indices in class_batches(fine, 4, 3, 5):
        assert (fine[indices] == 0).sum() == 6  # two classes, asked for four: each comes twice
        assert len(indices[fine[indices] == 1].unique()) == 6  # and its second turn is of new images
    for arguments in ((torch.tensor([]), 2, 2, 1), (torch.tensor([0]), 0, 2, 1)):
        with pytest.raises(PapersError, match="1 or more"):
            class_batches(*arguments)
