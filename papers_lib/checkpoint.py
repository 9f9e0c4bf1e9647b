"""Checkpoints: tensors and plain values, saved whole or not at all, with a digest, loaded without code.

A file is torch's own, followed by the SHA-256 of it; `torch.load` reads it as well.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import sys
import warnings
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from papers_lib.errors import PapersError, fault_of_the_machine
from papers_lib.files import place_error, replacing

MARK = b"\nsha256 "
_TRAILER = len(MARK) + 64

T = TypeVar("T")


def save(path: Path | str, state: dict[str, Any]) -> None:
    """Write `state` (tensors, state dicts, numbers, text) to `path`; a kill leaves the old file.

    Raises:
        PlaceError: the disk is full or read-only; the old file is untouched.
    """
    import torch

    buffer = io.BytesIO()  # torch's own writer hides "disk full" in a RuntimeError
    torch.save(state, buffer)
    buffer.write(MARK + hashlib.sha256(buffer.getbuffer()).hexdigest().encode())
    with replacing(Path(path)) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load(path: Path | str) -> dict[str, Any] | None:
    """The checkpoint at `path` on the CPU, or None where there is none that can be trusted.

    One that cannot be read, without its digest or with another, is moved to `*.corrupt` with a line on
    stderr, and the run starts afresh.
    """
    path = Path(path)
    if not path.exists():
        return None
    try:
        return _load(path, ours=True)
    except Exception as error:
        if fault_of_the_machine(error):
            raise
        reason = _first_line(error)
    aside = path.with_name(path.name + ".corrupt")
    try:
        path.replace(aside)
    except OSError as error:
        raise place_error(path, error) from None
    news = f"{path} is no checkpoint ({reason}); moved to {aside.name}, starting afresh"
    print(f"warning: {news}", file=sys.stderr)
    return None


def load_weights(path: Path | str) -> dict[str, Any]:
    """The weights in a file of ours, whose digest is checked, or in one that a user names, on the CPU.

    Raises:
        PapersError: no such file, a damaged one, or a pickle that asks for code (never executed).
    """
    path = Path(path).expanduser()
    try:
        return _load(path)
    except Exception as error:
        if fault_of_the_machine(error):
            raise
        if isinstance(error, OSError):
            raise PapersError(f"cannot read weights {path} ({error.strerror}): check the path") from None
        raise PapersError(
            f"weights {path} refused ({_first_line(error)}): "
            "give a file of tensors only, as torch.save(model.state_dict()) writes it"
        ) from None


def _load(path: Path, ours: bool = False) -> dict[str, Any]:
    """The state in a file; one of `ours` has a digest. ValueError says in one line what is wrong with it."""
    import torch

    content = path.read_bytes()
    whole, end = content[:-_TRAILER], content[-_TRAILER:]
    checked = MARK[:4] in end  # the mark itself may be damaged or cut short
    if checked:
        if end != MARK + hashlib.sha256(whole).hexdigest().encode():
            raise ValueError("it is damaged: its digest is another")
    elif ours:
        raise ValueError("it is cut short, or of an earlier version: it has no digest")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on a foreign pickle torch both warns and raises
        try:
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except Exception as error:  # of any kind; a file cut short makes torch seek before its beginning
            # Without a digest it may be the file that asks for absurd sizes.
            if checked and fault_of_the_machine(error):
                raise
            # torch's own words are advice to load it without the guard
            asks = content[:2] == b"PK" and isinstance(error, pickle.UnpicklingError)
            damaged = "it is empty" if not content else "it is cut short, damaged or no file of torch"
            raise ValueError("it holds more than tensors" if asks else damaged) from None
    if not isinstance(state, dict):
        raise ValueError(f"it holds a {type(state).__name__}, not a dict")
    return state


def take_up(state: Any, take: Callable[[Any], T], before: Any) -> T | None:
    """What `take` makes of a checkpoint's state; None where there is none, or none that fits.

    One that `take` cannot read to its end leaves a warning and nothing else: `take` then gets back the
    state `before`.
    """
    if state is None:
        return None
    before = deepcopy(before)  # its tensors are those that `take` writes to
    try:
        return take(state)
    except Exception as error:
        if fault_of_the_machine(error):
            raise
        print(f"warning: the checkpoint is not of this loop; the run starts afresh ({_first_line(error)})")
        take(before)
        return None


class Resumable:
    """A loop that goes on from a checkpoint as if nothing had happened, or, where that does not fit, afresh.

    `KEPT` names the attributes that are its state: what has a `state_dict`, random generators, and plain
    values. Those in `SAME` are no state: a checkpoint with other values is of another loop.
    """

    KEPT: ClassVar[tuple[str, ...]]
    SAME: ClassVar[tuple[str, ...]] = ()

    def state(self) -> dict[str, Any]:
        """Everything that a killed run needs to go on as if nothing had happened."""
        state = {}
        for name in (*self.SAME, *self.KEPT):
            value = getattr(self, name)
            if hasattr(value, "state_dict"):
                value = value.state_dict()
            elif hasattr(value, "get_state"):  # a random generator
                value = value.get_state()
            state[name] = value
        return state

    def resume(self, state: dict[str, Any] | None) -> bool:
        """Take up what `state` holds, all of it or nothing; one of something else leaves a warning."""
        return bool(take_up(state, self._take, self.state()))

    def _take(self, state: dict[str, Any]) -> bool:
        if state.keys() != {*self.SAME, *self.KEPT}:
            raise ValueError(f"it holds {', '.join(map(str, state))}")
        for name in self.SAME:
            if state[name] != getattr(self, name):
                raise ValueError(f"its {name} is {state[name]!r}")
        # An epoch that is not the length of the history is of a file put together by hand.
        if "history" in state and state["epoch"] != len(state["history"]):
            raise ValueError(f"{state['epoch']} epochs with a history of {len(state['history'])}")
        for name in self.KEPT:
            part, value = getattr(self, name), state[name]
            _refuse_misfit(part, value)
            if hasattr(part, "load_state_dict"):
                part.load_state_dict(value)
            elif hasattr(part, "set_state"):
                part.set_state(value)
            else:
                setattr(self, name, value)
        return True


def _refuse_misfit(part: Any, state: Any) -> None:
    """Refuse a state that torch would take up, to fail later or to go on with something else."""
    import torch

    if isinstance(part, torch.optim.Optimizer):
        weights = [weight for group in part.param_groups for weight in group["params"]]
        for number, moments in state["state"].items():
            # Of more than no dimension: the count of steps is a scalar.
            buffers = [value for value in moments.values() if isinstance(value, torch.Tensor) and value.ndim]
            if any(value.shape != weights[number].shape for value in buffers):
                raise ValueError(f"the optimiser's state of weight {number} has another shape")
        if list(map(_kinds, part.param_groups)) != list(map(_kinds, state["param_groups"])):
            raise ValueError("the optimiser has other settings")
    elif hasattr(part, "state_dict"):  # a network, or a schedule
        if _kinds(part.state_dict()) != _kinds(state):
            raise ValueError(f"{type(part).__name__} has other names, shapes or types")
    elif part is not None and not hasattr(part, "set_state") and type(part) is not type(state):
        raise ValueError(f"a {type(state).__name__} stands for a {type(part).__name__}")


def _kinds(state: dict[str, Any]) -> dict[str, Any]:
    """What each entry is: a tensor's shape and type, else the type."""
    return {
        name: (tuple(value.shape), value.dtype) if hasattr(value, "dtype") else type(value)
        for name, value in state.items()
    }


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
