"""Checkpoints: tensors and plain values, saved whole or not at all, loaded without running code."""

from __future__ import annotations

import io
import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

from papers_lib.errors import PapersError
from papers_lib.files import replacing

# What `torch.load(weights_only=True)` raises on a truncated, foreign or malicious file.
_REFUSED = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, TypeError)


def save(path: Path | str, state: dict[str, Any]) -> None:
    """Write `state` (tensors, state dicts, numbers, text) to `path`; a kill leaves the old file.

    Raises:
        PlaceError: the disk is full or read-only; the old file is untouched.
    """
    import torch

    buffer = io.BytesIO()  # torch's own writer hides "disk full" in a RuntimeError
    torch.save(state, buffer)
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load(path: Path | str) -> dict[str, Any] | None:
    """The checkpoint at `path` on the CPU, or None where there is none that can be trusted.

    A corrupt file, or a pickle that asks for code, is moved to `*.corrupt` with a line on stderr,
    and the run starts afresh.
    """
    path = Path(path)
    if not path.exists():
        return None
    try:
        return _load(path)
    except _REFUSED as error:
        aside = path.with_name(path.name + ".corrupt")
        path.replace(aside)
        print(f"warning: {path} is no checkpoint ({_first_line(error)}); moved to {aside.name}, "
              "starting afresh", file=sys.stderr)  # fmt: skip
        return None


def load_weights(path: Path | str) -> dict[str, Any]:
    """The weights that a user names by path, on the CPU.

    Raises:
        PapersError: no such file, a corrupt one, or a pickle that asks for code (never executed).
    """
    path = Path(path).expanduser()
    try:
        return _load(path)
    except OSError as error:
        raise PapersError(f"cannot read weights {path} ({error.strerror}): check the path") from None
    except _REFUSED as error:
        raise PapersError(
            f"weights {path} refused ({_first_line(error)}): "
            "give a file of tensors only, as torch.save(model.state_dict()) writes it"
        ) from None


def _load(path: Path) -> dict[str, Any]:
    import torch

    content = io.BytesIO(path.read_bytes())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on a foreign pickle torch both warns and raises
        try:
            state = torch.load(content, map_location="cpu", weights_only=True)
        except OSError as error:  # not of the disk: a file cut short makes torch seek before its beginning
            raise ValueError(f"it is cut short: {_first_line(error)}") from None
    if not isinstance(state, dict):
        raise ValueError(f"it holds a {type(state).__name__}, not a dict")
    return state


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
