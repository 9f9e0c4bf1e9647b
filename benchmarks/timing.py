"""Interleaved rounds, peak memory in a process of its own, and a table of both.

Machines are shared and clocks drift: every round runs every candidate once, one after the other, and
what counts is the median over rounds of the ratio to the yardstick of the same round.
"""

from __future__ import annotations

import ctypes
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass
class Line:
    """One candidate: seconds by round (scaled where only a part was run), and what it needed."""

    name: str
    seconds: list[float]
    ratio: float = 0.0
    memory_mb: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Candidate:
    """Something to time. Its seconds are multiplied by `scale` where it does only a part."""

    name: str
    run: Callable[[], Any]
    scale: float = 1.0
    note: str = ""


def interleave(candidates: Sequence[Candidate], rounds: int) -> list[Line]:
    """Time every candidate once a round; ratios are to the first one. One warm-up round is not kept."""
    lines = [Line(c.name, [], note=c.note) for c in candidates]
    for number in range(rounds + 1):
        for candidate, line in zip(candidates, lines, strict=True):
            start = time.perf_counter()
            candidate.run()
            seconds = (time.perf_counter() - start) * candidate.scale
            if number:
                line.seconds.append(seconds)
    for line in lines:
        pairs = zip(line.seconds, lines[0].seconds, strict=True)
        line.ratio = statistics.median(mine / first for mine, first in pairs)
    return lines


def extra_memory(function: Callable[[], Any]) -> float:
    """Peak resident memory while `function` runs, above what was resident before, in MB.

    The kernel's high-water mark is set back first (Linux), and memory that was freed but kept by the
    allocator is given back, so that it cannot hide what the function takes.
    """
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    function()
    return (_status("VmHWM") - before) / 1024


def in_child(module: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Run `python -m module arguments` and read the JSON on the last line of what it prints."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def hardware() -> str:
    """The machine in a line."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = {line.partition(": ")[2] for line in lines if line.startswith("model name")}
    return (
        f"{', '.join(names) or platform.machine()}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}, Python {platform.python_version()}"
    )


def show(title: str, lines: Sequence[Line], checks: dict[str, Any], as_json: bool) -> None:
    """Print the table and the checks, or both as JSON."""
    if as_json:
        rows = [asdict(line) for line in lines]
        print(json.dumps({"title": title, "hardware": hardware(), "rows": rows, "checks": checks}))
        return
    print(f"{title}\n{hardware()}\n")
    print(f"{'':44}{'best s':>9}{'median s':>10}{'ratio':>9}{'extra MB':>10}")
    for line in lines:
        memory = "" if line.memory_mb is None else f"{line.memory_mb:.0f}"
        best, median = min(line.seconds), statistics.median(line.seconds)
        print(f"{line.name:44}{best:9.3f}{median:10.3f}{line.ratio:9.3f}{memory:>10}  {line.note}")
    print("\nratio: median over rounds of the time by the first row's time in the same round")
    for name, value in checks.items():
        print(f"{name}: {value}")


def _status(field: str) -> int:
    """A field of this process's /proc status, in kB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {field}")
