"""The network of Figure 1: one weight-shared backbone, FC embedding, a coarse and a fine head."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from papers_lib import compute


class Output(NamedTuple):
    """What the network says of a batch of B images."""

    embedding: Tensor  # [B, d], on the unit sphere when `normalise`
    coarse: Tensor  # [B, coarse classes], scores
    fine: Tensor  # [B, fine classes], scores


class EmbeddingNet(nn.Module):
    """Pooled features → Linear(d) = the embedding → two linear heads (paper, Figure 1 and Section 3.1).

    Distances, selection and evaluation use the embedding on the unit sphere: margins of 0.7 and 0.3
    mean nothing on an unbounded scale. The heads read it before normalisation.
    """

    def __init__(self, backbone: nn.Module, dimension: int, d: int, coarse: int, fine: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.fc = nn.Linear(dimension, d)
        self.coarse = nn.Linear(d, coarse)
        self.fine = nn.Linear(d, fine)
        self.normalise = True
        self.precision: compute.Precision = "float32"

    def forward(self, images: Tensor) -> Output:
        """Embed uint8-scaled, normalised images [B, 3, H, W]."""
        with compute.autocast(images.device, self.precision):
            raw = self.fc(self.backbone(images))
            coarse, fine = self.coarse(raw), self.fine(raw)
        raw = raw.float()
        return Output(F.normalize(raw) if self.normalise else raw, coarse.float(), fine.float())


@torch.no_grad()
def embed(net: EmbeddingNet, images: Tensor, crop: int, chunk: int = 256) -> Tensor:
    """Embeddings [N, d] of resident uint8 images [N, S, S, 3]: evaluation mode, centre crop."""
    modes = [(part, part.training) for part in net.modules()]  # frozen parts are to stay frozen
    net.eval()
    parts = [net(centre_crop(images[i : i + chunk], crop)).embedding for i in range(0, len(images), chunk)]
    for part, mode in modes:
        part.training = mode
    return torch.cat(parts)


def centre_crop(images: Tensor, crop: int) -> Tensor:
    """[B, S, S, 3] uint8 → [B, 3, crop, crop] float, channels-last in memory."""
    start = (images.shape[1] - crop) // 2
    return scale(images[:, start : start + crop, start : start + crop])


def random_crop(images: Tensor, indices: Tensor, crop: int, generator: torch.Generator) -> Tensor:
    """Crops of `images[indices]`, each at its own place and mirrored with probability ½: one gather."""
    n, side = len(indices), images.shape[1]
    draw = torch.randint(side - crop + 1, (2, n, 1), generator=generator)
    mirror = torch.rand(n, 1, generator=generator) < 0.5
    steps = torch.arange(crop)
    rows = (draw[0] + steps).to(images.device)
    columns = (draw[1] + torch.where(mirror, steps.flip(0), steps)).to(images.device)
    return scale(images[indices.to(images.device)[:, None, None], rows[:, :, None], columns[:, None, :]])


def scale(images: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] → float [B, 3, H, W] with ImageNet's mean and standard deviation."""
    mean = torch.tensor([0.485, 0.456, 0.406], device=images.device) * 255
    sd = torch.tensor([0.229, 0.224, 0.225], device=images.device) * 255
    return ((images.float() - mean) / sd).permute(0, 3, 1, 2)
