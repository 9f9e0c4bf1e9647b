"""A pass of the samplers against plain Python loops and pytorch-metric-learning's MPerClassSampler.

    python -m benchmarks.samplers [--n 1000000 --classes 50000 --k 16 --rounds 5 --json]

Each case makes the sampler from the labels and lists all indices of one pass, as a new clustering
asks for every epoch. Labels are random, so class sizes vary about n / classes; 5 % are outliers. The loops
are written as one would write them down first, with the same rules: distinct images before repeats. The exit
code is 1 where a pass draws other numbers of a class than its loop.
"""

from __future__ import annotations

import random
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks import timing
from benchmarks.timing import Case
from papers_lib.sampler_study.reference_samplers import reference
from papers_lib.sampler_study.samplers import GroupSampler, Options, RandomSampler, TripletSampler

BATCH = 32


def data(n: int, classes: int) -> Tensor:
    """Labels [n] with 5 % outliers."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(classes, (n,), generator=generator)  # [n]
    return labels.masked_fill(torch.rand(n, generator=generator) < 0.05, -1)


def members(labels: Sequence[int]) -> list[list[int]]:
    """The images of each class."""
    images = defaultdict(list)
    for image, label in enumerate(labels):
        if label >= 0:
            images[label].append(image)
    return list(images.values())


def loop_random(labels: Sequence[int]) -> list[int]:
    """Random sampling, plainly."""
    images = [image for image, label in enumerate(labels) if label >= 0]
    random.shuffle(images)
    return images


def loop_group(labels: Sequence[int], n: int) -> list[int]:
    """Group sampling, plainly."""
    groups = []
    for images in members(labels):
        random.shuffle(images)
        # N distinct images each, the last of a class fewer
        groups += [images[i : i + n] for i in range(0, len(images), n)]
    random.shuffle(groups)
    return [image for group in groups for image in group]


def loop_triplet(labels: Sequence[int], k: int) -> list[int]:
    """Triplet sampling, plainly."""
    classes = members(labels)
    random.shuffle(classes)
    flat = []
    for images in classes:
        random.shuffle(images)
        # K images; a class with fewer is repeated whole first
        flat += (images * (k // len(images) + 1))[:k]
    return flat


def public_triplet(labels: Tensor, k: int) -> list[int]:
    """pytorch-metric-learning's K of each class for one pass."""
    from pytorch_metric_learning.samplers import MPerClassSampler

    inliers = labels[labels >= 0]
    # One pass: K of every class.
    length = k * len(inliers.unique())
    return list(MPerClassSampler(inliers, k, length_before_new_iter=length))


def cases(labels: Tensor, k: int) -> list[Case]:
    """Each loop, then what is compared with it."""
    cameras = torch.randint(8, labels.shape, generator=torch.Generator().manual_seed(1))
    carry: Options = {"partial_group": "carry"}
    pad: Options = {"partial_group": "pad"}
    return [
        Case("triplet, plain loop", lambda: loop_triplet(labels.tolist(), k)),
        Case("triplet, MPerClassSampler", lambda: public_triplet(labels, k)),
        Case("triplet", lambda: list(TripletSampler(labels, k, batch_size=BATCH))),
        Case("triplet, whole K=12 in 32", lambda: list(TripletSampler(labels, 12, **carry))),
        Case("triplet, K=12 padded to 32", lambda: list(TripletSampler(labels, 12, **pad))),
        Case("triplet as CAP", lambda: list(reference("cap", labels, size=k, batch_size=BATCH))),
        Case("triplet as SpCL", lambda: list(reference("spcl", labels, cameras, size=k))),
        Case("group, plain loop", lambda: loop_group(labels.tolist(), k)),
        Case("group", lambda: list(GroupSampler(labels, k))),
        Case("group, whole N=12 in 32", lambda: list(GroupSampler(labels, 12, **carry))),
        Case("group, N=12 padded to 32", lambda: list(GroupSampler(labels, 12, **pad))),
        Case("random, plain loop", lambda: loop_random(labels.tolist())),
        Case("random", lambda: list(RandomSampler(labels))),
    ]


def profile(images: Sequence[int], labels: Sequence[int]) -> Counter[tuple[int, int]]:
    """How many images of each class were drawn how often."""
    return Counter((labels[image], times) for image, times in Counter(images).items())


def agreement(labels: Tensor, k: int) -> dict[str, bool]:
    """Whether a pass of ours and of the loop draws as many images of each class, each as often."""
    plain = labels.tolist()
    pairs = {
        "triplet": (TripletSampler(labels, k, batch_size=BATCH, drop_last=False), loop_triplet(plain, k)),
        "group": (GroupSampler(labels, k, drop_last=False), loop_group(plain, k)),
        "random": (RandomSampler(labels, drop_last=False), loop_random(plain)),
    }
    return {name: profile(list(ours), plain) == profile(loop, plain) for name, (ours, loop) in pairs.items()}


def main() -> int:
    """One table of all samplers."""
    options = timing.options(__doc__, rounds=5, n=1_000_000, classes=50_000, k=16)
    labels = data(options.n, options.classes)
    table = timing.compare(cases(labels, options.k), options)
    same = agreement(labels, options.k)
    checks = {
        "plain loop by triplet": round(table.ratio("triplet, plain loop", "triplet"), 1),
        "MPerClassSampler by triplet": round(table.ratio("triplet, MPerClassSampler", "triplet"), 1),
        "plain loop by group": round(table.ratio("group, plain loop", "group"), 1),
        "plain loop by random": round(table.ratio("random, plain loop", "random"), 1),
        "draws as many of each class as the loop": same,
    }
    size = f"{options.n:,} images, {options.classes:,} classes, K = N = {options.k}"
    return timing.show(f"One pass of a sampler, {size}", table, checks, options, agree=all(same.values()))


if __name__ == "__main__":
    sys.exit(main())
