"""Training a face network with ArcFace, and verifying pairs with it (Section 4.1).

Images are mirrored at random and nothing else (insightface's mxnet recipe). What is held out of each
identity validates the classification, as in the paper's proxy task; the pairs are of other people.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from papers_lib import checkpoint, compute
from papers_lib.datasets import faces
from papers_lib.errors import PapersError
from papers_lib.evaluation.verification import face_distances, face_embeddings, scaled, ten_fold
from papers_lib.nar.arcface import ArcFace
from papers_lib.nar.face_options import FaceSettings
from papers_lib.nar.networks import lresnet50e_ir

Report = Callable[[int, int, str], None]
RESIDENT = 16 * 2**30  # bytes of decoded images kept in memory; beyond, each batch is decoded


def train_faces(
    settings: FaceSettings,
    data: tuple[str, str],
    folder: Path,
    device: str = "auto",
    report: Report = lambda step, total, note: None,
) -> dict[str, Any]:
    """Train LResNet50E-IR with the vector's operators and verify pairs; resumes from `folder/checkpoint.pt`.

    Args:
        settings: all that can change the result.
        data: the data set's root folder and name, one of `papers_lib.datasets.faces.NAMES`.
        folder: where the checkpoint goes.
        device: "auto", "cpu" or "cuda".
        report: called with epoch, epochs in all, and a note.

    Returns:
        Plain JSON: `verification` (see `verify`), `proxy_accuracy` (of the held-out images, a fraction; None
        without any), `identities`, `images` (trained on), `parameters`, `history` (loss, accuracy, seconds an
        epoch; accuracy is without margin, on training images).

    Raises:
        PapersError: bad data, or settings that the data cannot serve.
        FloatingPointError: a loss that is no longer finite.
    """
    where = compute.device(device)
    compute.prepare(settings.seed)
    root, name = data
    # A withdrawn set reaches this line only after its holder has acknowledged that, in the plan.
    found = faces.load(Path(root), name, acknowledge_withdrawn=True)
    images = Chosen(settings, found, where)
    loop = Loop(settings, images, where)
    loop.resume(checkpoint.load(folder / "checkpoint.pt"))
    for epoch in range(loop.epoch, settings.epochs):
        report(epoch, settings.epochs, f"epoch {epoch + 1}")
        loop.run_epoch()
        checkpoint.save(folder / "checkpoint.pt", loop.state())
    return {"verification": verify(loop.network, found, settings.image_size, where)} | loop.result()


class Chosen:
    """The images of a run: which are trained on and which held out, and their pixels.

    `train` and `held_out` are indices into the data set's images, `labels` [N] theirs, 0 .. C-1 among the
    identities chosen and −1 for the others.

    Raises:
        PapersError: nothing to train on, too few identities with enough images, or a batch that is too large.
    """

    def __init__(self, settings: FaceSettings, found: faces.Faces, where: torch.device) -> None:
        if found.train is None:
            raise PapersError(f"{found.name} has only pairs; train on one of faces_emore, faces_own")
        self.source, self.size, self.where = found.train, settings.image_size, where
        chosen = choose(found.train.labels, settings)
        self.identities = len(chosen)
        self.labels = np.full(len(found.train), -1, dtype=np.int64)
        for number, each in enumerate(chosen):
            self.labels[each] = number
        self.train = np.concatenate([each[settings.held_out :] for each in chosen])
        self.held_out = np.concatenate([each[: settings.held_out] for each in chosen])
        if len(self.train) < settings.batch_size:
            raise PapersError(
                f"a batch of {settings.batch_size} is more than the {len(self.train)} training images; lower "
                "batch_size"
            )
        self._kept = self._resident()

    def _resident(self) -> tuple[NDArray[np.int64], Tensor] | None:
        """The place of each image in a tensor of all that the run needs, where they fit."""
        wanted = np.concatenate([self.train, self.held_out])
        if len(wanted) * self.size**2 * 3 > RESIDENT:
            return None
        places = np.zeros(len(self.labels), dtype=np.int64)
        places[wanted] = np.arange(len(wanted))
        return places, _tensor(self.source.pixels(wanted.tolist(), self.size), self.where)

    def batch(self, indices: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Images uint8 [B, 3, H, W] and labels [B], on the device."""
        labels = torch.from_numpy(self.labels[indices]).to(self.where)
        if self._kept is None:
            return _tensor(self.source.pixels(indices.tolist(), self.size), self.where), labels
        places, pixels = self._kept
        return pixels[torch.from_numpy(places[indices]).to(self.where)], labels


def _tensor(pixels: faces.Pixels, where: torch.device) -> Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).to(where)


def choose(labels: NDArray[np.int64], settings: FaceSettings) -> list[NDArray[np.int64]]:
    """The images of each identity of a run, shuffled by the seed: first those that are held out.

    The first `identities` with at least `shots` images after a seeded shuffle (which ones the paper took is
    not said).

    Raises:
        PapersError: fewer such identities than asked for, or than two.
    """
    rng = np.random.default_rng([settings.seed, 0])
    groups = np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels))[:-1])
    least = max(settings.shots, settings.held_out + 1)
    enough = [group for group in groups if len(group) >= least]
    wanted = settings.identities or len(enough)
    if len(enough) < max(2, wanted):
        raise PapersError(
            f"{len(enough)} identities have {least} images or more, {max(2, wanted)} are asked for; lower "
            "identities or shots"
        )
    order = rng.permutation(len(enough))[:wanted]
    return [rng.permutation(enough[i])[: settings.shots or None] for i in order]


