"""From data to device: pixels that are resident where they fit, and batches that workers read ahead.

What does not fit, or is cut anew each time, is read by a `Stream`: worker processes, as many as the machine
has processors, decode batches while the device computes. What a batch holds is decided by its keys alone.
Whoever draws at random draws from `random_of` an image's own numbers, so that neither order, workers nor
processes matter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from papers_lib.datasets.images import Pixels, workers
from papers_lib.errors import PapersError

K = TypeVar("K")
T = TypeVar("T")

SHARE = 0.25  # of a device's memory, that one set of images may take


def resident(pixels: Pixels | Tensor, where: torch.device) -> Tensor:
    """Images or features on the device, if they take a quarter of its memory at most, else where they are.

    What stays behind is read by `take`; it may be a file that is mapped.
    """
    held = pixels if isinstance(pixels, Tensor) else torch.from_numpy(pixels)
    if where.type == "cuda":
        free = torch.cuda.get_device_properties(where).total_memory * SHARE
        return held.to(where) if held.nbytes <= free else held
    return held.to(where)


def take(pixels: Tensor, rows: Tensor, where: torch.device) -> Tensor:
    """`pixels[rows]` on the device, wherever the pixels lie."""
    return moved(pixels[rows.to(pixels.device)], where)


def chunks(pixels: Tensor, size: int, where: torch.device) -> Iterator[Tensor]:
    """`pixels` in parts of up to `size` on the device, wherever they lie."""
    return (moved(part, where) for part in pixels.split(size))


def random_of(*numbers: int) -> torch.Generator:
    """Random numbers of, say, seed, epoch and image: the same wherever they are drawn."""
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]) >> 1)  # torch takes 63 bits


def moved(part: Tensor, where: torch.device) -> Tensor:
    """`part` on the device; the copy is not waited for."""
    if where.type == "cuda" and part.device.type == "cpu" and not part.is_pinned():
        part = part.pin_memory()  # else it would be
    return part.to(where, non_blocking=True)


class Stream(Generic[K, T]):
    """Batches that worker processes read ahead; on the CPU, pinned where they are to go to a GPU.

    Args:
        read: a batch of its keys: tensors, in tuples, lists or dicts. It runs in the workers, so that it is
            a function or an object of a module, and knows no device.
        where: the device that they are for.
        stay: whether the workers live as long as the stream; else as long as each pass.
        count: workers; by default as the machine has them, none where that is one.

    Attributes:
        waited: seconds that were spent waiting for batches.
    """

    def __init__(
        self,
        read: Callable[[Sequence[K]], T],
        where: torch.device,
        stay: bool = True,
        count: int | None = None,
    ) -> None:
        self.waited = 0.0
        self._order = _Order()
        count = count if count is not None else (workers() if workers() > 1 else 0)
        self._loader: DataLoader[T] = DataLoader(
            _Reader(read),
            batch_sampler=self._order,
            num_workers=count,
            persistent_workers=stay and count > 0,
            pin_memory=where.type == "cuda",
            collate_fn=_as_it_is,
            generator=torch.Generator(),  # else each pass takes a number from torch's own, which dropout uses
        )

    def __call__(self, batches: Iterable[Sequence[K]]) -> Iterator[T]:
        """What `read` makes of each batch of keys, in order.

        Raises:
            PapersError: the line that a worker met.
        """
        self._order.batches = batches
        broken, asked = "", time.perf_counter()
        try:
            for batch in self._loader:
                self.waited += time.perf_counter() - asked
                yield batch
                asked = time.perf_counter()
        except PapersError as error:
            # of a worker it comes with the traceback
            broken = str(error).strip().splitlines()[-1].removeprefix("papers_lib.errors.PapersError: ")
        if broken:  # raised here, so that the workers end with the error that held them
            raise PapersError(broken)


class _Order:
    """The batches of a pass, which each call of a stream sets anew."""

    batches: Iterable[Sequence[Any]] = ()

    def __iter__(self) -> Iterator[list[Any]]:
        return iter(map(list, self.batches))


class _Reader(Dataset[T], Generic[K, T]):
    """A data set as a loader asks for it: a batch at once."""

    def __init__(self, read: Callable[[Sequence[K]], T]) -> None:
        self.read = read

    def __getitems__(self, keys: Sequence[K]) -> T:
        return self.read(keys)


def _as_it_is(batch: T) -> T:
    return batch
