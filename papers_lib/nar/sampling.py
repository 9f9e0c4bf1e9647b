"""Vectors without a controller: uniform, strictly fair, and refinements of the untouched network.

Vectors are rows of operators, int64; 0 is the operator of the untouched network.
"""

from __future__ import annotations

import torch
from torch import Tensor

from papers_lib.compute import exact
from papers_lib.errors import PapersError


@exact()
def uniform(
    count: int, decisions: int, operators: int = 4, generator: torch.Generator | None = None
) -> Tensor:
    """`count` vectors of the whole space, [count, N], each operator equally likely: NAR's "-PreTrain".

    An LSTM with random weights is not uniform, so that "fix the controller" cannot mean to draw from it.
    """
    _check(count, decisions, operators)
    return torch.randint(operators, (count, decisions), generator=generator)


@exact()
def strict_fair(
    count: int, decisions: int, operators: int = 4, generator: torch.Generator | None = None
) -> Tensor:
    """`count` vectors in a row, [count, N], of which every K consecutive ones hold each operator once.

    At every decision, in a fresh order each (Chu et al., "FairNAS", 2019): rows 0 to K − 1, K to 2K − 1
    and so on; the last group is cut where K does not divide `count`. There the K gradients are added
    before a step is taken; here too (`papers_lib.nar.training`), each on a batch of its own.
    """
    _check(count, decisions, operators)
    groups = -(-count // operators)  # the last one may be cut
    keys = torch.rand(groups, operators, decisions, generator=generator)  # [groups, K, N]
    orders = keys.argsort(dim=1)  # [groups, K, N]: a permutation of the operators along K
    return orders.reshape(-1, decisions)[:count]


@exact()
def replaced(
    count: int,
    decisions: int,
    replacements: int,
    operators: int = 4,
    generator: torch.Generator | None = None,
) -> Tensor:
    """`count` random vectors with exactly that many operators other than 0, [count, N].

    Places and operators are uniform and independent; vectors may repeat. The control for a searched
    vector: of 65,536 vectors of 8 decisions 24 replace one operator and 252 two, so that uniform ones
    say nothing about it.

    Raises:
        PapersError: more replacements than decisions, or fewer than none.
    """
    _check(count, decisions, operators)
    if not 0 <= replacements <= decisions:
        raise PapersError(f"{replacements} replacements do not fit {decisions} decisions")
    places = torch.rand(count, decisions, generator=generator).argsort(1)[:, :replacements]  # [count, R]
    others = torch.randint(1, operators, (count, replacements), generator=generator)  # never 0
    return torch.zeros(count, decisions, dtype=torch.int64).scatter_(1, places, others)


@exact()
def singles(decisions: int, operators: int = 4) -> Tensor:
    """All vectors with one replacement, [N (K − 1), N]: by decision, then by operator."""
    _check(1, decisions, operators)
    places = torch.eye(decisions, dtype=torch.int64)  # [N, N]
    return torch.einsum("nd,k->nkd", places, torch.arange(1, operators)).reshape(-1, decisions)


@exact()
def mixed(count: int, decisions: int, operators: int, generator: torch.Generator) -> Tensor:
    """`count` vectors, no two alike, [count, N]: near the untouched network and far from it in equal parts.

    First the untouched one and its single replacements; then in turn vectors with 2, 3 and 4 replacements,
    and three uniform ones. Uniform vectors differ greatly in cost, which alone ranks them; those with few
    replacements do not.

    Raises:
        PapersError: more vectors than there are.
    """
    _check(count, decisions, operators)
    if count > operators**decisions:
        raise PapersError(f"{count} vectors of {operators**decisions} are asked for; ask for no more")
    found = dict.fromkeys([(0,) * decisions, *map(tuple, singles(decisions, operators).tolist())])
    while len(found) < count:
        rows = [replaced(1, decisions, n, operators, generator) for n in (2, 3, 4)]
        rows.append(uniform(3, decisions, operators, generator))
        found |= dict.fromkeys(map(tuple, torch.cat(rows).tolist()))
    return torch.tensor(list(found)[:count])


def _check(count: int, decisions: int, operators: int) -> None:
    if count < 0 or decisions < 1 or operators < 2:
        raise PapersError(
            f"{count} vectors of {decisions} decisions with {operators} operators cannot be drawn; "
            "give a decision or more and two operators or more"
        )
