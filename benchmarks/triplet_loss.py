"""The triplet heads against the loop over rows that they replace; EMA and LARS against plain loops.

    python -m benchmarks.triplet_loss [--n 104 1024 --d 256 --device cpu --threads 2 --rounds 15 --json]

A call is forward and backward of one head, the target without gradient, as in training. The yardstick
works as the public code of the paper does: a mask, its positive and the median of its negatives (or the
mean of ranks 2 to 10) for one query after the other. A full sort and a ranking inside the graph say what
each part of the library's way is worth; lightly's NTXentLoss, where it is installed, is the contrastive
loss of the same two views in both directions, for which a triplet needs two calls; BYOL's cosine loss,
which has no negatives, is the floor. The second table steps a ResNet-50.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.timing import Candidate, Line, interleave, show
from papers_lib.median_triplet.heads import rank_k_triplet, smoothed_triplet
from papers_lib.median_triplet.optimisers import Lars, ema_

GAMMA, SCALE, MARGIN = 2.0, 2.0, 100.0
FIRST, LAST = 2, 10
MOMENTUM, LR, DECAY, ETA = 0.9, 1e-6, 1e-6, 1e-3

Head = Callable[[Tensor, Tensor], Tensor]


def make(n: int, d: int, device: str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Predictions and projections of two views: the positive is nearer than chance, not nearest."""
    generator = torch.Generator().manual_seed(0)
    image, *noise = (torch.randn(n, d, generator=generator, dtype=torch.float64) for _ in range(3))
    query, target = ((image + 2 * e).to(device, dtype) for e in noise)
    return query.requires_grad_(), target


def distances(query: Tensor, target: Tensor) -> Tensor:
    """[n, n] in the graph."""
    return -SCALE * F.normalize(query) @ F.normalize(target).T


def hinge(positive: Tensor, negative: Tensor) -> Tensor:
    """As the public code: a ranking loss that is never clipped."""
    return F.margin_ranking_loss(negative, GAMMA * positive, torch.ones_like(negative), margin=MARGIN)


def by_rows(query: Tensor, target: Tensor, pick: Callable[[Tensor], Tensor]) -> Tensor:
    """One query after the other, each looked up in the whole matrix twice."""
    d = distances(query, target)
    own = torch.eye(len(d), dtype=torch.bool, device=d.device)
    positive = [d[i][own[i]].max() for i in range(len(d))]
    negative = [pick(d[i][~own[i]]) for i in range(len(d))]
    return hinge(torch.stack(positive), torch.stack(negative))


