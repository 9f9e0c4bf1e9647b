"""Reading the runs: per-seed values of an arm on a camera network, and rows of tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from papers_lib.exhibits.intervals import paired, t_interval
from papers_lib.exhibits.ledger import Row
from papers_lib.exhibits.table import NOT_RUN, Cell
from papers_lib.exhibits.verdicts import greater
from papers_lib.runs.spec import RunSpec
from papers_lib.sampler_study.arms import ARMS, GRID_VALUES, arm_name

Runs = Sequence[tuple[RunSpec, Row | None]]
METRICS = ("mAP", "R1", "R5", "R10")
COLUMNS = {"market1501": "Market1501", "dukemtmc": "DukeMTMC", "msmt17_v1": "MSMT17"}  # as the tables print
# What the last epoch logged: its name, in words, and the factor to the unit shown.
LOGGED = {
    "distinct_classes": ("clusters a batch", 1),
    "distinct_images": ("different images a batch", 1),
    "classes_visited": ("clusters visited, %", 100),
    "images_drawn": ("images drawn, %", 100),
    "clusters": ("clusters", 1),
    "outliers": ("outliers, %", 100),
    "purity": ("purity, %", 100),
}


def rows_of(runs: Runs, network: str, arm: str) -> dict[int, Row]:
    """The rows of an arm on a camera network, by seed."""
    label = f"{network}/{arm}"
    return {row.seed: row for spec, row in runs if row is not None and spec.label == label}


def made(runs: Runs) -> list[Row]:
    """All rows that there are."""
    return [row for _, row in runs if row is not None]


def percent(runs: Runs, network: str, arm: str, metric: str = "mAP", at: str = "") -> dict[int, float]:
    """A metric of an arm by seed, in %; `at` is "start", "best" or "last" instead of what was reported."""
    return {
        seed: 100 * float((row.metrics[at] if at else row.metrics)[metric])
        for seed, row in rows_of(runs, network, arm).items()
    }


def logged(runs: Runs, network: str, arm: str, name: str, epoch: int = -1) -> dict[int, float]:
    """What an epoch (the last) logged under `name`, by seed, in the unit that `LOGGED` shows."""
    factor = LOGGED.get(name, ("", 1))[1]
    found = {seed: row.metrics["history"] for seed, row in rows_of(runs, network, arm).items()}
    return {
        seed: factor * float(history[epoch][name])
        for seed, history in found.items()
        if history and name in history[epoch]
    }


def mean(values: dict[int, float]) -> float | None:
    """The mean over seeds, None of nothing."""
    return sum(values.values()) / len(values) if values else None


def best_setting(runs: Runs, network: str, method: str) -> str:
    """The arm of the sampler with the highest mean mAP: Table I's rule, a choice on the test set."""
    means = {k: mean(percent(runs, network, arm_name(method, k))) for k in GRID_VALUES}
    known = {k: value for k, value in means.items() if value is not None}
    return arm_name(method, max(known, key=lambda k: known[k]) if known else GRID_VALUES[0])


def control_row(runs: Runs, network: str, arm: str) -> list[Cell]:
    """A line of the controls: means, what a batch held, and the paired difference to its counterpart."""
    label, against = ARMS[arm].label, ARMS[arm].against
    ours, other = percent(runs, network, arm), percent(runs, network, against)
    if not ours:
        return [label, NOT_RUN, *[None] * 7, 0, "not tested"]
    held = [
        mean(logged(runs, network, arm, name)) for name in ("distinct_classes", "distinct_images", "purity")
    ]
    means: list[Cell] = [mean(ours), mean(percent(runs, network, arm, "R1")), *held]
    if not ours.keys() & other.keys():
        return [label, *means, mean(other), None, None, len(ours), "not tested"]
    gap = paired(ours, other)
    return [label, *means, mean(other), gap.mean, gap, gap.n, greater(ours, other).verdict]


def diagnosis_row(runs: Runs, network: str, arm: str) -> list[Cell]:
    """What the last epoch of an arm looked like: means over seeds."""
    if not rows_of(runs, network, arm):
        return [ARMS[arm].label, NOT_RUN, *[None] * len(LOGGED)]
    values = [mean(logged(runs, network, arm, name)) for name in LOGGED]
    return [ARMS[arm].label, mean(percent(runs, network, arm)), *values]


def spread_row(runs: Runs, network: str, arm: str) -> list[Cell]:
    """Mean, interval, standard deviation, smallest and largest mAP over seeds."""
    values = list(percent(runs, network, arm).values())
    name = [COLUMNS.get(network, network), ARMS[arm].label]
    if not values:
        return [*name, NOT_RUN, None, None, None, None, 0]
    found = t_interval(values)
    sd = (sum((x - found.mean) ** 2 for x in values) / (found.n - 1)) ** 0.5 if found.n > 1 else None
    return [*name, found.mean, found, sd, min(values), max(values), found.n]


def by_setting(runs: Runs, networks: Sequence[str]) -> Iterator[dict[str, float | str]]:
    """Long form of the grid: network, sampler, K or N, seed, mAP in %."""
    for network in networks:
        for arm in ARMS.values():
            if arm.sweep != "grid" or arm.name == "random":
                continue
            for seed, value in sorted(percent(runs, network, arm.name).items()):
                k = arm.changes["k"]
                yield {
                    "network": network,
                    "sampler": arm.changes["method"],
                    "k": k,
                    "seed": seed,
                    "mAP": value,
                }


def by_epoch(runs: Runs, network: str, arms: Sequence[str]) -> Iterator[dict[str, float | str]]:
    """Long form of the histories: arm, seed, epoch, mAP (where evaluated) and purity, in %."""
    for arm in arms:
        for seed, row in sorted(rows_of(runs, network, arm).items()):
            yield {"arm": arm, "seed": seed, "epoch": 0, "mAP": 100 * row.metrics["start"]["mAP"]}
            for number, epoch in enumerate(row.metrics["history"], 1):
                if "mAP" in epoch:
                    yield {"arm": arm, "seed": seed, "epoch": number, "mAP": 100 * epoch["mAP"]}


def starts(runs: Runs) -> str:
    """In words: what the runs of this profile start from."""
    warm = [need for spec, _ in runs for need in spec.needs]
    if warm:
        s = warm[0].settings
        return (
            f"a supervised warm-up on other rendered people seen by other cameras ({s['epochs']} × "
            f"{s['iters_per_epoch']} batches of {s['batch_size']}), one a seed, in place of ImageNet weights"
        )
    names = {"imagenet": "torchvision's ImageNet weights", "file": "weights from a file"}
    return names.get(str(runs[0][0].settings["start"]), "random weights")
