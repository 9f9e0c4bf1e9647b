"""The small networks on top of an encoder."""

from __future__ import annotations

from typing import TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


def projector(inside: int, hidden: int, outside: int, std: float | None = None) -> nn.Sequential:
    """Linear – BN – ReLU – Linear, [B, inside] to [B, outside]: BYOL's projector and predictor.

    Initialised as OpenSelfSup's: normal with deviation `std`, or Kaiming's (fan in) without; biases 0.
    """
    layers = nn.Sequential(
        nn.Linear(inside, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, outside)
    )
    return initialised(layers, std)


def classifier(inside: int, classes: int) -> nn.Linear:
    """Linear, [B, inside] to scores [B, classes]; weights N(0, 0.01²), bias 0."""
    return initialised(nn.Linear(inside, classes), 0.01)


def initialised(layers: M, std: float | None = None, bias: float = 0.0) -> M:
    """`layers`, its linear ones drawn anew as `projector` says."""
    for layer in layers.modules():
        if isinstance(layer, nn.Linear):
            if std is None:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            else:
                nn.init.normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.constant_(layer.bias, bias)
    return layers
