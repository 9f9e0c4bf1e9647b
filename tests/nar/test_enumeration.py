"""The prefix tree against one forward pass a vector."""

import itertools
import weakref
from copy import deepcopy

import pytest
import torch
from tiny_nar import worn

from papers_lib.errors import PapersError
from papers_lib.nar.enumeration import block_evaluations, index_of, score, score_all, vector_at
from papers_lib.nar.supernet import SuperNet


def world(decisions=6, count=30, pixels=12, **others):
    """A narrow supernet of random weights, images, and labels that its vectors get right now and then."""
    torch.manual_seed(3)
    net = worn(SuperNet(decisions, width=4, classes=3, **others))
    net.fc.weight.data.normal_()
    return net, torch.randn(count, 3, pixels, pixels), torch.randint(3, (count,))


def slow_score(net, images, labels, vectors, batches=1, training=True):
    """One vector after the other; batch statistics by way of training mode, on a copy."""
    net, found = deepcopy(net).train(training), []
    for vector in vectors:
        right = 0
        with torch.no_grad():
            for x, y in zip(images.chunk(batches), labels.chunk(batches), strict=True):
                right += int((net(x, vector).argmax(1) == y).sum())
        found.append(right / len(images))
    return torch.tensor(found, dtype=torch.float64)


def every(decisions, fixed=0):
    return [(0,) * fixed + v for v in itertools.product(range(4), repeat=decisions)]


def test_all_scores_equal_scoring_each_vector_alone():
    net, images, labels = world()
    found = score_all(net, images, labels, 3, batch=10)
    assert torch.equal(found, slow_score(net, images, labels, every(3, 3), 3)) and found.unique().numel() > 3


def test_logits_are_the_same_bits(monkeypatch):
    net, images, labels = world()
    alone = deepcopy(net).train()
    seen = []
    finish = SuperNet.finish
    monkeypatch.setattr(SuperNet, "finish", lambda self, state: seen.append(finish(self, state)) or seen[-1])
    score_all(net, images, labels, 3)
    tree, seen = list(seen), []
    with torch.no_grad():
        for vector, logits in zip(every(3, 3), tree, strict=True):
            assert torch.equal(alone(images, vector), logits)


@pytest.mark.parametrize(
    ("decisions", "norm", "rule"), [(16, "batch", "A"), (8, "running", "enas"), (8, "batch", "B")]
)
def test_any_vectors_in_any_order(decisions, norm, rule):
    net, images, labels = world(decisions, rule=rule)
    net.layer2.train()
    g = torch.Generator().manual_seed(0)
    vectors = torch.randint(4, (9, decisions), generator=g)
    vectors = torch.cat([vectors, vectors[2:4], torch.zeros(1, decisions, dtype=torch.int64)])
    before, modes = {k: v.clone() for k, v in net.state_dict().items()}, [m.training for m in net.modules()]
    found = score(net, images, labels, vectors, batch=16, norm=norm)
    assert torch.equal(found, slow_score(net, images, labels, vectors.tolist(), 2, norm == "batch"))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert modes == [m.training for m in net.modules()]
    assert score(net, images, labels, []).shape == (0,)


def counted(monkeypatch):
    calls, step = [], SuperNet.step
    monkeypatch.setattr(SuperNet, "step", lambda self, *a: calls.append(a[1:]) or step(self, *a))
    return calls


def test_evaluations_are_those_of_the_tree(monkeypatch):
    net, images, labels = world(6, count=4, pixels=8)
    calls = counted(monkeypatch)
    score_all(net, images, labels, 4)
    tree = 2 + sum(4**level for level in range(1, 5))
    assert len(calls) == block_evaluations(every(4, 2)) == tree
    calls.clear()
    vectors = [(0, 1, 0, 0, 0, 0), (0, 0, 0, 0, 0, 0), (0, 1, 0, 0, 0, 1), (0, 1, 0, 0, 0, 0)]
    score(net, images, labels, vectors, batch=2)
    assert len(calls) == 2 * block_evaluations(vectors) == 2 * (6 + 5 + 0 + 1)
    assert block_evaluations(every(8)) == 87380 and block_evaluations([]) == 0  # of 524,288


