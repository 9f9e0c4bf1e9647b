"""What is wrong, or missing, in the paper: checked by code from its own numbers where that can be.

`errata.csv` says what is printed and what is right; a check here says what shows it, and whether it does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import pandas as pd

from papers_lib.median_triplet import prior
from papers_lib.median_triplet.study import printed
from papers_lib.median_triplet.study.printed import CLASSES, IMAGES, RANKS, exact_tail, frequency

if TYPE_CHECKING:
    from torch import Tensor

    from papers_lib.median_triplet.heads import Hinge

Shown = tuple[str, bool]  # what shows it, and whether it does
OURS, BEST = "median triplet", "supervised-270"
MARGINS = (0.3, 1.2, 100.0)  # Table 6
BATCHES = 20  # random ones, to see which triplets have a gradient
ZOO = "OpenSelfSup zoo"
# Rows of Table 1 and the zoo's names for them, as far as they take the zoo's "Last" column.
LAST = {
    "Random": "Random",
    "Relative-Loc [10]": "Relative-Loc",
    "Rotation-Pred [16]": "Rotation-Pred",
    "DeepCluster [3]": "DeepCluster",
    "NPID [44]": "NPID",
    "ODC [46]": "ODC",
}


# -- the loss --


def hinge_without_gradient(value: pd.Series) -> Shown:
    """E1: Equation 2 as printed, at the margins of Table 6."""
    k, gamma = int(value["settings", "k", "value"]), value["settings", "gamma", "value"]
    # γ d⁺ − d⁻ lies in [−(γ + 1), γ + 1]: max(·, C) is constant for any C above
    active = {margin: active_triplets(margin, k) for margin in MARGINS}
    total = BATCHES * IMAGES
    text = f"triplets with a gradient, of {total:,} random 256-d ones: " + ", ".join(
        f"C = {margin:g}: {n}" for margin, n in active.items()
    )
    return text, active[100.0] == active[1.2] == 0 < active[0.3] < total // 10 and gamma + 1 < 100


def active_triplets(margin: float, k: int) -> int:
    """Queries that get a gradient from Eq. 2 as printed: of 20 batches of 104 random ones, 256-d."""
    gradients = (_gradient(margin, "printed", k, 1.0, seed) for seed in range(BATCHES))
    return sum(int(gradient.any(1).sum()) for gradient in gradients)


def _gradient(margin: float | None, hinge: Hinge, k: int, scale: float, seed: int = 0) -> Tensor:
    """Gradient of the loss by its random queries [104, 256]."""
    import torch

    from papers_lib.median_triplet.heads import rank_k_triplet

    generator = torch.Generator().manual_seed(seed)
    query, target = (torch.randn(IMAGES, 256, generator=generator) for _ in range(2))
    query.requires_grad_()
    loss = rank_k_triplet(query, target, k, margin=margin, hinge=hinge, distance_scale=scale)
    return torch.autograd.grad(loss, query)[0]


def same_gradients(margins: Sequence[float | None], k: int) -> bool:
    """Whether relu(γd⁺ − d⁻ + C), d = −2 cos, has one gradient, to the bit, for all `margins`."""
    first, *others = (_gradient(margin, "relu", k, 2.0) for margin in margins)
    return all(bool((first == other).all()) for other in others)


def margin_drops_nothing(value: pd.Series) -> Shown:
    """E2: from C = 6 on the code's hinge is never clipped."""
    k, gamma = int(value["settings", "k", "value"]), value["settings", "gamma", "value"]
    accuracy = _ablation(value, "Table 6")
    scale = value["wanggrun/triplet, code", "scale of the distance", "value"]
    # γ d⁺ − d⁻ + C = 0 at cos⁻ = 0: cos⁺ = C / (γ s)
    dead = {margin: margin / (gamma * scale) for margin in MARGINS[:2]}
    same = same_gradients((6.0, 100.0, 1000.0, None), k)
    best = max(accuracy, key=accuracy.__getitem__)
    text = (
        f"gradients at C = 6, 100, 1000 and without hinge the same bits: {same}; at cos⁻ = 0 a triplet is "
        + ", ".join(f"dead at C = {margin:g} from cos⁺ = {cos:.3g}" for margin, cos in dead.items())
        + f", yet {' / '.join(f'{x}' for x in accuracy.values())}"
    )
    return text, same and best >= 6 and max(dead.values()) < 1


