"""Pseudo-labels (k-reciprocal Jaccard distance and DBSCAN) against the dense textbook form.

    python -m benchmarks.pseudo_labels [--n 12936 --large 32621 --d 2048 --rounds 3 --json --no-large]

Features are synthetic and clustered: long-tailed identities, an offset for each identity in each
camera, an offset for each camera, a mean common to all, and noise. The default sizes are the training
sides of Market-1501 and MSMT17. Public code computes the distance in the dense form, two N×N matrices
filled by loops over images; the one here is written for the comparison, its k-NN search by blocks.
Every run is a process of its own, and the two forms take turns. The dense form is not run at --large.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.timing import Line, extra_memory, in_child, show
from papers_lib.sampler_study.pseudo_labels import cluster

EPS, TOLERANCE = 0.5, 1e-6
SMALL = (1921, 128)  # of the study's own `small` runs, which cluster at every epoch on one thread


def features(n: int, d: int, seed: int = 0) -> Tensor:
    """Unit vectors [n, d] of about n/17 identities (n/31 where n is large) seen by 6 (15) cameras."""
    ids, cameras = (n // 31, 15) if n > 20_000 else (n // 17, 6)
    g = torch.Generator().manual_seed(seed)
    share = torch.randn(ids, generator=g).mul_(0.7).exp_()  # long-tailed
    identity = torch.multinomial(share, n, replacement=True, generator=g).sort().values
    camera = torch.randint(cameras, (n,), generator=g)
    mean, offset = torch.randn(d, generator=g), torch.randn(cameras, d, generator=g)
    centre, own = torch.randn(ids, d, generator=g), torch.randn(ids * cameras, d, generator=g)
    x = torch.empty(n, d)
    for part in torch.arange(n).split(2048):
        i, c = identity[part], camera[part]
        at = 0.5 * mean + 0.4 * offset[c] + centre[i] + 0.3 * own[i * cameras + c]
        x[part] = torch.nn.functional.normalize(at + torch.randn(len(part), d, generator=g), dim=1)
    return x


def dense(x: Tensor, k1: int = 20, k2: int = 6) -> NDArray[np.int64]:
    """The same labels by dense matrices and loops over images."""
    from sklearn.cluster import DBSCAN

    ranks = torch.cat([(part @ x.T).topk(k1).indices for part in x.split(1024)]).numpy()
    points, n = x.numpy(), len(x)

    def reciprocal(k: int) -> list[NDArray[np.int64]]:
        return [row[(ranks[row, :k] == i).any(1)] for i, row in enumerate(ranks[:, :k])]

    near, half = reciprocal(k1), reciprocal(round(k1 / 2) + 1)
    v = np.zeros((n, n), np.float32)
    for i in range(n):
        members = near[i]
        for c in near[i]:
            if len(np.intersect1d(half[c], near[i])) > 2 / 3 * len(half[c]):
                members = np.append(members, half[c])
        members = np.unique(members)
        weight = np.exp(2 * points[members] @ points[i] - 2)  # −|a − b|² of unit vectors
        v[i, members] = weight / weight.sum()
    expanded = np.empty_like(v)
    for i in range(n):
        expanded[i] = v[ranks[i, :k2]].mean(0)
    v = expanded
    del expanded
    holders = [column.nonzero()[0] for column in v.T]
    distance = np.empty_like(v)
    for i in range(n):
        shared = np.zeros(n, np.float32)
        for j in v[i].nonzero()[0]:
            shared[holders[j]] += np.minimum(v[i, j], v[holders[j], j])
        distance[i] = np.maximum(1 - shared / (2 - shared), 0)
    del v, holders
    search = DBSCAN(eps=EPS + TOLERANCE, min_samples=4, metric="precomputed")
    found: NDArray[np.int64] = search.fit_predict(distance)
    return found


def child(form: str, n: int, d: int, threads: int) -> dict[str, Any]:
    """One run of one form: wall and CPU seconds, extra memory in MB, labels."""
    torch.set_num_threads(threads)
    run = dense if form == "dense" else lambda x: cluster(x, eps=EPS, eps_tol=TOLERANCE).numpy()
    run(features(500, d))  # the libraries' own buffers are there before
    x = features(n, d)
    seen: dict[str, Any] = {}

    def timed() -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        seen["labels"] = run(x).tolist()
        seen["seconds"], seen["cpu"] = time.perf_counter() - wall, time.process_time() - cpu

    seen["mb"] = extra_memory(timed)
    return seen


def rounds(options: argparse.Namespace) -> tuple[list[Line], dict[str, list[float]], list[list[int]]]:
    """Every form in turn: lines (the first is the yardstick), CPU seconds, labels of the first two."""
    threads = torch.get_num_threads()
    runs = {
        f"dense, N={options.n}": ("dense", options.n, options.d, threads),
        f"cluster, N={options.n}": ("cluster", options.n, options.d, threads),
        f"cluster, N={options.large}": ("cluster", options.large, options.d, threads),
        f"cluster, N={SMALL[0]}, d={SMALL[1]}, one thread": ("cluster", *SMALL, 1),
    }
    if options.no_large:
        del runs[f"cluster, N={options.large}"]
    lines = {name: Line(name, []) for name in runs}
    cpu: dict[str, list[float]] = {name: [] for name in runs}
    labels = {}
    for _ in range(options.rounds):
        for name, run in runs.items():
            found = in_child("benchmarks.pseudo_labels", ["--child", *map(str, run)])
            if "error" in found:
                raise SystemExit(f"benchmarks.pseudo_labels: {name}: {found['error']}")
            lines[name].seconds.append(found["seconds"])
            cpu[name].append(found["cpu"])
            lines[name].memory_mb = max(lines[name].memory_mb or 0, found["mb"])
            labels[name] = found["labels"]
    return list(lines.values()), cpu, list(labels.values())[:2]


def main() -> int:
    """Parse, run, print; 1 where the labels of the two forms differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=12_936)
    parser.add_argument("--large", type=int, default=32_621)
    parser.add_argument("--d", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--no-large", action="store_true", help="leave out --large")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        form, *size = options.child
        print(json.dumps(child(form, *map(int, size))))
        return 0
    return report(options)


def report(options: argparse.Namespace) -> int:
    """Run, compare and print."""
    from sklearn.metrics import adjusted_rand_score

    lines, cpu, (theirs, ours) = rounds(options)
    yardstick = lines[0]
    for line in lines:
        pairs = zip(line.seconds, yardstick.seconds, strict=True)
        line.ratio = statistics.median(mine / first for mine, first in pairs)
        line.note = f"{statistics.median(cpu[line.name]):.2f} CPU s"
    same = adjusted_rand_score(theirs, ours)
    by_cpu = zip(cpu[lines[1].name], cpu[yardstick.name], strict=True)
    checks = {
        "cluster by dense, wall time": round(lines[1].ratio, 3),
        "cluster by dense, CPU time": round(statistics.median(a / b for a, b in by_cpu), 3),
        "dense by cluster, extra memory": round((yardstick.memory_mb or 0) / (lines[1].memory_mb or 1), 1),
        "ARI of the two": f"{same:.6f}, {max(ours) + 1} clusters, {ours.count(-1)} outliers",
    }
    title = f"Pseudo-labels, d={options.d}, float32, k1=20, k2=6, eps={EPS}, min_samples=4"
    show(title, lines, checks, options.json)
    return int(same < 1)


if __name__ == "__main__":
    sys.exit(main())
