"""What a run's key and identity depend on."""

import pytest
from pydantic import ValidationError

from papers_lib.runs.spec import Data, RunSpec

BASE = RunSpec(
    paper="toy",
    function="toy_wing.functions:square",
    profile="small",
    settings={"seed": 3, "rate": 0.5},
    data=Data(name="cars", root="here", fingerprint="f1"),
)


def changed(**update):
    return BASE.model_copy(update=update)


@pytest.mark.parametrize(
    "other",
    [
        changed(settings={"seed": 4, "rate": 0.5}),
        changed(settings={"seed": 3, "rate": 0.25}),
        changed(settings={"seed": 3, "rate": 0.5, "new_default": 0}),
        changed(function="toy_wing.functions:count"),
        changed(data=Data(name="other", root="here", fingerprint="f1")),
        changed(data=Data(name="cars", root="here", fingerprint="f1", stand_in=True)),
        changed(needs=(BASE,)),
        changed(needs=(changed(settings={"seed": 0}),)),
    ],
)
def test_what_changes_the_result_changes_key_and_identity(other):
    assert other.key != BASE.key and other.identity != BASE.identity


def test_identity_is_the_same_on_every_machine_and_in_every_version():
    """The ledger's rows are found by it: a new one would lose them all."""
    assert BASE.identity[:16] == "b181f3ee83844c56"


def test_data_fingerprint_is_in_the_key_alone():
    other = changed(data=Data(name="cars", root="here", fingerprint="f2"))
    assert other.key != BASE.key and other.identity == BASE.identity
    assert changed(needs=(other,)).key != changed(needs=(BASE,)).key


@pytest.mark.parametrize(
    "other",
    [
        changed(device="cuda"),
        changed(label="a name"),
        changed(folder="elsewhere"),
        changed(data=Data(name="cars", root="there", fingerprint="f1")),
        changed(settings={"rate": 0.5, "seed": 3}),
    ],
)
def test_places_device_label_and_order_are_in_neither(other):
    assert other.key == BASE.key and other.identity == BASE.identity


def test_the_code_is_in_the_key_alone(monkeypatch):
    before = BASE.key, BASE.identity
    monkeypatch.setattr("papers_lib.runs.spec.code_fingerprint", lambda module, without: module)
    assert BASE.code == "toy_wing.training"
    assert BASE.key != before[0] and BASE.identity == before[1]


def test_it_survives_json_and_is_frozen():
    spec = changed(needs=(BASE,))
    again = RunSpec.model_validate_json(spec.model_dump_json())
    assert again == spec and again.key == spec.key and again.seed == 3
    with pytest.raises(ValidationError):
        spec.device = "cuda"
    for wrong in ({"sedd": 1}, {"paper": "../toy"}):  # a paper is a folder of the store
        with pytest.raises(ValidationError):
            RunSpec.model_validate({**BASE.model_dump(), **wrong})


def test_nan_has_no_key():
    with pytest.raises(ValueError, match="Out of range"):
        _ = changed(settings={"seed": 0, "rate": float("nan")}).key
