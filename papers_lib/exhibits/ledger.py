"""The ledger: one committed JSON line a finished run, from which all tables and figures are made.

Lines are sorted by profile, function, settings and seed, not by the time of collection, so that the
same runs give the same file whoever collects them and a new seed is one added line in a diff.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import ValidationError

from papers_lib.errors import PapersError
from papers_lib.files import place_error, replacing
from papers_lib.runs.spec import Data, RunSpec
from papers_lib.runs.store import Result
from papers_lib.settings import Frozen, figures_root

LOCK_SECONDS = 60
MEND = "set PAPERS_FIGURES to another folder"


class Row(Frozen):
    """A finished run: what was asked, what came out, and where it came from.

    `needs` holds `RunSpec.asked()` of each run that this one started from; `finished` is ISO 8601 UTC.
    """

    identity: str
    key: str
    paper: str
    profile: str
    function: str
    settings: dict[str, Any]
    seed: int
    data: Data
    needs: tuple[dict[str, Any], ...] = ()
    metrics: dict[str, Any]
    commit: str
    dirty: bool
    code: str
    torch: str
    device: str
    seconds: float
    finished: str


def path(paper: str) -> Path:
    """Where the ledger of `paper` lies, whether or not it exists yet."""
    return figures_root() / paper / "ledger.jsonl"


def read(paper: str) -> list[Row]:
    """All rows of a paper, each key once (a merge may double a line); none if there is no ledger.

    Raises:
        PapersError: a line is not a row (names the file and the line).
    """
    file = path(paper)
    if not file.exists():
        return []
    lines = file.read_bytes().split(b"\n")
    rows = [_parse(file, i, line) for i, line in enumerate(lines, 1) if line.strip()]
    return list({row.key: row for row in rows}.values())


def append(paper: str, rows: Iterable[Row]) -> int:
    """Add the rows whose key the ledger does not hold yet, atomically; returns how many.

    Safe with several processes at once. Raises:
        PapersError: a corrupt line, a value that is not JSON, a folder that cannot be written.
    """
    file = path(paper)
    with _locked(file):
        old = read(paper)
        by_key = {row.key: row for row in old}
        for row in rows:
            by_key.setdefault(row.key, row)
        if len(by_key) > len(old):
            ordered = sorted(by_key.values(), key=_order)
            text = "".join(_line(row) + "\n" for row in ordered)
            with replacing(file, MEND) as temporary:
                temporary.write_text(text, encoding="utf-8", newline="\n")
        return len(by_key) - len(old)


def find(rows: Iterable[Row], spec: RunSpec) -> Row | None:
    """The newest row that answers `spec`: same settings, seed, needs and data, whatever the code.

    A data fingerprint is compared only where `spec` knows it.
    """
    identity = spec.identity
    fits = [row for row in rows if row.identity == identity and _same_data(row, spec)]
    return max(fits, key=lambda row: (row.finished, row.key), default=None)


def from_result(result: Result) -> Row:
    """The ledger's row of a stored result. The data's place on that machine is left out."""
    spec, made = result.spec, result.provenance
    names = ("key", "commit", "dirty", "code", "torch", "device", "seconds", "finished")
    try:
        return Row(
            identity=spec.identity,
            paper=spec.paper,
            profile=spec.profile,
            function=spec.function,
            settings=spec.settings,
            seed=spec.seed,
            data=spec.data.model_copy(update={"root": ""}),
            needs=tuple(need.asked() for need in spec.needs),
            metrics=dict(result.metrics),
            **{name: made[name] for name in names},
        )
    except (KeyError, ValidationError) as error:
        what = str(error).splitlines()[0]
        raise PapersError(
            f"{spec.label or spec.function}: the result has no full provenance ({what}); rerun it"
        ) from None


def _same_data(row: Row, spec: RunSpec) -> bool:
    made = [row.data.fingerprint, *map(_fingerprints, row.needs)]
    asked = [spec.data.fingerprint, *(_fingerprints(need.asked()) for need in spec.needs)]
    pairs = zip(_flat(made), _flat(asked), strict=True)
    return all(not want or want in (have, _first_drawings().get(have)) for have, want in pairs)


@cache
def _first_drawings() -> dict[str, str]:
    """The recipe of a stand-in by its pixels, by which rows knew it at first."""
    lines = Path(__file__).with_name("standins.csv").read_text(encoding="utf-8").splitlines()
    return {row["pixels"]: row["recipe"] for row in csv.DictReader(lines[1:])}


def _fingerprints(asked: Mapping[str, Any]) -> list[Any]:
    return [asked["data"][2], *map(_fingerprints, asked["needs"])]


def _flat(tree: Sequence[Any]) -> list[str]:
    return [text for x in tree for text in (_flat(x) if isinstance(x, list) else [x])]


def _parse(file: Path, number: int, line: bytes) -> Row:
    try:
        json.loads(line, parse_constant=_refuse)  # pydantic would let NaN pass inside metrics
        return Row.model_validate_json(line)
    except (ValueError, RecursionError) as error:  # pydantic's and json's errors are ValueErrors
        what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise PapersError(
            f"{file}, line {number}: not a ledger row ({what}); restore the line from git or delete "
            "it and run `collect`"
        ) from None


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _line(row: Row) -> str:
    try:
        values = row.model_dump(mode="python")
        if not values["data"]["pixels"]:  # so that rows from before it was kept stay as they are
            del values["data"]["pixels"]
        return json.dumps(values, sort_keys=True, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise PapersError(
            f"run {row.key[:12]}: its metrics are not plain JSON ({error}); return finite numbers"
        ) from None


def _order(row: Row) -> tuple[str, str, str, str, int, str, str]:
    shared = {name: value for name, value in row.settings.items() if name != "seed"}
    settings = json.dumps(shared, sort_keys=True)
    return row.profile, row.function, row.data.name, settings, row.seed, row.finished, row.key


def _locked(file: Path) -> FileLock:
    lock = file.parent / ".ledger.lock"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock, timeout=LOCK_SECONDS)
        held.acquire()
    except Timeout:
        raise PapersError(f"{lock} is held by another process; wait for it to end") from None
    except OSError as error:
        raise place_error(file, error, MEND) from None
    return held
