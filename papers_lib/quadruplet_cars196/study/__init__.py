"""What is asked of quadruplet selection: its arms, claims and errata as tables, and the doors to them."""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

from pydantic import Field

from papers_lib.datasets.cars196_layouts import COUNTS
from papers_lib.exhibits.figure import Figure
from papers_lib.exhibits.table import Table
from papers_lib.quadruplet_cars196.options import TrainSettings
from papers_lib.quadruplet_cars196.study import drawings, errata, tables
from papers_lib.runs.planning import refuse_unknown
from papers_lib.runs.spec import Data, RunSpec
from papers_lib.settings import NotebookSettings
from papers_lib.study import QUOTED, Answer, Arm, Place, Results, Study, Values, run_training, weights_of

# The warm start, cross-entropy on the fine labels with all images labelled; its epochs are the profile's.
WARM = {
    "method": "ce",
    "ce_on": "all",
    "start": "scratch",
    "keep_weights": True,
    "reduction": "mean",
    "lc1": 0.0,  # the coarse labels are not used: a start is no part of the method
    "lc2": 1.0,
    "lr": 0.1,
    "weight_decay": 5e-4,
    "schedule": "one_cycle",
}
# What a warm start has in common with the run that starts from it.
SHARED = ("resize", "crop", "backbone", "embedding_dim", "precision", "batch_size")


class Settings(NotebookSettings):
    """The notebook's parameters. Empty text and an empty list mean: as the profile says."""

    backbone: str = ""
    weights: str = ""
    coarse_map: str = Field("type22", pattern="^(type22|body9)$")
    sibling: str = Field("union", pattern="^(union|random)$")
    no_sibling: str = Field("skip", pattern="^(skip|mask)$")
    m1_fallback: str = Field("furthest_inside", pattern="^(furthest_inside|drop)$")


class Cars(Study):
    """Karaman et al. 2019: Table 1, and the controls that it lacks."""

    name = "quadruplet_cars196"
    parameters = Settings
    dataset = "cars196"
    datasets = COUNTS
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
        """One run per arm and seed; those of the long start only where the start is warm."""
        names = ("coarse_map", "sibling", "no_sibling", "m1_fallback")
        chosen = {name: getattr(settings, name) for name in names} | weights_of(settings)
        # empty: as the profile says
        chosen |= {name: value for name in ("backbone", "precision") if (value := getattr(settings, name))}
        size = self.sizes[settings.profile]
        # the last wins: an arm is what it says, whatever the notebook asks
        values = _complete(size.settings | chosen | arm.changes | {"seed": seed})
        data = self.find_data(settings)
        if values["start"] == "warm":
            yield self.run_spec(settings, arm.name, values, data, (self._warm(settings, arm, values, data),))
        elif not arm.more["start"]:  # ImageNet's weights have no longer training
            yield self.run_spec(settings, arm.name, values, data)

    def _warm(self, settings: Settings, arm: Arm, values: dict[str, Any], data: Data) -> RunSpec:
        """The run whose backbone an arm starts from."""
        # its own schedule falls to 0, so that a long start is no prolonged short one
        epochs = self.sizes[settings.profile].more["warm"]["long" if arm.more["start"] else "epochs"]
        warm = {name: values[name] for name in SHARED} | WARM | {"seed": values["seed"], "epochs": epochs}
        label = "long warm" if arm.more["start"] else "warm"
        # equal for all arms of a seed: one run, by its identity
        return self.run_spec(settings, label, _complete(warm), data)

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


def _complete(changes: dict[str, Any]) -> dict[str, Any]:
    """All settings of a run as plain JSON, none left to a default."""
    return TrainSettings.model_validate(changes).model_dump(mode="json")


STUDY = Cars()


def run(spec: RunSpec) -> dict[str, Any]:
    """Train and evaluate what `spec` says, in the folder that the store gave it."""
    from papers_lib.quadruplet_cars196.training import train

    return run_training(spec, TrainSettings, train)
