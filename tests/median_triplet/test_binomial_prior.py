"""The probabilities against rational arithmetic and full enumeration, and against the paper's own claims."""

import math
from fractions import Fraction
from itertools import product

import pytest

from papers_lib.errors import PapersError
from papers_lib.median_triplet.prior import batch_has_pair, chance, ideal_batch, smallest_k, tail


def exact_tail(m, p, k):
    """In integers: p is a / b exactly, whatever float it is."""
    a, b = Fraction(p).as_integer_ratio()
    ways = sum(math.comb(m, i) * a**i * (b - a) ** (m - i) for i in range(k, m + 1))
    return Fraction(ways, b**m)


@pytest.mark.parametrize("m", [103, 255])
@pytest.mark.parametrize("classes", [2, 10, 1000, 30508])
def test_tail_is_exact_far_out(m, classes):
    for k in (1, 2, 5, 10, 52, m):
        want = exact_tail(m, 1 / classes, k)
        if want > Fraction(1, 10**300):
            assert tail(m, 1 / classes, k) == pytest.approx(float(want), rel=1e-11)


def test_tail_and_chance_at_their_ends():
    assert [tail(5, p, 0) for p in (0, 0.3, 1)] == [1, 1, 1]
    assert [tail(5, p, 6) for p in (0, 0.3, 1)] == [0, 0, 0]
    assert [tail(5, p, 5) for p in (0, 0.5, 1)] == [0, 1 / 32, 1]
    assert (tail(0, 0.5, 0), tail(0, 0.5, 1)) == (1, 0)
    assert (chance(7, 1), chance(1, 4)) == (1, pytest.approx(0.25))


@pytest.mark.parametrize(
    ("classes", "wanted"), [(10, (19, 22, 38, 68)), (100, (5, 5, 8, 12)), (30508, (1, 1, 1, 2))]
)
def test_smallest_safe_rank(classes, wanted):
    for n, k in zip((104, 128, 256, 512), wanted, strict=True):
        assert smallest_k(n, classes) == k
        assert exact_tail(n - 1, 1 / classes, k) < 0.01
        assert k == 1 or exact_tail(n - 1, 1 / classes, k - 1) >= 0.01


@pytest.mark.parametrize(("n", "classes"), [(1, 3), (2, 1), (4, 2), (5, 3), (7, 3), (6, 4)])
def test_batch_probabilities_equal_the_count_of_all_batches(n, classes):
    largest = [max(batch.count(c) for c in range(classes)) for batch in product(range(classes), repeat=n)]
    for k in range(1, n + 2):
        share = sum(most >= k + 1 for most in largest) / len(largest)
        assert ideal_batch(n, classes, k) == pytest.approx(share, abs=1e-15)
    assert batch_has_pair(n, classes) == ideal_batch(n, classes, 1)


def test_batch_probabilities_of_imagenet_errata_e6_e7_e9():
    assert batch_has_pair(104, 1000) == pytest.approx(0.9961, abs=5e-5)
    assert chance(104, 1000) == pytest.approx(1 - 0.999**104) == pytest.approx(0.0988, abs=5e-5)
    assert ideal_batch(104, 1000, 2) == pytest.approx(0.156, abs=5e-4)
    assert ideal_batch(104, 1000, 5) == pytest.approx(1.40e-6, rel=5e-3)
    # At 1e-126, where one minus a float is nothing: 1000 classes that cannot reach it together, nearly.
    apart = 1000 * exact_tail(104, Fraction(1, 1000), 53)
    assert ideal_batch(104, 1000, 52) == pytest.approx(apart, rel=1e-3)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: tail(5, 1.5, 2), "p of 0 to 1"),
        (lambda: tail(5, math.nan, 2), "p of 0 to 1"),
        (lambda: tail(-1, 0.5, 0), "zero or more"),
        (lambda: smallest_k(2, 10), "give 3 images"),
        (lambda: smallest_k(104, 0), "one class"),
        (lambda: smallest_k(104, 1), "larger batch or bound"),
        (lambda: smallest_k(3, 2), "larger batch or bound"),
        (lambda: chance(0, 10), "give 1 images"),
        (lambda: batch_has_pair(4, 0), "one class"),
        (lambda: ideal_batch(4, 2, 0), "ranks begin at 1"),
    ],
)
def test_bad_input_is_one_line(call, says):
    with pytest.raises(PapersError, match=says) as error:
        call()
    assert "\n" not in str(error.value)
