"""The shared network against the networks that it stands for, one vector at a time."""

import random

import pytest
import torch
from tiny_nar import generator, worn
from torch import nn

from papers_lib.errors import PapersError
from papers_lib.nar.enumeration import score
from papers_lib.nar.networks import lresnet50e_ir, resnet18
from papers_lib.nar.supernet import FaceSuperNet, SuperNet, batch_statistics, recalibrated


def images(count=6, pixels=16, seed=0):
    return torch.randn(count, 3, pixels, pixels, generator=generator(seed))


def supernet(decisions=8, **others):
    torch.manual_seed(1)
    return worn(SuperNet(decisions, width=4, classes=5, **others))


def vectors(decisions, operators=4, count=4):
    rng = random.Random(decisions)
    return [tuple(rng.randrange(operators) for _ in range(decisions)) for _ in range(count)]


def weights_of(net, vector, blocks):
    """The shared weights that a vector uses, under the names of the network that stands alone.

    `blocks` are those of each stage, of two convolutions each.
    """
    codes = iter(vector if len(vector) == 2 * sum(blocks) else [code for code in vector for _ in "12"])
    chosen = {
        (str(stage), str(block), place): str(next(codes))
        for stage, count in enumerate(blocks, 1)
        for block in range(count)
        for place in "12"
    }
    found = {}
    for name, value in net.state_dict().items():
        parts = name.split(".")
        if parts[0] in ("stem", "embed"):
            parts = parts[1:]
        elif parts[2:] and parts[2] in ("conv1", "bn1", "conv2", "bn2"):
            code = parts.pop(3)
            if code != chosen[parts[0][-1], parts[1], parts[2][-1]]:
                continue
        found[".".join(parts)] = value
    return found


