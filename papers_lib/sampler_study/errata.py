"""What is wrong, or missing, in the paper: shown by code from its own numbers where that can be."""

from __future__ import annotations

import pandas as pd

from papers_lib.exhibits.claims import Erratum
from papers_lib.exhibits.table import Table
from papers_lib.sampler_study.printed import (
    METRICS,
    SETS,
    SWEEPS,
    TRIPLET,
    best_setting,
    by_setting,
    duplicates_table,
    numbers,
    repeats,
    samples_an_epoch,
    source_row,
    table_1_corrected,
    visited,
    visited_table,
)
from papers_lib.sampler_study.toy import toy_table


def errata() -> list[Erratum]:
    """E1 … E24."""
    value = numbers()
    computed = (
        _duke_proxy_row, _duke_group_row, _same_cells, _same_mean, _random_twice, _caption, _collapse_at_16,
        _scarcity, _traversed, _twelve, _large_groups, _small_groups, _other_settings, _gain_over_cap,
        _range_of_n, _below_untrained, _images_an_identity,
    )  # fmt: skip
    found = [*(erratum(value) for erratum in computed), *_words()]
    return sorted(found, key=lambda erratum: int(erratum.name[1:]))


def tables() -> dict[str, Table]:
    """What the printed numbers themselves say, and the toy of E9."""
    found = (table_1_corrected(), duplicates_table(), visited_table(), toy_table())
    return {table.name: table for table in found}


def _duke_proxy_row(value: pd.Series) -> Erratum:
    row, duke = SWEEPS["Table III"], "DukeMTMC mAP"
    best = best_setting(value, "Table III", "DukeMTMC")
    printed, right, cap = (
        value[cell] for cell in
        (("Table I", row, duke), ("Table III", best, duke), ("Table I", "CAP [6]", duke))
    )  # fmt: skip
    others = [
        name
        for name in SETS
        if source_row(value, "Table III", name) != best_setting(value, "Table III", name)
    ]
    return Erratum(
        "E1", "Table I, triplet sampling (2), Duke", f"{printed} mAP as the best performance",
        f"{right} mAP / {value['Table III', best, 'DukeMTMC R1']} R1 at {best}, above CAP's {cap}",
        f"maxima of Table III; the printed row is {source_row(value, 'Table III', 'DukeMTMC')}; rows that "
        f"are not the best: {', '.join(others) or 'none'}",
        True, bool(printed < right),
    )  # fmt: skip


def _duke_group_row(value: pd.Series) -> Erratum:
    best, first = (best_setting(value, "Table IV", "DukeMTMC", metric) for metric in ("mAP", "R1"))
    printed = source_row(value, "Table IV", "DukeMTMC")
    mean_ap = {row: value["Table IV", row, "DukeMTMC mAP"] for row in (printed, best) if row}
    return Erratum(
        "E2", "Table I, group sampling, Duke", f"the row of {printed} as the best performance",
        f"by mAP {best} is best; {first} only by R1",
        f"mAP in Table IV: {', '.join(f'{row} {x}' for row, x in mean_ap.items())}",
        True, bool(printed and printed != best and printed == first),
    )  # fmt: skip


def _same_cells(value: pd.Series) -> Erratum:
    full = [(name, pair) for name, pair, same, _ in repeats(value) if len(same) == len(METRICS)]
    text = "; ".join(f"{name}: {' = '.join(f'{t} {r}' for t, r in pair)}" for name, pair in full)
    cap, cell = (
        value["Table I", "CAP [6]", "DukeMTMC mAP"], value["Table III", "K=4", "DukeMTMC mAP"],
    )  # fmt: skip
    return Erratum(
        "E3", "Tables II and III, K=4, Duke", "two label types, the same four numbers",
        f"presumably copied, which one is wrong cannot be told; the cell ({cell}) is CAP's own setting, "
        f"where CAP has {cap}",
        f"full repeats over Tables II–IV: {text or 'none'}", True,
        ("DukeMTMC", [("Table II", "K=4"), ("Table III", "K=4")]) in full,
    )  # fmt: skip


def _same_mean(value: pd.Series) -> Erratum:
    places = [("Table IV", "N=1"), ("Table IV", "N=2")]
    found = [(same, other) for name, pair, same, other in repeats(value) if pair == places]
    shown = "; ".join(f"same {', '.join(same)}, other {', '.join(other)}" for same, other in found)
    return Erratum(
        "E4", "Table IV, N=1 and N=2, Duke", "the same mAP and R1",
        "odd, and possible where both have collapsed", f"repeats of mAP and R1: {shown or 'none'}",
        True, any(other for _, other in found),
    )  # fmt: skip


