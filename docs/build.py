"""Build the site, offline, from the committed notebooks and the ledger: `python -m docs.build FOLDER`.

What is generated (claims, errata, coverage, runs, Croissant files) comes from calls of `papers_lib` and
`data_prep`. It is laid out in FOLDER/source beside copies of notebooks and pages; nothing of it is committed.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import nbformat

from data_prep.croissant import croissant
from data_prep.sets import CARDS
from papers_lib import papers
from papers_lib.exhibits import ledger
from papers_lib.exhibits.coverage import coverage_table

DOCS = Path(__file__).parent
ROOT = DOCS.parent
# The number by which a paper's runs are told apart, as `claims.csv` names it.
METRICS = {
    "quadruplet_cars196": "R@1 %",
    "sampler_study": "mAP %",
    "median_triplet": "knn %",
    "nar": "accuracy %",
}
CONTENTS = {
    "Chapters": [
        f"notebooks/{name}" for name in ("quadruplet_cars196", "sampler_study", "median_triplet", "nar")
    ],
    "Results": ["results/claims", "results/errata", "results/coverage", "results/runs"],
    "Data": ["data_prep/cards/index", "docs/own_pictures"],
    "Reference": [
        "docs/glossary",
        "docs/api",
        "docs/cluster",
        "docs/scaling",
        "CONTRIBUTING",
        "docs/elsewhere",
        "CHANGELOG",
    ],
}
REDIRECT = """<!doctype html>
<html lang="en">
<link rel="icon" href="_static/favicon.svg">
<title>papers_lib</title>
<meta http-equiv="refresh" content="0; url=notebooks/index.html">
<a href="notebooks/index.html">papers_lib</a>
</html>
"""


def build(folder: Path) -> int:
    """Write the site to `folder`/html; returns Sphinx's exit code, which after any warning is not 0."""
    from sphinx.cmd.build import main

    source, target = folder / "source", folder / "html"
    shutil.rmtree(folder, ignore_errors=True)
    lay_out(source)
    code = int(main(["-W", "--keep-going", "-q", "-c", str(DOCS), str(source), str(target)]))
    (target / "index.html").write_text(REDIRECT, encoding="utf-8")
    return code


