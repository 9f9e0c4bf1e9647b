"""Lists of lists without loops: members of classes, groups of them, and batches that hold whole groups.

A list of lists is stored flat, with the size of each part beside it. Nothing here visits images or
classes one by one.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Segments(NamedTuple):
    """The images of each class, one class after the other: class c is `images[starts[c]:][:counts[c]]`."""

    images: Tensor  # [L]
    starts: Tensor  # [C]
    counts: Tensor  # [C]

    def at(self, segment: Tensor, position: Tensor) -> Tensor:
        """Images by class and position, going round when a class is through."""
        return self.images[self.starts[segment] + position % self.counts[segment]]


class Groups(NamedTuple):
    """Group g is `sizes[g]` images of class `segments[g]`, from place `offsets[g]` of its list on."""

    segments: Tensor  # [G]
    offsets: Tensor  # [G]
    sizes: Tensor  # [G]


def segments(labels: Tensor) -> Segments:
    """The images of each class by ascending label, in order; negative labels are left out."""
    inliers = (labels >= 0).nonzero().flatten()
    order = labels[inliers].argsort(stable=True)
    counts = labels[inliers][order].unique_consecutive(return_counts=True)[1]
    return Segments(inliers[order], counts.cumsum(0) - counts, counts)


def repeated(parts: Segments, times: Tensor) -> Segments:
    """Each class's list `times[c]` times over: its images stand side by side with their copies."""
    images = parts.images.repeat_interleave(times.repeat_interleave(parts.counts))
    counts = parts.counts * times
    return Segments(images, counts.cumsum(0) - counts, counts)


def ramp(sizes: Tensor) -> Tensor:
    """0 … size−1 for each size, one after the other."""
    ends = sizes.cumsum(0)
    return torch.arange(int(sizes.sum())) - (ends - sizes).repeat_interleave(sizes)


def shuffled(parts: Segments, generator: torch.Generator) -> Segments:
    """The same classes, the images of each in random order."""
    owner = torch.arange(len(parts.counts)).repeat_interleave(parts.counts)
    key = torch.rand(len(owner), dtype=torch.float64, generator=generator) + owner
    return parts._replace(images=parts.images[key.argsort()])


def other_cameras_first(parts: Segments, cameras: Tensor) -> tuple[Segments, Tensor]:
    """Each class as: its first image (the anchor), those of other cameras, the rest; order kept otherwise.

    Returns:
        the reordered classes, and how many images of another camera than the anchor's each has [C].
    """
    owner = torch.arange(len(parts.counts)).repeat_interleave(parts.counts)
    seen = cameras[parts.images]
    other = seen != seen[parts.starts][owner]
    rank = torch.where(other, 1, 2)
    rank[parts.starts] = 0
    order = (owner * 3 + rank).argsort(stable=True)
    others = torch.zeros(len(parts.counts), dtype=torch.long).index_add_(0, owner, other.long())
    return parts._replace(images=parts.images[order]), others


def cut(total: int, size: int) -> Tensor:
    """Lengths of the pieces when `total` images are cut every `size`: the last may be shorter."""
    lengths = torch.full((total // size,), size)
    return torch.cat([lengths, torch.tensor([total % size])]) if total % size else lengths


def pack(sizes: Tensor, capacity: int) -> Tensor:
    """How many groups each batch takes, in order: a batch ends where the next group no longer fits."""
    ends = sizes.cumsum(0)
    after = torch.searchsorted(ends, ends - sizes + capacity, right=True).tolist()
    firsts = [0]
    while after[firsts[-1]] < len(after):  # one step a batch
        firsts.append(after[firsts[-1]])
    return torch.tensor([*firsts, len(after)]).diff()


def occurrence(keys: Tensor) -> Tensor:
    """How often the same key stood before, at each place."""
    order = keys.argsort(stable=True)
    counts = keys[order].unique_consecutive(return_counts=True)[1]
    return torch.empty_like(keys).scatter_(0, order, ramp(counts))


def fill(
    parts: Segments, groups: Groups, images: Tensor, batch: Tensor, room: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Further images of each batch's own classes: those that it does not hold yet, then repeats, evenly.

    Args:
        parts: the images of each class, in the order of this pass.
        groups: the groups, G of them.
        images: those of the groups, one group after the other [M].
        batch: the batch of each group [G].
        room: images that each batch lacks [batches].
        generator: decides which class gives one more where the room does not divide.

    Returns:
        images and the batch of each: `room[b]` of them for batch b.
    """
    classes, width = len(parts.counts), int(parts.images.max()) + 1
    # A pair is a class in a batch. It offers what it holds and `room` more, walking round its class ...
    pairs, pair = (batch * classes + groups.segments).unique(return_inverse=True)
    held = torch.zeros_like(pairs).index_add_(0, pair, groups.sizes)
    start = torch.zeros_like(pairs).scatter_reduce_(0, pair, groups.offsets + groups.sizes, "amax")
    walk = held + room[pairs // classes]
    owner = torch.arange(len(pairs)).repeat_interleave(walk)
    offered = parts.at(pairs[owner] % classes, start[owner] + ramp(walk))
    # ... less what it holds, as often as it holds it.
    key = owner * width + offered
    again = occurrence(key)
    own = pair.repeat_interleave(groups.sizes) * width + images
    left = ~torch.isin(key * len(key) + again, own * len(key) + occurrence(own))
    offered, again, owner = offered[left], again[left], owner[left]
    # New images before repeats, one from each class before a second from any.
    order = torch.randperm(len(owner), generator=generator)
    for by in (occurrence(owner), again, pairs[owner] // classes):
        order = order[by[order].argsort(stable=True)]
    to = (pairs[owner] // classes)[order]
    kept = occurrence(to) < room[to]
    return offered[order][kept], to[kept]
