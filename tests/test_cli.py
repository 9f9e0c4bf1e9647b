"""The command line on a paper with a tiny data set: what it prints, and its exit codes."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest

from papers_lib import cli
from papers_lib.exhibits import ledger
from papers_lib.runs.store import Store

PAPER = "quadruplet_cars196"
ONE = ["-p", "profile", "smoke", "-p", "methods", "start", "-p", "seeds", "0"]


def out(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_list_names_the_papers(capsys):
    assert cli.main(["list"]) == 0
    assert PAPER in out(capsys)
    cli.main(["list", "--json"])
    assert json.loads(out(capsys))[0]["name"] == PAPER


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep", "nothing"], "unknown paper 'nothing'; known: quadruplet_cars196"),
        (["sweep", PAPER, "-p", "sedds", "1"], "unknown parameter 'sedds': did you mean 'seeds'?"),
        (["sweep", PAPER, "-p", "profile", "huge"], "profile: "),
        (["sweep", PAPER, "-p", "slots", "nan"], "slots: "),
        (["sweep", PAPER, "-p", "methods", "metod_2"], "methods: unknown 'metod_2'; known are"),
        (["sweep", PAPER, "-p", "data_root", "nowhere", "--dry-run"], "nowhere"),
        (["sweep", PAPER, *ONE, "--executor", "ray"], "executor 'ray' is not built yet"),
        (["run", PAPER, "-p", "slots", "0"], "slots: "),
        (["sweep", PAPER, "-p", "weights", "no.pt"], "no weights at no.pt"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, message, capsys, places):
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_sweep_from_dry_run_to_the_store(capsys, places):
    sweep = ["sweep", PAPER, *ONE, "--json"]
    assert cli.main([*sweep, "--dry-run"]) == 0
    assert json.loads(out(capsys))["to_do"] == 2  # the start, and the warm run that it needs
    assert cli.main([*sweep, "--print-commands"]) == 0
    first = json.loads(out(capsys))[0]
    subprocess.run(shlex.split(first), check=True, capture_output=True, cwd=Path(__file__).parents[1])
    assert [result.spec.label for result in Store().finished()] == ["warm"]
    assert cli.main(sweep) == 0
    assert json.loads(out(capsys)) == {"done": 1, "cached": 0, "in_ledger": 0, "failed": []}
    assert cli.main(sweep) == 0
    assert json.loads(out(capsys))["cached"] == 1
    assert cli.main(["collect", PAPER, "--json"]) == 0
    assert json.loads(out(capsys))["added"] == 0, "smoke never enters the ledger"
    assert ledger.read(PAPER) == []


def test_a_missing_stand_in_says_how_to_make_it(capsys, places, monkeypatch, tmp_path):
    monkeypatch.setenv("PAPERS_DATA", str(tmp_path / "empty"))
    assert cli.main(["sweep", PAPER, *ONE]) != 0
    captured = capsys.readouterr()
    assert "data_prep make cars196" in captured.out + captured.err


@pytest.mark.parametrize("verb", ["claims", "errata", "coverage"])
def test_reports_are_json_and_text(verb, capsys, places):
    assert cli.main([verb, "--json"]) == 0
    assert json.loads(out(capsys))
    assert cli.main([verb]) == 0
    assert "\n" in out(capsys)


def test_coverage_counts_no_cell_without_a_run(capsys, places):
    cli.main(["coverage", "--json"])
    table = next(e for e in json.loads(out(capsys)) if e["exhibit"] == "Table 1")
    assert (table["printed"], table["missing"], table["reproduced"]) == (40, 40, {})


def test_why_tells_runs_that_are_missing(capsys, places):
    assert cli.main(["why", PAPER, "-p", "methods", "random", "--json"]) == 0
    assert {reason["state"] for reason in json.loads(out(capsys))} == {"not run"}


def test_an_unreadable_ledger_names_its_line(capsys, places):
    path = ledger.path(PAPER)
    path.parent.mkdir(parents=True)
    path.write_text("{half a row\n")
    assert cli.main(["claims"]) == 2
    assert f"{path}, line 1" in capsys.readouterr().err
    assert path.read_text() == "{half a row\n"
