import itertools

import pytest
import torch

from papers_lib.errors import PapersError
from papers_lib.nar import operators
from papers_lib.nar.operators import NAMES, RULES, applicable, build


def images(channels, side=7, seed=0):
    return torch.randn(2, channels, side, side, generator=torch.Generator().manual_seed(seed))


def plain_pool(maps, stride, reduce):
    """Each 3×3 window, cut at the border instead of padded."""
    side = maps.shape[-1]
    starts = range(0, side, stride)
    rows = [
        [reduce(maps[:, :, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].flatten(2)) for j in starts]
        for i in starts
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


POOLS = {"max3x3": lambda x: x.amax(2), "avg3x3": lambda x: x.mean(2)}


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("name", "reduce"), POOLS.items())
def test_pools_leave_the_padding_out(name, reduce, stride):
    maps = images(3)
    bare = build(name, 3, 3, stride, "bare")
    torch.testing.assert_close(bare(maps), plain_pool(maps, stride, reduce))
    with_point = build(name, 3, 4, stride, "A")
    weight = with_point[1].weight[:, :, 0, 0]
    expected = torch.einsum("oc,nchw->nohw", weight, plain_pool(maps, stride, reduce))
    torch.testing.assert_close(with_point(maps), expected)


def test_depthwise_mixes_no_channels_until_the_point_convolution():
    module = build("depthwise3x3", 4, 6, 2, "A")
    maps = images(4)
    changed = maps.clone()
    changed[:, 2] += 1
    different = (module[0](maps) != module[0](changed)).flatten(2).any(2).any(0)
    assert different.tolist() == [False, False, True, False]
    assert (module(maps) != module(changed)).flatten(2).any(2).all()


def test_rules_have_the_layers_that_their_table_says():
    kinds = {
        rule: [
            [type(m).__name__ for m in build(op, 4, 4, 1, rule).modules() if not list(m.children())]
            for op in ("depthwise3x3", "avg3x3")
        ]
        for rule in RULES
    }
    entry = ["Conv2d", "BatchNorm2d", "ReLU"]
    assert kinds["A"] == [["Conv2d", "Conv2d"], ["AvgPool2d", "Conv2d"]]
    assert kinds["B"] == [["Conv2d"], ["AvgPool2d", "Conv2d"]]
    assert kinds["bare"] == [["Conv2d"], ["AvgPool2d"]]
    assert kinds["enas"] == [[*entry, "Conv2d", "Conv2d"], [*entry, "AvgPool2d"]]


def test_every_operator_makes_the_shape_of_the_convolution_that_it_replaces():
    for op, rule, stride, outside in itertools.product(NAMES, RULES, (1, 2), (4, 8, 6)):
        if applicable(op, 4, outside, rule):
            for side in (7, 8):
                after = -(-side // stride)
                made = build(op, 4, outside, stride, rule)(images(4, side))
                assert made.shape == (2, outside, after, after), (op, rule, stride)


def test_what_bare_rules_cannot_do_is_said_in_one_line():
    refused = {
        (op, rule, outside)
        for op, rule, outside in itertools.product(NAMES, RULES, (4, 8, 6))
        if not applicable(op, 4, outside, rule)
    }
    depthwise = {(op, rule, 6) for op in ("depthwise3x3", "depthwise5x5") for rule in ("B", "bare")}
    pools = {(op, "bare", outside) for op in ("max3x3", "avg3x3") for outside in (6, 8)}
    assert refused == depthwise | pools
    for op, rule, outside in refused:
        message = rf"^rule {rule}: a .* 4 channels to {outside}; use rule A"
        with pytest.raises(PapersError, match=message) as error:
            build(op, 4, outside, 1, rule)
        assert "\n" not in str(error.value)


def test_codes_are_the_papers_and_names_work_as_well():
    assert NAMES[:4] == ("conv3x3", "depthwise3x3", "max3x3", "avg3x3")
    assert set(NAMES[4:]) == {"conv5x5", "depthwise5x5"}
    for code, name in enumerate(NAMES):
        assert operators.operator(code) == operators.operator(name)
    assert build("conv5x5", 2, 3).kernel_size == build("depthwise5x5", 2, 3)[0].kernel_size == (5, 5)


@pytest.mark.parametrize("op", [6, -1, "conv7x7"])
def test_unknown_operators_and_rules_are_refused(op):
    with pytest.raises(PapersError, match=r"unknown operator .* known are 0 conv3x3, 1 depthwise3x3"):
        build(op, 4, 4)
    with pytest.raises(PapersError, match="unknown rule 'C'; known are A, B, bare, enas"):
        build(0, 4, 4, 1, "C")
