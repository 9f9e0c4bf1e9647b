"""What is asked of the median triplet: its arms, claims and errata as tables, and the doors to them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from papers_lib.datasets import classification, features, folder
from papers_lib.errors import PapersError
from papers_lib.exhibits.claims import Claim
from papers_lib.exhibits.figure import Figure
from papers_lib.exhibits.table import Table
from papers_lib.median_triplet import prior
from papers_lib.median_triplet.options import OF_METHOD, PRESETS, TrainSettings, TransferSettings
from papers_lib.median_triplet.study import claims, drawings, errata, printed, tables
from papers_lib.runs import progress
from papers_lib.runs.planning import refuse_unknown
from papers_lib.runs.spec import RunSpec
from papers_lib.settings import NotebookSettings
from papers_lib.study import QUOTED, Answer, Arm, Place, Results, Study, Values, start_weights
from papers_lib.study.own import equal_share, smaller_batch

TASKS = {"Table 2": "mask_rcnn", "Table 3": "faster_rcnn"}
TASK_DATA = {"mask_rcnn": "coco2017", "faster_rcnn": "voc0712", "search": "sysu30k"}
LEAST = 11  # images of a batch: its ranks 2 to 10 are of negatives
SEARCHED = ("SimCLR", "MoCo v2", "BYOL", "median triplet")  # the self-supervised rows of Table 4


class Settings(NotebookSettings):
    """The notebook's parameters. Empty text, an empty list and 0 mean: as the profile says."""

    preset: str = ""
    lr: float = Field(0, ge=0)
    epochs: int = Field(0, ge=0)
    batch_size: int = Field(0, ge=0)
    processes: int = Field(1, ge=1)  # of torchrun, for each training


