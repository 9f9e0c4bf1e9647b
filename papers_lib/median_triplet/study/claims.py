"""The tests of the claims that are not "A beats B in M"; `claims.csv` names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from scipy.stats import spearmanr

from papers_lib.exhibits.ledger import Row
from papers_lib.exhibits.verdicts import Finding, Verdict, greater
from papers_lib.median_triplet.study import printed, tables
from papers_lib.study import Results, Statement, Values

Points = Mapping[int, Sequence[tuple[float, float]]]  # by seed


def equal_seconds(results: Results, line: Statement) -> Finding:
    """C1e: kNN, %, of both arms when the faster of the two runs has ended."""
    a, b = ({seed: _by_seconds(row) for seed, row in results.rows(arm).items()} for arm in (line.a, line.b))
    at_end: tuple[Values, Values] = {}, {}
    for seed in a.keys() & b.keys():
        end = min(a[seed][0][-1], b[seed][0][-1])  # seconds
        for values, curves in zip(at_end, (a, b), strict=True):
            # linear between two readings
            values[seed] = float(np.interp(end, *curves[seed]))
    return greater(*at_end)


def _by_seconds(row: Row) -> tuple[list[float], list[float]]:
    """Seconds of training, and kNN, %, at the epochs that read it."""
    seconds, knn = [0.0], [100 * float(row.metrics["start"]["knn"])]
    spent = 0.0
    for epoch in row.metrics["history"]:
        spent += epoch["seconds"]
        if "knn" in epoch:
            seconds.append(spent)
            knn.append(100 * epoch["knn"])
    return seconds, knn


def work_of_random_resolution(_results: Results, _line: Statement) -> Finding:
    """C2e: by arithmetic."""
    share = printed.random_resolution(printed.numbers())
    text = (
        f"at 224 pixels {share.online:.3f} of the pixels online, {share.target:.3f} in the target, "
        f"{share.step:.3f} of a step's work"
    )
    return Finding("holds" if share.step < 0.6 else "fails", text, kind="computed")


def same_run(results: Results, line: Statement) -> Finding:
    """C6e: two arms are one computation."""
    ours, other = (
        {seed: (row.metrics["linear"], row.metrics["knn"]) for seed, row in results.rows(arm).items()}
        for arm in (line.a, line.b)
    )
    seeds = ours.keys() & other.keys()
    if not seeds:
        return Finding("not tested", "no seed has both runs: not tested")
    equal = sum(ours[seed] == other[seed] for seed in seeds)
    verdict: Verdict = "holds" if equal == len(seeds) else "fails"
    text = f"equal in linear and kNN accuracy at {equal} of {len(seeds)} seeds"
    return Finding(verdict, text, kind="computed")  # an identity, which no chance decides


def falls_with_k(results: Results, line: Statement) -> Finding:
    """C10: Spearman's correlation of k and a meter over the heads with one k, by seed, is below zero."""
    points: dict[int, list[tuple[float, float]]] = {}
    for arm in tables.RANKED:
        for seed, value in results.values(arm, f"history.-1.{line.metric}").items():
            settings = results.rows(arm)[seed].settings
            points.setdefault(seed, []).append((tables.rank(settings, settings["batch_size"]), value))
    correlations = _spearman(points, 4)
    return greater(dict.fromkeys(correlations, 0.0), correlations)  # zero is ahead of ρ


def short_probe(results: Results, _line: Statement) -> Finding:
    """C13: the one-epoch probe against the whole, over all runs of a seed."""
    points: dict[int, list[tuple[float, float]]] = {}
    for spec, row in results.runs:
        if row is not None and "task" not in spec.settings:
            pair = (100 * row.metrics["linear_1"], 100 * row.metrics["linear"])
            points.setdefault(row.seed, []).append(pair)
    correlations = _spearman(points, 8)
    return greater(correlations, dict.fromkeys(correlations, 0.8))


def _spearman(points: Points, least: int) -> Values:
    """Spearman's correlation by seed; none for a seed with fewer points, or where one side is constant."""
    return {
        seed: float(spearmanr(*zip(*pairs, strict=True)).statistic)
        for seed, pairs in points.items()
        if len(pairs) >= least and all(len(set(side)) > 1 for side in zip(*pairs, strict=True))
    }


def real_data(results: Results, line: Statement) -> Finding:
    """C14, C16: only the real data at the paper's settings can decide."""
    if any(spec.data.stand_in for spec, _ in results.runs):
        return Finding("not tested", "stand-ins: not tested")
    return greater(results.values(line.a, line.metric), results.values(line.b, line.metric))


def printed_ahead(_results: Results, line: Statement) -> Finding:
    """C15: the paper's own row of Table 2 against a supervised one, in both columns."""
    value = printed.numbers()["Table 2"]
    columns = ("AP Box", "AP Mask")
    pairs = {column: (float(value["median triplet", column]), value[line.b, column]) for column in columns}
    verdict: Verdict = "holds" if all(ours > theirs for ours, theirs in pairs.values()) else "fails"
    text = ", ".join(f"{column} {ours} against {theirs}" for column, (ours, theirs) in pairs.items())
    return Finding(verdict, f"printed: {text}", kind="printed")


def hardest_first(_results: Results, _line: Statement) -> Finding:
    """C17 on random vectors, by the selection that training uses."""
    import torch

    from papers_lib.median_triplet.heads import selected

    generator = torch.Generator().manual_seed(0)
    query, target = (torch.randn(64, 16, generator=generator) for _ in range(2))
    cosines = torch.nn.functional.normalize(query) @ torch.nn.functional.normalize(target).T  # [64, 64]
    positive = cosines.diagonal().clone()  # [64]
    others = cosines.fill_diagonal_(-2)  # below any cosine
    nearest = others.max(1)
    satisfied = positive > nearest.values  # of the hardest triplet: then of all
    first = bool((selected(query, target, 1) == nearest.indices).all())
    implied = bool((others[satisfied] < positive[satisfied, None]).all())
    verdict: Verdict = "holds" if first and implied else "fails"
    return Finding(verdict, f"64 queries, {int(satisfied.sum())} satisfied", kind="computed")


def speed(_results: Results, line: Statement) -> Finding:
    """C19, C20: a benchmark of one machine decides nothing here."""
    return Finding("not tested", f"a speed: {line.evidence}")


_ALL = (
    equal_seconds,
    work_of_random_resolution,
    same_run,
    falls_with_k,
    short_probe,
    real_data,
    printed_ahead,
    hardest_first,
    speed,
)
TESTS = MappingProxyType({test.__name__: test for test in _ALL})
