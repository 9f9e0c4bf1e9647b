"""Every vector of ResNet-18's operators with shared weights: one after the other, and by a prefix tree.

    python -m benchmarks.enumeration [--decisions 4 5 --width 16 --images 32 --pixels 32 --rounds 2 --json]

The last `decisions` of 8 vary, so that naive scoring ends in time; weights are random, images synthetic.
"Alone" is one forward pass a vector. The whole space, 65,536 vectors, is extrapolated by its steps from a
step's time, and set against a training of 200 epochs at the same width: a training step (forward and
backward) is timed for the untouched network, which is what a stand-alone training of it takes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from functools import partial
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.timing import Candidate, extra_memory, interleave, show
from papers_lib.nar.counting import costs
from papers_lib.nar.enumeration import Vector, block_evaluations, score_all
from papers_lib.nar.networks import resnet18
from papers_lib.nar.supernet import SuperNet, batch_statistics

BLOCKS, CODES, CLASSES = 8, 4, 10
VALIDATION, TRAINING, EPOCHS = 5_000, 50_000, 200  # images scored and trained with, and epochs, of CIFAR-10
World = tuple[SuperNet, Tensor, Tensor]


def world(options: argparse.Namespace) -> World:
    """A supernet of random weights, whose classes differ from image to image, and synthetic images."""
    torch.manual_seed(0)
    net = SuperNet(BLOCKS, options.width, classes=CLASSES).to(options.device)
    torch.nn.init.normal_(dict(net.named_parameters())["fc.weight"])
    images = torch.randn(options.images, 3, options.pixels, options.pixels, device=options.device)
    return net, images, torch.randint(CLASSES, (options.images,), device=options.device)


def every(decisions: int) -> list[Vector]:
    """All vectors of the last decisions, the others 0."""
    return [(0,) * (BLOCKS - decisions) + tail for tail in product(range(CODES), repeat=decisions)]


@torch.no_grad()
def alone(data: World, vectors: Sequence[Vector]) -> list[float]:
    """A forward pass a vector."""
    net, images, labels = data
    with batch_statistics(net):
        return [float((net(images, v).argmax(1) == labels).double().mean()) for v in vectors]


def train_step(net: torch.nn.Module, images: Tensor, labels: Tensor) -> float:
    """Forward and backward; the optimiser's part is small."""
    loss = F.cross_entropy(net(images), labels)
    loss.backward()
    return float(loss.detach())  # which waits for the device


def report(data: World, decisions: int, options: argparse.Namespace) -> bool:
    """Time, compare and print; whether all scores are equal."""
    net, images, labels = data
    vectors = every(decisions)
    untouched = resnet18((0,) * BLOCKS, classes=CLASSES, width=options.width).to(options.device)
    lines = interleave(
        [
            Candidate("alone", partial(alone, data, vectors), note=f"{len(vectors)} vectors"),
            Candidate(
                "prefix tree", partial(score_all, net, images, labels, decisions, batch=options.images)
            ),
            Candidate("(a training step)", partial(train_step, untouched, images, labels)),
        ],
        options.rounds,
    )
    lines[1].memory_mb = extra_memory(lambda: score_all(net, images, labels, decisions, batch=options.images))
    lines[0].memory_mb = extra_memory(lambda: alone(data, vectors[:CODES]))
    ours = score_all(net, images, labels, decisions, batch=options.images).tolist()
    same = ours == alone(data, vectors)
    tree, steps = block_evaluations(vectors), BLOCKS * len(vectors)
    checks: dict[str, object] = {
        "block evaluations, tree and alone": f"{tree} and {steps}",
        "times fewer block evaluations": round(steps / tree, 2),
        "times faster": round(1 / lines[1].ratio, 2),
        "equal scores": same,
        "scores that differ from one another": len(set(ours)),
    }
    if decisions == max(options.decisions):
        checks |= whole(options, [line.seconds for line in lines], tree)
    title = (
        f"The last {decisions} of {BLOCKS} decisions, width {options.width}, {options.images} images of "
        f"{options.pixels} px, {options.device}"
    )
    show(title, lines, checks, options.json)
    return bool(same)


def whole(options: argparse.Namespace, seconds: list[list[float]], tree: int) -> dict[str, object]:
    """65,536 vectors on 5,000 images against 200 epochs of 50,000: by time here, and by width 64's counts."""
    steps, naive_steps = block_evaluations(every(BLOCKS)), BLOCKS * CODES**BLOCKS
    alone_, by_tree, by_training = (statistics.median(s) / options.images for s in seconds)
    naive = alone_ / CODES ** max(options.decisions) * CODES**BLOCKS * VALIDATION
    shared = by_tree / tree * steps * VALIDATION
    training = by_training * TRAINING * EPOCHS
    macs = ", ".join(f"{2 * value / 1e15:.1f}" for value in operations())
    return {
        "whole space, block evaluations, tree and alone": f"{steps} and {naive_steps}",
        "whole space, times fewer block evaluations": round(naive_steps / steps, 2),
        "whole space, times one training (extrapolated): tree": round(shared / training, 3),
        "whole space, times one training (extrapolated): alone": round(naive / training, 3),
        "width 64, PFLOP (2 a multiply-accumulate) of: alone, tree, one training": macs,
    }


def operations() -> tuple[float, float, float]:
    """Multiply-accumulates at width 64 and 32 px of: all vectors alone, the tree, a training of the base.

    Level t of the tree runs each operator behind 4^t beginnings. Stem, shortcuts and classifier, below a
    hundredth, are left out of the tree's.
    """
    found = costs(BLOCKS, "resnet18_cifar", image_size=32, classes=CLASSES)
    levels = [sum(cost.multiply_accumulates for cost in row if cost) for row in found.choices]
    fixed = found.fixed.multiply_accumulates
    base = fixed + sum(row[0].multiply_accumulates for row in found.choices if row[0])
    naive = CODES**BLOCKS * fixed + sum(levels) * CODES ** (BLOCKS - 1)
    tree = sum(CODES**t * level for t, level in enumerate(levels))
    return float(naive * VALIDATION), float(tree * VALIDATION), 3.0 * base * TRAINING * EPOCHS


def main() -> int:
    """Parse, run, print; 1 where scores differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--decisions", type=int, nargs="+", default=[4, 5], help="that vary, of 8")
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--pixels", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    data = world(options)
    equal = []
    for decisions in options.decisions:
        equal.append(report(data, decisions, options))
        print()
    return int(not all(equal))


if __name__ == "__main__":
    sys.exit(main())
