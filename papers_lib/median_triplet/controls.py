"""The tables that the paper lacks, and Table 5 measured: what else could explain the gains."""

from __future__ import annotations

from papers_lib.exhibits import published
from papers_lib.exhibits.intervals import t_interval
from papers_lib.exhibits.provenance import Provenance
from papers_lib.exhibits.table import NOT_RUN, Cell, Table
from papers_lib.median_triplet import prior, readings
from papers_lib.median_triplet.arms import ARMS, HEADS, METHODS
from papers_lib.median_triplet.readings import LOGGED, Runs
from papers_lib.median_triplet.rows import RANKS

HELD = (
    "run", "linear", "kNN", *(words for words, _ in LOGGED.values()), "counterpart", "95 % of Δ linear", "n",
    "greater than counterpart",
)  # fmt: skip
TITLES = {
    "heads": "Which negative: the rank k",
    "controls": "What else could make the difference",
    "margins": "The margin C, and the scale of the distance",
    "lengths": "Other lengths of training",
    "batches": "Few negatives and many, at the same number of images",
    "banks": "MoCo v2 with a longer and a shorter queue",
}
OMEGA_ARMS = {1: "hardest", 5: "rank_5", 52: "median"}
OMEGA_KEYS = {1: "1", 5: "5", 52: "median"}
ANCHORS = {  # ours -> row of lightly's table
    "simclr": "SimCLR", "moco_v2": "MoCo", "byol": "BYOL", "simsiam": "SimSiam", "byol_x2": None,
    "median": None, "prior": None, "smoothed": None, "supervised": None,
}  # fmt: skip


def tables(runs: Runs, made: Provenance) -> dict[str, Table]:
    """Every table of this module by name."""
    found = [table_5(runs, made), omega_table(runs, made), methods(runs, made), anchors(runs, made)]
    held = [_held(runs, made, sweep, title) for sweep, title in TITLES.items()]
    return {table.name: table for table in (*found, *held)}


def _held(runs: Runs, made: Provenance, sweep: str, title: str) -> Table:
    """A sweep of controls, each against its counterpart of the same seeds."""
    names = [arm.name for arm in ARMS.values() if arm.sweep == sweep]
    if sweep == "heads":
        names = ["median", *names]
    return Table(
        sweep, f"{title}: accuracy in %", list(HELD), [readings.control_row(runs, name) for name in names],
        made.badge, made.text,
        ("Counterpart: the run that differs only in what the name says. Ranks and cosines: last epoch.",),
    )  # fmt: skip


def omega(runs: Runs, k: int, event: str, when: str) -> dict[int, float]:
    """Pr(Ω|A) or Pr(Ω|B) of the paper by seed: the share of batches with any false negative.

    The run is the one trained with this k. Given B, two images of a class among the n, the share grows by
    1 / Pr(B), which is 1 to ten digits for 10 classes and n ≥ 32.
    """
    arm, name = OMEGA_ARMS[k], f"same_batch_{OMEGA_KEYS[k]}"
    found = readings.at_start(runs, arm, name) if when == "start" else readings.logged(runs, arm, name)
    if event == "A":
        return found
    rows = readings.rows_of(runs, arm)
    pairs = {seed: prior.batch_has_pair(int(row.settings["batch_size"]), 10) for seed, row in rows.items()}
    return {seed: min(1.0, value / pairs[seed]) for seed, value in found.items()}


def table_5(runs: Runs, made: Provenance) -> Table:
    """Table 5: frequencies of a false negative in a batch, before training and at its end."""
    printed = published.load("median_triplet").query("exhibit == 'Table 5'")
    rows: list[list[Cell]] = []
    for row, column, text in zip(printed["row"], printed["column"], printed["printed"], strict=True):
        k, event = RANKS[row], row[-2]
        values = list(omega(runs, k, event, "start" if column == "epoch 0" else "last").values())
        ours = t_interval(values) if values else None
        label = "k = n/2" if k == 52 else f"k = {k}"
        when = "before training" if column == "epoch 0" else "last epoch"
        rows.append([label, f"Pr(Ω|{event})", column, text, when, ours.mean if ours else NOT_RUN, ours,
                     len(values)])  # fmt: skip
    return Table(
        "table_5", "Table 5: share of batches in which any rank-k negative is of its query's class",
        ["k", "event", "printed at", "paper", "ours at", "ours", "95 % interval", "n"], rows, made.badge,
        made.text,
        ("ImageNet has 1,000 classes, our data ten: the columns are not comparable, the directions are.",),
        decimals=4,
    )  # fmt: skip


