"""The paper's claims as statements that our runs can hold or break.

Numbers C1 … C20 are ours; a letter marks one of several statements. Comparisons are paired by seed and judged
in direction by `papers_lib.exhibits.verdicts`, never in the size that the paper prints. A statement marked
(ours) is not the paper's: it speaks for another explanation, or for another default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from scipy.stats import spearmanr

from papers_lib.exhibits.claims import Claim
from papers_lib.exhibits.verdicts import Finding, Verdict, greater
from papers_lib.median_triplet import printed, prior, readings
from papers_lib.median_triplet.arms import ARMS, HEADS
from papers_lib.median_triplet.controls import own_rank
from papers_lib.median_triplet.readings import Runs, at_start, logged, percent

Values = dict[int, float]
Row = tuple[str, str, str, str, str]  # name, arm, counterpart, statement, exhibit
CLASSES = 10  # of CIFAR-10
FRAME = "same frame, augmentation, probe and seeds, the same passes a step"


def claims(runs: Runs) -> list[Claim]:
    """All claims with their findings."""
    parts: tuple[Callable[[Runs], list[Claim]], ...] = (
        _efficiency, _resolution, _false_negatives, _ranks, _margins, _bernoulli, _negatives, _collapse,
        _prior_and_smoothed, _probe, _transfer, _printed, _length, _speed,
    )  # fmt: skip
    found = [claim for part in parts for claim in part(runs)]
    return sorted(found, key=lambda claim: (int(claim.name[1:].rstrip("abcdefghij")), claim.name))


def _compare(
    runs: Runs, sentence: str, rows: tuple[Row, ...], controls: str, metric: str = "linear"
) -> list[Claim]:
    return [
        Claim(name, sentence, f"{statement} ({metric})", exhibit,
              greater(percent(runs, a, metric), percent(runs, b, metric)), f"runs {a}, {b}", controls)
        for name, a, b, statement, exhibit in rows
    ]  # fmt: skip


def _efficiency(runs: Runs) -> list[Claim]:
    sentence = "Section 4.1, Figure 1, Table 1: better than BYOL at equal epochs, and more efficient"
    linear = (
        ("C1a", "median", "byol", "the median triplet beats BYOL at equal epochs", "table_1"),
        ("C1c", "median", "byol_x2", "it beats BYOL with its loss doubled", "controls"),
        ("C1f", "median_mean", "byol", "with the mean of the views it beats BYOL", "controls"),
        ("C1g", "median_scale_1", "byol", "with d = −cos it beats BYOL", "controls"),
        ("C1h", "prior", "byol", "with k from the class prior it beats BYOL (ours)", "heads"),
        ("C1i", "prior", "byol_x2", "and BYOL with its loss doubled (ours)", "heads"),
        ("C1j", "supervised", "median", "supervised learning is ahead at equal epochs", "table_1"),
    )
    nearest = (
        ("C1b", "median", "byol", "the median triplet beats BYOL at equal epochs", "table_1"),
        ("C1d", "median", "byol_x2", "it beats BYOL with its loss doubled", "controls"),
    )
    timed = greater(*_at_equal_seconds(runs, "median", "byol"))
    return [
        *_compare(runs, sentence, linear, f"{FRAME}; the median's gradients are twice BYOL's"),
        *_compare(runs, sentence, nearest, FRAME, "knn"),
        Claim("C1e", sentence, "the median triplet beats BYOL at equal seconds of training (knn)", "figure_1",
              timed, "runs median, byol", "seconds of one machine; kNN between two readings is interpolated"),
    ]  # fmt: skip


def _at_equal_seconds(runs: Runs, a: str, b: str) -> tuple[Values, Values]:
    """kNN, %, of both arms when the faster of the two runs has ended, by seed."""
    curves = {arm: _by_seconds(runs, arm) for arm in (a, b)}
    found: tuple[Values, Values] = {}, {}
    for seed in curves[a].keys() & curves[b].keys():
        end = min(curves[arm][seed][0][-1] for arm in (a, b))
        for values, arm in zip(found, (a, b), strict=True):
            values[seed] = float(np.interp(end, *curves[arm][seed]))
    return found


def _by_seconds(runs: Runs, arm: str) -> dict[int, tuple[list[float], list[float]]]:
    curves = {}
    for seed, row in readings.rows_of(runs, arm).items():
        seconds, knn = [0.0], [100 * float(row.metrics["start"]["knn"])]
        spent = 0.0
        for entry in row.metrics["history"]:
            spent += entry["seconds"]
            if "knn" in entry:
                seconds.append(spent)
                knn.append(100 * entry["knn"])
        curves[seed] = (seconds, knn)
    return curves


def _resolution(runs: Runs) -> list[Claim]:
    sentence = "Released code, not the paper: each pass at a random resolution"
    rows = (
        ("C2a", "median_sizes", "median", "random resolution helps the median triplet (ours)", "controls"),
        ("C2b", "byol_sizes", "byol", "it helps BYOL as well (ours)", "controls"),
        ("C2c", "median_sizes", "byol_x2_sizes", "the median beats BYOL when both have it, losses alike",
         "controls"),
        ("C2d", "prior_sizes", "prior", "it helps the head with the class prior (ours)", "controls"),
    )  # fmt: skip
    share = printed.random_resolution(printed.numbers())
    text = (
        f"at 224 pixels {share.online:.3f} of the pixels online, {share.target:.3f} in the target, "
        f"{share.step:.3f} of a step's work: holds"
    )
    exact = Claim("C2e", sentence, "it leaves less than 0.6 of a BYOL step's work", "compute",
                  Finding("holds" if share.step < 0.6 else "fails", text), "arithmetic")  # fmt: skip
    return [
        *_compare(
            runs, sentence, rows, "views of 24 pixels come down to 10 to 14, and those of 32 to 14 to 18"
        ),
        exact,
    ]


def _moved(runs: Runs, name: str, sentence: str, statement: str, a: Values, b: Values, arm: str) -> Claim:
    controls = "by query, since at ten classes nearly every batch holds a false negative"
    return Claim(name, sentence, f"{statement} (share of queries)", "false_negatives", greater(a, b),
                 f"runs {arm}", controls)  # fmt: skip


def _false_negatives(runs: Runs) -> list[Claim]:
    """C3 and C4: over-clustering, by query."""
    hardest, median, byol = (partial(_share, runs, arm) for arm in ("hardest", "median", "byol"))
    chance = dict.fromkeys(hardest("1") or median("median"), 100.0 / CLASSES)
    three = "Table 5: with k = 1 false negatives rise with training"
    four = "Table 5: with k = 52 they fall"
    one, five = "k = 1", partial(_share, runs, "rank_5")
    found = [
        _moved(runs, "C3a", three, f"{one}: more at the end than before", hardest("1"), hardest("1", True),
               "hardest"),
        _moved(runs, "C3b", three, f"{one}: more at the end than chance", hardest("1"), chance, "hardest"),
        _moved(runs, "C3c", three, "k = 5: more at the end than before", five("5"), five("5", True),
               "rank_5"),
        _moved(runs, "C3e", three, "in BYOL, which repels nothing, rank 1 rises as well (ours)", byol("1"),
               byol("1", True), "byol"),
        _moved(runs, "C4a", four, "k = n/2: fewer at the end than before", median("median", True),
               median("median"), "median"),
        _moved(runs, "C4b", four, "k = n/2: fewer at the end than chance", chance, median("median"),
               "median"),
        _moved(runs, "C4c", four, "fewer with k = n/2 than with k = 1", hardest("1"), median("median"),
               "hardest, median"),
        _moved(runs, "C4d", four, "in BYOL the median's rank falls as well (ours)", byol("median", True),
               byol("median"), "byol"),
    ]  # fmt: skip
    harm = (("C3d", "median", "hardest", "the harm: k = n/2 beats k = 1", "heads"),)
    return found + _compare(runs, three, harm, FRAME)


def _share(runs: Runs, arm: str, k: str, start: bool = False) -> Values:
    name = f"same_query_{k}"
    if start:
        return {seed: 100 * value for seed, value in at_start(runs, arm, name).items()}
    factor = 1 if name in readings.LOGGED else 100  # those in LOGGED come in %
    return {seed: factor * value for seed, value in logged(runs, arm, name).items()}


def _ranks(runs: Runs) -> list[Claim]:
    rows = (
        ("C5a", "median", "rank_5", "k = n/2 beats k = 5", "table_7"),
        ("C5b", "rank_5", "hardest", "k = 5 beats k = 1", "table_7"),
        ("C5c", "median", "hardest", "k = n/2 beats k = 1", "table_7"),
        ("C5d", "quarter", "median", "k = n/4 beats k = n/2 (ours)", "heads"),
        ("C5e", "median", "three_quarters", "k = n/2 beats k = 3n/4 (ours)", "heads"),
    )
    controls = "ten classes: false negatives fill the first 22 ranks of 127; on ImageNet the first one or two"
    return _compare(runs, "Table 7: 28.9 < 29.5 < 30.0 for k = 1, 5, 52", rows, controls)


def _margins(runs: Runs) -> list[Claim]:
    rows = tuple(
        (f"C6{letter}", f"margin_{a}{suffix}", f"margin_{b}{suffix}", f"C = {a} beats C = {b}{words}",
         "table_6")
        for letter, a, b, suffix, words in (
            ("a", "100", "1.2", "", ""), ("b", "1.2", "0.3", "", ""),
            ("c", "100", "1.2", "_scale_1", " at d = −cos"), ("d", "1.2", "0.3", "_scale_1", " at d = −cos"),
        )
    )  # fmt: skip
    sentence = "Table 6: 28.3 < 29.8 < 30.0 for C = 0.3, 1.2, 100"
    same = _identical(runs, "margin_100", "median")
    exact = Claim("C6e", sentence, "C = 100 and no hinge at all are the same run (ours)", "margins", same,
                  "runs margin_100, median", "the hinge is never clipped: E2")  # fmt: skip
    return [*_compare(runs, sentence, rows, FRAME), exact]


def _identical(runs: Runs, a: str, b: str) -> Finding:
    ours, other = ({seed: (row.metrics["linear"], row.metrics["knn"])
                    for seed, row in readings.rows_of(runs, arm).items()} for arm in (a, b))  # fmt: skip
    seeds = sorted(ours.keys() & other.keys())
    if not seeds:
        return Finding("not tested", "no seed has both runs: not tested")
    equal = sum(ours[seed] == other[seed] for seed in seeds)
    verdict: Verdict = "holds" if equal == len(seeds) else "fails"
    return Finding(verdict, f"equal in linear and kNN accuracy at {equal} of {len(seeds)} seeds: {verdict}")


def _bernoulli(runs: Runs) -> list[Claim]:
    """C7: the tail of an ideal ranking against what was measured."""
    found = []
    arms = {arm.name: arm for arm in HEADS}
    for letter, name in zip("abc", ("prior", "quarter", "median"), strict=True):
        measured = _share(runs, name, "own")
        n = next((int(row.settings["batch_size"]) for row in readings.rows_of(runs, name).values()), 128)
        tail = 100 * prior.tail(n - 1, 1 / CLASSES, own_rank(arms[name].changes, n))
        found.append(
            Claim(
                f"C7{letter}", "Section 3.3: guaranteed by the Bernoulli model",
                f"{arms[name].label}: fewer false negatives than the tail of {tail:.2g} % (share of queries)",
                "false_negatives", greater(dict.fromkeys(measured, tail), measured), f"runs {name}",
                "the tail assumes that all images of the class rank first",
            )
        )  # fmt: skip
    return found


def _negatives(runs: Runs) -> list[Claim]:
    few = "Section 3.1: few negatives under-cluster and slow learning"
    rows = (
        ("C8a", "median", "median_n32", "k = n/2: 128 images a batch beat 32", "batches"),
        ("C8b", "rank_5", "rank_5_n32", "k = 5: 128 beat 32", "batches"),
        ("C8c", "median_n256", "median", "k = n/2: 256 beat 128", "batches"),
    )
    controls = (
        "the same images, the rate in proportion; steps and batch normalisation change as well: see C8d"
    )
    gained = greater(_gain(runs, "median", "median_n32"), _gain(runs, "byol", "byol_n32"))
    decisive = Claim("C8d", few, "128 gain more over 32 than BYOL gains, which has no negatives (linear)",
                     "batches", gained, "runs median, median_n32, byol, byol_n32", FRAME)  # fmt: skip
    many = (
        ("C9a", "moco_v2_queue_256", "moco_v2", "a queue of 256 beats the longest", "banks"),
        ("C9b", "moco_v2_queue_1024", "moco_v2", "a queue of 1,024 beats the longest", "banks"),
    )
    over = "Section 3.1: many negatives over-cluster"
    old = "a longer queue also holds older keys"
    return [*_compare(runs, few, rows, controls), decisive, *_compare(runs, over, many, old)]


def _gain(runs: Runs, a: str, b: str) -> Values:
    ours, other = percent(runs, a), percent(runs, b)
    return {seed: ours[seed] - other[seed] for seed in ours.keys() & other.keys()}


def _collapse(runs: Runs) -> list[Claim]:
    sentence = "Ours, from free vectors: the rank k sets how many clumps a batch falls into"
    found = []
    for letter, name, words in (("a", "rank_projections", "projections"), ("b", "rank_features", "features")):
        ranks = _correlation(runs, name)
        found.append(
            Claim(f"C10{letter}", sentence, f"the effective rank of {words} falls as k grows (Spearman < 0)",
                  "effective_rank", greater(dict.fromkeys(ranks, 0.0), ranks), "sweep heads", FRAME)
        )  # fmt: skip
    return found


def _correlation(runs: Runs, name: str) -> Values:
    """Spearman's rank correlation of k and a meter over the heads with one k, by seed."""
    points: dict[int, list[tuple[float, float]]] = {}
    for arm in HEADS:
        if arm.name != "smoothed":
            for seed, value in logged(runs, arm.name, name).items():
                points.setdefault(seed, []).append((own_rank(arm.changes, 128), value))
    return _spearman(points, 4)


