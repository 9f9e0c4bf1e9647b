"""Reading the runs: per-seed values of an arm, rows of tables, curves over epochs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from papers_lib.exhibits.intervals import paired, t_interval
from papers_lib.exhibits.ledger import Row
from papers_lib.exhibits.table import NOT_RUN, Cell
from papers_lib.exhibits.verdicts import greater
from papers_lib.quadruplet_cars196.plan import Arm
from papers_lib.runs.spec import RunSpec

Runs = Sequence[tuple[RunSpec, Row | None]]
LAST_EPOCH = {
    "positive_fallback": "P+ by fallback",
    "sibling_fallback": "P− by fallback",
    "active_1": "hinge 1 active",
    "active_2": "hinge 2 active",
    "D_RP": "D(R, P+)",
    "D_RM": "D(R, P−)",
    "D_RN": "D(R, N)",
}
MINED = {
    "same_positive": "same P+ in both",
    "same_sibling": "same P− in both",
    "skips_a_closer_sibling": "Method 2 skips a closer P−",
    "method_2_positive_fallback": "P+ by fallback, Method 2",
    "method_2_sibling_fallback": "P− by fallback, Method 2",
    "distinct_method_1": "different images, Method 1",
    "distinct_method_2": "different images, Method 2",
}
WITHIN = "within / all variance"
SHARES = ("positive_fallback", "sibling_fallback", "active_1", "active_2")


def rows_of(runs: Runs, arm: str) -> dict[int, Row]:
    """The rows of an arm by seed."""
    return {row.seed: row for spec, row in runs if row is not None and spec.label == arm}


def made(runs: Runs) -> list[Row]:
    """All rows that there are."""
    return [row for _, row in runs if row is not None]


def percent(runs: Runs, arm: str, metric: str) -> dict[int, float]:
    """A metric of an arm by seed, in %."""
    return {seed: 100 * float(row.metrics[metric]) for seed, row in rows_of(runs, arm).items()}


def mined(runs: Runs, arm: str, name: str) -> dict[int, float]:
    """What the selections do on an arm's final features, by seed."""
    return {seed: float(row.metrics["mined"][name]) for seed, row in rows_of(runs, arm).items()}


def mean_over_epochs(runs: Runs, arm: str, metric: str = "R@1") -> dict[int, float]:
    """The mean of a metric over a run's epochs, by seed, in %: high if it rises early."""
    return {
        seed: 100 * sum(epoch[metric] for epoch in row.metrics["history"]) / len(row.metrics["history"])
        for seed, row in rows_of(runs, arm).items()
        if row.metrics["history"]
    }


def start(runs: Runs) -> str:
    """In words: what the runs of this profile start from."""
    epochs = {need.label: need.settings["epochs"] for spec, _ in runs for need in spec.needs}
    if epochs:
        long = f" ({epochs['long warm']} where the row says long)" if "long warm" in epochs else ""
        return (
            f"warm: a backbone trained for {epochs.get('warm', epochs.get('long warm'))} epochs{long} by "
            "cross-entropy on the fine labels of the training classes, which stands for ImageNet weights; "
            "embedding and heads are new"
        )
    names = {"imagenet": "torchvision's ImageNet weights", "file": "weights from a file"}
    return names.get(str(runs[0][0].settings["start"]), "random weights")


def random_of_the_same_start(arm: Arm) -> str:
    """The arm of random quadruplets that `arm` is to be held against."""
    scratch = "random_scratch" if arm.changes.get("start") == "scratch" else "random"
    return "random_long" if arm.long_start else scratch


def control_row(runs: Runs, arm: Arm) -> list[Cell]:
    """A line of the controls: means in %, and the paired difference to random quadruplets."""
    ours = percent(runs, arm.name, "R@1")
    other = random_of_the_same_start(arm)
    random = percent(runs, other, "R@1")
    if not ours:
        return [arm.label, NOT_RUN, *[None] * 6, 0, "not tested"]
    means: list[Cell] = [
        t_interval(list(percent(runs, arm.name, metric).values())).mean
        for metric in ("R@1", "R@8", "MAP@R", "NMI", "AMI")
    ]
    if arm.name == other:
        return [arm.label, *means, None, None, len(ours), None]
    if not ours.keys() & random.keys():
        return [arm.label, *means, None, None, len(ours), "not tested"]
    gap = paired(ours, random)
    return [arm.label, *means, gap.mean, gap, gap.n, greater(ours, random).verdict]


def last_epoch(runs: Runs, arm: Arm) -> list[Cell]:
    """Means over seeds of what the last epoch logged; shares in %."""
    rows = rows_of(runs, arm.name).values()
    last = [row.metrics["history"][-1] for row in rows if row.metrics["history"]]
    if not last:
        return [arm.label, *[NOT_RUN] * len(LAST_EPOCH)]
    return [arm.label, *(_mean(last, name) for name in LAST_EPOCH)]


def final(runs: Runs, arm: Arm) -> list[Cell]:
    """Means over seeds of `mined`, shares in %, and of the spread of the unseen classes."""
    rows = list(rows_of(runs, arm.name).values())
    if not rows:
        return [arm.label, *[NOT_RUN] * (len(MINED) + 1)]
    chosen: list[Cell] = []
    for name in MINED:
        values = list(mined(runs, arm.name, name).values())
        chosen.append(sum(values) / len(values) * (1 if name.startswith("distinct") else 100))
    return [arm.label, *chosen, sum(float(row.metrics["within_over_all"]) for row in rows) / len(rows)]


def _mean(epochs: list[dict[str, float]], name: str) -> float | None:
    values = [epoch[name] for epoch in epochs if name in epoch]
    return sum(values) / len(values) * (100 if name in SHARES else 1) if values else None


def by_epoch(runs: Runs, arms: Sequence[str], names: Sequence[str]) -> Iterator[dict[str, float | str]]:
    """Long form of the histories: arm, seed, epoch, and the values named, in %.

    R@1 at epoch 0 is that of the start, a run of the same seed.
    """
    start = percent(runs, "start", "R@1")
    for arm in arms:
        for seed, row in sorted(rows_of(runs, arm).items()):
            if "R@1" in names and seed in start:
                yield {"arm": arm, "seed": seed, "epoch": 0, "R@1": start[seed]}
            for number, epoch in enumerate(row.metrics["history"], 1):
                values = {name: 100 * epoch[name] for name in names if name in epoch}
                yield {"arm": arm, "seed": seed, "epoch": number, **values}
