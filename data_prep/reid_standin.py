"""Stand-ins for the person re-identification sets: rendered pedestrians in the real layouts.

Folders, file names and lists are those of Market-1501, DukeMTMC-reID and MSMT17, with their junk,
distractors, validation list and numbering; `STANDIN.json` beside them says that they are rendered.
Every data set, and every seed of it, has its own people and its own cameras. MSMT17 V2 is V1 with
blurred faces, as the real one is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from data_prep.pedestrians import Camera, Look, backdrop, jpeg, network, person, render
from data_prep.progress import shown
from data_prep.standins import StandIn
from papers_lib.datasets.reid_layouts import LAYOUTS
from papers_lib.errors import PapersError
from papers_lib.settings import Frozen

TRAIN, QUERY, GALLERY = "train", "query", "gallery"
JUNK, DISTRACTOR = -1, 0  # Market-1501's names of pictures that bear no identity


class Recipe(Frozen):
    """What is rendered.

    A training identity has `per_id` pictures ± the share `spread`, one of the test `per_test_id` of
    them, before `seen` to `seen` + 2 cameras of `cameras`. One picture of each test identity and
    camera is a query. For `gap` to `lum` see `data_prep.pedestrians.Look`.
    """

    seed: int = Field(0, ge=0)
    cameras: int = Field(6, ge=2, le=99)
    seen: int = Field(3, ge=2)
    train_ids: int = Field(40, ge=1)
    test_ids: int = Field(20, ge=1)
    per_id: int = Field(10, ge=4)
    per_test_id: int = Field(10, ge=4)
    spread: float = Field(0.25, ge=0, lt=1)
    distractors: int = Field(20, ge=0)
    junk: int = Field(20, ge=0)
    pixels: int = Field(32, ge=16, le=512, multiple_of=2)
    gap: float = Field(0.3, ge=0, le=1)
    occ: float = Field(0.05, ge=0, le=0.5)
    clutter: float = Field(1.0, ge=0, le=20)
    jit: float = Field(0.5, ge=0, le=3)
    lum: float = Field(0.05, ge=0, le=1)


MARKET: dict[str, Any] = {"cameras": 6, "seen": 3, "gap": 0.28, "occ": 0.03}
DUKE: dict[str, Any] = {"cameras": 8, "seen": 3, "junk": 0, "gap": 0.28, "occ": 0.08}
MSMT: dict[str, Any] = {"cameras": 15, "seen": 5, "junk": 0, "distractors": 0, "gap": 0.32, "occ": 0.04}
WARMUP: dict[str, Any] = {"cameras": 6, "seen": 3, "gap": 0.3, "occ": 0.05}
LARGE: dict[str, Any] = {"pixels": 64, "test_ids": 60, "per_id": 16, "per_test_id": 16}
TINY: dict[str, Any] = {"pixels": 32, "test_ids": 20, "per_id": 10, "per_test_id": 10}
OTHERS = {"distractors": 100, "junk": 60}

SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "market1501": {
        "smoke": MARKET | TINY,
        "small": MARKET | LARGE | OTHERS | {"train_ids": 120},
    },
    "dukemtmc": {
        "smoke": DUKE | TINY,
        "small": DUKE | LARGE | {"train_ids": 110, "per_id": 17, "distractors": 100},
    },
    "msmt17_v1": {
        "smoke": MSMT | TINY | {"per_id": 12, "per_test_id": 12, "seen": 4},
        "small": MSMT | LARGE | {"train_ids": 140},
    },
    "pedestrians_warmup": {
        "smoke": WARMUP | TINY | {"train_ids": 60},
        "small": WARMUP | LARGE | {"train_ids": 400, "test_ids": 20, "per_id": 9},
    },
    "pedestrians_many": {
        "smoke": MARKET | TINY | {"train_ids": 8, "per_id": 40, "spread": 0.1},
        "small": MARKET | LARGE | OTHERS | {"train_ids": 16, "per_id": 140, "spread": 0.05, "seen": 4},
    },
}
SIZES["msmt17_v2"] = SIZES["msmt17_v1"]
KINDS = tuple(SIZES)
WORLDS = {name: i for i, name in enumerate(KINDS)} | {"msmt17_v2": KINDS.index("msmt17_v1")}


@dataclass(frozen=True)
class Shot:
    """One picture to be rendered; `who` is -1 (junk), 0 (distractor) or a number from 1."""

    part: str
    who: int
    camera: int
    number: int


def _refuse_odd(recipe: Recipe) -> None:
    if recipe.seen > recipe.cameras:
        raise PapersError(f"seen {recipe.seen} is more than cameras {recipe.cameras}; lower seen")
    for setting in ("per_id", "per_test_id"):
        per_id = getattr(recipe, setting)
        if per_id * (1 - recipe.spread) < 2 * recipe.seen:
            raise PapersError(
                f"{setting} {per_id} leaves no two pictures for each of {recipe.seen} cameras; raise it"
            )


def draw(name: str, folder: Path, recipe: Recipe) -> dict[str, Any]:
    """Write the pictures and the lists of `recipe`; returns counts, the gallery's with distractors and junk.

    Raises:
        PapersError: settings that do not go together.
    """
    _refuse_odd(recipe)
    shots = plan(name, recipe)
    files = _files(name, shots, recipe)
    sides = dict(zip((TRAIN, QUERY, GALLERY), LAYOUTS[name].folders, strict=True))
    paths = [folder / sides[shot.part] / file for shot, file in zip(shots, files, strict=True)]
    for directory in {path.parent for path in paths}:
        directory.mkdir(parents=True, exist_ok=True)
    if LAYOUTS[name].kind == "msmt":
        _write_lists(folder, shots, files)
    _render(name, recipe, shots, paths)
    counts = {part: sum(shot.part == part for shot in shots) for part in (TRAIN, QUERY, GALLERY)}
    asked = ("train_ids", "test_ids", "distractors", "junk")
    return {"counts": counts | {key: getattr(recipe, key) for key in asked}}


def plan(name: str, recipe: Recipe) -> list[Shot]:
    """Every picture: training identities are 1..T, those of the test T+1..., then distractors, junk."""
    rng = np.random.default_rng([recipe.seed, WORLDS[name], 0])
    shots: list[Shot] = []
    for who in range(1, recipe.train_ids + recipe.test_ids + 1):
        for camera, count in zip(*_seen(who, recipe, rng), strict=True):
            first = TRAIN if who <= recipe.train_ids else QUERY
            later = TRAIN if who <= recipe.train_ids else GALLERY
            shots += [Shot(first if i == 0 else later, who, int(camera), i) for i in range(count)]
    for who, count in ((DISTRACTOR, recipe.distractors), (JUNK, recipe.junk)):
        cameras = rng.integers(recipe.cameras, size=count)
        shots += [Shot(GALLERY, who, int(camera), i) for i, camera in enumerate(cameras)]
    return shots


def _seen(who: int, recipe: Recipe, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The cameras that see an identity, and the pictures of each, two at least.

    One of them goes round with the identity, so that every camera sees somebody.
    """
    per_id = recipe.per_id if who <= recipe.train_ids else recipe.per_test_id
    most = min(recipe.seen + 2, recipe.cameras, int(per_id * (1 - recipe.spread)) // 2)
    number = int(rng.integers(recipe.seen, most + 1))
    others = rng.permutation(np.setdiff1d(np.arange(recipe.cameras), who % recipe.cameras))
    cameras = np.sort(np.append(others[: number - 1], who % recipe.cameras))
    images = round(per_id * (1 + recipe.spread * rng.uniform(-1, 1)))
    shares = rng.dirichlet(np.full(number, 4.0))
    return cameras, 2 + rng.multinomial(max(0, images - 2 * number), shares)


def _render(name: str, recipe: Recipe, shots: list[Shot], paths: list[Path]) -> None:
    world = WORLDS[name]
    look = Look(recipe.gap, recipe.occ, recipe.clutter, recipe.jit, recipe.lum)
    cameras = network(recipe.pixels, look, recipe.cameras, np.random.default_rng([recipe.seed, world, 1]))
    for shot, path in shown(list(zip(shots, paths, strict=True)), len(shots), "rendering"):
        path.write_bytes(jpeg(_picture(shot, cameras[shot.camera], [recipe.seed, world], name)))


def _picture(shot: Shot, camera: Camera, world: list[int], name: str) -> Image.Image:
    if shot.who == JUNK:
        return backdrop(camera, np.random.default_rng([*world, 2, shot.number]))
    if shot.who == DISTRACTOR:
        rng = np.random.default_rng([*world, 3, shot.number])
        return render(person(rng), camera, camera.passage(rng), rng)
    who = person(np.random.default_rng([*world, 4, shot.who]))
    passage = camera.passage(np.random.default_rng([*world, 5, shot.who, shot.camera]))
    rng = np.random.default_rng([*world, 6, shot.who, shot.camera, shot.number])
    return render(who, camera, passage, rng, masked=name == "msmt17_v2")


def _numbers(recipe: Recipe, name: str) -> NDArray[np.int64]:
    """The number in the file name of each identity, from 1, training and test mixed; 0 stays 0."""
    rng = np.random.default_rng([recipe.seed, WORLDS[name], 7])
    count = recipe.train_ids + recipe.test_ids
    return np.append(0, 1 + rng.permutation(count))


def _market(shots: list[Shot], numbers: NDArray[np.int64]) -> Iterator[str]:
    """`0002_c1s1_000451_03.jpg`: identity, camera and sequence, frame, box (0 in a query)."""
    for i, shot in enumerate(shots):
        who = f"{numbers[shot.who]:04d}" if shot.who >= 0 else "-1"
        box = 0 if shot.part == QUERY else 1 + shot.number % 9
        yield f"{who}_c{shot.camera + 1}s{1 + shot.who % 6}_{25 * i + 26:06d}_{box:02d}.jpg"


def _duke(shots: list[Shot], numbers: NDArray[np.int64]) -> Iterator[str]:
    """`0001_c2_f0046182.jpg`: identity, camera, frame; a distractor is an identity without query."""
    for i, shot in enumerate(shots):
        who = numbers[shot.who] if shot.who > 0 else len(numbers) + shot.number
        yield f"{who:04d}_c{shot.camera + 1}_f{44_000 + 60 * i:07d}.jpg"


def _msmt(shots: list[Shot], first: int) -> Iterator[str]:
    """`0000/0000_045_12_0303morning_0006_2.jpg`: identity, running number, camera, time, frame, box.

    Identities start at 0 in training and again, with number `first`, in the test.
    """
    seen = Counter[int]()
    for i, shot in enumerate(shots):
        pid = shot.who - 1 if shot.part == TRAIN else shot.who - first
        time = ("0303morning", "0113noon", "0302afternoon")[(shot.who + shot.camera) % 3]
        where = f"{seen[shot.who]:03d}_{shot.camera + 1:02d}_{time}_{i % 10_000:04d}_0{'_ex' * (i % 50 == 0)}"
        seen[shot.who] += 1
        yield f"{pid:04d}/{pid:04d}_{where}.jpg"


def _write_lists(folder: Path, shots: list[Shot], files: list[str]) -> None:
    """MSMT17's four lists; `list_val` has the last picture of every other training identity."""
    lists: dict[str, list[str]] = {"train": [], "val": [], QUERY: [], GALLERY: []}
    last = {shot.who: i for i, shot in enumerate(shots) if shot.part == TRAIN}
    for i, (shot, file) in enumerate(zip(shots, files, strict=True)):
        kind = "val" if last.get(shot.who) == i and shot.who % 2 else shot.part
        lists[kind].append(f"{file} {int(file[:4])}\n")
    for kind, lines in lists.items():
        (folder / f"list_{kind}.txt").write_text("".join(lines), encoding="utf-8")


def _files(name: str, shots: list[Shot], recipe: Recipe) -> list[str]:
    """The name of each picture's file, with MSMT17 below a folder of the identity."""
    kind = LAYOUTS[name].kind
    if kind == "msmt":
        return list(_msmt(shots, recipe.train_ids + 1))
    return list((_duke if kind == "duke" else _market)(shots, _numbers(recipe, name)))


STAND_INS = {
    name: StandIn(name, "pedestrians 2", Recipe, sizes, partial(draw, name)) for name, sizes in SIZES.items()
}
