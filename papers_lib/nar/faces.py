"""Training a face network with ArcFace, and verifying pairs with it (Section 4.1).

Images are mirrored at random and nothing else (insightface's mxnet recipe). What is held out of each
identity validates the classification, as in the paper's proxy task; the pairs are of other people.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from papers_lib import compute, pilot
from papers_lib.datasets import faces
from papers_lib.datasets.stream import Stream, moved, resident, take
from papers_lib.errors import PapersError
from papers_lib.evaluation.verification import face_distances, face_embeddings, scaled, ten_fold
from papers_lib.nar.arcface import ArcFace
from papers_lib.nar.fitting import Loop, Report, quiet, set_rate, sgdr
from papers_lib.nar.networks import lresnet50e_ir
from papers_lib.nar.options import FaceSettings

RESIDENT = 16 * 2**30  # bytes of decoded images kept in memory; beyond, workers decode batches ahead


def train_faces(
    settings: FaceSettings, data: tuple[str, str], folder: Path, device: str = "auto", report: Report = quiet
) -> dict[str, Any]:
    """Train LResNet50E-IR with the vector's operators and verify pairs; resumes from `folder/checkpoint.pt`.

    Arguments and errors are those of `papers_lib.nar.training.run`; `data` is root folder and name, one of
    `papers_lib.datasets.faces.NAMES`.

    Returns:
        Plain JSON: `verification` (see `verify`), `proxy_accuracy` (of the held-out images, a fraction; None
        without any), `identities`, `images` (trained on), `parameters`, `history` (loss, accuracy, seconds
        per epoch; accuracy is without margin, on training images).
    """
    where = compute.device(device)
    compute.prepare(settings.seed)
    root, name = data
    # A withdrawn set reaches this line only after its holder has acknowledged that, in the plan.
    source = faces.load(Path(root), name, acknowledge_withdrawn=True)
    images = FaceImages(settings, source, where)
    training = FaceTraining(settings, images, where)
    for _ in training.left(settings.epochs, folder, report):
        training.run_epoch()
    return {
        "verification": verify(training.network, source, settings.image_size, where),
        "proxy_accuracy": training.held_out_accuracy(),
        "identities": images.identities,
        "images": len(images.train),
        "parameters": sum(p.numel() for p in training.network.parameters()),
        "history": training.history,
    }


class FaceImages:
    """The images of a run: which are trained on and which held out, and their pixels.

    `train` and `held_out` are indices into the data set's images, `labels` [N] theirs, 0 .. C-1 among the
    identities chosen and −1 for the others.

    Raises:
        PapersError: nothing to train on, too few identities with enough images, or a batch that is too large.
    """

    def __init__(self, settings: FaceSettings, source: faces.Faces, where: torch.device) -> None:
        if source.train is None:
            raise PapersError(f"{source.name} has only pairs; train on one of faces_emore, faces_own")
        self.size, self.where = settings.image_size, where
        groups = choose(source.train.labels, settings)
        self.identities = len(groups)
        self.labels = np.full(len(source.train), -1, dtype=np.int64)  # −1: not of this run
        for identity, group in enumerate(groups):
            self.labels[group] = identity
        self.train = np.concatenate([group[settings.held_out :] for group in groups])
        self.held_out = np.concatenate([group[: settings.held_out] for group in groups])
        if len(self.train) < settings.batch_size:
            raise PapersError(
                f"a batch of {settings.batch_size} is more than the {len(self.train)} training images; lower "
                "batch_size"
            )
        # Where they fit, all images that the run needs are decoded once; `places` are theirs among them.
        needed = np.concatenate([self.train, self.held_out])
        self.pixels: Tensor | None = None
        self.stream = Stream(partial(_read, source.train, self.size), where)
        self.places = np.zeros(len(self.labels), dtype=np.int64)  # of each image in `pixels`
        self.places[needed] = np.arange(len(needed))
        if len(needed) * self.size**2 * 3 <= RESIDENT:
            self.pixels = resident(source.train.pixels(needed.tolist(), self.size), where)

    def batches(self, order: Sequence[NDArray[np.int64]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Images uint8 [B, 3, H, W] and labels [B] of each batch of indices, on the device."""
        if self.pixels is not None:
            held, places = self.pixels, self.places
            batches = (take(held, torch.from_numpy(places[indices]), self.where) for indices in order)
        else:
            batches = (
                moved(batch, self.where) for batch in self.stream([indices.tolist() for indices in order])
            )
        for indices, pixels in zip(order, batches, strict=True):
            labels = torch.from_numpy(self.labels[indices]).to(self.where)
            yield pixels.permute(0, 3, 1, 2), labels  # [B, H, W, 3] → [B, 3, H, W]


def _read(source: faces.Training, size: int, indices: Sequence[int]) -> Tensor:
    return torch.from_numpy(np.stack([source.image(i, size) for i in indices]))


def choose(labels: NDArray[np.int64], settings: FaceSettings) -> list[NDArray[np.int64]]:
    """The images of each identity of a run, shuffled by the seed: first those that are held out.

    The first `identities` with at least `shots` images after a seeded shuffle (which ones the paper took is
    not said).

    Raises:
        PapersError: fewer such identities than asked for, or than two.
    """
    rng = np.random.default_rng([settings.seed, 0])
    groups = np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels))[:-1])
    least = max(settings.shots, settings.held_out + 1)  # one at least to train on
    enough = [group for group in groups if len(group) >= least]
    wanted = settings.identities or len(enough)
    if len(enough) < max(2, wanted):
        raise PapersError(
            f"{len(enough)} identities have {least} images or more, {max(2, wanted)} are asked for; lower "
            "identities or shots"
        )
    order = rng.permutation(len(enough))[:wanted]  # which identities
    return [rng.permutation(enough[i])[: settings.shots or None] for i in order]


