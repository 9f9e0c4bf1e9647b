"""The process that computes runs.

    python -m papers_lib.runs.worker FOLDER ...    those runs, one after the other
    python -m papers_lib.runs.worker -             folders on stdin, one per line

For each folder one JSON line on stdout: `{"status": "done" | "cached" | "failed" | "busy" | "place" |
"machine", "error": "..."}`. What the run prints goes to FOLDER/log.txt.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import re
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import Timeout

from papers_lib import pilot
from papers_lib.errors import PapersError, fault_of_the_machine
from papers_lib.files import FULL, PlaceError, place_error
from papers_lib.runs import parent, provenance
from papers_lib.runs.planning import sha256
from papers_lib.runs.spec import RunSpec
from papers_lib.runs.store import (
    MEND,
    Failure,
    Store,
    lock,
    read_result,
    read_spec,
    tidy,
    write,
    write_result,
)

DOOR = re.compile(r"papers_lib(\.\w+)+\.(study|training):run")
RESERVE = 1 << 16  # bytes kept on the disk during a run, so that its result finds room


def main(arguments: list[str]) -> int:
    """Compute the given folders; 0 when each is done, cached or busy elsewhere."""
    folders: Iterable[str] = sys.stdin if arguments == ["-"] else arguments
    code = 0
    for name in folders:
        folder = Path(name.rstrip("\n")).absolute()
        answer = compute(folder)
        if answer["status"] in ("done", "cached"):
            tidy(folder)
        code = max(code, {"failed": 1, "machine": 1, "place": 2}.get(answer["status"], 0))
        try:
            print(json.dumps(answer), flush=True)
        except BrokenPipeError:  # the sweep is gone; the result is in the store
            return code
    return code


def compute(folder: Path) -> dict[str, str]:
    """Run what FOLDER/spec.json says, unless it is done or another process is at it."""
    try:
        with lock(folder):
            if read_result(folder) is not None:
                return {"status": "cached"}
            return _attempt(folder)
    except Timeout:
        return {"status": "busy"}
    except Exception as error:  # none of the run's own: nothing is recorded, the same command tries again
        if isinstance(error, OSError) and (error.errno in FULL or not fault_of_the_machine(error)):
            error = place_error(folder, error, MEND)
        if isinstance(error, PlaceError):
            return {"status": "place", "error": str(error)}
        if fault_of_the_machine(error):
            line = f"the machine ran short ({_line(error)}): the same command goes on when there is more"
            return {"status": "machine", "error": line}
        return {"status": "failed", "error": _line(error)}


def _attempt(folder: Path) -> dict[str, str]:
    """Compute and write the result; what the run itself raises is recorded as its failure."""
    spec = _checked_spec(folder)
    origin = provenance.gather(spec)
    for half_written in folder.glob(".*.tmp"):  # by an attempt that was killed
        if not half_written.name.startswith(".spec.json."):  # which another sweep may be writing now
            half_written.unlink(missing_ok=True)
    started = time.monotonic()
    try:
        with _workroom(folder):
            function = _resolve(spec.function)
            _refuse_other_inputs(spec)
            with pilot.measuring(spec.pilot) as cost:
                metrics = _plain(function(spec)) | ({"pilot": cost.summary()} if cost else {})
    except Exception as error:
        if isinstance(error, PlaceError) or fault_of_the_machine(error):
            raise
        failure = Failure(
            error=_line(error),
            traceback="".join(traceback.format_exception(error)),
            bad_input=isinstance(error, PapersError),
        )
        write(folder / "failed.json", failure.model_dump_json(indent=1))
        return {"status": "failed", "error": failure.error}
    origin |= {
        "torch": provenance.torch_version(),
        "device": provenance.device_name(),
        "seconds": round(time.monotonic() - started, 3),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_result(folder, metrics, origin)
    (folder / "failed.json").unlink(missing_ok=True)
    return {"status": "done"}


# -- what is refused before anything is computed --


def _checked_spec(folder: Path) -> RunSpec:
    """The spec with all folders set; refuses what cannot be the run that the folder is named for."""
    spec = read_spec(folder)
    # A file may name any function: only a wing's door is imported, or what `$PAPERS_WINGS` allows.
    packages = filter(None, os.environ.get("PAPERS_WINGS", "").split(os.pathsep))
    if not DOOR.fullmatch(spec.function) and spec.function.partition(".")[0] not in packages:
        raise PapersError(f"the function {spec.function} is no door of a paper: let a sweep prepare the run")
    spec = Store(folder.parents[1]).located(spec)
    if Path(spec.folder) != folder:
        raise PapersError(f"{folder} was prepared for other code than there is now: start the sweep again")
    refuse_other_processes(spec, folder)
    for need in spec.needs:
        if read_result(Path(need.folder)) is None:
            raise PapersError(f"{folder} needs the run {need.folder} first: compute that one")
    return spec


def refuse_other_processes(spec: RunSpec, folder: Path) -> None:
    """Refuse a run that is of another number of processes than torchrun started.

    Raises:
        PapersError: it is; the message says how to start it.
    """
    wanted, there = int(spec.settings.get("processes", 1)), int(os.environ.get("WORLD_SIZE", "1"))
    if wanted != there:
        raise PapersError(
            f"this run is of {wanted} processes, not {there}: start it with `{command(spec, folder)}`, or "
            f"prepare another with `python -m papers_lib sweep {spec.paper} -p processes {there} "
            "--print-commands`"
        )


def command(spec: RunSpec, folder: Path) -> str:
    """The shell command that computes `spec` in its prepared folder."""
    count = spec.settings.get("processes", 1)
    if count == 1:
        return shlex.join([sys.executable, "-m", "papers_lib.runs.worker", str(folder)])
    module = spec.function.rpartition(".")[0] + ".distributed"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count)]
    return shlex.join([*torchrun, "-m", module, str(folder)])


def _refuse_other_inputs(spec: RunSpec) -> None:
    """Refuse data and files that are not those the run was prepared for."""
    if spec.data.fingerprint:
        from papers_lib.datasets import known

        there = known.load(Path(spec.data.root), spec.data.name).fingerprint
        if there != spec.data.fingerprint:
            raise PapersError(
                f"the {spec.data.name} in {spec.data.root} is not the one that this run was prepared for "
                f"({there[:10]}, not {spec.data.fingerprint[:10]}): start the sweep again"
            )
    for name, place in spec.places.items():
        if sha256(Path(place)) != spec.settings.get(name):
            raise PapersError(f"{name}: {place} is not the file that it was: start the sweep again")


# -- the run --


def _resolve(name: str) -> Callable[[RunSpec], dict[str, Any]]:
    """The function behind `package.module:function`."""
    module, _, attribute = name.partition(":")
    try:
        function: Callable[[RunSpec], dict[str, Any]] = getattr(importlib.import_module(module), attribute)
    except (ModuleNotFoundError, AttributeError) as error:
        if isinstance(error, ModuleNotFoundError) and not module.startswith(error.name or "?"):
            raise  # the module is there; something that it imports is not
        raise PapersError(f"no function {name} ({error}): mend the spec or PYTHONPATH") from None
    return function


@contextmanager
def _workroom(folder: Path) -> Iterator[None]:
    """Keep room on the disk, and send file descriptors 1 and 2, which C code uses too, to FOLDER/log.txt."""
    reserve = folder / ".reserve.tmp"
    saved = os.dup(1), os.dup(2)
    try:
        with (folder / "log.txt").open("ab", buffering=0) as log:
            reserve.write_bytes(b"\0" * RESERVE)
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        yield
    finally:
        reserve.unlink(missing_ok=True)  # first: the log's last lines may need it
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in zip((1, 2), saved, strict=True):
            os.dup2(copy, number)
            os.close(copy)


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


def _line(error: Exception) -> str:
    """One line: our own message, or the kind and the message of another."""
    text = str(error) if isinstance(error, PapersError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split()).removesuffix(":")


if __name__ == "__main__":
    parent.follow()
    faulthandler.enable()  # a crash in native code leaves its place in the log
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:  # nothing recorded: the run resumes
        os._exit(130)
