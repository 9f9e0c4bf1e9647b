"""MoCo: He et al., "Momentum Contrast for Unsupervised Visual Representation Learning" (CVPR 2020), and v2.

Version 2 is Chen et al., "Improved Baselines with Momentum Contrastive Learning" (2020). The papers shuffle
the key encoder's batches between devices, because batch normalisation by device tells a query which key was
normalised together with it. On one device there is nothing to shuffle (any order has the same statistics);
on several, synchronised batch normalisation takes the shuffle's place here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from papers_lib.median_triplet.methods.base import (
    Batch,
    Logs,
    Method,
    Settings,
    follow,
    full_precision,
    gathered,
    target_of,
)


class MoCo(Method):
    """Equations 1 and 2: InfoNCE of a query with its key against a queue of older keys, 128-d, τ = 0.07.

    The key encoder follows the query encoder after each step with the constant momentum `ema_base`
    (0.999 in the paper). `queue` keys are kept (65,536 in the paper), random ones at first.
    """

    recipe = "moco_v1"
    number_of_views = 2
    temperature = 0.07
    queue: Tensor
    oldest: Tensor

    def __init__(self, settings: Settings, images_total: int, classes: int | None) -> None:
        super().__init__(settings)
        self.tau = settings.temperature or self.temperature
        self.head = self._head()
        self.target = target_of(self.encoder, self.head)
        keys = torch.randn(settings.queue, 128, generator=self.generator)
        self.register_buffer("queue", F.normalize(keys))
        self.register_buffer("oldest", torch.zeros((), dtype=torch.int64))

    def _head(self) -> nn.Module:
        return nn.Linear(self.dimension, 128)

    def _loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        query = self.head(self.encoder(batch.views[0]))
        with torch.no_grad():
            key = self.target(batch.views[1])
        with full_precision(query):
            query, key = F.normalize(query.float()), F.normalize(key.float())
            loss = info_nce(query, key, self.queue.clone(), self.tau)  # a copy: the queue moves on
            self._enqueue(gathered(key))
        return loss, {}

    def _enqueue(self, keys: Tensor) -> None:
        """Overwrite the oldest keys, in the order of the batch; of more than fit, the last stay."""
        length = len(self.queue)
        rows = (self.oldest + torch.arange(len(keys), device=keys.device)) % length
        self.queue[rows[-length:]] = keys[-length:]
        self.oldest.copy_((self.oldest + len(keys)) % length)

    def after_step(self, step: int, steps: int) -> None:
        """Equation 2; the paper does it before the next forward pass, which is the same."""
        follow(self.target, (self.encoder, self.head), self.settings.ema_base, self.settings.ema_buffers)


class MoCoV2(MoCo):
    """MoCo with an MLP head (Linear – ReLU – Linear), stronger augmentation and τ = 0.2."""

    recipe = "moco_v2"
    temperature = 0.2

    def _head(self) -> nn.Module:
        inside = self.dimension
        return nn.Sequential(nn.Linear(inside, inside), nn.ReLU(inplace=True), nn.Linear(inside, 128))


def info_nce(query: Tensor, key: Tensor, negatives: Tensor, tau: float = 0.07) -> Tensor:
    """Equation 1 of MoCo, the mean over the batch:

        − log( exp(q·k₊/τ) / (exp(q·k₊/τ) + Σ_j exp(q·k_j/τ)) )

    Args:
        query, key: [B, d] unit vectors, row by row of the same image.
        negatives: [K, d] unit vectors.
        tau: temperature.
    """
    positive = (query * key).sum(1, keepdim=True)
    logits = torch.cat((positive, query @ negatives.T), 1) / tau
    return F.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.int64))
