"""Views of images: crop, flip, colour jitter, grey, blur, solarise, on whole batches of uint8.

Every image draws its own parameters, but an operation runs once for the batch: crop and blur are
weighted sums of neighbouring rows, then of columns, and colour but for hue is a 3×3 matrix per image. Images
stay resident as uint8; parameters are drawn on the CPU, so that a seed gives the same views on any device.

The order is that of BYOL (Grill et al. 2020) as OpenSelfSup and lightly have it. What differs from their
Pillow pipeline, which rounds to 8 bits after every step:

* values stay float32, clamped to [0, 1] where Pillow clips;
* the blur is a Gaussian cut off at 3 of the largest σ and reflected at the border, where Pillow
  approximates it by box filters and repeats the border.

Crops are resampled as Pillow does it (bilinear or bicubic, with antialias where they shrink).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from papers_lib import arrays
from papers_lib.arrays import Array
from papers_lib.compute import exact
from papers_lib.errors import PapersError

MEAN, SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet
LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, Pillow's "L"
TRIES = 10  # boxes drawn for a crop, as torchvision does; the first that fits is taken
RATIO = (3 / 4, 4 / 3)  # width by height of a crop
RESIZE = 8 / 7  # an image is scored at its centre: 224 of 256
CACHE = 2**20  # values of a part of a batch on a CPU: 4 MB
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
NEUTRAL = (1.0, 1.0, 1.0, 0.0)  # three factors and turns of hue that change nothing


class Recipe(NamedTuple):
    """Probabilities and magnitudes of one view.

    Magnitudes are torchvision's: a factor is drawn from [1 − m, 1 + m], hue from [−m, m] turns.
    """

    scale: tuple[float, float] = (0.08, 1.0)  # share of the image's area that a crop takes
    bicubic: bool = False
    flip: float = 0.5
    jitter: float = 0.8
    magnitudes: tuple[float, float, float, float] = (0.4, 0.4, 0.2, 0.1)  # brightness … hue
    gray: float = 0.2
    blur: float = 0.0
    sigma: tuple[float, float] = (0.1, 2.0)  # pixels of the view
    solarize: float = 0.0
    square: float = 0.0  # not 0: a square of this share of the shorter side, in place of `scale`


_BYOL = Recipe(bicubic=True)
_CIFAR = Recipe(magnitudes=(0.4, 0.4, 0.4, 0.1))
_MOCO = Recipe(scale=(0.2, 1.0), magnitudes=(0.4, 0.4, 0.4, 0.1), blur=0.5)
_WEAK = Recipe(jitter=0.0, gray=0.0)

RECIPES: dict[str, tuple[Recipe, Recipe]] = {
    # The released configuration of the paper, which is BYOL's: the two views differ.
    "byol": (_BYOL._replace(blur=1.0), _BYOL._replace(blur=0.1, solarize=0.2)),
    # The same on average, but one law for both views: the paper names no asymmetry.
    "symmetric": (_BYOL._replace(blur=0.55, solarize=0.1),) * 2,
    # lightly's CIFAR-10 benchmark: SimCLR's at half strength, without blur.
    "cifar": (_CIFAR, _CIFAR),
    "simclr": (Recipe(magnitudes=(0.8, 0.8, 0.8, 0.2), blur=0.5),) * 2,
    # MoCo v1 greys before it jitters; that differs only where a value is clipped.
    "moco_v1": (Recipe(scale=(0.2, 1.0), jitter=1.0, magnitudes=(0.4, 0.4, 0.4, 0.4)),) * 2,
    # MoCo v2, and SimSiam after it.
    "moco_v2": (_MOCO, _MOCO),
    # MoCo v2 as OpenSelfSup has it, with MoCo v1's hue.
    "moco_v2_hue": (_MOCO._replace(magnitudes=(0.4, 0.4, 0.4, 0.4)),) * 2,
    # OpenSelfSup's DeepCluster and ODC, but for their turns by 2 degrees.
    "clusters": (Recipe(jitter=1.0, magnitudes=(0.4, 0.4, 1.0, 0.5)),) * 2,
    # OpenSelfSup's Relative-Loc: 255 of 292 pixels, and two thirds of the images grey.
    "relative_location": (Recipe(square=255 / 292, flip=0, jitter=0, gray=0.66),) * 2,
    # Crop and flip, as for training a classifier.
    "weak": (_WEAK, _WEAK),
}


class Draw(NamedTuple):
    """What a batch of B images drew, on the CPU."""

    box: Tensor  # [B, 4] int64: top, left, height, width of the crop
    flipped: Tensor  # [B] bool
    order: Tensor  # [B, 4] int64: which of BRIGHTNESS … HUE comes first, second, …
    factors: Tensor  # [B, 4]: of brightness, contrast, saturation; turns of hue; NEUTRAL if not jittered
    gray: Tensor  # [B] bool
    sigma: Tensor  # [B]: of the blur, in pixels; 0 if not blurred
    solarized: Tensor  # [B] bool


class Taps(NamedTuple):
    """A linear filter along one axis: output i of an image is Σ_t weight[i, t] · input[pixel[i, t]]."""

    pixel: Tensor  # [B, size, T] int64
    weight: Tensor  # [B, size, T]


def view(images: Array, recipe: Recipe, generator: torch.Generator, size: int | None = None) -> Tensor:
    """One random view of each image, every image with its own parameters.

    Args:
        images: uint8 [B, H, W, 3], on any device.
        recipe: one of a pair of `RECIPES`.
        generator: of the CPU, whatever the images' device.
        size: the side of the views; the images' shorter side by default.

    Returns:
        float32 [B, 3, size, size], ImageNet-normalised, channels-last in memory.

    Raises:
        PapersError: images that are not uint8 [B, H, W, 3], a size below 1, a generator of a GPU.
    """
    images, size = _checked(images, size)
    if generator.device.type != "cpu":
        raise PapersError("the generator of the views lives on a GPU; give torch.Generator() of the CPU")
    drawn = draw(recipe, len(images), images.shape[1], images.shape[2], generator)
    return apply(images, drawn, recipe, size)


@exact()
def plain(images: Array, size: int | None = None) -> Tensor:
    """Images as they are scored, without randomness; arguments, result and errors as `view`.

    Images of size × size are only normalised. Others are resized (bilinear, antialias) so that their
    shorter side is 8/7 · size, and the centre is cut out: the 224 of 256 of ImageNet.
    """
    images, size = _checked(images, size)
    out = _empty(images, size)
    for some in _parts(images, size):
        x = images[some]
        if x.shape[1:3] == (size, size):
            x = x.permute(0, 3, 1, 2) / 255
        else:
            part = torch.full((len(x),), min(x.shape[1:3]) / RESIZE)
            rows, columns = (
                _resize_taps((n - part) / 2, part, (0 * part, 0 * part + n), size, False, x.device)
                for n in x.shape[1:3]
            )
            x = _filtered(x.permute(0, 3, 2, 1), columns, rows).div_(255)
        out[some] = _normalised(x)
    return out


# -- what is drawn --


@exact()
def draw(recipe: Recipe, count: int, height: int, width: int, generator: torch.Generator) -> Draw:
    """Parameters for `count` images of height × width pixels.

    Every image takes as many numbers from the generator whatever the recipe, so that recipes can be
    compared on the same crops.
    """
    box = _boxes(recipe, count, height, width, generator)
    chance = torch.rand(5, count, generator=generator)
    order = torch.rand(count, 4, generator=generator).argsort(1)
    m, neutral = torch.tensor(recipe.magnitudes), torch.tensor(NEUTRAL)
    low, high = (neutral - m).clamp(min=torch.tensor([0.0, 0.0, 0.0, -0.5])), neutral + m
    factors = low + (high - low) * torch.rand(count, 4, generator=generator)
    sigma = torch.empty(count).uniform_(*recipe.sigma, generator=generator)
    return Draw(
        box,
        chance[0] < recipe.flip,
        order,
        torch.where(chance[1, :, None] < recipe.jitter, factors, neutral),
        chance[2] < recipe.gray,
        torch.where(chance[3] < recipe.blur, sigma, 0.0),
        chance[4] < recipe.solarize,
    )


def _boxes(recipe: Recipe, count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Random resized crops as torchvision draws them: [count, 4], top, left, height, width."""
    area = torch.empty(count, TRIES).uniform_(*recipe.scale, generator=generator) * height * width
    logs = math.log(RATIO[0]), math.log(RATIO[1])
    ratio = torch.empty(count, TRIES).uniform_(*logs, generator=generator).exp()
    w, h = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()  # [count, TRIES]
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first, none = fits.float().argmax(1, keepdim=True), ~fits.any(1)
    # None fits: the largest box of an allowed shape, in the centre.
    w = w.gather(1, first)[:, 0].masked_fill(none, min(width, round(height * RATIO[1])))
    h = h.gather(1, first)[:, 0].masked_fill(none, min(height, round(width / RATIO[0])))
    if recipe.square:
        w = h = torch.full((count,), float(max(1, round(recipe.square * min(height, width)))))
        none = torch.zeros(count, dtype=torch.bool)
    place = torch.rand(2, count, generator=generator)
    top = torch.where(none, (height - h) / 2, place[0] * (height - h + 1)).floor()
    left = torch.where(none, (width - w) / 2, place[1] * (width - w + 1)).floor()
    return torch.stack((top, left, h, w), 1).long()


