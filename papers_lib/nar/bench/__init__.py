"""NAR-Bench: every vector's shared accuracy, and a sample's accuracy when trained alone, in one file.

    from papers_lib.nar import bench

    known = bench.load()
    known.query((1, 0, 0, 0, 0, 0, 0, 0))  # trained alone, parameters, cost, shared scores, ranks

65,536 vectors of a narrow ResNet-18, scored on two halves of held-out images by shared weights with and
without PreTrain, each of several draws; a sample of them also trained alone, several times, on the images of
the first draw. So a search, or a way to rank without training, is tried in seconds, against its ceiling, and
on shared weights that it was not tuned on. `CARD.md` says how it was made.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

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
    """What is known of one vector. Accuracies are fractions; shared ones by kind of weights, one per draw."""

    trained: tuple[float, ...]  # alone, test images, one a repeat; empty where it is not of the sample
    parameters: int
    multiply_accumulates: int
    choice: dict[str, tuple[float, ...]]  # shared accuracy on the half that chooses
    judge: dict[str, tuple[float, ...]]  # and on the half that judges
    rank: dict[str, tuple[float, ...]]  # by the judge's half, 1 the best


class Correlation(NamedTuple):
    """Kendall's τ-b, the mean over draws of shared weights, and how sure it is."""

    tau: float
    error: float  # its standard error, over vectors and draws
    freedom: float = math.inf  # degrees of freedom of that
    draws: int = 1

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The interval by Student's t."""
        half = float(student.ppf((1 + level) / 2, self.freedom)) * self.error
        return self.tau - half, self.tau + half


@dataclass(frozen=True, eq=False)
class NarBench:
    """The benchmark. V is 65,536, in the order of `enumeration.score_all`; n vectors are of the sample.

    `about` says of which settings, runs and images it is; `picks` has what each search chose. A draw has
    images, shared weights and a search of its own; the images of the first are those of the trainings alone.
    """

    about: dict[str, Any]
    sample: NDArray[np.int64]  # [n, 8]
    trained: Floats  # [n, repeats], test accuracy
    fitted: Floats  # [n, repeats], training accuracy
    counts: NDArray[np.int64]  # [V, 2]: parameters, multiply-accumulates of one image
    shared: dict[str, list[Scored]]  # by kind of shared weights, one per draw
    readings: dict[str, Floats]  # "running, pretrain": [n], the first draw's judge by other statistics
    picks: dict[str, list[dict[str, Any]]]  # as `shared`: vector, and blind draws of equal cost

    def query(self, vector: Sequence[int]) -> Entry:
        """What is known of a vector of 8 decisions.

        Raises:
            PapersError: too short, too long, or an unknown operator.
        """
        place = self._any.place(check(vector, self._any.decisions, self._any.operators))
        found = np.flatnonzero(self.places == place)  # one at most: no vector is twice in the sample
        parameters, macs = map(int, self.counts[place])
        shared = (
            {
                kind: tuple(float(getattr(draw, name)[place]) for draw in draws)
                for kind, draws in self.shared.items()
            }
            for name in ("choice", "judge", "ranks")
        )
        return Entry(tuple(self.trained[found].ravel().tolist()), parameters, macs, *shared)

    @property
    def _any(self) -> Scored:
        return next(iter(self.shared.values()))[0]

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """Where the sample's vectors are among all, [n]."""
        return np.array([self._any.place(vector) for vector in self.sample.tolist()])

    def rankings(self) -> dict[str, Floats]:
        """Ways to rank the sample without training it, [draws, n] each; the greatest number is the best."""
        parameters, macs = self.counts[self.places].T.astype(float)
        ways = {"cost": macs[None], "parameters": parameters[None]}  # dearer is better
        for name, draws in self.shared.items():
            choice = np.stack([draw.choice[self.places] for draw in draws])
            judge = np.stack([draw.judge[self.places] for draw in draws])
            ways |= {f"choice, {name}": choice, f"judge, {name}": judge, f"both, {name}": choice + judge}
        return ways | {name: reading[None] for name, reading in self.readings.items()}

    def taus(self, few: bool = False) -> dict[str, Correlation]:
        """Kendall's τ of each ranking with the mean accuracy alone.

        "repeats" is of the mean of every second training with that of the others, and "perfect" what the
        true accuracies would reach (`ceiling`). With `few` only vectors with one to four replacements count,
        which cost alone cannot well rank.
        """
        return {name: _judged(self._taus(name, few)) for name in ("repeats", "perfect", *self.rankings())}

    def ahead(self, a: str, b: str, few: bool = False) -> Correlation:
        """τ of ranking `a` with the accuracy alone less that of `b`, draw by draw.

        `b` may be "perfect", too. Where one has the first draw alone, only that counts.
        """
        one, other = self._taus(a, few), self._taus(b, few)
        of_no_draw = {"cost", "parameters", "repeats", "perfect"}  # these stand against every draw
        if not of_no_draw & {a, b}:
            both = min(len(one), len(other))
            one, other = one[:both], other[:both]
        return _judged(one - other)

    def _taus(self, name: str, few: bool) -> Floats:
        """τ of the vectors themselves and of their resamples, [draws, 1 + R]."""
        replaced = (self.sample != 0).sum(1)
        kept = np.isin(replaced, FEW) if few else np.ones(len(replaced), bool)
        trained = self.trained[kept]
        if name not in ("repeats", "perfect"):
            return np.stack([correlate(trained.mean(1), draw[kept]) for draw in self.rankings()[name]])
        halves = correlate(trained[:, ::2].mean(1), trained[:, 1::2].mean(1))[None]
        return halves if name == "repeats" else ceiling(halves)


