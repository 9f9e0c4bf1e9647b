"""What the paper claims, as statements that our runs can hold or break.

Numbers C1 … C15 follow the order of the paper; a letter marks one of several statements. Every
comparison is paired by seed, in percentage points, and judged by `papers_lib.exhibits.verdicts`.
"""

from __future__ import annotations

from collections.abc import Mapping

from papers_lib.exhibits import published
from papers_lib.exhibits.claims import Claim
from papers_lib.exhibits.intervals import t_interval
from papers_lib.exhibits.verdicts import Finding, greater
from papers_lib.quadruplet_cars196.plan import PAPER
from papers_lib.quadruplet_cars196.readings import Runs, mean_over_epochs, mined, percent, rows_of

Values = Mapping[int, float]


def claims(runs: Runs) -> list[Claim]:
    """All claims with their findings."""
    found = [*_selection(runs), *_ingredients(runs), *_others(runs)]
    return sorted(found, key=lambda claim: (int(claim.name[1:].rstrip("abc")), claim.name))


def _selection(runs: Runs) -> list[Claim]:
    return [
        _better(
            runs, "C1a", "Section 4: Method 1 improves Recall@1 by at least 3.4 %",
            "method_1", "random", "Method 1 beats random quadruplets in R@1",
            "selection also changes which positive is pulled (C4); Method 1 loses R@8 on the printed row",
        ),
        _better(
            runs, "C1b", "Section 4: Method 2 corresponds to a 4.5 % increase",
            "method_2", "random", "Method 2 beats random quadruplets in R@1", "as C1a",
        ),
        _better(
            runs, "C2", "Section 4, Table 1: 66.06 against 64.85",
            "method_2", "method_1", "Method 2 beats Method 1 in R@1", "the printed NMI says the reverse",
        ),
        _nmi(runs),
        _easy_positives(runs),
        _better(
            runs, "C5", "Section 3.3.2: P− is taken outside the sphere",
            "method_2", "nearest_sibling", "P− outside the sphere beats the nearest sibling in R@1",
            "the errors that R@1 counts lie inside the sphere",
        ),
        _better(
            runs, "C6a", "Section 1: with mining in the batch, distance relations are not fully exploited",
            "method_2", "method_2_in_batch", "whole-set selection beats in-batch selection in R@1",
            "equal steps and references a step; batches of the in-batch arm are class-balanced",
        ),
        _better(
            runs, "C6b", "Section 1, as C6a", "method_2_fresh", "method_2",
            "a fresher bank (four refreshes an epoch) beats one refresh in R@1", "staleness of the bank",
        ),
    ]  # fmt: skip


def _ingredients(runs: Runs) -> list[Claim]:
    ce = "labels a step are equal in 'ce' (32); 'ce_all' has four times as many"
    return [
        _better(
            runs, "C7", "Section 1: the framework exploits the hierarchical labels",
            "method_2", "method_2_shuffled", "the 22 types beat types dealt by lot in R@1",
            "the nine body styles are a second control; 13 of the 22 types are trim names",
        ),
        _better(
            runs, "C8a", "Section 3: classification and distance losses are combined",
            "method_2", "method_2_no_ce", "Method 2 needs its cross-entropy (R@1)", ce,
        ),
        _better(
            runs, "C8b", "Section 3.2: the global loss regularises",
            "method_2", "method_2_no_global", "Method 2 needs its global term (R@1)", "eta = 0",
        ),
        _better(
            runs, "C8c", "Section 1: embedding learning beyond classification",
            "method_2", "ce", "Method 2 beats cross-entropy alone (R@1)", ce,
        ),
        _better(
            runs, "C14a", "Section 4: margins 0.7 and 0.3",
            "method_2", "method_2_text_margin", "the margin of Eq. 5 beats that of the text (R@1)", "A8",
        ),
        _better(
            runs, "C14b", "Section 4: margins 0.7 and 0.3", "method_2", "method_2_unnormalised",
            "the margins need an embedding on the unit sphere (R@1)", "scale of the features",
        ),
        _better(
            runs, "C15", "Section 4: weights 0.08 and 0.25",
            "method_2", "method_2_swapped_ce", "0.08 coarse, 0.25 fine beats the reverse (R@1)", "A7",
        ),
    ]  # fmt: skip


