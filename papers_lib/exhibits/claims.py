"""What a paper claims and what it prints wrongly, as data: each with what was found."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from papers_lib.exhibits.figure import Figure
from papers_lib.exhibits.table import Cell, Table
from papers_lib.exhibits.verdicts import NOT_REPRODUCED, Finding

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, the statement that tests it, and the finding.

    `sentence` says where and how the paper claims it; `exhibit` names the table or figure that shows the
    test, `evidence` the runs or computation behind it, `controls` what else could explain it. Claims of one
    `family` are corrected together; the paper's main one has no name.
    """

    name: str
    sentence: str
    statement: str
    exhibit: str
    finding: Finding
    evidence: str = ""
    controls: str = ""
    family: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON, with the finding's verdict, interval and text."""
        return {**asdict(self), "finding": self.finding.as_dict()}


@dataclass(frozen=True)
class Erratum:
    """Something printed that is not right, what is right, and what shows it.

    `computed` if code shows it, else by reading; `holds` if what shows it was found to be so.
    """

    name: str
    where: str
    printed: str
    right: str
    shown_by: str
    computed: bool
    holds: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def claims_table(claims: Sequence[Claim], badge: str = "", footer: str = "") -> Table:
    """The claims with a verdict; what is undecided or not tested is one line below each.

    Three columns are shown, and the rest of a claim folds away below its row.
    """
    decided = [c for c in claims if c.finding.verdict not in ("undecided", "not tested")]
    rows: list[list[Cell]] = [
        [
            *(c.name, c.sentence, c.statement, c.finding.verdict, c.finding.text),
            *(_p(c.finding.p), _p(c.finding.p_holm), c.finding.kind, c.exhibit, c.controls or None),
        ]
        for c in decided
    ]
    columns = ["claim", "the paper", "statement", "verdict", "finding", "p", "p, Holm", "judged by"]
    columns += ["shown in", "controls"]
    whole = Table("claims", "Claims of the paper", columns, rows, badge, footer, _below(claims))
    short: list[list[Cell]] = [
        [f"{c.name}. {c.statement}", c.finding.verdict, _found(c.finding)] for c in decided
    ]
    face = replace(
        whole, columns=["claim", "verdict", "finding"], rows=short, details=list(map(_details, decided))
    )
    return replace(whole, face=face)


def _found(finding: Finding) -> str:
    """What a claim's judge found: the paired difference where runs were tested, else its words."""
    if not finding.estimate or finding.p_holm is None:
        return finding.text
    ends = finding.estimate.interval()
    mean, low, high = (f"{x:.3g}" if abs(x) < 1000 else f"{x:.0f}" for x in (ends.mean, ends.low, ends.high))
    return f"{'+' * (ends.mean > 0)}{mean} [{low}, {high}], n = {ends.n}, p {_p(finding.p_holm)}"


def _details(claim: Claim) -> str:
    """What the three columns leave out."""
    found = claim.finding
    parts = [f"The paper: {claim.sentence}", f"judged by {found.kind}: {found.text}"]
    parts += [f"p before Holm's correction: {_p(found.p)}"] if found.p is not None else []
    parts += [f"shown in {claim.exhibit}", *([f"controls: {claim.controls}"] if claim.controls else [])]
    return "; ".join(parts)


def _below(claims: Sequence[Claim]) -> list[str]:
    undecided = [c for c in claims if c.finding.verdict == "undecided"]
    untested = [c.name for c in claims if c.finding.verdict == "not tested"]
    families = Counter(c.family for c in claims if c.finding.p_holm is not None)
    notes = []
    if undecided:
        seeds = ", ".join(f"{c.name} ({c.finding.seeds_needed or '–'})" for c in undecided)
        notes.append(f"undecided, with the seeds that would decide (– not known, or beyond 10,000): {seeds}")
    if untested:
        notes.append(f"not tested: {', '.join(untested)}")
    if families:
        sizes = ", ".join(f"{n} {name}".rstrip() for name, n in families.items())
        notes.append(
            f"p: Student's t over paired seeds, two-sided; p, Holm: of all such tests together ({sizes})"
        )
    return notes


def _p(p: float | None) -> str | None:
    return None if p is None else f"{p:.2g}" if p >= 0.0001 else "< 0.0001"


