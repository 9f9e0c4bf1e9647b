import dataclasses

import pytest

from papers_lib.exhibits.claims import EDGE, Claim, Erratum, claims_table, errata_table, forest
from papers_lib.exhibits.verdicts import NOT_REPRODUCED, Finding, greater, holm, on_stand_in

CLAIM = Claim(
    name="C1",
    sentence="Section 4: selection beats random quadruplets",
    statement="R@1 of Method 2 > R@1 of Random",
    exhibit="Table 1",
    finding=greater({0: 2.0, 1: 2.1, 2: 2.2}, {0: 1.0, 1: 1.2, 2: 1.1}),
    controls="CE alone",
)
ERRATUM = Erratum("E5", "Section 4", "4.5 %", "4.57, so 4.6", "66.06 − 61.49", True, True)


def test_the_tables_show_badge_footer_verdict_and_kind():
    claims = claims_table([CLAIM], badge="stand-in data", footer="3 runs")
    assert "stand-in data" in repr(claims) and repr(claims).endswith("3 runs")
    assert claims.rows[0][2] == "R@1 of Method 2 > R@1 of Random"
    errata = errata_table([ERRATUM, dataclasses.replace(ERRATUM, computed=False, holds=False)])
    assert [row[-2:] for row in errata.rows] == [["code", "yes"], ["reading", "no"]]


def test_three_columns_are_shown_and_the_rest_folds_away():
    table = claims_table([dataclasses.replace(CLAIM, finding=holm([CLAIM.finding])[0])])
    assert list(table.face.columns) == ["claim", "verdict", "finding"]
    # differences 1.0, 0.9 and 1.1: 1 ± 4.303 · 0.1 / √3
    found = "+1 [0.752, 1.25], n = 3, p 0.0033"
    assert table.face.rows[0] == ["C1. R@1 of Method 2 > R@1 of Random", "holds", found]
    folded = table._repr_html_().partition("<details>")[2].partition("</details>")[0]
    assert "selection beats random" in folded and "controls: CE alone" in folded
    assert "selection beats random" in table.csv() and "<details>" not in table.markdown()


def judged() -> list[Claim]:
    far, near = {0: 1.0, 1: 1.1, 2: 0.9}, {0: 0.5, 1: -0.7, 2: 1.0}
    zero, ten = dict.fromkeys(range(16), 0.0), dict.fromkeys(range(16), 10.0)
    found = [greater(far, zero), greater(zero, far), greater(near, zero), greater(ten, zero)]
    found = holm([*found, greater({0: 1.0}, zero), Finding("not tested", "no"), greater(zero, far)])
    found[1] = on_stand_in(found[1])
    found.append(Finding("fails", "printed: 1 against 2", kind="printed"))
    return [dataclasses.replace(CLAIM, name=f"C{i}", finding=f) for i, f in enumerate(found, 1)]


def test_the_table_has_the_verdicts_and_a_line_for_what_has_none():
    table = claims_table(judged())
    assert [(row[0], row[3], row[7]) for row in table.rows] == [
        ("C1", "holds", "runs"),
        ("C2", NOT_REPRODUCED, "runs"),
        ("C4", "holds", "runs"),
        ("C7", "fails", "runs"),
        ("C8", "fails", "printed"),
    ]
    needed = judged()[2].finding.seeds_needed
    assert f"10,000): C3 ({needed}), C5 (–)" in table.notes[0]
    assert table.notes[1] == "not tested: C6"
    assert "(5)" in table.notes[2]  # C5 has one seed, C8 no run: neither is a test on runs
    assert table.rows[2][5:7] == ["< 0.0001", "0.00015"]  # all 16 seeds say the same: 2 / 2¹⁶, five tests
    assert claims_table([]).notes == []


def test_the_forest_has_a_row_for_every_claim_that_runs_judged():
    figure = forest(judged(), "stand-in data", "3 runs")
    data = figure.data.set_index("claim")
    assert list(data.index) == ["C1", "C2", "C3", "C4", "C7"]
    assert data.loc["C1", "effect"] == pytest.approx(1.0 / 0.1)
    assert data.loc["C2", "effect"] == pytest.approx(-1.0 / 0.1)
    assert data.loc["C4", "effect"] == EDGE  # no spread at all
    for name in ("low", "high"):
        bound = getattr(judged()[0].finding.difference, name)
        assert data.loc["C1", name] == pytest.approx(bound, rel=1e-5)
        assert data.loc["C1", f"effect_{name}"] == pytest.approx(bound / 0.1, rel=1e-5)
    assert "2 holds, 1 fails, 1 not reproduced on the stand-in, 1 undecided" in figure.alt
    assert figure.png and figure.svg
    assert forest([]).png and "0 claims" in forest([]).alt
