"""Training a face network with ArcFace, and verifying pairs with it (Section 4.1).

Images are mirrored at random and nothing else (insightface's mxnet recipe). What is held out of each
identity validates the classification, as in the paper's proxy task; the pairs are of other people.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from papers_lib import checkpoint, compute, pilot
from papers_lib.datasets import faces
from papers_lib.datasets.face_layouts import Pairs
from papers_lib.datasets.stream import Stream, moved, resident, take
from papers_lib.errors import PapersError
from papers_lib.evaluation.verification import (
    equal_error,
    face_distances,
    face_embeddings,
    scaled,
    ten_fold,
)
from papers_lib.nar.arcface import ArcFace
from papers_lib.nar.fitting import Loop, Report, prepare, quiet, set_rate, sgdr, vector_of
from papers_lib.nar.images import Loaded, Parts
from papers_lib.nar.networks import lresnet50e_ir
from papers_lib.nar.options import FaceCommon, FaceSearchSettings, FaceSettings

Batch = tuple[Tensor, Tensor]  # images [B, 3, H, W] and labels [B]
FLOOR = 32  # pixels: the side at which raw pixels are compared
GRID = 0.01  # insightface's step of thresholds
RESIDENT = 16 * 2**30  # bytes of decoded images kept in memory; beyond, workers decode batches ahead


def train_faces(
    settings: FaceSettings,
    data: tuple[str, str],
    folder: Path,
    device: str = "auto",
    report: Report = quiet,
    needed: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train LResNet50E-IR with the vector's operators and verify pairs; resumes from `folder/checkpoint.pt`.

    Leaves the network as `folder/weights.pt`, for `verify_files`.

    Arguments and errors are those of `papers_lib.nar.training.run`; `data` is root folder and name, one of
    `papers_lib.datasets.faces.NAMES`.

    Returns:
        Plain JSON: `vector`, `verification` (see `verify`), `proxy_accuracy` (of the held-out images, a
        fraction; None without any), `identities`, `images` (trained on), `parameters`, `history` (loss,
        accuracy, seconds per epoch; accuracy is without margin, on training images).
    """
    where = prepare(settings, device)
    settings = settings.model_copy(update={"take": "vector", "vector": vector_of(settings, needed)})
    source = _load(data)
    images = FaceImages(settings, source, where)
    training = FaceTraining(settings, images, where)
    for _ in training.left(settings.epochs, folder, report):
        training.run_epoch()
    state = {"settings": settings.model_dump(mode="json"), "network": training.network.state_dict()}
    checkpoint.save(folder / "weights.pt", state)
    return {
        "vector": list(settings.vector),
        "verification": verify(training.network, source.tests, settings.image_size, where),
        "proxy_accuracy": training.held_out_accuracy(),
        "identities": images.identities,
        "images": len(images.train),
        "parameters": sum(p.numel() for p in training.network.parameters()),
        "history": training.history,
    }


def _load(data: tuple[str, str]) -> faces.Faces:
    # A withdrawn set reaches this line only after its holder has acknowledged that, in the plan.
    return faces.load(Path(data[0]), data[1], acknowledge_withdrawn=True)


class FaceImages:
    """The images of a run: which are trained on and which held out, and their pixels.

    `train` and `held_out` are indices into the data set's images, `labels` [N] theirs, 0 .. C-1 among the
    identities chosen and −1 for the others.

    Raises:
        PapersError: nothing to train on, too few identities with enough images, or a batch that is too large.
    """

    def __init__(self, settings: FaceCommon, source: faces.Faces, where: torch.device) -> None:
        if source.train is None:
            raise PapersError(
                f"{source.name} has only pairs; to train on, give folders train/<identity>/ or a record pack"
            )
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
            labels = moved(torch.from_numpy(self.labels[indices]), self.where)
            yield pixels.permute(0, 3, 1, 2), labels  # [B, H, W, 3] → [B, 3, H, W]


def _read(source: faces.Training, size: int, indices: Sequence[int]) -> Tensor:
    return torch.from_numpy(np.stack([source.image(i, size) for i in indices]))


