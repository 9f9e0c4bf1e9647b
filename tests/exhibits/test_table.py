import csv
import io
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from papers_lib.errors import PapersError
from papers_lib.exhibits.intervals import Interval, t_interval
from papers_lib.exhibits.table import NOT_RUN, Line, Table, comparison
from papers_lib.exhibits.verdicts import greater

EVIL = r"a|b <i>&amp; 50 % $x$ _u_ {c} \d # ~ ^"


def table(**changes):
    values = {"name": "table_1", "title": "Table 1: toy", "columns": ["Method", "R@1", "interval"]}
    values["rows"] = [["Größe ☃", 61.494, Interval(61.5, 60.0, 63.0, 3)], ["車 wide", NOT_RUN, None]]
    values |= {"badge": "stand-in data", "footer": "profile small · 3 runs", "notes": ["A note."]}
    return Table(**values | changes)


def test_text_is_aligned_and_box_free():
    assert repr(table()).splitlines() == [
        "Table 1: toy [stand-in data]",
        "",
        "Method     R@1        interval",
        "-------  -----  --------------",
        "Größe ☃  61.49  [60.00, 63.00]",
        "",
        "not run: 車 wide",
        "A note.",
        "profile small · 3 runs",
    ]


def test_rows_that_were_not_run_are_one_line_and_so_is_a_table_of_them():
    rows = [[f"A{i}", "R@1", "61.49", NOT_RUN, None, 0] for i in range(15)]
    there = ["B", "R@1", "61.49", 60.0, t_interval([59.0, 61.0]), 2]
    half = ["C", "R@1", None, NOT_RUN, 3.5, 0]  # a row with a number of ours stays
    columns = ["Method", "metric", "paper", "ours", "interval", "n"]
    some = table(columns=columns, rows=[*rows, there, half], command="python -m x")
    names = "; ".join(f"A{i} R@1" for i in range(12))
    line = f"not run: {names}; 3 more rows (where the profile has it: python -m x)"
    assert line in repr(some).splitlines()
    assert [text.split()[0] for text in repr(some).splitlines()[4:6]] == ["B", "C"]
    assert some._repr_html_().count("<tr") == 6  # head, two rows, the line, a note and the footer
    assert some._repr_markdown_() is not None  # 17 rows, two of which are shown
    none = table(columns=columns, rows=rows, command="python -m x")
    said = "Table 1: toy [stand-in data]: not run, 15 rows (where the profile has it: python -m x)"
    assert repr(none) == said
    assert none._repr_html_() == f"<p>{said}</p>" and none.markdown().count("\n") == 0
    assert "tabular" not in none._repr_latex_()
    assert len(none.csv().splitlines()) == 16 and len(some.csv().splitlines()) == 18


def test_the_findings_of_a_table_are_corrected_together():
    far, near = {0: 1.0, 1: 1.1, 2: 0.9}, {0: 0.4, 1: 0.7, 2: 0.8}
    zero = dict.fromkeys(far, 0.0)
    findings = [greater(far, zero), greater(zero, far), greater(near, zero), greater({}, zero)]
    assert [f.verdict for f in findings] == ["holds", "fails", "holds", "not tested"]
    together = table(columns=["a"], rows=[[f] for f in findings])
    assert [row[0] for row in together.rows] == ["yes", "no", "yes", "not tested"]
    many = table(columns=["a"], rows=[[findings[2]]] * 3)
    assert [row[0] for row in many.rows] == ["undecided"] * 3


def test_markdown_has_as_many_cells_as_columns_whatever_the_text():
    text = table(rows=[[EVIL, 1.0, None]], columns=["M|x", "b", "c"])._repr_markdown_()
    row = next(line for line in text.splitlines() if "&amp;amp;" in line)
    assert row.replace(r"\|", "").count("|") == 4
    assert r"a\|b &lt;i>&amp;amp; 50 % \$x\$ \_u\_ {c} \\d # \~ ^" in row
    assert "| :--- | ---: | :--- |" in text


def test_html_is_well_formed_escaped_and_accessible():
    text = table(rows=[[EVIL, 1.0, None]])._repr_html_()
    root = ET.fromstring(text)
    assert root.find("caption").text == "Table 1: toy [stand-in data]"
    assert [th.get("scope") for th in root.iter("th")] == ["col", "col", "col", "row"]
    assert next(th for th in root.iter("th") if th.get("scope") == "row").text == EVIL
    assert "color" not in text and "background" not in text and " id=" not in text


def test_latex_is_escaped_and_booktabs():
    text = table(rows=[[EVIL, 1.0, None]])._repr_latex_()
    row = next(line for line in text.splitlines() if line.startswith("a"))
    assert row == (
        r"a\textbar{}b \textless{}i\textgreater{}\&amp; 50 \% \$x\$ \_u\_ \{c\} "
        r"\textbackslash{}d \# \textasciitilde{} \textasciicircum{} & 1.00 & -- \\"
    )
    assert all(rule in text for rule in (r"\toprule", r"\midrule", r"\bottomrule", "{lrl}"))


def test_csv_has_full_precision_and_splits_intervals():
    rows = list(csv.reader(io.StringIO(table(rows=[["a", 1 / 3, t_interval([1.0, 2.0])]]).csv())))
    assert rows[0] == ["Method", "R@1", "interval low", "interval high"]
    assert float(rows[1][1]) == 1 / 3
    assert float(rows[1][2]) == t_interval([1.0, 2.0]).low


