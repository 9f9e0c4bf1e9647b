"""Ledger rows of runs that nobody computed, and printed numbers that no paper has: both stand in the test."""

from __future__ import annotations

from typing import Any

import pytest

from papers_lib.exhibits import published
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


def reprint(monkeypatch: pytest.MonkeyPatch, paper: str, changes: dict[tuple[str, str, str], float]) -> None:
    """Let the paper, or what is quoted beside it, print other numbers."""
    frame = published.load(paper)
    places = list(zip(frame["exhibit"], frame["row"], frame["column"], strict=True))
    for place, value in changes.items():
        frame.loc[places.index(place), "value"] = value
    monkeypatch.setattr(published, "load", lambda paper: frame)
