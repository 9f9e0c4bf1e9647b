"""Table 4: search in SYSU-30k (Wang et al., IEEE TNNLS 2021) with features as they are, without fine-tuning.

Each of the 1,000 queries has one match among 479,730 gallery images, of which 478,730 are distractors and
valid wrong answers. Features are those of the pooled last stage, compared by cosine.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import normalize

from papers_lib import compute, pilot
from papers_lib.datasets import sysu30k
from papers_lib.datasets.images import decode
from papers_lib.datasets.stream import Stream
from papers_lib.evaluation.large_gallery import fuse_flips, rank_one
from papers_lib.median_triplet.augment import MEAN, SD
from papers_lib.median_triplet.options import TransferSettings
from papers_lib.networks import cifar

CHUNK = 256  # images embedded at once


def search(
    settings: TransferSettings,
    data: tuple[str, str],
    weights: dict[str, Tensor] | None,
    device: str = "auto",
) -> dict[str, Any]:
    """Rank-1, 5 and 10 of an encoder on SYSU-30k's test side.

    Features of the gallery stay on the CPU: 3.9 GB at 479,730 × 2048.

    Args:
        settings: backbone, height and width of the crops, `flip_fusion`.
        data: root folder and name of the data set.
        weights: the encoder's state dict; None for random weights.
        device: "auto", "cpu" or "cuda".

    Returns:
        Plain JSON: rank1, rank5, rank10 as fractions, and how many images each side has.

    Raises:
        PapersError: bad data, weights that do not fit, or a query whose identity the gallery lacks.
    """
    where = compute.device(device)
    compute.prepare(settings.seed)
    people = sysu30k.load(Path(data[0]))
    encoder = compute.place(cifar.build(settings.backbone, weights)[0], where).eval()
    query = embed(encoder, people.query.files, settings, where).to(where)  # [1,000, d]
    gallery = embed(encoder, people.gallery.files, settings, where)  # [479,730, d], on the CPU
    shares = rank_one(query, gallery, people.query.ids, people.gallery.ids)
    counts = {"query": len(people.query.files), "gallery": len(people.gallery.files)}
    return {name: round(value, 6) for name, value in shares.items()} | {"parts": counts}


@torch.no_grad()
def embed(
    encoder: nn.Module, files: Sequence[Path], settings: TransferSettings, where: torch.device
) -> Tensor:
    """Features [N, d] of image files, float32 on the CPU; `flip_fusion` says how mirror images enter."""
    mean, sd = (torch.tensor(colour, device=where) for colour in (MEAN, SD))
    blocks = []
    stream = Stream(partial(_read, (settings.height, settings.width)), where, stay=False)
    # uint8 [B, H, W, 3], squashed to the rectangle
    parts = [files[first : first + CHUNK] for first in range(0, len(files), CHUNK)]
    for pixels in pilot.steps(stream(parts), len(parts), CHUNK):
        images = ((pixels.float() / 255 - mean) / sd).permute(0, 3, 1, 2)  # [B, 3, H, W]
        features = encoder(images).float()  # [B, d]
        if settings.flip_fusion != "none":
            features = fused(features, encoder(images.flip(3)).float(), settings.flip_fusion)
        blocks.append(features.cpu())
    return torch.cat(pilot.repeated(blocks, len(parts)))[: len(files)]


def _read(size: tuple[int, int], files: Sequence[Path]) -> Tensor:
    bicubic = Image.Resampling.BICUBIC  # as the public re-ID code; crops are small, so none is reduced first
    return torch.from_numpy(np.stack([decode(file, size, resample=bicubic, reduce=False) for file in files]))


def fused(features: Tensor, mirrored: Tensor, fusion: str) -> Tensor:
    """Both features [N, d] as one.

    The released code divides by the length within its loop over the two, so that a feature of length 1 is
    added to one as it is, of length 10 or more: the mirror image nearly alone decides.
    """
    if fusion == "released":
        return normalize(normalize(features) + mirrored)  # L2(L2(f) + f′)
    return fuse_flips(features, mirrored)  # L2(L2(f) + L2(f′))
