"""The papers of this companion, and the one call with which a notebook opens its own."""

from __future__ import annotations

import importlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from papers_lib.errors import PapersError
from papers_lib.exhibits import cost, ledger, places
from papers_lib.exhibits.claims import claims_table, errata_table
from papers_lib.exhibits.coverage import Cell, Exhibit
from papers_lib.exhibits.coverage import coverage as count
from papers_lib.exhibits.figure import Figure
from papers_lib.exhibits.table import Table
from papers_lib.runs import executors, sweep
from papers_lib.runs.spec import RunSpec
from papers_lib.runs.store import Result, Store
from papers_lib.settings import PROFILES, NotebookSettings, Profile, repository, validate
from papers_lib.study import Results


class Paper(NamedTuple):
    """A paper: its name here, its title, where it was published, and the package of its wing."""

    name: str
    title: str
    published: str
    package: str = ""  # empty: papers_lib.<name>

    @property
    def study(self) -> Any:
        """What is asked of the paper: `STUDY` of the wing's package `study`."""
        module = importlib.import_module(f"{self.package or f'papers_lib.{self.name}'}.study")
        return module.STUDY

    @property
    def settings(self) -> type[NotebookSettings]:
        """The notebook's parameters, validated."""
        model: type[NotebookSettings] = self.study.parameters
        return model

    @property
    def notebook(self) -> Path:
        """The paper's chapter: in `notebooks/`, or in the package of a wing from elsewhere."""
        folder = repository() / "notebooks"
        if self.package:
            folder = Path(str(importlib.import_module(self.package).__file__)).parent
        return folder / f"{self.name}.ipynb"


PAPERS = {
    paper.name: paper
    for paper in (
        Paper(
            "sampler_study",
            "Exploring Sampler Strategies in Unsupervised Person Re-identification Training",
            "Cao, Tang, Dat, Russo, Priadana, Jo; 2024",
        ),
        Paper(
            "quadruplet_cars196",
            "Quadruplet Selection Methods for Deep Embedding Learning",
            "Karaman, Gundogdu, Koç, Alatan; ICIP 2019; arXiv:1907.09245",
        ),
        Paper(
            "median_triplet",
            "Solving Inefficiency of Self-supervised Representation Learning",
            "Wang, Wang, Wang, Torr, Lin; ICCV 2021; arXiv:2104.08760, an early version",
        ),
        Paper(
            "nar",
            "Neural Architecture Refinement: A Practical Way for Avoiding Overfitting in NAS",
            "Jiang, Zhao, Pang; 2019; arXiv:1905.02341, an early version",
        ),
    )
}


def known() -> dict[str, Paper]:
    """The four papers, and that of each package in `$PAPERS_WINGS`, which calls it `PAPER`.

    Raises:
        PapersError: such a package cannot be imported, or has no `PAPER`.
    """
    papers = dict(PAPERS)
    for package in filter(None, os.environ.get("PAPERS_WINGS", "").split(os.pathsep)):
        try:
            paper: Paper = importlib.import_module(package).PAPER
        except (ImportError, AttributeError) as error:
            raise PapersError(f"PAPERS_WINGS: {error}; put its folder into PYTHONPATH") from None
        papers[paper.name] = paper._replace(package=package)
    return papers


def get(name: str) -> Paper:
    """The paper called `name`.

    Raises:
        PapersError: there is none.
    """
    papers = PAPERS if name in PAPERS else known()
    if name not in papers:
        raise PapersError(f"unknown paper '{name}'; known: {', '.join(papers)}")
    return papers[name]


