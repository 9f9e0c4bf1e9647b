"""The settings of every kind of run: what the paper states, and a named option for what it leaves open.

Defaults are those of profile `paper`: the paper's value where it prints one, else that of the released ENAS
code (melodyguan/enas), whose search the paper takes over, else a recipe that is named here.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from papers_lib.nar.operators import Rule
from papers_lib.settings import Frozen

Precision = Literal["float32", "bfloat16"]
Preset = Literal["enas_code", "enas_paper", "nar"]
Take = Literal["vector", "pick", "argmax", "random_same", "best_random", "optimum", "single"]

# Settings of a fast recipe, by its name. airbench: https://github.com/KellerJordan/cifar10-airbench, of whose
# levers those are here that leave network and optimiser alone.
RECIPES: dict[str, dict[str, Any]] = {
    "airbench": {
        "label_smoothing": 0.2,
        "border": "reflect",
        "shift": 2,
        "flip": "alternate",
        "test_flip": True,
        "benchmark": True,
    }
}


def option(default: Any, **bounds: Any) -> Any:
    """A field that settings leave out at its default: runs from before it was there still count."""
    return Field(default, exclude_if=lambda value: value == default, **bounds)


class Common(Frozen):
    """What all runs on images share: data, the searched network, and arithmetic."""

    seed: int = Field(0, ge=0)
    images: int = Field(0, ge=0)  # of the training set, an equal share of each class; 0: all
    image_size: int = Field(0, ge=0)  # 0: as the images are
    augment: bool = True  # crop and mirror what is trained with
    valid_size: int = Field(5000, ge=1)  # of those, kept out of the shared weights' training
    score_images: int = Field(1000, ge=2)  # of these, to choose by; as many to judge by; the rest for rewards
    decisions: Literal[6, 8, 16] = 8
    operators: int = Field(4, ge=2, le=6)
    rule: Rule = "A"
    width: int = Field(64, ge=1)
    batch_size: int = Field(128, ge=2)
    momentum: float = Field(0.9, ge=0, lt=1)  # Nesterov's
    weight_decay: float = Field(5e-4, ge=0)  # l2_reg 2.5e-4 · Σ w² of the released code
    precision: Precision = "bfloat16"
    benchmark: bool = option(False)  # let cuDNN time its kernels: faster, and another sum per run


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
    label_smoothing: float = option(0.0, ge=0, lt=1)
    border: Literal["black", "reflect"] = option("black")  # what the crop's border shows
    shift: int = option(4, ge=0)  # pixels that the crop moves to each side at most
    flip: Literal["random", "alternate"] = option("random")  # alternate: each image in every other epoch
    test_flip: bool = option(False)  # test by the sum of the logits of an image and of its mirror


class Controlled(Frozen):
    """What all searches share: PreTrain and the controller."""

    # -- PreTrain --
    pretrain_epochs: int = Field(10, ge=0)  # "few epochs"; the first cycle is our reading
    pretrain_sampling: Literal["uniform", "strict_fair"] = "uniform"

    # -- controller --
    preset: Preset = "nar"
    updates: int = Field(50, ge=1)  # per epoch
    samples: int = Field(20, ge=1)  # per update
    reward_images: int = Field(128, ge=2)
    bn_eval: Literal["running", "batch"] = "running"  # statistics while a reward is taken
    cost_weight: float = Field(0.0, ge=0)  # reward −= weight · share of the untouched network's MACs
    baseline: Literal["moving", "leave_one_out"] = "moving"  # of REINFORCE
    final_samples: int = Field(10, ge=1)  # of which the pick is the best


class SearchSettings(Common, Controlled):
    """Shared weights and controller, in turn."""

    kind: Literal["search"] = "search"

    # -- shared weights: SGDR (Loshchilov and Hutter 2017) --
    epochs: int = Field(310, ge=1)  # PreTrain's included
    lr: float = Field(0.05, gt=0)
    lr_min: float = Field(0.0005, ge=0)
    first_cycle: int = Field(10, ge=1)  # T₀ in epochs; each cycle is twice the one before


class ScoreSettings(Common):
    """The score of every vector by the shared weights of a finished search."""

    kind: Literal["enumerate"] = "enumerate"
    checked: int = Field(32, ge=1)  # vectors that are scored alone as well
    reward_images: int = Field(128, ge=2)  # of a batch, to see how noisy one is
    random: int = Field(0, ge=0)  # draws for `best_random`; 0: as many images as the search's rewards took
    vectors: int = Field(0, ge=0)  # of `sampling.mixed`, read by other statistics of normalisation as well


class AloneSettings(Common):
    """Many vectors, each trained from scratch on the images of the shared weights: the truth to rank by."""

    kind: Literal["alone"] = "alone"
    vectors: int = Field(150, ge=1)  # of `sampling.mixed`
    repeat: int = Field(0, ge=0)  # another one: other weights and order, the same vectors and images
    epochs: int = Field(30, ge=1)
    lr: float = Field(0.1, gt=0)  # cosine to zero


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
    noise: float = Field(0.03, ge=0)  # standard error of a reward; .03 to .04 is that of 128 images
    weight: float = Field(0.0, ge=0)  # of the penalty; .8 in the released script
    target: float = Field(0.4, gt=0, lt=1)  # of the penalty, as released; what is read is the KL from ½


class FaceCommon(Frozen):
    """What face trainings and searches share: the proxy task of Section 4.1.1, else ArcFace's mxnet recipe.

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
    operators: int = Field(4, ge=2, le=6)
    rule: Rule = "A"
    width: int = Field(64, ge=1)  # channels of the first stage
    embedding: int = Field(512, ge=2)

    # -- ArcFace --
    scale: float = Field(64.0, gt=0)
    margin: float = Field(0.5, ge=0, lt=1.57)

    # -- optimisation --
    lr: float = Field(0.1, gt=0)
    lr_min: float = Field(1e-4, ge=0)
    first_cycle: int = Field(10, ge=1)  # epochs of the first cosine; each next one is twice as long
    epochs: int = Field(150, ge=0)
    batch_size: int = Field(512, ge=2)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    precision: Precision = "bfloat16"
    benchmark: bool = option(False)  # as that of runs on CIFAR


