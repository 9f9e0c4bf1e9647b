"""LARS, schedules and the moving average against loops over Python numbers and tensors."""

import math
from copy import deepcopy

import pytest
import torch

from papers_lib.errors import PapersError
from papers_lib.median_triplet.optimisers import Lars, ema_, ema_momentum, warm_cosine

SHAPES = ((4, 3), (5,), (2, 3, 3, 3), (1, 7), ())


def parameters(seed=0):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=g).double().requires_grad_() for shape in SHAPES]


def give_gradients(params, seed):
    for p, g in zip(params, parameters(100 + seed), strict=True):
        p.grad = g.detach() * 3


def slow_step(params, buffers, lr, momentum=0.9, decay=1e-6, eta=1e-3, inside=True):
    """One parameter after the other, as the public code does it."""
    for p, v in zip(params, buffers, strict=True):
        update, rate = p.grad.clone(), 1.0
        if p.ndim > 1:
            w, g = p.detach().norm().item(), p.grad.norm().item()
            rate = eta * w / (g + decay * w)
            update += decay * p.detach()
        v.mul_(momentum).add_(update * rate * (lr if inside else 1))
        p.detach().sub_(v * (1 if inside else lr))


@pytest.mark.parametrize("inside", [True, False])
def test_lars_equals_the_loop_over_a_changing_rate(inside):
    mine, theirs = parameters(), parameters()
    buffers = [torch.zeros_like(p) for p in theirs]
    optimiser = Lars(mine, 1.0, weight_decay=0.1, eta=0.02, lr_inside=inside)
    for step, lr in enumerate((4.8, 2.0, 0.1, 0.0)):
        for group in optimiser.param_groups:
            group["lr"] = lr
        give_gradients(mine, step)
        give_gradients(theirs, step)
        optimiser.step()
        slow_step(theirs, buffers, lr, decay=0.1, eta=0.02, inside=inside)
        for p, q in zip(mine, theirs, strict=True):
            torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(p.grad, parameters(100 + step)[SHAPES.index(p.shape)] * 3)


def test_weights_or_gradients_of_zero_take_an_ordinary_step():
    """λ would be 0, and the weight never move again, or 0/0."""
    dead = torch.zeros(2, 2, requires_grad=True)
    still = torch.ones(2, 2, requires_grad=True)
    dead.grad, still.grad = torch.ones(2, 2), torch.zeros(2, 2)
    Lars([dead, still], 0.5, weight_decay=0.1).step()
    assert torch.equal(dead, torch.full((2, 2), -0.5))
    torch.testing.assert_close(still.detach(), torch.full((2, 2), 1 - 0.5 * 0.1))


def test_lars_keeps_its_buffers_through_a_checkpoint_and_skips_what_has_no_gradient():
    params = parameters()
    optimiser = Lars(params, 0.5)
    give_gradients(params, 0)
    params[0].grad = None
    before = params[0].detach().clone()
    optimiser.step()
    assert torch.equal(params[0], before)
    copies = [p.detach().clone().requires_grad_() for p in params]
    other = Lars(copies, 0.1)
    other.load_state_dict(deepcopy(optimiser.state_dict()))
    for stepped, by in ((params, optimiser), (copies, other)):
        give_gradients(stepped, 1)
        assert by.step(lambda: 3.0) == 3.0
    assert all(torch.equal(p, q) for p, q in zip(params, copies, strict=True))


@pytest.mark.parametrize("value", [-0.1, math.nan])
@pytest.mark.parametrize("name", ["lr", "momentum", "weight_decay", "eta"])
def test_settings_below_zero_are_named(name, value):
    with pytest.raises(PapersError, match=name):
        Lars(parameters(), **{"lr": 1.0, name: value})


def test_warm_up_and_cosine():
    factors = [warm_cosine(step, 200, 10) for step in range(201)]
    assert factors[0] == pytest.approx(1e-4)
    assert factors[5] == pytest.approx((1 - 0.5 * (1 - 1e-4)) * (1 + math.cos(math.pi * 5 / 200)) / 2)
    assert factors[10] == pytest.approx((1 + math.cos(math.pi * 10 / 200)) / 2)
    assert factors[100] == pytest.approx(0.5) and factors[200] == pytest.approx(0)
    assert factors[:11] == sorted(factors[:11]) and factors[10:] == sorted(factors[10:], reverse=True)
    assert warm_cosine(0, 200) == 1


@pytest.mark.parametrize("steps", [(-1, 10, 0), (11, 10, 0), (0, 10, 11), (0, 10, -1), (0, 0, 0)])
def test_steps_outside_the_schedule(steps):
    with pytest.raises(PapersError, match="within the steps"):
        warm_cosine(*steps)


def test_momentum_rises_from_its_base_to_one():
    values = [ema_momentum(0.99, step, 50) for step in range(51)]
    assert values[0] == pytest.approx(0.99) and values[25] == pytest.approx(0.995) and values[50] == 1
    assert values == sorted(values)


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.99, 1.0])
def test_ema_equals_the_formula_in_place(momentum):
    target, online = parameters(), parameters(1)
    want = [momentum * t.detach() + (1 - momentum) * o.detach() for t, o in zip(target, online, strict=True)]
    places = [t.data_ptr() for t in target]
    ema_(iter(target), iter(online), momentum)
    for t, w in zip(target, want, strict=True):
        torch.testing.assert_close(t.detach(), w)
    assert places == [t.data_ptr() for t in target]
    assert all(torch.equal(o, p) for o, p in zip(online, parameters(1), strict=True))


def test_ema_of_unlike_networks():
    with pytest.raises(PapersError, match="4 tensors follow 5"):
        ema_(parameters()[:4], parameters(), 0.9)
    ema_([], [], 0.9)