@exact()
def draw_size(generator: torch.Generator, low: int, high: int) -> int:
    """A side from {low, …, high}, each equally likely: one for a whole batch.

    Raises:
        PapersError: not 1 ≤ low ≤ high.
    """
    if not 1 <= low <= high:
        raise PapersError(f"sides from {low} to {high} px were asked for; give 1 <= low <= high")
    return int(torch.randint(low, high + 1, (), generator=generator))


# -- what is done with it --


@exact()  # a caller's autocast would round colours
def apply(images: Tensor, drawn: Draw, recipe: Recipe, size: int) -> Tensor:
    """The views that `drawn` describes; of the recipe only `bicubic` and the largest σ count.

    On a CPU the batch goes in parts that stay in its cache; they change no more than the last bit.
    Operations that no image drew are skipped; the rarer ones run on the images that drew them.
    """
    out = _empty(images, size)
    for some in _parts(images, size):
        part = Draw(*(field[some] for field in drawn))
        if images.shape[1:3] == (size, size) and _uncut(part, size):
            x = images[some].permute(0, 3, 1, 2) / 255
        else:
            x = _cropped(images[some], part, size, recipe.bicubic)
        if (part.factors != torch.tensor(NEUTRAL)).any():
            x = _jittered(x, part)
        if part.gray.any():
            which = _chosen(part.gray, x.device)
            x[which] = _luma(x[which]).expand(-1, 3, -1, -1)
        if part.sigma.any():
            which = _chosen(part.sigma, x.device)
            taps = _blur_taps(part.sigma[part.sigma > 0], size, recipe.sigma[1], x.device)
            x[which] = _filtered(x[which].transpose(2, 3), taps, taps)
        if part.solarized.any():
            which = _chosen(part.solarized, x.device)
            x[which] = torch.where(x[which] < 128 / 255, x[which], 1 - x[which])
        out[some] = _normalised(x)
    return out


