"""The site's generated pages against what they are made from; the pages in a browser are in `browser/`."""

from __future__ import annotations

import importlib
import re

import nbformat
import pytest

from docs import build
from papers_lib import papers
from papers_lib.exhibits import ledger

GLOSSARY = (build.DOCS / "glossary.md").read_text()


@pytest.fixture(scope="module")
def opened():
    return build.books()


def test_every_claim_has_its_verdict_and_the_heading_that_shows_its_test(opened):
    page = "\n".join(build.claims(opened))
    for book in opened:
        text = "\n".join(c.source for c in nbformat.read(book.paper.notebook, 4).cells)
        _, _, section = page.partition(f"## {book.paper.title}\n")
        section = section.partition("\n## ")[0]
        claims = book.paper.study.claims(book.results)
        rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| ")][2:]
        found = [(name.removeprefix("| "), verdict) for name, _, verdict, *_ in rows]
        assert found == [(claim.name, claim.finding.verdict) for claim in claims]
        links = re.findall(r"\[([^]]+)\]\(\.\./notebooks/(\w+)\.ipynb(#\S+)?\)", section)
        assert len(links) == len(claims)
        for title, name, anchor in links:
            assert name == book.paper.name
            heading = re.escape(re.sub(r"\\(.)", r"\1", title))
            assert not anchor or re.search(rf"^#+ {heading} *$", text, re.MULTILINE), title


def test_an_exhibit_is_found_under_the_nearest_heading_above_it(tmp_path, monkeypatch):
    cells = [
        nbformat.v4.new_markdown_cell("# Title\n\n## Table 1: a *b*\n\ntext\n\n### Two, part (b)"),
        nbformat.v4.new_code_cell('book.table("table_1")'),
        nbformat.v4.new_markdown_cell("## Claims"),
        nbformat.v4.new_code_cell('book.claims()\nbook.table("table_1"), book.figure("later")'),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "one.ipynb")
    monkeypatch.setattr(papers.Paper, "notebook", tmp_path / "one.ipynb")
    assert build.headings(papers.Paper("one", "", "")) == {
        "table_1": ("Two, part (b)", "#two-part-b"),
        "claims": ("Claims", "#claims"),
        "later": ("Claims", "#claims"),
    }


def test_the_runs_of_the_shown_profile_are_all_listed_by_key(opened):
    keys = re.findall(r"`([0-9a-f]{8})`", "\n".join(build.runs(opened)))
    rows = {row.key[:8] for book in opened for row in book.rows}
    assert set(keys) == rows
    assert all(ledger.read(name) for name in papers.PAPERS)


def test_names_of_the_reference_can_be_imported():
    names = re.findall(r"auto(?:function|class):: (\S+)", (build.DOCS / "api.md").read_text())
    assert len(names) > 15
    for module, _, name in (one.rpartition(".") for one in names):
        assert getattr(importlib.import_module(module), name).__doc__


def test_the_glossary_is_short_and_has_no_term_twice():
    rows = [line.strip("| ").split(" | ") for line in GLOSSARY.splitlines() if line.startswith("| ")]
    terms = [row for row in rows if row[0] not in ("term", "---")]
    assert len(terms) >= 60
    assert len({term for term, *_ in terms}) == len(terms)
    assert all(len(row) == 3 and len(row[1]) <= 120 for row in terms)
