"""What is wrong, or missing, in the paper: shown by code from its own numbers where that can be."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import pandas as pd

from papers_lib.exhibits.claims import Erratum
from papers_lib.exhibits.table import Table
from papers_lib.median_triplet import printed, prior
from papers_lib.median_triplet.disagreements import disagreements_table
from papers_lib.median_triplet.printed import CLASSES, IMAGES, RANKS, exact_tail, frequency, numbers

if TYPE_CHECKING:
    from torch import Tensor

    from papers_lib.median_triplet.heads import Hinge

OURS, BEST = "median triplet", "supervised-270"
MARGINS = (0.3, 1.2, 100.0)  # Table 6
BATCHES = 20  # random ones, to see which triplets have a gradient
ZOO = "OpenSelfSup zoo"
# Rows of Table 1 and the zoo's names for them, as far as they take the zoo's "Last" column.
LAST = {
    "Random": "Random", "Relative-Loc [10]": "Relative-Loc", "Rotation-Pred [16]": "Rotation-Pred",
    "DeepCluster [3]": "DeepCluster", "NPID [44]": "NPID", "ODC [46]": "ODC",
}  # fmt: skip


def errata() -> list[Erratum]:
    """E1 … E26."""
    value = numbers()
    computed = (
        _hinge, _easy_triplets, _both_best, _tails, _argues_for_small_k, _inconsistent, _above_chance,
        _observations, _whole_batch, _info_nce, _strictly_smaller, _epochs, _last_layer, _swapped,
        _two_numbers, _protocols, _epochs_are_not_work, _outperforms, _catch_up, _left_out, _strongest,
        _spread,
    )  # fmt: skip
    found = [*(erratum(value) for erratum in computed), *_words()]
    return sorted(found, key=lambda erratum: int(erratum.name[1:]))


def tables() -> dict[str, Table]:
    """What the printed numbers say among themselves, and where paper and code disagree."""
    found = disagreements_table()
    return {**printed.tables(), found.name: found}


def _hinge(value: pd.Series) -> Erratum:
    k, gamma = int(value["settings", "k", "value"]), value["settings", "gamma", "value"]
    active = {margin: active_triplets(margin, k) for margin in MARGINS}
    total = BATCHES * IMAGES
    return Erratum(
        "E1", "Section 3.2, Eqs. 1 and 2 and the oldest triplet loss", "max(·, C)",
        f"max(· + C, 0): the argument lies in [−{gamma + 1:g}, {gamma + 1:g}], so that max(·, 100) is the "
        "constant 100",
        f"triplets with a gradient, of {total:,} random 256-d ones: "
        + ", ".join(f"C = {margin:g}: {n}" for margin, n in active.items()),
        True, bool(active[100.0] == active[1.2] == 0 < active[0.3] < total // 10 and gamma + 1 < 100),
    )  # fmt: skip


def active_triplets(margin: float, k: int) -> int:
    """Queries that get a gradient from Eq. 2 as printed: of 20 batches of 104 random ones, 256-d."""
    found = (_gradient(margin, "printed", k, 1.0, seed) for seed in range(BATCHES))
    return sum(int(gradient.any(1).sum()) for gradient in found)


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


def _easy_triplets(value: pd.Series) -> Erratum:
    k, gamma = int(value["settings", "k", "value"]), value["settings", "gamma", "value"]
    accuracy = _ablation(value, "Table 6")
    scale = value["wanggrun/triplet, code", "scale of the distance", "value"]
    dead = {margin: margin / (gamma * scale) for margin in MARGINS[:2]}
    same = same_gradients((6.0, 100.0, 1000.0, None), k)
    best = max(accuracy, key=accuracy.__getitem__)
    return Erratum(
        "E2", "Sections 3.2 and 5", "the margin drops the easy triplets",
        f"the best margin ({best:g}) drops none: from C = 6 on, in the code's form, the loss is "
        "C − 4 cos⁺ + 2 cos⁻",
        f"gradients at C = 6, 100, 1000 and without hinge the same bits: {same}; at cos⁻ = 0 a triplet is "
        + ", ".join(f"dead at C = {margin:g} from cos⁺ = {cos:.3g}" for margin, cos in dead.items())
        + f", yet {' / '.join(f'{x}' for x in accuracy.values())}",
        True, bool(same and best >= 6 and max(dead.values()) < 1),
    )  # fmt: skip


def _both_best(value: pd.Series) -> Erratum:
    accuracy = _ablation(value, "Table 6")
    called = [accuracy[value["text", "margins called best", which]] for which in ("one", "other")]
    return Erratum(
        "E3", "Section 5, Impact of margin", "C = 100 or C = 1.2: the performance is best",
        "one of them is best", f"Table 6: {' and '.join(map(str, called))}",
        True, called[0] != called[1],
    )  # fmt: skip


def _tails(value: pd.Series) -> Erratum:
    shown = {k: value["text", f"Pr, m = 104, k = {k}", "value"] for k in (52, 5)}
    exact = {(m, k): float(exact_tail(m, CLASSES, k)) for m in (104, 103) for k in shown}
    off = {k: max(x / exact[104, k], exact[104, k] / x) for k, x in shown.items()}
    right = ", ".join(f"k = {k}: {exact[104, k]:.3e} (m = 103: {exact[103, k]:.3e})" for k in shown)
    return Erratum(
        "E4", "Section 3.3, repeated in Section 5",
        ", ".join(f"Pr = {x:.2e} for k = {k}" for k, x in shown.items()), right,
        f"sums of fractions; off by factors of {' and '.join(f'{x:.1e}' for x in off.values())}; five "
        "coincidences of 1e-3 among 104 cannot be as rare as 1e-94",
        True, bool(min(off.values()) > 2),
    )  # fmt: skip


def _argues_for_small_k(value: pd.Series) -> Erratum:
    m, images = (int(value["settings", name, "value"]) for name in ("m", "images per GPU"))
    at_5, smallest = prior.tail(images - 1, 1 / CLASSES, 5), prior.smallest_k(images, CLASSES)
    k = int(value["settings", "k", "value"])
    return Erratum(
        "E5", "Section 3.3", f"m = {m} and k = m/2, guaranteed by the Bernoulli Distribution model",
        f"a binomial tail over m = {images - 1} (the query is one of {images}); on ImageNet it argues for "
        f"k ≤ 5, not for the median, and it assumes that every image of the class ranks before all others",
        f"k = 5: {at_5:.1e}; the smallest k below 1 %: {smallest}",
        True, bool(m == images and at_5 < 1e-4 and smallest <= 5 < k),
    )  # fmt: skip


def _inconsistent(value: pd.Series) -> Erratum:
    right = prior.batch_has_pair(IMAGES, CLASSES)
    found = [printed.implied(value, k, epoch) for k in RANKS for epoch in printed.EPOCHS]
    return Erratum(
        "E6", "Table 5", "Pr(Ω|A) and Pr(Ω|B) of the same batches",
        f"Ω ⊂ B, so that their ratio is Pr(B) in every cell; {IMAGES} images of {CLASSES:,} equal classes "
        f"have Pr(B) = {right:.4f}",
        f"ratios: {', '.join(f'{x.value:.3f}' for x in found)} (k = 1, 5, 52 at epochs 0, 180); the last "
        "digits explain none",
        True, all(not x.low <= right <= x.high for x in found),
    )  # fmt: skip


def _above_chance(value: pd.Series) -> Erratum:
    chance = prior.chance(IMAGES, CLASSES)
    start = {k: frequency(value, k, "A", 0) for k in RANKS}
    return Erratum(
        "E7", "Table 5, epoch 0", f"{start[52]:.4f} for k = 52 before training",
        f"features that say nothing give {chance:.4f} at any k; a frequency above it at the median is not "
        "explained",
        f"epoch 0: {', '.join(f'k = {k} {x:.4f}' for k, x in start.items())}", True, bool(start[52] > chance),
    )  # fmt: skip


def _observations(value: pd.Series) -> Erratum:
    start, end = ({k: frequency(value, k, "A", epoch) for k in RANKS} for epoch in printed.EPOCHS)
    chance = prior.chance(IMAGES, CLASSES)
    return Erratum(
        "E8", "Section 5, three observations from Table 5",
        "falls with training; falls with k; rank-5 negatives rarely of the query's category",
        "with training it falls for k = 52 alone; at epoch 0 k = 52 lies above k = 5; rank 5 ends at "
        f"{end[5] / chance:.1f} times chance",
        ", ".join(f"k = {k}: {start[k]:.4f} → {end[k]:.4f}" for k in RANKS), True,
        start[1] < end[1] and start[5] < end[5] and start[52] > end[52] and start[52] > start[5],
    )  # fmt: skip


def _whole_batch(value: pd.Series) -> Erratum:
    ideal = {k: prior.ideal_batch(IMAGES, CLASSES, k) for k in (1, 2, 5)}
    found = value["text", "rank-5, epoch 180", "probability"]
    return Erratum(
        "E9", "Section 5", "Table 5 exceeds the analysis as one pair counts for the whole batch",
        "a whole batch under ideal ranking explains nothing; the assumption on the ranking fails",
        f"some class has k + 1 of {IMAGES} images: "
        + ", ".join(f"k = {k} {x:.3g}" for k, x in ideal.items())
        + f"; printed for k = 5: {found}",
        True, bool(ideal[5] < found / 100),
    )  # fmt: skip


def _info_nce(value: pd.Series) -> Erratum:
    positive, negatives = 0.6, (0.5, 0.1, -0.3)
    as_printed = {tau: info_nce(positive, negatives, tau, False) for tau in (0.07, 1.0)}
    proper = {tau: info_nce(positive, negatives, tau, True) for tau in as_printed}
    one = math.isclose(*as_printed.values())
    return Erratum(
        "E11", "Section 3.1, footnote 3", "exp(xᵀx⁺)/τ, and l negatives numbered 1 … m",
        "exp(xᵀx⁺/τ): as printed the temperature cancels; −0·log adds nothing to a cross-entropy",
        "τ = 0.07 and 1, as printed: "
        f"{', '.join(f'{x:.3f}' for x in as_printed.values())}; inside: "
        f"{', '.join(f'{x:.3f}' for x in proper.values())}",
        True, bool(one and not math.isclose(*proper.values())),
    )  # fmt: skip


def info_nce(positive: float, negatives: Sequence[float], tau: float, inside: bool) -> float:
    """−log of the positive's share of exp(s/τ), or of exp(s)/τ as footnote 3 has it."""
    terms = [math.exp(s / tau) if inside else math.exp(s) / tau for s in (positive, *negatives)]
    return -math.log(terms[0] / sum(terms))


