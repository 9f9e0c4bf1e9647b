"""One run, from images to linear and kNN accuracy.

`Loop.run_epoch` is a step from top to bottom: draw a batch, make its views where the images lie, take the
method's loss, and after `accumulation` batches, or at the epoch's end, move the weights. Labels serve the
supervised row, the probes, and the meters; no self-supervised loss reads them.

Several processes share a step's micro-batches: each takes every N-th and accumulates an N-th as many, and
gradients are averaged before the step, so that it sees the images that it sees in one process. Batch
normalisation takes its statistics over all processes on GPUs (SyncBN); on CPUs, where torch has none, over
each micro-batch, which is what accumulation in one process does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from papers_lib import checkpoint, compute, pilot
from papers_lib.errors import PapersError
from papers_lib.evaluation import probes
from papers_lib.median_triplet import augment, detection, meters, methods, search
from papers_lib.median_triplet.images import BATCH, Images, Loaded, load, plain, views
from papers_lib.median_triplet.methods import Batch, Method
from papers_lib.median_triplet.optimisers import Lars, warm_cosine
from papers_lib.median_triplet.options import SHARED, TrainSettings, TransferSettings

Report = Callable[[int, int, str], None]


def train(
    settings: TrainSettings,
    data: tuple[str, str] | Loaded,
    folder: Path,
    device: str = "auto",
    report: Report = lambda step, total, note: None,
) -> dict[str, Any]:
    """Train an encoder and probe it; resumes from `folder/checkpoint.pt`.

    In a process group that is there already (torchrun) its processes train together; the first saves.

    Args:
        settings: all that can change the result.
        data: the data set's root folder and name, or tensors.
        folder: where the checkpoint (and `weights.pt`, with `keep_weights`) goes.
        device: "auto", "cpu" or "cuda".
        report: called with step, steps in all, and a note.

    Returns:
        Plain JSON: `linear` and `knn` (fractions, last epoch), `knn_max` over epochs, `probe` (rates tried
        and how they did on the held-out part), `history` (one entry per epoch), `start` (the meters before
        training, and the floating-point operations of a step per image), `classes` and `images` of the
        training set, `waiting` (share of the training time spent on making views).

    Raises:
        PapersError: bad data, or settings that the data, the batch or the processes cannot serve.
        FloatingPointError: a loss that is no longer finite.
    """
    rank, world = _group()
    if world > 1 and settings.method not in SHARED:
        raise PapersError(f"{settings.method} runs in one process; several take {', '.join(SHARED)}")
    where = compute.device(device)
    if world > 1 and where.type == "cuda":
        where = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(where)
    compute.prepare(settings.seed)
    images = load(data, settings, where)
    method = methods.build(settings.method, settings, len(images.train), images.classes)
    compute.place(method, where)  # before the optimiser is made of its parameters
    if world > 1 and where.type == "cuda":
        method = nn.SyncBatchNorm.convert_sync_batchnorm(method)

    path = folder / "checkpoint.pt"
    loop = Loop(settings, method, images)
    resumed = loop.resume(checkpoint.load(path))
    if world > 1:
        dist.barrier()  # nobody writes before all have read
    if not resumed:
        loop.read_start()
    for epoch in pilot.epochs(loop.epoch, settings.epochs):
        if rank == 0:
            report(epoch, settings.epochs, f"epoch {epoch + 1}")
        loop.run_epoch()
        if rank == 0:
            checkpoint.save(path, loop.state())
    if settings.keep_weights and rank == 0:
        checkpoint.save(folder / "weights.pt", method.encoder.state_dict())
    return loop.result() | loop.probe()


def _group() -> tuple[int, int]:
    """The number of this process, and how many there are."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


