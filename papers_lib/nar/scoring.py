"""What a finished search is worth: the rank of its vectors among all, on images that chose nothing.

The paper cannot say where its vectors stand; with 8 decisions all 65,536 are scored here by the same weights,
so that every pick has an exact rank. All are scored twice, on the images that choose and on those that judge:
the best of many is chosen by the first and ranked by the second, and how far the two agree bounds what any
search by these scores can reach.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from papers_lib import checkpoint, compute
from papers_lib.errors import PapersError
from papers_lib.nar import enumeration, sampling
from papers_lib.nar.counting import Costs, costs, count_all
from papers_lib.nar.fitting import Report, prepare
from papers_lib.nar.images import Given, Loaded, load, normalised
from papers_lib.nar.operators import Rule
from papers_lib.nar.options import Common, ScoreSettings
from papers_lib.nar.supernet import SuperNet, batch_statistics, recalibrated

BINS = 48  # of the picture, along each axis
TOP = 0.01  # share of all vectors that counts as their top
BATCH = 1000  # images that are normalised together
NEEDED = {"choices", "samples", "history", "reward_images"}  # of the search's metrics
DRAWN = (1, 5, 39)  # reward batches of a selection; 39 of 128 images are ENAS's validation part
HALVES = ("choice", "judge")  # of the images that all vectors are scored on
RECALIBRATION = 8  # batches

# -- shared weights ----------------------------------------------------------------------------------------


def supernet_of(settings: Common, images: Loaded, where: torch.device) -> SuperNet:
    """The supernet of these settings with fresh weights, on the device."""
    net = SuperNet(
        settings.decisions, settings.width, "cifar", images.classes, settings.rule, settings.operators
    )
    compute.place(net, where)
    return net


def costs_of(settings: Common, images: Loaded) -> Costs:
    """What each operator costs at each decision of that supernet, per image."""
    return costs(*_network(settings, images))


def _network(settings: Common, images: Loaded) -> tuple[int, str, Rule, int, int, int, int]:
    """Arguments of `counting.costs` and `count_all`."""
    side, classes = images.train.shape[1], images.classes
    rule, width, operators = settings.rule, settings.width, settings.operators
    return settings.decisions, "resnet18_cifar", rule, side, classes, width, operators


def network_of(settings: Common, images: Loaded, weights: Path, where: torch.device) -> SuperNet:
    """The supernet with the weights that a search left.

    Raises:
        PapersError: no such file, or one that is damaged, of another network, or not finite.
    """
    supernet, result = supernet_of(settings, images, where), weights.with_name("result.json")
    try:
        supernet.load_state_dict(checkpoint.load_weights(weights))
    except PapersError as error:
        raise PapersError(f"{error}, or {_again(result)}") from None
    except (AttributeError, RuntimeError, TypeError):  # torch names every weight
        raise PapersError(f"weights {weights} are of another network; {_again(result)}") from None
    if not all(value.isfinite().all() for value in supernet.state_dict().values()):
        raise PapersError(f"weights {weights} hold NaN or infinity; {_again(weights.parent)}")
    return supernet


def _again(what: Path) -> str:
    """What mends a search that is done, but whose files are of no use."""
    return f"remove {what}, and the sweep computes that search again"


# -- every vector ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Scored:
    """All vectors' scores on the images of the choice and on those of the judge, [V] each, and their
    multiply-accumulates [V], in the order of `enumeration.score_all`.
    """

    choice: NDArray[np.float64]
    judge: NDArray[np.float64]
    macs: NDArray[np.float64]
    decisions: int
    operators: int

    def vector(self, place: int) -> list[int]:
        """The vector at a place."""
        return list(enumeration.vector_at(int(place), self.decisions, self.operators))

    def place(self, vector: Sequence[int]) -> int:
        """Where a vector is."""
        return enumeration.index_of(vector, self.operators)

    def best(self, vectors: Sequence[Sequence[int]]) -> list[int]:
        """Of some vectors the first in `order`."""
        places = np.array([self.place(vector) for vector in vectors])
        return self.vector(places[self.order[places].argmin()])

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """Each vector's place by the choice, [V] from 0: the best first, of equal ones the cheapest."""
        first = np.lexsort((np.arange(len(self.choice)), self.macs, -self.choice))  # last key first
        order = np.empty(len(first), np.int64)
        order[first] = np.arange(len(first))
        return order

    @cached_property
    def ranks(self) -> NDArray[np.float64]:
        """Each vector's rank by the judge, [V]: 1 is the best, equal scores share the mean of theirs."""
        return ranks(self.judge)

    def blind(self, draws: int, rank: float) -> dict[str, float]:
        """What the best of that many uniform draws reaches, which the choice picks and the judge ranks.

        `expected` is its mean rank, `chance` the probability that it ranks up to `rank`. Exact: draws are
        with replacement, and the best of m is the vector at place j of `order` with probability
        ((V − j) / V)^m − ((V − j − 1) / V)^m.
        """
        left = 1 - np.arange(len(self.order) + 1) / len(self.order)  # (V − j) / V, j = 0 … V
        p = -np.diff(left**draws)  # [V] by place
        by_vector = p[self.order]  # [V]
        expected, chance = by_vector @ self.ranks, by_vector[self.ranks <= rank].sum()
        return {"draws": draws, "expected": round(float(expected), 3), "chance": round(float(chance), 6)}

    def agreement(self) -> dict[str, float]:
        """Kendall's τ and Spearman's ρ between the two halves over all vectors: the ceiling of a search."""
        from scipy.stats import kendalltau, spearmanr

        pair = (self.choice, self.judge)
        return {
            name: round(float(f(*pair).statistic), 5) for name, f in (("tau", kendalltau), ("rho", spearmanr))
        }

    def read(self, vector: Sequence[int]) -> dict[str, Any]:
        """Scores on both halves, the judge's rank, and saving of one vector."""
        place = self.place(vector)
        return {
            "vector": list(vector),
            "choice": float(self.choice[place]),
            "score": float(self.judge[place]),
            "rank": float(self.ranks[place]),
            "saving": round(float(1 - self.macs[place] / self.macs[0]), 5),
        }


