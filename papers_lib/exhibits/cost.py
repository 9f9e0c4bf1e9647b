"""What a sweep would cost, from runs of the same kind that are already measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from papers_lib.exhibits.ledger import Row
from papers_lib.runs.display import duration
from papers_lib.runs.spec import RunSpec
from papers_lib.runs.store import Store


def estimate(specs: Sequence[RunSpec], rows: Sequence[Row], store: Store) -> dict[str, Any]:
    """Runs to do and cached, and the seconds of one slot: per run the median of its kind.

    The kind is method and profile in the ledger, else profile alone; `basis` says which was found.
    """
    # by key: a changed code makes a run to do again
    todo = [spec for spec in specs if store.result(spec) is None]
    guesses = [_seconds(spec, rows) for spec in todo]  # None where no run of the profile was measured
    known = [guess for guess in guesses if guess is not None]
    unknown = len(todo) - len(known)
    return {
        "to_do": len(todo),
        "cached": len(specs) - len(todo),
        "seconds": round(sum(known)),  # of what is known alone
        "unknown": unknown,
        "basis": "median seconds of ledger rows of the same method and profile, else of the profile",
    }


def sentence(cost: dict[str, Any]) -> str:
    """The estimate in words."""
    text = f"{cost['to_do']} runs to do, {cost['cached']} in the store"
    measured = cost["to_do"] - cost["unknown"]
    if measured:
        text += f"; {measured} of them about {duration(cost['seconds'])} of one slot ({cost['basis']})"
    if cost["unknown"]:
        text += f"; the time of {cost['unknown']} is unknown: no run of their profile was ever measured"
    return text


def _seconds(spec: RunSpec, rows: Sequence[Row]) -> float | None:
    # sizes differ between profiles by orders of magnitude, between methods by a factor
    profile = [row for row in rows if row.profile == spec.profile]
    method = [row for row in profile if row.settings.get("method") == spec.settings.get("method")]
    kind = [row.seconds for row in method or profile]
    return statistics.median(kind) if kind else None  # one run on a busy machine does not move it
