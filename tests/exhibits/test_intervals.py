import itertools
import math

import numpy as np
import pytest
from scipy import stats

from papers_lib.errors import PapersError
from papers_lib.exhibits.intervals import (
    bootstrap,
    common_seeds,
    estimate,
    pooling_faults,
    rank_interval,
    t_interval,
)


@pytest.mark.parametrize("n", [2, 3, 10])
def test_t_interval_is_scipys(n):
    values = np.random.default_rng(n).normal(60, 2, n).tolist()
    got = t_interval(values, 0.9)
    low, high = stats.t.interval(0.9, n - 1, np.mean(values), stats.sem(values))
    assert (got.mean, got.low, got.high, got.n) == pytest.approx((np.mean(values), low, high, n))


def test_one_value_bounds_nothing_and_none_is_an_error():
    got = t_interval([5.0])
    assert (got.mean, got.low, got.high, got.n) == (5.0, -math.inf, math.inf, 1)
    assert got.as_dict() == {"mean": 5.0, "low": None, "high": None, "n": 1}
    for bad in ([], [1.0, math.nan]):
        with pytest.raises(PapersError, match="finite"):
            t_interval(bad)


def test_common_seeds_are_those_of_all_means_and_one_run_alone_is_none():
    assert common_seeds([{0, 1, 2, 3}, {0: 1.0, 1: 1.0, 2: 1.0}, {1, 2, 5}]) == {1, 2}
    assert common_seeds([{0, 1, 2}, {7}, set()]) == {0, 1, 2}
    assert common_seeds([{0}, {1}]) == common_seeds([]) == set()


@pytest.mark.parametrize("n", [2, 3, 10])
def test_p_is_scipys(n):
    values = np.random.default_rng(n).normal(1, 2, n).tolist()
    assert estimate([values]).p == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    assert estimate([[2.0] * n]).p == stats.binomtest(n, n).pvalue and estimate([[0.0] * n]).p == 1


def test_blocks_are_least_squares_of_arm_by_block_and_pair():
    rng = np.random.default_rng(5)
    gaps = rng.normal([[1.0], [0.2], [3.0]], 0.7, (3, 5))  # [data sets, seeds]
    # y = pair + data set × arm, arms 0 and 1: 15 pairs and 3 differences
    base = rng.normal(50, 20, (3, 5))
    y, design = np.zeros(30), np.zeros((30, 18))
    for at, (block, seed, arm) in enumerate(itertools.product(range(3), range(5), range(2))):
        y[at] = base[block, seed] + arm * gaps[block, seed]
        design[at, 5 * block + seed], design[at, 15 + block] = 1, arm
    beta, (rss,), rank, _ = np.linalg.lstsq(design, y, rcond=None)
    contrast = np.array([0] * 15 + [1 / 3] * 3)  # the mean of the three differences
    freedom = len(y) - rank
    se = math.sqrt(rss / freedom * contrast @ np.linalg.inv(design.T @ design) @ contrast)
    half = stats.t.ppf(0.975, freedom) * se
    found = estimate(gaps.tolist())
    assert (found.freedom, found.n, found.blocks) == (freedom, 5, 3) == (12, 5, 3)
    assert found.mean == pytest.approx(contrast @ beta)
    got = found.interval()
    assert (got.low, got.high) == pytest.approx((found.mean - half, found.mean + half))
    assert found.p == pytest.approx(2 * stats.t.sf(found.mean / se, freedom))
    with pytest.raises(PapersError, match="one per seed"):
        estimate([[1.0, 2.0], [1.0]])


def test_what_speaks_against_pooling_is_named():
    rng = np.random.default_rng(1)
    plain = rng.normal(0, 1, (3, 8))
    assert pooling_faults(plain) == []
    assert pooling_faults(plain + np.array([[5], [0], [-5]])) == []  # what lies between data sets is no error
    assert "variances differ" in pooling_faults(plain * [[1], [1], [30]])[0]
    assert "seeds go together" in " ".join(pooling_faults(plain + 5 * rng.normal(0, 1, 8)))
    wild = plain.copy()
    wild[:, 0] += [60, 0, 0]
    assert "not normal" in " ".join(pooling_faults(wild))
    assert pooling_faults(plain[:, :4]) == pooling_faults(plain[:1]) != []
    assert pooling_faults([[1.0] * 5, [2.0] * 5]) == []


