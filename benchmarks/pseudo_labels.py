"""Pseudo-labels (k-reciprocal Jaccard distance and DBSCAN) against the dense textbook form.

    python -m benchmarks.pseudo_labels [--n 12936 --large 32621 --d 2048 --rounds 3 --json --no-large]

Features are synthetic and clustered: long-tailed identities, an offset for each identity in each
camera, an offset for each camera, a mean common to all, and noise. The default sizes are the training
sides of Market-1501 and MSMT17. Public code computes the distance in the dense form, two N×N matrices
filled by loops over images; the one here is written for the comparison, its k-NN search by blocks.
Every run is a process of its own, and the two forms take turns. The dense form is not run at --large, and
`--no-large` leaves that size out. The exit code is 1 where the labels of the two forms differ.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks import timing
from benchmarks.timing import Table
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
    centre, shift = torch.randn(ids, d, generator=g), torch.randn(ids * cameras, d, generator=g)
    x = torch.empty(n, d)  # by parts: the noise of all would be a second copy
    for part in torch.arange(n).split(2048):
        i, c = identity[part], camera[part]
        at = 0.5 * mean + 0.4 * offset[c] + centre[i] + 0.3 * shift[i * cameras + c]
        x[part] = torch.nn.functional.normalize(at + torch.randn(len(part), d, generator=g), dim=1)
    return x


def dense(x: Tensor, k1: int = 20, k2: int = 6) -> NDArray[np.int64]:
    """The same labels by dense matrices and loops over images."""
    from sklearn.cluster import DBSCAN

    ranks = torch.cat([(part @ x.T).topk(k1).indices for part in x.split(1024)]).numpy()
    points, n = x.numpy(), len(x)

    def reciprocal(k: int) -> list[NDArray[np.int64]]:
        return [row[(ranks[row, :k] == i).any(1)] for i, row in enumerate(ranks[:, :k])]

    # Reciprocal neighbours, with those of neighbours that share two thirds of theirs.
    near, half = reciprocal(k1), reciprocal(round(k1 / 2) + 1)
    v = np.zeros((n, n), np.float32)
    for i in range(n):
        members = near[i]
        for c in near[i]:
            if len(np.intersect1d(half[c], near[i])) > 2 / 3 * len(half[c]):
                members = np.append(members, half[c])
        members = np.unique(members)
        # V_ij = exp(−|a_i − a_j|²), normalised over the neighbours
        weight = np.exp(2 * points[members] @ points[i] - 2)  # −|a − b|² of unit vectors
        v[i, members] = weight / weight.sum()
    # Query expansion: the mean over the k2 nearest.
    expanded = np.empty_like(v)
    for i in range(n):
        expanded[i] = v[ranks[i, :k2]].mean(0)
    v = expanded
    del expanded
    # Jaccard distance: 1 − Σ min(v_i, v_j) / (2 − Σ min(v_i, v_j)), rows of v adding up to 1.
    holders = [column.nonzero()[0] for column in v.T]
    distance = np.empty_like(v)
    for i in range(n):
        shared = np.zeros(n, np.float32)
        for j in v[i].nonzero()[0]:
            shared[holders[j]] += np.minimum(v[i, j], v[holders[j], j])
        distance[i] = np.maximum(1 - shared / (2 - shared), 0)
    del v, holders
    search = DBSCAN(eps=EPS + TOLERANCE, min_samples=4, metric="precomputed")
    labels: NDArray[np.int64] = search.fit_predict(distance)
    return labels


def child(form: str, n: int, d: int, threads: int) -> dict[str, Any]:
    """One run of one form: wall and CPU seconds, extra memory in MB, labels."""
    torch.set_num_threads(threads)
    run = dense if form == "dense" else lambda x: cluster(x, eps=EPS, eps_tol=TOLERANCE).numpy()
    run(features(500, d))  # the libraries' own buffers are there before
    x = features(n, d)
    measured: dict[str, Any] = {}

    def timed() -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        measured["labels"] = run(x).tolist()
        measured["seconds"], measured["cpu"] = time.perf_counter() - wall, time.process_time() - cpu

    measured["mb"] = timing.extra_memory(timed)
    return measured


def main() -> int:
    """Every form in turn, each run a process of its own: wall and CPU seconds, memory, labels."""
    from sklearn.metrics import adjusted_rand_score

    options = timing.options(__doc__, rounds=3, n=12_936, large=32_621, d=2048, no_large=False)
    if options.child is not None:
        form, *size = options.child.split(",")
        print(json.dumps(child(form, *map(int, size))))
        return 0
    threads = torch.get_num_threads()
    theirs, ours = f"dense, N={options.n}", f"cluster, N={options.n}"
    runs: dict[str, tuple[str, int, int, int]] = {
        theirs: ("dense", options.n, options.d, threads),
        ours: ("cluster", options.n, options.d, threads),
    }
    if not options.no_large:
        runs[f"cluster, N={options.large}"] = ("cluster", options.large, options.d, threads)
    runs[f"cluster, N={SMALL[0]}, d={SMALL[1]}, one thread"] = ("cluster", *SMALL, 1)
    # -- the forms take turns --
    wall, cpu = Table({name: [] for name in runs}), Table({name: [] for name in runs})
    labels = {}
    for _ in range(options.rounds):
        for name, run in runs.items():
            measured = timing.in_child(*run)
            if "error" in measured:
                raise SystemExit(f"benchmarks.pseudo_labels: {name}: {measured['error']}")
            wall.seconds[name].append(measured["seconds"])
            cpu.seconds[name].append(measured["cpu"])
            wall.memory_mb[name] = max(wall.memory_mb.get(name, 0), measured["mb"])
            labels[name] = measured["labels"]
    wall.notes = {name: f"{cpu.median(name):.2f} CPU s" for name in runs}
    # -- agreement --
    same = adjusted_rand_score(labels[theirs], labels[ours])
    clusters, outliers = max(labels[ours]) + 1, labels[ours].count(-1)
    checks = {
        "cluster by dense, wall time": round(wall.ratio(ours, theirs), 3),
        "cluster by dense, CPU time": round(cpu.ratio(ours, theirs), 3),
        "dense by cluster, extra memory": round(wall.memory_mb[theirs] / (wall.memory_mb[ours] or 1), 1),
        "ARI of the two": f"{same:.6f}, {clusters} clusters, {outliers} outliers",
    }
    title = f"Pseudo-labels, d={options.d}, float32, k1=20, k2=6, eps={EPS}, min_samples=4"
    return timing.show(title, wall, checks, options, agree=same == 1)


if __name__ == "__main__":
    sys.exit(main())
