"""The ResNet-18 for 32 pixels against torchvision's with its stem replaced."""

import pytest
import torch
import torchvision
from torch import nn

from papers_lib.networks import cifar


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
        if weight.ndim == 4 and key != "conv1.weight":  # σ² = 2 / (outputs · kernel)
            spread = (2 / (len(weight) * weight[0, 0].numel())) ** 0.5
            assert weight.std().item() == pytest.approx(spread, rel=0.05)
