"""What NAR-Bench says: how well each ranking without training orders vectors. Nothing is run."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from papers_lib.exhibits.intervals import Interval
from papers_lib.exhibits.table import Cell, Table
from papers_lib.exhibits.verdicts import Finding, Verdict
from papers_lib.nar import bench
from papers_lib.nar.study import exhibits
from papers_lib.study import Results, Statement
from papers_lib.study.data import read_statements

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
        draws = tau.draws if weights else None
        rows.append([WORDS[way], bench.WEIGHTS.get(weights), draws, *_cells(tau), *_cells(few[name])])
    n, fitted, right = len(found.sample), found.fitted.mean(), found.trained.mean()
    total = f"{n} vectors, each trained {found.trained.shape[1]} times"
    kept = f"{int((found.fitted.mean(1) >= 0.95).sum())} of them fit 95 % or more of their training images"
    return exhibits.table("bench", rows, total=total, kept=kept, fitted=100 * fitted, right=100 * right)


def _cells(tau: bench.Correlation) -> list[Cell]:
    return [tau.tau, Interval(tau.tau, *tau.interval(), tau.draws)]


@cache
def _claims() -> int:
    """How many claims `bench_tau` judges."""
    lines = read_statements(Path(__file__).parent / "claims.csv")
    return sum(line.test == bench_tau.__name__ for line in lines)


# -- tests of claims that the benchmark settles ------------------------------------------------------------


def bench_tau(results: Results, line: Statement) -> Finding:
    """Ranking `a` agrees with accuracy alone better than ranking `b`, or a perfect one, or the number `b`.

    Column `metric` is "few" where only vectors with one to four replacements count. The interval is over
    vectors and, of shared weights, over draws. Decided is by Bonferroni's rule for all such claims: the
    interval at 1 − 5 % / claims must leave out 0.
    """
    few, found = line.metric == "few", known()
    if line.b in WORDS or line.b in found.rankings():
        gap = found.ahead(line.a, line.b, few)
    else:
        tau = found.taus(few)[line.a]
        gap = tau._replace(tau=tau.tau - float(line.b))
    (low, high), claims = gap.interval(), _claims()
    least, most = gap.interval(1 - 0.05 / claims)
    verdict: Verdict = "holds" if least > 0 else "fails" if most < 0 else "undecided"
    over = f"vectors and {gap.draws} draws" if gap.draws > 1 else "vectors"
    text = f"τ ahead by {gap.tau:+.3f}, 95 % over {over} [{low:+.3f}, {high:+.3f}]"
    text += f", judged for all {claims} such claims"
    return Finding(verdict, text, kind="computed")
