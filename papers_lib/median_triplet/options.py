"""The settings of a run: what the paper prints, and a named option for all that it leaves open.

The defaults are preset `paper`: the printed value where there is one (Sections 4 and 5), else the value of
the released code (github.com/wanggrun/triplet), which is OpenSelfSup's BYOL with another head.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from pydantic import Field

from papers_lib.settings import Frozen

Method = Literal[
    "random",
    "supervised",
    "relative_location",
    "rotation",
    "deepcluster",
    "npid",
    "odc",
    "simclr",
    "moco",
    "moco_v2",
    "byol",
    "simsiam",
    "triplet",
]


class TrainSettings(Frozen):
    """Everything that can change what the training of an encoder computes."""

    seed: int = Field(0, ge=0)

    # -- images --
    image_size: int = Field(224, ge=8)  # side of a view
    images: int = Field(0, ge=0)  # of the training set, an equal share of each class; 0: all
    classes: int = Field(0, ge=0)  # that the seed chooses, in training and test set alike; 0: all
    recipe: str = ""  # augmentation of methods that compare two views; empty: the method's own

    # -- network --
    backbone: str = "resnet50"
    projector_hidden: int = Field(4096, ge=1)
    projector_out: int = Field(256, ge=1)

    # -- what is learnt from --
    method: Method = "triplet"
    head: Literal["median", "rank", "smoothed", "hardest", "prior"] = "median"
    k: float = Field(0, ge=0)  # head=rank: a rank, or below 1 a share of the batch
    gamma: float = Field(2.0, gt=0)
    margin: float | None = None  # None: no hinge, the same gradients as any margin of 6 and more
    hinge: Literal["relu", "printed"] = "relu"
    distance_scale: float = Field(2.0, gt=0)  # the code has −2 cos, the paper −cos
    view_reduction: Literal["sum", "mean"] = "sum"
    loss_scale: float = Field(1.0, gt=0)
    negative_pool: Literal["micro_batch", "all_devices"] = "micro_batch"
    temperature: float = Field(0.0, ge=0)  # 0: the method's own
    queue: int = Field(65536, ge=1)

    # -- the frame of BYOL --
    ema_base: float = Field(0.99, ge=0, le=1)
    ema_buffers: bool = False
    random_resolution: bool = False  # of the released code alone
    online_sizes: tuple[float, float] = (3 / 7, 1.0)  # shares of the view's side
    target_sizes: tuple[float, float] = (4 / 7, 1.0)

    # -- optimisation --
    optimiser: Literal["lars", "sgd"] = "lars"
    lr: float = Field(4.8, gt=0)
    lr_inside: bool = True  # LARS: the rate enters the momentum buffer
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-6, ge=0)
    batch_size: int = Field(104, ge=1)
    accumulation: int = Field(40, ge=1)  # 5 of the paper × 8 devices
    epochs: int = Field(200, ge=0)
    warm_up_epochs: float = Field(10, ge=0)
    warm_ratio: float = Field(1e-4, gt=0, le=1)
    schedule_epochs: int = Field(0, ge=0)  # of the schedule; 0: epochs
    drops: tuple[float, ...] = ()  # shares of the schedule at which the rate falls; none: a cosine
    drop_factor: float = Field(0.1, gt=0, le=1)
    head_momentum: float | None = Field(None, ge=0, lt=1)  # of the classifier; None: as the rest
    head_weight_decay: float | None = Field(None, ge=0)
    constant_predictor: bool = False  # SimSiam's: its rate stays as it is
    precision: Literal["float32", "bfloat16"] = "bfloat16"

    # -- evaluation --
    knn_every: int = Field(10, ge=1)  # epochs
    knn_k: int = Field(200, ge=1)
    knn_tau: float = Field(0.1, gt=0)
    probe_epochs: int = Field(100, ge=1)
    probe_lrs: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
    keep_weights: bool = False  # leave the encoder for runs that start from it

    # Processes that share a step, see `training.share`. One is left out, as in rows made before.
    processes: int = Field(1, ge=1, exclude_if=lambda count: count == 1)

    # A name alone: the public configuration file of the settings; empty: the frame that all methods share.
    source: str = ""


# What other protocols do otherwise than preset `paper`.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {},
    # lightly's CIFAR-10 benchmark: SGD at 0.06 · batch / 128, cosine to zero, no warm-up, no blur.
    "cifar": {
        "image_size": 32,
        "recipe": "cifar",
        "backbone": "resnet18_cifar",
        "projector_hidden": 1024,
        "optimiser": "sgd",
        "lr": 0.06,
        "weight_decay": 5e-4,
        "batch_size": 128,
        "accumulation": 1,
        "warm_up_epochs": 0.0,
        "queue": 4096,
    },
}
# And what single methods do otherwise there: MoCo's momentum (He et al., CVPR 2020), SimCLR's temperature on
# CIFAR-10 (Chen et al., ICML 2020, appendix B.9), and its negatives, which are those of all devices.
_POOLED = {"negative_pool": "all_devices"}
OF_METHOD: dict[str, dict[str, dict[str, Any]]] = {
    "paper": {"simclr": _POOLED, "moco": {"ema_base": 0.999}, "moco_v2": {"ema_base": 0.999}},
    "cifar": {"simclr": {"temperature": 0.5} | _POOLED},
}

# Each method by the settings of OpenSelfSup, whose zoo the paper's Table 1 quotes: `source` is the file there
# (SimSiam's in mmselfsup, which it became). The triplet and BYOL stand in the frame of `paper`.
_SGD: dict[str, Any] = {
    "optimiser": "sgd",
    "weight_decay": 1e-4,
    "warm_up_epochs": 0.0,
    "batch_size": 256,
    "accumulation": 1,
}
_PRETEXT = _SGD | {
    "lr": 0.2,
    "epochs": 70,
    "warm_up_epochs": 5.0,
    "warm_ratio": 0.1,
    "drops": (30 / 70, 50 / 70),
}
_CLUSTERS = _SGD | {"batch_size": 512, "weight_decay": 1e-5, "head_momentum": 0.0}
_MOCO = _SGD | {"lr": 0.03, "ema_base": 0.999}
PRESETS["openselfsup"] = PRESETS["paper"]
OF_METHOD["openselfsup"] = {
    "supervised": _SGD
    | {"lr": 0.1, "drops": (0.3, 0.6, 0.9), "source": "configs/classification/imagenet/r50.py"},
    "relative_location": _PRETEXT
    | {
        "image_size": 255,
        "batch_size": 512,
        "head_weight_decay": 5e-4,
        "source": "configs/selfsup/relative_loc/r50.py",
    },
    # 512 images pass: each in four turns
    "rotation": _PRETEXT | {"batch_size": 128, "source": "configs/selfsup/rotation_pred/r50.py"},
    # its rate falls at epoch 400 of 200
    "deepcluster": _CLUSTERS | {"lr": 0.1, "drops": (1.0,), "source": "configs/selfsup/deepcluster/r50.py"},
    "odc": _CLUSTERS
    | {
        "lr": 0.06,
        "epochs": 440,
        "drops": (400 / 440,),
        "drop_factor": 0.4,
        "source": "configs/selfsup/odc/r50_v1.py",
    },
    "npid": _SGD | {"lr": 0.03, "drops": (0.6, 0.8), "source": "configs/selfsup/npid/r50.py"},
    "simclr": _POOLED
    | {
        "lr": 0.3,
        "batch_size": 256,
        "accumulation": 1,
        "source": "configs/selfsup/simclr/r50_bs256_ep200.py",
    },
    "moco": _MOCO | {"drops": (0.6, 0.8), "source": "configs/selfsup/moco/r50_v1.py"},
    "moco_v2": _MOCO | {"recipe": "moco_v2_hue", "source": "configs/selfsup/moco/r50_v2.py"},
    "simsiam": _SGD
    | {
        "lr": 0.05,
        "constant_predictor": True,
        "source": "configs/selfsup/simsiam/simsiam_resnet50_8xb32-coslr-200e_in1k.py",
    },
}


class TransferSettings(Frozen):
    """Everything that can change a row of Tables 2, 3 or 4. A zero means: as the protocol says."""

    task: Literal["mask_rcnn", "faster_rcnn", "search"] = "mask_rcnn"
    seed: int = Field(0, ge=0)
    start: Literal["random", "encoder"] = "encoder"
    backbone: str = "resnet50"

    # -- detection --
    det_schedule: Literal["moco", "released"] = "moco"  # one for all rows; the released configs differ
    image_size: int = Field(800, ge=32)  # the shorter side in testing, in pixels
    steps: int = Field(0, ge=0)
    batch_size: int = Field(16, ge=1)  # pictures per step
    accumulation: int = Field(1, ge=1)  # parts that a step's pictures pass in, over all processes
    precision: Literal["float32", "bfloat16"] = "float32"
    processes: int = Field(1, ge=1, exclude_if=lambda count: count == 1)  # of which it is a multiple
    lr: float = Field(0, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0)
    proposals: int = Field(1000, ge=4)  # per test image
    roi_size: int = Field(0, ge=0)  # 0: 14, and 8 below 320 pixels
    frozen: bool = False  # train the heads alone

    # -- search --
    height: int = Field(256, ge=16)
    width: int = Field(128, ge=8)
    flip_fusion: Literal["normalised", "released", "none"] = "normalised"


class Protocol(NamedTuple):
    """A detector's schedule: MoCo's for every row, which made the baselines', or the released configs'."""

    steps: int
    lr: float
    shortest: float  # the range of the shorter side in training, as shares of the one in testing
    longest: float
    drops: tuple[float, ...]  # where the rate falls to a tenth, as shares of the steps; none: a cosine
    warm: float  # the share of the steps over which the rate rises


PROTOCOLS = {
    ("mask_rcnn", "moco"): Protocol(180_000, 0.02, 640 / 800, 1.0, (2 / 3, 8 / 9), 1000 / 180_000),
    ("faster_rcnn", "moco"): Protocol(24_000, 0.02, 480 / 800, 1.0, (3 / 4, 11 / 12), 100 / 24_000),
    ("mask_rcnn", "released"): Protocol(180_000, 0.05, 640 / 800, 880 / 800, (), 1 / 18),
    # As shipped; a base file beside it has 24,000 steps at 0.2.
    ("faster_rcnn", "released"): Protocol(180_000, 0.05, 480 / 800, 880 / 800, (), 1 / 18),
}
