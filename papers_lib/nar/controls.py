"""Table 5 beside ours, and what the paper lacks: exact ranks, random vectors, rankings, costs."""

from __future__ import annotations

from typing import Any

from papers_lib.exhibits import published
from papers_lib.exhibits.intervals import paired, t_interval
from papers_lib.exhibits.provenance import Provenance
from papers_lib.exhibits.table import NOT_RUN, Cell, Line, Table, comparison
from papers_lib.exhibits.verdicts import greater
from papers_lib.nar import readings
from papers_lib.nar.arms import ARMS, STANDALONE
from papers_lib.nar.counting import count
from papers_lib.nar.printed import NOT_IN_OUR_TEXT
from papers_lib.nar.readings import Runs, mean, percent
from papers_lib.nar.table_4 import code

SEARCHES = tuple(arm.name for arm in ARMS.values() if arm.kind == "search")
NAMED = ("pick", "argmax", "optimum", "best_random", "single", "base", "paper_8", "paper_8_second")
FACES = ("faces", "faces_5", "faces_8")


def tables(runs: Runs, made: Provenance) -> dict[str, Table]:
    """Every table of this module by name."""
    found = (
        table_5(runs, made), networks(runs, made), ranks(runs, made), searches(runs, made), tau(runs, made),
        reward_noise(runs, made), depth(runs, made), cost(runs, made), tables_1_to_3(), faces(runs),
        vectors(runs, made), sixteen(runs, made),
    )  # fmt: skip
    return {table.name: table for table in found}


def table_5(runs: Runs, made: Provenance) -> Table:
    """Table 5: the untouched net and the paper's vectors; ImageNet is for those who have it."""
    printed = published.load("nar").query("exhibit == 'Table 5'")
    lines = [
        Line((row, column), text, values, comparable)
        for row, column, text in zip(printed["row"], printed["column"], printed["printed"], strict=True)
        for values, _, comparable in [readings.answer(runs, row, column)]
    ]
    labels = [labels[1] for labels in readings.MODELS.values()]
    others = any(readings.rows_of(runs, label) for label in labels)
    of_imagenet = readings.provenance(runs, labels).text if others else "not run; profile paper has them"
    return comparison(
        "table_5", "Table 5: accuracy, %", ("model", "data"), lines, made.badge, made.text,
        (f"ImageNet columns: {of_imagenet}.",),
    )  # fmt: skip


def networks(runs: Runs, made: Provenance) -> Table:
    """Every network trained on its own, each against its counterpart of the same seeds."""
    rows: list[list[Cell]] = []
    for name in STANDALONE:
        arm, ours = ARMS[name], percent(runs, name)
        if not ours:
            rows.append([arm.label, NOT_RUN, *[None] * 7, 0, "not tested"])
            continue
        base = percent(runs, "base")
        gap = {seed: ours[seed] - base[seed] for seed in ours.keys() & base.keys()}
        other = percent(runs, arm.against) if name != "base" else {}
        both = ours.keys() & other.keys()
        overfit = {s: percent(runs, name, "train_accuracy")[s] - ours[s] for s in ours}
        rows.append([
            arm.label, mean(ours), t_interval(list(ours.values())), mean(gap),
            mean(readings.saving(runs, name)), mean(readings.replaced(runs, name)), mean(overfit),
            ARMS[arm.against].label if both else None, paired(ours, other) if both else None, len(ours),
            greater(ours, other).verdict if both else "not tested",
        ])  # fmt: skip
    columns = [
        "network", "accuracy, %", "95 % interval", "Δ to untouched", "MACs saved, %", "replaced",
        "train − test", "counterpart", "95 % of Δ to it", "n", "greater than counterpart",
    ]  # fmt: skip
    return Table("networks", "Networks trained on their own", columns, rows, made.badge, made.text,
                 ("Same data, recipe, length and seeds; only the vector differs.",))  # fmt: skip


def ranks(runs: Runs, made: Provenance) -> Table:
    """Where named vectors stand among all vectors, by the shared weights of each kind of search."""
    rows: list[list[Cell]] = []
    for label in ("enumerate", "enumerate_plain"):
        for name in NAMED:
            rank = readings.named(runs, label, name, "rank")
            score, saved = (readings.named(runs, label, name, what) for what in ("score", "saving"))
            best = readings.named(runs, label, "optimum", "score")
            total = readings.read(runs, label, lambda m: m["count"])
            if not rank:
                rows.append([ARMS[label].label, name, NOT_RUN, *[None] * 5, 0])
                continue
            regret = {seed: 100 * (best[seed] - score[seed]) for seed in score}
            rows.append([
                ARMS[label].label, name, mean(rank), 100 * (mean(rank) or 0) / (mean(total) or 1),
                t_interval(list(rank.values())), 100 * (mean(score) or 0), mean(regret),
                100 * (mean(saved) or 0), len(rank),
            ])  # fmt: skip
    columns = ["weights", "vector", "rank", "rank, %", "95 % of rank", "shared accuracy, %", "regret, points",
               "MACs saved, %", "n"]  # fmt: skip
    return Table(
        "ranks", "Exact ranks among all vectors of the space", columns, rows, made.badge, made.text,
        ("Rank 1 is the best; equal scores share the mean of their ranks.",),
        decimals={"rank": 1, "95 % of rank": 0},
    )  # fmt: skip


