"""How many of the numbers that a paper prints have a number of ours, and what kind of number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from papers_lib.errors import PapersError
from papers_lib.exhibits.table import Table

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Cell:
    """Our number for one printed cell, or why there is none.

    `run`: from finished runs at `profile` on `data`; `exact`: computed without training; `quoted`: the
    paper itself quotes the number (or states a setting), so that it is not ours to reproduce.
    """

    exhibit: str
    row: str
    column: str
    value: float | None
    profile: str = ""
    data: str = ""
    kind: Literal["run", "exact", "quoted"] = "run"


@dataclass(frozen=True)
class Exhibit:
    """The count of one exhibit. `reproduced` counts cells by "profile on data".

    A cell may be reproduced at several profiles; it is missing only if it has no number at all.
    """

    paper: str
    exhibit: str
    printed: int
    reproduced: dict[str, int] = field(default_factory=dict)
    exact: int = 0
    quoted: int = 0
    missing: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return dict(self.__dict__)


def coverage(paper: str, published: DataFrame, cells: Iterable[Cell]) -> list[Exhibit]:
    """Counts for each exhibit of `published` (as `published.load` gives it), in its order.

    A cell counts only with a number: `value` is not None. Raises:
        PapersError: a cell that the paper does not print.
    """
    places = published[["exhibit", "row", "column"]].astype(str)
    printed = set(places.itertuples(index=False, name=None))
    cells = list(cells)  # read once per exhibit
    for cell in cells:
        if (cell.exhibit, cell.row, cell.column) not in printed:
            place = f"{cell.exhibit} / {cell.row} / {cell.column}"
            raise PapersError(f"{paper} prints no {place}; name the cell as in published/")
    return [
        _count(paper, name, {place for place in printed if place[0] == name}, cells)
        for name in dict.fromkeys(published["exhibit"])  # in the order of the paper
    ]


def coverage_table(exhibits: Iterable[Exhibit]) -> Table:
    """One line per exhibit."""
    columns = ["paper", "exhibit", "printed", "reproduced", "exact", "quoted", "missing"]
    rows = [[x.paper, x.exhibit, x.printed, _by(x), x.exact, x.quoted, x.missing] for x in exhibits]
    return Table("coverage", "Printed cells that have a number of ours", columns, rows)


def _count(paper: str, name: str, printed: set[tuple[str, str, str]], cells: Iterable[Cell]) -> Exhibit:
    """Each cell counts once per kind, profile and data set, however often it is given."""
    # A number at `small` and one at `medium` are two reproductions of one cell.
    seen = {
        ((c.exhibit, c.row, c.column), c.kind, f"{c.profile} on {c.data}" if c.kind == "run" else "")
        for c in cells
        # quoted cells have no number of ours, and lack none
        if c.exhibit == name and (c.value is not None or c.kind == "quoted")
    }
    runs = Counter(where for _, kind, where in seen if kind == "run")
    kinds = Counter(kind for _, kind, _ in seen)
    return Exhibit(
        paper=paper,
        exhibit=name,
        printed=len(printed),
        reproduced=dict(sorted(runs.items())),
        exact=kinds["exact"],
        quoted=kinds["quoted"],
        # What has no number of any kind.
        missing=len(printed - {place for place, _, _ in seen}),
    )


def _by(exhibit: Exhibit) -> str | None:
    return ", ".join(f"{n} at {where}" for where, n in exhibit.reproduced.items()) or None
