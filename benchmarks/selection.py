"""Quadruplet selection for the whole training set against the plain ways of doing it.

    python -m benchmarks.selection [--n 8054 --d 1024 --rounds 5 --json]

Labels are those of the 98 training classes of Cars196 with their counts and `type22` types; features
are synthetic unit vectors. There is no public implementation of the two methods to compare with: the
yardstick is one bare N×N product, and the peers are the ways one would write down first.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.cars import classes, features, labels
from benchmarks.timing import Candidate, extra_memory, in_child, interleave, show
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
    to_r = (x - x[r]).square().sum(1)
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
    own, sibling = fine == fine[r], (coarse == coarse[r]) & (fine != fine[r])
    own[r] = False
    chosen = [r]
    for members in (own, sibling):
        outside = members & (to_r > to_r[n])
        if outside.any():
            key = to_r if to_n is None else to_n
            chosen.append(int(key.masked_fill(~outside, torch.inf).argmin()))
        else:
            chosen.append(int(to_r.masked_fill(~members, -torch.inf).argmax()))
    return [*chosen, n]


def by_whole_matrix(x: Tensor, fine: Tensor, coarse: Tensor) -> Tensor:
    """Method 2 for all references from the whole N×N matrix and masks as large."""
    d = 2 - 2 * (x @ x.T)
    same_type = coarse[:, None] == coarse
    radius, n = d.masked_fill(same_type, torch.inf).min(1)
    own = fine[:, None] == fine
    sibling = same_type & ~own
    own.fill_diagonal_(False)
    chosen = []
    for members in (own, sibling):
        key = d.masked_fill(~(members & (d > radius[:, None])), torch.inf)
        best, at = key.min(1)
        furthest = d.masked_fill(~members, -torch.inf).argmax(1)
        chosen.append(torch.where(best.isinf(), furthest, at))
    return torch.stack((torch.arange(len(x)), *chosen, n), 1)


def candidates(x: Tensor, fine: Tensor, coarse: Tensor) -> list[Candidate]:
    """What is timed; the first is the yardstick."""
    anchors = select(x, fine, coarse, "random").quadruplets[:, 0]  # those with P and M
    some = anchors[torch.randperm(len(anchors), generator=torch.Generator().manual_seed(1))]

    def loop(one: Callable[[int], object], count: int) -> Callable[[], object]:
        return lambda: [one(r) for r in some[:count].tolist()]

    def part(count: int) -> tuple[float, str]:
        return len(anchors) / count, f"extrapolated from {count} references"

    return [
        Candidate("bare N×N product", lambda: x @ x.T),
        Candidate("Method 2", lambda: select(x, fine, coarse, "method_2")),
        Candidate("Method 1", lambda: select(x, fine, coarse, "method_1")),
        Candidate("Method 2 by whole N×N and masks", lambda: by_whole_matrix(x, fine, coarse)),
        Candidate(
            "Method 2 by matrix × vector, per reference",
            loop(lambda r: by_matvec(x, fine, coarse, r), MATVEC),
            *part(MATVEC),
        ),
        Candidate(
            "Method 2 by broadcast, per reference",
            loop(lambda r: by_broadcast(x, fine, coarse, r, "method_2"), BROADCAST),
            *part(BROADCAST),
        ),
        Candidate(
            "Method 2, 32 fresh anchors (one step)",
            lambda: select(x, fine, coarse, "method_2", anchors=some[:32]),
        ),
    ]


def mismatches(x: Tensor, fine: Tensor, coarse: Tensor, method: Method) -> int:
    """References of `CHECKED` for which the fast selection and the broadcast loop differ."""
    rows = select(x, fine, coarse, method).quadruplets
    some = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(2))[:CHECKED]]
    return sum(by_broadcast(x, fine, coarse, int(row[0]), method) != row.tolist() for row in some)


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=8054)
    parser.add_argument("--d", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)  # the child's part
    options = parser.parse_args()
    x, fine, coarse = data(options.n, options.d)
    todo = candidates(x, fine, coarse)
    if options.memory is not None:
        torch.ones(512, 512) @ torch.ones(512, 512)  # the library's own buffers are there before
        print(json.dumps({"mb": extra_memory(todo[options.memory].run)}))
        return
    lines = interleave(todo, options.rounds)
    for at, line in enumerate(lines):
        size = ["--n", str(options.n), "--d", str(options.d), "--memory", str(at)]
        line.memory_mb = in_child("benchmarks.selection", size).get("mb")
    ours, loop = lines[1], next(line for line in lines if "broadcast" in line.name)
    checks = {
        "Method 2 by the bare product": round(ours.ratio, 3),
        "Method 1 by Method 2": round(lines[2].ratio / ours.ratio, 3),
        "the broadcast loop by Method 2": round(loop.ratio / ours.ratio, 1),
        f"differences from the loop in {CHECKED} references": {
            method: mismatches(x, fine, coarse, method) for method in ("method_2", "method_1")
        },
    }
    title = f"Quadruplet selection, N={options.n}, d={options.d}, float32, {len(coarse.unique())} types"
    show(title, lines, checks, options.json)


if __name__ == "__main__":
    main()
