"""A wing from elsewhere works at every front door: the house's own test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from papers_lib.cli import main


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("RUNS", "FIGURES", "LEDGER"):
        monkeypatch.setenv(f"PAPERS_{name}", str(tmp_path / name))
    monkeypatch.setenv("PAPERS_LEDGER", str(tmp_path / "FIGURES"))
    monkeypatch.setenv("PAPERS_WINGS", "fifth_paper")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    return tmp_path


def answer(capsys: pytest.CaptureFixture[str], *command: str) -> object:
    assert main([*command, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def test_a_fifth_paper_is_swept_collected_judged_counted_and_explained(places, capsys):
    sweep = answer(capsys, "sweep", "fifth_paper", "-p", "profile", "small", "--slots", "2")
    assert (sweep["done"], sweep["failed"]) == (20, [])
    assert answer(capsys, "collect", "fifth_paper")["added"] == 20
    claims = answer(capsys, "claims", "fifth_paper")["fifth_paper"]["claims"]
    verdicts = {claim["name"]: claim["finding"]["verdict"] for claim in claims}
    assert verdicts == {"C1": "holds", "C2": "undecided"}
    first, second = (claim["finding"] for claim in claims)
    assert first["p"] < first["p_holm"] <= 2 * first["p"] < 0.05 <= second["p_holm"]
    assert first["difference"]["n"] == 10 < second["seeds_needed"] and first["seeds_needed"] is None
    assert {claim["family"] for claim in claims} == {""}
    exhibits = {exhibit["exhibit"]: exhibit for exhibit in answer(capsys, "coverage", "fifth_paper")}
    assert exhibits["Table 1"]["reproduced"] == {"small on drawn": 2}
    assert (exhibits["settings"]["quoted"], exhibits["Table 1"]["missing"]) == (1, 0)
    assert {reason["state"] for reason in answer(capsys, "why", "fifth_paper")} == {"current"}
    assert [erratum["name"] for erratum in answer(capsys, "errata", "fifth_paper")["fifth_paper"]] == ["E1"]
    assert "fifth_paper" in [paper["name"] for paper in answer(capsys, "list")]


def test_its_notebook_runs(places, capsys):
    assert answer(capsys, "run", "fifth_paper", "-p", "profile", "smoke")["missing"] == 0
    written = {path.name for path in (places / "FIGURES/fifth_paper/smoke").iterdir()}
    assert {"table_1.csv", "table_1.md", "by_epoch.png", "by_epoch.csv", "claims.png"} <= written


def test_a_package_that_is_not_there_is_one_line(places, monkeypatch, capsys):
    monkeypatch.setenv("PAPERS_WINGS", "sixth_paper")
    assert main(["list"]) == 2
    assert "PAPERS_WINGS: No module named 'sixth_paper'" in capsys.readouterr().err
