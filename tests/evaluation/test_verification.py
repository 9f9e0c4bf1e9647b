"""Verification against plain loops: every threshold tried, every impostor counted."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from papers_lib.errors import PapersError
from papers_lib.evaluation import verification
from papers_lib.evaluation.verification import (
    best_of_grid,
    best_threshold,
    equal_error,
    face_distances,
    face_embeddings,
    tar_at_far,
    ten_fold,
)


def world(seed: int, pairs: int = 60, levels: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Distances and answers; on `levels` values only, so that there are ties, where that is not 0."""
    rng = np.random.default_rng(seed)
    same = rng.random(pairs) < 0.5
    same[:2] = True, False
    d = np.clip(rng.normal(np.where(same, 0.9, 1.4), 0.4), 0, 4)
    return (np.round(d * levels) / levels if levels else d), same


def right(d: np.ndarray, same: np.ndarray, threshold: float) -> int:
    return sum((x < threshold) == bool(y) for x, y in zip(d, same, strict=True))


def every_threshold(d: np.ndarray) -> list[float]:
    """One in each gap of the distances, and outside of them."""
    values = sorted({*d.tolist()})
    middles = [(a + b) / 2 for a, b in pairwise(values)]
    return [values[0] - 1, *middles, values[-1] + 1]


@pytest.mark.parametrize("levels", [0, 3, 20])
@pytest.mark.parametrize("seed", range(8))
def test_no_threshold_does_better_and_no_smaller_one_as_well(seed, levels):
    d, same = world(seed, 40, levels)
    order = np.argsort(d)
    found = best_threshold(d[order], same[order])
    scores = [right(d, same, t) for t in every_threshold(d)]
    assert right(d, same, found) == max(scores)
    first = every_threshold(d)[int(np.argmax(scores))]
    assert all((x < found) == (x < first) for x in d)


@pytest.mark.parametrize("levels", [0, 3])
@pytest.mark.parametrize("seed", range(4))
def test_a_grid_is_tried_from_below(seed, levels):
    d, same = world(seed, 40, levels)
    order = np.argsort(d)
    tried = [i * 0.25 for i in range(16)]
    scores = [right(d, same, t) for t in tried]
    assert best_of_grid(d[order], same[order], 0.25) == tried[int(np.argmax(scores))]
    folds = ten_fold(d, same, folds=4, grid=0.25)
    parts = np.split(np.arange(40), 4)
    for k, part in enumerate(parts):
        others = np.setdiff1d(np.arange(40), part)
        best = tried[int(np.argmax([right(d[others], same[others], t) for t in tried]))]
        assert folds["thresholds"][k] == best
        assert folds["accuracies"][k] == right(d[part], same[part], best) / 10
    with pytest.raises(PapersError, match="grid of 4"):
        ten_fold(d, same, grid=4.0)


def test_equal_error_by_hand_and_area_by_every_couple():
    # below 4 one of four impostors is accepted (2), and one of four genuine pairs refused (7)
    d, same = np.array([1.0, 2, 3, 4, 3.5, 6, 7, 8]), np.array([1, 0, 1, 0, 1, 0, 1, 0], bool)
    assert equal_error(d, same)[0] == pytest.approx(0.25)
    # between two thresholds: FAR 0 → 1/2 while FRR 1/3 → 1/3, so the line meets 1/3
    d, same = np.array([1.0, 1.5, 2, 3, 4]), np.array([1, 1, 0, 0, 1], bool)
    assert equal_error(d, same)[0] == pytest.approx(1 / 3)
    assert equal_error(np.array([0.1, 0.2]), np.array([True, False])) == (0, 1)
    assert equal_error(np.array([0.2, 0.1]), np.array([True, False])) == (1, 0)
    assert equal_error(np.array([0.5, 0.5]), np.array([True, False])) == (0.5, 0.5)
    for seed in range(4):
        d, same = world(seed, 50, levels=5)
        couples = [(x < y) + (x == y) / 2 for x in d[same] for y in d[~same]]
        assert equal_error(d, same)[1] == pytest.approx(np.mean(couples))


def test_thresholds_at_the_ends():
    ascending = np.array([0.1, 0.2, 0.3])
    assert best_threshold(ascending, np.array([False, False, False])) == 0.1  # nothing is below it
    assert best_threshold(ascending, np.array([True, True, True])) > 0.3
    neighbours = np.array([1.0, np.nextafter(1.0, 2)])
    t = best_threshold(neighbours, np.array([True, False]))
    assert 1.0 < t <= neighbours[1]


