"""A face training, end to end on drawn faces: it learns, is repeatable, and goes on after a kill."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from data_prep import faces as prep
from papers_lib import checkpoint
from papers_lib.errors import PapersError
from papers_lib.nar.face_options import FaceSettings
from papers_lib.nar.faces import Loop, build, choose, sgdr, train_faces

SMALL = {
    "image_size": 16, "identities": 4, "shots": 6, "held_out": 2, "width": 2, "embedding": 8, "scale": 8.0,
    "margin": 0.1, "cycle": 2, "epochs": 2, "batch_size": 8, "precision": "float32",
}  # fmt: skip


def settings(**changed: object) -> FaceSettings:
    return FaceSettings(**(SMALL | changed))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    root = tmp_path_factory.mktemp("faces")
    recipe = {"identities": "5", "shots": "6", "pairs": "1", "pixels": "16"}
    for name in ("faces_own", "lfw"):
        (root / name).mkdir()
        prep.STAND_INS[name].make(root / name, "smoke", recipe)
    return str(root), "faces_own"


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    return train_faces(settings(), data, tmp_path_factory.mktemp("run"), "cpu")


def without_seconds(found: dict) -> dict:
    return found | {"history": [{k: v for k, v in e.items() if k != "seconds"} for e in found["history"]]}


def test_metrics_are_plain_json_of_what_was_asked(trained):
    assert json.loads(json.dumps(trained)) == trained
    assert (trained["identities"], trained["images"]) == (4, 16)
    assert len(trained["history"]) == 2
    (name,) = trained["verification"]
    found = trained["verification"][name]
    assert name == "pairs"
    assert found["pairs"] == 20
    assert len(found["thresholds"]) == 10
    assert [row[0] for row in found["tar"]] == [0.1, 0.01, 0.001]
    assert 0 <= found["accuracy"] <= 1
    assert trained["proxy_accuracy"] in [i / 8 for i in range(9)]
    assert trained["parameters"] == sum(p.numel() for p in build(settings()).parameters())


def test_the_same_settings_give_the_same_run_and_a_killed_one_goes_on(trained, data, tmp_path, monkeypatch):
    whole = Loop.run_epoch
    monkeypatch.setattr(Loop, "run_epoch", lambda loop: whole(loop) if loop.epoch < 1 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train_faces(settings(), data, tmp_path, "cpu")
    assert checkpoint.load(tmp_path / "checkpoint.pt")["epoch"] == 1
    monkeypatch.setattr(Loop, "run_epoch", whole)
    again = train_faces(settings(), data, tmp_path, "cpu")
    assert without_seconds(again) == without_seconds(trained)


def test_batches_decoded_each_time_give_the_same_run(trained, data, tmp_path, monkeypatch):
    monkeypatch.setattr("papers_lib.nar.faces.RESIDENT", 0)
    assert without_seconds(train_faces(settings(), data, tmp_path, "cpu")) == without_seconds(trained)


def test_the_checkpoint_of_another_vector_is_passed_over(data, tmp_path, capsys):
    train_faces(settings(epochs=1), data, tmp_path, "cpu")
    other = train_faces(settings(epochs=1, vector=(3,) * 24), data, tmp_path, "cpu")
    assert "not of this loop" in capsys.readouterr().out
    assert len(other["history"]) == 1
    assert other["parameters"] < build(settings()).fc1.weight.numel() + sum(
        p.numel() for p in build(settings()).parameters()
    )


@pytest.mark.parametrize(
    "changes", [{"network": None}, {"head": {}}, {"optimiser": {}}, {"epoch": "1"}, {"history": []}]
)
def test_a_checkpoint_that_does_not_fit_is_a_fresh_start(trained, data, tmp_path, capsys, changes):
    train_faces(settings(), data, tmp_path, "cpu")
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, checkpoint.load(path) | changes)
    again = train_faces(settings(), data, tmp_path, "cpu")
    assert "not of this loop" in capsys.readouterr().out
    assert without_seconds(again) == without_seconds(trained)


def test_a_network_for_each_size_and_the_papers_own():
    for size in (16, 24, 32):
        network = build(settings(image_size=size)).eval()
        with torch.no_grad():
            assert network(torch.zeros(1, 3, size, size)).shape == (1, 8)
    assert build(settings(image_size=112)).fc1.in_features == 16 * 7 * 7


def test_held_out_images_are_never_trained_on_and_every_identity_has_both():
    labels = np.repeat(np.arange(6), [9, 3, 8, 8, 2, 10])
    chosen = choose(labels, settings(identities=3, shots=8))
    assert len(chosen) == 3
    for group in chosen:
        assert len(group) == len(set(group.tolist())) == 8
        assert len(set(labels[group].tolist())) == 1
    whole = choose(labels, settings(identities=0, shots=0, held_out=2))
    assert sorted(len(group) for group in whole) == [3, 8, 8, 9, 10]  # two images leave none to train on
    same = choose(labels, settings(identities=3, shots=8))
    assert all(np.array_equal(a, b) for a, b in zip(chosen, same, strict=True))
    others = choose(labels, settings(identities=3, shots=8, seed=1))
    assert any(not np.array_equal(a, b) for a, b in zip(chosen, others, strict=True))


def test_the_rate_restarts_at_10_30_70_and_ends_at_150():
    paper = FaceSettings()
    for start in (0, 10, 30, 70, 150):
        assert sgdr(start, paper) == pytest.approx(0.1)
    for end in (10, 30, 70, 150):
        assert sgdr(end - 1e-6, paper) == pytest.approx(1e-4, abs=1e-8)
    assert sgdr(20, paper) == pytest.approx((0.1 + 1e-4) / 2)
    assert paper.epochs == 150


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"identities": 6}, "5 identities have 6 images or more, 6 are asked for"),
        ({"shots": 7}, "0 identities have 7 images or more"),
        ({"batch_size": 17}, "a batch of 17 is more than the 16 training images"),
        ({"vector": (0,) * 23}, "too short"),
        ({"vector": (0,) * 23 + (9,)}, "no operator"),
    ],
)
def test_settings_that_the_data_cannot_serve_are_one_line(changed, says, data, tmp_path):
    with pytest.raises(PapersError, match=says) as caught:
        train_faces(settings(**changed), data, tmp_path, "cpu")
    assert "\n" not in str(caught.value)


def test_pairs_alone_cannot_be_trained_on(data, tmp_path):
    with pytest.raises(PapersError, match="lfw has only pairs"):
        train_faces(settings(), (data[0], "lfw"), tmp_path, "cpu")


def test_a_loss_that_runs_away_is_told(data, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(Loop, "_step", lambda *_: torch.tensor([float("nan"), 0.0]))
    with pytest.raises(FloatingPointError, match="lower lr"):
        train_faces(settings(), data, tmp_path, "cpu")
