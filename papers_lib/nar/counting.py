"""Parameters and multiply-accumulates of a vector, exactly and without building the network.

A network's count is that of its fixed part (stem, shortcuts, batch normalisation, classifier) plus one term
per decision. Multiply-accumulates are those of convolutions and linear layers, shortcuts included; neither
batch normalisation, biases nor pools count. k×k convolutions are padded by k // 2, so that a map of side s
becomes one of ⌈s / stride⌉:

    parameters k² i o,   multiply-accumulates k² i o ⌈s / stride⌉²
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from papers_lib.errors import PapersError
from papers_lib.nar.operators import (
    CODED,
    LRESNET50E_IR,
    RESNET18,
    UNITS,
    Rule,
    applicable,
    check_one_of,
    check_sizes,
    has_exit,
    require,
)

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

    def macs(self, vector: Sequence[int]) -> float:
        """Multiply-accumulates of the vector's network, of one image."""
        return self.macs_together([vector])

    def macs_together(self, vectors: Iterable[Sequence[int]]) -> float:
        """Of scoring these vectors as a tree: what they begin alike counts once, the fixed part for each."""
        vectors = [tuple(vector) for vector in vectors]
        beginnings = {vector[:end] for vector in vectors for end in range(1, len(vector) + 1)}
        total = float(len(vectors) * self.fixed.multiply_accumulates)
        for beginning in beginnings:
            cost = self.choices[len(beginning) - 1][beginning[-1]]
            total += cost.multiply_accumulates if cost else math.inf  # the rule has no such operator
        return total


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
        image_size: side of the square image; of LResNet50E-IR it is 112.
        classes: outputs of the last layer; of LResNet50E-IR the embedding's dimension, 512.

    Raises:
        PapersError: an unknown network or operator, a vector too short or too long, a rule that cannot
            change channels, or a size that is no whole number from 1.
    """
    codes = check_one_of(vector, _decisions(network))
    total, groups = _layout(network, len(codes), image_size, classes, width)  # starts from the fixed part
    for code, group in zip(codes, groups, strict=True):
        for site in group:
            total += operator_cost(code, site, rule)
    return total


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
    fixed, groups = _layout(network, decisions, image_size, classes, width)

    def term(code: int, group: list[Site]) -> Count | None:
        if not all(applicable(code, site.inside, site.outside, rule) for site in group):
            return None
        return sum((operator_cost(code, site, rule) for site in group), Count(0, 0))

    return Costs(fixed, [[term(code, group) for code in range(operators)] for group in groups])


def count_all(
    decisions: int,
    network: str = "resnet18",
    rule: Rule = "A",
    image_size: int = 224,
    classes: int = 1000,
    width: int = 64,
    operators: int = CODED,
) -> np.ndarray:
    """`count` of every vector of the first K operators: [K**decisions, 2] integers.

    In the order of `itertools.product`: the last decision changes fastest. For LResNet50E-IR and
    16 decisions the space is too large.

    Raises:
        PapersError: as `count`; more than 8 decisions; or a rule that does not reach every vector.
    """
    import numpy as np

    if decisions > 8:  # 4**16 are 4.3e9
        raise PapersError(f"{operators}**{decisions} vectors are too many to list; 8 decisions at most")
    fixed, choices = costs(decisions, network, rule, image_size, classes, width, operators)
    counts = np.array([fixed])  # [1, 2], then [K, 2], [K², 2] …
    for row in choices:
        if None in row:
            raise PapersError(f"rule {rule} cannot change channels with every operator; use rule A")
        counts = (counts[:, None] + np.array(row)).reshape(-1, 2)
    return counts


def operator_cost(op: int | str, site: Site, rule: Rule = "A") -> Count:
    """The operator alone, at its site; raises as `operators.require`."""
    kind, kernel = require(op, site.inside, site.outside, rule)
    inside, outside = site.inside, site.outside
    before, pixels = site.side**2, after(site.side, site.stride) ** 2  # of the input and the output
    if kind == "conv":
        weights = kernel**2 * inside * outside
        return Count(weights, weights * pixels)
    entry = Count(0, 0)
    if rule == "enas":  # 1×1 – BN – ReLU, before the stride
        entry = Count(inside * outside + 2 * outside, inside * outside * before)
        inside = outside
    weights = 0
    if kind == "depthwise":  # one k×k filter per channel of its output
        weights += kernel**2 * (inside if rule == "A" else outside)
    if has_exit(kind, rule):
        weights += inside * outside
    return entry + Count(weights, weights * pixels)


# -- layouts: the fixed part, and the replaceable convolutions of each decision ----------------------------


def _layout(
    network: str, decisions: int, side: int, classes: int, width: int
) -> tuple[Count, list[list[Site]]]:
    check_sizes(decisions=decisions, image_size=side, classes=classes, width=width)
    check_one_of([0] * decisions, _decisions(network))
    if network == "lresnet50e_ir":
        fixed, sites = _lresnet50e_ir(side, classes, width)
    else:
        fixed, sites = _resnet18(
            network == "resnet18_cifar", 3 if decisions == 6 else 4, side, classes, width
        )
    per = len(sites) // decisions  # 2 where a decision is a block, 1 where it is a convolution
    return fixed, [sites[i : i + per] for i in range(0, len(sites), per)]


def _decisions(network: str) -> tuple[int, ...]:
    if network not in NETWORKS:
        raise PapersError(f"unknown network '{network}'; known are {', '.join(NETWORKS)}")
    return NETWORKS[network]


def _resnet18(cifar: bool, stages: int, side: int, classes: int, width: int) -> tuple[Count, list[Site]]:
    side = side if cifar else after(side, 2)  # the stem's stride on ImageNet
    fixed = _conv(3, width, 3 if cifar else 7, side)  # the stem
    side = side if cifar else after(side, 2)  # max-pooling
    sites = resnet18_sites(side, stages, width)
    for site in sites:
        fixed += Count(2 * site.outside, 0)  # batch normalisation
        if site.stride == 2:
            fixed += _conv(site.inside, site.outside, 1, after(site.side, 2))  # the shortcut
    return fixed + _linear(sites[-1].outside, classes), sites


def resnet18_sites(side: int, stages: int = 4, width: int = 64) -> list[Site]:
    """ResNet-18's replaceable convolutions in order, four per stage; `side` is of the first stage's map."""
    sites: list[Site] = []
    for inside, outside in pairwise([width, *(width * 2**stage for stage in range(stages))]):
        stride = 1 if inside == outside else 2  # the first stage keeps its map
        sites.append(Site(inside, outside, stride, side))
        side = after(side, stride)
        sites += [Site(outside, outside, 1, side)] * 3
    return sites


def _lresnet50e_ir(side: int, embedding: int, width: int) -> tuple[Count, list[Site]]:
    fixed = _conv(3, width, 3, side) + Count(width, 0)  # with a PReLU
    sites: list[Site] = []
    widths = [width, width, 2 * width, 4 * width, 8 * width]
    for (inside, outside), units in zip(pairwise(widths), UNITS, strict=True):
        for unit in range(units):
            before, stride = (outside, 1) if unit else (inside, 2)
            sites += [Site(before, outside, 1, side), Site(outside, outside, stride, side)]
            fixed += Count(2 * before + 5 * outside, 0)  # three batch normalisations and a PReLU
            side = after(side, stride)
            if stride == 2:
                fixed += _conv(before, outside, 1, side)  # the shortcut
    last = widths[-1]  # channels of the last map
    return fixed + Count(2 * last + 2 * embedding, 0) + _linear(last * side**2, embedding), sites


def _conv(inside: int, outside: int, kernel: int, side: int) -> Count:
    """A convolution of `side`² outputs and the batch normalisation after it."""
    weights = kernel**2 * inside * outside
    return Count(weights + 2 * outside, weights * side**2)  # batch normalisation: scale and shift


def _linear(inside: int, outside: int) -> Count:
    return Count(inside * outside + outside, inside * outside)  # weights and biases


def after(side: int, stride: int) -> int:
    """Side of the output: ⌈side / stride⌉."""
    return -(-side // stride)
