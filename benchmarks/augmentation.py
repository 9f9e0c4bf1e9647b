"""Pairs of BYOL's views a second: whole batches against transforms of one image at a time.

    python -m benchmarks.augmentation [--pixels 32 128 224 --images 512 --rounds 5 --threads 1 --json]

One thread: a loader's worker has one as well. Images are decoded before; what is timed is the way from
uint8 to two normalised float views. `--images` counts at 32 px; larger images are fewer by area. All have the
recipe and the magnitudes of BYOL, bicubic but for lightly's, whose crops are bilinear.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
from PIL import ImageOps
from PIL.Image import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from benchmarks.timing import Candidate, Line, interleave, show
from papers_lib.median_triplet.augment import MEAN, RECIPES, SD, Recipe, view

Transform = Callable[[Tensor | Image], Tensor]


def data(count: int, pixels: int) -> Tensor:
    """Smooth colour fields, uint8 [count, pixels, pixels, 3]."""
    coarse = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(coarse, (pixels, pixels), mode="bicubic").clamp(0, 1)
    return (smooth * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def per_image(recipe: Recipe, pixels: int) -> Transform:
    """torchvision's transforms, for an image of Pillow or a uint8 tensor [3, H, W]."""
    reach = min(6, pixels - 1)
    steps = [
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
    transform: Transform = v2.Compose(steps)
    return transform


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


def candidates(images: Tensor) -> list[Candidate]:
    """What is timed: ours first."""
    pixels = images.shape[1]
    recipes, generator = RECIPES["byol"], torch.Generator().manual_seed(0)
    planes = [image.permute(2, 0, 1) for image in images]
    pictures = [tv.to_pil_image(image) for image in planes]

    def ours() -> None:
        for recipe in recipes:
            view(images, recipe, generator)

    def one_by_one(transforms: list[Transform], items: list[Tensor] | list[Image]) -> Callable[[], object]:
        return lambda: [torch.stack([transform(item) for item in items]) for transform in transforms]

    torchvisions = [per_image(recipe, pixels) for recipe in recipes]
    found = [
        Candidate("ours, the batch at once", ours),
        Candidate("torchvision v2, Pillow image by image", one_by_one(torchvisions, pictures)),
        Candidate("torchvision v2, tensor by tensor", one_by_one(torchvisions, planes)),
    ]
    if transforms := lightlys(pixels):
        found.append(Candidate("lightly BYOLTransform, Pillow", one_by_one(transforms, pictures)))
    return found


def rates(lines: list[Line], count: int) -> dict[str, object]:
    """Pairs a second: medians over rounds, and how many times as many ours makes."""
    pairs = {line.name: round(count / statistics.median(line.seconds)) for line in lines}
    times = {line.name: round(line.ratio, 2) for line in lines[1:]}
    missing = {} if len(lines) == 4 else {"lightly": "not installed"}
    return {"pairs a second": pairs, "ours makes as many times as": times, **missing}


def main() -> None:
    """Parse, run, print one table a size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pixels", type=int, nargs="+", default=[32, 128, 224])
    parser.add_argument("--images", type=int, default=512, help="at 32 px; fewer by area above")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    for pixels in options.pixels:
        count = max(8, options.images * 32**2 // pixels**2)
        lines = interleave(candidates(data(count, pixels)), options.rounds)
        title = f"Two views of BYOL, {count} images of {pixels} px"
        show(title, lines, rates(lines, count), options.json)


if __name__ == "__main__":
    main()
