"""What is asked of the samplers: arms, claims and errata as tables, and the doors to them.

A run's label is "camera network/arm"; an arm of the grid is named `<sampler>_<K or N>`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from papers_lib.datasets import folder, reid
from papers_lib.exhibits.figure import Figure
from papers_lib.exhibits.table import Table
from papers_lib.runs.planning import refuse_unknown
from papers_lib.runs.spec import RunSpec
from papers_lib.sampler_study.options import PRESETS, TrainSettings
from papers_lib.sampler_study.study import drawings, errata, tables
from papers_lib.sampler_study.study.tables import GRID, NETWORKS, ROWS_1, SAMPLERS, beside
from papers_lib.settings import NotebookSettings
from papers_lib.study import QUOTED, Answer, Arm, Place, Results, Study, run_training, weights_of

# The warm-up that stands for ImageNet, and what it has in common with the run that starts from it.
WARM = {
    "method": "supervised",
    "start": "scratch",
    "keep_weights": True,
    "batch_size": 64,
    "evaluate_every": 100,
}
WARM_DATA = "pedestrians_warmup"
# Parameters that are settings of a run.
TURNED = ("lr", "epochs", "batch_size", "tau", "eps", "precision", "pooling")
SHARED = ("height", "width", "pad", "backbone", "precision", "stem_relu")


class Settings(NotebookSettings):
    """The notebook's parameters. Empty text, an empty list and 0 mean: as the profile says."""

    preset: str = "paper"
    # 0: as preset and profile say
    lr: float = Field(0.0, ge=0)
    epochs: int = Field(0, ge=0)
    batch_size: int = Field(0, ge=0)
    iterations: int = Field(0, ge=0)  # of an epoch
    tau: float = Field(0.0, ge=0)
    eps: float = Field(0.0, ge=0, le=1)
    pooling: Literal["", "mean", "gem"] = ""
    weights: str = ""
    acknowledge_withdrawn: bool = False


class Samplers(Study):
    """Cao et al.: Tables I–IV, and the controls that they lack."""

    name = "sampler_study"
    parameters = Settings
    datasets = (*reid.NAMES, "cars_cameras_features", folder.NAME)
    read_folder = folder.network
    checks = errata.CHECKS

    def refuse(self, settings: Settings) -> None:
        """An unknown preset too."""
        super().refuse(settings)
        refuse_unknown("preset", (settings.preset,), PRESETS)

    def specs(self, settings: Settings, arm: Arm, seed: int) -> Iterator[RunSpec]:
        """The grid and the rivals on all camera networks, the controls on the first."""
        size = self.sizes[settings.profile]
        alone = settings.dataset or size.dataset
        networks = (alone,) if alone else tuple(NETWORKS)
        if arm.sweep not in ("grid", "rivals"):
            networks = networks[:1]
        chosen = {name: value for name in TURNED if (value := getattr(settings, name))}
        if settings.iterations:
            chosen["iters_per_epoch"] = settings.iterations
        chosen = PRESETS[settings.preset] | size.settings | chosen | weights_of(settings)
        values = _complete(chosen | arm.changes | {"seed": seed})
        needs: tuple[RunSpec, ...] = ()
        if values["start"] == "warm":
            warm = {name: values[name] for name in SHARED} | WARM | size.more["warm"] | {"seed": seed}
            data = self.find_data(settings, WARM_DATA)
            needs = (self.run_spec(settings, "warm-up", _complete(warm), data),)
        for network in networks:
            data = self.find_data(settings, network)
            fitted: dict[str, Any] = {}
            if network == folder.NAME:
                fitted["bad_start"] = "skip"  # few classes fill no large batch
            if own := self.own(data):  # an image has no more neighbours than there are others
                fitted |= {name: min(values[name], len(own.train.files) - 1) for name in ("k1", "k2")}
            yield self.run_spec(settings, f"{network}/{arm.name}", values | fitted, data, needs)

    def tables(self, results: Results) -> dict[str, Table]:
        """Tables I–IV beside ours, what the paper's arithmetic says, and the controls that it lacks."""
        return tables.tables(self, results)

    def figures(self, results: Results) -> dict[str, Figure]:
        """Figure 1 of the paper by the real samplers, and the curves that it does not show."""
        return drawings.figures(self, results)

    # -- the seven settings of a sampler, "network/sampler" --

    def resolve(self, results: Results, arm: str) -> str:
        """`network/sampler_best` is the setting with the highest mean mAP, as Table I chooses it.

        An arm without a network is that of the first of the plan.
        """
        network = "" if "/" in arm or not results.runs else f"{results.runs[0][0].data.name}/"
        label, best, _ = f"{network}{arm}".partition("_best")
        if not best:
            return label
        equal = results.common([f"{label}_{k}" for k in GRID])  # or the largest n would help its setting
        means = {k: equal.mean(f"{label}_{k}", "mAP %") for k in GRID}
        known = {k: value for k, value in means.items() if value is not None}
        return f"{label}_{max(known, key=lambda k: known[k]) if known else GRID[0]}"

    # -- printed numbers --

    def answer(self, results: Results, place: Place) -> Answer | None:
        """The four tables are ours to make, but for GCL's row; settings and quoted works are not."""
        exhibit, row, column = place
        methods = {sampler.exhibit: method for method, sampler in SAMPLERS.items()}
        if exhibit in methods:
            arm = f"{methods[exhibit]}_{row.partition('=')[2]}"
        elif exhibit == "Table I":
            arm = ROWS_1[row]
        else:
            arm = ""
        if not arm:
            return QUOTED
        name, _, metric = column.rpartition(" ")
        network = next((network for network, column in beside(results).items() if column == name), None)
        if network is None:
            return None
        return Answer(self.resolve(results, f"{network}/{arm}"), f"{metric} %")


def _complete(changes: dict[str, Any]) -> dict[str, Any]:
    """All settings of a run as plain JSON, none left to a default.

    `iterations_times` is relative to the profile's iterations.
    """
    default = {name: field.default for name, field in TrainSettings.model_fields.items()}
    values = default | changes
    if times := values.pop("iterations_times", 0):
        values["iters_per_epoch"] *= times
    if values["method"] in ("supervised", "none"):
        values["eps"] = default["eps"]  # no clustering
    return TrainSettings.model_validate(values).model_dump(mode="json")


STUDY = Samplers()


def run(spec: RunSpec) -> dict[str, Any]:
    """Train and evaluate what `spec` says, in the folder that the store gave it."""
    from papers_lib.sampler_study.training import train

    return run_training(spec, TrainSettings, train)
