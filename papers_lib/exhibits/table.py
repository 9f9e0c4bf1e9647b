"""A table as data that shows itself as text, Markdown, HTML, LaTeX and CSV, always the same bytes."""

from __future__ import annotations

import csv
import html
import io
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, takewhile
from pathlib import Path

from rich.cells import cell_len

from papers_lib.errors import PapersError
from papers_lib.exhibits.intervals import Interval, common_seeds, t_interval
from papers_lib.exhibits.verdicts import Finding, agrees, holm
from papers_lib.files import replacing

NOT_RUN = "not run"  # our number is absent because no run has made it yet
NOT_APPLICABLE = "–"  # there is no such number
NAMED = 12  # so many rows that were not run are named below a table
OTHER_SETTING = "The setting is not the paper's: no difference is taken."
YES = {"holds": "yes", "fails": "no"}  # of "greater than its counterpart", which is no claim of a paper
LONG = 10  # rows; a longer table goes into a notebook as HTML and text alone, to keep the file small
LEFT = ' style="text-align:left"'

Cell = str | int | float | Interval | Finding | None


@dataclass(frozen=True, repr=False)
class Table:
    """A named table. A cell is text, a number, an `Interval`, a `Finding` or None (not applicable).

    Numbers are shown with `decimals` places (one for all columns, or by column name, else 2), whole
    numbers as they are, text as it is; the CSV keeps full precision. The findings of a table are one family,
    corrected by Holm, and read "yes", "no" or "undecided".

    A row with a cell "not run" and no number of ours is named in one line below the table, with `command`,
    which would run it; a table of such rows alone is that line. The CSV keeps them.

    `face` is a shorter table that is shown in the place of this one; the CSV is of this one all the same.
    `details`, one text per row, fold away below a row's last cell, in HTML alone.

    Raises:
        PapersError: a row of another length than `columns`, or a name that is no file name.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    badge: str = ""
    footer: str = ""
    notes: Sequence[str] = ()
    decimals: int | Mapping[str, int] = field(default=2)
    command: str = ""
    face: Table | None = None
    details: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_name(self.name)
        object.__setattr__(self, "rows", _judged(self.rows))  # frozen, and this is its construction
        for row in self.rows:
            if len(row) != len(self.columns):
                raise PapersError(
                    f"table {self.name}: a row of {len(row)} cells under {len(self.columns)} columns; "
                    "give each column a cell, None where it does not apply"
                )

    def __repr__(self) -> str:
        """Aligned text without a box."""
        if self.face:
            return repr(self.face)
        if line := self._one_line():
            return line
        cells = [list(self.columns), *self._shown()]  # [1 + rows, columns] of text
        # cell_len: some signs are two columns wide, some none
        widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
        right = self._right()
        lines = ["  ".join(map(_pad, row, widths, right)).rstrip() for row in cells]
        rule = "  ".join("-" * width for width in widths)
        return "\n".join([self._heading(), "", lines[0], rule, *lines[1:], *self._below("")])

    def _repr_markdown_(self) -> str | None:
        if len((self.face or self)._present()) > LONG:
            return None
        return self.markdown()

    def markdown(self) -> str:
        """The table in GitHub's Markdown."""
        if self.face:
            return self.face.markdown()
        if line := self._one_line():
            return _markdown(line)
        rows = [[_markdown(text) for text in row] for row in [self.columns, *self._shown()]]
        lines = [f"| {' | '.join(row)} |" for row in rows]
        # ---: aligns to the right
        rule = f"| {' | '.join('---:' if right else ':---' for right in self._right())} |"
        below = [_markdown(text) for text in self._below()]
        heading = f"**{_markdown(self._heading())}**"
        # Markdown runs lines together: a blank one before each note
        return "\n".join([heading, "", lines[0], rule, *lines[1:], *chain(*(("", x) for x in below))])

    def _repr_html_(self) -> str:
        if self.face:
            return self.face._repr_html_()
        if line := self._one_line():
            return f"<p>{html.escape(line)}</p>"
        styles = ["" if right else LEFT for right in self._right()]  # a row is to the right, as numbers are
        heads = [
            f'<th scope="col"{style}>{html.escape(name)}</th>'
            for name, style in zip(self.columns, styles, strict=True)
        ]
        # once a row and not once a cell: notebooks are committed
        row_tag = '<tr style="text-align:right">'
        cells = [_html_cells(row, styles) for row in self._shown()]
        if self.details:
            folded = [f"<details><summary>more</summary>{html.escape(x)}</details>" for x in self.details]
            cells = [f"{row[: -len('</td>')]}{more}</td>" for row, more in zip(cells, folded, strict=True)]
        body = "\n".join(f"{row_tag}{row}</tr>" for row in cells)
        span = f'<td colspan="{len(self.columns)}"{LEFT}>'
        foot = "\n".join(f"<tr>{span}{html.escape(text)}</td></tr>" for text in self._below())
        return (
            f"<table>\n<caption>{html.escape(self._heading())}</caption>\n"
            f"<thead>{row_tag}{''.join(heads)}</tr></thead>\n<tbody>\n{body}\n</tbody>\n"
            + (f"<tfoot>\n{foot}\n</tfoot>\n" if foot else "")
            + "</table>"
        )

    def _repr_latex_(self) -> str | None:
        if self.face:
            return self.face._repr_latex_()
        if len(self._present()) > LONG:
            return None
        if line := self._one_line():
            return _latex(line)
        rows = [" & ".join(map(_latex, row)) + r" \\" for row in [self.columns, *self._shown()]]
        below = [rf"\par\footnotesize {_latex(text)}" for text in self._below()]
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_latex(self._heading())}}}",
            rf"\label{{tab:{self.name}}}",
            rf"\begin{{tabular}}{{{''.join('r' if right else 'l' for right in self._right())}}}",
            r"\toprule",
            rows[0],
            r"\midrule",
            *rows[1:],
            r"\bottomrule",
            r"\end{tabular}",
            *below,
            r"\end{table}",
        ]
        return "\n".join(lines)

    def part(self, columns: Sequence[str], rows: Sequence[Sequence[Cell]] | None = None) -> Table:
        """The table of these columns alone, and of `rows` of its own; for a face."""
        places = [list(self.columns).index(name) for name in columns]
        rows = self.rows if rows is None else rows
        return replace(self, columns=columns, rows=[[row[place] for place in places] for row in rows])

    def csv(self) -> str:
        """The cells in full precision; an interval fills two columns, `… low` and `… high`."""
        # columns with an interval anywhere
        split = [any(isinstance(x, Interval) for x in column) for column in self._by_column()]
        pairs = list(zip(self.columns, split, strict=True))
        head = [x for name, two in pairs for x in ([f"{name} low", f"{name} high"] if two else [name])]
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")  # the same bytes on every system
        writer.writerow(head)
        for row in self.rows:
            writer.writerow(chain(*(_csv(cell, two) for cell, two in zip(row, split, strict=True))))
        return out.getvalue()

    def save(self, folder: Path) -> list[Path]:
        """Write `<name>.csv` and `<name>.md` into `folder`, whole or not at all."""
        contents = {".csv": self.csv(), ".md": self.markdown() + "\n"}
        return save(folder, self.name, {end: text.encode() for end, text in contents.items()})

    def _by_column(self) -> list[tuple[Cell, ...]]:
        return [tuple(row[i] for row in self.rows) for i in range(len(self.columns))]

    def _shown(self) -> list[list[str]]:
        places = [  # of each column
            self.decimals if isinstance(self.decimals, int) else self.decimals.get(name, 2)
            for name in self.columns
        ]
        return [list(map(_show, row, places)) for row in self._present()]

    def _present(self) -> list[Sequence[Cell]]:
        return [row for row in self.rows if not _is_absent(row)]

    def _absent(self) -> str:
        """The rows that were not run, in a line; empty if there is none."""
        names = [_row_name(row) for row in self.rows if _is_absent(row)]
        if not names:
            return ""
        more = [f"{len(names) - NAMED} more rows"] if len(names) > NAMED else []
        return f"{NOT_RUN}: {'; '.join(names[:NAMED] + more)}{self._how()}"

    def _how(self) -> str:
        return f" (where the profile has it: {self.command})" if self.command else ""

    def _one_line(self) -> str:
        """The whole table, where no row was run; empty otherwise."""
        if not self.rows or self._present():
            return ""
        rows = "row" if len(self.rows) == 1 else "rows"
        return f"{self._heading()}: {NOT_RUN}, {len(self.rows)} {rows}{self._how()}"

    def _right(self) -> list[bool]:
        """Columns of numbers are aligned to the right, others to the left."""
        # "not run" and "–" among numbers do not move them
        return [any(map(_is_number, x)) and all(map(_fits_number, x)) for x in self._by_column()]

    def _heading(self) -> str:
        return f"{self.title} [{self.badge}]" if self.badge else self.title

    def _below(self, *first: str) -> list[str]:
        absent = self._absent()
        texts = [*([absent] if absent else []), *self.notes, *([self.footer] if self.footer else [])]
        return [*first, *texts] if texts else []  # no blank line above nothing


