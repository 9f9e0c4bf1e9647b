"""Images of one's own, a folder per class: check, and import."""

from __future__ import annotations

from collections.abc import Iterator

from data_prep.sets import DataSet
from papers_lib.datasets.folder import NAME, Survey, survey


def _summary(found: Survey) -> str:
    known = {name: len(set(found.column(name)) - {""}) for name in ("label", "coarse", "camera")}
    counts = f"{len(found.rows):,} images, {known['label']} classes"
    return f"folder: {counts}, {known['coarse'] or 'no'} kinds, {known['camera'] or 'no'} cameras"


def _notes(found: Survey) -> Iterator[str]:
    yield from found.notes
    if not all(found.column("coarse")):
        yield "no kinds of classes: where they are needed, classes are dealt to kinds by lot"
    if len(set(found.column("camera"))) < 2:
        yield "no cameras: training images are taken for those of one, a query for that of another"


DATASETS = (DataSet(NAME, survey, _summary, notes=_notes),)