def _strictly_smaller(value: pd.Series) -> Erratum:
    distances = (0.2, -0.5, 0.1, -0.5)
    hardest = min(distances)
    strict, right = all(hardest < d for d in distances), all(hardest <= d for d in distances)
    return Erratum(
        "E12", "Section 3.2", "d(x, x_hardest) < d(x, x_i) for all i", "≤, as the hardest is one of them",
        f"distances {', '.join(f'{d:g}' for d in distances)}: < for all i {strict}, ≤ {right}",
        True, bool(right and not strict),
    )  # fmt: skip


def _epochs(value: pd.Series) -> Erratum:
    shown = {name: int(value["Table 1", row, "train epochs"]) for row, name in LAST.items()}
    trained = {name: int(value.get((ZOO, name, "train epochs"), 0)) for name in shown}
    other = {name: n for name, n in trained.items() if n and n != shown[name]}
    named = {n: int(value["Table 1", f"{OURS}-{n}", "train epochs"]) for n in (200, 600)}
    return Erratum(
        "E14", "Table 1, epochs",
        f"200 for {', '.join(other) or 'none'}; rows of ours named {' and '.join(map(str, named))}",
        "as trained in the zoo that they come from: "
        + ", ".join(f"{name} {n}" for name, n in other.items()),
        f"ours: {', '.join(f'{OURS}-{n} prints {epochs} epochs' for n, epochs in named.items())}",
        True, bool(len(other) == 3 and all(n != epochs for n, epochs in named.items())),
    )  # fmt: skip