class Median(Study):
    """Wang et al. 2021: Tables 1 to 7, the figures computed, and the controls that the paper lacks."""

    name = "median_triplet"
    parameters = Settings
    datasets = (*classification.NAMES, *features.NAMES, folder.NAME)
    read_folder = folder.classified
    exact = MappingProxyType(
        {
            ("text", f"Pr, m = 104, k = {k}", "value"): float(printed.exact_tail(104, printed.CLASSES, k))
            for k in (5, 52)
        }
    )
    checks = errata.CHECKS
    tests = claims.TESTS

    def __init__(self) -> None:
        super().__init__()
        # Columns of arms.csv: the row of Table 1, and of Tables 2 to 4.
        self.arm_of = {
            column: {arm.more[column]: arm.name for arm in self.arms.values() if arm.more[column]}
            for column in ("table_1", "transfer")
        }

    # -- the plan --

    @property
    def sweeps(self) -> tuple[str, ...]:
        """Those of the arms, and what starts from them."""
        return (*super().sweeps, "transfer")

    def refuse(self, settings: Settings) -> None:
        """An unknown preset too, and tasks of other data beside one's own images."""
        super().refuse(settings)
        if settings.preset:
            refuse_unknown("preset", (settings.preset,), PRESETS)
        if settings.dataset == folder.NAME:
            refuse_unknown("sweeps", settings.sweeps, super().sweeps)

    def sweep(self, settings: Settings, sweep: str) -> list[RunSpec]:
        """A sweep of the arms; or the detectors and searches that start from them, where the profile has any.

        These are of data that a folder of one's own does not hold.
        """
        size = self.sizes[settings.profile]
        if sweep != "transfer":
            return super().sweep(settings, sweep)
        if "transfer" not in size.more or settings.arms or settings.dataset == folder.NAME:
            return []
        rows = dict.fromkeys(("mask_rcnn", "faster_rcnn"), self.arm_of["transfer"])
        # Table 4 has four rows that were trained without labels
        rows["search"] = {row: self.arm_of["transfer"][row] for row in SEARCHED}
        return [
            self._transfer(settings, task, row, self.arms[arm], seed)
            for seed in settings.seeds or size.seeds
            for task, arms in rows.items()
            for row, arm in arms.items()
        ]

    def specs(self, settings: Settings, arm: Arm, seed: int) -> list[RunSpec]:
        """The run that trains an encoder as `arm` says; none for what the profile leaves out or cuts."""
        size = self.sizes[settings.profile]
        longest, without = size.more["longest"], size.more.get("without", ())
        if arm.changes.get("epochs_times", 1) > longest or arm.sweep in without:
            return []
        if arm.more["data"] and size.dataset not in features.NAMES:  # features, where others are pictures
            return []
        own, classes = self.own(self.find_data(settings, arm.more["data"])), arm.changes.get("classes", 0)
        # one's own images may be too few for an arm of some classes, or have no more
        if own and classes and (classes > len(own.classes) or of_each(own, classes, seed).sum() < LEAST):
            return []
        return [self._encoder(settings, arm, seed)]

    def _encoder(self, settings: Settings, arm: Arm, seed: int) -> RunSpec:
        size = self.sizes[settings.profile]
        preset = settings.preset or size.more["preset"]
        # weakest first: the paper's defaults, the preset, its method, the profile, the arm
        values = {name: field.default for name, field in TrainSettings.model_fields.items()}
        values |= PRESETS[preset] | OF_METHOD[preset].get(arm.changes["method"], {})
        asked = {name: getattr(settings, name) for name in ("lr", "epochs", "batch_size", "precision")}
        values |= size.settings | {name: value for name, value in asked.items() if value}
        values |= arm.changes | {"seed": seed}
        # What an arm gives relative to that.
        if times := values.pop("epochs_times", 0):
            values["epochs"] = max(1, round(values["epochs"] * times))
        values["images"] = round(values["images"] * values.pop("images_times", 1))
        data = self.find_data(settings, arm.more["data"])
        if own := self.own(data):  # before a batch is a part of it
            values |= fitted(values, own, settings)
        if times := values.pop("batch_times", 0):
            values["batch_size"] = max(4, round(values["batch_size"] * times))
            values["lr"] *= times  # linear, so that equal images mean equal movement
        if values["method"] == "random":
            values["epochs"] = 0
        # only encoders that another run starts from leave their weights
        values["keep_weights"] = "transfer" in size.more and bool(arm.more["transfer"])
        values["processes"] = settings.processes
        if values["method"] == "triplet" and values["accumulation"] % settings.processes:
            values["negative_pool"] = "all_devices"  # as in one process: a batch is parted, not dealt out
        values = TrainSettings.model_validate(values).model_dump(mode="json")
        return self.run_spec(settings, arm.name, values, data)

    def _transfer(self, settings: Settings, task: str, row: str, arm: Arm, seed: int) -> RunSpec:
        start = "random" if arm.name == "random" else "encoder"
        changes = {"accumulation": 1} | self.sizes[settings.profile].more["transfer"]
        if task != "search":  # which runs in one process
            changes["processes"] = settings.processes
            changes["accumulation"] = max(changes["accumulation"], settings.processes)
        if settings.precision:
            changes["precision"] = settings.precision
        values = TransferSettings.model_validate(changes | {"task": task, "seed": seed, "start": start})
        data = self.find_data(settings, TASK_DATA[task])
        needs = (self._encoder(settings, arm, seed),)
        return self.run_spec(settings, f"{task}/{row}", values.model_dump(mode="json"), data, needs)

    # -- what the runs say --

    def tables(self, results: Results) -> dict[str, Table]:
        """Tables 1–7 beside ours, what the printed numbers say among themselves, and the controls."""
        return tables.tables(self, results)

    def figures(self, results: Results) -> dict[str, Figure]:
        """Figures 1 to 3, computed where they can be, and the curves that the paper does not show."""
        return drawings.figures(self, results)

    def claims(self, results: Results) -> list[Claim]:
        """Every claim; what it says of batches and classes is of those that were run."""
        prior, median = (tables.rank_of(self, results, name) for name in ("prior", "median"))
        words = {
            "prior": f"{prior.tail:.2g}",
            "median": f"{median.tail:.2g}",
            "k": prior.k,
            "n": prior.n,
            "negatives": prior.n - 1,
            "classes": f"{prior.classes:,}",
            "of_a_class": f"{prior.n / prior.classes:.2g}",
        }
        return [
            replace(
                claim,
                statement=claim.statement.format(**words),
                controls=claim.controls.format(**words),
            )
            for claim in super().claims(results)
        ]

    def read(self, results: Results, label: str, metric: str) -> Values:
        """`tail` is Section 3.3's bound and `chance` that of a rank without knowledge, both in %.

        `… given B` counts the batches with two images of a class alone.
        """
        if metric in ("tail", "chance"):
            value = getattr(tables.rank_of(self, results, label), metric)
            return dict.fromkeys(results.rows(label), value)
        path, given, _ = metric.partition(" given B")
        values = super().read(results, label, path)
        if not given:
            return values
        # Pr(Ω|B) = Pr(Ω|A) / Pr(B); Pr(B) is 1 to ten digits for 10 classes and n ≥ 32.
        taken = tables.rank_of(self, results, label)
        pairs = prior.batch_has_pair(taken.n, taken.classes)
        return {seed: min(1.0, value / pairs) for seed, value in values.items()}

    def answer(self, results: Results, place: Place) -> Answer | None:
        """Which runs answer Tables 1 to 7; settings and other papers' rows are quoted."""
        exhibit, row, column = place
        name = row.partition(" [")[0]  # without its citation
        answer: Answer | None = QUOTED
        if exhibit == "Table 1" and row in self.arm_of["table_1"]:
            answer = Answer(self.arm_of["table_1"][row], "linear %")
        elif exhibit == "Table 1":  # supervised, by its own classifier
            answer = Answer(self.arm_of["transfer"][row], "own %")
        elif exhibit in ("Table 2", "Table 3"):
            precision, of = column.split()  # "AP50 Box"
            answer = Answer(f"{TASKS[exhibit]}/{name}", f"{precision}_{of.lower()} %")
        elif exhibit == "Table 4" and name in SEARCHED:
            answer = Answer(f"search/{name}", "rank1 %")
        elif exhibit == "Table 5":
            arm, rank = tables.OMEGA[row.removesuffix(f": Pr(ω|{row[-2]})")]
            when, given = "start" if column == "epoch 0" else "history.-1", row[-2] == "B"
            answer = Answer(arm, f"{when}.same_batch_{rank}{' given B' if given else ''}")
        elif exhibit in ("Table 6", "Table 7"):
            # after the paper's 20 epochs where the profile has them, and by its probe of one epoch
            without = self.sizes[results.profile].more.get("without", ()) if results.profile else ()
            arms = [arm for arm in self.arms.values() if arm.more["ablation"] == column]
            names = [arm.name for arm in arms if arm.sweep not in without]
            answer = Answer(names[-1], "linear_1 %") if names else None
        return QUOTED if column == "train epochs" else answer

    def answers(self, results: Results, answer: Answer | None) -> Values:
        """By `read`, for Table 5."""
        return self.read(results, answer.label, answer.metric) if answer and not answer.quoted else {}


