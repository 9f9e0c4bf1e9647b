"""MATLAB's label files, read in a process of their own: a damaged one crashes scipy's reader, not ours.

Run as a program, this module prints one line of JSON per file; it imports nothing of the library.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

SECONDS = 60
BYTES = 2 * 2**30
"""Limits of the process for all files of a data set; those of the cars take a second and 0.3 GB."""

_HDF = b"\x89HDF\r\n\x1a\n"


def read(paths: Sequence[Path]) -> dict[Path, dict[str, Any]]:
    """What each file holds: `class_names`, `fields` and `rows` of its `annotations`, or `error`, a reason.

    A file that has not changed is read once per process.
    """
    # A changed file has another state, so that the cache does not answer for it.
    states = [(path, path.stat().st_mtime_ns, path.stat().st_size) for path in paths if path.is_file()]
    return dict(zip([path for path, *_ in states], _read(tuple(states)), strict=True))


@lru_cache(maxsize=8)
def _read(states: tuple[tuple[Path, int, int], ...]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    # A file that crashes the process ends it; the next process begins behind that file.
    while len(found) < len(states):
        said, died = _asked([str(path) for path, *_ in states[len(found) :]])
        found += said
        if len(found) < len(states):  # the one that it did not come to an end with
            found.append({"error": died})
    return found


def _asked(files: list[str]) -> tuple[list[dict[str, Any]], str]:
    """The answers that came, and why no more came."""
    command = [sys.executable, "-P", __file__, *files]  # -P: this folder has modules of everyday names
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, capture_output=True, env=environment, timeout=SECONDS, check=False)
        out, died = done.stdout, "it crashes the reader"
    except subprocess.TimeoutExpired as late:
        out, died = late.stdout or b"", f"it is not read in {SECONDS} seconds"
    return [json.loads(line) for line in out.split(b"\n")[:-1]], died


def _main() -> None:
    with suppress(ImportError, ValueError, OSError):  # not every system has such limits
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    for file in sys.argv[1:]:
        try:
            said = _content(Path(file))
        except Exception as error:  # a broken file raises almost anything
            said = {"error": str(error).partition("\n")[0] or type(error).__name__}
        print(json.dumps(said, default=_plain), flush=True)


def _content(path: Path) -> dict[str, Any]:
    import scipy.io

    with path.open("rb") as file:
        head = file.read(1024)
    # HDF5, with or without the block of text in front of it
    if head.startswith(b"MATLAB 7.3") or head[:8] == _HDF or head[512:520] == _HDF:
        return {"error": "v7.3"}
    content = scipy.io.loadmat(path, squeeze_me=True, variable_names=("class_names", "annotations"))
    said: dict[str, Any] = {}
    if "class_names" in content:
        said["class_names"] = [_text(name) for name in content["class_names"].ravel().tolist()]
    # A struct array of the devkit: one record per image.
    table = content.get("annotations")
    if table is not None and table.dtype.names:
        said |= {"fields": list(table.dtype.names), "rows": table.ravel().tolist()}
    return said


def _text(value: Any) -> str:
    return str(value).encode("utf-8", "replace").decode()


def _plain(value: Any) -> Any:
    if getattr(value, "size", 2) == 1:
        return value.item()
    return _text(value)[:200]


if __name__ == "__main__":
    _main()
