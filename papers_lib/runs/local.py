"""The local executor: worker processes in N slots, crash-isolated, cached, resumable.

From `small` on each run has a process of its own. Below, where importing torch costs as much as the
run, one process per slot takes runs in turn. Either way a killed worker loses its current run alone.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from papers_lib.files import PlaceError
from papers_lib.runs import parent, progress
from papers_lib.runs.display import Display, Status, display, duration
from papers_lib.runs.spec import RunSpec
from papers_lib.runs.store import Failure, Result, Store, tidy
from papers_lib.runs.worker import command as worker_command
from papers_lib.settings import repository

SHORT = ("smoke", "frozen")  # profiles whose runs take seconds
POLL = 0.5  # seconds between two looks at a run that another process computes


class Summary(NamedTuple):
    """How a sweep ended: runs computed, runs found finished, and the others with the reason."""

    done: int
    cached: int
    failed: list[tuple[RunSpec, str]]


def execute(
    specs: Sequence[RunSpec],
    store: Store,
    slots: int = 1,
    retry_failed: bool = False,
    show: bool = True,
    on_done: Callable[[Result], None] | None = None,
) -> Summary:
    """Compute `specs`, each once, after the runs that they need.

    A finished run is taken from the store; a run that another process is at is waited for; one
    that failed before is left out with its reason unless `retry_failed`, or unless its cause was
    bad input; one that was killed, or for which the machine had too little memory, starts again from
    its checkpoint. `on_done` gets each result that this call computed.

    Raises:
        PlaceError: the store cannot be written. Runs that were under way are finished first.
        PapersError: a GPU was asked for, and there is none.
        KeyboardInterrupt: after the workers are stopped. The same call resumes.
    """
    view = display(show)
    sweep = _Sweep(store, max(1, slots), retry_failed, on_done, view)
    try:
        return sweep.loop(specs)
    except KeyboardInterrupt:
        print(f"stopped: {sweep.status.line()}; the same command resumes", file=sys.stderr)
        raise
    finally:
        while sweep.workers:
            sweep.workers.pop().stop()
        view.close()


def command(spec: RunSpec, store: Store) -> str:
    """The shell command that computes `spec`, its folder made ready. Its needs come first."""
    return worker_command(spec, store.prepare(spec))


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


class _Worker:
    """One worker process; its answers arrive in `inbox` as (worker, line), None at its end."""

    def __init__(self, argument: str, threads: int, inbox: queue.Queue[tuple[_Worker, str | None]]):
        self.key = ""  # of the run that it is at
        self.folder: Path | None = None  # of the run that it was at last
        self.shared = argument == "-"
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - read when it dies
        path = os.pathsep.join(filter(None, [str(repository()), os.environ.get("PYTHONPATH")]))
        environment = {
            # Threads that spin while they wait slow each other down by far where processes share the cores.
            "OMP_WAIT_POLICY": "passive",
            **os.environ,
            **parent.named(),
            "OMP_NUM_THREADS": str(threads),  # for BLAS and torch
            "PAPERS_WORKERS": str(threads),  # that decode images
            "PYTHONPATH": path,  # this very `papers_lib`
            "WORLD_SIZE": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "papers_lib.runs.worker", argument],
            stdin=subprocess.PIPE if self.shared else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
            env=environment,
        )
        self.reader = threading.Thread(target=self._listen, args=(inbox,), daemon=True)
        self.reader.start()

    def _listen(self, inbox: queue.Queue[tuple[_Worker, str | None]]) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            inbox.put((self, line))
        inbox.put((self, None))

    def give(self, folder: Path) -> bool:
        """Hand a shared worker its next run; False if it is dead."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{folder}\n")
            self.process.stdin.flush()
        except OSError:
            return False
        return True

    def cause(self) -> str:
        """Why it ended without an answer."""
        code = self.process.wait()
        if -code in (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            hint = ", perhaps out of memory" if -code == signal.SIGKILL else ""
            return f"killed by {signal.Signals(-code).name}{hint}; the same command resumes it"
        if code < 0:
            names = {number.value: number.name for number in signal.Signals}
            log = (self.folder or Path("the run's folder")) / "log.txt"
            return f"died of {names.get(-code, f'signal {-code}')}, a crash in native code: see {log}"
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"its process ended with code {code}: {lines[-1] if lines else 'no message'}"

    def stop(self) -> None:
        """End the process: politely, then not."""
        if self.process.stdin is not None:
            with suppress(OSError):
                self.process.stdin.close()
        if self.key:
            self.process.terminate()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class _Sweep:
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
        self.workers: list[_Worker] = []
        self.inbox: queue.Queue[tuple[_Worker, str | None]] = queue.Queue()
        self.place: PlaceError | None = None  # the store cannot be written: start nothing more
        self.cached = 0
        self.status = Status(total=0, slots=slots)

    def loop(self, specs: Sequence[RunSpec]) -> Summary:
        """Compute `specs`."""
        self.pending = {spec.key: spec for spec in ordered(specs, self.store)}
        self.old_failures = {key: self._failure_mark(spec) for key, spec in self.pending.items()}
        unfinished = [spec for spec in self.pending.values() if self.store.result(spec) is None]
        if any(spec.device == "cuda" for spec in unfinished):
            from papers_lib import compute

            compute.device("cuda")  # says once, and before anything starts, what each run would say
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
        for key, spec in list(self.pending.items()):
            if len(self.running) == self.slots:
                return
            if not self._ready(key, spec):
                continue
            try:
                folder = self.store.prepare(spec)
            except PlaceError as error:
                self.place = error
                return
            worker = self._worker(spec.profile in SHORT, folder)
            worker.key, worker.folder = key, folder
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

    def _worker(self, shared: bool, folder: Path) -> _Worker:
        """A process that has begun on `folder`: an idle shared one if there is, else a new one."""
        if not shared:
            threads = max(1, _cores() // self.slots)
            self.workers.append(_Worker(str(folder), threads, self.inbox))
            return self.workers[-1]
        for worker in [w for w in self.workers if w.shared and not w.key]:
            if worker.give(folder):
                return worker
            self.workers.remove(worker)
        worker = _Worker("-", 1, self.inbox)  # to networks of this size a second thread is a burden
        self.workers.append(worker)
        worker.give(folder)
        return worker

    # -- listening --

    def _listen(self) -> None:
        """Take the next answer; after a silence, look for dead workers whose children hold the pipe."""
        try:
            self._hear(*self.inbox.get(timeout=POLL / 2))
        except queue.Empty:
            for worker in [w for w in self.workers if w.process.poll() is not None]:
                worker.reader.join(timeout=1)  # else its last word is in the inbox
                if worker.reader.is_alive():
                    self._hear(worker, None)

    def _hear(self, worker: _Worker, line: str | None) -> None:
        if worker not in self.workers or (line is not None and not worker.key):
            return
        if line is None:  # it has ended
            self.workers.remove(worker)
            if worker.key:
                self._lose(self.running.pop(worker.key)[0], worker.cause())
            return
        try:
            answer = json.loads(line)
            status = answer["status"]
        except (ValueError, TypeError, KeyError):  # something else wrote to the worker's stdout
            return
        key, worker.key = worker.key, ""
        spec, _ = self.running.pop(key)
        if status == "machine":  # a process that lacked memory once may be broken for good
            self.workers.remove(worker)
            worker.stop()
        if status == "busy":
            self.pending[key] = spec
            self.busy_until[key] = time.monotonic() + POLL
        elif status == "place":
            self.pending[key] = spec
            self.place = PlaceError(answer["error"])
        elif status in ("failed", "machine"):
            self._lose(spec, answer["error"])
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


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
