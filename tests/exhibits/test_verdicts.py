import json

import pytest

from papers_lib.exhibits.intervals import t_interval
from papers_lib.exhibits.verdicts import agrees, greater


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
    assert verdict in found.text
    json.dumps(found.as_dict(), allow_nan=False)


def test_pairing_decides_what_the_spread_between_seeds_would_hide():
    base = seeds(10.0, 50.0, 90.0)
    better = {seed: value + 1 + seed / 100 for seed, value in base.items()}
    assert greater(better, base).verdict == "holds"


def test_undecided_says_how_many_seeds_would_decide():
    found = greater(seeds(5.0, 3.0, 5.2), seeds(4.0, 4.1, 4.3))
    assert found.seeds_needed == 79
    assert found.text == (
        "mean difference +0.27, 95 % interval [-2.68, 3.21], 3 paired seeds, sign-flip p = 1: "
        "undecided; about 79 seeds would decide"
    )
    assert "no number of seeds" in greater(seeds(1.0, 1.0), seeds(1.0, 1.0)).text


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
    ],
)
def test_agrees(values, printed, comparable, verdict):
    found = agrees(t_interval(values), printed, comparable)
    assert found.verdict == verdict
    json.dumps(found.as_dict(), allow_nan=False)


def test_without_a_run_nothing_is_judged():
    assert agrees(None, "61.49", True).verdict == "not tested"
