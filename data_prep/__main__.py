"""`python -m data_prep list | check NAME ROOT | import NAME SOURCE ROOT | make NAME ROOT`.

ROOT is the data set's own folder, when it bears its name, or the folder that holds it. Exit codes:
0 whole, 1 a check found faults (a line each), 2 bad input (one line).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from data_prep.sets import DataSet, Report, arriving, as_json, occupied
from papers_lib.errors import PapersError

MODULES = (
    "data_prep.cars196",
    "data_prep.reid",
    "data_prep.classification",
    "data_prep.sysu30k",
    "data_prep.detection_sets",
    "data_prep.faces",
)  # each has its DATASETS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        code = int(options.run(options))
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except PapersError as error:
        print(error, file=sys.stderr)
    except KeyboardInterrupt:  # what was arriving is gone, what was there is as it was
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of a pipe had enough
        _drop_stdout()
        return 128 + signal.SIGPIPE
    except OSError as error:
        _drop_stdout()
        print(
            f"{error.filename or 'the output'}: {error.strerror or error}; see to it, then repeat",
            file=sys.stderr,
        )
    return 2


def _drop_stdout() -> None:
    """What is still buffered has nowhere to go; without this Python says so once more at its exit."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and exit."""
        self.exit(2, f"{message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m data_prep", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = _Parser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON object")
    listing = commands.add_parser("list", parents=[common], help="the data sets, a line each")
    listing.set_defaults(run=_list)
    for name, run, places in (
        ("check", _check, {"ROOT": "where it lies"}),
        ("import", _import, {"SOURCE": "a zip, a tar or a folder", "ROOT": "where it goes"}),
        ("make", _make, {"ROOT": "where it goes"}),
    ):
        command = commands.add_parser(name, parents=[common], help=(run.__doc__ or "").strip())
        command.add_argument("name", metavar="NAME", help="a data set of `list`")
        for place, text in places.items():
            command.add_argument(place.lower(), metavar=place, type=Path, help=text)
        command.set_defaults(run=run)
    for name in ("check", "import"):
        commands.choices[name].add_argument(
            "--acknowledge-withdrawn", action="store_true", help="read a copy of a withdrawn data set"
        )
    _import_options(commands.choices["import"])
    _make_options(commands.choices["make"])
    return parser


def _import_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--link", action="store_true", help="link a folder, do not copy it")


def _make_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--size", default="smoke", help="smoke (default) or small")
    command.add_argument("--seed", type=int, default=0, help="another seed, other pictures")
    command.add_argument(
        "-p", nargs=2, action="append", default=[], metavar=("SETTING", "VALUE"), help="-p cameras 6"
    )


def _datasets() -> dict[str, DataSet]:
    return {data.name: data for module in MODULES for data in import_module(module).DATASETS}


def _dataset(options: argparse.Namespace) -> DataSet:
    known, name = _datasets(), options.name.replace("-", "_")
    if name not in known:
        raise PapersError(f"unknown data set {options.name!r}; known: {', '.join(known)}")
    data = known[name]
    if getattr(options, "acknowledge_withdrawn", False):
        return replace(data, check=data.acknowledged or data.check)
    return data


def _list(options: argparse.Namespace) -> int:
    """The data sets, a line each."""
    known = _datasets().values()
    if options.json:
        print(json.dumps([{"name": d.name, "summary": d.summary, "card": str(d.card)} for d in known]))
    else:
        print("\n".join(f"{d.name:<18} {d.summary}" for d in known))
    return 0


def _check(options: argparse.Namespace) -> int:
    """Say all that is wrong with a data set, a line each."""
    data = _dataset(options)
    return _tell(options, data, options.root, data.check(options.root))


def _import(options: argparse.Namespace) -> int:
    """Unpack an archive, or copy or link a folder, and check it."""
    from data_prep.arrivals import bring

    data = _dataset(options)
    return _tell(options, data, *bring(data, options.source, options.root, options.link))


def _make(options: argparse.Namespace) -> int:
    """Render a stand-in, or make one of your own images."""
    data = _dataset(options)
    target = data.folder(options.root)
    if data.make is None or data.made is None:
        raise PapersError(f"no stand-in of {data.name} is made; import it, or make cars196")
    recipe = {"seed": str(options.seed)} | dict(options.p)
    if not occupied(target):
        with arriving(target) as folder:
            data.make(folder, options.size, recipe)
    elif not data.made(target, options.size, recipe):
        raise PapersError(f"{target} holds something else; remove it, or choose another ROOT")
    return _tell(options, data, target, data.check(target))


def _tell(options: argparse.Namespace, data: DataSet, root: Path, report: Report) -> int:
    if options.json:
        print(json.dumps(as_json(data, root, report)))
    else:
        print("\n".join(report.problems or (f"{report.summary}: whole, in {root}",)))
        for note in report.notes:
            print(f"note: {note}", file=sys.stderr)
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
