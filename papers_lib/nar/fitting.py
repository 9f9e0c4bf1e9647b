"""Training one network of one vector from scratch, and what all loops of this wing share."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from papers_lib import checkpoint, compute, pilot
from papers_lib.errors import PapersError
from papers_lib.nar import sampling
from papers_lib.nar.counting import Count, count
from papers_lib.nar.images import Given, Loaded, load, normalised, shuffled
from papers_lib.nar.networks import resnet18
from papers_lib.nar.options import (
    AloneSettings,
    Common,
    FaceCommon,
    FaceSettings,
    ImageNetSettings,
    StandaloneSettings,
)

Report = Callable[..., None]  # step, steps in all, a note, and the last epoch's numbers by name
CHUNK = 2000  # images of an evaluation at once
STRIDE = 1000  # between the starts of two repeats: seeds of other runs are below it
TRAIN_IMAGES = 5000  # at most, of the training images, for the gap between training and test accuracy


def quiet(*_: object) -> None:
    """A report that nobody reads."""


class Loop(checkpoint.Resumable):
    """A training whose state is kept behind every epoch."""

    epoch: int  # epochs that are done
    history: list[dict[str, Any]]  # an entry for each

    def left(self, epochs: int, folder: Path, report: Report) -> Iterator[int]:
        """The epochs to come, from those of `folder/checkpoint.pt` on, which is saved behind each."""
        self.resume(checkpoint.load(folder / "checkpoint.pt"))
        for epoch in pilot.epochs(self.epoch, epochs):
            report(epoch, epochs, f"epoch {epoch + 1}", (self.history or [{}])[-1])
            yield epoch
            checkpoint.save(folder / "checkpoint.pt", self.state())


def train(
    settings: StandaloneSettings,
    data: Given,
    folder: Path,
    device: str = "auto",
    report: Report = quiet,
    needed: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train the vector's network on all images of the run and test it.

    Returns:
        Plain JSON: `vector`, `parameters`, `multiply_accumulates`, `accuracy` (test images, last epoch),
        `train_accuracy` (training images as they are), `seconds_training`, `history` (one entry per epoch).

    Arguments and errors are those of `papers_lib.nar.training.run`.
    """
    where = prepare(settings, device)
    vector = vector_of(settings, needed)
    images = load(data, settings, where)
    fit = Fit(settings, vector, images, images.chosen, where)
    for _ in fit.left(settings.epochs, folder, report):
        fit.run_epoch()
        if fit.epoch % settings.test_every == 0 or fit.epoch == pilot.last(settings.epochs):
            fit.history[-1]["accuracy"] = fit.accuracy(images.test, images.test_labels)
    some = images.chosen[:: -(-len(images.chosen) // TRAIN_IMAGES)]  # evenly: they may lie by class
    return {
        "vector": list(vector),
        **counted(vector, settings, images)._asdict(),
        "accuracy": fit.history[-1]["accuracy"],
        "train_accuracy": fit.accuracy(images.train[some], images.train_labels[some]),
        "seconds_training": round(sum(entry["seconds"] for entry in fit.history), 2),
        "history": fit.history,
    }


def train_many(
    settings: AloneSettings, data: Given, folder: Path, device: str = "auto", report: Report = quiet
) -> dict[str, Any]:
    """Train each vector of a sample alone, on the training part, and test it; resumable behind each vector.

    Returns:
        Plain JSON: `points`, of each vector its `vector`, `accuracy` (test images) and `train_accuracy`; and
        how many images these are of, `test_images` and `training_images`.

    Arguments and errors are those of `papers_lib.nar.training.run`.
    """
    where = prepare(settings, device)
    images = load(data, settings, where)
    generator = torch.Generator().manual_seed(settings.seed)  # the sample of every repeat
    vectors = sampling.mixed(settings.vectors, settings.decisions, settings.operators, generator).tolist()
    common = {name: getattr(settings, name) for name in Common.model_fields}
    start = settings.seed + STRIDE * settings.repeat  # of weights and order; images stay the seed's
    recipe = StandaloneSettings(**common | {"seed": start}, epochs=settings.epochs, lr=settings.lr)
    kept = checkpoint.load(folder / "checkpoint.pt")
    points = checkpoint.take_up(kept, partial(_known, vectors), {"points": []}) or []
    for number in pilot.epochs(len(points), len(vectors)):  # a vector stands for an epoch
        vector = vectors[number]
        report(number, len(vectors), f"vector {number + 1}")
        torch.manual_seed(start)  # the same start for every vector, whatever came before a kill
        fit = Fit(recipe, vector, images, images.training, where)
        for _ in range(settings.epochs):
            fit.run_epoch()
        training = images.training
        seen = fit.accuracy(images.train[training], images.train_labels[training])
        accuracy = fit.accuracy(images.test, images.test_labels)
        points.append({"vector": vector, "accuracy": accuracy, "train_accuracy": seen})
        checkpoint.save(folder / "checkpoint.pt", {"points": points})
    sizes = {"test_images": len(images.test), "training_images": len(images.training)}
    return {"points": points, **sizes}


def _known(vectors: list[list[int]], state: dict[str, Any]) -> list[dict[str, Any]]:
    """The first vectors' points as a checkpoint has them."""
    points: list[dict[str, Any]] = list(state["points"])
    if [point["vector"] for point in points] != vectors[: len(points)]:
        raise ValueError("points of other vectors")
    if not all(0 <= point[name] <= 1 for point in points for name in ("accuracy", "train_accuracy")):
        raise ValueError("accuracies that are no fractions")
    return points


def vector_of(
    settings: StandaloneSettings | FaceSettings, needed: Mapping[str, Any] | None
) -> tuple[int, ...]:
    """The vector that a run trains: its own, or the one that the needed run decided.

    "random_same" has as many replacements as that run's pick, at places and with operators of the seed.

    Raises:
        PapersError: the needed run decided no such vector.
    """
    if settings.take == "vector":
        return settings.vector
    choices = (needed or {}).get("choices", {})
    if settings.take != "random_same":
        if settings.take not in choices:
            raise PapersError(f"the run needed decided no vector '{settings.take}'; name another in `take`")
        return tuple(choices[settings.take])
    pick = choices["pick"]
    replacements = sum(code != 0 for code in pick)  # as many as the pick's
    generator = torch.Generator().manual_seed(settings.seed)
    decisions = settings.decisions if isinstance(settings, Common) else len(pick)
    rows = sampling.replaced(1, decisions, replacements, settings.operators, generator)
    return tuple(rows[0].tolist())


class Fit(Loop):
    """State of a training between epochs; `indices` are those of the images to train on."""

    KEPT = ("epoch", "network", "optimiser", "generator", "history")

    def __init__(
        self,
        settings: StandaloneSettings,
        vector: Sequence[int],
        images: Loaded,
        indices: Tensor,
        where: torch.device,
    ) -> None:
        self.settings, self.images, self.indices, self.where = settings, images, indices, where
        self.steps = len(indices) // settings.batch_size
        # Order, crops and mirrors are drawn on the CPU: a seed gives the same views on any device.
        self.generator = torch.Generator().manual_seed(settings.seed)
        network = resnet18(vector, settings.rule, "cifar", images.classes, settings.width)
        self.network = compute.place(network, where)
        self.optimiser = sgd(self.network, settings, settings.lr)
        self.epoch = 0
        self.history: list[dict[str, float]] = []

    def batches(self) -> Iterator[tuple[float, Tensor, Tensor]]:
        """An epoch's batches: the share of the epoch that is over, views [B, 3, H, W] and labels [B]."""
        batches = shuffled(self.indices, self.settings.batch_size, self.generator)
        for number, indices in enumerate(batches):
            yield number / len(batches), *self.cropped(indices)

    def cropped(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """A batch of images [B, 3, H, W], cropped and mirrored or not, and their labels [B]."""
        settings = self.settings
        odd = self.epoch % 2 if settings.flip == "alternate" else None
        reflect = settings.border == "reflect"
        return self.images.views(indices, self.generator, settings.augment, settings.shift, reflect, odd)

    def rate(self, now: float) -> float:
        """The learning rate at `now` epochs."""
        settings = self.settings
        return settings.lr * warm_cosine(now, settings.epochs, settings.warm_up_epochs)

    def run_epoch(self) -> None:
        """Once through the images, in whole batches."""
        began, losses = time.perf_counter(), []
        self.network.train()
        for share, x, y in pilot.steps(self.batches(), self.steps, self.settings.batch_size):
            set_rate(self.optimiser, self.rate(self.epoch + share))

            # -- forward and loss --
            with compute.autocast(self.where, self.settings.precision):
                logits = self.network(x)  # [B, classes]
            loss = F.cross_entropy(logits.float(), y, label_smoothing=self.settings.label_smoothing)

            # -- backward and step --
            self.optimiser.zero_grad(set_to_none=True)  # no gradient is None: SGD leaves such weights
            loss.backward()
            self.optimiser.step()
            losses.append(loss.detach())  # a number would wait for the GPU
        self.epoch += 1
        loss_of_epoch = mean_loss(losses, self.epoch)
        self.history.append({"loss": loss_of_epoch, "seconds": round(time.perf_counter() - began, 3)})

    @torch.no_grad()
    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """Share of right answers in evaluation mode, for images [N, H, W, 3] uint8 and labels [N]."""
        self.network.eval()
        right = torch.zeros((), dtype=torch.int64, device=labels.device)
        with compute.autocast(images.device, self.settings.precision):
            for x, y in zip(images.split(CHUNK), labels.split(CHUNK), strict=True):
                inputs = normalised(x)
                logits = self.network(inputs)  # [B, classes]
                if self.settings.test_flip:
                    logits = logits + self.network(inputs.flip(3))
                right += (logits.argmax(1) == y).sum()
        return round(int(right) / len(labels), 6)


def counted(vector: Sequence[int], settings: Common, images: Loaded) -> Count:
    """Parameters and multiply-accumulates of the network that a run trains."""
    side = images.train.shape[1]
    return count(vector, "resnet18_cifar", settings.rule, side, images.classes, settings.width)


# -- what all loops share ----------------------------------------------------------------------------------


def prepare(settings: Common | FaceCommon | ImageNetSettings, device: str) -> torch.device:
    """The device of a run, with torch seeded and cuDNN as the settings say."""
    where = compute.device(device)
    compute.prepare(settings.seed)
    torch.backends.cudnn.benchmark = settings.benchmark
    return where


def sgd(network: nn.Module, settings: Common | FaceCommon, lr: float) -> torch.optim.SGD:
    """Nesterov's SGD over all weights, in as few kernels as the device allows."""
    parameters = list(network.parameters())
    cuda = parameters[0].device.type == "cuda"
    return torch.optim.SGD(
        parameters,
        lr,
        settings.momentum,
        weight_decay=settings.weight_decay,
        nesterov=settings.momentum > 0,  # torch refuses it without momentum
        fused=cuda,  # one kernel for all weights
        foreach=not cuda,
    )


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Use this learning rate from the next step on."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def sgdr(epoch: float, first: int, low: float = 0.0, high: float = 1.0) -> float:
    """Cosines from `high` to `low` over `first`, 2 `first`, 4 `first` … epochs; `epoch` may be a fraction.

    low + (high − low) (1 + cos(π T_cur / T_i)) / 2: Loshchilov and Hutter (ICLR 2017), Eq. 5, with
    T₀ = `first` and T_mult = 2.
    """
    start, length = 0, first  # of the cycle that `epoch` lies in
    while epoch >= start + length:
        start, length = start + length, 2 * length
    return low + (high - low) * (1 + math.cos(math.pi * (epoch - start) / length)) / 2


def warm_cosine(epoch: float, epochs: int, warm: float) -> float:
    """Factor of the rate: linear from 0 over `warm` epochs, then a cosine to zero at the end."""
    if epoch < warm:
        return epoch / warm
    return (1 + math.cos(math.pi * (epoch - warm) / max(epochs - warm, 1e-9))) / 2


def mean_loss(losses: list[Tensor], epoch: int) -> float:
    """The mean over an epoch's batches.

    Raises:
        FloatingPointError: the loss is no longer finite.
    """
    loss = float(torch.stack(losses).mean())
    if not math.isfinite(loss):  # NaN too
        raise FloatingPointError(f"the loss is {loss} in epoch {epoch}; lower lr")
    return round(loss, 5)
