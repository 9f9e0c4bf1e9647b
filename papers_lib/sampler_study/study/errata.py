"""What is wrong, or missing, in the paper: checked by code from its own numbers where that can be.

`errata.csv` says what is printed and what is right; a check here says what shows it, and whether it does.
"""

from __future__ import annotations

import pandas as pd

from papers_lib.sampler_study.study.printed import (
    METRICS,
    SETS,
    SWEEPS,
    TRIPLET,
    best_setting,
    by_setting,
    repeats,
    samples_an_epoch,
    source_row,
    visited,
)


def duke_proxy_row(value: pd.Series) -> tuple[str, bool]:
    """Table I prints a row of Table III that is not its best."""
    row, duke = SWEEPS["Table III"], "DukeMTMC mAP"
    best = best_setting(value, "Table III", "DukeMTMC")
    others = [
        name
        for name in SETS
        if source_row(value, "Table III", name) != best_setting(value, "Table III", name)
    ]
    shown_by = (
        f"maxima of Table III; the printed row is {source_row(value, 'Table III', 'DukeMTMC')}; rows that "
        f"are not the best: {', '.join(others) or 'none'}"
    )
    return shown_by, bool(value["Table I", row, duke] < value["Table III", best, duke])


def duke_group_row(value: pd.Series) -> tuple[str, bool]:
    """Table I prints the row of Table IV that is best by R1, not by mAP."""
    best, first = (best_setting(value, "Table IV", "DukeMTMC", metric) for metric in ("mAP", "R1"))
    printed = source_row(value, "Table IV", "DukeMTMC")
    mean_ap = {row: value["Table IV", row, "DukeMTMC mAP"] for row in (printed, best) if row}
    shown_by = f"mAP in Table IV: {', '.join(f'{row} {x}' for row, x in mean_ap.items())}"
    return shown_by, bool(printed and printed != best and printed == first)


def same_cells(value: pd.Series) -> tuple[str, bool]:
    """Two tables print the same four numbers at K = 4."""
    full = [(name, pair) for name, pair, same, _ in repeats(value) if len(same) == len(METRICS)]
    text = "; ".join(f"{name}: {' = '.join(f'{t} {r}' for t, r in pair)}" for name, pair in full)
    shown_by = f"full repeats over Tables II–IV: {text or 'none'}"
    return shown_by, ("DukeMTMC", [("Table II", "K=4"), ("Table III", "K=4")]) in full


def same_mean(value: pd.Series) -> tuple[str, bool]:
    """Two settings print the same mAP and R1, and other R5 and R10."""
    places = [("Table IV", "N=1"), ("Table IV", "N=2")]
    twins = [(same, other) for name, pair, same, other in repeats(value) if pair == places]
    shown = "; ".join(f"same {', '.join(same)}, other {', '.join(other)}" for same, other in twins)
    shown_by = f"repeats of mAP and R1: {shown or 'none'}"
    return shown_by, any(other for _, other in twins)


def random_twice(value: pd.Series) -> tuple[str, bool]:
    """Groups of one draw as random sampling does, and print other numbers."""
    gaps = {
        name: round(
            value["Table IV", "N=1", f"{name} mAP"] - value["Table I", "Random Sampling", f"{name} mAP"], 1
        )
        for name in SETS
    }
    same = groups_of_one_are_random()
    shown_by = (
        f"mAP N=1 − random: {', '.join(f'{name} {gap:+.1f}' for name, gap in gaps.items())}; one pass of "
        f"either sampler holds each inlier once, and no outlier: {same}"
    )
    return shown_by, same and any(gaps.values())


def groups_of_one_are_random() -> bool:
    """One pass of `GroupSampler` with N = 1 and of `RandomSampler`: every inlier once, in a drawn order."""
    import torch

    from papers_lib.sampler_study.samplers import GroupSampler, RandomSampler

    labels = torch.tensor([0] * 5 + [1] * 3 + [-1] * 2 + [2] * 8)
    inliers = torch.nonzero(labels >= 0).flatten().tolist()
    samplers = RandomSampler(labels, batch_size=4), GroupSampler(labels, 1, batch_size=4)
    passes = [torch.cat(sampler.batches()).tolist() for sampler in samplers]
    return all(sorted(drawn) == inliers and drawn != inliers for drawn in passes)


