"""Two processes see each other's rows, and train together what one process accumulates."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tiny_median import TINY

from papers_lib import checkpoint
from papers_lib.errors import PapersError
from papers_lib.median_triplet import augment, heads, training
from papers_lib.median_triplet.images import Loaded
from papers_lib.median_triplet.methods import Triplet, base, instances
from papers_lib.median_triplet.options import TrainSettings

CHANGES = {"projector_out": 6, "accumulation": 2, "knn_every": 2, "queue": 8, "keep_weights": True}
SETTINGS = TrainSettings.model_validate(TINY | CHANGES)


def join(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)


# -- a loss over the rows of all --


def rows() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inputs [10, 6], targets [10, 6], and a weight [6, 6] that makes queries of inputs."""
    x, z = torch.randn(2, 10, 6, generator=torch.Generator().manual_seed(0))
    return x, z, torch.eye(6) + 0.1


def loss_of_two(rank: int, folder: str) -> None:
    """What each process computes from its own five rows."""
    join(rank, folder)
    x, z, weight = rows()
    mine = slice(5 * rank, 5 * rank + 5)
    weight.requires_grad_(True)
    settings = SimpleNamespace(**SETTINGS.model_dump() | {"negative_pool": "all_devices"})
    loss, _ = Triplet(settings, 10, 10).pair_loss(x[mine] @ weight, z[mine])
    loss.backward()
    assert weight.grad is not None
    dist.all_reduce(weight.grad)
    queue = instances.MoCo(settings, 10, 10)
    queue._enqueue(base.gathered(torch.full((3, 128), float(rank))))
    result = {"loss": loss.detach(), "gradient": weight.grad / 2, "queue": queue.queue[:, 0]}
    torch.save(result, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.timeout(60)
def test_negatives_and_keys_of_all_devices(tmp_path):
    mp.start_processes(loss_of_two, (str(tmp_path),), 2, start_method="fork")
    x, z, weight = rows()
    weight.requires_grad_(True)
    expected = heads.rank_k_triplet(x @ weight, z)
    expected.backward()
    for rank in range(2):
        result = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(result["loss"], expected.detach())
        torch.testing.assert_close(result["gradient"], weight.grad)
        assert result["queue"][:6].tolist() == [0, 0, 0, 1, 1, 1]
    assert base.gathered(z) is z  # one process has its own rows


# -- a training --


def images(*_: Any) -> Loaded:
    """32 noise images, four whole micro-batches, the same in every process."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (32, 8, 8, 3), generator=generator, dtype=torch.uint8)
    labels = torch.arange(32) % 8
    return Loaded(pixels, labels, pixels[:20], labels[:20], 8)


def plainly(pixels: torch.Tensor, recipe: augment.Recipe, generator: Any, size: int) -> torch.Tensor:
    """Views without chance: several processes draw theirs in another order than one."""
    return augment.plain(pixels, size)


def train(folder: Path, **changes: Any) -> dict[str, Any]:
    return training.train(SETTINGS.model_copy(update=changes), ("", ""), folder, "cpu")


def training_of_two(rank: int, folder: str) -> None:
    join(rank, folder)
    training.load = images  # type: ignore[assignment]
    training.augment.view = plainly  # type: ignore[assignment]
    result = train(Path(folder))
    torch.save({"loss": [e["loss"] for e in result["history"]]}, Path(folder) / f"{rank}.pt")
    with pytest.raises(PapersError, match="in one process"):
        train(Path(folder), method="odc")
    with pytest.raises(PapersError, match="cannot be shared by 2"):
        train(Path(folder), accumulation=3)
    dist.destroy_process_group()


@pytest.mark.timeout(120)
def test_two_processes_train_what_one_accumulates(tmp_path, monkeypatch):
    together, alone = tmp_path / "together", tmp_path / "alone"
    together.mkdir()
    alone.mkdir()
    mp.start_processes(training_of_two, (str(together),), 2, start_method="fork")
    monkeypatch.setattr(training, "load", images)
    monkeypatch.setattr(training.augment, "view", plainly)
    single = train(alone)
    ours, theirs = (checkpoint.load_weights(folder / "weights.pt") for folder in (together, alone))
    for name in theirs:
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-5)
    losses = [torch.load(together / f"{rank}.pt")["loss"] for rank in range(2)]
    means = [sum(pair) / 2 for pair in zip(*losses, strict=True)]
    assert means == pytest.approx([entry["loss"] for entry in single["history"]], abs=1e-3)
    assert losses[0] != losses[1]  # each had micro-batches of its own
