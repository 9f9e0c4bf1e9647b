"""The tables of every wing's `study/` name only what there is, and its exhibits are made from its ledger."""

from __future__ import annotations

import json
import re

import pytest

from papers_lib.papers import PAPERS, Book, get, open_notebook, open_paper, shown_profile
from papers_lib.runs.notebook import literal_parameters, read
from papers_lib.settings import PROFILES, validate
from papers_lib.study import Results, Study
from papers_lib.study.claims import GRAMMAR, arms_of, sides
from papers_lib.study.data import read_misprints, read_statements

# Changes that are relative to a profile's settings, or drawn from the seed.
RELATIVE = {"epochs_times", "images_times", "iterations_times", "batch_times"}
RELATIVE |= {"samples_of_batch", "replacements"}


@pytest.fixture(scope="module", params=PAPERS)
def book(request, tmp_path_factory) -> Book:
    """The chapter as it is committed, with what its ledger holds; it writes elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAPERS_FIGURES", str(tmp_path_factory.mktemp("figures")))
        patch.delenv("PAPERS_LEDGER", raising=False)
        yield open_paper(request.param, profile=shown_profile(PAPERS[request.param]))


@pytest.fixture(scope="module")
def study(book) -> Study:
    return book.paper.study


@pytest.fixture(scope="module")
def nothing(book) -> Results:
    """The same plan without a single run."""
    return Results([(spec, None) for spec in book.specs])


def arm_of(label: str) -> str:
    # "data set/arm" where there are several data sets, "arm rate" where there are several rates
    return label.rpartition("/")[2].partition(" ")[0]


@pytest.fixture(scope="module")
def labels(study) -> set[str]:
    """Those of all runs at all profiles: arms, and what starts from their weights."""
    plans = (study.plan(validate(study.parameters, {"profile": name})) for name in study.sizes)
    return {spec.label for plan in plans for spec in plan}


def test_profiles_are_those_of_every_notebook_and_their_plans_are_valid(study):
    # in order, and every one but `frozen`, which has no sense everywhere
    assert tuple(study.sizes) == tuple(name for name in PROFILES if name != "frozen" or name in study.sizes)
    planned = {}
    for name, size in study.sizes.items():
        assert len(size.seeds) == len(set(size.seeds)) >= 1
        assert not study.datasets or size.dataset in (*study.datasets, "")
        for spec in study.plan(validate(study.parameters, {"profile": name})):
            planned.setdefault(arm_of(spec.label), spec)
    assert planned.keys() >= study.arms.keys()  # each arm somewhere
    for name, arm in study.arms.items():
        assert arm.changes.keys() - RELATIVE <= planned[name].settings.keys(), name


def test_claims_name_arms_tests_and_exhibits_that_there_are(study, book, labels):
    lines = read_statements(study.folder / "claims.csv")
    assert len({line.name for line in lines}) == len(lines) >= 12
    exhibits = {*book._tables, *book._figures, "errata", "none"}
    for line in lines:
        assert line.sentence and line.statement, line.name
        assert line.test in (*GRAMMAR, *study.tests), line.name
        assert line.exhibit in exhibits, line.name
        for arm in arms_of(line) if line.test in GRAMMAR else ():
            label = study.resolve(book.results, arm)  # an arm, or a sampler as a whole: all its settings
            # of all data sets the arm is named alone
            places = {arm_of(known) for known in labels} if line.test == "greater_blocked" else labels
            assert any(known.startswith(label) for known in places), (line.name, arm)


def test_claims_are_tested_where_their_arms_have_runs(study, book):
    """So that no metric is misspelt: a line without values would read "not tested" for ever."""
    claims = study.claims(book.results)
    json.dumps([claim.as_dict() for claim in claims], allow_nan=False)
    verdicts = {claim.name: claim.finding.verdict for claim in claims}
    lines = read_statements(study.folder / "claims.csv")
    assert list(verdicts) == [line.name for line in lines]
    for line in lines:
        rows = [book.results.rows(study.resolve(book.results, arm)) for arm in arms_of(line)]
        if line.metric == "depth":  # a vector without replacements has none
            continue
        if line.test != "greater_blocked" and rows and set.intersection(*map(set, rows)):
            assert verdicts[line.name] != "not tested", line.name
            if line.test == "greater":
                assert all(sides(study, book.results, line)), line.name


def test_errata_are_numbered_and_code_checks_those_without_words_for_it(study):
    lines = read_misprints(study.folder / "errata.csv")
    names = [line.name for line in lines]
    assert all(re.fullmatch(r"E[1-9]\d*[a-z]?", name) for name in names)
    assert names == sorted(set(names), key=lambda name: (int(re.sub(r"\D", "", name)), name))
    assert study.checks.keys() <= set(names)
    assert {line.name for line in lines if not line.shown_by} == study.checks.keys()
    errata = study.errata()
    assert [e.name for e in errata if not e.holds] == []
    assert all(e.printed and e.right and e.shown_by and "\n" not in e.shown_by for e in errata)
    assert {erratum.name for erratum in errata if erratum.computed} == study.checks.keys()
    json.dumps([erratum.as_dict() for erratum in errata], allow_nan=False)


def test_every_printed_number_is_answered_by_a_run_or_quoted(study, book, nothing, labels):
    assert study.exact.keys() <= study.printed.keys()
    for place in study.printed:
        answer = study.answer(book.results, place)
        if answer is not None and not answer.quoted:
            assert answer.label in labels, place
    assert len(study.cells(book.results)) == len(study.printed)
    assert all(cell.value is None or cell.kind == "exact" for cell in study.cells(nothing))


def test_without_runs_exhibits_say_so_and_no_claim_is_tested(study, nothing):
    tables, figures = study.tables(nothing), study.figures(nothing)
    assert any("not run" in repr(table) for table in tables.values())
    assert all(exhibit.name == name for name, exhibit in (tables | figures).items())
    assert all(figure.csv() for figure in figures.values())
    lines = {line.name: line for line in read_statements(study.folder / "claims.csv")}
    for claim in study.claims(nothing):
        assert claim.finding.verdict == "not tested" or lines[claim.name].test not in GRAMMAR, claim.name


def test_exhibits_are_the_same_bytes_twice(study, book, tmp_path):
    for folder in ("a", "b"):
        figures = (*study.figures(book.results).values(), study.forest(book.results))
        for exhibit in (*study.tables(book.results).values(), *figures):
            exhibit.save(tmp_path / folder)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(names) == 2 * len(book._tables) + 4 * len(book._figures)
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


@pytest.mark.parametrize("paper", PAPERS)
def test_a_notebook_says_what_differs_from_the_committed_one(paper, capsys):
    scope = literal_parameters(read(get(paper).notebook))
    open_notebook(paper, scope)
    assert capsys.readouterr().out == ""  # as committed
    open_notebook(paper, scope | {"seeds": [0], "slots": 2})
    said = capsys.readouterr().out
    assert said.startswith("Not as committed: seeds = (0,). ") and "slots" not in said
