"""What the papers' settings cost on 1, 8 and 64 GPUs, counted; and four hot paths against N, by the clock.

    python -m benchmarks.scaling             the model, as docs/scaling.md has it
    python -m benchmarks.scaling --curves    the curves, measured here: about two minutes on one thread

The model counts multiply-accumulates and assumes how many a GPU does; what it leaves out is said in the page.
"""

from __future__ import annotations

import argparse
import math
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch.nn.functional import normalize
from torchvision.models import ResNet50_Weights, ResNet101_Weights

from benchmarks import pseudo_labels, reid_ranking, selection
from papers_lib import papers
from papers_lib.evaluation.retrieval import cmc_map
from papers_lib.median_triplet.heads import rank_k_triplet
from papers_lib.nar.counting import count
from papers_lib.quadruplet_cars196.selection import select
from papers_lib.runs.spec import RunSpec
from papers_lib.sampler_study.pseudo_labels import cluster
from papers_lib.settings import validate

# Operations per second that a training is assumed to reach: a fifth of the peak of an A100, for convolutions.
EFFECTIVE = {"bfloat16": 0.2 * 312e12, "TF32": 0.2 * 156e12}
GPUS = (1, 8, 64)
TRAIN = 3  # forward and backward, in forward passes
BATCHES = 400 * 32  # images per epoch of most samplers


class Run(NamedTuple):
    """One training at a paper's settings. `passes` are forward passes per epoch, of one image each."""

    paper: str
    data: str
    what: str
    passes: float
    epochs: int
    macs: float  # multiply-accumulates of one forward pass
    precision: str

    def hours(self) -> float:
        """On one GPU."""
        return 2 * self.macs * self.passes * self.epochs / EFFECTIVE[self.precision] / 3600


def runs() -> list[Run]:
    """The trainings that most of a plan consists of, with the papers' numbers of images and epochs."""
    r50, r101 = (w.IMAGENET1K_V1.meta["_ops"] * 1e9 for w in (ResNet50_Weights, ResNet101_Weights))
    upright = r50 * (256 * 128) / 224**2  # convolutions: by area
    r18 = float(count([0] * 8).multiply_accumulates)
    cifar = float(count([0] * 8, network="resnet18_cifar", image_size=32, classes=10).multiply_accumulates)
    # Two views, each through the trained network (3 passes) and the target (1).
    median = Run(
        "median_triplet", "imagenet", "ImageNet, ResNet-50", 1_281_167 * 2 * (TRAIN + 1), 200, r50, "bfloat16"
    )
    # 400 batches of 32, and the features of all images for the clusters.
    people = [
        Run("sampler_study", data, f"{name}, ResNet-50", BATCHES * TRAIN + images, 50, upright, "TF32")
        for data, name, images in (
            ("market1501", "Market-1501", 12_936),
            ("dukemtmc", "DukeMTMC-reID", 16_522),
            ("msmt17_v1", "MSMT17", 32_621),
        )
    ]
    # A quadruplet per image, and the bank of features that the selection reads.
    cars = Run(
        "quadruplet_cars196", "cars196", "Cars196, ResNet-101", 8_054 * (4 * TRAIN + 1), 30, r101, "TF32"
    )
    nar = [
        Run("nar", "imagenet", "ImageNet, ResNet-18", 1_281_167 * TRAIN, 90, r18, "bfloat16"),
        Run("nar", "cifar10", "CIFAR-10, ResNet-18", 50_000 * TRAIN, 200, cifar, "bfloat16"),
    ]
    return [median, *people, cars, *nar]


def model(planned: Sequence[Sequence[float]]) -> list[str]:
    """The table, one line of Markdown per training; `planned` has the length of each run, in such trainings.

    Runs are computed side by side, so that no plan is over before its longest run is.
    """
    head = "| paper | training | forward passes per epoch | epochs | GMAC | PFLOP | hours per run | runs | "
    lines = [head + " | ".join(f"hours, {n} GPUs" for n in GPUS).replace("1 GPUs", "1 GPU") + " |"]
    lines.append("|---" * (8 + len(GPUS)) + "|")
    for run, lengths in zip(runs(), planned, strict=True):
        flop = 2 * run.macs * run.passes * run.epochs / 1e15
        hours = " | ".join(_digits(max(*lengths, sum(lengths) / n) * run.hours()) for n in GPUS)
        lines.append(
            f"| {run.paper} | {run.what} | {run.passes:,.0f} | {run.epochs} | {run.macs / 1e9:.3g} | "
            f"{flop:,.0f} | {_digits(run.hours())} | {len(lengths)} | {hours} |"
        )
    return lines