def both_called_best(value: pd.Series) -> Shown:
    """E3: two margins of Table 6."""
    accuracy = _ablation(value, "Table 6")
    called = [accuracy[value["text", "margins called best", which]] for which in ("one", "other")]
    return f"Table 6: {' and '.join(map(str, called))}", called[0] != called[1]


def temperature_cancels(_value: pd.Series) -> Shown:
    """E11: InfoNCE as footnote 3 has it."""
    positive, negatives = 0.6, (0.5, 0.1, -0.3)
    as_printed, proper = (
        {tau: info_nce(positive, negatives, tau, inside) for tau in (0.07, 1.0)} for inside in (False, True)
    )
    text = (
        f"τ = 0.07 and 1, as printed: {', '.join(f'{x:.3f}' for x in as_printed.values())}; "
        f"inside: {', '.join(f'{x:.3f}' for x in proper.values())}"
    )
    return text, math.isclose(*as_printed.values()) and not math.isclose(*proper.values())


def info_nce(positive: float, negatives: Sequence[float], tau: float, inside: bool) -> float:
    """−log of the positive's share of exp(s/τ), or of exp(s)/τ as footnote 3 has it."""
    # −log( e⁺ / (e⁺ + Σ_j e_j) ), with e = exp(s/τ) or exp(s)/τ
    terms = [math.exp(s / tau) if inside else math.exp(s) / tau for s in (positive, *negatives)]
    return -math.log(terms[0] / sum(terms))


def hardest_below_itself(_value: pd.Series) -> Shown:
    """E12: < for all i, where i runs over the hardest, too."""
    distances = (0.2, -0.5, 0.1, -0.5)
    hardest = min(distances)
    strict, right = all(hardest < d for d in distances), all(hardest <= d for d in distances)
    text = f"distances {', '.join(f'{d:g}' for d in distances)}: < for all i {strict}, ≤ {right}"
    return text, right and not strict


# -- probabilities, Table 5 --


def tails(value: pd.Series) -> Shown:
    """E4: the two printed probabilities against sums of fractions."""
    shown = {k: value["text", f"Pr, m = 104, k = {k}", "value"] for k in (52, 5)}
    exact = {k: float(exact_tail(104, CLASSES, k)) for k in shown}
    # the factor, whichever is larger
    off = {k: max(x / exact[k], exact[k] / x) for k, x in shown.items()}
    text = (
        f"sums of fractions; off by factors of {' and '.join(f'{x:.1e}' for x in off.values())}; five "
        "coincidences of 1e-3 among 104 cannot be as rare as 1e-94"
    )
    return text, min(off.values()) > 2


def argues_for_small_k(value: pd.Series) -> Shown:
    """E5: what the model guarantees, with m = 103."""
    m, images = (int(value["settings", name, "value"]) for name in ("m", "images per GPU"))
    # the query is one of the images, so that m is one less
    at_5, smallest = prior.tail(images - 1, 1 / CLASSES, 5), prior.smallest_k(images, CLASSES)
    text = f"k = 5: {at_5:.1e}; the smallest k below 1 %: {smallest}"
    return text, m == images and at_5 < 1e-4 and smallest <= 5 < int(value["settings", "k", "value"])


def inconsistent_events(value: pd.Series) -> Shown:
    """E6: Pr(Ω|A) / Pr(Ω|B) is Pr(B) in every cell."""
    right = prior.batch_has_pair(IMAGES, CLASSES)  # 0.9961
    ratios = [printed.implied(value, k, epoch) for k in RANKS for epoch in printed.EPOCHS]
    text = (
        f"ratios: {', '.join(f'{x.value:.3f}' for x in ratios)} (k = 1, 5, 52 at epochs 0, 180); the last "
        "digits explain none"
    )
    return text, all(not x.low <= right <= x.high for x in ratios)