def _random_twice(value: pd.Series) -> Erratum:
    gaps = {
        name: round(
            value["Table IV", "N=1", f"{name} mAP"] - value["Table I", "Random Sampling", f"{name} mAP"], 1
        )
        for name in SETS
    }
    same = _groups_of_one_are_random()
    return Erratum(
        "E5", "Table IV, N=1, against Table I, random sampling", "two different rows",
        "groups of one, shuffled, are random sampling: the difference is noise or two ways of coding",
        f"mAP N=1 − random: {', '.join(f'{name} {gap:+.1f}' for name, gap in gaps.items())}; one pass of "
        f"either sampler holds each inlier once, and no outlier: {same}",
        True, same and any(gaps.values()),
    )  # fmt: skip


def _groups_of_one_are_random() -> bool:
    """One pass of `GroupSampler` with N = 1 and of `RandomSampler`: every inlier once, in a drawn order."""
    import torch

    from papers_lib.sampler_study.samplers import GroupSampler, RandomSampler

    labels = torch.tensor([0] * 5 + [1] * 3 + [-1] * 2 + [2] * 8)
    inliers = torch.nonzero(labels >= 0).flatten().tolist()
    samplers = RandomSampler(labels, batch_size=4), GroupSampler(labels, 1, batch_size=4)
    passes = [torch.cat(sampler.batches()).tolist() for sampler in samplers]
    return all(sorted(drawn) == inliers and drawn != inliers for drawn in passes)


def _caption(value: pd.Series) -> Erratum:
    settings, methods = (set(value[table].index.unique(0)) for table in ("Table IV", "Table I"))
    return Erratum(
        "E6", "Table IV, caption", "that of Table I: comparison with state-of-the-art algorithms",
        "group sampling with varying N",
        f"rows of Table IV: {', '.join(value['Table IV'].index.unique(0))}; methods of Table I among them: "
        f"{', '.join(sorted(settings & methods)) or 'none'}",
        True, all(row.startswith("N=") for row in settings) and not settings & methods,
    )  # fmt: skip


def _collapse_at_16(value: pd.Series) -> Erratum:
    stated = int(value["text", "fitting non-existent", "K greater than"])
    falls = {
        (table, name): by_setting(value, table, name)[12] - by_setting(value, table, name)[stated]
        for table in TRIPLET
        for name in SETS
    }
    at = {
        table: " / ".join(str(by_setting(value, table, name)[stated]) for name in SETS) for table in TRIPLET
    }
    return Erratum(
        "E8", "Section IV-D", f"results worsen for K greater than {stated}",
        f"K = {stated} itself has collapsed",
        f"mAP at K = {stated}: {', '.join(f'{table} {text}' for table, text in at.items())}; "
        f"{min(falls.values()):.1f} to {max(falls.values()):.1f} points below K = 12",
        True, min(falls.values()) > 10,
    )  # fmt: skip


def _scarcity(value: pd.Series) -> Erratum:
    samples, log = samples_an_epoch(value), value["Cluster-Contrast, log"]["clusters on Market1501"]
    last, most = int(log["last epoch"]), int(log["most"])
    seen = visited(16, last, samples)
    market = by_setting(value, "Table II", "Market1501")
    best = {name: int(best_setting(value, "Table III", name)[2:]) for name in ("Market1501", "MSMT17")}
    shares = {name: visited(best[name], c, samples) for name, c in (("Market1501", 3411), ("MSMT17", 10_077))}
    return Erratum(
        "E9", "Section IV-D", "large K degrades as clusters and proxies are not traversed within an epoch",
        "at K = 16 on Market-1501 every cluster is visited, and the best rows of Table III leave most "
        "proxies unvisited; few classes in a batch normalisation suffice as a cause (toy)",
        f"visited at K = 16 with {last} clusters {100 * seen:.0f} % (with {most} "
        f"{100 * visited(16, most, samples):.0f} %), Table II {market[12]} (K = 12) → {market[16]} → "
        f"{market[32]}; Table III is best where "
        + ", ".join(f"{name} K = {best[name]} visits {100 * x:.0f} %" for name, x in shares.items())
        + " (3,411 and 10,077 proxies assumed)",
        True, bool(seen == 1 and market[12] - market[16] > 10 and max(shares.values()) < 0.5),
    )  # fmt: skip