def test_an_interval_of_ranks_stays_on_their_scale_and_is_that_of_their_logits():
    ranks = [1, 3, 40]
    got = rank_interval(ranks, 1000)
    logits = [math.log((r - 0.5) / (1000 - r + 0.5)) for r in ranks]
    low, high = stats.t.interval(0.95, 2, np.mean(logits), stats.sem(logits))
    back = [1000 / (1 + math.exp(-x)) + 0.5 for x in (np.mean(logits), low, high)]
    assert (got.mean, got.low, got.high, got.n) == pytest.approx((back[0], max(back[1], 1), back[2], 3))
    assert t_interval(ranks).low < 1 <= got.low < got.mean < got.high <= 1000
    mirrored = rank_interval([1001 - r for r in ranks], 1000)  # nothing but the names of the ends
    assert (mirrored.low, mirrored.high) == pytest.approx((1001 - got.high, 1001 - got.low))
    one = rank_interval([7], 1000)
    assert (one.mean, one.low, one.high, one.n) == (pytest.approx(7), 1, 1000, 1)
    with pytest.raises(PapersError, match=r"outside 1 … 10"):
        rank_interval([11], 10)


def test_bootstrap_over_items_is_close_to_the_normal_interval_and_repeats():
    hits = (np.random.default_rng(1).random(800) < 0.6).astype(float)
    got = bootstrap(hits)
    half = 1.96 * hits.std() / math.sqrt(len(hits))
    assert got.mean == hits.mean() and got.n == 800
    assert (got.low, got.high) == pytest.approx((got.mean - half, got.mean + half), abs=0.006)
    assert bootstrap(hits) == got
    assert bootstrap(hits, seed=1) != got


def test_strata_take_their_own_spread_out():
    labels = np.repeat(["a", "b"], 50)
    values = np.where(labels == "a", 0.0, 1.0)
    between = bootstrap(values, labels)
    assert (between.low, between.high) == (0.5, 0.5)
    plain = bootstrap(values)
    assert plain.high - plain.low > 0.1


def test_a_stratum_of_one_item_counts_in_the_mean():
    values = [1.0, 0.0, 1.0, 0.0, 1.0]
    got = bootstrap(values, [0, 0, 0, 0, 1])
    assert got.mean == 0.6
    assert 0.2 <= got.low < got.mean < got.high <= 1.0
    assert bootstrap([1.0, 0.0], [0, 1]).low == 0.5


@pytest.mark.parametrize("arguments", [([1.0],), ([1.0, 2.0], [0]), ([],)])
def test_bootstrap_refuses_what_it_cannot_resample(arguments):
    with pytest.raises(PapersError, match="two items or more"):
        bootstrap(*arguments)


@pytest.mark.parametrize(("spread", "gap"), [(1.0, 1.0), (0.3, 2.0), (2.0, -0.5)])
@pytest.mark.parametrize("level", [0.95, 0.998])
def test_seeds_needed_is_the_first_that_decides(spread, gap, level):
    values = [gap - spread, gap + spread, gap]
    sd = float(np.std(values, ddof=1))

    def decides(n, blocks):
        t = stats.t.ppf(0.5 + level / 2, blocks * (n - 1))
        return t * sd / math.sqrt(blocks * n) < abs(gap)

    for blocks in (1, 3):
        slow = next(n for n in range(2, 10_000) if decides(n, blocks))
        assert estimate([values] * blocks).seeds_needed(level) == slow


def test_seeds_needed_says_when_it_cannot_tell():
    assert estimate([[1.0]]).seeds_needed() is None
    assert estimate([[1.0, -1.0]]).seeds_needed() is None
    assert estimate([[1.0, 1.0]]).seeds_needed() == 6  # 2 / 2⁶ is the first below 5 %
    half_width = [stats.t.ppf(0.975, n - 1) * math.sqrt(2 / n) for n in (9_999, 10_000, 10_001)]
    middle = [(x + y) / 2 for x, y in itertools.pairwise(half_width)]
    found = [estimate([[mean + 1, mean - 1]]).seeds_needed() for mean in middle]
    assert found == [10_000, None]
