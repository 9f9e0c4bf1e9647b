"""Device, precision and determinism: the only module that asks what the machine is."""

from __future__ import annotations

import os
from typing import Literal

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
    if "OMP_NUM_THREADS" in os.environ:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def autocast(where: torch.device, precision: Precision) -> torch.autocast:
    """Context in which the network runs in `precision`; losses and distances stay outside, in float32."""
    return torch.autocast(where.type, torch.bfloat16, enabled=precision == "bfloat16")


def place(module: nn.Module, where: torch.device) -> nn.Module:
    """`module` on the device, weights channels-last: several times faster for convolutions on both."""
    return module.to(where).to(memory_format=torch.channels_last)
