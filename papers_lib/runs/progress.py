"""How far a run is: a small file in its folder, for whoever watches."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from math import isfinite
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import Field

from papers_lib.settings import Frozen

NONE: Mapping[str, float] = MappingProxyType({})


class Progress(Frozen):
    """Step `step` of `total`, a word on it, and the latest numbers of the run, such as its loss.

    Whoever reads it again and again has a curve that grows.
    """

    step: int = Field(ge=0, lt=2**53)
    total: int = Field(ge=0, lt=2**53)
    note: str = ""
    numbers: dict[str, float] = Field(default_factory=dict)


def reporter(folder: Path | str, every: float = 1.0) -> Callable[..., None]:
    """A callback `(step, total, note, numbers)` that writes FOLDER/progress.json at most once a second.

    The first and the last step are always written. A disk that is full does not stop the run here.
    """
    path = Path(folder) / "progress.json"
    last = float("-inf")

    def report(step: int, total: int, note: str = "", numbers: Mapping[str, Any] = NONE) -> None:
        nonlocal last
        if step < total and time.monotonic() - last < every:
            return
        last = time.monotonic()
        temporary = path.with_name(".progress.json.tmp")
        with suppress(OSError):  # no fsync: the next second brings another
            finite = {n: x for n, x in numbers.items() if isinstance(x, int | float) and isfinite(x)}
            text = Progress(step=step, total=total, note=note, numbers=finite).model_dump_json()
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
