"""The settings of what starts from a trained encoder: detectors (Tables 2, 3) and search (Table 4)."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import Field

from papers_lib.settings import Frozen


class TransferSettings(Frozen):
    """Everything that can change a row of Tables 2, 3 or 4. A zero means: as the protocol says."""

    task: Literal["mask_rcnn", "faster_rcnn", "search"] = "mask_rcnn"
    seed: int = Field(0, ge=0)
    start: Literal["random", "encoder"] = "encoder"
    backbone: str = "resnet50"

    # -- detection; image_size is the shorter side in testing, in pixels --
    det_schedule: Literal["moco", "released"] = "moco"  # one for all rows; the released configs differ
    image_size: int = Field(800, ge=32)
    steps: int = Field(0, ge=0)
    batch_size: int = Field(16, ge=1)
    lr: float = Field(0, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0)
    proposals: int = Field(1000, ge=4)  # of a test image
    roi_size: int = Field(0, ge=0)  # 0: 14, and 8 below 320 pixels
    frozen: bool = False  # train the heads alone

    # -- search --
    height: int = Field(256, ge=16)
    width: int = Field(128, ge=8)
    flip_fusion: Literal["normalised", "released", "none"] = "normalised"


class Protocol(NamedTuple):
    """A detector's schedule: MoCo's for every row, which made the baselines', or the released configs'.

    `shortest` and `longest` are the range of the shorter side in training, as shares of the one in testing;
    `drops` where the rate falls to a tenth, as shares of the steps, and none for a cosine to zero; `warm` is
    the share of the steps that the rate rises over.
    """

    steps: int
    lr: float
    shortest: float
    longest: float
    drops: tuple[float, ...]
    warm: float


PROTOCOLS = {
    ("mask_rcnn", "moco"): Protocol(180_000, 0.02, 640 / 800, 1.0, (2 / 3, 8 / 9), 1000 / 180_000),
    ("faster_rcnn", "moco"): Protocol(24_000, 0.02, 480 / 800, 1.0, (3 / 4, 11 / 12), 100 / 24_000),
    ("mask_rcnn", "released"): Protocol(180_000, 0.05, 640 / 800, 880 / 800, (), 1 / 18),
    # As shipped; a base file beside it has 24,000 steps at 0.2.
    ("faster_rcnn", "released"): Protocol(180_000, 0.05, 480 / 800, 880 / 800, (), 1 / 18),
}