def caption(value: pd.Series) -> tuple[str, bool]:
    """Table IV lists settings, and its caption methods."""
    settings, methods = (set(value[table].index.unique(0)) for table in ("Table IV", "Table I"))
    shown_by = (
        f"rows of Table IV: {', '.join(value['Table IV'].index.unique(0))}; methods of Table I among them: "
        f"{', '.join(sorted(settings & methods)) or 'none'}"
    )
    return shown_by, all(row.startswith("N=") for row in settings) and not settings & methods


def collapse_at_16(value: pd.Series) -> tuple[str, bool]:
    """K = 16 has fallen already."""
    stated = int(value["text", "fitting non-existent", "K greater than"])
    falls = {
        (table, name): by_setting(value, table, name)[12] - by_setting(value, table, name)[stated]
        for table in TRIPLET
        for name in SETS
    }
    at = {
        table: " / ".join(str(by_setting(value, table, name)[stated]) for name in SETS) for table in TRIPLET
    }
    shown_by = (
        f"mAP at K = {stated}: {', '.join(f'{table} {text}' for table, text in at.items())}; "
        f"{min(falls.values()):.1f} to {max(falls.values()):.1f} points below K = 12"
    )
    return shown_by, min(falls.values()) > 10


def scarcity(value: pd.Series) -> tuple[str, bool]:
    """What is visited in an epoch does not fall where mAP falls."""
    samples, log = samples_an_epoch(value), value["Cluster-Contrast, log"]["clusters on Market1501"]
    last, most = int(log["last epoch"]), int(log["most"])
    seen = visited(16, last, samples)
    market = by_setting(value, "Table II", "Market1501")
    best = {name: int(best_setting(value, "Table III", name)[2:]) for name in ("Market1501", "MSMT17")}
    shares = {name: visited(best[name], c, samples) for name, c in (("Market1501", 3411), ("MSMT17", 10_077))}
    shown_by = (
        f"visited at K = 16 with {last} clusters {100 * seen:.0f} % (with {most} "
        f"{100 * visited(16, most, samples):.0f} %), Table II {market[12]} (K = 12) → {market[16]} → "
        f"{market[32]}; Table III is best where "
        + ", ".join(f"{name} K = {best[name]} visits {100 * x:.0f} %" for name, x in shares.items())
        + " (3,411 and 10,077 proxies assumed)"
    )
    return shown_by, bool(seen == 1 and market[12] - market[16] > 10 and max(shares.values()) < 0.5)


def traversed(value: pd.Series) -> tuple[str, bool]:
    """Images of an epoch over the images of a cluster."""
    stated = int(value["text", "MSMT17 at K=32", "clusters traversed in one epoch exceed"])
    traversed = samples_an_epoch(value) // 32
    shown_by = f"{samples_an_epoch(value):,} images per epoch / 32 images per cluster = {traversed}"
    return shown_by, traversed < stated


def twelve(value: pd.Series) -> tuple[str, bool]:
    """Settings of K and N that do not divide the batch."""
    batch = int(value["text", "batch size", "value"])
    odd = {letter: [int(n) for n in value["text"][letter] if batch % n] for letter in ("K", "N")}
    shown_by = f"settings that do not divide {batch}: {', '.join(f'{x} {ns}' for x, ns in odd.items())}"
    return shown_by, all(odd.values())


def large_groups(value: pd.Series) -> tuple[str, bool]:
    """Groups fall less at large N only."""
    large = all(
        value["Table IV", f"N={n}", f"{name} mAP"] > value[table, f"K={n}", f"{name} mAP"]
        for n in (16, 32)
        for table in TRIPLET
        for name in SETS
    )
    falls = {name: [fall(value, table, name) for table in ("Table IV", *TRIPLET)] for name in SETS}
    shown_by = (
        f"N = 16 and 32 above K = 16 and 32 in every table and data set: {large}; from the best "
        "setting to 1, mAP lost by groups, clusters and proxies: "
        + "; ".join(f"{name} {', '.join(f'{x:.1f}' for x in lost)}" for name, lost in falls.items())
    )
    return shown_by, large and all(groups > max(triplet) for groups, *triplet in falls.values())


def fall(value: pd.Series, table: str, name: str) -> float:
    """What the setting 1 loses of a table's best mAP on a data set."""
    found = by_setting(value, table, name)
    return max(found.values()) - found[1]


def small_groups(value: pd.Series) -> tuple[str, bool]:
    """Where groups are ahead of a triplet sampler at N ≤ 8."""
    better = [
        f"{name} N={n}"
        for n in (1, 2, 4, 8)
        for name in SETS
        if any(
            value["Table IV", f"N={n}", f"{name} mAP"] > value[table, f"K={n}", f"{name} mAP"]
            for table in TRIPLET
        )
    ]
    shown_by = f"N ≤ 8 with more mAP than a triplet sampler at K = N: {', '.join(better) or 'none'}"
    return shown_by, better == ["MSMT17 N=8"]


