"""What is asked of quadruplet selection: its arms, claims and errata as tables, and the doors to them."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from pydantic import Field

from papers_lib.datasets import folder
from papers_lib.datasets.cars196 import Cars196
from papers_lib.datasets.cars196_layouts import COUNTS
from papers_lib.errors import PapersError
from papers_lib.exhibits.figure import Figure
from papers_lib.exhibits.table import Table
from papers_lib.quadruplet_cars196.options import TrainSettings
from papers_lib.quadruplet_cars196.study import drawings, errata, tables
from papers_lib.runs.planning import refuse_unknown
from papers_lib.runs.spec import RunSpec
from papers_lib.settings import NotebookSettings
from papers_lib.study import (
    QUOTED,
    Answer,
    Arm,
    Place,
    Results,
    Size,
    Study,
    Values,
    run_training,
    weights_of,
)

ASKED = ("coarse_map", "sibling", "no_sibling", "m1_fallback", "backbone", "precision", "reduction")
NUMBERS = ("lr", "epochs", "batch_size", "refresh_every", "micro_batch")
SWITCHES = ("freeze_bn",)


class Settings(NotebookSettings):
    """The notebook's parameters. Empty text, an empty list, 0 and False mean: as the profile says."""

    lr: float = Field(0.0, ge=0)
    epochs: int = Field(0, ge=0)
    batch_size: int = Field(0, ge=0)
    micro_batch: int = Field(0, ge=0)
    freeze_bn: bool = False  # which micro-batches need
    refresh_every: int = Field(0, ge=0)
    chosen_epoch: Literal["", "last", "held_out_classes"] = ""
    reduction: Literal["", "sum", "mean"] = ""
    backbone: str = ""
    weights: str = ""
    coarse_map: Literal["type22", "body9"] = "type22"
    sibling: Literal["union", "random"] = "union"
    no_sibling: Literal["skip", "mask"] = "skip"
    m1_fallback: Literal["furthest_inside", "drop"] = "furthest_inside"


