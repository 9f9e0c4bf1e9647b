"""The arithmetic under every training: no network meets a kernel that is known to be wrong."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from papers_lib import doctor, numerics, papers
from papers_lib.median_triplet import methods
from papers_lib.median_triplet.options import TrainSettings as MedianSettings
from papers_lib.nar.networks import lresnet50e_ir, resnet18
from papers_lib.nar.operators import RULES, build
from papers_lib.nar.supernet import SuperNet
from papers_lib.networks import cifar
from papers_lib.networks.backbones import Projection
from papers_lib.settings import PROFILES, validate

CPU_PROFILES = ("smoke", "small")


@pytest.mark.parametrize("name", [name for name, check in numerics.CHECKS.items() if check.relied])
def test_what_trainings_rely_on_is_right_here(name):
    assert numerics.check(name) in ("right", "absent")


def test_a_check_that_dies_is_wrong(monkeypatch):
    monkeypatch.setattr(numerics, "sys", type("Python", (), {"executable": "/bin/false"}))
    assert numerics.check("projection") == "wrong"


def test_a_check_that_the_machine_has_no_time_for_says_nothing_of_its_arithmetic(monkeypatch):
    monkeypatch.setattr(numerics, "SECONDS", 0.01)
    assert numerics.check("projection") == "not ready in time"
    findings = doctor._numerics()
    assert {(finding.found, finding.verdict) for finding in findings} == {("not ready in time", "note")}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("inside", "outside", "side"), [(1, 2, 5), (4, 8, 16), (7, 3, 1), (16, 32, 8)])
def test_projection_is_the_strided_convolution(inside, outside, side, layout):
    torch.manual_seed(0)
    ours = Projection(inside, outside, 2)
    theirs = nn.Conv2d(inside, outside, 1, 2, bias=False).double()
    theirs.load_state_dict(ours.state_dict())
    ours.to(memory_format=layout)
    maps = torch.randn(3, inside, side, side).to(memory_format=layout).requires_grad_()
    exact = maps.detach().double().requires_grad_()
    out, wanted = ours(maps), theirs(exact)
    out.square().sum().backward()
    wanted.square().sum().backward()
    torch.testing.assert_close(out.double(), wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(maps.grad.double(), exact.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.weight.grad.double(), theirs.weight.grad, rtol=1e-4, atol=1e-4)


def fragile(network: nn.Module) -> list[str]:
    """The convolutions whose weight gradient oneDNN's AVX2 kernel gets wrong (channels-last)."""
    return [
        name
        for name, part in network.named_modules()
        if isinstance(part, nn.Conv2d) and not isinstance(part, Projection)
        if part.kernel_size == (1, 1) and max(part.stride) > 1 and part.in_channels // part.groups < 8
    ]


def test_the_walk_sees_a_known_bad_convolution():
    assert fragile(nn.Sequential(nn.Conv2d(4, 8, 1, 2))) == ["0"]


@pytest.mark.parametrize("name", cifar.NAMES)
def test_no_backbone_has_a_fragile_convolution(name):
    with torch.device("meta"):
        assert fragile(cifar.build(name)[0]) == []


@pytest.mark.parametrize("width", [1, 2, 4, 8, 64])
@pytest.mark.parametrize("rule", RULES)
def test_no_searched_network_has_a_fragile_convolution_at_any_width(width, rule):
    codes = [0] * 8 if rule in ("B", "bare") else [0, 1, 2, 3, 0, 1, 2, 3]
    with torch.device("meta"):
        networks = [
            resnet18(codes, rule, width=width),
            resnet18(codes, rule, "imagenet", width=width),
            lresnet50e_ir([0] * 24, rule, width=width),
        ]
        operators = [build(op, width, 2 * width, 2, "A") for op in range(4)]
    assert [fragile(network) for network in [*networks, *operators]] == [[]] * 7
    assert fragile(SuperNet(8, width=width)) == []


@pytest.mark.parametrize("method", MedianSettings.model_fields["method"].annotation.__args__)
def test_no_method_of_self_supervision_adds_a_fragile_convolution(method):
    settings = MedianSettings(method=method, backbone="tiny16", projector_hidden=8, projector_out=8, queue=8)
    assert fragile(methods.build(method, settings, 40, 10)) == []


def planned(profile):
    for paper in papers.PAPERS.values():
        if profile not in paper.study.sizes:
            continue
        for spec in paper.study.plan(validate(paper.settings, {"profile": profile})):
            yield from (spec, *spec.needs)


@pytest.mark.parametrize("profile", CPU_PROFILES)
def test_what_two_cores_compute_is_in_float32_and_eight_channels_wide(profile):
    for spec in planned(profile):
        assert spec.settings.get("precision", "float32") == "float32", spec.label
        if spec.paper == "nar":  # elsewhere `width` is an image's
            assert spec.settings.get("width", 8) >= 8, spec.label


@pytest.mark.parametrize("paper", papers.PAPERS)
def test_a_precision_that_is_asked_for_is_part_of_what_is_asked(paper):
    def planned(**more):
        book = papers.get(paper)
        specs = book.study.plan(validate(book.settings, {"profile": "small", **more}))
        return {spec.identity: spec for spec in specs if "precision" in spec.settings}

    plain, other = planned(), planned(precision="bfloat16")
    assert {spec.settings["precision"] for spec in other.values()} == {"bfloat16"}
    assert len(plain) == len(other)
    assert plain.keys().isdisjoint(other)


PIXELS = {
    "sampler_study": ("height", "width"),
    "quadruplet_cars196": ("crop",),
    "median_triplet": ("image_size",),
}


def smallest_map(backbone: str, side: int) -> int:
    """The side of the smallest map that a 3×3 convolution of stride 2 takes."""
    network, sides = cifar.build(backbone)[0], []
    for part in network.modules():
        if isinstance(part, nn.Conv2d) and part.kernel_size == (3, 3) and part.stride == (2, 2):
            part.register_forward_hook(lambda _, taken, __: sides.append(min(taken[0].shape[-2:])))
    network.eval()(torch.zeros(1, 3, side, side))
    return min(sides)


def test_no_planned_bfloat16_training_strides_over_a_single_pixel():
    shapes = set()
    for profile in PROFILES:
        for spec in planned(profile):
            if spec.settings.get("precision") == "bfloat16" and "backbone" in spec.settings:
                side = min(spec.settings[name] for name in PIXELS[spec.paper])
                shapes.add((spec.settings["backbone"], side))
    assert shapes
    for backbone, side in shapes:
        assert smallest_map(backbone, side) > 1, (backbone, side)
