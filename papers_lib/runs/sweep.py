"""The bookkeeping of a sweep, the same for all executors: which runs are ready, running, done or lost.

An executor is a `Sweep` that can start a run. It gives back a `Worker`, whose answers arrive in the sweep's
`inbox` as (worker, line), with None for a line at its end.
"""

from __future__ import annotations

import json
import queue
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from papers_lib.files import PlaceError
from papers_lib.runs import progress
from papers_lib.runs.display import Display, Status, duration
from papers_lib.runs.spec import RunSpec
from papers_lib.runs.store import Failure, Result, Store, tidy

POLL = 0.5  # seconds between two looks at a run that another process computes


class Summary(NamedTuple):
    """How a sweep ended: runs computed, runs found finished, and the others with the reason."""

    done: int
    cached: int
    failed: list[tuple[RunSpec, str]]


class Worker(Protocol):
    """Whatever computes a run; `key` names the run that it is at, if any."""

    key: str

    def cause(self) -> str:
        """Why it ended without an answer."""

    def stop(self) -> None:
        """End it, and free what it holds."""


Inbox = queue.Queue[tuple[Worker, str | None]]


def ordered(specs: Sequence[RunSpec], store: Store) -> list[RunSpec]:
    """`specs` and the unfinished runs that they need, each once, needs first."""
    by_key: dict[str, RunSpec] = {}
    for spec in specs:
        needs = [] if store.result(spec) else [need for need in spec.needs if not store.result(need)]
        for run in (*ordered(needs, store), spec):
            by_key.setdefault(run.key, run)
    return list(by_key.values())


def name(spec: RunSpec) -> str:
    """A run for people: its label, else its function, and its seed."""
    return f"{spec.label or spec.function.rpartition(':')[2]} seed {spec.settings.get('seed')}"


def answer(line: str) -> dict[str, str] | None:
    """A worker's answer; None for what else was written to its stdout."""
    try:
        found: dict[str, str] = json.loads(line)
        found["status"]
    except (ValueError, TypeError, KeyError):
        return None
    return found


