"""The triplet heads against the loop over rows that they replace; EMA and LARS against plain loops.

    python -m benchmarks.triplet_loss [--n 104 1024 --d 256 --device cpu --threads 2 --rounds 15 --json]

A call is forward and backward of one head, the target without gradient, as in training. The yardstick
works as the public code of the paper does: a mask, its positive and the median of its negatives (or the
mean of ranks 2 to 10) for one query after the other. A full sort and a ranking inside the graph say what
each part of the library's way is worth; lightly's NTXentLoss, where it is installed, is the contrastive
loss of the same two views in both directions, for which a triplet needs two calls; BYOL's cosine loss,
which has no negatives, is the floor. The last two tables step a ResNet-50, by EMA and by LARS. The exit code
is 1 where values differ.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import timing
from benchmarks.timing import Case
from papers_lib.median_triplet.heads import rank_k_triplet, smoothed_triplet
from papers_lib.median_triplet.optimisers import Lars, ema_

GAMMA, SCALE, MARGIN = 2.0, 2.0, 100.0
FIRST, LAST = 2, 10
MOMENTUM, LR, DECAY, ETA = 0.9, 1e-6, 1e-6, 1e-3
ROWS, ROWS_10 = "loop over rows, median, as the public code", "loop over rows, ranks 2 to 10"
LEAN, SORT, KTH = "leanest loop over rows, median", "full sort", "kthvalue inside the graph"
MEDIAN, SMOOTHED = "rank_k_triplet, median", "smoothed_triplet, ranks 2 to 10"
LIGHTLY = "lightly NTXentLoss, both directions"

Head = Callable[[Tensor, Tensor], Tensor]


def make(n: int, d: int, device: str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Predictions and projections of two views: the positive is nearer than chance, not nearest."""
    generator = torch.Generator().manual_seed(0)
    # Two views of an image: what they share, and noise of twice its length.
    image, *noise = (torch.randn(n, d, generator=generator, dtype=torch.float64) for _ in range(3))
    query, target = ((image + 2 * e).to(device, dtype) for e in noise)
    return query.requires_grad_(), target


def distances(query: Tensor, target: Tensor) -> Tensor:
    """[n, n] in the graph: −s · cos(query, target)."""
    return -SCALE * F.normalize(query) @ F.normalize(target).T


def hinge(positive: Tensor, negative: Tensor) -> Tensor:
    """As the public code: a ranking loss that is never clipped."""
    # mean of max(0, γ d⁺ − d⁻ + margin); the margin of 100 keeps it from 0
    return F.margin_ranking_loss(negative, GAMMA * positive, torch.ones_like(negative), margin=MARGIN)


def by_rows(query: Tensor, target: Tensor, pick: Callable[[Tensor], Tensor]) -> Tensor:
    """One query after the other, each looked up in the whole matrix twice."""
    d = distances(query, target)  # [n, n]
    same = torch.eye(len(d), dtype=torch.bool, device=d.device)
    positive = [d[i][same[i]].max() for i in range(len(d))]
    negative = [pick(d[i][~same[i]]) for i in range(len(d))]
    return hinge(torch.stack(positive), torch.stack(negative))


