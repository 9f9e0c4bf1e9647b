import pytest
import torch
import torchvision
from torch import nn

from papers_lib.errors import PapersError
from papers_lib.networks import cifar


@pytest.mark.parametrize(
    ("name", "dimension"), [("resnet18_cifar", 512), ("resnet18_cifar32", 256), ("resnet18_cifar16", 128)]
)
def test_features_have_the_dimension_that_build_names(name, dimension):
    net, found = cifar.build(name)
    assert found == dimension
    assert net.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, dimension)
    assert net(torch.zeros(1, 3, 20, 20)).shape == (1, dimension)  # random resolution


def test_it_is_torchvisions_resnet18_but_for_the_stem():
    net, _ = cifar.resnet18()
    peer = torchvision.models.resnet18()
    peer.conv1, peer.maxpool, peer.fc = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity(), nn.Identity()
    peer.load_state_dict(net.state_dict())
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(net.train()(images), peer.train()(images))
    assert sum(p.numel() for p in net.parameters()) == 11_168_832


def test_the_first_stage_sees_every_pixel():
    net, _ = cifar.resnet18(4)
    assert net[:4](torch.zeros(1, 3, 32, 32)).shape == (1, 4, 32, 32)
    assert net[:7](torch.zeros(1, 3, 32, 32)).shape == (1, 32, 4, 4)


def test_it_starts_from_the_spread_that_torchvision_starts_from():
    torch.manual_seed(0)
    net, _ = cifar.resnet18()
    for key, weight in net.state_dict().items():
        if weight.ndim == 4 and key != "conv1.weight":
            assert weight.std().item() == pytest.approx(
                (2 / (len(weight) * weight[0, 0].numel())) ** 0.5, rel=0.05
            )


def test_other_names_are_those_of_the_backbones():
    net, dimension = cifar.build("tiny16")
    assert dimension == 128
    again, _ = cifar.build("tiny16", net.state_dict())
    assert torch.equal(again.stem[0].weight, net.stem[0].weight)


def test_weights_go_in_and_a_classifier_is_left_out():
    net, _ = cifar.build("resnet18_cifar16")
    state = {key: torch.full_like(value, 0.5) for key, value in net.state_dict().items()}
    loaded, _ = cifar.build("resnet18_cifar16", state | {"fc.weight": torch.zeros(7, 7)})
    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("resnet19", None, "unknown backbone 'resnet19': known are resnet18_cifar, .*resnet50"),
        ("resnet18_cifar", "imagenet", "no ImageNet weights exist for 'resnet18_cifar'"),
        ("resnet18_cifar16", {"a": torch.zeros(1)}, "do not fit the backbone 'resnet18_cifar16'"),
        ("resnet18_cifar16", cifar.resnet18(8)[0].state_dict(), "do not fit"),
    ],
)
def test_bad_names_and_weights_are_one_line(name, weights, message):
    with pytest.raises(PapersError, match=message) as error:
        cifar.build(name, weights)
    assert "\n" not in str(error.value)
