"""One run over several processes, a device each, by torchrun:

    torchrun --nproc-per-node 8 -m papers_lib.median_triplet.distributed FOLDER

FOLDER is a run's: `python -m papers_lib sweep median_triplet -p processes 8 --print-commands` makes it and
prints this command. The processes share a step's micro-batches: each takes every N-th and accumulates an
N-th as many, so that a step sees the images that it sees with one process.
Gradients are averaged before each step. Batch normalisation takes its statistics over all processes on GPUs
(SyncBN); on CPUs, where torch has none, over each micro-batch, which is what accumulation in one process
does. Negatives are those of the process's own micro-batch, as in the released code, unless `negative_pool`
says otherwise.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from papers_lib import checkpoint, compute
from papers_lib.errors import PapersError
from papers_lib.median_triplet import methods, training
from papers_lib.median_triplet.images import Loaded, load
from papers_lib.median_triplet.methods.base import Method
from papers_lib.median_triplet.options import SHARED, TrainSettings


class ParallelLoop(training.Loop):
    """The loop of one process of several; weights stay the same in all of them."""

    def __init__(self, settings: TrainSettings, method: Method, images: Loaded) -> None:
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        if settings.accumulation % self.world:
            raise PapersError(
                f"accumulation={settings.accumulation} cannot be shared by {self.world} processes; "
                "start a number of processes that divides it"
            )
        own = settings.model_copy(update={"accumulation": settings.accumulation // self.world})
        super().__init__(own, method, images)
        self.batches //= self.world
        self.optimiser.register_step_pre_hook(lambda *_: self.average())

    def order(self) -> Sequence[Tensor]:
        """Every N-th of the batches, which all processes draw alike."""
        whole = torch.randperm(len(self.images.train), generator=self.generator)
        size = self.settings.batch_size
        shared = whole[: self.batches * self.world * size].view(-1, size)
        return list(shared[self.rank :: self.world])

    def average(self) -> None:
        """The mean of the gradients over the processes, in place."""
        gradients = [p.grad for group in self.optimiser.param_groups for p in group["params"]
                     if p.grad is not None]  # fmt: skip
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.world
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))


def train(
    settings: TrainSettings,
    data: tuple[str, str],
    folder: Path,
    device: str = "auto",
    report: training.Report = lambda step, total, note: None,
) -> dict[str, Any]:
    """`training.train` in a process group that is there already; the first process saves and reports.

    Raises:
        PapersError: a method whose memory cannot be shared, or an accumulation that does not divide.
    """
    if settings.method not in SHARED:
        raise PapersError(f"{settings.method} runs in one process; several take {', '.join(SHARED)}")
    where = _device(device)
    compute.prepare(settings.seed)
    images = load(data, settings, where)
    method = methods.build(settings.method, settings, len(images.train), images.classes)
    compute.place(method, where)
    if where.type == "cuda":
        method = nn.SyncBatchNorm.convert_sync_batchnorm(method)
    loop = ParallelLoop(settings, method, images)
    found = loop.resume(checkpoint.load(folder / "checkpoint.pt"))
    dist.barrier()  # nobody writes before all have read
    if not found:
        loop.read_start()
    for epoch in range(loop.epoch, settings.epochs):
        loop.run_epoch()
        if loop.rank == 0:
            report(epoch + 1, settings.epochs, f"epoch {epoch + 1} done")
            checkpoint.save(folder / "checkpoint.pt", loop.state())
    if settings.keep_weights and loop.rank == 0:
        checkpoint.save(folder / "weights.pt", method.encoder.state_dict())
    return loop.result() | training.probe(settings, method, images)


def _device(name: str) -> torch.device:
    where = compute.device(name)
    if where.type == "cuda":
        where = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(where)
    return where


def main(folder: str) -> int:
    """Compute the run in `folder` with all processes that torchrun started; 0 when it is done."""
    from papers_lib.runs import worker
    from papers_lib.runs.store import read_result, read_spec

    path = Path(folder).absolute()
    try:
        if read_result(path) is not None:
            return 0
        spec = read_spec(path).model_copy(update={"folder": str(path)})
        worker.refuse_other_processes(spec, path)
    except PapersError as error:
        if os.environ.get("RANK", "0") == "0":
            print(f"error: {error}", file=sys.stderr)
        return 2
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        if dist.get_rank() == 0:
            return worker.main([folder])
        settings = TrainSettings.model_validate(spec.settings)
        train(settings, (spec.data.root, spec.data.name), path, spec.device)
        return 0
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
