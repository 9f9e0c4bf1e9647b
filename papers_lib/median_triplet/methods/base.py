"""What every method of Table 1 has in common: its batch, its encoder, its generator, its small networks."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from papers_lib import processes
from papers_lib.errors import PapersError
from papers_lib.median_triplet.optimisers import ema_
from papers_lib.networks import cifar

Settings = Any  # the wing's TrainSettings, or anything with the attributes that `build` lists
Logs = dict[str, Tensor]  # detached scalars
M = TypeVar("M", bound=nn.Module)


class Batch(NamedTuple):
    """What a step sees of the training set."""

    views: tuple[Tensor, ...]  # augmented, float, each [B, 3, s, s]
    indices: Tensor  # [B] place of each image in the training set
    labels: Tensor  # [B]; only `supervised` may read them


class Method(nn.Module):
    """An encoder and what trains it.

    Attributes:
        encoder: images [B, 3, s, s] to features [B, dimension]; what the probes see.
        recipe: the key of `augment.RECIPES` that the method's own paper is nearest to.
        number_of_views: how many views a batch must bring.
        whole: whether a step needs whole batches, since memories, queues or weights move on with each:
            several processes then take a part of every batch, and not batches of their own.
        rivals: whether the loss compares a batch's images with each other; `negative_pool` says whether
            with those of all processes.
        dealt: processes to which batches are dealt out, each takes every N-th of N; 1 if they share each.
        generator: the method's own random numbers, drawn on the CPU. Its state is part of
            `state_dict`, and all processes of a run draw the same.
    """

    recipe = "weak"
    number_of_views = 1
    whole = False
    rivals = False
    dealt = 1

    def __init__(self, settings: Settings, images_total: int, classes: int | None) -> None:
        super().__init__()
        self.settings, self.images_total, self.classes = settings, images_total, classes
        # drawn first: one seed of torch gives all methods the same encoder
        self.encoder, self.dimension = cifar.build(settings.backbone)
        self.generator = torch.Generator().manual_seed(settings.seed)  # on the CPU: alike on any device

    def loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        """The loss, a float32 scalar, and detached scalars to log.

        Networks run under the caller's autocast, the loss itself always in float32. Queues, memories and
        pseudo-labels move on with each call, so with each batch of those that a step accumulates.

        Raises:
            PapersError: another number of views, or a batch of one image.
        """
        if len(batch.views) != self.number_of_views:
            wanted = f"{self.number_of_views} of recipe '{self.recipe}'"
            raise PapersError(f"{type(self).__name__} was given {len(batch.views)} views; give {wanted}")
        if len(batch.views[0]) < 2:
            raise PapersError("a batch of one image has no statistics to normalise by; give 2 or more")
        return self._loss(batch)

    forward = loss  # a method is called as any module

    def _loss(self, batch: Batch) -> tuple[Tensor, Logs]:
        raise NotImplementedError

    def clusters_before(self, epoch: int) -> bool:
        """Whether `cluster` must be called before this epoch; False once it has been."""
        return False

    def cluster(self, features: Tensor, epoch: int) -> list[nn.Parameter]:
        """Make pseudo-labels of the features [N, dimension] of the whole training set.

        Returns:
            The weights that were drawn anew, whose momentum is of the old ones.
        """
        return []

    def after_step(self, step: int, steps: int) -> None:
        """Called after the optimiser's step number `step`, counted from 0, of `steps` in all."""

    def trained(self) -> list[nn.Parameter]:
        """What the optimiser may change."""
        return [p for p in self.parameters() if p.requires_grad]

    def get_extra_state(self) -> Tensor:
        """The generator's state, for `state_dict`."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        """Take up the generator's state."""
        self.generator.set_state(state.cpu())


# -- networks on top of an encoder --


def projector(inside: int, hidden: int, outside: int, std: float | None = None) -> nn.Sequential:
    """Linear – BN – ReLU – Linear, [B, inside] to [B, outside]: BYOL's projector and predictor.

    Initialised as OpenSelfSup's: normal with deviation `std`, or Kaiming's (fan in) without; biases 0.
    """
    layers = nn.Sequential(
        nn.Linear(inside, hidden), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True), nn.Linear(hidden, outside)
    )
    return initialised(layers, std)


def classifier(inside: int, classes: int) -> nn.Linear:
    """Linear, [B, inside] to scores [B, classes]; weights N(0, 0.01²), bias 0."""
    return initialised(nn.Linear(inside, classes), 0.01)


def initialised(layers: M, std: float | None = None, bias: float = 0.0) -> M:
    """`layers`, its linear ones drawn anew as `projector` says."""
    for layer in layers.modules():
        if isinstance(layer, nn.Linear):
            if std is None:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            else:
                nn.init.normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.constant_(layer.bias, bias)
    return layers


# -- the network that follows --


def target_of(*online: nn.Module) -> nn.Sequential:
    """A copy of the modules, one after the other, that no gradient reaches."""
    return nn.Sequential(*(copy.deepcopy(part) for part in online)).requires_grad_(False)


@torch.no_grad()
def follow(target: nn.Module, online: tuple[nn.Module, ...], momentum: float, buffers: bool = False) -> None:
    """ξ ← m ξ + (1 − m) θ, in place, over the parameters and, on request, the BN statistics.

    The statistics matter only where the target is evaluated: in training it normalises by its own batch.
    """
    ema_(target.parameters(), (p for part in online for p in part.parameters()), momentum)
    if buffers:
        # num_batches_tracked is a count: it does not follow
        xi = [b for b in target.buffers() if b.is_floating_point()]
        theta = [b for part in online for b in part.buffers() if b.is_floating_point()]
        ema_(xi, theta, momentum)


# -- losses --


def full_precision(where: Tensor) -> torch.autocast:
    """Context in which a loss is computed: no autocast, whatever the caller's."""
    return torch.autocast(where.device.type, enabled=False)


def cross_entropy(scores: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
    """−Σ_i w(y_i) log softmax(scores_i)[y_i] / Σ_i w(y_i) of scores [B, C], in float32 in any autocast.

    With a weight [C] the sum below is over the rows of all processes, and the mean of their losses is that of
    the whole batch.
    """
    with full_precision(scores):
        scores, labels = scores.float(), labels.to(scores.device)
        if weight is None:
            return F.cross_entropy(scores, labels)
        total = F.cross_entropy(scores, labels, weight=weight, reduction="sum")
        return total / processes.mean_of(weight[labels].sum())
