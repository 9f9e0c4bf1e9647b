"""One run, from images to linear and kNN accuracy: the loop, top to bottom.

Each step: draw a batch, make its views where the images lie, take the method's loss, and after
`accumulation` batches move the weights. Labels serve the supervised row, the probes, and the meters; no
self-supervised loss reads them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from papers_lib import checkpoint, compute
from papers_lib.evaluation import probes
from papers_lib.median_triplet import augment, detection, meters, methods, transfer
from papers_lib.median_triplet.images import Loaded, load
from papers_lib.median_triplet.methods.base import Batch, Method
from papers_lib.median_triplet.optimisers import Lars, warm_cosine
from papers_lib.median_triplet.options import TrainSettings
from papers_lib.median_triplet.transfer_options import TransferSettings

Report = Callable[[int, int, str], None]


def train(
    settings: TrainSettings,
    data: tuple[str, str],
    folder: Path,
    device: str = "auto",
    report: Report = lambda step, total, note: None,
) -> dict[str, Any]:
    """Train an encoder and probe it; resumes from `folder/checkpoint.pt`.

    Args:
        settings: all that can change the result.
        data: the data set's root folder and name.
        folder: where the checkpoint (and `weights.pt`, with `keep_weights`) goes.
        device: "auto", "cpu" or "cuda".
        report: called with step, steps in all, and a note.

    Returns:
        Plain JSON: `linear` and `knn` (fractions, last epoch), `knn_max` over epochs, `probe` (rates tried
        and how they did on the held-out part), `history` (one entry an epoch), `start` (the meters before
        training), `waiting` (share of the training time spent on making views).

    Raises:
        PapersError: bad data, or settings that the data or the batch cannot serve.
        FloatingPointError: a loss that is no longer finite.
    """
    where = compute.device(device)
    compute.prepare(settings.seed)
    images = load(data, settings, where)
    method = methods.build(settings.method, settings, len(images.train), images.classes)
    compute.place(method, where)
    loop = Loop(settings, method, images)
    if not loop.resume(checkpoint.load(folder / "checkpoint.pt")):
        loop.read_start()
    for epoch in range(loop.epoch, settings.epochs):
        report(epoch, settings.epochs, f"epoch {epoch + 1}")
        loop.run_epoch()
        checkpoint.save(folder / "checkpoint.pt", loop.state())
    if settings.keep_weights:
        checkpoint.save(folder / "weights.pt", method.encoder.state_dict())
    return loop.result() | probe(settings, method, images)


class Loop(checkpoint.Resumable):
    """State of training between epochs: method, optimiser, random numbers, history."""

    KEPT = ("epoch", "method", "optimiser", "generator", "dropout", "history", "start")

    def __init__(self, settings: TrainSettings, method: Method, images: Loaded) -> None:
        self.settings, self.method, self.images = settings, method, images
        self.generator = torch.Generator().manual_seed(settings.seed)
        asked = settings.recipe if method.number_of_views > 1 else ""
        recipes = augment.RECIPES[asked or method.recipe]
        self.recipes = [recipes[i % len(recipes)] for i in range(method.number_of_views)]
        self.dropout = Dropout()
        self.optimiser = optimiser(settings, method)
        self.batches = len(images.train) // settings.batch_size
        self.epoch = 0
        self.history: list[dict[str, float]] = []
        self.start: dict[str, float] = {}

    def run_epoch(self) -> None:
        """Once through the images, in whole batches: a smaller one would change what a rank means."""
        self.method.begin_epoch(self.epoch, lambda: embed(self.settings, self.method, self.images.train))
        self.method.train()
        watch, logged, read = Watch(self.images.train.device), [], []
        for number, indices in enumerate(self.order()):
            with watch:
                batch = self.batch(indices)
            logged.append(self._step(batch, number))
            if number % max(1, self.batches // meters.READINGS) == 0:
                read.append(meters.of_batch(self.method, batch.labels))
        self.optimiser.zero_grad(set_to_none=True)  # of last batches that did not fill a step
        entry = _means(logged, self.epoch) | meters.mean(read) | watch.read()
        self.epoch += 1
        if self.epoch % self.settings.knn_every == 0 or self.epoch == self.settings.epochs:
            entry["knn"] = knn(self.settings, self.method, self.images)
        self.history.append(entry | self.spread())

    def order(self) -> Sequence[Tensor]:
        """The indices of each batch of an epoch; the incomplete last one is left out."""
        order = torch.randperm(len(self.images.train), generator=self.generator)
        whole = order[: self.batches * self.settings.batch_size]
        return list(whole.view(self.batches, -1))

    def spread(self) -> dict[str, float]:
        """The meters of the encoder's features, on some training images."""
        some = self.images.train[:: max(1, len(self.images.train) // meters.KEPT)]
        return meters.of_features(embed(self.settings, self.method, some))

    def read_start(self) -> None:
        """The meters before training, on views that the training itself does not draw."""
        kept = self.generator.get_state()
        batches = [self.batch(indices) for indices in self.order()[: meters.READINGS]]
        self.generator.set_state(kept)
        self.start = self.spread() | meters.before_training(self.method, batches)
        self.start["knn"] = knn(self.settings, self.method, self.images)

    def batch(self, indices: Tensor) -> Batch:
        """The views of these images, made on the device where the images lie."""
        chosen = indices.to(self.images.train.device)
        images = self.images.train[chosen]
        size = self.settings.image_size
        views = tuple(augment.view(images, recipe, self.generator, size) for recipe in self.recipes)
        return Batch(views, images, chosen, self.images.train_labels[chosen])

    def _step(self, batch: Batch, number: int) -> dict[str, Tensor]:
        """Forward and backward of one batch; the weights move after every `accumulation`-th."""
        steps = max(1, self.batches // self.settings.accumulation)
        with compute.autocast(batch.images.device, self.settings.precision):
            loss, logged = self.method.loss(batch)
        (loss / self.settings.accumulation).backward()
        if (number + 1) % self.settings.accumulation == 0 or number + 1 == self.batches < steps:
            step = self.epoch * steps + number // self.settings.accumulation
            for group in self.optimiser.param_groups:
                group["lr"] = self.settings.lr * self.rate(step, steps)
            self.optimiser.step()
            self.optimiser.zero_grad(set_to_none=True)
            self.method.after_step(step, steps * self.settings.epochs)
        return logged | {"loss": loss.detach()}

    def rate(self, step: int, steps: int) -> float:
        """Factor of the learning rate at a step, `steps` an epoch: linear warm-up, then cosine to zero."""
        epochs = self.settings.schedule_epochs or self.settings.epochs
        warm = round(self.settings.warm_up_epochs * steps)
        return warm_cosine(step, epochs * steps, warm, self.settings.warm_ratio)

    def result(self) -> dict[str, Any]:
        """What the epochs left: history, start, the share of time spent on views."""
        spent = sum(entry["seconds"] for entry in self.history)
        waited = sum(entry["seconds"] * entry["waiting"] for entry in self.history)
        found = [entry["knn"] for entry in self.history if "knn" in entry]
        return {
            "start": self.start,
            "history": self.history,
            "knn_max": max(found, default=None),
            "waiting": round(waited / spent, 4) if spent else None,
        }


class Dropout:
    """torch's own random numbers, which dropout draws from, on the CPU and all GPUs."""

    def get_state(self) -> list[Tensor]:
        """As `set_state` takes them."""
        return [torch.get_rng_state(), *torch.cuda.get_rng_state_all()]

    def set_state(self, states: list[Tensor]) -> None:
        """Go on from `get_state()`."""
        torch.set_rng_state(states[0])
        if torch.cuda.is_available():
            torch.cuda.set_rng_state_all(states[1:])


class Watch:
    """A stopwatch for what stands in its `with` blocks, against all time since it was made."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.inside = device, 0.0
        self.begun = self._now()

    def _now(self) -> float:
        # Without this wait a GPU would seem to make views in no time.
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def __enter__(self) -> None:
        self.entered = self._now()

    def __exit__(self, *_: object) -> None:
        self.inside += self._now() - self.entered

    def read(self) -> dict[str, float]:
        """Seconds in all, and the share of them inside."""
        spent = self._now() - self.begun
        return {"seconds": round(spent, 2), "waiting": round(self.inside / spent, 4)}


def optimiser(settings: TrainSettings, method: Method) -> torch.optim.Optimizer:
    """LARS as the released code has it, or SGD with momentum; both over what the method trains."""
    parameters = method.trained() or list(method.parameters())  # `random` never takes a step
    if settings.optimiser == "lars":
        return Lars(
            parameters, settings.lr, settings.momentum, settings.weight_decay, lr_inside=settings.lr_inside
        )
    return torch.optim.SGD(
        parameters, settings.lr, settings.momentum, weight_decay=settings.weight_decay, foreach=True
    )


def _means(logged: list[dict[str, Tensor]], epoch: int) -> dict[str, float]:
    """Means over an epoch's batches.

    Raises:
        FloatingPointError: the loss is no longer finite.
    """
    found = {name: float(torch.stack([entry[name] for entry in logged]).mean()) for name in logged[0]}
    if not abs(found["loss"]) < float("inf"):  # NaN too
        raise FloatingPointError(f"the loss is {found['loss']} in epoch {epoch + 1}; lower lr")
    return {name: round(value, 5) for name, value in found.items()}


@torch.no_grad()
def embed(settings: TrainSettings, method: Method, images: Tensor, batch_size: int = 512) -> Tensor:
    """Features [N, dimension] of the encoder in evaluation mode, float32, on the images' device."""
    training = method.training
    method.eval()
    parts = []
    with compute.autocast(images.device, settings.precision):
        for batch in images.split(batch_size):
            parts.append(method.encoder(augment.plain(batch, settings.image_size)).float())
    method.train(training)
    return torch.cat(parts)


def knn(settings: TrainSettings, method: Method, images: Loaded) -> float:
    """kNN accuracy on the test images, the training images as the bank (Wu et al., CVPR 2018)."""
    found = probes.knn_accuracy(
        embed(settings, method, images.train), images.train_labels,
        embed(settings, method, images.test), images.test_labels,
        min(settings.knn_k, len(images.train)), settings.knn_tau,
    )  # fmt: skip
    return round(found, 6)


def probe(settings: TrainSettings, method: Method, images: Loaded) -> dict[str, Any]:
    """kNN and linear accuracy of the encoder as it is now; the linear rate is chosen on training images."""
    train = embed(settings, method, images.train)
    test = embed(settings, method, images.test)
    linear, short = (
        probes.linear_probe(
            train, images.train_labels, test, images.test_labels, lrs=settings.probe_lrs, epochs=epochs,
            seed=settings.seed,
        )
        for epochs in (settings.probe_epochs, 1)
    )  # fmt: skip
    found = {
        "linear": linear["accuracy"],
        "linear_1": short["accuracy"],  # after one epoch of the probe, as in Tables 6 and 7
        "probe": linear,
        "knn": knn(settings, method, images),
    }
    if settings.method == "supervised":
        found["own"] = own_accuracy(settings, method, images)
    return found


@torch.no_grad()
def own_accuracy(settings: TrainSettings, method: Method, images: Loaded) -> float:
    """Accuracy of the classifier that a supervised run trained itself."""
    logits = method.head(embed(settings, method, images.test))  # type: ignore[operator]
    return round(float((logits.argmax(1) == images.test_labels).float().mean()), 6)


def run_transfer(
    settings: TransferSettings,
    data: tuple[str, str],
    folder: Path,
    weights: Path,
    device: str = "auto",
    report: Report = lambda step, total, note: None,
) -> dict[str, Any]:
    """Fine-tune a detector (Tables 2, 3) or search a gallery (Table 4) from an encoder's weights."""
    start = checkpoint.load_weights(weights) if settings.start == "encoder" else None
    if settings.task == "search":
        return transfer.search(settings, data, start, device)
    return detection.fine_tune(settings.task, data, settings, start, folder, device, report)
