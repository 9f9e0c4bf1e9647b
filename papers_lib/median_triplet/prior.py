"""How often the rank-k negative is of the query's own class: exact probabilities for balanced classes.

Section 3.3 of Wang et al. bounds it by a binomial tail, under the assumption of an ideal ranking: every
image of the query's class is nearer than any of another. Then rank k is a false negative exactly where k
or more of the m = n − 1 negatives are of the query's class.
"""

from __future__ import annotations

import math
from fractions import Fraction

from scipy.special import betainc

from papers_lib.errors import PapersError


def tail(m: int, p: float, k: int) -> float:
    """P(Bin(m, p) ≥ k) = Σ_{i ≥ k} C(m, i) pⁱ (1 − p)^{m − i} (Section 3.3).

    By the regularised incomplete beta function I_p(k, m − k + 1), which has its full relative precision
    far below 1e−100, too.

    Raises:
        PapersError: no probability, or counts below zero.
    """
    if m < 0 or k < 0 or not 0 <= p <= 1:
        raise PapersError(f"tail: m={m}, p={p}, k={k}; give counts of zero or more and p of 0 to 1")
    if k == 0 or k > m:
        return float(k == 0)
    return float(betainc(k, m - k + 1, p))  # I_p(k, m − k + 1)


def smallest_k(n: int, classes: int, bound: float = 0.01) -> int:
    """The smallest rank that is a false negative with a probability below `bound`, under ideal ranking.

    In a batch of `n` images of equally many of each of `classes` classes.

    Raises:
        PapersError: fewer than three images, no classes, or too few classes for any rank to be safe.
    """
    _check(n, classes, least=3)
    for k in range(1, n):  # the tail falls as k grows
        if tail(n - 1, 1 / classes, k) < bound:
            return k
    raise PapersError(
        f"with {classes} classes no rank of a batch of {n} is a false negative in less than {bound:g} of the "
        "cases; give a larger batch or bound"
    )


def chance(n: int, classes: int) -> float:
    """P(Ω|A) of features that know nothing, at any rank: 1 − (1 − 1/classes)ⁿ.

    Ω is Table 5's event: the rank-k negative of at least one of the batch's n queries is of its class.

    Raises:
        PapersError: no images or no classes.
    """
    _check(n, classes)
    # 1 − (1 − 1/classes)ⁿ, without the loss of digits of a power near one
    return 1.0 if classes == 1 else -math.expm1(n * math.log1p(-1 / classes))


def batch_has_pair(n: int, classes: int) -> float:
    """Pr(B): at least two of the batch's `n` images share a class (Section 5); as `ideal_batch`."""
    return ideal_batch(n, classes, 1)


def ideal_batch(n: int, classes: int, k: int) -> float:
    """P(Ω|A) under ideal ranking: some class has k + 1 or more of the batch's `n` images.

    Exact: one minus a_n / classesⁿ, where a_j is the number of ways in which j images can fall so that no
    class gets more than k. The a_j / j! are the coefficients of (Σ_{i ≤ k} xⁱ / i!)^classes.

    Raises:
        PapersError: no images or classes, or a rank below one.
    """
    _check(n, classes)
    if k < 1:
        raise PapersError(f"k is {k}; ranks begin at 1")
    # j a_j = Σ_{i=1..k} ((classes + 1) i − j) C(j, i) a_{j−i}, in integers
    ways = [1]  # a_0
    for j in range(1, n + 1):
        terms = (((classes + 1) * i - j) * math.comb(j, i) * ways[j - i] for i in range(1, min(k, j) + 1))
        ways.append(sum(terms) // j)
    return float(1 - Fraction(ways[n], classes**n))  # exact down to 1e−126, where floats are not


def _check(n: int, classes: int, least: int = 1) -> None:
    if n < least or classes < 1:
        raise PapersError(f"{n} images of {classes} classes; give {least} images and one class, or more")
