"""SYSU-30k: check, and a stand-in of rendered pedestrians in its layout.

As in the real set, a training bag is what one camera saw in a while: some people, several pictures
each, and nothing says who is who. Every test identity is seen by camera 2 once (the query) and by
camera 1 once (its match); the distractors of the gallery are other people, seen by both cameras.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from data_prep.drawing import jpeg, write
from data_prep.pedestrians import Look, Passage, Person, network, render
from data_prep.pictures import shown
from data_prep.sets import DataSet, StandIn
from papers_lib.datasets.sysu30k import NAME, OTHERS, TEST, TRAIN, Survey, survey
from papers_lib.settings import Frozen

RELEASED = "SYSU-30k-released/SYSU-30k-released"
BAG, MATCH, QUERY, OTHER = range(4)  # kinds of pictures, each with people of its own


class Recipe(Frozen):
    """What is rendered."""

    seed: int = Field(0, ge=0)
    bags: int = Field(12, ge=1)  # each of one camera
    people: int = Field(3, ge=1)  # in each bag
    shots: int = Field(4, ge=1)  # pictures of each of them
    cameras: int = Field(6, ge=2, le=9)
    queries: int = Field(16, ge=1)  # and as many test identities
    distractors: int = Field(64, ge=0)
    pixels: int = Field(32, ge=16, le=512, multiple_of=2)  # height; the width is half of it
    gap: float = Field(0.3, ge=0, le=1)  # see `data_prep.pedestrians.Look`


SIZES: dict[str, dict[str, Any]] = {
    "smoke": {},
    "small": {"bags": 200, "people": 4, "shots": 5, "queries": 100, "distractors": 2000, "pixels": 64},
}


def draw(folder: Path, recipe: Recipe) -> dict[str, Any]:
    """Write pictures and lists; returns their counts."""
    base, seed = folder / RELEASED, recipe.seed
    look = Look(recipe.gap, occ=0.04, clutter=1.0, jit=0.5, lum=0.05)
    cameras = network(recipe.pixels, look, recipe.cameras, np.random.default_rng([seed, 0]))
    # kind, the person's number within it, the camera from 0, the number of the picture
    shots = [
        (BAG, bag * recipe.people + number // recipe.shots, bag % recipe.cameras, number)
        for bag in range(recipe.bags)
        for number in range(recipe.people * recipe.shots)
    ]
    shots += [(QUERY, who, 1, 2) for who in range(recipe.queries)]
    shots += [(MATCH, who, 0, 1) for who in range(recipe.queries)]
    shots += [(OTHER, who, who % 2, who // 2 + 1) for who in range(recipe.distractors)]

    lists: dict[str, list[str]] = {"train": [], "query": [], "gallery": []}
    for kind, who, camera, number in shown(shots, len(shots), "rendering"):
        world = MATCH if kind == QUERY else kind  # a query and its match are one person
        person = Person(np.random.default_rng([seed, 1, world, who]))
        passage = Passage(cameras[camera], np.random.default_rng([seed, 2, world, who, camera]))
        rng = np.random.default_rng([seed, 3, world, who, camera, number])
        side = {BAG: "train", QUERY: "query"}.get(kind, "gallery")
        name = OTHERS if kind == OTHER else f"{recipe.bags + who + 1:09d}"  # numbered on after the bags
        if kind == BAG:
            name = f"{who // recipe.people + 1:010d}"
        lists[side].append(f"{name}/{name}_c{camera + 1}_{number + (kind == BAG)}.jpg")
        image = render(person, cameras[camera], passage, rng)
        write(base / ({"train": TRAIN} | TEST)[side] / lists[side][-1], jpeg(image))
    for side, files in lists.items():
        write(base / "meta" / f"{side}.txt", "".join(f"{file}\n" for file in sorted(files)).encode())
    gallery = recipe.queries + recipe.distractors
    counts = {"bags": recipe.bags, "query": recipe.queries, "gallery": gallery}
    return {"counts": counts | {"distractors": recipe.distractors}}


def _summary(found: Survey) -> str:
    train = sum(map(len, found.train.values()))
    query, gallery = (len(found.sides[side]) for side in TEST)
    kind = " (stand-in)" if found.stand_in else ""
    return (
        f"{NAME}{kind}: {train:,} images in {len(found.train):,} bags, {query:,} queries, gallery of "
        f"{gallery:,} with {found.distractors:,} distractors"
    )


STAND_IN = StandIn(NAME, "bags 1", Recipe, SIZES, draw)
DATASETS = (DataSet(NAME, survey, _summary, STAND_IN),)
