"""Every data card as Croissant: what the specification requires, and what the card says."""

import json
import re

import pytest

from data_prep.__main__ import main
from data_prep.croissant import croissant
from data_prep.sets import CARDS
from papers_lib.errors import PapersError

# "Required" of a dataset in the specification, section "Dataset-level information".
REQUIRED = {"@context", "@type", "conformsTo", "description", "license", "name", "url", "creator"}
REQUIRED |= {"datePublished"}
NAMES = sorted(card.stem for card in CARDS.glob("*.md"))


@pytest.mark.parametrize("name", NAMES)
def test_a_card_has_what_is_required(name):
    found = croissant(name)
    assert not [field for field in REQUIRED if not found.get(field)]
    assert found["@type"] == "sc:Dataset"
    assert re.fullmatch(r"(19|20)\d\d", found["datePublished"])
    text = (CARDS / f"{name}.md").read_text()
    assert found["description"] in text
    for file in found["distribution"]:  # each file with the checksum that stands beside it
        assert f"| `{file['name']}` | `{file['md5']}` |" in text
    assert len(found["distribution"]) == len(set(re.findall(r"\| `[^`]+` \| `[0-9a-f]{32}` \|", text)))


def test_what_a_card_leaves_to_another_comes_from_there(capsys):
    half, whole = croissant("cars196_half"), croissant("cars196")
    assert half["creator"] == whole["creator"]
    assert [who["name"] for who in whole["creator"]][:2] == ["Krause, Jonathan", "Stark, Michael"]
    assert half["distribution"] == [] and len(whole["distribution"]) == 4
    drawn = croissant("pedestrians_many")  # names market1501, but is nobody else's
    assert drawn["creator"][0]["name"] == "The papers_lib contributors"
    assert main(["croissant", "cars196"]) == 0
    assert json.loads(capsys.readouterr().out) == whole


def test_an_unknown_card_is_an_error():
    with pytest.raises(PapersError, match="unknown data set 'nothing'; known: cars196"):
        croissant("nothing")
