"""Every vector's accuracy with the shared weights, exactly, by sharing the beginnings that vectors share.

65,536 vectors of 8 decisions are the leaves of a tree: 4 first blocks, 16 second ones and so on, 87,380
blocks instead of 8 · 65,536. The tree is walked depth first, one state per level in memory. That is exact
for every normalisation that does not depend on the operators that follow: the batch's own statistics
(the default) or running ones. Validation images are fixed, so that all vectors meet the same batches.

Accuracies are fractions in float64: equal numbers of right answers are equal values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor

from papers_lib.compute import Precision, autocast
from papers_lib.errors import PapersError
from papers_lib.nar.operators import check
from papers_lib.nar.supernet import SuperNet, batch_statistics, running_statistics

Norm = Literal["batch", "running"]
Vector = tuple[int, ...]
STATISTICS: dict[str, Callable[[SuperNet], AbstractContextManager[None]]] = {
    "batch": batch_statistics,
    "running": running_statistics,
}


@torch.no_grad()
def score(
    supernet: SuperNet,
    images: Tensor,
    labels: Tensor,
    vectors: Sequence[Sequence[int]] | Tensor,
    *,
    batch: int = 1000,
    norm: Norm = "batch",
    precision: Precision = "float32",
) -> Tensor:
    """Accuracy of each vector with the shared weights, [M] float64 on the CPU, in the order given.

    Equal to a forward pass per vector and batch. Vectors that begin alike are evaluated together, see
    `block_evaluations`; the supernet's mode and statistics are left as they were.

    Args:
        images: [n, 3, H, W], normalised as in training, on the supernet's device.
        labels: [n] int64.
        vectors: [M, N], any order, repeats allowed.
        batch: images normalised together: as few batches as hold no more than that, of equal size.
        norm: "batch": their own statistics; "running": the supernet's mixed ones.

    Raises:
        PapersError: a vector that does not fit, another number of labels than images, labels that are no
            classes, fewer than two images, NaN or infinity in them, a batch below two, or an unknown norm
            or precision.
    """
    given = vectors.tolist() if isinstance(vectors, Tensor) else vectors
    rows = [check(row, supernet.decisions, supernet.operators) for row in given]
    _check(images, labels, supernet.classes, batch, norm, precision)
    order = sorted(range(len(rows)), key=rows.__getitem__)  # so that beginnings lie together
    walk = [rows[place] for place in order]
    right = torch.zeros(len(rows), dtype=torch.int64, device=images.device)  # [M], in the walk's order
    pieces = -(-len(images) // batch)  # of equal size: a small last batch would have statistics of its own
    with STATISTICS[norm](supernet), autocast(images.device, precision):
        for x, y in zip(images.tensor_split(pieces), labels.tensor_split(pieces), strict=True):
            _walk(supernet, x, y, walk, right)
    scores = torch.empty(len(rows), dtype=torch.float64)
    scores[order] = right.cpu().double() / len(images)
    return scores


def _walk(net: SuperNet, x: Tensor, y: Tensor, walk: Sequence[Vector], right: Tensor) -> None:
    """Add each vector's right answers; `walk` is sorted, so that a beginning is left once and for all."""
    states, path = [net.begin(x)], Vector()  # states[t] is behind t decisions of the path
    for row, vector in enumerate(walk):
        kept = _shared(path, vector)  # decisions that stay
        del states[kept + 1 :]  # before the next step needs the memory
        for decision in range(kept, len(vector)):
            states.append(net.step(states[-1], decision, vector[decision]))
        right[row] += (net.finish(states[-1]).argmax(1) == y).sum()
        path = vector


def _shared(a: Vector, b: Vector) -> int:
    """Length of the common beginning."""
    for place, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return place
    return min(len(a), len(b))


def block_evaluations(vectors: Sequence[Vector]) -> int:
    """Steps that `score` takes per batch for these vectors; one vector after the other takes M · N."""
    if not vectors:
        return 0
    walk = sorted(vectors)
    return len(walk[0]) + sum(len(b) - _shared(a, b) for a, b in pairwise(walk))  # what each adds


