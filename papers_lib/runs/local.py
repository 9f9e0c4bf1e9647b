"""The local executor: worker processes in N slots, crash-isolated, cached, resumable.

From `small` on each run has a process of its own. Below, where importing torch costs as much as the
run, one process per slot takes runs in turn. Either way a killed worker loses its current run alone.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from papers_lib.runs import parent
from papers_lib.runs.display import display
from papers_lib.runs.spec import RunSpec
from papers_lib.runs.store import Result, Store
from papers_lib.runs.sweep import Inbox, Summary, Sweep, Worker
from papers_lib.settings import repository

SHORT = ("smoke", "frozen")  # profiles whose runs take seconds


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
    return LocalSweep(store, max(1, slots), retry_failed, on_done, display(show)).execute(specs)


class LocalWorker:
    """One worker process, for the run in the folder `argument`, or with `-` for one run after the other."""

    def __init__(self, argument: str, threads: int, inbox: Inbox) -> None:
        self.key = ""  # of the run that it is at
        self.folder = Path(argument)  # of the run that it was at last
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
        threading.Thread(target=self._wait, args=(inbox,), daemon=True).start()

    def _listen(self, inbox: Inbox) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            inbox.put((self, line))

    def _wait(self, inbox: Inbox) -> None:
        self.process.wait()
        self.reader.join(timeout=1)  # its last word; a child that lives on may hold the pipe open
        inbox.put((self, None))

    def give(self, folder: Path) -> bool:
        """Hand a shared worker its next run; False if it is dead."""
        assert self.process.stdin is not None
        self.folder = folder
        try:
            self.process.stdin.write(f"{folder}\n")
            self.process.stdin.flush()
        except OSError:
            return False
        return True

    @property
    def killed(self) -> bool:
        """Whether a signal from outside ended it, so that the same run may well succeed."""
        code = self.process.wait()
        return -code in (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)

    def cause(self) -> str:
        """Why it ended without an answer."""
        code = self.process.wait()
        if self.killed:
            hint = ", perhaps out of memory" if -code == signal.SIGKILL else ""
            return f"killed by {signal.Signals(-code).name}{hint}; the same command resumes it"
        if code < 0:
            names = {number.value: number.name for number in signal.Signals}
            log = self.folder / "log.txt"
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


class LocalSweep(Sweep):
    """A sweep on this machine."""

    def check(self, unfinished: Sequence[RunSpec]) -> None:
        """Refuse a GPU that is not there."""
        if any(spec.device == "cuda" for spec in unfinished):
            from papers_lib import compute

            compute.device("cuda")

    def start(self, spec: RunSpec, folder: Path) -> Worker:
        """A process that has begun on `folder`: an idle shared one if there is, else a new one."""
        if spec.profile not in SHORT:
            threads = max(1, _cores() // self.slots)
            self.workers.append(LocalWorker(str(folder), threads, self.inbox))
            return self.workers[-1]
        for worker in [w for w in self.workers if isinstance(w, LocalWorker) and w.shared and not w.key]:
            if worker.give(folder):
                return worker
            self.workers.remove(worker)
        worker = LocalWorker("-", 1, self.inbox)  # to networks of this size a second thread is a burden
        self.workers.append(worker)
        worker.give(folder)
        return worker


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
