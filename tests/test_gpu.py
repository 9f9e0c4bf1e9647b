"""Trainings of each paper on the GPU: as on the CPU in float32, near it in bfloat16, and resumed.

`make gpu-check` runs these on a card; PAPERS_GPU_TESTS=cpu runs them without one, which shows that the tests
themselves are sound.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
import torch

from data_prep import cars196, classification, reid
from papers_lib import compute
from papers_lib.networks import cifar
from papers_lib.papers import get
from papers_lib.runs.store import Store, read_spec
from papers_lib.settings import validate

pytestmark = pytest.mark.cuda

FROZEN = {"profile": "frozen", "seeds": [0], "epochs": 4}
PARAMETERS = {  # of a short run of each paper, but for the last on features that come with the library
    "quadruplet_cars196": FROZEN | {"arms": ["method_2"]},
    "sampler_study": FROZEN | {"arms": ["triplet_proxy_8"]},
    "median_triplet": FROZEN | {"arms": ["median"]},
    "nar": {"profile": "smoke", "arms": ["base"], "seeds": [0], "epochs": 4, "train": True},
}
# Of the others a run on images, through convolutions. None chooses by distances or clusters: there rounding
# decides, and what follows is another training.
SMOKE = {"profile": "smoke", "seeds": [0], "epochs": 2}
ON_IMAGES = {
    "quadruplet_cars196": SMOKE | {"arms": ["random"]},
    "sampler_study": SMOKE | {"arms": ["supervised"]},
    "median_triplet": SMOKE | {"arms": ["byol"]},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    drawn = {
        "cifar10": (classification.STAND_INS["cifar10"], {}),
        "cars196": (cars196.STAND_IN, {"per_model": "4", "pixels": "16"}),
        "market1501": (reid.STAND_INS["market1501"], {}),
    }
    for name, (stand_in, recipe) in drawn.items():
        (root / "standin" / name).mkdir(parents=True)
        stand_in.make(root / "standin" / name, "smoke", recipe)
    return root


def run(paper, folder, device, parameters=PARAMETERS, **changed):
    """The metrics of the paper's short run; where it needs another one, from scratch."""
    study = get(paper).study
    spec = study.plan(validate(study.parameters, parameters[paper] | {"device": device} | changed))[0]
    if spec.needs:
        scratch = spec.settings | {"start": "scratch"}
        spec = spec.model_copy(update={"needs": (), "settings": scratch})
    made = Store(folder).prepare(spec)
    door = import_module(f"papers_lib.{paper}.study").run
    return door(read_spec(made).model_copy(update={"folder": str(made)}))


def losses(metrics):
    return [epoch["loss"] for epoch in metrics["history"] if "loss" in epoch]


@pytest.mark.parametrize("paper", PARAMETERS)
def test_float32_is_as_on_the_cpu(paper, gpu, data, tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERS_DATA", str(data))
    here = run(paper, tmp_path / "here", "cpu", precision="float32")
    there = run(paper, tmp_path / "there", gpu, precision="float32")
    assert losses(there) == pytest.approx(losses(here), rel=2e-2)  # rounding grows from step to step
    assert losses(there)[0] == pytest.approx(losses(here)[0], rel=2e-3)


@pytest.mark.parametrize("paper", ON_IMAGES)
def test_on_images_it_is_near_the_cpu(paper, gpu, data, tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERS_DATA", str(data))
    here = run(paper, tmp_path / "here", "cpu", ON_IMAGES, precision="float32")
    there = run(paper, tmp_path / "there", gpu, ON_IMAGES, precision="float32")
    # a card's convolutions round float32 to ten bits (TF32): 0.1 % of each
    assert losses(there)[0] == pytest.approx(losses(here)[0], rel=1e-2)
    assert losses(there) == pytest.approx(losses(here), rel=5e-2)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_placed_network_computes_channels_last(precision, gpu):
    """Else each layer copies what it is given, and no number tells."""
    device = torch.device(gpu)
    net = compute.place(cifar.build("resnet18_cifar16")[0], device)
    seen = []

    def look(layer, _, maps):
        seen.append([x.is_contiguous(memory_format=torch.channels_last) for x in (layer.weight, maps)])

    for layer in net.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.register_forward_hook(look)
    with compute.autocast(device, precision):
        net(torch.rand(2, 3, 16, 16, device=device))
    assert len(seen) == 20 and all(map(all, seen))


@pytest.mark.parametrize("paper", PARAMETERS)
def test_bfloat16_is_near_float32(paper, gpu, data, tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERS_DATA", str(data))
    exact = run(paper, tmp_path / "exact", gpu, precision="float32")
    rounded = run(paper, tmp_path / "rounded", gpu, precision="bfloat16")
    # eight bits of a number are left: 0.4 % of each, and the first epoch's mean is over some steps
    assert losses(rounded)[0] == pytest.approx(losses(exact)[0], rel=5e-2)


@pytest.mark.parametrize("paper", PARAMETERS)
def test_a_run_that_is_stopped_resumes(paper, gpu, data, tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERS_DATA", str(data))
    whole = run(paper, tmp_path / "whole", gpu)

    class Stopped(Exception):
        pass

    def reporter(folder):
        def report(step, total, note="", numbers=None):
            if 2 * step >= total and (Path(folder) / "checkpoint.pt").exists():
                raise Stopped

        return report

    with monkeypatch.context() as patch:
        patch.setattr("papers_lib.runs.progress.reporter", reporter)
        with pytest.raises(Stopped):
            run(paper, tmp_path / "stopped", gpu)
    again = run(paper, tmp_path / "stopped", gpu)
    assert losses(again) == pytest.approx(losses(whole), rel=1e-3)
