"""The two backbones whose operators a vector chooses: ResNet-18 and LResNet50E-IR.

A vector holds one operator's code a decision, in the order of the layers; all zeros is the untouched network.
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
from papers_lib.nar.operators import Rule, build
from papers_lib.nar.vectors import (
    LRESNET50E_IR,
    RESNET18,
    UNITS,
    by_convolution,
    check,
    check_one_of,
    check_sizes,
)
from papers_lib.networks.backbones import Projection

__all__ = ["IRBlock", "check", "lresnet50e_ir", "resnet18"]

Stem = Literal["cifar", "imagenet"]


def resnet18(
    vector: Sequence[int], rule: Rule = "A", stem: Stem = "cifar", classes: int = 10, width: int = 64
) -> nn.Module:
    """ResNet-18 (He et al. 2016) with the operators of `vector`, images [B, 3, H, W] → logits [B, classes].

    With zeros it is torchvision's, parameter names and initialisation included, but for the stem of
    "cifar": 3×3, stride 1, no max-pooling. 8 entries choose the operator of both convolutions of a
    residual block (the paper's ResNet-18-8), 16 one of each convolution (ResNet-18-16). 6 entries are the
    blocks of the first three stages, a network without the fourth.

    Args:
        vector: codes, see `papers_lib.nar.operators`.
        rule: what "depthwise" and "pool" stand for.
        stem: "cifar" for 32 pixels, "imagenet" for 224.
        classes: number of logits.
        width: channels of the first stage; the paper's is 64.

    Raises:
        PapersError: too short, too long, an unknown operator, a rule that cannot change channels, or
            classes or a width that are no whole number from 1.
    """
    check_sizes(classes=classes, width=width)
    codes = check_one_of(vector, RESNET18)
    pairs = by_convolution(codes, 6 if len(codes) == 6 else 8)
    stages = [width * 2**stage for stage in range(len(pairs) // 2)]
    parts = _stem(stem, width)
    inside = width
    for stage, outside in enumerate(stages):
        chosen = pairs[2 * stage : 2 * stage + 2]
        blocks = [_block(inside, outside, chosen[0], rule), _block(outside, outside, chosen[1], rule)]
        parts[f"layer{stage + 1}"] = nn.Sequential(*blocks)
        inside = outside
    parts |= {"avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "fc": Classifier(inside, classes)}
    network = nn.Sequential(parts)
    _initialise(network)
    return network


class Classifier(nn.Linear):
    """A linear layer that stays out of autocast: logits in bfloat16 would tie."""

    def forward(self, features: Tensor) -> Tensor:
        """Logits [B, classes] of features [B, d]."""
        with torch.autocast(features.device.type, enabled=False):
            return super().forward(features.to(self.weight.dtype))


def _stem(stem: Stem, width: int) -> OrderedDict[str, nn.Module]:
    if stem not in ("cifar", "imagenet"):
        raise PapersError(f"unknown stem '{stem}'; known are cifar, imagenet")
    small = stem == "cifar"
    conv = nn.Conv2d(3, width, 3, 1, 1, bias=False) if small else nn.Conv2d(3, width, 7, 2, 3, bias=False)
    parts = OrderedDict[str, nn.Module](conv1=conv, bn1=nn.BatchNorm2d(width), relu=nn.ReLU(inplace=True))
    if not small:
        parts["maxpool"] = nn.MaxPool2d(3, 2, 1)
    return parts


def _block(inside: int, outside: int, codes: tuple[int, int], rule: Rule) -> nn.Module:
    """torchvision's basic block with two operators; the first halves the map where channels change."""
    stride, shortcut = 1, None
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
        self.bn0 = _norm(inside)
        self.conv1 = build(codes[0], inside, outside, 1, rule)
        self.bn1 = _norm(outside)
        self.prelu = nn.PReLU(outside)
        self.conv2 = build(codes[1], outside, outside, stride, rule)
        self.bn2 = _norm(outside)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1:
            self.shortcut = nn.Sequential(Projection(inside, outside, stride), _norm(outside))

    def forward(self, maps: Tensor) -> Tensor:
        """Branch plus shortcut, without an activation after the sum."""
        branch = self.prelu(self.bn1(self.conv1(self.bn0(maps))))
        found: Tensor = self.bn2(self.conv2(branch)) + self.shortcut(maps)
        return found


def lresnet50e_ir(
    vector: Sequence[int], rule: Rule = "A", width: int = 64, embedding: int = 512
) -> nn.Module:
    """LResNet50E-IR with the operators of `vector`, images [B, 3, 112, 112] → embeddings [B, embedding].

    insightface's face network (Deng et al. 2019): 3×3 stem of stride 1, stages of 3, 4, 14 and 3 blocks,
    of which each first one halves the map, and the head BN – dropout 0.4 – FC – BN, whose last batch
    normalisation has no trained scale.

    Args:
        vector: 24 codes, one a block, or 48, one a convolution.
        rule: what "depthwise" and "pool" stand for.
        width: channels of the first stage; the paper's is 64.
        embedding: dimension of the output; the paper's is 512.

    Raises:
        PapersError: too short, too long, an unknown operator, a rule that cannot change channels, or a
            width or an embedding that is no whole number from 1.
    """
    check_sizes(width=width, embedding=embedding)
    pairs = iter(by_convolution(check_one_of(vector, LRESNET50E_IR), sum(UNITS)))
    parts = OrderedDict[str, nn.Module](
        conv0=nn.Conv2d(3, width, 3, 1, 1, bias=False), bn0=_norm(width), prelu0=nn.PReLU(width)
    )
    widths = [width, width, 2 * width, 4 * width, 8 * width]
    for stage, ((inside, outside), units) in enumerate(zip(pairwise(widths), UNITS, strict=True), 1):
        blocks = [
            IRBlock(outside if unit else inside, outside, 1 if unit else 2, next(pairs), rule)
            for unit in range(units)
        ]
        parts[f"stage{stage}"] = nn.Sequential(*blocks)
    network = nn.Sequential(parts | _head(8 * width, embedding))
    _initialise(network)
    return network


def _head(channels: int, embedding: int) -> OrderedDict[str, nn.Module]:
    last = nn.BatchNorm1d(embedding, eps=2e-5)
    last.weight.requires_grad_(False)
    return OrderedDict[str, nn.Module](
        bn1=_norm(channels), dropout=nn.Dropout(0.4), flatten=nn.Flatten(),
        fc1=nn.Linear(channels * 7 * 7, embedding), features=last,
    )  # fmt: skip


def _norm(channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels, eps=2e-5)