class Cars(Study):
    """Karaman et al. 2019: Table 1, and the controls that it lacks."""

    name = "quadruplet_cars196"
    parameters = Settings
    dataset = "cars196"
    datasets = (*COUNTS, "cars196_half_features", folder.NAME)
    read_folder = folder.kinds
    checks = errata.CHECKS
    tests = MappingProxyType(
        {"nmi_beyond_k_means": tables.nmi_beyond_k_means, "state_of_the_art": errata.state_of_the_art}
    )

    def __init__(self) -> None:
        super().__init__()
        # row of Table 1 → arm
        self.arm_of_row = {arm.more["row"]: arm for arm in self.arms.values() if arm.more["row"]}

    def refuse(self, settings: Settings) -> None:
        """An unknown backbone too."""
        super().refuse(settings)
        if settings.backbone:
            from papers_lib.networks.backbones import NAMES  # imports torch

            refuse_unknown("backbone", (settings.backbone,), NAMES)

    def specs(self, settings: Settings, arm: Arm, seed: int) -> Iterator[RunSpec]:
        """One run per arm and seed; one per rate of the grid for the arms of the sweep `rates`."""
        size = self.sizes[settings.profile]
        # empty, 0 or false: as the profile says
        asked = {name: value for name in (*ASKED, *NUMBERS, *SWITCHES) if (value := getattr(settings, name))}
        asked |= weights_of(settings)
        if settings.chosen_epoch:  # in a notebook `select` is the function
            asked["select"] = settings.chosen_epoch
        # the last wins: an arm is what it says, whatever the notebook asks
        changes = asked | arm.changes | {"seed": seed}
        if arm.sweep not in size.more.get("sweeps", self.sweeps):
            return
        data = self.find_data(settings)
        own = self.own(data) if changes["no_sibling"] == "skip" else None
        if own and not enough(own, changes.get("select") == "held_out_classes"):
            if arm.sweep == "rates":  # what chooses rates has nothing left to learn from
                return
            raise PapersError(
                f"{own.root}: quadruplets need training classes of two kinds, and two classes of one kind; "
                "add classes, or take their kinds away, which are then drawn by lot"
            )
        if arm.sweep != "rates":
            chosen = {"lr": rate} if (rate := self._rate(size, changes)) else {}
            yield self.run_spec(settings, arm.name, _complete(size.settings | chosen | changes), data)
            return
        method, name = changes.get("method", "method_2"), _of_grid(changes)
        counts = size.more["rate_seeds"]
        seeds = counts.get(name, counts.get(method, counts["others"]))
        if seed not in (settings.seeds or size.seeds)[:seeds]:
            return
        least = size.more.get("lowest", {})
        lowest = least.get(method, least.get("others", 0.0))
        highest = size.more.get("highest", {}).get(method, 1.0)
        for rate in (rate for rate in size.more["rates"] if lowest <= rate <= highest):
            values = _complete(size.settings | changes | {"lr": rate})
            if values["reduction"] == "mean":
                values["lr"] *= values["batch_size"]  # on the mean it acts as it does on the sum
            yield self.run_spec(settings, f"{arm.name} {rate:g}", values, data)

    def _rate(self, size: Size, changes: dict[str, Any]) -> float:
        """The learning rate that the grid of the sweep `rates` gave the method; 0 where there was none."""
        rates: dict[str, float] = size.more.get("lr", {})
        # what is no method of the grid is a variant of Method 2
        method = rates.get(changes.get("method", "method_2"), rates.get("method_2", 0.0))
        return rates.get(_of_grid(changes), method)

    def grid(self, results: Results) -> list[float]:
        """The learning rates that the sweep `rates` tries at this profile, if it has that sweep."""
        rates: list[float] = self.sizes[results.profile].more.get("rates", [])
        return rates

    def tables(self, results: Results) -> dict[str, Table]:
        """Table 1 beside ours, the controls that the paper lacks, and what selection really did."""
        return tables.tables(self, results)

    def figures(self, results: Results) -> dict[str, Figure]:
        """Figures 1 and 2 of the paper, and the curves over epochs that it does not show."""
        return drawings.figures(self, results)

    def read(self, results: Results, label: str, metric: str) -> Values:
        """`mean over epochs` is of R@1, in %: high if it rises early."""
        if metric != "mean over epochs":
            return super().read(results, label, metric)
        histories = {seed: row.metrics["history"] for seed, row in results.rows(label).items()}
        return {
            # (100 / E) Σ_e R@1_e
            seed: 100 * sum(epoch["R@1"] for epoch in history) / len(history)
            for seed, history in histories.items()
            if history
        }

    def answer(self, results: Results, place: Place) -> Answer:
        """Table 1 and the gains of the text are ours to make; settings and quoted works are not."""
        exhibit, row, column = place
        if exhibit not in ("Table 1", "text"):
            return QUOTED
        arm = self.arm_of_row[row].name
        # of the text: R@1 − R@1 of random quadruplets
        if column == "gain in R@1":
            return Answer(arm, "R@1 %", minus="random")
        return Answer(arm, f"{column} %")


def enough(own: Cars196, held_out: bool) -> bool:
    """Whether the training classes of one's own give quadruplets, without those held out to choose by."""
    from papers_lib.quadruplet_cars196.images import HELD_OUT  # imports torch

    fine, first = np.unique(own.fine[own.train], return_index=True)
    coarse = own.coarse[own.train][first]  # of each class
    left = coarse[: len(fine) - max(1, int(len(fine) * HELD_OUT))] if held_out else coarse
    return 2 <= len(set(left.tolist())) < len(left)


def _of_grid(changes: dict[str, Any]) -> str:
    """What the grid of rates calls a run: its method, and whether cross-entropy has four images or none."""
    method: str = changes.get("method", "method_2")
    if changes.get("lc1") == changes.get("lc2") == 0:
        return f"{method}_no_ce"
    return f"{method}_all" if changes.get("ce_on") == "all" else method


def _complete(changes: dict[str, Any]) -> dict[str, Any]:
    """All settings of a run as plain JSON, none left to a default."""
    return TrainSettings.model_validate(changes).model_dump(mode="json")


STUDY = Cars()


def run(spec: RunSpec) -> dict[str, Any]:
    """Train and evaluate what `spec` says, in the folder that the store gave it."""
    from papers_lib.quadruplet_cars196.training import train

    return run_training(spec, TrainSettings, train)
