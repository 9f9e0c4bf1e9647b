"""The controller against a loop over Python numbers, REINFORCE against a hand computation, and a bandit."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from tiny_nar import generator

from papers_lib.errors import PapersError
from papers_lib.nar.controller import PRESETS, SIZE, Controller, Reinforce


def controller(decisions=3, operators=4, preset="enas_code", scale=20.0):
    """With weights so large that its choices depend on those before."""
    found = Controller(decisions, operators, preset, generator(1))
    for p in found.parameters():
        p.data *= scale if p.shape in ((SIZE,), (operators, SIZE)) else 3
    return found


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def slow_log_probs(net, vector):
    """One number after the other: gates, cell, logits, softmax."""
    w_x, w_h = net.lstm.weight_ih.tolist(), net.lstm.weight_hh.tolist()
    x, h, c, found = net.start.tolist(), [0.0] * SIZE, [0.0] * SIZE, []
    for a in vector:
        gates = [
            sum(w * v for w, v in zip(wx, x, strict=True)) + sum(w * v for w, v in zip(wh, h, strict=True))
            for wx, wh in zip(w_x, w_h, strict=True)
        ]
        i, f, g, o = (gates[k * SIZE : (k + 1) * SIZE] for k in range(4))
        c = [sigmoid(f[j]) * c[j] + sigmoid(i[j]) * math.tanh(g[j]) for j in range(SIZE)]
        h = [sigmoid(o[j]) * math.tanh(c[j]) for j in range(SIZE)]
        raw = [sum(w * v for w, v in zip(row, h, strict=True)) for row in net.head.tolist()]
        logits = [net.preset.tanh * math.tanh(r / net.preset.temperature) for r in raw]
        found.append([logit - math.log(sum(map(math.exp, logits))) for logit in logits])
        x = net.embedding[a].tolist()
    return found


@pytest.mark.parametrize("preset", PRESETS)
def test_log_probabilities_equal_the_loop(preset):
    net = controller(preset=preset)
    vectors = [(0, 3, 1), (2, 2, 0)]
    want = torch.tensor([slow_log_probs(net, v) for v in vectors])
    torch.testing.assert_close(net.distributions(vectors).detach(), want, rtol=1e-4, atol=1e-5)
    own = want.gather(2, torch.tensor(vectors)[:, :, None])[:, :, 0]
    torch.testing.assert_close(net.log_probs(vectors).detach(), own, rtol=1e-4, atol=1e-5)
    assert want.std(dim=2).min() > 0.1  # the weights are large enough to matter


def test_samples_come_from_the_policy_and_bring_their_log_probabilities():
    net = controller(2, 3)
    vectors, log_probs = net.sample(20000, generator())
    torch.testing.assert_close(log_probs, net.log_probs(vectors).detach())
    every = list(itertools.product(range(3), repeat=2))
    p = net.log_probs(every).sum(1).exp().detach()
    counts = torch.tensor([sum(row == [*v] for row in vectors.tolist()) for v in every])
    assert (counts / 20000 - p).abs().max() < 4 * math.sqrt(0.25 / 20000)
    again, _ = net.sample(20000, generator())
    assert torch.equal(vectors, again) and not torch.equal(vectors, net.sample(20000, generator(1))[0])


def test_argmax_is_greedy():
    net, prefix = controller(4), ()
    for t in range(4):
        rows = slow_log_probs(net, (*prefix, 0))
        prefix += (max(range(4), key=rows[t].__getitem__),)
    assert net.argmax() == prefix


def test_entropy_a_decision():
    net, vectors = controller(), [(0, 3, 1), (2, 2, 0), (2, 1, 1)]
    want = [[-sum(math.exp(x) * x for x in row) for row in slow_log_probs(net, v)] for v in vectors]
    torch.testing.assert_close(net.entropies(vectors), torch.tensor(want).mean(0), rtol=1e-4, atol=1e-5)
    every = list(itertools.product(range(4), repeat=3))
    log_p = net.log_probs(every).sum(1).detach()
    samples, _ = net.sample(4000, generator())
    assert float(net.entropies(samples).sum()) == pytest.approx(-float((log_p.exp() * log_p).sum()), abs=0.03)


def test_the_tanh_bounds_every_choice():
    """Figures of the released constant: .870 of one operator, .33 of a vector of 8; .980 and .85."""
    for preset, one, eight in (("enas_code", 0.870, 0.33), ("enas_paper", 0.980, 0.85)):
        net = controller(8, preset=preset, scale=1e4)
        net.lstm.weight_ih.data *= 100
        vector = net.argmax()
        top = net.log_probs([vector]).exp().max()
        bound = 1 / (1 + 3 * math.exp(-2 * net.preset.tanh))
        assert float(top.detach()) <= bound + 1e-5
        assert bound == pytest.approx(one, abs=5e-4) and bound**8 == pytest.approx(eight, abs=5e-3)


def test_weights_of_the_released_controller():
    net = Controller(8)
    assert sum(p.numel() for p in net.parameters()) == 2 * 64 * 256 + 64 + 2 * 4 * 64 == 33344
    assert all(p.abs().max() <= 0.1 and p.abs().max() > 0.08 for p in net.parameters())


def hand_gradient(net, vectors, rewards, baselines, entropy_weight):
    """Σ of the samples' own gradients, one backward each, with a baseline that moves before each."""
    total = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    for vector, reward, baseline in zip(vectors, rewards, baselines, strict=True):
        log_p = net.log_probs([vector])
        bonus = sum(-math.exp(x) * x for x in log_p[0].tolist()) * entropy_weight
        net.zero_grad()
        log_p.sum().backward()
        for name, p in net.named_parameters():
            total[name] -= (reward + bonus - baseline) * p.grad / len(vectors)
    return total