def _digits(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 99.5 else f"{hours:.2g}"


def planned() -> list[list[float]]:
    """Of each training the runs of the plan at `paper`, all seeds: how many such trainings each is."""
    plans = {
        name: papers.get(name).study.plan(validate(papers.get(name).settings, {"profile": "paper"}))
        for name in papers.PAPERS
    }
    return [
        [
            _length(run, spec)
            for spec in plans[run.paper]
            if spec.data.name == run.data and spec.settings.get("epochs")
        ]
        for run in runs()
    ]


def _length(run: Run, spec: RunSpec) -> float:
    """By epochs, and in the sampler study by the images of an epoch, which differ between its arms."""
    length: float = spec.settings["epochs"] / run.epochs
    if run.paper == "sampler_study":
        images = spec.settings["iters_per_epoch"] * spec.settings["batch_size"]
        length *= 1 + TRAIN * (images - BATCHES) / run.passes
    return length


def neighbours() -> list[str]:
    """What an exact search of all nearest neighbours of all images takes: N² d multiply-accumulates."""
    lines = [
        "| data | N | d | exact search, PFLOP | hours, 1 GPU | float16 features, GB | 64-byte codes, GB |",
        "|---" * 7 + "|",
    ]
    for name, n, d in (
        ("MSMT17, training images", 32_621, 2048),
        ("MSMT17, all images", 126_441, 2048),
        ("SYSU-30k", 29_606_918, 256),
        ("SYSU-30k", 29_606_918, 2048),
    ):
        flop = 2.0 * n * n * d
        hours = flop / EFFECTIVE["bfloat16"] / 3600
        lines.append(
            f"| {name} | {n:,} | {d} | {flop / 1e15:,.3g} | {hours:.2g} | {2 * n * d / 1e9:.3g} | "
            f"{64 * n / 1e9:.2g} |"
        )
    return lines


# -- the curves --


def selecting(n: int) -> Callable[[], object]:
    x, fine, coarse = selection.data(n, 1024)
    return lambda: select(x, fine, coarse, method="method_2")


def clustering(n: int) -> Callable[[], object]:
    x = pseudo_labels.features(n, 256)
    return lambda: cluster(x)


def ranking(n: int) -> Callable[[], object]:
    """A gallery of n and, as in Market-1501, about a fifth of it as queries."""
    sides = reid_ranking.world(Namespace(queries=n // 5, gallery=n, d=256, spread=1.0))
    return lambda: cmc_map(*sides)


def median_negative(n: int) -> Callable[[], object]:
    """A batch of n, forward and backward."""
    x, z = normalize(torch.randn(2, n, 256, generator=torch.Generator().manual_seed(0)), dim=2)
    x.requires_grad_(True)
    return lambda: torch.autograd.grad(rank_k_triplet(x, z), x)


PATHS = {
    "selection (Method 2, d = 1024)": (selecting, (1000, 2000, 4000, 8000)),
    "pseudo-labels (d = 256)": (clustering, (2000, 4000, 8000, 16000)),
    "ranking (N/5 queries, d = 256)": (ranking, (2000, 4000, 8000, 16000)),
    "median negative (d = 256)": (median_negative, (512, 1024, 2048, 4096)),
}


def seconds(call: Callable[[], object], repeats: int = 5) -> float:
    """The fastest of some calls: others on the machine make a call slower, never faster."""
    found = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        found.append(time.perf_counter() - started)
    return min(found)


def curves() -> list[str]:
    """Seconds at growing N, and the exponent between the first and the last."""
    lines = ["| hot path | N: seconds | exponent |", "|---|---|---|"]
    for name, (make, sizes) in PATHS.items():
        times = [seconds(make(n)) for n in sizes]
        exponent = math.log(times[-1] / times[0]) / math.log(sizes[-1] / sizes[0])
        pairs = ", ".join(f"{n:,}: {t:.2g}" for n, t in zip(sizes, times, strict=True))
        lines.append(f"| {name} | {pairs} | {exponent:.1f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--curves", action="store_true", help="measure the hot paths")
    if parser.parse_args().curves:
        torch.set_num_threads(1)
        print("\n".join(curves()))
        return
    print("\n".join([*model(planned()), "", *neighbours()]))


if __name__ == "__main__":
    main()
