"""Recall@K and MAP@R against plain loops, and against pytorch-metric-learning as a second oracle."""

import math

import pytest
import torch

from papers_lib.evaluation.nearness import Points, pairs, slices
from papers_lib.evaluation.retrieval import map_at_r, recall_at_k, scores

KS = (1, 2, 4, 8)


def world(seed, count=60, classes=9, integer=False):
    """Unordered classes of uneven size, some with one sample; integer points are full of ties."""
    g = torch.Generator().manual_seed(seed)
    labels = (torch.rand(count, generator=g) ** 2 * classes).long() * 3
    labels[-1] = 99
    if integer:
        return torch.randint(0, 3, (count, 2), generator=g).double(), labels
    x = torch.randn(count, 6, generator=g, dtype=torch.float64)
    return x + torch.randn(100, 6, generator=g, dtype=torch.float64)[labels], labels


def slow(features, labels, ks):
    """By sorting: at equal distance another class comes first; lone samples do not count."""
    x, y = features.tolist(), labels.tolist()
    hits, precisions = {k: [] for k in ks}, []
    for q in range(len(x)):
        r = y.count(y[q]) - 1
        if r == 0:
            continue
        others = [i for i in range(len(x)) if i != q]
        ranked = sorted(others, key=lambda i: (math.dist(x[q], x[i]), y[i] == y[q]))
        match = [y[i] == y[q] for i in ranked]
        for k in ks:
            hits[k].append(any(match[:k]))
        precisions.append(sum(sum(match[: i + 1]) / (i + 1) for i in range(r) if match[i]) / r)
    mean = {k: sum(v) / len(v) for k, v in hits.items()}
    return mean, sum(precisions) / len(precisions)


@pytest.mark.parametrize("integer", [False, True])
@pytest.mark.parametrize("chunk", [1024, 20, 7, 1])
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_loop(seed, chunk, integer):
    data = world(seed, integer=integer)
    recall, precision = slow(*data, KS)
    assert recall_at_k(*data, KS, chunk) == pytest.approx(recall)
    assert map_at_r(*data, chunk) == pytest.approx(precision)
    both = {**{f"R@{k}": v for k, v in recall.items()}, "MAP@R": precision}
    assert scores(*data, KS, chunk) == pytest.approx(both)


def test_any_k_and_a_class_larger_than_the_block():
    x, _ = world(0)
    data, ks = (x, torch.tensor([0] * 50 + [1] * 10)), (1, 3, 55, 1000)
    recall, precision = slow(*data, ks)
    assert recall_at_k(*data, ks, chunk=8) == pytest.approx(recall)
    want = {f"R@{k}": v for k, v in recall.items()} | {"MAP@R": precision}
    assert scores(*data, ks, chunk=8) == pytest.approx(want)
    assert recall[1000] == 1


@pytest.mark.parametrize("seed", range(3))
def test_equals_pytorch_metric_learning(seed):
    calculator = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.utils.inference import CustomKNN

    x, labels = world(seed, count=400, classes=20)
    x = x.float()
    names = ("precision_at_1", "mean_average_precision_at_r")
    theirs = calculator.AccuracyCalculator(
        include=names, k="max_bin_count", knn_func=CustomKNN(LpDistance(normalize_embeddings=False))
    ).get_accuracy(x, labels)
    ours = scores(x, labels, (1,))
    assert ours["R@1"] == pytest.approx(theirs["precision_at_1"], abs=1e-6)
    assert ours["MAP@R"] == pytest.approx(theirs["mean_average_precision_at_r"], abs=1e-6)
    assert recall_at_k(x, labels, (1,))[1] == pytest.approx(theirs["precision_at_1"], abs=1e-6)


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
def test_pairs_cover_every_pair_of_groups_once(chunk):
    points = Points.of(torch.randn(9, 2, generator=torch.Generator().manual_seed(0)))
    groups = [slice(0, 4), slice(4, 5), slice(5, 9)]
    seen = torch.zeros(9, 9)
    for rows, columns, block in pairs(points, groups, chunk):
        assert block.numel() <= chunk * chunk
        seen[rows, columns] += 1
    want = torch.zeros(9, 9)
    want[:4, 4:] = want[4:5, 5:] = 1
    assert torch.equal(seen, want)


@pytest.mark.parametrize(("start", "stop", "step"), [(0, 10, 3), (5, 5, 2), (2, 9, 100), (0, 3, 1)])
def test_slices_are_consecutive_and_even(start, stop, step):
    parts = list(slices(start, stop, step))
    assert [i for part in parts for i in range(part.start, part.stop)] == list(range(start, stop))
    lengths = [part.stop - part.start for part in parts]
    assert max(lengths, default=0) <= step and max(lengths, default=0) - min(lengths, default=0) <= 1
