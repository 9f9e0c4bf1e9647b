"""The samplers of four public code bases, as they draw: to reproduce them, not to build on.

cap, Terminator8758/CAP-master: K = 4 of a proxy, B = 32. A class of 2 gives one image alone in 2/70 of its
groups, one of 3 gives two images in 204/495 and one in 3/495.

spcl, yxgeee/SpCL: an anchor and 3 of other cameras (of its own where there is no other), B = 64; outliers
are classes. It draws with repetition unless K (not K − 1) candidates are there; a class of one gives one
image, so later classes lie across batches.

cluster_contrast, alibaba/cluster-contrast-reid: as spcl with K = 16, B = 256; outliers dropped.

group_sampling, ucas-vg/GroupSampling: groups of N = 256, B = 64; outliers are classes. Classes of one come
last, then the list's batches are shuffled with the short one among them, so all after it are cut out of step.

All cut the flat list every B images and drop the last batch. They differ from the code in what decides no
batch: `len()` is exact, and a seed decides the draw. Iterations per epoch are 400 in SpCL and GroupSampling
(800 on MSMT17) and 200 or 400 in Cluster-Contrast, one pass in CAP: see `iterations`.
"""

from __future__ import annotations

from typing import Literal, Unpack, get_args

import torch
from torch import Tensor

from papers_lib.arrays import one_of
from papers_lib.errors import PapersError
from papers_lib.sampler_study.grouping import Groups, Segments, by_other_camera, ramp
from papers_lib.sampler_study.samplers import (
    GroupedSampler,
    GroupSampler,
    Labels,
    Options,
    TripletSampler,
)

Reference = Literal["cap", "spcl", "cluster_contrast", "group_sampling"]
SIZES = {"cap": (4, 32), "spcl": (4, 64), "cluster_contrast": (16, 256), "group_sampling": (256, 64)}


class GallerySampler(TripletSampler):
    """RandomMultipleGallerySampler of SpCL and Cluster-Contrast: an anchor, then K − 1 of other cameras."""

    def _groups(self) -> Groups:
        groups = super()._groups()
        return groups._replace(sizes=groups.sizes.masked_fill(self._classes.counts == 1, 1))

    def _places(self, walks: Segments, groups: Groups, generator: torch.Generator) -> Tensor:
        assert self._cameras is not None
        owner = torch.arange(len(walks.counts)).repeat_interleave(walks.counts)
        others = torch.zeros_like(walks.counts).index_add_(
            0, owner, by_other_camera(walks, self._cameras).long()
        )
        candidates = torch.where(others > 0, others, walks.counts - 1)[groups.segments]
        turn = ramp(groups.sizes)
        candidates = candidates.repeat_interleave(groups.sizes)
        drawn = 1 + (torch.rand(len(turn), dtype=torch.float64, generator=generator) * candidates).long()
        return torch.where((turn == 0) | (candidates >= self.k), turn, drawn)


class ShiftedGroupSampler(GroupSampler):
    """GroupSampler of GroupSampling: classes of one last, and the shuffled batches cut once more."""

    def _order(self, groups: Groups, generator: torch.Generator) -> Tensor:
        order = super()._order(groups, generator)
        alone = self._classes.counts[groups.segments[order]] == 1
        return order[alone.int().argsort(stable=True)]

    def _pass(self, generator: torch.Generator) -> list[Tensor]:
        pieces = self._list(generator)[2].split(self.batch_size)
        order = torch.randperm(len(pieces), generator=generator).tolist()
        batches = list(torch.cat([pieces[i] for i in order]).split(self.batch_size))
        short = self.drop_last and len(batches[-1]) < self.batch_size
        return batches[: len(batches) - short]


def reference(
    name: Reference,
    labels: Labels,
    cameras: Labels | None = None,
    *,
    size: int | None = None,
    batch_size: int | None = None,
    **options: Unpack[Options],
) -> GroupedSampler:
    """A public code base's sampler.

    Args:
        name: see above.
        labels: class of each image [N], −1 for outliers: of its proxy for cap, of its cluster for the rest.
        cameras: of each image [N]; needed by spcl and cluster_contrast.
        size: K, or N of group_sampling; by default the code's.
        batch_size: by default the code's.
        options: see `GroupedSampler`; batches straddle groups in all four.

    Raises:
        PapersError: as the samplers do.
    """
    one_of("the reference", name, get_args(Reference))
    if options.get("partial_group", "straddle") != "straddle":
        raise PapersError(f"{name} cuts its list wherever a batch ends; leave out partial_group")
    size, batch = size or SIZES[name][0], batch_size or SIZES[name][1]
    if name == "cap":
        return TripletSampler(labels, size, batch_size=batch, repeat="cap", **options)
    if name != "cluster_contrast":
        options = {"outliers": "own_class", **options}
    if name == "group_sampling":
        return ShiftedGroupSampler(labels, size, batch_size=batch, **options)
    return GallerySampler(
        labels, size, batch_size=batch, cameras=cameras, prefer_other_cameras=True, **options
    )
