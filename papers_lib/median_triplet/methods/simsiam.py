"""SimSiam: Chen and He, "Exploring Simple Siamese Representation Learning" (CVPR 2021)."""

from __future__ import annotations

import itertools

import torch.nn.functional as F
from torch import Tensor, nn

from papers_lib.median_triplet.methods.base import Batch, Logs, Method, Settings, full_precision


class SimSiam(Method):
    """Equations 1 to 4: z = projector(encoder(v)), p = predictor(z), and without gradient through z

        L = −½ cos(p₁, z₂) − ½ cos(p₂, z₁) .

    As the authors' code: a projector of three layers, each with BN, the last one's without scale and
    shift; a predictor with a bottleneck of a quarter. The width is 2048, or four times the encoder's if that
    is less. Each view makes a pass of its own. (The authors keep the predictor's learning rate constant; here
    it follows the schedule of the rest.)
    """

    recipe = "moco_v2"
    number_of_views = 2

    def __init__(self, settings: Settings, images_total: int, classes: int | None) -> None:
        super().__init__(settings)
        width = min(2048, 4 * self.dimension)
        self.projector = _projector([self.dimension, width, width, width])
        self.predictor = nn.Sequential(
            nn.Linear(width, width // 4, bias=False), nn.BatchNorm1d(width // 4), nn.ReLU(inplace=True),
            nn.Linear(width // 4, width),
        )  # fmt: skip

    def _loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        z1, z2 = (self.projector(self.encoder(view)) for view in batch.views)
        p1, p2 = self.predictor(z1), self.predictor(z2)
        with full_precision(p1):
            cosines = [_cosine(p1, z2), _cosine(p2, z1)]
        loss = -(cosines[0] + cosines[1]) / 2
        return loss, {"cos_positive": -loss.detach()}


def _projector(widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b, bias=False), nn.BatchNorm1d(b), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-2], nn.BatchNorm1d(widths[-1], affine=False))


def _cosine(p: Tensor, z: Tensor) -> Tensor:
    return F.cosine_similarity(p.float(), z.detach().float()).mean()