def by_lean_rows(query: Tensor, target: Tensor) -> Tensor:
    """A loop as lean as it can be: the matrix is cut into rows once, positives are its diagonal."""
    d = distances(query, target)
    rows = masked(d).unbind()
    return hinge(d.diagonal(), torch.stack([row.kthvalue(len(d) // 2).values for row in rows]))


def smoothed_of(row: Tensor) -> Tensor:
    # the mean of ranks 2 to 10
    return row.topk(LAST, largest=False).values[FIRST - 1 :].mean()


def by_sort(query: Tensor, target: Tensor) -> Tensor:
    """All rows at once, every negative sorted."""
    d = distances(query, target)
    ranked = masked(d).sort(dim=1).values  # [n, n], the positive last
    return hinge(d.diagonal(), ranked[:, len(d) // 2 - 1])


def by_kthvalue(query: Tensor, target: Tensor) -> Tensor:
    """All rows at once, the rank taken inside the graph."""
    d = distances(query, target)
    return hinge(d.diagonal(), masked(d).kthvalue(len(d) // 2, dim=1).values)


def masked(d: Tensor) -> Tensor:
    return d.masked_fill(torch.eye(len(d), dtype=torch.bool, device=d.device), torch.inf)


def byol(query: Tensor, target: Tensor) -> Tensor:
    return -F.cosine_similarity(query, target).mean()


def heads() -> dict[str, Head]:
    """What is timed; the first is the yardstick."""
    named: dict[str, Head] = {
        ROWS: partial(by_rows, pick=torch.median),
        ROWS_10: partial(by_rows, pick=smoothed_of),
        LEAN: by_lean_rows,
        SORT: by_sort,
        KTH: by_kthvalue,
        MEDIAN: rank_k_triplet,
        SMOOTHED: smoothed_triplet,
        "(BYOL's cosine loss, the floor)": byol,
    }
    with suppress(ImportError):
        from lightly.loss import NTXentLoss

        named[LIGHTLY] = NTXentLoss(temperature=0.1)
    return named


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
    pairs: dict[str, tuple[Head, Head]] = {
        "median": (partial(rank_k_triplet, margin=MARGIN), partial(by_rows, pick=torch.median)),
        "ranks 2 to 10": (partial(smoothed_triplet, margin=MARGIN), partial(by_rows, pick=smoothed_of)),
    }
    return {
        f"{name}, {str(dtype)[6:]}": difference(mine, theirs, *make(n, d, device, dtype))
        for (name, (mine, theirs)), dtype in product(pairs.items(), (torch.float32, torch.float64))
    }


def report(n: int, device: str, options: Namespace) -> int:
    """Time, compare and print the heads."""
    times = max(1, 500_000 // n**2)  # small batches often enough for the clock
    query, target = make(n, options.d, device)
    cases = [
        Case(name, partial(repeated, partial(call, head, query, target), times, device))
        for name, head in heads().items()
    ]
    table = timing.compare(cases, options)
    checks: dict[str, object] = {
        "median: times faster than the loop over rows": round(table.ratio(ROWS, MEDIAN), 1),
        "ranks 2 to 10: times faster than the loop over rows": round(table.ratio(ROWS_10, SMOOTHED), 1),
        "median: times faster than the leanest loop": round(table.ratio(LEAN, MEDIAN), 1),
        "median: times faster than a full sort": round(table.ratio(SORT, MEDIAN), 2),
        "median: times faster than kthvalue inside the graph": round(table.ratio(KTH, MEDIAN), 2),
    }
    if LIGHTLY in table.seconds:
        faster = round(table.ratio(LIGHTLY, MEDIAN) / 2, 2)
        checks[f"two calls, times faster than {LIGHTLY}"] = faster
    apart = differences(n, options.d, device)
    for name, (loss, gradient) in apart.items():
        checks[f"differences, {name}"] = f"loss {loss:.0e}, gradient {gradient:.0e}"
    if LIGHTLY not in table.seconds:
        checks["lightly"] = "not installed, so not timed"
    title = f"n={n}, d={options.d}, float32, {device}: forward and backward, {times} calls a row"
    return timing.show(title, table, checks, options, agree=max(map(max, apart.values())) <= 1e-6)


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
        # ξ ← τ ξ + (1 − τ) θ
        t.data = t.data * MOMENTUM + o.data * (1 - MOMENTUM)


@torch.no_grad()
def lars_by_loop(params: list[Tensor], buffers: list[Tensor]) -> None:
    """One parameter after the other, waiting for its two norms, as the public code does."""
    for p, buffer in zip(params, buffers, strict=True):
        assert p.grad is not None
        update, rate = p.grad, 1.0
        if p.ndim > 1:
            w, g = p.norm().item(), p.grad.norm().item()
            # rate = η |w| / (|g| + λ |w|)
            rate, update = ETA * w / (g + DECAY * w), update.add(p, alpha=DECAY)
        # v ← μ v + lr · rate · (g + λ w); w ← w − v
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


def report_steps(device: str, options: Namespace) -> int:
    """Time, compare and print EMA and LARS, each beside its loop."""
    target, online, params = network(device, 1), network(device), network(device)
    optimiser, buffers = Lars(online, LR, MOMENTUM, DECAY, ETA), [torch.zeros_like(p) for p in params]
    ema = {
        "EMA, new tensors": lambda: ema_by_new_tensors(target, online),
        "EMA, ema_": lambda: ema_(target, online, MOMENTUM),
    }
    lars = {
        "LARS, loop with .item()": lambda: lars_by_loop(params, buffers),
        "LARS, Lars": optimiser.step,
    }
    apart, code = lars_difference(device), 0
    for loop_and_ours in (ema, lars):
        cases = [Case(name, partial(repeated, run, 1, device)) for name, run in loop_and_ours.items()]
        table = timing.compare(cases, options)
        loop, ours = loop_and_ours
        checks: dict[str, object] = {"times faster than the loop": round(table.ratio(loop, ours), 1)}
        if loop_and_ours is lars:
            checks["difference after two steps"] = f"{apart:.0e}"
        title = f"one step of a ResNet-50's {len(params)} tensors, {device}"
        code |= timing.show(title, table, checks, options, agree=apart <= 1e-6)
    return code


def main() -> int:
    """The heads at every size, then the steps, at every number of threads."""
    options = timing.options(
        __doc__, rounds=15, n=[104, 1024], d=256, device="cpu", threads=[torch.get_num_threads()]
    )
    code = 0
    for threads in options.threads:
        torch.set_num_threads(threads)
        for n in options.n:
            code |= report(n, options.device, options)
        code |= report_steps(options.device, options)
    return code


if __name__ == "__main__":
    sys.exit(main())