def resized(batch: Tensor, size: int) -> Tensor:
    """A batch [B, 3, H, W] at size × size, bilinear without antialias, as the released random resolution.

    Raises:
        PapersError: a size below 1.
    """
    if size < 1:
        raise PapersError(f"views of {size} px were asked for; a side is at least 1 px")
    if batch.shape[2:] == (size, size):
        return batch
    return F.interpolate(batch, (size, size), mode="bilinear", align_corners=False)


def _checked(images: Array, size: int | None) -> tuple[Tensor, int]:
    images = arrays.tensor("images", images)
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[3] != 3:
        kind = f"{arrays.kind(images)} {arrays.shape(images)}"
        raise PapersError(f"images are {kind}; they must be uint8 [B, H, W, 3]")
    size = min(images.shape[1:3]) if size is None else size
    if size < 1:
        raise PapersError(f"views of {size} px were asked for; a side is at least 1 px")
    return images, size


def _parts(images: Tensor, size: int) -> Iterator[slice]:
    """The batch in parts of about `CACHE` values on a CPU, whole on a GPU."""
    _, height, width, _ = images.shape
    step = len(images) if images.is_cuda else max(1, CACHE // (3 * max(size**2, height * width)))
    return (slice(at, at + step) for at in range(0, len(images), max(1, step)))


def _empty(images: Tensor, size: int) -> Tensor:
    return torch.empty(len(images), 3, size, size, device=images.device, memory_format=torch.channels_last)


def _uncut(drawn: Draw, size: int) -> bool:
    """Whether all images are taken whole and as they are: they were cut when they were read."""
    whole = torch.tensor([0, 0, size, size])
    return not drawn.flipped.any() and bool((drawn.box == whole).all())


def _cropped(images: Tensor, drawn: Draw, size: int, bicubic: bool) -> Tensor:
    """Crop, resize and flip: float32 [B, 3, size, size] in [0, 1]."""
    top, left, height, width = drawn.box.float().unbind(1)
    rows = _resize_taps(top, height, (top, top + height), size, bicubic, images.device)
    columns = _resize_taps(left, width, (left, left + width), size, bicubic, images.device)
    mirror = _moved(drawn.flipped, images.device)[:, None, None]
    columns = Taps(*(torch.where(mirror, part.flip(1), part) for part in columns))
    x = _filtered(images.permute(0, 3, 2, 1), columns, rows).div_(255)
    return x.clamp_(0, 1) if bicubic else x  # the cubic overshoots


def _resize_taps(
    start: Tensor, part: Tensor, inside: tuple[Tensor, Tensor], size: int, bicubic: bool, where: torch.device
) -> Taps:
    """From [start, start + part) to `size` pixels, as Pillow does; pixels outside of `inside` do not count.

    Pillow's kernel is stretched where it shrinks: one of half-width s meets at most ⌈2 s⌉ pixels.
    """
    radius = 2 if bicubic else 1
    many = math.ceil(2 * radius * max(1.0, float(part.max()) / size))  # T
    start, part, low, stop = (_moved(bound, where)[:, None, None] for bound in (start, part, *inside))
    scale = part / size
    stretch, high = scale.clamp(min=1), stop - 1
    centre = start + (torch.arange(size, device=where)[:, None] + 0.5) * scale  # [B, size, 1]
    pixel = (centre - radius * stretch + 0.5).floor() + torch.arange(many, device=where)  # [B, size, T]
    distance = (pixel + 0.5 - centre).abs() / stretch
    weight = _cubic(distance) if bicubic else (1 - distance).clamp_(min=0)
    weight.masked_fill_((pixel < low) | (pixel > high), 0)
    weight /= weight.sum(2, keepdim=True)
    return Taps(torch.minimum(torch.maximum(pixel, low), high).long(), weight)


def _cubic(x: Tensor) -> Tensor:
    """Keys' kernel with a = −1/2, Pillow's bicubic, of distances x ≥ 0."""
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, far.masked_fill_(x >= 2, 0))