class FaceTraining(Loop):
    """State of a training between epochs: network, head, optimiser, history.

    An epoch's order and mirrors come from the seed and its number alone.
    """

    KEPT, SAME = ("epoch", "network", "head", "optimiser", "history"), ("vector",)

    def __init__(self, settings: FaceSettings, images: FaceImages, where: torch.device) -> None:
        self.settings, self.images, self.where = settings, images, where
        self.vector = list(settings.vector)  # two pools have the same weights
        self.network = compute.place(build(settings), where)  # channels-last
        self.head = ArcFace(settings.embedding, images.identities, settings.scale, settings.margin).to(where)
        trained = [p for p in (*self.network.parameters(), *self.head.parameters()) if p.requires_grad]
        self.optimiser = torch.optim.SGD(
            trained, settings.lr, settings.momentum, weight_decay=settings.weight_decay, foreach=True
        )
        self.epoch = 0
        self.history: list[dict[str, float]] = []

    def run_epoch(self) -> None:
        """Once through the images, in whole batches."""
        settings, began = self.settings, time.perf_counter()
        self.network.train()
        rng = np.random.default_rng([settings.seed, 1, self.epoch])  # a resumed epoch draws the same
        torch.manual_seed(int(rng.integers(2**31)))  # the network's dropout
        batches = len(self.images.train) // settings.batch_size
        order = rng.permutation(self.images.train)[: batches * settings.batch_size]
        totals = torch.zeros(2, device=self.where)  # of loss and accuracy
        read = self.images.batches(list(order.reshape(batches, -1)))
        for number, (pixels, labels) in enumerate(pilot.steps(read, batches, settings.batch_size)):
            now = self.epoch + number / batches
            set_rate(self.optimiser, sgdr(now, settings.cycle, settings.lr_min, settings.lr))

            # -- batch and views: half of the images mirrored --
            mirrored = torch.from_numpy(rng.random(len(labels)) < 0.5).to(self.where)
            views = torch.where(mirrored[:, None, None, None], pixels.flip(3), pixels)  # uint8 [B, 3, H, W]

            # -- forward and loss: the margin counts in the loss alone --
            with compute.autocast(self.where, settings.precision):
                embeddings = self.network(scaled(views))  # [B, d]
            loss = self.head(embeddings, labels)

            # -- backward and step --
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()
            with torch.no_grad():
                right = (self.head.cosines(embeddings).argmax(1) == labels).float().mean()
            totals += torch.stack([loss.detach(), right])
        loss_of_epoch, accuracy = (totals / batches).tolist()
        if not math.isfinite(loss_of_epoch):
            raise FloatingPointError(f"the loss is {loss_of_epoch} in epoch {self.epoch + 1}; lower lr")
        self.epoch += 1
        entry = {"loss": round(loss_of_epoch, 5), "accuracy": round(accuracy, 5)}
        self.history.append(entry | {"seconds": round(time.perf_counter() - began, 2)})

    @torch.no_grad()
    def held_out_accuracy(self) -> float | None:
        """Share of the held-out images whose identity has the nearest weight; None without any."""
        held, right = self.images.held_out, 0
        self.network.eval()
        parts = [held[start : start + 256] for start in range(0, len(held), 256)]
        for pixels, labels in self.images.batches(parts):
            right += int((self.head.cosines(self.network(scaled(pixels))).argmax(1) == labels).sum())
        return round(right / len(held), 6) if len(held) else None


def build(settings: FaceSettings) -> nn.Module:
    """LResNet50E-IR for squares of `image_size`: the paper's at 112, else its last layer fits the map."""
    network = lresnet50e_ir(settings.vector, settings.rule, settings.width, settings.embedding)
    side = math.ceil(settings.image_size / 16)  # four stages halve it
    if settings.image_size != 112:
        network.fc1 = nn.Linear(8 * settings.width * side**2, settings.embedding)
    return network


def verify(network: nn.Module, source: faces.Faces, size: int, where: torch.device) -> dict[str, Any]:
    """Ten-fold verification of all pairs of a data set, by test: accuracy, sd, thresholds, tar, pairs.

    `tar` is a list of [far, tar, far reached].
    """
    results = {}
    for name, pairs in source.tests.items():
        pixels = torch.from_numpy(faces.load_images(pairs, size)).permute(0, 3, 1, 2)  # [N, 3, H, W]
        embedded = face_embeddings(network, pixels.to(where))  # [N, d]
        first, second = (embedded[torch.from_numpy(rows).to(where)] for rows in (pairs.first, pairs.second))
        # Each fold is judged by the threshold that is best on the other nine.
        scores = ten_fold(face_distances(first, second), pairs.same, pairs.folds)
        results[name] = {
            "accuracy": round(scores["accuracy"], 6),
            "sd": round(scores["sd"], 6),
            "thresholds": [round(t, 6) for t in scores["thresholds"]],
            "tar": [[rate.far, round(rate.tar, 6), round(rate.reached, 6)] for rate in scores["tar"]],
            "pairs": len(pairs),
        }
    return results