def score_all(
    supernet: SuperNet,
    images: Tensor,
    labels: Tensor,
    decisions: int | None = None,
    *,
    batch: int = 1000,
    norm: Norm = "batch",
    precision: Precision = "float32",
    known: Tensor | None = None,
    report: Callable[[Tensor], None] | None = None,
    chunk: int = 4096,
) -> Tensor:
    """Accuracy of every vector, [K**N] float64: that of vector a is at `index_of(a)`.

    Args:
        decisions: N: the last `decisions` of the supernet's vary, those before are the untouched
            network's; all of them by default. 16 decisions would be 4.3e9 vectors.
        known: what an earlier call gave, NaN where it had not yet come; only the chunks with NaN are
            computed.
        report: called after each chunk with all accuracies so far, to be saved or shown.
        chunk: vectors per chunk.

    The other arguments are those of `score`.

    Raises:
        PapersError: as `score`; decisions that the supernet does not have or that make more than 2²⁴
            vectors; a chunk of none; or `known` as `check_known` refuses it.
    """
    decisions = supernet.decisions if decisions is None else decisions
    total: int = supernet.operators**decisions if 0 < decisions <= supernet.decisions else 0
    if not 0 < total <= 2**24:  # some minutes on a GPU
        raise PapersError(
            f"{decisions} decisions of {supernet.operators} operators cannot be enumerated on a supernet of "
            f"{supernet.decisions}; give fewer"
        )
    if chunk < 1:
        raise PapersError(f"chunks of {chunk} vectors score none; give one or more")
    scores = torch.full((total,), torch.nan, dtype=torch.float64)  # [K**N], NaN where not yet scored
    if known is not None:
        scores = check_known(known, total).clone()
    before = (0,) * (supernet.decisions - decisions)  # untouched
    for start in range(0, total, chunk):
        part = scores[start : start + chunk]  # a view
        if part.isnan().any():
            indices = range(start, start + len(part))
            vectors = [before + vector_at(index, decisions, supernet.operators) for index in indices]
            part[:] = score(supernet, images, labels, vectors, batch=batch, norm=norm, precision=precision)
            if report:
                report(scores)
    return scores


def check_known(known: Tensor, total: int) -> Tensor:
    """What an earlier `score_all` of `total` vectors gave, as it is.

    Raises:
        PapersError: another size or type, or a number that is neither NaN nor a fraction.
    """
    fractions = known.isnan() | ((known >= 0) & (known <= 1))
    if known.shape != (total,) or known.dtype != torch.float64 or not fractions.all():
        raise PapersError(
            f"known accuracies are {known.dtype} {tuple(known.shape)}; {total} vectors need as many, float64 "
            "from 0 to 1, and NaN where there is none"
        )
    return known


def vector_at(index: int, decisions: int, operators: int = 4) -> Vector:
    """The vector at a place of `score_all`'s: the digits of `index`, the first decision the highest."""
    return tuple(index // operators**place % operators for place in reversed(range(decisions)))


def index_of(vector: Sequence[int], operators: int = 4) -> int:
    """Where `score_all` has a vector of the decisions that varied: Σ_t a_t K^(N − 1 − t)."""
    index = 0
    for code in vector:
        index = index * operators + code
    return index


def _check(images: Tensor, labels: Tensor, classes: int, batch: int, norm: str, precision: str) -> None:
    for name, given, known in (("norm", norm, STATISTICS), ("precision", precision, get_args(Precision))):
        if given not in known:
            raise PapersError(f"unknown {name} '{given}': known are {', '.join(known)}")
    if len(images) != len(labels) or len(images) < 2 or batch < 2:
        raise PapersError(
            f"{len(images)} images with {len(labels)} labels in batches of {batch} cannot be scored; "
            "give as many labels as images, two or more, and two or more per batch"
        )
    if labels.dtype != torch.int64 or labels.ndim != 1 or not ((labels >= 0) & (labels < classes)).all():
        raise PapersError(
            f"labels {labels.dtype} {tuple(labels.shape)} are not all of {classes} classes; "
            f"give one int64 an image, 0 to {classes - 1}"
        )
    if not images.isfinite().all():
        raise PapersError("the images hold NaN or infinity; give finite ones")
