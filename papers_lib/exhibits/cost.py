"""What a sweep would cost, from runs of the same kind that are already measured."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from papers_lib.exhibits.ledger import Row
from papers_lib.runs.display import duration
from papers_lib.runs.spec import RunSpec
from papers_lib.runs.store import Result, Store

Kind = tuple[str, str, str]


def pilots(specs: Sequence[RunSpec], store: Store) -> dict[Kind, Result]:
    """The finished pilots of today's code of the kinds of `specs`."""
    today = {(spec.paper, spec.profile, spec.code) for spec in specs}
    return {
        kind(found.spec): found
        for found in (store.finished() if specs else ())
        if found.spec.pilot and (found.spec.paper, found.spec.profile, found.provenance["code"]) in today
    }


def kind(run: RunSpec | Row) -> Kind:
    """What runs whose cost differs by their length alone share: function, method, processes and data."""
    names = ("kind", "task", "method", "processes")
    return run.function, " ".join(str(run.settings.get(name, "")) for name in names), run.data.name


def heaviest_of_each(specs: Sequence[RunSpec]) -> list[RunSpec]:
    """Of each kind the run of the largest batch, the first of equals, as a pilot: if it fits, all do."""
    heaviest: dict[Kind, RunSpec] = {}
    for spec in specs:
        found = heaviest.setdefault(kind(spec), spec)
        if spec.settings.get("batch_size", 0) > found.settings.get("batch_size", 0):
            heaviest[kind(spec)] = spec
    return [spec.as_pilot() for spec in heaviest.values()]


def estimate(specs: Sequence[RunSpec], rows: Sequence[Row], store: Store) -> dict[str, Any]:
    """Runs to do and cached, and the seconds of one slot: per run what its pilot says, or its kind's median.

    The kind is that of the ledger's rows of the profile, whatever their data, else the profile alone; `basis`
    says which was found. Seconds are those of the run's own length, as far as settings tell it.
    """
    # by key: a changed code makes a run to do again
    todo = [spec for spec in specs if store.result(spec) is None]
    known_pilots = pilots(todo, store)
    # None where no run of the profile was measured
    guesses = [_seconds(spec, known_pilots.get(kind(spec)), rows) for spec in todo]
    known = [guess for guess in guesses if guess is not None]
    unknown = len(todo) - len(known)
    return {
        "to_do": len(todo),
        "cached": len(specs) - len(todo),
        "seconds": round(sum(known)),  # of what is known alone
        "unknown": unknown,
        "basis": "pilots in the store, else median seconds of ledger rows of the same method and profile, "
        "else of the profile, by each run's epochs, steps and images",
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


def _seconds(spec: RunSpec, pilot: Result | None, rows: Sequence[Row]) -> float | None:
    if pilot:
        of = pilot.metrics["pilot"]
        trained = of.get("step", 0.0) * of.get("steps", 0.0) * of["epochs"]
        share = min(1.0, trained / of["seconds"]) if trained else 0.0
        return float(of["seconds"] * _times(spec.settings, pilot.spec.settings, share))
    profile = [row for row in rows if row.profile == spec.profile]
    same = [row for row in profile if kind(row)[:2] == kind(spec)[:2]]
    seconds = [row.seconds * _times(spec.settings, row.settings) for row in same or profile]
    return statistics.median(seconds) if seconds else None  # one run on a busy machine does not move it


def _times(asked: Mapping[str, Any], measured: Mapping[str, Any], share: float = 1.0) -> float:
    """How many times as long a run takes as one that was measured, by what both their settings say.

    Where an epoch is a pass through the images, their number counts, and not how many a batch has. Where it
    is so many steps, these and their batch count, in the `share` of the time that steps take.
    """

    def told(*names: str) -> list[str]:
        return [name for name in names if asked.get(name) and measured.get(name)]  # 0: as the data has it

    def ratio(names: Sequence[str]) -> float:
        return float(math.prod(asked[name] / measured[name] for name in names))

    steps = told("iters_per_epoch", "steps")
    longer = ratio([*steps, *told("batch_size")]) if steps else 1.0
    return ratio(told("epochs", "images")) * (1 - share + share * longer)
