"""Ledger rows of runs that nobody computed: what they measured stands in the test."""

from __future__ import annotations

from typing import Any

from papers_lib.exhibits.ledger import Row
from papers_lib.runs.spec import RunSpec

MADE = {
    "commit": "c" * 40,
    "dirty": False,
    "code": "f" * 64,
    "torch": "2.15.0",
    "device": "cpu",
    "seconds": 60.0,
    "finished": "2026-01-01T00:00:00Z",
}


def planted(spec: RunSpec, metrics: dict[str, Any], **changes: Any) -> Row:
    """The row of `spec` with these metrics; `changes` are other fields of it."""
    asked = {
        name: getattr(spec, name) for name in ("paper", "profile", "function", "settings", "seed", "data")
    }
    asked |= {"identity": spec.identity, "key": spec.identity, "needs": tuple(n.asked() for n in spec.needs)}
    return Row(**asked | MADE | {"metrics": metrics} | changes)
