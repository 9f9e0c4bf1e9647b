"""What a finished search is worth: the rank of its vectors among all, and whether its ranking is true.

The paper cannot say where its vectors stand; with 8 decisions all 65,536 are scored here by the same weights
and images, so that every pick has an exact rank. With 16 decisions a beam search takes their place. Whether
the shared weights rank vectors as trainings of their own do, Kendall's τ says over a sample of vectors.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
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
from papers_lib.nar.fitting import Fit, Report, counted
from papers_lib.nar.images import Loaded, load, normalised
from papers_lib.nar.operators import Rule
from papers_lib.nar.options import Common, ScoreSettings, StandaloneSettings, TauSettings
from papers_lib.nar.supernet import SuperNet, batch_statistics, recalibrated

BINS = 48  # of the picture, along each axis
TOP = 0.01  # share of all vectors that counts as their top
BATCH = 1000  # images that are normalised together
NEEDED = {"choices", "samples", "history", "reward_images"}  # of the search's metrics
DRAWN = (1, 5, 39)  # reward batches of a selection; 39 of 128 images are ENAS's validation part
READINGS = ("batch", "running", "recalibrated", "macs")  # of τ: statistics of the shared weights, and cost
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
    """All vectors' scores [V] and multiply-accumulates [V], in the order of `enumeration.score_all`."""

    scores: NDArray[np.float64]
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
        """Of some vectors the one of the highest score; of equal ones the one of the fewest operations."""
        return self._best(np.array([self.place(vector) for vector in vectors]))

    def optimum(self) -> list[int]:
        """The best of all."""
        return self._best(np.arange(len(self.scores)))

    def _best(self, places: NDArray[np.int64]) -> list[int]:
        order = np.lexsort((places, self.macs[places], -self.scores[places]))  # last key first
        return self.vector(places[order[0]])

    def read(self, vector: Sequence[int]) -> dict[str, Any]:
        """Score, rank and saving of one vector; rank 1 is the best, equal scores share the mean of theirs."""
        place = self.place(vector)
        score = float(self.scores[place])
        better, equal = int((self.scores > score).sum()), int((self.scores == score).sum())
        return {
            "vector": list(vector),
            "score": score,
            "rank": better + (equal + 1) / 2,
            "saving": round(float(1 - self.macs[place] / self.macs[0]), 5),
        }


def enumerate_vectors(
    settings: ScoreSettings,
    data: tuple[str, str],
    folder: Path,
    needed: Mapping[str, Any],
    weights: Path,
    device: str,
    report: Report,
) -> dict[str, Any]:
    """Score all vectors with the shared weights of a finished search; 16 decisions by beam search.

    Returns:
        Plain JSON: `choices`, `named` (score, rank and saving of the vectors that the study talks of), and
        summaries of the rest, few numbers each.

    Raises:
        PapersError: bad data, metrics that are no search's, or weights as `network_of` refuses them.
    """
    if missing := NEEDED - needed.keys():
        raise PapersError(
            f"the run needed has no {', '.join(sorted(missing))} in its result; "
            f"{_again(weights.with_name('result.json'))}"
        )
    where = compute.device(device)
    compute.prepare(settings.seed)
    images = load(data, settings, where)
    supernet = network_of(settings, images, weights, where)
    x, y = images.plain(images.validation[: settings.score_images])  # [n, 3, H, W], [n]
    if settings.decisions == 16:
        return _beam(settings, supernet, x, y, needed)
    scores, result = score_space(settings, supernet, images, x, y, folder, report)
    macs = count_all(*_network(settings, images))[:, 1].astype(float)
    scored = Scored(scores.numpy(), macs, settings.decisions, settings.operators)
    result |= _naive_difference(settings, supernet, x, y, scored)
    result |= _reward_noise(settings, supernet, images, needed)
    return result | _summary(settings, scored, needed)


