"""Each equation against plain loops over Python numbers, forward and (by differences) gradient."""

import math
from functools import partial

import pytest
import torch
from torch.autograd import gradcheck

from papers_lib.errors import PapersError
from papers_lib.quadruplet_cars196 import losses

M1, M2, T1, T2 = 0.7, 0.3, 0.7, 0.3


def three(count, seed=0):
    """Distances of `count` quadruplets, spread so that every hinge is open somewhere and shut elsewhere."""
    generator = torch.Generator().manual_seed(seed)
    d = 2 * torch.rand(3, count, generator=generator, dtype=torch.float64)
    return tuple(row.requires_grad_() for row in d)


def lists(d):
    return [row.tolist() for row in d]


def per_quadruplet(slow, d):
    return [slow(*row) for row in zip(*lists(d), strict=True)]


def hinge(value):
    return max(0.0, value)


def mean(values):
    return sum(values) / len(values)


def slow_joint(p, m, n, first=M1 - M2):
    return hinge(1 - m / (p + first)) + hinge(1 - n / (m + M2))


def slow_global(p, m, n, t1=T1, t2=T2, lg1=1.0, lg2=1.0, less=0):
    variances = (sum((v - mean(row)) ** 2 for v in row) / (len(row) - less) for row in (p, m, n))
    hinges = lg1 * hinge(mean(p) - mean(m) + t1 - t2) + lg2 * hinge(mean(m) - mean(n) + t2)
    return sum(variances) + hinges


def slow_entropy(scores, label):
    return -math.log(math.exp(scores[label]) / sum(math.exp(s) for s in scores))


def assert_is(loss, slow, *inputs):
    assert loss(*inputs).tolist() == pytest.approx(slow)
    assert gradcheck(loss, inputs)


