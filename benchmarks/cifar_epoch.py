"""An epoch of ResNet-18 on CIFAR-sized images: data in memory against a torchvision DataLoader.

    python -m benchmarks.cifar_epoch [--width 16 --images 1000 --batch 128 --workers 8 --device auto
                                      --rounds 3 --json]

The yardstick is the common recipe: `torchvision.datasets` images through `RandomCrop`, flip, `ToTensor`,
`Normalize` in a `DataLoader` with workers, float32, contiguous memory. The library crops and flips whole
batches where the images lie; the rows between say what each part is worth. Where bfloat16 is emulated, as on
most processors, it is slower, and the row says so. "waiting" is the share of an epoch spent on batches alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

from benchmarks import timing
from benchmarks.timing import Case
from papers_lib import compute
from papers_lib.nar.images import MEAN, SD, augmented, normalised
from papers_lib.nar.networks import resnet18

Batches = Callable[[], Iterator[tuple[Tensor, Tensor]]]


class Pictures(TensorDataset):
    """The images one at a time, as torchvision's data sets give them: transformed on a worker."""

    def __init__(self, pixels: Tensor, labels: Tensor) -> None:
        super().__init__(pixels.permute(0, 3, 1, 2).contiguous(), labels)
        self.transform = v2.Compose(
            [
                v2.ToPILImage(),
                v2.RandomCrop(32, padding=4),
                v2.RandomHorizontalFlip(),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(MEAN, SD),
            ]
        )

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        pixels, label = super().__getitem__(index)
        return self.transform(pixels), label


def loaded(loader: DataLoader[Any], where: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of a DataLoader, moved to the device."""
    for x, y in loader:
        yield x.to(where, non_blocking=True), y.to(where, non_blocking=True)


def resident(
    pixels: Tensor, labels: Tensor, size: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches made where the images lie."""
    order = torch.randperm(len(labels), generator=generator).to(labels.device)
    for indices in order[: len(order) // size * size].view(-1, size):
        # [B, 32, 32, 3] uint8 → [B, 3, 32, 32] float32
        yield normalised(augmented(pixels[indices], generator)), labels[indices]


class Epoch:
    """One epoch of training over some batches; remembers how long it waited for them."""

    def __init__(
        self, batches: Batches, width: int, where: torch.device, fast: bool, precision: compute.Precision
    ) -> None:
        torch.manual_seed(0)
        net: nn.Module = resnet18((0,) * 8, width=width).to(where)
        # Channels-last: convolutions read a pixel's channels side by side.
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
        for x, y in self.batches():  # [B, 3, 32, 32], [B]
            waited += self._now() - mark
            # -- forward --
            with compute.autocast(self.where, self.precision):
                logits = self.net(x)  # [B, 10]
            # -- backward and step --
            self.optimiser.zero_grad(set_to_none=True)
            F.cross_entropy(logits.float(), y).backward()
            self.optimiser.step()
            mark = self._now()
        self.waited, self.spent = waited, self._now() - began

    def _now(self) -> float:
        if self.where.type == "cuda":  # so that waiting for the data is told from computing
            torch.cuda.synchronize(self.where)
        return time.perf_counter()


def main() -> None:
    """Time the epochs and print a table."""
    workers = min(8, os.cpu_count() or 1)
    options = timing.options(
        __doc__, rounds=3, width=16, images=1000, batch=128, workers=workers, device="auto"
    )
    where = compute.device(options.device)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (options.images, 32, 32, 3), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 10, (options.images,), generator=generator)
    # -- where batches come from --
    loader = DataLoader(
        Pictures(pixels, labels),
        options.batch,
        shuffle=True,
        drop_last=True,
        num_workers=options.workers,
        pin_memory=where.type == "cuda",
        persistent_workers=options.workers > 0,
    )
    moved = partial(loaded, loader, where)
    order = torch.Generator().manual_seed(0)
    memory = partial(resident, pixels.to(where), labels.to(where), options.batch, order)
    # -- an epoch from each --
    ours = "and bfloat16 (profile medium)"
    epochs = {
        f"DataLoader, {options.workers} workers, float32": Epoch(
            moved, options.width, where, False, "float32"
        ),
        "data in memory, float32": Epoch(memory, options.width, where, False, "float32"),
        "and channels-last, fused SGD": Epoch(memory, options.width, where, True, "float32"),
        ours: Epoch(memory, options.width, where, True, "bfloat16"),
    }
    table = timing.compare([Case(name, epoch) for name, epoch in epochs.items()], options)
    table.notes = {name: f"waiting {epoch.waited / epoch.spent:.1%}" for name, epoch in epochs.items()}
    checks = {"images per second, last row": round(options.images / min(table.seconds[ours]))}
    size = f"one epoch of {options.images} images, batch {options.batch}"
    timing.show(f"ResNet-18, width {options.width}: {size}, {where}", table, checks, options)


if __name__ == "__main__":
    main()