class Book:
    """An opened paper: its runs as far as they exist, and every exhibit made from them."""

    def __init__(self, paper: Paper, settings: NotebookSettings) -> None:
        rows = self.all_rows = ledger.read(paper.name)
        self.paper, self.settings = paper, settings if settings.train else shown(settings, rows)
        if settings.pilot:
            run_pilots(paper, settings, say=print)
        self.specs: list[RunSpec] = paper.study.plan(self.settings)
        if settings.profile == "smoke" or settings.train:
            rows = rows + self._compute(rows)
        self.results = Results([(spec, ledger.find(rows, spec)) for spec in self.specs])
        self.folder = places.written() / paper.name / settings.profile

    @property
    def rows(self) -> list[ledger.Row]:
        """The rows that there are, in the order of the plan."""
        return self.results.all_rows

    def _compute(self, rows: list[ledger.Row]) -> list[ledger.Row]:
        """Compute what is missing; above `smoke` add it to the ledger."""
        smoke = self.settings.profile == "smoke"
        missing = [spec for spec in self.specs if smoke or ledger.find(rows, spec) is None]
        require_data(self.paper, self.settings, missing)
        computed = compute(missing, self.settings)
        if not smoke:
            ledger.append(self.paper.name, computed)
        return computed

    @cached_property
    def _tables(self) -> dict[str, Table]:
        with ledger.reading(self.paper.name):
            tables: dict[str, Table] = self.paper.study.tables(self.results)
        return {name: self._with_command(table) for name, table in tables.items()}

    def _with_command(self, table: Table) -> Table:
        face = replace(table.face, command=self._command) if table.face else None
        return replace(table, command=table.command or self._command, face=face)

    @cached_property
    def _figures(self) -> dict[str, Figure]:
        with ledger.reading(self.paper.name):
            forest: Figure = self.paper.study.forest(self.results)
            figures: dict[str, Figure] = self.paper.study.figures(self.results)
        return figures | {forest.name: forest}

    @property
    def exhibits(self) -> dict[str, Table | Figure]:
        """Every table and figure by name, with the claims and the errata."""
        whole = {table.name: table for table in (self.claims(), self.errata())}
        # the forest of the claims is a figure of the table's name
        figures = {name + "_forest" * (name in whole): figure for name, figure in self._figures.items()}
        return self._tables | figures | whole

    def table(self, name: str) -> Table:
        """A table by name; written to `places.written()` as CSV and Markdown as well."""
        table: Table = _named(self._tables, name, "table")
        table.save(self.folder)
        return table

    def figure(self, name: str) -> Figure:
        """A figure by name; written to `places.written()` as PNG, SVG and CSV as well."""
        figure: Figure = _named(self._figures, name, "figure")
        figure.save(self.folder)
        return figure

    def claims(self) -> Table:
        """The claims of the paper with a verdict; the figure `claims` has all that were tested."""
        origin = self.paper.study.provenance(self.results)
        with ledger.reading(self.paper.name):
            return claims_table(self.paper.study.claims(self.results), origin.badge, origin.text)

    def errata(self) -> Table:
        """Every erratum of the paper, and how it is shown."""
        return errata_table(self.paper.study.errata())

    def provenance(self) -> str:
        """What the numbers rest on, and how to make those that are missing."""
        rows = len(self.results.all_rows)
        footer = self.paper.study.provenance(self.results).text
        if rows == len(self.specs):
            return f"All {rows} runs are there. {footer}"
        return f"{rows} of {len(self.specs)} runs are there; the rest: {self._command}. {footer}"

    @property
    def _command(self) -> str:
        """What computes the runs that are missing."""
        return f"python -m papers_lib sweep {self.paper.name} -p profile {self.settings.profile}"


def missing(paper: Paper, settings: NotebookSettings) -> int:
    """How many planned runs the ledger does not hold; none at `smoke`, which computes all."""
    if settings.profile == "smoke":
        return 0
    rows = ledger.read(paper.name)
    return sum(ledger.find(rows, spec) is None for spec in paper.study.plan(shown(settings, rows)))


def shown_profile(paper: Paper) -> Profile:
    """The profile that readers are shown: the one of most rows in the ledger, else `small`."""
    rows = Counter(row.profile for row in ledger.read(paper.name))
    return max(reversed(PROFILES), key=rows.__getitem__) if rows else "small"  # the larger of equals


def shown(settings: NotebookSettings, rows: Sequence[ledger.Row]) -> NotebookSettings:
    """`settings` with the precision that most rows of their profile were computed in.

    What is read follows the evidence that is there; what is computed follows the profile. A precision that
    was asked for stays.
    """
    precisions = Counter(row.settings.get("precision") for row in rows if row.profile == settings.profile)
    del precisions[None]  # of rows whose kind has none
    if settings.precision or not precisions:
        return settings
    return settings.model_copy(update={"precision": precisions.most_common(1)[0][0]})


def finding(name: str, claim: str) -> str:
    """What was found of a paper's claim, from the ledger: its statement, then the verdict and the numbers.

    Raises:
        PapersError: there is no such paper, or no such claim.
    """
    book = open_paper(name, profile=shown_profile(get(name)))
    with ledger.reading(name):
        claims = {one.name: one for one in book.paper.study.claims(book.results)}
    found = _named(claims, claim, "claim")
    return f"{claim}: {found.statement}.\n{found.finding.verdict}: {found.finding.text}"


def coverage(paper: Paper) -> list[Exhibit]:
    """Printed cells with a number of ours, over all profiles that the ledger holds."""
    rows = ledger.read(paper.name)
    cells: list[Cell] = []
    for profile in dict.fromkeys(["small", *(row.profile for row in rows)]):
        specs = paper.study.plan(shown(validate(paper.settings, {"profile": profile}), rows))
        with ledger.reading(paper.name):
            cells += paper.study.cells(Results([(spec, ledger.find(rows, spec)) for spec in specs]))
    return count(paper.name, paper.study.published, cells)


