"""SpCL and MMCL against loops over images, dense where the library is sparse."""

import math

import pytest
import torch
import torch.nn.functional as F

from papers_lib.errors import PapersError
from papers_lib.sampler_study import baselines, pseudo_labels
from papers_lib.sampler_study.baselines import (
    mmcl_loss,
    multi_labels,
    overlap,
    own_classes,
    reliable,
    spcl_loss,
)
from papers_lib.sampler_study.losses import camera_aware_loss
from papers_lib.sampler_study.methods import Mmcl, Spcl
from papers_lib.sampler_study.options import TrainSettings


def people(ids=6, images=7, d=12, spread=0.5, seed=0, dtype=torch.float64):
    """Unit vectors around a centre for each identity."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(ids, 1, d, generator=generator, dtype=torch.float64)
    noise = torch.randn(ids, images, d, generator=generator, dtype=torch.float64)
    return F.normalize((centres + spread * noise).reshape(-1, d)).to(dtype)


def batch_of(memory, size=10, seed=1):
    generator = torch.Generator().manual_seed(seed)
    indices = torch.randint(len(memory), (size,), generator=generator)
    noise = torch.randn(size, memory.shape[1], generator=generator, dtype=memory.dtype)
    return F.normalize(memory[indices] + 0.3 * noise).requires_grad_(), indices


def same(fast, slow, features):
    gradients = [torch.autograd.grad(loss, features)[0] for loss in (fast, slow)]
    assert fast.item() == pytest.approx(slow.item(), abs=1e-9)
    assert torch.allclose(*gradients, atol=1e-9, rtol=0)


def test_every_outlier_is_a_class_of_its_own_after_the_clusters():
    assert own_classes(torch.tensor([-1, 1, 0, -1, 1, -1])).tolist() == [2, 1, 0, 3, 1, 4]
    assert own_classes(torch.tensor([-1, -1])).tolist() == [0, 1]
    assert own_classes(torch.tensor([1, 0])).tolist() == [1, 0]


def test_spcl_loss_is_the_loop_over_classes():
    memory = people()
    features, indices = batch_of(memory)
    labels = torch.arange(6).repeat_interleave(7)
    labels[torch.tensor([0, 9, 40])] = -1
    classes = own_classes(labels)
    slow = 0.0
    for f, i in zip(features, indices.tolist(), strict=True):
        below, own = 0.0, None
        for c in range(int(classes.max()) + 1):
            members = [memory[j] for j in range(len(memory)) if classes[j] == c]
            similarity = torch.exp((f * (sum(members) / len(members))).sum() / 0.05)
            below = below + similarity
            own = similarity if classes[i] == c else own
        slow = slow - torch.log(own / below) / len(features)
    same(spcl_loss(features, indices, memory, classes), slow, features)
    logits = torch.stack([features @ memory[classes == c].mean(0) for c in classes.unique()], 1) / 0.05
    shares = logits.exp() / (logits.exp().sum(1, keepdim=True) + 0.5)
    floored = -(shares[torch.arange(len(indices)), classes[indices]] + 0.5).log().mean()
    torch.testing.assert_close(spcl_loss(features, indices, memory, classes, floor=0.5), floored)


def test_cluster_contrast_is_the_camera_aware_loss_with_one_camera():
    means = people(images=1)
    features, targets = batch_of(means)
    one = torch.zeros(6, dtype=torch.int64)
    options = {"inter_weight": 0, "loss_weighting": "mean"}
    loss = camera_aware_loss(features, targets, means, torch.arange(6), one, 0.05, **options)
    same(loss, F.cross_entropy(features @ means.T / 0.05, targets), features)


def groups(labels):
    """The images that share each image's cluster, one set an image; an outlier is alone."""
    labels = labels.tolist()
    return [
        {j for j in range(len(labels)) if j == i or (label >= 0 and labels[j] == label)}
        for i, label in enumerate(labels)
    ]


def slow_overlap(labels, others):
    return [len(a & b) / len(a | b) for a, b in zip(groups(labels), groups(others), strict=True)]


