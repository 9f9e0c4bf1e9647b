"""NAR-Bench: every vector's shared accuracy, and a sample's accuracy when trained alone, in one file.

    from papers_lib.nar import bench

    known = bench.load()
    known.query((1, 0, 0, 0, 0, 0, 0, 0))  # trained alone, parameters, cost, shared scores, ranks

65,536 vectors of a narrow ResNet-18, scored with two sets of shared weights on two halves of held-out images;
a sample of them also trained alone, several times, on the images of the shared weights. So a search, or a way
to rank without training, is tried in seconds and against its ceiling. `CARD.md` says how it was made.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from papers_lib.errors import PapersError
from papers_lib.nar.counting import count_all
from papers_lib.nar.operators import check
from papers_lib.nar.scoring import Scored

FILE = Path(__file__).with_name("nar_bench.npz")
WEIGHTS = {"pretrain": "with PreTrain", "plain": "without PreTrain"}  # sets of shared weights
STATISTICS = ("running", "recalibrated")  # of normalisation; "batch" is that of all scores
FEW = range(1, 5)  # replacements of vectors whose costs are alike
RESAMPLES = 2000

Floats = NDArray[np.float64]


class Entry(NamedTuple):
    """What is known of one vector. Accuracies are fractions; by set of shared weights where there are two."""

    trained: tuple[float, ...]  # alone, test images, one a repeat; empty where it is not of the sample
    parameters: int
    multiply_accumulates: int
    choice: dict[str, float]  # shared accuracy on the half that chooses
    judge: dict[str, float]  # and on the half that judges
    rank: dict[str, float]  # by the judge's half, 1 the best


class Correlation(NamedTuple):
    """Kendall's τ-b and its 95 % interval over vectors; the interval is empty where all vectors count."""

    tau: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, eq=False)
class NarBench:
    """The benchmark. V is 65,536, in the order of `enumeration.score_all`; n vectors are of the sample.

    `about` says of which settings, runs and images it is; `picks` has what each search chose.
    """

    about: dict[str, Any]
    sample: NDArray[np.int64]  # [n, 8]
    trained: Floats  # [n, repeats], test accuracy
    fitted: Floats  # [n, repeats], training accuracy
    counts: NDArray[np.int64]  # [V, 2]: parameters, multiply-accumulates of one image
    shared: dict[str, Scored]  # by set of shared weights
    readings: dict[str, Floats]  # "running, pretrain": [n], the judge's half by other statistics
    picks: dict[str, dict[str, Any]]  # by set of shared weights: vector, and draws of equal cost

    def query(self, vector: Sequence[int]) -> Entry:
        """What is known of a vector of 8 decisions.

        Raises:
            PapersError: too short, too long, or an unknown operator.
        """
        place = self._any.place(check(vector, self._any.decisions, self._any.operators))
        found = np.flatnonzero(self.places == place)  # one at most: no vector is twice in the sample
        parameters, macs = map(int, self.counts[place])
        return Entry(
            tuple(self.trained[found].ravel().tolist()),
            parameters,
            macs,
            *({name: float(values[place]) for name, values in part.items()} for part in self._by_weights),
        )

    @property
    def _any(self) -> Scored:
        return next(iter(self.shared.values()))

    @cached_property
    def _by_weights(self) -> tuple[dict[str, Floats], ...]:
        names = ("choice", "judge", "ranks")
        return tuple({w: getattr(scored, name) for w, scored in self.shared.items()} for name in names)

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """Where the sample's vectors are among all, [n]."""
        return np.array([self._any.place(vector) for vector in self.sample.tolist()])

    def rankings(self) -> dict[str, Floats]:
        """Ways to rank the sample without training it, [n] each; a greater number is a better vector."""
        ways = {"cost": self.counts[self.places, 1].astype(float)}  # dearer is better
        ways["parameters"] = self.counts[self.places, 0].astype(float)
        for name, scored in self.shared.items():
            ways[f"choice, {name}"] = scored.choice[self.places]
            ways[f"judge, {name}"] = scored.judge[self.places]
            ways[f"both, {name}"] = ways[f"choice, {name}"] + ways[f"judge, {name}"]
        return ways | self.readings

    def taus(self, few: bool = False) -> dict[str, Correlation]:
        """Kendall's τ of each ranking with the mean accuracy alone.

        "repeats" is of the mean of every second training with that of the others, and "perfect" what the
        true accuracies would reach (`ceiling`). With `few` only vectors with one to four replacements count,
        which cost alone cannot well rank.
        """
        return {name: self._tau(name, few)[0] for name in ("repeats", "perfect", *self.rankings())}

    def ahead(self, a: str, b: str, few: bool = False) -> Correlation:
        """τ of ranking `a` with the accuracy alone less that of `b`, with its interval over vectors.

        `b` may be "perfect", too.
        """
        (one, many), (other, others) = self._tau(a, few), self._tau(b, few)
        low, high = np.quantile(many - others, (0.025, 0.975))  # of the same resamples
        return Correlation(one.tau - other.tau, float(low), float(high))

    def _tau(self, name: str, few: bool) -> tuple[Correlation, Floats]:
        kept = self._kept(few)
        trained = self.trained[kept]
        if name not in ("repeats", "perfect"):
            return correlate(trained.mean(1), self.rankings()[name][kept])
        halves, many = correlate(trained[:, ::2].mean(1), trained[:, 1::2].mean(1))
        if name == "repeats":
            return halves, many
        return Correlation(*map(float, ceiling(np.array(halves)))), ceiling(many)

    def _kept(self, few: bool) -> NDArray[np.bool_]:
        replaced = (self.sample != 0).sum(1)
        return np.isin(replaced, FEW) if few else np.ones(len(replaced), bool)

    def ceilings(self) -> dict[str, dict[str, float]]:
        """τ and ρ between the halves over all vectors, by set of shared weights."""
        return {name: scored.agreement() for name, scored in self.shared.items()}

    def blind(self) -> dict[str, dict[str, Any]]:
        """Each search's pick: its rank, and what the best of as many blind draws reaches, exactly."""
        table: dict[str, dict[str, Any]] = {}
        for name, pick in self.picks.items():
            scored = self.shared[name]
            rank = scored.read(pick["vector"])["rank"]
            draws = {key: scored.blind(pick[key], rank) for key in ("samples", "equal_cost")}
            table[name] = {"rank": rank, **draws}
        return table


