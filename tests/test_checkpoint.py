"""Checkpoints are whole or absent, and never run code."""

import errno
import os
import pickle

import pytest
import torch

from papers_lib import checkpoint
from papers_lib.errors import PapersError
from papers_lib.files import PlaceError


class Malicious:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def malicious(path, marker, kind):
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"model": Malicious(str(marker))}))
    else:
        torch.save({"model": Malicious(str(marker))}, path)


def test_round_trip(tmp_path):
    path = tmp_path / "run of Zoë" / "checkpoint.pt"
    state = {"model": {"w": torch.arange(6.0).view(2, 3)}, "epoch": 3, "rng": torch.get_rng_state()}
    checkpoint.save(path, state)
    checkpoint.save(path, {**state, "epoch": 4})
    loaded = checkpoint.load(path)
    assert loaded["epoch"] == 4 and torch.equal(loaded["model"]["w"], state["model"]["w"])
    assert checkpoint.load_weights(path)["epoch"] == 4
    assert list(path.parent.iterdir()) == [path]


def test_none_where_there_is_none(tmp_path):
    assert checkpoint.load(tmp_path / "checkpoint.pt") is None


@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_a_malicious_pickle_is_never_executed(tmp_path, capsys, kind):
    path, marker = tmp_path / "checkpoint.pt", tmp_path / "executed"
    malicious(path, marker, kind)
    with pytest.raises(PapersError, match="refused") as caught:
        checkpoint.load_weights(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    assert checkpoint.load(path) is None
    assert not marker.exists() and not path.exists()
    assert (tmp_path / "checkpoint.pt.corrupt").exists()
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("size", [0, 1, 100, -1, -40])
def test_truncated_is_moved_aside(tmp_path, capsys, size):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"w": torch.zeros(100)})
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(PapersError, match="refused"):
        checkpoint.load_weights(path)
    assert checkpoint.load(path) is None
    assert "starting afresh" in capsys.readouterr().err
    assert path.with_name("checkpoint.pt.corrupt").exists()


def test_any_length_of_a_large_one_is_moved_aside(tmp_path):
    """Cut in its middle, a zip makes torch seek before its beginning: an OSError that no disk raised."""
    path = tmp_path / "checkpoint.pt"
    torch.save({"model": {f"w{i}": torch.randn(500) for i in range(20)}}, path)
    content = path.read_bytes()
    for percent in range(5, 100, 5):
        path.write_bytes(content[: len(content) * percent // 100])
        assert checkpoint.load(path) is None and not path.exists(), percent
        path.write_bytes(content[: len(content) * percent // 100])
        with pytest.raises(PapersError, match="refused"):
            checkpoint.load_weights(path)


@pytest.mark.parametrize("content", [b"not a checkpoint", b"\x89PNG\r\n", b"\x80\x02]"])
def test_other_files(tmp_path, content):
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    with pytest.raises(PapersError, match=r"weights\.pt refused"):
        checkpoint.load_weights(path)


def test_tensor_alone_or_no_file_are_no_weights(tmp_path):
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    with pytest.raises(PapersError, match="holds a Tensor"):
        checkpoint.load_weights(tmp_path / "tensor.pt")
    for path in (tmp_path / "absent.pt", tmp_path):
        with pytest.raises(PapersError, match="cannot read weights"):
            checkpoint.load_weights(path)


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"epoch": 1})

    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.write_bytes", full)
        with pytest.raises(PlaceError, match="no room left"):
            checkpoint.save(path, {"epoch": 2})
    assert checkpoint.load(path) == {"epoch": 1} and list(tmp_path.iterdir()) == [path]