def _blur_taps(sigma: Tensor, size: int, largest: float, where: torch.device) -> Taps:
    """Gaussians of σ [B], cut off at 3 of the largest σ and reflected at the border."""
    reach = min(math.ceil(3 * largest), size - 1)
    offset = torch.arange(-reach, reach + 1, device=where)  # [T]
    weight = torch.exp(-(offset**2) / (2 * _moved(sigma, where)[:, None] ** 2))
    weight /= weight.sum(1, keepdim=True)
    pixel = (torch.arange(size, device=where)[:, None] + offset).abs()  # [size, T]
    pixel = size - 1 - (size - 1 - pixel).abs()
    shape = (len(sigma), *pixel.shape)
    return Taps(pixel.expand(shape), weight[:, None].expand(shape))


def _filtered(transposed: Tensor, columns: Taps, rows: Taps) -> Tensor:
    """Filter planes [B, 3, W, H], given transposed, along both axes: float32 [B, 3, height, width]."""
    x = transposed.contiguous().float()
    return _along_rows(_along_rows(x, columns).transpose(2, 3).contiguous(), rows)


def _along_rows(x: Tensor, taps: Taps) -> Tensor:
    """Weighted sums of rows: [B, 3, H, W] → [B, 3, size, W].

    A row is read as the embedding of its number, so that torch's weighted embedding bag does the work:
    only the rows that count are read, with no copy of them.
    """
    count, planes, height, width = x.shape
    size, many = taps.pixel.shape[1:]
    base = torch.arange(count * planes, device=x.device).view(count, planes, 1, 1) * height
    index = (base + taps.pixel[:, None]).view(-1, many)  # [B · 3 · size, T]
    weight = taps.weight[:, None].expand(count, planes, size, many).reshape(-1, many)
    out = F.embedding_bag(index, x.view(-1, width), mode="sum", per_sample_weights=weight)
    return out.view(count, planes, size, width)


