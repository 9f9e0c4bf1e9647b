"""The grammar of `claims.csv` on a study of two arms whose values stand in the test."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest
from planted import planted

from papers_lib.errors import PapersError
from papers_lib.exhibits.ledger import Row
from papers_lib.exhibits.verdicts import Finding
from papers_lib.runs.spec import Data, RunSpec
from papers_lib.study import Results, Statement, Study
from papers_lib.study.claims import arms_of, judge, sides

VALUES = {"one": {0: 1.0, 1: 4.0}, "two": {0: 2.0, 1: 3.0, 2: 9.0}}  # of the metric "m", by arm and seed


class Toy(Study):
    tests = MappingProxyType(
        {"always": lambda results, line: Finding("holds", f"{line.a} in {len(results.runs)} runs")}
    )

    def __init__(self) -> None:  # without tables of its own
        pass

    def resolve(self, results, arm):
        return "two" if arm == "best" else arm


def result(arm: str, seed: int, values: dict = VALUES, **of_data: Any) -> tuple[RunSpec, Row]:
    settings, data = {"seed": seed, "arm": arm}, Data(**{"name": "toy"} | of_data)
    spec = RunSpec(paper="toy", function="toy:run", profile="small", settings=settings, data=data, label=arm)
    metrics = {"m": values[arm][seed], "deep": {"share": 0.25}, "history": [{"m": 7.0}, {"m": 8.0}]}
    return spec, planted(spec, metrics)


RESULTS = Results([result(arm, seed) for arm, values in VALUES.items() for seed in values])


def line(a: str, b: str = "0", test: str = "greater") -> Statement:
    return Statement("C1", "it says", "a is above b", test, a, b, "m", "", "table_1", "", "")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("one", {0: 1, 1: 4}),
        ("best", {0: 2, 1: 3, 2: 9}),
        ("one:deep.share", {0: 0.25, 1: 0.25}),
        ("one:deep.share %", {0: 25, 1: 25}),
        ("one:history.-1.m", {0: 8, 1: 8}),
        ("one + 0.5", {0: 1.5, 1: 4.5}),
        ("one - 3", {0: -2, 1: 1}),
        ("one - two", {0: -1, 1: 1}),
        ("one + two - 3", {0: 0, 1: 4}),
        ("one - -1.5", {0: 2.5, 1: 5.5}),
        ("max(one, two)", {0: 2, 1: 4}),
        ("min(one, two)", {0: 1, 1: 3}),
        ("max(one, two, one:history.0.m) - two", {0: 5, 1: 4}),
    ],
)
def test_a_side_is_read_by_seed(text, values):
    level = dict.fromkeys(values, 50.0)
    assert sides(Toy(), RESULTS, line(text, "50")) == (values, level)
    assert sides(Toy(), RESULTS, line("50", text)) == (level, values)


def test_the_arms_of_both_sides_are_named_once():
    assert arms_of(line("max(one, two:deep.share %) - 0.3", "one + three - 2")) == ["one", "two", "three"]
    assert arms_of(line("", "", test="always")) == []


def test_a_statement_is_judged_on_the_seeds_that_both_sides_have():
    (claim,) = judge(Toy(), RESULTS, [line("two", "one")])
    assert (claim.finding.difference.n, claim.finding.difference.mean) == (2, 0)
    assert claim.evidence == "runs two, one"
    assert claim.finding.text.endswith("2 paired seeds, on toy")
    (level,) = judge(Toy(), RESULTS, [line("two", "one:history.0.m")])
    assert (level.finding.verdict, level.finding.difference.mean) == ("undecided", -4.5)
    (nothing,) = judge(Toy(), RESULTS, [line("three", "one")])
    assert nothing.finding.verdict == "not tested"


def test_a_test_of_the_wings_own_is_called_and_an_unknown_one_refused():
    (claim,) = judge(Toy(), RESULTS, [line("one", test="always")])
    assert (claim.finding.verdict, claim.finding.text) == ("holds", "one in 5 runs")
    with pytest.raises(
        PapersError, match="claim C1: unknown test 'grater'; known: greater, greater_blocked, always"
    ):
        judge(Toy(), RESULTS, [line("one", test="grater")])
    with pytest.raises(KeyError):
        judge(Toy(), RESULTS, [line("one:nothing", "two")])


def all_of(values: dict, **of_data: Any) -> Results:
    return Results([result(arm, seed, values, **of_data) for arm in values for seed in values[arm]])


def by_seed(*values: float) -> dict[int, float]:
    return dict(enumerate(values))


CLEAR = {"one": by_seed(5.0, 5.02, 5.04), "two": by_seed(4.0, 4.0, 4.0), "three": by_seed(4.0, 4.3, 4.2)}


def test_statements_of_one_family_are_corrected_together():
    near = line("three", "two")  # p = 0.19
    lines = [line("one", "two"), near, near, near._replace(family="ours"), line("one", test="always")]
    claims = judge(Toy(), all_of(CLEAR), lines)
    p = claims[1].finding.p
    assert [c.family for c in claims] == ["", "", "", "ours", ""]
    assert [c.finding.p_holm for c in claims[1:4]] == pytest.approx([2 * p, 2 * p, p])
    assert claims[0].finding.p_holm == pytest.approx(3 * claims[0].finding.p)
    assert claims[4].finding.p_holm is None


@pytest.mark.parametrize(
    ("stand_in", "verdict", "where"),
    [(True, "not reproduced on the stand-in", "toy (stand-in)"), (False, "fails", "toy")],
)
def test_what_would_fail_on_drawn_data_was_not_reproduced_there(stand_in, verdict, where):
    worse, better = judge(Toy(), all_of(CLEAR, stand_in=stand_in), [line("two", "one"), line("one", "two")])
    assert (worse.finding.verdict, better.finding.verdict) == (verdict, "holds")
    assert worse.finding.text.endswith(f", on {where}")


def test_a_statement_on_all_data_sets_reads_the_arms_of_each():
    values = {f"{place}/{arm}": of for place in ("a", "b") for arm, of in CLEAR.items()}
    values |= {"c/three": by_seed(1.0)}  # a data set that lacks the arms says nothing
    blocked = line("max(one, three) - two", "0.5", test="greater_blocked")
    (claim,) = judge(Toy(), all_of(values), [blocked])
    assert claim.finding.difference.mean == pytest.approx(0.52)
    assert "3 paired seeds of each data set (a +0.52, b +0.52)" in claim.finding.text
    assert claim.evidence == "runs one, three, two"
    (alone,) = judge(Toy(), all_of(CLEAR), [blocked])
    assert alone.finding.verdict == "not tested"
