"""Two processes see each other's rows: the loss and its averaged gradient are those of one process."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from papers_lib.median_triplet import heads
from papers_lib.median_triplet.methods import moco
from papers_lib.median_triplet.methods.base import gathered
from papers_lib.median_triplet.methods.triplet import Triplet

SETTINGS = {
    "backbone": "tiny16", "projector_hidden": 8, "projector_out": 6, "head": "median", "k": 0, "gamma": 2.0,
    "margin": None, "hinge": "relu", "distance_scale": 2.0, "negative_pool": "all_devices", "seed": 0,
    "queue": 8, "temperature": 0.0,
}  # fmt: skip


def rows() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inputs [10, 6], targets [10, 6], and a weight [6, 6] that makes queries of inputs."""
    x, z = torch.randn(2, 10, 6, generator=torch.Generator().manual_seed(0))
    return x, z, torch.eye(6) + 0.1


def one_of_two(rank: int, folder: str) -> None:
    """What each process computes from its own five rows."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    x, z, weight = rows()
    own = slice(5 * rank, 5 * rank + 5)
    weight.requires_grad_(True)
    method = Triplet(SimpleNamespace(**SETTINGS), 10, 10)
    loss, logs = method.pair_loss(x[own] @ weight, z[own])
    loss.backward()
    assert weight.grad is not None
    dist.all_reduce(weight.grad)
    queue = moco.MoCo(SimpleNamespace(**SETTINGS), 10, 10)
    queue._enqueue(gathered(torch.full((3, 128), float(rank))))
    torch.save(
        {"loss": loss.detach(), "gradient": weight.grad / 2, **logs, "queue": queue.queue[:, 0],
         "numbers": gathered(torch.arange(3) + 3 * rank)},
        Path(folder) / f"{rank}.pt",
    )  # fmt: skip
    dist.destroy_process_group()


@pytest.mark.timeout(60)
def test_negatives_of_all_devices(tmp_path):
    mp.start_processes(one_of_two, (str(tmp_path),), 2, start_method="fork")
    x, z, weight = rows()
    weight.requires_grad_(True)
    expected = heads.rank_k_triplet(x @ weight, z)
    expected.backward()
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(found["loss"], expected.detach())
        torch.testing.assert_close(found["gradient"], weight.grad)
        assert found["queue"][:6].tolist() == [0, 0, 0, 1, 1, 1]
        assert found["numbers"].tolist() == [0, 1, 2, 3, 4, 5]


def test_one_process_gathers_its_own():
    mine = torch.randn(3, 2)
    assert gathered(mine) is mine
