"""Parameters and multiply-accumulates of a vector, exactly and without building the network.

A network's count is that of its fixed part (stem, shortcuts, batch normalisation, classifier) plus one term a
decision. Multiply-accumulates are those of convolutions and linear layers, shortcuts included; neither
batch normalisation, biases nor pools count. k×k convolutions are padded by k // 2, so that a map of side s
becomes one of ⌈s / stride⌉.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from papers_lib.errors import PapersError
from papers_lib.nar.operators import CODED, Operator, Rule, applicable, require
from papers_lib.nar.vectors import LRESNET50E_IR, RESNET18, UNITS, check_one_of, check_sizes

if TYPE_CHECKING:
    import numpy as np

NETWORKS = {"resnet18": RESNET18, "resnet18_cifar": RESNET18, "lresnet50e_ir": LRESNET50E_IR}


class Count(NamedTuple):
    """Parameters, and multiply-accumulates of one image."""

    parameters: int
    multiply_accumulates: int

    def __add__(self, other: object) -> Count:
        assert isinstance(other, Count)
        return Count(self[0] + other[0], self[1] + other[1])


class Site(NamedTuple):
    """A convolution that can be replaced: its channels, its stride and the side of its input map."""

    inside: int
    outside: int
    stride: int
    side: int


class Costs(NamedTuple):
    """The fixed part, and of each decision the count of every operator; None where the rule has none."""

    fixed: Count
    choices: list[list[Count | None]]


def count(
    vector: Sequence[int],
    network: str = "resnet18",
    rule: Rule = "A",
    image_size: int = 224,
    classes: int = 1000,
    width: int = 64,
) -> Count:
    """Parameters and multiply-accumulates of the network with the operators of `vector`.

    Equal to those of `papers_lib.nar.networks` as built, frozen parameters included.

    Args:
        vector: codes; 8 or 6 blocks or 16 convolutions of ResNet-18, 24 or 48 of LResNet50E-IR.
        network: "resnet18" (7×7 stem and max-pooling), "resnet18_cifar" (3×3 stem) or "lresnet50e_ir".
        rule: what "depthwise" and "pool" stand for, see `papers_lib.nar.operators`.
        image_size: side of the square image; of LResNet50E-IR it is 112.
        classes: outputs of the last layer; of LResNet50E-IR the embedding's dimension, 512.
        width: channels of the first stage.

    Raises:
        PapersError: an unknown network or operator, a vector too short or too long, a rule that cannot
            change channels, or a size that is no whole number from 1.
    """
    codes = check_one_of(vector, _decisions(network))
    fixed, places = _layout(network, len(codes), image_size, classes, width)
    per = len(places) // len(codes)
    terms = [operator_cost(codes[i // per], site, rule) for i, site in enumerate(places)]
    return sum(terms, fixed)


def costs(
    decisions: int,
    network: str = "resnet18",
    rule: Rule = "A",
    image_size: int = 224,
    classes: int = 1000,
    width: int = 64,
    operators: int = CODED,
) -> Costs:
    """The terms of `count`, of every operator at every decision; arguments and errors are those of it."""
    check_sizes(operators=operators)
    fixed, places = _layout(network, decisions, image_size, classes, width)
    per = len(places) // decisions
    groups = [places[i : i + per] for i in range(0, len(places), per)]
    return Costs(fixed, [[_term(code, group, rule) for code in range(operators)] for group in groups])


def count_all(
    decisions: int,
    network: str = "resnet18",
    rule: Rule = "A",
    image_size: int = 224,
    classes: int = 1000,
    width: int = 64,
) -> np.ndarray:
    """`count` of every vector of the four coded operators: [4**decisions, 2] integers.

    In the order of `itertools.product`: the last decision changes fastest. For LResNet50E-IR and
    16 decisions the space is too large.

    Raises:
        PapersError: as `count`; more than 8 decisions; or a rule that does not reach every vector.
    """
    import numpy as np

    if decisions > 8:
        raise PapersError(f"{CODED}**{decisions} vectors are too many to list; 8 decisions at most")
    fixed, choices = costs(decisions, network, rule, image_size, classes, width)
    found = np.array([fixed])
    for row in choices:
        if None in row:
            raise PapersError(f"rule {rule} cannot change channels with every operator; use rule A")
        found = (found[:, None] + np.array(row)).reshape(-1, 2)
    return found


def operator_cost(op: int | str, site: Site, rule: Rule = "A") -> Count:
    """The operator alone, at its site.

    Raises:
        PapersError: an unknown operator or rule, or a rule that cannot change channels.
    """
    found = require(op, site.inside, site.outside, rule)
    before, after = site.side**2, _after(site.side, site.stride) ** 2
    window, point = found.kernel**2, site.inside * site.outside
    if found.kind == "conv":
        return Count(window * point, window * point * after)
    entry = Count(point + 2 * site.outside, point * before) if rule == "enas" else Count(0, 0)
    return entry + _spatial(found, site, rule, after)


def _spatial(op: Operator, site: Site, rule: Rule, after: int) -> Count:
    """Window and last 1×1 convolution, at the output's side; ENAS's first 1×1 is not of it."""
    inside, outside = site.inside, site.outside
    channels = inside if rule == "A" else outside
    weights = op.kernel**2 * channels if op.kind == "depthwise" else 0
    if rule == "A" or (rule == "B" and op.kind != "depthwise"):
        weights += inside * outside
    elif rule == "enas" and op.kind == "depthwise":
        weights += outside * outside
    return Count(weights, weights * after)


def _term(code: int, group: list[Site], rule: Rule) -> Count | None:
    if not all(applicable(code, site.inside, site.outside, rule) for site in group):
        return None
    return sum((operator_cost(code, site, rule) for site in group), Count(0, 0))


def _layout(network: str, decisions: int, side: int, classes: int, width: int) -> tuple[Count, list[Site]]:
    """The fixed part and the replaceable convolutions in order."""
    check_sizes(decisions=decisions, image_size=side, classes=classes, width=width)
    check_one_of([0] * decisions, _decisions(network))
    if network == "lresnet50e_ir":
        return _lresnet50e_ir(side, classes, width)
    return _resnet18(network == "resnet18_cifar", 3 if decisions == 6 else 4, side, classes, width)


def _decisions(network: str) -> tuple[int, ...]:
    if network not in NETWORKS:
        raise PapersError(f"unknown network '{network}'; known are {', '.join(NETWORKS)}")
    return NETWORKS[network]


def _conv(inside: int, outside: int, kernel: int, side: int) -> Count:
    """A convolution of `side`² outputs and the batch normalisation after it."""
    weights = kernel**2 * inside * outside
    return Count(weights + 2 * outside, weights * side**2)


def _linear(inside: int, outside: int) -> Count:
    return Count(inside * outside + outside, inside * outside)


def _resnet18(cifar: bool, stages: int, side: int, classes: int, width: int) -> tuple[Count, list[Site]]:
    side = side if cifar else _after(side, 2)
    fixed = _conv(3, width, 3 if cifar else 7, side)
    side = side if cifar else _after(side, 2)
    widths = [width, *(width * 2**stage for stage in range(stages))]
    sites = list(_basic_blocks(widths, side))
    for site in sites:
        fixed += Count(2 * site.outside, 0)
        if site.stride == 2:
            fixed += _conv(site.inside, site.outside, 1, _after(site.side, 2))
    return fixed + _linear(widths[-1], classes), sites


def _basic_blocks(widths: list[int], side: int) -> Iterator[Site]:
    """Two blocks a stage; the very first convolution of a stage halves the map, but in the first one."""
    for inside, outside in pairwise(widths):
        stride = 1 if inside == outside else 2
        yield Site(inside, outside, stride, side)
        side = _after(side, stride)
        yield from (Site(outside, outside, 1, side) for _ in range(3))


def _lresnet50e_ir(side: int, embedding: int, width: int) -> tuple[Count, list[Site]]:
    fixed = _conv(3, width, 3, side) + Count(width, 0)  # with a PReLU
    sites: list[Site] = []
    widths = [width, width, 2 * width, 4 * width, 8 * width]
    for (inside, outside), units in zip(pairwise(widths), UNITS, strict=True):
        for unit in range(units):
            before, stride = (outside, 1) if unit else (inside, 2)
            sites += [Site(before, outside, 1, side), Site(outside, outside, stride, side)]
            fixed += Count(2 * before + 5 * outside, 0)  # three batch normalisations and a PReLU
            side = _after(side, stride)
            if stride == 2:
                fixed += _conv(before, outside, 1, side)
    last = widths[-1]
    return fixed + Count(2 * last + 2 * embedding, 0) + _linear(last * side**2, embedding), sites


def _after(side: int, stride: int) -> int:
    """Side of the output: ⌈side / stride⌉."""
    return -(-side // stride)
