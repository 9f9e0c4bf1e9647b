"""The settings of a face training: the proxy task of Section 4.1.1, the rest from ArcFace's mxnet recipe."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from papers_lib.nar.operators import Rule
from papers_lib.settings import Frozen


class FaceSettings(Frozen):
    """Everything that can change what a face training computes.

    Defaults are the paper's proxy task: 4,000 identities with 40 images each, 36 to train on and 4 to
    validate, 150 epochs of SGDR (T₀ = 10, T_mult = 2, 0.1 to 0.0001).
    """

    seed: int = Field(0, ge=0)

    # -- images --
    image_size: int = Field(112, ge=16)
    identities: int = Field(4000, ge=0)  # drawn among those with enough images; 0: all of them
    shots: int = Field(40, ge=0)  # images of an identity; 0: all that it has
    held_out: int = Field(4, ge=0)  # of these, for validation

    # -- network --
    vector: tuple[int, ...] = (0,) * 24  # 24 blocks or 48 convolutions
    rule: Rule = "A"
    width: int = Field(64, ge=1)  # channels of the first stage
    embedding: int = Field(512, ge=2)

    # -- ArcFace --
    scale: float = Field(64.0, gt=0)
    margin: float = Field(0.5, ge=0, lt=1.57)

    # -- optimisation --
    lr: float = Field(0.1, gt=0)
    lr_min: float = Field(1e-4, ge=0)
    cycle: int = Field(10, ge=1)  # epochs of the first cosine; each next one is twice as long
    epochs: int = Field(150, ge=0)
    batch_size: int = Field(512, ge=2)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    precision: Literal["float32", "bfloat16"] = "bfloat16"
