"""The tests of the claims that are not "A beats B in M"; `claims.csv` names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from scipy.stats import spearmanr

from papers_lib.exhibits.verdicts import Finding, greater
from papers_lib.median_triplet.study import tables
from papers_lib.study import Results, Statement, Values

Points = Mapping[int, Sequence[tuple[float, float]]]  # by seed


def falls_with_k(results: Results, line: Statement) -> Finding:
    """C10: Spearman's correlation of k and a meter over the heads with one k, by seed, is below zero."""
    points: dict[int, list[tuple[float, float]]] = {}
    for arm in tables.RANKED:
        for seed, value in results.values(arm, f"history.-1.{line.metric}").items():
            k = tables.rank_of_run(results.rows(arm)[seed]).k
            points.setdefault(seed, []).append((k, value))
    correlations = _spearman(points, 4)
    return greater(dict.fromkeys(correlations, 0.0), correlations)  # zero is ahead of ρ


def short_probe(results: Results, _line: Statement) -> Finding:
    """C13: the one-epoch probe against the whole, over all runs of a seed."""
    points: dict[int, list[tuple[float, float]]] = {}
    for spec, row in results.runs:
        # two classes are easier than ten by any probe
        if row is not None and "task" not in spec.settings and not spec.settings["classes"]:
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


TESTS = MappingProxyType({test.__name__: test for test in (falls_with_k, short_probe)})
