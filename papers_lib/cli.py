"""`python -m papers_lib`: list, show, run, sweep, collect, compare, claims, errata, coverage, why, doctor.

`verify` is of faces alone. Bad input is one line on stderr and exit code 2; runs that failed are exit code 1.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from papers_lib import __version__
from papers_lib.entry import Parser, answer
from papers_lib.errors import PapersError

if TYPE_CHECKING:
    from papers_lib.exhibits.table import Table


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    return answer(_parser(), arguments)


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 is needed, got {text!r}")
    return int(text)


def _amount(text: str) -> float:
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    if not 0 <= amount < math.inf:
        raise argparse.ArgumentTypeError(f"a number from 0 is needed, got {text!r}")
    return amount


def _parser() -> argparse.ArgumentParser:
    parser = Parser("python -m papers_lib", description="Four papers, their numbers beside ours.")
    parser.set_defaults(command=_welcome)
    parser.add_argument("--version", action="version", version=f"papers_lib {__version__}")
    verbs = parser.add_subparsers(metavar="COMMAND")
    _verb(verbs, "list", _list, "the papers and what the ledger holds of each")
    show = _verb(verbs, "show", _show, "one table or figure of a paper, or one run", paper=True)
    show.add_argument("exhibit", nargs="?", help="its name, or how a run's key begins; none: the names")
    run = _verb(verbs, "run", _run, "execute a paper's notebook, strictly", paper=True)
    run.add_argument("--output", help="where the executed notebook goes")
    run.add_argument("--update", action="store_true", help="write notebook and figures back, to be committed")
    run.add_argument("--timeout", type=_at_least_one, default=7200, help="seconds for the whole notebook")
    sweep = _verb(verbs, "sweep", _sweep, "compute runs without a notebook", paper=True)
    sweep.add_argument("--executor", choices=("local", "ray"), help="where runs are computed")
    sweep.add_argument("--slots", type=_at_least_one, help="runs at once")
    sweep.add_argument("--num-cpus", type=_amount, help="CPUs per run, with executor ray (default 1)")
    sweep.add_argument("--num-gpus", type=_amount, help="GPUs per run, with executor ray; 0.5 shares one")
    sweep.add_argument("--seeds", help="as 0,1,2")
    sweep.add_argument("--limit", type=_at_least_one, help="at most so many runs")
    sweep.add_argument("--dry-run", action="store_true", help="say what it would compute, and the cost")
    sweep.add_argument("--print-commands", action="store_true", help="one shell command per run")
    sweep.add_argument("--retry-failed", action="store_true", help="try runs again that failed before")
    sweep.add_argument("--again", action="store_true", help="runs too that the ledger holds")
    _verb(verbs, "collect", _collect, "append finished runs to the ledger", paper=True, parameters=False)
    text = "rows computed elsewhere against the committed ones"
    compare = _verb(verbs, "compare", _compare, text, paper=True, parameters=False)
    compare.add_argument("folder", help="where the other ledger lies, as $PAPERS_FIGURES named it")
    _verb(verbs, "claims", _claims, "every claim with its verdict", paper=False)
    _verb(verbs, "errata", _errata, "every erratum and how it is shown", paper=False, parameters=False)
    coverage = "how many printed cells have a number of ours"
    _verb(verbs, "coverage", _coverage, coverage, paper=False, parameters=False)
    _verb(verbs, "why", _why, "what makes a row stale or missing", paper=True)
    verify = _verb(verbs, "verify", _verify, "a face network of ours on pairs, beside raw pixels")
    verify.add_argument("pairs", help="pairs.txt, a .bin, or a folder that holds one")
    verify.add_argument("--weights", required=True, help="weights.pt in the folder of a face run")
    verify.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    text = "insightface's thresholds 0, 0.01, 0.02 … beside the exact ones"
    verify.add_argument("--threshold-grid", action="store_true", help=text)
    _verb(verbs, "doctor", _doctor, "what this machine is, and whether its arithmetic is right")
    return parser


def _verb(
    verbs: Any, name: str, command: Any, text: str, paper: bool | None = None, parameters: bool = True
) -> argparse.ArgumentParser:
    """A command; `paper` says whether it needs a paper, may have one (False) or takes none (None)."""
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text)
    parser.set_defaults(command=command)
    parser.add_argument("--json", action="store_true", help="print JSON")
    if paper is not None:
        parser.add_argument("paper", nargs=None if paper else "?", help="a name that `list` prints")
    if paper is not None and parameters:
        parser.add_argument("--profile", help="the same as -p profile NAME")
        parser.add_argument(
            "-p",
            dest="parameters",
            nargs=2,
            action="append",
            default=[],
            metavar=("NAME", "VALUE"),
            help="a parameter of the paper's notebook",
        )
    return parser


def _welcome(_options: argparse.Namespace) -> int:
    """What can be done, and what to do first."""
    python = Path(sys.executable).name
    print(f"""{_parser().format_help()}
