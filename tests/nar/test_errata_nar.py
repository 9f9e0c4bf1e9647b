import pytest
from planted import reprint

from papers_lib.nar.study import STUDY
from papers_lib.nar.study import errata as wing
from papers_lib.nar.study.printed import numbers

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
    reprint(monkeypatch, "nar", MUTATIONS[name])
    assert not wing.CHECKS[name](numbers())[1]


def test_every_computed_erratum_can_fall():
    assert [e.name for e in STUDY.errata()] == [f"E{n}" for n in range(1, 18)]
    assert wing.CHECKS.keys() == MUTATIONS.keys() | {"E12"}


def test_a_candidate_as_costly_as_the_convolution_would_clear_e12(monkeypatch):
    found = wing.count_all(8)
    found[5, 1] = found[0, 1]
    monkeypatch.setattr(wing, "count_all", lambda decisions: found)
    assert not wing.CHECKS["E12"](numbers())[1]


def test_the_first_erratum_also_falls_by_the_parameters(monkeypatch):
    reprint(monkeypatch, "nar", {("Table 4", "ResNet-18-16", "Parameter Number"): 0.89e7})
    assert not wing.CHECKS["E1"](numbers())[1]
