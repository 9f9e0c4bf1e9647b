"""What NAR-Bench says: how well each ranking without training orders vectors. Nothing is run."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from statistics import NormalDist

from papers_lib.exhibits.intervals import Interval
from papers_lib.exhibits.table import Cell, Table
from papers_lib.exhibits.verdicts import Finding, Verdict
from papers_lib.nar import bench
from papers_lib.nar.study import exhibits
from papers_lib.study import Results, Statement
from papers_lib.study.data import read_statements

NORMAL = NormalDist()

WORDS = {
    "repeats": "half of the trainings with the other half",
    "perfect": "a perfect ranking, by the noise of these",
    "cost": "cost alone: more operations, better",
    "parameters": "parameters alone",
    "judge": "shared weights, judge's half",
    "choice": "shared weights, choosing half",
    "both": "shared weights, both halves",
    "running": "shared weights, running statistics",
    "recalibrated": "shared weights, recalibrated",
}


@cache
def known() -> bench.NarBench:
    """The shipped benchmark, read once."""
    return bench.load()


def rankings() -> Table:
    """Kendall's τ of each way to rank with the accuracy of vectors that were trained alone."""
    found, rows = known(), list[list[Cell]]()
    every, few = found.taus(), found.taus(few=True)
    for name, tau in every.items():
        way, _, weights = name.partition(", ")
        rows.append([WORDS[way], bench.WEIGHTS.get(weights), *_cells(tau), *_cells(few[name])])
    n, fitted, right = len(found.sample), found.fitted.mean(), found.trained.mean()
    total = f"{n} vectors, each trained {found.trained.shape[1]} times"
    kept = f"{int((found.fitted.mean(1) >= 0.95).sum())} of them fit 95 % or more of their training images"
    return exhibits.table("bench", rows, total=total, kept=kept, fitted=100 * fitted, right=100 * right)


def _cells(tau: bench.Correlation) -> list[Cell]:
    assert tau.low is not None and tau.high is not None
    return [tau.tau, Interval(tau.tau, tau.low, tau.high, bench.RESAMPLES)]


@cache
def _claims() -> int:
    """How many claims `bench_tau` judges."""
    lines = read_statements(Path(__file__).parent / "claims.csv")
    return sum(line.test == bench_tau.__name__ for line in lines)


# -- tests of claims that the benchmark settles ------------------------------------------------------------


def bench_tau(results: Results, line: Statement) -> Finding:
    """Ranking `a` agrees with accuracy alone better than ranking `b`, or a perfect one, or the number `b`.

    Column `metric` is "few" where only vectors with one to four replacements count. The raw interval is a
    bootstrap over vectors, of one draw of images. Decided is by Bonferroni's rule for all such claims: the
    normal interval that has the same width at 95 % must leave out 0 at 1 − 5 % / claims.
    """
    few, found = line.metric == "few", known()
    if line.b in WORDS or line.b in found.rankings():
        gap = found.ahead(line.a, line.b, few)
    else:
        tau, level = found.taus(few)[line.a], float(line.b)
        assert tau.low is not None and tau.high is not None
        gap = bench.Correlation(tau.tau - level, tau.low - level, tau.high - level)
    assert gap.low is not None and gap.high is not None
    sd = (gap.high - gap.low) / (2 * NORMAL.inv_cdf(0.975))
    claims = _claims()
    decided = abs(gap.tau) > sd * NORMAL.inv_cdf(1 - 0.025 / claims)
    verdict: Verdict = "undecided" if not decided else "holds" if gap.tau > 0 else "fails"
    text = f"τ ahead by {gap.tau:+.3f}, 95 % over vectors [{gap.low:+.3f}, {gap.high:+.3f}]"
    text += f", judged for all {claims} such claims"
    return Finding(verdict, text, kind="computed")
