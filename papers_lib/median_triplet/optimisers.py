"""What steps the BYOL frame: LARS, warm-up with cosine, and the moving average of the target network.

All tensors of a network are stepped in a few calls, and nothing here waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, overload

import torch
from torch import Tensor

from papers_lib.errors import PapersError


class Lars(torch.optim.Optimizer):
    """Layer-wise adaptive rates (You et al., "Large Batch Training of Convolutional Networks", 2017).

    Per weight w with gradient g,

        λ = η ‖w‖ / (‖g‖ + β ‖w‖),   v ← m v + α λ (g + β w),   w ← w − v

    Parameters of one dimension (biases, batch normalisation) take neither decay nor λ, as the public
    code of Wang et al. has it. Where a weight or its gradient is all zeros, λ is 1.

    Args:
        params: parameters or groups, as any optimiser takes them.
        lr: α; momentum: m; weight_decay: β; eta: η.
        lr_inside: α multiplies before the buffer, as in the paper and that code; False is SGD's way,
            w ← w − α v. The two differ where α changes.

    Raises:
        PapersError: a setting below zero.
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 1e-6,
        eta: float = 1e-3,
        lr_inside: bool = True,
    ) -> None:
        settings = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "eta": eta}
        for name, value in settings.items():
            if not value >= 0:
                raise PapersError(f"Lars: {name} is {value}; it must be zero or more")
        super().__init__(params, settings | {"lr_inside": lr_inside})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step; parameters without gradient are left as they are."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        with torch.no_grad():
            for group in self.param_groups:
                self._step(group)
        return loss

    def _step(self, group: dict[str, Any]) -> None:
        moving = [p for p in group["params"] if p.grad is not None]
        weights, others = [p for p in moving if p.ndim > 1], [p for p in moving if p.ndim <= 1]
        if not moving:
            return
        for p in moving:
            if "momentum_buffer" not in self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        buffers = [[self.state[p]["momentum_buffer"] for p in part] for part in (weights, others)]
        # where α stands: in the buffer, or outside of it
        inside, outside = (group["lr"], 1.0) if group["lr_inside"] else (1.0, group["lr"])

        # v ← m v
        torch._foreach_mul_(buffers[0] + buffers[1], group["momentum"])
        if weights:
            # λ = η ‖w‖ / (‖g‖ + β ‖w‖), [number of weights]
            decay, gradients = group["weight_decay"], [p.grad for p in weights]
            w, g = (torch.stack(torch._foreach_norm(tensors)) for tensors in (weights, gradients))  # ‖w‖, ‖g‖
            rates = torch.where((w > 0) & (g > 0), group["eta"] * w / (g + decay * w), 1.0)
            # v ← v + α λ g + α λ β w
            torch._foreach_addcmul_(buffers[0], gradients, list(rates.unbind()), inside)
            torch._foreach_addcmul_(buffers[0], weights, list((rates * decay).unbind()), inside)
        if others:
            # v ← v + α g
            torch._foreach_add_(buffers[1], [p.grad for p in others], alpha=inside)
        # w ← w − v
        torch._foreach_sub_(weights + others, buffers[0] + buffers[1], alpha=outside)


def warm_cosine(step: int, steps: int, warm_steps: int = 0, warm_ratio: float = 1e-4) -> float:
    """What the learning rate is multiplied by at `step` of `steps`, counted from 0.

    ½ (1 + cos(π t / T)), and in the first `warm_steps` that times a line from `warm_ratio` to 1: the
    cosine runs from the first step on, as mmcv's does, with which the public code trains.

    Raises:
        PapersError: a step outside the schedule, or a warm-up longer than it.
    """
    # ½ (1 + cos(π t / T)), times r + (1 − r) t / T_warm
    warm = _warm(step, steps, warm_steps, warm_ratio)
    return warm * (1 + math.cos(math.pi * step / steps)) / 2


def falling(
    step: int,
    steps: int,
    drops: Sequence[float],
    factor: float,
    warm_steps: int = 0,
    warm_ratio: float = 1e-4,
) -> float:
    """As `warm_cosine`, of a rate that is multiplied by `factor` at each of `drops`, shares of the steps."""
    passed = sum(step >= round(drop * steps) for drop in drops)
    return _warm(step, steps, warm_steps, warm_ratio) * float(factor**passed)


def _warm(step: int, steps: int, warm_steps: int, warm_ratio: float) -> float:
    if not (0 <= step <= steps and 0 <= warm_steps <= steps and steps > 0):
        raise PapersError(
            f"step {step} of {steps} with {warm_steps} to warm up; both must lie within the steps"
        )
    return 1 - (1 - step / warm_steps) * (1 - warm_ratio) if step < warm_steps else 1.0


def ema_momentum(base: float, step: int, steps: int) -> float:
    """The target's momentum at `step` of `steps`: 1 − (1 − base) (cos(π t / T) + 1) / 2 (BYOL).

    From `base` at the first step to 1 at the last.
    """
    return 1 - (1 - base) * (math.cos(math.pi * step / steps) + 1) / 2  # base at 0, 1 at the end


@torch.no_grad()
def ema_(target: Iterable[Tensor], online: Iterable[Tensor], momentum: float) -> None:
    """ξ ← m ξ + (1 − m) θ for each pair of tensors, in place.

    Raises:
        PapersError: different numbers of tensors.
    """
    targets, onlines = list(target), list(online)
    if len(targets) != len(onlines):
        raise PapersError(f"{len(targets)} tensors follow {len(onlines)}; the two networks must be alike")
    if targets:
        # ξ + (1 − m) (θ − ξ)
        torch._foreach_lerp_(targets, onlines, 1 - momentum)
