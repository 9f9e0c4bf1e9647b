import dataclasses
import json

import pytest

from papers_lib.exhibits.claims import Claim, Erratum, claims_table, errata_table
from papers_lib.exhibits.verdicts import greater

CLAIM = Claim(
    name="C1",
    sentence="Section 4: selection beats random quadruplets",
    statement="R@1 of Method 2 > R@1 of Random",
    exhibit="Table 1",
    finding=greater({0: 2.0, 1: 2.1, 2: 2.2}, {0: 1.0, 1: 1.2, 2: 1.1}),
    controls="CE alone",
)
ERRATUM = Erratum("E5", "Section 4", "4.5 %", "4.57, so 4.6", "66.06 − 61.49", True, True)


def test_claims_and_errata_are_plain_json():
    claim = json.loads(json.dumps(CLAIM.as_dict(), allow_nan=False))
    assert claim["finding"]["verdict"] == "holds"
    assert claim["finding"]["difference"]["n"] == 3
    erratum = json.loads(json.dumps(ERRATUM.as_dict()))
    assert (erratum["name"], erratum["computed"], erratum["holds"]) == ("E5", True, True)


def test_they_are_frozen():
    for thing in (CLAIM, ERRATUM):
        with pytest.raises(dataclasses.FrozenInstanceError):
            thing.name = "other"


def test_the_tables_show_verdict_and_kind():
    claims = claims_table([CLAIM], badge="stand-in data", footer="3 runs")
    assert claims.rows[0][0] == "C1"
    assert claims.rows[0][2:4] == ["R@1 of Method 2 > R@1 of Random", "holds"]
    assert "stand-in data" in repr(claims) and repr(claims).endswith("3 runs")
    by_reading = dataclasses.replace(ERRATUM, computed=False, holds=False)
    errata = errata_table([ERRATUM, by_reading])
    assert [row[-2:] for row in errata.rows] == [["code", "yes"], ["reading", "no"]]