def above_chance(value: pd.Series) -> Shown:
    """E7: Table 5 at epoch 0."""
    start = {k: frequency(value, k, "A", 0) for k in RANKS}
    text = f"epoch 0: {', '.join(f'k = {k} {x:.4f}' for k, x in start.items())}"
    return text, start[52] > prior.chance(IMAGES, CLASSES)


def observations(value: pd.Series) -> Shown:
    """E8: what Table 5 is said to show."""
    start, end = ({k: frequency(value, k, "A", epoch) for k in RANKS} for epoch in printed.EPOCHS)
    text = ", ".join(f"k = {k}: {start[k]:.4f} → {end[k]:.4f}" for k in RANKS)
    return text, start[1] < end[1] and start[5] < end[5] and start[52] > end[52] and start[52] > start[5]


def whole_batch(value: pd.Series) -> Shown:
    """E9: that one pair counts for the whole batch, under ideal ranking."""
    # rank k is of the query's class in some query where a class has k + 1 images
    ideal = {k: prior.ideal_batch(IMAGES, CLASSES, k) for k in (1, 2, 5)}
    at_the_end = value["text", "rank-5, epoch 180", "probability"]
    text = (
        f"some class has k + 1 of {IMAGES} images: "
        + ", ".join(f"k = {k} {x:.3g}" for k, x in ideal.items())
        + f"; printed for k = 5: {at_the_end}"
    )
    return text, ideal[5] < at_the_end / 100


# -- Table 1 --


def epochs_of_others(value: pd.Series) -> Shown:
    """E14: rows of the zoo, and the paper's own."""
    shown = {name: int(value["Table 1", row, "train epochs"]) for row, name in LAST.items()}
    trained = {name: int(value.get((ZOO, name, "train epochs"), 0)) for name in shown}
    # rows whose epochs are not those of the zoo that they come from
    other = [name for name, n in trained.items() if n and n != shown[name]]
    named = {n: int(value["Table 1", f"{OURS}-{n}", "train epochs"]) for n in (200, 600)}
    text = f"ours: {', '.join(f'{OURS}-{n} prints {epochs} epochs' for n, epochs in named.items())}"
    return text, len(other) == 3 and all(n != epochs for n, epochs in named.items())


def last_layer(value: pd.Series) -> Shown:
    """E15: which of the zoo's columns the rows come from."""
    shown = {name: value["Table 1", row, "top-1 acc."] for row, name in LAST.items()}
    last = {name: value[ZOO, name, "ImageNet (Last)"] for name in shown}
    best = {name: value[ZOO, name, "ImageNet (Multi), best layer"] for name in (*shown, "BYOL-200")}
    byol = value["Table 1", "BYOL [19]-200", "top-1 acc."]
    other = value[ZOO, "BYOL-200, batch 4,096", "ImageNet (Multi), best layer"]
    text = (
        "last → best layer: "
        + ", ".join(f"{name} {last[name]} → {best[name]}" for name in shown)
        + f"; BYOL-200 {byol}, zoo {best['BYOL-200']}, and {other} with batches of 4,096"
    )
    # printed to one digit, the zoo to two
    same = all(abs(shown[name] - last[name]) < 0.051 and best[name] > last[name] for name in shown)
    return text, same and abs(byol - best["BYOL-200"]) < 0.2


def swapped(value: pd.Series) -> Shown:
    """E16: SimCLR and MoCo at 200 epochs."""
    shown = {
        name: value["Table 1", f"{name} {cite}", "top-1 acc."]
        for name, cite in (("SimCLR", "[5]"), ("MoCo", "[21]"))
    }
    moco = value["MoCo v1 paper", "MoCo", "top-1 acc."]
    simclr = value["MoCo v2 paper", "SimCLR", "top-1 acc."]
    text = (
        f"published: MoCo {moco}; SimCLR {simclr} (as MoCo v2's paper has it); zoo: MoCo "
        f"{value[ZOO, 'MoCo', 'ImageNet (Last)']}, SimCLR {value[ZOO, 'SimCLR', 'ImageNet (Last)']}"
    )
    return text, shown["SimCLR"] == moco != simclr == shown["MoCo"]