def _traversed(value: pd.Series) -> Erratum:
    stated = int(value["text", "MSMT17 at K=32", "clusters traversed in one epoch exceed"])
    traversed = samples_an_epoch(value) // 32
    return Erratum(
        "E10", "Section IV-D", f"at K = 32 the clusters traversed in one epoch exceed {stated:,}",
        f"{traversed} are traversed, more than {stated:,} exist",
        f"{samples_an_epoch(value):,} images an epoch / 32 images a cluster = {traversed}",
        True, traversed < stated,
    )  # fmt: skip


def _twelve(value: pd.Series) -> Erratum:
    batch = int(value["text", "batch size", "value"])
    odd = {letter: [int(n) for n in value["text"][letter] if batch % n] for letter in ("K", "N")}
    return Erratum(
        "E11", "Section III-C, Section IV-B", f"B = P × K with B = {batch}",
        "12 does not divide 32; whether groups straddle batches is not said",
        f"settings that do not divide {batch}: {', '.join(f'{x} {ns}' for x, ns in odd.items())}",
        True, all(odd.values()),
    )  # fmt: skip


def _large_groups(value: pd.Series) -> Erratum:
    large = all(
        value["Table IV", f"N={n}", f"{name} mAP"] > value[table, f"K={n}", f"{name} mAP"]
        for n in (16, 32) for table in TRIPLET for name in SETS
    )  # fmt: skip
    small = max(x for n, x in by_setting(value, "Table IV", "DukeMTMC").items() if n <= 8)
    triplet = min(
        x for table in TRIPLET for k, x in by_setting(value, table, "DukeMTMC").items() if k <= 16
    )  # fmt: skip
    return Erratum(
        "E12", "Section IV-D", "the deterioration is less pronounced over N than over K",
        "at large N only: at small N the fall is as deep, on Duke deeper",
        f"N = 16 and 32 above K = 16 and 32 in every table and data set: {large}; Duke, best mAP of "
        f"N ≤ 8 {small}, worst of triplet sampling at K ≤ 16 {triplet}",
        True, bool(large and small < triplet),
    )  # fmt: skip


def _small_groups(value: pd.Series) -> Erratum:
    better = [
        f"{name} N={n}"
        for n in (1, 2, 4, 8) for name in SETS
        if any(
            value["Table IV", f"N={n}", f"{name} mAP"] > value[table, f"K={n}", f"{name} mAP"]
            for table in TRIPLET
        )
    ]  # fmt: skip
    return Erratum(
        "E13", "Section IV-D", "at small N group sampling is inferior across all three data sets",
        "so for N ≤ 4; at N = 8 it is the best of the three on MSMT17",
        f"N ≤ 8 with more mAP than a triplet sampler at K = N: {', '.join(better) or 'none'}",
        True, better == ["MSMT17 N=8"],
    )  # fmt: skip


