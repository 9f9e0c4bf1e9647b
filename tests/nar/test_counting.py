import itertools
import random

import numpy as np
import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from torch import nn

from papers_lib.errors import PapersError
from papers_lib.nar import counting
from papers_lib.nar.counting import costs, count, count_all
from papers_lib.nar.networks import lresnet50e_ir, resnet18
from papers_lib.nar.operators import RULES


def vector(decisions, **places):
    """Zeros but for `places`: at_3=2 puts a 2 at decision 3."""
    return [places.get(f"at_{i}", 0) for i in range(decisions)]


EIGHT = vector(8, at_0=1)
SIXTEEN = vector(16, at_0=1, at_3=2, at_8=1, at_14=2)
CIFAR = {"network": "resnet18_cifar", "image_size": 32, "classes": 10}
FACES = {"network": "lresnet50e_ir", "image_size": 112, "classes": 512}
EXACT = [
    ([0] * 8, {}, (11_689_512, 1_814_073_344)),
    ([0] * 16, {"rule": "enas"}, (11_689_512, 1_814_073_344)),
    (EIGHT, {}, (11_625_128, 1_612_165_120)),
    (EIGHT, {"rule": "bare"}, (11_616_936, 1_586_475_008)),
    (EIGHT, {"rule": "enas"}, (11_633_576, 1_637_855_232)),
    (SIXTEEN, {}, (9_266_408, 1_456_443_904)),
    (vector(16, at_0=1, at_4=2, at_9=1, at_15=2), {}, (8_972_648, 1_456_669_696)),
    (SIXTEEN, {"rule": "bare"}, (8_964_456, 1_411_712_000)),
    (SIXTEEN, {"rule": "B"}, (9_230_696, 1_437_402_112)),
    ([0] * 8, CIFAR, (11_173_962, 555_422_720)),
    (EIGHT, CIFAR, (11_109_578, 489_493_504)),
    (SIXTEEN, CIFAR, (8_750_858, 438_645_760)),
    ([0] * 24, FACES, (43_590_848, 6_309_330_944)),
    ([0] * 48, FACES, (43_590_848, 6_309_330_944)),
]


@pytest.mark.parametrize(("codes", "settings", "exact"), EXACT)
def test_exact_counts(codes, settings, exact):
    assert count(codes, **settings) == exact


def hooked(network, side):
    """Parameters, and multiply-accumulates counted while one image goes through."""
    total = 0

    def conv(module, _, output):
        nonlocal total
        total += module.weight.numel() * output.shape[2] * output.shape[3]

    def linear(module, *_):
        nonlocal total
        total += module.weight.numel()

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(conv)
        elif isinstance(module, nn.Linear):
            module.register_forward_hook(linear)
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, side, side))
    return sum(p.numel() for p in network.parameters()), total


def reachable(draw, decisions, rule, network):
    """A random vector of the six operators that the rule can build."""
    choices = costs(decisions, network, rule, 32 if network != "lresnet50e_ir" else 112, operators=6).choices
    return [draw.choice([code for code, found in enumerate(row) if found]) for row in choices]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("decisions", [6, 8, 16])
def test_counts_are_those_of_the_built_networks(rule, decisions):
    draw = random.Random(decisions)
    for stem, name, side in (("cifar", "resnet18_cifar", 32), ("imagenet", "resnet18", 49)):
        for _ in range(3):
            codes = reachable(draw, decisions, rule, name)
            network = resnet18(codes, rule, stem, classes=7, width=4)
            assert count(codes, name, rule, side, 7, width=4) == hooked(network, side), (codes, rule)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("decisions", [24, 48])
def test_counts_are_those_of_the_built_face_network(rule, decisions):
    codes = reachable(random.Random(decisions), decisions, rule, "lresnet50e_ir")
    network = lresnet50e_ir(codes, rule, width=4, embedding=16)
    assert count(codes, "lresnet50e_ir", rule, 112, 16, width=4) == hooked(network, 112)


@pytest.mark.parametrize("codes", [[0] * 8, EIGHT, SIXTEEN])
def test_counts_are_fvcores_for_convolutions_and_linear_layers(codes):
    network = resnet18(codes, stem="imagenet", classes=1000).eval()
    analysis = FlopCountAnalysis(network, torch.zeros(1, 3, 224, 224))
    analysis.unsupported_ops_warnings(False)
    found = analysis.by_operator()
    assert found["conv"] + found["linear"] == count(codes).multiply_accumulates


def test_all_vectors_in_the_order_of_product():
    found = count_all(6, "resnet18_cifar", image_size=16, classes=5, width=4)
    vectors = list(itertools.product(range(4), repeat=6))
    assert found.shape == (4096, 2)
    for i in random.Random(0).sample(range(4096), 60):
        assert tuple(found[i]) == count(vectors[i], "resnet18_cifar", "A", 16, 5, 4)


def test_the_whole_space_of_the_papers_eight_decisions():
    operations = count_all(8, **CIFAR)[:, 1]
    assert (operations.min(), operations.max()) == (68_883_456, 555_422_720)
    assert len(operations) == 65_536 and len(np.unique(operations)) == 1168
    assert (round(operations.mean() / 1e6, 1), round(float(np.median(operations)) / 1e6, 1)) == (191.6, 187.6)


def test_rules_without_an_operator_have_no_cost_there():
    choices = costs(8, rule="bare").choices
    assert [place for place, row in enumerate(choices) if None in row] == [2, 4, 6]
    with pytest.raises(PapersError, match=r"^rule bare cannot change channels .* use rule A$"):
        count_all(8, rule="bare")
    with pytest.raises(PapersError, match=r"^rule bare: a pool .* 64 channels to 128; use rule A"):
        count(vector(8, at_2=3), rule="bare")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([0] * 7,), "^the vector has a wrong length: 7 entries for 6 or 8 or 16 decisions; give one"),
        (([0] * 7 + [9],), "^entry 7 of the vector is no operator: 9; known are"),
        (([0] * 8, "resnet50"), "^unknown network 'resnet50'; known are resnet18, resnet18_cifar, lres"),
        (([0] * 8, "resnet18", "C"), "^unknown rule 'C'; known are A, B, bare, enas$"),
    ],
)
def test_bad_input_is_one_line(arguments, words):
    with pytest.raises(PapersError, match=words):
        count(*arguments)


@pytest.mark.parametrize("size", [0, 2.5, float("nan"), True])
def test_sizes_that_are_no_whole_number_from_one_are_refused(size):
    for name in ("image_size", "classes", "width"):
        for door, what in ((count, [0] * 8), (costs, 8), (count_all, 6), (count, [0] * 24)):
            network = "lresnet50e_ir" if what == [0] * 24 else "resnet18"
            with pytest.raises(PapersError, match=f"^{name} is {size!r}; give a whole number, 1 or more$"):
                door(what, network, **{name: size})
    with pytest.raises(PapersError, match=f"^operators is {size!r};"):
        costs(8, operators=size)
    assert count([0] * 8, image_size=np.int64(224)) == count([0] * 8)


def test_spaces_that_are_too_large_are_refused():
    with pytest.raises(PapersError, match=r"^4\*\*16 vectors are too many to list; 8 decisions at most$"):
        counting.count_all(16)