def omega_table(runs: Runs, made: Provenance) -> Table:
    """The same by query, which is what a loss feels, against chance and against an ideal ranking."""
    rows: list[list[Cell]] = []
    for arm in HEADS:
        found = readings.rows_of(runs, arm.name)
        if not found or arm.name == "smoothed":
            continue
        settings = next(iter(found.values())).settings
        n = int(settings["batch_size"])
        k = own_rank(arm.changes, n)
        start = readings.mean(readings.at_start(runs, arm.name, "same_query_own"))
        last = readings.mean(readings.logged(runs, arm.name, "same_query_own"))
        chance = 100 * (n / 10 - 1) / (n - 1)
        ideal = 100 * prior.tail(n - 1, 0.1, k)
        rows.append([arm.label, k, n, None if start is None else 100 * start, last, chance, ideal])
    return Table(
        "false_negatives", "Queries whose negative is of their class, %",
        ["run", "k", "n", "before training", "last epoch", "chance", "ideal ranking"], rows, made.badge,
        made.text,
        ("Chance: about a tenth of the images are of the class. Ideal: all of the class come first.",),
    )  # fmt: skip


def own_rank(changes: dict[str, object], n: int) -> int:
    """The rank that a head takes in a batch of n images of ten classes."""
    head, k = changes["head"], changes.get("k", 0)
    assert isinstance(k, int | float)
    if head == "prior":
        return prior.smallest_k(n, 10)
    if head == "rank":
        return int(k) if k >= 1 else max(1, round(k * n))
    return 1 if head == "hardest" else n // 2


def methods(runs: Runs, made: Provenance) -> Table:
    """All methods of the frame at one length: accuracy by two probes, time, and signs of collapse."""
    rows: list[list[Cell]] = []
    for name in (*METHODS, *(arm.name for arm in HEADS)):
        linear = readings.percent(runs, name)
        if not linear:
            rows.append([ARMS[name].label, NOT_RUN, *[None] * 7, 0])
            continue
        waiting = readings.percent(runs, name, "waiting")
        rows.append([
            ARMS[name].label, readings.mean(linear), t_interval(list(linear.values())),
            readings.mean(readings.percent(runs, name, "knn")),
            readings.mean(readings.percent(runs, name, "knn_max")),
            readings.mean(readings.logged(runs, name, "rank_features")),
            readings.mean(readings.logged(runs, name, "std_features")),
            readings.mean(readings.minutes(runs, name)), readings.mean(waiting), len(linear),
        ])  # fmt: skip
    columns = [
        "method", "linear", "95 % interval", "kNN", "kNN, best epoch", "rank of features", "spread",
        "minutes", "waiting, %", "n",
    ]  # fmt: skip
    return Table(
        "methods", "All methods in one frame, one schedule, one probe: accuracy in %", columns, rows,
        made.badge, made.text,
        ("The best epoch is chosen on the test images: shown for published tables that do so, never judged.",
         "Waiting: share of the training time spent on making views."),
        decimals={"linear": 1, "kNN": 1, "kNN, best epoch": 1, "rank of features": 1, "minutes": 1,
                  "waiting, %": 1, "95 % interval": 1, "spread": 2},
    )  # fmt: skip


def anchors(runs: Runs, made: Provenance) -> Table:
    """Ours beside lightly's CIFAR-10 benchmark: kNN of the best epoch, as it reports, and of the last."""
    value = published.load("median_triplet").set_index(["exhibit", "row", "column"])["value"]
    rows: list[list[Cell]] = []
    for name, theirs in ANCHORS.items():
        key = ("lightly, CIFAR-10", theirs, "kNN, batch 128, 200 epochs")
        time = ("lightly, CIFAR-10", theirs, "runtime, batch 128, 200 epochs")
        best = readings.mean(readings.percent(runs, name, "knn_max"))
        rows.append([
            ARMS[name].label, 100 * float(value[key]) if theirs else None,
            float(value[time]) if theirs else None, NOT_RUN if best is None else best,
            readings.mean(readings.percent(runs, name, "knn")),
            readings.mean(readings.percent(runs, name)), readings.mean(readings.minutes(runs, name)),
            len(readings.rows_of(runs, name)),
        ])  # fmt: skip
    return Table(
        "anchors", "Beside lightly's CIFAR-10 benchmark (batch 128, 200 epochs, one A6000)",
        ["method", "lightly: kNN, best epoch", "lightly: minutes", "ours: kNN, best epoch",
         "ours: kNN, last", "ours: linear, last", "ours: minutes", "n"],
        rows, made.badge, made.text,
        ("Same protocol only at profile medium; elsewhere ours is a narrower network on fewer images.",),
        decimals=1,
    )  # fmt: skip
