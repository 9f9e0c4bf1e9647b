"""What all samplers of the study share: a pass is a list of groups in random order, cut into batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

from papers_lib import arrays
from papers_lib.arrays import Array, one_of, whole
from papers_lib.compute import exact
from papers_lib.errors import PapersError
from papers_lib.sampler_study.grouping import Groups, Segments, cut, fill, pack, ramp, segments, shuffled

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
        batch_size: images a batch.
        partial_group: what happens to a group that no longer fits. "straddle": the list is cut every
            `batch_size` images, wherever that is. "carry": a batch ends before it, so batches hold whole
            groups and may be shorter. "pad": as carry, then filled up to `batch_size` with further images
            of the batch's own classes: those that it does not hold yet, then repeats, evenly.
        outliers: "drop" leaves them out, "own_class" makes each a class of one image.
        shuffle_batches: batches in random order as well (without `drop_last` the last stays last).
        seed: with the epoch, decides everything.
        iterations: batches an epoch (for each replica). None: one pass.
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
        self._classes = segments(_with_outliers(label_tensor(labels), outliers))
        if not len(self._classes.counts):
            raise PapersError(
                "no class to sample from: every image is an outlier; "
                "cluster with a larger eps, or take outliers='own_class'"
            )
        self._drawn: tuple[list[Tensor], Tensor]
        self._drawn_for = -1  # no epoch yet

    def set_epoch(self, epoch: int) -> None:
        """Draw the batches of this epoch from now on."""
        self.epoch = whole("the epoch", epoch, 0)

    def batches(self) -> list[Tensor]:
        """The batches of the present epoch in order, each int64 [batch] on the CPU."""
        return list(self._present()[0])

    def __iter__(self) -> Iterator[int]:
        return iter(self._present()[1].tolist())

    def __len__(self) -> int:
        return len(self._present()[1])

    @exact()
    def _present(self) -> tuple[list[Tensor], Tensor]:
        """The batches of the present epoch, and the same in one list; drawn once."""
        if self._drawn_for != self.epoch:
            batches = self._deal(self._draw())
            self._drawn, self._drawn_for = (batches, torch.cat(batches)), self.epoch
        return self._drawn

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
        if self.partial_group == "straddle":
            lengths, room_for_more = cut(len(images), self.batch_size), 1
        else:
            taken, room_for_more = pack(groups.sizes, self.batch_size), self.group
            batch = torch.arange(len(taken)).repeat_interleave(taken)
            lengths = torch.zeros_like(taken).index_add_(0, batch, groups.sizes)
        keep = len(lengths) - int(self.drop_last and lengths[-1] + room_for_more <= self.batch_size)
        if self.partial_group == "pad":
            room = self.batch_size - lengths
            room[keep:] = 0
            more, to = fill(walks, groups, images, batch, room, generator)
            batch = torch.cat([batch.repeat_interleave(groups.sizes), to])
            images, lengths = torch.cat([images, more])[batch.argsort(stable=True)], lengths + room
        batches = list(images.split(lengths.tolist()))[:keep]
        return self._mixed(batches, generator) if self.shuffle_batches else batches

    def _mixed(self, batches: list[Tensor], generator: torch.Generator) -> list[Tensor]:
        """Batches in random order; one that may be short stays last, or a flat list would be out of step."""
        order = torch.randperm(len(batches) - (not self.drop_last), generator=generator).tolist()
        return [batches[i] for i in order] + batches[len(order) :]

    def _draw(self) -> list[Tensor]:
        """The batches of the present epoch, of all replicas."""
        state = np.random.SeedSequence([self.seed, self.epoch]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0]))
        batches = self._pass(generator)
        if not batches:
            images, classes = int(self._groups().sizes.sum()), count_classes(len(self._classes.counts))
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
        if self.replicas > 1 and self.partial_group == "straddle":
            batches = [self._filled(batch, batches[0]) for batch in batches]
        rounds = -(-len(batches) // self.replicas)
        return [batches[(i * self.replicas + self.rank) % len(batches)] for i in range(rounds)]

    def _filled(self, batch: Tensor, first: Tensor) -> Tensor:
        return torch.cat([batch, first[torch.arange(self.batch_size - len(batch)) % len(first)]])


class Batches(Sampler[list[int]]):
    """The batches of a sampler's present epoch as lists, for `DataLoader(batch_sampler=...)`."""

    def __init__(self, sampler: GroupedSampler) -> None:
        super().__init__()
        self.sampler = sampler

    def __iter__(self) -> Iterator[list[int]]:
        return (batch.tolist() for batch in self.sampler.batches())

    def __len__(self) -> int:
        return len(self.sampler.batches())


def label_tensor(labels: Labels, name: str = "labels") -> Tensor:
    """Labels as int64 [N] on the CPU: integers from −1, which is an outlier.

    Raises:
        PapersError: they are no such list.
    """
    return arrays.integers(name, labels, least=-1).cpu()


def count_classes(number: int) -> str:
    """ "1 class", "2 classes"."""
    return f"{number} {'class' if number == 1 else 'classes'}"


def _with_outliers(labels: Tensor, outliers: str) -> Tensor:
    """Labels with each outlier as a class of its own, after the others, where asked for."""
    alone = labels < 0
    if outliers == "drop" or not alone.any():
        return labels
    return labels.masked_scatter(alone, int(labels.max()) + 1 + torch.arange(int(alone.sum())))
