"""The settings of every kind of run: what the paper states, and a named option for what it leaves open.

Defaults are those of profile `paper`: the paper's value where it prints one, else that of the released ENAS
code (melodyguan/enas), whose search the paper takes over, else a recipe that is named here.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from papers_lib.settings import Frozen

Take = Literal["vector", "pick", "argmax", "random_same", "best_random", "optimum", "single"]

Preset = Literal["enas_code", "enas_paper", "nar"]


class Common(Frozen):
    """What all runs on images share: data, the searched network, and arithmetic."""

    seed: int = Field(0, ge=0)
    images: int = Field(0, ge=0)  # of the training set, an equal share of each class; 0: all
    image_size: int = Field(0, ge=0)  # 0: as the images are
    valid_size: int = Field(5000, ge=1)  # of those, kept out of the shared weights' training
    decisions: Literal[6, 8, 16] = 8
    operators: int = Field(4, ge=2, le=6)
    rule: Literal["A", "B", "bare", "enas"] = "A"
    width: int = Field(64, ge=1)
    batch_size: int = Field(128, ge=2)
    momentum: float = Field(0.9, ge=0, lt=1)  # Nesterov's
    weight_decay: float = Field(5e-4, ge=0)  # l2_reg 2.5e-4 · Σ w² of the released code
    precision: Literal["float32", "bfloat16"] = "bfloat16"


class StandaloneSettings(Common):
    """A network of one vector, trained from scratch.

    The paper prints no recipe for this; the default is that of kuangliu/pytorch-cifar.
    """

    kind: Literal["standalone"] = "standalone"
    take: Take = "vector"  # `vector` below, or which one of the run that this one needs
    vector: tuple[int, ...] = ()
    epochs: int = Field(200, ge=1)
    lr: float = Field(0.1, gt=0)  # cosine to zero
    warm_up_epochs: float = Field(0, ge=0)
    test_every: int = Field(10, ge=1)  # epochs


class SearchSettings(Common):
    """Shared weights and controller, in turn."""

    kind: Literal["search"] = "search"

    # -- shared weights: SGDR (Loshchilov and Hutter 2017) --
    epochs: int = Field(310, ge=1)  # PreTrain's included
    lr: float = Field(0.05, gt=0)
    lr_min: float = Field(0.0005, ge=0)
    first_cycle: int = Field(10, ge=1)  # T₀ in epochs; each cycle is twice the one before

    # -- PreTrain --
    pretrain_epochs: int = Field(10, ge=0)  # "few epochs"; the first cycle is our reading
    pretrain_sampling: Literal["uniform", "strict_fair"] = "uniform"

    # -- controller --
    preset: Preset = "nar"
    updates: int = Field(50, ge=1)  # an epoch
    samples: int = Field(20, ge=1)  # an update
    reward_images: int = Field(128, ge=2)
    bn_eval: Literal["running", "batch"] = "running"  # statistics while a reward is taken
    cost_weight: float = Field(0.0, ge=0)  # reward −= weight · share of the untouched network's MACs
    final_samples: int = Field(10, ge=1)
    score_images: int = Field(5000, ge=2)  # of the validation part, to choose among them


class ScoreSettings(Common):
    """The score of every vector by the shared weights of a finished search (16 decisions: beam search)."""

    kind: Literal["enumerate"] = "enumerate"
    score_images: int = Field(5000, ge=2)
    checked: int = Field(32, ge=1)  # vectors that are scored alone as well
    reward_images: int = Field(128, ge=2)  # of a batch, to see how noisy one is
    beam: int = Field(64, ge=1)
    random: int = Field(0, ge=0)  # draws for `best_random`; 0: as many images as the search's rewards took


class TauSettings(Common):
    """Do shared weights rank vectors as their own trainings do?"""

    kind: Literal["tau"] = "tau"
    vectors: int = Field(40, ge=4)  # half uniform, half with one to four replacements
    epochs: int = Field(30, ge=1)
    lr: float = Field(0.1, gt=0)
    score_images: int = Field(5000, ge=2)


class SkipSettings(Frozen):
    """ENAS's controller with skips, on a simulated reward; Figure 1 is without the penalty on them."""

    kind: Literal["skips"] = "skips"
    seed: int = Field(0, ge=0)
    layers: int = Field(12, ge=2)
    preset: Preset = "enas_code"
    epochs: int = Field(310, ge=1)
    updates: int = Field(50, ge=1)
    samples: int = Field(20, ge=1)
    gain: float = Field(0.1, ge=0)  # of accuracy, from no skip to all; 0: they change nothing
    noise: float = Field(0.03, ge=0)  # standard error of a reward
    weight: float = Field(0.0, ge=0)  # of the penalty; .8 in the released script
    target: float = Field(0.4, gt=0, lt=1)  # of the penalty, as released; what is read is the KL from ½