def _last_layer(value: pd.Series) -> Erratum:
    shown = {name: value["Table 1", row, "top-1 acc."] for row, name in LAST.items()}
    last = {name: value[ZOO, name, "ImageNet (Last)"] for name in shown}
    best = {name: value[ZOO, name, "ImageNet (Multi), best layer"] for name in (*shown, "BYOL-200")}
    same = all(abs(shown[name] - last[name]) < 0.051 for name in shown)
    byol = value["Table 1", "BYOL [19]-200", "top-1 acc."]
    near = abs(byol - best["BYOL-200"]) < 0.2
    return Erratum(
        "E15", "Table 1, provenance", "one linear evaluation for all rows",
        "rows from several probes: six take the zoo's last layer, where the zoo reports the better of last "
        "and best layer; BYOL-200 is near the zoo's best layer",
        "last → best layer: "
        + ", ".join(f"{name} {last[name]} → {best[name]}" for name in shown)
        + f"; BYOL-200 {byol}, zoo {best['BYOL-200']}",
        True, bool(same and near and all(best[name] > last[name] for name in shown)),
    )  # fmt: skip


def _swapped(value: pd.Series) -> Erratum:
    shown = {name: value["Table 1", f"{name} {cite}", "top-1 acc."] for name, cite in
             (("SimCLR", "[5]"), ("MoCo", "[21]"))}  # fmt: skip
    moco = value["MoCo v1 paper", "MoCo", "top-1 acc."]
    simclr = value["MoCo v2 paper", "SimCLR", "top-1 acc."]
    return Erratum(
        "E16", "Table 1, SimCLR and MoCo at 200 epochs",
        f"SimCLR {shown['SimCLR']}, MoCo {shown['MoCo']}", "the two look swapped",
        f"published: MoCo {moco}; SimCLR {simclr} (as MoCo v2's paper has it); zoo: MoCo "
        f"{value[ZOO, 'MoCo', 'ImageNet (Last)']}, SimCLR {value[ZOO, 'SimCLR', 'ImageNet (Last)']}",
        True, bool(shown["SimCLR"] == moco != simclr == shown["MoCo"]),
    )  # fmt: skip


