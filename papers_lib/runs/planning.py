"""What the plans of all wings share: refusing names that nothing has, and files named by their content."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path

from papers_lib.errors import PapersError

SHOWN = 12  # names that an error lists, the most alike


def refuse_twice(name: str, values: tuple[object, ...]) -> None:
    """Refuse a parameter that holds a value twice.

    Raises:
        PapersError: it does.
    """
    if twice := [value for value in values if values.count(value) > 1]:
        raise PapersError(f"{name}: {twice[0]} stands twice; name each once")


def refuse_unknown(name: str, values: tuple[str, ...], known: Collection[str]) -> None:
    """Refuse a parameter that holds a name which is not known, or one twice.

    Raises:
        PapersError: it does.
    """
    refuse_twice(name, values)
    if unknown := [value[:60] for value in values if value not in known]:
        near = list(known)
        if len(near) > SHOWN:
            near = [*difflib.get_close_matches(unknown[0], near, SHOWN, cutoff=0), f"… ({len(near)} in all)"]
        raise PapersError(f"{name}: unknown '{unknown[0]}'; known are {', '.join(near)}")


def sha256(path: Path) -> str:
    """SHA-256 of a file of weights.

    Raises:
        PapersError: there is none.
    """
    if not path.is_file():
        raise PapersError(f"no weights at {path}; give the path of a state dict's file")
    return _sha256(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _sha256(path: Path, _mtime: int) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
