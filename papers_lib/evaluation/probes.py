"""How good are frozen features: a kNN vote and a linear classifier, on features of train and test.

Both are the usual protocols of self-supervised learning. Test labels are only ever counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor

from papers_lib import arrays, processes
from papers_lib.arrays import Array
from papers_lib.compute import exact
from papers_lib.errors import PapersError
from papers_lib.evaluation.nearness import Directions, common_direction, of_ordinary_size, unit

BLOCK = 2**24  # similarities in memory at once: 64 MB
LRS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
FURTHER = 4  # rates tried beyond either end of the grid while the best is the outermost


class LinearProbe(TypedDict):
    """What `linear_probe` found, as fractions."""

    accuracy: float  # of the test set, by the classifier that was fitted on all of train
    lr: float
    held_out: dict[str, float]  # by learning rate: cross-entropy of the held-out part of train


@exact()
def knn_accuracy(
    train: Array,
    train_labels: Array,
    test: Array,
    test_labels: Array,
    k: int = 200,
    tau: float = 0.1,
    classes: int | None = None,
) -> float:
    """Weighted kNN vote by cosine (Wu et al., CVPR 2018, sec. 3.4): the share of test images it gets right.

    The k nearest training images vote for their class, each with exp(cos / τ); the class with the most
    votes is the answer, the lowest at a tie. Exact and blockwise: the whole matrix is never held.
    lightly's CIFAR-10 table has k = 200 and τ = 0.1.

    Args:
        train, test: features [N, d], [M, d] of any float type, on one device.
        train_labels, test_labels: class numbers [N], [M].
        k: neighbours; at most N, it is not cut down silently.
        tau: τ, above 0.
        classes: how many classes there are; one more than the largest training label by default.

    Raises:
        PapersError: shapes that do not fit, features that are not finite, k not in 1 … N, τ ≤ 0, a
            label outside of 0 … classes − 1, or a test class that no training image has.
    """
    data = _data(train, train_labels, test, test_labels, classes)
    count = len(data.train)
    if arrays.whole("k", k) > count:
        raise PapersError(f"k={k} neighbours of {count} training images; give 1 <= k <= {count}")
    if not tau > 0:
        raise PapersError(f"tau={tau:g} is no temperature; give one above 0")
    bank = of_ordinary_size(data.train)
    centre = common_direction(bank)
    directions, queries = Directions.of(bank, centre), unit(of_ordinary_size(data.test), centre)
    step = max(1, BLOCK // count)
    right = 0
    for rows, labels in zip(queries.split(step), data.test_labels.split(step), strict=True):
        cosine, nearest = directions.cosines(rows).topk(k, sorted=False)  # [n, k] both
        # exp(cos / τ) up to a factor of the query, so that a small τ leaves the range of no float
        weights = ((cosine - cosine.amax(1, keepdim=True)) / tau).exp()
        votes = rows.new_zeros(len(rows), data.classes)  # [n, C]
        votes.scatter_add_(1, data.train_labels[nearest], weights)
        right += int((votes.argmax(1) == labels).sum())
    return right / len(queries)


@exact()
def linear_probe(
    train: Array,
    train_labels: Array,
    test: Array,
    test_labels: Array,
    *,
    lrs: Sequence[float] = LRS,
    epochs: int = 100,
    batch_size: int = 256,
    seed: int = 0,
    held_out: float = 0.1,
    classes: int | None = None,
) -> LinearProbe:
    """Linear evaluation (paper, sec. 4.1): a linear classifier on frozen features, trained by SGD.

    Momentum 0.9, no weight decay, batches of 256, 100 epochs, weights from N(0, 0.01²), as the paper
    and its code; the learning rate falls by a cosine, step by step, without their warm-up. The paper
    names no learning rate and its code has another for each checkpoint. Here each rate of `lrs` is
    fitted to a part of the training set; the one with the least cross-entropy on the held-out rest is
    fitted again to all of train, and that classifier alone meets the test set, once, after its last epoch.
    Accuracy would not do: of some hundred images it rises by steps, has several maxima, and rounding decides
    between them. Where the best of several is the outermost, the grid goes on by √10, so that the chosen
    rate lies inside. Several processes share the rates.

    Features are taken as they are: not standardised, not normalised, and not augmented, where the
    paper crops and flips at random while it trains the classifier.

    Args:
        train, test: features [N, d], [M, d] of any float type, on one device; computed in float32.
        train_labels, test_labels: class numbers [N], [M].
        lrs: learning rates to choose from; a single one is taken as it is, but scored all the same.
        epochs: passes over the training set, at least 1.
        batch_size: images per step; the last, smaller batch counts too.
        seed: of the split, the weights and the order of the images.
        held_out: share of each class that is held out, in (0, 1); of two images or more at least one
            is held out and at least one is not.
        classes: how many classes there are; one more than the largest training label by default.

    Raises:
        PapersError: as `knn_accuracy`; or settings out of range, or no class with two training images.
    """
    if not lrs or min(lrs) <= 0 or epochs < 1 or batch_size < 1 or not 0 < held_out < 1:
        settings = f"lrs={tuple(lrs)}, epochs={epochs}, batch_size={batch_size}, held_out={held_out:g}"
        raise PapersError(f"linear probe with {settings}; all are above 0, and held_out below 1")
    data = _data(train, train_labels, test, test_labels, classes)
    generator = torch.Generator().manual_seed(seed)
    away = _held_out(data.train_labels, held_out, generator)  # [N] bool
    kept = generator.get_state()

    def fit(rows: Tensor, rates: list[float]) -> Tensor:
        generator.set_state(kept)  # weights and batches are the same for every rate
        sizes = {"epochs": epochs, "batch_size": batch_size, "classes": data.classes}
        return _fit(data.train, data.train_labels, rows, rates, **sizes, generator=generator)

    # -- choose: every rate on one part of train, scored on the rest --
    scores: dict[float, float] = {}
    rank, world = processes.group()

    def score(rates: list[float]) -> None:
        found: list[float] = []
        if mine := rates[rank::world]:
            weights = fit((~away).nonzero()[:, 0], mine)
            found = _losses(weights, data.train[away], data.train_labels[away])
        for first, some in enumerate(processes.collected(found)):
            scores.update(zip(rates[first::world], some, strict=True))

    def best() -> float:
        return min(sorted(scores), key=scores.__getitem__)  # the smallest of equals

    score(sorted(lrs))
    for _ in range(FURTHER if len(lrs) > 1 else 0):
        ends = {min(scores): 10**-0.5, max(scores): 10**0.5}
        if best() in ends:
            score([float(f"{best() * ends[best()]:.1g}")])

    # -- fit the best to all of train, and meet the test set once --
    final = fit(torch.arange(len(away)), [best()])
    [accuracy] = _accuracies(final, data.test, data.test_labels)
    by_lr = {f"{lr:g}": round(scores[lr], 5) for lr in sorted(scores)}
    return LinearProbe(accuracy=accuracy, lr=best(), held_out=by_lr)


def _fit(
    x: Tensor,
    labels: Tensor,
    rows: Tensor,
    lrs: list[float],
    *,
    epochs: int,
    batch_size: int,
    classes: int,
    generator: torch.Generator,
) -> Tensor:
    """Softmax regression by SGD on the `rows` of x [N, d], for L learning rates at once.

    All see the same batches, so that a step of all is two matrix products. The gradient is written down: for
    a batch of n it is xᵀ (softmax(x W) − onehot) / n. Gives weights [d + 1, L, C], the last row the bias.
    """
    # -- start: one draw from N(0, 0.01²) for all rates, the bias 0 --
    start = torch.randn(x.shape[1] + 1, 1, classes, generator=generator) * 0.01
    start[-1] = 0
    weights = start.to(x).expand(-1, len(lrs), -1).contiguous()  # [d + 1, L, C]
    momentum = torch.zeros_like(weights)
    rates = torch.tensor(lrs, device=x.device)[:, None]  # [L, 1]
    steps, step = epochs * math.ceil(len(rows) / batch_size), 0
    for _ in range(epochs):
        order = rows[torch.randperm(len(rows), generator=generator)].to(x.device)
        for batch in order.split(batch_size):
            inputs = _with_one(x[batch])  # [n, d + 1]
            # -- gradient: xᵀ (softmax(x W) − onehot) / n --
            error = torch.tensordot(inputs, weights, 1).softmax(2)  # [n, L, C]
            error -= F.one_hot(labels[batch], classes)[:, None]
            # -- step: m ← 0.9 m + gradient; W ← W − lr · (1 + cos(π t / T)) / 2 · m --
            momentum.mul_(0.9).add_(torch.tensordot(inputs.T, error, 1), alpha=1 / len(inputs))
            factor = (1 + math.cos(math.pi * step / steps)) / 2
            weights.addcmul_(rates * factor, momentum, value=-1)
            step += 1
    return weights


def _with_one(rows: Tensor) -> Tensor:
    """For the bias: [n, d] → [n, d + 1]."""
    return F.pad(rows, (0, 1), value=1.0)


def _accuracies(weights: Tensor, x: Tensor, labels: Tensor) -> list[float]:
    """Of each of the L classifiers."""
    right = torch.zeros(weights.shape[1], dtype=torch.int64, device=x.device)
    for rows, answers in zip(x.split(4096), labels.split(4096), strict=True):
        logits = torch.tensordot(_with_one(rows), weights, 1)  # [n, L, C]
        right += (logits.argmax(2) == answers[:, None]).sum(0)
    shares: list[float] = (right.double() / len(x)).tolist()
    return shares


def _losses(weights: Tensor, x: Tensor, labels: Tensor) -> list[float]:
    """Cross-entropy of each of the L classifiers; that of one that ran away is large, and finite."""
    total = torch.zeros(weights.shape[1], dtype=torch.float64, device=x.device)
    for rows, answers in zip(x.split(4096), labels.split(4096), strict=True):
        logits = torch.tensordot(_with_one(rows), weights, 1).movedim(2, 1)  # [n, C, L]
        each = F.cross_entropy(logits, answers[:, None].expand(-1, logits.shape[2]), reduction="none")
        total += each.double().sum(0)
    losses: list[float] = (total / len(x)).nan_to_num(1e6, 1e6).clamp(max=1e6).tolist()
    return losses


def _held_out(labels: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """A random `share` of each class, bool [N]."""
    labels = labels.cpu()
    order = torch.randperm(len(labels), generator=generator)
    order = order[labels[order].argsort(stable=True)]  # [N] by class, shuffled within
    sizes = labels.bincount()  # [C]
    # The place of each image in its class, after shuffling: its own minus its class's first.
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order)) - (sizes.cumsum(0) - sizes)[labels[order]]
    most = (sizes * share).round().long().clamp(min=1)
    away = place < torch.minimum(most, sizes - 1)[labels]
    if not away.any():
        raise PapersError("no class has two training images, so none can be held out; give more images")
    return away


class _Data(NamedTuple):
    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    classes: int


def _data(train: Array, train_labels: Array, test: Array, test_labels: Array, classes: int | None) -> _Data:
    """Checked, in float32, labels on the features' device."""
    x, y = _side("training", train, train_labels)
    x_test, y_test = _side("test", test, test_labels)
    arrays.together("test features", x_test, x)
    if x.shape[1] != x_test.shape[1]:
        raise PapersError(
            f"training features have {x.shape[1]} dimensions and test features {x_test.shape[1]}"
        )
    classes = int(y.max()) + 1 if classes is None else classes
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= classes:
        raise PapersError(
            f"training labels run from {low} to {high}; {classes} classes are 0 … {classes - 1}"
        )
    absent = sorted(set(y_test.unique().tolist()) - set(y.unique().tolist()))
    if absent:
        raise PapersError(
            f"no training image is of the test classes {absent[:5]}, so none can be found; "
            "give a training set that holds them"
        )
    return _Data(x, y, x_test, y_test, classes)


def _side(name: str, features: Array, labels: Array) -> tuple[Tensor, Tensor]:
    x = arrays.features(f"{name} features", features, wide=False)  # [N, d] float32
    return x, arrays.integers(f"{name} labels", labels, len(x)).to(x.device)
