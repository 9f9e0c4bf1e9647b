"""The paper's printed numbers, and what plain arithmetic says beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import pandas as pd

from papers_lib.exhibits import published
from papers_lib.exhibits.table import Cell, Table
from papers_lib.nar.study import exhibits

PAPER = "nar"
# Pages are missing from the text that this companion follows; what stood there is not known and not guessed.
NOT_IN_OUR_TEXT = {
    "Table 1": "the vectors of LResNet50E-IR-Based and LResNet50E-IR-Based-PreTrain",
    "Table 2": "not mentioned in our text",
    "Table 3": "not mentioned in our text",
    "Section 4.1, rest": "training on the whole face data, results",
    "Section 4.2, start": "the start of the classification experiments",
}
BASE = "ResNet-18"  # untouched
FACES = ("LResNet50E-IR", "NAR, LResNet50E-IR")  # untouched, and refined
FACE_TESTS = ("LFW", "CFP-FP", "AgeDB-30")
LAYERS = 12  # of ENAS's macro search, whose skips Figure 1 counts


class Gain(NamedTuple):
    """A printed gain in accuracy: percentage points, test items, their number, standard error and z."""

    model: str
    data: str
    points: float
    items: int
    gained: float
    error: float

    @property
    def z(self) -> float:
        """The gain in standard errors of two unpaired test sets."""
        return self.points / self.error


def numbers() -> pd.Series:
    """Every printed number by exhibit, row and column."""
    return published.by_place(published.load(PAPER))


def sizes_of_tests(value: pd.Series) -> dict[str, int]:
    """Column of Table 5, or face test set -> number of images or pairs that it is measured on."""
    settings = value["settings"]
    pairs = {
        name: int(settings[name, "folds"])
        * sum(int(settings[name, f"{kind} pairs per fold"]) for kind in ("same", "different"))
        for name in ("CFP", "AgeDB")
    }
    imagenet = 1000 * int(settings["ImageNet", "validation images"])  # printed in thousands
    return {
        "CIFAR-10": int(settings["CIFAR-10", "test images"]),
        "ImageNet Top-1": imagenet,
        "ImageNet Top-5": imagenet,
        "LFW": int(settings["LFW", "pairs"]),
        "CFP-FP": pairs["CFP"],
        "AgeDB-30": pairs["AgeDB"],
    }


def gains(value: pd.Series) -> list[Gain]:
    """Every gain in accuracy over the untouched network, with its standard error.

    The test set is the same for both, so that the true error is smaller; how much is not to be known from
    a table.
    """
    items = sizes_of_tests(value)
    pairs = [
        ("Table 5", model, BASE, data)
        for model in ("ResNet-18-8", "ResNet-18-16")
        for data in ("CIFAR-10", "ImageNet Top-1", "ImageNet Top-5")
    ]
    pairs += [("text", FACES[1], FACES[0], data) for data in FACE_TESTS]
    every = []
    for exhibit, model, base, data in pairs:
        ours, other, n = value[exhibit, model, data], value[exhibit, base, data], items[data]
        # Two accuracies p, q on n items each as independent draws: SE² = p(1 − p) / n + q(1 − q) / n.
        variance = sum(p / 100 * (1 - p / 100) / n for p in (ours, other))
        points = round(float(ours - other), 2)
        every.append(Gain(model, data, points, n, points * n / 100, 100 * math.sqrt(variance)))
    return every


def multiples(percent: float, items: int) -> tuple[list[int], list[int]]:
    """Numbers right of `items` whose share in percent rounds to `percent`, and those that truncate to it."""
    hundredths = round(100 * percent)  # whole: two decimals are printed
    near = range(int(percent * items / 100) - 3, int(percent * items / 100) + 5)
    rounded = [k for k in near if abs(10_000 * k - hundredths * items) * 2 <= items]
    truncated = [k for k in near if 10_000 * k // items == hundredths]
    return rounded, truncated


def bernoulli_kl(logit: float) -> float:
    """KL(Bern(sigmoid(logit)) ‖ Bern(½)), in nats."""
    p = 1 / (1 + math.exp(-logit))  # sigmoid
    return math.log(2) + sum(x * math.log(x) for x in (p, 1 - p) if x > 0)


def skip_ceiling(tanh: float, sampled: bool = False, layers: int = LAYERS) -> float:
    """The highest KL that ENAS's skip penalty can reach: the mean over layers, of sums over their skips.

    Layer i of 2 … `layers` has i − 1 candidate skips, each with a logit of at most `tanh` (melodyguan/enas:
    sigmoid of the logit in the penalty, while `sampled` from a softmax over −q and q: sigmoid(2q)).
    """
    skips = sum(range(1, layers))  # 0 + 1 + … + (L − 1)
    if math.isinf(tanh):  # no cap: every skip is sure, KL = ln 2 each
        return skips / (layers - 1) * math.log(2)
    return skips / (layers - 1) * bernoulli_kl(tanh * (2 if sampled else 1))


def mean_depth(vector: Sequence[int]) -> float:
    """Mean place of the replaced decisions, 0 the first and 1 the last; ½ is what chance gives."""
    places = [i for i, code in enumerate(vector) if code]  # of the replaced
    return sum(places) / len(places) / (len(vector) - 1)


def tables() -> dict[str, Table]:
    """All tables of this module by name."""
    every = (gains_table(), multiples_table(), not_in_our_text_table())
    return {table.name: table for table in every}


def gains_table() -> Table:
    """Every gain of the paper against its standard error."""
    rows: list[list[Cell]] = [
        [gain.model, gain.data, gain.points, round(gain.gained), gain.items, gain.error, gain.z]
        for gain in gains(numbers())
    ]
    return exhibits.table("gains", rows)


def multiples_table() -> Table:
    """The face accuracies as numbers of pairs: which round to print, and which truncate."""
    value = numbers()
    items = sizes_of_tests(value)
    rows: list[list[Cell]] = []
    for model, data in product(FACES, FACE_TESTS):
        stated = float(value["text", model, data])
        rounded, truncated = (", ".join(map(str, x)) for x in multiples(stated, items[data]))
        rows.append([model, data, stated, items[data], rounded or None, truncated or None])
    return exhibits.table("face_accuracies", rows)


def not_in_our_text_table() -> Table:
    """What the paper has and our text has not; no number of it is given here."""
    rows = [[name, words, "not in our text"] for name, words in NOT_IN_OUR_TEXT.items()]
    return exhibits.table("not_in_our_text", rows)
