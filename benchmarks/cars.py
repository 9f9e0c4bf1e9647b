"""Labels with the real class counts of Cars196, and synthetic unit features for them."""

from __future__ import annotations

from importlib.resources import files
from typing import Literal

import pandas as pd
import torch
from torch import Tensor


def classes(split: Literal["train", "test"]) -> pd.DataFrame:
    """The 98 classes of a side of the zero-overlap split: `type22` and `images` of each."""
    with (files("papers_lib.datasets") / "cars196_types.csv").open() as file:
        table = pd.read_csv(file, comment="#")
    return table[table["split"] == split].reset_index(drop=True)


def labels(table: pd.DataFrame, n: int) -> Tensor:
    """Class indices [n] in class order, with the table's counts stretched or thinned to n in all."""
    # Every (len / n)-th of the labels in class order.
    counts = torch.tensor(table["images"].to_numpy())
    every = torch.repeat_interleave(torch.arange(len(counts)), counts)
    return every[torch.arange(n) * len(every) // n]


def features(classes_of: Tensor, d: int, spread: float) -> Tensor:
    """Unit vectors [n, d]: noise about a random centre for each class, `spread` times as long."""
    generator = torch.Generator().manual_seed(0)
    # x ← noise + spread · centre, to length 1
    x = torch.randn(len(classes_of), d, generator=generator)
    centres = torch.randn(int(classes_of.max()) + 1, d, generator=generator)
    return torch.nn.functional.normalize(x.add_(centres[classes_of], alpha=spread), dim=1)
