"""NMI and AMI of k-means."""

import statistics

import pytest
import torch

from papers_lib.evaluation.clustering import Clustering, nmi


def blobs(spread, seed=0, count=120, classes=6):
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes * 4
    centre = torch.randn(classes * 4, 5, generator=g)
    return spread * centre[labels] + torch.randn(count, 5, generator=g), labels


def test_separate_blobs_are_found_and_shuffled_labels_are_not():
    x, labels = blobs(100)
    found = nmi(x, labels, seeds=range(20))
    assert max(found.nmi) == pytest.approx(1) and max(found.ami) == pytest.approx(1)
    shuffled = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]
    chance = nmi(x, shuffled, seeds=range(5))
    assert chance.ami_mean < 0.02 < chance.nmi_mean  # NMI of chance is not 0


def test_each_seed_gives_the_same_clusters_every_time_and_seeds_differ():
    x, labels = blobs(1)
    once, again = nmi(x, labels, seeds=(3, 1)), nmi(x.double(), labels, seeds=(3, 1))
    assert once == again
    assert nmi(x, labels, seeds=(1,)).nmi == once.nmi[1:]
    assert len(set(nmi(x, labels, seeds=range(5)).nmi)) > 1


def test_mean_and_sd_are_over_seeds():
    found = Clustering((0, 1, 2), (0.1, 0.2, 0.6), (0.0, 0.1, 0.2))
    assert found.nmi_mean == pytest.approx(0.3) and found.ami_mean == pytest.approx(0.1)
    assert found.nmi_sd == pytest.approx(statistics.stdev([0.1, 0.2, 0.6]))
    assert found.ami_sd == pytest.approx(0.1)
    assert Clustering((0,), (0.5,), (0.5,)).nmi_sd == 0


def test_values_are_those_of_the_definition():
    """Two far blobs, each half of one class: the clusters are the blobs, and NMI is by hand."""
    x = torch.tensor([[0.0], [0.1], [0.2], [0.3], [9.0], [9.1]])
    labels = torch.tensor([0, 0, 0, 0, 0, 1])

    def entropy(*p):
        return -sum(q * torch.tensor(q).log().item() for q in p)

    mutual = entropy(5 / 6, 1 / 6) + entropy(4 / 6, 2 / 6) - entropy(4 / 6, 1 / 6, 1 / 6)
    mean = (entropy(5 / 6, 1 / 6) + entropy(4 / 6, 2 / 6)) / 2
    assert nmi(x, labels, seeds=(0,)).nmi[0] == pytest.approx(mutual / mean)
    assert nmi(x, labels, seeds=(0,), k=1).nmi[0] == 0
