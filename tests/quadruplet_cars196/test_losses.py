"""Each equation against plain loops over Python numbers, forward and (by differences) gradient."""

import math

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


def hinge(value):
    return max(0.0, value)


def mean(values):
    return sum(values) / len(values)


def variance(values, less=0):
    return sum((v - mean(values)) ** 2 for v in values) / (len(values) - less)


def slow_joint(p, m, n, first):
    return hinge(1 - m / (p + first)) + hinge(1 - n / (m + M2))


def slow_global(p, m, n, t1=T1, t2=T2, lg1=1.0, lg2=1.0, less=0):
    return (
        variance(p, less)
        + variance(m, less)
        + variance(n, less)
        + lg1 * hinge(mean(p) - mean(m) + t1 - t2)
        + lg2 * hinge(mean(m) - mean(n) + t2)
    )


def lists(d):
    return [row.tolist() for row in d]


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
    assert losses.contrastive_loss(d, same, alpha=1.0).tolist() == pytest.approx(slow)
    assert gradcheck(lambda x: losses.contrastive_loss(x, same, 1.0), d)
    p, _, n = three(20)
    slow = [hinge(a**2 - b**2 + 0.2) for a, b in zip(p.tolist(), n.tolist(), strict=True)]
    assert 0 in slow and max(slow) > 0
    assert losses.triplet_loss(p, n, 0.2).tolist() == pytest.approx(slow)
    assert gradcheck(lambda a, b: losses.triplet_loss(a, b, 0.2), (p, n))


@pytest.mark.parametrize("seed", range(6))
def test_equation_3_in_all_its_readings(seed):
    d = three(5, seed)
    assert losses.global_loss(*d).item() == pytest.approx(slow_global(*lists(d)))
    assert gradcheck(losses.global_loss, d)
    weighted = losses.global_loss(*d, t1=0.9, t2=0.2, lg1=0.5, lg2=2.0)
    assert weighted.item() == pytest.approx(slow_global(*lists(d), 0.9, 0.2, 0.5, 2.0))
    unbiased = losses.global_loss(*d, var_unbiased=True)
    assert unbiased.item() == pytest.approx(slow_global(*lists(d), less=1))
    quarter = [[v**2 / 4 for v in row] for row in lists(d)]
    squared = losses.global_loss(*d, global_distance="squared_over_4")
    assert squared.item() == pytest.approx(slow_global(*quarter))


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
    generator = torch.Generator().manual_seed(0)
    coarse, fine = (
        torch.randn(count, k, generator=generator, dtype=torch.float64, requires_grad=True) for k in (3, 5)
    )
    return coarse, fine, torch.tensor([0, 2, 1, 2])[:count], torch.tensor([4, 0, 3, 3])[:count]


def slow_entropy(scores, label):
    return -math.log(math.exp(scores[label]) / sum(math.exp(s) for s in scores))


@pytest.mark.parametrize("swap", [False, True])
def test_equation_4(swap):
    coarse, fine, y1, y2 = logits()
    w1, w2 = (0.25, 0.08) if swap else (0.08, 0.25)
    slow = sum(
        w1 * slow_entropy(coarse[i].tolist(), y1[i]) + w2 * slow_entropy(fine[i].tolist(), y2[i])
        for i in range(4)
    )
    arguments = (y1, y2, 0.08, 0.25, swap)
    assert losses.classification_loss(coarse, fine, *arguments).item() == pytest.approx(slow)
    mean_loss = losses.classification_loss(coarse, fine, *arguments, "mean").item()
    assert mean_loss == pytest.approx(slow / 4)
    assert gradcheck(lambda a, b: losses.classification_loss(a, b, *arguments), (coarse, fine))


@pytest.mark.parametrize(("rule", "first"), [("equation", M1 - M2), ("text", M1)])
def test_equation_5(rule, first):
    p, m, n = (row.detach() for row in three(30))
    d = ((p / 4).requires_grad_(), m.requires_grad_(), n.requires_grad_())
    slow = [slow_joint(p, m, n, first) for p, m, n in zip(*lists(d), strict=True)]
    assert 0 in slow and max(slow) > 0.5
    assert losses.joint_loss(*d, margin_rule=rule).tolist() == pytest.approx(slow)
    assert gradcheck(lambda *x: losses.joint_loss(*x, margin_rule=rule), d)


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
    rows = lists(d)
    joint = sum(slow_joint(p, m, n, M1 - M2) for p, m, n in zip(*rows, strict=True))
    joint /= count if reduction == "mean" else 1
    slow = joint + 1.25 + 0.5 * slow_global(*rows)
    loss = losses.combined_loss(*d, torch.tensor(1.25), eta=0.5, reduction=reduction)
    assert loss.item() == pytest.approx(slow)
    assert gradcheck(lambda *x: losses.combined_loss(*x, reduction=reduction), d)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_no_quadruplets_cost_nothing(reduction):
    d = three(0)
    loss = losses.combined_loss(*d, reduction=reduction)
    loss.backward()
    assert loss.item() == 0
    coarse, fine, y1, y2 = logits(0)
    assert losses.classification_loss(coarse, fine, y1, y2, reduction=reduction).item() == 0


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda d: losses.joint_loss(*d, m1=0.3, m2=0.7), "m1 > m2 > 0"),
        (lambda d: losses.joint_loss(*d, m2=0.0), "m1 > m2 > 0"),
        (lambda d: losses.joint_loss(*d, margin_rule="guess"), "equation, text"),
        (lambda d: losses.global_loss(*d, global_distance="cosine"), "euclidean, squared_over_4"),
        (lambda d: losses.combined_loss(*d, reduction="max"), "sum, mean"),
    ],
)
def test_bad_options_are_named(call, says):
    with pytest.raises(PapersError, match=says) as error:
        call(three(2))
    assert "\n" not in str(error.value)
