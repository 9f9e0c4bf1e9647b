"""One run, from images to linear and kNN accuracy.

`Loop.run_epoch` is a step from top to bottom: draw a batch, make its views where the images lie, take the
method's loss, and after `accumulation` batches, or at the epoch's end, move the weights. Labels serve the
supervised row, the probes, and the meters; no self-supervised loss reads them.

Several processes share a step (`share`), and average their gradients before it. What one process would
compute, they compute together: views belong to images, memories and queues are kept alike by all, and batch
normalisation takes its statistics over all processes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from papers_lib import checkpoint, compute, pilot, processes
from papers_lib.errors import PapersError
from papers_lib.evaluation import probes
from papers_lib.median_triplet import augment, detection, meters, methods, search
from papers_lib.median_triplet.images import BATCH, Images, Loaded, load, plain, views
from papers_lib.median_triplet.methods import Batch, Method
from papers_lib.median_triplet.optimisers import Lars, falling, warm_cosine
from papers_lib.median_triplet.options import TrainSettings, TransferSettings

Report = Callable[..., None]  # step, steps in all, a note, and the latest numbers by name


def train(
    settings: TrainSettings,
    data: tuple[str, str] | Loaded,
    folder: Path,
    device: str = "auto",
    report: Report = lambda *_: None,
) -> dict[str, Any]:
    """Train an encoder and probe it; resumes from `folder/checkpoint.pt`.

    In a process group that is there already (torchrun) its processes train together; the first saves.

    Args:
        settings: all that can change the result.
        data: the data set's root folder and name, or tensors.
        folder: where the checkpoint (and `weights.pt`, with `keep_weights`) goes.
        device: "auto", "cpu" or "cuda".
        report: called with step, steps in all, a note, and the latest numbers by name.

    Returns:
        Plain JSON: `linear` and `knn` (fractions, last epoch), `knn_max` over epochs, `probe` (rates tried
        and how they did on the held-out part), `history` (an entry per epoch with kNN), `start` (the meters
        before training, and the floating-point operations of a step per image), `classes` and `images` of
        the training set, `chance` that another of its images is of an image's class, `waiting` (share of the
        training time spent on making views).

    Raises:
        PapersError: bad data, or settings that the data, the batch or the processes cannot serve.
        FloatingPointError: a loss that is no longer finite.
    """
    rank, world = processes.group()
    where = processes.device(compute.device(device))
    compute.prepare(settings.seed)
    images = load(data, settings, where)
    method = methods.build(settings.method, settings, len(images.train), images.classes)
    compute.place(method, where)  # before the optimiser is made of its parameters
    processes.synchronised(method, where)

    path = folder / "checkpoint.pt"
    loop = Loop(settings, method, images)
    resumed = loop.resume(checkpoint.load(path))
    if world > 1:
        dist.barrier()  # nobody writes before all have read
    if not resumed:
        loop.read_start()
    for epoch in pilot.epochs(loop.epoch, settings.epochs):
        if rank == 0:
            report(epoch, settings.epochs, f"epoch {epoch + 1}", loop.latest())
        loop.run_epoch()
        if rank == 0:
            checkpoint.save(path, loop.state())
    if rank == 0:
        report(settings.epochs, settings.epochs, "probes", loop.latest())
        if settings.keep_weights:
            checkpoint.save(folder / "weights.pt", method.encoder.state_dict())
    return loop.result() | loop.probe()


class Loop(checkpoint.Resumable):
    """State of training between epochs: method, optimiser, random numbers, history."""

    KEPT = ("epoch", "method", "optimiser", "generator", "history", "start")

    def __init__(self, settings: TrainSettings, method: Method, images: Loaded) -> None:
        self.settings, self.method, self.images = settings, method, images
        self.rank, self.world = processes.group()
        self.size, self.accumulation = share(settings, method)
        method.dealt = self.world if self.accumulation < settings.accumulation else 1
        together = self.size * self.world  # images that pass at once
        self.batches = len(images.train) // together  # of this process per epoch
        if not self.batches:
            raise PapersError(
                f"{len(images.train)} images do not fill a batch of {self.size} in each of "
                f"{self.world} processes; lower batch_size"
            )
        self.steps = -(-self.batches // self.accumulation)  # per epoch, the last from fewer batches
        recipe = settings.recipe if method.number_of_views > 1 else ""
        pair = augment.RECIPES[recipe or method.recipe]
        self.recipes = [pair[i % 2] for i in range(method.number_of_views)]
        self.optimiser = optimiser(settings, method)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.epoch = 0
        self.history: list[dict[str, float]] = []
        self.start: dict[str, float] = {}

    def run_epoch(self) -> None:
        """Once through the images, in whole batches: a smaller one would change what a rank means."""
        s, method, device = self.settings, self.method, self.images.train.device
        # dropout's, which is torch's own: of another mask in each process
        torch.manual_seed((s.seed * 1_000_003 + self.epoch) * 1009 + self.rank)
        if method.clusters_before(self.epoch):
            # of all images, [N, dimension]
            for new in method.cluster(self.embed(self.images.train), self.epoch):
                self.optimiser.state.pop(new, None)  # its momentum is of the weights before
        method.train()
        begun, waited = _now(device), 0.0
        logs, readings = [], []
        asked, count = _now(device), pilot.few(self.batches)
        read = self.read(self.order(), self.epoch)  # one or two views, [B, 3, s, s] each
        for number, batch in enumerate(pilot.steps(read, self.batches, self.size)):
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
                    group["lr"] = s.lr * (1 if group.get("constant") else self.rate(step))
                processes.average_gradients(method.trained())
                self.optimiser.step()
                self.optimiser.zero_grad(set_to_none=True)
                method.after_step(step, self.steps * s.epochs)  # the target network follows

            # -- meters --
            if number % max(1, self.batches // meters.READINGS) == 0:
                readings.append(meters.of_batch(method, batch.labels))
            asked = _now(device)

        spent = _now(device) - begun
        time_spent = {"seconds": round(spent, 2), "waiting": round(waited / spent, 4)}
        entry = processes.mean(_means(logs) | meters.mean(readings) | time_spent)
        self.epoch += 1
        if not math.isfinite(entry["loss"]):
            raise FloatingPointError(f"the loss is {entry['loss']} in epoch {self.epoch}; lower lr")
        if self.epoch % s.knn_every == 0 or self.epoch == s.epochs:
            entry["knn"] = self.knn()
        self.history.append({"epoch": self.epoch} | entry | self.spread())

    def order(self) -> Sequence[Tensor]:
        """The indices [B] of each batch of an epoch; the incomplete last one is left out.

        All processes draw alike. Each takes its part of every batch, or every N-th batch.
        """
        order = torch.randperm(len(self.images.train), generator=self.generator)  # [N]
        # [batches, processes, B]: neighbours pass at once
        return list(
            order[: self.batches * self.world * self.size].view(-1, self.world, self.size)[:, self.rank]
        )

    def read(self, order: Sequence[Tensor], epoch: int) -> Iterator[Batch]:
        """The batches of these indices [B] each, their views made on the device where images are resident."""
        images, s = self.images, self.settings
        seen = views(images.train, order, self.recipes, s.seed, epoch, s.image_size)
        for indices, pair in zip(order, seen, strict=True):
            chosen = indices.to(images.train.device)  # [B]
            yield Batch(pair, chosen, images.train_labels[chosen])

    def rate(self, step: int) -> float:
        """Factor of the learning rate at a step: linear warm-up, then cosine to zero, or falls."""
        s = self.settings
        steps = (s.schedule_epochs or s.epochs) * self.steps
        warm = round(s.warm_up_epochs * self.steps)
        if s.drops:
            return falling(step, steps, s.drops, s.drop_factor, warm, s.warm_ratio)
        return warm_cosine(step, steps, warm, s.warm_ratio)

    # -- what a run reports --

    @torch.no_grad()
    def embed(self, images: Images) -> Tensor:
        """Features [N, dimension] of the encoder in evaluation mode, float32, on the images' device."""
        training = self.method.training
        self.method.eval()  # normalised by running statistics
        with compute.autocast(images.device, self.settings.precision):
            mine = images[processes.part(len(images))]
            total = -(-len(mine) // BATCH)
            batches = pilot.steps(plain(mine, self.settings.image_size), total)
            features = [self.method.encoder(batch).float() for batch in batches]
        self.method.train(training)
        own = torch.cat(pilot.repeated(features, total))[: len(mine)]
        return processes.joined(own, len(images))  # [N, dimension]

    def read_start(self) -> None:
        """The meters before training, on views that the training itself does not draw."""
        kept = self.generator.get_state()
        batches = list(self.read(self.order()[: meters.READINGS], self.settings.epochs))
        self.generator.set_state(kept)
        read = meters.before_training(self.method, batches)
        work = {"flops": meters.flops(self.method, batches[0], self.settings.precision)}
        self.start = self.spread() | processes.mean(read | work)
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
        mine = processes.part(len(queries))
        sides = bank, images.train_labels, queries[mine], images.test_labels[mine]
        right = probes.knn_accuracy(*sides, k, s.knn_tau) * len(sides[2])
        return round(sum(processes.collected(right)) / len(queries), 6)

    def latest(self) -> dict[str, float]:
        """Loss and kNN accuracy of the last epoch that has them, for whoever watches."""
        logged = [self.start, *self.history]
        return {
            name: last for name in ("loss", "knn") for last in [e[name] for e in logged if name in e][-1:]
        }

    def result(self) -> dict[str, Any]:
        """What the epochs left: history, start, the share of time spent on views."""
        spent = sum(entry["seconds"] for entry in self.history)
        waited = sum(entry["seconds"] * entry["waiting"] for entry in self.history)
        history = [entry for entry in self.history if "knn" in entry]  # a ledger holds hundreds of runs
        sizes = self.images.train_labels.bincount().double()  # of the classes
        others = (sizes * (sizes - 1)).sum() / sizes.sum() / (sizes.sum() - 1)
        return {
            "classes": self.images.classes,
            "images": len(self.images.train),
            "chance": round(float(others), 8),  # that another training image is of an image's class
            "start": self.start,
            "history": history,
            "knn_max": max((entry["knn"] for entry in history), default=None),
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


def share(settings: TrainSettings, method: Method) -> tuple[int, int]:
    """What a process has of a step: images per batch, and batches.

    Several processes deal out a step's batches, as many to each; or, where it is whole batches that count
    (`Method.whole`, or rivals of all devices) or there are too few, each takes a part of every batch.

    Raises:
        PapersError: neither can be shared evenly.
    """
    world = processes.group()[1]
    size, count = settings.batch_size, settings.accumulation
    pooled = method.rivals and settings.negative_pool == "all_devices"
    if world == 1:
        return size, count
    if not (method.whole or pooled) and (method.rivals or count % world == 0):
        if count % world:
            raise PapersError(
                f"accumulation={count} cannot be shared by {world} processes; "
                "start a number of processes that divides it, or take negative_pool=all_devices"
            )
        return size, count // world
    if size % world:
        raise PapersError(
            f"batch_size={size} cannot be shared by {world} processes; start a number that divides it"
        )
    return size // world, count


def optimiser(settings: TrainSettings, method: Method) -> torch.optim.Optimizer:
    """LARS as the released code has it, or SGD with momentum; both over what the method trains.

    A head can have a momentum and a decay of its own, and SimSiam's predictor a constant rate.
    """
    parameters = method.trained() or list(method.parameters())  # `random` never takes a step
    lr, momentum, decay = settings.lr, settings.momentum, settings.weight_decay
    groups: list[dict[str, Any]] = []

    def part(start: str) -> list[nn.Parameter]:
        return [p for name, p in method.named_parameters() if name.startswith(start)]

    own = {"momentum": settings.head_momentum, "weight_decay": settings.head_weight_decay}
    if own := {name: value for name, value in own.items() if value is not None}:
        groups.append(own | {"params": part("head.")})
    if settings.constant_predictor:
        groups.append({"params": part("predictor."), "constant": True})
    apart = {id(p) for group in groups for p in group["params"]}
    groups.insert(0, {"params": [p for p in parameters if id(p) not in apart]})
    if settings.optimiser == "lars":
        return Lars(groups, lr, momentum, decay, lr_inside=settings.lr_inside)
    return torch.optim.SGD(groups, lr, momentum, weight_decay=decay, foreach=True)


def _now(device: torch.device) -> float:
    # Without this wait a GPU would seem to make views in no time.
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _means(logs: list[dict[str, Tensor]]) -> dict[str, float]:
    """Means over an epoch's batches."""
    return {name: round(float(torch.stack([log[name] for log in logs]).mean()), 5) for name in logs[0]}


# -- what starts from a trained encoder --


def run_transfer(
    settings: TransferSettings,
    data: tuple[str, str],
    folder: Path,
    weights: Path | None,
    device: str = "auto",
    report: Report = lambda *_: None,
) -> dict[str, Any]:
    """Fine-tune a detector (Tables 2, 3) or search a gallery (Table 4), from an encoder's weights or none."""
    start = checkpoint.load_weights(weights) if weights else None
    if settings.task == "search":
        if processes.group()[1] > 1:
            raise PapersError("search runs in one process; start it without torchrun")
        return search.search(settings, data, start, device)
    return detection.fine_tune(data, settings, start, folder, device, report)
