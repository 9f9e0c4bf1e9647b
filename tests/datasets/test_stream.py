"""Batches that workers read ahead, and images that are mapped: the same whoever reads them, and how many."""

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from papers_lib.datasets import images
from papers_lib.datasets.images import decoded, middle_square, whole
from papers_lib.datasets.stream import Stream, chunks, random_of, resident, take
from papers_lib.errors import PapersError

CPU = torch.device("cpu")


def drawn(keys):
    """A random number for each epoch and image, and the process that drew it."""
    return torch.stack([torch.rand((), generator=random_of(7, *key)) for key in keys]), os.getpid()


def broken(keys):
    if 3 in keys:
        raise PapersError("c.jpg is not a whole image (cut); restore it")
    return torch.tensor(keys)


def read(batches, workers):
    """What each image drew, and the processes that did."""
    found, processes = {}, set()
    for keys, (numbers, process) in zip(batches, Stream(drawn, CPU, count=workers)(batches), strict=True):
        found |= dict(zip(keys, numbers.tolist(), strict=True))
        processes.add(process)
    return found, processes


def test_neither_order_batches_workers_nor_processes_change_what_an_image_draws():
    keys = [(epoch, image) for epoch in range(2) for image in range(12)]
    one, here = read([keys[at : at + 4] for at in range(0, 24, 4)], workers=0)
    assert here == {os.getpid()}
    mixed = np.random.default_rng(0).permutation(24).tolist()
    two, there = read([[keys[i] for i in mixed[at : at + 3]] for at in range(0, 24, 3)], workers=2)
    assert two == one and len(there) == 2 and os.getpid() not in there
    assert len(set(one.values())) == 24  # another number for each epoch and image
    first, second = read([keys[::2]], 0)[0], read([keys[1::2]], 0)[0]  # as two processes share them
    assert first | second == one


def test_a_stream_takes_no_number_from_torchs_own():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    for workers in (0, 1):
        list(Stream(drawn, CPU, count=workers)([[(0, 0)]]))
    assert torch.equal(torch.rand(3), expected)


def test_workers_stay_and_a_pass_that_was_left_does_no_harm():
    kept = Stream(drawn, CPU, count=1)
    batches = [[(0, i)] for i in range(6)]
    _, first = next(kept(batches))
    passes = [[float(numbers[0]) for numbers, _ in kept(batches)] for _ in range(2)]
    assert passes[0] == passes[1] == list(read(batches, 0)[0].values())
    assert {process for _, process in kept(batches)} == {first}
    assert kept.waited > 0


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_worker_refuses_is_one_line(workers):
    got = []
    with pytest.raises(PapersError, match=r"^c\.jpg is not a whole image \(cut\); restore it$"):
        for batch in Stream(broken, CPU, count=workers)([[0, 1], [2, 3]]):
            got.append(batch.tolist())
    assert got == [[0, 1]]


def test_rows_and_chunks_are_those_of_the_pixels_wherever_they_lie():
    pixels = np.arange(24, dtype=np.uint8).reshape(6, 4)
    held = resident(pixels, CPU)
    assert held.data_ptr() == pixels.ctypes.data  # a map is not copied
    assert torch.equal(take(held, torch.tensor([5, 0]), CPU), torch.from_numpy(pixels[[5, 0]]))
    assert torch.equal(torch.cat(list(chunks(held, 4, CPU))), held)


# -- images --


def numbered(i):
    return np.full((2, 3, 3), i, dtype=np.uint8)


def map_them(keep, answers):
    done = []
    pixels = decoded(40, lambda i: done.append(i) or numbered(i), (2, 3), Path(keep))
    answers.put((len(done), pixels[:, 0, 0, 0].tolist()))


def test_processes_share_a_map_that_one_of_them_writes(tmp_path):
    keep = tmp_path / ".decoded" / "train-1-2x3.npy"
    answers = multiprocessing.Queue()
    processes = [multiprocessing.Process(target=map_them, args=(str(keep), answers)) for _ in range(3)]
    for process in processes:
        process.start()
    found = [answers.get(timeout=60) for _ in processes]
    assert sorted(count for count, _ in found) == [0, 0, 40]
    assert all(pixels == list(range(40)) for _, pixels in found)
    mapped = decoded(40, numbered, (2, 3), keep)
    assert isinstance(mapped, np.memmap)
    mapped[0] = 99  # a copy of its own
    assert decoded(40, numbered, (2, 3), keep)[0, 0, 0, 0] == 0


def test_a_map_goes_with_its_state_and_stays_without_room(tmp_path, monkeypatch):
    folder = tmp_path / ".decoded"
    for state in ("1", "2"):
        decoded(4, numbered, (2, 3), folder / f"train-{state}-2x3.npy")
    decoded(4, numbered, (2, 3), folder / "query-1-2x3.npy")
    assert sorted(path.name for path in folder.glob("*.npy")) == ["query-1-2x3.npy", "train-2-2x3.npy"]
    monkeypatch.setattr(images.shutil, "disk_usage", lambda place: type("", (), {"free": 100}))
    assert (decoded(4, numbered, (2, 3), folder / "train-3-2x3.npy")[3] == 3).all()
    assert not (folder / "train-3-2x3.npy").exists()


def test_parts_are_cut_from_the_whole_photograph_at_a_reduced_size(tmp_path):
    """A ramp to the right: the mean of a part is that of its columns, at any size and after any reduction."""
    ramp = np.tile(np.linspace(0, 255, 800), (400, 1)).astype(np.uint8)
    Image.fromarray(ramp).save(tmp_path / "a.jpg", quality=95)
    boxes = [(0, 0, 800, 400), (600, 100, 800, 200), (400.5, 0, 500.5, 400)]
    with images.open_image(tmp_path / "a.jpg") as image:
        large = images.cut(image, boxes, (8, 16))
        assert image.size == (200, 100)  # of eighths and quarters, what leaves each part at least 16 x 8
    for (left, _, right, _), part in zip(boxes, large, strict=True):
        assert part.shape == (8, 16, 3)
        expected = 255 / 799 * (np.linspace(left, right, 17)[:-1] + (right - left) / 32 - 0.5)
        assert np.abs(part[4, :, 0] - expected).max() < 3
    assert whole(8, 4) == (0, 0, 8, 4) and middle_square(8, 4) == (2, 0, 6, 4)


def test_the_share_of_the_processors_is_told_or_divided(monkeypatch):
    monkeypatch.setenv("PAPERS_WORKERS", "5")
    assert images.workers() == 5
    monkeypatch.delenv("PAPERS_WORKERS")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(12)))
    assert images.workers() == 12
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert images.workers() == 1
