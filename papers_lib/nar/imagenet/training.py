"""Train and test one vector's network on ImageNet (Table 5): the loop, top to bottom.

Unlike CIFAR-10, ImageNet does not fit in memory: images are decoded by worker processes as they are needed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from papers_lib import checkpoint, compute
from papers_lib.datasets import classification
from papers_lib.errors import PapersError
from papers_lib.nar import counting
from papers_lib.nar.fitting import Report, mean_loss
from papers_lib.nar.imagenet.options import ImageNetSettings
from papers_lib.nar.networks import resnet18
from papers_lib.runs import progress
from papers_lib.runs.spec import RunSpec

MEAN, SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TOP = (1, 5)
Batch = tuple[Tensor, Tensor]


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
        epoch), `history` (an entry an epoch).

    Raises:
        PapersError: bad data, an image that cannot be read, or fewer images than a batch.
        FloatingPointError: a loss that is no longer finite.
    """
    where = compute.device(device)
    compute.prepare(settings.seed)
    found = classification.load(Path(data[0]), data[1])
    if len(found.train) < settings.batch_size:
        raise PapersError(
            f"{len(found.train)} training images do not fill one batch of {settings.batch_size}; "
            "lower batch_size"
        )
    loop = Loop(settings, found, where)
    loop.resume(checkpoint.load(folder / "checkpoint.pt"))
    for epoch in range(loop.epoch, settings.epochs):
        report(epoch, settings.epochs, f"epoch {epoch + 1}")
        loop.run_epoch()
        checkpoint.save(folder / "checkpoint.pt", loop.state())
    size, classes = settings.image_size, len(found.classes)
    cost = counting.count(settings.vector, "resnet18", settings.rule, size, classes, settings.width)
    return {
        "vector": list(settings.vector),
        **cost._asdict(),
        **loop.accuracies(),
        "history": loop.history,
    }


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


class Loop(checkpoint.Resumable):
    """State of a training between epochs: network, optimiser, random numbers, history."""

    KEPT = ("epoch", "network", "optimiser", "generator", "history")

    def __init__(
        self, settings: ImageNetSettings, data: classification.Classified, where: torch.device
    ) -> None:
        self.settings, self.where = settings, where
        network = resnet18(settings.vector, settings.rule, "imagenet", len(data.classes), settings.width)
        self.network = compute.place(network, where)
        self.optimiser = torch.optim.SGD(
            self.network.parameters(), settings.lr, settings.momentum, weight_decay=settings.weight_decay
        )
        self.generator = torch.Generator().manual_seed(settings.seed)
        training, testing = transforms(settings)
        self.train = self._loader(Images(data.train, training), True)
        self.test = self._loader(Images(data.test, testing), False)
        self.epoch = 0
        self.history: list[dict[str, float]] = []

    def run_epoch(self) -> None:
        """Once through the training images, in whole batches."""
        began = time.perf_counter()
        torch.manual_seed(self.settings.seed + self.epoch)  # crops, where no worker draws them
        self.network.train()
        rate = self.settings.lr * 0.1 ** (self.epoch // self.settings.step_epochs)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        losses = [self._step(*batch) for batch in self.batches(self.train)]
        self.epoch += 1
        seconds = round(time.perf_counter() - began, 3)
        self.history.append({"loss": mean_loss(losses, self.epoch), "seconds": seconds})

    @torch.no_grad()
    def accuracies(self) -> dict[str, float]:
        """Top-1 and top-5 on the test side, as fractions."""
        self.network.eval()
        right, seen = torch.zeros(len(TOP), dtype=torch.int64, device=self.where), 0
        for images, labels in self.batches(self.test):
            with compute.autocast(self.where, self.settings.precision):
                logits = self.network(images)
            first = logits.topk(min(max(TOP), logits.shape[1])).indices == labels[:, None]
            right += torch.stack([first[:, :k].any(1).sum() for k in TOP])
            seen += len(labels)
        top_1, top_5 = (round(int(count) / seen, 6) for count in right)
        return {"accuracy": top_1, "top_5": top_5}

    def batches(self, loader: DataLoader[Any]) -> Iterator[Batch]:
        """Normalised images [B, 3, s, s], channels-last, and labels [B], on the device.

        Raises:
            PapersError: an image that cannot be read; the line that a worker process met.
        """
        mean, sd = (torch.tensor(x, device=self.where)[:, None, None] for x in (MEAN, SD))
        broken = ""
        try:
            for pixels, labels in loader:
                images = (pixels.to(self.where, non_blocking=True).float() / 255 - mean) / sd
                yield images.contiguous(memory_format=torch.channels_last), labels.to(self.where)
        except PapersError as error:
            broken = str(error).strip().splitlines()[-1].removeprefix("papers_lib.errors.PapersError: ")
        if broken:  # raised here, so that the workers end with the error that held them
            raise PapersError(broken)

    def _step(self, images: Tensor, labels: Tensor) -> Tensor:
        with compute.autocast(self.where, self.settings.precision):
            logits = self.network(images)
        loss = F.cross_entropy(logits.float(), labels)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        return loss.detach()

    def _loader(self, images: Images, training: bool) -> DataLoader[Any]:
        return DataLoader(
            images, self.settings.batch_size, shuffle=training, drop_last=training,
            num_workers=self.settings.workers, pin_memory=self.where.type == "cuda",
            generator=self.generator,
        )  # fmt: skip