def _others(runs: Runs) -> list[Claim]:
    baselines = [percent(runs, arm, "R@1") for arm in ("semi_hard", "lifted", "n_pairs", "clustering")]
    shared = set.intersection(*(set(values) for values in baselines))
    best = {seed: max(values[seed] for values in baselines) for seed in shared}
    distinct = {number: mined(runs, "method_2", f"distinct_method_{number}") for number in (1, 2)}
    spread = {arm: _column(runs, arm, "within_over_all") for arm in ("method_2", "random")}
    return [
        Claim(
            "C9", "Section 4: random selection outperforms [18, 21, 4, 22]",
            "random quadruplets beat the best of the four baselines in R@1, same backbone",
            "table_1", greater(percent(runs, "random", "R@1"), best),
            _arms("random", "semi_hard", "lifted", "n_pairs", "clustering"),
            "the printed rows of the four are of another backbone and dimension (E3)",
        ),
        Claim(
            "C10", "Section 1: outperforming the state-of-the-art feature learning methods",
            "both methods are ahead of every work that the paper cites, in R@1 and NMI, by printed numbers",
            "table_1_corrected", _state_of_the_art(), "published numbers alone", "E1, E2",
        ),
        Claim(
            "C11", "Section 2: a model has difficulty in convergence with random samples",
            "Method 2 rises earlier than random quadruplets (R@1 averaged over the epochs)",
            "recall_by_epoch",
            greater(mean_over_epochs(runs, "method_2"), mean_over_epochs(runs, "random")),
            _arms("method_2", "random"), "hinge 2 is never zero without fallback: activity proves nothing",
        ),
        Claim(
            "C12", "Section 5: Method 2 uses all the region on the surface of a hyper-sphere",
            "on the same features Method 2 picks more different P+ and P− than Method 1",
            "selection",
            greater(distinct[2], distinct[1], decimals=4),
            "final features of the runs of Method 2", "different images chosen, a reference",
        ),
        Claim(
            "C13", "Section 5: larger margins and several tight clusters for each class",
            "classes never seen are tighter under Method 2 than under random quadruplets",
            "controls", greater(spread["random"], spread["method_2"], decimals=4),
            _arms("method_2", "random"), "variance within classes over all variance, test images",
        ),
    ]  # fmt: skip


def _better(runs: Runs, name: str, sentence: str, a: str, b: str, statement: str, controls: str) -> Claim:
    finding = greater(percent(runs, a, "R@1"), percent(runs, b, "R@1"))
    return Claim(name, sentence, statement, "controls", finding, _arms(a, b), controls)


def _nmi(runs: Runs) -> Claim:
    """C3, with the noise of k-means: a difference below two of its standard deviations decides nothing."""
    ours, random = percent(runs, "method_2", "NMI"), percent(runs, "random", "NMI")
    finding = greater(ours, random)
    noise = _column(runs, "random", "NMI_sd")
    if finding.difference and noise:
        twice = 200 * t_interval(list(noise.values())).mean
        if abs(finding.difference.mean) < twice and finding.verdict != "undecided":
            text = f"{finding.text}, but below two sd of k-means ({twice:.2f}): undecided"
            finding = Finding("undecided", text, finding.difference, finding.p)
    return Claim(
        "C3", "Section 3: performance of separation in Recall@K and NMI",
        "Method 2 beats random quadruplets in NMI", "table_1", finding, _arms("method_2", "random"),
        "the k-means seed alone moves NMI",
    )  # fmt: skip


def _easy_positives(runs: Runs) -> Claim:
    rates = {
        seed: 100 * row.metrics["history"][-1]["positive_fallback"]
        for seed, row in rows_of(runs, "method_2").items()
        if row.metrics["history"]
    }
    half = dict.fromkeys(rates, 50.0)
    return Claim(
        "C4", "Abstract: very hard negatives with relatively easy positives",
        "in the last epoch fewer than half of the P+ are the furthest, hardest ones (fallback)",
        "fallbacks", greater(half, rates), _arms("method_2"),
        "the rate rises as clusters tighten; 'furthest_positive' is the arm where it is always so",
    )  # fmt: skip


def _state_of_the_art() -> Finding:
    frame = published.load(PAPER)
    value = frame.set_index(["exhibit", "row", "column"])["value"]
    mining, proxy = "Smart Mining Table 2 (Cars196)", value["Proxy-NCA (Cars196)", "Proxy-NCA [2]", "R@1"]
    ours = {row: value["Table 1", row, "R@1"] for row in ("Proposed Method 1", "Proposed Method 2")}
    best_nmi = max(value["Table 1", row, "NMI"] for row in ours)
    others = {"Proxy-NCA R@1": proxy - max(ours.values())}
    others["Smart Mining NMI"] = value[mining, "Smart Mining [1]", "NMI"] - best_nmi
    ahead = {name: gap for name, gap in others.items() if gap > 0}
    text = "; ".join(f"{name} is {gap:.2f} ahead of the better method" for name, gap in ahead.items())
    return Finding("fails" if ahead else "holds", f"{text or 'no cited work is ahead'}")


def _column(runs: Runs, arm: str, metric: str) -> dict[int, float]:
    return {seed: float(row.metrics[metric]) for seed, row in rows_of(runs, arm).items()}


def _arms(*names: str) -> str:
    return f"runs {', '.join(names)}"