def two_numbers(value: pd.Series) -> Shown:
    """E17: supervised, and ours at some 200 epochs."""
    goal = value["text", "supervised, goal line", "top-1 acc."]
    table, ours = (value["Table 1", row, "top-1 acc."] for row in ("supervised-100", f"{OURS}-200"))
    read_me = value["wanggrun/triplet, read-me", "Triplet, 200 epochs", "top-1 acc."]
    text = f"Table 1: supervised-100 {table}; the authors' read-me: ours {read_me}"
    return text, goal != table and ours != read_me


def protocols(value: pd.Series) -> Shown:
    """E19: the released code against OpenSelfSup's."""
    code, zoo = (value[name].xs("value", level=1) for name in ("wanggrun/triplet, code", "OpenSelfSup, code"))
    # settings where the two differ
    other = {str(row): (code[row], x) for row, x in zoo.items() if code[row] != x}
    text = "code against [49]: " + "; ".join(f"{row} {a:,g} and {b:,g}" for row, (a, b) in other.items())
    return text, {"linear", "COCO", "VOC"} <= {row.replace(",", "").split()[0] for row in other}


def epochs_are_not_work(value: pd.Series) -> Shown:
    """E20: in supervised epochs of equal work."""
    share = printed.random_resolution(value)
    work = {
        row: printed.supervised_epochs(row, value["Table 1", row, "train epochs"])
        for row in ("BYOL [19]-1000", f"{OURS}-600")
    }
    text = (
        f"pixels: {share.online:.3f} online, {share.target:.3f} target; in supervised epochs "
        + ", ".join(f"{row} {x:.0f}" for row, x in work.items())
        + f" ({work[f'{OURS}-600'] * share.step:.0f} with random resolution)"
    )
    return text, printed.supervised_epochs("BYOL [19]-200", 1) > 2 and share.step < 0.6


def strongest_baselines(value: pd.Series) -> Shown:
    """E25: BYOL and SimSiam among the rows of 200 epochs."""
    table = value["Table 1"].unstack()
    others = [row for row in table.index if not str(row).startswith((OURS, "supervised"))]
    # the best first
    at_200 = table.loc[others].query("`train epochs` == 200")["top-1 acc."].sort_values(ascending=False)
    text = "Table 1 at 200 epochs: " + ", ".join(f"{row} {x}" for row, x in at_200.iloc[:3].items())
    return text, {str(row)[:4] for row in at_200.index[:2]} == {"BYOL", "SimS"}


# -- Tables 2 to 4, 6 and 7 --


def outperforms(value: pd.Series) -> Shown:
    """E21: Table 2 against the longer supervised row, and the gap of box and mask."""
    ours, best = ([value["Table 2", row, column] for column in ("AP Box", "AP Mask")] for row in (OURS, BEST))
    gaps = box_mask_gaps(value)  # box AP − mask AP, about 5 in most rows
    read_me = value["wanggrun/triplet, read-me"]["Triplet"]
    again = round(read_me["COCO AP Box"] - read_me["COCO AP Mask"], 1)
    rest = [gap for row, gap in gaps.items() if row not in (OURS, BEST, "Random")]
    text = (
        f"{BEST} {best[0]} / {best[1]}, ours {ours[0]} / {ours[1]}; box − mask: ours {gaps[OURS]} (read-me "
        f"{again}), {BEST} {gaps[BEST]}, Random {gaps['Random']}, all others {min(rest)} to {max(rest)}"
    )
    return text, best[0] > ours[0] and best[1] > ours[1]


