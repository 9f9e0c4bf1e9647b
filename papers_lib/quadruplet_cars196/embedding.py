"""The network of Figure 1: one weight-shared backbone, FC embedding, a coarse and a fine head."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from papers_lib import checkpoint, compute
from papers_lib.datasets.stream import chunks
from papers_lib.errors import PapersError
from papers_lib.networks import backbones
from papers_lib.quadruplet_cars196.images import centre_crop
from papers_lib.quadruplet_cars196.options import TrainSettings


class Output(NamedTuple):
    """What the network says of a batch of B images."""

    embedding: Tensor  # [B, d], on the unit sphere when `normalise`
    raw: Tensor  # [B, d], before that
    coarse: Tensor  # [B, k1] scores of the coarse classes
    fine: Tensor  # [B, k2] scores of the fine classes


class EmbeddingNet(nn.Module):
    """Pooled features → Linear(d) = the embedding → two linear heads (paper, Figure 1 and Section 3.1).

    Distances, selection and evaluation use the embedding on the unit sphere: margins of 0.7 and 0.3
    mean nothing on an unbounded scale. The heads read it before normalisation.
    """

    def __init__(
        self, backbone: nn.Module, dimension: int, classes: tuple[int, int], settings: TrainSettings
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.fc = nn.Linear(dimension, settings.embedding_dim)
        self.coarse = nn.Linear(settings.embedding_dim, classes[0])
        self.fine = nn.Linear(settings.embedding_dim, classes[1])
        self.normalise, self.precision = settings.normalise, settings.precision

    def forward(self, images: Tensor) -> Output:
        """Embed normalised images [B, 3, H, W], or frozen features [B, dimension] of them."""
        with compute.autocast(images.device, self.precision):
            raw = self.fc(self.backbone(images))  # [B, dimension] → [B, d]
            coarse, fine = self.coarse(raw), self.fine(raw)
        raw = raw.float()  # losses and distances are taken in float32
        return Output(F.normalize(raw) if self.normalise else raw, raw, coarse.float(), fine.float())


def build(
    settings: TrainSettings,
    classes: tuple[int, int],
    weights: Path | None,
    where: torch.device,
    features: int = 0,
) -> EmbeddingNet:
    """The network for so many coarse and fine classes, its backbone from the weights that `start` names.

    `features` is the dimension of what it is given where that is frozen features: no backbone then.

    Raises:
        PapersError: `start` needs a file of weights and none is given, or it does not fit the backbone.
    """
    start: str | dict[str, Tensor] | None = None
    if settings.start == "imagenet" and not settings.weights:
        start = "imagenet"  # torchvision's
    elif settings.start != "scratch":
        if weights is None:
            raise PapersError(f"start={settings.start} needs weights; give a file with -p weights FILE")
        start = checkpoint.load_weights(weights)
    if features:
        net = EmbeddingNet(nn.Identity(), features, classes, settings)
    else:
        net = EmbeddingNet(*backbones.build(settings.backbone, start), classes, settings)
    if settings.fc_start == "identity":
        nn.init.eye_(net.fc.weight)  # the first d of the features, which are their widest components
        nn.init.zeros_(net.fc.bias)
    compute.place(net, where)
    return net


@torch.no_grad()
def embed(net: EmbeddingNet, pixels: Tensor, crop: int, chunk: int = 256) -> Tensor:
    """Embeddings [N, d] of uint8 images [N, S, S, 3], wherever they lie: evaluation mode, centre crop."""
    modes = [(part, part.training) for part in net.modules()]  # frozen parts are to stay frozen
    net.eval()
    where = net.fc.weight.device
    parts = [net(centre_crop(part, crop)).embedding for part in chunks(pixels, chunk, where)]
    for module, mode in modes:
        module.training = mode
    return torch.cat(parts)