class FaceSettings(FaceCommon):
    """A face network of one vector, trained and verified."""

    take: Take = "vector"  # `vector` below, or which one of the search that this one needs
    vector: tuple[int, ...] = (0,) * 24  # 24 blocks or 48 convolutions


class FaceSearchSettings(FaceCommon, Controlled):
    """Shared weights of LResNet50E-IR and controller, in turn; rewards are of the images held out."""

    kind: Literal["search_faces"] = "search_faces"
    decisions: Literal[24, 48] = 24  # whole blocks, or single convolutions: the paper does not say which
    epochs: int = Field(150, ge=1)  # PreTrain's included
    score_images: int = Field(0, ge=0)  # of those held out, to choose by; 0: a quarter of them


class ImageNetSettings(Frozen):
    """A network of one vector, from scratch, at 224 pixels; the paper prints no recipe.

    Defaults: torchvision's `references/classification`: 90 epochs, .1 for 256 images, a tenth of it every 30.
    """

    kind: Literal["imagenet"] = "imagenet"
    seed: int = Field(0, ge=0)
    vector: tuple[int, ...] = (0,) * 8
    rule: Rule = "A"
    width: int = Field(64, ge=1)
    image_size: int = Field(224, ge=8)
    resize: int = Field(256, ge=8)  # the shorter side, before the middle is cut out ("1-crop testing")
    epochs: int = Field(90, ge=1)
    batch_size: int = Field(256, ge=2)
    lr: float = Field(0.1, gt=0)
    step_epochs: int = Field(30, ge=1)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0)
    label_smoothing: float = option(0.0, ge=0, lt=1)
    precision: Precision = "bfloat16"
    benchmark: bool = option(False)  # as that of runs on CIFAR
