"""What is of faces alone: the choice of images, networks for other sizes, and what is read of pairs."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_nar import FACES, SEARCH_FACES, generator

from papers_lib import cli
from papers_lib.datasets import faces as sets
from papers_lib.errors import PapersError
from papers_lib.nar import training
from papers_lib.nar.faces import build, choose, proxy, train_faces, verify, verify_files
from papers_lib.nar.options import FaceSearchSettings, FaceSettings

SEARCH = SEARCH_FACES | {"kind": "search_faces"}


def settings(**changed: object) -> FaceSettings:
    return FaceSettings(**(FACES | {"epochs": 1} | changed))


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory) -> tuple[dict, Path]:
    """The result of a training, and the folder with its weights."""
    folder = tmp_path_factory.mktemp("trained")
    return train_faces(settings(), (str(root), "faces_own"), folder, "cpu"), folder


def test_what_is_read_and_batches_decoded_each_time_give_the_same(root, trained, tmp_path, monkeypatch):
    result = copy.deepcopy(trained[0])
    assert (result["identities"], result["images"], len(result["history"])) == (4, 16, 1)
    pairs = result["verification"]["pairs"]
    assert pairs["pairs"] == 20 and len(pairs["thresholds"]) == 10 and 0 <= pairs["accuracy"] <= 1
    assert [row[0] for row in pairs["tar"]] == [0.1, 0.01, 0.001]
    assert result["proxy_accuracy"] in [i / 8 for i in range(9)]
    assert result["parameters"] == sum(p.numel() for p in build(settings()).parameters())
    monkeypatch.setattr("papers_lib.nar.faces.RESIDENT", 0)
    again = train_faces(settings(), (str(root), "faces_own"), tmp_path, "cpu")
    for run in (result, again):
        del run["history"][0]["seconds"]
    assert again == result


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


def test_a_search_is_rewarded_by_images_that_no_weight_has_seen(root):
    images = proxy(FaceSearchSettings(**SEARCH), (str(root), "faces_own"), torch.device("cpu"))
    source = sets.load(root, "faces_own").train
    assert (len(images.training), len(images.validation), images.classes) == (16, 8, 4)
    assert not set(images.training.tolist()) & set(images.validation.tolist())
    assert np.bincount(images.train_labels[images.validation]).tolist() == [2] * 4  # of every identity
    pixels = source.pixels(range(30), 16)
    known = {image.tobytes(): int(who) for image, who in zip(pixels, source.labels, strict=True)}
    ours = [known[image.numpy().tobytes()] for image in images.train]  # an identity of theirs each
    assert len({*zip(ours, images.train_labels.tolist(), strict=True)}) == 4
    assert [len(part) for part in images.parts(0)] == [4, 2, 2] and len(images.parts(3).reward) == 2
    x, _ = images.plain(images.validation[:3])
    assert x.shape == (3, 3, 16, 16) and float(x.min()) >= -1 and float(x.max()) <= 1
    views, _ = images.views(images.validation[:3], generator(), augment=True)
    for view, plain in zip(views, x, strict=True):
        assert torch.equal(view, plain) or torch.equal(view, plain.flip(2))


@pytest.mark.parametrize("decisions", [24, 48])
def test_a_pick_is_trained_alone_and_its_control_has_as_many_replacements(root, tmp_path, decisions):
    data = (str(root), "faces_own")
    found = training.run(SEARCH | {"decisions": decisions}, data, tmp_path, "cpu")
    assert [len(found["choices"][name]) for name in ("pick", "argmax")] == [decisions] * 2
    for take in ("pick", "random_same"):
        alone = settings(take=take).model_dump(mode="json")
        result = training.run(alone, data, tmp_path / take, "cpu", needed=found)
        assert (result["vector"] == found["choices"]["pick"]) == (take == "pick")
        assert sum(map(bool, result["vector"])) == sum(map(bool, found["choices"]["pick"]))


def test_weights_that_a_run_leaves_verify_as_it_did(root, trained):
    result, folder = trained
    again = verify_files(root / "faces_own", folder / "weights.pt", "cpu")
    assert again == result["verification"]
    floor = again["pairs"]["floor"]
    raw = sets.load(root, "faces_own").tests["pairs"]
    pixels = sets.load_images(raw, 16).astype(float).reshape(len(raw.images), 16, 16, 3) / 127.5 - 1
    both = (pixels + pixels[:, :, ::-1]).reshape(len(pixels), -1)
    both /= np.linalg.norm(both, axis=1, keepdims=True)
    d = ((both[raw.first] - both[raw.second]) ** 2).sum(1)
    nearer = [np.mean([(x < y) + (x == y) / 2 for y in d[~raw.same]]) for x in d[raw.same]]
    assert floor["auc"] == pytest.approx(np.mean(nearer), abs=1e-6)  # raw pixels, by every couple of pairs


def test_the_command_shows_a_network_beside_raw_pixels(root, trained, tmp_path, capsys):
    result = trained[0]["verification"]["pairs"]
    command = ["verify", str(root / "faces_own"), "--weights", str(trained[1] / "weights.pt")]
    assert cli.main([*command, "--device", "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"pairs": result}
    assert cli.main([*command, "--device", "cpu", "--threshold-grid"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "pairs: 20 pairs" and len(lines) == 3
    for line, scores in zip(lines[1:], (result, result["floor"]), strict=True):
        assert f"accuracy {100 * scores['accuracy']:.2f} ± {100 * scores['sd']:.2f} %" in line
        assert f"grid of 0.01 {100 * scores['grid']['accuracy']:.2f}" in line
        assert f"EER {100 * scores['eer']:.2f} %" in line and f"AUC {100 * scores['auc']:.2f} %" in line
    assert cli.main(["verify", str(tmp_path / "none.txt"), *command[2:]]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "none.txt is no file" in said.err


def test_a_wrong_size_and_wrong_weights_are_one_line(root, tmp_path):
    tests = sets.load(root, "faces_own").tests
    with pytest.raises(PapersError, match="takes no faces of 32 pixels") as error:
        verify(build(settings()), tests, 32, torch.device("cpu"))
    assert "\n" not in str(error.value)
    torch.save({"conv0.weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(PapersError, match="is no weights"):
        verify_files(root / "faces_own", tmp_path / "other.pt", "cpu")


def test_pairs_alone_cannot_be_trained_on(root, tmp_path):
    with pytest.raises(PapersError, match="lfw has only pairs"):
        train_faces(settings(), (str(root), "lfw"), tmp_path, "cpu")
