"""Reading a study's runs: values of an arm by seed, their means, and what lies between two arms."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from papers_lib.exhibits import provenance as origin
from papers_lib.exhibits.intervals import Interval, common_seeds
from papers_lib.exhibits.ledger import Row
from papers_lib.exhibits.table import NOT_RUN, Cell
from papers_lib.exhibits.verdicts import Finding, greater
from papers_lib.runs.spec import RunSpec

Values = dict[int, float]  # by seed


class Gap(NamedTuple):
    """Ours against another arm, paired by seed: cells of a table, empty where no seed has both.

    The table that `verdict` stands in corrects it together with its other rows.
    """

    mean: float | None
    interval: Interval | None
    n: int
    verdict: Finding


class Results:
    """A study's planned runs, each with its ledger row, or with None where it has not been run.

    A row is found by its run's label: the arm, or "data set/arm" where a study has several data sets.
    """

    def __init__(self, runs: Sequence[tuple[RunSpec, Row | None]]) -> None:
        self.runs = runs
        self.profile = runs[0][0].profile if runs else ""  # a plan has one profile
        self._rows: dict[str, dict[int, Row]] = {}  # label → seed → row
        for spec, row in runs:
            if row is not None:
                self._rows.setdefault(spec.label, {})[row.seed] = row

    @property
    def all_rows(self) -> list[Row]:
        """Every row that there is, in the order of the plan."""
        return [row for _, row in self.runs if row is not None]

    def rows(self, label: str) -> dict[int, Row]:
        """The rows of an arm by seed."""
        return self._rows.get(label, {})

    def common(self, labels: Collection[str]) -> Results:
        """The same runs, those of `labels` at their common seeds alone, as `common_seeds` has them.

        For means that stand side by side.
        """
        seeds = common_seeds(self.rows(label) for label in labels)
        several = {label for label in labels if len(self.rows(label)) > 1}
        return Results(
            [
                (spec, row if spec.label not in several or spec.seed in seeds else None)
                for spec, row in self.runs
            ]
        )

    def values(self, label: str, path: str) -> Values:
        """A number of each row's metrics by seed.

        `path` names it: `R@1`, `mined.same_positive`, `history.-1.loss` (of the last epoch). A seed is left
        out whose epochs did not log it; a `path` that ends in " %" reads a share as per cent.

        Raises:
            KeyError: a row has no such metric.
        """
        name, percent, _ = path.partition(" %")  # "R@1 %" → "R@1" and " %"
        scale = 100 if percent else 1
        # None where an epoch did not log it: no value, and not a 0
        read = {seed: _at(row.metrics, name.split(".")) for seed, row in self.rows(label).items()}
        return {seed: scale * float(value) for seed, value in read.items() if value is not None}

    def mean(self, label: str, path: str) -> float | None:
        """The mean over seeds of `values`, None where there are none."""
        return mean(self.values(label, path))

    def minutes(self, label: str) -> Values:
        """Minutes that a run took, all of it, by seed."""
        return {seed: row.seconds / 60 for seed, row in self.rows(label).items()}

    def by_epoch(
        self,
        labels: Sequence[str],
        names: Sequence[str],
        factor: float = 1,
        starts: Mapping[int, Mapping[str, float]] | None = None,
    ) -> Iterator[dict[str, float | str]]:
        """Long form of the histories: arm, seed, epoch, and those of `names` that the epoch logged.

        Epoch 0 is before training: `starts` by seed, by default what the run itself read as its start.
        """
        for label in labels:
            for seed, row in sorted(self.rows(label).items()):
                # a seed without a start has no epoch 0
                start = row.metrics.get("start", {}) if starts is None else starts.get(seed, {})
                # 0: start, 1 …: epochs, or as a history says that does not keep all
                for number, logged in enumerate([start, *row.metrics["history"]]):
                    epoch = int(logged.get("epoch", number))
                    if values := {name: factor * logged[name] for name in names if name in logged}:
                        # "data set/arm" → arm
                        yield {"arm": label.rpartition("/")[2], "seed": seed, "epoch": epoch, **values}

    def data_names(self, label: str) -> str:
        """The data sets that an arm's rows were made from, as exhibits name them."""
        return origin.data_names(self.rows(label).values())


def mean(values: Mapping[int, float]) -> float | None:
    """The mean over seeds, None of nothing."""
    # fsum: the same digits in whatever order seeds came
    return math.fsum(values.values()) / len(values) if values else None


def difference(a: Mapping[int, float], b: Mapping[int, float]) -> Values:
    """a − b for the seeds that both have."""
    return {seed: a[seed] - b[seed] for seed in a.keys() & b.keys()}


def gap(ours: Mapping[int, float], other: Mapping[int, float]) -> Gap:
    """The paired difference of ours to another arm, and whether ours is greater."""
    finding = greater(ours, other)  # of d_s = ours_s − other_s over the seeds s of both
    if not finding.difference:
        return Gap(None, None, len(ours), finding)
    return Gap(finding.difference.mean, finding.difference, finding.difference.n, finding)


def not_run(label: str, columns: int, *last: Cell) -> list[Cell]:
    """A line of a table with `columns` cells for an arm without a row: label, "not run", …, `last`."""
    return [label, NOT_RUN, *[None] * (columns - 2 - len(last)), *last]


def _at(value: Any, path: Sequence[str]) -> Any:
    """What lies at `path`; None in an epoch that did not log it, and where there are no epochs."""
    optional = False  # only what an epoch logs may be missing; elsewhere it is a bent row
    for step in path:
        if isinstance(value, list):
            if not value:
                return None
            value, optional = value[int(step)], True  # "-1": the last epoch
        elif optional and step not in value:
            return None
        else:
            value = value[step]
    return value
