"""The tables of the study: Tables I–IV beside ours, those that the paper lacks, and readings."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from papers_lib.exhibits.intervals import t_interval
from papers_lib.exhibits.table import NOT_RUN, Cell, Table, comparison
from papers_lib.sampler_study.study import printed
from papers_lib.sampler_study.study.toy import toy_table
from papers_lib.study import Arm, Results, gap, not_run

if TYPE_CHECKING:
    from papers_lib.sampler_study.study import Samplers


class Sampler(NamedTuple):
    """A sampler of the paper: its label, the symbol of its setting, and the table that varies it."""

    label: str
    symbol: str
    exhibit: str


SAMPLERS = {
    "triplet_cluster": Sampler("Triplet, cluster labels", "K", "Table II"),
    "triplet_proxy": Sampler("Triplet, proxy labels", "K", "Table III"),
    "group_cluster": Sampler("Group", "N", "Table IV"),
}
GRID = (1, 2, 4, 8, 12, 16, 32)  # K and N in the paper
NETWORKS = {"market1501": "Market1501", "dukemtmc": "DukeMTMC", "msmt17_v1": "MSMT17"}  # as the tables print
# Other networks stand beside the first of them, which has six cameras as they have.
BESIDE = next(iter(NETWORKS.values()))
AGAIN = {"msmt17_v2": "MSMT17"}  # the same images, with blurred faces
OTHERS = {"cars_cameras_features": "cars", "reid_from_images": "cars"}
METRICS = ("mAP", "R1", "R5", "R10")
# The rows of Table I, and the arm that answers each; "": another paper's number that no run of ours can.
ROWS_1 = {
    "MMCL [19]": "mmcl",
    "SpCL [7]": "spcl",
    "GCL [23]": "",
    "CAP [6]": "cap",
    "Random Sampling": "random",
    "Triplet Sampling (1)": "triplet_cluster_best",
    "Triplet Sampling (2)": "triplet_proxy_best",
    "Group Sampling": "group_cluster_best",
}
# Each table in two parts, mAP and ranks, since all its lines together are more than a reader takes in.
HALVES = {"": METRICS[:1], "_ranks": METRICS[1:]}
LAST_EPOCH = {  # what the last epoch logged, and how a table names it; a path that ends in " %" is a share
    "steps": "steps per epoch",
    "distinct_classes": "clusters per batch",
    "images_per_class": "images per cluster",
    "distinct_images": "different images per batch",
    "classes_visited %": "clusters visited, %",
    "images_drawn %": "images drawn, %",
    "clusters": "clusters",
    "outliers %": "outliers, %",
    "purity %": "purity, %",
}
CONTROLS = {
    "factorial": "Clusters per batch, clusters visited and steps, each changed alone",
    "batch_norm": "Batch normalisation frozen, or kept out of the memory",
    "loss": "The other choices, one changed at a time",
}
BATCH = {
    "steps": "steps per epoch",
    "distinct_classes": "clusters per batch",
    "distinct_images": "different images",
    "classes_visited %": "clusters visited, %",
}
HELD = (
    "run",
    "mAP",
    "R1",
    *BATCH.values(),
    "counterpart",
    "Δ mAP",
    "95 % interval",
    "n",
    "greater than counterpart",
)

# What is shown of the wide tables; their CSV has all of it.
DIFFERENCE = ("Δ mAP", "95 % interval", "n", "greater than counterpart")
FACES = {
    "factorial": ("run", "mAP", "steps per epoch", "clusters per batch", "clusters visited, %", *DIFFERENCE),
    "batch_norm": ("run", "mAP", *DIFFERENCE),
    "loss": ("run", "mAP", *DIFFERENCE),
    "diagnosis": (
        "setting",
        "mAP, %",
        "clusters per batch",
        "different images per batch",
        "clusters visited, %",
        "images drawn, %",
        "outliers, %",
        "purity, %",
    ),
}
TOLD = ("random", *(f"{method}_{k}" for method in SAMPLERS for k in (1, 4, 8, 32)))  # of `diagnosis`


def tables(study: Samplers, results: Results) -> dict[str, Table]:
    """Every table by name."""
    every = (
        *(table_1(study, results, *half) for half in HALVES.items()),
        *(table_by_setting(study, results, method, *half) for method in SAMPLERS for half in HALVES.items()),
        settings(study, results),
        *(controls(study, results, sweep) for sweep in CONTROLS),
        rivals(study, results),
        spread(study, results),
        diagnosis(study, results),
        printed.table_1_corrected(),
        printed.duplicates_table(),
        printed.visited_table(),
        toy_table(),
    )
    return {table.name: table for table in every}


# -- the paper's tables --


def table_1(study: Samplers, results: Results, half: str, metrics: Sequence[str]) -> Table:
    """Table I: eight rows, three camera networks, one line per printed number."""
    made = study.provenance(results)
    lines = []
    for network, column in beside(results).items():
        for metric in metrics:
            for row, arm in ROWS_1.items():
                place = ("Table I", row, f"{column} {metric}")
                if place not in study.printed:
                    continue
                label = row
                if arm.endswith("_best"):
                    method, _, k = (
                        study.resolve(results, f"{network}/{arm}").partition("/")[2].rpartition("_")
                    )
                    label = f"{row}, our best {SAMPLERS[method].symbol} = {k}"
                # A number of another paper at its own settings is never ours to compare with.
                same = made.comparable and row not in list(ROWS_1)[:4]
                lines.append(study.line(results, (title(network), metric, label), place, same))
    return comparison(
        f"table_1{half}",
        "Table I: samplers and earlier work, %",
        ("data set", "metric", "method"),
        lines,
        made.badge,
        made.text,
        notes=(
            "Our best settings are chosen on the test set, as in the paper; that is optimistic.",
            *printed_beside(results),
            "GCL is quoted only. The published MMCL was trained with CamStyle images, which ours has not; "
            "CAP's Adam and batch stand where MMCL's own code has SGD at .1 and batches of 128.",
            f"Start of our runs: {start(results)}.",
        ),
        decimals=1,
    )


def table_by_setting(
    study: Samplers, results: Results, method: str, half: str, metrics: Sequence[str]
) -> Table:
    """Table II, III or IV: seven settings, three camera networks, one line per printed number."""
    made = study.provenance(results)
    label, symbol, exhibit = SAMPLERS[method]
    lines = [
        study.line(
            results,
            (title(network), metric, f"{symbol} = {k}"),
            (exhibit, f"{symbol}={k}", f"{column} {metric}"),
            made.comparable,
        )
        for network, column in beside(results).items()
        for metric in metrics
        for k in GRID
    ]
    return comparison(
        f"table_{list(SAMPLERS).index(method) + 2}{half}",
        f"{exhibit}: {label.lower()}, by {symbol}, %",
        ("data set", "metric", symbol),
        lines,
        made.badge,
        made.text,
        notes=printed_beside(results),
        decimals=1,
    )


def settings(study: Samplers, results: Results) -> Table:
    """The mAP of Tables II, III and IV side by side: a row per K or N."""
    made = study.provenance(results)
    networks = beside(results)
    lines = [
        study.line(
            results,
            (
                f"{title(network)}, {k}" if len(networks) > 1 else str(k),
                f"{sampler.exhibit}: {sampler.label}",
            ),
            (sampler.exhibit, f"{sampler.symbol}={k}", f"{column} mAP"),
            made.comparable,
        )
        for network, column in networks.items()
        for k in GRID
        for sampler in SAMPLERS.values()
    ]
    return comparison(
        "settings",
        "Tables II, III and IV: mAP by K or N, %",
        ("K or N", "sampler"),
        lines,
        made.badge,
        made.text,
        notes=printed_beside(results),
        decimals=1,
    )


def beside(results: Results) -> dict[str, str]:
    """The camera networks of the plan, and the printed column that each stands beside."""
    names = dict.fromkeys(spec.data.name for spec, _ in results.runs)
    return {name: (NETWORKS | AGAIN).get(name, BESIDE) for name in names}


def title(network: str) -> str:
    """The name of a camera network as tables show it."""
    return (NETWORKS | OTHERS).get(network, network)


def printed_beside(results: Results) -> tuple[str, ...]:
    """Notes where our network is none of the paper's, and on runs that learnt nothing in some epochs."""
    notes = [
        f"The printed numbers are {column}'s, ours those of {title(name)}."
        for name, column in beside(results).items()
        if name not in NETWORKS
    ]
    skipped = [
        f"{spec.label} seed {spec.seed}"
        for spec, row in results.runs
        if row is not None and any("skipped" in epoch for epoch in row.metrics["history"])
    ]
    if skipped:
        notes.append(f"Without clusters to learn from in some epochs: {', '.join(skipped)}.")
    return tuple(notes)


