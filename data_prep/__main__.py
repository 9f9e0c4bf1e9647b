"""`python -m data_prep list | check NAME ROOT | import NAME SOURCE ROOT | make NAME ROOT | croissant NAME`.

`python -m data_prep pairs PEOPLE` lists pairs to verify, of a folder with a folder per person.
ROOT is the data set's own folder, when it bears its name, or the folder that holds it. Exit codes:
0 whole, 1 a check found faults (a line each), 2 bad input (one line).
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib import import_module
from pathlib import Path

from data_prep.arrivals import arriving, bring, occupied
from data_prep.croissant import croissant
from data_prep.pairs import make_pairs
from data_prep.sets import DataSet, Report
from papers_lib.entry import Parser, answer, stop_politely
from papers_lib.errors import PapersError
from papers_lib.files import resolve

# each module has its DATASETS; `list` prints them in this order
MODULES = (
    *("cars196", "reid", "classification", "sysu30k", "detection_sets", "faces"),
    *("folder", "features", "weights"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    return answer(_parser(), arguments)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m data_prep", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = Parser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON object")
    listing = commands.add_parser("list", parents=[common], help="the data sets, a line each")
    listing.set_defaults(command=_list)
    for name, run, places in (
        ("check", _check, {"ROOT": "where it lies"}),
        ("import", _import, {"SOURCE": "a zip, a tar or a folder", "ROOT": "where it goes"}),
        ("make", _make, {"ROOT": "where it goes"}),
        ("croissant", _croissant, {}),
    ):
        command = commands.add_parser(name, parents=[common], help=run.__doc__)
        command.set_defaults(command=run)
        command.add_argument("name", metavar="NAME", help="a data set of `list`")
        for place, text in places.items():
            command.add_argument(place.lower(), metavar=place, type=resolve, help=text)
        if name in ("check", "import"):
            text = "read a copy of a withdrawn data set"
            command.add_argument("--acknowledge-withdrawn", action="store_true", help=text)
    importing, making = commands.choices["import"], commands.choices["make"]
    importing.add_argument("--link", action="store_true", help="link a folder, do not copy it")
    making.add_argument("--size", default="smoke", help="smoke (default) or small")
    making.add_argument("--seed", type=int, default=0, help="another seed, other pictures")
    pairs = commands.add_parser("pairs", parents=[common], help=_pairs.__doc__)
    pairs.set_defaults(command=_pairs)
    pairs.add_argument("people", metavar="PEOPLE", type=resolve, help="a folder with a folder per person")
    pairs.add_argument("file", metavar="FILE", type=resolve, nargs="?", help="default: PEOPLE/pairs.txt")
    pairs.add_argument("--count", type=int, default=300, help="of one person per fold, and of two (300)")
    pairs.add_argument("--seed", type=int, default=0, help="another seed, other pairs")
    pair = ("SETTING", "VALUE")
    making.add_argument("-p", nargs=2, action="append", default=[], metavar=pair, help="-p cameras 6")
    return parser


def _datasets() -> dict[str, DataSet]:
    return {data.name: data for module in MODULES for data in import_module(f"data_prep.{module}").DATASETS}


def _dataset(options: argparse.Namespace) -> DataSet:
    known, name = _datasets(), options.name.replace("-", "_")
    if name not in known:
        raise PapersError(f"unknown data set {options.name!r}; known: {', '.join(known)}")
    data = known[name]
    if data.withdrawn and getattr(options, "acknowledge_withdrawn", False):
        return replace(data, survey=partial(data.survey, acknowledge_withdrawn=True))
    return data


def _list(options: argparse.Namespace) -> int:
    known = _datasets().values()
    if options.json:
        print(json.dumps([{"name": d.name, "summary": d.headline, "card": str(d.card)} for d in known]))
    else:
        for data in known:
            print(f"{data.name:<22} {_plain(data.headline)}")
    return 0


def _plain(line: str) -> str:
    """A card's line without its links to other cards."""
    return re.sub(r"\[(.+?)\]\(.+?\)", r"\1", line)


def _check(options: argparse.Namespace) -> int:
    """Say all that is wrong with a data set, a line each."""
    data = _dataset(options)
    return _tell(options, data, options.root, data.check(options.root))


def _import(options: argparse.Namespace) -> int:
    """Unpack an archive, or copy or link a folder, and check it."""
    data = _dataset(options)
    return _tell(options, data, *bring(data, options.source, options.root, options.link))


def _make(options: argparse.Namespace) -> int:
    """Render a stand-in, or make one of your own images."""
    data = _dataset(options)
    target = data.folder(options.root)
    recipe = {"seed": str(options.seed)} | dict(options.p)
    if recipe.get("images"):  # the one setting that is a place
        recipe["images"] = str(resolve(recipe["images"]))
    if data.stand_in is None:
        raise PapersError(f"no stand-in of {data.name} is made; import it, or make cars196")
    if not occupied(target):
        with arriving(target) as folder:
            data.stand_in.make(folder, options.size, recipe)
    elif not data.stand_in.made(target, options.size, recipe):
        raise PapersError(f"{target} holds something else; remove it, or choose another ROOT")
    return _tell(options, data, target, data.check(target))


def _pairs(options: argparse.Namespace) -> int:
    """List pairs to verify of any folder of people: ten folds."""
    if min(options.count - 1, options.seed) < 0:
        raise PapersError(f"--count {options.count} --seed {options.seed}: give 1 or more, and 0 or more")
    made = make_pairs(options.people, options.file, options.count, options.seed)
    if options.json:
        print(json.dumps(made._asdict() | {"file": str(made.file)}))
        return 0
    print(f"{made.file}: ten folds of {made.pairs} pairs of one person and {made.pairs} of two")
    if not made.apart:
        print(f"note: {made.people} people are too few to part: folds share people", file=sys.stderr)
    return 0


def _croissant(options: argparse.Namespace) -> int:
    """Print the data card as Croissant (JSON-LD), for machines."""
    print(json.dumps(croissant(_dataset(options).name), indent=1, ensure_ascii=False))
    return 0


def _tell(options: argparse.Namespace, data: DataSet, root: Path, report: Report) -> int:
    if options.json:
        print(json.dumps({"name": data.name, "root": str(root), "ok": not report.problems} | asdict(report)))
    else:
        print("\n".join(report.problems or (f"{report.summary}: whole, in {root}",)))
        for note in report.notes:
            print(f"note: {note}", file=sys.stderr)
    return 1 if report.problems else 0


if __name__ == "__main__":
    stop_politely()
    sys.exit(main())