def searches(runs: Runs, made: Provenance) -> Table:
    """The searches: how diverse, how settled, what they chose."""
    rows: list[list[Cell]] = []
    for name in SEARCHES:
        arm = ARMS[name]
        if not readings.rows_of(runs, name):
            rows.append([arm.label, NOT_RUN, *[None] * 5, 0])
            continue
        rows.append([
            arm.label, mean(readings.diversity(runs, name)), mean(readings.entropy(runs, name, 0)),
            mean(readings.entropy(runs, name)), mean(readings.replaced(runs, name)),
            mean(readings.read(runs, name, lambda m: m["evaluations"])), mean(readings.minutes(runs, name)),
            len(readings.rows_of(runs, name)),
        ])  # fmt: skip
    columns = ["search", "operators trained, bits", "controller, first epoch, bits", "last epoch, bits",
               "replaced by pick", "vectors evaluated", "minutes", "n"]  # fmt: skip
    return Table("searches", "The searches, with and without PreTrain", columns, rows, made.badge, made.text,
                 ("Bits a decision: 2 for four equally likely operators, 0 for one alone.",))  # fmt: skip


def tau(runs: Runs, made: Provenance) -> Table:
    """Kendall's τ between shared and stand-alone accuracy, by the statistics of batch normalisation."""
    rows: list[list[Cell]] = []
    words = {
        "batch": "the batch's own",
        "running": "running",
        "recalibrated": "recalibrated",
        "macs": "cost alone",
    }
    for name in ("tau", "tau_plain"):
        for part, sample in (("tau", "all"), ("tau_few", "1 to 4 replaced")):
            for key, label in words.items():
                values = readings.read(runs, name, lambda m, p=part, k=key: m[p][k])  # type: ignore[misc]
                found = t_interval(list(values.values())) if values else None
                rows.append([ARMS[name].label, sample, label, found.mean if found else NOT_RUN, found,
                             len(values), greater(values, dict.fromkeys(values, 0.0)).verdict])  # fmt: skip
    return Table(
        "tau", "Do shared weights rank vectors as their own trainings do? Kendall's τ",
        ["weights", "vectors", "statistics", "τ", "95 % interval", "n", "above 0"], rows, made.badge,
        made.text, ("Cost alone ranks uniform vectors: dearer is better. A useful ranking must beat it.",),
    )  # fmt: skip


def reward_noise(runs: Runs, made: Provenance) -> Table:
    """One reward batch against the spread of the scores that are to be told apart."""
    rows: list[list[Cell]] = []
    for name in ("enumerate", "enumerate_plain"):
        se = readings.read(runs, name, lambda m: m["reward_noise"]["se"])
        if not se:
            rows.append([ARMS[name].label, NOT_RUN, *[None] * 5, 0])
            continue
        sd, top = (readings.read(runs, name, of) for of in (lambda m: m["sd"], lambda m: m["top"]["sd"]))
        one, five = (
            readings.read(runs, name, lambda m, k=k: m["reward_noise"]["changed"].get(k))  # type: ignore[misc]
            for k in ("1", "5")
        )
        batches = readings.read(runs, name, lambda m: m["reward_noise"]["batches"])
        rows.append([ARMS[name].label, 100 * (mean(se) or 0), 100 * (mean(sd) or 0), 100 * (mean(top) or 0),
                     *(100 * (mean(found) or 0) if found else None for found in (one, five)), mean(batches),
                     len(se)])  # fmt: skip
    columns = ["weights", "one batch, sd, points", "all vectors, sd", "top 1 %, sd", "pick changes, by 1, %",
               "by 5, %", "batches", "n"]  # fmt: skip
    return Table(
        "reward_noise", "Does the reward's noise decide the pick?", columns, rows, made.badge, made.text
    )


def depth(runs: Runs, made: Provenance) -> Table:
    """Where replaced decisions lie: 0 the first, 1 the last, ½ by chance."""
    rows: list[list[Cell]] = []
    for name in ("pick", "pick_plain", "pick_16"):
        values = depths(runs, name)
        found = t_interval(list(values.values())) if values else None
        rows.append([ARMS[name].label, found.mean if found else NOT_RUN, found, len(values)])
    for name in ("enumerate", "enumerate_plain"):
        values = readings.read(runs, name, lambda m: m["top"]["depth"])
        found = t_interval(list(values.values())) if values else None
        rows.append([f"Top 1 %: {ARMS[name].label}", found.mean if found else NOT_RUN, found, len(values)])
    return Table("depth", "Mean depth of the replaced decisions", ["vectors", "depth", "95 % interval", "n"],
                 rows, made.badge, made.text)  # fmt: skip