def of_each(own: classification.Classified, classes: int, seed: int) -> NDArray[np.int64]:
    """Training images of each class [C] of one's own: of so many that the seed chooses, or of all for 0."""
    counts = np.bincount(own.train.labels, minlength=len(own.classes))
    chosen = np.random.default_rng(seed).permutation(len(counts))[: classes or None]  # as `images.load` does
    return counts[chosen][counts[chosen] > 0]


def fitted(values: dict[str, Any], own: classification.Classified, settings: Settings) -> dict[str, Any]:
    """What of `values` a folder of one's own changes; what a parameter asks stays.

    Raises:
        PapersError: the folder has too few images to rank.
    """
    counts = of_each(own, values.get("classes", 0), values["seed"])
    images = equal_share(values["images"], counts)
    total = images // len(counts) * len(counts) if images else int(counts.sum())
    if total < LEAST or counts.max() < 2:  # the probe holds some out
        raise PapersError(
            f"{own.root}: {total} training images of {len(counts)} classes are too few, {LEAST} or more are "
            "needed, and two of a class; add images"
        )
    # several processes share a batch evenly, if there are enough images
    room = total // settings.processes**2 * settings.processes or total
    return {"images": images} | ({} if settings.batch_size else smaller_batch(values, room, settings.lr))


STUDY = Median()


def run(spec: RunSpec) -> dict[str, Any]:
    """Train and evaluate what `spec` says, in the folder that the store gave it."""
    from papers_lib.median_triplet import training

    folder = Path(spec.folder)
    data, report = (spec.data.root, spec.data.name), progress.reporter(folder)
    if "task" not in spec.settings:  # the training of an encoder
        settings = TrainSettings.model_validate(spec.settings)
        return training.train(settings, data, folder, spec.device, report)
    transfer = TransferSettings.model_validate(spec.settings)
    weights = start_weights(spec) if transfer.start == "encoder" else None
    return training.run_transfer(transfer, data, folder, weights, spec.device, report)
