"""Stanford Cars, whole and half: check, and the stand-in."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

from data_prep import cars196_standin
from data_prep.pictures import faults
from data_prep.sets import DataSet, Report
from papers_lib.datasets.cars196_layouts import Survey, survey


def check(name: str, root: Path) -> Report:
    """Hold labels, folders and counts against each other, then open every image.

    Raises:
        PapersError: there is no such data set under `root`.
    """
    found = survey(root, name)
    files = [found.base / file for file in sorted(found.sizes)]
    problems = (*found.problems, *faults(files))
    return Report(_summary(found), problems, tuple(_lone_types(found)))


def _summary(found: Survey) -> str:
    c = found.catalogue
    train = sum(p.label in c.training for p in found.pictures)
    kind = "stand-in" if found.stand_in else "layout " + found.layout
    return (
        f"{found.name} ({kind}): {train} images of {len(c.side('training'))} training "
        f"classes, {len(found.pictures) - train} of {len(c.side('test'))} test classes"
    )


def _lone_types(found: Survey) -> list[str]:
    """A training class alone in its type has no sibling: no quadruplet starts from its images."""
    c, notes = found.catalogue, []
    for name, types in c.coarse.items():
        present = [t for t, label in zip(types, c.classes, strict=True) if label in c.training]
        lone = sorted(t for t, n in Counter(present).items() if n == 1)
        if lone:
            notes.append(
                f"{name}: one training class alone in its type, so without sibling: {', '.join(lone)}"
            )
    return notes


DATASETS = (
    DataSet(
        "cars196",
        partial(check, "cars196"),
        cars196_standin.make,
        cars196_standin.made,
        survey=partial(survey, name="cars196"),
    ),
    DataSet("cars196_half", partial(check, "cars196_half"), survey=partial(survey, name="cars196_half")),
)
