"""Every number that a paper prints, with its digits as printed and the place where it stands."""

from __future__ import annotations

import csv
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from papers_lib.errors import PapersError

if TYPE_CHECKING:
    from pandas import DataFrame, Series

COLUMNS = ("exhibit", "row", "column", "printed", "unit", "source")


def load(paper: str) -> DataFrame:
    """The printed numbers of `paper`: exhibit, row, column, printed, value, unit, source.

    `printed` is the paper's text, `value` its number. Exhibits are the paper's own (`Table 1`),
    `text` (numbers in its prose), `settings`, and those of other papers that its errata need.

    Raises:
        PapersError: an unknown paper, or a CSV that is not in order (names the file and the line).
    """
    # <wing>/study/published
    wings = {path.parents[1].name: path for path in Path(__file__).parents[1].glob("*/study/published")}
    if paper not in wings:
        raise PapersError(f"no printed numbers of '{paper}'; known papers: {', '.join(sorted(wings))}")
    return load_folder(wings[paper])


def load_folder(folder: Path) -> DataFrame:
    """The printed numbers that the CSVs of a folder hold, as `load` gives them."""
    import pandas as pd

    # by name, so that every machine has one order
    rows = [row for file in sorted(folder.glob("*.csv")) for row in read(file)]
    for cell, count in Counter(row[:3] for row in rows).items():
        if count > 1:
            raise PapersError(f"{' / '.join(cell)} is transcribed twice; keep one")
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    # behind `printed`, whose digits are kept as text: "61.0" is not "61"
    frame.insert(4, "value", [float(text) for text in frame["printed"]])
    return frame


def by_place(frame: DataFrame) -> Series:
    """The values of `load` by exhibit, row and column."""
    return frame.set_index(["exhibit", "row", "column"])["value"]


def read(file: Path) -> list[tuple[str, ...]]:
    """The rows of one CSV, in order."""
    try:
        head, *rows = csv.reader(file.read_text(encoding="utf-8").splitlines())
    except (ValueError, csv.Error) as error:  # empty, not UTF-8, or not CSV
        raise PapersError(f"{file}: not a CSV of printed numbers ({error}); restore it") from None
    if tuple(head) != COLUMNS:
        raise PapersError(f"{file}: its first line must be {','.join(COLUMNS)}")
    for number, row in enumerate(rows, 2):  # line 1 is the head
        fault = _fault(row)
        if fault:
            raise PapersError(f"{file}, line {number}: {fault}")
    return [tuple(row) for row in rows]


def _fault(row: list[str]) -> str:
    if len(row) != len(COLUMNS):
        return f"{len(row)} cells, not {len(COLUMNS)}; quote a cell that holds a comma"
    exhibit, name, column, printed, _, source = row
    if not (exhibit and name and column and source):
        return "an empty cell; say exhibit, row, column and source (page, section or table)"
    try:
        finite = math.isfinite(float(printed))  # float() also reads "nan" and "inf"
    except ValueError:
        finite = False
    return "" if finite else f"'{printed}' is not a number; write the digits as printed"
