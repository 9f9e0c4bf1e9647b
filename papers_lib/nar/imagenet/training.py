"""Train and test one vector's network on ImageNet (Table 5): the loop, top to bottom.

Unlike CIFAR-10, ImageNet does not fit in memory: worker processes cut views of whole photographs as they are
needed, drawn from (seed, epoch, image).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import RandomResizedCrop

from papers_lib import compute
from papers_lib.datasets import classification
from papers_lib.datasets.images import Box, cut, decode, open_image
from papers_lib.datasets.stream import Stream, moved, random_of
from papers_lib.errors import PapersError
from papers_lib.nar import counting
from papers_lib.nar.fitting import Fit, Report, prepare
from papers_lib.nar.networks import resnet18
from papers_lib.nar.options import ImageNetSettings
from papers_lib.runs import progress
from papers_lib.runs.spec import RunSpec

MEAN, SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet: torchvision's
TOP = (1, 5)  # columns of Table 5


def run(spec: RunSpec) -> dict[str, Any]:
    """Compute what `spec` says, in the folder that the store gave it. Raises as `train`."""
    folder = Path(spec.folder)
    settings = ImageNetSettings.model_validate(spec.settings)
    data = (spec.data.root, spec.data.name)
    return train(settings, data, folder, spec.device, progress.reporter(folder))


def train(
    settings: ImageNetSettings, data: tuple[str, str], folder: Path, device: str, report: Report
) -> dict[str, Any]:
    """Train on the training side, test on the validation side; resumes from `folder/checkpoint.pt`.

    Returns:
        Plain JSON: `vector`, `parameters`, `multiply_accumulates`, `accuracy` and `top_5` (one crop, last
        epoch), `history` (an entry per epoch).

    Raises:
        PapersError: bad data, an image that cannot be read, fewer images than a batch, or a middle that is
            larger than the image.
        FloatingPointError: a loss that is no longer finite.
    """
    where = prepare(settings, device)
    if settings.image_size > settings.resize:
        raise PapersError(f"image_size={settings.image_size} of resize={settings.resize}; take no more of it")
    source = classification.load(Path(data[0]), data[1])
    if len(source.train) < settings.batch_size:
        raise PapersError(
            f"{len(source.train)} training images do not fill one batch of {settings.batch_size}; "
            "lower batch_size"
        )
    fit = ImageNetFit(settings, source, where)
    for _ in fit.left(settings.epochs, folder, report):
        fit.run_epoch()
    size, classes = settings.image_size, len(source.classes)
    cost = counting.count(settings.vector, "resnet18", settings.rule, size, classes, settings.width)
    return {"vector": list(settings.vector), **cost._asdict(), **fit.accuracies(), "history": fit.history}


def read_views(
    split: classification.Split, seed: int, size: int, keys: Sequence[tuple[int, int]]
) -> tuple[Tensor, Tensor]:
    """Crops of photographs by epoch and index, half of them mirrored: uint8 [B, s, s, 3], labels [B]."""
    views = []
    for epoch, index in keys:
        with torch.random.fork_rng([]), open_image(Path(split.images[index])) as image:
            torch.set_rng_state(random_of(seed, epoch, index).get_state())  # torchvision draws from torch's
            top, left, height, width = RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3])
            pixels = cut(image, [(left, top, left + width, top + height)], (size, size))[0]
            views.append(pixels[:, ::-1] if torch.rand(()) < 0.5 else pixels)
    labels = split.labels[[index for _, index in keys]]
    return torch.from_numpy(np.stack(views)), torch.from_numpy(labels)


def read_centres(
    split: classification.Split, size: int, resize: int, indices: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """The middle of photographs whose shorter side is `resize`: uint8 [B, s, s, 3], labels [B]."""

    def centre(width: int, height: int) -> Box:
        side = min(width, height) * size / resize
        x, y = (width - side) / 2, (height - side) / 2
        return x, y, x + side, y + side

    pixels = [decode(Path(split.images[i]), (size, size), centre) for i in indices]
    return torch.from_numpy(np.stack(pixels)), torch.from_numpy(split.labels[indices])


class ImageNetFit(Fit):
    """State of a training between epochs; batches come from worker processes."""

    settings: ImageNetSettings  # type: ignore[assignment]

    def __init__(
        self, settings: ImageNetSettings, source: classification.Classified, where: torch.device
    ) -> None:
        self.settings, self.where = settings, where
        network = resnet18(settings.vector, settings.rule, "imagenet", len(source.classes), settings.width)
        self.network = compute.place(network, where)
        self.optimiser = torch.optim.SGD(
            self.network.parameters(), settings.lr, settings.momentum, weight_decay=settings.weight_decay
        )
        self.generator = torch.Generator().manual_seed(settings.seed)  # of the order
        self.train, self.test = source.train, source.test
        self.steps = len(self.train) // settings.batch_size
        size = settings.image_size
        self.views = Stream(partial(read_views, self.train, settings.seed, size), where)
        self.centres = Stream(partial(read_centres, self.test, size, settings.resize), where, stay=False)
        self.mean, self.sd = (torch.tensor(x, device=where) for x in (MEAN, SD))  # [3]
        self.epoch = 0
        self.history: list[dict[str, float]] = []

    def batches(self) -> Iterator[tuple[float, Tensor, Tensor]]:
        """An epoch's batches, the incomplete last one left out; the rate is that of its beginning."""
        order = torch.randperm(len(self.train), generator=self.generator).tolist()
        size = self.settings.batch_size
        whole = range(0, len(order) // size * size, size)
        keys = [[(self.epoch, index) for index in order[at : at + size]] for at in whole]
        for batch in self.views(keys):
            yield 0, *self.normalised(batch)

    def rate(self, now: float) -> float:
        """A tenth every `step_epochs`."""
        return self.settings.lr * 0.1 ** (int(now) // self.settings.step_epochs)

    @torch.no_grad()
    def accuracies(self) -> dict[str, float]:
        """Top-1 and top-5 on the test side, as fractions."""
        self.network.eval()
        right = torch.zeros(len(TOP), dtype=torch.int64, device=self.where)  # answers, by k
        seen = 0
        size = self.settings.batch_size
        indices = [range(len(self.test))[at : at + size] for at in range(0, len(self.test), size)]
        for images, labels in map(self.normalised, self.centres(indices)):
            with compute.autocast(self.where, self.settings.precision):
                logits = self.network(images)  # [B, classes]
            first = logits.topk(min(max(TOP), logits.shape[1])).indices == labels[:, None]  # [B, 5]
            # An answer is right by k where one of the first k classes is.
            right += torch.stack([first[:, :k].any(1).sum() for k in TOP])
            seen += len(labels)
        top_1, top_5 = (round(int(count) / seen, 6) for count in right)
        return {"accuracy": top_1, "top_5": top_5}

    def normalised(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """uint8 [B, s, s, 3] → [B, 3, s, s], channels-last, and labels [B], on the device."""
        pixels, labels = (moved(part, self.where) for part in batch)
        return ((pixels.float() / 255 - self.mean) / self.sd).permute(0, 3, 1, 2), labels
