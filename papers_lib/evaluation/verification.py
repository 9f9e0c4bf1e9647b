"""Verification of pairs: are two images of one person? Ten-fold accuracy, TAR at FAR, EER and AUC.

The protocol of LFW (Huang et al., 2007, "unrestricted, labelled outside data") as the public code of ArcFace
has it (insightface, verification.py): squared distances d of normalised embeddings, a pair is accepted
where d < t, and t is the one best on the other folds, which lie in the order of the pairs. The public code
tries 400 thresholds (`grid=0.01`); here the best of all is found by sorting. For TAR at FAR it interpolates
over a grid in which a FAR stands many times; here the threshold is an impostor's own distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from papers_lib import arrays
from papers_lib.arrays import Array
from papers_lib.compute import exact
from papers_lib.errors import PapersError
from papers_lib.evaluation.nearness import of_ordinary_size, unit

Distances = NDArray[np.float64]
Answers = NDArray[np.bool_]


FARTHEST = 4.0  # the largest squared distance of two unit vectors


class Rate(NamedTuple):
    """True acceptance at a false-acceptance rate."""

    far: float  # as it was asked for
    tar: float  # share of genuine pairs below the threshold
    reached: float  # share of impostors below it, at most `far`
    threshold: float


@torch.no_grad()
def face_embeddings(network: nn.Module, images: Tensor, batch_size: int = 256) -> Tensor:
    """Unit embeddings [N, d], float32: of each image and of its mirror, summed, then normalised.

    Args:
        network: in evaluation mode after the call as before it.
        images: uint8 [N, 3, H, W], on the network's device; x → (x − 127.5) / 127.5.
    """
    training = network.training
    network.eval()
    parts = []
    for batch in images.split(batch_size):
        pixels = scaled(batch)  # [B, 3, H, W]
        parts.append(network(pixels).float() + network(pixels.flip(3)).float())  # [B, d]
    network.train(training)
    return normalize(torch.cat(parts))


def scaled(images: Tensor) -> Tensor:
    """uint8 [B, 3, H, W] → float32 in −1 … 1, channels last."""
    return (images.float() - 127.5).div(127.5).contiguous(memory_format=torch.channels_last)


@exact()
def face_distances(first: Array, second: Array) -> Distances:
    """Squared distances [P], 0 … 4, between the rows of two [P, d], each normalised first.

    Raises:
        PapersError: what is no matrix of finite embeddings, or shapes or devices that differ.
    """
    x, y = (arrays.features("embeddings of pairs", side) for side in (first, second))
    if x.shape != y.shape:
        shapes = f"{arrays.shape(x)} and {arrays.shape(y)}"
        raise PapersError(f"embeddings of pairs are {shapes}; give two of one shape [P, d]")
    arrays.together("the second embeddings", y, x)
    a, b = (unit(of_ordinary_size(side).double()) for side in (x, y))
    distances: Distances = (a - b).square().sum(1).cpu().numpy()  # |a − b|² = 2 − 2 cos
    return distances


def ten_fold(
    distances: Array,
    same: Array,
    folds: int = 10,
    fars: Sequence[float] = (0.1, 0.01, 0.001),
    grid: float = 0.0,
) -> dict[str, Any]:
    """Accuracy of verification, each fold at the threshold that is best on the others.

    With the training pairs sorted, d_1 ≤ … ≤ d_n, the accuracy below d_i is
    (genuine among d_1 … d_{i−1} + impostors among d_i … d_n) / n; the best i is taken, the first of ties,
    and t = (d_{i−1} + d_i) / 2. One sort serves all folds: O(P log P + folds · P).

    Args:
        distances: [P] array or tensor; smaller is more alike.
        same: [P] bool, or 0 and 1.
        folds: equal parts of the pairs, in their order.
        fars: for "tar", see `tar_at_far`.
        grid: try only the thresholds 0, grid, 2 grid … below 4, the first of ties; 0: all that there are.

    Returns:
        `accuracy`, `sd` (mean and population standard deviation over folds, fractions), `accuracies` and
        `thresholds` by fold, `tar`: the `Rate` at each of `fars`, on all pairs.

    Raises:
        PapersError: values that are no real numbers, lengths that differ, distances that are not finite,
            answers other than 0 and 1, all pairs of one kind, folds that do not divide the pairs, a grid
            that is negative or of 4 and more.
    """
    if not 0 <= grid < FARTHEST:
        raise PapersError(f"a grid of {grid} has no thresholds below {FARTHEST}; give 0.01, or 0 for all")
    d, genuine = _checked(distances, same)
    if folds not in range(2, len(d) + 1) or len(d) % folds:  # text is in no range, and 2.0 in this one
        raise PapersError(
            f"{len(d)} pairs do not divide into {folds!r} folds; give a whole number that divides them"
        )
    folds = int(folds)
    fold = np.repeat(np.arange(folds), len(d) // folds)  # [P]
    order = np.argsort(d, kind="stable")  # one sort serves all folds
    thresholds = np.empty(folds)
    for k in range(folds):
        others = order[fold[order] != k]  # the pairs of the other folds, ascending
        best = best_threshold(d[others], genuine[others])
        thresholds[k] = best_of_grid(d[others], genuine[others], grid) if grid else best
    correct = (d < thresholds[fold]) == genuine  # [P]
    accuracies = correct.reshape(folds, -1).mean(1)
    return {
        "accuracy": float(accuracies.mean()),
        "sd": float(accuracies.std()),
        "accuracies": accuracies.tolist(),
        "thresholds": thresholds.tolist(),
        "tar": tar_at_far(d, genuine, fars),
    }


def best_threshold(distances: Distances, genuine: Answers) -> float:
    """The t at which d < t is right most often, halfway between two distances; the first of ties.

    Args:
        distances: [n], ascending.
        genuine: [n], whether they are of one person.
    """
    # gain[i]: genuine minus impostors among the i nearest; right answers are gain[i] + all impostors
    gain = np.concatenate([[0], np.cumsum(np.where(genuine, 1, -1))])
    between = np.concatenate([[True], distances[1:] > distances[:-1], [True]])  # no threshold splits a tie
    i = int(np.argmax(np.where(between, gain, gain.min() - 1)))
    if i == 0:
        return float(distances[0])  # nothing is below it
    if i == len(distances):
        return float(np.nextafter(distances[-1], np.inf))
    below, above = float(distances[i - 1]), float(distances[i])
    middle = below + (above - below) / 2
    return middle if middle > below else above  # neighbouring floats have none between them


def best_of_grid(distances: Distances, genuine: Answers, grid: float) -> float:
    """The same among 0, grid, 2 grid … below 4, as insightface's verification.py has it with 0.01."""
    tried = np.arange(0, FARTHEST, grid)
    gain = np.concatenate([[0], np.cumsum(np.where(genuine, 1, -1))])
    return float(tried[np.argmax(gain[np.searchsorted(distances, tried)])])  # d < t lie left of t


