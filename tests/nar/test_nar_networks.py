import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision

from papers_lib.errors import PapersError
from papers_lib.nar.networks import lresnet50e_ir, resnet18
from papers_lib.nar.operators import check
from papers_lib.networks import cifar


def images(side, seed=0):
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(seed))


def test_zeros_are_torchvisions_resnet18():
    ours = resnet18([0] * 8, stem="imagenet", classes=10)
    theirs = torchvision.models.resnet18(num_classes=10)
    theirs.load_state_dict(ours.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    torch.testing.assert_close(ours.eval()(images(64)), theirs.eval()(images(64)))


def test_zeros_with_the_cifar_stem_are_the_houses_backbone_and_a_classifier():
    ours = resnet18([0] * 16, classes=7, width=8)
    backbone, dimension = cifar.resnet18(8)
    weights = {key: value for key, value in ours.state_dict().items() if not key.startswith("fc.")}
    backbone.load_state_dict(weights)
    features = backbone.eval()(images(32))
    assert features.shape == (2, dimension)
    torch.testing.assert_close(ours.eval()(images(32)), ours.fc(features))


def test_six_entries_are_the_net_without_its_last_stage():
    network = resnet18([0, 1, 2, 3, 0, 1], width=4, classes=5)
    layers = [name for name, _ in network.named_children() if name.startswith("layer")]
    assert layers == ["layer1", "layer2", "layer3"]
    assert network.fc.in_features == 16 and network(images(16)).shape == (2, 5)


def test_the_face_network_embeds_and_its_last_scale_is_frozen():
    vector = [0, 1, 2, 3] * 6
    network = lresnet50e_ir(vector, width=4, embedding=16)
    assert network.eval()(images(112)).shape == (2, 16)
    frozen = [name for name, p in network.named_parameters() if not p.requires_grad]
    assert frozen == ["features.weight"]
    assert [len(getattr(network, f"stage{n}")) for n in range(1, 5)] == [3, 4, 14, 3]


def test_the_face_block_is_the_sum_of_branch_and_shortcut():
    block = lresnet50e_ir([0] * 48, width=4, embedding=8).stage1[0].eval()
    maps = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))

    def plain(x):
        return F.batch_norm(x, torch.zeros(4), torch.ones(4), eps=2e-5)

    branch = F.conv2d(plain(maps), block.conv1.weight, padding=1)
    branch = F.prelu(plain(branch), torch.full((4,), 0.25))
    branch = plain(F.conv2d(branch, block.conv2.weight, padding=1, stride=2))
    shortcut = plain(F.conv2d(maps, block.shortcut[0].weight, stride=2))
    torch.testing.assert_close(block(maps), branch + shortcut)


def test_vectors_are_checked_in_one_line_each():
    assert check([1, 0, 3], 3) == (1, 0, 3)
    for vector, words in (
        ([0] * 7, "^the vector is too short: 7 entries for 8 decisions; give one operator a decision$"),
        ([0] * 9, "^the vector is too long: 9 entries for 8 decisions; give one operator a decision$"),
        ([0] * 7 + [4], "^entry 7 of the vector is no operator: 4; known are 0 conv3x3, .*, 3 avg3x3$"),
        ([0, -1] + [0] * 6, "^entry 1 of the vector is no operator: -1;"),
        ([0, 1.5] + [0] * 6, "^entry 1 of the vector is no operator: 1.5;"),
        ([0, True] + [0] * 6, "^entry 1 of the vector is no operator: True;"),
    ):
        with pytest.raises(PapersError, match=words):
            check(vector, 8)
    assert check([5] * 8, 8, operators=6) == (5,) * 8


@pytest.mark.parametrize("kind", [np.array, torch.tensor, lambda codes: [*np.array(codes)]])
def test_vectors_of_arrays_and_tensors_are_taken_and_become_plain(kind):
    found = check(kind([1, 0, 3]), 3)
    assert found == (1, 0, 3) and {type(code) for code in found} == {int}
    for codes in ([1, 0, 4], [1.0, 0.0, 3.0], [True, False, True]):
        with pytest.raises(PapersError, match="is no operator"):
            check(kind(codes), 3)


@pytest.mark.parametrize("size", [0, 1.5, float("nan"), True, "4"])
def test_sizes_are_whole_numbers_from_one(size):
    for build, vector, third in ((resnet18, [0] * 8, "classes"), (lresnet50e_ir, [0] * 24, "embedding")):
        for name in ("width", third):
            with pytest.raises(PapersError, match=f"^{name} is {size!r}; give a whole number, 1 or more$"):
                build(vector, **{name: size})


def test_stems_are_two_and_lengths_five():
    for length in (0, 7, 10, 15, 17):
        with pytest.raises(PapersError, match=f": {length} entries for 6 or 8 or 16 decisions"):
            resnet18([0] * length)
    with pytest.raises(PapersError, match="unknown stem 'mnist'; known are cifar, imagenet"):
        resnet18([0] * 8, stem="mnist")
    with pytest.raises(PapersError, match="too long: 49 entries for 24 or 48 decisions"):
        lresnet50e_ir([0] * 49)