class Sweep:
    """The state of one call of `execute`: each run is pending, running, or settled (done or lost)."""

    def __init__(
        self,
        store: Store,
        slots: int,
        retry_failed: bool,
        on_done: Callable[[Result], None] | None,
        view: Display,
    ) -> None:
        self.store, self.slots, self.retry_failed = store, slots, retry_failed
        self.on_done, self.view = on_done, view
        # Runs by key.
        self.pending: dict[str, RunSpec] = {}
        self.running: dict[str, tuple[RunSpec, Path]] = {}
        self.lost: dict[str, tuple[RunSpec, str]] = {}
        self.busy_until: dict[str, float] = {}  # those of another process: when to look again
        self.old_failures: dict[str, tuple[int, ...] | None] = {}  # failed.json as the sweep found it
        self.workers: list[Worker] = []
        self.inbox: Inbox = queue.Queue()
        self.place: PlaceError | None = None  # the store cannot be written: start nothing more
        self.cached = 0
        self.status = Status(total=0, slots=slots)

    # -- what an executor adds --

    def check(self, unfinished: Sequence[RunSpec]) -> None:
        """Refuse, before anything starts, what each run would refuse."""

    def room(self) -> int:
        """How many runs there can be at once, now."""
        return self.slots

    def start(self, spec: RunSpec, folder: Path) -> Worker | None:
        """Begin on `spec` in its prepared folder; None where another process has it."""
        raise NotImplementedError

    # -- the loop --

    def execute(self, specs: Sequence[RunSpec]) -> Summary:
        """Compute `specs`, and stop all workers, whatever happens."""
        try:
            return self._loop(specs)
        except KeyboardInterrupt:
            print(f"stopped: {self.status.line()}; the same command resumes", file=sys.stderr)
            raise
        finally:
            while self.workers:
                self.workers.pop().stop()
            self.view.close()

    def _loop(self, specs: Sequence[RunSpec]) -> Summary:
        self.pending = {spec.key: spec for spec in ordered(specs, self.store)}
        self.old_failures = {key: self._failure_mark(spec) for key, spec in self.pending.items()}
        self.check([spec for spec in self.pending.values() if self.store.result(spec) is None])
        self.status.total = len(self.pending)
        while self.running or (self.pending and self.place is None):
            if self.place is None:
                self._start_ready()
            folders = {name(spec): folder for spec, folder in self.running.values()}
            self.status.running = {run: progress.read(folder) for run, folder in folders.items()}
            self.view.show(self.status)
            self._listen()
        if self.place is not None:
            raise self.place
        return Summary(self.status.done - self.cached, self.cached, list(self.lost.values()))

    # -- starting --

    def _start_ready(self) -> None:
        self.status.slots = max(1, self.room())
        for key, spec in list(self.pending.items()):
            if len(self.running) >= self.status.slots:
                return
            if not self._ready(key, spec):
                continue
            try:
                folder = self.store.prepare(spec)
                worker = self.start(spec, folder)
            except PlaceError as error:
                self.place = error
                return
            if worker is None:
                self.busy_until[key] = time.monotonic() + POLL
                continue
            worker.key = key
            self.running[key] = self.pending.pop(key), folder

    def _ready(self, key: str, spec: RunSpec) -> bool:
        """True if `spec` is to be computed now; settles it where no computing is needed."""
        for need in spec.needs:
            if need.key in self.lost:
                self._lose(spec, f"needs {name(need)}, which failed: {self.lost[need.key][1]}")
                return False
            if need.key in self.pending or need.key in self.running:
                return False
        if self.busy_until.get(key, 0) > time.monotonic():
            return False
        if result := self.store.result(spec):
            self._take(self.pending.pop(key), result, cached=True)
            return False
        failure = self.store.failure(spec)
        if failure and not self._try_again(spec, failure):
            self._lose(spec, f"failed before: {failure.error} (retry-failed tries it again)")
            return False
        return True

    def _try_again(self, spec: RunSpec, failure: Failure) -> bool:
        """An old failure may be tried again; one that another process just met may not."""
        if not (failure.bad_input or self.retry_failed):
            return False
        return self._failure_mark(spec) == self.old_failures.get(spec.key)

    def _failure_mark(self, spec: RunSpec) -> tuple[int, ...] | None:
        """Which failed.json is there: no clock is compared, since another machine may have written it."""
        try:
            stat = (self.store.folder(spec) / "failed.json").stat()
        except OSError:
            return None
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    # -- listening --

    def _listen(self) -> None:
        """Take the next answer, if one comes soon."""
        with suppress(queue.Empty):
            self._hear(*self.inbox.get(timeout=POLL / 2))

    def _hear(self, worker: Worker, line: str | None) -> None:
        if worker not in self.workers:
            return
        if line is None:  # it has ended
            self.workers.remove(worker)
            if worker.key:
                self._lose(self.running.pop(worker.key)[0], worker.cause())
                worker.key = ""
            worker.stop()
            return
        said = answer(line)
        if said is None or not worker.key:
            return
        key, worker.key = worker.key, ""
        spec, _ = self.running.pop(key)
        status = said["status"]
        if status == "machine":  # a process that lacked memory once may be broken for good
            self.workers.remove(worker)
            worker.stop()
        if status == "busy":
            self.pending[key] = spec
            self.busy_until[key] = time.monotonic() + POLL
        elif status == "place":
            self.pending[key] = spec
            self.place = PlaceError(said["error"])
        elif status in ("failed", "machine"):
            self._lose(spec, said["error"])
        elif result := self.store.result(spec):
            self._take(spec, result, cached=status == "cached")
        else:
            self._lose(spec, "its result vanished: the same command computes it again")

    # -- settling --

    def _take(self, spec: RunSpec, result: Result, cached: bool) -> None:
        self.status.done += 1
        self.cached += cached
        tidy(self.store.folder(spec))
        if cached:
            return
        seconds = float(result.provenance.get("seconds", 0.0))
        self.status.seconds.append(seconds)
        self._news(f"done {name(spec)} in {duration(seconds)}")
        if self.on_done is not None:
            self.on_done(result)

    def _lose(self, spec: RunSpec, reason: str) -> None:
        self.pending.pop(spec.key, None)
        self.lost[spec.key] = spec, reason
        self.status.failed += 1
        self._news(f"FAILED {name(spec)}: {reason}")

    def _news(self, text: str) -> None:
        self.view.news(f"[{self.status.done + self.status.failed}/{self.status.total}] {text}")