def by_lean_rows(query: Tensor, target: Tensor) -> Tensor:
    """A loop as lean as it can be: the matrix is cut into rows once, positives are its diagonal."""
    d = distances(query, target)
    rows = masked(d).unbind()
    return hinge(d.diagonal(), torch.stack([row.kthvalue(len(d) // 2).values for row in rows]))


def median_of(row: Tensor) -> Tensor:
    return row.median()


def smoothed_of(row: Tensor) -> Tensor:
    return row.topk(LAST, largest=False).values[FIRST - 1 :].mean()


def by_sort(query: Tensor, target: Tensor) -> Tensor:
    """All rows at once, every negative sorted."""
    d = distances(query, target)
    ranked = masked(d).sort(dim=1).values
    return hinge(d.diagonal(), ranked[:, len(d) // 2 - 1])


def by_kthvalue(query: Tensor, target: Tensor) -> Tensor:
    """All rows at once, the rank taken inside the graph."""
    d = distances(query, target)
    return hinge(d.diagonal(), masked(d).kthvalue(len(d) // 2, dim=1).values)


def masked(d: Tensor) -> Tensor:
    return d.masked_fill(torch.eye(len(d), dtype=torch.bool, device=d.device), torch.inf)


def byol(query: Tensor, target: Tensor) -> Tensor:
    return -F.cosine_similarity(query, target).mean()


def heads() -> list[tuple[str, Head]]:
    """What is timed; the first is the yardstick."""
    found: list[tuple[str, Head]] = [
        ("loop over rows, median, as the public code", partial(by_rows, pick=median_of)),
        ("loop over rows, ranks 2 to 10", partial(by_rows, pick=smoothed_of)),
        ("leanest loop over rows, median", by_lean_rows),
        ("full sort", by_sort),
        ("kthvalue inside the graph", by_kthvalue),
        ("rank_k_triplet, median", rank_k_triplet),
        ("smoothed_triplet, ranks 2 to 10", smoothed_triplet),
        ("(BYOL's cosine loss, the floor)", byol),
    ]
    try:
        from lightly.loss import NTXentLoss
    except ImportError:
        return found
    return [*found, ("lightly NTXentLoss, both directions", NTXentLoss(temperature=0.1))]


def call(head: Head, query: Tensor, target: Tensor) -> Tensor:
    """Forward and backward."""
    query.grad = None
    loss = head(query, target)
    loss.backward()
    return loss.detach()


def repeated(run: Callable[[], object], times: int, device: str) -> None:
    """Run it often enough to be timed; the clock stops when the device is done."""
    for _ in range(times):
        run()
    if device != "cpu":
        torch.accelerator.synchronize()


def difference(mine: Head, theirs: Head, query: Tensor, target: Tensor) -> tuple[float, float]:
    """Of value (relative) and gradient (greatest) of two heads."""
    loss, expected = (call(head, query, target) for head in (mine, theirs))
    call(mine, query, target)
    gradient = query.grad
    call(theirs, query, target)
    assert gradient is not None and query.grad is not None
    return float((loss - expected).abs() / expected), float((gradient - query.grad).abs().max())


def differences(n: int, d: int, device: str) -> dict[str, tuple[float, float]]:
    """Both heads, with the margin that the loop has, by precision."""
    pairs: Sequence[tuple[str, Head, Head]] = (
        ("median", partial(rank_k_triplet, margin=MARGIN), partial(by_rows, pick=median_of)),
        ("ranks 2 to 10", partial(smoothed_triplet, margin=MARGIN), partial(by_rows, pick=smoothed_of)),
    )
    return {
        f"{name}, {str(dtype)[6:]}": difference(mine, theirs, *make(n, d, device, dtype))
        for (name, mine, theirs), dtype in product(pairs, (torch.float32, torch.float64))
    }


def report(n: int, d: int, device: str, rounds: int, as_json: bool) -> float:
    """Time, compare and print the heads; the greatest difference."""
    times = max(1, 500_000 // n**2)
    query, target = make(n, d, device)
    found = heads()
    lines = interleave(
        [Candidate(name, partial(repeated, partial(call, head, query, target), times, device))
         for name, head in found],
        rounds,
    )  # fmt: skip
    apart = differences(n, d, device)
    ratio = {line.name: line.ratio for line in lines}
    loop, loop_10, lean, sort, kth, mine, mine_10, *_ = ratio.values()
    checks = {
        "median: times faster than the loop over rows": round(loop / mine, 1),
        "ranks 2 to 10: times faster than the loop over rows": round(loop_10 / mine_10, 1),
        "median: times faster than the leanest loop": round(lean / mine, 1),
        "median: times faster than a full sort": round(sort / mine, 2),
        "median: times faster than kthvalue inside the graph": round(kth / mine, 2),
        **{f"two calls, times faster than {name}": round(ratio[name] / (2 * mine), 2)
           for name, _ in found if name.startswith("lightly")},
        **{f"differences, {name}": f"loss {v:.0e}, gradient {g:.0e}" for name, (v, g) in apart.items()},
    }  # fmt: skip
    if "lightly" not in sys.modules:
        checks["lightly"] = "not installed, so not timed"
    show(
        f"n={n}, d={d}, float32, {device}: forward and backward, {times} calls a row", lines, checks, as_json
    )
    return max(max(pair) for pair in apart.values())


def network(device: str, seed: int = 0) -> list[Tensor]:
    """The parameters of a ResNet-50 without its classifier, with gradients."""
    from torchvision.models import resnet50

    torch.manual_seed(seed)
    model = resnet50()
    params = [p for name, p in model.to(device).named_parameters() if not name.startswith("fc.")]
    for p in params:
        p.grad = torch.randn_like(p)
    return params


@torch.no_grad()
def ema_by_new_tensors(target: list[Tensor], online: list[Tensor]) -> None:
    for t, o in zip(target, online, strict=True):
        t.data = t.data * MOMENTUM + o.data * (1 - MOMENTUM)


@torch.no_grad()
def lars_by_loop(params: list[Tensor], buffers: list[Tensor]) -> None:
    """One parameter after the other, waiting for its two norms, as the public code does."""
    for p, buffer in zip(params, buffers, strict=True):
        assert p.grad is not None
        update, rate = p.grad, 1.0
        if p.ndim > 1:
            w, g = p.norm().item(), p.grad.norm().item()
            rate, update = ETA * w / (g + DECAY * w), update.add(p, alpha=DECAY)
        buffer.mul_(MOMENTUM).add_(update.mul(rate * LR))
        p.add_(-buffer)


def lars_difference(device: str) -> float:
    """Greatest difference of the parameters after two steps."""
    mine, theirs = network(device), network(device)
    buffers = [torch.zeros_like(p) for p in theirs]
    for p, q in zip(mine, theirs, strict=True):
        q.grad = p.grad
    optimiser = Lars(mine, LR, MOMENTUM, DECAY, ETA)
    for _ in range(2):
        optimiser.step()
        lars_by_loop(theirs, buffers)
    return max(float((p - q).detach().abs().max()) for p, q in zip(mine, theirs, strict=True))


def pair(
    title: str, runs: Sequence[tuple[str, Callable[[], object]]], rounds: int, device: str
) -> list[Line]:
    """A loop and what replaces it."""
    return interleave(
        [Candidate(f"{title}, {name}", partial(repeated, run, 1, device)) for name, run in runs], rounds
    )


def report_steps(device: str, rounds: int, as_json: bool) -> float:
    """Time, compare and print EMA and LARS; the greatest difference."""
    target, online = network(device, 1), network(device)
    ema = pair("EMA", (("new tensors", partial(ema_by_new_tensors, target, online)),
                       ("ema_", partial(ema_, target, online, MOMENTUM))), rounds, device)  # fmt: skip
    params = network(device)
    optimiser = Lars(online, LR, MOMENTUM, DECAY, ETA)
    buffers = [torch.zeros_like(p) for p in params]
    lars = pair("LARS", (("loop with .item()", partial(lars_by_loop, params, buffers)),
                         ("Lars", optimiser.step)), rounds, device)  # fmt: skip
    apart = lars_difference(device)
    checks = {
        "EMA: times faster than new tensors": round(1 / ema[1].ratio, 1),
        "LARS: times faster than the loop": round(1 / lars[1].ratio, 1),
        "LARS, difference after two steps": f"{apart:.0e}",
        "ratios": "EMA's are to its first row, LARS's to its own",
    }
    show(f"one step of a ResNet-50's {len(params)} tensors, {device}", [*ema, *lars], checks, as_json)
    return apart


def main() -> int:
    """Parse, run, print; 1 where values differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, nargs="+", default=[104, 1024], help="images a batch")
    parser.add_argument("--d", type=int, default=256)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, nargs="+", default=[torch.get_num_threads()])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    worst = 0.0
    for threads in options.threads:
        torch.set_num_threads(threads)
        for n in options.n:
            worst = max(worst, report(n, options.d, options.device, options.rounds, options.json))
            print()
        worst = max(worst, report_steps(options.device, options.rounds, options.json))
        print()
    return int(worst > 1e-6)


if __name__ == "__main__":
    sys.exit(main())