@dataclass(frozen=True)
class Line:
    """One number of a paper beside ours: its labels, the paper's text, our value of each seed.

    With `quoted` the paper has it from elsewhere: it has no number of ours, and lacks none.
    """

    labels: tuple[str, ...]
    printed: str | None
    values: Mapping[int, float]
    comparable: bool = False
    quoted: bool = False

    def over(self, seeds: Collection[int]) -> Line:
        """The line over some seeds; one run alone stands as it is."""
        if len(self.values) < 2:
            return self
        return replace(self, values={seed: x for seed, x in self.values.items() if seed in seeds})


def comparison(
    name: str,
    title: str,
    labels: Sequence[str],
    lines: Sequence[Line],
    badge: str = "",
    footer: str = "",
    notes: Sequence[str] = (),
    decimals: int = 2,
) -> Table:
    """The table *paper | ours | Δ | 95 % interval | n | verdict*, after one column per label.

    Our number is the mean over seeds in the paper's unit, over the seeds that all lines of several runs have.
    Δ stands only where `Line.comparable`. Where no line is, a shorter table is shown, see `_face`.
    """
    seeds = common_seeds(line.values for line in lines)
    lines = [line.over(seeds) for line in lines]
    columns = [*labels, "paper", "ours", "Δ", "95 % interval", "n", "verdict"]
    rows = [_compare(line) for line in lines]
    whole = Table(name, title, columns, rows, badge, footer, notes, decimals)
    return replace(whole, face=_face(whole, labels, lines)) if any(x.values for x in lines) else whole


