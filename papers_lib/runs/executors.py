"""Executors by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from papers_lib.errors import PapersError
from papers_lib.runs import local
from papers_lib.runs.local import Summary
from papers_lib.runs.spec import RunSpec
from papers_lib.runs.store import Result, Store


def execute(
    name: str,
    specs: Sequence[RunSpec],
    store: Store,
    slots: int = 1,
    retry_failed: bool = False,
    show: bool = True,
    on_done: Callable[[Result], None] | None = None,
) -> Summary:
    """Compute `specs` with the executor `name`; see `papers_lib.runs.local.execute`.

    Raises:
        PapersError: an executor that is not there.
    """
    if name == "ray":
        raise PapersError("executor 'ray' is not built yet: use executor 'local'")
    if name != "local":
        raise PapersError(f"unknown executor '{name}': use 'local'")
    return local.execute(specs, store, slots, retry_failed, show, on_done)
