"""Learning rates as functions of the epoch, fractions included."""

from __future__ import annotations

import math


def sgdr(epoch: float, first: int, low: float = 0.0) -> float:
    """Factor of the highest rate: cosines from 1 to `low` over `first`, 2 `first`, 4 `first` … epochs.

    Loshchilov and Hutter (ICLR 2017), Eq. 5, with T₀ = `first` and T_mult = 2.
    """
    start, length = 0, first
    while epoch >= start + length:
        start, length = start + length, 2 * length
    return low + (1 - low) * (1 + math.cos(math.pi * (epoch - start) / length)) / 2


def warm_cosine(epoch: float, epochs: int, warm: float) -> float:
    """Factor of the rate: linear from 0 over `warm` epochs, then a cosine to zero at the end."""
    if epoch < warm:
        return epoch / warm
    return (1 + math.cos(math.pi * (epoch - warm) / max(epochs - warm, 1e-9))) / 2
