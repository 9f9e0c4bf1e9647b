"""The network of Section IV-B: backbone → global average pooling → batch normalisation → L2."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from papers_lib import compute
from papers_lib.datasets.stream import chunks
from papers_lib.errors import PapersError
from papers_lib.networks import backbones
from papers_lib.sampler_study.images import prepared


class GeM(nn.Module):
    """Generalised mean of a map [B, d, H, W], [B, d, 1, 1]: (mean of x^p)^(1/p), p learnt from 3 on.

    Radenović et al., TPAMI 2019, Eq. 3; Cluster-Contrast's public code pools so.
    """

    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.full((1,), 3.0))

    def forward(self, maps: Tensor) -> Tensor:
        """Pool in float32: the power would overflow half the digits."""
        with torch.autocast(maps.device.type, enabled=False):
            powers = maps.float().clamp(min=1e-6) ** self.p
            pooled: Tensor = powers.mean((2, 3), keepdim=True) ** (1 / self.p)
        return pooled


class ReidNet(nn.Module):
    """Images [B, 3, H, W] to features [B, d] on the unit sphere; `pooling` is "mean" or "gem".

    Of a ResNet the last stage keeps its resolution (stride 1) and the stem has no ReLU unless `stem_relu`;
    the normalisation's bias stays zero: all as in CAP, which the paper follows.
    """

    def __init__(self, backbone: Any, dimension: int, stem_relu: bool, pooling: str = "mean") -> None:
        super().__init__()
        self.backbone: nn.Module = backbone
        # ours, or torchvision's, whose blocks have ReLUs of their own
        ours, theirs = hasattr(backbone, "stages"), hasattr(backbone, "layer4")
        if ours or theirs:
            # Stride 1 in the last stage; the weights are the same.
            for part in (backbone.stages[-1] if ours else backbone.layer4[0]).modules():
                if isinstance(part, nn.Conv2d):
                    part.stride = (1, 1)
        if not stem_relu and ours:
            backbone.stem[2] = nn.Identity()
        elif not stem_relu and theirs:
            backbone.relu = nn.Identity()
        if pooling == "gem":
            if not theirs:
                raise PapersError("pooling=gem is for torchvision's ResNets; take one, or pooling=mean")
            backbone.avgpool = GeM()
        self.bn = nn.BatchNorm1d(dimension)
        self.bn.bias.requires_grad_(False)
        self.precision: compute.Precision = "float32"

    def forward(self, images: Tensor) -> Tensor:
        """Embed normalised images."""
        with compute.autocast(images.device, self.precision):
            pooled = self.backbone(images)  # [B, d]
        return F.normalize(self.bn(pooled.float()))


def head(dimension: int) -> nn.Module:
    """The trained part before the normalisation where the backbone is frozen: [B, D] → [B, D], linear.

    It begins as a random rotation: distances are those of the features, and the components stand mixed, as
    channels do. In their own basis, batch normalisation would whiten them before anything is learnt.
    """
    linear = nn.Linear(dimension, dimension, bias=False)
    nn.init.orthogonal_(linear.weight)
    return linear


def training_mode(net: ReidNet, freeze_bn: str) -> None:
    """Training mode, with the batch normalisation of the head or of all layers left frozen."""
    net.train()
    if freeze_bn == "all":
        backbones.freeze_batch_norm(net)
    elif freeze_bn == "head":
        net.bn.eval()


@torch.no_grad()
def embed(net: ReidNet, pixels: Tensor, chunk: int = 256) -> Tensor:
    """Features [N, d] of uint8 images [N, H, W, 3], wherever they lie: evaluation mode, no augmentation."""
    modes = [(part, part.training) for part in net.modules()]
    net.eval()
    where = net.bn.weight.device
    parts = [net(prepared(part)) for part in chunks(pixels, chunk, where)] if len(pixels) else []
    for part, mode in modes:
        part.training = mode
    return torch.cat(parts) if parts else torch.empty(0, net.bn.num_features)
