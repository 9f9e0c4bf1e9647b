"""Device, seed, threads and precision. `test_arrays.py` holds what `exact` keeps of every function."""

import os

import pytest
import torch

from papers_lib import compute
from papers_lib.errors import PapersError


@pytest.mark.parametrize("there", [True, False])
def test_auto_takes_the_gpu_that_is_there_and_cuda_needs_one(monkeypatch, there):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert compute.device() == compute.device("auto") == torch.device("cuda" if there else "cpu")
    assert compute.device("cpu") == torch.device("cpu")
    if there:
        assert compute.device("cuda") == torch.device("cuda")
    else:
        with pytest.raises(PapersError, match="use device=cpu"):
            compute.device("cuda")


@pytest.mark.parametrize("seed", [0, 3])
def test_a_seed_gives_its_numbers_and_repeatable_kernels(monkeypatch, seed):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    compute.prepare(seed)
    assert torch.equal(torch.rand(4), torch.rand(4, generator=torch.Generator().manual_seed(seed)))
    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic) == (False, True)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        *[(text, 1) for text in ("1", " 1 ", "1,2", "1(x3),4", "+1", "1.0")],
        ("2", 2),
        ("3,1", 3),
        ("9" * 6000, 4),
        *[(text, None) for text in ("", " ", "0", "00", "-1", "abc", "auto", ",4")],
    ],
)
def test_any_spelling_of_the_number_of_threads_is_taken(text, count, monkeypatch):
    """OpenMP's lists, SLURM's, and what a shell leaves of a variable that is not set."""
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert compute.threads(text) == count
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    try:
        compute.prepare(0)
        assert torch.get_num_threads() == (count or before)
    finally:
        torch.set_num_threads(before)


def test_one_thread_where_the_processors_cannot_be_counted(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert compute.threads("8") == 1


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_autocast_runs_the_network_in_the_precision_asked_for(precision, dtype):
    with compute.autocast(torch.device("cpu"), precision):
        assert torch.nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == dtype


def test_place_keeps_weights_channels_last():
    layer = compute.place(torch.nn.Conv2d(3, 4, 3), torch.device("cpu"))
    assert layer.weight.is_contiguous(memory_format=torch.channels_last)


def test_exact_is_open_until_the_last_one_leaves_and_may_keep_gradients():
    weight = torch.ones(2, requires_grad=True)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast("cpu", torch.bfloat16), torch.device("meta"):
            with compute.exact(gradients=True):
                with compute.exact():
                    assert not (weight * 2).requires_grad
                assert (weight * 2).requires_grad
                made = torch.zeros(2, 2)
                assert (made.dtype, made.device.type) == (torch.float32, "cpu")
                assert (made @ made).dtype == torch.float32
            assert torch.zeros(1).device.type == "meta" and torch.is_autocast_enabled("cpu")
        assert torch.zeros(1).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
