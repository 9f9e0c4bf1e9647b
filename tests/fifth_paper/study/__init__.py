"""What is asked of the toy: one table, one figure, two claims."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from fifth_paper.training import TrainSettings, train
from papers_lib.exhibits.curves import curves
from papers_lib.exhibits.figure import Figure
from papers_lib.exhibits.table import Table, comparison
from papers_lib.runs import progress
from papers_lib.runs.spec import Data, RunSpec
from papers_lib.study import QUOTED, Answer, Arm, Place, Results, Study


class Toy(Study):
    """Two samplers, held against each other."""

    name = "fifth_paper"

    def specs(self, settings: Any, arm: Arm, seed: int) -> Iterator[RunSpec]:
        """One run per arm and seed, on data that the run draws itself."""
        asked = self.sizes[settings.profile].settings | arm.changes | {"seed": seed}
        values = TrainSettings.model_validate(asked).model_dump(mode="json")
        yield self.run_spec(settings, arm.name, values, Data(name="drawn", root="."))

    def tables(self, results: Results) -> dict[str, Table]:
        """Table 1 beside ours."""
        made = self.provenance(results)
        lines = [
            self.line(results, (arm.label,), ("Table 1", arm.label, "excess"), made.comparable)
            for arm in self.arms.values()
        ]
        title = "Table 1: excess loss"
        return {"table_1": comparison("table_1", title, ("sampler",), lines, made.badge, made.text)}

    def figures(self, results: Results) -> dict[str, Figure]:
        """The excess by epoch."""
        rows = results.by_epoch(list(self.arms), ["excess"])
        data = pd.DataFrame(rows, columns=["arm", "seed", "epoch", "excess"])
        colours = dict(zip(self.arms, ("C0", "C1"), strict=True))

        def draw(canvas: Any, data: pd.DataFrame) -> None:
            curves(axes := canvas.add_subplot(), data, "epoch", "excess", "arm", colours)
            axes.legend()

        alt = "Two falling lines: the excess loss of shuffled passes and of draws with replacement, by epoch."
        return {"by_epoch": Figure("by_epoch", "Excess loss by epoch", alt, data, draw)}

    def answer(self, results: Results, place: Place) -> Answer:
        """Table 1 is ours to make."""
        arms = {arm.label: arm.name for arm in self.arms.values()}
        return Answer(arms[place[1]], "excess") if place[0] == "Table 1" else QUOTED


STUDY = Toy()


def run(spec: RunSpec) -> dict[str, Any]:
    """Train what `spec` says."""
    return train(TrainSettings.model_validate(spec.settings), progress.reporter(spec.folder))
