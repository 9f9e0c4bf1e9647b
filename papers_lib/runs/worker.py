"""The process that computes runs.

    python -m papers_lib.runs.worker FOLDER ...    those runs, one after the other
    python -m papers_lib.runs.worker -             folders on stdin, one per line
    torchrun --standalone --nproc-per-node 2 -m papers_lib.runs.worker FOLDER    a run of two processes

For each folder one JSON line on stdout: `{"status": "done" | "cached" | "failed" | "busy" | "place" |
"machine", "error": "..."}`. What the run prints goes to FOLDER/log.txt.
"""

from __future__ import annotations

import errno
import faulthandler
import importlib
import json
import os
import re
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import groupby
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
from papers_lib.settings import repository

DOOR = re.compile(r"papers_lib(\.\w+)+\.(study|training):run")
POLL = 0.5  # seconds between two looks at a run that another process computes
RESERVE = 1 << 16  # bytes kept on the disk during a run, so that its result finds room


def main(arguments: list[str]) -> int:
    """Compute the given folders, each with all processes if torchrun started several."""
    try:
        if not arguments:
            raise PapersError(
                "no run folder is named: give folders that a sweep has prepared, or - for stdin"
            )
        return max(map(_together, arguments)) if _processes() > 1 else one_by_one(arguments)
    except PapersError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def one_by_one(arguments: list[str]) -> int:
    """Compute the given folders in this process; 0 when each is done, cached or busy elsewhere.

    A run that is busy elsewhere is waited for if others follow it on the command line: they may need it.
    """
    folders: Iterable[str] = sys.stdin if arguments == ["-"] else arguments
    code = 0
    for name in folders:
        folder = Path(name.rstrip("\n")).absolute()
        while (answer := compute(folder))["status"] == "busy" and name in arguments[:-1]:
            time.sleep(POLL)
        if answer["status"] in ("done", "cached"):
            tidy(folder)
        code = max(code, {"failed": 1, "machine": 1, "place": 2}.get(answer["status"], 0))
        try:
            _say(answer)
        except BrokenPipeError:  # the sweep is gone; the result is in the store
            return code
        if _processes() > 1 and answer["status"] == "busy":
            return 1  # the other processes would wait for this one: torchrun ends them
    return code


def _together(name: str) -> int:
    """Compute one run with all processes that torchrun started; the first of them keeps the result."""
    folder = Path(name).absolute()
    try:
        spec = Store(folder.parents[1]).located(read_spec(folder))
        _refuse_other_doors(spec)
        refuse_other_processes(spec)
        if read_result(folder) is None:
            return _in_group(spec, folder)
        answer = {"status": "cached"}
    except PapersError as error:
        answer = {"status": "failed", "error": _line(error)}
    if os.environ.get("RANK") != "0":
        return 0  # one line from the first is enough; and if another failed, torchrun would cut it short
    _say(answer)
    return answer["status"] == "failed"


def _in_group(spec: RunSpec, folder: Path) -> int:
    from papers_lib import processes

    with processes.grouped() as rank:
        if rank == 0:
            return one_by_one([str(folder)])
        try:
            with pilot.measuring(spec.pilot):  # else it would go on where the first stops, and wait for it
                _resolve(spec.function)(spec)
        except PapersError as error:  # the first most likely says the same: torchrun is not to cut it short
            print(f"error: {error}", file=sys.stderr)
            time.sleep(5)
            return 1
        return 0


def _processes() -> int:
    """How many processes torchrun started; one without it.

    Raises:
        PapersError: `WORLD_SIZE` is set, by something else, to what is no number.
    """
    size = os.environ.get("WORLD_SIZE") or "1"
    if not size.isdecimal():
        raise PapersError(f"WORLD_SIZE is '{size}', which torchrun has not set: unset it")
    return int(size)


def _say(answer: dict[str, str]) -> None:
    print(json.dumps(answer), flush=True)


def compute(folder: Path) -> dict[str, str]:
    """Run what FOLDER/spec.json says, unless it is done or another process is at it."""
    try:
        if not (folder / "spec.json").exists():
            read_spec(folder)  # says so, before a lock is left where no run is
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
        too_large = isinstance(error, OSError) and error.errno == errno.EFBIG  # by `ulimit -f`, or on FAT
        if too_large or isinstance(error, PlaceError) or fault_of_the_machine(error):
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
    _refuse_other_doors(spec)
    spec = Store(folder.parents[1]).located(spec)
    if Path(spec.folder) != folder:
        raise PapersError(f"{folder} was prepared for other code than there is now: start the sweep again")
    refuse_other_processes(spec)
    for need in spec.needs:
        if read_result(Path(need.folder)) is None:
            raise PapersError(f"{folder} needs the run {need.folder} first: compute that one")
    return spec


def _refuse_other_doors(spec: RunSpec) -> None:
    """A file may name any function: only a wing's door is imported, or what `$PAPERS_WINGS` allows."""
    packages = filter(None, os.environ.get("PAPERS_WINGS", "").split(os.pathsep))
    if not DOOR.fullmatch(spec.function) and spec.function.partition(".")[0] not in packages:
        raise PapersError(f"the function {spec.function} is no door of a paper: let a sweep prepare the run")


def refuse_other_processes(spec: RunSpec) -> None:
    """Refuse a run that is of another number of processes than torchrun started; `spec` has its folders.

    Raises:
        PapersError: it is; the message says how to start it.
    """
    wanted, there = int(spec.settings.get("processes", 1)), _processes()
    if wanted == there:
        return
    if "processes" not in spec.settings:
        raise PapersError(
            f"this run computes in one process, and torchrun started {there}: "
            f"start it with `{command([spec])}`"
        )
    raise PapersError(
        f"this run is of {wanted} processes, not {there}: start it with `{command([spec])}`, or "
        f"prepare another with `python -m papers_lib sweep {spec.paper} -p processes {there} "
        f"{'-p pilot true ' * spec.pilot}--print-commands`"
    )


def command(specs: Sequence[RunSpec]) -> str:
    """The shell command that computes `specs`, whose folders are set, in this order, from any folder."""
    paths = [str(repository()), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    environment = {"PYTHONPATH": os.pathsep.join(str(Path(path).absolute()) for path in dict.fromkeys(paths))}
    if wings := os.environ.get("PAPERS_WINGS"):
        environment["PAPERS_WINGS"] = wings
    python = ["env", *(f"{name}={value}" for name, value in environment.items()), sys.executable]
    commands = []
    for count, runs in groupby(specs, lambda spec: int(spec.settings.get("processes", 1))):
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
        start = [*python, *(torchrun if count > 1 else []), "-m", "papers_lib.runs.worker"]
        for folders in [[spec.folder for spec in runs]] if count == 1 else [[spec.folder] for spec in runs]:
            commands.append(shlex.join([*start, *folders]))
    return " && ".join(commands)


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