To begin:
  {python} -m papers_lib list                       the papers, and the runs that are already there
  {python} -m papers_lib run quadruplet_cars196     its notebook, from those runs: minutes
  {python} -m papers_lib doctor                     what this machine can do
  make lab                                          the notebooks in JupyterLab""")
    return 0


def _list(options: argparse.Namespace) -> int:
    from papers_lib import papers
    from papers_lib.exhibits import ledger

    listed, lines = [], []
    for name, paper in papers.known().items():
        rows = Counter(row.profile for row in ledger.read(name))
        listed.append({"name": name, "title": paper.title, "published": paper.published, "rows": dict(rows)})
        lines.append(f"{name:20} {paper.title} ({paper.published}); rows: {_counts(rows)}")
    return _print(options, listed, lines)


def _show(options: argparse.Namespace) -> int:
    """The notebook shows the same, by the same calls; a run is its row of the ledger."""
    from papers_lib import papers

    book = papers.Book(papers.get(options.paper), _settings(options))
    name = options.exhibit
    rows = [row for row in book.all_rows if name and row.key.startswith(name)]
    if len(rows) == 1:  # needs no exhibit
        print(json.dumps(rows[0].model_dump(mode="json"), indent=1, ensure_ascii=False))
        return 0
    exhibits = book.exhibits
    if name is None:
        return _print(options, list(exhibits), [f"{key:26} {made.title}" for key, made in exhibits.items()])
    if name in exhibits:
        places = exhibits[name].save(book.folder)
        value = {"name": name, "title": exhibits[name].title, "files": [str(place) for place in places]}
        return _print(options, value, [exhibits[name], "", *places])
    if rows:
        raise PapersError(f"the keys of {len(rows)} runs begin with '{name}'; give more of the key")
    raise PapersError(
        f"{options.paper} has no exhibit '{name}', and no run's key begins so; `show {options.paper}` "
        "lists the exhibits"
    )


def _run(options: argparse.Namespace) -> int:
    from papers_lib import papers
    from papers_lib.exhibits import places
    from papers_lib.files import resolve
    from papers_lib.runs import notebook
    from papers_lib.runs.display import duration
    from papers_lib.settings import runs_root

    if options.update:
        places.write_committed()
    paper = papers.get(options.paper)
    settings = _settings(options)
    profile = settings.profile
    output = resolve(options.output or runs_root() / "notebooks" / f"{paper.name}-{profile}.ipynb")
    given = _parameters(options)
    for name in {"data_root", "weights"} & {name for name, value in given.items() if value}:
        given[name] = str(resolve(given[name]))  # the notebook runs in its own folder
    started = time.monotonic()
    notebook.execute(paper.notebook, output, given, paper.settings, timeout=options.timeout)
    seconds = time.monotonic() - started
    notebook.strip(output)
    if options.update:
        notebook.update(paper.notebook, output)
    missing = papers.missing(paper, settings)
    pilots = papers.run_pilots(paper, settings) if settings.pilot else []  # in the store now
    figures = places.written() / paper.name / profile
    lines = [
        f"{paper.name}, {profile}: {duration(seconds)}; tables and figures: {figures}; notebook: {output}"
    ]
    lines += pilots
    if missing:
        lines.append(
            f'{missing} runs read "not run"; `sweep {paper.name} -p profile {profile}` computes them'
        )
    report = {
        "output": str(output),
        "figures": str(figures),
        "seconds": round(seconds, 1),
        "missing": missing,
        "pilots": pilots,
    }
    return _print(options, report, lines)


def _sweep(options: argparse.Namespace) -> int:
    from papers_lib import papers
    from papers_lib.exhibits import cost, ledger
    from papers_lib.runs import executors, sweep, worker
    from papers_lib.runs.store import Store

    paper, settings = papers.get(options.paper), _settings(options)
    pilots = settings.pilot and not options.dry_run
    rows, store = ledger.read(paper.name), Store()
    planned = paper.study.pilots(settings) if pilots else paper.study.plan(settings)
    specs = [spec for spec in planned if options.again or ledger.find(rows, spec) is None]
    held = len(planned) - len(specs)
    specs = specs[: options.limit]
    if not options.dry_run:
        papers.require_data(paper, settings, specs)
    if options.print_commands:
        runs = [store.located(spec) for spec in sweep.ordered(specs, store)]
        for spec in runs:
            store.prepare(spec)
        commands = [worker.command(sweep.ordered([spec], store)) for spec in runs]
        return _print(options, commands, commands)
    if options.dry_run:
        estimate = cost.estimate(sweep.ordered(specs, store), rows, store)
        return _print(
            options, estimate | {"in_ledger": held}, [f"{held} in the ledger; {cost.sentence(estimate)}"]
        )
    asked = _slotted(options, settings)
    if pilots:
        say = None if options.json else partial(print, flush=True)  # each at once: a later one may not end
        shared = {"num_cpus": options.num_cpus, "num_gpus": options.num_gpus}
        lines = papers.run_pilots(paper, asked, specs, not options.json, say, **shared)
        return _print(options, lines, []) if options.json else 0
    summary = executors.execute(
        asked.executor,
        specs,
        store,
        asked.slots,
        options.retry_failed,
        not options.json,
        num_cpus=options.num_cpus,
        num_gpus=options.num_gpus,
    )
    failed = [{"run": spec.label, "seed": spec.seed, "reason": reason} for spec, reason in summary.failed]
    lines = _by_reason(failed)
    lines.append(
        f"{summary.done} computed, {summary.cached} in the store, {held} in the ledger, {len(failed)} failed"
    )
    _print(
        options, {"done": summary.done, "cached": summary.cached, "in_ledger": held, "failed": failed}, lines
    )
    return 1 if failed else 0


def _slotted(options: argparse.Namespace, settings: Any) -> Any:
    """The settings, with what the command line says of executor and slots."""
    told = {name: value for name in ("executor", "slots") if (value := getattr(options, name))}
    return settings.model_copy(update=told)


def _by_reason(failed: Sequence[dict[str, Any]]) -> list[str]:
    """One line per reason; a run that only lacks another one is left to that one's line."""
    runs: dict[str, list[str]] = {}
    for one in failed:
        if not one["reason"].startswith("needs "):
            runs.setdefault(one["reason"], []).append(f"{one['run']} seed {one['seed']}")
    return [f"failed: {', '.join(names)}: {reason}" for reason, names in runs.items()]


