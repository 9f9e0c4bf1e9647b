"""Pairs of BYOL's views per second: whole batches against transforms of one image at a time.

    python -m benchmarks.augmentation [--pixels 32 128 224 --images 512 --rounds 5 --threads 1 --json]

One thread: a loader's worker has one as well. Images are decoded before; what is timed is the way from
uint8 to two normalised float views. `--images` counts at 32 px; larger images are fewer by area. All have the
recipe and the magnitudes of BYOL, bicubic but for lightly's, whose crops are bilinear.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from PIL import ImageOps
from PIL.Image import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from benchmarks import timing
from benchmarks.timing import Case
from papers_lib.median_triplet.augment import MEAN, RECIPES, SD, Recipe, view

Transform = Callable[[Tensor | Image], Tensor]
OURS = "ours, the batch at once"


def data(count: int, pixels: int) -> Tensor:
    """Smooth colour fields, uint8 [count, pixels, pixels, 3]."""
    coarse = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(coarse, (pixels, pixels), mode="bicubic").clamp(0, 1)
    return (smooth * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def per_image(recipe: Recipe, pixels: int) -> Transform:
    """torchvision's transforms, for an image of Pillow or a uint8 tensor [3, H, W]."""
    reach = min(6, pixels - 1)  # of the blur; the kernel has 2 · reach + 1 pixels
    return v2.Compose(
        [
            v2.RandomResizedCrop(pixels, recipe.scale, interpolation=v2.InterpolationMode.BICUBIC),
            v2.RandomHorizontalFlip(recipe.flip),
            v2.RandomApply([v2.ColorJitter(*recipe.magnitudes)], recipe.jitter),
            v2.RandomGrayscale(recipe.gray),
            v2.RandomApply([v2.GaussianBlur(2 * reach + 1, recipe.sigma)], recipe.blur),
            v2.RandomApply([v2.Lambda(solarized)], recipe.solarize),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, SD),
        ]
    )


def solarized(image: Tensor | Image) -> Tensor | Image:
    if isinstance(image, Image):
        return ImageOps.solarize(image, 128)
    return tv.solarize(image, 128)


def lightlys(pixels: int) -> list[Transform]:
    """lightly's two views of BYOL, on images of Pillow; empty where it is not installed."""
    try:
        from lightly.transforms.byol_transform import BYOLView1Transform, BYOLView2Transform
    except ImportError:
        return []
    return [BYOLView1Transform(input_size=pixels), BYOLView2Transform(input_size=pixels)]


def one_by_one(transforms: list[Transform], items: Sequence[Tensor | Image]) -> list[Tensor]:
    """Both views, each image on its own: two [count, 3, pixels, pixels]."""
    return [torch.stack([transform(item) for item in items]) for transform in transforms]


def cases(images: Tensor) -> list[Case]:
    """Ours first, then the peers that are installed."""
    pixels = images.shape[1]
    recipes, generator = RECIPES["byol"], torch.Generator().manual_seed(0)
    planes = [image.permute(2, 0, 1) for image in images]  # [3, H, W] each
    pictures = [tv.to_pil_image(image) for image in planes]
    peer = [per_image(recipe, pixels) for recipe in recipes]
    rows = [
        Case(OURS, lambda: [view(images, recipe, generator) for recipe in recipes]),
        Case("torchvision v2, Pillow image by image", lambda: one_by_one(peer, pictures)),
        Case("torchvision v2, tensor by tensor", lambda: one_by_one(peer, planes)),
    ]
    if transforms := lightlys(pixels):
        rows.append(Case("lightly BYOLTransform, Pillow", lambda: one_by_one(transforms, pictures)))
    return rows


def main() -> None:
    """One table per size."""
    options = timing.options(__doc__, rounds=5, pixels=[32, 128, 224], images=512, threads=1)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    for pixels in options.pixels:
        # About the same number of pixels at every size.
        count = max(8, options.images * 32**2 // pixels**2)
        table = timing.compare(cases(data(count, pixels)), options)
        peers = [name for name in table.seconds if name != OURS]
        checks = {
            "pairs per second": {name: round(count / table.median(name)) for name in table.seconds},
            "ours makes as many times as": {name: round(table.ratio(name, OURS), 2) for name in peers},
        }
        if not lightlys(pixels):
            checks["lightly"] = "not installed"
        timing.show(f"Two views of BYOL, {count} images of {pixels} px", table, checks, options)


if __name__ == "__main__":
    main()