class Proxy(Loaded):
    """The images of a face search: mirrored and nothing else, and scaled as `scaled` does."""

    def views(self, indices: Tensor, generator: torch.Generator, augment: bool, *_: Any) -> Batch:
        """Images to train with, half of them mirrored, [B, 3, H, W], and their labels [B]."""
        x, y = self.plain(indices)
        if augment:
            mirrored = moved(torch.rand(len(y), 1, 1, 1, generator=generator) < 0.5, y.device)
            x = torch.where(mirrored, x.flip(3), x)
        return x, y

    def parts(self, score_images: int) -> Parts:
        """As that of `Loaded`; 0 is a quarter of the images that are held out."""
        return super().parts(score_images or len(self.validation) // 4)

    def plain(self, indices: Tensor) -> Batch:
        """Images as they are, [B, 3, H, W], and their labels [B]."""
        pixels = take(self.train, indices, self.train_labels.device)  # [B, H, W, 3]
        return scaled(pixels.permute(0, 3, 1, 2)), self.train_labels[indices]


def proxy(settings: FaceSearchSettings, data: tuple[str, str], where: torch.device) -> Proxy:
    """The proxy task of Section 4.1.1 for a search: `validation` are the images that are held out.

    Raises:
        PapersError: as `FaceImages`, or images that do not fit the memory.
    """
    images = FaceImages(settings, _load(data), where)
    if images.pixels is None:
        raise PapersError(
            "a search holds its images in memory, and these are more than 16 GiB; lower identities or shots"
        )
    needed = np.concatenate([images.train, images.held_out])  # in the order of `pixels`
    training, held = np.split(np.arange(len(needed)), [len(images.train)])
    held = np.random.default_rng(settings.seed).permutation(held)  # so that its beginning has all identities
    none = torch.empty(0, dtype=torch.int64, device=where)
    return Proxy(
        train=images.pixels,
        train_labels=torch.as_tensor(images.labels[needed], device=where),
        test=none,
        test_labels=none,
        training=torch.as_tensor(training, device=where),
        validation=torch.as_tensor(held, device=where),
        classes=images.identities,
    )


def choose(labels: NDArray[np.int64], settings: FaceCommon) -> list[NDArray[np.int64]]:
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
            f"{len(enough)} identities have {least} images or more, {max(2, wanted)} are asked for; add "
            "images, or lower identities or shots"
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
            set_rate(self.optimiser, sgdr(now, settings.first_cycle, settings.lr_min, settings.lr))

            # -- batch and views: half of the images mirrored --
            mirrored = moved(torch.from_numpy(rng.random(len(labels)) < 0.5), self.where)
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
    """LResNet50E-IR as the settings say."""
    s = settings
    return lresnet50e_ir(s.vector, s.rule, s.width, s.embedding, s.image_size)


def verify(
    network: nn.Module, tests: Mapping[str, Pairs], size: int, where: torch.device
) -> dict[str, dict[str, Any]]:
    """Ten-fold verification of lists of pairs, as plain JSON by test: `judged`, and `pairs`, how many.

    `floor` is the same of raw pixels in the place of embeddings, of squares of 32 pixels at most: what a
    network must beat.

    Raises:
        PapersError: an image that is damaged, or a network for images of another size.
    """
    results = {}
    for name, pairs in tests.items():
        try:
            found = judged(_embedded(network, pairs, size, where), pairs)
        except RuntimeError as error:  # a linear layer for another map; torch says which
            raise PapersError(
                f"the network takes no faces of {size} pixels ({str(error).splitlines()[0]}); give the side "
                "that it was trained with"
            ) from None
        floor = judged(_embedded(nn.Flatten(), pairs, min(size, FLOOR), where), pairs)
        results[name] = found | {"pairs": len(pairs), "floor": floor}
    return results


def _embedded(network: nn.Module, pairs: Pairs, size: int, where: torch.device) -> Tensor:
    """Unit embeddings of the images of pairs, [N, d]."""
    pixels = torch.from_numpy(faces.load_images(pairs, size)).permute(0, 3, 1, 2)  # [N, 3, H, W]
    return face_embeddings(network, pixels.to(where))


def judged(embedded: Tensor, pairs: Pairs) -> dict[str, Any]:
    """What embeddings [N, d] say of pairs: accuracy, sd, thresholds, tar, eer, auc, grid.

    `tar` is a list of [far, tar, far reached]; `grid` is accuracy and sd by insightface's thresholds 0, 0.01,
    0.02 … in the place of exact ones.
    """
    where = embedded.device
    first, second = (embedded[torch.from_numpy(rows).to(where)] for rows in (pairs.first, pairs.second))
    distances = face_distances(first, second)
    # Each fold is judged by the threshold that is best on the other nine.
    scores = ten_fold(distances, pairs.same, pairs.folds)
    grid = ten_fold(distances, pairs.same, pairs.folds, grid=GRID)
    eer, auc = equal_error(distances, pairs.same)
    return {
        "accuracy": round(scores["accuracy"], 6),
        "sd": round(scores["sd"], 6),
        "thresholds": [round(t, 6) for t in scores["thresholds"]],
        "tar": [[rate.far, round(rate.tar, 6), round(rate.reached, 6)] for rate in scores["tar"]],
        "eer": round(eer, 6),
        "auc": round(auc, 6),
        "grid": {name: round(grid[name], 6) for name in ("accuracy", "sd")},
    }


def load_network(weights: Path) -> tuple[nn.Module, FaceSettings]:
    """The face network that a run left as `weights.pt`, and the settings that it was trained with.

    Raises:
        PapersError: no such file, a damaged one, or one of anything else.
    """
    state = checkpoint.load_weights(weights)
    try:
        settings = FaceSettings.model_validate(state["settings"])
        network = build(settings)
        network.load_state_dict(state["network"])
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError):
        raise PapersError(
            f"{weights} is no weights.pt of a face run; take the one in that run's folder"
        ) from None
    return network, settings


def verify_files(pairs: Path, weights: Path, device: str = "auto") -> dict[str, dict[str, Any]]:
    """`verify` of a list of pairs, or of a folder with one, by the weights that a face run left.

    Raises:
        PapersError: as `faces.read_pairs`, `load_network` and `verify`.
    """
    where = compute.device(device)
    network, settings = load_network(weights)
    return verify(compute.place(network, where), faces.read_pairs(pairs), settings.image_size, where)