def _collect(options: argparse.Namespace) -> int:
    from papers_lib import papers
    from papers_lib.exhibits import ledger, places
    from papers_lib.runs.store import Store

    places.write_committed()
    paper = papers.get(options.paper)
    results = [r for r in Store().finished() if _counts_as_row(r, paper.name)]
    added = ledger.append(paper.name, map(ledger.from_result, results))
    report = {"finished": len(results), "added": added, "ledger": str(ledger.path(paper.name))}
    return _print(
        options, report, [f"{added} rows added of {len(results)} finished runs: {report['ledger']}"]
    )


def _counts_as_row(result: Any, paper: str) -> bool:
    """Whether a finished run is evidence for a paper: neither `smoke` nor a pilot."""
    spec = result.spec
    return bool(spec.paper == paper and spec.profile != "smoke" and not spec.pilot)


def _compare(options: argparse.Namespace) -> int:
    """Kernels differ between processors: this says by how much, metric by metric."""
    from papers_lib import papers
    from papers_lib.exhibits import ledger
    from papers_lib.files import resolve

    paper = papers.get(options.paper)
    theirs = ledger.read_file(resolve(options.folder) / paper.name / ledger.NAME)
    ours = {row.identity: row.metrics for row in ledger.read(paper.name)}
    pairs = [(row.metrics, ours[row.identity]) for row in theirs if row.identity in ours]
    if not pairs:
        raise PapersError(f"no row of {options.folder} is one of ours; compute the same runs first")
    gaps: dict[str, list[float]] = {}
    for one, other in pairs:
        for name in one.keys() & other.keys():
            if isinstance(one[name], int | float):
                gaps.setdefault(name, []).append(abs(one[name] - other[name]))
    found = {name: {"largest": max(gap), "mean": sum(gap) / len(gap)} for name, gap in sorted(gaps.items())}
    lines = [f"{paper.name}: {len(pairs)} rows of {len(theirs)} stand in both ledgers"]
    lines += [
        f"  {name:16} differs by {gap['mean']:.5f} on average, {gap['largest']:.5f} at most"
        for name, gap in found.items()
    ]
    return _print(options, {"rows": len(pairs), "differences": found}, lines)


