"""The two backbones whose operators a vector chooses: ResNet-18 and LResNet50E-IR.

Shortcuts and stems are never searched (Section 3.1: the skips are kept).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from papers_lib.errors import PapersError
from papers_lib.nar.operators import (
    LRESNET50E_IR,
    RESNET18,
    UNITS,
    Rule,
    build,
    by_convolution,
    check_one_of,
    check_sizes,
)
from papers_lib.networks.backbones import Projection

Stem = Literal["cifar", "imagenet"]


def resnet18(
    vector: Sequence[int], rule: Rule = "A", stem: Stem = "cifar", classes: int = 10, width: int = 64
) -> nn.Module:
    """ResNet-18 (He et al. 2016) with the operators of `vector`, images [B, 3, H, W] → logits [B, classes].

    With zeros it is torchvision's, parameter names and initialisation included, but for the stem of
    "cifar": 3×3, stride 1, no max-pooling. 8 entries choose the operator of both convolutions of a
    residual block (the paper's ResNet-18-8), 16 one of each convolution (ResNet-18-16). 6 entries are the
    blocks of the first three stages, a network without the fourth.

    `stem` is "cifar" for 32 pixels, "imagenet" for 224; `width` is of the first stage, 64 in the paper.

    Raises:
        PapersError: too short, too long, an unknown operator, a rule that cannot change channels, or
            classes or a width that are no whole number from 1.
    """
    check_sizes(classes=classes, width=width)
    codes = check_one_of(vector, RESNET18)
    pairs = iter(by_convolution(codes, 6 if len(codes) == 6 else 8))  # two codes per block
    if stem not in ("cifar", "imagenet"):
        raise PapersError(f"unknown stem '{stem}'; known are cifar, imagenet")

    # -- stem: [B, 3, H, W] → [B, width, H, W], or a quarter of the side on ImageNet --
    small = stem == "cifar"
    conv = nn.Conv2d(3, width, 3, 1, 1, bias=False) if small else nn.Conv2d(3, width, 7, 2, 3, bias=False)
    parts = OrderedDict[str, nn.Module](conv1=conv, bn1=nn.BatchNorm2d(width), relu=nn.ReLU(inplace=True))
    if not small:
        parts["maxpool"] = nn.MaxPool2d(3, 2, 1)

    # -- stages of two blocks: each but the first halves the map and doubles the channels --
    inside = width  # channels before the stage
    for stage in range(3 if len(codes) == 6 else 4):
        outside = width * 2**stage
        first = _basic_block(inside, outside, next(pairs), rule)
        parts[f"layer{stage + 1}"] = nn.Sequential(first, _basic_block(outside, outside, next(pairs), rule))
        inside = outside

    # -- classifier: [B, inside, h, w] → [B, classes] --
    parts |= {"avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "fc": Classifier(inside, classes)}
    network = nn.Sequential(parts)  # by name, so that weights have torchvision's names
    _initialise(network)
    return network


class Classifier(nn.Linear):
    """A linear layer that stays out of autocast: logits in bfloat16 would tie."""

    def forward(self, features: Tensor) -> Tensor:
        """Logits [B, classes] of features [B, d]."""
        with torch.autocast(features.device.type, enabled=False):
            return super().forward(features.to(self.weight.dtype))


def _basic_block(inside: int, outside: int, codes: tuple[int, int], rule: Rule) -> nn.Module:
    """torchvision's basic block with two operators; the first halves the map where channels change."""
    stride, shortcut = 1, None  # the block's input itself
    if inside != outside:
        stride = 2
        shortcut = nn.Sequential(Projection(inside, outside, stride), nn.BatchNorm2d(outside))
    block: nn.Module = BasicBlock(inside, outside, stride, shortcut)
    block.conv1 = build(codes[0], inside, outside, stride, rule)
    block.conv2 = build(codes[1], outside, outside, 1, rule)
    return block


def _initialise(network: nn.Module) -> None:
    """torchvision's for ResNet: He et al. 2015 by the outputs, of every convolution."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class IRBlock(nn.Module):
    """ArcFace's improved residual block: BN, operator, BN, PReLU, operator (with the stride), BN.

    Maps [B, inside, H, W] → [B, outside, H / stride, W / stride]; a 1×1 shortcut with batch
    normalisation where `stride` is 2 (Deng et al. 2019, Section 3.2.2; mxnet code: fresnet.py).
    """

    def __init__(self, inside: int, outside: int, stride: int, codes: tuple[int, int], rule: Rule) -> None:
        super().__init__()
        self.bn0 = _norm(inside)  # before the first operator: "improved" residual
        self.conv1 = build(codes[0], inside, outside, 1, rule)
        self.bn1 = _norm(outside)
        self.prelu = nn.PReLU(outside)
        self.conv2 = build(codes[1], outside, outside, stride, rule)
        self.bn2 = _norm(outside)
        self.shortcut: nn.Module = nn.Identity()  # [B, inside, H, W], as it came
        if stride != 1:
            self.shortcut = nn.Sequential(Projection(inside, outside, stride), _norm(outside))

    def forward(self, maps: Tensor) -> Tensor:
        """Branch plus shortcut, without an activation after the sum."""
        branch: Tensor = self.prelu(self.bn1(self.conv1(self.bn0(maps))))  # [B, outside, H, W]
        branch = self.bn2(self.conv2(branch))  # [B, outside, H / stride, W / stride]
        shortcut: Tensor = self.shortcut(maps)
        return branch + shortcut


def lresnet50e_ir(
    vector: Sequence[int], rule: Rule = "A", width: int = 64, embedding: int = 512, image_size: int = 112
) -> nn.Module:
    """LResNet50E-IR with the operators of `vector`, images [B, 3, 112, 112] → embeddings [B, embedding].

    insightface's face network (Deng et al. 2019): 3×3 stem of stride 1, stages of 3, 4, 14 and 3 blocks,
    of which each first one halves the map, and the head BN – dropout 0.4 – FC – BN, whose last batch
    normalisation has no trained scale.

    The vector has 24 codes, one per block, or 48, one per convolution. `width` is of the first stage. For
    images of another side than 112 the linear layer fits the map that is left of them.

    Raises:
        PapersError: too short, too long, an unknown operator, a rule that cannot change channels, or a
            width, an embedding or a side that is no whole number from 1.
    """
    check_sizes(width=width, embedding=embedding, image_size=image_size)
    pairs = iter(by_convolution(check_one_of(vector, LRESNET50E_IR), sum(UNITS)))

    # -- stem: [B, 3, 112, 112] → [B, width, 112, 112] --
    parts = OrderedDict[str, nn.Module](
        conv0=nn.Conv2d(3, width, 3, 1, 1, bias=False), bn0=_norm(width), prelu0=nn.PReLU(width)
    )

    # -- four stages: → [B, 8 width, 7, 7] --
    widths = [width, width, 2 * width, 4 * width, 8 * width]  # the stem's, then each stage's
    for stage, ((inside, outside), units) in enumerate(zip(pairwise(widths), UNITS, strict=True), 1):
        blocks = [IRBlock(inside, outside, 2, next(pairs), rule)]
        blocks += [IRBlock(outside, outside, 1, next(pairs), rule) for _ in range(units - 1)]
        parts[f"stage{stage}"] = nn.Sequential(*blocks)

    # -- head: → [B, embedding] --
    last = nn.BatchNorm1d(embedding, eps=2e-5)
    last.weight.requires_grad_(False)  # mxnet's fix_gamma: embeddings keep their scale
    parts |= {
        "bn1": _norm(widths[-1]),
        "dropout": nn.Dropout(0.4),
        "flatten": nn.Flatten(),
        "fc1": nn.Linear(widths[-1] * 7 * 7, embedding),
        "features": last,
    }
    network = nn.Sequential(parts)
    _initialise(network)
    if image_size != 112:
        side = -(-image_size // 16)  # four stages halve it
        network.fc1 = nn.Linear(widths[-1] * side**2, embedding)
    return network


def _norm(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, eps=2e-5)  # insightface's
