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

from collections.abc import Sequence
from typing import Literal, Unpack

import torch
from torch import Tensor

from papers_lib import arrays
from papers_lib.arrays import Array, one_of, whole
from papers_lib.compute import exact
from papers_lib.errors import PapersError
from papers_lib.sampler_study.grouped_sampler import (
    GroupedSampler,
    Labels,
    Options,
    count_classes,
    label_tensor,
)
from papers_lib.sampler_study.grouping import (
    Groups,
    Segments,
    other_cameras_first,
    ramp,
    shuffled,
    with_copies,
)


class GroupSampler(GroupedSampler):
    """Group sampling: every cluster in random order is cut into groups of N, all groups are shuffled.

    Han et al., "Rethinking sampling strategies for unsupervised person re-identification" (TIP 2023), as
    the paper uses it: what a cluster leaves over is a smaller group. Each inlier comes once a pass, so a
    pass is the number of inliers long, less what `drop_last` and `partial_group` take or add.

    Args:
        labels: class of each image [N], −1 for outliers.
        n: images of a group.
        batch_size: images a batch.
        options: see `GroupedSampler`, which says what is raised too.
    """

    def __init__(self, labels: Labels, n: int, *, batch_size: int = 32, **options: Unpack[Options]) -> None:
        super().__init__(labels, n, batch_size, **options)

    def _groups(self) -> Groups:
        counts = self._classes.counts
        each = (counts + self.group - 1) // self.group
        classes = torch.arange(len(counts)).repeat_interleave(each)
        offsets = ramp(each) * self.group
        return Groups(classes, offsets, (counts[classes] - offsets).clamp(max=self.group))


class RandomSampler(GroupSampler):
    """Random sampling: all inliers shuffled. It is group sampling with N = 1, and draws the same batches.

    Args:
        labels: only tell inliers from outliers (−1) [N].
        batch_size: images a batch.
        options: see `GroupedSampler`, which says what is raised too.
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
        batch_size: images a batch; by default p·k, or 32 without p.
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
        self._need_classes(min(2, batch_size // k) if p is None else p)
        self._cameras = self._cameras_of(cameras, len(label_tensor(labels))) if prefer_other_cameras else None

    def _need_classes(self, least: int) -> None:
        found = len(self._classes.counts)
        if found < least:
            raise PapersError(
                f"{count_classes(found)}, and a batch of {self.batch_size} takes "
                f"{self.batch_size // self.k} with K = {self.k}; cluster finer, or take a larger K"
            )

    @staticmethod
    def _cameras_of(cameras: Labels | None, images: int) -> Tensor:
        if cameras is None:
            raise PapersError(f"prefer_other_cameras needs the camera of each of {images} images; got none")
        return arrays.integers("cameras", cameras, images).cpu()

    def _groups(self) -> Groups:
        each, classes = self.groups_per_class, len(self._classes.counts)
        owners = torch.arange(classes).repeat_interleave(each)
        return Groups(owners, torch.arange(each).repeat(classes) * self.k, torch.full_like(owners, self.k))

    def _walks(self, generator: torch.Generator) -> Segments:
        parts = self._classes
        if self.repeat == "cap":
            parts = with_copies(parts, self.k, generator)
        parts = shuffled(parts, generator)
        return parts if self._cameras is None else other_cameras_first(parts, self._cameras)


@exact()
def visits(batches: Sequence[Array], labels: Labels) -> dict[str, float]:
    """What the batches of an epoch saw: for the log.

    Args:
        batches: image indices [batch] of each batch.
        labels: class of each image [N]; an outlier (−1) that was drawn is a class of its own in its batch.

    Returns:
        distinct_images, distinct_classes: of a batch, mean; classes_visited, images_drawn: shares of all
        classes and of all inliers that were drawn at least once.

    Raises:
        PapersError: no batch, or one with what is no image.
    """
    known = label_tensor(labels)
    drawn = [arrays.integers("a batch", batch, least=0, below=len(known)).cpu() for batch in batches]
    if not drawn:
        raise PapersError("there is no batch to look at; give one or more")
    lengths, images = torch.tensor([len(batch) for batch in drawn]), torch.cat(drawn)
    batch = torch.arange(len(lengths)).repeat_interleave(lengths)
    size = 2 * len(known)
    owner = known.unique(return_inverse=True)[1]
    classes = torch.where(known < 0, len(known) + torch.arange(len(known)), owner)
    inliers = images[known[images] >= 0]
    return {
        "distinct_images": len((batch * size + images).unique()) / len(batches),
        "distinct_classes": len((batch * size + classes[images]).unique()) / len(batches),
        "classes_visited": len(known[inliers].unique()) / max(1, len(known[known >= 0].unique())),
        "images_drawn": len(inliers.unique()) / max(1, int((known >= 0).sum())),
    }