class Loop(checkpoint.Resumable):
    """State of a training between epochs: network, head, optimiser, history.

    An epoch's order and mirrors come from the seed and its number alone.
    """

    KEPT, SAME = ("epoch", "network", "head", "optimiser", "history"), ("vector",)

    def __init__(self, settings: FaceSettings, images: Chosen, where: torch.device) -> None:
        self.settings, self.images, self.where = settings, images, where
        self.vector = list(settings.vector)  # two pools have the same weights
        self.network = compute.place(build(settings), where)
        self.head = ArcFace(settings.embedding, images.identities, settings.scale, settings.margin).to(where)
        trained = [p for p in (*self.network.parameters(), *self.head.parameters()) if p.requires_grad]
        self.optimiser = torch.optim.SGD(
            trained, settings.lr, settings.momentum, weight_decay=settings.weight_decay, foreach=True
        )
        self.epoch = 0
        self.history: list[dict[str, float]] = []

    def run_epoch(self) -> None:
        """Once through the images, in whole batches."""
        began = time.perf_counter()
        self.network.train()
        batches = len(self.images.train) // self.settings.batch_size
        totals = torch.zeros(2, device=self.where)
        for number, (pixels, labels) in enumerate(self._batches(batches)):
            for group in self.optimiser.param_groups:
                group["lr"] = sgdr(self.epoch + number / batches, self.settings)
            totals += self._step(pixels, labels)
        loss, accuracy = (totals / batches).tolist()
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss} in epoch {self.epoch + 1}; lower lr")
        self.epoch += 1
        seconds = round(time.perf_counter() - began, 2)
        self.history.append({"loss": round(loss, 5), "accuracy": round(accuracy, 5), "seconds": seconds})

    def _batches(self, batches: int) -> Iterator[tuple[Tensor, Tensor]]:
        rng = np.random.default_rng([self.settings.seed, 1, self.epoch])
        torch.manual_seed(int(rng.integers(2**31)))  # the network's dropout
        whole = rng.permutation(self.images.train)[: batches * self.settings.batch_size]
        for indices in whole.reshape(batches, -1):
            pixels, labels = self.images.batch(indices)
            mirrored = torch.from_numpy(rng.random(len(indices)) < 0.5).to(self.where)
            yield torch.where(mirrored[:, None, None, None], pixels.flip(3), pixels), labels

    def _step(self, pixels: Tensor, labels: Tensor) -> Tensor:
        """One step; loss and accuracy."""
        with compute.autocast(self.where, self.settings.precision):
            embeddings = self.network(scaled(pixels))
        loss = self.head(embeddings, labels)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        with torch.no_grad():
            right = (self.head.cosines(embeddings).argmax(1) == labels).float().mean()
        return torch.stack([loss.detach(), right])

    @torch.no_grad()
    def held_out_accuracy(self) -> float | None:
        """Share of the held-out images whose identity has the nearest weight; None without any."""
        held, right = self.images.held_out, 0
        self.network.eval()
        for start in range(0, len(held), 256):
            pixels, labels = self.images.batch(held[start : start + 256])
            right += int((self.head.cosines(self.network(scaled(pixels))).argmax(1) == labels).sum())
        return round(right / len(held), 6) if len(held) else None

    def result(self) -> dict[str, Any]:
        """What the epochs left."""
        return {
            "proxy_accuracy": self.held_out_accuracy(),
            "identities": self.images.identities,
            "images": len(self.images.train),
            "parameters": sum(p.numel() for p in self.network.parameters()),
            "history": self.history,
        }


def build(settings: FaceSettings) -> nn.Module:
    """LResNet50E-IR for squares of `image_size`: at 112 the paper's, elsewhere its last layer fits the map.

    Raises:
        PapersError: a vector that is too short, too long, or has an unknown operator.
    """
    network = lresnet50e_ir(settings.vector, settings.rule, settings.width, settings.embedding)
    side = math.ceil(settings.image_size / 16)  # four stages halve it
    if settings.image_size != 112:
        network.fc1 = nn.Linear(8 * settings.width * side**2, settings.embedding)
    return network


def sgdr(epoch: float, settings: FaceSettings) -> float:
    """The learning rate at `epoch`, fractions included: cosines of 1, 2, 4 … times `cycle` epochs.

    lr_min + (lr − lr_min) (1 + cos(π T_cur / T_i)) / 2 (Loshchilov and Hutter, ICLR 2017, Eq. 5).
    """
    began, length = 0, settings.cycle
    while epoch >= began + length:
        began, length = began + length, 2 * length
    share = (epoch - began) / length
    return settings.lr_min + (settings.lr - settings.lr_min) * (1 + math.cos(math.pi * share)) / 2


def verify(network: nn.Module, found: faces.Faces, size: int, where: torch.device) -> dict[str, Any]:
    """Ten-fold verification of all pairs of a data set, by test: accuracy, sd, thresholds, tar, pairs.

    `tar` is a list of [far, tar, far reached].
    """
    results = {}
    for name, pairs in found.tests.items():
        embedded = face_embeddings(network, _tensor(faces.load_images(pairs, size), where))
        first, second = (embedded[torch.from_numpy(each).to(where)] for each in (pairs.first, pairs.second))
        scores = ten_fold(face_distances(first, second), pairs.same, pairs.folds)
        results[name] = {
            "accuracy": round(scores["accuracy"], 6),
            "sd": round(scores["sd"], 6),
            "thresholds": [round(t, 6) for t in scores["thresholds"]],
            "tar": [[rate.far, round(rate.tar, 6), round(rate.reached, 6)] for rate in scores["tar"]],
            "pairs": len(pairs),
        }
    return results
