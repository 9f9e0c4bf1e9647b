"""Two processes that share the micro-batches of a step train the network that one process accumulates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from papers_lib import checkpoint
from papers_lib.errors import PapersError
from papers_lib.median_triplet import augment, distributed, training
from papers_lib.median_triplet.images import Loaded
from papers_lib.median_triplet.options import TrainSettings

TINY = {
    "image_size": 8, "backbone": "tiny16", "projector_hidden": 16, "projector_out": 8,
    "optimiser": "sgd", "lr": 0.05, "batch_size": 8, "accumulation": 2, "epochs": 2, "warm_up_epochs": 0.0,
    "knn_every": 2, "knn_k": 5, "probe_epochs": 1, "precision": "float32", "recipe": "cifar",
    "keep_weights": True, "random_resolution": False,
}  # fmt: skip
SETTINGS = TrainSettings.model_validate(TINY)


def images(*_: Any) -> Loaded:
    """32 noise images, four whole micro-batches, the same in every process."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (32, 8, 8, 3), generator=generator, dtype=torch.uint8)
    labels = torch.arange(32) % 8
    return Loaded(pixels, labels, pixels[:20], labels[:20], 8)


def plainly(
    pixels: torch.Tensor, recipe: augment.Recipe, generator: torch.Generator, size: int
) -> torch.Tensor:
    """Views without chance: several processes draw theirs in another order than one."""
    return augment.plain(pixels, size)


def one_of_two(rank: int, folder: str) -> None:
    """A process of the group, in the run's folder."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    distributed.load = images  # type: ignore[assignment]
    training.augment.view = plainly  # type: ignore[assignment]
    found = distributed.train(SETTINGS, ("", ""), Path(folder), "cpu")
    torch.save({"loss": [e["loss"] for e in found["history"]]}, Path(folder) / f"{rank}.pt")
    with pytest.raises(PapersError, match="in one process"):
        distributed.train(SETTINGS.model_copy(update={"method": "odc"}), ("", ""), Path(folder), "cpu")
    with pytest.raises(PapersError, match="cannot be shared by 2"):
        distributed.ParallelLoop(SETTINGS.model_copy(update={"accumulation": 3}), None, images())  # type: ignore[arg-type]
    dist.destroy_process_group()


@pytest.mark.timeout(120)
def test_two_processes_train_what_one_accumulates(tmp_path, monkeypatch):
    together, alone = tmp_path / "together", tmp_path / "alone"
    together.mkdir()
    alone.mkdir()
    mp.start_processes(one_of_two, (str(together),), 2, start_method="fork")
    monkeypatch.setattr(training, "load", images)
    monkeypatch.setattr(training.augment, "view", plainly)
    single = training.train(SETTINGS, ("", ""), alone, "cpu")
    ours, theirs = (checkpoint.load_weights(folder / "weights.pt") for folder in (together, alone))
    trained = [name for name in theirs if "running" not in name and "num_batches" not in name]
    for name in trained:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-5)
    losses = [torch.load(together / f"{rank}.pt")["loss"] for rank in range(2)]
    means = [sum(pair) / 2 for pair in zip(*losses, strict=True)]
    assert means == pytest.approx([entry["loss"] for entry in single["history"]], abs=1e-3)
    assert losses[0] != losses[1]  # each had micro-batches of its own
