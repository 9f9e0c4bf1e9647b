"""Two views, a query from one and a target from the other: BYOL's frame with its heads, and SimSiam.

The median triplet stands in the frame of BYOL (Grill et al., "Bootstrap Your Own Latent", NeurIPS 2020,
Section 3.1), with OpenSelfSup's settings, on which its public code is built:

    q(v) = predictor(projector(encoder(v))),   z(v) = projector′(encoder′(v)) without gradient,
    L = s · (ℓ(q(v₁), z(v₂)) + ℓ(q(v₂), z(v₁))),   ξ ← m ξ + (1 − m) θ,   m = 1 − (1 − m₀)(cos(πt/T) + 1)/2

ξ are the weights of the primed networks, θ those of encoder and projector, s is `loss_scale`. The target
stays in training mode: batch normalisation uses the batch's own statistics there, view by view.
"""

from __future__ import annotations

import functools
import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from papers_lib.errors import PapersError
from papers_lib.median_triplet import heads, prior
from papers_lib.median_triplet.augment import draw_size, resized
from papers_lib.median_triplet.methods.base import (
    Batch,
    Logs,
    Method,
    Settings,
    follow,
    full_precision,
    projector,
    target_of,
)
from papers_lib.median_triplet.optimisers import ema_momentum
from papers_lib.processes import gathered, group

HEADS = ("median", "rank", "smoothed", "hardest", "prior")


class OnlineTarget(Method):
    """The frame; `pair_loss` is what the methods in it differ in.

    Attributes:
        target: the encoder and projector that follow the online ones.
        latest: the pairs (query, target), each [B, out], of the last loss, detached; for monitoring.
    """

    recipe = "byol"
    number_of_views = 2

    def __init__(self, settings: Settings, images_total: int, classes: int | None) -> None:
        super().__init__(settings, images_total, classes)
        hidden, out = settings.projector_hidden, settings.projector_out
        self.projector = projector(self.dimension, hidden, out)  # [B, dimension] → [B, out]
        self.predictor = projector(out, hidden, out, std=0.01)  # [B, out] → [B, out]
        self.target = target_of(self.encoder, self.projector)
        self.latest: tuple[tuple[Tensor, Tensor], ...] = ()

    def pair_loss(self, query: Tensor, target: Tensor) -> tuple[Tensor, Logs]:
        """ℓ(q, z) of float32 [B, out] each: a scalar, and what to log."""
        raise NotImplementedError

    def _loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        one, two = batch.views  # [B, 3, s, s] each
        # Four passes, each at a size of its own: q(v₁), q(v₂), then z(v₂), z(v₁), each [B, out].
        one, two, two_again, one_again = self._sized([one, two, two, one])
        queries = [self._query(view) for view in (one, two)]
        with torch.no_grad():
            targets = [self.target(view) for view in (two_again, one_again)]
        pairs = [(q.float(), z.float()) for q, z in zip(queries, targets, strict=True)]
        if self.rivals and self.settings.negative_pool == "all_devices":  # n = B · processes, else B
            pairs = [(gathered(q), gathered(z)) for q, z in pairs]
        self.latest = tuple((query.detach(), target) for query, target in pairs)
        with full_precision(one):
            (first, logs), (second, more) = (self.pair_loss(*pair) for pair in pairs)
        # L = s (ℓ(q₁, z₂) + ℓ(q₂, z₁)): the sum, as in the public code, or the mean
        weight = self.settings.loss_scale / (2 if self.settings.view_reduction == "mean" else 1)
        return weight * (first + second), {name: (logs[name] + more[name]) / 2 for name in logs}

    def _query(self, view: Tensor) -> Tensor:
        query: Tensor = self.predictor(self.projector(self.encoder(view)))
        return query

    def _sized(self, views: list[Tensor]) -> list[Tensor]:
        """What the four passes see; in the public code alone each at a random size of its network's range."""
        s = self.settings
        if not s.random_resolution:
            return views
        shares = (s.online_sizes, s.online_sizes, s.target_sizes, s.target_sizes)  # 96 … 224, 128 … 224
        bounds = [[round(share * views[0].shape[-1]) for share in pair] for pair in shares]
        # all processes draw for the batches of all
        drawn = [[draw_size(self.generator, *pair) for pair in bounds] for _ in range(self.dealt)]
        return [resized(*pair) for pair in zip(views, drawn[group()[0] % self.dealt], strict=True)]

    def after_step(self, step: int, steps: int) -> None:
        """The target follows the online network, ever more slowly."""
        # m = 1 − (1 − m₀)(cos(πt/T) + 1)/2,   ξ ← m ξ + (1 − m) θ
        momentum = ema_momentum(self.settings.ema_base, step, steps)
        follow(self.target, (self.encoder, self.projector), momentum, self.settings.ema_buffers)


