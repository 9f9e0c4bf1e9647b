"""Judging the statements of `claims.csv` by a study's runs.

Nearly all claims have one form, "A beats B in M". A side is an arm, a number, or sums of them:

    method_2                     the metric of the line, of that arm, by seed
    method_2:mined.same_sibling  another metric
    50                           a level
    pick + 0.3                   an arm's values, moved by a margin
    median - median_n32          a gain, seed by seed
    max(lifted, n_pairs)         the highest of several arms, seed by seed; `min` is the lowest

"A beats B in M over all data sets" is the same line with the test `greater_blocked`: its arms stand for those
of each data set, "data set/arm".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from papers_lib.errors import PapersError
from papers_lib.exhibits import provenance as origin
from papers_lib.exhibits.claims import Claim
from papers_lib.exhibits.verdicts import Finding, greater, greater_blocked, holm, on_stand_in
from papers_lib.study.data import Statement
from papers_lib.study.results import Results, Values

if TYPE_CHECKING:
    from papers_lib.study.study import Study

Test = Callable[[Results, Statement], Finding]
GRAMMAR = ("greater", "greater_blocked")  # the tests that every study has
_TERMS = re.compile(r" ([+-]) ")  # with blanks about the sign: "-1.5" is one number


def judge(study: Study, results: Results, statements: Sequence[Statement]) -> list[Claim]:
    """Every statement with its finding, those of one family corrected together.

    Raises:
        PapersError: a statement that names no test, arm or metric of the study.
    """
    findings = [_finding(study, results, line) for line in statements]
    for family in {line.family for line in statements}:
        places = [i for i, line in enumerate(statements) if line.family == family]
        for i, finding in zip(places, holm([findings[i] for i in places]), strict=True):
            findings[i] = finding
    return [_claim(study, results, *pair) for pair in zip(statements, findings, strict=True)]


def _finding(study: Study, results: Results, line: Statement) -> Finding:
    decimals = int(line.decimals or 2)
    if line.test == "greater":
        return greater(*sides(study, results, line), decimals=decimals)
    if line.test == "greater_blocked":
        pairs = {name: sides(study, results, line, f"{name}/") for name in _data_sets(results)}
        return greater_blocked(pairs, decimals=decimals)
    if line.test in study.tests:
        return study.tests[line.test](results, line)
    known = ", ".join((*GRAMMAR, *study.tests))
    raise PapersError(f"claim {line.name}: unknown test '{line.test}'; known: {known}")


def _data_sets(results: Results) -> list[str]:
    # of the labels "data set/arm", in the order of the plan
    return list(dict.fromkeys(spec.label.partition("/")[0] for spec, _ in results.runs if "/" in spec.label))


def _claim(study: Study, results: Results, line: Statement, finding: Finding) -> Claim:
    blocks = [f"{name}/" for name in _data_sets(results)] if line.test == "greater_blocked" else [""]
    labels = [study.resolve(results, f"{block}{arm}") for block in blocks for arm in arms_of(line)]
    # of "data set/arm" the reader is told the arm
    names = dict.fromkeys(label.rpartition("/")[2] for label in labels)
    evidence = line.evidence or f"runs {', '.join(names)}"
    rows = [row for label in labels for row in results.rows(label).values()] or results.all_rows
    if finding.difference:
        finding = replace(finding, text=f"{finding.text}, on {origin.data_names(rows)}")
    # a test of the wing's own need not name its arms: then any row may be behind it
    if any(row.data.stand_in for row in rows):
        finding = on_stand_in(finding)
    return Claim(
        line.name,
        line.sentence,
        line.statement,
        line.exhibit,
        finding,
        evidence,
        line.controls,
        line.family,
    )


def sides(study: Study, results: Results, line: Statement, of: str = "") -> tuple[Values, Values]:
    """Both sides by seed, a level at those of the other side; `of` ("data set/") stands before each arm."""
    a, b = (_side(study, results, line, text, of) for text in (line.a, line.b))  # {seed: value}, or one level
    if isinstance(a, float):
        assert not isinstance(b, float), line  # two levels would say nothing about runs
        a = dict.fromkeys(b, a)
    return a, dict.fromkeys(a, b) if isinstance(b, float) else b


def arms_of(line: Statement) -> list[str]:
    """The arms that both sides name, each once, as they are written."""
    # term, sign, term, …: every second is a term
    terms = [term for text in (line.a, line.b) if text for term in _TERMS.split(text)[::2]]
    arms = [arm.partition(":")[0] for term in terms if not _is_number(term) for arm in _extreme(term)[1]]
    return list(dict.fromkeys(arms))  # in the order of the line, as evidence names them


def _side(study: Study, results: Results, line: Statement, text: str, of: str) -> Values | float:
    # x₀ ± x₁ ± …, from left to right
    first, *rest = _TERMS.split(text)
    total = _term(study, results, line, first, of)
    for sign, term in zip(rest[::2], rest[1::2], strict=True):
        factor, value = 1 if sign == "+" else -1, _term(study, results, line, term, of)
        assert not isinstance(total, float), line  # a level stands behind an arm, never before it
        if isinstance(value, float):
            # a margin moves every seed alike
            total = {seed: x + factor * value for seed, x in total.items()}
        else:
            # paired: a seed that lacks one of the terms says nothing
            total = {seed: total[seed] + factor * value[seed] for seed in total.keys() & value.keys()}
    return total


def _term(study: Study, results: Results, line: Statement, text: str, of: str) -> Values | float:
    if _is_number(text):
        return float(text)
    extreme, names = _extreme(text)
    arms = []
    for name in names:
        arm, _, metric = name.partition(":")  # "arm:metric"
        arms.append(study.read(results, study.resolve(results, f"{of}{arm}"), metric or line.metric))
    if len(arms) == 1:
        return arms[0]
    # an extreme over fewer arms would be of another set
    seeds = set.intersection(*(set(values) for values in arms))
    return {seed: extreme(values[seed] for values in arms) for seed in seeds}


def _extreme(text: str) -> tuple[Callable[[Iterable[float]], float], list[str]]:
    """`max(a, b)` as the function and the names; a plain name is its own maximum."""
    call = re.fullmatch(r"(max|min)\((.+)\)", text)
    if not call:
        return max, [text]
    return {"max": max, "min": min}[call[1]], call[2].split(", ")


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"-?\d+(\.\d+)?", text))