class Loop(checkpoint.Resumable):
    """State of training between epochs: method, optimiser, random numbers, history."""

    KEPT = ("epoch", "method", "optimiser", "generator", "torch_random", "history", "start")

    def __init__(self, settings: TrainSettings, method: Method, images: Loaded) -> None:
        self.settings, self.method, self.images = settings, method, images
        self.rank, self.world = _group()
        if settings.accumulation % self.world:
            raise PapersError(
                f"accumulation={settings.accumulation} cannot be shared by {self.world} processes; "
                "start a number of processes that divides it"
            )
        self.accumulation = settings.accumulation // self.world  # batches of this process per step
        self.batches = len(images.train) // settings.batch_size // self.world  # of this process per epoch
        if not self.batches:
            raise PapersError(
                f"{len(images.train)} images do not fill a batch of {settings.batch_size} in each of "
                f"{self.world} processes; lower batch_size"
            )
        self.steps = -(-self.batches // self.accumulation)  # per epoch, the last from fewer batches
        recipe = settings.recipe if method.number_of_views > 1 else ""
        pair = augment.RECIPES[recipe or method.recipe]
        self.recipes = [pair[i % 2] for i in range(method.number_of_views)]
        self.optimiser = optimiser(settings, method)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.torch_random = TorchRandom()
        self.epoch = 0
        self.history: list[dict[str, float]] = []
        self.start: dict[str, float] = {}

    def run_epoch(self) -> None:
        """Once through the images, in whole batches: a smaller one would change what a rank means."""
        s, method, device = self.settings, self.method, self.images.train.device
        if method.clusters_before(self.epoch):
            method.cluster(self.embed(self.images.train), self.epoch)  # of all images, [N, dimension]
        method.train()
        begun, waited = _now(device), 0.0
        logs, readings = [], []
        asked, count = _now(device), pilot.few(self.batches)
        read = self.read(self.order(), self.epoch)  # one or two views, [B, 3, s, s] each
        for number, batch in enumerate(pilot.steps(read, self.batches, s.batch_size)):
            waited += _now(device) - asked

            # -- forward and loss; queues, memories and pseudo-labels move on --
            with compute.autocast(device, s.precision):
                loss, log = method.loss(batch)  # scalar: the mean over the batch
            logs.append(log | {"loss": loss.detach()})

            # -- backward: the gradients of a step's batches add up to the mean of theirs --
            first = number - number % self.accumulation  # batch of the step
            group_size = min(self.accumulation, count - first)
            (loss / group_size).backward()

            # -- step --
            if number + 1 == first + group_size:
                step = self.epoch * self.steps + number // self.accumulation
                for group in self.optimiser.param_groups:
                    group["lr"] = s.lr * self.rate(step)
                if self.world > 1:
                    self.average_gradients()
                self.optimiser.step()
                self.optimiser.zero_grad(set_to_none=True)
                method.after_step(step, self.steps * s.epochs)  # the target network follows

            # -- meters --
            if number % max(1, self.batches // meters.READINGS) == 0:
                readings.append(meters.of_batch(method, batch.labels))
            asked = _now(device)

        spent = _now(device) - begun
        time_spent = {"seconds": round(spent, 2), "waiting": round(waited / spent, 4)}
        entry = _means(logs, self.epoch) | meters.mean(readings) | time_spent
        self.epoch += 1
        if self.epoch % s.knn_every == 0 or self.epoch == s.epochs:
            entry["knn"] = self.knn()
        self.history.append(entry | self.spread())

    def order(self) -> Sequence[Tensor]:
        """The indices [B] of each batch of an epoch; the incomplete last one is left out.

        All processes draw alike, and take every N-th batch.
        """
        order = torch.randperm(len(self.images.train), generator=self.generator)  # [N]
        size = self.settings.batch_size
        whole = order[: self.batches * self.world * size].view(-1, size)  # [batches of all, B]
        return list(whole[self.rank :: self.world])

    def read(self, order: Sequence[Tensor], epoch: int) -> Iterator[Batch]:
        """The batches of these indices [B] each, their views made on the device where images are resident."""
        images = self.images
        seen = views(images.train, order, self.recipes, self.generator, self.settings, epoch)
        for indices, pair in zip(order, seen, strict=True):
            chosen = indices.to(images.train.device)  # [B]
            yield Batch(pair, chosen, images.train_labels[chosen])

    def batch(self, indices: Tensor) -> Batch:
        """The views of these images alone."""
        return next(self.read([indices], self.epoch))

    def rate(self, step: int) -> float:
        """Factor of the learning rate at a step: linear warm-up, then cosine to zero."""
        epochs = self.settings.schedule_epochs or self.settings.epochs
        warm = round(self.settings.warm_up_epochs * self.steps)
        return warm_cosine(step, epochs * self.steps, warm, self.settings.warm_ratio)

    def average_gradients(self) -> None:
        """The mean of the gradients over the processes, in place."""
        gradients = [p.grad for p in self.method.trained() if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])  # one message for all
        dist.all_reduce(flat)
        flat /= self.world
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    # -- what a run reports --

    @torch.no_grad()
    def embed(self, images: Images) -> Tensor:
        """Features [N, dimension] of the encoder in evaluation mode, float32, on the images' device."""
        training = self.method.training
        self.method.eval()  # normalised by running statistics
        with compute.autocast(images.device, self.settings.precision):
            batches = pilot.steps(plain(images, self.settings.image_size), -(-len(images) // BATCH))
            features = [self.method.encoder(batch).float() for batch in batches]
        self.method.train(training)
        return torch.cat(pilot.repeated(features, -(-len(images) // BATCH)))[: len(images)]  # [N, dimension]

    def read_start(self) -> None:
        """The meters before training, on views that the training itself does not draw."""
        kept = self.generator.get_state()
        batches = list(self.read(self.order()[: meters.READINGS], self.settings.epochs))
        self.generator.set_state(kept)
        self.start = self.spread() | meters.before_training(self.method, batches)
        self.start["flops"] = meters.flops(self.method, batches[0])
        self.start["knn"] = self.knn()
        sides = self.images.train, self.images.test
        if isinstance(sides[0], Tensor) and sides[0].ndim == 3:  # frozen features, as they are
            bank, queries = (torch.cat(list(plain(side, 0))) for side in sides)
            self.start["knn_features"] = self._knn(bank, queries)

    def spread(self) -> dict[str, float]:
        """The meters of the encoder's features, on some training images."""
        some = self.images.train[:: max(1, len(self.images.train) // meters.KEPT)]
        return meters.of_features(self.embed(some))

    def knn(self) -> float:
        """kNN accuracy on the test images, the training images as the bank (Wu et al., CVPR 2018)."""
        return self._knn(self.embed(self.images.train), self.embed(self.images.test))

    def _knn(self, bank: Tensor, queries: Tensor) -> float:
        images, s = self.images, self.settings
        k = min(s.knn_k, len(bank))
        accuracy = probes.knn_accuracy(bank, images.train_labels, queries, images.test_labels, k, s.knn_tau)
        return round(accuracy, 6)

    def result(self) -> dict[str, Any]:
        """What the epochs left: history, start, the share of time spent on views."""
        spent = sum(entry["seconds"] for entry in self.history)
        waited = sum(entry["seconds"] * entry["waiting"] for entry in self.history)
        return {
            "classes": self.images.classes,
            "images": len(self.images.train),
            "start": self.start,
            "history": self.history,
            "knn_max": max((entry["knn"] for entry in self.history if "knn" in entry), default=None),
            "waiting": round(waited / spent, 4) if spent else None,
        }

    def probe(self) -> dict[str, Any]:
        """kNN and linear accuracy of the encoder as it is; the linear rate is chosen on training images."""
        images, s = self.images, self.settings
        test = self.embed(images.test)  # [M, d]
        sides = (self.embed(images.train), images.train_labels, test, images.test_labels)
        full, short = (
            probes.linear_probe(*sides, lrs=s.probe_lrs, epochs=epochs, seed=s.seed)
            for epochs in (pilot.few(s.probe_epochs), 1)  # one epoch, as in Tables 6 and 7
        )
        result = {"linear": full["accuracy"], "linear_1": short["accuracy"], "probe": full, "knn": self.knn()}
        if isinstance(self.method, methods.Supervised):
            # The classifier that a supervised run trained itself.
            with torch.no_grad():
                right = self.method.head(test).argmax(1) == images.test_labels  # [M]
            result["own"] = round(float(right.float().mean()), 6)
        return result


def optimiser(settings: TrainSettings, method: Method) -> torch.optim.Optimizer:
    """LARS as the released code has it, or SGD with momentum; both over what the method trains."""
    parameters = method.trained() or list(method.parameters())  # `random` never takes a step
    lr, momentum, decay = settings.lr, settings.momentum, settings.weight_decay
    if settings.optimiser == "lars":
        return Lars(parameters, lr, momentum, decay, lr_inside=settings.lr_inside)
    return torch.optim.SGD(parameters, lr, momentum, weight_decay=decay, foreach=True)


class TorchRandom:
    """torch's own random numbers, which dropout draws from, on the CPU and all GPUs."""

    def get_state(self) -> list[Tensor]:
        """As `set_state` takes them."""
        return [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]

    def set_state(self, states: list[Tensor]) -> None:
        """Go on from `get_state()`."""
        torch.set_rng_state(states[0])
        if torch.cuda.is_available():
            torch.cuda.set_rng_state_all(states[1:])


def _now(device: torch.device) -> float:
    # Without this wait a GPU would seem to make views in no time.
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _means(logs: list[dict[str, Tensor]], epoch: int) -> dict[str, float]:
    """Means over an epoch's batches.

    Raises:
        FloatingPointError: the loss is no longer finite.
    """
    means = {name: float(torch.stack([log[name] for log in logs]).mean()) for name in logs[0]}
    if not abs(means["loss"]) < float("inf"):  # NaN too
        raise FloatingPointError(f"the loss is {means['loss']} in epoch {epoch + 1}; lower lr")
    return {name: round(value, 5) for name, value in means.items()}


# -- what starts from a trained encoder --


def run_transfer(
    settings: TransferSettings,
    data: tuple[str, str],
    folder: Path,
    weights: Path | None,
    device: str = "auto",
    report: Report = lambda step, total, note: None,
) -> dict[str, Any]:
    """Fine-tune a detector (Tables 2, 3) or search a gallery (Table 4), from an encoder's weights or none."""
    start = checkpoint.load_weights(weights) if weights else None
    if settings.task == "search":
        return search.search(settings, data, start, device)
    return detection.fine_tune(data, settings, start, folder, device, report)