def _judged(taus: Floats) -> Correlation:
    """The mean over draws of taus, [draws, 1 + R], with its standard error over vectors and draws.

    σ² = v + w, with v the variance of the resampled mean and w that between the D draws over D. By
    Satterthwaite's rule (1946) it has (D − 1) (v + w)² / w² degrees of freedom, v taken as known. What a draw
    does to single vectors is in both, so that the error is too large rather than too small.
    """
    draws = len(taus)
    v = taus[:, 1:].mean(0).var()
    w = taus[:, 0].var(ddof=1) / draws if draws > 1 else 0.0
    freedom = (draws - 1) * (v + w) ** 2 / w**2 if w else math.inf
    return Correlation(float(taus[:, 0].mean()), math.sqrt(v + w), float(freedom), draws)


def correlate(a: Floats, b: Floats) -> Floats:
    """Kendall's τ-b of a and b, [n] each, and then of resamples of their items, [1 + R].

    τ_b = Σ_ij s_ij t_ij / √(Σ s_ij² Σ t_ij²), with s_ij = sign(a_i − a_j) and t_ij that of b. A resample with
    c_i copies of item i has the same sums with weights c_i c_j; the seed is fixed, so that two rankings
    of the same items meet the same resamples.
    """
    n = len(a)
    s, t = (np.sign(x[:, None] - x) for x in (a, b))  # [n, n]
    c = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), RESAMPLES).astype(float)  # [R, n]
    c = np.concatenate([np.ones((1, n)), c])  # the items themselves come first
    both, of_a, of_b = (((c @ m) * c).sum(1) for m in (s * t, s * s, t * t))  # [1 + R]
    taus: Floats = both / np.sqrt(np.maximum(of_a * of_b, 1e-300))  # 0 where one does not vary
    return taus


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
    macs = counts[:, 1].astype(float)
    shared = {
        name: [
            Scored(choice, judge, macs, decisions, operators)
            for choice, judge in arrays[f"scores_{name}"] / judged  # [draws, 2, V]
        ]
        for name in WEIGHTS
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
