"""The settings of a training on ImageNet. The paper prints none; these are torchvision's for ResNet-18."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from papers_lib.settings import Frozen


class ImageNetSettings(Frozen):
    """A network of one vector, from scratch, at 224 pixels.

    Defaults: torchvision's `references/classification`: 90 epochs, .1 for 256 images, a tenth of it every 30.
    """

    kind: Literal["imagenet"] = "imagenet"
    seed: int = Field(0, ge=0)
    vector: tuple[int, ...] = (0,) * 8
    rule: Literal["A", "B", "bare", "enas"] = "A"
    width: int = Field(64, ge=1)
    image_size: int = Field(224, ge=8)
    resize: int = Field(256, ge=8)  # the shorter side, before the middle is cut out ("1-crop testing")
    epochs: int = Field(90, ge=1)
    batch_size: int = Field(256, ge=2)
    lr: float = Field(0.1, gt=0)
    step_epochs: int = Field(30, ge=1)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0)
    workers: int = Field(8, ge=0)  # processes that decode images
    precision: Literal["float32", "bfloat16"] = "bfloat16"
