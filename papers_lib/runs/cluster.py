"""The Ray executor: each run is a task of a cluster, which starts the same worker process as the local one.

`RAY_ADDRESS` names the cluster, as everywhere in Ray; without it one is started on this machine for the call.
A node that sees the store computes in the run's folder, so that another one can go on where it was lost. A
node that does not gets the files that the run needs with the task, and its answer holds the files that the
run left, which are written here.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from filelock import Timeout

from papers_lib.errors import PapersError
from papers_lib.files import locked, place_error, replacing
from papers_lib.runs.display import display
from papers_lib.runs.local import LocalWorker
from papers_lib.runs.spec import RunSpec
from papers_lib.runs.store import MEND, Result, Store, lock, read_result
from papers_lib.runs.sweep import Inbox, Summary, Sweep, Worker, answer

SMALLEST = 1e-4  # part of a CPU or a GPU
RETRIES = 3  # of a run whose process, Ray worker or node was lost
LACKS = "executor 'ray' lacks the package ray: pip install -e '.[cluster]', or use executor 'local'"
PASSED = ("PAPERS_WINGS", "PYTHONPATH")  # of this environment to the nodes'

Files = dict[str, bytes]


def execute(
    specs: Sequence[RunSpec],
    store: Store,
    slots: int = 1,
    retry_failed: bool = False,
    show: bool = True,
    on_done: Callable[[Result], None] | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
) -> Summary:
    """Compute `specs` on a Ray cluster; the rest is as `papers_lib.runs.local.execute` has it.

    A run takes `num_cpus`, by default 1, and `num_gpus`, by default one GPU if the cluster has any and the
    run's device is not `cpu`. An existing cluster computes as many runs at once as it has room for; one that
    is started for the call, `slots`.

    Raises:
        PapersError: no ray, a cluster that does not answer, or one without a node of that size.
    """
    cpus = 1.0 if num_cpus is None else num_cpus
    if cpus <= 0:
        raise PapersError("a run needs a CPU, or a part of one: give --num-cpus a number above 0")
    for name, amount in (("--num-cpus", cpus), ("--num-gpus", num_gpus)):
        if amount and amount < SMALLEST:
            raise PapersError(f"{name} {amount:g}: Ray shares out no part below {SMALLEST:g}; give more")
    with _connected(slots * cpus):
        sweep = RaySweep(store, slots, retry_failed, on_done, display(show))
        sweep.cpus, sweep.gpus = cpus, num_gpus
        return sweep.execute(specs)


@contextmanager
def _connected(cpus: float) -> Iterator[None]:
    """A connection to the cluster, which ends with the block unless it was there before."""
    try:
        import ray
    except ImportError:
        raise PapersError(LACKS) from None
    if ray.is_initialized():  # by the notebook
        yield
        return
    address = os.environ.get("RAY_ADDRESS") or "local"
    own: dict[str, Any] = {}
    if address == "local":
        own = {"num_cpus": max(1, round(cpus)), "include_dashboard": False}
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        host, _, port = address.rpartition("/")[2].rpartition(":")
        if port.isdecimal():  # Ray itself would try for minutes
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        ray.init(address, log_to_driver=False, logging_level="error", **own)
    except Exception as error:
        mend = "see its message" if own else "start it with `ray start --head`, or unset RAY_ADDRESS"
        reason = " ".join(str(error).split())[:200]
        raise PapersError(f"no Ray cluster at {address} ({reason}): {mend}") from None
    try:
        if threading.current_thread() is threading.main_thread():
            for number, handler in handlers.items():  # Ray's own would end a sweep without a word
                signal.signal(number, handler)
        yield
    finally:
        ray.shutdown()


# -- on a node --


class KilledError(Exception):
    """The run's process was killed from outside: Ray tries again, here or on another node."""


class Order(NamedTuple):
    """What a node is told: the run, where it lies, how it is known there, and the files of its needs."""

    spec: str
    folder: str
    mark: tuple[int, ...]
    needs: list[tuple[str, Any]]  # spec of a needed run, and a reference to its files
    threads: int
    environment: dict[str, str]


def _compute(order: Order) -> tuple[str, Files]:
    """Compute a run on this node: the worker's answer, and what the run left if the store is not seen."""
    import ray

    os.environ.update(order.environment)
    folder = Path(order.folder)
    if _mark(folder) == order.mark:
        return _answer(folder, order.threads), {}
    with tempfile.TemporaryDirectory(prefix="papers-") as root:
        store = Store(root)
        for spec, files in order.needs:
            _write(store.prepare(RunSpec.model_validate_json(spec)), ray.get(files))
        folder = store.prepare(RunSpec.model_validate_json(order.spec))
        return _answer(folder, order.threads), _read(folder)