def _face(whole: Table, labels: Sequence[str], lines: Sequence[Line]) -> Table | None:
    """The comparison without what says nothing where no line can be compared; None where one can be.

    A label that never changes goes. Two that are left make a grid, the one with more values down its side, of
    "printed (ours ± half the interval)"; with one, Δ and the verdict go.
    """
    if any(line.comparable for line in lines):
        return None
    values = [list(dict.fromkeys(line.labels[i] for line in lines)) for i in range(len(labels))]
    kept = sorted((i for i, found in enumerate(values) if len(found) > 1), key=lambda i: -len(values[i]))
    if len(kept) == 1:
        names = [labels[kept[0]], "paper", "ours", "95 % interval", "n"]
        return replace(whole.part(names), notes=[OTHER_SETTING, *whole.notes])
    if len(kept) != 2:
        return None
    down, across = kept
    found = {(line.labels[down], line.labels[across]): line for line in lines}
    assert isinstance(whole.decimals, int)
    rows = [
        [row, *(_both(found.get((row, column)), whole.decimals) for column in values[across])]
        for row in values[down]
    ]
    counts = ", ".join(map(str, sorted({len(line.values) for line in lines if line.values})))
    words = f"paper (ours, mean over n = {counts} ± half its 95 % interval; –: not run). {OTHER_SETTING}"
    return replace(whole, columns=[labels[down], *values[across]], rows=rows, notes=[words, *whole.notes])


def _both(line: Line | None, places: int) -> str | None:
    """A printed number with ours in brackets."""
    if line is None:
        return None
    printed = line.printed or NOT_APPLICABLE
    if line.quoted:
        return printed
    if not line.values:
        return f"{printed} ({NOT_APPLICABLE})"
    ours = t_interval(list(line.values.values()))
    half = f" ± {(ours.high - ours.low) / 2:.{places}f}" if ours.n > 1 else ""
    return f"{printed} ({ours.mean:.{places}f}{half})"


