"""Every image its own class: SimCLR, MoCo and NPID, each a softmax over other images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from papers_lib.median_triplet.methods.base import (
    Batch,
    Logs,
    Method,
    Settings,
    cross_entropy,
    follow,
    full_precision,
    initialised,
    target_of,
)
from papers_lib.processes import gathered


class SimClr(Method):
    """Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations" (2020).

    Equation 1 over both views of all images; τ = 0.1. With `negative_pool="all_devices"`, as the authors',
    the images are those of all processes. Projector as the authors':
    Linear – BN – ReLU – Linear – BN to 128 dimensions, the linear ones without bias. Both views pass
    together, so that they share BN statistics.
    """

    recipe = "simclr"
    number_of_views = 2
    rivals = True

    def __init__(self, settings: Settings, images_total: int, classes: int | None) -> None:
        super().__init__(settings, images_total, classes)
        self.tau = settings.temperature or 0.1
        layers = nn.Sequential(
            nn.Linear(self.dimension, self.dimension, bias=False),
            nn.BatchNorm1d(self.dimension),
            nn.ReLU(inplace=True),
            nn.Linear(self.dimension, 128, bias=False),
            nn.BatchNorm1d(128),
        )
        self.projector = initialised(layers)

    def _loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        views = torch.cat(batch.views)  # [2B, 3, s, s]
        one, two = self.projector(self.encoder(views)).float().chunk(2)  # [B, 128] each
        with full_precision(one):
            if self.settings.negative_pool == "all_devices":
                one, two = gathered(one), gathered(two)
            return nt_xent(one, two, self.tau), {}


def nt_xent(one: Tensor, two: Tensor, tau: float = 0.1) -> Tensor:
    """Equation 1 of SimCLR, the mean over all 2n views:

        ℓ(i, j) = − log( exp(cos(z_i, z_j)/τ) / Σ_{k ≠ i} exp(cos(z_i, z_k)/τ) ),  j the other view of i

    Args:
        one, two: [n, d] float32 projections of both views; row i of each is of the same image.
        tau: temperature.
    """
    z = F.normalize(torch.cat((one, two)))  # [2n, d]
    logits = (z @ z.T / tau).fill_diagonal_(-torch.inf)  # cos / τ, [2n, 2n], no view with itself
    other = torch.arange(len(z), device=z.device).roll(len(one))  # j of i: i + n modulo 2n
    return F.cross_entropy(logits, other)


class MoCo(Method):
    """He et al., "Momentum Contrast for Unsupervised Visual Representation Learning" (CVPR 2020).

    Equations 1 and 2: InfoNCE of a query with its key against a queue of older keys, 128-d, τ = 0.07. The
    key encoder follows the query encoder after each step with the constant momentum `ema_base` (0.999 in
    the paper). `queue` keys are kept (65,536 in the paper), random ones at first.

    The paper shuffles the key encoder's batches between devices, because batch normalisation by device
    tells a query which key was normalised together with it. On one device there is nothing to shuffle
    (any order has the same statistics); on several, synchronised statistics take the shuffle's place here.
    """

    recipe = "moco_v1"
    number_of_views = 2
    whole = True
    temperature = 0.07
    queue: Tensor
    oldest: Tensor

    def __init__(self, settings: Settings, images_total: int, classes: int | None) -> None:
        super().__init__(settings, images_total, classes)
        self.tau = settings.temperature or self.temperature
        self.head = self._head()
        self.target = target_of(self.encoder, self.head)
        keys = torch.randn(settings.queue, 128, generator=self.generator)
        self.register_buffer("queue", F.normalize(keys))  # [K, 128]
        self.register_buffer("oldest", torch.zeros((), dtype=torch.int64))

    def _head(self) -> nn.Module:
        return nn.Linear(self.dimension, 128)

    def _loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        query = self.head(self.encoder(batch.views[0]))  # [B, 128]
        with torch.no_grad():
            key = self.target(batch.views[1])  # [B, 128]
        with full_precision(query):
            query, key = F.normalize(query.float()), F.normalize(key.float())
            loss = info_nce(query, key, self.queue.clone(), self.tau)  # a copy: the queue moves on
            self._enqueue(gathered(key))
        return loss, {}

    def _enqueue(self, keys: Tensor) -> None:
        """Overwrite the oldest keys, in the order of the batch; of more than fit, the last stay."""
        length = len(self.queue)
        # places in the ring, [B]
        rows = (self.oldest + torch.arange(len(keys), device=keys.device)) % length
        self.queue[rows[-length:]] = keys[-length:]
        self.oldest.copy_((self.oldest + len(keys)) % length)

    def after_step(self, step: int, steps: int) -> None:
        """Equation 2; the paper does it before the next forward pass, which is the same."""
        follow(self.target, (self.encoder, self.head), self.settings.ema_base, self.settings.ema_buffers)


class MoCoV2(MoCo):
    """Chen et al., "Improved Baselines with Momentum Contrastive Learning" (2020).

    MoCo with an MLP head (Linear – ReLU – Linear), stronger augmentation and τ = 0.2.
    """

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
    positive = (query * key).sum(1, keepdim=True)  # [B, 1]
    logits = torch.cat((positive, query @ negatives.T), 1) / tau  # [B, 1 + K]
    return F.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.int64))


class Npid(Method):
    """Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination" (CVPR 2018).

    Equation 2: every image is a class, and a memory v of unit vectors, one per image, its classifier.

        P(i | f) = exp(v_i·f/τ) / Σ_j exp(v_j·f/τ),   v_i ← L2(½ v_i + ½ f)

    τ = 0.07, 128 dimensions. The sum runs over all images if they are no more than `queue`, else over
    i and `queue` others, drawn anew for each batch (OpenSelfSup, whose form of the loss this is, draws for
    each image). The paper's noise-contrastive estimate and proximal term stand for the full softmax,
    which small sets do not need.
    """

    recipe = "moco_v1"
    whole = True
    memory: Tensor

    def __init__(self, settings: Settings, images_total: int, classes: int | None) -> None:
        super().__init__(settings, images_total, classes)
        self.tau = settings.temperature or 0.07
        self.projector = initialised(nn.Linear(self.dimension, 128))
        memory = torch.randn(images_total, 128, generator=self.generator)
        self.register_buffer("memory", F.normalize(memory))  # [N, 128]

    def _loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        features = self.projector(self.encoder(batch.views[0]))
        indices, others = batch.indices.to(features.device), self._others().to(features.device)
        with full_precision(features):
            f = F.normalize(features.float())  # [B, 128]
            positive = (f * self.memory[indices]).sum(1, keepdim=True)  # [B, 1]
            negative = f @ self.memory[others].T  # [B, M]
            negative = negative.masked_fill(others == indices[:, None], -torch.inf)
            logits = torch.cat((positive, negative), 1) / self.tau
            loss = cross_entropy(logits, torch.zeros_like(indices))
            # v_i ← L2(½ v_i + ½ f)
            indices, f = gathered(indices), gathered(f.detach())
            self.memory[indices] = F.normalize((self.memory[indices] + f) / 2)
        return loss, {}

    def _others(self) -> Tensor:
        """The images that the sum runs over, [M]."""
        count, most = len(self.memory), self.settings.queue
        if count <= most:
            return torch.arange(count)
        return torch.randint(count, (most,), generator=self.generator)