def _mark(folder: Path) -> tuple[int, ...]:
    """By which a node knows that a folder of this name is this one, and not one of its own."""
    try:
        stat = (folder / "spec.json").stat()
    except OSError:
        return ()
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _answer(folder: Path, threads: int) -> str:
    """What the worker process says of the run in `folder`."""
    inbox: Inbox = queue.Queue()
    worker = LocalWorker(str(folder), threads, inbox)
    worker.key = folder.name
    try:
        while (line := inbox.get()[1]) is not None:
            if answer(line):
                worker.key = ""  # it ends by itself
                return line
        raise KilledError(worker.cause()) if worker.killed else RuntimeError(worker.cause())
    finally:
        worker.stop()


def _read(folder: Path) -> Files:
    """What a run has left, its spec apart and the checkpoints that it needs only until it has its result."""
    apart = (".", "spec.json", "checkpoint.pt")
    files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(apart)]
    return {path.name: path.read_bytes() for path in files}


def _write(folder: Path, files: Files) -> None:
    """Write what a run left, its result last, so that whoever sees the result finds the rest."""
    for name in sorted(files, key="result.json".__eq__):
        with replacing(folder / Path(name).name, MEND) as temporary:
            temporary.write_bytes(files[name])


# -- here --


class Task:
    """A run on the cluster, as the sweep sees it."""

    def __init__(self, reference: Any, folder: Path, inbox: Inbox, hold: ExitStack) -> None:
        self.key, self.folder, self.reference = "", folder, reference
        self.inbox, self.hold, self.reason = inbox, hold, ""
        reference.future().add_done_callback(self._ended)

    def _ended(self, future: Future[tuple[str, Files]]) -> None:
        try:
            line, files = future.result()
            if files:
                with lock(self.folder):  # busy: it has the result, or will have it
                    if read_result(self.folder) is None:
                        _write(self.folder, files)
            self.inbox.put((self, line))
        except Timeout:
            self.inbox.put((self, '{"status": "busy"}'))
        except Exception as error:  # of Ray, of the run's process, or of the store
            cause = getattr(error, "cause", None) or error
            lines = str(cause).split("\n")
            self.reason = (
                lines[0] if isinstance(cause, KilledError) else f"{type(cause).__name__}: {lines[0]}"
            )
        self.inbox.put((self, None))

    def cause(self) -> str:
        """Why it ended without an answer."""
        return self.reason

    def stop(self) -> None:
        """Take it from the cluster, and let other sweeps have the run."""
        if self.key:
            import ray

            with suppress(Exception):  # the cluster may be gone
                ray.cancel(self.reference, force=True)
        self.hold.close()


class RaySweep(Sweep):
    """A sweep on a cluster."""

    cpus: float
    gpus: float | None

    def check(self, unfinished: Sequence[RunSpec]) -> None:
        """Refuse runs for which no node is large enough: Ray would wait for one for ever."""
        import ray

        if self.gpus is None:
            there = ray.cluster_resources().get("GPU", 0) > 0
            self.gpus = float(there and any(spec.device != "cpu" for spec in unfinished))
        if any(spec.device == "cuda" for spec in unfinished) and not self.gpus:
            raise PapersError(
                "device cuda, and the cluster has no GPU: add a node with one, or take device cpu"
            )
        if not self.room():
            raise PapersError(
                f"no node of the cluster has {self.cpus:g} CPUs and {self.gpus:g} GPUs for a run: ask for "
                "less (--num-cpus, --num-gpus), or add a node"
            )
        self.compute = ray.remote(_compute).options(
            num_cpus=self.cpus,
            num_gpus=self.gpus,
            max_retries=RETRIES,
            retry_exceptions=[KilledError],
        )
        self.left: dict[str, Any] = {}  # references to the files of needed runs

    def room(self) -> int:
        """How many runs the nodes that are there can take."""
        import ray

        sizes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        wanted = {"CPU": self.cpus, "GPU": self.gpus or 0}
        wanted = {kind: amount for kind, amount in wanted.items() if amount}
        return sum(min(int(size.get(kind, 0) / n) for kind, n in wanted.items()) for size in sizes)

    def start(self, spec: RunSpec, folder: Path) -> Worker | None:
        """Give the run to the cluster, unless another sweep has it there."""
        import ray

        hold = ExitStack()
        try:
            hold.enter_context(locked(folder / ".sweep.lock"))
        except Timeout:
            return None
        except OSError as error:
            raise place_error(folder, error, MEND) from None
        for need in spec.needs:
            if need.key not in self.left:
                self.left[need.key] = ray.put(_read(self.store.folder(need)))
        needs = [(need.model_dump_json(), self.left[need.key]) for need in spec.needs]
        order = Order(
            spec=spec.model_dump_json(),
            folder=str(folder),
            mark=_mark(folder),
            needs=needs,
            threads=max(1, int(self.cpus)),
            environment={name: os.environ[name] for name in PASSED if name in os.environ},
        )
        task = Task(self.compute.remote(order), folder, self.inbox, hold)
        self.workers.append(task)
        return task
