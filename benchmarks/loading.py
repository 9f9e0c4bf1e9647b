"""Images from disk to device: our stream against torchvision's ImageFolder, and against a resident copy.

    python -m benchmarks.loading [--images 256 --pixels 500 --size 224 --batch 32 --workers 2 --device cpu
                                  --backbone tiny16 --rounds 5 --json]

Each case makes one random resized crop of every image, mirrored half of the time, and brings it to the
device as uint8. The images are JPEGs drawn here, of `pixels` on a side, ImageNet's 500 by default; a camera's
photograph has eight times as many, and there decoding at a reduced size pays. Then a network takes the same
batches from our stream: how much of its steps it waits.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from benchmarks import timing
from benchmarks.timing import Case
from data_prep.objects import CLASSES, scene
from papers_lib import compute
from papers_lib.datasets.classification import Split
from papers_lib.datasets.images import decode, middle_square
from papers_lib.datasets.stream import Stream, moved
from papers_lib.median_triplet import augment
from papers_lib.nar.imagenet.training import read_views
from papers_lib.networks import cifar

PEER, OURS, RESIDENT, STEPS = (
    "ImageFolder + DataLoader",
    "stream",
    "resident copy of 256²",
    "steps on the stream",
)
CROP = augment.Recipe(jitter=0.0, gray=0.0)  # and half of them mirrored


def draw(folder: Path, images: int, pixels: int) -> None:
    """JPEGs of four classes, of which those of a class differ."""
    for i in range(images):
        place = folder / CLASSES[i % 4] / f"{i:05d}.jpg"
        place.parent.mkdir(exist_ok=True)
        picture = Image.fromarray(scene(i % 4, 128, np.random.default_rng(i)))
        picture.resize((pixels, pixels * 3 // 4)).save(place, quality=90)


def settle(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def through(batches: Iterable[Tensor], device: torch.device) -> None:
    """All batches to the device."""
    for batch in batches:
        moved(batch, device)
    settle(device)


def steps(batches: Iterable[Tensor], net: nn.Module, device: torch.device) -> None:
    """A forward and a backward pass of each batch, which ends before the next batch is asked for.

    Else a GPU would still compute while the stream counts how long it is waited for.
    """
    for pixels in batches:  # uint8 [B, s, s, 3]
        views = moved(pixels, device).permute(0, 3, 1, 2) / 255
        net(views).square().mean().backward()
        settle(device)


def main() -> int:
    """Images per second of the three ways, and what a network waits for ours."""
    options = timing.options(
        __doc__ or "",
        rounds=5,
        images=256,
        pixels=500,
        size=224,
        batch=32,
        workers=2,
        device="cpu",
        backbone="tiny16",
    )
    device, size, batch = compute.device(options.device), options.size, options.batch
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        draw(folder, options.images, options.pixels)
        crop = v2.Compose([v2.RandomResizedCrop(size), v2.RandomHorizontalFlip(), v2.PILToTensor()])
        peers = ImageFolder(place, crop)
        loader = DataLoader(
            peers,
            batch,
            shuffle=True,
            num_workers=options.workers,
            persistent_workers=options.workers > 0,
            pin_memory=device.type == "cuda",
        )
        files = tuple(Path(file) for file, _ in peers.samples)
        split = Split(files, np.array(peers.targets))
        stream = Stream(partial(read_views, split, 0, size), device, count=options.workers)
        keys = [[(0, i) for i in range(len(files))[at : at + batch]] for at in range(0, len(files), batch)]
        squares = [decode(file, (256, 256), middle_square) for file in files]
        held = torch.from_numpy(np.stack(squares)).to(device)
        generator = torch.Generator().manual_seed(0)
        net = cifar.build(options.backbone)[0].to(device)

        def crops() -> Iterator[Tensor]:
            return (augment.view(part, CROP, generator, size) for part in held.split(batch))

        cases = [
            Case(PEER, lambda: through((pixels for pixels, _ in loader), device)),
            Case(OURS, lambda: through((pixels for pixels, _ in stream(keys)), device)),
            Case(RESIDENT, lambda: through(crops(), device)),
        ]
        table = timing.compare(cases, options)
        stream.waited = 0.0
        step = Case(STEPS, lambda: steps((pixels for pixels, _ in stream(keys)), net, device))
        waiting = timing.compare([step], options)
        spent = (options.rounds + 1) / options.rounds * sum(waiting.seconds[STEPS])
        checks = {
            f"images per second, {name}": round(len(files) / table.median(name)) for name in table.seconds
        } | {
            "stream against ImageFolder, times as fast": round(table.ratio(PEER, OURS), 2),
            "resident against stream, times as fast": round(table.ratio(OURS, RESIDENT), 2),
            f"share of a step that waits, {options.backbone}": round(stream.waited / spent, 3),
        }
    title = f"{options.images} JPEGs of {options.pixels} px to crops of {size}, {options.workers} workers"
    return timing.show(title, table, checks, options)


if __name__ == "__main__":
    sys.exit(main())