def check_name(name: str) -> None:
    """Refuse a name that is not plain letters, digits, `_` and `-`, since it becomes a file name."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise PapersError(f"'{name}' cannot name a file; use letters, digits, '_' and '-'")


def save(folder: Path, name: str, contents: Mapping[str, bytes]) -> list[Path]:
    """Write `<name><ending>` into `folder` for each ending, each whole or not at all."""
    paths = [folder / f"{name}{ending}" for ending in contents]
    for path, data in zip(paths, contents.values(), strict=True):
        with replacing(path, "set PAPERS_FIGURES to another folder") as temporary:
            temporary.write_bytes(data)
    return paths


def _compare(line: Line) -> list[Cell]:
    if line.quoted:
        return [*line.labels, line.printed, *[None] * 4, "quoted"]
    ours = t_interval(list(line.values.values())) if line.values else None  # mean ± t_{n−1} s / √n over seeds
    # on other data a difference would only look like a result
    gap = ours.mean - float(line.printed) if ours and line.printed and line.comparable else None
    verdict = agrees(ours, line.printed, line.comparable).verdict if line.printed else None
    mean = ours.mean if ours else NOT_RUN
    return [*line.labels, line.printed, mean, gap, ours, ours.n if ours else 0, verdict]


def _judged(rows: Sequence[Sequence[Cell]]) -> list[list[Cell]]:
    """The rows with their findings corrected together, and in words."""
    found = holm([cell for row in rows for cell in row if isinstance(cell, Finding)])
    words = iter([YES.get(finding.verdict, finding.verdict) for finding in found])
    return [[next(words) if isinstance(cell, Finding) else cell for cell in row] for row in rows]


def _is_absent(row: Sequence[Cell]) -> bool:
    # a printed number is text; n = 0 is no number of ours
    ours = any(isinstance(cell, Interval | float) or (isinstance(cell, int) and cell) for cell in row)
    return NOT_RUN in row and not ours


def _row_name(row: Sequence[Cell]) -> str:
    """The labels before "not run", without the paper's number."""
    labels = takewhile(lambda cell: cell != NOT_RUN, row)
    return " ".join(cell for cell in labels if isinstance(cell, str) and not _is_number(cell))


def _show(cell: Cell, places: int) -> str:
    if cell is None:
        return NOT_APPLICABLE
    if isinstance(cell, Interval):
        if not (math.isfinite(cell.low) and math.isfinite(cell.high)):
            return NOT_APPLICABLE
        return f"[{_show(cell.low, places)}, {_show(cell.high, places)}]"
    if isinstance(cell, float):
        text = f"{cell:.{places}f}" if math.isfinite(cell) else NOT_APPLICABLE
        return text.lstrip("-") if not text.strip("-0.") else text  # no "-0.00"
    return " ".join(str(cell).split())  # a line break would tear the row apart


def _csv(cell: Cell, two: bool) -> list[str]:
    if two:
        # both columns stay empty where there is none
        ends = (cell.low, cell.high) if isinstance(cell, Interval) else (math.nan, math.nan)
        # repr: the shortest digits that read back the same
        return [repr(float(x)) if math.isfinite(x) else "" for x in ends]
    if isinstance(cell, float):
        return [repr(float(cell))] if math.isfinite(cell) else [""]
    return ["" if cell is None else str(cell)]


def _is_number(cell: Cell) -> bool:
    if isinstance(cell, str):
        return bool(re.fullmatch(r"[-+−]?\d[\d.,]*( ?%)?", cell))  # "61.49", "16,185", "12 %"
    return cell is not None and not isinstance(cell, bool)  # bool is an int


def _fits_number(cell: Cell) -> bool:
    return cell in (None, NOT_RUN, NOT_APPLICABLE) or _is_number(cell)


def _pad(text: str, width: int, right: bool) -> str:
    space = " " * (width - cell_len(text))
    return space + text if right else text + space


def _markdown(text: str) -> str:
    # GitHub reads HTML, too; ">" is common in our texts and harmless inside a line
    escaped = html.escape(text, quote=False).replace("&gt;", ">")
    return re.sub(r"([\\|`*_$~])", r"\\\1", escaped)


def _html_cells(row: Sequence[str], styles: Sequence[str]) -> str:
    """The first cell names its row."""
    tags = [('th scope="row"', "th"), *[("td", "td")] * (len(row) - 1)]
    return "".join(
        f"<{start}{style}>{html.escape(text)}</{end}>"
        for text, style, (start, end) in zip(row, styles, tags, strict=True)
    )


# signs that LaTeX reads as commands, or its text fonts lack
_LATEX = {
    **{sign: rf"\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "Δ": r"$\Delta$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "−": "$-$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "→": r"$\to$",
    "·": r"$\cdot$",
    "≈": r"$\approx$",
    "–": "--",
}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)
