"""Quadruplet selection for the whole training set against the plain ways of doing it.

    python -m benchmarks.selection [--n 8054 --d 1024 --rounds 5 --json]

Labels are those of the 98 training classes of Cars196 with their counts and `type22` types; features
are synthetic unit vectors. There is no public implementation of the two methods to compare with: the
yardstick is one bare N×N product, and the peers are the ways one would write down first. The exit code is 1
where a selection differs from the loop's.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from benchmarks import timing
from benchmarks.cars import classes, features, labels
from benchmarks.timing import Case
from papers_lib.quadruplet_cars196.selection import Method, select

BROADCAST, MATVEC, CHECKED = 20, 100, 150  # references that the loops are timed or checked on


def data(n: int, d: int) -> tuple[Tensor, Tensor, Tensor]:
    """Unit features [n, d], fine and coarse labels: the real classes, stretched or thinned to n."""
    table = classes("train")
    fine = labels(table, n)
    coarse = torch.tensor(table["type22"].astype("category").cat.codes.to_numpy(dtype="int64"))
    return features(fine, d, spread=0.5), fine, coarse[fine]


def by_broadcast(x: Tensor, fine: Tensor, coarse: Tensor, r: int, method: Method) -> list[int]:
    """One reference, by differences to all points."""
    to_r = (x - x[r]).square().sum(1)  # [N]
    to_n = None
    if method == "method_1":
        n = to_r.masked_fill(coarse == coarse[r], torch.inf).argmin()
        to_n = (x - x[n]).square().sum(1)
    return choose(to_r, to_n, fine, coarse, r)


def by_matvec(x: Tensor, fine: Tensor, coarse: Tensor, r: int) -> list[int]:
    """One reference of Method 2, by one product of the matrix with a vector (unit features)."""
    return choose(2 - 2 * (x @ x[r]), None, fine, coarse, r)


def choose(to_r: Tensor, to_n: Tensor | None, fine: Tensor, coarse: Tensor, r: int) -> list[int]:
    """P, M and N from squared distances to R and, in Method 1, to N."""
    n = int(to_r.masked_fill(coarse == coarse[r], torch.inf).argmin())
    same, sibling = fine == fine[r], (coarse == coarse[r]) & (fine != fine[r])
    same[r] = False
    chosen = [r]
    for members in (same, sibling):
        # The nearest beyond the sphere through N; where none lies there, the furthest from R.
        outside = members & (to_r > to_r[n])
        if outside.any():
            key = to_r if to_n is None else to_n
            chosen.append(int(key.masked_fill(~outside, torch.inf).argmin()))
        else:
            chosen.append(int(to_r.masked_fill(~members, -torch.inf).argmax()))
    return [*chosen, n]


def by_whole_matrix(x: Tensor, fine: Tensor, coarse: Tensor) -> Tensor:
    """Method 2 for all references from the whole N×N matrix and masks as large."""
    d = 2 - 2 * (x @ x.T)  # [N, N]
    same_type = coarse[:, None] == coarse  # [N, N]
    # N: the nearest of another type; its distance is the sphere's radius.
    radius, n = d.masked_fill(same_type, torch.inf).min(1)
    same = fine[:, None] == fine
    sibling = same_type & ~same
    same.fill_diagonal_(False)
    chosen = []
    for members in (same, sibling):
        key = d.masked_fill(~(members & (d > radius[:, None])), torch.inf)
        best, at = key.min(1)
        furthest = d.masked_fill(~members, -torch.inf).argmax(1)
        chosen.append(torch.where(best.isinf(), furthest, at))
    return torch.stack((torch.arange(len(x)), *chosen, n), 1)


def mismatches(x: Tensor, fine: Tensor, coarse: Tensor, method: Method) -> int:
    """References of `CHECKED` for which the fast selection and the broadcast loop differ."""
    rows = select(x, fine, coarse, method).quadruplets
    # rows [M, 4]: R, P, M, N
    some = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(2))[:CHECKED]]
    return sum(by_broadcast(x, fine, coarse, int(row[0]), method) != row.tolist() for row in some)


def main() -> int:
    """One table, with the memory of every way."""
    options = timing.options(__doc__, rounds=5, n=8054, d=1024)
    x, fine, coarse = data(options.n, options.d)
    anchors = select(x, fine, coarse, "random").quadruplets[:, 0]  # those with P and M
    some = anchors[torch.randperm(len(anchors), generator=torch.Generator().manual_seed(1))]
    rows = some.tolist()
    loop = "Method 2 by broadcast, per reference"
    cases = [
        Case("bare N×N product", lambda: x @ x.T),
        Case("Method 2", lambda: select(x, fine, coarse, "method_2")),
        Case("Method 1", lambda: select(x, fine, coarse, "method_1")),
        Case("Method 2 by whole N×N and masks", lambda: by_whole_matrix(x, fine, coarse)),
        Case(
            "Method 2 by matrix × vector, per reference",
            lambda: [by_matvec(x, fine, coarse, r) for r in rows[:MATVEC]],
            len(rows) / MATVEC,
            f"extrapolated from {MATVEC} references",
        ),
        Case(
            loop,
            lambda: [by_broadcast(x, fine, coarse, r, "method_2") for r in rows[:BROADCAST]],
            len(rows) / BROADCAST,
            f"extrapolated from {BROADCAST} references",
        ),
        Case(
            "Method 2, 32 fresh anchors (one step)",
            lambda: select(x, fine, coarse, "method_2", anchors=some[:32]),
        ),
    ]
    table = timing.compare(cases, options, memory=cases)
    # -- agreement --
    wrong = {method: mismatches(x, fine, coarse, method) for method in ("method_2", "method_1")}
    checks = {
        "Method 2 by the bare product": round(table.ratio("Method 2", "bare N×N product"), 3),
        "Method 1 by Method 2": round(table.ratio("Method 1", "Method 2"), 3),
        "the broadcast loop by Method 2": round(table.ratio(loop, "Method 2"), 1),
        f"differences from the loop in {CHECKED} references": wrong,
    }
    title = f"Quadruplet selection, N={options.n}, d={options.d}, float32, {len(coarse.unique())} types"
    return timing.show(title, table, checks, options, agree=not any(wrong.values()))


if __name__ == "__main__":
    sys.exit(main())