def require_data(paper: Paper, settings: NotebookSettings, specs: list[RunSpec]) -> None:
    """Refuse `specs`, which are to be computed, if their data is not there.

    Raises:
        PapersError: the folder in which it was looked for, and how to bring it.
    """
    if not all(data.root for spec in specs for data in spec.all_data):
        paper.study.plan(settings.model_copy(update={"train": True}))


def run_pilots(
    paper: Paper,
    settings: NotebookSettings,
    specs: list[RunSpec] | None = None,
    show: bool = False,
    say: Callable[[str], object] | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
) -> list[str]:
    """Run the pilots of the plan, or `specs` of them; what all say, and what the plan would cost.

    Those that are in the store are taken from there. `say` gets each line as soon as it is known.

    Raises:
        PapersError: data that is not there, or a pilot failed, after the others have run.
    """
    store = Store()
    specs = paper.study.pilots(settings) if specs is None else specs
    lines = dict.fromkeys((spec.key for spec in specs), "")  # of each pilot, in the order of the plan

    def tell(result: Result) -> None:
        key = result.spec.key
        if lines.get(key) == "":  # neither said before, nor a pilot that only another one needs
            lines[key] = cost.pilot_line(result)
            if say:
                say(lines[key])

    def tell_all() -> None:
        for spec in specs:
            if found := store.result(spec):
                tell(found)

    tell_all()
    _executed(specs, settings, store, show, tell, num_cpus, num_gpus)
    tell_all()  # of those too that another process computed meanwhile
    whole = cost.estimate(sweep.ordered(paper.study.plan(settings), store), ledger.read(paper.name), store)
    last = f"the whole plan: {cost.sentence(whole)}"
    if say:
        say(last)
    return [*lines.values(), last]


def compute(specs: list[RunSpec], settings: NotebookSettings, show: bool = False) -> list[ledger.Row]:
    """Run `specs` through the store and return their rows.

    Raises:
        PapersError: a run failed; the message names the first and its reason.
    """
    store = Store()
    _executed(specs, settings, store, show)
    return [ledger.from_result(found) for spec in specs if (found := store.result(spec))]


def _executed(
    specs: list[RunSpec],
    settings: NotebookSettings,
    store: Store,
    show: bool,
    on_done: Callable[[Result], None] | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
) -> None:
    name, slots = settings.executor, settings.slots
    summary = executors.execute(name, specs, store, slots, True, show, on_done, num_cpus, num_gpus)
    if summary.failed:
        spec, reason = summary.failed[0]
        raise PapersError(f"{len(summary.failed)} runs failed; {spec.label} seed {spec.seed}: {reason}")


def open_paper(name: str, **parameters: Any) -> Book:
    """Open a paper with the notebook's parameters.

    Above `smoke` the rows come from the ledger, and a run that is missing reads "not run" unless
    `train=True`; at `smoke` all runs are computed now, or taken from the store.

    Raises:
        PapersError: an unknown parameter, a wrong value, or data that `smoke` needs and lacks.
    """
    paper = get(name)
    return Book(paper, validate(paper.settings, parameters))


def train_now(name: str, **parameters: Any) -> list[ledger.Row]:
    """Train what is asked for, by default at `frozen`, whatever the ledger holds, and return its rows.

    Nothing that git tracks is written. The rows come in the order of the arms' table, seed by seed.

    Raises:
        PapersError: as `open_paper`, or a run failed.
    """
    paper = get(name)
    settings = validate(paper.settings, {"profile": "frozen", "train": True} | parameters)
    return compute(paper.study.plan(settings), settings, show=True)


def open_notebook(name: str, scope: Mapping[str, Any]) -> Book:
    """Open a paper from its notebook: the parameters are taken by name from `scope`, its globals.

    What differs from the committed notebook is printed, since the prose speaks of the committed numbers.

    Raises:
        PapersError: as `open_paper`, or a parameter that the notebook does not define.
    """
    fields = get(name).settings.model_fields
    if absent := [field for field in fields if field not in scope]:
        raise PapersError(f"the notebook defines no parameter '{absent[0]}'; restore its parameters cell")
    parameters = {field: scope[field] for field in fields}
    book = open_paper(name, **parameters)
    if found := changed(book.paper, validate(book.paper.settings, parameters)):
        print(
            f"Not as committed: {', '.join(found)}. Numbers in the prose are the committed ones; tables, "
            "figures and claims are made from your parameters."
        )
    return book


def changed(paper: Paper, settings: NotebookSettings) -> list[str]:
    """What differs from the committed notebook and can change a number, as `name = value`."""
    committed = validate(paper.settings, {"profile": shown_profile(paper)})
    return [
        f"{name} = {value}"
        for name, value in settings
        if name not in ("train", "device", "executor", "slots") and value != getattr(committed, name)
    ]


def _named(things: dict[str, Any], name: str, kind: str) -> Any:
    if name not in things:
        raise PapersError(f"no {kind} '{name}'; there are {', '.join(things)}")
    return things[name]
