"""The method: Wang et al., "Solving Inefficiency of Self-supervised Representation Learning" (2021)."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from papers_lib.errors import PapersError
from papers_lib.median_triplet import heads, prior
from papers_lib.median_triplet.methods.base import Logs, Settings, gathered
from papers_lib.median_triplet.methods.frame import OnlineTarget

HEADS = ("median", "rank", "smoothed", "hardest", "prior")


class Triplet(OnlineTarget):
    """Equation 2 in BYOL's frame, its negatives the target projections of the batch's other images.

    `head` says which negative: `median` (k = n // 2), `rank` (`k`, or below 1 a share of n), `hardest`
    (k = 1), `prior` (the smallest k that is safe for so many classes), or `smoothed`, the mean of ranks
    2 to 10 of the newest public code. With `negative_pool="all_devices"` n counts the images of all
    processes.

    Raises:
        PapersError: an unknown head, `rank` without a k that can be one, or `prior` without the classes.
    """

    def __init__(self, settings: Settings, images_total: int, classes: int | None) -> None:
        super().__init__(settings, images_total, classes)
        self.classes = classes
        if settings.head not in HEADS:
            raise PapersError(f"head is '{settings.head}'; it must be one of {', '.join(HEADS)}")
        if settings.head == "rank" and (not settings.k or (settings.k > 1 and settings.k % 1)):
            raise PapersError(f"head=rank, k={settings.k}; give a rank, or below 1 a share of the batch")
        if settings.head == "prior" and classes is None:
            raise PapersError("head=prior needs the number of classes; give it, or take head=median")

    def k(self, n: int) -> int | float | None:
        """The rank that `heads.rank_k_triplet` and `heads.selected` are given for n images.

        For the smoothed head, which has no single negative, it is the middle one, 6.
        """
        head, k = self.settings.head, self.settings.k
        if head == "prior" and self.classes is not None:
            return _safe(n, self.classes)
        if head == "rank":
            return int(k) if k >= 1 else float(k)
        return {"median": None, "hardest": 1, "smoothed": 6}[head]

    def pair_loss(self, query: Tensor, target: Tensor) -> tuple[Tensor, Logs]:
        """The head over the batch, and the mean cosines to the positive and to the negative."""
        s = self.settings
        if s.negative_pool == "all_devices":
            query, target = gathered(query), gathered(target)
        loss = self._head(query, target, s.margin)
        with torch.no_grad():
            positive = F.cosine_similarity(query, target).mean()
            linear = loss if s.margin is None else self._head(query, target, None)
            # γ d⁺ − d⁻ = c (cos⁻ − γ cos⁺), c being the distance's scale
            negative = linear.detach() / s.distance_scale + s.gamma * positive
        return loss, {"cos_positive": positive, "cos_negative": negative}

    def _head(self, query: Tensor, target: Tensor, margin: float | None) -> Tensor:
        s = self.settings
        form = {"gamma": s.gamma, "margin": margin, "hinge": s.hinge, "distance_scale": s.distance_scale}
        if s.head == "smoothed":
            return heads.smoothed_triplet(query, target, **form)
        return heads.rank_k_triplet(query, target, self.k(len(query)), **form)


@functools.cache
def _safe(n: int, classes: int) -> int:
    return prior.smallest_k(n, classes)
