"""The candidate operators, and the rules for what "depthwise" and "pool" stand for.

Section 3.1 lists six candidates; Section 4.1.2 codes the four that it searches 0, 1, 2, 3. How a depthwise
convolution or a pool takes the place of a convolution that changes channels is not said. Each rule is a
reading, with the pool's or depthwise convolution's stride that of the convolution replaced:

=======  =========================================  ==================================
rule     depthwise k×k                              pool 3×3
=======  =========================================  ==================================
A        depthwise, then 1×1                        pool, then 1×1
B        depthwise alone, o / i filters a channel   pool, then 1×1
bare     depthwise alone, o / i filters a channel   pool alone
enas     1×1 – BN – ReLU, depthwise, 1×1            1×1 – BN – ReLU, pool
=======  =========================================  ==================================

Batch normalisation and activation of the replaced convolution stay, and are not part of the operator.
Table 4 fits A best, see `papers_lib.nar.table_4`. ENAS is Pham et al. 2018 (code: melodyguan/enas).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

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


def operator(op: int | str) -> Operator:
    """An operator by its code or its name.

    Raises:
        PapersError: there is none.
    """
    name = NAMES[op] if isinstance(op, int) and 0 <= op < len(NAMES) else op
    if name not in OPERATORS:
        known = ", ".join(f"{code} {name}" for code, name in enumerate(NAMES))
        raise PapersError(f"unknown operator {op!r}; known are {known}")
    return OPERATORS[str(name)]


def applicable(op: int | str, inside: int, outside: int, rule: Rule = "A") -> bool:
    """Whether `rule` lets the operator take `inside` channels to `outside`."""
    return not _fault(operator(op), inside, outside, rule)


def require(op: int | str, inside: int, outside: int, rule: Rule = "A") -> Operator:
    """The operator, as far as `rule` lets it take `inside` channels to `outside`.

    Raises:
        PapersError: an unknown operator or rule, or a rule that cannot change the channels so.
    """
    found = operator(op)
    if fault := _fault(found, inside, outside, rule):
        raise PapersError(fault)
    return found


def _fault(op: Operator, inside: int, outside: int, rule: str) -> str:
    if rule not in RULES:
        return f"unknown rule '{rule}'; known are {', '.join(RULES)}"
    change = f"{inside} channels to {outside}; use rule A, whose 1×1 convolution can"
    if op.kind == "depthwise" and rule in ("B", "bare") and outside % inside:
        return f"rule {rule}: a bare depthwise convolution cannot take {change}"
    if op.kind in ("max", "avg") and rule == "bare" and outside != inside:
        return f"rule bare: a pool without 1×1 convolution cannot take {change}"
    return ""


def build(op: int | str, inside: int, outside: int, stride: int = 1, rule: Rule = "A") -> nn.Module:
    """The operator as a module, maps [B, inside, H, W] → [B, outside, ⌈H / stride⌉, ⌈W / stride⌉].

    Average pooling leaves the padding out of the mean. Convolutions have no bias, as batch
    normalisation follows.

    Args:
        op: code or name, see `OPERATORS`.
        inside: channels of the input.
        outside: channels of the output.
        stride: taken by the k×k convolution or the pool, never by a 1×1 convolution.
        rule: see the module's table.

    Raises:
        PapersError: an unknown operator or rule, or a rule that cannot change the channels so.
    """
    kind, kernel = require(op, inside, outside, rule)
    if kind == "conv":
        return _conv(inside, outside, kernel, stride)
    if kind == "depthwise":
        return _depthwise(inside, outside, kernel, stride, rule)
    return _pool(kind, inside, outside, kernel, stride, rule)


def _conv(inside: int, outside: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Module:
    from torch import nn

    return nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups, bias=False)


def _depthwise(inside: int, outside: int, kernel: int, stride: int, rule: Rule) -> nn.Module:
    from torch import nn

    if rule == "A":
        return nn.Sequential(_conv(inside, inside, kernel, stride, inside), _conv(inside, outside, 1))
    if rule == "enas":
        middle = _conv(outside, outside, kernel, stride, outside)
        return nn.Sequential(*_entry(inside, outside), middle, _conv(outside, outside, 1))
    return _conv(inside, outside, kernel, stride, inside)


def _pool(kind: str, inside: int, outside: int, kernel: int, stride: int, rule: Rule) -> nn.Module:
    from torch import nn

    pool: nn.Module = nn.MaxPool2d(kernel, stride, kernel // 2)
    if kind == "avg":
        pool = nn.AvgPool2d(kernel, stride, kernel // 2, count_include_pad=False)
    if rule == "bare":
        return pool
    if rule == "enas":
        return nn.Sequential(*_entry(inside, outside), pool)
    return nn.Sequential(pool, _conv(inside, outside, 1))


def _entry(inside: int, outside: int) -> list[nn.Module]:
    """ENAS's first 1×1 convolution, with its own batch normalisation."""
    from torch import nn

    return [_conv(inside, outside, 1), nn.BatchNorm2d(outside), nn.ReLU(inplace=True)]