@pytest.mark.parametrize("entropy", [0.0, 0.3])
def test_one_update_equals_the_hand_computation(entropy):
    """Entropy enters through the reward alone."""
    net = controller()
    vectors, rewards = [(0, 1, 2), (3, 3, 3), (0, 1, 1)], [0.5, 0.7, 0.1]
    bonuses = [sum(-math.exp(x) * x for x in row) * entropy for row in net.log_probs(vectors).tolist()]
    baselines, moving = [], 0.0
    for reward, bonus in zip(rewards, bonuses, strict=True):
        moving += 0.01 * (reward + bonus - moving)
        baselines.append(moving)
    want = hand_gradient(net, vectors, rewards, baselines, entropy)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    learner = Reinforce(net, replace(PRESETS["nar"], entropy=entropy))
    advantages = learner.step(net.log_probs(vectors), rewards)
    expected = [r + bonus - b for r, bonus, b in zip(rewards, bonuses, baselines, strict=True)]
    assert advantages.tolist() == pytest.approx(expected, abs=1e-5)
    assert learner.baseline == pytest.approx(moving)
    for name, p in net.named_parameters():
        g = want[name]
        torch.testing.assert_close(p.grad, g, rtol=1e-4, atol=1e-7)
        # Adam's first step with β₁ = 0: m = g, v / (1 − β₂) = g²
        moved = before[name] - 1e-3 * g / (g.abs() + 1e-3)
        torch.testing.assert_close(p.detach(), moved, rtol=1e-4, atol=1e-6)


def test_a_penalty_is_added_to_the_loss():
    net = controller()
    learner = Reinforce(net, PRESETS["nar"])  # a first reward of 0 has no advantage
    before = net.start.detach().clone()
    learner.step(net.log_probs([(0, 0, 0)]), [0.0], penalty=(net.start**2).sum())
    torch.testing.assert_close(net.start.grad, 2 * before)


def gradient(net, vectors, rewards, baseline):
    learner = Reinforce(net, PRESETS["nar"], baseline)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    learner.step(net.log_probs(vectors), rewards)
    net.load_state_dict(before)
    return torch.cat([p.grad.flatten() for p in net.parameters()])


