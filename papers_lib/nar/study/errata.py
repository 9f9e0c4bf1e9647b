"""What is wrong, or missing, in the paper: checked by code from its own numbers where that can be.

`errata.csv` says what is printed and what is right; a check here says what shows it, and whether it does.
The tests of claims that are settled by counting stand here as well.
"""

from __future__ import annotations

import math
from types import MappingProxyType

import numpy as np
import pandas as pd

from papers_lib.exhibits.table import Table
from papers_lib.exhibits.verdicts import Finding, Kind, Verdict
from papers_lib.nar.counting import count, count_all
from papers_lib.nar.operators import RULES
from papers_lib.nar.study import bench_tables, printed, table_4
from papers_lib.nar.study.printed import numbers
from papers_lib.nar.study.table_4 import FLOPS, MODELS, PARAMETERS, PLACEMENTS
from papers_lib.study import Results, Statement

EIGHT, SIXTEEN = "ResNet-18-8", "ResNet-18-16"


def tables() -> dict[str, Table]:
    """What the printed numbers and exact counts say without a run."""
    return {**table_4.tables(), **printed.tables(), "bench": bench_tables.rankings()}


# -- checks of errata: what shows it, and whether it does --------------------------------------------------


def an_entry_is_missing(value: pd.Series) -> tuple[str, bool]:
    """E1: each vector is one entry short, and two places of the missing zero count nearest to the print."""
    lengths = {model: len(table_4.as_printed(model)) for model in MODELS}
    decisions = {model: int(value["text", model, "decisions"]) for model in (EIGHT, SIXTEEN)}
    vectors = table_4.insertions(table_4.as_printed(SIXTEEN))
    places = [", ".join(str(i) for i, code in enumerate(vector) if code) for vector in vectors]
    stated = value["Table 4", SIXTEEN, PARAMETERS]  # printed
    nearest = sorted(vectors, key=lambda vector: abs(count(vector).parameters - stated))[:2]
    short = all(lengths[model] == decisions[model] - 1 for model in decisions)
    text = (
        f"one more zero makes {len(places)} vectors of {SIXTEEN}, non-zero at {'; '.join(places)}; the last "
        "two, which count alike, are nearest to the printed parameters"
    )
    return text, short and set(nearest) == set(PLACEMENTS[SIXTEEN])


def flops_are_no_ordinary_count(value: pd.Series) -> tuple[str, bool]:
    """E2: the printed FLOPS are under none of the readings an ordinary count; one factor maps all three."""
    stated = float(value["Table 4", "ResNet-18", FLOPS])
    exact = count(PLACEMENTS["ResNet-18"][0]).multiply_accumulates
    low, high = table_4.common_factor()  # of one factor for all three
    best = most_by_ordinary_count()
    text = (
        f"counting shortcuts and classifier gives {best} of the 6 printed numbers under the best of "
        f"{len(list(table_4.readings()))} readings; one factor in [{low:.4f}, {high:.4f}] maps all three"
    )
    return text, abs(stated - exact) > 5e6 and low <= high and best < 6


def operators_have_points(value: pd.Series) -> tuple[str, bool]:
    """E3: of all rules only A, with a 1×1 convolution behind both, saves what the text says."""
    stated = float(value["Table 4", SIXTEEN, PARAMETERS]) / 1e7
    bare = count(PLACEMENTS[SIXTEEN][0], rule="bare").parameters / 1e7
    saved = {rule: [round(100 * table_4.savings(rule)[m], 1) for m in (EIGHT, SIXTEEN)] for rule in RULES}
    words = [value["text", model, "less FLOPS"] for model in (EIGHT, SIXTEEN)]
    fits = [rule for rule, shares in saved.items() if [round(x) for x in shares] == words]  # to whole %
    shares = "; ".join(f"{rule} {a} and {b}" for rule, (a, b) in saved.items())
    text = (
        f"bare operators give {bare:.2f}e7 parameters against {stated:.2f}e7; savings in % {shares}; printed "
        f"{' and '.join(f'{x:g}' for x in words)}"
    )
    return text, abs(bare - stated) > 0.005 and fits == ["A"]


