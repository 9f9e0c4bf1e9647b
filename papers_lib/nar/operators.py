"""The candidate operators, what "depthwise" and "pool" stand for, and the vectors that choose among them.

Section 3.1 lists six candidates; Section 4.1.2 codes the four that it searches 0, 1, 2, 3. How a depthwise
convolution or a pool takes the place of a convolution that changes channels is not said. Each rule is a
reading, with the pool's or depthwise convolution's stride that of the convolution replaced:

=======  ============================================  ==================================
rule     depthwise k×k                                 pool 3×3
=======  ============================================  ==================================
A        depthwise, then 1×1                           pool, then 1×1
B        depthwise alone, o / i filters per channel    pool, then 1×1
bare     depthwise alone, o / i filters per channel    pool alone
enas     1×1 – BN – ReLU, depthwise, 1×1               1×1 – BN – ReLU, pool
=======  ============================================  ==================================

Batch normalisation and activation of the replaced convolution stay, and are not part of the operator.
Table 4 fits A best, see `papers_lib.nar.study.table_4`. ENAS is Pham et al. 2018 (code: melodyguan/enas).

A vector a ∈ {0, …, K − 1}^N holds one operator's code per decision, in the order of the layers; all zeros is
the untouched network.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from papers_lib.errors import PapersError

if TYPE_CHECKING:
    from torch import nn

Rule = Literal["A", "B", "bare", "enas"]
RULES: tuple[Rule, ...] = get_args(Rule)


class Operator(NamedTuple):
    """What an operator does to a map: its kind and the side of its window."""

    kind: Literal["conv", "depthwise", "max", "avg"]
    kernel: int


# An operator's code is its place. The paper codes the first four; the others are the text's six candidates.
OPERATORS = {
    "conv3x3": Operator("conv", 3),
    "depthwise3x3": Operator("depthwise", 3),
    "max3x3": Operator("max", 3),
    "avg3x3": Operator("avg", 3),
    "conv5x5": Operator("conv", 5),
    "depthwise5x5": Operator("depthwise", 5),
}
NAMES = tuple(OPERATORS)
CODED = 4  # operators that Section 4.1.2 codes

# Decisions that a network can have.
RESNET18 = (6, 8, 16)  # 8 blocks or 16 convolutions; 6 blocks are the net without its last stage
LRESNET50E_IR = (24, 48)  # blocks, convolutions
UNITS = (3, 4, 14, 3)  # blocks per stage of LResNet50E-IR

# -- operators ---------------------------------------------------------------------------------------------


def operator(op: int | str) -> Operator:
    """An operator by its code or its name; an unknown one is a PapersError."""
    name = NAMES[op] if isinstance(op, int) and 0 <= op < len(NAMES) else op
    if name not in OPERATORS:
        known = ", ".join(f"{code} {name}" for code, name in enumerate(NAMES))
        raise PapersError(f"unknown operator {op!r}; known are {known}")
    return OPERATORS[str(name)]


def applicable(op: int | str, inside: int, outside: int, rule: Rule = "A") -> bool:
    """Whether `rule` lets the operator take `inside` channels to `outside`; raises of unknown names."""
    kind = operator(op).kind
    if rule not in RULES:
        raise PapersError(f"unknown rule '{rule}'; known are {', '.join(RULES)}")
    if kind == "depthwise" and rule in ("B", "bare"):
        return outside % inside == 0  # o / i filters per channel
    return kind not in ("max", "avg") or rule != "bare" or outside == inside


def require(op: int | str, inside: int, outside: int, rule: Rule = "A") -> Operator:
    """The operator, as far as `rule` lets it take `inside` channels to `outside`.

    Raises:
        PapersError: an unknown operator or rule, or a rule that cannot change the channels so.
    """
    known = operator(op)
    if not applicable(op, inside, outside, rule):
        depthwise = known.kind == "depthwise"
        what = "bare depthwise convolution" if depthwise else "pool without 1×1 convolution"
        raise PapersError(
            f"rule {rule}: a {what} cannot take {inside} channels to {outside}; use rule A, whose 1×1 "
            "convolution can"
        )
    return known


def has_exit(kind: str, rule: Rule) -> bool:
    """Whether a 1×1 convolution follows the depthwise convolution or the pool."""
    return rule in (("A", "enas") if kind == "depthwise" else ("A", "B"))


def build(op: int | str, inside: int, outside: int, stride: int = 1, rule: Rule = "A") -> nn.Module:
    """The operator as a module, maps [B, inside, H, W] → [B, outside, ⌈H / stride⌉, ⌈W / stride⌉].

    The k×k convolution or the pool takes the stride, never a 1×1 convolution. Average pooling leaves the
    padding out of the mean. Convolutions have no bias, as batch normalisation follows.

    Raises:
        PapersError: an unknown operator or rule, or a rule that cannot change the channels so.
    """
    from torch import nn

    def conv(inside: int, outside: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Module:
        return nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False)

    kind, kernel = require(op, inside, outside, rule)
    if kind == "conv":
        return conv(inside, outside, kernel, stride)
    layers: list[nn.Module] = []

    # -- entry: ENAS's first 1×1 takes the channels to `outside` --
    if rule == "enas":
        layers += [conv(inside, outside, 1), nn.BatchNorm2d(outside), nn.ReLU(inplace=True)]
        inside = outside

    # -- window: [B, inside, H, W] → [B, inside or outside, ⌈H / stride⌉, ⌈W / stride⌉] --
    if kind == "depthwise":
        layers.append(conv(inside, inside if rule == "A" else outside, kernel, stride, groups=inside))
    elif kind == "max":
        layers.append(nn.MaxPool2d(kernel, stride, kernel // 2))
    else:
        layers.append(nn.AvgPool2d(kernel, stride, kernel // 2, count_include_pad=False))

    # -- exit: the last 1×1, where the rule has one --
    if has_exit(kind, rule):
        layers.append(conv(inside, outside, 1))
    return layers[0] if len(layers) == 1 else nn.Sequential(*layers)


# -- vectors -----------------------------------------------------------------------------------------------


def check(vector: Sequence[int], decisions: int, operators: int = CODED) -> tuple[int, ...]:
    """The vector as a tuple of `decisions` codes below `operators`.

    Raises:
        PapersError: too short, too long, or with an unknown operator.
    """
    return check_one_of(vector, (decisions,), operators)


def check_one_of(
    vector: Sequence[int], decisions: Sequence[int], operators: int = len(NAMES)
) -> tuple[int, ...]:
    """The vector as a tuple of codes below `operators`, of one of several lengths.

    Raises:
        PapersError: too short, too long, of a length between, or with an unknown operator.
    """
    try:
        entries = tuple(vector)
    except TypeError:
        raise PapersError(f"the vector is {vector!r}; give one operator per decision, as a list") from None
    if (length := len(entries)) not in decisions:
        fault = "has a wrong length"
        if length < min(decisions):
            fault = "is too short"
        elif length > max(decisions):
            fault = "is too long"
        counts = " or ".join(map(str, decisions))
        raise PapersError(
            f"the vector {fault}: {length} entries for {counts} decisions; give one operator a decision"
        )
    codes = []
    for place, entry in enumerate(entries):
        code = _whole(entry)
        if code is None or not 0 <= code < operators:
            known = ", ".join(f"{number} {name}" for number, name in enumerate(NAMES[:operators]))
            raise PapersError(f"entry {place} of the vector is no operator: {entry!r}; known are {known}")
        codes.append(code)
    return tuple(codes)


def check_sizes(**sizes: int) -> None:
    """Channels, classes, pixels: whole numbers from 1; another is a PapersError with its name."""
    for name, size in sizes.items():
        if (_whole(size) or 0) < 1:
            raise PapersError(f"{name} is {size!r}; give a whole number, 1 or more")


def _whole(value: Any) -> int | None:
    """The value as a plain int, NumPy's and tensors' too; None for all else, booleans among it."""
    if isinstance(value, bool) or str(getattr(value, "dtype", "")) == "torch.bool":
        return None
    try:
        return index(value)
    except TypeError:
        return None


def by_convolution(vector: Sequence[int], blocks: int) -> list[tuple[int, int]]:
    """The operators of each block's two convolutions; one entry per block stands for both."""
    if len(vector) == blocks:
        return [(code, code) for code in vector]
    return list(zip(vector[::2], vector[1::2], strict=True))
