"""The process that computes runs.

    python -m papers_lib.runs.worker FOLDER ...    those runs, one after the other
    python -m papers_lib.runs.worker -             folders on stdin, one a line

For each folder one JSON line on stdout: `{"status": "done" | "cached" | "failed" | "busy" | "place",
"error": "..."}`. What the run prints goes to FOLDER/log.txt.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import Timeout

from papers_lib.errors import PapersError
from papers_lib.files import FULL, PlaceError, place_error
from papers_lib.runs import parent, provenance
from papers_lib.runs.spec import RunSpec
from papers_lib.runs.store import MEND, Failure, Store, as_json, lock, read_result, read_spec, write

RESERVE = 1 << 16  # bytes kept on the disk during a run, so that its result finds room


def compute(folder: Path) -> dict[str, str]:
    """Run what FOLDER/spec.json says, unless it is done or another process is at it."""
    try:
        with lock(folder).acquire(timeout=0):
            if read_result(folder) is not None:
                return {"status": "cached"}
            return _attempt(folder)
    except Timeout:
        return {"status": "busy"}
    except PlaceError as error:
        return {"status": "place", "error": str(error)}
    except OSError as error:
        return {"status": "place", "error": str(place_error(folder, error, MEND))}
    except PapersError as error:  # before the run began: nothing to record
        return {"status": "failed", "error": str(error)}


def _attempt(folder: Path) -> dict[str, str]:
    spec = _spec(folder)
    origin = provenance.gather(spec)
    _clear(folder)
    started = time.monotonic()
    try:
        with _log(folder), _reserve(folder):
            metrics = _plain(_resolve(spec.function)(spec))
    except PlaceError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        return _fail(folder, error)
    origin |= {
        "torch": provenance.torch_version(),
        "device": provenance.device_name(),
        "seconds": round(time.monotonic() - started, 3),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    kept = read_spec(folder).model_dump(mode="json")
    write(folder / "result.json", as_json({"spec": kept, "metrics": metrics, "provenance": origin}))
    (folder / "failed.json").unlink(missing_ok=True)
    return {"status": "done"}


def _spec(folder: Path) -> RunSpec:
    """The spec with all folders set; refuses what cannot be the run that the folder is named for."""
    store = Store(folder.parents[1])
    spec = store.located(read_spec(folder))
    if Path(spec.folder) != folder:
        raise PapersError(f"{folder} was prepared for other code than there is now: start the sweep again")
    for need in spec.needs:
        if read_result(Path(need.folder)) is None:
            raise PapersError(f"{folder} needs the run {need.folder} first: compute that one")
    return spec


def _resolve(name: str) -> Callable[[RunSpec], dict[str, Any]]:
    module, _, function = name.partition(":")
    try:
        found: Callable[[RunSpec], dict[str, Any]] = getattr(importlib.import_module(module), function)
    except (ModuleNotFoundError, AttributeError) as error:
        if isinstance(error, ModuleNotFoundError) and not module.startswith(error.name or "?"):
            raise  # the module is there; something that it imports is not
        raise PapersError(f"no function {name} ({error}): mend the spec or PYTHONPATH") from None
    return found


def _plain(metrics: Any) -> dict[str, Any]:
    """`metrics` as JSON gives it back; ValueError names the entry that is not a result."""
    if not isinstance(metrics, dict):
        raise TypeError(f"the run returned a {type(metrics).__name__}, not a dict of metrics")
    for name, value in metrics.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"metric '{name}' is no plain finite JSON value: {error}") from None
    plain: dict[str, Any] = json.loads(json.dumps(metrics, allow_nan=False))
    return plain


def _fail(folder: Path, error: Exception) -> dict[str, str]:
    line = str(error) if isinstance(error, PapersError) else f"{type(error).__name__}: {error}"
    line = " ".join(line.split())
    trace = "".join(traceback.format_exception(error))
    failure = Failure(error=line, traceback=trace, bad_input=isinstance(error, PapersError))
    write(folder / "failed.json", failure.model_dump_json(indent=1))
    return {"status": "failed", "error": line}


def _clear(folder: Path) -> None:
    """Remove what a killed attempt left half-written."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _reserve(folder: Path) -> Iterator[None]:
    path = folder / ".reserve.tmp"
    path.write_bytes(b"\0" * RESERVE)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _log(folder: Path) -> Iterator[None]:
    """Send file descriptors 1 and 2, which C code writes to as well, to FOLDER/log.txt."""
    saved = os.dup(1), os.dup(2)
    with (folder / "log.txt").open("ab", buffering=0) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, number)
            os.close(copy)


def main(arguments: list[str]) -> int:
    """Compute the given folders; 0 when each is done, cached or busy elsewhere."""
    folders: Iterable[str] = sys.stdin if arguments == ["-"] else arguments
    code = 0
    for folder in folders:
        answer = compute(Path(folder.rstrip("\n")).absolute())
        code = max(code, {"failed": 1, "place": 2}.get(answer["status"], 0))
        try:
            print(json.dumps(answer), flush=True)
        except BrokenPipeError:  # the sweep is gone; the result is in the store
            return code
    return code


if __name__ == "__main__":
    parent.follow()
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:  # nothing recorded: the run resumes
        os._exit(130)