@pytest.mark.parametrize("levels", [0, 10])
def test_ten_folds_as_a_loop_over_all_thresholds(levels):
    d, same = world(3, 80, levels)
    found = ten_fold(d, same)
    accuracies = []
    for k in range(10):
        test = np.arange(80) // 8 == k
        candidates = every_threshold(d[~test])
        best = max(candidates, key=lambda t: right(d[~test], same[~test], t))
        accuracies.append(right(d[test], same[test], best) / 8)
    assert found["accuracies"] == pytest.approx(accuracies)
    assert found["accuracy"] == pytest.approx(np.mean(accuracies))
    assert found["sd"] == pytest.approx(np.std(accuracies))
    assert len(found["thresholds"]) == 10
    assert found["tar"] == tar_at_far(d, same)


@pytest.mark.parametrize("levels", [0, 6])
@pytest.mark.parametrize("far", [0.0, 0.001, 0.1, 0.25, 0.5, 1.0])
def test_tar_at_far_as_a_loop(far, levels):
    d, same = world(5, 200, levels)
    (rate,) = tar_at_far(d, same, (far,))
    impostors = d[~same]
    # the highest of all thresholds that accepts no more impostors than allowed
    best = max(t for t in every_threshold(d) if (impostors < t).mean() <= far + 1e-12)
    assert rate.reached == pytest.approx((impostors < best).mean())
    assert rate.reached <= far
    assert np.array_equal(d < rate.threshold, d < best)
    assert rate.tar == pytest.approx((d[same] < best).mean())


def test_three_of_3000_impostors_are_allowed_at_a_thousandth():
    d = np.concatenate([np.linspace(0.5, 2, 3000), np.full(3000, 0.5005)])
    same = np.arange(6000) >= 3000
    (rate,) = tar_at_far(d, same, (0.001,))
    assert rate.reached == 3 / 3000
    assert rate.tar == 1


def test_tensors_are_taken_also_of_half_the_bits():
    d, same = world(2)
    assert ten_fold(torch.from_numpy(d), torch.from_numpy(same)) == ten_fold(d, same.astype(int))
    assert ten_fold(d, same, 10.0) == ten_fold(d, same, np.int64(10)) == ten_fold(d, same)
    for kind in (torch.bfloat16, torch.float16):
        halves = torch.from_numpy(d).to(kind)
        assert ten_fold(halves, torch.from_numpy(same).to(kind)) == ten_fold(halves.double().numpy(), same)


def test_a_rate_is_a_number_or_a_list_of_numbers():
    d, same = world(0)
    assert tar_at_far(d, same, 0.1) == tar_at_far(d, same, np.array([0.1])) == tar_at_far(d, same, [0.1])


def test_distances_of_normalised_embeddings():
    a, b = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    found = face_distances(3 * a, b)
    for x, y, d in zip(a, b, found, strict=True):
        cosine = float(x @ y / x.norm() / y.norm())
        assert d == pytest.approx(2 - 2 * cosine, abs=1e-5)


class Left(nn.Module):
    """An embedding that sees the left half, and remembers what it was given."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert not self.training
        assert images.min() >= -1 and images.max() <= 1
        half = images[:, :, :, : images.shape[3] // 2]
        return torch.cat([half.mean((2, 3)), torch.ones(len(images), 1)], 1)


def test_an_image_and_its_mirror_are_embedded_and_added():
    images = (torch.arange(360) * 37 % 256).to(torch.uint8).view(5, 3, 4, 6)
    network = Left()
    found = face_embeddings(network, images, batch_size=2)
    assert network.training
    whole = (images.float() - 127.5) / 127.5
    expected = torch.cat([2 * whole.mean((2, 3)), torch.full((5, 1), 2.0)], 1)
    assert torch.allclose(found, expected / expected.norm(dim=1, keepdim=True), atol=1e-6)
    assert torch.allclose(found, face_embeddings(network, images.flip(3)), atol=1e-6)
    assert verification.scaled(torch.tensor([[[[0, 255]]]], dtype=torch.uint8)).flatten().tolist() == [-1, 1]