def test_distances_are_the_euclidean_ones_of_the_named_rows_and_differentiable_at_zero():
    features = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 2.0], [1.0, 0.0]])
    d_rp, d_rm, d_rn = losses.distances(features, torch.tensor([[0, 1, 2, 3], [3, 0, 1, 2]]))
    assert d_rp.tolist() == [5, 1]
    assert d_rm.tolist() == pytest.approx([2, math.sqrt(20)])
    assert d_rn.tolist() == pytest.approx([1, math.sqrt(5)])
    apart = torch.randn(6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    quadruplets = torch.tensor([[0, 1, 2, 3], [4, 5, 0, 1]])
    assert gradcheck(lambda x: losses.distances(x, quadruplets), apart.requires_grad_())
    equal = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    loss = losses.combined_loss(*losses.distances(equal, torch.tensor([[0, 1, 2, 3]])))
    loss.backward()
    # Both hinges are fully open, [1 − 0/.4] and [1 − 0/.3], and so are the global ones: .4 and .3.
    assert loss.item() == pytest.approx(2.7)
    assert torch.equal(equal.grad, torch.zeros(4, 3, dtype=torch.float64))


def test_equations_1_and_2():
    d = torch.tensor([0.0, 0.4, 0.4, 1.5, 0.2], dtype=torch.float64, requires_grad=True)
    same = torch.tensor([True, True, False, False, False])
    slow = [v**2 if y else hinge(1.0 - v) ** 2 for v, y in zip(d.tolist(), same.tolist(), strict=True)]
    assert_is(lambda x: losses.contrastive_loss(x, same, alpha=1.0), slow, d)
    p, _, n = three(20)
    slow = per_quadruplet(lambda a, b: hinge(a**2 - b**2 + 0.2), (p, n))
    assert 0 in slow and max(slow) > 0
    assert_is(lambda a, b: losses.triplet_loss(a, b, 0.2), slow, p, n)


@pytest.mark.parametrize("seed", range(6))
def test_equation_3_in_all_its_readings(seed):
    d = three(5, seed)
    rows = lists(d)
    assert_is(losses.global_loss, slow_global(*rows), *d)
    quarter = [[v**2 / 4 for v in row] for row in rows]
    for options, slow in (
        ({"t1": 0.9, "t2": 0.2, "lg1": 0.5, "lg2": 2.0}, slow_global(*rows, 0.9, 0.2, 0.5, 2.0)),
        ({"var_unbiased": True}, slow_global(*rows, less=1)),
        ({"global_distance": "squared_over_4"}, slow_global(*quarter)),
    ):
        assert losses.global_loss(*d, **options).item() == pytest.approx(slow)


def test_a_batch_of_one_has_no_variance_and_no_nan():
    d = three(1)
    loss = losses.global_loss(*d)
    loss.backward()
    (p,), (m,), (n,) = lists(d)
    assert loss.item() == pytest.approx(hinge(p - m + T1 - T2) + hinge(m - n + T2))
    assert all(row.grad.isfinite().all() for row in d)
    with pytest.raises(PapersError, match="two quadruplets"):
        losses.global_loss(*d, var_unbiased=True)


def logits(count=4):
    g = torch.Generator().manual_seed(0)
    scores = (torch.randn(count, k, generator=g, dtype=torch.float64, requires_grad=True) for k in (3, 5))
    return *scores, torch.tensor([0, 2, 1, 2])[:count], torch.tensor([4, 0, 3, 3])[:count]


@pytest.mark.parametrize(("swap", "w1", "w2"), [(False, 0.08, 0.25), (True, 0.25, 0.08)])
def test_equation_4(swap, w1, w2):
    coarse, fine, y1, y2 = logits()
    rows = zip(coarse.tolist(), y1, fine.tolist(), y2, strict=True)
    slow = sum(w1 * slow_entropy(c, i) + w2 * slow_entropy(f, j) for c, i, f, j in rows)
    for reduction, count in (("sum", 1), ("mean", 4)):
        # λ_c1 and λ_c2 are .08 and .25 by default
        options = {"swap_ce_weights": swap, "reduction": reduction}
        assert_is(
            partial(losses.classification_loss, coarse=y1, fine=y2, **options), slow / count, coarse, fine
        )


@pytest.mark.parametrize(("rule", "first"), [("equation", M1 - M2), ("text", M1)])
def test_equation_5(rule, first):
    p, m, n = (row.detach() for row in three(30))
    d = ((p / 4).requires_grad_(), m.requires_grad_(), n.requires_grad_())
    slow = per_quadruplet(lambda *row: slow_joint(*row, first), d)
    assert 0 in slow and max(slow) > 0.5
    assert_is(lambda *x: losses.joint_loss(*x, margin_rule=rule), slow, *d)


def test_the_margins_of_equation_5_at_points_that_the_eye_can_check():
    at = [torch.tensor([v], dtype=torch.float64) for v in (0.5, 1.1, 2.0)]
    assert losses.joint_loss(*at, margin_rule="equation").item() == 0
    # By the text it closes exactly where D_RP + m1 <= D_RM: at .5 and 1.2 it does, at 1.1 it does not.
    assert losses.joint_loss(*at, margin_rule="text").item() == pytest.approx(1 - 1.1 / 1.2)
    at[1] += 0.1
    assert losses.joint_loss(*at, margin_rule="text").item() == pytest.approx(0)
    # Outside the sphere, where D_RM > D_RN, the second hinge never closes: .130, at D_RM = D_RN = 2.
    d_rm = torch.linspace(0.01, 2, 50, dtype=torch.float64).clamp(min=0.4)
    assert losses.joint_loss(torch.zeros(50), d_rm, d_rm).min().item() == pytest.approx(0.3 / 2.3)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("count", [1, 5])
def test_equation_6(count, reduction):
    d = three(count, 3)
    joint = sum(per_quadruplet(slow_joint, d)) / (count if reduction == "mean" else 1)
    slow = joint + 1.25 + 0.5 * slow_global(*lists(d))
    assert_is(lambda *x: losses.combined_loss(*x, torch.tensor(1.25), eta=0.5, reduction=reduction), slow, *d)
    nothing = losses.combined_loss(*three(0), reduction=reduction)
    nothing.backward()
    assert nothing.item() == 0 == losses.classification_loss(*logits(0), reduction=reduction).item()


@pytest.mark.parametrize(
    ("loss", "options", "says"),
    [
        (losses.joint_loss, {"m1": 0.3, "m2": 0.7}, "m1 > m2 > 0"),
        (losses.joint_loss, {"m2": 0.0}, "m1 > m2 > 0"),
        (losses.joint_loss, {"margin_rule": "guess"}, "equation, text"),
        (losses.global_loss, {"global_distance": "cosine"}, "euclidean, squared_over_4"),
        (losses.combined_loss, {"reduction": "max"}, "sum, mean"),
    ],
)
def test_bad_options_are_named(loss, options, says):
    with pytest.raises(PapersError, match=says) as error:
        loss(*three(2), **options)
    assert "\n" not in str(error.value)
