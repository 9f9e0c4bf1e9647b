"""Checkpoints are whole or absent, and never run code."""

import errno
import hashlib
import io
import os
import pickle
import random

import pytest
import torch
from hypothesis import given
from mutations import damaged, fuzz

from papers_lib import checkpoint
from papers_lib.errors import PapersError, fault_of_the_machine
from papers_lib.files import PlaceError


class Malicious:
    """Makes the folder `marker` when it is unpickled."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def refused(path, content, capsys, why=""):
    """`content` is no weights, and as a checkpoint it is moved aside; each says so in one line."""
    path.write_bytes(content)
    with pytest.raises(PapersError, match="refused") as caught:
        checkpoint.load_weights(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    assert checkpoint.load(path) is None and not path.exists()
    assert path.with_name(path.name + ".corrupt").read_bytes() == content
    [line] = capsys.readouterr().err.splitlines()
    assert "starting afresh" in line and why in line


def torch_bytes(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def test_round_trip_and_files_that_torch_and_we_read_of_each_other(tmp_path):
    path = tmp_path / "run of Zoë" / "checkpoint.pt"
    state = {"model": {"w": torch.arange(6.0).view(2, 3)}, "epoch": 3, "rng": torch.get_rng_state()}
    assert checkpoint.load(path) is None
    checkpoint.save(path, state)
    checkpoint.save(path, {**state, "epoch": 4})
    assert list(path.parent.iterdir()) == [path]
    (tmp_path / "theirs.pt").write_bytes(torch_bytes({**state, "epoch": 4}))
    theirs = checkpoint.load_weights(tmp_path / "theirs.pt")
    for loaded in (checkpoint.load(path), checkpoint.load_weights(path), theirs, torch.load(path)):
        assert same(loaded, {**state, "epoch": 4})
    assert checkpoint.load(tmp_path / "theirs.pt") is None  # a run resumes from what it signed


@pytest.mark.parametrize("write", [pickle.dumps, torch_bytes])
def test_a_malicious_pickle_is_never_executed(tmp_path, capsys, recwarn, write):
    marker = tmp_path / "executed"
    refused(tmp_path / "checkpoint.pt", write({"model": Malicious(marker)}), capsys)
    with_digest(tmp_path / "signed.pt", write({"model": Malicious(marker)}))
    assert checkpoint.load(tmp_path / "signed.pt") is None
    assert not marker.exists() and len(recwarn) == 0  # torch warns of a plain pickle: we say it in our line


def test_cut_anywhere_it_is_moved_aside(tmp_path, capsys):
    """Cut in its middle, a zip makes torch seek before its beginning: an OSError that no disk raised."""
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"model": {f"w{i}": torch.randn(500) for i in range(20)}})
    whole = path.read_bytes()
    for size in (0, 1, 100, -1, -40, *(len(whole) * percent // 100 for percent in range(5, 100, 5))):
        refused(path, whole[:size], capsys)
    for other in (b"not a checkpoint", b"\x89PNG\r\n", b"\x80\x02]"):
        refused(path, other, capsys, "it has no digest")


def test_what_is_wrong_is_said_without_advice_to_load_it_all_the_same(tmp_path):
    for content, why in (
        (b"", "it is empty"),
        (b"no weights", "cut short, damaged or no file of torch"),
        (torch_bytes({"w": torch.ones(9)})[:200], "cut short, damaged or no file of torch"),
        (torch_bytes({"w": torch.nn.Linear(2, 2)}), "it holds more than tensors"),
        (torch_bytes(torch.zeros(3)), "holds a Tensor"),
    ):
        (tmp_path / "w.pt").write_bytes(content)
        with pytest.raises(PapersError, match=why) as caught:
            checkpoint.load_weights(tmp_path / "w.pt")
        assert "weights_only" not in str(caught.value)
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


def test_a_flipped_bit_is_noticed_wherever_it_is(tmp_path, capsys):
    path = tmp_path / "checkpoint.pt"
    state = {"epoch": 3, "net": {"w": torch.randn(40, 40)}}
    checkpoint.save(path, state)
    whole = path.read_bytes()
    mark = len(whole) - len(checkpoint.MARK) - 64
    chance = random.Random(0)
    for place in [0, mark - 1, mark + 4, len(whole) - 1, *(chance.randrange(mark) for _ in range(60))]:
        bent = bytearray(whole)
        bent[place] ^= 1 << chance.randrange(8)
        refused(path, bytes(bent), capsys, "its digest is another")
    whole = bytearray(whole)
    whole[mark] ^= 1  # without its mark it is a file of torch
    path.write_bytes(whole)
    assert same(checkpoint.load_weights(path), state) and checkpoint.load(path) is None


SAVED = torch_bytes({"net": {"w": torch.ones(3, 4)}, "opt": {"state": {0: torch.ones(3)}}, "epoch": 1})


@fuzz
@given(content=damaged(SAVED), ours=damaged(SAVED + checkpoint.MARK + b"0" * 64))
def test_a_damaged_file_is_passed_over_or_refused_in_one_line(tmp_path, content, ours):
    path = tmp_path / "checkpoint.pt"
    for raw in (content, ours):
        path.write_bytes(raw)
        assert checkpoint.load(path) is None and not path.exists()
        path.write_bytes(raw)
        try:
            checkpoint.load_weights(path)
        except PapersError as error:
            assert "\n" not in str(error)


def with_digest(path, content):
    """A file that has the right digest, so that torch gets to read it."""
    path.write_bytes(content + checkpoint.MARK + hashlib.sha256(content).hexdigest().encode())


@fuzz
@given(content=damaged(SAVED))
def test_whatever_torch_raises_is_passed_over(tmp_path, content):
    path = tmp_path / "checkpoint.pt"
    with_digest(path, content)
    try:
        found = checkpoint.load(path)
    except (MemoryError, RuntimeError) as error:  # a size that no machine has
        assert fault_of_the_machine(error)
    else:
        assert isinstance(found, dict) or not path.exists()


def test_too_little_memory_is_not_a_damaged_file(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"epoch": 1})

    def short(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", short)
        for load in (checkpoint.load, checkpoint.load_weights):
            with pytest.raises(RuntimeError, match="allocate"):
                load(path)
        torch.save({}, tmp_path / "theirs.pt")  # without a digest it may be the file that asks for too much
        with pytest.raises(PapersError, match="refused"):
            checkpoint.load_weights(tmp_path / "theirs.pt")
    assert checkpoint.load(path) == {"epoch": 1}


def test_a_checkpoint_that_cannot_be_read_is_moved_aside(tmp_path, capsys):
    (tmp_path / "checkpoint.pt").mkdir()
    assert checkpoint.load(tmp_path / "checkpoint.pt") is None
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt.corrupt"]
    assert "moved to" in capsys.readouterr().err


class Toy(checkpoint.Resumable):
    KEPT = ("epoch", "net", "optimiser", "schedule", "generator", "history")
    SAME = ("kind",)

    def __init__(self, seed=0):
        torch.manual_seed(seed)
        self.kind, self.epoch, self.history = "toy", 0, []
        self.net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
        self.optimiser = torch.optim.Adam(self.net.parameters())
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimiser, 0.1, total_steps=50)
        self.generator = torch.Generator().manual_seed(seed)

    def run(self, epochs):
        for _ in range(epochs):
            x = torch.randn(8, 3, generator=self.generator)
            self.optimiser.zero_grad()
            self.net(x).square().sum().backward()
            self.optimiser.step()
            self.schedule.step()
            self.epoch += 1
            self.history.append({"loss": self.epoch})
        return [p.detach().clone() for p in self.net.parameters()]


def same(one, two):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[k], two[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    return one == two


def test_a_loop_goes_on_as_if_nothing_had_happened(tmp_path):
    whole = Toy().run(6)
    first = Toy()
    first.run(3)
    checkpoint.save(tmp_path / "checkpoint.pt", first.state())
    second = Toy(seed=9)
    assert second.resume(checkpoint.load(tmp_path / "checkpoint.pt"))
    assert second.epoch == 3 and same(second.run(3), whole)
    assert not Toy().resume(None)


def shorten(part, name):
    """Cut a tensor of the state to its first row."""
    part[name] = part[name][:1].clone()


CHANGES = {
    "weight of another shape": lambda s: shorten(s["net"], "1.weight"),
    "weight of another type": lambda s: s["net"].update({"0.bias": s["net"]["0.bias"].double()}),
    "weight that is no tensor": lambda s: s["net"].update({"0.bias": "x"}),
    "weight missing": lambda s: s["net"].pop("1.running_mean"),
    "weight too many": lambda s: s["net"].update({"2.bias": torch.zeros(2)}),
    "moment of another shape": lambda s: shorten(s["optimiser"]["state"][0], "exp_avg"),
    "moments of no weight": lambda s: s["optimiser"]["state"].update({9: {"exp_avg": torch.zeros(3)}}),
    "groups missing": lambda s: s["optimiser"]["param_groups"].pop(),
    "rate that is no number": lambda s: s["optimiser"]["param_groups"][0].update({"lr": "fast"}),
    "schedule missing": lambda s: s["schedule"].pop("total_steps"),
    "schedule of another kind": lambda s: s.update({"schedule": []}),
    "generator cut": lambda s: shorten(s, "generator"),
    "epoch that is text": lambda s: s.update({"epoch": "3"}),
    "epoch that is past": lambda s: s.update({"epoch": 0}),
    "history cut": lambda s: s["history"].pop(),
    "history missing": lambda s: s.pop("history"),
    "one more": lambda s: s.update({"more": 1}),
    "another loop": lambda s: s.update({"kind": "tax"}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_state_that_does_not_fit_leaves_the_loop_as_it_was(change, capsys):
    other = Toy(seed=1)
    other.run(3)
    state = other.state()
    change(state)
    loop = Toy()
    before = Toy().state()
    assert not loop.resume(state)
    assert same(loop.state(), before) and "starts afresh" in capsys.readouterr().out
    assert same(loop.run(2), Toy().run(2))


def test_a_machine_without_memory_does_not_start_a_loop_afresh(monkeypatch):
    def short(state):
        raise torch.OutOfMemoryError("CUDA out of memory")

    loop = Toy()
    monkeypatch.setattr(loop.net, "load_state_dict", short)
    with pytest.raises(torch.OutOfMemoryError):
        loop.resume(Toy().state())


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (MemoryError(), True),
        (OSError(errno.ENOSPC, "full"), True),
        (OSError(errno.EMFILE, "many"), True),
        (OSError(errno.ENOENT, "none"), False),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: not enough memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("can't start new thread"), True),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("could not create a primitive descriptor for a convolution"), False),
        (RuntimeError("DataLoader worker (pid 3) is killed by signal: Killed."), True),
        (RuntimeError("DataLoader worker is killed by signal: Bus error. ... out of shared memory"), True),
        (ImportError("libx.so: failed to map segment from shared object"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_faults_of_the_machine(error, is_one):
    assert fault_of_the_machine(error) == is_one
