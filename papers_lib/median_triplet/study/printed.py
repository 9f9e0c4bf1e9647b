"""The paper's printed numbers, and what exact probabilities and plain arithmetic say beside them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from fractions import Fraction
from math import comb
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from papers_lib.exhibits import published
from papers_lib.exhibits.table import Cell, Table
from papers_lib.median_triplet import prior

RANKS, EPOCHS = (1, 5, 52), (0, 180)  # Table 5
IMAGES = 104  # per GPU (Section 4): each query's pool of negatives and itself
CLASSES = 1000  # of ImageNet, taken as equally frequent (Section 3.3)
BATCHES = (104, 128, 196, 256, 512)
# Training classes, taken as equally frequent; of SYSU-30k its 28,310 training folders (bags).
DATA_SETS = {"CIFAR-10, Imagenette": 10, "CIFAR-100, ImageNet-100": 100, "ImageNet": 1000, "SYSU-30k": 28_310}
# Table 1's rows whose cost follows from their frame: forward passes per image, with a backward and without.
PASSES = {
    "BYOL [19]-200": (2, 2),
    "BYOL [19]-300": (2, 2),
    "BYOL [19]-1000": (2, 2),
    "median triplet-200": (2, 2),
    "median triplet-600": (2, 2),
    "supervised-100": (1, 0),
    "supervised-270": (1, 0),
}
ALONE = "published numbers alone"


class Range(NamedTuple):
    """A ratio of two printed numbers, and the lowest and highest that their last digits leave open."""

    low: float
    value: float
    high: float


class Share(NamedTuple):
    """Pixels of the resized views against the full crop, and the work of a BYOL step with them."""

    online: float
    target: float
    step: float


def numbers() -> pd.Series:
    """Every printed number by exhibit, row and column."""
    return published.by_place(published.load("median_triplet"))


def exact_tail(m: int, classes: int, k: int) -> Fraction:
    """P(Bin(m, 1/classes) ≥ k), the sum of Section 3.3 in fractions; `prior.tail` is its fast twin."""
    # Σ_i C(m, i) (classes − 1)^(m − i) / classes^m
    ways = sum(comb(m, i) * (classes - 1) ** (m - i) for i in range(k, m + 1))
    return Fraction(ways, classes**m)


def frequency(value: pd.Series, k: int, event: str, epoch: int) -> float:
    """Pr(Ω|`event`) of Table 5, `event` "A" (any batch) or "B" (one with two images of a category)."""
    return float(value["Table 5", f"Top-1 accuracy, k = {k}: Pr(ω|{event})", f"epoch {epoch}"])


def implied(value: pd.Series, k: int, epoch: int, half: float = 5e-5) -> Range:
    """Pr(B) = Pr(Ω|A) / Pr(Ω|B), as Ω ⊂ B ⊂ A, from Table 5's four decimals."""
    # each printed to ± half a unit of its last digit
    a, b = (frequency(value, k, event, epoch) for event in "AB")
    return Range((a - half) / (b + half), a / b, (a + half) / (b - half))


def pixel_share(low: int, high: int, full: int = 224) -> float:
    """E[s²] / full² for a side s drawn evenly from the integers low … high."""
    sides = range(low, high + 1)
    return sum(s * s for s in sides) / (len(sides) * full * full)


def random_resolution(value: pd.Series) -> Share:
    """What the released code's random sizes leave of a BYOL step at 224: (2·3·online + 2·target) / 8.

    Two online passes with a backward that costs twice the forward, two target passes without one; work
    taken as proportional to pixels.
    """
    sizes = value["wanggrun/triplet, code"]
    online, target = (
        pixel_share(*(int(sizes[f"size of {name} views", end]) for end in ("lowest", "highest")))
        for name in ("online", "target")
    )
    return Share(online, target, (6 * online + 2 * target) / 8)  # 2 · 3 + 2 passes


def supervised_epochs(row: str, epochs: float) -> float:
    """`epochs` of a row of Table 1 in supervised epochs of equal work, all at full resolution."""
    trained, other = PASSES[row]
    return epochs * (3 * trained + other) / 3  # a supervised image costs three forward passes


# -- tables --


def tables(folder: Path) -> list[Table]:
    """What the printed numbers say among themselves, and where paper and code disagree."""
    found = disagreements_table(folder)
    return [tails_table(), table_5_consistency(), smallest_k_table(), compute_table(), found]


