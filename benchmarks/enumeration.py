"""Every vector of ResNet-18's operators with shared weights: one after the other, and by a prefix tree.

    python -m benchmarks.enumeration [--decisions 4 5 --width 16 --images 32 --pixels 32 --device cpu
                                      --rounds 2 --json]

The last `decisions` of 8 vary, so that naive scoring ends in time; weights are random, images synthetic.
"Alone" is one forward pass per vector. The whole space, 65,536 vectors, is extrapolated by its steps from a
step's time, and set against a training of 200 epochs at the same width: a training step (forward and
backward) is timed for the untouched network, which is what a stand-alone training of it takes. The exit code
is 1 where scores differ.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import timing
from benchmarks.timing import Case, Table
from papers_lib.nar.counting import costs
from papers_lib.nar.enumeration import Vector, block_evaluations, score_all
from papers_lib.nar.networks import resnet18
from papers_lib.nar.supernet import SuperNet, batch_statistics

BLOCKS, CODES, CLASSES = 8, 4, 10
VALIDATION, TRAINING, EPOCHS = 5_000, 50_000, 200  # images scored and trained with, and epochs, of CIFAR-10
ALONE, TREE, STEP = "alone", "prefix tree", "(a training step)"


def every(decisions: int) -> list[Vector]:
    """All vectors of the last decisions, the others 0."""
    return [(0,) * (BLOCKS - decisions) + tail for tail in product(range(CODES), repeat=decisions)]


@torch.no_grad()
def alone(net: SuperNet, images: Tensor, labels: Tensor, vectors: Sequence[Vector]) -> list[float]:
    """A forward pass per vector."""
    with batch_statistics(net):  # a vector's own normalisation, as there are no running averages for it
        return [float((net(images, v).argmax(1) == labels).double().mean()) for v in vectors]


def train_step(net: torch.nn.Module, images: Tensor, labels: Tensor) -> float:
    """Forward and backward; the optimiser's part is small."""
    loss = F.cross_entropy(net(images), labels)
    loss.backward()
    return float(loss.detach())  # which waits for the device


def whole(options: Namespace, table: Table, tree: int) -> dict[str, object]:
    """65,536 vectors on 5,000 images against 200 epochs of 50,000: by time here, and by width 64's counts."""
    steps, naive_steps = block_evaluations(every(BLOCKS)), BLOCKS * CODES**BLOCKS
    # Seconds per image, times vectors (or block evaluations, or epochs), times images.
    naive = table.median(ALONE) / options.images / CODES ** max(options.decisions)
    naive *= CODES**BLOCKS * VALIDATION
    shared = table.median(TREE) / options.images / tree * steps * VALIDATION
    training = table.median(STEP) / options.images * TRAINING * EPOCHS
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
    network = costs(BLOCKS, "resnet18_cifar", image_size=32, classes=CLASSES)
    levels = [sum(cost.multiply_accumulates for cost in row if cost) for row in network.choices]
    fixed = network.fixed.multiply_accumulates
    base = fixed + sum(row[0].multiply_accumulates for row in network.choices if row[0])
    naive = CODES**BLOCKS * fixed + sum(levels) * CODES ** (BLOCKS - 1)
    tree = sum(CODES**t * level for t, level in enumerate(levels))
    # Forward and backward are three forward passes.
    return float(naive * VALIDATION), float(tree * VALIDATION), 3.0 * base * TRAINING * EPOCHS


def main() -> int:
    """One table per number of decisions."""
    options = timing.options(
        __doc__, rounds=2, decisions=[4, 5], width=16, images=32, pixels=32, device="cpu"
    )
    torch.manual_seed(0)
    net = SuperNet(BLOCKS, options.width, classes=CLASSES).to(options.device)
    # Random weights, whose classes differ from image to image.
    torch.nn.init.normal_(dict(net.named_parameters())["fc.weight"])
    images = torch.randn(options.images, 3, options.pixels, options.pixels, device=options.device)
    labels = torch.randint(CLASSES, (options.images,), device=options.device)
    untouched = resnet18((0,) * BLOCKS, classes=CLASSES, width=options.width).to(options.device)
    code = 0
    for decisions in options.decisions:
        vectors = every(decisions)

        def by_tree(decisions: int = decisions) -> Tensor:
            return score_all(net, images, labels, decisions, batch=options.images)

        cases = [
            Case(ALONE, lambda v=vectors: alone(net, images, labels, v), note=f"{len(vectors)} vectors"),
            Case(TREE, by_tree),
            Case(STEP, lambda: train_step(untouched, images, labels)),
        ]
        table = timing.compare(cases, options)
        few = vectors[:CODES]
        # Memory does not grow with the vectors, so four stand for all.
        table.memory_mb[TREE] = timing.extra_memory(by_tree)
        table.memory_mb[ALONE] = timing.extra_memory(lambda few=few: alone(net, images, labels, few))
        # -- agreement --
        ours = by_tree().tolist()
        same = ours == alone(net, images, labels, vectors)
        tree, steps = block_evaluations(vectors), BLOCKS * len(vectors)
        checks: dict[str, object] = {
            "block evaluations, tree and alone": f"{tree} and {steps}",
            "times fewer block evaluations": round(steps / tree, 2),
            "times faster": round(table.ratio(ALONE, TREE), 2),
            "equal scores": same,
            "scores that differ from one another": len(set(ours)),
        }
        if decisions == max(options.decisions):
            checks |= whole(options, table, tree)
        size = f"width {options.width}, {options.images} images of {options.pixels} px, {options.device}"
        title = f"The last {decisions} of {BLOCKS} decisions, {size}"
        code |= timing.show(title, table, checks, options, agree=same)
    return code


if __name__ == "__main__":
    sys.exit(main())
