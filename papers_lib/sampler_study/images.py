"""Images of a run: uint8, resident on the device where they fit, augmented there, a batch at a time.

Squashed to a rectangle, bicubic with antialias as in the public re-ID code (`Resize((256, 128),
interpolation=3)`). Of a large set, the part that is only embedded may stay in a map of the disk.

Flip, pad and crop, normalise, erase: the order and the values of CAP's public code. A batch is one
gather, however many images it has.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from papers_lib.datasets import features, folder, reid
from papers_lib.datasets.images import load_images
from papers_lib.datasets.stream import resident
from papers_lib.sampler_study.options import TrainSettings

MEAN, SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet
TRIES = 10  # shapes drawn for an erased box; one that fits is all but certain among them


class Unlabelled(NamedTuple):
    """What training may see: pixels uint8 [N, H, W, 3] or frozen features [N, D], and cameras [N].

    Identities are not here.
    """

    pixels: Tensor
    cameras: Tensor


class Part(NamedTuple):
    """Images of query or gallery with what evaluation needs: ids and cameras [N]."""

    pixels: Tensor
    ids: Tensor
    cameras: Tensor


class Loaded(NamedTuple):
    """A data set, on the device as far as it fits.

    `train_ids` [N] are for diagnosis after training, and for no loss.
    """

    train: Unlabelled
    train_ids: Tensor
    query: Part
    gallery: Part


def load(data: tuple[str, str] | Loaded, settings: TrainSettings, where: torch.device) -> Loaded:
    """Read and decode the data set `data` (root, name), unless it is given.

    Raises:
        PapersError: the data set is not there, or not whole.
    """
    if isinstance(data, Loaded):
        return data
    frozen = data[1] in features.NAMES
    parts = _shipped(*data) if frozen else _decoded(*data, settings.height, settings.width)
    train, query, gallery = (part._replace(pixels=resident(part.pixels, where)) for part in parts)
    return Loaded(Unlabelled(train.pixels, train.cameras), train.ids, query, gallery)


@lru_cache(maxsize=4)
def _decoded(root: str, name: str, height: int, width: int) -> tuple[Part, ...]:
    """Training images, query and gallery on the CPU; runs of one process share them."""
    # A withdrawn set reaches this line only after its holder has acknowledged that, in the plan.
    own = name == folder.NAME
    network = folder.network(Path(root)) if own else reid.load(Path(root), name, acknowledge_withdrawn=True)
    parts = []
    for side in (network.train, network.query, network.gallery):
        keep = side.keep and side.keep.with_name(f"{side.keep.name}-{height}x{width}.npy")
        # Crops are small: the JPEG decoder is not asked to halve them first.
        bicubic = Image.Resampling.BICUBIC
        pixels = load_images(side.files, (height, width), resample=bicubic, reduce=False, keep=keep)
        parts.append(Part(*map(torch.from_numpy, (pixels, side.ids, side.cameras))))
    return tuple(parts)


@lru_cache(maxsize=1)
def _shipped(root: str, name: str) -> tuple[Part, ...]:
    """The same of frozen features of a camera network."""
    found = features.load(Path(root), name)
    of = {key: torch.from_numpy(values) for key, values in found.labels.items()}
    sides = [of["side"] == side for side in range(3)]
    values = torch.from_numpy(found.values)  # [N, D]
    return tuple(Part(values[side], of["identity"][side], of["camera"][side]) for side in sides)


def prepared(pixels: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] → float [B, 3, H, W], normalised, channels-last in memory; features as they are."""
    if pixels.ndim == 2:
        return pixels
    return _normalised(pixels).permute(0, 3, 1, 2)


def augmented(pixels: Tensor, settings: TrainSettings, generator: torch.Generator) -> Tensor:
    """Training images [B, H, W, 3], each flipped, shifted and erased by its own draw: [B, 3, H, W].

    Frozen features have one view, as they are: [B, D].
    """
    if pixels.ndim == 2:
        return pixels
    n, height, width = pixels.shape[:3]
    where, pad = pixels.device, settings.pad
    # -- flip, pad and crop: which pixel of the image each pixel of the crop is --
    shift = torch.randint(0, 2 * pad + 1, (2, n, 1), generator=generator) - pad
    mirror = torch.rand(n, 1, generator=generator) < 0.5
    rows, columns = torch.arange(height) + shift[0], torch.arange(width) + shift[1]  # [B, H], [B, W]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None]
    columns = torch.where(mirror, width - 1 - columns, columns)
    rows, columns = rows.clamp(0, height - 1).to(where), columns.clamp(0, width - 1).to(where)
    image = torch.arange(n, device=where)[:, None, None]
    crops = pixels[image, rows[:, :, None], columns[:, None, :]]  # [B, H, W, 3]
    images = _normalised(crops * inside.to(where)[..., None])  # padding is black
    # -- erase: CAP fills with ImageNet's mean after normalisation, so that the box is not quite grey --
    erased = _boxes(n, height, width, settings, generator).to(where)
    images[erased] = torch.tensor(MEAN, device=where)
    return images.permute(0, 3, 1, 2)


def _normalised(pixels: Tensor) -> Tensor:
    mean = torch.tensor(MEAN, device=pixels.device) * 255
    sd = torch.tensor(SD, device=pixels.device) * 255
    return (pixels.float() - mean) / sd


def _boxes(n: int, height: int, width: int, settings: TrainSettings, generator: torch.Generator) -> Tensor:
    """Random erasing (Zhong et al., AAAI 2020) with probability ½: bool [n, H, W], true inside the box."""
    low, high = settings.erase_area
    area = torch.empty(n, TRIES).uniform_(low, high, generator=generator) * height * width
    ratio = torch.empty(n, TRIES).uniform_(*settings.erase_ratio, generator=generator)
    # h · w = area, h / w = ratio
    h, w = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (h < height) & (w < width)
    first = fits.float().argmax(1, keepdim=True)  # the first try that fits
    h, w = h.gather(1, first), w.gather(1, first)  # [n, 1]
    place = torch.rand(3, n, 1, generator=generator)
    top, left = (place[0] * (height - h + 1)).floor(), (place[1] * (width - w + 1)).floor()
    y, x = torch.arange(height), torch.arange(width)
    tall, wide = (y >= top) & (y < top + h), (x >= left) & (x < left + w)
    erase = (place[2] < 0.5) & fits.any(1, keepdim=True)
    return tall[:, :, None] & wide[:, None, :] & erase[:, :, None]
