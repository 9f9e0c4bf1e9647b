import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import fuzz

from papers_lib.errors import PapersError
from papers_lib.exhibits import places
from papers_lib.papers import PAPERS
from papers_lib.quadruplet_cars196.study import Settings
from papers_lib.settings import (
    NotebookSettings,
    data_root,
    parse,
    repository,
    validate,
)


def test_defaults_are_the_shown_profile_and_nothing_else():
    found = validate(NotebookSettings, {})
    assert (found.profile, found.dataset, found.seeds, found.train) == ("small", "", (), False)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sedds": [1]}, r"unknown parameter 'sedds': did you mean 'seeds'\?"),
        ({"zzz": 1}, "unknown parameter 'zzz': known: profile"),
        ({"profile": "huge"}, "profile: .*'smoke'.*got 'huge'"),
        ({"slots": "2"}, "slots: .*integer.*got '2'"),
        ({"slots": True}, "slots: .*integer"),
        ({"slots": 0}, "slots: .*greater than or equal to 1"),
        ({"train": 1}, "train: .*boolean"),
        ({"seeds": [0, 1.5]}, r"seeds.1: .*integer"),
        ({"seeds": (0, 1)}, "seeds: .*is a tuple, not plain JSON"),
        ({"data_root": Path("x")}, "data_root: .*not plain JSON"),
        ({"seeds": [math.nan]}, "seeds: NaN and infinity are refused"),
        ({"slots": math.nan}, "slots: NaN and infinity are refused"),
        ({"coarse_map": "type23"}, "coarse_map: .*'type22' or 'body9'"),
    ],
)
def test_bad_values_are_one_line(values, message):
    with pytest.raises(PapersError, match=message) as caught:
        validate(Settings, values)
    assert "\n" not in str(caught.value)


def test_text_is_read_by_the_type_of_its_field():
    pairs = {"seeds": "0,1", "slots": "2", "train": "True", "dataset": "007", "profile": "small"}
    assert parse(Settings, pairs) == {
        "seeds": [0, 1], "slots": 2, "train": True, "dataset": "007", "profile": "small",
    }  # fmt: skip
    assert parse(Settings, {"seeds": "[3]", "arms": "random,method_2"}) == {
        "seeds": [3], "arms": ["random", "method_2"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text"), [("slots", "007"), ("slots", "1_000"), ("slots", "nan"), ("seeds", "a,1")]
)
def test_text_of_the_wrong_type_stays_text_and_is_refused(name, text):
    with pytest.raises(PapersError, match=name):
        validate(Settings, parse(Settings, {name: text}))


def test_the_data_root_is_the_argument_then_the_environment(monkeypatch):
    monkeypatch.setenv("PAPERS_DATA", "/somewhere")
    assert data_root("given") == Path.cwd() / "given"
    assert data_root() == Path("/somewhere")


TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        (
            "[" * 100_000,
            "9" * 5000,
            "1e999",
            "NaN",
            "[NaN]",
            "-0",
            "[[[]]]",
            "{}",
            "\0",
            "\ud800",
            "~nobody/x",
        )
    ),
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats(), st.lists, max_leaves=4).map(
        json.dumps
    ),
)


@fuzz
@given(paper=st.sampled_from(list(PAPERS)), data=st.data())
def test_fuzz_parameters_are_taken_or_refused_in_one_line(paper, data):
    book = PAPERS[paper]
    names = data.draw(
        st.lists(st.sampled_from([*book.settings.model_fields, "nothing"]), max_size=3, unique=True)
    )
    try:
        book.study.plan(validate(book.settings, parse(book.settings, {n: data.draw(TEXTS) for n in names})))
    except PapersError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000


def test_only_what_is_to_be_committed_is_written_beside_the_ledger(monkeypatch):
    monkeypatch.delenv("PAPERS_FIGURES", raising=False)
    monkeypatch.delenv("PAPERS_LEDGER", raising=False)
    assert places.written() == repository() / "build" / "figures"
    places.write_committed()
    assert places.written() == repository() / "figures"
