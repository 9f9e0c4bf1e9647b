"""Rank-1 of a large gallery against sorting everything, query by query, in a plain loop."""

import numpy as np
import pytest
import torch

from papers_lib.evaluation import large_gallery
from papers_lib.evaluation.large_gallery import fuse_flips, rank_one


def world(seed, queries=30, gallery=400, people=12, d=8):
    """Query and gallery features and ids; identity 0 of the gallery is distractors."""
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, people + 1, (queries,), generator=g)
    others = torch.cat([torch.arange(1, people + 1), torch.randint(-80, people + 1, (gallery,), generator=g)])
    others = others.clamp(min=0)[torch.randperm(gallery + people, generator=g)]
    centres = torch.randn(people + 1, d, generator=g, dtype=torch.float64)
    x, y = (
        centres[i] + 1.2 * torch.randn(len(i), d, generator=g, dtype=torch.float64) for i in (ids, others)
    )
    y[others == 0] = torch.randn(int((others == 0).sum()), d, generator=g, dtype=torch.float64)
    return x, y, ids, others


def slow(x, y, ids, others, ks=(1, 5, 10)):
    """By a full sort; of equally similar images a wrong one comes first."""
    unit = [np.asarray(v / v.norm(dim=1, keepdim=True)) for v in (x, y)]
    first = []
    for q, row in enumerate(unit[0] @ unit[1].T):
        right = (others == ids[q]).tolist()
        order = sorted(range(len(row)), key=lambda j: (-round(float(row[j]), 9), right[j]))
        first.append(next(place for place, j in enumerate(order) if right[j]))
    return {f"rank{k}": sum(place < k for place in first) / len(first) for k in ks}


@pytest.mark.parametrize("block", [1, 37, 412, 8192])
@pytest.mark.parametrize("seed", range(3))
def test_equals_a_full_sort(seed, block):
    data = world(seed)
    want = slow(*data)
    assert rank_one(*data, block=block) == pytest.approx(want)
    assert 0 < want["rank1"] < want["rank5"] < 1


def test_many_true_matches_in_parts(monkeypatch):
    data = world(4)
    monkeypatch.setattr(large_gallery, "PAIRS", 3)
    assert rank_one(*data) == pytest.approx(slow(*data))


@pytest.mark.parametrize("d", [3, 64, 2048])
def test_collapsed_features_find_nothing(d):
    x = torch.randn(1, d, generator=torch.Generator().manual_seed(d))
    ids, others = torch.arange(5), torch.cat([torch.arange(5), torch.full((995,), -7)])
    found = rank_one(x.expand(5, d), x.expand(1000, d), ids, others, ks=(1, 10, 1000), block=77)
    assert found == {"rank1": 0, "rank10": 0, "rank1000": 1}


def test_never_all_pairs_at_once(monkeypatch):
    data, largest = world(6), []
    count = torch.count_nonzero
    monkeypatch.setattr(torch, "count_nonzero", lambda a, dim: largest.append(a.shape) or count(a, dim=dim))
    rank_one(*data, block=50)
    assert max(columns for _, columns in largest) <= 50 and sum(c for _, c in largest) == len(data[1])


@pytest.mark.cuda
def test_queries_on_a_gpu():
    x, y, *who = world(8)
    assert rank_one(x.cuda(), y, *who) == pytest.approx(rank_one(x, y, *who))


def test_fused_flips_weigh_both_alike():
    a, b = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 100.0]])
    assert torch.allclose(fuse_flips(a, b), torch.tensor([[0.5**0.5, 0.5**0.5]]))
