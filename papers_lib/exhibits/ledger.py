"""The ledger: one committed JSON line per finished run, from which all tables and figures are made.

Lines are sorted by profile, function, settings and seed, not by the time of collection, so that the
same runs give the same file whoever collects them and a new seed is one added line in a diff. A line holds
the digest of the rest of it; lines of earlier versions have none until the next `collect`.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import Timeout
from pydantic import ValidationError

from papers_lib.errors import PapersError
from papers_lib.exhibits import places
from papers_lib.files import locked, place_error, replacing
from papers_lib.runs.spec import Data, RunSpec, digest
from papers_lib.runs.store import Result
from papers_lib.settings import Frozen, ledger_root

NAME = "ledger.jsonl"
LOCK_SECONDS = 60  # an append takes well under a second
MEND = "set PAPERS_FIGURES to another folder"


class Row(Frozen):
    """A finished run: its settings, its metrics, and where they came from.

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
    """Where new rows of `paper` are written, whether or not there are any yet."""
    return places.written() / paper / NAME


def read(paper: str) -> list[Row]:
    """All rows of a paper, those that were read from elsewhere first; each key once; none without a ledger.

    Read are the ledger below `$PAPERS_LEDGER`, by default the repository's, and the one that is written,
    below `$PAPERS_FIGURES` or in `build/figures/`: rows of one's own stand beside the committed ones.

    Raises:
        PapersError: a line is not a row, or not the one that was written (names the file and the line).
    """
    files = dict.fromkeys((ledger_root() / paper / NAME, path(paper)))  # once where both are the same
    # the one that is written comes last and wins
    return list({row.key: row for file in files for row in read_file(file)}.values())


def read_file(file: Path) -> list[Row]:
    """The rows of one ledger; none where there is no such file. Errors as `read`."""
    if not file.exists():
        return []
    try:
        # str.splitlines would also break at U+2028, inside a text
        lines = file.read_bytes().split(b"\n")
    except OSError as error:
        raise PapersError(f"cannot read {file} ({error.strerror}): make it readable, or {MEND}") from None
    rows = [_parse(file, i, line) for i, line in enumerate(lines, 1) if line.strip()]
    return list({row.key: row for row in rows}.values())  # a merge may double a line


def append(paper: str, rows: Iterable[Row]) -> int:
    """Add the rows whose key the ledger does not hold yet, atomically; returns how many.

    Safe with several processes at once. Raises:
        PapersError: a corrupt line, a value that is not JSON, a folder that cannot be written.
    """
    file = path(paper)
    with _locked(file):
        old = read_file(file)
        # what another ledger holds is not written a second time
        elsewhere = {row.key for row in read(paper)} - {row.key for row in old}
        by_key = {row.key: row for row in old}
        for row in rows:
            if row.key not in elsewhere:
                by_key.setdefault(row.key, row)  # the first result of a key stays: the same code and settings
        ordered = sorted(by_key.values(), key=_order)
        text = "".join(_line(row) + "\n" for row in ordered).encode()
        # an unchanged file keeps its time
        if text and (not old or text != file.read_bytes()):
            with replacing(file, MEND) as temporary:
                temporary.write_bytes(text)
        return len(by_key) - len(old)