def _spearman(points: Mapping[int, Sequence[tuple[float, float]]], least: int) -> Values:
    """Spearman's correlation by seed; none for a seed with fewer points, or where one side is constant."""
    return {
        seed: float(spearmanr(*zip(*found, strict=True)).statistic)
        for seed, found in points.items()
        if len(found) >= least and all(len(set(side)) > 1 for side in zip(*found, strict=True))
    }


def _prior_and_smoothed(runs: Runs) -> list[Claim]:
    eleven = "Ours: k from the class prior instead of n/2"
    twelve = "wanggrun/triplet issue 1: the mean of ranks 2 to 10 is better, above all over long training"
    classes = "k = 22 of 128; it needs the number of classes, a share of the batch does not"
    longer = greater(_gain(runs, "smoothed_400", "smoothed"), _gain(runs, "median_400", "median"))
    return [
        *_compare(runs, eleven, (("C11a", "prior", "median", "it beats the median", "heads"),
                                 ("C11c", "prior", "smoothed", "it beats ranks 2 to 10", "heads")),
                  classes),
        *_compare(runs, eleven, (("C11b", "prior", "median", "it beats the median", "heads"),), classes,
                  "knn"),
        *_compare(runs, twelve, (("C12a", "smoothed", "median", "it beats the median", "heads"),
                                 ("C12b", "smoothed_400", "median_400", "at twice the epochs", "lengths")),
                  "ten classes: ranks 2 to 10 are mostly of the query's class"),
        Claim("C12c", twelve, "its lead grows with twice the epochs (linear)", "lengths", longer,
              "runs smoothed, smoothed_400, median, median_400", FRAME),
    ]  # fmt: skip


