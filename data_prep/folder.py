"""Images of one's own, a folder per class: check, and import."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from data_prep.sets import DataSet
from papers_lib.datasets.folder import NAME, TOLD, Survey, survey


def _summary(found: Survey) -> str:
    known = {name: len(set(found.column(name)) - {""}) for name in ("label", "coarse", "camera")}
    counts = f"{len(found.rows):,} images, {known['label']} classes"
    return f"folder: {counts}, {known['coarse'] or 'no'} kinds, {known['camera'] or 'no'} cameras"


def _problems(found: Survey, _known: list[str]) -> Iterator[str]:
    if len(set(found.column("label"))) == 1:
        yield f"{found.base} has one class alone; put the images into a folder per class"


def _notes(found: Survey) -> Iterator[str]:
    yield from found.notes
    if loose := _loose(found):
        yield f"{len(loose):,} images lie beside folders and are of no class, as {found.base / loose[0]}"
    told = {name: found.column(name) for name in TOLD}
    for name, column in told.items():
        if any(column) and not all(column):
            yield f"{column.count(''):,} images have no {name}: as if none had one"
    if not all(told["coarse"]):
        yield "no kinds of classes: where they are needed, classes are dealt to kinds by lot"
    if not all(told["camera"]) or len(set(told["camera"])) < 2:
        yield "no cameras: training images are taken for those of one, a query for that of another"
    if all(told["split"]) and len(set(told["split"])) == 1:
        yield f"all images are said to be of the {told['split'][0]} side: sides are drawn"


def _loose(found: Survey) -> list[str]:
    """The images that lie beside the folders of classes."""
    around = {str(place) for row in found.rows for place in PurePath(row.file).parents[1:]}
    walk = Survey(NAME, found.base, found.base)
    return [file for place in sorted(around - {"."}) for file in walk.images_in(place)] + walk.images_in("")


DATASETS = (DataSet(NAME, survey, _summary, more_problems=_problems, notes=_notes),)
