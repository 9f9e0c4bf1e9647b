"""SimCLR: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations" (2020)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from papers_lib.median_triplet.methods.base import Batch, Logs, Method, Settings, full_precision, gathered
from papers_lib.median_triplet.methods.projector import initialised


class SimClr(Method):
    """Equation 1 over both views of all images, on all devices; τ = 0.1.

    Projector as the authors': Linear – BN – ReLU – Linear – BN to 128 dimensions, the linear ones
    without bias. Both views pass together, so that they share BN statistics.
    """

    recipe = "simclr"
    number_of_views = 2

    def __init__(self, settings: Settings, images_total: int, classes: int | None) -> None:
        super().__init__(settings)
        self.tau = settings.temperature or 0.1
        layers = nn.Sequential(
            nn.Linear(self.dimension, self.dimension, bias=False), nn.BatchNorm1d(self.dimension),
            nn.ReLU(inplace=True), nn.Linear(self.dimension, 128, bias=False), nn.BatchNorm1d(128),
        )  # fmt: skip
        self.projector = initialised(layers)

    def _loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        one, two = self.projector(self.encoder(torch.cat(batch.views))).float().chunk(2)
        with full_precision(one):
            return nt_xent(gathered(one), gathered(two), self.tau), {}


def nt_xent(one: Tensor, two: Tensor, tau: float = 0.1) -> Tensor:
    """Equation 1 of SimCLR, the mean over all 2n views:

        ℓ(i, j) = − log( exp(cos(z_i, z_j)/τ) / Σ_{k ≠ i} exp(cos(z_i, z_k)/τ) ),  j the other view of i

    Args:
        one, two: [n, d] float32 projections of both views; row i of each is of the same image.
        tau: temperature.
    """
    z = F.normalize(torch.cat((one, two)))
    logits = (z @ z.T / tau).fill_diagonal_(-torch.inf)
    other = torch.arange(len(z), device=z.device).roll(len(one))
    return F.cross_entropy(logits, other)