def box_mask_gaps(value: pd.Series) -> dict[str, float]:
    """Row of Table 2 -> box AP − mask AP."""
    table = value["Table 2"].unstack()
    return {str(row): round(float(gap), 1) for row, gap in (table["AP Box"] - table["AP Mask"]).items()}


def catches_up(value: pd.Series) -> Shown:
    """E22: who is ahead of supervised-100 in Table 3, by column."""
    columns = ("AP50 Box", "AP Box", "AP75 Box")
    rows = [str(r) for r in value["Table 3"].index.unique(0) if not str(r).startswith("supervised")]
    ahead = {
        c: [r for r in rows if value["Table 3", r, c] >= value["Table 3", "supervised-100", c]]
        for c in columns
    }
    ours = [value["Table 3", OURS, c] for c in columns]
    later = [value[ZOO, "MoCo v2", f"VOC {c}"] for c in columns]
    text = (
        "; ".join(f"{c}: {', '.join(names) or 'none'}" for c, names in ahead.items())
        + f"; the zoo's later MoCo v2 {' / '.join(map(str, later))} is above ours in all three: "
        f"{all(x > y for x, y in zip(later, ours, strict=True))}"
    )
    return text, len(ahead["AP50 Box"]) == 2 and len(ahead["AP Box"]) > 2 and len(ahead["AP75 Box"]) > 2


def left_out(value: pd.Series) -> Shown:
    """E24: Table 4 and the authors' leaderboard."""
    rows = [str(row) for row in value["Table 4"].index.unique(0)]
    board = value["SYSU-30k leaderboard"].xs("rank-1", level=1)
    ours, highest = value["Table 4", OURS, "rank-1"], value["Table 4"].max()
    later = f"later news there: {board.iloc[-1]} by a self-supervised method"
    # the leaderboard's plain ResNet-50 is not among them
    hidden = not any("ResNet" in row for row in rows)
    text = f"rows of Table 4: {', '.join(rows)}; {later}"
    return text, float(board["ResNet-50"]) > ours and highest > ours and hidden


def no_spread(value: pd.Series) -> Shown:
    """E26: the smallest step of Tables 6 and 7 against the range of five seeds elsewhere."""
    ablations = {name: list(_ablation(value, name).values()) for name in ("Table 6", "Table 7")}
    # the smallest difference between neighbours of a table
    steps = {name: min(abs(a - b) for a, b in pairwise(row)) for name, row in ablations.items()}
    trials = {name: _range(value["MoCo read-me"][name]) for name in ("MoCo v1", "MoCo v2")}
    text = (
        "highest − lowest (smallest step): "
        + ", ".join(f"{name} {_range(row):.1f} ({steps[name]:.1f})" for name, row in ablations.items())
        + "; five seeds at full length: "
        + ", ".join(f"{name} {x:.1f}" for name, x in trials.items())
    )
    return text, max(steps.values()) <= max(trials.values()) + 1e-6


def _ablation(value: pd.Series, table: str) -> dict[float, float]:
    """Margin or rank -> accuracy, of Table 6 or 7."""
    row = value[table]["Top-1 accuracy"]
    return {float(str(name).split(" = ")[-1].split("-")[-1]): float(x) for name, x in row.items()}


def _range(values: Iterable[float]) -> float:
    listed = [float(x) for x in values]
    return max(listed) - min(listed)


CHECKS = {
    "E1": hinge_without_gradient,
    "E2": margin_drops_nothing,
    "E3": both_called_best,
    "E4": tails,
    "E5": argues_for_small_k,
    "E6": inconsistent_events,
    "E7": above_chance,
    "E8": observations,
    "E9": whole_batch,
    "E11": temperature_cancels,
    "E12": hardest_below_itself,
    "E14": epochs_of_others,
    "E15": last_layer,
    "E16": swapped,
    "E17": two_numbers,
    "E19": protocols,
    "E20": epochs_are_not_work,
    "E21": outperforms,
    "E22": catches_up,
    "E24": left_out,
    "E25": strongest_baselines,
    "E26": no_spread,
}
