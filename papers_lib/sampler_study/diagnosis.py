"""What is read off an epoch: its mean loss, and how pure its clusters were by the true identities."""

from __future__ import annotations

import torch
from torch import Tensor

from papers_lib import arrays
from papers_lib.arrays import Array
from papers_lib.compute import exact


def mean_loss(losses: list[Tensor], epoch: int) -> float:
    """The mean loss of an epoch's batches, the one wait for the device.

    Raises:
        FloatingPointError: it is no longer finite.
    """
    loss = float(torch.stack(losses).mean())
    if not loss < float("inf"):  # NaN too
        raise FloatingPointError(f"the loss is {loss} in epoch {epoch + 1}; lower lr")
    return round(loss, 5)


def with_purity(history: list[dict[str, float]], labels: list[Tensor], ids: Tensor) -> list[dict[str, float]]:
    """`history` with `purity` and `found` of each epoch's clusters (labels [N], −1 outliers; ids [N]).

    `purity` is the share of a cluster that is one person, `found` the share of a person that is one cluster.
    """
    return [
        epoch
        | {"purity": purity(clusters, ids), "found": purity(ids[clusters >= 0], clusters[clusters >= 0])}
        for epoch, clusters in zip(history, labels, strict=True)
    ]


@exact()
def purity(clusters: Array, ids: Array) -> float:
    """Share of the clustered images whose identity is the commonest one of their cluster."""
    clusters = arrays.integers("clusters", clusters).cpu()
    ids = arrays.integers("ids", ids, len(clusters)).cpu()
    kept = clusters >= 0
    if not kept.any():
        return 0.0
    _, rows = clusters[kept].unique(return_inverse=True)
    names, columns = ids[kept].unique(return_inverse=True)
    # The table of clusters by identities, as its cells that are not empty.
    pairs, counts = (rows * len(names) + columns).unique(return_counts=True)
    most = torch.zeros(int(rows.max()) + 1, dtype=counts.dtype)
    most.scatter_reduce_(0, pairs // len(names), counts, "amax")
    return round(float(most.sum()) / int(kept.sum()), 5)
