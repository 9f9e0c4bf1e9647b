"""The paper's samplers (Section III), as `torch.utils.data.Sampler`s over pseudo-labels.

    sampler = TripletSampler(labels, k=4, p=8)
    loader = DataLoader(dataset, batch_sampler=sampler.batch_sampler)    # always right
    loader = DataLoader(dataset, sampler=sampler, batch_size=sampler.batch_size)    # equal batches only
    for epoch in range(50):
        sampler.set_epoch(epoch)    # the same epoch and seed give the same batches
        for batch in loader: ...

The second form cuts the flat list again, so it needs batches of one length: any sampler that drops the last
batch, except a `GroupSampler` that carries groups over. Classes are whatever the labels say: clusters or
camera-aware proxies. An image with label −1 is an outlier. The semantics of public code bases are in
`reference_samplers`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, TypedDict, Unpack

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from papers_lib import arrays
from papers_lib.arrays import Array, one_of, whole
from papers_lib.compute import exact
from papers_lib.errors import PapersError
from papers_lib.sampler_study.grouping import (
    Groups,
    Segments,
    fill,
    other_cameras_first,
    pack,
    ramp,
    segments,
    shuffled,
    with_copies,
)

Labels = Array  # [N] integers, −1 for outliers
PartialGroup = Literal["straddle", "carry", "pad"]


class Options(TypedDict, total=False):
    """What all samplers take, by keyword; `GroupedSampler` says what each means."""

    partial_group: PartialGroup
    outliers: Literal["drop", "own_class"]
    shuffle_batches: bool
    seed: int
    iterations: int | None
    on_exhausted: Literal["reshuffle", "stop"]
    drop_last: bool
    rank: int
    replicas: int


class GroupedSampler(Sampler[int]):
    """A pass is a list of groups in random order, cut into batches: what all samplers share.

    Iterating gives the image indices of the present epoch, `batches()` the same as one tensor a batch.
    `len()` is the exact number of indices of the present epoch, before and after iterating.

    Args:
        labels: class of each image [N], −1 for outliers.
        group: images of a full group.
        batch_size: images per batch.
        partial_group: what happens to a group that no longer fits. "straddle": the list is cut every
            `batch_size` images, wherever that is. "carry": a batch ends before it, so batches hold whole
            groups and may be shorter. "pad": as carry, then filled up to `batch_size` with further images
            of the batch's own classes: those that it does not hold yet, then repeats, evenly.
        outliers: "drop" leaves them out, "own_class" makes each a class of one image.
        shuffle_batches: batches in random order as well (without `drop_last` the last stays last).
        seed: with the epoch, decides everything.
        iterations: batches per epoch (for each replica). None: one pass.
        on_exhausted: when a pass is through before `iterations`, a new pass or the end of the epoch.
        drop_last: leave out a pass's last batch if it has room: for one more image where groups straddle,
            for a group where they do not.
        rank, replicas: of `replicas` processes this one takes every `replicas`-th batch, from `rank` on.
            All get as many batches: what does not divide is left out with `drop_last`; without, the list
            goes on with its own beginning (a short batch is filled with it first, where groups straddle).

    Raises:
        PapersError: no class, no batch in a pass, or a setting that cannot be.
    """

    @exact()
    def __init__(
        self,
        labels: Labels,
        group: int,
        batch_size: int,
        *,
        partial_group: PartialGroup = "straddle",
        outliers: Literal["drop", "own_class"] = "drop",
        shuffle_batches: bool = False,
        seed: int = 0,
        iterations: int | None = None,
        on_exhausted: Literal["reshuffle", "stop"] = "reshuffle",
        drop_last: bool = True,
        rank: int = 0,
        replicas: int = 1,
    ) -> None:
        super().__init__()
        one_of("partial_group", partial_group, ("straddle", "carry", "pad"))
        one_of("outliers", outliers, ("drop", "own_class"))
        one_of("on_exhausted", on_exhausted, ("reshuffle", "stop"))
        group, batch_size = whole("the images of a group", group), whole("batch_size", batch_size)
        iterations = iterations if iterations is None else whole("iterations", iterations)
        seed, rank, replicas = whole("seed", seed, 0), whole("rank", rank, 0), whole("replicas", replicas)
        if rank >= replicas:
            raise PapersError(f"rank {rank} of {replicas} replicas; ranks count from 0 to {replicas - 1}")
        if partial_group != "straddle" and group > batch_size:
            raise PapersError(
                f"a whole group of {group} does not fit in a batch of {batch_size}; "
                "take partial_group='straddle', smaller groups or larger batches"
            )
        self.group, self.batch_size = group, batch_size
        self.partial_group, self.shuffle_batches, self.drop_last = partial_group, shuffle_batches, drop_last
        self.seed, self.iterations, self.on_exhausted = seed, iterations, on_exhausted
        self.rank, self.replicas, self.epoch = rank, replicas, 0
        known = label_tensor(labels)
        alone = known < 0
        if outliers == "own_class" and alone.any():  # numbered after the others
            known = known.masked_scatter(alone, int(known.max()) + 1 + torch.arange(int(alone.sum())))
        self._classes = segments(known)
        if not len(self._classes.counts):
            raise PapersError(
                "no class to sample from: every image is an outlier; "
                "cluster with a larger eps, or take outliers='own_class'"
            )
        self._drawn: list[Tensor] = []  # the batches of epoch `_drawn_for`
        self._drawn_for = -1

    def set_epoch(self, epoch: int) -> None:
        """Draw the batches of this epoch from now on."""
        self.epoch = whole("the epoch", epoch, 0)

    @exact()
    def batches(self) -> list[Tensor]:
        """The batches of the present epoch in order, each int64 [batch] on the CPU."""
        if self._drawn_for != self.epoch:
            self._drawn, self._drawn_for = self._deal(self._draw()), self.epoch
        return list(self._drawn)

    def __iter__(self) -> Iterator[int]:
        return iter(torch.cat(self.batches()).tolist())

    def __len__(self) -> int:
        return sum(len(batch) for batch in self.batches())

    @property
    def batch_sampler(self) -> Batches:
        """For `DataLoader(batch_sampler=...)`: keeps batches of differing length as they are."""
        return Batches(self)

    # -- a pass; the samplers say what its groups are --

    def _groups(self) -> Groups:
        """The groups of a pass, not shuffled."""
        raise NotImplementedError

    def _walks(self, generator: torch.Generator) -> Segments:
        """The images of each class in the order in which the groups of a pass take them."""
        return shuffled(self._classes, generator)

    def _places(self, walks: Segments, groups: Groups, generator: torch.Generator) -> Tensor:
        """Where in its class's walk each image of the groups is; a walk goes round."""
        del walks, generator
        return groups.offsets.repeat_interleave(groups.sizes) + ramp(groups.sizes)

    def _order(self, groups: Groups, generator: torch.Generator) -> Tensor:
        """The order of the groups in a pass."""
        return torch.randperm(len(groups.sizes), generator=generator)

    def _list(self, generator: torch.Generator) -> tuple[Segments, Groups, Tensor]:
        """The walks, the groups in order, and the images of the groups one after the other."""
        walks, groups = self._walks(generator), self._groups()
        order = self._order(groups, generator)
        groups = Groups(*(part[order] for part in groups))
        owner = groups.segments.repeat_interleave(groups.sizes)
        return walks, groups, walks.at(owner, self._places(walks, groups, generator))

    def _pass(self, generator: torch.Generator) -> list[Tensor]:
        """One pass, cut into batches."""
        walks, groups, images = self._list(generator)
        # -- how long each batch is: a piece of the list, or whole groups --
        if self.partial_group == "straddle":
            full, left = divmod(len(images), self.batch_size)
            lengths, room_for_more = torch.tensor([self.batch_size] * full + [left] * (left > 0)), 1
        else:
            taken, room_for_more = pack(groups.sizes, self.batch_size), self.group
            batch = torch.arange(len(taken)).repeat_interleave(taken)
            lengths = torch.zeros_like(taken).index_add_(0, batch, groups.sizes)
        keep = len(lengths) - int(self.drop_last and lengths[-1] + room_for_more <= self.batch_size)
        # -- padding: further images after those of the batch's groups --
        if self.partial_group == "pad":
            room = self.batch_size - lengths
            room[keep:] = 0
            more, to = fill(walks, groups, images, batch, room, generator)
            batch = torch.cat([batch.repeat_interleave(groups.sizes), to])
            images, lengths = torch.cat([images, more])[batch.argsort(stable=True)], lengths + room
        batches = list(images.split(lengths.tolist()))[:keep]
        if not self.shuffle_batches:
            return batches
        # One that may be short stays last, or a flat list would be out of step.
        order = torch.randperm(len(batches) - (not self.drop_last), generator=generator).tolist()
        return [batches[i] for i in order] + batches[len(order) :]

    def _draw(self) -> list[Tensor]:
        """The batches of the present epoch, of all replicas."""
        state = np.random.SeedSequence([self.seed, self.epoch]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0]))
        batches = self._pass(generator)
        if not batches:
            images, classes = int(self._groups().sizes.sum()), _count(len(self._classes.counts))
            raise PapersError(
                f"a pass has less than one batch of {self.batch_size}: {images} images of {classes}; "
                "take smaller batches or drop_last=False"
            )
        if self.iterations is None:
            return batches
        wanted = self.iterations * self.replicas
        while len(batches) < wanted and self.on_exhausted == "reshuffle":
            batches += self._pass(generator)
        return batches[:wanted]

    def _deal(self, batches: list[Tensor]) -> list[Tensor]:
        """This rank's batches, as many as every other rank's."""
        if self.drop_last:
            if len(batches) < self.replicas:
                raise PapersError(
                    f"{self.replicas} replicas and {len(batches)} batches: some would have none; "
                    "take fewer replicas, smaller batches or drop_last=False"
                )
            return batches[self.rank : len(batches) - len(batches) % self.replicas : self.replicas]
        if self.replicas > 1 and self.partial_group == "straddle":  # a short batch goes on with the first
            first, full = batches[0], self.batch_size
            batches = [torch.cat([b, first[torch.arange(full - len(b)) % len(first)]]) for b in batches]
        rounds = -(-len(batches) // self.replicas)
        return [batches[(i * self.replicas + self.rank) % len(batches)] for i in range(rounds)]


class Batches(Sampler[list[int]]):
    """The batches of a sampler's present epoch as lists, for `DataLoader(batch_sampler=...)`."""

    def __init__(self, sampler: GroupedSampler) -> None:
        super().__init__()
        self.sampler = sampler

    def __iter__(self) -> Iterator[list[int]]:
        return (batch.tolist() for batch in self.sampler.batches())

    def __len__(self) -> int:
        return len(self.sampler.batches())


class GroupSampler(GroupedSampler):
    """Group sampling: every cluster in random order is cut into groups of N, all groups are shuffled.

    Han et al., "Rethinking sampling strategies for unsupervised person re-identification" (TIP 2023), as
    the paper uses it: what a cluster leaves over is a smaller group. Each inlier comes once a pass, so a
    pass is the number of inliers long, less what `drop_last` and `partial_group` take or add.

    `n` is the number of images of a group; `options` as for `GroupedSampler`.
    """

    def __init__(self, labels: Labels, n: int, *, batch_size: int = 32, **options: Unpack[Options]) -> None:
        super().__init__(labels, n, batch_size, **options)

    def _groups(self) -> Groups:
        counts = self._classes.counts  # [C]
        pieces = (counts + self.group - 1) // self.group  # ⌈size / N⌉ of each class
        classes = torch.arange(len(counts)).repeat_interleave(pieces)
        offsets = ramp(pieces) * self.group
        return Groups(classes, offsets, (counts[classes] - offsets).clamp(max=self.group))


class RandomSampler(GroupSampler):
    """Random sampling: all inliers shuffled. It is group sampling with N = 1, and draws the same batches.

    The labels [N] only tell inliers from outliers (−1); `options` as for `GroupedSampler`.
    """

    def __init__(self, labels: Labels, *, batch_size: int = 32, **options: Unpack[Options]) -> None:
        super().__init__(labels, 1, batch_size=batch_size, **options)


class TripletSampler(GroupedSampler):
    """Triplet sampling: K images of each class, the classes in random order, B = P·K.

    A pass has C·K images for C classes (times `groups_per_class`): of a class with more than K images the
    rest is not drawn. Without `p`, P is what `batch_size` leaves: with "straddle" a class may lie in two
    batches, with "carry" a batch is ⌊B/K⌋·K images.

    Args:
        labels: class of each image [N], cluster or camera-aware proxy, −1 for outliers.
        k: images of a class.
        p: classes of a batch; None leaves it open.
        batch_size: images per batch; by default p·k, or 32 without p.
        cameras: of each image [N], for `prefer_other_cameras`.
        repeat: of a class with fewer than K images, "distinct_first" takes each once before any twice, and
            so on evenly; "cap" shuffles K copies of the list and takes the first K, as CAP's code does.
        prefer_other_cameras: after a random first image, those that another camera took.
        groups_per_class: groups of K of a class in a pass, together distinct first too; one where other
            cameras are preferred.
        options: see `GroupedSampler`, which says what is raised too.

    Raises:
        PapersError: P·K is not the batch size, there are fewer classes than P, or cameras are missing.
    """

    def __init__(
        self,
        labels: Labels,
        k: int,
        p: int | None = None,
        *,
        batch_size: int | None = None,
        cameras: Labels | None = None,
        repeat: Literal["distinct_first", "cap"] = "distinct_first",
        prefer_other_cameras: bool = False,
        groups_per_class: int = 1,
        **options: Unpack[Options],
    ) -> None:
        one_of("repeat", repeat, ("distinct_first", "cap"))
        k, p = whole("k", k), p if p is None else whole("p", p)
        if batch_size is None:
            batch_size = 32 if p is None else p * k
        if p is not None and p * k != batch_size:
            raise PapersError(f"P·K = {p}·{k} is not the batch size {batch_size}; leave out p or batch_size")
        groups_per_class = whole("groups_per_class", groups_per_class)
        if prefer_other_cameras and groups_per_class > 1:
            raise PapersError(f"groups_per_class is {groups_per_class}; prefer_other_cameras takes 1")
        super().__init__(labels, k, batch_size, **options)
        self.k, self.repeat, self.groups_per_class = k, repeat, groups_per_class
        if self.partial_group == "carry":
            self.batch_size = batch_size // k * k
        classes = len(self._classes.counts)
        if classes < (min(2, batch_size // k) if p is None else p):
            raise PapersError(
                f"{_count(classes)}, and a batch of {self.batch_size} takes "
                f"{self.batch_size // k} with K = {k}; cluster finer, or take a larger K"
            )
        self._cameras: Tensor | None = None
        if prefer_other_cameras:
            images = len(label_tensor(labels))
            if cameras is None:
                raise PapersError(
                    f"prefer_other_cameras needs the camera of each of {images} images; got none"
                )
            self._cameras = arrays.integers("cameras", cameras, images).cpu()

    def _groups(self) -> Groups:
        many, classes = self.groups_per_class, len(self._classes.counts)
        owners = torch.arange(classes).repeat_interleave(many)
        return Groups(owners, torch.arange(many).repeat(classes) * self.k, torch.full_like(owners, self.k))

    def _walks(self, generator: torch.Generator) -> Segments:
        cap = self.repeat == "cap"
        lists = with_copies(self._classes, self.k, generator) if cap else self._classes
        lists = shuffled(lists, generator)
        return lists if self._cameras is None else other_cameras_first(lists, self._cameras)


@exact()
def visits(batches: Sequence[Array], labels: Labels) -> dict[str, float]:
    """What the batches of an epoch saw: for the log.

    Args:
        batches: image indices [batch] of each batch.
        labels: class of each image [N]; an outlier (−1) that was drawn is a class of its own in its batch.

    Returns:
        distinct_images, distinct_classes: of a batch, mean; images_per_class: how many, repeats counted, it
        has of each of its classes, mean; classes_visited, images_drawn: shares of all classes and of all
        inliers that were drawn at least once; steps: batches.

    Raises:
        PapersError: no batch, or one with what is no image.
    """
    known = label_tensor(labels)
    drawn = [arrays.integers("a batch", batch, least=0, below=len(known)).cpu() for batch in batches]
    if not drawn:
        raise PapersError("there is no batch to look at; give one or more")
    lengths, images = torch.tensor([len(batch) for batch in drawn]), torch.cat(drawn)
    batch = torch.arange(len(lengths)).repeat_interleave(lengths)  # of each image drawn
    # Batch and image, or batch and class, as one number; an outlier is a class of its own.
    size = 2 * len(known)
    number = known.unique(return_inverse=True)[1]
    classes = torch.where(known < 0, len(known) + torch.arange(len(known)), number)
    inliers = images[known[images] >= 0]
    held = len((batch * size + classes[images]).unique())  # classes of all batches
    return {
        "steps": float(len(batches)),
        "distinct_images": len((batch * size + images).unique()) / len(batches),
        "distinct_classes": held / len(batches),
        "images_per_class": len(images) / held,
        "classes_visited": len(known[inliers].unique()) / max(1, len(known[known >= 0].unique())),
        "images_drawn": len(inliers.unique()) / max(1, int((known >= 0).sum())),
    }


def label_tensor(labels: Labels) -> Tensor:
    """Labels as int64 [N] on the CPU: integers from −1, which is an outlier."""
    return arrays.integers("labels", labels, least=-1).cpu()


def _count(number: int) -> str:
    return f"{number} {'class' if number == 1 else 'classes'}"