def _two_numbers(value: pd.Series) -> Erratum:
    goal = value["text", "supervised, goal line", "top-1 acc."]
    table, ours = (value["Table 1", row, "top-1 acc."] for row in ("supervised-100", f"{OURS}-200"))
    read_me = value["wanggrun/triplet, read-me", "Triplet, 200 epochs", "top-1 acc."]
    return Erratum(
        "E17", "Section 1 and Table 1", f"supervised learning {goal}; ours at some 200 epochs {ours}",
        "two numbers each", f"Table 1: supervised-100 {table}; the authors' read-me: ours {read_me}",
        True, bool(goal != table and ours != read_me),
    )  # fmt: skip


def _protocols(value: pd.Series) -> Erratum:
    code, own = (value[name].xs("value", level=1) for name in ("wanggrun/triplet, code", "OpenSelfSup, code"))
    other = {str(row): (code[row], x) for row, x in own.items() if code[row] != x}
    return Erratum(
        "E19", "Section 4", "all the protocols are in line with [49]",
        "linear evaluation and detection of the released code are not, so that Tables 1 to 3 compare more "
        "than the pretraining",
        "code against [49]: " + "; ".join(f"{row} {a:,g} and {b:,g}" for row, (a, b) in other.items()),
        True, bool({"linear", "COCO", "VOC"} <= {row.replace(",", "").split()[0] for row in other}),
    )  # fmt: skip


def _epochs_are_not_work(value: pd.Series) -> Erratum:
    share = printed.random_resolution(value)
    each = printed.supervised_epochs("BYOL [19]-200", 1)
    work = {
        row: printed.supervised_epochs(row, value["Table 1", row, "train epochs"])
        for row in ("BYOL [19]-1000", f"{OURS}-600")
    }
    return Erratum(
        "E20", "Figure 1, Section 4.1", "learning efficiency in epochs",
        f"an epoch of BYOL's kind is the work of {each:.2f} supervised ones, and random resolution, which "
        f"the paper does not mention, leaves {share.step:.3f} of it",
        f"pixels: {share.online:.3f} online, {share.target:.3f} target; in supervised epochs "
        + ", ".join(f"{row} {x:.0f}" for row, x in work.items())
        + f" ({work[f'{OURS}-600'] * share.step:.0f} with random resolution)",
        True, bool(each > 2 and share.step < 0.6),
    )  # fmt: skip


def _outperforms(value: pd.Series) -> Erratum:
    ours, best = ([value["Table 2", row, column] for column in ("AP Box", "AP Mask")] for row in (OURS, BEST))
    gaps = printed.box_mask_gaps(value)
    read_me = value["wanggrun/triplet, read-me"]["Triplet"]
    again = round(read_me["COCO AP Box"] - read_me["COCO AP Mask"], 1)
    rest = [gap for row, gap in gaps.items() if row not in (OURS, BEST, "Random")]
    return Erratum(
        "E21", "Section 4.2, Table 2", "even outperforms the supervised ImageNet pretraining",
        "only the shorter of the two supervised rows",
        f"{BEST} {best[0]} / {best[1]}, ours {ours[0]} / {ours[1]}; box − mask: ours {gaps[OURS]} (read-me "
        f"{again}), {BEST} {gaps[BEST]}, Random {gaps['Random']}, all others {min(rest)} to {max(rest)}",
        True, bool(best[0] > ours[0] and best[1] > ours[1]),
    )  # fmt: skip


