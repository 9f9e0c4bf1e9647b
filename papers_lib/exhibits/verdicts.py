"""The one rule by which a claim or a printed number is judged.

A claim "a is greater than b" is tested on the differences a − b over the seeds that both have, by Student's
two-sided t; where several data sets ask it, on the mean over data sets. All statements of a paper that a
test on runs judges are one family, whose p is corrected by Holm: below 5 % the claim holds, or fails if the
difference is negative; else it is undecided. The raw 95 % interval stands beside it.

On stand-ins a claim does not fail: that drawn data lacks what the paper saw says nothing of the paper's data,
so it is "not reproduced on the stand-in". On real photographs other than the paper's it fails as on the
paper's, and the finding names the data. What no run could have turned out otherwise (arithmetic, identities,
the paper's own printed numbers) is a finding of another kind, and in no family.

A printed number holds if our interval meets the range that rounds to it; it is judged only where data set
and profile are the paper's.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from typing import Any, Final, Literal

from papers_lib.exhibits.intervals import Estimate, Interval, differences, estimate, pooling_faults

NOT_REPRODUCED: Final = "not reproduced on the stand-in"
Verdict = Literal[
    "holds", "fails", "undecided", "not tested", "not comparable", "not reproduced on the stand-in"
]
Kind = Literal["runs", "computed", "printed"]
Values = Mapping[int, float]  # by seed


@dataclass(frozen=True)
class Finding:
    """A verdict with what it rests on, and one stable sentence that says so.

    `kind`: judged by runs, by a computation that needs none, or by the printed numbers alone. `difference` is
    the raw interval, `p` the raw two-sided one, `p_holm` the one of the whole family, and `seeds_needed` the
    seeds at which the corrected test would decide, were mean and spread as they are.
    """

    verdict: Verdict
    text: str
    difference: Interval | None = None
    p: float | None = None
    p_holm: float | None = None
    seeds_needed: int | None = None
    estimate: Estimate | None = None
    kind: Kind = "runs"

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self) | {
            "difference": self.difference.as_dict() if self.difference else None,
            "estimate": self.estimate._asdict() if self.estimate else None,
        }


def greater(a: Values, b: Values, level: float = 0.95, decimals: int = 2) -> Finding:
    """Judge "a > b" from one value per seed of each, paired by seed, as a family of its own.

    `decimals` only shapes the sentence.
    """
    gaps = differences(a, b)  # d_s = a_s − b_s
    if not gaps:
        return Finding("not tested", "no seed has both runs")
    return _judged(estimate([gaps]), level, decimals, f"{len(gaps)} paired seeds")


def greater_blocked(
    pairs: Mapping[str, tuple[Values, Values]], level: float = 0.95, decimals: int = 2
) -> Finding:
    """Judge "a > b" where several data sets ask it: `pairs` are a and b by seed, by data set.

    Over the seeds s that all data sets b share, d_bs = a_bs − b_bs = μ_b + ε_bs. Tested is the mean of the
    μ_b, its residual pooled over data sets: B (n − 1) degrees of freedom where one data set alone has n − 1.
    Where `pooling_faults` names a reason against it, the means over data sets are paired by seed instead,
    which assumes nothing of data sets.
    """
    pairs = {name: (a, b) for name, (a, b) in pairs.items() if a.keys() & b.keys()}
    seeds = sorted(set.intersection(*(a.keys() & b.keys() for a, b in pairs.values()))) if pairs else []
    if not seeds:
        return Finding("not tested", "no seed has both runs of every data set")
    gaps = {name: [a[seed] - b[seed] for seed in seeds] for name, (a, b) in pairs.items()}
    found, faults = estimate(list(gaps.values())), pooling_faults(list(gaps.values()))
    how = f"residual pooled, {found.freedom} degrees of freedom"
    if faults:
        found = estimate([[statistics.fmean(of_seed) for of_seed in zip(*gaps.values(), strict=True)]])
        how = f"not pooled: {'; '.join(faults)}"
    means = ", ".join(f"{name} {statistics.fmean(of):+.{decimals}f}" for name, of in gaps.items())
    return _judged(found, level, decimals, f"{len(seeds)} paired seeds of each data set ({means}), {how}")


def _judged(found: Estimate, level: float, decimals: int, basis: str) -> Finding:
    interval = found.interval(level)  # of the mean of a − b
    if found.n < 2:
        text = f"difference {found.mean:+.{decimals}f} from one seed: run a second seed"
        return Finding("undecided", text, difference=interval, estimate=found)
    # with any spread the same as the whole interval on one side of 0
    decided: Verdict = "holds" if found.mean > 0 else "fails"
    verdict: Verdict = decided if found.p < 1 - level else "undecided"
    text = (
        f"mean difference {found.mean:+.{decimals}f}, {100 * level:.0f} % interval "
        f"[{interval.low:.{decimals}f}, {interval.high:.{decimals}f}], {basis}"
    )
    needed = found.seeds_needed(level) if verdict == "undecided" else None  # only where more would help
    return Finding(verdict, text, difference=interval, p=found.p, seeds_needed=needed, estimate=found)


def holm(findings: Sequence[Finding], level: float = 0.95) -> list[Finding]:
    """The findings of one family, those that a test on runs judged corrected by Holm's method.

    Of m tests in the order of their p the i-th has max over j ≤ i of (m − j + 1) p_j: the chance of one false
    verdict or more in the family is at most 1 − level, however the tests depend on each other (Holm 1979). A
    verdict that does not survive is "undecided".
    """
    tested = {i: f.p for i, f in enumerate(findings) if f.kind == "runs" and f.p is not None}
    adjusted: dict[int, float] = {}
    largest = 0.0
    for rank, i in enumerate(sorted(tested, key=tested.__getitem__)):
        largest = adjusted[i] = min(1.0, max(largest, (len(tested) - rank) * tested[i]))
    error = 1 - level
    left = sum(p >= error for p in adjusted.values())
    # as long as the others stay as they are, the next claim is held to error / left
    strict = 1 - error / max(left, 1)
    return [
        _corrected(finding, adjusted[i], error, strict) if i in adjusted else finding
        for i, finding in enumerate(findings)
    ]


def _corrected(finding: Finding, p: float, error: float, strict: float) -> Finding:
    if p < error:
        return replace(finding, p_holm=p)
    needed = finding.estimate.seeds_needed(strict) if finding.estimate else None
    return replace(finding, p_holm=p, verdict="undecided", seeds_needed=needed)


def on_stand_in(finding: Finding) -> Finding:
    """The finding as it reads on drawn data: what fails there was not reproduced, and no more."""
    if finding.verdict != "fails" or finding.kind != "runs":
        return finding
    return replace(finding, verdict=NOT_REPRODUCED)


def agrees(ours: Interval | None, printed: str, comparable: bool) -> Finding:
    """Judge a printed number by our interval over seeds.

    `printed` is the paper's text: its last digit gives the range that rounds to it.
    """
    if ours is None:
        return Finding("not tested", "not run")
    if not comparable:  # before any arithmetic: no difference is ever shown
        return Finding("not comparable", "other data or profile than the paper's: not comparable")
    value = Decimal(printed)
    # "61.49" stands for [61.485, 61.495]: half a unit of its last digit on either side.
    half = float(Decimal(5).scaleb(int(value.as_tuple().exponent) - 1))
    if ours.n < 2:
        return Finding("undecided", f"printed {printed}, one seed: undecided, run a second seed")
    # [low, high] ∩ [value − half, value + half] ≠ ∅
    meets = ours.low <= float(value) + half and ours.high >= float(value) - half
    verdict: Verdict = "holds" if meets else "fails"
    where = "within" if meets else "outside"
    text = f"printed {printed} is {where} our interval from {ours.n} seeds: {verdict}"
    return Finding(verdict, text, ours)
