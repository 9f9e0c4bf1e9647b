"""What this machine is, and whether the house can stand on it: `python -m papers_lib doctor`."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import Literal, NamedTuple

import psutil  # type: ignore[import-untyped]
import torch

from papers_lib import numerics
from papers_lib.exhibits import ledger
from papers_lib.settings import data_root, ledger_root, runs_root

GIB = 2**30
MEMORY, DISK = 8, 10  # GiB below which `small` with two slots may not fit
Verdict = Literal["ok", "note", "bad"]


class Finding(NamedTuple):
    """What was found of one thing, whether it is well, and one line of advice."""

    name: str
    found: str
    verdict: Verdict
    advice: str


def examine(papers: list[str]) -> list[Finding]:
    """Look at processor, torch, memory, disk, places and numerics; seconds, most of them for the numerics."""
    return [*_machine(), *_places(papers), *_numerics()]


def _judged(name: str, found: str, well: bool, praise: str, advice: str) -> Finding:
    """A finding that is "ok" or a "note", each with its own line."""
    return Finding(name, found, "ok" if well else "note", praise if well else advice)


def _machine() -> list[Finding]:
    processor, flags = _processor()
    capability = torch.backends.cpu.get_cpu_capability()
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = psutil.virtual_memory()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return [
        Finding("processor", processor, "ok", f"python {platform.python_version()}, {platform.system()}"),
        _judged(
            "instruction set",
            capability + (f", oneDNN held to {limit}" if limit else ""),
            # Others emulate bfloat16, many times slower than float32.
            bool(flags & {"avx512_bf16", "amx_bf16"}) and not limit,
            "bfloat16 is fast here",
            "bfloat16 is slow here: leave `precision` as the profile says",
        ),
        _judged(
            "torch",
            f"{torch.__version__}, CUDA {torch.version.cuda or 'none'}",
            not torch.version.cuda or gpu != "none",
            "fits this machine",
            "no GPU uses this CUDA build; `make TORCH=cpu` in a fresh folder saves gigabytes",
        ),
        Finding("GPU", gpu, "ok", "`-p device cpu` or `cuda` chooses; `auto` takes a GPU where there is one"),
        Finding(
            "threads",
            f"{torch.get_num_threads()} of {cores} cores",
            "ok",
            f"`--slots {cores}` computes {cores} runs at once" if cores > 1 else "one run at a time",
        ),
        _judged(
            "memory",
            f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free",
            memory.available > MEMORY * GIB,
            "enough for `small` with two slots",
            "use one slot",
        ),
    ]


def _processor() -> tuple[str, set[str]]:
    """Name and flags, as far as the system tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine(), set()
    fields: dict[str, str] = {}
    for line in lines:  # one block per core: the first says it all
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    return fields.get("model name", platform.machine()), set(fields.get("flags", "").split())


def _places(papers: list[str]) -> list[Finding]:
    runs, data, ledgers = runs_root(), data_root(), ledger_root()
    # The folder of the runs may not be there yet; its disk is that of the nearest folder above.
    nearest = next((place for place in (runs, *runs.parents) if place.exists()), Path("/"))
    free = shutil.disk_usage(nearest).free
    rows = {paper: len(ledger.read(paper)) for paper in papers}
    sets = _folders(data)
    finished = len(list(runs.glob("*/*/result.json")))
    return [
        _judged(
            "disk",
            f"{free / GIB:.0f} GiB free at {runs}",
            free > DISK * GIB,
            "enough",
            "free some, or set PAPERS_RUNS to a larger disk",
        ),
        _judged(
            "data",
            f"{', '.join(sets) or 'none'} in {data}",
            bool(sets),
            "checked by `python -m data_prep check NAME ROOT`",
            "`make data` renders the stand-ins; `python -m data_prep import` brings what you have",
        ),
        Finding("runs", f"{finished} finished in {runs}", "ok", "`collect PAPER` adds them to the ledger"),
        _judged(
            "ledger",
            ", ".join(f"{paper} {n}" for paper, n in rows.items()) + f" rows in {ledgers}",
            any(rows.values()),
            "tables above `smoke` are made from these",
            "no rows: restore figures/ from git, or set PAPERS_LEDGER to it",
        ),
    ]


def _folders(root: Path) -> list[str]:
    """Data sets by name; then the folders of stand-ins, with how many each holds."""

    def inside(folder: Path) -> list[Path]:
        entries = folder.iterdir() if folder.is_dir() else ()
        return sorted(path for path in entries if path.is_dir() and path.name[0] != ".")

    standins = [path for path in inside(root) if path.name.startswith("standin")]
    sets = [path.name for path in inside(root) if path not in standins]
    return sets + [f"{path.name} ({len(inside(path))} sets)" for path in standins]


def _numerics() -> list[Finding]:
    findings = []
    for name, check in numerics.CHECKS.items():
        state = numerics.check(name)  # in a process of its own
        verdict: Verdict = "ok" if state in ("right", "absent") else "note"
        if state == "wrong" and check.relied:
            verdict = "bad"
        found = "no GPU here" if state == "absent" else state
        advice = "nothing to do" if verdict == "ok" else check.mend
        if state == "not ready in time":
            advice = "try again while nothing else computes here"
        findings.append(Finding(check.what, found, verdict, advice))
    return findings