def correlate(a: Floats, b: Floats) -> tuple[Correlation, Floats]:
    """Kendall's τ-b of a and b, [n] each, its percentile bootstrap over items, and the resampled values.

    τ_b = Σ_ij s_ij t_ij / √(Σ s_ij² Σ t_ij²), with s_ij = sign(a_i − a_j) and t_ij that of b. A resample with
    c_i copies of item i has the same sums with weights c_i c_j; the seed is fixed, so that two rankings
    of the same items meet the same resamples.
    """
    n = len(a)
    s, t = (np.sign(x[:, None] - x) for x in (a, b))  # [n, n]
    c = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), RESAMPLES).astype(float)  # [R, n]
    c = np.concatenate([np.ones((1, n)), c])  # the items themselves come first
    both, of_a, of_b = (((c @ m) * c).sum(1) for m in (s * t, s * s, t * t))  # [R + 1]
    taus = both / np.sqrt(np.maximum(of_a * of_b, 1e-300))  # 0 where one does not vary
    low, high = np.quantile(taus[1:], (0.025, 0.975))
    return Correlation(float(taus[0]), float(low), float(high)), taus[1:]


def ceiling(tau: Floats) -> Floats:
    """Kendall's τ of true values with the mean of measurements, two halves of which agree by `tau`.

    For normal values ρ = sin(π τ / 2) (Greiner 1909); two halves together are reliable by 2 ρ / (1 + ρ)
    (Spearman 1910, Brown 1910), and the truth correlates with their mean by its root.
    """
    rho = np.sin(np.pi / 2 * np.maximum(tau, 0))
    reached: Floats = 2 / np.pi * np.arcsin(np.sqrt(2 * rho / (1 + rho)))
    return reached


# -- the file ----------------------------------------------------------------------------------------------


def load(path: Path = FILE) -> NarBench:
    """Read the benchmark, by default the one that is shipped.

    Raises:
        PapersError: it is not there, or is damaged.
    """
    arrays = read(path)
    try:
        return _unpacked(arrays)
    except Exception as error:
        raise _damaged(path, error) from None


def read(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of the file; raises as `load`."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PapersError(f"cannot read {path} ({error.strerror}); restore it") from None
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}
    except Exception as error:  # a damaged archive raises almost anything
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> PapersError:
    return PapersError(f"{path} is no NAR-Bench ({type(error).__name__}); restore it")


def _unpacked(arrays: dict[str, NDArray[Any]]) -> NarBench:
    about = json.loads(str(arrays["about"]))
    settings = about["settings"]
    decisions, operators, rule = settings["decisions"], settings["operators"], settings["rule"]
    side, width = settings["image_size"], settings["width"]
    counts = count_all(decisions, "resnet18_cifar", rule, side, 10, width, operators)
    judged = settings["score_images"]
    shared = {
        name: Scored(choice, judge, counts[:, 1].astype(float), decisions, operators)
        for name in WEIGHTS
        for choice, judge in [arrays[f"scores_{name}"] / judged]
    }
    readings = {
        f"{kind}, {name}": arrays[f"{kind}_{name}"] / judged for name in WEIGHTS for kind in STATISTICS
    }
    return NarBench(
        about,
        arrays["sample"].astype(np.int64),
        arrays["trained"] / about["test_images"],
        arrays["fitted"] / about["training_images"],
        counts,
        shared,
        readings,
        about["picks"],
    )


def right(fractions: Any, images: int) -> NDArray[np.uint16]:
    """Accuracies as numbers of right answers of so many images, as the file has them."""
    counted: NDArray[np.uint16] = np.rint(np.asarray(fractions, float) * images).astype(np.uint16)
    return counted
