"""SYSU-30k: check, and a stand-in of rendered pedestrians in its layout.

As in the real set, a training bag is what one camera saw in a while: some people, several pictures
each, and nothing says who is who. Every test identity is seen by camera 2 once (the query) and by
camera 1 once (its match); the distractors of the gallery are other people, seen by both cameras.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field

from data_prep.pedestrians import Camera, Look, jpeg, network, person, render
from data_prep.pictures import faults
from data_prep.progress import shown
from data_prep.sets import DataSet, Report
from data_prep.standins import StandIn
from papers_lib.datasets.sysu30k import NAME, OTHERS, TEST, TRAIN, Survey, survey
from papers_lib.settings import Frozen

RELEASED = "SYSU-30k-released/SYSU-30k-released"
BAG, MATCH, QUERY, OTHER = range(4)


class Recipe(Frozen):
    """What is rendered.

    Each of the `bags` has `people`, `shots` pictures of each, before one of the `cameras`; there are
    `queries` test identities and `distractors`. For `gap` see `data_prep.pedestrians.Look`.
    """

    seed: int = Field(0, ge=0)
    bags: int = Field(12, ge=1)
    people: int = Field(3, ge=1)
    shots: int = Field(4, ge=1)
    cameras: int = Field(6, ge=2, le=9)
    queries: int = Field(16, ge=1)
    distractors: int = Field(64, ge=0)
    pixels: int = Field(32, ge=16, le=512, multiple_of=2)
    gap: float = Field(0.3, ge=0, le=1)


SIZES: dict[str, dict[str, Any]] = {
    "smoke": {},
    "small": {"bags": 200, "people": 4, "shots": 5, "queries": 100, "distractors": 2000, "pixels": 64},
}


class Shot(NamedTuple):
    """One picture: the kind, the person's number within it, the camera from 0, the number of the picture."""

    kind: int
    who: int
    camera: int
    number: int


def check(root: Path) -> Report:
    """Hold folders, names, lists and counts against each other, then open every image.

    Raises:
        PapersError: there is no such data set under `root`.
    """
    found = survey(root)
    files = [found.base / file for file in sorted(found.sizes)]
    return Report(_summary(found), (*found.problems, *faults(files)), tuple(found.notes))


def _summary(found: Survey) -> str:
    train = sum(map(len, found.train.values()))
    query, gallery = (len(found.sides[side]) for side in TEST)
    kind = " (stand-in)" if found.stand_in else ""
    return (
        f"{NAME}{kind}: {train:,} images in {len(found.train):,} bags, {query:,} queries, gallery of "
        f"{gallery:,} with {found.distractors:,} distractors"
    )


def draw(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """Write pictures and lists; returns their counts."""
    base = folder / RELEASED
    look = Look(recipe.gap, occ=0.04, clutter=1.0, jit=0.5, lum=0.05)
    cameras = network(recipe.pixels, look, recipe.cameras, np.random.default_rng([recipe.seed, 0]))
    shots = list(_shots(recipe))
    files = [_file(shot, recipe) for shot in shots]
    for path in {(base / file).parent for file in files}:
        path.mkdir(parents=True, exist_ok=True)
    for shot, file in shown(zip(shots, files, strict=True), len(shots), "rendering"):
        (base / file).write_bytes(_picture(shot, cameras[shot.camera], recipe.seed))
    _write_lists(base / "meta", files)
    counts = {
        "bags": recipe.bags,
        "query": recipe.queries,
        "gallery": recipe.queries + recipe.distractors,
        "distractors": recipe.distractors,
    }
    return {"counts": counts}


def _shots(recipe: Recipe) -> Iterator[Shot]:
    """Every picture; people of bags, tests and distractors are not the same."""
    for bag in range(recipe.bags):
        for number in range(recipe.people * recipe.shots):
            yield Shot(BAG, bag * recipe.people + number // recipe.shots, bag % recipe.cameras, number)
    for who in range(recipe.queries):
        yield Shot(QUERY, who, 1, 2)
        yield Shot(MATCH, who, 0, 1)
    for who in range(recipe.distractors):
        yield Shot(OTHER, who, who % 2, who // 2 + 1)


def _file(shot: Shot, recipe: Recipe) -> str:
    """Where a picture lies; test identities are numbered on after the bags, as in the real set."""
    if shot.kind == BAG:
        name = f"{shot.who // recipe.people + 1:010d}"
        return f"{TRAIN}/{name}/{name}_c{shot.camera + 1}_{shot.number + 1}.jpg"
    side = TEST["query" if shot.kind == QUERY else "gallery"]
    name = OTHERS if shot.kind == OTHER else f"{recipe.bags + shot.who + 1:09d}"
    return f"{side}/{name}/{name}_c{shot.camera + 1}_{shot.number}.jpg"


def _picture(shot: Shot, camera: Camera, seed: int) -> bytes:
    world = MATCH if shot.kind == QUERY else shot.kind  # a query and its match are one person
    who = person(np.random.default_rng([seed, 1, world, shot.who]))
    passage = camera.passage(np.random.default_rng([seed, 2, world, shot.who, shot.camera]))
    rng = np.random.default_rng([seed, 3, world, shot.who, shot.camera, shot.number])
    return jpeg(render(who, camera, passage, rng))


def _write_lists(folder: Path, files: list[str]) -> None:
    folder.mkdir(parents=True)
    for side, start in ({"train": TRAIN} | TEST).items():
        names = [file.removeprefix(f"{start}/") for file in files if file.startswith(f"{start}/")]
        (folder / f"{side}.txt").write_text("".join(f"{name}\n" for name in sorted(names)), encoding="utf-8")


STAND_IN = StandIn(NAME, "bags 1", Recipe, SIZES, draw)
DATASETS = (DataSet(NAME, check, STAND_IN.make, STAND_IN.made, survey=survey),)