def equal_error(distances: Array, same: Array) -> tuple[float, float]:
    """EER and AUC, as fractions.

    EER: where as many impostors are accepted (d < t) as genuine pairs are refused, on the straight line
    between the two thresholds on either side. AUC: the chance that a genuine pair is nearer than an
    impostor, ties counting half.

    Raises:
        PapersError: as `ten_fold`.
    """
    d, same_person = _checked(distances, same)
    impostors, genuine = np.sort(d[~same_person]), np.sort(d[same_person])
    closer, up_to = (np.searchsorted(impostors, genuine, side) for side in ("left", "right"))
    auc = 1 - float((closer + up_to).mean()) / (2 * len(impostors))

    thresholds = np.append(np.unique(d), np.inf)
    far = np.searchsorted(impostors, thresholds) / len(impostors)  # rises from 0 to 1
    frr = 1 - np.searchsorted(genuine, thresholds) / len(genuine)  # falls from 1 to 0
    i = int(np.argmax(far >= frr))  # the first; never 0, where nothing is accepted
    before, behind = frr[i - 1] - far[i - 1], far[i] - frr[i]
    share = before / (before + behind)  # of the way from i − 1 to i
    return float(far[i - 1] + share * (far[i] - far[i - 1])), auc


def tar_at_far(distances: Array, same: Array, fars: Sequence[float] = (0.1, 0.01, 0.001)) -> list[Rate]:
    """True-acceptance rates at false-acceptance rates, without interpolation.

    Of I impostors ⌊far · I⌋ may be accepted. So the threshold is the distance of the next one, with the
    impostors sorted, and what ties with it is not accepted. A far below 1 / I allows none at all.

    Args:
        distances: [P] array or tensor.
        same: [P] bool, or 0 and 1.
        fars: each in 0 … 1; a single number is one rate.

    Raises:
        PapersError: as `ten_fold`, or a rate out of range.
    """
    d, same_person = _checked(distances, same)
    impostors, genuine = np.sort(d[~same_person]), np.sort(d[same_person])
    rates = []
    for far in _numbers(fars, "false-acceptance rates").ravel().tolist():
        if not 0 <= far <= 1:
            raise PapersError(f"a false-acceptance rate of {far} is none; give 0 to 1")
        allowed = int(far * len(impostors) + 1e-9)  # 0.001 · 3000 is a hair below 3 in some products
        threshold = float(impostors[allowed]) if allowed < len(impostors) else float("inf")
        # Accepted is d < t: what lies left of t in ascending order.
        tar, reached = (float(np.searchsorted(x, threshold) / len(x)) for x in (genuine, impostors))
        rates.append(Rate(far, tar, reached, threshold))
    return rates


def _checked(distances: Array, same: Array) -> tuple[Distances, Answers]:
    d, answers = _numbers(distances, "distances"), _numbers(same, "answers")
    if d.ndim != 1 or d.shape != answers.shape:
        raise PapersError(f"distances and answers are {d.shape} and {answers.shape}; give two of one length")
    if not np.isfinite(d).all():
        raise PapersError("a distance is not finite; see to the embeddings")
    if not np.isin(answers, (0, 1)).all():
        raise PapersError("answers are other than 0 and 1; give for each pair whether it is of one person")
    genuine = answers.astype(bool)
    if len(d) == 0 or genuine.all() or not genuine.any():
        kind = "no pairs" if len(d) == 0 else f"all {len(d)} pairs are of one kind"
        raise PapersError(f"{kind}; verification needs pairs of one person and of two")
    return d, genuine


def _numbers(values: Array, what: str) -> Distances:
    numbers: Distances = arrays.tensor(what, values).detach().cpu().double().numpy()
    return numbers
