"""Tables and figures with the titles, columns and words that `exhibits.toml` gives them."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from papers_lib.exhibits.figure import Figure
from papers_lib.exhibits.provenance import Provenance
from papers_lib.exhibits.table import Cell, Table

WORDS: dict[str, dict[str, Any]] = tomllib.loads(
    Path(__file__).with_name("exhibits.toml").read_text(encoding="utf-8")
)
EXACT = Provenance("", "", False)  # of tables that need no run


def table(name: str, rows: Sequence[Sequence[Cell]], source: Provenance = EXACT, **values: Any) -> Table:
    """The table of that name; `values` are filled into its title, its columns and its footer.

    `shown` among its words are the columns that fit a screen; the CSV has all.
    """
    words = WORDS[name]
    title, columns = words["title"].format(**values), [c.format(**values) for c in words["columns"]]
    footer = words.get("footer", "").format(**values) or source.text
    notes = tuple(filter(None, [words.get("note")]))
    whole = Table(name, title, columns, rows, source.badge, footer, notes, words.get("decimals", 2))
    return replace(whole, face=whole.part(words["shown"])) if "shown" in words else whole


def figure(
    name: str,
    rows: Any,
    draw: Callable[[Any, pd.DataFrame], None],
    source: Provenance,
    height: float = 0,
    **values: Any,
) -> Figure:
    """The figure of that name, drawn from `rows` under its columns; `values` are filled into its words.

    `height` in inches is for one that grows with its rows; by default it is the one in the words.
    """
    words = WORDS["figure"][name]
    data = pd.DataFrame(rows, columns=words["columns"])
    alt = " ".join(words["alt"].format(**values).split())
    width, high = words["size"]
    size = (width, height or high)
    return Figure(name, words["title"], alt, data, draw, source.badge, source.text, size, colours=32)
