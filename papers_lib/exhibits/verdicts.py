"""The one rule by which a claim or a printed number is judged.

A claim "a is greater than b" holds if the paired t interval of a − b lies wholly above zero, fails
if wholly below, and is undecided otherwise. A printed number holds if our interval meets the range
that rounds to it; it is judged only where data set and profile are the paper's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any, Literal

from papers_lib.exhibits.intervals import (
    Interval,
    differences,
    seeds_needed,
    sign_flip_p,
    t_interval,
)

Verdict = Literal["holds", "fails", "undecided", "not tested", "not comparable"]


@dataclass(frozen=True)
class Finding:
    """A verdict with what it rests on, and one stable sentence that says so."""

    verdict: Verdict
    text: str
    difference: Interval | None = None
    p: float | None = None
    seeds_needed: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        difference = self.difference.as_dict() if self.difference else None
        return {**asdict(self), "difference": difference}


def greater(
    a: Mapping[int, float], b: Mapping[int, float], level: float = 0.95, decimals: int = 2
) -> Finding:
    """Judge "a > b" from one value per seed of each, paired by seed.

    `decimals` only shapes the sentence.
    """
    gaps = differences(a, b)  # d_s = a_s − b_s
    if not gaps:
        return Finding("not tested", "no seed has both runs: not tested")
    interval = t_interval(gaps, level)  # of the mean of a − b
    if interval.n < 2:
        text = f"difference {interval.mean:+.{decimals}f} from one seed: undecided, run a second seed"
        return Finding("undecided", text, interval)
    # the whole interval on one side of 0
    verdict: Verdict = "holds" if interval.low > 0 else "fails" if interval.high < 0 else "undecided"
    p = sign_flip_p(gaps)  # beside the interval, as it assumes no normal distribution
    # only where more seeds would help
    needed = seeds_needed(gaps, level=level) if verdict == "undecided" else None
    text = (
        f"mean difference {interval.mean:+.{decimals}f}, {level:.0%} interval "
        f"[{interval.low:.{decimals}f}, {interval.high:.{decimals}f}], {interval.n} paired seeds, "
        f"sign-flip p = {p:.2g}: {verdict}{_more(verdict, needed)}"
    ).replace("%", " %")
    return Finding(verdict, text, interval, p, needed)


def agrees(ours: Interval | None, printed: str, comparable: bool) -> Finding:
    """Judge a printed number by our interval over seeds.

    `printed` is the paper's text: its last digit gives the range that rounds to it.
    """
    if ours is None:
        return Finding("not tested", "not run: not tested")
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


def _more(verdict: Verdict, needed: int | None) -> str:
    if verdict != "undecided":
        return ""
    return f"; about {needed} seeds would decide" if needed else "; no number of seeds in reach decides"