def a_digit_is_lost(value: pd.Series) -> tuple[str, bool]:
    """E4: the number of face images is the published one without one of its digits."""
    images, people = (int(value["settings", "face emore V1", c]) for c in ("images", "identities"))
    right = int(value["data sets", "faces_ms1m (emore V1)", "images"])
    digits = str(right)  # of which one is lost
    lost = str(images) in {digits[:i] + digits[i + 1 :] for i in range(len(digits))}
    return (
        f"{images / people:.1f} images per identity; {right:,} without one of its digits is as printed",
        lost,
    )


def lfw_has_others(value: pd.Series) -> tuple[str, bool]:
    """E5: LFW's number of images."""
    stated, right = (int(value[where, "LFW", "images"]) for where in ("settings", "data sets"))
    images, people = (int(value["settings", "AgeDB", c]) for c in ("images", "identities"))
    text = (
        f"off by {abs(right - stated):,}; AgeDB as first published has more than the printed {images:,} "
        f"images of {people} subjects, and what is evaluated is its part AgeDB-30 (Section 1)"
    )
    return text, stated != right


def gains_are_noise(value: pd.Series) -> tuple[str, bool]:
    """E8: no printed gain is twice its standard error, and some are losses."""
    gains = printed.gains(value)
    text = "; ".join(
        f"{g.model} {g.data} {g.points:+.2f} = {round(g.gained)} of {g.items:,}, z = {g.z:.2f}" for g in gains
    )
    return text, all(abs(gain.z) < 1.96 for gain in gains) and any(gain.points < 0 for gain in gains)


def one_is_truncated(value: pd.Series) -> tuple[str, bool]:
    """E9: one face accuracy is no rounded share of its pairs, but a truncated one."""
    items = printed.sizes_of_tests(value)  # pairs of each test set
    places = [(model, data) for model in printed.FACES for data in printed.FACE_TESTS]
    multiples = {
        (model, data): printed.multiples(float(value["text", model, data]), items[data])
        for model, data in places
    }
    odd = {place: truncated for place, (rounded, truncated) in multiples.items() if not rounded}
    shares = "; ".join(
        f"{x} pairs are {100 * x / items[data]:.3f} %"
        for (_, data), near in odd.items()
        for x in range(near[0] - 1, near[0] + 1)
    )
    text = f"{shares}; the other {len(multiples) - len(odd)} numbers are rounded shares"
    return text, len(odd) == 1 and all(odd.values())


def the_baseline_is_weak(value: pd.Series) -> tuple[str, bool]:
    """E11: a standard recipe is further ahead of the baseline than five times the gain."""
    base, gain = value["Table 5", "ResNet-18", "CIFAR-10"], printed.gains(value)[0].points
    usual = value["cifar10-airbench", "Standard ResNet-18 training", "accuracy"]
    text = f"{usual - base:.1f} points below, {(usual - base) / gain:.0f} times the gain of {gain:+.2f}"
    return text, usual - base > 5 * gain  # five: our threshold


def any_change_saves(_value: pd.Series) -> tuple[str, bool]:
    """E12: every other vector costs less than the untouched network."""
    operations = count_all(8)[:, 1]  # [65,536], at 224 pixels
    base, others = int(operations[0]), operations[1:]  # the untouched network comes first
    cheaper = int((others < base).sum())
    median = 100 * (1 - float(pd.Series(operations).median()) / base)
    text = (
        f"{cheaper:,} of the {len(others):,} other vectors of 8 blocks cost less than the untouched "
        f"network at 224 pixels, the median {median:.0f} % less"
    )
    return text, cheaper == len(others)


