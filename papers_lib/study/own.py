"""What a profile asks of a data set of thousands, as a folder of one's own can give it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def equal_share(images: int, counts: NDArray[np.int64]) -> int:
    """The setting `images` where training images are `counts` [C], of each class; 0 is all of them.

    As many of each class as the profile asks, where every class has them: else all, as a rare class would
    leave few of any.
    """
    share = images // len(counts)  # of each class
    return images if images < counts.sum() and 0 < share <= counts.min() else 0


def smaller_batch(values: dict[str, Any], images: int, lr: float = 0) -> dict[str, Any]:
    """What of `values` changes where so few images fill no batch: they are one, at a rate in proportion.

    A rate `lr` that was asked for stays as it is.
    """
    size = values["batch_size"]
    if images >= size:
        return {}
    # linear, so that equal images mean equal movement
    rate = {"lr": values["lr"] * images / size} if "lr" in values and not lr else {}
    return {"batch_size": images} | rate