MARKS = {  # colour and shape of a verdict in the forest plot
    "holds": ("#0072B2", "o"),
    "fails": ("#D55E00", "s"),
    NOT_REPRODUCED: ("#E69F00", "D"),
    "undecided": ("#999999", "o"),
}
EDGE = 100.0  # standard deviations: what lies beyond, or has no spread at all, is drawn here


def forest(claims: Sequence[Claim], badge: str = "", footer: str = "") -> Figure:
    """Every claim that a test on runs judged, with its interval: a row a claim, by its verdict after Holm.

    Claims have many units, so that a row is drawn in standard deviations of its paired differences; the
    difference in its own unit and both p stand in the CSV, the first beside the row too.
    """
    import pandas as pd

    tested = [(c, c.finding, e) for c in claims if (e := c.finding.estimate) and c.finding.p_holm is not None]
    columns = ["claim", "statement", "family", "verdict", "difference", "low", "high", "n", "p", "p_holm"]
    columns += ["seeds_needed", "effect", "effect_low", "effect_high"]
    rows = []
    for claim, finding, found in tested:
        ends = found.interval()
        raw = (ends.mean, ends.low, ends.high)
        effects = [_clipped(x, found.spread) for x in raw]
        p = (finding.p, finding.p_holm, finding.seeds_needed)
        about = (claim.name, claim.statement, claim.family, finding.verdict)
        rows.append([*about, *raw, ends.n, *p, *effects])
    data = pd.DataFrame(rows, columns=columns)
    counts = Counter(data["verdict"])
    said = (
        ", ".join(f"{counts[verdict]} {verdict}" for verdict in MARKS if counts[verdict]) or "no claim tested"
    )
    return Figure(
        "claims",
        "Claims tested on runs: raw 95 % intervals, coloured by the verdict after Holm",
        f"Forest plot of {len(data)} claims, a row each, right of zero for the claim: {said} after Holm's "
        "correction. Undecided rows are grey.",
        data,
        _draw_forest,
        badge,
        footer,
        size=(7.6, 1.9 + 0.17 * max(len(data), 3)),
    )


def _clipped(value: float, spread: float) -> float:
    # without spread the sign alone is known
    effect = value / spread if spread else math.copysign(EDGE, value) if value else 0.0
    return min(max(effect, -EDGE), EDGE)


def _draw_forest(canvas: Any, data: DataFrame) -> None:
    axes = canvas.add_subplot()
    axes.axvline(0, color="#555555", linewidth=0.8)
    for verdict, (colour, shape) in MARKS.items():
        shown = data[data["verdict"] == verdict]
        if len(shown):
            axes.hlines(shown.index, shown["effect_low"], shown["effect_high"], color=colour, linewidth=1.2)
            axes.plot(shown["effect"], shown.index, shape, color=colour, markersize=4, label=verdict)
    for row in data.itertuples():
        axes.annotate(
            f"{row.difference:+.4g} [{row.low:.4g}, {row.high:.4g}], n = {row.n}",
            (1.01, row.Index),
            xycoords=("axes fraction", "data"),
            va="center",
            size=6,
        )
    axes.set_yticks(range(len(data)), data["claim"], size=6.5)
    axes.set_ylim(len(data) - 0.4, -0.6)  # the first claim above
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(-EDGE * 1.2, EDGE * 1.2)
    axes.set_xticks([-100, -10, -1, 0, 1, 10, 100], ["−100", "−10", "−1", "0", "1", "10", "100"])
    axes.set_xlabel("against the claim  ←  difference in standard deviations over seeds  →  for the claim")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0.2)


def errata_table(errata: Sequence[Erratum], badge: str = "", footer: str = "") -> Table:
    """The errata; what shows each folds away below its row."""
    rows: list[list[Cell]] = [
        # what code shows is told apart from what somebody read
        [e.name, e.where, e.printed, e.right, e.shown_by, "code" if e.computed else "reading", _yes(e)]
        for e in errata
    ]
    columns = ["erratum", "where", "printed", "right", "shown by", "kind", "holds"]
    whole = Table("errata", "Errata of the paper", columns, rows, badge, footer)
    short: list[list[Cell]] = [[f"{e.name}. {e.where}", e.printed, e.right, _yes(e)] for e in errata]
    below = [f"by {'code' if e.computed else 'reading'}: {e.shown_by}" for e in errata]
    face = replace(whole, columns=["erratum", "printed", "right", "holds"], rows=short, details=below)
    return replace(whole, face=face)


def _yes(erratum: Erratum) -> str:
    return "yes" if erratum.holds else "no"
