"""What each step learns from: images, and the quadruplets among them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from papers_lib.quadruplet_cars196.baselines import class_batches
from papers_lib.quadruplet_cars196.options import TrainSettings
from papers_lib.quadruplet_cars196.selection import Selection, select

PER_CLASS = 4  # images of a class in a class-balanced batch


class Batch(NamedTuple):
    """`indices` [n] into the training set; `quadruplets` [m, 4] are positions within them."""

    indices: Tensor
    quadruplets: Tensor | None = None
    valid: Tensor | None = None  # [m], false where no sibling exists (no_sibling="mask")


class Labels(NamedTuple):
    """Fine and coarse class of each training image, both [N]."""

    fine: Tensor
    coarse: Tensor


def anchors(labels: Labels, settings: TrainSettings) -> Tensor:
    """Images that can be a reference: not alone in their class and, unless masked, with a sibling."""
    usable = select(
        torch.zeros(len(labels.fine), 1), *labels, method="random", no_sibling=settings.no_sibling
    ).quadruplets[:, 0]
    return usable.sort().values


def steps_per_epoch(labels: Labels, settings: TrainSettings) -> int:
    """One pass over the references, the same number for every method: ⌈anchors / batch_size⌉."""
    return math.ceil(len(anchors(labels, settings)) / settings.batch_size)


def epoch(
    settings: TrainSettings,
    labels: Labels,
    bank: Callable[[], Tensor],
    generator: torch.Generator,
    log: Callable[[Selection], None],
) -> Iterator[Batch]:
    """The batches of one epoch.

    Args:
        settings: method, pool, batch size and options of selection.
        labels: fine and coarse classes [N].
        bank: embeds the whole training set [N, d]; called once every `refresh_every` steps.
        generator: of all random choices.
        log: receives each selection, for the fallback rates.
    """
    steps = steps_per_epoch(labels, settings)
    if settings.method == "ce":
        yield from _plain(settings, len(labels.fine), steps, generator)
    elif settings.learns_from_quadruplets and settings.pool == "bank":
        yield from _selected(settings, labels, bank, generator, log)
    else:
        size = settings.batch_size * 4
        for indices in class_batches(labels.fine, size // PER_CLASS, PER_CLASS, steps, generator):
            yield Batch(indices)


def _plain(settings: TrainSettings, n: int, steps: int, generator: torch.Generator) -> Iterator[Batch]:
    """Cross-entropy alone: as many labels a step as Eq. 5 sees (`ce_on`), each image once a pass."""
    size = settings.batch_size * (4 if settings.ce_on == "all" else 1)
    passes = math.ceil(steps * size / n)
    order = torch.cat([torch.randperm(n, generator=generator) for _ in range(passes)])
    for step in range(steps):
        yield Batch(order[step * size : (step + 1) * size])


def _selected(
    settings: TrainSettings,
    labels: Labels,
    bank: Callable[[], Tensor],
    generator: torch.Generator,
    log: Callable[[Selection], None],
) -> Iterator[Batch]:
    """References in random order, each with the members that the features of the moment give it."""
    usable = anchors(labels, settings)
    order = usable[torch.randperm(len(usable), generator=generator)]
    span = settings.refresh_every * settings.batch_size or len(order)
    nothing = torch.zeros(len(labels.fine), 1)  # random members need no features
    for start in range(0, len(order), span):
        features = bank() if settings.mines else nothing
        chosen = choose(settings, features, labels, order[start : start + span], generator)
        log(chosen)
        size = settings.batch_size
        for i in range(0, len(chosen.quadruplets), size):
            members = chosen.quadruplets[i : i + size].cpu()
            positions = torch.arange(members.numel()).view_as(members)
            yield Batch(members.flatten(), positions, chosen.valid[i : i + size].cpu())


def choose(
    settings: TrainSettings,
    features: Tensor,
    labels: Labels,
    references: Tensor | None,
    generator: torch.Generator,
) -> Selection:
    """`select` with this run's options; labels follow the features to their device."""
    where = features.device
    return select(
        features,
        labels.fine.to(where),
        labels.coarse.to(where),
        method=settings.method,  # type: ignore[arg-type]
        anchors=None if references is None else references.to(where),
        sibling=settings.sibling,
        no_sibling=settings.no_sibling,
        m1_fallback=settings.m1_fallback,
        generator=generator,
    )
