"""The sampler that a run's settings name, over the groups of an epoch."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from papers_lib.sampler_study.grouped_sampler import GroupedSampler
from papers_lib.sampler_study.learners import Groups
from papers_lib.sampler_study.options import TrainSettings
from papers_lib.sampler_study.reference_samplers import reference
from papers_lib.sampler_study.samplers import GroupSampler, RandomSampler, TripletSampler

STREAMS = ("random", "triplet_cluster", "triplet_proxy", "group_cluster", "group_proxy", "spcl", "mmcl")


def sampler(settings: TrainSettings, groups: Groups, epoch: int) -> GroupedSampler:
    """The sampler of one epoch; its seed differs by method, so that equal rules draw independently.

    Raises:
        PapersError: no batch can be made of these groups.
    """
    s = settings
    by_proxy = s.method in ("triplet_proxy", "group_proxy")
    labels = (groups.proxies if by_proxy else groups.clusters).cpu()
    common = _common(s, labels)
    made: GroupedSampler
    if s.method == "spcl":
        made = reference("spcl", labels, groups.cameras.cpu(), size=s.k, **common)
    elif s.method.startswith("triplet"):
        cameras = groups.cameras.cpu() if s.prefer_other_cameras else None
        made = TripletSampler(
            labels, s.k, s.p or None, partial_group=s.partial_group, repeat=s.repeat, cameras=cameras,
            prefer_other_cameras=s.prefer_other_cameras, groups_per_class=s.groups_per_class, **common,
        )  # fmt: skip
    elif s.method.startswith("group"):
        made = GroupSampler(labels, s.k, partial_group=s.partial_group, **common)
    else:
        made = RandomSampler(labels, **common)
    made.set_epoch(epoch)
    return made


def _common(s: TrainSettings, labels: Tensor) -> dict[str, Any]:
    inliers = int((labels >= 0).sum())
    return {
        "batch_size": s.batch_size,
        "iterations": s.iters_per_epoch or max(1, inliers // s.batch_size),
        "shuffle_batches": s.shuffle_batches,
        "seed": s.seed * len(STREAMS) + STREAMS.index(s.method),
    }
