"""Where a number comes from: commit, versions, device. Nothing that names the host or its folders."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from papers_lib.runs.spec import RunSpec
from papers_lib.settings import repository


def gather(spec: RunSpec) -> dict[str, Any]:
    """What is known before the run starts: commit, dirty flag, code, key, and Python.

    `dirty` says whether `papers_lib` differs from the commit; without git it is True, and the commit "".
    """
    commit, dirty = "", True
    command = ["git", "status", "--porcelain=v2", "--branch", "--", "papers_lib"]
    try:
        status = subprocess.run(
            command, cwd=repository(), capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        pass
    else:
        lines = status.stdout.splitlines()
        commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid")), "")
        commit = "" if commit == "(initial)" else commit  # a repository without a commit
        dirty = any(not line.startswith("#") for line in lines)
    return {
        "commit": commit,
        "dirty": dirty,
        "code": spec.code,
        "key": spec.key,
        "python": platform.python_version(),
    }


def torch_version() -> str:
    """The version of torch, without importing it."""
    if "torch" in sys.modules:
        return str(sys.modules["torch"].__version__)
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return ""


def device_name() -> str:
    """The GPU's model if this process computed on one, else `cpu`, the processor's maker and its vectors.

    Both decide in which order a kernel sums, and so the last digits of a training.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return "cpu"
    if torch.cuda.is_initialized():
        return str(torch.cuda.get_device_name())
    return f"cpu ({_maker()} {torch.backends.cpu.get_cpu_capability()})"


def _maker() -> str:
    """AMD, Intel, arm64 and the like."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    vendor = next((line.split()[-1] for line in lines if line.startswith("vendor_id")), "")
    return {"AuthenticAMD": "AMD", "GenuineIntel": "Intel"}.get(vendor, vendor or platform.machine())
