"""What this machine is, and whether the house can stand on it: `python -m papers_lib doctor`."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import Any, Literal, NamedTuple

import psutil  # type: ignore[import-untyped]
import torch

from papers_lib import numerics
from papers_lib.exhibits import ledger
from papers_lib.settings import data_root, ledger_root, runs_root

GIB = 2**30
MEMORY, DISK = 8, 10  # GiB below which `small` with two slots may not fit
Verdict = Literal["ok", "note", "bad"]


class Finding(NamedTuple):
    """One thing looked at: what was found, whether it is well, and one line of advice."""

    name: str
    found: str
    verdict: Verdict
    advice: str

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return self._asdict()


def examine(papers: list[str]) -> list[Finding]:
    """Look at processor, torch, memory, disk, places and numerics; seconds, most of them for the numerics."""
    return [*_machine(), *_places(papers), *_numerics()]


def _machine() -> list[Finding]:
    processor, flags = _processor()
    capability = torch.backends.cpu.get_cpu_capability()
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "")
    fast = bool(flags & {"avx512_bf16", "amx_bf16"}) and not limit
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = psutil.virtual_memory()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return [
        Finding("processor", processor, "ok", f"python {platform.python_version()}, {platform.system()}"),
        Finding(
            "instruction set",
            capability + (f", oneDNN held to {limit}" if limit else ""),
            "ok" if fast else "note",
            "bfloat16 is fast here"
            if fast
            else "bfloat16 is slow here: leave `precision` as the profile says",
        ),
        Finding(
            "torch",
            f"{torch.__version__}, CUDA {torch.version.cuda or 'none'}",
            "note" if torch.version.cuda and gpu == "none" else "ok",
            "no GPU uses this CUDA build; `make TORCH=cpu` in a fresh folder saves gigabytes"
            if torch.version.cuda and gpu == "none"
            else "fits this machine",
        ),
        Finding("GPU", gpu, "ok", "`-p device cpu` or `cuda` chooses; `auto` takes a GPU where there is one"),
        Finding(
            "threads",
            f"{torch.get_num_threads()} of {cores} cores",
            "ok",
            f"`--slots {cores}` computes {cores} runs at once" if cores > 1 else "one run at a time",
        ),
        Finding(
            "memory",
            f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free",
            "ok" if memory.available > MEMORY * GIB else "note",
            "enough for `small` with two slots" if memory.available > MEMORY * GIB else "use one slot",
        ),
    ]


def _processor() -> tuple[str, set[str]]:
    """Name and flags, as far as the system tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine(), set()
    told: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        told.setdefault(name.strip(), value.strip())
    return told.get("model name", platform.machine()), set(told.get("flags", "").split())


def _places(papers: list[str]) -> list[Finding]:
    runs, data, ledgers = runs_root(), data_root(), ledger_root()
    nearest = next((place for place in (runs, *runs.parents) if place.exists()), Path("/"))
    free = shutil.disk_usage(nearest).free
    rows = {paper: len(ledger.read(paper)) for paper in papers}
    sets = _folders(data)
    finished = len(list(runs.glob("*/*/result.json")))
    return [
        Finding(
            "disk",
            f"{free / GIB:.0f} GiB free at {runs}",
            "ok" if free > DISK * GIB else "note",
            "enough" if free > DISK * GIB else "free some, or set PAPERS_RUNS to a larger disk",
        ),
        Finding(
            "data",
            f"{', '.join(sets) or 'none'} in {data}",
            "ok" if sets else "note",
            "checked by `python -m data_prep check NAME ROOT`"
            if sets
            else "`make data` renders the stand-ins; `python -m data_prep import` brings what you have",
        ),
        Finding("runs", f"{finished} finished in {runs}", "ok", "`collect PAPER` adds them to the ledger"),
        Finding(
            "ledger",
            ", ".join(f"{paper} {n}" for paper, n in rows.items()) + f" rows in {ledgers}",
            "ok" if any(rows.values()) else "note",
            "tables above `smoke` are made from these"
            if any(rows.values())
            else "no rows: restore figures/ from git, or set PAPERS_LEDGER to it",
        ),
    ]


def _folders(root: Path) -> list[str]:
    """Data sets by name; stand-ins with their folder's."""
    if not root.is_dir():
        return []
    found = sorted(path.name for path in root.iterdir() if path.is_dir() and path.name[0] != ".")
    sets = [name for name in found if not name.startswith("standin")]
    for name in found:
        if name.startswith("standin"):
            inner = [path for path in (root / name).iterdir() if path.is_dir() and path.name[0] != "."]
            sets.append(f"{name} ({len(inner)} sets)")
    return sets


def _numerics() -> list[Finding]:
    findings = []
    for name, check in numerics.CHECKS.items():
        state = numerics.check(name)
        verdict: Verdict = "ok" if state != "wrong" else "bad" if check.relied else "note"
        found = "no GPU here" if state == "absent" else state
        advice = check.mend if state == "wrong" else "nothing to do"
        findings.append(Finding(check.what, found, verdict, advice))
    return findings
