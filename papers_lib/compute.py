"""Device, precision and determinism: the only module that asks what the machine is."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import torch
from torch import nn

from papers_lib.errors import PapersError

Precision = Literal["float32", "bfloat16"]


def device(name: str = "auto") -> torch.device:
    """The device that `name` asks for; `auto` takes a GPU where there is one.

    Raises:
        PapersError: `cuda` was asked for and torch sees no GPU.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise PapersError("device 'cuda' was asked for, but torch sees no GPU here; use device=cpu")
    return torch.device(name)


def prepare(seed: int) -> None:
    """Seed torch and ask for repeatable algorithms where they cost nothing."""
    torch.manual_seed(seed)
    if count := threads(os.environ.get("OMP_NUM_THREADS", "")):
        torch.set_num_threads(count)
    torch.backends.cudnn.benchmark = False  # it would choose kernels by their time, another one per run
    torch.backends.cudnn.deterministic = True


def threads(text: str) -> int | None:
    """The threads that OMP_NUM_THREADS asks for; None where it asks for none.

    OpenMP allows a list by level ("4,2"), SLURM writes "4(x2)": the first number counts. No more than there
    are processors, since a number without sense ends the process at the first product.
    """
    number = re.match(r"\s*\+?[0-9]{1,9}", text)
    if number is None or int(number[0]) == 0:
        return None
    return min(int(number[0]), os.cpu_count() or 1)


def autocast(where: torch.device, precision: Precision) -> torch.autocast:
    """Context in which the network runs in `precision`; losses and distances stay outside, in float32."""
    return torch.autocast(where.type, torch.bfloat16, enabled=precision == "bfloat16")


def place(module: nn.Module, where: torch.device) -> nn.Module:
    """`module` on the device, weights channels-last: several times faster for convolutions on both."""
    return module.to(where).to(memory_format=torch.channels_last)


# -- exact arithmetic --
# Some settings are of the whole process: the first thread to enter changes them, the last to leave puts
# them back.

REDUCED = ("tf32", "bf16")  # precisions of float32 products
_lock = threading.Lock()
_within = 0  # how often `exact` is open, over all threads
_undo = ExitStack()  # what the last one to leave puts back


@contextmanager
def exact(gradients: bool = False) -> Iterator[None]:
    """Full float32 arithmetic on the tensors' own devices, whatever the process allows elsewhere.

    Products and convolutions without TF32 or bfloat16, no autocast, float32 and the CPU for tensors that
    are made without a word, and no gradients unless asked for. All is as before afterwards. A context
    manager, and a decorator as `@exact()`.
    """
    with ExitStack() as stack:
        _enter()
        stack.callback(_leave)
        # Autocast, the default device and gradients are the thread's own.
        for kind in ("cpu", "cuda", "mps", "xpu"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if not _cpu_by_default():
            stack.enter_context(torch.device("cpu"))
        if not gradients:
            stack.enter_context(torch.no_grad())
        yield


def _enter() -> None:
    global _within  # noqa: PLW0603 - one count for the settings of one process
    with _lock:
        if _within == 0:
            with ExitStack() as undo:
                undo.callback(torch.set_default_dtype, torch.get_default_dtype())
                torch.set_default_dtype(torch.float32)
                _full_products(undo)
                _undo.callback(undo.pop_all().close)
        _within += 1


def _leave() -> None:
    global _within  # noqa: PLW0603
    with _lock:
        _within -= 1
        if _within == 0:
            _undo.close()


def _full_products(undo: ExitStack) -> None:
    backends: Any = torch.backends
    if not hasattr(backends.cuda.matmul, "fp32_precision"):  # before torch 2.9
        undo.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
        torch.set_float32_matmul_precision("highest")
        undo.callback(setattr, backends.cudnn, "allow_tf32", backends.cudnn.allow_tf32)
        backends.cudnn.allow_tf32 = False
        return
    # The old getters raise where the present interface was used, so these are neither asked nor set.
    cuda, cpu = (backends.cuda.matmul, backends.cudnn.conv), (backends.mkldnn.matmul, backends.mkldnn.conv)
    reduced = [(switch, old) for switch in cuda + cpu if (old := switch.fp32_precision) in REDUCED]
    # A switch that follows a setting above it must follow it afterwards, too ("none"). Which ones do is
    # seen while those above are exact.
    with ExitStack() as above:
        for parent in (backends, backends.cudnn):
            if (old := parent.fp32_precision) in REDUCED:
                above.callback(setattr, parent, "fp32_precision", old)
                parent.fp32_precision = "ieee"
        restored = [(switch, old if switch.fp32_precision == old else "none") for switch, old in reduced]
    for switch, old in restored:
        undo.callback(setattr, switch, "fp32_precision", old)
        switch.fp32_precision = "ieee"


def _cpu_by_default() -> bool:
    try:
        return torch.get_default_device().type == "cpu"
    except (RuntimeError, AssertionError, AttributeError):  # one that this machine lacks; torch 2.6 of none
        return False
