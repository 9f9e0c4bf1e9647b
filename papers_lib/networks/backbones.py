"""Backbones without a classifier: images [B, 3, H, W] -> pooled features [B, dimension]."""

from __future__ import annotations

import itertools
from functools import partial

import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from papers_lib.datasets.weights import PACKAGED
from papers_lib.errors import PapersError

TORCHVISION = ("resnet18", "resnet50", "resnet101")
TINY = {"tiny16": 16, "tiny24": 24}  # name -> width of the first stage
CLASSIFIERS = ("fc.", "_fc.", "classifier.")
COUNTER = "num_batches_tracked"  # of batch normalisation; nothing is computed from it here
MEAN, SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels, as every backbone expects
NAMES = (*TINY, *TORCHVISION, *PACKAGED)


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


class Same(nn.Conv2d):
    """A convolution without bias whose output is ⌈side / stride⌉, padded as TensorFlow pads.

    Where the padding is odd the right and lower edges take one more: another picture than torch's.
    """

    def __init__(self, inside: int, outside: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inside, outside, kernel, stride, groups=groups, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [B, inside, H, W] → [B, outside, ⌈H / stride⌉, ⌈W / stride⌉]."""
        edges: list[int] = []  # left, right, upper, lower
        for side, kernel, stride in zip(maps.shape[:1:-1], self.kernel_size, self.stride, strict=True):
            # (⌈side / stride⌉ − 1) · stride + kernel − side
            short = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            edges += [short // 2, short - short // 2]
        return F.conv2d(F.pad(maps, edges), self.weight, None, self.stride, 0, 1, self.groups)


class LiteBlock(nn.Module):
    """An inverted residual (Sandler et al., CVPR 2018) without excitation: 1×1, depthwise, 1×1."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = inside * expansion
        layers = [] if expansion == 1 else [Same(inside, middle, 1), _norm(middle), nn.ReLU6(inplace=True)]
        layers += [Same(middle, middle, kernel, stride, groups=middle), _norm(middle), nn.ReLU6(inplace=True)]
        self.layers = nn.Sequential(*layers, Same(middle, outside, 1), _norm(outside))
        self.shortcut = stride == 1 and inside == outside

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [B, inside, H, W] → [B, outside, ⌈H / stride⌉, ⌈W / stride⌉]."""
        out: Tensor = self.layers(maps)
        return out + maps if self.shortcut else out


class EfficientNetLite0(nn.Module):
    """EfficientNet-B0 (Tan and Le, ICML 2019) as TensorFlow's "lite" edition has it: ReLU6, no excitation."""

    # blocks, kernel, stride of the first, expansion, width
    STAGES = (
        (1, 3, 1, 1, 16),
        (2, 3, 2, 6, 24),
        (2, 5, 2, 6, 40),
        (3, 3, 2, 6, 80),
        (3, 5, 1, 6, 112),
        (4, 5, 2, 6, 192),
        (1, 3, 1, 6, 320),
    )
    DIMENSION = 1280

    def __init__(self) -> None:
        super().__init__()
        width = 32
        layers: list[nn.Module] = [Same(3, width, 3, 2), _norm(width), nn.ReLU6(inplace=True)]
        for blocks, kernel, stride, expansion, outside in self.STAGES:
            for i in range(blocks):
                layers.append(LiteBlock(width, outside, kernel, stride if i == 0 else 1, expansion))
                width = outside
        layers += [Same(width, self.DIMENSION, 1), _norm(self.DIMENSION), nn.ReLU6(inplace=True)]
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Average over the last feature map: [B, 1280]. Images are normalised as for every backbone."""
        mean = images.new_tensor(MEAN)[:, None, None]
        sd = images.new_tensor(SD)[:, None, None]
        # its own scale: (p − 127) / 128 of pixels p in 0 .. 255
        pixels = (images * sd + mean) * 255
        maps: Tensor = self.layers((pixels - 127) / 128)
        return maps.mean((2, 3))


_norm = partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)  # as TensorFlow's lite models


class MobileNetV2(nn.Module):
    """torchvision's MobileNetV2 (Sandler et al., CVPR 2018) without its classifier."""

    DIMENSION = 1280

    def __init__(self) -> None:
        super().__init__()
        self.features = torchvision.models.mobilenet_v2().features

    def forward(self, images: Tensor) -> Tensor:
        """Average over the last feature map: [B, 1280]."""
        maps: Tensor = self.features(images)
        return maps.mean((2, 3))


_PACKAGED: dict[str, type[EfficientNetLite0] | type[MobileNetV2]] = {
    "efficientnet_lite0": EfficientNetLite0,
    "mobilenet_v2": MobileNetV2,
}


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
    elif name in PACKAGED:
        if weights == "imagenet":
            raise PapersError(f"{name} takes its ImageNet weights from a file; {PACKAGED[name].how}")
        backbone, dimension = _PACKAGED[name](), _PACKAGED[name].DIMENSION
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
    """Put a state dict into a backbone; a classifier in it is left out.

    As in torchvision's own strict loading, the counters `num_batches_tracked` may be missing. The files of
    `PACKAGED` have names of their own: their tensors are taken in order, and every shape must fit.

    Raises:
        PapersError: other names or shapes than those of the backbone `name`.
    """
    expected = backbone.state_dict()
    kept = {
        key: value for key, value in weights.items() if not key.startswith(("fc.", "_fc.", "classifier."))
    }
    if name in PACKAGED and not kept.keys() <= expected.keys():
        # the counters of batches may be missing on either side, and count for nothing
        names = [key for key in expected if not key.endswith(COUNTER)]
        values = [value for key, value in kept.items() if not key.endswith(COUNTER)]
        kept = dict(zip(names, values, strict=False)) if len(names) == len(values) else {}
    counters = {key: value for key, value in expected.items() if key.endswith(COUNTER)}
    kept = counters | kept
    if kept.keys() != expected.keys() or any(kept[key].shape != expected[key].shape for key in expected):
        raise PapersError(f"the weights given do not fit the backbone '{name}'; choose its own file")
    backbone.load_state_dict(kept)


def freeze_batch_norm(module: nn.Module) -> None:
    """Put all batch normalisation into evaluation mode: running statistics, not the batch's."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval()
