"""Loss and memory against loops over the samples and Python numbers: value, gradient, memory."""

import math

import pytest
import torch
import torch.nn.functional as F

from papers_lib.errors import PapersError
from papers_lib.sampler_study.losses import camera_aware_loss, proxy_means, update_memory

TAU = 0.09


def world(proxies=27, clusters=9, cameras=4, batch=12, d=8, seed=0, dtype=torch.float64):
    """A memory whose proxies share clusters and cameras, and a batch in which proxies repeat."""
    generator = torch.Generator().manual_seed(seed)
    memory = F.normalize(torch.randn(proxies, d, generator=generator, dtype=torch.float64)).to(dtype)
    features = F.normalize(torch.randn(batch, d, generator=generator, dtype=torch.float64)).to(dtype)
    targets = torch.randint(proxies, (batch,), generator=generator)
    proxy_clusters = torch.randint(clusters, (proxies,), generator=generator)
    proxy_cameras = torch.randint(cameras, (proxies,), generator=generator)
    return features.requires_grad_(), targets, memory, proxy_clusters, proxy_cameras


def log_sum_exp(values):
    most = max(v.item() for v in values)
    return most + torch.stack([(v - most).exp() for v in values]).sum().log()


def slow(
    features, targets, memory, clusters, cameras, *, weighting="per_camera", hard=50,
    intra=True, inter_weight=0.5, positives_twice=False,
):  # fmt: skip
    """One sample and one proxy at a time. `positives_twice` is what CAP's public code does: positives
    are pushed to the end of the ranking, but still taken where negatives run out."""
    by_camera = {}
    everything = range(len(memory))
    for f, y in zip(features, targets.tolist(), strict=True):
        logits = [(f * memory[p]).sum() / TAU for p in everything]
        loss = 0.0
        if intra:
            loss = log_sum_exp([logits[p] for p in everything if cameras[p] == cameras[y]]) - logits[y]
        positives = [p for p in everything if clusters[p] == clusters[y]]
        ranked = [p for p in everything if clusters[p] != clusters[y]]
        ranked.sort(key=lambda p: -logits[p].item())
        if positives_twice:
            ranked += positives
        chosen = positives + ranked[:hard]
        inter = log_sum_exp([logits[p] for p in chosen]) - sum(logits[p] for p in positives) / len(positives)
        by_camera.setdefault(int(cameras[y]), []).append(loss + inter_weight * inter)
    if weighting == "per_camera":
        return sum(sum(losses) / len(losses) for losses in by_camera.values())
    return sum(map(sum, by_camera.values())) / (len(features) if weighting == "mean" else 1)


def value_and_gradient(loss, features):
    return loss.item(), torch.autograd.grad(loss, features)[0]


def same(fast, slow_, features):
    (value, gradient), (value_, gradient_) = (value_and_gradient(x, features) for x in (fast, slow_))
    assert value == pytest.approx(value_, abs=1e-9)
    assert torch.allclose(gradient, gradient_, atol=1e-9, rtol=0)


@pytest.mark.parametrize("weighting", ["per_camera", "sum", "mean"])
@pytest.mark.parametrize("hard", [1, 5, 50, None])
def test_the_loss_is_the_loop_over_samples(weighting, hard):
    for seed in range(3):
        batch = world(seed=seed)
        fast = camera_aware_loss(*batch, TAU, num_hard_negatives=hard, loss_weighting=weighting)
        same(fast, slow(*batch, weighting=weighting, hard=hard), batch[0])


@pytest.mark.parametrize(("intra", "weight"), [(True, 0.0), (False, 1.0), (True, 2.0)])
def test_each_part_alone(intra, weight):
    batch = world(seed=4)
    fast = camera_aware_loss(*batch, TAU, intra_loss=intra, inter_weight=weight, num_hard_negatives=5)
    same(fast, slow(*batch, intra=intra, inter_weight=weight, hard=5), batch[0])


def test_equation_1_of_the_paper():
    features, targets, memory, clusters, cameras = world(seed=5)
    total = 0.0
    for f, y in zip(features.tolist(), targets.tolist(), strict=True):
        s = [math.exp(sum(a * b for a, b in zip(f, row, strict=True)) / TAU) for row in memory.tolist()]
        positives = [s[p] for p in range(len(s)) if clusters[p] == clusters[y]]
        negatives = sorted((s[p] for p in range(len(s)) if clusters[p] != clusters[y]), reverse=True)[:6]
        below = sum(positives) + sum(negatives)
        total -= sum(math.log(u / below) for u in positives) / len(positives)
    options = {"intra_loss": False, "inter_weight": 1.0, "loss_weighting": "sum", "num_hard_negatives": 6}
    fast = camera_aware_loss(features, targets, memory, clusters, cameras, TAU, **options)
    assert fast.item() == pytest.approx(total, abs=1e-9)


