"""What a finished search is worth: its vectors among all others, by the same weights and images.

The paper cannot say where its vectors stand; with 8 decisions all 65,536 are scored here, so that every pick
has an exact rank. With 16 decisions a beam search takes their place.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from papers_lib import checkpoint, compute
from papers_lib.errors import PapersError
from papers_lib.nar import counting, enumeration, sampling
from papers_lib.nar.fitting import Report
from papers_lib.nar.images import Loaded, load, normalised
from papers_lib.nar.options import Common, ScoreSettings
from papers_lib.nar.searching import build, mac_shares
from papers_lib.nar.supernet import SuperNet, batch_statistics

BINS = 48  # of the picture, along each axis
TOP = 0.01  # share of all vectors that counts as their top
BATCH = 1000  # images that are normalised together
NEEDED = {"choices", "samples", "history", "reward_images"}  # of the search's metrics
DRAWN = (1, 5, 39)  # reward batches of a selection; 39 of 128 images are ENAS's validation part


@dataclass(frozen=True, eq=False)
class Scored:
    """All vectors' scores [V] and multiply-accumulates [V], in the order of `enumeration.score_all`."""

    scores: NDArray[np.float64]
    macs: NDArray[np.float64]
    decisions: int

    def index(self, vector: Sequence[int]) -> int:
        """A vector's place."""
        return enumeration.index_of(vector)

    def vector(self, index: int) -> list[int]:
        """The vector at a place."""
        return list(enumeration.vector_at(int(index), self.decisions))

    def rank(self, score: float) -> float:
        """From 1, the best: the mean of the ranks that equal scores share."""
        better = int((self.scores > score).sum())
        return better + (int((self.scores == score).sum()) + 1) / 2

    def best(self, places: NDArray[np.int64]) -> int:
        """Of some places the one of the highest score; of equal ones the one of the fewest operations."""
        order = np.lexsort((places, self.macs[places], -self.scores[places]))
        return int(places[order[0]])

    def read(self, vector: Sequence[int]) -> dict[str, Any]:
        """Score, rank and saving of one vector."""
        place = self.index(vector)
        score = float(self.scores[place])
        saving = 1 - self.macs[place] / self.macs[0]
        return {
            "vector": list(vector),
            "score": score,
            "rank": self.rank(score),
            "saving": round(float(saving), 5),
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

    Args:
        needed: the metrics of that search.
        weights: the weights that it left.

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
    which = images.validation[: settings.score_images]
    x, y = normalised(images.train[which]), images.train_labels[which]
    if settings.decisions == 16:
        return _beam(settings, supernet, x, y, needed)
    found = _score_all(settings, supernet, x, y, images.classes, folder, report)
    macs = counting.count_all(
        settings.decisions, "resnet18_cifar", settings.rule, x.shape[-1], images.classes, settings.width
    )[:, 1]
    scored = Scored(found.pop("scores").numpy(), macs.astype(float), settings.decisions)
    naive = _naive_difference(settings, supernet, x, y, scored)
    noise = _reward_noise(settings, supernet, images, needed)
    return found | naive | noise | _summary(settings, scored, needed)


def _score_all(
    settings: ScoreSettings,
    supernet: SuperNet,
    x: Tensor,
    y: Tensor,
    classes: int,
    folder: Path,
    report: Report,
) -> dict[str, Any]:
    """`enumeration.score_all`, resumable; with the seconds and the block evaluations that it took."""
    total = settings.operators**settings.decisions
    began = time.perf_counter()
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
        supernet,
        x,
        y,
        settings.decisions,
        batch=BATCH,
        precision=settings.precision,
        known=known,
        report=save,
    )
    fixed, shares = mac_shares(settings, x.shape[-1], classes)
    levels = [settings.operators**place * sum(row) for place, row in enumerate(shares)]
    return {
        "scores": scores,
        "seconds_scoring": round(spent + time.perf_counter() - began, 2),
        "images": len(y),
        "count": total,
        "multiply_accumulates": len(y) * (total * fixed + sum(levels)),
        "block_calls": sum(settings.operators ** (n + 1) for n in range(settings.decisions)),
        "naive_block_calls": settings.decisions * total,
    }


def _naive_difference(
    settings: ScoreSettings, supernet: SuperNet, x: Tensor, y: Tensor, scored: Scored
) -> dict[str, Any]:
    """Some vectors scored alone, one forward pass each: the largest difference to what the tree gave."""
    generator = torch.Generator().manual_seed(settings.seed)
    vectors = sampling.uniform(settings.checked, settings.decisions, settings.operators, generator).tolist()
    gaps = [abs(_alone(settings, supernet, x, y, v) - scored.scores[scored.index(v)]) for v in vectors]
    return {"checked": len(vectors), "max_difference_to_naive": float(max(gaps))}