def deeper_is_not_shown(value: pd.Series) -> tuple[str, bool]:
    """E13: the paper's own vectors replace the earlier half, and 16 decisions gain less than 8."""
    depths = {model: printed.mean_depth(PLACEMENTS[model][0]) for model in (EIGHT, SIXTEEN)}
    gains = {(gain.model, gain.data): gain.points for gain in printed.gains(value)}
    ahead = [data for model, data in gains if model == SIXTEEN and gains[model, data] > gains[EIGHT, data]]
    places = ", ".join(f"{model} {x:.2f}" for model, x in depths.items())
    text = (
        f"mean place of the replaced (0 first, 1 last): {places}; 16 decisions gain more on "
        f"{', '.join(ahead) or 'no data'}"
    )
    return text, max(depths.values()) < 0.5 and not ahead


def the_tanh_ends_the_kl(value: pd.Series) -> tuple[str, bool]:
    """E14: the KL of capped logits ends far below that of a full connection."""
    settings = value["ENAS, macro search"].xs("value", level=1)
    tanh, layers = float(settings["tanh constant"]), int(settings["layers"])
    penalty, sampled = (printed.skip_ceiling(tanh, x, layers) for x in (False, True))
    free = printed.skip_ceiling(math.inf, layers=layers)  # the KL of a full connection
    rate = 1 / (1 + math.exp(-2 * tanh))  # σ(2q), as the released code samples
    text = (
        f"ENAS's logits are capped by {tanh:g} · tanh: the KL of {layers} layers ends at {penalty:.2f} "
        f"({sampled:.2f} of what is sampled), of fully connected ones at {free:.2f}; a skip is then sampled "
        f"with {rate:.3f}"
    )
    return text, penalty < 0.9 * free  # a tenth below is no full connection


def the_saving_is_open(value: pd.Series) -> tuple[str, bool]:
    """E17: five whole blocks with 1×1 after them can save the printed share, eight cannot."""
    stated = value["text", "NAR, LResNet50E-IR", "fewer FLOPS"] / 100
    names = ("LResNet50E-IR-Based", "LResNet50E-IR-Based-PreTrain")
    few, many = (int(value["text", name, "operators replaced"]) for name in names)  # 5 and 8
    ends = {(rule, n): table_4.face_savings(rule, 24, n) for rule in RULES for n in (few, many)}
    possible = {key for key, (low, high) in ends.items() if low <= stated <= high}
    shares = "; ".join(
        f"{rule}, {n} replaced {100 * low:.1f}–{100 * high:.1f}" for (rule, n), (low, high) in ends.items()
    )
    text = f"whole blocks, least to most saved in %: {shares}"
    return text, ("A", few) in possible and not {("A", many), ("bare", many)} & possible


CHECKS = {
    "E1": an_entry_is_missing,
    "E2": flops_are_no_ordinary_count,
    "E3": operators_have_points,
    "E4": a_digit_is_lost,
    "E5": lfw_has_others,
    "E8": gains_are_noise,
    "E9": one_is_truncated,
    "E11": the_baseline_is_weak,
    "E12": any_change_saves,
    "E13": deeper_is_not_shown,
    "E14": the_tanh_ends_the_kl,
    "E17": the_saving_is_open,
}

# -- tests of claims that counting settles -----------------------------------------------------------------


def most_by_ordinary_count() -> int:
    """How many of the six printed numbers of Table 4 an ordinary count gives, at most."""
    ordinary = [hit for hit in table_4.scan() if hit.convention == table_4.ORDINARY]
    return max(hit.right for hit in ordinary)


def _exact(good: bool, text: str, kind: Kind = "computed") -> Finding:
    verdict: Verdict = "holds" if good else "fails"
    return Finding(verdict, text, kind=kind)


def saves_as_printed(results: Results, line: Statement) -> Finding:
    """C2a, C2b: the printed saving of the model in column `metric`."""
    saved, stated = 100 * table_4.savings()[line.metric], float(numbers()["text", line.metric, "less FLOPS"])
    return _exact(round(saved) == stated, f"exactly {saved:.2f} %")


def ordinary_count(results: Results, line: Statement) -> Finding:
    """C2c: all six printed numbers of Table 4."""
    best = most_by_ordinary_count()
    return _exact(best == 6, f"at most {best} of 6 under any reading")


