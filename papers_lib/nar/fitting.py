"""Training one network of one vector from scratch: the loop, top to bottom."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from papers_lib import checkpoint, compute
from papers_lib.nar import counting
from papers_lib.nar.images import Loaded, augmented, normalised
from papers_lib.nar.networks import resnet18
from papers_lib.nar.options import Common
from papers_lib.nar.schedules import warm_cosine

Report = Callable[[int, int, str], None]
CHUNK = 2000  # images of an evaluation at once


class Course(NamedTuple):
    """The length of a training and its rate: a linear start, then a cosine to zero."""

    epochs: int
    lr: float
    warm_up_epochs: float = 0.0


class Fit(checkpoint.Resumable):
    """State of a training between epochs: network, optimiser, random numbers, history.

    Args:
        settings: seed, width, rule, batch, momentum, weight decay and precision.
        vector: the operators.
        course: length and rate.
        images: the data; `which` are the indices to train on.
        where: the device.
    """

    KEPT = ("epoch", "network", "optimiser", "generator", "history")

    def __init__(
        self,
        settings: Common,
        vector: tuple[int, ...],
        course: Course,
        images: Loaded,
        which: Tensor,
        where: torch.device,
    ) -> None:
        self.settings, self.course, self.images, self.which, self.where = (
            settings,
            course,
            images,
            which,
            where,
        )
        self.generator = torch.Generator().manual_seed(settings.seed)
        network = resnet18(vector, settings.rule, "cifar", images.classes, settings.width)
        self.network = compute.place(network, where)
        self.optimiser = sgd(self.network, settings, course.lr)
        self.epoch = 0
        self.history: list[dict[str, float]] = []

    def run_epoch(self) -> None:
        """Once through the images, in whole batches."""
        began = time.perf_counter()
        self.network.train()
        batches = len(self.which) // self.settings.batch_size
        losses = []
        for number, indices in enumerate(shuffled(self.which, self.settings.batch_size, self.generator)):
            factor = warm_cosine(
                self.epoch + number / batches, self.course.epochs, self.course.warm_up_epochs
            )
            for group in self.optimiser.param_groups:
                group["lr"] = self.course.lr * factor
            losses.append(self._step(indices))
        self.epoch += 1
        loss = mean_loss(losses, self.epoch)
        self.history.append({"loss": loss, "seconds": round(time.perf_counter() - began, 3)})

    def _step(self, indices: Tensor) -> Tensor:
        x, y = batch_of(self.images, indices, self.generator)
        with compute.autocast(self.where, self.settings.precision):
            logits = self.network(x)
        loss = F.cross_entropy(logits.float(), y)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        return loss.detach()

    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """Share of right answers in evaluation mode, for images [N, H, W, 3] uint8 and labels [N]."""
        return accuracy(self.network, images, labels, self.settings)


def sgd(network: nn.Module, settings: Common, lr: float) -> torch.optim.SGD:
    """Nesterov's SGD over all weights, in as few kernels as the device allows."""
    parameters = list(network.parameters())
    cuda = parameters[0].device.type == "cuda"
    return torch.optim.SGD(
        parameters, lr, settings.momentum, weight_decay=settings.weight_decay, nesterov=settings.momentum > 0,
        fused=cuda, foreach=not cuda,
    )  # fmt: skip


def shuffled(which: Tensor, size: int, generator: torch.Generator) -> list[Tensor]:
    """An epoch's batches of indices; the incomplete last one is left out."""
    order = torch.randperm(len(which), generator=generator)[: len(which) // size * size]
    return list(which[order.to(which.device)].view(-1, size))


def batch_of(images: Loaded, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Training images of these indices, cropped, mirrored and normalised, with labels."""
    return normalised(augmented(images.train[indices], generator)), images.train_labels[indices]


def mean_loss(losses: list[Tensor], epoch: int) -> float:
    """The mean over an epoch's batches.

    Raises:
        FloatingPointError: the loss is no longer finite.
    """
    found = float(torch.stack(losses).mean())
    if not abs(found) < float("inf"):  # NaN too
        raise FloatingPointError(f"the loss is {found} in epoch {epoch}; lower lr")
    return round(found, 5)


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, labels: Tensor, settings: Common) -> float:
    """Share of right answers in evaluation mode."""
    network.eval()
    right = torch.zeros((), dtype=torch.int64, device=labels.device)
    with compute.autocast(images.device, settings.precision):
        for x, y in zip(images.split(CHUNK), labels.split(CHUNK), strict=True):
            right += (network(normalised(x)).argmax(1) == y).sum()
    return round(int(right) / len(labels), 6)


def counted(vector: tuple[int, ...], settings: Common, images: Loaded) -> counting.Count:
    """Parameters and multiply-accumulates of the network that a run trains."""
    side = images.train.shape[1]
    return counting.count(vector, "resnet18_cifar", settings.rule, side, images.classes, settings.width)
