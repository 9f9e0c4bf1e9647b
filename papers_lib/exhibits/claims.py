"""What a paper claims and what it prints wrongly, as data: each with what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from papers_lib.exhibits.table import Cell, Table
from papers_lib.exhibits.verdicts import Finding


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, the statement that tests it, and the finding.

    `sentence` says where and how the paper claims it; `exhibit` names the table or figure that shows the
    test, `evidence` the runs or computation behind it, `controls` what else could explain it.
    """

    name: str
    sentence: str
    statement: str
    exhibit: str
    finding: Finding
    evidence: str = ""
    controls: str = ""

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
    """The claims with their verdicts."""
    rows: list[list[Cell]] = [
        # one line per claim, also where nothing was run: "not tested" is an answer
        [c.name, c.sentence, c.statement, c.finding.verdict, c.finding.text, c.exhibit, c.controls or None]
        for c in claims
    ]
    columns = ["claim", "the paper", "statement", "verdict", "finding", "shown in", "controls"]
    return Table("claims", "Claims of the paper", columns, rows, badge, footer)


def errata_table(errata: Sequence[Erratum], badge: str = "", footer: str = "") -> Table:
    """The errata, each with what shows it."""
    rows: list[list[Cell]] = [
        # what code shows is told apart from what somebody read
        [e.name, e.where, e.printed, e.right, e.shown_by, "code" if e.computed else "reading", _yes(e)]
        for e in errata
    ]
    columns = ["erratum", "where", "printed", "right", "shown by", "kind", "holds"]
    return Table("errata", "Errata of the paper", columns, rows, badge, footer)


def _yes(erratum: Erratum) -> str:
    return "yes" if erratum.holds else "no"
