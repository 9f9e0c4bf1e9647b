"""NPID: Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination" (CVPR 2018)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from papers_lib.median_triplet.methods.base import Batch, Logs, Method, Settings, full_precision, gathered
from papers_lib.median_triplet.methods.projector import initialised


class Npid(Method):
    """Equation 2: every image is a class, and a memory v of unit vectors, one an image, its classifier.

        P(i | f) = exp(v_i·f/τ) / Σ_j exp(v_j·f/τ),   v_i ← L2(½ v_i + ½ f)

    τ = 0.07, 128 dimensions. The sum runs over all images if they are no more than `queue`, else over
    i and `queue` others, drawn anew for each batch (OpenSelfSup, whose form of the loss this is, draws for
    each image). The paper's noise-contrastive estimate and proximal term stand for the full softmax,
    which small sets do not need.
    """

    recipe = "moco_v1"
    memory: Tensor

    def __init__(self, settings: Settings, images_total: int, classes: int | None) -> None:
        super().__init__(settings)
        self.tau = settings.temperature or 0.07
        self.projector = initialised(torch.nn.Linear(self.dimension, 128))
        memory = torch.randn(images_total, 128, generator=self.generator)
        self.register_buffer("memory", F.normalize(memory))

    def _loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        features = self.projector(self.encoder(batch.views[0]))
        indices = batch.indices.to(features.device)
        with full_precision(features):
            features = F.normalize(features.float())
            loss = self._discriminate(features, indices)
            self._remember(gathered(indices), gathered(features.detach()))
        return loss, {}

    def _discriminate(self, features: Tensor, indices: Tensor) -> Tensor:
        others = self._drawn().to(features.device)
        positive = (features * self.memory[indices]).sum(1, keepdim=True)
        negative = (features @ self.memory[others].T).masked_fill(others == indices[:, None], -torch.inf)
        logits = torch.cat((positive, negative), 1) / self.tau
        return F.cross_entropy(logits, torch.zeros_like(indices))

    def _drawn(self) -> Tensor:
        count, most = len(self.memory), self.settings.queue
        if count <= most:
            return torch.arange(count)
        return torch.randint(count, (most,), generator=self.generator)

    def _remember(self, indices: Tensor, features: Tensor) -> None:
        self.memory[indices] = F.normalize((self.memory[indices] + features) / 2)
