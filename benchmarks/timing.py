"""The harness: cases timed in interleaved rounds, peak memory in a process of its own, one table of both.

A benchmark states its cases, ours and the peers', and whether all give the same answer:

    options = timing.options(__doc__, rounds=5, n=8054)
    table = timing.compare([Case("peer", peer), Case("ours", ours)], options)
    sys.exit(timing.show("title", table, {"times faster": table.ratio("peer", "ours")}, options, agree=True))

Machines are shared and clocks drift: every round runs every case once, one after the other, and what counts
is the median over rounds of the ratio of two times of the same round.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

from papers_lib.entry import Parser


class Case(NamedTuple):
    """Something to time. Its seconds are multiplied by `scale` where it does only a part."""

    name: str
    run: Callable[[], Any]
    scale: float = 1.0
    note: str = ""


@dataclass
class Table:
    """What was measured, by the case's name; the first case is the yardstick."""

    seconds: dict[str, list[float]]  # by round, times the case's scale
    notes: dict[str, str] = field(default_factory=dict)
    memory_mb: dict[str, float | None] = field(default_factory=dict)

    def ratio(self, slow: str, fast: str) -> float:
        """How many times as long one case takes as another: the median over rounds."""
        pairs = zip(self.seconds[slow], self.seconds[fast], strict=True)  # of the same round
        return statistics.median(a / b for a, b in pairs)

    def median(self, name: str) -> float:
        """Seconds, the median over rounds."""
        return statistics.median(self.seconds[name])


def options(doc: str, rounds: int, **defaults: Any) -> argparse.Namespace:
    """The command line: one option per default, of its type; then --json.

    A list takes several values, False is a switch, and a tuple holds the choices, the default first.
    """
    parser = Parser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (defaults | {"rounds": rounds}).items():
        flag = f"--{name.replace('_', '-')}"
        if default is False:
            parser.add_argument(flag, action="store_true")
        elif isinstance(default, list):
            parser.add_argument(flag, type=type(default[0]), nargs="+", default=default)
        elif isinstance(default, tuple):
            parser.add_argument(flag, choices=default, default=default[0])
        else:
            parser.add_argument(flag, type=type(default), default=default)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)  # what a process of its own is to measure
    given = parser.parse_args()
    for name in defaults | {"rounds": rounds}:
        values = getattr(given, name)
        least = 0 if name == "workers" else 1  # a loader without workers loads by itself
        for value in values if isinstance(values, list) else [values]:
            if type(value) is int and value < least:
                parser.error(f"--{name.replace('_', '-')} {value}: give {least} or more")
    return given


def compare(cases: Sequence[Case], options: argparse.Namespace, memory: Sequence[Case] = ()) -> Table:
    """Time every case once per round; a first round, which warms up, is not kept.

    Peak memory of the cases in `memory` is measured by this same command with `--child`, each in a process
    of its own; there this function prints it and ends the process.
    """
    if options.child is not None:
        torch.ones(512, 512) @ torch.ones(512, 512)  # the library's own buffers are there before
        print(json.dumps({"mb": extra_memory(cases[int(options.child)].run)}))
        raise SystemExit(0)
    table = Table({case.name: [] for case in cases}, {case.name: case.note for case in cases})
    for number in range(options.rounds + 1):
        for case in cases:
            start = time.perf_counter()
            case.run()
            seconds = (time.perf_counter() - start) * case.scale
            if number:  # round 0 warms up
                table.seconds[case.name].append(seconds)
    # After the timing: a second process would disturb it.
    for place, case in enumerate(cases):
        if case in memory:
            table.memory_mb[case.name] = in_child(place).get("mb")
    return table


def show(
    title: str, table: Table, checks: dict[str, Any], options: argparse.Namespace, agree: bool = True
) -> int:
    """Print the table and the checks, or both as JSON. Gives the exit code: 1 where values do not agree."""
    yardstick = next(iter(table.seconds))
    rows = [
        {
            "name": name,
            "seconds": seconds,
            "ratio": table.ratio(name, yardstick),
            "memory_mb": table.memory_mb.get(name),
            "note": table.notes.get(name, ""),
        }
        for name, seconds in table.seconds.items()
    ]
    if options.json:
        print(json.dumps({"title": title, "hardware": hardware(), "rows": rows, "checks": checks}))
        return int(not agree)
    print(f"{title}\n{hardware()}\n")
    print(f"{'':44}{'best s':>9}{'median s':>10}{'ratio':>9}{'extra MB':>10}")
    for row in rows:
        name, memory = row["name"], row["memory_mb"]
        best, median = min(row["seconds"]), table.median(name)
        extra = "" if memory is None else f"{memory:.0f}"
        print(f"{name:44}{best:9.3f}{median:10.3f}{row['ratio']:9.3f}{extra:>10}  {row['note']}")
    print("\nratio: median over rounds of the time by the first row's time in the same round")
    for name, value in checks.items():
        print(f"{name}: {value}")
    print()
    return int(not agree)


def extra_memory(function: Callable[[], Any]) -> float:
    """Peak resident memory while `function` runs, above what was resident before, in MB.

    The kernel's high-water mark is set back first (Linux), and memory that was freed but kept by the
    allocator is given back, so that it cannot hide what the function takes.
    """
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back to VmRSS
    before = _status("VmRSS")
    function()
    return (_status("VmHWM") - before) / 1024


def in_child(*child: object) -> dict[str, Any]:
    """Run this same command with `--child` and read the JSON on the last line of what it prints."""
    module = sys.modules["__main__"].__spec__.name
    command = [sys.executable, "-m", module, *sys.argv[1:], f"--child={','.join(map(str, child))}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def hardware() -> str:
    """The machine in a line, with its GPU where there is one."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = {line.partition(": ")[2] for line in lines if line.startswith("model name")}
    card = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_available() else ""
    return (
        f"{card}{', '.join(names) or platform.machine()}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}, Python {platform.python_version()}"
    )


def _status(name: str) -> int:
    """A field of this process's /proc status, in kB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {name}")