def _other_settings(value: pd.Series) -> Erratum:
    names = ("temperature", "maximum distance", "batch size")
    pairs = {name: (value["text", name, "value"], value["CAP [6], code", name, "value"]) for name in names}
    stated = int(value["text", "iterations per epoch", "value"])
    batch = value["CAP [6], code", "batch size", "value"]
    most = {name: int(value["data sets", name, "training images"] // batch) for name in SETS}
    return Erratum(
        "E14", "Section IV-B", "other settings follow CAP [6]",
        f"the temperature does not, nor do the {stated} iterations, where CAP takes inliers / {batch:.0f}",
        f"paper and CAP: {', '.join(f'{name} {a:g} and {b:g}' for name, (a, b) in pairs.items())}; "
        f"iterations of CAP if all were inliers: {', '.join(f'{name} {n}' for name, n in most.items())}",
        True, bool(pairs["temperature"][0] != pairs["temperature"][1] and most["MSMT17"] > stated),
    )  # fmt: skip


def _gain_over_cap(value: pd.Series) -> Erratum:
    cap = {name: value["Table I", "CAP [6]", f"{name} mAP"] for name in SETS}
    row = f"K={value['CAP [6], code', 'K', 'value']:.0f}"
    same = {name: round(value["Table III", row, f"{name} mAP"] - cap[name], 1) for name in SETS}
    best = value["Table I", SWEEPS["Table III"], "Market1501 mAP"] - cap["Market1501"]
    return Erratum(
        "E15", "Section IV-C", "the gain over CAP as an effect of the sampler",
        "it mixes sampler, temperature and iterations; at CAP's own sampler the numbers differ as well",
        f"Table I, Market1501 {best:+.1f} mAP; Table III {row}, CAP's sampler, − CAP: "
        + ", ".join(f"{name} {gap:+.1f}" for name, gap in same.items()),
        True, any(same.values()),
    )  # fmt: skip


def _range_of_n(value: pd.Series) -> Erratum:
    original = value["Group Sampling [14]"]["original"]
    used = {name: int(original[f"{name} N"]) for name in SETS}
    swept = int(max(value["text"]["N"]))
    best = {name: max(by_setting(value, "Table IV", name).values()) for name in SETS}
    gaps = {name: best[name] - original[f"{name} mAP"] for name in SETS}
    return Erratum(
        "E16", "Section IV-B, Table IV", f"group sampling with N up to {swept}",
        f"[14] works at N = {' / '.join(map(str, used.values()))} in batches of "
        f"{original['batch size']:.0f}: its range is not entered",
        f"best mAP of Table IV − [14]: {', '.join(f'{name} {gap:+.1f}' for name, gap in gaps.items())} "
        "(camera labels and other settings differ)",
        True, swept < min(used.values()),
    )  # fmt: skip


def _below_untrained(value: pd.Series) -> Erratum:
    untrained = value["OpenUnReID model zoo"]["untrained ResNet-50"]
    rows = [(table, "K=32", name) for table in TRIPLET for name in SETS[:2]]
    rows.append(("Table I", "Random Sampling", "DukeMTMC"))
    below = all(
        value[table, row, f"{name} {metric}"] < untrained[f"{name} {metric}"]
        for table, row, name in rows for metric in METRICS
    )  # fmt: skip
    shown = ", ".join(f"{name} {value[table, row, f'{name} mAP']}" for table, row, name in rows)
    return Erratum(
        "E17", "Section IV-D", "the fitting can be deemed non-existent",
        "training destroys: the network is worse than before it",
        f"mAP of K = 32 (Tables II, III) and random sampling: {shown}; untrained ImageNet ResNet-50: "
        + ", ".join(f"{name} {untrained[f'{name} mAP']}" for name in SETS[:2])
        + f"; below in all four measures: {below}",
        True, below,
    )  # fmt: skip


def _images_an_identity(value: pd.Series) -> Erratum:
    counts = value["data sets"]
    each = {name: counts[name, "training images"] / counts[name, "training identities"] for name in SETS}
    return Erratum(
        "E21", "Section IV-D", "MSMT17 has a lower average sample count per proxy",
        "not shown; per identity it has the most, per proxy must be counted from the file names",
        f"training images an identity: {', '.join(f'{name} {x:.1f}' for name, x in each.items())}",
        True, max(each, key=each.__getitem__) == "MSMT17",
    )  # fmt: skip


def _words() -> list[Erratum]:
    text = "the paper's text"
    reading = [
        ("E7", "Figure 1, caption", "three kinds of sampling strategies",
         "four, as the text says: triplet sampling has two label types", text),
        ("E18", "Eq. 1", "one term, summed over the batch; K for the number of negatives",
         "CAP has two terms, means a camera, summed over cameras; K is also the sampler's; the number of "
         "negatives is not given", "CAP's code (reid/loss/CamAwareMemory.py, reid/trainers.py)"),
        ("E19", "Section III-A", "DBSCAN [9]", "[9] is a variant of 2010; DBSCAN is Ester et al. 1996", text),
        ("E20", "Section III-C", "triplet sampling [22]",
         "[22] is a quadruplet network, beyond the triplet loss", text),
        ("E22", "Section IV", "nothing on seeds, spread, checkpoint, AP rule or the number of negatives",
         "each is a named option here", text),
        ("E23", "Section IV-A", "DukeMTMC-reID, without comment (2024)",
         "withdrawn in 2019; here its cells are quoted or made on a stand-in", text),
        ("E24", "Abstract", "supervised systems with non-overlapping cameras",
         "presumably surveillance systems", text),
    ]  # fmt: skip
    return [Erratum(*row, computed=False, holds=True) for row in reading]