def _jittered(x: Tensor, drawn: Draw) -> Tensor:
    """Brightness, contrast, saturation and hue in each image's own order, clamped after each.

    All but hue are c ↦ M c + t on a pixel's colour c; contrast alone has a t, (1 − f) times the mean luma.
    """
    brightness, contrast, saturation, _ = drawn.factors.T[..., None, None]  # [B, 1, 1] each
    one, luma = torch.eye(3), torch.tensor(LUMA).expand(3, 3)
    steps = [
        brightness * one,
        contrast * one,
        saturation * one + (1 - saturation) * luma,
        one.expand(len(x), 3, 3),
    ]
    matrices = torch.stack(steps, 1)[torch.arange(len(drawn.order))[:, None], drawn.order]  # [B, 4, 3, 3]
    factors = drawn.factors.gather(1, drawn.order)
    towards_mean = _moved((1 - factors).masked_fill_(drawn.order != CONTRAST, 0), x.device)
    pixels = x.flatten(2)  # [B, 3, H W]
    for step in range(4):
        mean = _luma(pixels.mean(2, keepdim=True))
        offset = towards_mean[:, step, None, None] * mean
        pixels = torch.bmm(_moved(matrices[:, step], x.device), pixels).add_(offset).clamp_(0, 1)
        turned = (drawn.order[:, step] == HUE) & (factors[:, step] != 0)
        if turned.any():
            which = _chosen(turned, x.device)
            pixels[which] = _turned(pixels[which], _moved(factors[turned, step], x.device))
    return pixels.view_as(x)


def _turned(pixels: Tensor, turns: Tensor) -> Tensor:
    """Colours [B, 3, N] with the H of HSV moved on by `turns` [B], V and S as they are.

    With V = max, C = max − min and h = 6 H the channels are V − C · clamp(min(k, 4 − k), 0, 1), where k is
    5 + h, 3 + h and 1 + h modulo 6.
    """
    red, green, blue = pixels.unbind(1)
    value, largest = pixels.max(1)  # [B, N]
    chroma = value - pixels.amin(1)
    # of the largest channel: the difference of the two others, and where its sextants begin
    apart = torch.stack((green - blue, blue - red, red - green), 1).gather(1, largest[:, None])[:, 0]
    h = apart / chroma.clamp(min=1e-12) + 2 * largest + 6 * turns[:, None]
    starts = torch.tensor([5.0, 3.0, 1.0], device=pixels.device)[:, None]
    k = (h[:, None] + starts).remainder(6)  # [B, 3, N]
    return value[:, None] - chroma[:, None] * torch.minimum(k, 4 - k).clamp_(0, 1)


def _luma(x: Tensor) -> Tensor:
    """Y of colours [B, 3, …], [B, 1, …]."""
    return LUMA[0] * x[:, :1] + LUMA[1] * x[:, 1:2] + LUMA[2] * x[:, 2:]


def _normalised(x: Tensor) -> Tensor:
    """In place."""
    mean, sd = (_moved(torch.tensor(colour), x.device)[:, None, None] for colour in (MEAN, SD))
    return x.sub_(mean).div_(sd)


def _moved(part: Tensor, where: torch.device) -> Tensor:
    """To the device without waiting for it."""
    return part.to(where, non_blocking=True)


def _chosen(which: Tensor, where: torch.device) -> Tensor:
    """Numbers of the images that drew something. Counted on the CPU: a GPU would be waited for."""
    return _moved(which.nonzero()[:, 0], where)
