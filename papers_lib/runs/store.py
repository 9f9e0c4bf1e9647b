"""The run store: one folder per run, named by the run's key.

    <root>/<paper>/<key[:20]>/  spec.json  result.json | failed.json  progress.json  checkpoint.pt  log.txt

A result is written whole or not at all. Reading takes no lock and writes nothing, except that a
corrupt result is moved aside.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, Literal

from filelock import Timeout

from papers_lib.errors import PapersError
from papers_lib.files import locked, place_error, replacing
from papers_lib.runs.spec import RunSpec, digest
from papers_lib.settings import Frozen, runs_root

State = Literal["done", "failed", "running", "partial", "todo"]
MEND = "set PAPERS_RUNS to another folder"


class Result(Frozen):
    """What a finished run leaves: its spec (`folder` set), metrics, and provenance.

    `provenance` holds commit, dirty, code, key, torch, device, python, seconds, finished; `digest` is of
    all the rest, and empty in results of earlier versions.
    """

    spec: RunSpec
    metrics: dict[str, Any]
    provenance: dict[str, Any]
    digest: str = ""

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)


class Failure(Frozen):
    """What a failed run leaves. `bad_input`: the cause lies outside the run, so it is tried again."""

    error: str
    traceback: str
    bad_input: bool = False


class Store:
    """The runs below one root, by default `$PAPERS_RUNS` or `runs/` of the repository."""

    def __init__(self, root: Path | str | None = None) -> None:
        self.root = Path(root or runs_root()).absolute()

    def folder(self, spec: RunSpec) -> Path:
        """Where the run of `spec` lies: a new key, for changed code too, is a new folder."""
        return self.root / spec.paper / spec.key[:20]

    def located(self, spec: RunSpec) -> RunSpec:
        """`spec` with the folder set, its own and those of its needs."""
        needs = tuple(self.located(need) for need in spec.needs)
        return spec.model_copy(update={"folder": str(self.folder(spec)), "needs": needs})

    def prepare(self, spec: RunSpec) -> Path:
        """Make the folder with its spec.json, ready for a worker.

        Raises:
            PlaceError: the store is full or read-only.
        """
        path = self.folder(spec) / "spec.json"
        text = spec.model_copy(update={"folder": ""}).model_dump_json(indent=1)
        # A spec that is there already is left alone: another process may be reading it.
        with suppress(OSError):
            if path.read_text(encoding="utf-8", errors="replace") == text:
                return path.parent
        write(path, text)
        return path.parent

    def result(self, spec: RunSpec) -> Result | None:
        """The finished run of `spec`, or None."""
        return read_result(self.folder(spec))

    def failure(self, spec: RunSpec) -> Failure | None:
        """Why the last attempt at `spec` failed, or None."""
        try:
            text = (self.folder(spec) / "failed.json").read_text(encoding="utf-8")
            return Failure.model_validate_json(text)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError):  # unreadable, not UTF-8, not JSON, not a failure
            return Failure(error="unreadable failed.json", traceback="", bad_input=True)

    def state(self, spec: RunSpec) -> State:
        """`partial` is a run that was killed: it resumes; `running` may be in another process."""
        folder = self.folder(spec)
        if read_result(folder) is not None:
            return "done"
        if (folder / ".lock").exists():  # to take a lock that is not there would write it
            try:
                with lock(folder):
                    pass
            except Timeout:
                return "running"
            except OSError:  # a lock that cannot be read says nothing
                pass
        if (folder / "failed.json").exists():
            return "failed"
        started = any((folder / name).exists() for name in ("checkpoint.pt", "progress.json"))
        return "partial" if started else "todo"

    def finished(self) -> Iterator[Result]:
        """All finished runs, by paper and key, those of older code too."""
        for path in sorted(self.root.glob("*/*/result.json")):
            result = read_result(path.parent)
            if result is not None:
                yield result


# -- the files of one folder --


def lock(folder: Path) -> AbstractContextManager[None]:
    """Hold a run's folder; `filelock.Timeout` where another process has it."""
    return locked(folder / ".lock")


def write(path: Path, text: str) -> None:
    """Write `text` whole or not at all; a `PlaceError` where the store cannot be written."""
    with replacing(path, MEND) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_spec(folder: Path) -> RunSpec:
    """The spec of a prepared folder.

    Raises:
        PapersError: no spec.json, or a corrupt one.
    """
    try:
        spec = RunSpec.model_validate_json((folder / "spec.json").read_text(encoding="utf-8"))
        digest(spec.asked())  # what has no key, such as NaN in the settings, is no spec
        return spec
    except OSError as error:
        raise PapersError(f"{folder} is no run folder ({error.strerror}): let a sweep prepare it") from None
    except ValueError:
        raise PapersError(f"{folder / 'spec.json'} is corrupt: start the sweep again") from None


def read_result(folder: Path) -> Result | None:
    """The result in `folder`; a corrupt one is moved aside with a warning and does not count."""
    path = folder / "result.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        result = Result.model_validate(record)
        if result.digest and record.pop("digest") != digest(record):
            raise ValueError("its digest is another")
        key = digest([result.spec.asked(), result.provenance.get("code")])
        if result.provenance.get("key") != key or not key.startswith(folder.name):
            raise ValueError("it is of another run")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise PapersError(f"cannot read {path} ({error.strerror}): make it readable, or {MEND}") from None
    except (
        ValueError,
        RecursionError,
    ):  # not UTF-8, not JSON, not a result, not the one that was written here
        _move_aside(path)
        return None
    return result.model_copy(update={"spec": result.spec.model_copy(update={"folder": str(folder)})})


def write_result(folder: Path, metrics: dict[str, Any], provenance: dict[str, Any]) -> None:
    """Write FOLDER/result.json, with the spec that lies there."""
    spec = read_spec(folder).model_dump(mode="json")
    record = {"spec": spec, "metrics": metrics, "provenance": provenance}
    signed = {**record, "digest": digest(record)}
    write(folder / "result.json", json.dumps(signed, indent=1, sort_keys=True, allow_nan=False))


def tidy(folder: Path) -> None:
    """Remove what a run needs only until it has its result: checkpoints, and what was put aside for it."""
    for path in (*folder.glob("checkpoint.pt*"), folder / "weights.pt.corrupt"):
        with suppress(OSError):
            path.unlink()


def needed_weights(spec: RunSpec) -> Path:
    """The weights that the run left which `spec` starts from, whole.

    Raises:
        PapersError: they are missing or damaged. That run's result is put aside, so that the same command
            computes it again.
    """
    from papers_lib.checkpoint import load_weights

    folder = Path(spec.needs[0].folder)
    weights = folder / "weights.pt"
    try:
        load_weights(weights)
    except PapersError:
        with suppress(Timeout), lock(folder):  # else another process is computing it already
            _move_aside(weights)
            _move_aside(folder / "result.json")
        raise PapersError(
            f"{weights} is missing or damaged: put aside, the same command computes that run again"
        ) from None
    return weights


def _move_aside(path: Path) -> None:
    aside = path.with_name(path.name + ".corrupt")
    try:
        path.replace(aside)
    except FileNotFoundError:  # another process was first
        return
    except OSError as error:
        raise place_error(path, error, MEND) from None
    print(f"warning: {path} is corrupt; moved to {aside.name}, the run counts as not done", file=sys.stderr)
