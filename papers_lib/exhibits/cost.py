"""What a sweep would cost, from runs of the same kind that are already measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from papers_lib.exhibits.ledger import Row
from papers_lib.runs.display import duration
from papers_lib.runs.spec import RunSpec
from papers_lib.runs.store import Result, Store

Kind = tuple[str, str, str]


def pilots(specs: Sequence[RunSpec], store: Store) -> dict[Kind, dict[str, Any]]:
    """What the finished pilots of today's code say of the kinds of `specs`."""
    today = {(spec.paper, spec.profile, spec.code) for spec in specs}
    return {
        kind(found.spec): found.metrics["pilot"]
        for found in (store.finished() if specs else ())
        if found.spec.pilot and (found.spec.paper, found.spec.profile, found.provenance["code"]) in today
    }


def kind(spec: RunSpec) -> Kind:
    """What runs of about the same cost have in common: function, method, processes and data."""
    names = ("kind", "task", "method", "processes")
    return spec.function, " ".join(str(spec.settings.get(name, "")) for name in names), spec.data.name


def first_of_each(specs: Sequence[RunSpec]) -> list[RunSpec]:
    """The first run of each kind, as a pilot."""
    firsts: dict[Kind, RunSpec] = {}
    for spec in specs:
        firsts.setdefault(kind(spec), spec.as_pilot())
    return list(firsts.values())


def estimate(specs: Sequence[RunSpec], rows: Sequence[Row], store: Store) -> dict[str, Any]:
    """Runs to do and cached, and the seconds of one slot: per run what its pilot says, or its kind's median.

    The kind is method and profile in the ledger, else profile alone; `basis` says which was found.
    """
    # by key: a changed code makes a run to do again
    todo = [spec for spec in specs if store.result(spec) is None]
    known_pilots = pilots(todo, store)
    # None where no run of the profile was measured
    guesses = [
        known_pilots[kind(spec)]["seconds"] if kind(spec) in known_pilots else _seconds(spec, rows)
        for spec in todo
    ]
    known = [guess for guess in guesses if guess is not None]
    unknown = len(todo) - len(known)
    return {
        "to_do": len(todo),
        "cached": len(specs) - len(todo),
        "seconds": round(sum(known)),  # of what is known alone
        "unknown": unknown,
        "basis": "pilots in the store, else median seconds of ledger rows of the same method and profile, "
        "else of the profile",
    }


def pilot_line(result: Result) -> str:
    """What a finished pilot says."""
    of = result.metrics["pilot"]
    processes = result.spec.settings.get("processes", 1)
    text = f"pilot of {result.spec.label}: {f'each of {processes} processes ' * (processes > 1)}"
    text += f"{of['memory'] / 2**30:.2f} GiB"
    if "step" in of:
        rate = f"{of['images']:,.0f}" if of["images"] >= 10 else f"{of['images']:.2g}"
        text += f", {of['step']:.3g} s per step, {rate} images per second"
        text += f", {of['steps']:.0f} steps per epoch, {of['epochs']} epochs"
    return f"{text}: about {duration(of['seconds'])} per run"


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