def tails_table(ms: Sequence[int] = (104, 103), ks: Sequence[int] = (1, 2, 5, 10, 52)) -> Table:
    """P(Bin(m, 1/1000) ≥ k), exact, beside the two values that Section 3.3 prints."""
    value = numbers()
    rows: list[list[Cell]] = []
    for m in ms:
        for k in ks:
            exact = float(exact_tail(m, CLASSES, k))
            printed = value.get(("text", f"Pr, m = {m}, k = {k}", "value"))
            off = None if printed is None else f"{max(exact / printed, printed / exact):.1e}"
            rows.append([m, k, f"{exact:.3e}", None if printed is None else f"{printed:.2e}", off])
    return Table(
        "tails",
        "The rank-k negative is of the query's class: under ideal ranking, ImageNet",
        ["m", "k", "exact", "as printed", "off by a factor of"],
        rows,
        footer="P(Bin(m, 1/1000) ≥ k), summed in fractions; 104 images leave a query m = 103 negatives",
    )


def table_5_consistency() -> Table:
    """Table 5 against the identity Pr(Ω|A) = Pr(Ω|B) · Pr(B), and against chance."""
    value = numbers()
    pair, guess = prior.batch_has_pair(IMAGES, CLASSES), prior.chance(IMAGES, CLASSES)
    rows: list[list[Cell]] = []
    for k in RANKS:
        for epoch in EPOCHS:
            a, b = (frequency(value, k, event, epoch) for event in "AB")
            ratio = implied(value, k, epoch)
            rows.append([k, epoch, a, b, ratio.value, ratio.low, ratio.high, pair, guess])
    columns = ["k", "epoch", "Pr(Ω|A)", "Pr(Ω|B)", "implied Pr(B)", "at least", "at most", "exact Pr(B)"]
    return Table(
        "table_5_consistency",
        "Table 5: what its two rows imply for Pr(B)",
        [*columns, "chance"],
        rows,
        decimals=4,
        footer=f"{ALONE}; exact: two of {IMAGES} images share one of {CLASSES:,} equal classes; chance: the "
        "rank-k negative of at least one query is of its class though the features say nothing",
    )


def smallest_k_table(bound: float = 0.01, batches: Sequence[int] = BATCHES) -> Table:
    """The smallest k whose negative is of the query's class with less than `bound`, ranking ideal."""
    rows: list[list[Cell]] = [
        [name, classes, *(prior.smallest_k(n, classes, bound) for n in batches)]
        for name, classes in DATA_SETS.items()
    ]
    # for comparison: what the paper takes
    rows.append(["the median, n // 2", None, *(n // 2 for n in batches)])
    return Table(
        "smallest_k",
        f"The smallest k with P(Bin(n − 1, 1/classes) ≥ k) < {100 * bound:g} %",
        ["data set", "classes", *(f"n = {n}" for n in batches)],
        rows,
        footer="exact, classes taken as equally frequent; n images per device, n − 1 negatives per query",
    )


def compute_table() -> Table:
    """Table 1's epochs in supervised epochs of equal work, and with the released code's resolutions."""
    value = numbers()
    share = random_resolution(value)
    rows: list[list[Cell]] = []
    for row in PASSES:
        epochs = float(value["Table 1", row, "train epochs"])
        work = supervised_epochs(row, epochs)
        # the released code alone trains at random sizes
        resized = work * share.step if row.startswith("median") else None
        rows.append([row, float(value["Table 1", row, "top-1 acc."]), round(epochs), work, resized])
    return Table(
        "compute",
        "Table 1: epochs are not work",
        ["method", "top-1, %", "epochs", "supervised epochs' work", "with random resolution"],
        rows,
        footer="a backward pass counts as two forward passes, work goes with pixels; random sizes "
        f"leave {share.online:.3f} of the pixels online, {share.target:.3f} in the target, {share.step:.3f} "
        "of a step",
        decimals={"top-1, %": 1, "supervised epochs' work": 0, "with random resolution": 0},
    )


def disagreements_table(folder: Path) -> Table:
    """Where the paper and the authors' released code say different things, and what is done here."""
    head, *rows = csv.reader((folder / "disagreements.csv").read_text(encoding="utf-8").splitlines())
    footer = "code and read-me of wanggrun/triplet"
    return Table("disagreements", "The paper and the released code", head, list(rows), footer=footer)
