"""Profiles, validated settings, and the places where things lie.

Every setting of a run or a notebook is a field of a frozen pydantic model. An unknown name, a wrong
type or a NaN is a `PapersError` of one line; nothing is guessed.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from papers_lib.errors import PapersError
from papers_lib.files import resolve

Profile = Literal["smoke", "frozen", "small", "medium", "paper"]
PROFILES: tuple[Profile, ...] = typing.get_args(Profile)
DEPTH = 8  # of lists in lists that a parameter may have
SHORT = 60  # letters of a wrong value that its error repeats

M = TypeVar("M", bound=BaseModel)


class Frozen(BaseModel):
    """Base of all settings: immutable, unknown names refused, no NaN and no infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class NotebookSettings(Frozen):
    """The parameters that all notebooks share. An empty value means: as the profile says."""

    profile: Profile = "small"
    dataset: str = ""
    data_root: str = ""
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**32)], ...] = ()
    train: bool = False
    pilot: bool = False
    precision: Literal["", "float32", "bfloat16"] = ""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    executor: Literal["local", "ray"] = "local"
    slots: int = Field(1, ge=1)
    sweeps: tuple[str, ...] = ()
    arms: tuple[str, ...] = ()


def validate(model: type[M], values: Mapping[str, Any]) -> M:
    """Build `model` from JSON values, strictly.

    Raises:
        PapersError: an unknown name, a wrong type, a value out of range, NaN, or a value that is
            not JSON (a tuple, a NumPy number, a path).
    """
    for name, value in values.items():
        if not _is_json(value):
            raise PapersError(
                f"{name}: {_short(value)} is a {type(value).__name__}, not plain JSON; "
                "use numbers, text without control characters, true/false, lists or objects"
            )
    try:
        return model.model_validate_json(json.dumps(dict(values), allow_nan=False), strict=True)
    except ValueError as error:
        if not isinstance(error, ValidationError):  # json.dumps: NaN or infinity
            bad = ", ".join(name for name, value in values.items() if not _is_finite(value))
            raise PapersError(f"{bad}: NaN and infinity are refused") from None
        raise PapersError(_one_line(model, error)) from None


def parse(model: type[BaseModel], pairs: Mapping[str, str]) -> dict[str, Any]:
    """Turn command-line text into JSON values by the type of the field that each names.

    `seeds 0,1,2` and `seeds [0,1,2]` are the same; text stays text where the field is text.
    """
    return {name: _parse_one(model, name, text) for name, text in pairs.items()}


def _parse_one(model: type[BaseModel], name: str, text: str) -> Any:
    field = model.model_fields.get(name)
    if field is None or field.annotation is str:
        return text
    if typing.get_origin(field.annotation) is tuple and not text.startswith("["):
        item = typing.get_args(field.annotation)[0]
        return [t if item is str else _json(t) for t in text.split(",") if t]
    return _json({"True": "true", "False": "false"}.get(text, text))


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _is_json(value: Any, depth: int = 0) -> bool:
    if isinstance(value, dict):
        return all(type(k) is str and _is_json(v, depth + 1) for k, v in value.items())
    if type(value) is list:
        return depth < DEPTH and all(_is_json(v, depth + 1) for v in value)
    if type(value) is str:
        return value.isprintable() or not any(ord(letter) < ord(" ") for letter in value)
    return value is None or type(value) in (bool, int, float)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHORT else f"{text[:SHORT]}…"


def _is_finite(value: Any) -> bool:
    if isinstance(value, dict | list):
        return all(map(_is_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


def _one_line(model: type[BaseModel], error: ValidationError) -> str:
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, model.model_fields, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(model.model_fields)}"
        return f"unknown parameter '{name}': {hint}"
    return f"{name}: {first['msg'][0].lower()}{first['msg'][1:]}, got {_short(first['input'])}"


def repository() -> Path:
    """The folder that holds `papers_lib/`, `notebooks/` and `figures/`."""
    return Path(__file__).resolve().parents[1]


def runs_root() -> Path:
    """Where runs live: `$PAPERS_RUNS`, else `runs/` of the repository."""
    return resolve(os.environ.get("PAPERS_RUNS") or repository() / "runs")


def data_root(given: str = "") -> Path:
    """Where data sets live: `given`, else `$PAPERS_DATA`, else `data/` of the repository."""
    return resolve(given or os.environ.get("PAPERS_DATA") or repository() / "data")


def figures_root() -> Path:
    """Where what is to be committed goes: `$PAPERS_FIGURES`, else `figures/` of the repository."""
    return resolve(os.environ.get("PAPERS_FIGURES") or repository() / "figures")


def ledger_root() -> Path:
    """Where the ledgers that are read lie: `$PAPERS_LEDGER`, else `figures/` of the repository."""
    return resolve(os.environ.get("PAPERS_LEDGER") or repository() / "figures")
