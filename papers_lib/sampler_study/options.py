"""The settings of one training run: what the paper prints, and a named option for all that it leaves open.

Defaults are preset `paper`: the printed value where there is one (Section IV-B and IV-D), else the value of
CAP (Wang et al., AAAI 2021), which the paper says it follows. The other presets are the public code bases.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from papers_lib.settings import Frozen

Sampled = Literal["random", "triplet_cluster", "triplet_proxy", "group_cluster", "group_proxy"]
Method = Literal[Sampled, "spcl", "mmcl", "supervised", "none"]


class TrainSettings(Frozen):
    """Everything that can change what a run computes."""

    seed: int = Field(0, ge=0)

    # -- images --
    height: int = Field(256, ge=8)
    width: int = Field(128, ge=8)
    pad: int = Field(10, ge=0)  # pixels, before the random crop
    erase_area: tuple[float, float] = (0.02, 0.2)  # random erasing, share of the image
    erase_ratio: tuple[float, float] = (0.3, 3.0)

    # -- network --
    backbone: str = "resnet50"  # of frozen features there is none: a linear layer stands for it
    start: Literal["scratch", "warm", "imagenet", "file"] = "imagenet"
    weights: str = ""  # start=file: SHA-256 of the state dict's file
    stem_relu: bool = False  # CAP's network has none after the first convolution
    freeze_bn: Literal["none", "head", "all"] = "none"
    # Left out at its default, as in rows made before; so is `floor`.
    pooling: Literal["mean", "gem"] = Field("mean", exclude_if=lambda name: name == "mean")
    precision: Literal["float32", "bfloat16"] = "float32"

    # -- pseudo-labels --
    k1: int = Field(20, ge=1)
    k2: int = Field(6, ge=1)
    k1_includes_self: bool = True
    eps: float = Field(0.5, gt=0, le=1)
    eps_tol: float = Field(1e-6, ge=0)
    min_samples: int = Field(4, ge=1)
    camera_aware: bool = True  # False: a proxy is a whole cluster

    # -- what a batch is --
    method: Method = "triplet_proxy"
    k: int = Field(4, ge=1)  # the paper's K of triplets and N of groups
    p: int = Field(0, ge=0)  # classes per batch; 0: as batch_size and k leave room for
    visited: float = Field(1.0, gt=0, le=1)  # share of the classes that an epoch may draw, anew each epoch
    batch_size: int = Field(32, ge=2)
    iters_per_epoch: int = Field(400, ge=0)  # 0: inliers / batch_size, as CAP
    partial_group: Literal["straddle", "carry", "pad"] = "straddle"
    repeat: Literal["distinct_first", "cap"] = "distinct_first"
    prefer_other_cameras: bool = False
    groups_per_class: int = Field(1, ge=1)
    shuffle_batches: bool = False

    # -- memory and loss --
    tau: float = Field(0.09, gt=0)
    floor: float = Field(0.0, ge=0, exclude_if=lambda value: value == 0)  # of SpCL's probabilities
    intra_loss: bool = True
    inter_weight: float = Field(0.5, ge=0)
    inter_start_epoch: int = Field(5, ge=0)
    num_hard_negatives: int = Field(50, ge=0)  # 0: all
    loss_weighting: Literal["per_camera", "sum", "mean"] = "per_camera"
    memory_momentum: float = Field(0.2, ge=0, lt=1)
    memory_write: Literal["train", "eval"] = "train"
    memory_rebuild: Literal["epoch", "drawn"] = "epoch"  # drawn: only from features of images drawn since

    # -- optimisation: Adam --
    epochs: int = Field(50, ge=0)
    lr: float = Field(3.5e-4, gt=0)
    weight_decay: float = Field(5e-4, ge=0)
    warm_up_epochs: int = Field(10, ge=0)  # linear, from 0.01 of lr
    milestones: tuple[int, ...] = (20, 40)  # epochs after which lr is divided by ten

    # -- evaluation --
    # Where the start gives fewer clusters than a batch has, "skip" waits for better ones. Of one's own images
    # there may never be as many; left out at its default, as in rows made before.
    bad_start: Literal["refuse", "skip"] = Field("refuse", exclude_if=lambda name: name == "refuse")
    evaluate_every: int = Field(10, ge=1)  # epochs
    ap_rule: Literal["rectangle", "trapezoid"] = "rectangle"
    no_match: Literal["skip", "zero"] = "skip"
    report: Literal["last", "best"] = "last"  # best: chosen on the test set, as some public code does
    keep_weights: bool = False  # leave the backbone's weights for runs that start from this one


# Cluster-Contrast and SpCL learn from whole clusters, against all of them, with wider erasing.
_WHOLE_CLUSTERS: dict[str, Any] = {
    "stem_relu": True,
    "erase_area": (0.02, 0.4),
    "erase_ratio": (0.3, 3.33),
    "k1": 30,
    "eps": 0.6,
    "tau": 0.05,
    "warm_up_epochs": 0,
    "partial_group": "carry",
    "prefer_other_cameras": True,
    "camera_aware": False,
    "intra_loss": False,
    "inter_weight": 1.0,
    "inter_start_epoch": 0,
    "num_hard_negatives": 0,
    "loss_weighting": "mean",
}

# What each public code base does otherwise than preset `paper`, as far as these options reach.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    "cap": {"tau": 0.07, "iters_per_epoch": 0, "partial_group": "carry", "repeat": "cap"},
    "spcl_like": _WHOLE_CLUSTERS | {"batch_size": 64},
    "cluster_contrast": _WHOLE_CLUSTERS | {"batch_size": 256, "iters_per_epoch": 200, "memory_momentum": 0.1},
    "improved": {"partial_group": "carry", "memory_write": "eval", "num_hard_negatives": 0},
}