def _catch_up(value: pd.Series) -> Erratum:
    columns = ("AP50 Box", "AP Box", "AP75 Box")
    rows = [str(r) for r in value["Table 3"].index.unique(0) if not str(r).startswith("supervised")]
    ahead = {
        c: [r for r in rows if value["Table 3", r, c] >= value["Table 3", "supervised-100", c]]
        for c in columns
    }
    ours, later = (
        [value["Table 3", OURS, c] for c in columns], [value[ZOO, "MoCo v2", f"VOC {c}"] for c in columns],
    )  # fmt: skip
    return Erratum(
        "E22", "Section 4.2, Table 3", "only MoCo v2 and ours catch up with supervised pretraining",
        "true of AP50 alone",
        "; ".join(f"{c}: {', '.join(names) or 'none'}" for c, names in ahead.items())
        + f"; the zoo's later MoCo v2 {' / '.join(map(str, later))} is above ours in all three: "
        f"{all(x > y for x, y in zip(later, ours, strict=True))}",
        True, bool(len(ahead["AP50 Box"]) == 2 and len(ahead["AP Box"]) > 2 and len(ahead["AP75 Box"]) > 2),
    )  # fmt: skip


def _left_out(value: pd.Series) -> Erratum:
    rows = [str(row) for row in value["Table 4"].index.unique(0)]
    board = value["SYSU-30k leaderboard"].xs("rank-1", level=1)
    ours, highest = value["Table 4", OURS, "rank-1"], value["Table 4"].max()
    hidden = float(board["ResNet-50"])
    return Erratum(
        "E24", "Section 4.3, Table 4", f"a new state of the art: {ours}",
        f"among four self-supervised rows; the same table has {highest}, the authors' leaderboard a plain "
        f"ResNet-50 with {hidden}, left out, and {board['IICS']}",
        f"rows of Table 4: {', '.join(rows)}; later news there: {board.iloc[-1]} by a self-supervised method",
        True, bool(hidden > ours and highest > ours and not any("ResNet" in row for row in rows)),
    )  # fmt: skip


def _strongest(value: pd.Series) -> Erratum:
    table = value["Table 1"].unstack()
    others = [row for row in table.index if not str(row).startswith((OURS, "supervised"))]
    at_200 = table.loc[others].query("`train epochs` == 200")["top-1 acc."].sort_values(ascending=False)
    first = [str(row) for row in at_200.index[:2]]
    return Erratum(
        "E25", "Sections 1 and 2", "BYOL and SimSiam learn slowly, as they under-cluster without negatives",
        "they are the strongest baselines; that few negatives slow learning is not tested (no ablation of "
        "the batch size)",
        "Table 1 at 200 epochs: " + ", ".join(f"{row} {x}" for row, x in at_200.iloc[:3].items()),
        True, bool({row[:4] for row in first} == {"BYOL", "SimS"}),
    )  # fmt: skip


def _spread(value: pd.Series) -> Erratum:
    found = {name: list(_ablation(value, name).values()) for name in ("Table 6", "Table 7")}
    steps = {name: min(abs(a - b) for a, b in pairwise(row)) for name, row in found.items()}
    trials = {name: _range(value["MoCo read-me"][name]) for name in ("MoCo v1", "MoCo v2")}
    epochs = int(value["settings", "ablations, epochs", "value"])
    return Erratum(
        "E26", "Tables 6 and 7", f"settings ranked after {epochs} epochs and one epoch of linear evaluation",
        "one run each, no spread: a step of either table is no larger than the range of five seeds elsewhere",
        "highest − lowest (smallest step): "
        + ", ".join(f"{name} {_range(row):.1f} ({steps[name]:.1f})" for name, row in found.items())
        + "; five seeds at full length: " + ", ".join(f"{name} {x:.1f}" for name, x in trials.items()),
        True, bool(max(steps.values()) <= max(trials.values()) + 1e-6),
    )  # fmt: skip


def _words() -> list[Erratum]:
    text = "the paper's text"
    reading = [
        ("E10", "Table 5", "row labels “Top-1 accuracy”; ω",
         "frequencies of an event, which the text calls Ω", text),
        ("E13", "Section 1, contributions", "a considerable intra-class distance", "inter-class", text),
        ("E18", "Table 1, median triplet-600", "a row of the median triplet loss",
         "the released model of 75.9 was trained by the mean of ranks 2 to 10",
         "the authors' script (release_smooth_ep940) and wanggrun/triplet#1"),
        ("E23", "Section 4.2", "VOC test2017", "VOC 2007's test set",
         "the paper's text; the authors' configuration names voc_2007_test"),
    ]  # fmt: skip
    return [Erratum(*row, computed=False, holds=True) for row in reading]


def _ablation(value: pd.Series, table: str) -> dict[float, float]:
    """Margin or rank -> accuracy, of Table 6 or 7."""
    row = value[table]["Top-1 accuracy"]
    return {float(str(name).split(" = ")[-1].split("-")[-1]): float(x) for name, x in row.items()}


def _range(values: Iterable[float]) -> float:
    found = [float(x) for x in values]
    return max(found) - min(found)
