import json

import numpy as np
import pytest
from scipy import stats

from papers_lib.exhibits import verdicts
from papers_lib.exhibits.intervals import t_interval
from papers_lib.exhibits.verdicts import Finding, agrees, greater, greater_blocked, holm, on_stand_in


def seeds(*values):
    return dict(enumerate(values))


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [
        (seeds(5.0, 5.1, 5.2), seeds(4.0, 4.1, 4.3), "holds"),
        (seeds(4.0, 4.1, 4.3), seeds(5.0, 5.1, 5.2), "fails"),
        (seeds(5.0, 3.0, 5.2), seeds(4.0, 4.1, 4.3), "undecided"),
        (seeds(5.0), seeds(1.0), "undecided"),
        (seeds(1.0, 1.0), seeds(1.0, 1.0), "undecided"),
        ({0: 5.0, 1: 5.0}, {2: 1.0, 3: 1.0}, "not tested"),
        ({}, {}, "not tested"),
    ],
)
def test_greater(a, b, verdict):
    found = greater(a, b)
    assert found.verdict == verdict
    json.dumps(found.as_dict(), allow_nan=False)


def test_undecided_says_how_many_seeds_would_decide():
    found = greater(seeds(5.0, 3.0, 5.2), seeds(4.0, 4.1, 4.3))
    assert found.seeds_needed == 79
    assert found.text == "mean difference +0.27, 95 % interval [-2.68, 3.21], 3 paired seeds"
    assert found.p == pytest.approx(stats.ttest_rel([5.0, 3.0, 5.2], [4.0, 4.1, 4.3]).pvalue)
    assert greater(seeds(1.0, 1.0), seeds(1.0, 1.0)).seeds_needed is None


def family(*p):
    return [Finding("holds", "", p=x) for x in p]


def test_holm_is_its_textbook_example():
    # 4 × 0.005, 3 × 0.01, 2 × 0.03, and no smaller than the one before
    found = holm(family(0.01, 0.04, 0.03, 0.005))
    assert [f.p_holm for f in found] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert [f.verdict for f in found] == ["holds", "undecided", "undecided", "holds"]
    assert [f.p for f in found] == [0.01, 0.04, 0.03, 0.005]
    assert holm([]) == []


def test_holm_leaves_what_no_test_on_runs_judged():
    others = [
        Finding("holds", "", kind="computed"),
        Finding("fails", "", p=0.04, kind="printed"),
        Finding("not tested", ""),
        greater(seeds(1.0), seeds(2.0)),
    ]
    found = holm([*others, *family(0.02, 0.04)])
    assert found[:4] == others
    assert [f.p_holm for f in found[4:]] == [0.04, 0.04]
    unwilling = Finding("undecided", "", p=0.001)  # a test's own reason stands
    assert holm([unwilling])[0].verdict == "undecided"


def test_corrected_claims_say_the_seeds_that_the_corrected_test_needs():
    clear = [greater(seeds(5.0, 5.1, 5.2), seeds(4.0, 4.1, 4.2001)) for _ in range(2)]
    gaps = [0.5, 0.9, 0.7]
    near = greater(dict(enumerate(gaps)), seeds(0.0, 0.0, 0.0))
    assert near.verdict == "holds" and near.seeds_needed is None
    weak = [greater(seeds(x, 0.0, -x), seeds(0.0, 0.0, 0.0)) for x in (1.0, 2.0)]
    found = holm([near, *clear, *weak])
    assert [f.verdict for f in found] == ["undecided", "holds", "holds", "undecided", "undecided"]

    def adjusted(n):  # mean and spread as they are, at n seeds
        p = 2 * stats.t.sf(np.mean(gaps) / np.std(gaps, ddof=1) * np.sqrt(n), n - 1)
        return holm([Finding("holds", "", p=p), *clear, *weak])[0]

    n = found[0].seeds_needed
    assert adjusted(n).verdict == "holds" and adjusted(n - 1).verdict == "undecided"


def test_data_sets_are_pooled_where_nothing_speaks_against_it():
    rng = np.random.default_rng(0)
    gaps = rng.normal([[0.8], [1.2], [1.0]], 0.5, (3, 5))
    pairs = {
        name: (seeds(*(10 + x), 99.0) | {7: 1.0}, seeds(*[10.0] * 5) | {8: 0.0})
        for name, x in zip("abc", gaps, strict=True)
    }
    found = greater_blocked(pairs)
    assert (found.estimate.freedom, found.difference.n) == (12, 5)
    assert found.difference.mean == pytest.approx(gaps.mean())
    assert found.text.endswith("residual pooled, 12 degrees of freedom")
    gaps[2] *= 40  # one data set is far noisier: seed by seed instead
    pairs = {n: (seeds(*x), seeds(0, 0, 0, 0, 0)) for n, x in zip("abc", gaps, strict=True)}
    found = greater_blocked(pairs)
    assert "not pooled: variances differ" in found.text
    assert found.p == pytest.approx(stats.ttest_1samp(gaps.mean(0), 0).pvalue)


def test_a_data_set_without_runs_is_left_out_and_seeds_are_those_of_all():
    none: dict[int, float] = {}
    assert greater_blocked({"a": (none, seeds(1.0)), "b": (none, none)}).verdict == "not tested"
    assert greater_blocked({"a": ({0: 1.0}, {0: 0.0}), "b": ({1: 1.0}, {1: 0.0})}).verdict == "not tested"
    one = greater_blocked({"a": (seeds(1.0, 2.0, 4.0), seeds(0.0, 0.0, 0.0)), "b": (none, seeds(1.0))})
    assert one.difference == greater(seeds(1.0, 2.0, 4.0), seeds(0.0, 0.0, 0.0)).difference
    assert "3 paired seeds of each data set (a +2.33)" in one.text


def test_on_drawn_data_nothing_fails_but_what_is_no_matter_of_runs():
    assert on_stand_in(Finding("fails", "x", p=0.01)) == Finding(verdicts.NOT_REPRODUCED, "x", p=0.01)
    for other in (Finding("holds", ""), Finding("undecided", ""), Finding("fails", "", kind="printed")):
        assert on_stand_in(other) == other


def test_the_level_moves_the_verdict():
    a, b = seeds(5.0, 5.6, 5.3), seeds(4.9, 4.9, 4.9)
    assert greater(a, b, level=0.99).verdict == "undecided"
    assert greater(a, b, level=0.8).verdict == "holds"


@pytest.mark.parametrize(
    ("values", "printed", "comparable", "verdict"),
    [
        ([61.4, 61.5, 61.6], "61.49", True, "holds"),
        ([61.0, 61.0], "61", True, "holds"),
        ([61.4, 61.4], "61", True, "holds"),  # 61.4 rounds to 61
        ([61.6, 61.6], "61", True, "fails"),
        ([61.4, 61.4], "61.0", True, "fails"),  # but 61.4 is not 61.0
        ([41.4, 41.5], "61.49", True, "fails"),
        ([41.4, 41.5], "61.49", False, "not comparable"),
        ([61.49], "61.49", True, "undecided"),
        ([], "61.49", True, "not tested"),
    ],
)
def test_agrees(values, printed, comparable, verdict):
    found = agrees(t_interval(values) if values else None, printed, comparable)
    assert found.verdict == verdict
    json.dumps(found.as_dict(), allow_nan=False)
