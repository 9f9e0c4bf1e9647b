"""The person re-identification sets: check, and stand-ins of rendered pedestrians in their layouts.

Folders, file names and lists are those of Market-1501, DukeMTMC-reID and MSMT17, with their junk,
distractors, validation list and numbering; `STANDIN.json` beside them says that they are rendered.
Every data set, and every seed of it, has its own people and its own cameras. MSMT17 V2 is V1 with
blurred faces, as the real one is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from data_prep import reid_from_images
from data_prep.drawing import Rng, jpeg, write
from data_prep.pedestrians import Camera, Look, Passage, Person, network, render
from data_prep.pictures import shown
from data_prep.sets import DataSet, StandIn
from papers_lib.datasets.reid_layouts import LAYOUTS, SIDES, Survey, survey
from papers_lib.errors import PapersError
from papers_lib.settings import Frozen

TRAIN, QUERY, GALLERY = SIDES
JUNK, DISTRACTOR = -1, 0  # Market-1501's names of pictures that bear no identity


class Recipe(Frozen):
    """What is rendered; one picture of each test identity and camera is a query."""

    seed: int = Field(0, ge=0)
    cameras: int = Field(6, ge=2, le=99)
    seen: int = Field(3, ge=2)  # by so many cameras an identity is seen, or by one or two more
    train_ids: int = Field(40, ge=1)
    test_ids: int = Field(20, ge=1)
    per_id: int = Field(10, ge=4)  # pictures of a training identity
    per_test_id: int = Field(10, ge=4)
    spread: float = Field(0.25, ge=0, lt=1)  # ± this share of them
    distractors: int = Field(20, ge=0)
    junk: int = Field(20, ge=0)
    pixels: int = Field(32, ge=16, le=512, multiple_of=2)  # height; the width is half of it
    gap: float = Field(0.3, ge=0, le=1)  # this and the rest: see `data_prep.pedestrians.Look`
    occ: float = Field(0.05, ge=0, le=0.5)
    clutter: float = Field(1.0, ge=0, le=20)
    jit: float = Field(0.5, ge=0, le=3)
    lum: float = Field(0.05, ge=0, le=1)


MARKET: dict[str, Any] = {"cameras": 6, "seen": 3, "gap": 0.28, "occ": 0.03}
DUKE: dict[str, Any] = {"cameras": 8, "seen": 3, "junk": 0, "gap": 0.28, "occ": 0.08}
MSMT: dict[str, Any] = {"cameras": 15, "seen": 5, "junk": 0, "distractors": 0, "gap": 0.32, "occ": 0.04}
LARGE: dict[str, Any] = {"pixels": 64, "test_ids": 60, "per_id": 16, "per_test_id": 16}
OTHERS = {"distractors": 100, "junk": 60}

# what a size does not name is as in `Recipe`
SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "market1501": {
        "smoke": MARKET,
        "small": MARKET | LARGE | OTHERS | {"train_ids": 120},
    },
    "dukemtmc": {
        "smoke": DUKE,
        "small": DUKE | LARGE | {"train_ids": 110, "per_id": 17, "distractors": 100},
    },
    "msmt17_v1": {
        "smoke": MSMT | {"per_id": 12, "per_test_id": 12, "seen": 4},
        "small": MSMT | LARGE | {"train_ids": 140},
    },
    "pedestrians_warmup": {
        "smoke": {"train_ids": 60},
        "small": LARGE | {"train_ids": 400, "test_ids": 20, "per_id": 9},
    },
    "pedestrians_many": {
        "smoke": MARKET | {"train_ids": 8, "per_id": 40, "spread": 0.1},
        "small": MARKET | LARGE | OTHERS | {"train_ids": 16, "per_id": 140, "spread": 0.05, "seen": 4},
    },
}
SIZES["msmt17_v2"] = SIZES["msmt17_v1"]
WORLDS = {name: i for i, name in enumerate(SIZES)} | {"msmt17_v2": 2}  # V2 has the people of V1


class Shot(NamedTuple):
    """One picture to be rendered; `who` is -1 (junk), 0 (distractor) or a number from 1."""

    side: str
    who: int
    camera: int
    number: int


def draw(name: str, folder: Path, recipe: Recipe) -> dict[str, Any]:
    """Write the pictures and the lists of `recipe`; returns counts, the gallery's with distractors and junk.

    Raises:
        PapersError: settings that do not go together.
    """
    if recipe.seen > recipe.cameras:
        raise PapersError(f"seen {recipe.seen} is more than cameras {recipe.cameras}; lower seen")
    for setting in ("per_id", "per_test_id"):
        per_id = getattr(recipe, setting)
        if per_id * (1 - recipe.spread) < 2 * recipe.seen:
            raise PapersError(
                f"{setting} {per_id} leaves no two pictures for each of {recipe.seen} cameras; raise it"
            )
    shots = plan(name, recipe)
    files = _msmt(shots, recipe.train_ids + 1) if LAYOUTS[name].kind == "msmt" else _flat(name, shots, recipe)
    folders = dict(zip(SIDES, LAYOUTS[name].folders, strict=True))
    if LAYOUTS[name].kind == "msmt":
        _write_lists(folder, shots, files)

    world = [recipe.seed, WORLDS[name]]  # begins the seed of everything in this network
    look = Look(recipe.gap, recipe.occ, recipe.clutter, recipe.jit, recipe.lum)
    cameras = network(recipe.pixels, look, recipe.cameras, np.random.default_rng([*world, 1]))
    for shot, file in shown(zip(shots, files, strict=True), len(shots), "rendering"):
        image = _render(shot, cameras[shot.camera], world, masked=name == "msmt17_v2")
        write(folder / folders[shot.side] / file, jpeg(image))
    counts = {side: sum(shot.side == side for shot in shots) for side in SIDES}
    asked = ("train_ids", "test_ids", "distractors", "junk")
    return {"counts": counts | {key: getattr(recipe, key) for key in asked}}


def plan(name: str, recipe: Recipe) -> list[Shot]:
    """Every picture: training identities are 1..T, those of the test T+1..., then distractors, junk."""
    rng = np.random.default_rng([recipe.seed, WORLDS[name], 0])
    shots: list[Shot] = []
    for who in range(1, recipe.train_ids + recipe.test_ids + 1):
        in_train = who <= recipe.train_ids
        first, later = (TRAIN, TRAIN) if in_train else (QUERY, GALLERY)
        per_id = recipe.per_id if in_train else recipe.per_test_id
        for camera, count in zip(*_seen(who, per_id, recipe, rng), strict=True):
            shots += [Shot(first if i == 0 else later, who, int(camera), i) for i in range(count)]
    for who, count in ((DISTRACTOR, recipe.distractors), (JUNK, recipe.junk)):
        cameras = rng.integers(recipe.cameras, size=count)
        shots += [Shot(GALLERY, who, int(camera), i) for i, camera in enumerate(cameras)]
    return shots


def _seen(who: int, per_id: int, recipe: Recipe, rng: Rng) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The cameras that see an identity, and the pictures of each, two at least.

    One of them goes round with the identity, so that every camera sees somebody.
    """
    most = min(recipe.seen + 2, recipe.cameras, int(per_id * (1 - recipe.spread)) // 2)
    number = int(rng.integers(recipe.seen, most + 1))
    others = rng.permutation(np.setdiff1d(np.arange(recipe.cameras), who % recipe.cameras))
    cameras = np.sort(np.append(others[: number - 1], who % recipe.cameras))
    images = round(per_id * (1 + recipe.spread * rng.uniform(-1, 1)))
    shares = rng.dirichlet(np.full(number, 4.0))  # [cameras that see it], 1 in sum
    return cameras, 2 + rng.multinomial(max(0, images - 2 * number), shares)


def _render(shot: Shot, camera: Camera, world: list[int], masked: bool) -> Image.Image:
    if shot.who <= DISTRACTOR:  # of each there is one picture alone
        rng = np.random.default_rng([*world, 2 if shot.who == JUNK else 3, shot.number])
        someone = None if shot.who == JUNK else Person(rng)
        return render(someone, camera, Passage(camera, rng), rng)
    someone = Person(np.random.default_rng([*world, 4, shot.who]))
    passage = Passage(camera, np.random.default_rng([*world, 5, shot.who, shot.camera]))
    rng = np.random.default_rng([*world, 6, shot.who, shot.camera, shot.number])
    return render(someone, camera, passage, rng, masked)


# -- names and lists --


def _flat(name: str, shots: Sequence[Shot], recipe: Recipe) -> list[str]:
    """Market-1501's and DukeMTMC's names; numbers of identities, training and test mixed, are from 1."""
    rng = np.random.default_rng([recipe.seed, WORLDS[name], 7])
    numbers = np.append(0, 1 + rng.permutation(recipe.train_ids + recipe.test_ids))  # 0 stays 0
    files = []
    for i, (side, who, camera, number) in enumerate(shots):
        identity = f"{numbers[who]:04d}" if who >= 0 else "-1"
        if LAYOUTS[name].kind == "duke":
            # 0001_c2_f0046182.jpg: identity, camera, frame; a distractor is an identity without query
            identity = identity if who > 0 else f"{len(numbers) + number:04d}"
            files.append(f"{identity}_c{camera + 1}_f{44_000 + 60 * i:07d}.jpg")
        else:
            # 0002_c1s1_000451_03.jpg: identity, camera and sequence, frame, box (0 in a query)
            box = 0 if side == QUERY else 1 + number % 9
            files.append(f"{identity}_c{camera + 1}s{1 + who % 6}_{25 * i + 26:06d}_{box:02d}.jpg")
    return files


def _msmt(shots: Sequence[Shot], first: int) -> list[str]:
    """`0000/0000_045_12_0303morning_0006_2.jpg`: identity, running number, camera, time, frame, box.

    Identities start at 0 in training and again, with number `first`, in the test.
    """
    seen, files = Counter[int](), []
    for i, (side, who, camera, _) in enumerate(shots):
        identity = who - 1 if side == TRAIN else who - first
        time = ("0303morning", "0113noon", "0302afternoon")[(who + camera) % 3]
        place = f"{seen[who]:03d}_{camera + 1:02d}_{time}_{i % 10_000:04d}_0{'_ex' * (i % 50 == 0)}"
        files.append(f"{identity:04d}/{identity:04d}_{place}.jpg")
        seen[who] += 1
    return files


def _write_lists(folder: Path, shots: list[Shot], files: list[str]) -> None:
    """MSMT17's four lists; `list_val` has the last picture of every other training identity."""
    lists: dict[str, list[str]] = {"train": [], "val": [], QUERY: [], GALLERY: []}
    last = {shot.who: i for i, shot in enumerate(shots) if shot.side == TRAIN}  # picture of each identity
    for i, (shot, file) in enumerate(zip(shots, files, strict=True)):
        kind = "val" if last.get(shot.who) == i and shot.who % 2 else shot.side
        lists[kind].append(f"{file} {int(file[:4])}\n")
    for kind, lines in lists.items():
        (folder / f"list_{kind}.txt").write_text("".join(lines), encoding="utf-8")


# -- the data sets --


def _summary(found: Survey) -> str:
    parts = [
        f"{side} {len(rows)} images of {len({row.id for row in rows})} identities"
        for side, rows in ((side, found.sides[side]) for side in SIDES)
    ]
    kind = "stand-in" if found.stand_in else f"layout {found.layout.kind}"
    return f"{found.name} ({kind}): {', '.join(parts)}, {found.cameras} cameras, {found.junk} junk images"


STAND_INS: dict[str, StandIn] = {
    name: StandIn(name, "pedestrians 2", Recipe, sizes, partial(draw, name)) for name, sizes in SIZES.items()
}
DATASETS = tuple(
    DataSet(
        name,
        partial(survey, name=name),
        _summary,
        STAND_INS.get(name, reid_from_images.STAND_IN),
        withdrawn=name == "dukemtmc",
    )
    for name in LAYOUTS
)