@pytest.mark.parametrize(
    ("decisions", "rule", "stem", "operators"),
    [(8, "A", "cifar", 4), (16, "B", "cifar", 4), (6, "enas", "imagenet", 4), (16, "A", "cifar", 6)],
)
@pytest.mark.parametrize("training", [False, True])
def test_a_path_is_the_standalone_network(decisions, rule, stem, operators, training):
    net = supernet(decisions, rule=rule, stem=stem, operators=operators).train(training)
    for vector in vectors(decisions, operators, count=2):
        alone = resnet18(vector, rule, stem, classes=5, width=4).train(training)
        alone.load_state_dict(weights_of(net, vector, (2,) * (3 if decisions == 6 else 4)))
        x = images(pixels=32)
        torch.testing.assert_close(net(x, vector), alone(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("decisions", "rule"), [(24, "A"), (48, "enas")])
@pytest.mark.parametrize("training", [False, True])
def test_a_path_of_the_face_supernet_is_the_standalone_face_network(decisions, rule, training):
    torch.manual_seed(2)
    net = worn(FaceSuperNet(5, decisions, width=2, embedding=6, image_size=20, rule=rule)).train(training)
    x = images(pixels=20)
    for vector in [*vectors(decisions, count=2), (0,) * decisions]:
        alone = lresnet50e_ir(vector, rule, width=2, embedding=6, image_size=20).train(training)
        weights = weights_of(net, vector, (3, 4, 14, 3))
        head = weights.pop("head.weight")
        alone.load_state_dict(weights)
        torch.manual_seed(3)  # dropout's
        ours = net(x, vector)
        torch.manual_seed(3)
        embeddings = alone(x)
        cosines = torch.nn.functional.cosine_similarity(embeddings[:, None], head[None], dim=2)  # [B, C]
        torch.testing.assert_close(ours, cosines, rtol=1e-4, atol=1e-5)


def test_scores_of_the_face_supernet_are_shares_of_nearest_identities():
    torch.manual_seed(4)
    net = FaceSuperNet(3, 24, width=2, embedding=4, image_size=16)
    x, y = images(12), torch.arange(12) % 3
    rows = vectors(24, count=3)
    with torch.no_grad(), batch_statistics(net):
        right = [(net(x, row).argmax(1) == y).double().mean() for row in rows]
    torch.testing.assert_close(score(net, x, y, rows), torch.stack(right))
    with pytest.raises(PapersError, match="decisions can be 24, 48"):
        FaceSuperNet(3, 8)


def test_only_the_chosen_operators_run_and_learn():
    net, vector, ran = supernet(8).train(), (1, 0, 2, 3, 0, 0, 1, 2), []
    for name, module in net.named_modules():
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    net(images(), vector).sum().backward()
    places = {
        f"layer{i // 2 + 1}.{i % 2}.{part}.{code}"
        for i, code in enumerate(vector)
        for part in ("conv1", "bn1", "conv2", "bn2")
    }
    candidates = {
        n for n, _ in net.named_modules() if n.count(".") == 3 and "downsample" not in n and "stem" not in n
    }
    assert {n for n in ran if n in candidates} == places
    learned = {n for n, p in net.named_parameters() if p.grad is not None}
    for name, _ in net.named_parameters():
        place = ".".join(name.split(".")[:4])
        assert (name in learned) == (place in places or place not in candidates)


def test_the_supernet_of_the_paper_has_14_89_million_parameters_however_many_decisions():
    with torch.device("meta"):
        eight, sixteen = (sum(p.numel() for p in SuperNet(n).parameters()) for n in (8, 16))
    assert round(eight / 1e6, 2) == 14.89 and eight == sixteen  # the same places


def test_batch_statistics_are_the_batchs_and_leave_the_running_ones():
    net, vector = supernet(8), vectors(8)[0]
    before = {k: v.clone() for k, v in net.state_dict().items()}
    net.eval()
    net.layer1.train()
    modes = [m.training for m in net.modules()]
    with batch_statistics(net):
        found = net(images(), vector)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert modes == [m.training for m in net.modules()]
    torch.testing.assert_close(found, net.train()(images(), vector))  # which moves them
    assert not torch.equal(net.state_dict()["stem.bn1.running_mean"], before["stem.bn1.running_mean"])


def test_batch_statistics_end_with_an_error_inside():
    net = supernet(8).eval()
    refused = (((0,) * 7, "too short"), ((0,) * 9, "too long"), ((0,) * 7 + (4,), "no operator"))
    for vector, message in refused:
        with pytest.raises(PapersError, match=message), batch_statistics(net):
            net(images(), vector)
    assert not any(m.training for m in net.modules())
    assert all(m.track_running_stats for m in net.modules() if isinstance(m, nn.BatchNorm2d))


def test_recalibrated_on_one_batch_is_that_batchs_statistics_up_to_its_unbiased_variance():
    net, vector = supernet(8).train(), vectors(8)[0]
    before = {k: v.clone() for k, v in net.state_dict().items()}
    x = images(64)
    with batch_statistics(net):
        want = net(x, vector)
    with recalibrated(net, vector, [x]):
        found = net(x, vector)
        alone = net(x[:1], vector)
    torch.testing.assert_close(found, want, rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(alone, found[:1], rtol=1e-4, atol=1e-5)  # no longer the batch's
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert all(m.training and m.momentum == 0.1 for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    with pytest.raises(PapersError, match="needs a batch"), recalibrated(net, vector, []):
        pass


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"decisions": 7}, "7 decisions"),
        ({"operators": 0}, "0 operators"),
        ({"rule": "bare"}, "rule bare"),
        ({"rule": "C"}, "unknown rule"),
        ({"stem": "big"}, "unknown stem"),
        ({"operators": 9}, "operator"),
        ({"width": 1.5}, "width is 1.5"),
        ({"classes": 0}, "classes is 0"),
    ],
)
def test_supernets_that_there_are_not(settings, message):
    with pytest.raises(PapersError, match=message):
        SuperNet(**settings)