def lay_out(source: Path) -> None:
    """Copies and generated pages, in the repository's own layout, so that relative links hold."""
    others = shutil.ignore_patterns("*.csv", "*.jsonl", "*.md", "*.pdf", "*.svg")
    shutil.copytree(ROOT / "figures", source / "figures", ignore=others)
    shutil.copytree(CARDS, source / "data_prep" / "cards")
    shutil.copytree(DOCS, source / "docs", ignore=shutil.ignore_patterns("*.py", "*.css", "__pycache__"))
    for name in ("CONTRIBUTING.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, source)
    (source / "notebooks").mkdir()
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        nbformat.write(_chapter(path), source / "notebooks" / path.name)
    _cards(source / "data_prep" / "cards")
    results = source / "results"
    results.mkdir()
    opened = books()
    pages = {"claims": claims(opened), "errata": errata(), "coverage": coverage(), "runs": runs(opened)}
    for name, lines in pages.items():
        (results / f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def books() -> list[papers.Book]:
    """The four papers at the profile that readers are shown."""
    return [
        papers.open_paper(name, profile=papers.shown_profile(paper)) for name, paper in papers.PAPERS.items()
    ]


def _chapter(path: Path) -> Any:
    """The notebook as the site needs it: contents in the index."""
    notebook = nbformat.read(path, 4)
    if path.stem == "index":
        notebook.cells.append(nbformat.v4.new_markdown_cell("\n".join(_contents())))
    return notebook


def claims(opened: Iterable[papers.Book]) -> Iterator[str]:
    """A line per claim: its verdict, what was found, and the heading of the chapter that shows the test."""
    yield "# Claims\n\nEvery claim of the four papers, and ours where marked, with its verdict."
    yield (
        "A test on runs takes equal seeds and is corrected by Holm for all tests of its paper; "
        "the chapter says the rest.\n"
    )
    for book in opened:
        places = headings(book.paper)
        yield f"## {book.paper.title}\n"
        with ledger.reading(book.paper.name):
            found = book.paper.study.claims(book.results)
        rows = []
        for claim in found:
            place, anchor = places.get(claim.exhibit, places["claims"])
            link = f"[{_plain(place)}](../notebooks/{book.paper.name}.ipynb{anchor})"
            said = [claim.name, claim.statement, claim.finding.verdict, claim.finding.text]
            rows.append([*map(_plain, said), link])
        yield from _table(["claim", "statement", "verdict", "what was found", "tested in"], rows)


def headings(paper: papers.Paper) -> dict[str, tuple[str, str]]:
    """Exhibit → heading above the first cell that shows it, and its anchor; `claims` is always there."""
    places = {"claims": ("the chapter", "")}
    heading = places["claims"]
    for cell in nbformat.read(paper.notebook, 4).cells:
        if cell.cell_type == "markdown":
            for title in re.findall(r"^#{2,4} +(.+?) *$", cell.source, re.MULTILINE):
                slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
                heading = (title, f"#{slug}")
        else:
            for name in re.findall(r"\b(?:table|figure)\w*\(\s*[\"'](\w+)", cell.source):
                places.setdefault(name, heading)
            if re.search(r"\bclaims\(", cell.source):
                places["claims"] = heading
    return places


def errata() -> Iterator[str]:
    """What is printed and not right, what is right, and what shows it."""
    yield "# Errata\n\nWhat the papers print that is not right, and whether code or a reader shows it.\n"
    for paper in papers.PAPERS.values():
        yield f"## {paper.title}\n"
        rows = [
            [
                *map(_plain, (e.name, e.where, e.printed, e.right)),
                f"{'code' if e.computed else 'reading'}: {_plain(e.shown_by)}",
            ]
            for e in paper.study.errata()
        ]
        yield from _table(["erratum", "where", "printed", "right", "shown by"], rows)


def coverage() -> Iterator[str]:
    """How many printed numbers have a number of ours."""
    yield "# Coverage\n\nHow many of the numbers that each exhibit prints have a number of ours.\n"
    for paper in papers.PAPERS.values():
        yield f"## {paper.title}\n"
        rows = [row[1:] for row in coverage_table(papers.coverage(paper)).rows]
        yield from _table(
            ["exhibit", "printed", "by runs", "exact", "quoted", "missing"],
            [["–" if cell is None else _plain(str(cell)) for cell in row] for row in rows],
        )


def runs(opened: Iterable[papers.Book]) -> Iterator[str]:
    """The runs of each arm: how many seeds, the mean of the paper's main number, the keys."""
    yield "# Runs\n\nEvery finished run is one line of `figures/PAPER/ledger.jsonl`. This prints one whole:\n"
    yield "```\npython -m papers_lib show PAPER KEY\n```\n\nKEY is how its key begins, as below.\n"
    for book in opened:
        metric = METRICS[book.paper.name]
        yield f"## {book.paper.title}\n\nAt the profile `{book.settings.profile}`.\n"
        labels = dict.fromkeys(spec.label for spec, row in book.results.runs if row is not None)
        rows = []
        for label in labels:
            found = book.results.rows(label)
            keys = " ".join(f"`{row.key[:8]}`" for _, row in sorted(found.items()))
            rows.append([_plain(label), str(len(found)), _mean(book.results, label, metric), keys])
        yield from _table(["run", "seeds", f"mean {metric}", "keys, in the order of the seeds"], rows)


def _mean(results: Any, label: str, metric: str) -> str:
    try:
        value = results.mean(label, metric)
    except KeyError:  # a run of another kind, a search for example
        value = None
    return "–" if value is None else f"{value:.2f}"


def _cards(folder: Path) -> None:
    """A Croissant file beside each card, a link to it on the card, and a list of all."""
    lines = [
        "# Data cards\n",
        "What each data set is, its licence, its traps, and what is known against it.\n",
    ]
    names = sorted(card.stem for card in folder.glob("*.md"))
    for name in names:
        card = folder / f"{name}.md"
        described = croissant(name)
        (folder / f"{name}.json").write_text(json.dumps(described, indent=1, ensure_ascii=False))
        with card.open("a", encoding="utf-8") as text:
            text.write(f"\n## For machines\n\nThis card as [Croissant (JSON-LD)]({name}.json).\n")
        lines.append(f"* [{name}]({name}.md): {described['description']}")
    lines += ["", "```{toctree}\n:hidden:\n", *names, "```"]
    (folder / "index.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _contents() -> Iterator[str]:
    for caption, pages in CONTENTS.items():
        rooted = [f"/{page}" for page in pages]  # the index itself lies in notebooks/
        yield "\n".join(["```{toctree}", f":caption: {caption}", ":hidden:", "", *rooted, "```", ""])


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield "|" + " --- |" * len(columns)
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _plain(text: str) -> str:
    """`text` without a meaning in Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>|$#~])", r"\\\1", text)


if __name__ == "__main__":
    sys.exit(build(Path(sys.argv[1]).resolve()))
