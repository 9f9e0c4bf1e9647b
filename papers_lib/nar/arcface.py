"""ArcFace: softmax over angles, with a margin added to the angle of the right identity.

With unit embeddings x, unit rows w_j and cos θ_j = w_jᵀ x, the logits are s cos θ_j, and for the label y

    s cos(θ_y + m)            where θ_y + m ≤ π,
    s (cos θ_y − m sin m)     beyond, where cos(θ + m) would rise again.

(Deng et al., CVPR 2019, Eq. 3; the second line is what the authors' mxnet code does, sin(π − m) = sin m.)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from papers_lib import arrays
from papers_lib.arrays import Array
from papers_lib.compute import exact
from papers_lib.errors import PapersError

EDGE = 1e-6  # cosines end this far from ±1: the angle has no finite slope there


class ArcFace(nn.Module):
    """The head of a face network: embeddings [B, d] and labels [B] → the loss, a scalar.

    `dimension` is d, `identities` C, the weight [C, d], `scale` s, and `margin` m in radians.

    Raises:
        PapersError: a scale that is not positive and finite, a margin outside of 0 … π/2, no dimension, or
            fewer than two identities.
    """

    def __init__(self, dimension: int, identities: int, scale: float = 64.0, margin: float = 0.5) -> None:
        super().__init__()
        if not 0 < scale < math.inf or not 0 <= margin < math.pi / 2:
            raise PapersError(
                f"scale {scale} and margin {margin}; give a positive scale, a margin in [0, π/2)"
            )
        if identities < 2 or dimension < 1:
            raise PapersError(
                f"ArcFace cannot tell {identities} identities apart in {dimension} dimensions; "
                "give 2 or more in 1 or more"
            )
        self.scale, self.margin = scale, margin
        self.weight = nn.Parameter(torch.randn(identities, dimension) * 0.01)  # [C, d]

    @exact(gradients=True)
    def cosines(self, embeddings: Array) -> Tensor:
        """cos θ, [B, C] in float32 whatever the precision around it."""
        x = arrays.numbers("embeddings", embeddings)  # [B, d]
        return normalize(x.float()) @ normalize(self.weight.float()).t()  # [B, d] · [d, C]

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of the logits with margin, mean over the batch."""
        return self.loss(self.cosines(embeddings), labels)

    def loss(self, cosines: Tensor, labels: Tensor) -> Tensor:
        """The same, of `cosines` [B, C] that are known already."""
        return cross_entropy(arc_logits(cosines, labels, self.scale, self.margin), labels)


def arc_logits(cosines: Tensor, labels: Tensor, scale: float = 64.0, margin: float = 0.5) -> Tensor:
    """The logits above, [B, C], of cosines [B, C] and labels [B].

    Rounding may leave a cosine beyond ±1, so it is clamped first.

    Raises:
        PapersError: not one int64 label per row, or no row. A label that is no column is torch's to refuse:
            to look for one would stop a GPU at every step.
    """
    if labels.dtype != torch.int64 or labels.shape != cosines.shape[:1] or not len(labels):
        raise PapersError(
            f"labels are {labels.dtype} {tuple(labels.shape)} for {len(cosines)} embeddings; give one int64 "
            "identity each, for one or more"
        )
    cos = cosines.gather(1, labels[:, None]).clamp(EDGE - 1, 1 - EDGE)  # cos θ_y, [B, 1]
    sin = (1 - cos.square()).sqrt()  # θ lies in [0, π], where the sine is not negative
    # cos(θ + m) = cos θ cos m − sin θ sin m: no arccos is taken
    turned = cos * math.cos(margin) - sin * math.sin(margin)
    # θ + m ≤ π where cos θ ≥ cos(π − m) = −cos m
    with_margin = torch.where(cos >= -math.cos(margin), turned, cos - margin * math.sin(margin))
    return scale * cosines.scatter(1, labels[:, None], with_margin)
