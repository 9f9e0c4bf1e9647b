"""The shared network against the networks that it stands for, one vector at a time."""

import random

import pytest
import torch
from torch import nn

from papers_lib.errors import PapersError
from papers_lib.nar.enumeration import score
from papers_lib.nar.networks import lresnet50e_ir, resnet18
from papers_lib.nar.supernet import FaceSuperNet, SuperNet, batch_statistics, recalibrated


def images(count=6, pixels=16, seed=0):
    return torch.randn(count, 3, pixels, pixels, generator=torch.Generator().manual_seed(seed))


def supernet(decisions=8, **others):
    torch.manual_seed(1)
    net = SuperNet(decisions, width=4, classes=5, **others)
    for module in net.modules():  # statistics that are not those of a fresh layer
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(std=0.1)
    return net


def vectors(decisions, operators=4, count=4):
    rng = random.Random(decisions)
    return [tuple(rng.randrange(operators) for _ in range(decisions)) for _ in range(count)]


def weights_of(net, vector):
    """The shared weights that a vector uses, under the names of `resnet18`."""
    pairs = list(zip(vector[::2], vector[1::2], strict=True))
    places = pairs if len(vector) == 16 else [(code, code) for code in vector]
    found = {}
    for name, value in net.state_dict().items():
        layer, block, module, *rest = [*name.removeprefix("stem.").split("."), "", ""]
        if name.startswith("layer") and module != "downsample":
            code = places[2 * (int(layer[-1]) - 1) + int(block)][module[-1] == "2"]
            if rest[0] == str(code):
                found[".".join([layer, block, module, *rest[1:]]).rstrip(".")] = value
        else:
            found[name.removeprefix("stem.")] = value
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
        alone.load_state_dict(weights_of(net, vector))
        torch.testing.assert_close(
            net(images(pixels=32), vector), alone(images(pixels=32)), rtol=1e-5, atol=1e-6
        )


def face_weights_of(net, vector):
    """The shared weights that a vector uses, under the names of `lresnet50e_ir`."""
    codes = iter(vector if len(vector) == 48 else [code for code in vector for _ in "12"])
    chosen = {
        (f"stage{stage}", str(block), place): str(next(codes))
        for stage, units in enumerate((3, 4, 14, 3), 1)
        for block in range(units)
        for place in "12"
    }
    found = {}
    for name, value in net.state_dict().items():
        parts = name.split(".")
        if parts[0].startswith("stage") and parts[2] in ("conv1", "bn1", "conv2", "bn2"):
            if parts.pop(3) != chosen[parts[0], parts[1], parts[2][-1]]:
                continue
        elif parts[0] in ("stem", "embed"):
            parts = parts[1:]
        found[".".join(parts)] = value
    weight = found.pop("head.weight")
    return found, weight


@pytest.mark.parametrize(("decisions", "rule"), [(24, "A"), (48, "enas")])
@pytest.mark.parametrize("training", [False, True])
def test_a_path_of_the_face_supernet_is_the_standalone_face_network(decisions, rule, training):
    torch.manual_seed(2)
    net = FaceSuperNet(5, decisions, width=2, embedding=6, image_size=20, rule=rule).train(training)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    x = images(pixels=20)
    for vector in [*vectors(decisions, count=2), (0,) * decisions]:
        alone = lresnet50e_ir(vector, rule, width=2, embedding=6, image_size=20).train(training)
        weights, head = face_weights_of(net, vector)
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


def test_the_supernet_of_the_paper_has_the_parameters_that_its_parts_have():
    """14.89 M with the CIFAR stem and rule A."""
    with torch.device("meta"):
        found = sum(p.numel() for p in SuperNet(8).parameters())
        sixteen = sum(p.numel() for p in SuperNet(16).parameters())
    assert round(found / 1e6, 2) == 14.89 and found == sixteen  # the same places


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
    torch.testing.assert_close(
        found, net.train()(images(), vector)
    )  # training mode moves them, the same logits
    assert not torch.equal(net.state_dict()["stem.bn1.running_mean"], before["stem.bn1.running_mean"])


def test_batch_statistics_end_with_an_error_inside():
    net = supernet(8).eval()
    for vector, message in (
        ((0,) * 7, "too short"),
        ((0,) * 9, "too long"),
        ((0,) * 7 + (4,), "no operator"),
    ):
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
        ({"width": 0}, "width is 0"),
        ({"width": 1.5}, "width is 1.5"),
        ({"classes": 0}, "classes is 0"),
    ],
)
def test_supernets_that_there_are_not(settings, message):
    with pytest.raises(PapersError, match=message):
        SuperNet(**settings)