def _claims(options: argparse.Namespace) -> int:
    from papers_lib.exhibits import ledger
    from papers_lib.exhibits.claims import claims_table

    report, tables = {}, []
    for book in _books(options):
        name, profile = book.paper.name, book.settings.profile
        with ledger.reading(name):
            claims = book.paper.study.claims(book.results)
        origin = book.paper.study.provenance(book.results)
        report[name] = {"profile": profile, "claims": [claim.as_dict() for claim in claims]}
        table = claims_table(claims, origin.badge, origin.text)
        said = [[c.name, c.finding.verdict, f"{c.statement}: {c.finding.text}"] for c in claims]
        tables.append(_narrow(table, ["claim", "verdict", "statement and finding"], said))
    return _print(options, report, tables)


def _errata(options: argparse.Namespace) -> int:
    from papers_lib import papers
    from papers_lib.exhibits.claims import errata_table

    by_paper = {name: papers.get(name).study.errata() for name in _names(options)}
    report = {name: [erratum.as_dict() for erratum in errata] for name, errata in by_paper.items()}
    columns = ["erratum", "printed", "right, and what shows it"]
    tables = []
    for errata in by_paper.values():
        said = [[f"{e.name}, {e.where}", e.printed, f"{e.right} ({e.shown_by})"] for e in errata]
        tables.append(_narrow(errata_table(errata), columns, said))
    return _print(options, report, tables)


def _coverage(options: argparse.Namespace) -> int:
    from papers_lib import papers
    from papers_lib.exhibits.coverage import coverage_table

    exhibits = [exhibit for name in _names(options) for exhibit in papers.coverage(papers.get(name))]
    return _print(options, [exhibit.as_dict() for exhibit in exhibits], [coverage_table(exhibits)])


def _why(options: argparse.Namespace) -> int:
    from papers_lib import papers
    from papers_lib.exhibits import ledger, staleness

    paper = papers.get(options.paper)
    rows = ledger.read(paper.name)
    reasons = staleness.why(paper.study.plan(papers.shown(_settings(options), rows)), rows)
    lines = [f"{r.label:24} seed {r.seed}  {r.state:11} {r.text}" for r in reasons]
    lines.append(_counts(Counter(reason.state for reason in reasons)))
    return _print(options, [reason.as_dict() for reason in reasons], lines)