def test_memory_holds_one_state_a_level(monkeypatch):
    net, images, labels = world(6, count=4, pixels=8)
    alive, most, step = set(), [0], SuperNet.step

    def watched(self, *a):
        state = step(self, *a)
        alive.add(weakref.ref(state.maps, alive.discard))
        most[0] = max(most[0], len(alive))
        return state

    monkeypatch.setattr(SuperNet, "step", watched)
    score_all(net, images, labels, 4)
    assert most[0] == 6


def test_a_stopped_enumeration_goes_on_with_the_chunks_that_miss(monkeypatch):
    net, images, labels = world(6, count=12, pixels=8)
    whole = score_all(net, images, labels, 3)
    saved = []

    def stop(found):
        saved.append(found.clone())
        if len(saved) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_all(net, images, labels, 3, chunk=24, report=stop)
    assert saved[-1].isnan().sum() == 16 and torch.equal(saved[-1][:48], whole[:48])
    calls = counted(monkeypatch)
    rest = []
    found = score_all(net, images, labels, 3, chunk=24, known=saved[-1], report=rest.append)
    assert torch.equal(found, whole) and len(rest) == 1
    assert len(calls) == block_evaluations(every(3, 3)[48:])
    assert saved[-1].isnan().sum() == 16  # what was given is left as it was


def test_bfloat16_scores_equal_bfloat16_alone():
    net, images, labels = world()
    with torch.autocast("cpu", torch.bfloat16):
        want = slow_score(net, images, labels, every(3, 3))
    assert torch.equal(score_all(net, images, labels, 3, precision="bfloat16"), want)


def test_places_of_vectors():
    assert [vector_at(index, 3) for index in range(64)] == every(3)
    assert [index_of(vector) for vector in every(3)] == list(range(64))
    assert vector_at(index_of((5, 0, 3), 6), 3, 6) == (5, 0, 3)
    assert index_of((1, 0, 0, 0, 0, 0, 0, 0)) == 4**7


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vectors": [(0,) * 5]}, "too short"),
        ({"vectors": [(4,) * 6]}, "no operator"),
        ({"norm": "group"}, "unknown norm"),
        ({"precision": "fp8"}, "unknown precision 'fp8'"),
        ({"batch": 1}, "batches of 1"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, "30 images with 3 labels"),
        ({"images": torch.zeros(1, 3, 8, 8), "labels": torch.zeros(1)}, "two or more"),
        ({"labels": torch.full((30,), 3)}, "not all of 3 classes"),
        ({"labels": torch.full((30,), -1)}, "not all of 3 classes"),
        ({"labels": torch.zeros(30)}, r"torch.float32 \(30,\) are not"),
        ({"labels": torch.zeros(30, 1, dtype=torch.int64)}, r"\(30, 1\) are not"),
        ({"images": torch.full((30, 3, 8, 8), torch.nan)}, "hold NaN or infinity"),
    ],
)
def test_bad_input_of_scores(settings, message):
    net, images, labels = world()
    given = {"images": images, "labels": labels, "vectors": [(0,) * 6]} | settings
    with pytest.raises(PapersError, match=message):
        score(net, **given)


SCORED = torch.zeros(64, dtype=torch.float64)  # of all vectors of three decisions


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"decisions": 0}, "0 decisions"),
        ({"decisions": 7}, "7 decisions of 4 operators cannot be enumerated"),
        ({"known": torch.zeros(65)}, "64 vectors need as many"),
        ({"known": SCORED.float()}, "float64 from 0 to 1, and NaN"),
        ({"known": SCORED.long()}, "float64 from 0 to 1, and NaN"),
        ({"known": SCORED + 7}, "float64 from 0 to 1, and NaN"),
        ({"known": SCORED + torch.inf}, "float64 from 0 to 1, and NaN"),
        ({"chunk": 0}, "chunks of 0 vectors"),
    ],
)
def test_bad_input_of_enumeration(settings, message):
    with pytest.raises(PapersError, match=message):
        score_all(*world(), **({"decisions": 3} | settings))


def test_a_space_that_is_too_large_cannot_be_enumerated():
    with pytest.raises(PapersError, match="cannot be enumerated"):
        score_all(*world(16))
