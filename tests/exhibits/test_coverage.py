import pandas as pd
import pytest

from papers_lib.errors import PapersError
from papers_lib.exhibits.coverage import Cell, coverage, coverage_table

PUBLISHED = pd.DataFrame(
    [(e, r, c, "1.0", 1.0, "%", "p. 1") for e in ("Table 2", "Table 1") for r in "ab" for c in "xy"],
    columns=["exhibit", "row", "column", "printed", "value", "unit", "source"],
)


def test_each_kind_is_counted_apart_and_only_numbers_count():
    cells = [
        Cell("Table 1", "a", "x", 1.0, "small", "half"),
        Cell("Table 1", "a", "x", 1.5, "small", "half"),  # the same cell from another run
        Cell("Table 1", "a", "x", 2.0, "medium", "half"),
        Cell("Table 1", "a", "y", None, "small", "half"),  # planned, not run
        Cell("Table 1", "b", "x", 3.0, kind="exact"),
        Cell("Table 1", "b", "y", None, kind="quoted"),
        Cell("Table 1", "a", "y", None, kind="exact"),
    ]
    second, first = coverage("toy", PUBLISHED, cells)
    assert (second.exhibit, second.printed, second.missing, second.reproduced) == ("Table 2", 4, 4, {})
    assert first.reproduced == {"medium on half": 1, "small on half": 1}
    assert (first.printed, first.exact, first.quoted, first.missing) == (4, 1, 1, 1)


def test_a_cell_that_is_not_printed_is_refused():
    with pytest.raises(PapersError, match="toy prints no Table 1 / a / z"):
        coverage("toy", PUBLISHED, [Cell("Table 1", "a", "z", 1.0)])


def test_counts_are_a_table():
    found = coverage("toy", PUBLISHED, [Cell("Table 1", "a", "x", 1.0, "small", "half")])
    shown = repr(coverage_table(found)).splitlines()
    assert shown[-1].split() == ["toy", "Table", "1", "4", "1", "at", "small", "on", "half", *"003"]