def test_positives_count_once_where_the_public_code_counts_them_twice():
    batch = world(proxies=27, seed=6)
    loss = camera_aware_loss(*batch, TAU, num_hard_negatives=50)
    same(loss, slow(*batch, hard=50), batch[0])
    twice = slow(*batch, hard=50, positives_twice=True)
    assert twice.item() > loss.item() + 0.01
    # With negatives enough for the 50, the two are one.
    batch = world(proxies=90, clusters=30, seed=7)
    loss = camera_aware_loss(*batch, TAU, num_hard_negatives=50)
    same(loss, slow(*batch, hard=50, positives_twice=True), batch[0])


def test_float32_equals_the_loop_to_1e_6_of_its_size():
    batch = world(proxies=200, clusters=60, batch=32, d=64, dtype=torch.float32)
    wide = [x.double() if x.is_floating_point() else x for x in batch]
    value, gradient = value_and_gradient(camera_aware_loss(*batch, TAU), batch[0])
    expected, expected_gradient = value_and_gradient(slow(*wide), wide[0])
    assert value == pytest.approx(expected, rel=1e-6)
    size = expected_gradient.abs().max().item()
    assert torch.allclose(gradient.double(), expected_gradient, atol=1e-6 * size, rtol=0)


def test_bfloat16_features_are_cast():
    features, *rest = world(dtype=torch.float32)
    half = features.detach().bfloat16().requires_grad_()
    loss = camera_aware_loss(half, *rest)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(camera_aware_loss(half.float(), *rest).item(), rel=1e-6)
    loss.backward()
    assert half.grad.dtype == torch.bfloat16


def test_the_memory_never_gets_a_gradient_even_where_there_are_no_negatives():
    features, targets, memory, clusters, cameras = world()
    memory.requires_grad_()
    camera_aware_loss(features, targets, memory, 0 * clusters, cameras, TAU).backward()
    assert memory.grad is None
    assert features.grad.isfinite().all()


def test_a_camera_alone_with_one_proxy_has_no_intra_loss():
    features, targets, memory, clusters, _ = world(proxies=12)
    own_cameras = torch.arange(12)
    loss = camera_aware_loss(features, targets, memory, clusters, own_cameras, TAU, inter_weight=0)
    assert loss.item() == pytest.approx(0, abs=1e-12)


def slow_update(memory, features, targets, momentum):
    memory = memory.clone()
    for f, y in zip(features, targets.tolist(), strict=True):
        memory[y] = momentum * memory[y] + (1 - momentum) * f
        memory[y] /= memory[y].norm()
    return memory


@pytest.mark.parametrize("proxies", [1, 3, 27])
@pytest.mark.parametrize("momentum", [0.0, 0.2, 0.9])
def test_memory_is_written_in_place_one_sample_after_the_other(proxies, momentum):
    features, targets, memory, *_ = world(proxies=proxies, batch=20, seed=proxies)
    expected = slow_update(memory, features.detach(), targets, momentum)
    assert update_memory(memory, features, targets, momentum) is None
    assert torch.allclose(memory, expected, atol=1e-12)
    assert not memory.requires_grad


def test_proxy_means_are_unit_means_without_outliers():
    features, _, _, _, _ = world(batch=9)
    proxies = torch.tensor([2, 0, -1, 1, 2, 2, 0, -1, 1])
    found = proxy_means(features, proxies)
    for p in range(3):
        mean = sum(features[i] for i in range(9) if proxies[i] == p) / int((proxies == p).sum())
        assert torch.allclose(found[p], mean / mean.norm(), atol=1e-12)
    assert not found.requires_grad
    assert proxy_means(features.bfloat16(), proxies).dtype == torch.float32


@pytest.mark.parametrize(
    ("at", "change", "words"),
    [
        (1, lambda t: t.index_fill(0, torch.tensor([0]), -1), "leave outliers"),
        (1, lambda t: t.index_fill(0, torch.tensor([0]), 27), "27, the memory's rows from 0 to 26"),
        (2, lambda m: m[:0], "at least one proxy"),
        (2, lambda m: m[:, :3], "do not fit"),
        (3, lambda c: c[:5], r"must be integers \[27\]"),
    ],
)
def test_bad_input_is_one_line(at, change, words):
    batch = list(world())
    batch[at] = change(batch[at])
    with pytest.raises(PapersError, match=words) as error:
        camera_aware_loss(*batch)
    assert "\n" not in str(error.value)


def test_other_bad_input():
    features, targets, memory, *rest = world()
    for call, words in (
        (lambda: camera_aware_loss(*world(), loss_weighting="max"), "per_camera, sum, mean"),
        (lambda: camera_aware_loss(features[:0], targets[:0], memory, *rest), "empty"),
        (lambda: update_memory(memory, features, targets - 1 - targets.min()), "leave outliers"),
        (lambda: proxy_means(features, torch.full((12,), -1)), "none of 12 samples"),
        (lambda: proxy_means(features, 2 * torch.arange(12)), "proxy 1 has no sample"),
    ):
        with pytest.raises(PapersError, match=words):
            call()
