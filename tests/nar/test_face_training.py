"""What is of faces alone: the choice of images, networks for other sizes, and what is read of pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from data_prep import faces as prep
from papers_lib.errors import PapersError
from papers_lib.nar.faces import build, choose, train_faces
from papers_lib.nar.options import FaceSettings

SMALL = {
    "image_size": 16,
    "identities": 4,
    "shots": 6,
    "held_out": 2,
    "width": 2,
    "embedding": 8,
    "scale": 8.0,
    "margin": 0.1,
    "epochs": 1,
    "batch_size": 8,
    "precision": "float32",
}


def settings(**changed: object) -> FaceSettings:
    return FaceSettings(**(SMALL | changed))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("faces")
    recipe = {"identities": "5", "shots": "6", "pairs": "1", "pixels": "16"}
    for name in ("faces_own", "lfw"):
        (root / name).mkdir()
        prep.STAND_INS[name].make(root / name, "smoke", recipe)
    return str(root)


def test_what_is_read_and_batches_decoded_each_time_give_the_same(root, tmp_path, monkeypatch):
    result = train_faces(settings(), (root, "faces_own"), tmp_path / "a", "cpu")
    assert (result["identities"], result["images"], len(result["history"])) == (4, 16, 1)
    pairs = result["verification"]["pairs"]
    assert pairs["pairs"] == 20 and len(pairs["thresholds"]) == 10 and 0 <= pairs["accuracy"] <= 1
    assert [row[0] for row in pairs["tar"]] == [0.1, 0.01, 0.001]
    assert result["proxy_accuracy"] in [i / 8 for i in range(9)]
    assert result["parameters"] == sum(p.numel() for p in build(settings()).parameters())
    monkeypatch.setattr("papers_lib.nar.faces.RESIDENT", 0)
    again = train_faces(settings(), (root, "faces_own"), tmp_path / "b", "cpu")
    for run in (result, again):
        del run["history"][0]["seconds"]
    assert again == result


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


def test_pairs_alone_cannot_be_trained_on(root, tmp_path):
    with pytest.raises(PapersError, match="lfw has only pairs"):
        train_faces(settings(), (root, "lfw"), tmp_path, "cpu")