def other_settings(value: pd.Series) -> tuple[str, bool]:
    """What the paper sets otherwise than CAP."""
    names = ("temperature", "maximum distance", "batch size")
    pairs = {name: (value["text", name, "value"], value["CAP [6], code", name, "value"]) for name in names}
    stated = int(value["text", "iterations per epoch", "value"])
    batch = value["CAP [6], code", "batch size", "value"]
    most = {name: int(value["data sets", name, "training images"] // batch) for name in SETS}
    shown_by = (
        f"paper and CAP: {', '.join(f'{name} {a:g} and {b:g}' for name, (a, b) in pairs.items())}; "
        f"iterations of CAP if all were inliers: {', '.join(f'{name} {n}' for name, n in most.items())}"
    )
    return shown_by, most["MSMT17"] > stated


def gain_over_cap(value: pd.Series) -> tuple[str, bool]:
    """The paper's row at CAP's own sampler is not CAP's."""
    cap = {name: value["Table I", "CAP [6]", f"{name} mAP"] for name in SETS}
    row = f"K={value['CAP [6], code', 'K', 'value']:.0f}"
    same = {name: round(value["Table III", row, f"{name} mAP"] - cap[name], 1) for name in SETS}
    best = value["Table I", SWEEPS["Table III"], "Market1501 mAP"] - cap["Market1501"]
    shown_by = f"Table I, Market1501 {best:+.1f} mAP; Table III {row}, CAP's sampler, − CAP: " + ", ".join(
        f"{name} {gap:+.1f}" for name, gap in same.items()
    )
    return shown_by, any(same.values())


def range_of_n(value: pd.Series) -> tuple[str, bool]:
    """The N of the original lie beyond the range that is swept."""
    original = value["Group Sampling [14]"]["original"]
    used = {name: int(original[f"{name} N"]) for name in SETS}
    swept = int(max(value["text"]["N"]))
    best = {name: max(by_setting(value, "Table IV", name).values()) for name in SETS}
    gaps = {name: best[name] - original[f"{name} mAP"] for name in SETS}
    shown_by = (
        f"best mAP of Table IV − [14]: {', '.join(f'{name} {gap:+.1f}' for name, gap in gaps.items())} "
        "(camera labels and other settings differ)"
    )
    return shown_by, swept < min(used.values())


def below_untrained(value: pd.Series) -> tuple[str, bool]:
    """Rows that lie below the network before training."""
    untrained = value["OpenUnReID model zoo"]["untrained ResNet-50"]
    rows = [(table, "K=32", name) for table in TRIPLET for name in SETS[:2]]
    rows.append(("Table I", "Random Sampling", "DukeMTMC"))
    below = all(
        value[table, row, f"{name} {metric}"] < untrained[f"{name} {metric}"]
        for table, row, name in rows
        for metric in METRICS
    )
    shown = ", ".join(f"{name} {value[table, row, f'{name} mAP']}" for table, row, name in rows)
    shown_by = (
        f"mAP of K = 32 (Tables II, III) and random sampling: {shown}; untrained ImageNet ResNet-50: "
        + ", ".join(f"{name} {untrained[f'{name} mAP']}" for name in SETS[:2])
        + f"; below in all four measures: {below}"
    )
    return shown_by, below


def images_per_identity(value: pd.Series) -> tuple[str, bool]:
    """MSMT17 has the most training images per identity."""
    counts = value["data sets"]
    each = {name: counts[name, "training images"] / counts[name, "training identities"] for name in SETS}
    shown_by = f"training images per identity: {', '.join(f'{name} {x:.1f}' for name, x in each.items())}"
    return shown_by, max(each, key=each.__getitem__) == "MSMT17"


CHECKS = {
    "E1": duke_proxy_row,
    "E2": duke_group_row,
    "E3": same_cells,
    "E4": same_mean,
    "E5": random_twice,
    "E6": caption,
    "E8": collapse_at_16,
    "E9": scarcity,
    "E10": traversed,
    "E11": twelve,
    "E12": large_groups,
    "E13": small_groups,
    "E14": other_settings,
    "E15": gain_over_cap,
    "E16": range_of_n,
    "E17": below_untrained,
    "E21": images_per_identity,
}
