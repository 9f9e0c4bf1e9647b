"""The settings of one training run: the paper's, and a named option for everything that it leaves open.

Defaults are the paper's own values where it prints one (Karaman et al. 2019, Sections 3 and 4), else
the reading that `notebooks/quadruplet_cars196.ipynb` argues for under "Differences from the paper".
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from papers_lib.settings import Frozen

Quadruplets = Literal["random", "method_1", "method_2", "nearest_sibling", "furthest_positive"]
Baseline = Literal["semi_hard", "lifted", "n_pairs", "clustering", "triplet_global"]
Method = Literal[Quadruplets, Baseline, "ce", "none"]


class TrainSettings(Frozen):
    """Everything that can change what a run computes."""

    seed: int = Field(0, ge=0)

    # -- data --
    coarse_map: Literal["type22", "body9"] = "type22"
    coarse_shuffle: bool = False  # a control: types of the same sizes, dealt to the models by lot
    use_boxes: bool = False
    resize: int = Field(256, ge=8)  # images are squared to this side …
    crop: int = Field(224, ge=8)  # … and cropped to this one, at random in training
    augment: bool = True

    # -- network --
    backbone: str = "resnet101"
    embedding_dim: int = Field(1024, ge=1)
    start: Literal["scratch", "imagenet", "file"] = "imagenet"
    weights: str = ""  # of a file that it starts from: SHA-256
    fc_start: Literal["random", "identity"] = "random"
    freeze_bn: bool = False
    coarse_head: Literal["all", "present"] = "all"
    normalise: bool = True
    precision: Literal["float32", "bfloat16"] = "float32"

    # -- what is learnt from --
    method: Method = "method_2"
    pool: Literal["bank", "batch"] = "bank"  # select from the whole training set, or from the batch
    refresh_every: int = Field(0, ge=0)  # steps between two embeddings of the bank; 0: one epoch
    sibling: Literal["union", "random"] = "union"
    no_sibling: Literal["skip", "mask"] = "skip"
    m1_fallback: Literal["furthest_inside", "drop"] = "furthest_inside"

    # -- loss, Eqs. 3–6 --
    lc1: float = 0.08  # coarse
    lc2: float = 0.25  # fine
    lg1: float = 1.0
    lg2: float = 1.0
    eta: float = 1.0
    m1: float = 0.7
    m2: float = 0.3
    t1: float = 0.7
    t2: float = 0.3
    margin_rule: Literal["equation", "text"] = "equation"
    global_distance: Literal["euclidean", "squared_over_4"] = "euclidean"
    var_unbiased: bool = False
    swap_ce_weights: bool = False
    ce_on: Literal["reference", "all"] = "reference"
    reduction: Literal["sum", "mean"] = "sum"

    # -- optimisation --
    batch_size: int = Field(32, ge=1)  # references per step; a quadruplet has four images
    # Images that pass the network at once, if fewer than a step has: the same gradient in less memory.
    # Left out where it is 0, as in rows made before.
    micro_batch: int = Field(0, ge=0, exclude_if=lambda count: count == 0)
    epochs: int = Field(10, ge=0)
    lr: float = Field(3e-4, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    schedule: Literal["constant", "linear"] = "constant"  # linear: down to 0
    backbone_lr: float = Field(1.0, ge=0)  # times `lr`: the rate of what is pretrained
    heads_first: int = Field(0, ge=0)  # epochs in which the backbone stays as it is
    select: Literal["last", "held_out_classes"] = "last"

    # -- evaluation --
    nmi_seeds: int = Field(10, ge=1)

    @property
    def mines(self) -> bool:
        """Whether the quadruplets depend on the features."""
        return self.method in ("method_1", "method_2", "nearest_sibling", "furthest_positive")

    @property
    def learns_from_quadruplets(self) -> bool:
        """Whether Eq. 6 is the loss."""
        return self.mines or self.method == "random"