def test_leave_one_out_is_unbiased_over_all_pairs_of_draws():
    """E over both draws of the step's gradient is −∇ Σ_a π(a) R(a), whatever images add to both rewards."""
    net = controller(2, 2)
    every = list(itertools.product(range(2), repeat=2))
    worth = dict(zip(every, (0.2, 0.9, 0.4, 0.3), strict=True))
    p = net.log_probs(every).sum(1).exp()
    exact = torch.autograd.grad(-(p * torch.tensor(list(worth.values()))).sum(), list(net.parameters()))
    want = torch.cat([g.flatten() for g in exact])
    chance = dict(zip(every, p.tolist(), strict=True))
    found = torch.zeros_like(want)
    for a, b in itertools.product(every, repeat=2):
        shift = 0.3 * (a[0] + b[1])  # of the images that both meet: any number will do
        one = gradient(net, [a, b], [worth[a], worth[b]], "leave_one_out")
        shifted = gradient(net, [a, b], [worth[a] + shift, worth[b] + shift], "leave_one_out")
        torch.testing.assert_close(shifted, one, rtol=1e-3, atol=1e-6)
        found += chance[a] * chance[b] * one
    torch.testing.assert_close(found, want, rtol=1e-3, atol=1e-6)
    with pytest.raises(PapersError, match="draw two samples or more"):
        gradient(net, [(0, 0)], [0.5], "leave_one_out")


@pytest.mark.parametrize("preset", ["enas_code", "nar"])
def test_a_bandit_of_64_arms_is_solved(preset):
    best, draws = (2, 0, 3), generator()
    net = Controller(3, 4, preset, generator())
    learner = Reinforce(net, net.preset)
    for _ in range(250):
        vectors, _ = net.sample(20, draws)
        learner.step(net.log_probs(vectors), (vectors == torch.tensor(best)).float().mean(1))
    assert net.argmax() == best
    assert float(net.log_probs([best]).sum().exp().detach()) > 0.2  # 1/64 before


def test_presets_are_those_of_the_code_and_of_the_papers():
    code, paper, nar = (PRESETS[name] for name in ("enas_code", "enas_paper", "nar"))
    assert (code.rate, code.tanh, code.temperature, code.entropy) == (1e-3, 1.5, 1.0, 1e-4)
    assert (paper.rate, paper.tanh, paper.temperature, paper.entropy) == (3.5e-4, 2.5, 5.0, 0.1)
    assert nar == replace(code, entropy=0.0)


REFUSED = [
    (lambda net: net.log_probs([(0.5, 0, 0)]), "are torch.float32"),
    (lambda net: net.log_probs([(True, False, True)]), "are torch.bool"),
    (lambda net: net.log_probs([(0, 0, 0), (0,)]), "ragged"),
    (lambda net: net.log_probs(None), "hold no numbers"),
    (lambda net: net.log_probs([(0, 0)]), r"they must be \[B, 3\], whole numbers from 0 to 3"),
    (lambda net: net.log_probs([(0, 0, 4)]), "hold other operators; they must be"),
    (lambda net: net.sample(-1), "-1 vectors cannot be drawn"),
    (lambda net: Controller(8, preset="best"), "unknown preset 'best'"),
    (lambda net: Controller(0), "nothing to search"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_what_makes_no_sense_is_one_line(call, message):
    with pytest.raises(PapersError, match=message) as error:
        call(controller())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("rewards", "penalty", "message"),
    [
        ([0.1, 0.2], None, "one finite reward each"),
        ([math.nan], None, "one finite reward each"),
        ([[0.1]], None, "one finite reward each"),
        ([1.0], math.inf, "^the penalty is inf; a step needs a finite one$"),
    ],
)
def test_a_refused_step_leaves_everything_as_it_was(rewards, penalty, message):
    net = controller()
    learner, before = Reinforce(net, net.preset), [p.detach().clone() for p in net.parameters()]
    with pytest.raises(PapersError, match=message):
        learner.step(net.log_probs([(0, 0, 0)]), rewards, penalty and penalty * (net.start**2).sum())
    assert learner.baseline == 0
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), before, strict=True))
