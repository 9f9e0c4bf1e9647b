import pytest
import torch

from papers_lib.errors import PapersError
from papers_lib.networks import backbones


@pytest.mark.parametrize("name", ["tiny16", "tiny24", "resnet18"])
def test_features_have_the_dimension_that_build_names(name):
    net, dimension = backbones.build(name)
    assert net.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, dimension)


@pytest.mark.parametrize(("name", "dimension"), [("resnet50", 2048), ("resnet101", 2048)])
def test_the_papers_backbone_is_torchvisions(name, dimension):
    with torch.device("meta"):
        net, found = backbones.build(name)
    assert found == dimension
    assert isinstance(net.fc, torch.nn.Identity)


def test_weights_go_in_and_a_classifier_of_other_classes_is_left_out():
    net, _ = backbones.build("tiny16")
    state = {key: torch.full_like(value, 0.5) for key, value in net.state_dict().items()}
    loaded, _ = backbones.build("tiny16", state | {"fc.weight": torch.zeros(7, 7)})
    assert all(torch.equal(value, state[key]) for key, value in loaded.state_dict().items())


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("resnet17", None, "unknown backbone 'resnet17': known are"),
        ("tiny16", "imagenet", "no ImageNet weights exist for 'tiny16'"),
        ("tiny16", {"a": torch.zeros(1)}, "do not fit the backbone 'tiny16'"),
    ],
)
def test_bad_names_and_weights_are_one_line(name, weights, message):
    with pytest.raises(PapersError, match=message):
        backbones.build(name, weights)


def test_frozen_batch_norm_keeps_its_statistics():
    net, _ = backbones.build("tiny16")
    net.train()
    backbones.freeze_batch_norm(net)
    before = net.stem[1].running_mean.clone()
    net(torch.randn(4, 3, 16, 16))
    assert torch.equal(net.stem[1].running_mean, before)
