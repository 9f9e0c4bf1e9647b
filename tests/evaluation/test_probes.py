"""The kNN vote against a plain loop, the linear probe against torch's own modules and optimiser."""

import math

import pytest
import torch
from torch import nn

from papers_lib.evaluation import probes
from papers_lib.evaluation.probes import knn_accuracy, linear_probe


def world(seed=0, n=90, m=40, classes=5, spread=1.2, d=6):
    """Blobs around class centres, of uneven size; every class is in both sets."""
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, d, generator=g)
    labels = (torch.rand(n + m, generator=g) ** 1.5 * classes).long()
    labels[:classes] = labels[n : n + classes] = torch.arange(classes)
    x = centres[labels] + spread * torch.randn(n + m, d, generator=g)
    return x[:n], labels[:n], x[n:], labels[n:]


def slow_knn(train, train_labels, test, test_labels, k, tau):
    right = 0
    for query, label in zip(test.double().tolist(), test_labels.tolist(), strict=True):
        cosines = []
        for row, own in zip(train.double().tolist(), train_labels.tolist(), strict=True):
            dot = sum(a * b for a, b in zip(query, row, strict=True))
            cosines.append((dot / math.hypot(*query) / math.hypot(*row), own))
        votes = {}
        for cosine, own in sorted(cosines, reverse=True)[:k]:
            votes[own] = votes.get(own, 0) + math.exp(cosine / tau)
        right += max(votes, key=votes.get) == label
    return right / len(test)


@pytest.mark.parametrize("tau", [0.1, 1.0])
@pytest.mark.parametrize("k", [1, 7, 90])
@pytest.mark.parametrize("seed", range(3))
def test_knn_equals_the_loop(seed, k, tau):
    data = world(seed)
    found = knn_accuracy(*data, k=k, tau=tau)
    assert found == pytest.approx(slow_knn(*data, k, tau))
    assert 0.2 < found < 1


def test_knn_does_not_depend_on_blocks_scale_precision_or_more_classes(monkeypatch):
    train, labels, test, test_labels = world(1)
    want = knn_accuracy(train, labels, test, test_labels, k=9)
    assert knn_accuracy(train * 7, labels, test / 3, test_labels, k=9) == want
    assert knn_accuracy(train, labels, test, test_labels, k=9, classes=40) == want
    assert knn_accuracy(train.double(), labels.int(), test.double(), test_labels.int(), k=9) == want
    monkeypatch.setattr(probes, "BLOCK", 7 * len(train))
    assert knn_accuracy(train, labels, test, test_labels, k=9) == want


def test_a_small_temperature_neither_overflows_nor_vanishes():
    data = world(2)
    assert knn_accuracy(*data, k=20, tau=1e-3) == pytest.approx(slow_knn(*data, 1, 1.0))


def by_modules(train, labels, lr, batch, start, orders):
    """One classifier by nn.Linear, autograd and torch's SGD and cosine."""
    net = nn.Linear(train.shape[1], start.shape[1])
    with torch.no_grad():
        net.weight.copy_(start[:-1].T)
        net.bias.zero_()
    optimiser = torch.optim.SGD(net.parameters(), lr, momentum=0.9)
    steps = len(orders) * math.ceil(len(train) / batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for order in orders:
        for rows in order.split(batch):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(train[rows]), labels[rows]).backward()
            optimiser.step()
            schedule.step()
    return net


def test_a_fit_equals_torchs_modules_and_optimiser():
    train, labels, test, test_labels = world(3, n=70)
    batch, epochs, classes, lrs = 16, 6, 5, [0.05, 0.4, 2.0]
    g = torch.Generator().manual_seed(7)
    sizes = {"epochs": epochs, "batch_size": batch, "classes": classes}
    ours = probes._fit(train, labels, torch.arange(70), lrs, **sizes, generator=g)
    g.manual_seed(7)
    start = torch.randn(7, 1, classes, generator=g)[:, 0] * 0.01
    orders = [torch.randperm(70, generator=g) for _ in range(epochs)]
    accuracies = probes._accuracies(ours, test, test_labels)
    for i, lr in enumerate(lrs):
        net = by_modules(train, labels, lr, batch, start, orders)
        torch.testing.assert_close(ours[:-1, i].T, net.weight.data, atol=2e-4, rtol=1e-3)
        torch.testing.assert_close(ours[-1, i], net.bias.data, atol=2e-4, rtol=1e-3)
        right = net(test).argmax(1) == test_labels
        assert accuracies[i] == pytest.approx(right.double().mean().item())


