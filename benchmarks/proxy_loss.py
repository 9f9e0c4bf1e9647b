"""One training step of the camera-aware loss against the loop over cameras and samples.

    python -m benchmarks.proxy_loss [--batch 32 --d 2048 --k 4 1 --threads 2 --rounds 7 --json]

A step is forward, backward and memory write, at 3,411 proxies (600 clusters, 6 cameras, as Market-1501
has them) and 10,077 (1,000 clusters, 15 cameras, as MSMT17), with k samples of each proxy in the batch:
the fewer, the more cameras, which is what the loop runs over. The public code of CAP needs CUDA and an
old torch; the yardstick is the same way of working in plain torch: a memory for each camera, all of
them copied into one for the samples' inter-camera part, a full sort of the proxies for every sample,
and a write for every sample. A second loop leaves out the copies. The exit code is 1 where values differ.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import timing
from benchmarks.timing import Case
from papers_lib.sampler_study.losses import camera_aware_loss, update_memory

TAU, MOMENTUM, HARD = 0.07, 0.2, 50
OURS = "camera_aware_loss and update_memory"
SIZES = ((3411, 600, 6), (10077, 1000, 15))  # proxies, clusters, cameras


@dataclass(frozen=True)
class Step:
    """A batch and a memory; proxies are numbered camera by camera, so that a camera's are one slice."""

    features: Tensor  # [B, d]
    targets: Tensor  # [B] the proxy of each sample
    memory: Tensor  # [K, d]
    clusters: Tensor  # [K]
    cameras: Tensor  # [K]
    starts: list[int]  # where each camera's slice begins, and the end

    def double(self) -> Step:
        """The same in float64."""
        features = self.features.detach().double().requires_grad_()
        return replace(self, features=features, memory=self.memory.double())

    def copy(self) -> Step:
        """The same state, to be changed."""
        features = self.features.detach().clone().requires_grad_()
        return replace(self, features=features, memory=self.memory.clone())


