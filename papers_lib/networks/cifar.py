"""ResNet-18 for images of 32 pixels: a 3×3 stem of stride 1 and no max-pooling, any width."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from papers_lib.errors import PapersError
from papers_lib.networks import backbones
from papers_lib.networks.mlp import MLPS, TIMES, Mlp

CIFAR = {"resnet18_cifar": 64, "resnet18_cifar32": 32, "resnet18_cifar16": 16}  # name -> width
NAMES = (*CIFAR, *MLPS, *backbones.NAMES)


def resnet18(width: int = 64) -> tuple[nn.Module, int]:
    """The ResNet-18 of lightly's and solo-learn's CIFAR-10 tables, without a classifier.

    torchvision's ResNet-18 (He et al. 2016) but for the stem: the ImageNet stem, which leaves 8×8 of
    32×32 pixels, costs SimCLR several points on CIFAR-10. Parameters have torchvision's names and
    torchvision's initialisation. A narrower one has the same blocks at widths w, 2w, 4w, 8w.

    Args:
        width: w, of the stem and the first stage.

    Returns:
        The module, images [B, 3, H, W] → features [B, 8 · width], and 8 · width.
    """
    parts = OrderedDict[str, nn.Module](
        conv1=nn.Conv2d(3, width, 3, padding=1, bias=False),
        bn1=nn.BatchNorm2d(width),
        relu=nn.ReLU(inplace=True),
        layer1=_stage(width, width, 1),  # [B, w, 32, 32] of 32 pixels
        layer2=_stage(width, 2 * width, 2),  # [B, 2w, 16, 16]
        layer3=_stage(2 * width, 4 * width, 2),  # [B, 4w, 8, 8]
        layer4=_stage(4 * width, 8 * width, 2),  # [B, 8w, 4, 4]
        avgpool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
    )
    network = nn.Sequential(parts)
    for module in network.modules():  # as torchvision starts its own; Conv2d's default is narrower
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network, 8 * width


def _stage(inside: int, outside: int, stride: int) -> nn.Module:
    """Two blocks; the first halves the map where stride is 2."""
    return nn.Sequential(backbones.block(inside, outside, stride), backbones.block(outside, outside, 1))


def build(name: str, weights: str | dict[str, Tensor] | None = None) -> tuple[nn.Module, int]:
    """A backbone by name, one of `NAMES`, and the dimension of its features.

    Names that are not of this module go to `backbones.build`, whose arguments and errors these are.

    Raises:
        PapersError: an unknown name, no ImageNet weights for it, or a state dict that does not fit.
    """
    if name not in (*CIFAR, *MLPS):
        if name not in NAMES:
            raise PapersError(f"unknown backbone '{name}': known are {', '.join(NAMES)}")
        return backbones.build(name, weights)
    if isinstance(weights, str):
        raise PapersError(f"no ImageNet weights exist for '{name}'; start it from random weights")
    backbone: nn.Module
    if name in MLPS:
        backbone, dimension = Mlp(MLPS[name]), TIMES * MLPS[name]
    else:
        backbone, dimension = resnet18(CIFAR[name])
    if weights is not None:
        backbones.load(backbone, weights, name)
    return backbone, dimension