def ranks(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks of scores, [V]: 1 is the highest, equal ones share the mean of theirs."""
    from scipy.stats import rankdata

    ranked: NDArray[np.float64] = rankdata(-scores)
    return ranked


def enumerate_vectors(
    settings: ScoreSettings,
    data: Given,
    folder: Path,
    needed: Mapping[str, Any],
    weights: Path,
    device: str,
    report: Report,
) -> dict[str, Any]:
    """Score all vectors with the shared weights of a finished search, on two halves of held-out images.

    Leaves all scores as `folder/scores.pt`: `choice` and `judge`, [V] each.

    Returns:
        Plain JSON: `choices`, `named` (scores, rank and saving of the vectors that the study talks of),
        `blind` (what the best of blind draws reaches), `agreement` of the halves, and summaries of the rest.

    Raises:
        PapersError: bad data, metrics that are no search's, or weights as `network_of` refuses them.
    """
    if missing := NEEDED - needed.keys():
        raise PapersError(
            f"the run needed has no {', '.join(sorted(missing))} in its result; "
            f"{_again(weights.with_name('result.json'))}"
        )
    where = prepare(settings, device)
    images = load(data, settings, where)
    supernet = network_of(settings, images, weights, where)
    parts = images.parts(settings.score_images)
    halves = [images.plain(parts.choice), images.plain(parts.judge)]  # x [n, 3, H, W] and y [n] each
    scores, result = score_space(settings, supernet, images, halves, folder, report)
    checkpoint.save(folder / "scores.pt", dict(zip(HALVES, scores, strict=True)))
    macs = count_all(*_network(settings, images))[:, 1].astype(float)
    choice, judge = scores.numpy()
    scored = Scored(choice, judge, macs, settings.decisions, settings.operators)
    result |= _naive_difference(settings, supernet, *halves[0], scored)
    result |= _reward_noise(settings, supernet, images, parts.reward, needed)
    if settings.vectors:
        result |= _other_statistics(settings, supernet, images, *halves[1])
    return result | _summary(settings, scored, needed)


def score_space(
    settings: ScoreSettings,
    supernet: SuperNet,
    images: Loaded,
    halves: Sequence[tuple[Tensor, Tensor]],
    folder: Path,
    report: Report,
) -> tuple[Tensor, dict[str, Any]]:
    """All vectors' scores on each half, [2, V], resumable; and what they cost, as plain JSON."""
    total = settings.operators**settings.decisions
    began = time.perf_counter()  # of this process; `spent` is of those before
    blank = {"scores": torch.full((len(halves), total), torch.nan, dtype=torch.float64), "seconds": 0.0}

    def take(state: dict[str, Any]) -> tuple[Tensor, float]:
        known = [enumeration.check_known(scores, total) for scores in state["scores"]]
        if len(known) != len(halves):
            raise ValueError("scores of another number of halves")
        return torch.stack(known), float(state["seconds"])

    kept = checkpoint.load(folder / "checkpoint.pt")
    known, spent = checkpoint.take_up(kept, take, blank) or take(blank)
    for half, (x, y) in enumerate(halves):

        def save(scores: Tensor, half: int = half) -> None:
            known[half] = scores
            done = int((~known.isnan()).sum())
            report(done, known.numel(), f"{done} of {known.numel()} scores")
            state = {"scores": known, "seconds": spent + time.perf_counter() - began}
            checkpoint.save(folder / "checkpoint.pt", state)

        known[half] = enumeration.score_all(
            supernet, x, y, batch=BATCH, precision=settings.precision, known=known[half], report=save
        )
    vectors = product(range(settings.operators), repeat=settings.decisions)
    count = sum(len(y) for _, y in halves)
    return known, {
        "seconds_scoring": round(spent + time.perf_counter() - began, 2),
        "images": count,
        "count": total,
        "multiply_accumulates": count * costs_of(settings, images).macs_together(vectors),
        "block_calls": sum(settings.operators ** (n + 1) for n in range(settings.decisions)),
        "naive_block_calls": settings.decisions * total,
    }


def _naive_difference(
    settings: ScoreSettings, supernet: SuperNet, x: Tensor, y: Tensor, scored: Scored
) -> dict[str, Any]:
    """Some vectors scored alone, one forward pass each: the largest difference to what the tree gave."""
    generator = torch.Generator().manual_seed(settings.seed)
    vectors = sampling.uniform(settings.checked, settings.decisions, settings.operators, generator).tolist()
    pieces = -(-len(y) // BATCH)
    gaps = []
    with torch.no_grad(), batch_statistics(supernet), compute.autocast(x.device, settings.precision):
        for vector in vectors:
            right = 0
            for images, labels in zip(x.tensor_split(pieces), y.tensor_split(pieces), strict=True):
                right += int((supernet(images, vector).argmax(1) == labels).sum())
            gaps.append(abs(right / len(y) - scored.choice[scored.place(vector)]))
    return {"checked": len(vectors), "max_difference_to_naive": float(max(gaps))}


def _other_statistics(
    settings: ScoreSettings, supernet: SuperNet, images: Loaded, x: Tensor, y: Tensor
) -> dict[str, Any]:
    """The judge's score of a sample of vectors by running statistics, and by recalibrated ones."""
    generator = torch.Generator().manual_seed(settings.seed)  # as those that are trained alone
    vectors = sampling.mixed(settings.vectors, settings.decisions, settings.operators, generator).tolist()
    running = enumeration.score(
        supernet, x, y, vectors, batch=BATCH, norm="running", precision=settings.precision
    )
    some = images.training[torch.randperm(len(images.training), generator=torch.Generator().manual_seed(0))]
    batches = [normalised(images.train[part]) for part in some.split(settings.batch_size)[:RECALIBRATION]]
    sample = []
    for vector, by_running in zip(vectors, running.tolist(), strict=True):
        with recalibrated(supernet, vector, batches), torch.no_grad():
            right = (supernet(x, vector).argmax(1) == y).double().mean()
        readings = {"running": round(by_running, 6), "recalibrated": round(float(right), 6)}
        sample.append({"vector": vector, **readings})
    return {"sample": sample}


def _reward_noise(
    settings: ScoreSettings,
    supernet: SuperNet,
    images: Loaded,
    indices: Tensor,
    needed: Mapping[str, Any],
) -> dict[str, Any]:
    """The search's final samples by batches of the reward's images: what decides which of them is best?

    `shared` is the standard deviation over batches of what all samples have in common, `own` of what is
    left of one sample when that is taken off, `spread` that of the samples' true scores, free of `own`:
    see `components`. `changed` is the share of 1,000 draws of 1, 5 and 39 batches, as many as there are, in
    which the sample that is best on all batches is beaten; a tie is no change. Statistics are the batch's,
    whatever the search took.
    """
    vectors = sorted({tuple(sample["vector"]) for sample in needed["samples"]})
    batches = len(indices) // settings.reward_images
    rows = []
    for part in indices[: batches * settings.reward_images].view(batches, -1):
        x, y = images.plain(part)
        rows.append(enumeration.score(supernet, x, y, vectors, batch=BATCH, precision=settings.precision))
    noise: dict[str, Any] = {"batches": batches, "distinct": len(vectors)}
    if batches > 1 and len(vectors) > 1:
        table = torch.stack(rows)  # [batches, samples]
        noise |= components(table)
        noise["changed"] = {str(count): share_changed(table, count) for count in DRAWN if count <= batches}
    return {"reward_noise": noise}


def components(table: Tensor) -> dict[str, float]:
    """Standard deviations of R_bs = μ + batch_b + sample_s + own_bs, of rewards [batches, samples].

    Two-way analysis of variance: own² = Σ (R_bs − R_b· − R_·s + R_··)² / ((B − 1)(S − 1)), and of the means
    own² / S is taken off those over batches and own² / B off those over samples.
    """
    batches, samples = table.shape
    rest = table - table.mean(0) - table.mean(1, keepdim=True) + table.mean()
    own = float(rest.square().sum()) / ((batches - 1) * (samples - 1))
    shared = max(0.0, float(table.mean(1).var()) - own / samples)
    spread = max(0.0, float(table.mean(0).var()) - own / batches)
    return {
        name: round(value**0.5, 6) for name, value in (("shared", shared), ("own", own), ("spread", spread))
    }


def share_changed(table: Tensor, count: int, draws: int = 1000) -> float:
    """Share of draws of `count` batches, [batches, samples], that beat the sample best on all of them."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(draws, len(table), generator=generator).argsort(1)[:, :count]  # [draws, count]
    means = table[drawn].mean(1)  # [draws, samples]
    best = means[:, int(table.mean(0).argmax())]  # [draws], of the sample best on all batches
    return round(float((means.max(1).values > best + 1e-9).double().mean()), 4)


def _summary(settings: ScoreSettings, scored: Scored, needed: Mapping[str, Any]) -> dict[str, Any]:
    drawn = random_vectors(settings, needed)
    singles = sampling.singles(settings.decisions, settings.operators).tolist()
    choices = dict(needed["choices"]) | {
        "optimum": scored.vector(int(scored.order.argmin())),
        "best_random": scored.best(drawn),
        "single": scored.best(singles),
    }
    base = [0] * settings.decisions  # the untouched network
    named = choices | {"base": base, "paper_8": [1, *base[1:]], "paper_8_second": [0, 1, *base[2:]]}
    pick = scored.read(choices["pick"])["rank"]
    blind = {"samples": len(needed["samples"]), "equal_cost": len(drawn)}  # draws
    return {
        "choices": choices,
        "draws": len(drawn),
        "named": {name: scored.read(vector) for name, vector in named.items()},
        "blind": {name: scored.blind(draws, pick) for name, draws in blind.items()},
        "agreement": scored.agreement(),
        "sd": float(scored.judge.std()),
        "top": _top(scored, settings.operators),
        "map": _map(scored),
        "front": _front(scored),
        "path": _path(scored, needed),
    }


def random_vectors(settings: ScoreSettings, needed: Mapping[str, Any]) -> list[list[int]]:
    """Uniform draws that look at as many validation images as the rewards of the search did."""
    count = settings.random or max(1, needed["reward_images"] // settings.score_images)
    generator = torch.Generator().manual_seed(settings.seed)
    rows = sampling.uniform(count, settings.decisions, settings.operators, generator)
    return [list(map(int, row)) for row in rows]


def _top(scored: Scored, operators: int) -> dict[str, Any]:
    """The best hundredth by the choice: the judge's spread of scores, replaced decisions and where they
    lie, operators at each decision.
    """
    count = max(2, round(TOP * len(scored.order)))
    places = scored.order.argsort()[:count]  # by the choice
    vectors = np.array([scored.vector(place) for place in places])  # [count, N]
    shares = [(vectors == code).mean(0) for code in range(operators)]  # [N] for each of the K operators
    return {
        "count": count,
        "sd": float(scored.judge[places].std()),
        "depth": depth(vectors.tolist()),
        "replaced": float((vectors != 0).sum(1).mean()),
        "shares": [[round(float(x), 4) for x in row] for row in np.stack(shares, 1)],
    }


def depth(vectors: Sequence[Sequence[int]]) -> float | None:
    """Mean place of the replaced decisions, 0 the first and 1 the last; None if none is replaced."""
    places = [i / (len(vector) - 1) for vector in vectors for i, code in enumerate(vector) if code]
    return round(sum(places) / len(places), 5) if places else None


def _map(scored: Scored) -> list[list[float]]:
    """The whole space as a picture: a bin's centre (share of MACs, score) and its number of vectors."""
    shares = scored.macs / scored.macs[0]  # [V], of the untouched network's
    counts, x, y = np.histogram2d(shares, scored.judge, bins=BINS)  # [BINS, BINS] and the edges
    return [
        [round((x[i] + x[i + 1]) / 2, 4), round((y[j] + y[j + 1]) / 2, 4), int(counts[i, j])]
        for i, j in zip(*np.nonzero(counts), strict=True)
    ]


def _front(scored: Scored) -> list[list[float]]:
    """Share of MACs and score of the vectors that no cheaper one equals."""
    order = np.lexsort((-scored.judge, scored.macs))  # the cheapest first, of equal ones the best
    front, best = [], -1.0  # points, and the best score so far
    for place in order:
        if scored.judge[place] > best:
            best = float(scored.judge[place])
            front.append([round(float(scored.macs[place] / scored.macs[0]), 4), best])
    return front


def _path(scored: Scored, needed: Mapping[str, Any]) -> list[list[float]]:
    """The controller's likeliest vector by epoch, where it changes: epoch, share of MACs, score, rank."""
    path: list[list[float]] = []
    before: list[int] = []
    for epoch, entry in enumerate(needed["history"], 1):
        if entry["argmax"] != before:
            before = entry["argmax"]
            read = scored.read(before)
            path.append([epoch, round(1 - read["saving"], 4), read["score"], read["rank"]])
    return path