def test_rows_left_out_of_a_fit_have_no_part_in_it():
    train, labels, _, _ = world(4)
    fits = []
    for left_out in (0.0, torch.nan):
        train[1::2] = left_out
        g = torch.Generator().manual_seed(0)
        sizes = {"epochs": 3, "batch_size": 8, "classes": 5, "generator": g}
        fits.append(probes._fit(train, labels, torch.arange(0, 90, 2), [0.3], **sizes))
    assert torch.equal(*fits)


def test_the_rates_are_scored_by_cross_entropy_and_none_is_infinite():
    train, _, test, test_labels = world(5, n=400, m=60)
    weights = torch.randn(train.shape[1] + 1, 3, 5, generator=torch.Generator().manual_seed(0))
    weights[:, 2] = torch.nan
    found = probes._losses(weights, test, test_labels)
    for number in range(2):
        scores = test @ weights[:-1, number] + weights[-1, number]
        want = torch.nn.functional.cross_entropy(scores, test_labels)
        assert found[number] == pytest.approx(float(want), rel=1e-5)
    assert found[2] == 1e6


def test_the_rate_is_chosen_on_the_held_out_part_and_never_on_the_test_set():
    train, labels, test, test_labels = world(5, n=400, m=60)
    first = linear_probe(train, labels, test, test_labels, lrs=(1e-5, 0.3, 3.0), epochs=5, seed=1)
    best = min(first["held_out"].values())
    assert first["held_out"][f"{first['lr']:g}"] == best < first["held_out"]["1e-05"]
    assert first["accuracy"] > 0.5
    wrong = linear_probe(train, labels, test, (test_labels + 1) % 5, lrs=(1e-5, 0.3, 3.0), epochs=5, seed=1)
    assert (wrong["lr"], wrong["held_out"]) == (first["lr"], first["held_out"])
    assert wrong["accuracy"] < 0.4


def test_a_seed_repeats_it_and_the_order_of_the_rates_does_not_count():
    data = world(6)
    one = linear_probe(*data, lrs=(0.1, 1.0), epochs=3, seed=2)
    assert linear_probe(*data, lrs=(1.0, 0.1), epochs=3, seed=2) == one
    held = [linear_probe(*data, lrs=(0.1,), epochs=1, seed=s)["held_out"]["0.1"] for s in range(6)]
    assert len(set(held)) > 1


@pytest.mark.parametrize("scale", [0.05, 1.0, 20.0])
def test_the_chosen_rate_lies_inside_the_grid_whatever_the_features_scale(scale):
    """A rate for features that are c times as long is the c²-th part: the grid goes on until it is passed."""
    train, labels, test, test_labels = world(5, n=400, m=60)
    found = linear_probe(train * scale, labels, test * scale, test_labels, lrs=(0.03, 0.1, 0.3), epochs=5)
    rates = sorted(map(float, found["held_out"]))
    assert len(rates) <= 3 + probes.FURTHER
    if len(rates) < 3 + probes.FURTHER:
        assert rates[0] < found["lr"] < rates[-1]
    if scale != 1.0:
        assert len(rates) > 3 and (found["lr"] > 0.3) is (scale < 1)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_held_out_is_a_share_of_each_class_and_leaves_one_of_each(share):
    labels = torch.tensor([0] * 40 + [1] * 11 + [2] * 2 + [3] + [5] * 3)
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    away = probes._held_out(labels, share, torch.Generator().manual_seed(1))
    for label, size in ((0, 40), (1, 11), (2, 2), (3, 1), (5, 3)):
        want = min(max(1, round(size * share)), size - 1)
        assert int(away[labels == label].sum()) == want


@pytest.mark.cuda
def test_a_gpu_finds_the_same():
    data = world(8, n=300)
    there = [part.cuda() for part in data]
    assert knn_accuracy(*there, k=20) == pytest.approx(knn_accuracy(*data, k=20))
    one, other = (linear_probe(*where, epochs=3)["held_out"] for where in (there, data))
    assert one == pytest.approx(other)