def start(results: Results) -> str:
    """In words: what the runs of this profile start from."""
    if any(spec.data.name == "cars_cameras_features" for spec, _ in results.runs):
        return "frozen features of an ImageNet backbone, in a random rotation"
    for spec, _ in results.runs:
        for need in spec.needs:
            s = need.settings
            return (
                "a supervised warm-up on other rendered people seen by other cameras "
                f"({s['epochs']} × {s['iters_per_epoch']} batches of {s['batch_size']}), one a seed, "
                "in place of ImageNet weights"
            )
    names = {"imagenet": "torchvision's ImageNet weights", "file": "weights from a file"}
    return names.get(str(results.runs[0][0].settings["start"]), "random weights")


# -- the tables that the paper lacks --


def network_of_controls(results: Results) -> str:
    """The network that the controls were run on: the first of the plan."""
    return next(iter(beside(results)))


def grid(study: Samplers, results: Results) -> Results:
    """The results with random sampling and all settings of the samplers at the same seeds."""
    arms = ("random", *(arm.name for arm in study.arms.values() if arm.sweep == "grid"))
    return results.common([f"{network}/{arm}" for network in beside(results) for arm in arms])


def controls(study: Samplers, results: Results, sweep: str) -> Table:
    """A sweep of controls, each held against the arm of the grid that it differs from, at equal seeds."""
    network = network_of_controls(results)
    arms = [arm for arm in study.arms.values() if arm.sweep == sweep]
    results = results.common([f"{network}/{name}" for arm in arms for name in (arm.name, arm.against)])
    whole = study.table(
        results,
        sweep,
        f"{CONTROLS[sweep]}: mAP on {title(network)}, %",
        HELD,
        [_held(results, network, arm) for arm in arms],
        notes=(
            "Counterpart: the run that lacks the last thing in the row's name, and is the same otherwise.",
            f"The file {sweep}.csv has R1, the counterpart's mAP and what a batch held as well.",
        ),
        decimals=1,
    )
    return _narrow(whole)