def _probe(runs: Runs) -> list[Claim]:
    """C13: the one-epoch probe, over all runs that have both."""
    points: dict[int, list[tuple[float, float]]] = {}
    for name in ARMS:
        short, full = percent(runs, name, "linear_1"), percent(runs, name)
        for seed in short.keys() & full.keys():
            points.setdefault(seed, []).append((short[seed], full[seed]))
    found = _spearman(points, 8)
    return [
        Claim("C13", "Section 5: one epoch of the probe correlates strongly with the whole",
              "Spearman's correlation over all runs is above 0.8", "heads",
              greater(found, dict.fromkeys(found, 0.8)), "all runs of a seed",
              "a correlation over very different methods flatters; the order of near ones is what counts")
    ]  # fmt: skip


def _transfer(runs: Runs) -> list[Claim]:
    """C14, C16: only the real data at the paper's settings can decide."""
    real = all(not spec.data.stand_in for spec, _ in runs)
    rows: tuple[tuple[str, str, str, str, str, str, str], ...] = (
        ("C14a", "Table 2", "mask_rcnn", "median triplet", "BYOL", "AP_box", "table_2"),
        ("C14b", "Table 2", "mask_rcnn", "median triplet", "BYOL", "AP_mask", "table_2"),
        ("C14c", "Table 3", "faster_rcnn", "median triplet", "BYOL", "AP50_box", "table_3"),
        ("C16a", "Table 4", "search", "median triplet", "BYOL", "rank1", "table_4"),
        ("C16b", "Table 4", "search", "BYOL", "MoCo v2", "rank1", "table_4"),
        ("C16c", "Table 4", "search", "MoCo v2", "SimCLR", "rank1", "table_4"),
    )
    found = []
    for name, where, task, a, b, metric, exhibit in rows:
        ours, other = (percent(runs, f"{task}/{row}", metric) for row in (a, b))
        finding = greater(ours, other) if real else Finding("not tested", "stand-ins: not tested")
        found.append(Claim(name, f"{where}: ahead in {metric.replace('_', ' ')}", f"{a} beats {b} ({metric})",
                           exhibit, finding, f"runs {task}", "one schedule for all rows"))  # fmt: skip
    return found