def better_on_imagenet(results: Results, line: Statement) -> Finding:
    """C3b: both printed gains of ResNet-18-16 on ImageNet."""
    gains = [g.points for g in printed.gains(numbers()) if g.model == SIXTEEN and "ImageNet" in g.data]
    return _exact(min(gains) > 0, f"printed: {', '.join(f'{points:+.2f}' for points in gains)}", "printed")


def deeper_than_half(results: Results, line: Statement) -> Finding:
    """C8d: the mean depth of the paper's own vectors."""
    depths = {model: printed.mean_depth(PLACEMENTS[model][0]) for model in (EIGHT, SIXTEEN)}
    text = ", ".join(f"{model} {depth:.2f}" for model, depth in depths.items())
    return _exact(min(depths.values()) > 0.5, text, "printed")


def deeper_nets_gain_more(results: Results, line: Statement) -> Finding:
    """C9b: the printed gains of 16 decisions beside those of 8."""
    gains = {(g.model, g.data): g.points for g in printed.gains(numbers())}
    pairs = [(gains[SIXTEEN, data], gains[EIGHT, data]) for data in ("CIFAR-10", "ImageNet Top-1")]
    text = "; ".join(f"{x:+.2f} and {y:+.2f}" for x, y in pairs)
    return _exact(all(x > y for x, y in pairs), f"printed gains of -16 and -8: {text}", "printed")


def fully_connected(results: Results, line: Statement) -> Finding:
    """C13d: with which probability a skip is drawn at the tanh's end."""
    sampled = 1 / (1 + math.exp(-3.0))  # σ(2q) at q = 1.5
    return _exact(sampled > 0.999, f"a skip is then drawn with probability {sampled:.3f}")


def space_saves(results: Results, line: Statement) -> Finding:
    """C15b: the median saving of all vectors."""
    macs = count_all(8)[:, 1]  # of all 65,536 vectors
    median = 100 * (1 - float(np.median(macs)) / float(macs[0]))
    return _exact(median > 50, f"the median saves {median:.1f} %")


def eight_blocks_save(results: Results, line: Statement) -> Finding:
    """C17b: whether eight whole blocks of the face network can save what is printed."""
    low, high = (100 * x for x in table_4.face_savings("A", 24, 8))
    return _exact(low <= 24 <= high, f"they save {low:.1f} to {high:.1f} %")


def faces_not_shipped(results: Results, line: Statement) -> Finding:
    """C17a: the printed gains on faces, which no run of ours can judge."""
    gains = [g for g in printed.gains(numbers()) if g.model == printed.FACES[1]]
    text = ", ".join(f"{g.data} {g.points:+.2f} (z = {g.z:.1f})" for g in gains)
    return Finding("not tested", f"face data is not shipped; printed: {text}: not tested")


def fewer_blocks(results: Results, line: Statement) -> Finding:
    """C18b: the blocks that the tree evaluates, at worst of all seeds."""
    naive, tree = (results.values(line.a, path) for path in ("naive_block_calls", "block_calls"))
    if not tree:
        return Finding("not tested", "not run: not tested")
    least = min(naive[seed] / tree[seed] for seed in tree)  # the worst of all seeds
    return _exact(least >= 5, f"{least:.2f} times fewer")


def same_as_alone(results: Results, line: Statement) -> Finding:
    """C18c: the largest gap between a score of the tree and one of its own."""
    gaps = results.values(line.a, "max_difference_to_naive").values()
    if not gaps:
        return Finding("not tested", "not run: not tested")
    return _exact(max(gaps) == 0, f"largest gap {max(gaps):.2g}")


TESTS = MappingProxyType(
    {
        test.__name__: test
        for test in (
            saves_as_printed,
            ordinary_count,
            better_on_imagenet,
            deeper_than_half,
            deeper_nets_gain_more,
            fully_connected,
            space_saves,
            eight_blocks_save,
            faces_not_shipped,
            fewer_blocks,
            same_as_alone,
            bench_tables.bench_tau,
        )
    }
)
