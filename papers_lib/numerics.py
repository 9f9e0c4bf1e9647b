"""The arithmetic that trainings rely on, tried on this machine.

    python -m papers_lib.numerics NAME

tries one of `CHECKS` and prints what it found; each runs in a process of its own, as a bad kernel may end it.
"""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from papers_lib.compute import exact
from papers_lib.networks.backbones import Projection
from papers_lib.settings import repository

SECONDS = 120  # a bad kernel may also loop for good
State = Literal["right", "wrong", "absent", "not ready in time"]


def _gradient(convolution: nn.Conv2d) -> State:
    """The gradients of a convolution of 4 channels, float32 and channels-last, against those in float64."""
    for seed in range(5):  # what is wrong depends on what lies in memory
        images = torch.randn(16, 4, 16, 16, generator=torch.Generator().manual_seed(seed))
        single = _gradients(copy.deepcopy(convolution), images)
        double = _gradients(copy.deepcopy(convolution).double(), images.double())
        pairs = zip(single, double, strict=True)
        if not all(torch.allclose(a.double(), b, rtol=1e-4, atol=1e-3) for a, b in pairs):
            return "wrong"
    return "right"


def _gradients(convolution: nn.Conv2d, images: Tensor) -> tuple[Tensor, Tensor]:
    """Of the sum of squares, by weights and by images."""
    convolution.to(memory_format=torch.channels_last)
    maps = images.contiguous(memory_format=torch.channels_last).requires_grad_()
    weights, pixels = torch.autograd.grad((convolution(maps) ** 2).sum(), (convolution.weight, maps))
    return weights, pixels


def _bfloat16_pixel() -> State:
    for seed in range(20):
        torch.manual_seed(seed)
        convolution = nn.Conv2d(32, 64, 3, 2, 1, bias=False).to(memory_format=torch.channels_last)
        maps = torch.randn(32, 32, 1, 1).contiguous(memory_format=torch.channels_last).requires_grad_()
        waste = [torch.full((2**size,), torch.nan) for size in range(4, 18) for _ in range(8)]
        del waste  # a kernel that reads memory that nobody wrote now finds NaN there
        with torch.autocast("cpu", torch.bfloat16):
            out = convolution(maps)
        out.float().sum().backward()
        assert convolution.weight.grad is not None
        if not convolution.weight.grad.isfinite().all():
            return "wrong"
    return "right"


def _tf32() -> State:
    if not torch.cuda.is_available():
        return "absent"
    torch.set_float32_matmul_precision("high")
    a = torch.randn(512, 512, device="cuda")
    with exact():
        product = a @ a  # TF32 would be off by about 0.01
    error = (product - a.double() @ a.double()).abs().max().item()
    return "right" if error < 1e-3 else "wrong"


class Check(NamedTuple):
    """What is tried, how, what rests on it, and what to do where it is wrong."""

    what: str
    attempt: Callable[[], State]
    relied: bool  # by our own networks
    mend: str


CHECKS = {
    "projection": Check(
        "gradient of a strided 1×1 convolution as the networks here have it",
        lambda: _gradient(Projection(4, 8, 2)),
        True,
        "do not train here; set ONEDNN_MAX_CPU_ISA=SSE41, or install another torch",
    ),
    "strided_1x1": Check(
        "gradient of torch's own strided 1×1 convolution, 4 channels, channels-last",
        lambda: _gradient(nn.Conv2d(4, 8, 1, 2, bias=False)),
        False,
        "ours go around it; your own networks need 8 channels or contiguous maps (oneDNN issue 6035)",
    ),
    "bfloat16_pixel": Check(
        "bfloat16 gradient of a 3×3 convolution, stride 2, on maps of one pixel",
        _bfloat16_pixel,
        False,
        "no network here shrinks so far; yours must not in bfloat16: take float32 or larger images",
    ),
    "tf32": Check(
        "float32 products on the GPU under exact arithmetic",
        _tf32,
        True,
        "distances on the GPU are rounded to ten bits; pass device=cpu, or install another torch",
    ),
}


def check(name: str) -> State:
    """Try one of `CHECKS` in a process of its own; one that dies is wrong."""
    command = [sys.executable, "-m", "papers_lib.numerics", name]
    try:
        done = subprocess.run(
            command, cwd=repository(), capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return "not ready in time"  # it hangs, or the machine is busy
    # What crashed on its way out is wrong whatever it printed.
    states: dict[str, State] = {"right": "right", "absent": "absent"}
    return states.get(done.stdout.strip(), "wrong") if done.returncode == 0 else "wrong"


if __name__ == "__main__":
    print(CHECKS[sys.argv[1]].attempt())
