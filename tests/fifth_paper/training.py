"""Least squares by stochastic gradient descent, its samples drawn in shuffled passes or with replacement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from pydantic import Field

from papers_lib.settings import Frozen


class TrainSettings(Frozen):
    """Everything that can change what a run computes."""

    seed: int = Field(0, ge=0)
    sampler: Literal["shuffled", "replaced"] = "shuffled"
    samples: int = Field(64, ge=2)
    epochs: int = Field(8, ge=1)
    lr: float = Field(0.02, gt=0)


def train(settings: TrainSettings, report: Callable[[int, int, str], None]) -> dict[str, Any]:
    """The excess loss ‖w − w*‖² after each epoch; w* is the least-squares solution."""
    generator = torch.Generator().manual_seed(settings.seed)
    n = settings.samples
    inputs = torch.randn(n, 4, generator=generator, dtype=torch.float64)  # [N, 4]
    targets = inputs.sum(1) + torch.randn(n, generator=generator, dtype=torch.float64)  # [N]
    optimum = torch.linalg.lstsq(inputs, targets[:, None]).solution[:, 0]  # w*, [4]
    w = torch.zeros(4, dtype=torch.float64)
    history = []
    for epoch in range(settings.epochs):
        # -- sample: a pass over all, or as many draws --
        if settings.sampler == "shuffled":
            order = torch.randperm(n, generator=generator)
        else:
            order = torch.randint(n, (n,), generator=generator)
        # -- step: w ← w − η (x·w − y) x --
        for i in order:
            w -= settings.lr * (inputs[i] @ w - targets[i]) * inputs[i]
        history.append({"excess": round(float((w - optimum).square().sum()), 6)})
        report(epoch + 1, settings.epochs, f"excess {history[-1]['excess']:.3f}")
    return {"excess": history[-1]["excess"], "history": history}
