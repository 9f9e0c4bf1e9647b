"""A step of self-supervised training: what views, network and loss cost, against a loader of single images.

    python -m benchmarks.ssl_epoch [--backbone resnet18_cifar16 --batch 128 --device cpu --precision bfloat16
                                    --threads 1 --rounds 5 --json]

Candidates do the same step of the median triplet at 32 pixels: two views of a batch, four passes, backward,
SGD, EMA. The yardstick makes its views as most public code does, image by image through torchvision's
transforms on Pillow images; ours makes them on the batch where the images lie. Then the parts of ours alone:
the views, the loss (forward and backward, both heads of the step), and the step at random resolution. The
network's own time is that of the step less its views.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from benchmarks.timing import Candidate, Line, interleave, show
from papers_lib import compute
from papers_lib.median_triplet import augment, methods
from papers_lib.median_triplet.heads import rank_k_triplet
from papers_lib.median_triplet.methods.base import Batch, Method
from papers_lib.median_triplet.options import PRESETS, TrainSettings

PIXELS = 32


def settings(options: argparse.Namespace, **changes: object) -> TrainSettings:
    """lightly's CIFAR-10 protocol, which is that of profile `medium`."""
    asked = PRESETS["cifar"] | {"backbone": options.backbone, "precision": options.precision} | changes
    return TrainSettings.model_validate(asked)


class Step:
    """A network with its optimiser; `run` takes one step from views that `views` makes."""

    def __init__(
        self, chosen: TrainSettings, images: Tensor, views: Callable[[], tuple[Tensor, ...]]
    ) -> None:
        torch.manual_seed(0)
        self.images, self.views, self.precision = images, views, chosen.precision
        self.method: Method = methods.build("triplet", chosen, len(images), 10)
        compute.place(self.method, images.device)
        self.method.train()
        self.optimiser = torch.optim.SGD(self.method.trained(), 1e-3, 0.9, foreach=True)
        self.indices = torch.arange(len(images), device=images.device)

    def run(self) -> None:
        """Views, forward, backward, both updates."""
        batch = Batch(self.views(), self.images, self.indices, self.indices)
        with compute.autocast(self.images.device, self.precision):
            loss, _ = self.method.loss(batch)
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.method.after_step(0, 1000)
        finish(self.images.device)


def finish(device: torch.device) -> None:
    """The clock stops when the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def on_the_batch(images: Tensor) -> tuple[Tensor, ...]:
    """Both views by the library."""
    generator = torch.Generator().manual_seed(0)
    return tuple(augment.view(images, recipe, generator, PIXELS) for recipe in augment.RECIPES["cifar"])


def one_by_one(pictures: list[Image.Image], device: torch.device) -> tuple[Tensor, ...]:
    """Both views by torchvision's transforms of single images, as a loader without workers."""
    transform = v2.Compose([
        v2.RandomResizedCrop(PIXELS, antialias=True), v2.RandomHorizontalFlip(),
        v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8), v2.RandomGrayscale(0.2),
        v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True),
        v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ])  # fmt: skip
    views = [torch.stack([transform(picture) for picture in pictures]) for _ in range(2)]
    return tuple(view.to(device, memory_format=torch.channels_last) for view in views)


def losses(query: Tensor, target: Tensor) -> None:
    """Both heads of a step, forward and backward."""
    query.grad = None
    (rank_k_triplet(query, target) + rank_k_triplet(query, target)).backward()
    finish(query.device)


def candidates(options: argparse.Namespace) -> list[Candidate]:
    """The step in both ways, at random resolution, and the parts of ours."""
    device = compute.device(options.device)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (options.batch, PIXELS, PIXELS, 3), generator=generator, dtype=torch.uint8)
    pictures = [Image.fromarray(image.numpy()) for image in images]
    images = images.to(device)
    chosen = settings(options)
    own, single = partial(on_the_batch, images), partial(one_by_one, pictures, device)
    query, target = (torch.randn(options.batch, chosen.projector_out, device=device) for _ in range(2))
    return [
        Candidate("step, views image by image", Step(chosen, images, single).run),
        Candidate("step", Step(chosen, images, own).run),
        Candidate("step at random resolution",
                  Step(settings(options, random_resolution=True), images, own).run),
        Candidate("(views image by image)", single),
        Candidate("(views)", own),
        Candidate("(loss, forward and backward)", partial(losses, query.requires_grad_(), target)),
    ]  # fmt: skip


def shares(lines: list[Line], batch: int) -> dict[str, float]:
    """What part of a step its views and its loss are, and images a second."""
    median = {line.name: statistics.median(line.seconds) for line in lines}
    return {
        "waiting for views, image by image": round(
            median["(views image by image)"] / median["step, views image by image"], 3
        ),
        "waiting for views, ours": round(median["(views)"] / median["step"], 3),
        "loss, share of a step": round(median["(loss, forward and backward)"] / median["step"], 4),
        "random resolution, share of a step": round(median["step at random resolution"] / median["step"], 3),
        "images a second": round(batch / median["step"]),
        "seconds for an epoch of 50,000": round(50_000 / batch * median["step"], 1),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--backbone", default="resnet18_cifar16")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    lines = interleave(candidates(options), options.rounds)
    title = f"One step of the median triplet, {options.backbone}, batch {options.batch}, {options.precision}"
    show(title, lines, shares(lines, options.batch), options.json)


if __name__ == "__main__":
    main()
