"""Any data set by its name, and which reader it has."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from papers_lib.errors import PapersError

# Each has `load` and either `NAMES`, or the one `NAME`.
READERS = ("cars196", "classification", "coco", "faces", "features", "folder", "reid", "sysu30k", "voc")
WITHDRAWN = ("faces", "reid")  # readers of sets whose authors took one back


def load(root: Path, name: str, acknowledge_withdrawn: bool = True) -> Any:
    """What the reader of `name` says of the data under `root`, with its `fingerprint` and `stand_in`.

    A withdrawn set is read by default: its holder has acknowledged that where the run was planned.

    Raises:
        PapersError: an unknown name, nothing there, or data that is not whole, or is withdrawn.
    """
    for reader in READERS:
        if name in _names(reader):
            module = _module(reader)
            told = {"acknowledge_withdrawn": acknowledge_withdrawn} if reader in WITHDRAWN else {}
            return module.load(root, name, **told) if hasattr(module, "NAMES") else module.load(root)
    raise PapersError(f"unknown data set '{name}': `python -m data_prep list` names all")


def not_read(names: Iterable[str]) -> frozenset[str]:
    """The readers, as modules, that none of these data sets needs; none if a data set is not of ours."""
    names = set(names)
    if names - {name for reader in READERS for name in _names(reader)}:
        return frozenset()
    return frozenset(_module(reader).__name__ for reader in READERS if not names & set(_names(reader)))


def _module(reader: str) -> ModuleType:
    return import_module(f"papers_lib.datasets.{reader}")


@cache
def _names(reader: str) -> tuple[str, ...]:
    module = _module(reader)
    return tuple(module.NAMES) if hasattr(module, "NAMES") else (module.NAME,)