@torch.no_grad()
def _alone(settings: ScoreSettings, supernet: SuperNet, x: Tensor, y: Tensor, vector: Sequence[int]) -> float:
    pieces = -(-len(y) // BATCH)
    right = 0
    with batch_statistics(supernet), compute.autocast(x.device, settings.precision):
        for images, labels in zip(x.tensor_split(pieces), y.tensor_split(pieces), strict=True):
            right += int((supernet(images, vector).argmax(1) == labels).sum())
    return right / len(y)


def _reward_noise(
    settings: ScoreSettings, supernet: SuperNet, images: Loaded, needed: Mapping[str, Any]
) -> dict[str, Any]:
    """The search's final samples by other reward batches: how often they make another one the best.

    `se` is the standard deviation over batches of one vector's score, mean over the samples. `changed` is
    the share of 1,000 draws of 1, 5 and 39 batches, as many as there are, in which the sample that is best
    on all batches is beaten; a tie is no change. Statistics are the batch's, whatever the search took.
    """
    vectors = [sample["vector"] for sample in needed["samples"]]
    whole = len(images.validation) // settings.reward_images
    table = torch.stack([
        enumeration.score(
            supernet, normalised(images.train[which]), images.train_labels[which], vectors,
            batch=BATCH, precision=settings.precision,
        )
        for which in images.validation[: whole * settings.reward_images].view(whole, -1)
    ])  # fmt: skip
    se = float(table.std(0).mean()) if whole > 1 else 0.0
    changed = {str(count): _changed(table, count) for count in DRAWN if count <= whole}
    return {"reward_noise": {"se": round(se, 6), "changed": changed, "batches": whole,
                             "distinct": len({tuple(v) for v in vectors})}}  # fmt: skip


def _changed(table: Tensor, count: int, draws: int = 1000) -> float:
    """Share of draws of `count` batches, [batches, samples], that beat the sample best on all of them."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(draws, len(table), generator=generator).argsort(1)[:, :count]
    means = table[drawn].mean(1)
    own = means[:, int(table.mean(0).argmax())]
    return round(float((means.max(1).values > own + 1e-9).double().mean()), 4)


def _summary(settings: ScoreSettings, scored: Scored, needed: Mapping[str, Any]) -> dict[str, Any]:
    everything = np.arange(len(scored.scores))
    drawn = random_vectors(settings, needed)
    singles = sampling.singles(settings.decisions, settings.operators).tolist()
    choices = dict(needed["choices"]) | {
        "optimum": scored.vector(scored.best(everything)),
        "best_random": scored.vector(scored.best(np.array([scored.index(v) for v in drawn]))),
        "single": scored.vector(scored.best(np.array([scored.index(v) for v in singles]))),
    }
    base = [0] * settings.decisions
    paper = [[1, *base[1:]], [0, 1, *base[2:]]]
    named = choices | {"base": base, "paper_8": paper[0], "paper_8_second": paper[1]}
    quantiles = np.quantile(scored.scores, np.linspace(0, 1, 101))
    return {
        "choices": choices,
        "draws": len(drawn),
        "named": {name: scored.read(vector) for name, vector in named.items()},
        "singles": [scored.read(v) for v in singles],
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
    drawn: list[list[int]] = sampling.uniform(
        count, settings.decisions, settings.operators, generator
    ).tolist()
    return drawn


def _top(scored: Scored, operators: int) -> dict[str, Any]:
    """The best hundredth: spread, replaced decisions and where they lie, operators at each decision."""
    count = max(2, round(TOP * len(scored.scores)))
    places = np.lexsort((scored.macs, -scored.scores))[:count]
    vectors = np.array([scored.vector(place) for place in places])
    shares = [(vectors == code).mean(0) for code in range(operators)]
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
    shares = scored.macs / scored.macs[0]
    counts, x, y = np.histogram2d(shares, scored.scores, bins=BINS)
    return [
        [round((x[i] + x[i + 1]) / 2, 4), round((y[j] + y[j + 1]) / 2, 4), int(counts[i, j])]
        for i, j in zip(*np.nonzero(counts), strict=True)
    ]


def _front(scored: Scored) -> list[list[float]]:
    """Share of MACs and score of the vectors that no cheaper one equals."""
    order = np.lexsort((-scored.scores, scored.macs))
    front, best = [], -1.0
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
    found = enumeration.beam_search(
        supernet, x, y, settings.beam, batch=BATCH, precision=settings.precision
    )  # fmt: skip
    seconds = round(time.perf_counter() - began, 2)
    named = [needed["choices"]["pick"], [0] * settings.decisions, *random_vectors(settings, needed)]
    scores = enumeration.score(supernet, x, y, named, batch=BATCH, precision=settings.precision)
    score, base, *random = scores.tolist()
    best, place = next(iter(found)), max(range(len(random)), key=random.__getitem__)
    return {
        "choices": dict(needed["choices"]) | {"optimum": list(best), "best_random": named[2 + place]},
        "tried": len(found),
        "draws": len(random),
        "images": len(y),
        "seconds_scoring": seconds,
        "pick_score": score,
        "base_score": base,
        "best_score": found[best],
        "random_score": random[place],
        "better_than_pick": sum(value > score for value in found.values()),
        "random_better_than_pick": sum(value > score for value in random),
    }


def network_of(settings: Common, images: Loaded, weights: Path, where: torch.device) -> SuperNet:
    """The supernet with the weights that a search left.

    Raises:
        PapersError: no such file, or one that is damaged, of another network, or not finite.
    """
    supernet, result = build(settings, images.classes, where), weights.with_name("result.json")
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
