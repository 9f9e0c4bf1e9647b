"""What the loss prefers, alone: free vectors without a network, moved until the loss no longer falls.

    python -m papers_lib.median_triplet.toy

writes what Figure 2 shows. It lies beside this file because a thousand steps carry a processor's last bit
into the first digit of a vector; angles between vectors, rank and clumps are the same on all.

The rank of the negative sets how many clumps a batch falls into: a query's nearest k − 1 may come as near
as they like. At k = n/2 three clumps of a third of the batch each are at rest, in a plane.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypedDict

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from papers_lib.compute import exact
from papers_lib.evaluation.collapse import clusters, effective_rank
from papers_lib.median_triplet.heads import rank, rank_k_triplet, smoothed_triplet

COMPUTED = Path(__file__).with_name("free_vectors.csv")
Head = int | float | Literal["smoothed"] | None
HEADS: dict[str, Head] = {"k = 1": 1, "k = 5": 5, "ranks 2–10": "smoothed", "k = n/4": 0.25, "k = n/2": None}
RATE = 10.0  # of the mean loss: a tenth of a vector's own gradient at n = 104


class Free(TypedDict):
    """Vectors [n, d] of length 1 at the end, and what they have become."""

    vectors: Tensor
    effective_rank: float
    clusters: int  # at a cosine above .9
    cosine_to_negative: float  # mean over the queries, and over the ranks that the head takes


@exact(gradients=True)
def free_vectors(n: int = 104, d: int = 256, head: Head = None, steps: int = 1000, seed: int = 0) -> Free:
    """Minimise a head over n free vectors on the unit sphere, each its own positive, by gradient descent.

    The target is the vectors themselves, without gradient, as the target network is; what is left of the
    loss then is the repulsion from the negative.

    Args:
        head: the rank k as `rank_k_triplet` takes it (None: the median), or "smoothed", ranks 2 to 10.
        steps: the rate falls in a line to zero over them, so that the end is at rest.

    Raises:
        PapersError: as the heads.
    """
    first, last = (2, 10) if head == "smoothed" else (rank(head, n),) * 2
    generator = torch.Generator().manual_seed(seed)
    x = F.normalize(torch.randn(n, d, generator=generator)).requires_grad_()  # [n, d]
    for step in range(steps):
        target = x.detach().clone()
        loss = smoothed_triplet(x, target) if head == "smoothed" else rank_k_triplet(x, target, head)
        (gradient,) = torch.autograd.grad(loss, x)
        with torch.no_grad():  # a step, and back onto the sphere
            x.copy_(F.normalize(x - RATE * (1 - step / steps) * gradient))
    vectors = x.detach()
    cosines = (vectors @ vectors.T).fill_diagonal_(-torch.inf)  # [n, n]
    cosines = cosines.topk(last).values[:, first - 1 :]  # of the ranks that the head takes
    return {
        "vectors": vectors,
        "effective_rank": effective_rank(vectors),
        "clusters": clusters(vectors),
        "cosine_to_negative": float(cosines.mean()),
    }


def table() -> pd.DataFrame:
    """One row per vector and head: its place on the batch's two main directions, rank and clumps."""
    rows = []
    for name, head in HEADS.items():
        end = free_vectors(head=head)
        # the two directions that most of the batch lies along, of either sign
        _, _, directions = torch.linalg.svd(end["vectors"], full_matrices=False)
        for i, (x, y) in enumerate((end["vectors"] @ directions[:2].T).tolist()):
            rows.append((name, i, x, y, end["effective_rank"], end["clusters"]))
    return pd.DataFrame(rows, columns=["negative", "vector", "x", "y", "rank", "clumps"])


if __name__ == "__main__":
    table().to_csv(COMPUTED, index=False, float_format="%.6g", lineterminator="\n")
