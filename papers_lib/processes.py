"""What the processes of one run, started by torchrun, do together.

Each function is called by all of them at the same place; in a single process it gives back what it was given.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

T = TypeVar("T")


@contextmanager
def grouped() -> Iterator[int]:
    """Let the block run in the group of all processes that torchrun started; gives this one's number."""
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield dist.get_rank()
    finally:
        dist.destroy_process_group()


def group() -> tuple[int, int]:
    """The number of this process, and how many there are."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def device(where: torch.device) -> torch.device:
    """`where`; of several processes on GPUs each has one of its own."""
    if group()[1] == 1 or where.type != "cuda":
        return where
    where = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(where)
    return where


def part(total: int) -> slice:
    """This process's share of `total` rows: consecutive ones, in the order of the processes."""
    rank, world = group()
    return slice(total * rank // world, total * (rank + 1) // world)


def drawn(rows: int) -> tuple[int, slice]:
    """Rows to draw random numbers for, where each process has `rows` of its own, and which those are."""
    rank, world = group()
    return rows * world, slice(rows * rank, rows * (rank + 1))


def gathered(rows: Tensor) -> Tensor:
    """The rows of all processes in their order, which must be equally many.

    Gradients go back to the process that a row came from, summed over the processes' losses. Where each
    process computes the same loss over all rows, that is the number of processes times the gradient,
    which the average over processes undoes.
    """
    if group()[1] == 1:
        return rows
    every: Tensor = _Gathered.apply(rows)
    return every  # [processes · B, …]


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(group()[1])]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _sum(gradient)[drawn(len(gradient) // group()[1])[1]]


class _Sum(torch.autograd.Function):
    """The sum over the processes; its gradient is that of all their losses."""

    @staticmethod
    def forward(ctx: Any, number: Tensor) -> Tensor:
        return _sum(number)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _sum(gradient)


def _sum(number: Tensor) -> Tensor:
    number = number.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(number)
    return number


def joined(rows: Tensor, total: int) -> Tensor:
    """The `total` rows of which each process has its `part`, without gradients."""
    world = group()[1]
    if world == 1:
        return rows
    longest = -(-total // world)
    padded = rows.new_zeros(longest, *rows.shape[1:])
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in range(world)]
    dist.all_gather(parts, padded)
    ends = [total * (r + 1) // world - total * r // world for r in range(world)]
    return torch.cat([some[:end] for some, end in zip(parts, ends, strict=True)])


def collected(value: T) -> list[T]:
    """The values of all processes, in their order: plain ones, no tensors on a device."""
    values: list[Any] = [value] * group()[1]
    if len(values) > 1:
        dist.all_gather_object(values, value)
    return values


def mean(values: Mapping[str, float]) -> dict[str, float]:
    """The mean of each number over the processes."""
    every = collected(values)
    return {name: sum(one[name] for one in every) / len(every) for name in values}


def mean_of(number: Tensor) -> Tensor:
    """The mean over the processes of a tensor that needs no gradient."""
    world = group()[1]
    return number if world == 1 else _sum(number) / world


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """The mean of the gradients over the processes, in place."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if group()[1] == 1 or not gradients:
        return
    flat = mean_of(torch.cat([gradient.flatten() for gradient in gradients]))  # one message for all
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def synchronised(module: nn.Module, where: torch.device) -> nn.Module:
    """`module`, on its device, with the statistics of its batch normalisations taken over all processes."""
    if group()[1] == 1:
        return module
    if where.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return converted
    for layer in module.modules():
        if isinstance(layer, _BatchNorm):
            layer.__class__ = _Synchronised  # the same weights and statistics
    return module


class _Synchronised(_BatchNorm):
    """nn.SyncBatchNorm for CPUs, where torch has none."""

    def forward(self, x: Tensor) -> Tensor:
        """Of [B, C, …]; B may differ between processes."""
        if not self.training:
            return super().forward(x)
        rest = [axis for axis in range(x.ndim) if axis != 1]
        wide, shape = x.float(), [-1 if axis == 1 else 1 for axis in range(x.ndim)]
        n = mean_of(torch.tensor(float(x.numel() // x.shape[1]))) * group()[1]  # of all processes
        mean = _Sum.apply(wide.sum(rest)) / n  # [C]
        centred = wide - mean.view(shape)
        variance = _Sum.apply(centred.square().sum(rest)) / n  # [C]
        if self.track_running_stats:
            self._follow(mean.detach(), variance.detach(), n)
        out: Tensor = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        return out.to(x.dtype)

    def _follow(self, mean: Tensor, variance: Tensor, n: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None
        assert self.momentum is not None and self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * n / (n - 1), self.momentum)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of axes."""
