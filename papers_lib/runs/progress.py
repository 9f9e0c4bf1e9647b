"""How far a run is: a small file in its folder, for whoever watches."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pydantic import Field

from papers_lib.settings import Frozen


class Progress(Frozen):
    """Step `step` of `total`, and a word on it."""

    step: int = Field(ge=0, lt=2**53)
    total: int = Field(ge=0, lt=2**53)
    note: str = ""


def reporter(folder: Path | str, every: float = 1.0) -> Callable[[int, int, str], None]:
    """A callback `(step, total, note)` that writes FOLDER/progress.json at most once a second.

    The first and the last step are always written. A disk that is full does not stop the run here.
    """
    path = Path(folder) / "progress.json"
    last = float("-inf")

    def report(step: int, total: int, note: str = "") -> None:
        nonlocal last
        if step < total and time.monotonic() - last < every:
            return
        last = time.monotonic()
        temporary = path.with_name(".progress.json.tmp")
        with suppress(OSError):  # no fsync: the next second brings another
            text = Progress(step=step, total=total, note=note).model_dump_json()
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)

    return report


def read(folder: Path | str) -> Progress | None:
    """The last report of the run in `folder`, or None."""
    try:
        text = (Path(folder) / "progress.json").read_text(encoding="utf-8")
        return Progress.model_validate_json(text)
    except (OSError, ValueError):
        return None
