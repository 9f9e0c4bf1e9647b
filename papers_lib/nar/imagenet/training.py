"""Train and test one vector's network on ImageNet (Table 5): the loop, top to bottom.

Unlike CIFAR-10, ImageNet does not fit in memory: images are decoded by worker processes as they are needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from papers_lib import compute
from papers_lib.datasets import classification
from papers_lib.errors import PapersError
from papers_lib.nar import counting
from papers_lib.nar.fitting import Fit, Report
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
        PapersError: bad data, an image that cannot be read, or fewer images than a batch.
        FloatingPointError: a loss that is no longer finite.
    """
    where = compute.device(device)
    compute.prepare(settings.seed)
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


class Images(Dataset[tuple[Tensor, int]]):
    """One side of the data set: images decoded and transformed as they are asked for."""

    def __init__(self, split: classification.Split, transform: v2.Transform) -> None:
        self.split, self.transform = split, transform

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.split.images[index]
        pixels = classification.decode(image) if isinstance(image, Path) else image
        return self.transform(Image.fromarray(pixels)), int(self.split.labels[index])


def transforms(settings: ImageNetSettings) -> tuple[v2.Transform, v2.Transform]:
    """Of training and of testing, from a picture to uint8 [3, s, s]."""
    size = settings.image_size
    training = [v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip(), v2.PILToTensor()]
    testing = [v2.Resize(settings.resize, antialias=True), v2.CenterCrop(size), v2.PILToTensor()]
    return v2.Compose(training), v2.Compose(testing)


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
        self.generator = torch.Generator().manual_seed(settings.seed)
        loader = partial(
            DataLoader,
            batch_size=settings.batch_size,
            num_workers=settings.workers,
            pin_memory=where.type == "cuda",
            generator=self.generator,  # of the order, and of the workers' seeds
        )
        training, testing = transforms(settings)
        self.train = loader(Images(source.train, training), shuffle=True, drop_last=True)
        self.test = loader(Images(source.test, testing))
        self.epoch = 0
        self.history: list[dict[str, float]] = []

    def batches(self) -> Iterator[tuple[float, Tensor, Tensor]]:
        """An epoch's batches, whose views the loader draws; the rate is that of its beginning."""
        torch.manual_seed(self.settings.seed + self.epoch)  # crops, where no worker draws them
        for images, labels in self.loaded(self.train):
            yield 0, images, labels

    def rate(self, now: float) -> float:
        """A tenth every `step_epochs`."""
        return self.settings.lr * 0.1 ** (int(now) // self.settings.step_epochs)

    @torch.no_grad()
    def accuracies(self) -> dict[str, float]:
        """Top-1 and top-5 on the test side, as fractions."""
        self.network.eval()
        right = torch.zeros(len(TOP), dtype=torch.int64, device=self.where)  # answers, by k
        seen = 0
        for images, labels in self.loaded(self.test):
            with compute.autocast(self.where, self.settings.precision):
                logits = self.network(images)  # [B, classes]
            first = logits.topk(min(max(TOP), logits.shape[1])).indices == labels[:, None]  # [B, 5]
            # An answer is right by k where one of the first k classes is.
            right += torch.stack([first[:, :k].any(1).sum() for k in TOP])
            seen += len(labels)
        top_1, top_5 = (round(int(count) / seen, 6) for count in right)
        return {"accuracy": top_1, "top_5": top_5}

    def loaded(self, loader: DataLoader[Any]) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised images [B, 3, s, s], channels-last, and labels [B], on the device.

        Raises:
            PapersError: an image that cannot be read; the line that a worker process met.
        """
        mean, sd = (torch.tensor(x, device=self.where)[:, None, None] for x in (MEAN, SD))  # [3, 1, 1]
        broken = ""
        try:
            for pixels, labels in loader:  # uint8 [B, 3, s, s], [B]
                images = (pixels.to(self.where, non_blocking=True).float() / 255 - mean) / sd
                yield images.contiguous(memory_format=torch.channels_last), labels.to(self.where)
        except PapersError as error:
            broken = str(error).strip().splitlines()[-1].removeprefix("papers_lib.errors.PapersError: ")
        if broken:  # raised here, so that the workers end with the error that held them
            raise PapersError(broken)
