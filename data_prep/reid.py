"""The person re-identification sets: check, and what is rendered or made in their place."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from data_prep import reid_from_images
from data_prep.pictures import faults
from data_prep.reid_standin import STAND_INS
from data_prep.sets import DataSet, Report
from papers_lib.datasets.reid_layouts import LAYOUTS, SIDES, Survey, survey

MADE = "reid_from_images"


def check(name: str, root: Path, acknowledge_withdrawn: bool = False) -> Report:
    """Hold names, lists, folders and counts against each other, then open every image, junk too.

    Raises:
        PapersError: there is no such data set under `root`, or it is withdrawn and not acknowledged.
    """
    found = survey(root, name, acknowledge_withdrawn)
    files = [found.base / file for file in sorted(found.sizes)]
    problems = (*found.problems, *faults(files))
    return Report(_summary(found), problems, tuple(found.notes))


def _summary(found: Survey) -> str:
    parts = [
        f"{side} {len(rows)} images of {len({row.id for row in rows})} identities"
        for side, rows in ((side, found.sides[side]) for side in SIDES)
    ]
    kind = "stand-in" if found.stand_in else f"layout {found.layout.kind}"
    return f"{found.name} ({kind}): {', '.join(parts)}, {found.cameras} cameras, {found.junk} junk images"


def _dataset(name: str) -> DataSet:
    look = partial(survey, name=name)
    if name == MADE:
        return DataSet(name, partial(check, name), reid_from_images.make, reid_from_images.made, survey=look)
    stand_in = STAND_INS[name]
    data = DataSet(name, partial(check, name), stand_in.make, stand_in.made, survey=look)
    return data.withdrawn() if name == "dukemtmc" else data


DATASETS = tuple(_dataset(name) for name in LAYOUTS)
