"""Two processes compute what one does: every method, with and without batch normalisation."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tiny_median import TINY
from torch import nn

from papers_lib import checkpoint, processes
from papers_lib.errors import PapersError
from papers_lib.median_triplet import heads, methods, training
from papers_lib.median_triplet.images import Loaded
from papers_lib.median_triplet.methods import Triplet, instances, kmeans
from papers_lib.median_triplet.options import TrainSettings

CHANGES = {"projector_out": 6, "knn_every": 2, "queue": 8, "keep_weights": True, "momentum": 0.5, "lr": 0.02}
SETTINGS = TrainSettings.model_validate(TINY | CHANGES)
LEARNING = [name for name in methods.NAMES if name != "random"]


def join(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)


def two(work: Any, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    mp.start_processes(work, (str(folder),), 2, start_method="fork")


# -- a loss over the rows of all --


def rows() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inputs [10, 6], targets [10, 6], and a weight [6, 6] that makes queries of inputs."""
    x, z = torch.randn(2, 10, 6, generator=torch.Generator().manual_seed(0))
    return x, z, torch.eye(6) + 0.1


def parts_of_two(rank: int, folder: str) -> None:
    """What each process computes from its own five rows."""
    join(rank, folder)
    x, z, weight = rows()
    mine = slice(5 * rank, 5 * rank + 5)
    weight.requires_grad_(True)
    settings = SimpleNamespace(**SETTINGS.model_dump() | {"negative_pool": "all_devices"})
    pair = processes.gathered(x[mine] @ weight), processes.gathered(z[mine])
    loss, _ = Triplet(settings, 10, 10).pair_loss(*pair)
    loss.backward()
    processes.average_gradients([weight])  # type: ignore[list-item]
    queue = instances.MoCo(settings, 10, 10)
    queue._enqueue(processes.gathered(torch.full((3, 128), float(rank))))
    layer = processes.synchronised(nn.BatchNorm1d(6, momentum=0.3), torch.device("cpu"))
    some = x[[0, 1, 2, 3, 4, 5, 6]] if rank == 0 else x[[7, 8, 9]]  # unequal parts
    inside = some.clone().requires_grad_(True)
    (layer(inside) * some.square()).sum().backward()
    result = {
        "loss": loss.detach(),
        "gradient": weight.grad,
        "queue": queue.queue[:, 0],
        "joined": [processes.joined(x[:n][processes.part(n)], n) for n in (10, 9, 1)],
        "normal": processes.collected(inside.grad.tolist()),
        "statistics": [layer.running_mean, layer.running_var],
        "mean": processes.mean({"a": float(rank), "b": 3.0}),
    }
    torch.save(result, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.timeout(60)
def test_rows_keys_and_statistics_of_all_processes(tmp_path):
    two(parts_of_two, tmp_path)
    x, z, weight = rows()
    weight.requires_grad_(True)
    expected = heads.rank_k_triplet(x @ weight, z)
    expected.backward()
    layer, inside = nn.BatchNorm1d(6, momentum=0.3), x.clone().requires_grad_(True)
    (layer(inside) * x.square()).sum().backward()
    for rank in range(2):
        result = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(result["loss"], expected.detach())
        torch.testing.assert_close(result["gradient"], weight.grad)
        assert result["queue"][:6].tolist() == [0, 0, 0, 1, 1, 1]
        for found, n in zip(result["joined"], (10, 9, 1), strict=True):
            assert torch.equal(found, x[:n])
        gradient = torch.tensor([row for part in result["normal"] for row in part])
        torch.testing.assert_close(gradient, inside.grad, atol=1e-5, rtol=1e-4)
        for found, want in zip(result["statistics"], (layer.running_mean, layer.running_var), strict=True):
            torch.testing.assert_close(found, want)
        assert result["mean"] == {"a": 0.5, "b": 3.0}
    assert processes.gathered(z) is z  # one process has its own rows
    assert processes.part(7) == slice(0, 7) and processes.collected(3) == [3]


# -- a training --


def images(*_: Any) -> Loaded:
    """33 noise images, four batches of eight and one left over, the same in every process."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (33, 16, 16, 3), generator=generator, dtype=torch.uint8)
    labels = torch.arange(33) % 4
    return Loaded(pixels, labels, pixels[:21], labels[:21], 4)


def build(name: str, settings: Any, total: int, classes: int | None, norm: bool = False) -> Any:
    """A method whose dropout does nothing, and without `norm` no batch normalisation: both would differ."""
    method = methods.BUILD(name, settings, total, classes)
    for parent in list(method.modules()):
        for key, layer in list(parent.named_children()):
            if isinstance(layer, nn.Dropout) or (
                not norm and isinstance(layer, nn.modules.batchnorm._BatchNorm)
            ):
                setattr(parent, key, nn.Identity())
    return method


methods.BUILD = methods.build  # type: ignore[attr-defined]

POOLED = {"negative_pool": "all_devices"}
DEALT = {"accumulation": 2}
CASES: dict[str, dict[str, Any]] = {name: {"method": name, "image_size": 16} for name in LEARNING}
CASES["simclr"] |= POOLED
CASES["triplet"] |= POOLED
CASES["triplet, negatives of a device"] = CASES["triplet"] | {"negative_pool": "micro_batch"} | DEALT
CASES["simclr, negatives of a device"] = CASES["simclr"] | {"negative_pool": "micro_batch"} | DEALT
CASES["byol, dealt out"] = CASES["byol"] | DEALT | {"random_resolution": True}
CASES["rotation, dealt out"] = CASES["rotation"] | DEALT
CASES["relative_location, dealt out"] = CASES["relative_location"] | DEALT
# One of each frame. Where negatives are ranked, or gradients as small as SimSiam's, a rounding may decide.
NORMED = ("supervised", "rotation", "moco", "simclr", "byol")


def settings_of(name: str, norm: bool) -> TrainSettings:
    """A rate that moves the weights, and not so far that rounding decides where to.

    Without normalisation a predictor of BYOL's kind starts near zero, where a cosine is steep.
    """
    case = CASES[name]
    if norm:  # simclr and byol double a rounding in a few steps
        lr = 3e-4 if case["method"] in ("byol", "simclr") else 0.002
    else:
        lr = 1e-6 if case["method"] in ("byol", "triplet") else 0.02
    return SETTINGS.model_copy(update=case | {"lr": lr})


def train_case(name: str, folder: Path, norm: bool) -> dict[str, Any]:
    training.load = images  # type: ignore[assignment]
    training.methods.build = lambda *given: build(*given, norm=norm)  # type: ignore[assignment]
    # of fewer images than dimensions it makes a difference of rounding as large as any
    kmeans.whitened = torch.nn.functional.normalize  # type: ignore[assignment]
    folder.mkdir(exist_ok=True)
    result = training.train(settings_of(name, norm), ("", ""), folder, "cpu")
    for entry in result["history"]:
        del entry["seconds"], entry["waiting"]
    del result["waiting"]
    return result


def trainings_of_two(rank: int, folder: str) -> None:
    join(rank, folder)
    for norm in (False, True):
        for name in NORMED if norm else CASES:
            place = Path(folder) / f"{name} {norm}"
            result = train_case(name, place, norm)
            (place / f"{rank}.json").write_text(json.dumps(result))
    with pytest.raises(PapersError, match="accumulation=3 cannot be shared by 2"):
        training.train(SETTINGS.model_copy(update={"accumulation": 3}), ("", ""), Path(folder), "cpu")
    with pytest.raises(PapersError, match="batch_size=9 cannot be shared by 2"):
        changes = {"method": "moco", "batch_size": 9}
        training.train(SETTINGS.model_copy(update=changes), ("", ""), Path(folder), "cpu")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("together")
    two(trainings_of_two, folder)
    return folder


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("name", "norm"), [(name, norm) for norm in (False, True) for name in (NORMED if norm else CASES)]
)
def test_two_processes_train_what_one_does(together, tmp_path, monkeypatch, name, norm):
    """Weights to 1e-6 without batch normalisation; with it, whose sums are others, to 2e-4."""
    monkeypatch.setattr(training, "load", images)
    monkeypatch.setattr(methods, "build", methods.BUILD)
    monkeypatch.setattr(kmeans, "whitened", kmeans.whitened)
    single = train_case(name, tmp_path, norm)
    place = together / f"{name} {norm}"
    ours, theirs = (checkpoint.load(folder / "checkpoint.pt")["method"] for folder in (place, tmp_path))
    torch.manual_seed(SETTINGS.seed)
    asked = settings_of(name, norm)
    start = dict(build(asked.method, asked, 33, 4, norm).named_parameters())
    apart = moved = 0.0
    for key, value in theirs.items():
        if value.is_floating_point():
            apart = max(apart, float((ours[key] - value).abs().max()))
        if key in start:
            moved = max(moved, float((value - start[key]).abs().max()))
    assert apart < (2e-4 if norm else 1e-6)
    assert moved > 100 * apart  # it did train
    both = [json.loads((place / f"{rank}.json").read_text()) for rank in range(2)]
    assert both[0] == both[1]
    for entry, want in zip(both[0]["history"], single["history"], strict=True):
        assert entry["loss"] == pytest.approx(want["loss"], abs=2e-3)
        assert entry["epoch"] == want["epoch"]
    if not norm:
        assert both[0]["knn"] == single["knn"]
        assert both[0]["probe"]["held_out"].keys() == single["probe"]["held_out"].keys()
        assert both[0]["linear"] == pytest.approx(single["linear"], abs=0.05)