def depths(runs: Runs, name: str) -> readings.Values:
    """Mean depth of the replaced decisions of each seed's vector; nothing for an untouched one."""
    found = {}
    for seed, vector in readings.vector(runs, name).items():
        places = [i / (len(vector) - 1) for i, value in enumerate(vector) if value]
        if places:
            found[seed] = sum(places) / len(places)
    return found


def cost(runs: Runs, made: Provenance) -> Table:
    """Minutes of every kind of run, and the operations of a search."""
    rows: list[list[Cell]] = []
    for name in ("base", *SEARCHES, "enumerate", "enumerate_plain", "beam_16", "tau"):
        spent = readings.minutes(runs, name)
        macs = readings.read(runs, name, _operations)
        calls = readings.read(runs, name, lambda m: m.get("block_calls"))
        naive = readings.read(runs, name, lambda m: m.get("naive_block_calls"))
        fewer = {seed: naive[seed] / calls[seed] for seed in calls}
        gap = readings.read(runs, name, lambda m: m.get("max_difference_to_naive"))
        rows.append([
            ARMS[name].label, mean(spent) if spent else NOT_RUN, 2e-15 * (mean(macs) or 0) if macs else None,
            mean(fewer), max(gap.values(), default=None), len(spent),
        ])  # fmt: skip
    columns = [
        "run",
        "minutes",
        "petaflop, at most",
        "fewer block evaluations, ×",
        "largest gap to scoring alone",
        "n",
    ]
    return Table("cost", "What the runs cost", columns, rows, made.badge, made.text,
                 ("The paper: 10 GPU hours for a ResNet-50, GPU not named.",))  # fmt: skip


def _operations(metrics: dict[str, Any]) -> float | None:
    """Multiply-accumulates of a whole search, at most: of shared beginnings stem and shortcuts count again.

    A training's own count is of one image; an enumeration's repeats the stem for every vector.
    """
    return float(metrics["multiply_accumulates"]) if "evaluations" in metrics else None


def tables_1_to_3() -> Table:
    """Tables 1 to 3: what our text does not have, named and left empty."""
    rows: list[list[Cell]] = [
        [name, words, "not in our text"]
        for name, words in NOT_IN_OUR_TEXT.items()
        if name.startswith("Table")
    ]
    return Table("tables_1_to_3", "Tables 1, 2 and 3 of the paper", ["exhibit", "what", "paper"], rows,
                 footer="ours, of other vectors on drawn faces, stand in the table `faces`")  # fmt: skip


def faces(runs: Runs) -> Table:
    """LResNet50E-IR with vectors of ours: exact counts at full width, verification of drawn faces."""
    made = readings.provenance(runs, FACES)
    rows: list[list[Cell]] = []
    base = count((0,) * 24, "lresnet50e_ir", "A", 112, 512).multiply_accumulates
    for spec, row in runs:
        if spec.label not in FACES:
            continue
        vector = spec.settings["vector"]
        exact = count(vector, "lresnet50e_ir", "A", 112, 512)
        tests = row.metrics["verification"] if row else {}
        shown = "; ".join(f"{name} {100 * found['accuracy']:.1f}" for name, found in sorted(tests.items()))
        rows.append([ARMS[spec.label].label, spec.seed, code(vector), exact.parameters,
                     exact.multiply_accumulates, 100 * (1 - exact.multiply_accumulates / base),
                     shown or NOT_RUN])  # fmt: skip
    columns = ["network", "seed", "vector", "parameters", "multiply-accumulates", "saved, %",
               "verification of drawn faces, %"]  # fmt: skip
    return Table(
        "faces", "Face networks of ours: counts at full width, verification on the stand-in", columns, rows,
        made.badge, made.text,
        ("Random replacements, as many as the paper's two searches made; its vectors are not in our text.",),
        decimals=1,
    )  # fmt: skip


def vectors(runs: Runs, made: Provenance) -> Table:
    """The vectors that our searches chose, a line a seed."""
    rows: list[list[Cell]] = [
        [ARMS[name].label, seed, code(row.metrics["choices"]["pick"]), code(row.metrics["choices"]["argmax"])]
        for name in SEARCHES
        for seed, row in sorted(readings.rows_of(runs, name).items())
    ]
    return Table("vectors", "Vectors that the searches chose", ["search", "seed", "pick", "likeliest"], rows,
                 made.badge, made.text)  # fmt: skip


def sixteen(runs: Runs, made: Provenance) -> Table:
    """16 decisions: beam search and random vectors against the pick, by the same weights and images."""
    rows: list[list[Cell]] = []
    for seed, row in sorted(readings.rows_of(runs, "beam_16").items()):
        m = row.metrics
        scores = [100 * m[f"{name}_score"] for name in ("base", "pick", "random", "best")]
        counts = [m[name] for name in ("draws", "random_better_than_pick", "tried", "better_than_pick")]
        rows.append([seed, *scores, *counts, code(m["choices"]["optimum"])])
    columns = ["seed", "untouched, %", "pick, %", "best random, %", "beam's best, %", "random draws",
               "of them above the pick", "beam tried", "above the pick", "beam's best"]  # fmt: skip
    return Table(
        "sixteen", "16 decisions: beam search over the same weights", columns, rows, made.badge, made.text
    )