def make(proxies: int, clusters: int, cameras: int, batch: int, d: int, k: int) -> Step:
    """Proxies of a cluster point the same way, more or less; k samples per proxy."""
    generator = torch.Generator().manual_seed(0)
    pairs = torch.randperm(clusters * cameras, generator=generator)[:proxies].sort().values
    camera, cluster = pairs // clusters, pairs % clusters
    centres = torch.randn(clusters, d, generator=generator)[cluster]
    views = torch.randn(cameras, d, generator=generator)[camera]
    # memory [K, d], features [B, d]: unit vectors
    memory = F.normalize(centres + 0.5 * views + 0.7 * torch.randn(proxies, d, generator=generator))
    targets = torch.randperm(proxies, generator=generator)[: batch // k].repeat_interleave(k)
    noise = torch.randn(len(targets), d, generator=generator)
    features = F.normalize(memory[targets] + 0.8 * noise / d**0.5).requires_grad_()
    starts = [0, *camera.bincount(minlength=cameras).cumsum(0).tolist()]
    return Step(features, targets, memory, cluster, camera, starts)


def ours(step: Step) -> Tensor:
    """The library's step."""
    step.features.grad = None
    loss = camera_aware_loss(
        step.features, step.targets, step.memory, step.clusters, step.cameras, TAU, num_hard_negatives=HARD
    )
    loss.backward()
    update_memory(step.memory, step.features, step.targets, MOMENTUM)
    return loss.detach()


def by_loop(step: Step, copies: bool = True) -> Tensor:
    """Camera by camera, and in it sample by sample."""
    step.features.grad = None
    memories = [step.memory[a:b] for a, b in zip(step.starts, step.starts[1:], strict=False)]
    whole = torch.cat([memory.clone() for memory in memories]) if copies else step.memory
    cameras = step.cameras[step.targets]
    loss = torch.zeros(())
    for camera in cameras.unique().tolist():
        rows = (cameras == camera).nonzero().flatten()
        features, targets = step.features[rows], step.targets[rows]
        # Within the camera: cross-entropy over its own proxies.
        scores = features @ memories[camera].T / TAU  # [b, proxies of the camera]
        loss = loss + F.cross_entropy(scores, targets - step.starts[camera])
        # Across cameras, by sample: the cluster's proxies against the hardest others.
        similar = features @ (whole.T.clone() if copies else whole.T)  # [b, K]
        ranked, similar = similar.detach().clone(), similar / TAU
        parts = [inter_of(similar, ranked, row, step.clusters, y) for row, y in enumerate(targets)]
        loss = loss + 0.5 * sum(parts) / len(rows)
    loss.backward()
    with torch.no_grad():  # m ← μ m + (1 − μ) x, then to length 1
        for feature, y in zip(step.features, step.targets.tolist(), strict=True):
            step.memory[y] = MOMENTUM * step.memory[y] + (1 - MOMENTUM) * feature
            step.memory[y] /= step.memory[y].norm()
    return loss.detach()


def as_shipped(step: Step) -> Tensor:
    """The loop with anomaly detection, which CAP's code leaves on."""
    with torch.autograd.set_detect_anomaly(True):
        return by_loop(step)


def inter_of(scores: Tensor, ranked: Tensor, row: int, clusters: Tensor, target: Tensor) -> Tensor:
    """The inter-camera part of the sample in `row`, by a full sort of all proxies."""
    positive = (clusters == clusters[target]).nonzero().flatten()
    ranked[row, positive] = -10000.0
    # −1/|P| Σ_{p ∈ P} log( exp(s_p) / Σ_{P ∪ hardest} exp(s) )
    hardest = ranked[row].sort().indices[-HARD:]
    chosen = torch.cat((scores[row, positive], scores[row, hardest]))
    return -chosen.log_softmax(0)[: len(positive)].mean()


def differences(step: Step) -> dict[str, float]:
    """Of one step from the same state: the loss's, relative, and the greatest of gradient and memory."""
    mine, theirs = step.copy(), step.copy()
    loss, expected = ours(mine), by_loop(theirs)
    assert mine.features.grad is not None and theirs.features.grad is not None
    return {
        "loss": float((loss - expected).abs() / expected),
        "gradient": float((mine.features.grad - theirs.features.grad).abs().max()),
        "memory": float((mine.memory - theirs.memory).abs().max()),
    }


def bare(step: Step) -> Tensor:
    """The two products without which nothing goes."""
    return (step.features.detach() @ step.memory.T) @ step.memory


CASES: dict[str, Callable[[Step], Tensor]] = {
    "loop over samples, as CAP's code": by_loop,
    "the same in anomaly mode, as it ships": as_shipped,
    "loop over samples, without its copies": partial(by_loop, copies=False),
    OURS: ours,
    "(bare products, forward and backward)": bare,
}
FASTER = {  # what is printed -> the case that ours is set against
    "times faster than the loop as CAP's code": "loop over samples, as CAP's code",
    "times faster than that in anomaly mode": "the same in anomaly mode, as it ships",
    "times faster than the loop without copies": "loop over samples, without its copies",
}


def main() -> int:
    """One table per size, k and number of threads."""
    options = timing.options(__doc__, rounds=7, batch=32, d=2048, k=[4, 1], threads=[torch.get_num_threads()])
    code = 0
    for (proxies, clusters, cameras), k, threads in product(SIZES, options.k, options.threads):
        torch.set_num_threads(threads)
        step = make(proxies, clusters, cameras, options.batch, options.d, k)
        table = timing.compare(
            [Case(name, partial(run, step.copy())) for name, run in CASES.items()], options
        )
        apart = {"float32": differences(step), "float64": differences(step.double())}
        checks: dict[str, object] = {text: round(table.ratio(name, OURS), 1) for text, name in FASTER.items()}
        for kind, values in apart.items():
            checks[f"differences, {kind}"] = ", ".join(
                f"{name} {value:.0e}" for name, value in values.items()
            )
        seen = len(step.cameras[step.targets].unique())
        title = f"{proxies} proxies, batch {options.batch} of {seen} cameras, k={k}, d={options.d}, float32"
        agree = all(value <= 1e-6 for values in apart.values() for value in values.values())
        code |= timing.show(title, table, checks, options, agree)
    return code


if __name__ == "__main__":
    sys.exit(main())