def _verify(options: argparse.Namespace) -> int:
    from papers_lib.files import resolve
    from papers_lib.nar import faces

    results = faces.verify_files(resolve(options.pairs), resolve(options.weights), options.device)
    lines = []
    for name, found in results.items():
        lines.append(f"{name}: {found['pairs']} pairs")
        for what, scores in (("network", found), ("raw pixels", found["floor"])):
            accuracies = [("accuracy", scores)]
            if options.threshold_grid:
                accuracies.append(("grid of 0.01", scores["grid"]))
            said = [f"{word} {100 * s['accuracy']:.2f} ± {100 * s['sd']:.2f} %" for word, s in accuracies]
            said += [f"{word} {100 * scores[key]:.2f} %" for word, key in (("EER", "eer"), ("AUC", "auc"))]
            said += [f"TAR {100 * tar:.2f} % at FAR {far:g}" for far, tar, _ in scores["tar"]]
            lines.append(f"  {what + ':':12}{', '.join(said)}")
    return _print(options, results, lines)


def _doctor(options: argparse.Namespace) -> int:
    from papers_lib import doctor, papers

    findings = doctor.examine(list(papers.PAPERS))
    lines = [f"{f.verdict:4}  {f.name}: {f.found}\n      {f.advice}" for f in findings]
    _print(options, [finding._asdict() for finding in findings], lines)
    return 1 if any(finding.verdict == "bad" for finding in findings) else 0


def _settings(options: argparse.Namespace) -> Any:
    from papers_lib import papers
    from papers_lib.settings import validate

    return validate(papers.get(options.paper).settings, _parameters(options))


def _parameters(options: argparse.Namespace) -> dict[str, Any]:
    from papers_lib import papers
    from papers_lib.settings import parse

    paper = papers.get(options.paper)
    given = [*options.parameters]
    given += [[n, value] for n in ("seeds", "profile") if (value := getattr(options, n, None)) is not None]
    pairs = dict(given)
    if len(pairs) < len(given):
        twice = next(name for name, n in Counter(name for name, _ in given).items() if n > 1)
        raise PapersError(f"the parameter '{twice}' is given more than once: keep one")
    pairs.setdefault("profile", papers.shown_profile(paper))
    return parse(paper.settings, pairs)


def _books(options: argparse.Namespace) -> list[Any]:
    from papers_lib import papers

    books = []
    for name in _names(options):
        options.paper = name
        books.append(papers.Book(papers.get(name), _settings(options)))
    return books


def _names(options: argparse.Namespace) -> list[str]:
    from papers_lib import papers

    return [papers.get(options.paper).name] if options.paper else list(papers.known())


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in counts.items()) or "none"


def _narrow(table: Table, columns: list[str], rows: list[list[Any]]) -> Table:
    """On a terminal `rows` in the place of a table that no terminal is wide enough for."""
    return replace(table, columns=columns, rows=rows, notes=()) if sys.stdout.isatty() else table


def _print(options: argparse.Namespace, value: Any, lines: Sequence[object]) -> int:
    """`value` as JSON, or the lines: as they are into a file, and fitted to a terminal."""
    if options.json:
        print(json.dumps(value, indent=1, ensure_ascii=False))
    elif sys.stdout.isatty():
        _fit(lines)
    else:
        print("\n".join(map(str, lines)))
    return 0


def _fit(lines: Sequence[object]) -> None:
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    for line in lines:
        if hasattr(line, "markdown"):
            console.print(Markdown(line.markdown()))
            continue
        for text in str(line).split("\n"):
            # a path is never broken: it is there to be copied
            print(fill(text, console.width, break_long_words=False, break_on_hyphens=False))
