"""Backbones without a classifier: images [B, 3, H, W] -> pooled features [B, dimension]."""

from __future__ import annotations

import itertools

import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from papers_lib.errors import PapersError

TORCHVISION = ("resnet18", "resnet50", "resnet101")
TINY = {"tiny16": 16, "tiny24": 24}  # name -> width of the first stage
NAMES = (*TINY, *TORCHVISION)


class Projection(nn.Conv2d):
    """A 1×1 convolution with a stride, without bias: every `stride`-th pixel, then a 1×1 convolution.

    The same sums as the convolution that it is a kind of. That one's weight gradient must not be asked of
    oneDNN with fewer than 8 channels inside and channels-last: its AVX2 kernel writes past its workspace
    (uxlfoundation/oneDNN#6035), which shows as a crash, a hang, or a wrong gradient.
    """

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__(inside, outside, 1, stride, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [B, inside, H, W] → [B, outside, ⌈H / stride⌉, ⌈W / stride⌉]."""
        # Every pixel that a strided kernel of one pixel would visit.
        down, across = self.stride
        return F.conv2d(maps[:, :, ::down, ::across], self.weight)


class TinyResNet(nn.Module):
    """One residual block per stage, widths w, 2w, 4w, 8w; a 3×3 stem of stride 2 and no max-pooling.

    Small enough for two cores at 32–64 px. The blocks are torchvision's (He et al. 2016).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        self.stages = nn.Sequential(
            *(block(a, b, 1 if i == 0 else 2) for i, (a, b) in enumerate(itertools.pairwise(widths)))
        )

    def forward(self, images: Tensor) -> Tensor:
        """Average over the last feature map: [B, 8 · width]."""
        features: Tensor = self.stages(self.stem(images))  # [B, 8 · width, H / 16, W / 16]
        return features.mean((2, 3))


def block(inside: int, outside: int, stride: int) -> nn.Module:
    """torchvision's basic block; its shortcut is a `Projection` where stride or width change."""
    shortcut = None
    if stride != 1 or inside != outside:
        shortcut = nn.Sequential(Projection(inside, outside, stride), nn.BatchNorm2d(outside))
    basic: nn.Module = BasicBlock(inside, outside, stride, shortcut)
    return basic


def build(name: str, weights: str | dict[str, Tensor] | None = None) -> tuple[nn.Module, int]:
    """A backbone and the dimension of its features.

    Args:
        name: one of `NAMES`.
        weights: None for random weights, "imagenet" for torchvision's first ImageNet weights (those
            that a paper of 2019 had; torchvision fetches and checks the file), or a state dict.

    Raises:
        PapersError: an unknown name, no ImageNet weights for it, or a state dict that does not fit.
    """
    if name not in NAMES:
        raise PapersError(f"unknown backbone '{name}': known are {', '.join(NAMES)}")
    if name in TINY:
        if weights == "imagenet":
            raise PapersError(f"no ImageNet weights exist for '{name}'; use start=warm or scratch")
        dimension = 8 * TINY[name]
        backbone: nn.Module = TinyResNet(TINY[name])
    else:
        try:
            pretrained = "IMAGENET1K_V1" if weights == "imagenet" else None
            model = torchvision.models.get_model(name, weights=pretrained)
        except OSError as error:
            raise PapersError(
                f"torchvision cannot fetch the ImageNet weights of {name} ({error}); "
                "give a file with -p weights FILE"
            ) from None
        dimension = model.fc.in_features
        model.fc = nn.Identity()
        backbone = model
    if isinstance(weights, dict):
        load(backbone, weights, name)
    return backbone, dimension


def load(backbone: nn.Module, weights: dict[str, Tensor], name: str) -> None:
    """Put a state dict into a backbone; a classifier `fc` in it is left out.

    Raises:
        PapersError: other names or shapes than those of the backbone `name`.
    """
    expected = backbone.state_dict()
    kept = {key: value for key, value in weights.items() if not key.startswith("fc.")}
    if kept.keys() != expected.keys() or any(kept[key].shape != expected[key].shape for key in expected):
        raise PapersError(f"the weights given do not fit the backbone '{name}'; choose its own file")
    backbone.load_state_dict(kept)


def freeze_batch_norm(module: nn.Module) -> None:
    """Put all batch normalisation into evaluation mode: running statistics, not the batch's."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval()
