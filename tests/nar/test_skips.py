"""Skips of the macro controller against loops over numbers; the KL of Figure 1 and where it ends."""

import math

import pytest
import torch
from tiny_nar import generator

from papers_lib.errors import PapersError
from papers_lib.nar.controller import PRESETS, SIZE
from papers_lib.nar.options import SkipSettings
from papers_lib.nar.skips import OPERATORS, SkipController, kl_of_skips, simulate
from papers_lib.nar.study.printed import skip_ceiling


def controller(layers=3, preset="enas_code"):
    """With weights so large that its choices depend on those before."""
    found = SkipController(layers, preset, generator(1)).double()
    for p in found.parameters():
        p.data *= 8
    return found


def gates(net, x, h, c):
    i, f, g, o = (net.lstm.weight_ih @ x + net.lstm.weight_hh @ h).split(SIZE)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def slow_log_probs(net, operators, skips):
    """One architecture, one choice after the other, as the released graph is built."""
    cap, heat = net.preset.tanh, net.preset.temperature
    h = c = torch.zeros(SIZE, dtype=torch.float64)
    x, anchors, found_ops, found_skips, logits, skips = net.start, [], [], [], [], list(skips)
    for layer in range(net.layers):
        h, c = gates(net, x, h, c)
        raw = (net.head @ h).tolist()
        bound = [cap * math.tanh(r / heat) for r in raw]
        found_ops.append(bound[operators[layer]] - math.log(sum(map(math.exp, bound))))
        h, c = gates(net, net.embedding[operators[layer]], h, c)
        x, total, count = net.start, torch.zeros(SIZE, dtype=torch.float64), 0
        for anchor in anchors:
            query = torch.tanh(anchor @ net.attention["w1"] + h @ net.attention["w2"]) @ net.v
            q = cap * math.tanh(float(query) / heat)
            skip = skips.pop(0)
            found_skips.append((q if skip else -q) - math.log(math.exp(q) + math.exp(-q)))
            logits.append(q)
            total, count = total + anchor * skip, count + skip
        if anchors:
            x = total / (1 + count)
        anchors.append(h)
    return found_ops, found_skips, logits


@pytest.mark.parametrize("preset", PRESETS)
def test_choices_equal_the_loop(preset):
    net = controller(4, preset)
    drawn = net.sample(5, generator())
    assert drawn.operators.shape == (5, 4) and drawn.skips.shape == drawn.logits.shape == (5, 6)
    assert drawn.log_probs.shape == (5, 10)
    order = [0, 1, 4, 2, 5, 6, 3, 7, 8, 9]  # every operator stands before the skips of its layer
    with torch.no_grad():
        for row in range(5):
            ops, skips, q = slow_log_probs(net, drawn.operators[row].tolist(), drawn.skips[row].tolist())
            want = torch.tensor(ops + skips, dtype=torch.float64)
            torch.testing.assert_close(drawn.log_probs[row], want[order])
            torch.testing.assert_close(drawn.logits[row], torch.tensor(q, dtype=torch.float64))
    assert drawn.logits.std() > 0.1  # the weights are large enough to matter


def test_skips_are_drawn_as_often_as_the_policy_says():
    drawn = controller(2).sample(20000, generator())
    p = torch.sigmoid(2 * drawn.logits.detach())
    assert abs(float(drawn.skips.double().mean() - p.mean())) < 4 * math.sqrt(0.25 / 20000)
    counts = drawn.operators[:, 0].bincount(minlength=OPERATORS)
    assert len(counts) == OPERATORS and counts.min() > 0


def slow_kl(logits, layers, target):
    logits, sums = list(logits), []
    for layer in range(1, layers):
        total = 0.0
        for _ in range(layer):
            q = logits.pop(0)
            for x, t in ((q, target), (-q, 1 - target)):
                p = 1 / (1 + math.exp(-x))
                total += p * math.log(p / t)
        sums.append(total)
    return sum(sums) / len(sums)


@pytest.mark.parametrize("target", [0.5, 0.4])
def test_kl_equals_the_loop(target):
    logits = torch.randn(3, 6, generator=generator(), dtype=torch.float64)
    want = sum(slow_kl(row, 4, target) for row in logits.tolist()) / 3
    assert float(kl_of_skips(logits, 4, target)) == pytest.approx(want, rel=1e-12)
    assert float(kl_of_skips(torch.zeros(66))) == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize(("tanh", "end", "drawn"), [(1.5, 1.31, 3.01), (2.5, 2.55, 3.92)])
def test_the_tanh_ends_the_kl(tanh, end, drawn):
    for sign in (1, -1):
        full = torch.full((66,), sign * tanh, dtype=torch.float64)
        assert float(kl_of_skips(full)) == pytest.approx(skip_ceiling(tanh)) == pytest.approx(end, abs=5e-3)
        assert float(kl_of_skips(2 * full)) == pytest.approx(drawn, abs=6e-3)
    assert skip_ceiling(tanh, sampled=True) == pytest.approx(drawn, abs=6e-3)
    assert skip_ceiling(math.inf) == pytest.approx(6 * math.log(2))
    assert float(kl_of_skips(torch.full((66,), 50.0))) == pytest.approx(6 * math.log(2), rel=1e-5)


def history(**changes):
    settings = {"layers": 4, "epochs": 3, "updates": 25, "samples": 10, "gain": 1.0, "noise": 0.0}
    return simulate(SkipSettings(**(settings | changes)))["history"]


def test_a_search_with_a_gain_makes_skips_and_the_penalty_keeps_them_at_half():
    free, held = history(), history(weight=50.0)
    assert len(free) == 3 and free[0]["kl"] < 0.1
    assert free[-1]["rate"] > 0.7 and held[-1]["rate"] < 0.6
    assert free[-1]["kl"] > 5 * held[-1]["kl"] and free[-1]["reward"] > free[0]["reward"]
    assert free[-1]["kl"] <= skip_ceiling(1.5, layers=4) + 1e-5
    assert history() == free


def test_what_cannot_be():
    with pytest.raises(PapersError, match="1 layers have no skips"):
        SkipController(1)
    with pytest.raises(PapersError, match="unknown preset"):
        SkipController(preset="none")
    with pytest.raises(PapersError, match="12 layers have 66 skips"):
        kl_of_skips(torch.zeros(65))
    with pytest.raises(PapersError, match="target 1"):
        kl_of_skips(torch.zeros(66), target=1.0)
