"""What a study says in tables: its arms, the sizes of its profiles, its claims and its errata.

A wing's `study/` folder holds

    arms.csv        one line per arm: a run by name, and how it differs from its profile's settings
    profiles.toml   one section per profile: seeds, data set, and the settings that all arms share
    claims.csv      one line per statement that our runs can hold or break
    errata.csv      one line per misprint; code in `errata.py` checks those that it can
    published/      every number that the paper prints (`papers_lib.exhibits.published`)

so that a researcher reads and extends them without reading code.
"""

from __future__ import annotations

import csv
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from papers_lib.errors import PapersError


class Arm(NamedTuple):
    """A run by name: its label for readers, its sweep, its changes, and the arm that it is held against.

    `changes` are settings of the run; `more` are the other columns of the wing's table, as text.
    """

    name: str
    label: str
    sweep: str
    against: str
    changes: dict[str, Any]
    more: dict[str, str]


@dataclass(frozen=True)
class Size:
    """What a profile fixes.

    `stand_in` is the folder of drawn data below the data's root, empty where data is real; `settings` are
    common to all runs; `more` holds the profile's other tables and values (`[small.warm]`).
    """

    seeds: tuple[int, ...]
    dataset: str
    stand_in: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)


class Statement(NamedTuple):
    """A line of `claims.csv`: what the paper says and where, the statement that tests it, and the test.

    `test` is "greater" (side `a` is ahead of side `b` in `metric`), "greater_blocked" (so on the mean over
    data sets) or the name of one of the wing's own; `decimals` only shapes the sentence. Statements of one
    `family` are corrected together; the column may be left out.
    """

    name: str
    sentence: str
    statement: str
    test: str
    a: str
    b: str
    metric: str
    decimals: str
    exhibit: str
    controls: str
    evidence: str
    family: str = ""


class Misprint(NamedTuple):
    """A line of `errata.csv`. `shown_by` is empty where code of the wing checks it and says so."""

    name: str
    where: str
    printed: str
    right: str
    shown_by: str


def read_arms(file: Path) -> dict[str, Arm]:
    """The arms of `arms.csv` by name, in its order.

    A cell of `changes` reads `method=random; epochs=0`: values are JSON, or text where they are not.

    Raises:
        PapersError: a name that stands twice, or a counterpart that is no arm.
    """
    arms: dict[str, Arm] = {}
    for line in _lines(file, ("name", "label", "sweep", "against", "changes")):
        known = {name: line.pop(name) for name in ("name", "label", "sweep", "against")}
        changes = _changes(file, line.pop("changes"))  # what is left in `line` is of the wing alone
        if known["name"] in arms:
            raise PapersError(f"{file}: the arm '{known['name']}' stands twice; name each once")
        arms[known["name"]] = Arm(**known, changes=changes, more=line)
    # after the loop, as an arm may be held against a later one
    if lost := [arm.against for arm in arms.values() if arm.against and arm.against not in arms]:
        raise PapersError(f"{file}: no arm '{lost[0]}' to be held against; name one of the table")
    return arms


def read_sizes(file: Path) -> dict[str, Size]:
    """The profiles of `profiles.toml` by name.

    Raises:
        PapersError: no TOML, or a profile without seeds.
    """
    sizes = {}
    try:
        profiles = tomllib.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # no TOML, or no UTF-8
        raise PapersError(f"{file}: {error}; mend that place") from None
    for name, values in profiles.items():
        if not isinstance(values, dict) or not values.get("seeds"):
            raise PapersError(f"{file}: the profile '{name}' has no seeds; give it seeds = [0, 1, 2]")
        seeds = tuple(values.pop("seeds"))
        # keys that a profile leaves out keep the defaults of Size
        known = {key: values.pop(key) for key in ("dataset", "stand_in", "settings") if key in values}
        sizes[name] = Size(seeds=seeds, **known, more=values)
    return sizes


def read_statements(file: Path) -> list[Statement]:
    """The claims of `claims.csv`, in its order."""
    needed = [name for name in Statement._fields if name not in Statement._field_defaults]
    return [Statement(**line) for line in _lines(file, needed)]


def read_misprints(file: Path) -> list[Misprint]:
    """The errata of `errata.csv`, in its order."""
    return [Misprint(**line) for line in _lines(file, Misprint._fields)]


def _lines(file: Path, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    # newline="": csv reads line ends itself, in quoted cells too
    with file.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        if lacking := [name for name in columns if name not in (reader.fieldnames or ())]:
            raise PapersError(f"{file}: no column '{lacking[0]}'; its head needs {', '.join(columns)}")
        for line in reader:
            # DictReader: cells too many lie under the key None, cells too few are None
            if None in line or None in line.values():
                raise PapersError(f"{file}: a line has not as many cells as its head: {line}; quote commas")
            yield line


def _changes(file: Path, text: str) -> dict[str, Any]:
    parts = [part.strip() for part in text.split(";") if part.strip()]
    if bare := [part for part in parts if "=" not in part]:
        raise PapersError(f"{file}: '{bare[0]}' changes nothing; write name=value")
    # split at the first "=" alone: a value may hold another
    pairs: Mapping[str, str] = dict(part.split("=", 1) for part in parts)
    return {name: _value(value) for name, value in pairs.items()}


def _value(text: str) -> Any:
    try:
        return json.loads(text)  # 0.5, true, [1, 2], "text"
    except ValueError:
        return text  # method_2: a bare word is text
