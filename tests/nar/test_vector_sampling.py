"""Vectors drawn without a controller."""

import collections

import pytest
import torch
from tiny_nar import generator

from papers_lib.errors import PapersError
from papers_lib.nar import sampling


def test_uniform_vectors_have_every_operator_equally_often_at_every_decision():
    vectors = sampling.uniform(8000, 8, 4, generator())
    for column in vectors.T:
        assert (column.bincount(minlength=4) - 2000).abs().max() < 4 * (8000 * 3 / 16) ** 0.5
    assert torch.equal(vectors, sampling.uniform(8000, 8, 4, generator()))
    pairs = collections.Counter(map(tuple, vectors[:, :2].tolist()))
    assert len(pairs) == 16 and max(pairs.values()) < 650


@pytest.mark.parametrize(("count", "operators"), [(12, 4), (10, 4), (3, 4), (18, 6)])
def test_strict_fair_vectors_have_each_operator_once_in_a_group(count, operators):
    vectors = sampling.strict_fair(count, 5, operators, generator())
    assert vectors.shape == (count, 5)
    for start in range(0, count, operators):
        for column in vectors[start : start + operators].T.tolist():
            assert set(column) <= set(range(operators)) and len(set(column)) == len(column)


def test_strict_fair_orders_differ_and_are_uniform():
    groups = sampling.strict_fair(24000, 1, 4, generator()).reshape(-1, 4)
    counts = collections.Counter(map(tuple, groups.tolist()))
    assert len(counts) == 24 and max(counts.values()) < 320 and min(counts.values()) > 190
    two = sampling.strict_fair(400, 2, 4, generator())
    assert (two[:, 0] != two[:, 1]).any()


@pytest.mark.parametrize("replacements", [0, 1, 4, 8])
def test_vectors_with_a_number_of_replacements(replacements):
    vectors = sampling.replaced(4000, 8, replacements, 4, generator())
    assert (vectors.count_nonzero(1) == replacements).all() and int(vectors.max()) <= 3
    share = 4000 * replacements / 8
    for column in vectors.T:
        assert abs(int((column > 0).sum()) - share) <= 4 * (4000 / 4) ** 0.5
        for operator in (1, 2, 3):
            assert abs(int((column == operator).sum()) - share / 3) <= 4 * (share / 3 + 1) ** 0.5


def test_single_replacements():
    rows = [tuple(row) for row in sampling.singles(8).tolist()]
    want = [tuple(k if place == at else 0 for place in range(8)) for at in range(8) for k in (1, 2, 3)]
    assert rows == want and len(rows) == 24
    assert sampling.singles(3, 2).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_what_cannot_be_drawn():
    for draw in (sampling.uniform, sampling.strict_fair):
        with pytest.raises(PapersError, match="cannot be drawn"):
            draw(3, 0)
        with pytest.raises(PapersError, match="cannot be drawn"):
            draw(-1, 8)
    with pytest.raises(PapersError, match="9 replacements do not fit 8 decisions"):
        sampling.replaced(1, 8, 9)
    with pytest.raises(PapersError, match="1 operators"):
        sampling.singles(8, 1)


def test_a_mixed_sample_has_near_and_far_vectors_none_twice():
    rows = sampling.mixed(150, 8, 4, generator()).tolist()
    assert len(set(map(tuple, rows))) == 150 and rows[0] == [0] * 8
    replacements = [sum(map(bool, row)) for row in rows]
    assert replacements[1:25] == [1] * 24 and 55 <= sum(2 <= n <= 4 for n in replacements) <= 75
    assert sum(n > 4 for n in replacements) > 45
    assert rows[:40] == sampling.mixed(40, 8, 4, generator()).tolist()
    assert len(sampling.mixed(64, 6, 2, generator()).unique(dim=0)) == 64
    with pytest.raises(PapersError, match="65 vectors of 64"):
        sampling.mixed(65, 6, 2, generator())
