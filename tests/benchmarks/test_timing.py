"""The command line of a benchmark: numbers that make no sense are one line."""

from __future__ import annotations

import pytest

from benchmarks import timing


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rounds", "0"], "--rounds 0: give 1 or more"),
        (["--batch", "-3"], "--batch -3: give 1 or more"),
        (["--sides", "8", "0"], "--sides 0: give 1 or more"),
        (["--workers", "-1"], "--workers -1: give 0 or more"),
        (["--batch", "many"], "invalid int value: 'many'"),
    ],
)
def test_a_number_that_makes_no_sense_is_one_line(arguments, said, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["benchmark", *arguments])
    with pytest.raises(SystemExit, match="2"):
        timing.options("", rounds=5, batch=32, workers=2, sides=[8, 16])
    captured = capsys.readouterr().err
    assert said in captured and captured.count("\n") == 1


def test_no_workers_is_a_number(monkeypatch):
    monkeypatch.setattr("sys.argv", ["benchmark", "--workers", "0"])
    assert timing.options("", rounds=5, workers=2).workers == 0
