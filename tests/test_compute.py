import os

import pytest
import torch

from papers_lib import compute
from papers_lib.errors import PapersError


def test_auto_takes_what_is_there():
    assert compute.device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_cuda_without_a_gpu_is_one_line():
    with pytest.raises(PapersError, match="use device=cpu"):
        compute.device("cuda")


def test_the_same_seed_gives_the_same_numbers():
    compute.prepare(3)
    first = torch.rand(4)
    compute.prepare(3)
    assert torch.equal(first, torch.rand(4))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1", 1),
        (" 1 ", 1),
        ("1,2", 1),
        ("1(x3),4", 1),
        ("+1", 1),
        ("1.0", 1),
        ("9" * 6000, os.cpu_count()),
        ("", None),
        (" ", None),
        ("0", None),
        ("00", None),
        ("-1", None),
        ("abc", None),
        ("auto", None),
        (",4", None),
    ],
)
def test_any_spelling_of_the_number_of_threads_is_taken(text, count, monkeypatch):
    """OpenMP's lists, SLURM's, and what a shell leaves of a variable that is not set."""
    assert compute.threads(text) == count
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    try:
        compute.prepare(0)
        assert torch.get_num_threads() == (count or before)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_autocast_runs_the_network_in_the_precision_asked_for(precision, dtype):
    with compute.autocast(torch.device("cpu"), precision):
        assert torch.nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == dtype


def test_place_keeps_weights_channels_last():
    layer = compute.place(torch.nn.Conv2d(3, 4, 3), torch.device("cpu"))
    assert layer.weight.is_contiguous(memory_format=torch.channels_last)
