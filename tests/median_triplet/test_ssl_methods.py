"""Every method of Table 1 on a tiny encoder: what all have in common, then each against a plain loop."""

import copy
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_median import TINY, generator
from torch import Tensor

from papers_lib.errors import PapersError
from papers_lib.median_triplet import augment, heads, methods
from papers_lib.median_triplet.methods import Batch, Method, instances, pretext
from papers_lib.median_triplet.options import TrainSettings

CHANGES = {"projector_hidden": 32, "projector_out": 16, "ema_base": 0.9, "queue": 40}
DEFAULTS = TrainSettings.model_validate(TINY | CHANGES).model_dump()
IMAGES, CLASSES, BATCH = 48, 2, 12
LEARNING = [name for name in methods.NAMES if name != "random"]


class Forbidden:
    """Labels that nobody may look at."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"labels were asked for {name}")


def build(name: str, images: int = IMAGES, classes: int | None = CLASSES, **changes: Any) -> Any:
    torch.manual_seed(0)
    return methods.build(name, SimpleNamespace(**DEFAULTS | changes), images, classes).train()


def batch_of(method: Method, n: int = BATCH, size: int = 18, seed: int = 1) -> Batch:
    draws = generator(seed)
    images = torch.randint(256, (n, size, size, 3), dtype=torch.uint8, generator=draws)
    recipe = augment.RECIPES["weak"][0]
    views = tuple(augment.view(images, recipe, draws) for _ in range(method.number_of_views))
    indices = torch.randperm(IMAGES, generator=draws)[:n]
    labels: Any = Forbidden()
    if isinstance(method, methods.Supervised):
        labels = torch.arange(n) % CLASSES
    return Batch(views, indices, labels)


def features_of(method: Method) -> Tensor:
    return torch.randn(IMAGES, method.dimension, generator=generator(2))


def started(name: str, **changes: Any) -> tuple[Any, Batch]:
    method = build(name, **changes)
    method.eval().cluster(features_of(method), 0)
    return method.train(), batch_of(method)


# -- all methods --


@pytest.mark.parametrize("name", LEARNING)
def test_steps_lower_the_loss_and_gradients_reach_the_encoder_and_no_target(name):
    method, batch = started(name, queue=BATCH)
    assert method.recipe in augment.RECIPES
    optimiser = torch.optim.Adam(method.trained(), 0.003)
    queue = None
    if "moco" in name:  # keys of other images; those of this batch would push it from itself
        method.loss(batch_of(method, seed=2))
        queue = method.queue.clone()
    losses = []
    for step in range(8):
        if queue is not None:
            method.queue.copy_(queue)
        loss, logs = method.loss(batch)
        assert loss.shape == () and loss.dtype == torch.float32
        assert all(value.shape == () and not value.requires_grad for value in logs.values())
        optimiser.zero_grad()
        loss.backward()
        if step == 0:
            assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.encoder.parameters())
            for p in method.target.parameters() if hasattr(method, "target") else ():
                assert p.grad is None and not p.requires_grad
                assert id(p) not in {id(trained) for trained in method.trained()}
        optimiser.step()
        method.after_step(step, 8)
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.02


@pytest.mark.parametrize("name", methods.NAMES)
def test_a_seed_gives_all_methods_the_same_encoder(name):
    reference = build("random").encoder.state_dict()
    for key, value in build(name).encoder.state_dict().items():
        assert torch.equal(value, reference[key]), key


@pytest.mark.parametrize("name", LEARNING)
def test_a_resumed_method_goes_on_identically(name):
    changes = {"random_resolution": True, "queue": 20}
    first, batch = started(name, **changes)
    first.loss(batch)
    other = build(name, **changes, seed=5)
    other.load_state_dict(first.state_dict())
    assert not other.clusters_before(0)
    losses = []
    for method in (first, other):
        torch.manual_seed(3)  # dropout is torch's own
        method.loss(batch)
        losses.append(method.loss(batch_of(method, seed=7))[0])
    assert torch.equal(*losses)


def test_a_copy_draws_for_itself():
    method = build("byol", random_resolution=True)
    state = method.generator.get_state()
    method.loss(batch_of(method))
    twin = copy.deepcopy(method)
    method.generator.set_state(state)
    twin.loss(batch_of(method))
    assert torch.equal(method.generator.get_state(), state)


@pytest.mark.parametrize("name", LEARNING)
def test_losses_stay_in_float32_under_autocast(name):
    method, _ = started(name)
    # 36 px, so that no patch shrinks to one pixel before a stride of two: oneDNN's bfloat16 gradient
    # of a 3 x 3 kernel there multiplies its padding, memory that nobody wrote, by zero (torch 2.15)
    batch = batch_of(method, size=36)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = method.loss(batch)
    assert loss.dtype == torch.float32
    loss.backward()
    assert all(p.grad.isfinite().all() for p in method.encoder.parameters())


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("dino", {}, "unknown method 'dino': known are random, "),
        ("triplet", {"classes": None, "head": "prior"}, "head=prior needs the number of classes"),
        ("triplet", {"head": "rank", "k": 0}, "head=rank, k="),
        ("triplet", {"head": "rank", "k": 5.5}, "head=rank, k="),
        ("triplet", {"head": "mean"}, "head is 'mean'; it must be one of"),
        ("deepcluster", {"classes": None}, "give the number of classes"),
        ("supervised", {"classes": None}, "give a data set that has labels"),
        ("odc", {"images": 3}, "at least 4"),
    ],
)
def test_bad_settings_are_named(name, changes, message):
    with pytest.raises(PapersError, match=message):
        build(name, **changes)


def test_bad_batches_are_named():
    method = build("triplet")
    for batch, message in (
        (batch_of(build("npid")), "given 1 views; give 2 of recipe 'byol'"),
        (batch_of(method, n=1), "batch of one image"),
        (batch_of(method, n=2), "three images or more"),
    ):
        with pytest.raises(PapersError, match=message):
            method.loss(batch)
    assert build("random").trained() == []


# -- the frame of BYOL --


@pytest.mark.parametrize("buffers", [False, True])
def test_the_target_follows_as_a_plain_loop(buffers):
    method, batch = started("triplet", ema_buffers=buffers)
    method.loss(batch)
    with torch.no_grad():
        for p in method.encoder.parameters():
            p.add_(0.5)
        method.encoder.stem[1].running_mean.add_(1.0)
    online = [*method.encoder.parameters(), *method.projector.parameters()]
    before = [p.clone() for p in method.target.parameters()]
    statistics = [(b.clone(), b) for b in method.target.buffers() if b.is_floating_point()]
    theirs = [b for part in (method.encoder, method.projector) for b in part.buffers()]
    method.after_step(3, 10)
    m = 1 - (1 - 0.9) * (math.cos(math.pi * 3 / 10) + 1) / 2
    for theta, xi, now in zip(online, before, method.target.parameters(), strict=True):
        torch.testing.assert_close(now, m * xi + (1 - m) * theta)
    followed = [b for b in theirs if b.is_floating_point()]
    for (xi, now), theta in zip(statistics, followed, strict=True):
        torch.testing.assert_close(now, m * xi + (1 - m) * theta if buffers else xi)


def test_byol_is_a_loop_over_cosines_and_twice_it_is_the_positive_part_of_the_triplet():
    byol, batch = started("byol")
    triplet, _ = started("triplet")
    triplet.load_state_dict(byol.state_dict())
    loss, logs = byol.loss(batch)
    plain = [
        -2 * sum(q @ z / q.norm() / z.norm() for q, z in zip(*pair, strict=True)) / BATCH
        for pair in byol.latest
    ]
    torch.testing.assert_close(loss.detach(), sum(plain))
    torch.testing.assert_close(logs["cos_positive"], -loss.detach() / 4)
    repelled, logs = triplet.loss(batch)
    torch.testing.assert_close(repelled - 2 * 2 * logs["cos_negative"], 2 * loss)
    for changes, factor in (({"loss_scale": 2.0}, 2), ({"view_reduction": "mean"}, 0.5)):
        torch.testing.assert_close(started("byol", **changes)[0].loss(batch)[0], factor * loss)


@pytest.mark.parametrize(
    ("changes", "ranks"),
    [
        ({}, [6]),
        ({"head": "hardest"}, [1]),
        ({"head": "rank", "k": 3.0}, [3]),
        ({"head": "rank", "k": 0.25}, [3]),
        ({"head": "smoothed"}, range(2, 11)),
        ({"margin": 0.3, "distance_scale": 1.0}, [6]),
        ({"margin": 0.3, "hinge": "printed"}, [6]),
        ({"head": "prior"}, [5]),
        ({"head": "smoothed", "margin": 1.2}, range(2, 11)),
    ],
)
def test_loss_and_logged_cosines_are_those_of_the_chosen_negatives(changes, ranks):
    method = build("triplet", classes=10, **changes)
    loss, logs = method.loss(batch_of(method))
    s, margin = changes.get("distance_scale", 2.0), changes.get("margin")
    positive, negative, losses = [], [], []
    for query, target in method.latest:
        cosines = F.normalize(query) @ F.normalize(target).T
        for i, row in enumerate(cosines.tolist()):
            others = sorted((c for j, c in enumerate(row) if j != i), reverse=True)
            chosen = sum(others[k - 1] for k in ranks) / len(ranks)
            positive.append(row[i])
            negative.append(chosen)
            value = s * (chosen - 2 * row[i])
            if margin is not None:
                printed = changes.get("hinge") == "printed"
                value = max(value, margin) if printed else max(value + margin, 0)
            losses.append(value)
    assert logs["cos_positive"].item() == pytest.approx(sum(positive) / len(positive), abs=1e-5)
    assert logs["cos_negative"].item() == pytest.approx(sum(negative) / len(negative), abs=1e-5)
    assert loss.item() == pytest.approx(2 * sum(losses) / len(losses), abs=1e-4)
    heads.selected(*method.latest[0], method.k(BATCH))  # a rank that the monitor can be given


def test_each_pass_draws_a_size_of_its_own():
    method = build("byol", random_resolution=True)
    batch = batch_of(method, size=28)
    seen: dict[str, list[int]] = {"online": [], "target": []}
    method.encoder.register_forward_pre_hook(lambda _, x: seen["online"].append(x[0].shape[-1]))
    method.target.register_forward_pre_hook(lambda _, x: seen["target"].append(x[0].shape[-1]))
    for _ in range(12):
        method.loss(batch)
    assert {len(sizes) for sizes in seen.values()} == {24}
    assert 12 <= min(seen["online"]) < 16 and min(seen["target"]) >= 16
    assert max(seen["online"] + seen["target"]) <= 28
    assert seen["online"][::2] != seen["online"][1::2]


# -- each of the others --


def test_simsiam_is_a_loop_over_cosines_without_gradient_through_the_other_view():
    method, batch = started("simsiam")
    loss, logs = method.loss(batch)
    with torch.no_grad():
        z = [method.projector(method.encoder(view)) for view in batch.views]
        p = [method.predictor(projection) for projection in z]
    total = 0.0
    for i in range(BATCH):
        for a, b in ((p[0][i], z[1][i]), (p[1][i], z[0][i])):
            total -= float(a @ b / a.norm() / b.norm()) / 2 / BATCH
    assert loss.item() == pytest.approx(total, abs=1e-5)
    assert logs["cos_positive"].item() == pytest.approx(-total, abs=1e-5)
    for parameter in method.predictor.parameters():
        parameter.data.zero_()
    method.predictor[-1].bias.data.fill_(1.0)  # p no longer depends on the images
    method.loss(batch)[0].backward()
    assert all(p.grad is None or not p.grad.any() for p in method.encoder.parameters())


def test_nt_xent_and_info_nce_are_loops():
    draws = generator()
    one, two = F.normalize(torch.randn(2, 5, 7, generator=draws).double(), dim=-1)
    z = torch.cat((one, two))
    total = 0.0
    for i in range(10):
        exponents = {k: math.exp(F.cosine_similarity(z[i], z[k], 0) / 0.3) for k in range(10) if k != i}
        total -= math.log(exponents[(i + 5) % 10] / sum(exponents.values())) / 10
    assert instances.nt_xent(one, two, 0.3).item() == pytest.approx(total)
    negatives = F.normalize(torch.randn(9, 7, generator=draws).double())
    total = 0.0
    for q, k in zip(one, two, strict=True):
        positive = math.exp(q @ k / 0.2)
        total -= math.log(positive / (positive + sum(math.exp(q @ n / 0.2) for n in negatives))) / 5
    assert instances.info_nce(one, two, negatives, 0.2).item() == pytest.approx(total)


def test_the_queue_holds_the_latest_keys_in_order():
    method = build("moco", queue=8)
    queue, oldest = list(method.queue.clone()), 0
    for count in (3, 3, 3, 3, 3, 10):  # the last are more than fit
        keys = F.normalize(torch.randn(count, 128))
        method._enqueue(keys)
        for key in keys:
            queue[oldest] = key
            oldest = (oldest + 1) % 8
        assert torch.equal(method.queue, torch.stack(queue))
        assert method.oldest == oldest


def test_a_loss_of_moco_uses_the_queue_before_its_keys_enter_it():
    method, batch = started("moco_v2")
    queue = method.queue.clone()
    loss, _ = method.loss(batch)
    with torch.no_grad():
        query = F.normalize(method.head(method.encoder(batch.views[0])))
        key = F.normalize(method.target(batch.views[1]))
    torch.testing.assert_close(loss.detach(), instances.info_nce(query, key, queue, 0.2))
    torch.testing.assert_close(method.queue[:BATCH], key)
    assert torch.equal(method.queue[BATCH:], queue[BATCH:])


@pytest.mark.parametrize("queue", [IMAGES, 10])
def test_npid_is_a_softmax_over_its_memory_which_follows(queue):
    method, batch = started("npid", queue=queue)
    memory, state = method.memory.clone(), method.generator.get_state()
    loss, _ = method.loss(batch)
    with torch.no_grad():
        features = F.normalize(method.projector(method.encoder(batch.views[0])))
    others = list(range(IMAGES))
    if queue == 10:
        others = torch.randint(IMAGES, (10,), generator=torch.Generator().set_state(state)).tolist()
    total = 0.0
    for f, i in zip(features, batch.indices.tolist(), strict=True):
        right = math.exp(f @ memory[i] / 0.07)
        wrong = sum(math.exp(f @ memory[j] / 0.07) for j in others if j != i)
        total -= math.log(right / (right + wrong)) / BATCH
    assert loss.item() == pytest.approx(total, rel=1e-4)
    for f, i in zip(features, batch.indices.tolist(), strict=True):
        memory[i] = F.normalize(memory[i] + f, dim=0)
    torch.testing.assert_close(method.memory, memory)


def test_deepcluster_weighs_by_cluster_and_starts_its_classifier_anew():
    method, batch = started("deepcluster")
    labels, weight = method.pseudo_labels.clone(), method.head.weight.detach().clone()
    assert sorted(labels.unique().tolist()) == list(range(20))  # ten clusters per class
    loss, _ = method.loss(batch)
    with torch.no_grad():
        scores = method.head(method.encoder(batch.views[0])).log_softmax(1)
    shares = [1 / int((labels == labels[i]).sum()) for i in batch.indices]
    terms = [-w * float(row[labels[i]]) for w, row, i in zip(shares, scores, batch.indices, strict=True)]
    assert loss.item() == pytest.approx(sum(terms) / sum(shares), rel=1e-5)
    assert method.clusters_before(1) and not method.clusters_before(0)
    method.cluster(-features_of(method).flip(0), 1)
    assert not torch.equal(method.pseudo_labels, labels)
    assert not torch.equal(method.head.weight, weight)


def test_odc_learns_its_labels_then_moves_memory_and_labels_as_a_loop():
    method, batch = started("odc")
    method.smallest = 0  # clusters may empty here
    memory, labels, centroids = (t.clone() for t in (method.memory, method.pseudo_labels, method.centroids))
    for c in range(method.k):
        torch.testing.assert_close(centroids[c], memory[labels == c].mean(0))
    features = torch.rand(BATCH, 256, generator=generator(4))
    method._move_on(batch.indices, features)
    for f, i in zip(features, batch.indices, strict=True):
        memory[i] = F.normalize((memory[i] + f / f.norm()) / 2, dim=0)
        labels[i] = max(range(method.k), key=lambda c, i=i: float(centroids[c] @ memory[i]))
    torch.testing.assert_close(method.memory, memory)
    assert torch.equal(method.pseudo_labels, labels)
    assert torch.equal(method.centroids, centroids)
    for _ in range(9):
        method._move_on(batch.indices[:0], features[:0])
    for c in labels.unique():
        torch.testing.assert_close(method.centroids[c], memory[labels == c].mean(0))


def test_odc_dissolves_small_clusters_and_keeps_none_empty():
    method, batch = started("odc")
    method.pseudo_labels[method.pseudo_labels == 7] = 3
    method.pseudo_labels[method.pseudo_labels == 5] = 4
    method.pseudo_labels[int(batch.indices[0])] = 5
    method._dissolve(method.pseudo_labels.bincount(minlength=method.k) < 2)
    sizes = method.pseudo_labels.bincount(minlength=method.k)
    assert sizes.min() > 0 and sizes.sum() == IMAGES
    for c in (5, 7):
        members = method.memory[method.pseudo_labels == c]
        torch.testing.assert_close(method.centroids[c], members.mean(0))


def test_rotations_turn_counter_clockwise():
    images = torch.arange(2 * 3 * 4 * 4.0).view(2, 3, 4, 4)
    turned, turns = pretext.rotated(images)
    assert turns.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    for row, turn in enumerate(turns.tolist()):
        expected = images[row % 2]
        for _ in range(turn):  # (r, c) comes from (c, s − 1 − r)
            expected = torch.stack([expected[:, :, 3 - r] for r in range(4)], 1)
        assert torch.equal(turned[row], expected)


def test_patches_lie_in_their_cells_and_move_within():
    size, count = 34, 200
    rows, columns = torch.meshgrid(torch.arange(34.0), torch.arange(34.0), indexing="ij")
    number = torch.arange(count).view(-1, 1, 1).expand(count, size, size)
    images = torch.stack((rows.expand_as(number), columns.expand_as(number), number), 1)
    cut = pretext.patches(images, generator())
    assert cut.shape == (9, count, 3, 8, 8)  # cells of 11, patches of 11 − 3
    assert torch.equal(cut[:, :, 2], torch.arange(count).view(-1, 1, 1).expand(9, count, 8, 8).float())
    for place in range(9):
        top, left = 11 * (place // 3), 11 * (place % 3)
        corner_rows, corner_columns = cut[place, :, 0, 0, 0], cut[place, :, 1, 0, 0]
        assert set((corner_rows - top).tolist()) == set((corner_columns - left).tolist()) == {0, 1, 2, 3}
        assert not torch.equal(corner_rows - top, corner_columns - left)
        for step in range(8):
            assert torch.equal(cut[place, :, 0, step, 5], corner_rows + step)
            assert torch.equal(cut[place, :, 1, 5, step], corner_columns + step)


def test_pairs_hold_neighbour_and_centre():
    features = torch.arange(9.0)[:, None, None] * 10 + torch.arange(2.0)[:, None]  # place, image
    paired = pretext.pairs(features)
    places = [0, 1, 2, 3, 5, 6, 7, 8]
    assert paired.tolist() == [[10.0 * p + image, 40.0 + image] for p in places for image in range(2)]