def score_space(
    settings: ScoreSettings,
    supernet: SuperNet,
    images: Loaded,
    x: Tensor,
    y: Tensor,
    folder: Path,
    report: Report,
) -> tuple[Tensor, dict[str, Any]]:
    """All vectors' scores on x [n, 3, H, W] and y [n], resumable; and what they cost, as plain JSON."""
    total = settings.operators**settings.decisions
    began = time.perf_counter()  # of this process; `spent` is of those before
    blank = {"scores": torch.full((total,), torch.nan, dtype=torch.float64), "seconds": 0.0}

    def take(state: dict[str, Any]) -> tuple[Tensor, float]:
        return enumeration.check_known(state["scores"], total), float(state["seconds"])

    kept = checkpoint.load(folder / "checkpoint.pt")
    known, spent = checkpoint.take_up(kept, take, blank) or take(blank)

    def save(scores: Tensor) -> None:
        done = int((~scores.isnan()).sum())
        report(done, total, f"{done} of {total} vectors")
        state = {"scores": scores, "seconds": spent + time.perf_counter() - began}
        checkpoint.save(folder / "checkpoint.pt", state)

    scores = enumeration.score_all(
        supernet, x, y, batch=BATCH, precision=settings.precision, known=known, report=save
    )
    vectors = product(range(settings.operators), repeat=settings.decisions)
    return scores, {
        "seconds_scoring": round(spent + time.perf_counter() - began, 2),
        "images": len(y),
        "count": total,
        "multiply_accumulates": len(y) * costs_of(settings, images).macs_together(vectors),
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
            gaps.append(abs(right / len(y) - scored.scores[scored.place(vector)]))
    return {"checked": len(vectors), "max_difference_to_naive": float(max(gaps))}


def _reward_noise(
    settings: ScoreSettings, supernet: SuperNet, images: Loaded, needed: Mapping[str, Any]
) -> dict[str, Any]:
    """The search's final samples by other reward batches: how often they make another one the best.

    `se` is the standard deviation over batches of one vector's score, mean over the samples. `changed` is
    the share of 1,000 draws of 1, 5 and 39 batches, as many as there are, in which the sample that is best
    on all batches is beaten; a tie is no change. Statistics are the batch's, whatever the search took.
    """
    vectors = [sample["vector"] for sample in needed["samples"]]
    batches = len(images.validation) // settings.reward_images
    rows = []
    for indices in images.validation[: batches * settings.reward_images].view(batches, -1):
        x, y = images.plain(indices)
        rows.append(enumeration.score(supernet, x, y, vectors, batch=BATCH, precision=settings.precision))
    table = torch.stack(rows)  # [batches, samples]
    noise = {
        "se": round(float(table.std(0).mean()) if batches > 1 else 0.0, 6),
        "changed": {str(count): share_changed(table, count) for count in DRAWN if count <= batches},
        "batches": batches,
        "distinct": len({tuple(vector) for vector in vectors}),
    }
    return {"reward_noise": noise}


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
        "optimum": scored.optimum(),
        "best_random": scored.best(drawn),
        "single": scored.best(singles),
    }
    base = [0] * settings.decisions  # the untouched network
    named = choices | {"base": base, "paper_8": [1, *base[1:]], "paper_8_second": [0, 1, *base[2:]]}
    quantiles = np.quantile(scored.scores, np.linspace(0, 1, 101))  # per cent by per cent
    return {
        "choices": choices,
        "draws": len(drawn),
        "named": {name: scored.read(vector) for name, vector in named.items()},
        "singles": [scored.read(vector) for vector in singles],
        "mean": float(scored.scores.mean()),
        "sd": float(scored.scores.std()),
        "quantiles": [round(float(q), 5) for q in quantiles],
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
    """The best hundredth: spread, replaced decisions and where they lie, operators at each decision."""
    count = max(2, round(TOP * len(scored.scores)))
    places = np.lexsort((scored.macs, -scored.scores))[:count]  # the best first, of equal ones the cheapest
    vectors = np.array([scored.vector(place) for place in places])  # [count, N]
    shares = [(vectors == code).mean(0) for code in range(operators)]  # [N] for each of the K operators
    return {
        "count": count,
        "sd": float(scored.scores[places].std()),
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
    counts, x, y = np.histogram2d(shares, scored.scores, bins=BINS)  # [BINS, BINS] and the edges
    return [
        [round((x[i] + x[i + 1]) / 2, 4), round((y[j] + y[j + 1]) / 2, 4), int(counts[i, j])]
        for i, j in zip(*np.nonzero(counts), strict=True)
    ]


def _front(scored: Scored) -> list[list[float]]:
    """Share of MACs and score of the vectors that no cheaper one equals."""
    order = np.lexsort((-scored.scores, scored.macs))  # the cheapest first, of equal ones the best
    front, best = [], -1.0  # points, and the best score so far
    for place in order:
        if scored.scores[place] > best:
            best = float(scored.scores[place])
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


def _beam(
    settings: ScoreSettings, supernet: SuperNet, x: Tensor, y: Tensor, needed: Mapping[str, Any]
) -> dict[str, Any]:
    """The best of a beam search, and how many of the vectors tried are better than the controller's pick."""
    began = time.perf_counter()
    tried = enumeration.beam_search(supernet, x, y, settings.beam, batch=BATCH, precision=settings.precision)
    seconds = round(time.perf_counter() - began, 2)
    drawn = random_vectors(settings, needed)
    named = [needed["choices"]["pick"], [0] * settings.decisions, *drawn]
    scores = enumeration.score(supernet, x, y, named, batch=BATCH, precision=settings.precision)
    pick, base, *random = scores.tolist()  # in the order of `named`
    best, best_random = next(iter(tried)), max(range(len(random)), key=random.__getitem__)
    return {
        "choices": dict(needed["choices"]) | {"optimum": list(best), "best_random": drawn[best_random]},
        "tried": len(tried),
        "draws": len(random),
        "images": len(y),
        "seconds_scoring": seconds,
        "pick_score": pick,
        "base_score": base,
        "best_score": tried[best],
        "random_score": random[best_random],
        "better_than_pick": sum(value > pick for value in tried.values()),
        "random_better_than_pick": sum(value > pick for value in random),
    }


# -- Kendall's τ -------------------------------------------------------------------------------------------


def compare(
    settings: TauSettings, data: tuple[str, str], folder: Path, weights: Path, device: str, report: Report
) -> dict[str, Any]:
    """Train some vectors alone, on the images of the shared weights, and correlate validation accuracies.

    Half of the vectors are uniform and differ greatly in cost, which alone would rank them; the other half
    have one to four replacements. `tau_few` is of all that have so few. "macs" is the ranking by cost alone.

    Returns:
        Plain JSON: `points` (vector, accuracy alone, and by each reading), `tau` and `tau_few` by reading.

    Raises:
        PapersError: bad data, or weights of another network.
    """
    where = compute.device(device)
    compute.prepare(settings.seed)
    images = load(data, settings, where)
    supernet = network_of(settings, images, weights, where)
    vectors = sample_of_vectors(settings)

    # -- accuracy alone: one training per vector, kept behind each --
    kept = checkpoint.load(folder / "checkpoint.pt")
    take = partial(_accuracies, most=len(vectors))
    alone = checkpoint.take_up(kept, take, {"alone": []}) or []
    for number in range(len(alone), len(vectors)):
        report(number, len(vectors), f"vector {number + 1}")
        alone.append(_alone(settings, images, vectors[number], where))
        checkpoint.save(folder / "checkpoint.pt", {"alone": alone})

    # -- accuracy with the shared weights, and τ --
    points: list[dict[str, Any]] = [
        {"vector": list(vector), "alone": value, **readings}
        for vector, value, readings in zip(
            vectors, alone, _shared(settings, supernet, images, vectors), strict=True
        )
    ]
    # Vectors of similar cost, which cost alone cannot rank.
    few = [point for point in points if 1 <= sum(code != 0 for code in point["vector"]) <= 4]
    return {
        "points": points,
        "tau": {name: kendall(points, name) for name in READINGS},
        "tau_few": {name: kendall(few, name) for name in READINGS},
    }


def sample_of_vectors(settings: TauSettings) -> list[tuple[int, ...]]:
    """The sample: uniform vectors, then vectors with one to four replacements in turn."""
    generator = torch.Generator().manual_seed(settings.seed)
    decisions, operators, half = settings.decisions, settings.operators, settings.vectors // 2
    rows = sampling.uniform(settings.vectors - half, decisions, operators, generator).tolist()
    for number in range(half):
        rows += sampling.replaced(1, decisions, 1 + number % 4, operators, generator).tolist()
    return [tuple(row) for row in rows]


def _accuracies(state: dict[str, Any], most: int) -> list[float]:
    """The first vectors' accuracies as a checkpoint has them."""
    kept: list[float] = state["alone"]
    if len(kept) > most or not all(0 <= value <= 1 for value in kept):  # NaN is no more between them
        raise ValueError(f"not at most {most} fractions")
    return list(kept)


def _alone(settings: TauSettings, images: Loaded, vector: tuple[int, ...], where: torch.device) -> float:
    torch.manual_seed(settings.seed)  # the same start for every vector, whatever came before a kill
    common = {name: getattr(settings, name) for name in Common.model_fields}
    recipe = StandaloneSettings(**common, epochs=settings.epochs, lr=settings.lr)
    fit = Fit(recipe, vector, images, images.training, where)
    for _ in range(settings.epochs):
        fit.run_epoch()
    which = images.validation[: settings.score_images]
    return fit.accuracy(images.train[which], images.train_labels[which])


def _shared(
    settings: TauSettings, supernet: SuperNet, images: Loaded, vectors: list[tuple[int, ...]]
) -> list[dict[str, float]]:
    """Each vector's accuracy with the shared weights under three kinds of statistics, and its cost."""
    x, y = images.plain(images.validation[: settings.score_images])
    score = partial(enumeration.score, supernet, x, y, vectors, batch=BATCH, precision=settings.precision)
    by_batch, by_running = score(norm="batch").tolist(), score(norm="running").tolist()
    some = images.training[torch.randperm(len(images.training), generator=torch.Generator().manual_seed(0))]
    batches = [normalised(images.train[part]) for part in some.split(settings.batch_size)[:RECALIBRATION]]
    readings = []  # one dict per vector
    for place, vector in enumerate(vectors):
        with recalibrated(supernet, vector, batches), torch.no_grad():
            right = (supernet(x, vector).argmax(1) == y).float().mean()
        cost = counted(vector, settings, images).multiply_accumulates
        values = (by_batch[place], by_running[place], float(right), float(cost))
        readings.append(dict(zip(READINGS, values, strict=True)))
    return readings


def kendall(points: list[dict[str, Any]], reading: str) -> float | None:
    """Kendall's τ-b of a reading with the accuracy alone; None where one of them does not vary."""
    from scipy.stats import kendalltau

    tau = float(kendalltau([p["alone"] for p in points], [p[reading] for p in points]).statistic)
    return None if math.isnan(tau) else round(tau, 5)
