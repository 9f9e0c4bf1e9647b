"""BYOL's frame, in which the median triplet stands, too: an online network and a target that follows it.

Grill et al., "Bootstrap Your Own Latent" (NeurIPS 2020), Section 3.1, with OpenSelfSup's settings, on which
the median triplet's public code is built:

    q(v) = predictor(projector(encoder(v))),   z(v) = projector′(encoder′(v)) without gradient,
    L = s · (ℓ(q(v₁), z(v₂)) + ℓ(q(v₂), z(v₁))),   ξ ← m ξ + (1 − m) θ,   m = 1 − (1 − m₀)(cos(πt/T) + 1)/2

ξ are the weights of the primed networks, θ those of encoder and projector, s is `loss_scale`. The target
stays in training mode: batch normalisation uses the batch's own statistics there, view by view.
"""

from __future__ import annotations

import torch
from torch import Tensor

from papers_lib.median_triplet.augment import draw_size, resized
from papers_lib.median_triplet.methods.base import (
    Batch,
    Logs,
    Method,
    Settings,
    follow,
    full_precision,
    target_of,
)
from papers_lib.median_triplet.methods.projector import projector
from papers_lib.median_triplet.optimisers import ema_momentum

Pair = tuple[Tensor, Tensor]


class OnlineTarget(Method):
    """The frame; `pair_loss` is what the methods in it differ in.

    Attributes:
        target: the encoder and projector that follow the online ones.
        latest: the pairs (query, target), each [B, out], of the last loss, detached; for monitoring.
    """

    recipe = "byol"
    number_of_views = 2

    def __init__(self, settings: Settings, images_total: int, classes: int | None) -> None:
        super().__init__(settings)
        hidden, out = settings.projector_hidden, settings.projector_out
        self.projector = projector(self.dimension, hidden, out)
        self.predictor = projector(out, hidden, out, std=0.01)
        self.target = target_of(self.encoder, self.projector)
        self.latest: tuple[Pair, ...] = ()

    def pair_loss(self, query: Tensor, target: Tensor) -> tuple[Tensor, Logs]:
        """ℓ(q, z) of float32 [B, out] each: a scalar, and what to log."""
        raise NotImplementedError

    def _loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        pairs = self._pairs(*batch.views)
        self.latest = tuple((query.detach(), target) for query, target in pairs)
        with full_precision(pairs[0][0]):
            (one, logs), (two, more) = (self.pair_loss(*pair) for pair in pairs)
        weight = self.settings.loss_scale / (2 if self.settings.view_reduction == "mean" else 1)
        return weight * (one + two), {name: (logs[name] + more[name]) / 2 for name in logs}

    def _pairs(self, one: Tensor, two: Tensor) -> tuple[Pair, Pair]:
        """(q(v₁), z(v₂)) and (q(v₂), z(v₁)), in float32; four passes, each at a size of its own."""
        queries = [self.predictor(self.projector(self.encoder(self._sized(v, "online")))) for v in (one, two)]
        with torch.no_grad():
            targets = [self.target(self._sized(v, "target")) for v in (two, one)]
        return (queries[0].float(), targets[0].float()), (queries[1].float(), targets[1].float())

    def _sized(self, view: Tensor, network: str) -> Tensor:
        """Random resolution, of the public code alone: a size of the network's range for the whole batch."""
        if not self.settings.random_resolution:
            return view
        shares = self.settings.online_sizes if network == "online" else self.settings.target_sizes
        low, high = (round(share * view.shape[-1]) for share in shares)
        return resized(view, draw_size(self.generator, low, high))

    def after_step(self, step: int, steps: int) -> None:
        """The target follows the online network, ever more slowly."""
        momentum = ema_momentum(self.settings.ema_base, step, steps)
        follow(self.target, (self.encoder, self.projector), momentum, self.settings.ema_buffers)