def _printed(runs: Runs) -> list[Claim]:
    """C15, C17: what needs no run."""
    value = printed.numbers()["Table 2"]
    ours = {column: float(value["median triplet", column]) for column in ("AP Box", "AP Mask")}
    found = []
    for letter, row in zip("ab", ("supervised-100", "supervised-270"), strict=True):
        theirs = {column: float(value[row, column]) for column in ours}
        verdict: Verdict = "holds" if all(ours[column] > theirs[column] for column in ours) else "fails"
        text = ", ".join(f"{column} {ours[column]} against {theirs[column]}" for column in ours)
        found.append(
            Claim(f"C15{letter}", "Section 4.2: outperforms supervised learning", f"Table 2: ahead of {row}",
                  "table_2", Finding(verdict, f"printed: {text}: {verdict}"),
                  "published numbers alone", "one run each, schedules differ: E19, E21")
        )  # fmt: skip
    return [*found, _hardest()]


def _hardest() -> Claim:
    """C17 on random vectors, by the selection that training uses."""
    import torch

    from papers_lib.median_triplet.heads import selected

    generator = torch.Generator().manual_seed(0)
    query, target = (torch.randn(64, 16, generator=generator) for _ in range(2))
    cosines = torch.nn.functional.normalize(query) @ torch.nn.functional.normalize(target).T
    own = cosines.diagonal().clone()
    nearest = cosines.clone().fill_diagonal_(-2).max(1)
    first = bool((selected(query, target, 1) == nearest.indices).all())
    satisfied = own > nearest.values
    others = cosines.clone().fill_diagonal_(-2)
    implied = bool((others[satisfied] < own[satisfied, None]).all())
    verdict: Verdict = "holds" if first and implied else "fails"
    return Claim("C17", "Section 3.2: rank 1 is the hardest triplet; satisfied, all are", "on random vectors",
                 "figure_3", Finding(verdict, f"64 queries, {int(satisfied.sum())} satisfied: {verdict}"),
                 "papers_lib.median_triplet.heads.selected", "≤, not <: E12")  # fmt: skip


def _length(runs: Runs) -> list[Claim]:
    rows = (
        ("C18a", "median_400", "median", "twice the epochs help the median head", "lengths"),
        ("C18b", "median_600", "median", "3.5 times the epochs help it", "lengths"),
    )
    controls = "the printed pair differs in its head as well: E18; each schedule ends at its own length"
    return _compare(runs, "Table 1: 73.6 after 180 epochs, 75.9 after 700", rows, controls)


def _speed(runs: Runs) -> list[Claim]:
    del runs
    return [
        Claim(name, sentence, statement, "none", Finding("not tested", f"a speed: python -m {bench}"),
              f"python -m {bench}")
        for name, sentence, statement, bench in (
            ("C19", "Ours", "the loss is 15 times as fast as the row loop of the public code",
             "benchmarks.triplet_loss"),
            ("C20", "Ours", "the loss is a small share of a step", "benchmarks.ssl_epoch"),
        )
    ]  # fmt: skip