class Byol(OnlineTarget):
    """Equation 2 without its constant: ‖q̄ − z̄‖² = 2 − 2 cos(q, z), so that ℓ = −2 cos(q, z)."""

    def pair_loss(self, query: Tensor, target: Tensor) -> tuple[Tensor, Logs]:
        """The mean of −2 cos(q, z) over the batch."""
        cosine = F.cosine_similarity(query, target).mean()  # over [B]
        return -2 * cosine, {"cos_positive": cosine.detach()}


class Triplet(OnlineTarget):
    """The method: Equation 2 in BYOL's frame, its negatives the target projections of the other images.

    Wang et al., "Solving Inefficiency of Self-supervised Representation Learning" (2021). `head` says
    which negative: `median` (k = n // 2), `rank` (`k`, or below 1 a share of n), `hardest` (k = 1),
    `prior` (the smallest k that is safe for so many classes), or `smoothed`, the mean of ranks 2 to 10 of
    the newest public code. With `negative_pool="all_devices"` n counts the images of all processes.

    Raises:
        PapersError: an unknown head, `rank` without a k that can be one, or `prior` without the classes.
    """

    rivals = True

    def __init__(self, settings: Settings, images_total: int, classes: int | None) -> None:
        super().__init__(settings, images_total, classes)
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
            return _safe_rank(n, self.classes)
        if head == "rank":
            return int(k) if k >= 1 else float(k)
        return {"median": None, "hardest": 1, "smoothed": 6}[head]

    def pair_loss(self, query: Tensor, target: Tensor) -> tuple[Tensor, Logs]:
        """The head over the batch, and the mean cosines to the positive and to the negative."""
        s = self.settings
        loss = self._head(query, target, s.margin, s.hinge)
        with torch.no_grad():
            positive = F.cosine_similarity(query, target).mean()
            linear = loss if s.margin is None else self._head(query, target, None, "relu")
            # γ d⁺ − d⁻ = c (cos⁻ − γ cos⁺), c being the distance's scale
            negative = linear.detach() / s.distance_scale + s.gamma * positive
        return loss, {"cos_positive": positive, "cos_negative": negative}

    def _head(self, query: Tensor, target: Tensor, margin: float | None, hinge: str) -> Tensor:
        s = self.settings
        form = {"gamma": s.gamma, "margin": margin, "hinge": hinge, "distance_scale": s.distance_scale}
        if s.head == "smoothed":
            return heads.smoothed_triplet(query, target, **form)
        return heads.rank_k_triplet(query, target, self.k(len(query)), **form)


_safe_rank = functools.cache(prior.smallest_k)


class SimSiam(Method):
    """Chen and He, "Exploring Simple Siamese Representation Learning" (CVPR 2021), Equations 1 to 4:

        z = projector(encoder(v)),   p = predictor(z),   L = −½ cos(p₁, z₂) − ½ cos(p₂, z₁)

    without gradient through z. As the authors' code: a projector of three layers, each with BN, the last
    one's without scale and shift; a predictor with a bottleneck of a quarter. The width is 2048, or four
    times the encoder's if that is less. Each view makes a pass of its own. (The authors keep the
    predictor's learning rate constant; here it follows the schedule of the rest.)
    """

    recipe = "moco_v2"
    number_of_views = 2

    def __init__(self, settings: Settings, images_total: int, classes: int | None) -> None:
        super().__init__(settings, images_total, classes)
        width = min(2048, 4 * self.dimension)
        layers: list[nn.Module] = []
        for inside, outside in itertools.pairwise([self.dimension, width, width, width]):
            layers += [nn.Linear(inside, outside, bias=False), nn.BatchNorm1d(outside), nn.ReLU(inplace=True)]
        self.projector = nn.Sequential(*layers[:-2], nn.BatchNorm1d(width, affine=False))
        self.predictor = nn.Sequential(
            nn.Linear(width, width // 4, bias=False),
            nn.BatchNorm1d(width // 4),
            nn.ReLU(inplace=True),
            nn.Linear(width // 4, width),
        )

    def _loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        z1, z2 = (self.projector(self.encoder(view)) for view in batch.views)  # [B, width]
        p1, p2 = self.predictor(z1), self.predictor(z2)  # [B, width]
        with full_precision(p1):
            cosines = [
                F.cosine_similarity(p.float(), z.detach().float()).mean() for p, z in ((p1, z2), (p2, z1))
            ]
        loss = -(cosines[0] + cosines[1]) / 2  # −½ cos(p₁, z₂) − ½ cos(p₂, z₁)
        return loss, {"cos_positive": -loss.detach()}
