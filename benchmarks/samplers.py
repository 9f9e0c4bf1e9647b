"""A pass of the samplers against plain Python loops and pytorch-metric-learning's MPerClassSampler.

    python -m benchmarks.samplers [--n 1000000 --classes 50000 --k 16 --rounds 5 --json]

Each candidate makes the sampler from the labels and lists all indices of one pass, as a new clustering
asks for every epoch. Labels are random, so class sizes vary about n / classes; 5 % are outliers. The loops
are written as one would write them down first, with the same rules: distinct images before repeats.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.timing import Candidate, Line, interleave, show
from papers_lib.sampler_study.reference_samplers import reference
from papers_lib.sampler_study.samplers import GroupSampler, Options, RandomSampler, TripletSampler

BATCH = 32


def data(n: int, classes: int) -> Tensor:
    """Labels [n] with 5 % outliers."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(classes, (n,), generator=generator)
    return labels.masked_fill(torch.rand(n, generator=generator) < 0.05, -1)


def members(labels: Sequence[int]) -> list[list[int]]:
    """The images of each class."""
    found = defaultdict(list)
    for image, label in enumerate(labels):
        if label >= 0:
            found[label].append(image)
    return list(found.values())


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
        flat += (images * (k // len(images) + 1))[:k]
    return flat


def public_triplet(labels: Tensor, k: int) -> list[int]:
    """pytorch-metric-learning's K of each class for one pass."""
    from pytorch_metric_learning.samplers import MPerClassSampler

    inliers = labels[labels >= 0]
    length = k * len(inliers.unique())
    return list(MPerClassSampler(inliers, k, length_before_new_iter=length))


def candidates(labels: Tensor, k: int) -> list[Candidate]:
    """What is timed: each loop, then what is compared with it."""
    cameras = torch.randint(8, labels.shape, generator=torch.Generator().manual_seed(1))
    carry: Options = {"partial_group": "carry"}
    pad: Options = {"partial_group": "pad"}
    return [
        Candidate("triplet, plain loop", lambda: loop_triplet(labels.tolist(), k)),
        Candidate("triplet, MPerClassSampler", lambda: public_triplet(labels, k)),
        Candidate("triplet", lambda: list(TripletSampler(labels, k, batch_size=BATCH))),
        Candidate("triplet, whole K=12 in 32", lambda: list(TripletSampler(labels, 12, **carry))),
        Candidate("triplet, K=12 padded to 32", lambda: list(TripletSampler(labels, 12, **pad))),
        Candidate("triplet as CAP", lambda: list(reference("cap", labels, size=k, batch_size=BATCH))),
        Candidate("triplet as SpCL", lambda: list(reference("spcl", labels, cameras, size=k))),
        Candidate("group, plain loop", lambda: loop_group(labels.tolist(), k)),
        Candidate("group", lambda: list(GroupSampler(labels, k))),
        Candidate("group, whole N=12 in 32", lambda: list(GroupSampler(labels, 12, **carry))),
        Candidate("group, N=12 padded to 32", lambda: list(GroupSampler(labels, 12, **pad))),
        Candidate("random, plain loop", lambda: loop_random(labels.tolist())),
        Candidate("random", lambda: list(RandomSampler(labels))),
    ]


def quicker(lines: list[Line], slow: str, fast: str) -> float:
    """How many times as long the slow one takes: the median over rounds."""
    of = {line.name: line.seconds for line in lines}
    return round(statistics.median(a / b for a, b in zip(of[slow], of[fast], strict=True)), 1)


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


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--classes", type=int, default=50_000)
    parser.add_argument("--k", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    labels = data(options.n, options.classes)
    lines = interleave(candidates(labels, options.k), options.rounds)
    checks = {
        "plain loop by triplet": quicker(lines, "triplet, plain loop", "triplet"),
        "MPerClassSampler by triplet": quicker(lines, "triplet, MPerClassSampler", "triplet"),
        "plain loop by group": quicker(lines, "group, plain loop", "group"),
        "plain loop by random": quicker(lines, "random, plain loop", "random"),
        "draws as many of each class as the loop": agreement(labels, options.k),
    }
    title = f"One pass of a sampler, {options.n:,} images, {options.classes:,} classes, K = N = {options.k}"
    show(title, lines, checks, options.json)


if __name__ == "__main__":
    main()