@contextmanager
def reading(paper: str) -> Iterator[None]:
    """Around whatever makes exhibits from rows: a metric that is missing or of another kind is one line.

    Raises:
        PapersError: names the row that was read last, and what was wrong with it.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # the innermost frame that holds a row was reading it
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        read = [value for frame in frames for value in frame.f_locals.values() if isinstance(value, Row)]
        which = f"row {read[-1].key[:12]} (seed {read[-1].seed})" if read else "a row"
        raise PapersError(
            f"{path(paper)}: {which} has not the metrics of its kind ({type(error).__name__}: {error}); "
            "restore the line from git or delete it and run `collect`"
        ) from error


def find(rows: Iterable[Row], spec: RunSpec) -> Row | None:
    """The newest row that answers `spec`: same settings, seed, needs and data, whatever the code.

    A data fingerprint is compared only where `spec` knows it.
    """
    identity = spec.identity
    fits = [row for row in rows if row.identity == identity and _same_data(row, spec)]
    # ISO 8601 sorts as text; the key settles equal seconds
    return max(fits, key=lambda row: (row.finished, row.key), default=None)


def from_result(result: Result) -> Row:
    """The ledger's row of a stored result. The data's place on that machine is left out."""
    spec, provenance = result.spec, result.provenance
    if spec.pilot:
        raise PapersError(f"{spec.label or spec.function} is a pilot, which is no evidence: run it whole")
    names = ("key", "commit", "dirty", "code", "torch", "device", "seconds", "finished")
    try:
        return Row(
            identity=spec.identity,
            paper=spec.paper,
            profile=spec.profile,
            function=spec.function,
            settings=spec.settings,
            seed=spec.seed,
            data=spec.data.model_copy(update={"root": ""}),  # a place on one machine
            needs=tuple(need.asked() for need in spec.needs),
            metrics=dict(result.metrics),
            **{name: provenance[name] for name in names},
        )
    except (KeyError, TypeError, ValueError) as error:
        what = str(error).splitlines()[0]
        raise PapersError(
            f"{spec.label or spec.function}: the result has no full provenance ({what}); rerun it"
        ) from None


def _same_data(row: Row, spec: RunSpec) -> bool:
    # A run and all that it needs, each by its data's fingerprint; "" where the plan does not know it.
    of_row = [row.data.fingerprint, *map(_fingerprints, row.needs)]
    of_spec = [spec.data.fingerprint, *(_fingerprints(need.asked()) for need in spec.needs)]
    pairs = zip(_flat(of_row), _flat(of_spec), strict=True)  # equal identities: the trees have one shape
    return all(want in ("", have) for have, want in pairs)


def _fingerprints(asked: Mapping[str, Any]) -> list[Any]:
    return [asked["data"][2], *map(_fingerprints, asked["needs"])]  # data is [name, stand_in, fingerprint]


def _flat(tree: Sequence[Any]) -> list[str]:
    # the leaves of nested lists, from left to right
    return [text for x in tree for text in (_flat(x) if isinstance(x, list) else [x])]


def _parse(file: Path, number: int, line: bytes) -> Row:
    try:
        values = json.loads(line)
        written = values.pop("digest", "")  # of the rest of the line; "" before it was kept
        # Python's json lets NaN pass, pydantic's what cannot be written as UTF-8.
        row = Row.model_validate_json(json.dumps(values, allow_nan=False))
        _refuse_bent(row, written, digest(values))
        return row
    # Pydantic's and json's errors are ValueErrors.
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise PapersError(
            f"{file}, line {number}: not a ledger row ({what}); restore the line from git or delete "
            "it and run `collect`"
        ) from None


def _refuse_bent(row: Row, written: str, computed: str) -> None:
    """Refuse a row that is not what a run left: by its own digest, and by what its hashes are made of."""
    if written and written != computed:
        raise ValueError("it was changed: its digest is another")
    data = [row.data.name, row.data.stand_in, row.data.fingerprint]
    asked = {"function": row.function, "settings": row.settings, "data": data, "needs": list(row.needs)}
    # identity: what is asked, without the state of the data; key: all of it, and the code
    if row.identity != digest(_unprinted(asked)) or row.seed != row.settings.get("seed"):
        raise ValueError("its function, settings, data and needs do not give its identity")
    if row.key != digest([asked, row.code]):
        raise ValueError("its identity, data and code do not give its key")


def _unprinted(asked: Mapping[str, Any]) -> dict[str, Any]:
    """`RunSpec.asked()` without the fingerprints of the data."""
    needs = [_unprinted(need) for need in asked["needs"]]
    return {**asked, "data": asked["data"][:2], "needs": needs}


def _line(row: Row) -> str:
    try:
        values = row.model_dump(mode="python")
        if not values["data"]["pixels"]:  # so that rows from before it was kept stay as they are
            del values["data"]["pixels"]
        _refuse_bent(row, "", "")  # before it is written: a bent line would stop every later read
        return json.dumps(values | {"digest": digest(values)}, sort_keys=True, ensure_ascii=False)
    except (KeyError, TypeError, ValueError) as error:
        raise PapersError(
            f"run {row.key[:12]} gives no ledger row ({error}); its metrics are to be plain JSON and finite"
        ) from None


def _order(row: Row) -> tuple[str, str, str, str, int, str, str]:
    shared = {name: value for name, value in row.settings.items() if name != "seed"}
    settings = json.dumps(shared, sort_keys=True)
    # seed behind all settings: the seeds of a run are neighbours
    return row.profile, row.function, row.data.name, settings, row.seed, row.finished, row.key


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    # beside the file, which is replaced and cannot be locked itself
    lock = file.parent / ".ledger.lock"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with locked(lock, LOCK_SECONDS):
            yield
    except Timeout:
        raise PapersError(f"{lock} is held by another process; wait for it to end") from None
    except OSError as error:
        raise place_error(file, error, MEND) from None
