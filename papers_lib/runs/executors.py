"""Executors by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from papers_lib.errors import PapersError
from papers_lib.runs import cluster, local
from papers_lib.runs.spec import RunSpec
from papers_lib.runs.store import Result, Store
from papers_lib.runs.sweep import Summary


def execute(
    name: str,
    specs: Sequence[RunSpec],
    store: Store,
    slots: int = 1,
    retry_failed: bool = False,
    show: bool = True,
    on_done: Callable[[Result], None] | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
) -> Summary:
    """Compute `specs` with the executor `name`; see `papers_lib.runs.local.execute` and `cluster.execute`.

    Raises:
        PapersError: an executor that is not there, or that does not share out CPUs and GPUs.
    """
    if name == "ray":
        return cluster.execute(specs, store, slots, retry_failed, show, on_done, num_cpus, num_gpus)
    if name != "local":
        raise PapersError(f"unknown executor '{name}': use 'local' or 'ray'")
    if num_cpus is not None or num_gpus is not None:
        raise PapersError("CPUs and GPUs per run are for executor 'ray': use it, or slots with 'local'")
    return local.execute(specs, store, slots, retry_failed, show, on_done)