def _narrow(whole: Table, rows: Collection[str] = ()) -> Table:
    """The table with a face of the columns in `FACES`, and of the rows with these names, by default all."""
    shown = [row for row in whole.rows if not rows or row[0] in rows]
    return replace(whole, face=whole.part(FACES[whole.name], shown))


def _held(results: Results, network: str, arm: Arm) -> list[Cell]:
    """Means, what a batch held, and the paired difference to the counterpart."""
    label, against = f"{network}/{arm.name}", f"{network}/{arm.against}"
    ours = results.values(label, "mAP %")
    if not ours:
        return not_run(arm.label, len(HELD), 0, "not tested")
    paths = ("mAP %", "R1 %", *(f"history.-1.{name}" for name in BATCH))
    means = [results.mean(label, path) for path in paths]
    counterpart = results.values(against, "mAP %")
    return [arm.label, *means, results.mean(against, "mAP %"), *gap(ours, counterpart)]


def rivals(study: Samplers, results: Results) -> Table:
    """What bounds the samplers: no training, random weights, identity labels; and the earlier methods."""
    rows: list[list[Cell]] = []
    for network in beside(results):
        for arm in study.arms.values():
            if arm.sweep == "rivals":
                label = f"{network}/{arm.name}"
                first, *others = [
                    results.mean(label, path) for path in (*(f"{m} %" for m in METRICS), "best.mAP %")
                ]
                mean_ap = NOT_RUN if first is None else first
                rows.append([title(network), arm.label, mean_ap, *others, len(results.rows(label))])
    return study.table(
        results,
        "rows_without_a_sampler",
        "No training, training with labels, and earlier methods, %",
        ["data set", "run", *METRICS, "best epoch's mAP", "n"],
        rows,
        notes=("best epoch's mAP: chosen on the test set, shown for comparison, and used nowhere.",),
        decimals=1,
    )


def spread(study: Samplers, results: Results) -> Table:
    """Random sampling and groups of one are the same distribution: how far apart do runs of it lie?"""
    columns = ["data set", "sampler", "mean", "95 % interval", "sd", "smallest", "largest", "n"]
    rows: list[list[Cell]] = []
    for network in beside(results):
        for arm in (study.arms["random"], study.arms["group_cluster_1"]):
            values = list(results.values(f"{network}/{arm.name}", "mAP %").values())
            if not values:
                rows.append([title(network), *not_run(arm.label, len(columns) - 1, 0)])
                continue
            interval = t_interval(values)
            squares = sum((x - interval.mean) ** 2 for x in values)
            sd = (squares / (interval.n - 1)) ** 0.5 if interval.n > 1 else None
            ends = (min(values), max(values))
            rows.append([title(network), arm.label, interval.mean, interval, sd, *ends, interval.n])
    return study.table(
        results,
        "spread",
        "How far apart runs of one distribution lie: mAP, %",
        columns,
        rows,
        notes=("Both samplers draw from one distribution, each with random numbers of its own.",),
        decimals=1,
    )


def diagnosis(study: Samplers, results: Results) -> Table:
    """What a batch of each setting held, and how many clusters an epoch reached: means of the last epoch."""
    network = network_of_controls(results)
    results = grid(study, results)
    columns = ["setting", "mAP, %", *LAST_EPOCH.values()]
    paths = ["mAP %", *(f"history.-1.{name}" for name in LAST_EPOCH)]
    rows: list[list[Cell]] = []
    for arm in study.arms.values():
        if arm.sweep in ("grid", "p_by_k"):
            label = f"{network}/{arm.name}"
            means = [results.mean(label, path) for path in paths]
            rows.append([arm.label, *means] if results.rows(label) else not_run(arm.label, len(columns)))
    whole = study.table(
        results,
        "diagnosis",
        f"What the last epoch held, {title(network)}",
        columns,
        rows,
        notes=(
            "Purity: the share of clustered images whose identity is the commonest of their cluster.",
            "The file diagnosis.csv has every setting of Tables II–IV, of P and K, and three more columns.",
        ),
        decimals=1,
    )
    return _narrow(whole, [study.arms[name].label for name in TOLD])
