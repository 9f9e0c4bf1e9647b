"""A step of self-supervised training: what views, network and loss cost, against a loader of single images.

    python -m benchmarks.ssl_epoch [--backbone resnet18_cifar16 --batch 128 --device cpu --precision bfloat16
                                    --threads 1 --rounds 5 --json]

The cases do the same step of the median triplet at 32 pixels: two views of a batch, four passes, backward,
SGD, EMA. The yardstick makes its views as most public code does, image by image through torchvision's
transforms on Pillow images; ours makes them on the batch where the images lie. Then the parts of ours alone:
the views, the loss (forward and backward, both heads of the step), and the step at random resolution. The
network's own time is that of the step less its views.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from benchmarks import timing
from benchmarks.timing import Case
from papers_lib import compute
from papers_lib.median_triplet import augment, methods
from papers_lib.median_triplet.heads import rank_k_triplet
from papers_lib.median_triplet.methods.base import Batch, Method
from papers_lib.median_triplet.options import PRESETS, TrainSettings

PIXELS = 32
PEER_STEP, STEP, RANDOM_STEP = "step, views image by image", "step", "step at random resolution"
PEER_VIEWS, VIEWS, LOSS = "(views image by image)", "(views)", "(loss, forward and backward)"


class Step:
    """A network with its optimiser; `run` takes one step from views that `views` makes."""

    def __init__(
        self, settings: TrainSettings, images: Tensor, views: Callable[[], tuple[Tensor, ...]]
    ) -> None:
        torch.manual_seed(0)
        self.images, self.views, self.precision = images, views, settings.precision
        self.method: Method = methods.build("triplet", settings, len(images), 10)
        compute.place(self.method, images.device)
        self.method.train()
        self.optimiser = torch.optim.SGD(self.method.trained(), 1e-3, 0.9, foreach=True)
        self.indices = torch.arange(len(images), device=images.device)

    def run(self) -> None:
        """Views, forward, backward, both updates."""
        # -- views: two [B, 3, 32, 32] --
        batch = Batch(self.views(), self.indices, self.indices)
        # -- forward and backward --
        with compute.autocast(self.images.device, self.precision):
            loss, _ = self.method.loss(batch)
        loss.backward()
        # -- step, then the target network's EMA --
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
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(PIXELS, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8),
            v2.RandomGrayscale(0.2),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    views = [torch.stack([transform(picture) for picture in pictures]) for _ in range(2)]
    return tuple(view.to(device, memory_format=torch.channels_last) for view in views)


def losses(query: Tensor, target: Tensor) -> None:
    """Both heads of a step, forward and backward."""
    query.grad = None
    # The loss of each view's prediction against the other's projection.
    (rank_k_triplet(query, target) + rank_k_triplet(query, target)).backward()
    finish(query.device)


def main() -> None:
    """The step in both ways, at random resolution, and the parts of ours."""
    options = timing.options(
        __doc__,
        rounds=5,
        backbone="resnet18_cifar16",
        batch=128,
        device="cpu",
        precision=("bfloat16", "float32"),
        threads=1,
    )
    torch.set_num_threads(options.threads)
    device = compute.device(options.device)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (options.batch, PIXELS, PIXELS, 3), generator=generator, dtype=torch.uint8)
    pictures = [Image.fromarray(image.numpy()) for image in images]
    images = images.to(device)
    # lightly's CIFAR-10 protocol, which is that of profile `medium`.
    settings = PRESETS["cifar"] | {"backbone": options.backbone, "precision": options.precision}
    fixed = TrainSettings.model_validate(settings)
    varied = TrainSettings.model_validate(settings | {"random_resolution": True})
    ours, single = partial(on_the_batch, images), partial(one_by_one, pictures, device)
    query, target = (torch.randn(options.batch, fixed.projector_out, device=device) for _ in range(2))
    cases = [
        Case(PEER_STEP, Step(fixed, images, single).run),
        Case(STEP, Step(fixed, images, ours).run),
        Case(RANDOM_STEP, Step(varied, images, ours).run),
        Case(PEER_VIEWS, single),
        Case(VIEWS, ours),
        Case(LOSS, partial(losses, query.requires_grad_(), target)),
    ]
    table = timing.compare(cases, options)
    checks = {
        "waiting for views, image by image": round(table.ratio(PEER_VIEWS, PEER_STEP), 3),
        "waiting for views, ours": round(table.ratio(VIEWS, STEP), 3),
        "loss, share of a step": round(table.ratio(LOSS, STEP), 4),
        "random resolution, share of a step": round(table.ratio(RANDOM_STEP, STEP), 3),
        "images per second": round(options.batch / table.median(STEP)),
        "seconds for an epoch of 50,000": round(50_000 / options.batch * table.median(STEP), 1),
    }
    title = f"One step of the median triplet, {options.backbone}, batch {options.batch}, {options.precision}"
    timing.show(title, table, checks, options)


if __name__ == "__main__":
    main()
