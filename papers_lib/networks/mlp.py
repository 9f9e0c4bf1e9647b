"""A small network on frozen features, in the place of a backbone."""

from __future__ import annotations

from torch import Tensor, nn

MLPS = {"mlp64": 64}  # name -> dimension of the features
TIMES = 4  # so many times as wide


class Mlp(nn.Module):
    """Linear – BN – ReLU – Linear – BN – ReLU, features [B, d] to [B, 4 d]."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        width = TIMES * dimension
        self.layers = nn.Sequential(
            nn.Linear(dimension, width),
            nn.BatchNorm1d(width),
            nn.ReLU(inplace=True),
            nn.Linear(width, width),
            nn.BatchNorm1d(width),
            nn.ReLU(inplace=True),
        )

    def forward(self, features: Tensor) -> Tensor:
        """[B, d] → [B, 4 d]."""
        out: Tensor = self.layers(features)
        return out