def slow_reliable(labels, tight, loose, threshold):
    """Image by image, from sets."""
    clusters = sorted({c for c in labels.tolist() if c >= 0})
    members = {c: [i for i in range(len(labels)) if labels[i] == c] for c in clusters}
    compact, independent = slow_overlap(labels, tight), slow_overlap(labels, loose)
    best = {c: max(independent[i] for i in members[c]) for c in clusters}
    if threshold is None:
        ranked = sorted((best[c] for c in clusters if len(members[c]) > 1), reverse=True)
        threshold = ranked[min(len(ranked) - 1, round(0.9 * len(ranked)))]
    refined, number = [-1] * len(labels), 0
    for c in clusters:
        most = max(compact[i] for i in members[c])
        kept = [i for i in members[c] if best[c] >= threshold and compact[i] == most]
        if len(kept) > 1:
            for i in kept:
                refined[i] = number
            number += 1
    return refined, threshold


def three_labellings(seed, n=60):
    """Nested as DBSCAN's are: clusters merge by a looser eps and shed images by a tighter one."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(-1, 12, (n,), generator=generator)
    loose = torch.where(labels > 8, 8, labels)
    loose[(labels < 0) & (torch.rand(n, generator=generator) < 0.5)] = 3
    tight = torch.where(torch.rand(n, generator=generator) < 0.2, -1, labels)
    tight[(labels == 2) & (torch.arange(n) % 2 == 0)] = 12
    _, labels = labels.unique(return_inverse=True)
    return labels - 1, tight, loose


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("threshold", [None, 0.6])
def test_reliable_clusters_are_those_of_the_sets_of_neighbours(seed, threshold):
    labels, tight, loose = three_labellings(seed)
    found = overlap(own_classes(labels), own_classes(tight)).tolist()
    assert found == pytest.approx(slow_overlap(labels, tight), abs=1e-12)
    refined, used = reliable(labels, tight, loose, threshold)
    expected, expected_threshold = slow_reliable(labels, tight, loose, threshold)
    assert refined.tolist() == expected
    assert used == pytest.approx(expected_threshold, abs=1e-12)
    assert 0 < (refined >= 0).sum() < (labels >= 0).sum()


def test_labellings_that_agree_are_wholly_reliable_and_no_clusters_stay_none():
    labels = torch.tensor([0, 0, 0, 1, 1, -1])
    assert reliable(labels, labels, labels)[0].tolist() == labels.tolist()
    nothing = torch.full((5,), -1)
    assert reliable(nothing, nothing, nothing)[0].tolist() == [-1] * 5


def slow_multi_labels(memory, i, threshold, least):
    """Whole sorted lists, one candidate after the other."""
    n = len(memory)

    def ranking(a):
        return sorted(range(n), key=lambda b: -(memory[a] * memory[b]).sum().item())

    candidates = [j for j in ranking(i) if (memory[i] * memory[j]).sum() > threshold]
    chosen = {i}
    for j in candidates:
        others = [b for b in ranking(j) if b != j]
        if j != i and i not in others[: max(least, len(candidates))]:
            break
        chosen.add(j)
    return chosen


@pytest.mark.parametrize(("threshold", "least"), [(0.6, 10), (0.6, 2), (0.2, 1), (0.9, 3), (-1.0, 4)])
def test_multi_labels_are_the_loop_over_candidates(threshold, least, monkeypatch):
    memory = people(spread=0.9, seed=3)
    indices = torch.tensor([0, 5, 8, 20, 33, 41])
    slow = [slow_multi_labels(memory, i, threshold, least) for i in indices.tolist()]
    for at_once in (2**24, 6 * 42 * 3, 1):  # all candidates at once, three at a time, one at a time
        monkeypatch.setattr(baselines, "COMPARED", at_once)
        found = multi_labels(memory, indices, threshold, least)
        assert [set(row.nonzero().flatten().tolist()) for row in found] == slow


@pytest.mark.parametrize("n_ids", [3, 60])  # fewer than 100 images, and more
def test_mmcl_loss_is_the_loop_over_samples(n_ids):
    memory = people(ids=n_ids)
    features, indices = batch_of(memory)
    positive = multi_labels(memory, indices)
    positive[0] = True  # a sample without negatives
    slow = 0.0
    for f, row in zip(features, positive.tolist(), strict=True):
        scores = [(f * m).sum() for m in memory]
        near = [(1 - s) ** 2 for s, p in zip(scores, row, strict=True) if p]
        others = sorted((s for s, p in zip(scores, row, strict=True) if not p), key=lambda s: -s.item())
        far = [(1 + s) ** 2 for s in others[: max(1, math.floor(0.01 * len(others)))]]
        slow = slow + (5 * sum(near) / len(near) + sum(far) / max(1, len(far))) / len(features)
    same(mmcl_loss(features, memory, positive), slow, features)


SETTINGS = TrainSettings(k1=6, k2=2, eps=0.6, min_samples=2, tau=0.05, epochs=4, inter_start_epoch=1)


def test_spcl_finds_the_identities_and_starts_from_the_features():
    images = people(spread=0.2, dtype=torch.float32)
    learner = Spcl(SETTINGS, images.shape)
    found = learner.begin(0, 3 * images, torch.zeros(len(images)).long())
    assert torch.allclose(learner.memory, images, atol=1e-6)
    truth = torch.arange(6).repeat_interleave(7)
    kept = found.clusters >= 0
    assert kept.sum() > 30
    assert len({*zip(found.clusters[kept].tolist(), truth[kept].tolist(), strict=True)}) == 6
    assert torch.equal(found.proxies, own_classes(found.clusters))


def test_mmcl_starts_empty_and_what_stays_of_the_memory_grows():
    images = people(dtype=torch.float32)
    learner = Mmcl(SETTINGS, images.shape)
    learner.begin(0, images, torch.zeros(len(images)).long())
    assert not learner.memory.any()
    learner.write(images[:2], torch.tensor([0, 1]))
    assert torch.allclose(learner.memory[:2], images[:2])
    learner.begin(2, images, torch.zeros(len(images)).long())
    learner.write(images[2:3], torch.tensor([0]))
    expected = F.normalize(0.25 * images[0] + 0.75 * images[2], dim=0)
    assert torch.allclose(learner.memory[0], expected, atol=1e-6)


def test_spcl_compares_the_clusters_of_three_eps():
    images = people(ids=8, images=6, spread=0.9, seed=2, dtype=torch.float32)
    s = SETTINGS.model_copy(update={"eps": 0.5, "eps_tol": 0.0})
    labels = [pseudo_labels.cluster(images, s.k1, s.k2, eps, s.min_samples, 0.0) for eps in (0.5, 0.48, 0.52)]
    expected, threshold = slow_reliable(*labels, None)
    learner = Spcl(s, images.shape)
    assert learner.begin(0, images, torch.zeros(48).long()).clusters.tolist() == expected
    assert float(learner.threshold) == pytest.approx(threshold)
    assert any(a.tolist() != labels[0].tolist() for a in labels[1:])


def test_mmcl_predicts_labels_after_the_epochs_of_single_ones():
    images = people(spread=0.1, dtype=torch.float32)
    features, indices = batch_of(images)
    learner = Mmcl(SETTINGS, images.shape)
    single = indices[:, None] == torch.arange(len(images))
    for epoch in range(3):
        learner.begin(epoch, images, torch.zeros(len(images)).long())
        learner.memory = images
        positive = single if epoch < 2 else multi_labels(images, indices)
        assert learner.loss(features, indices).item() == mmcl_loss(features, images, positive).item()
    assert positive.sum() > single.sum()


def test_bad_input_is_one_line():
    memory = people()
    features, indices = batch_of(memory)
    classes = torch.arange(len(memory))
    for bad in (classes[:5], classes - 1, 2 * classes):
        with pytest.raises(PapersError, match="classes"):
            spcl_loss(features, indices, memory, bad)
    with pytest.raises(PapersError, match="rows from 0 to 41"):
        spcl_loss(features, indices + 42, memory, classes)
    with pytest.raises(PapersError, match="it must be"):
        mmcl_loss(features, memory, torch.ones(3, 42, dtype=torch.bool))
    with pytest.raises(PapersError, match="NaN"):
        mmcl_loss(features * torch.nan, memory, torch.ones(10, 42, dtype=torch.bool))
