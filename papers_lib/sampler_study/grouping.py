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
    known = labels[inliers]
    if len(known) and int(known.max()) < 2**31:
        known = known.int()  # sorts three times as fast
    order = known.argsort(stable=True)
    counts = known[order].unique_consecutive(return_counts=True)[1]
    return Segments(inliers[order], counts.cumsum(0) - counts, counts)


def with_copies(parts: Segments, k: int, generator: torch.Generator) -> Segments:
    """Each class smaller than k as k draws without replacement from k copies of its list (CAP's rule)."""
    small = parts.counts < k
    counts = parts.counts[small, None]
    drawn = torch.empty(len(counts), k, dtype=torch.long)
    for j in range(k):  # Floyd's way to draw k of n·k: one more from a range that grows by one
        top = counts * k - k + j
        pick = (torch.rand(len(counts), 1, dtype=torch.float64, generator=generator) * (top + 1)).long()
        known = (drawn[:, :j] == pick).any(1, keepdim=True)
        drawn[:, j : j + 1] = torch.where(known, top, pick)
    sizes = parts.counts.masked_fill(small, k)
    images = torch.empty(int(sizes.sum()), dtype=torch.long)
    is_small = small.repeat_interleave(sizes)
    images[is_small] = parts.images[parts.starts[small, None] + drawn % counts].flatten()
    images[~is_small] = parts.images[~small.repeat_interleave(parts.counts)]
    return Segments(images, sizes.cumsum(0) - sizes, sizes)


def ramp(sizes: Tensor) -> Tensor:
    """0 … size−1 for each size, one after the other."""
    ends = sizes.cumsum(0)
    return torch.arange(int(sizes.sum())) - (ends - sizes).repeat_interleave(sizes)


def shuffled(parts: Segments, generator: torch.Generator) -> Segments:
    """The same classes, the images of each in random order."""
    order = torch.randperm(len(parts.images), generator=generator)
    owner = torch.arange(len(parts.counts), dtype=torch.int32).repeat_interleave(parts.counts)
    return parts._replace(images=parts.images[order[owner[order].argsort(stable=True)]])


def by_other_camera(parts: Segments, cameras: Tensor) -> Tensor:
    """Which images another camera took than the first image of their class, as parts lists them [L]."""
    seen = cameras[parts.images]
    return seen != seen[parts.starts].repeat_interleave(parts.counts)


def other_cameras_first(parts: Segments, cameras: Tensor) -> Segments:
    """Each class as: its first image (the anchor), those of other cameras, the rest; else in its order."""
    owner = torch.arange(len(parts.counts), dtype=torch.int32).repeat_interleave(parts.counts)
    rank = torch.where(by_other_camera(parts, cameras), 1, 2).int()
    rank[parts.starts] = 0
    return parts._replace(images=parts.images[(owner * 3 + rank).argsort(stable=True)])


def pack(sizes: Tensor, capacity: int) -> Tensor:
    """How many groups each batch takes, in order: a batch ends where the next group no longer fits."""
    ends = sizes.cumsum(0)
    after = torch.searchsorted(ends, ends - sizes + capacity, right=True).tolist()
    firsts = [0]
    while after[firsts[-1]] < len(after):  # one step per batch
        firsts.append(after[firsts[-1]])
    return torch.tensor([*firsts, len(after)]).diff()


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
    if not room.any():
        return images[:0], batch[:0]
    classes, width = len(parts.counts), int(parts.images.max()) + 1
    # A pair is a class in a batch. It offers what it holds and `room` more, walking round its class ...
    pairs, pair = (batch * classes + groups.segments).unique(return_inverse=True)
    held = torch.zeros_like(pairs).index_add_(0, pair, groups.sizes)
    start = torch.zeros_like(pairs).scatter_reduce_(0, pair, groups.offsets + groups.sizes, "amax")
    walk = held + room[pairs // classes]
    owner = torch.arange(len(pairs)).repeat_interleave(walk)
    offered = parts.at(pairs[owner] % classes, start[owner] + ramp(walk))
    # ... less what it holds, as often as it holds it.
    left, again = surplus(pair.repeat_interleave(groups.sizes) * width + images, owner * width + offered)
    offered, owner = offered[left], owner[left]
    # New images before repeats, one from each class before a second from any.
    to, turn = pairs[owner] // classes, ramp(owner.unique_consecutive(return_counts=True)[1])
    key = (to * (int(again.max()) + 1) + again) * (int(turn.max()) + 1) + turn
    order = torch.randperm(len(owner), generator=generator)
    order = order[key[order].argsort(stable=True)]
    to = to[order]
    kept = ramp(to.unique_consecutive(return_counts=True)[1]) < room[to]
    return offered[order][kept], to[kept]


def surplus(held: Tensor, offered: Tensor) -> tuple[Tensor, Tensor]:
    """What is left of `offered` when each item of `held` takes an equal one away, the first ones first.

    Returns:
        positions in `offered` of what is left, and how many equal ones were offered before each.
    """
    order = torch.cat([held, offered]).argsort(stable=True)  # of equal items the held stand first
    items = torch.cat([held, offered])[order]
    counts = items.unique_consecutive(return_counts=True)[1]
    run = torch.arange(len(counts)).repeat_interleave(counts)
    is_offered = order >= len(held)
    gone = torch.zeros_like(counts).index_add_(0, run, (~is_offered).long())[run]
    before = ramp(counts) - gone
    left = (is_offered & (before >= gone)).nonzero().flatten()
    positions, in_order = (order[left] - len(held)).sort()
    return positions, before[left][in_order]