def test_numbers_have_the_decimals_of_their_column():
    got = repr(table(rows=[["a", 0.12345, -0.0001]], decimals={"R@1": 4, "interval": 1}))
    assert "0.1235" in got or "0.1234" in got
    assert got.splitlines()[4].endswith(" 0.0")  # never "-0.0"
    assert "–" in repr(table(rows=[["a", float("nan"), 1]]))


def test_a_row_of_wrong_length_and_a_name_with_a_slash_are_refused():
    with pytest.raises(PapersError, match="2 cells under 3 columns"):
        table(rows=[["a", 1.0]])
    with pytest.raises(PapersError, match="cannot name a file"):
        table(name="../x")


def test_an_empty_table_shows_its_heading():
    empty = table(rows=[])
    assert "Table 1: toy" in repr(empty)
    assert empty._repr_html_() and empty._repr_markdown_() and empty._repr_latex_()
    assert len(empty.csv().splitlines()) == 1


LINES = [
    Line(("A", "R@1"), "61.49", {0: 61.4, 1: 61.5, 2: 61.6}, True),
    Line(("B", "R@1"), "61.49", {0: 41.4, 1: 41.4, 2: 41.5, 3: 99.0}, True),
    Line(("C", "R@1"), "61.49", {0: 41.4, 1: 41.5, 2: 41.5}, False),
    Line(("D", "R@1"), "61.49", {0: 41.4}, True),
    Line(("E", "R@1"), "61.49", {}, False),
    Line(("CE alone", "R@1"), None, {0: 1.0, 1: 2.0, 2: 2.0}, False),
]


def test_comparison_has_the_columns_of_the_house():
    got = comparison("t", "T", ["Method", "metric"], LINES)
    assert list(got.columns) == ["Method", "metric", "paper", "ours", "Δ", "95 % interval", "n", "verdict"]
    assert [row[-1] for row in got.rows] == [
        *("holds", "fails", "not comparable", "undecided", "not tested", None),
    ]
    assert [row[4] is None for row in got.rows] == [False, False, True, False, True, True]
    assert [row[-2] for row in got.rows] == [3, 3, 3, 1, 0, 3]  # B at the seeds of all
    assert got.rows[4][3] == NOT_RUN
    shown = repr(got).splitlines()
    assert shown[4].split() == ["A", "R@1", "61.49", "61.50", "0.01", "[61.25,", "61.75]", "3", "holds"]
    assert shown[7].split() == ["D", "R@1", "61.49", "41.40", "-20.09", "–", "1", "undecided"]


def test_a_quoted_number_lacks_none_of_ours():
    got = comparison("t", "T", ["Method", "metric"], [*LINES, Line(("GCL", "R@1"), "90.1", {}, False, True)])
    assert got.rows[-1] == ["GCL", "R@1", "90.1", None, None, None, None, "quoted"]
    assert "not run: E R@1" in repr(got).splitlines()


SHOW = """
import sys
sys.path.insert(0, sys.argv[1])
from test_table import all_forms
sys.stdout.buffer.write(all_forms().encode())
"""


def all_forms():
    shown = (table(), comparison("t", "T", ["a", "b"], LINES))
    forms = ((x._repr_html_(), x._repr_markdown_(), x._repr_latex_(), x.csv()) for x in shown)
    return repr(shown) + repr(list(forms))


def test_a_process_with_another_hash_seed_shows_the_same():
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    command = [sys.executable, "-c", SHOW, str(Path(__file__).parent)]
    there = subprocess.run(command, env=environment, capture_output=True, check=True).stdout.decode()
    assert there == all_forms()
    assert "0x" not in there


def test_numbers_of_another_setting_are_a_grid_with_ours_in_brackets_and_the_csv_has_every_line():
    lines = [
        Line(("A", "R@1"), "61.49", {0: 30.0, 1: 32.0}),
        Line(("A", "NMI"), "54.50", {}),
        Line(("B", "R@1"), "66.06", {0: 33.0}),
        Line(("B", "NMI"), None, {}),
        Line(("C", "R@1"), "70.00", {}),
    ]
    got = comparison("t", "T", ["method", "metric"], lines, footer="foot")
    rows = [line.split("  ") for line in repr(got).splitlines()]
    assert [[cell.strip() for cell in row if cell] for row in rows[2:7]] == [
        ["method", "R@1", "NMI"],
        ["-" * 6, "-" * 21, "-" * 9],
        # t of one degree of freedom: half the interval is 12.706 · √2 / √2
        ["A", "61.49 (31.00 ± 12.71)", "54.50 (–)"],
        ["B", "66.06 (33.00)", "– (–)"],
        ["C", "70.00 (–)", "–"],
    ]
    assert "n = 1, 2" in repr(got) and got.markdown().count("\n| ") == 5
    assert len(got.csv().splitlines()) == 6
    # a comparable line has a difference, and nothing run is one line
    one = comparison("t", "T", ["method", "metric"], [line for line in lines if line.labels[1] == "R@1"]).face
    assert one.columns == ["method", "paper", "ours", "95 % interval", "n"] and "not run: C" in repr(one)
    comparable = replace(lines[0], comparable=True)
    assert comparison("t", "T", ["a", "b"], [comparable, *lines[1:]]).face is None
    assert comparison("t", "T", ["a", "b"], lines[-1:]).face is None
