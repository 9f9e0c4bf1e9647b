"""A pilot: two epochs of a few steps of a run, all else as it is, to see what the whole of it would cost.

Every loop goes through `epochs` and `steps`, which change nothing but in a pilot. There they stop early, and
note what an epoch and a step take; `measuring` makes of that an estimate of the whole run.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice, pairwise
from statistics import median
from typing import TypeVar

T = TypeVar("T")

EPOCHS, STEPS = 2, 5


class Cost:
    """What a pilot notes: times in seconds, and the steps that it left out."""

    def __init__(self) -> None:
        self.began = _now()
        self.bounds: list[float] = []  # where each epoch began, and where the last one ended
        self.epochs = 1
        self.left: list[tuple[float, float]] = []  # when steps were left out, and what they would have taken
        self.step: dict[str, float] = {}  # of the last pass: seconds, images, and steps of the whole

    def summary(self) -> dict[str, float]:
        """Plain JSON: `seconds` that the whole would take, `step` (seconds), `steps` of an epoch, `epochs`,
        `images` per second, and `memory` in bytes: a GPU's, or of this process and its workers."""
        bounds, ended = self.bounds, _now()

        def whole(start: float, stop: float) -> float:
            return stop - start + sum(extra for at, extra in self.left if start <= at < stop)

        if bounds:
            # Whatever needs a first time is in the first epoch: the last one stands for all.
            epoch = whole(*bounds[-2:])
            seconds = whole(self.began, bounds[0]) + self.epochs * epoch + whole(bounds[-1], ended)
        else:
            seconds = whole(self.began, ended)
        return {"seconds": seconds, "epochs": self.epochs, "memory": _memory(), **self.step}


_cost: Cost | None = None  # of the pilot that is under way


@contextmanager
def measuring(on: bool) -> Iterator[Cost | None]:
    """Let the block be a pilot, or not."""
    global _cost  # noqa: PLW0603 - loops are told without a parameter of each
    _cost = Cost() if on else None
    try:
        yield _cost
    finally:
        _cost = None


def epochs(first: int, count: int) -> Iterator[int]:
    """The epochs `first` … `count` − 1; in a pilot the first two."""
    if _cost is None:
        yield from range(first, count)
        return
    _cost.epochs = count
    for epoch in range(first, last(count)):
        _cost.bounds.append(_now())
        yield epoch
    if _cost.bounds:
        _cost.bounds.append(_now())


def last(count: int) -> int:
    """How many of `count` epochs are taken."""
    return count if _cost is None else min(count, EPOCHS)


def few(count: int) -> int:
    """How many of `count` steps are taken."""
    return count if _cost is None else min(count, STEPS)


def steps(batches: Iterable[T], total: int, images: int = 0) -> Iterator[T]:
    """`batches`, which are `total`, each of some images; in a pilot the first few."""
    if _cost is None:
        yield from batches
        return
    cost, times = _cost, [_now()]
    for batch in islice(batches, STEPS):
        yield batch
        times.append(_now())
    taken = [after - before for before, after in pairwise(times)]
    if taken:
        each = median(taken[1:] or taken)  # the first may wait for workers
        cost.left.append((times[0], (total - len(taken)) * each))
        if images:
            cost.step = {"step": each, "steps": total, "images": images / each}


def repeated(rows: list[T], total: int) -> list[T]:
    """As many as `total`: in a pilot, which computed the first few, these over and over."""
    return rows if _cost is None else [rows[i % len(rows)] for i in range(total)]


def _now() -> float:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()  # else a GPU would seem to take no time
    return time.perf_counter()


def _memory() -> float:
    import torch

    if torch.cuda.is_initialized():
        return float(torch.cuda.max_memory_allocated())
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    unit = 1 if sys.platform == "darwin" else 1024
    return float(sum(resource.getrusage(kind).ru_maxrss for kind in kinds) * unit)
