"""An epoch of ResNet-18 on CIFAR-sized images: data in memory against a torchvision DataLoader.

    python -m benchmarks.cifar_epoch [--width 16 --images 1000 --batch 128 --device auto --rounds 3 --json]

The yardstick is the common recipe: `torchvision.datasets` images through `RandomCrop`, flip, `ToTensor`,
`Normalize` in a `DataLoader` with workers, float32, contiguous memory. The library crops and flips whole
batches where the images lie; the rows between say what each part is worth. Where bfloat16 is emulated, as on
most processors, it is slower, and the row says so. "waiting" is the share of an epoch spent on batches alone.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

from benchmarks.timing import Candidate, interleave, show
from papers_lib import compute
from papers_lib.nar.images import MEAN, SD, augmented, normalised
from papers_lib.nar.networks import resnet18

Batches = Callable[[], Iterator[tuple[Tensor, Tensor]]]


def make(images: int) -> tuple[Tensor, Tensor]:
    """Random images [N, 32, 32, 3] uint8 and labels."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 32, 32, 3), dtype=torch.uint8, generator=generator)
    return pixels, torch.randint(0, 10, (images,), generator=generator)


class Pictures(TensorDataset):
    """The images one at a time, as torchvision's data sets give them: transformed on a worker."""

    def __init__(self, pixels: Tensor, labels: Tensor) -> None:
        super().__init__(pixels.permute(0, 3, 1, 2).contiguous(), labels)
        self.transform = v2.Compose([
            v2.ToPILImage(), v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip(), v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, SD),
        ])  # fmt: skip

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        pixels, label = super().__getitem__(index)
        return self.transform(pixels), label


def loaded(pixels: Tensor, labels: Tensor, size: int, workers: int, where: torch.device) -> Batches:
    """Batches of a DataLoader, moved to the device."""
    loader = DataLoader(Pictures(pixels, labels), size, shuffle=True, drop_last=True, num_workers=workers,
                        pin_memory=where.type == "cuda", persistent_workers=workers > 0)  # fmt: skip

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for x, y in loader:
            yield x.to(where, non_blocking=True), y.to(where, non_blocking=True)

    return batches


def resident(pixels: Tensor, labels: Tensor, size: int, where: torch.device) -> Batches:
    """Batches made where the images lie."""
    pixels, labels = pixels.to(where), labels.to(where)
    generator = torch.Generator().manual_seed(0)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(labels), generator=generator).to(where)
        for indices in order[: len(order) // size * size].view(-1, size):
            yield normalised(augmented(pixels[indices], generator)), labels[indices]

    return batches


class Epoch:
    """One epoch of training over some batches; remembers how long it waited for them."""

    def __init__(
        self, batches: Batches, width: int, where: torch.device, fast: bool, precision: compute.Precision
    ) -> None:
        torch.manual_seed(0)
        net: nn.Module = resnet18((0,) * 8, width=width).to(where)
        self.net = net.to(memory_format=torch.channels_last) if fast else net
        fused = fast and where.type == "cuda"
        self.optimiser = torch.optim.SGD(
            net.parameters(), 0.01, 0.9, weight_decay=5e-4, nesterov=True, fused=fused or None
        )
        self.batches, self.where, self.precision = batches, where, precision
        self.waited = self.spent = 0.0

    def __call__(self) -> None:
        """Once through the batches."""
        began = mark = self._now()
        waited = 0.0
        for x, y in self.batches():
            waited += self._now() - mark
            with compute.autocast(self.where, self.precision):
                logits = self.net(x)
            self.optimiser.zero_grad(set_to_none=True)
            F.cross_entropy(logits.float(), y).backward()
            self.optimiser.step()
            mark = self._now()
        self.waited, self.spent = waited, self._now() - began

    def _now(self) -> float:
        if self.where.type == "cuda":  # so that waiting for the data is told from computing
            torch.cuda.synchronize(self.where)
        return time.perf_counter()


def main(arguments: Sequence[str]) -> int:
    """Time the epochs and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cifar_epoch")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--workers", type=int, default=min(8, os.cpu_count() or 1))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    where = compute.device(asked.device)
    pixels, labels = make(asked.images)
    loader = loaded(pixels, labels, asked.batch, asked.workers, where)
    memory = resident(pixels, labels, asked.batch, where)
    epochs = {
        f"DataLoader, {asked.workers} workers, float32": Epoch(loader, asked.width, where, False, "float32"),
        "data in memory, float32": Epoch(memory, asked.width, where, False, "float32"),
        "and channels-last, fused SGD": Epoch(memory, asked.width, where, True, "float32"),
        "and bfloat16 (profile medium)": Epoch(memory, asked.width, where, True, "bfloat16"),
    }
    lines = interleave([Candidate(name, epoch) for name, epoch in epochs.items()], asked.rounds)
    for line in lines:
        epoch = epochs[line.name]
        line.note = f"waiting {epoch.waited / epoch.spent:.1%}"
    title = (
        f"ResNet-18, width {asked.width}: one epoch of {asked.images} images, batch {asked.batch}, {where}"
    )
    checks = {"images a second, last row": round(asked.images / min(lines[-1].seconds))}
    show(title, lines, checks, asked.json)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
