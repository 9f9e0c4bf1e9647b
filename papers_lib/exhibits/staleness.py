"""Why a row no longer answers what the study asks today: the code, a setting, or the data changed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

from papers_lib.exhibits.ledger import Row, find
from papers_lib.runs import fingerprint
from papers_lib.runs.spec import RunSpec

State = Literal["current", "repeated", "older code", "other data", "not run", "not asked"]
CLOCK = ("seconds", "waiting")  # metrics that no second run repeats
CLOSE = 1e-6


class Reason(NamedTuple):
    """A planned run, or a row that no plan asks for, and what is to be said of it."""

    label: str
    seed: int
    state: State
    text: str

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return self._asdict()


def why(specs: Sequence[RunSpec], rows: Sequence[Row]) -> list[Reason]:
    """One reason for each planned run, then one for each row of the profile that no run asks for."""
    # warm starts are rows that only other runs ask for
    planned = {spec.identity for spec in specs} | {need.identity for spec in specs for need in spec.needs}
    profiles = {spec.profile for spec in specs}
    # rows of other profiles are another plan's
    left = [row for row in rows if row.identity not in planned and row.profile in profiles]
    twins = _twins(rows)
    return [_spec(spec, rows, twins) for spec in specs] + [_row(row, specs) for row in left]


class _Twins(NamedTuple):
    """What two versions of the code said of one question and of one data set's bytes."""

    codes: frozenset[str]
    arm: dict[str, Any]
    alike: bool | None  # none: they differ, on two processors, whose kernels round differently


def _spec(spec: RunSpec, rows: Sequence[Row], twins: Sequence[_Twins]) -> Reason:
    row = find(rows, spec)
    if row is None:
        # the same question, answered on other data
        others = [row for row in rows if row.identity == spec.identity]
        if others:
            text = f"data {spec.data.fingerprint[:12]} here, {others[-1].data.fingerprint[:12]} in the ledger"
            return Reason(spec.label, spec.seed, "other data", text)
        return Reason(spec.label, spec.seed, "not run", "no row in the ledger")
    # the fingerprint of what training reaches, not the commit
    code = spec.code
    if row.code == code:
        return Reason(spec.label, spec.seed, "current", f"commit {row.commit[:12]}")
    # none: the commit is not in this clone
    changed = fingerprint.changed_since(row.commit, spec.module, spec.unread)
    files = "; ".join(changed) if changed else "files cannot be told: the row's commit is not here"
    text = f"made at {row.commit[:12]}; since then: {files}"
    found = [pair for pair in twins if pair.codes == {row.code, code}]
    again = [pair for pair in found if pair.alike is not None]
    if len(found) > len(again):
        text += f"; runs repeated on another processor differ: {len(found) - len(again)}"
    if not again:
        chain = _chain(row, code, twins)
        if chain:
            text += f"; version after version of the code gives the same numbers in {chain} runs repeated"
        return Reason(spec.label, spec.seed, "repeated" if chain else "older code", text)
    alike = sum(pair.alike is True for pair in again)
    text += f"; today's code gives the same numbers in {alike} of {len(again)} runs repeated"
    # of its own arm, one at least
    here = any(pair.arm == _arm(row) for pair in again) and alike == len(again)
    return Reason(spec.label, spec.seed, "repeated" if here else "older code", text)


def _chain(row: Row, code: str, twins: Sequence[_Twins]) -> int:
    """Repeats of the row's arm that lead from its code to today's over versions between; 0 if none do.

    Each step from version to version is one that no repeat of any arm doubts.
    """
    doubted = {pair.codes for pair in twins if pair.alike is False}
    own = [p for p in twins if p.alike and p.arm == _arm(row) and p.codes not in doubted]
    reached = {row.code}
    while step := [pair.codes for pair in own if pair.codes & reached and not pair.codes <= reached]:
        reached.update(*step)
    return sum(len(pair.codes) > 1 and pair.codes <= reached for pair in own) if code in reached else 0


def _twins(rows: Sequence[Row]) -> list[_Twins]:
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row.identity, row.data.fingerprint), []).append(row)
    pairs = [pair for same in found.values() for pair in itertools.combinations(same, 2)]
    return [_Twins(frozenset((one.code, two.code)), _arm(one), _agree(one, two)) for one, two in pairs]


def _agree(one: Row, two: Row) -> bool | None:
    alike = _alike(one.metrics, two.metrics)
    return alike if alike or one.device == two.device else None


def _arm(row: Row) -> dict[str, Any]:
    return {name: value for name, value in row.settings.items() if name != "seed"}


def _alike(one: Any, two: Any) -> bool:
    """Whether all metrics agree, but for those of the clock: numbers to `CLOSE`."""
    ours, theirs = dict(_leaves(one)), dict(_leaves(two))
    return ours.keys() == theirs.keys() and all(
        math.isclose(value, theirs[name], rel_tol=CLOSE, abs_tol=CLOSE)
        if isinstance(value, float | int) and isinstance(theirs[name], float | int)
        else value == theirs[name]
        for name, value in ours.items()
    )


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, one in items:
            if key not in CLOCK:
                yield from _leaves(one, f"{name}.{key}")
    else:
        yield name, value


def _row(row: Row, specs: Sequence[RunSpec]) -> Reason:
    """A row that nothing asks for: how it differs from the planned run most like it."""
    # the fewest differences: most likely what it was once asked for
    nearest = min((_differences(row, spec) for spec in specs), key=len)
    text = ", ".join(f"{name} {had} in the row, {has} asked" for name, (had, has) in nearest.items())
    return Reason(
        str(row.settings.get("method", row.function)), row.seed, "not asked", text or "needs differ"
    )


def _differences(row: Row, spec: RunSpec) -> dict[str, tuple[Any, Any]]:
    names = row.settings.keys() | spec.settings.keys()
    pairs = {name: (row.settings.get(name), spec.settings.get(name)) for name in sorted(names)}
    pairs["data"] = (row.data.name, spec.data.name)  # compared like a setting
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
