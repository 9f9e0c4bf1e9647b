import json

import pytest

from papers_lib.exhibits import published
from papers_lib.nar.study import STUDY, table_4
from papers_lib.nar.study import errata as wing

READ = {"E6", "E7", "E10", "E15", "E16"}


def mutate(monkeypatch, changes):
    """Let the paper, or what is quoted beside it, print other numbers."""
    frame = published.load("nar")
    places = list(zip(frame["exhibit"], frame["row"], frame["column"], strict=True))
    for place, value in changes.items():
        frame.loc[places.index(place), "value"] = value
    monkeypatch.setattr(published, "load", lambda paper: frame)


def find(name):
    return next(erratum for erratum in STUDY.errata() if erratum.name == name)


def test_all_errata_hold_and_most_are_computed():
    errata = STUDY.errata()
    assert [e.name for e in errata] == [f"E{n}" for n in range(1, 18)]
    assert [e.name for e in errata if e.holds is not True] == []
    assert {e.name for e in errata if not e.computed} == READ
    assert all(e.printed and e.right and e.shown_by and "\n" not in e.shown_by for e in errata)
    json.dumps([e.as_dict() for e in errata])


MUTATIONS = {
    "E1": {("text", "ResNet-18-8", "decisions"): 7},
    "E2": {("Table 4", "ResNet-18", "FLOPS"): 1.81e9},
    "E3": {("Table 4", "ResNet-18-16", "Parameter Number"): 0.90e7},
    "E4": {("settings", "face emore V1", "images"): 3_804_846},
    "E5": {("settings", "LFW", "images"): 13_233},
    "E8": {("Table 5", "ResNet-18-8", "CIFAR-10"): 94.46},
    "E9": {("text", "LResNet50E-IR", "AgeDB-30"): 96.87},
    "E11": {("Table 5", "ResNet-18", "CIFAR-10"): 93.71, ("Table 5", "ResNet-18-8", "CIFAR-10"): 94.71},
    "E13": {("Table 5", "ResNet-18-16", "CIFAR-10"): 94.0},
    "E14": {("ENAS, macro search", "tanh constant", "value"): 50},
    "E17": {("text", "NAR, LResNet50E-IR", "fewer FLOPS"): 30},
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_an_erratum_falls_when_something_else_is_printed(monkeypatch, name):
    mutate(monkeypatch, MUTATIONS[name])
    assert find(name).holds is False


def test_every_computed_erratum_can_fall():
    assert {e.name for e in STUDY.errata() if e.computed} == set(MUTATIONS) | {"E12"}


def test_a_candidate_as_costly_as_the_convolution_would_clear_e12(monkeypatch):
    found = wing.count_all(8)
    found[5, 1] = found[0, 1]
    monkeypatch.setattr(wing, "count_all", lambda decisions: found)
    assert find("E12").holds is False


def test_the_first_erratum_also_falls_by_the_parameters(monkeypatch):
    mutate(monkeypatch, {("Table 4", "ResNet-18-16", "Parameter Number"): 0.89e7})
    assert find("E1").holds is False


def test_tables_are_named_as_they_are():
    of_print = ["gains", "face_accuracies", "not_in_our_text"]
    assert list(wing.tables()) == [*table_4.tables(), *of_print, "bench"]
