"""BYOL: Grill et al., "Bootstrap Your Own Latent" (NeurIPS 2020)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from papers_lib.median_triplet.methods.base import Logs
from papers_lib.median_triplet.methods.frame import OnlineTarget


class Byol(OnlineTarget):
    """Equation 2 without its constant: ‖q̄ − z̄‖² = 2 − 2 cos(q, z), so that ℓ = −2 cos(q, z)."""

    def pair_loss(self, query: Tensor, target: Tensor) -> tuple[Tensor, Logs]:
        """The mean of −2 cos(q, z) over the batch."""
        cosine = F.cosine_similarity(query, target).mean()
        return -2 * cosine, {"cos_positive": cosine.detach()}
