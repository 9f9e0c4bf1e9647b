"""A benchmark: its command line, the machine that it names, and what it counts as waiting."""

from __future__ import annotations

import pytest
import torch

from benchmarks import loading, timing


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


def test_a_machine_is_named_with_its_card(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    alone = timing.hardware()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Card 9")
    assert timing.hardware() == f"Card 9, {alone}"


def test_a_gpu_has_ended_a_step_before_the_next_batch_is_waited_for(monkeypatch):
    events = []

    def batches():
        for number in range(2):
            events.append(f"asked {number}")
            yield torch.zeros(1, 2, 2, 3, dtype=torch.uint8)

    def net(views):
        assert views.shape == (1, 3, 2, 2)
        events.append("computed")
        return torch.ones(1, requires_grad=True)

    monkeypatch.setattr(loading, "moved", lambda batch, device: batch)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: events.append("ended"))
    loading.steps(batches(), net, torch.device("cuda"))
    assert events == ["asked 0", "computed", "ended", "asked 1", "computed", "ended"]
