"""Faces: check of record packs, class folders and LFW, and stand-ins of drawn people in each layout.

Test people are never those of the training side. Pairs of `lfw` are seen from the front; in `cfp_fp` the
second image is turned aside; in `agedb_30` it is years later.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field

from data_prep.face_drawings import person, picture
from data_prep.objects import jpeg
from data_prep.pictures import fault, faults
from data_prep.progress import shown
from data_prep.sets import DataSet, Report
from data_prep.standins import StandIn
from papers_lib.datasets.face_layouts import FOLDS, PAIRS, SETS, Survey, survey
from papers_lib.datasets.face_records import (
    FIRST,
    HEAD,
    LAST,
    LENGTH_BITS,
    MAGIC,
    MIDDLE,
    WHOLE,
    Pack,
    read_list,
)
from papers_lib.errors import PapersError
from papers_lib.settings import Frozen

TRAIN = "train"
FRONT = 0.4  # radians to either side


class View(NamedTuple):
    """How the second image of a pair is drawn."""

    yaw: float = FRONT
    age: float = 0.0


TESTS: dict[str, View] = {"lfw": View(), "cfp_fp": View(yaw=1.1), "agedb_30": View(age=0.9)}
WORLDS = {name: i for i, name in enumerate((TRAIN, *TESTS))}
OF: dict[str, Sequence[str]] = {"faces_emore": tuple(TESTS), "faces_own": ("lfw",), "lfw": ("lfw",)}


class Recipe(Frozen):
    """What is drawn: `shots` squares of `pixels` of each of the training `identities`, and the pairs.

    Each of ten folds has `pairs` of one person and as many of two.
    """

    seed: int = Field(0, ge=0)
    identities: int = Field(32, ge=2)
    shots: int = Field(10, ge=1)
    pairs: int = Field(3, ge=1)
    pixels: int = Field(32, ge=16, le=512)


SIZES: dict[str, dict[str, Any]] = {
    "smoke": {},
    "small": {"identities": 1000, "shots": 20, "pairs": 100, "pixels": 112},
}


# Check


def check(name: str, root: Path, acknowledge_withdrawn: bool = False) -> Report:
    """Hold records, folders, lists, pairs and counts against each other, then open every image.

    Raises:
        PapersError: there is no such data set under `root`, or it is withdrawn and not acknowledged.
    """
    found = survey(root, name, acknowledge_withdrawn)
    files = [found.base / file for file in sorted(found.sizes) if not file.endswith((".rec", ".bin"))]
    problems = [*found.problems, *faults(files), *_broken_pairs(found)]
    if found.pack is not None:
        problems += [*_broken_records(found.pack), *_unlike_list(found.pack)]
    return Report(_summary(found), tuple(problems), tuple(found.notes))


def _summary(found: Survey) -> str:
    kind = " (stand-in)" if found.stand_in else ""
    pairs = ", ".join(f"{len(test):,} pairs {name}" for name, test in found.tests.items())
    people = f"{found.images:,} images of {found.identities:,} identities"
    return f"{found.name}{kind}: {people}, {pairs or 'no pairs'}"


def _broken_pairs(found: Survey) -> Iterator[str]:
    for name, test in found.tests.items():
        for number, image in enumerate(test.images):
            wrong = (
                fault(image, f"{found.base / name}.bin, image {number}") if isinstance(image, bytes) else ""
            )
            if wrong:
                yield wrong


def _broken_records(pack: Pack) -> Iterator[str]:
    """Open every image of a pack, and hold its label against those of its identity."""
    first = np.unique(pack.labels, return_index=True)[1]
    own = [pack.file.label(int(pack.offsets[i])) for i in first]

    def wrong(i: int) -> str:
        try:
            record = pack.file.record(int(pack.offsets[i]))
        except PapersError as error:
            return str(error)
        where = f"{pack.file.path}, image {i}"
        if int(record.labels[0]) != own[pack.labels[i]]:
            of = own[pack.labels[i]]
            return f"{where} has label {record.labels[0]:g} among those of {of}; fetch the pack again"
        return fault(record.image, where)

    with ThreadPoolExecutor(2) as pool:
        yield from filter(None, shown(pool.map(wrong, range(len(pack))), len(pack), "opening images"))


def _unlike_list(pack: Pack) -> Iterator[str]:
    """Where `train.lst` is there and tells of other images."""
    path = pack.file.path.with_suffix(".lst")
    if not path.is_file():
        return
    try:
        _, labels = read_list(path)
    except PapersError as error:
        yield str(error)
        return
    if len(labels) != len(pack):
        yield f"{path} has {len(labels)} images, the records {len(pack)}; take both from one source"
    elif (np.unique(labels, return_inverse=True)[1] != _ranked(pack)).any():
        yield f"{path} has other identities than the records; take both from one source"


def _ranked(pack: Pack) -> Any:
    """The labels as the records have them, counted from 0 in their order."""
    first = np.unique(pack.labels, return_index=True)[1]
    own = np.array([pack.file.label(int(pack.offsets[i])) for i in first])
    return np.unique(own, return_inverse=True)[1][pack.labels]


# Make


def draw(name: str, folder: Path, recipe: Recipe) -> dict[str, Any]:
    """Write the pictures and the pairs of a data set; returns their counts."""
    train = [(i, j) for i in range(recipe.identities) for j in range(recipe.shots)] if name != "lfw" else []
    images = [_shot(recipe, TRAIN, *each) for each in shown(train, len(train), "drawing")]
    if name == "faces_emore":
        write_pack(
            folder, [(label, image) for (label, _), image in zip(train, images, strict=True)], recipe.pixels
        )
        for test in OF[name]:
            _write_bin(folder / f"{test}.bin", recipe, test)
    else:
        for (label, number), image in zip(train, images, strict=True):
            _write(folder / TRAIN / f"{label:05d}" / f"{number + 1:04d}.jpg", image)
        _write_lfw(folder, "lfw" if name == "lfw" else "test", recipe)
    people = _named(recipe) if name == "lfw" else train  # LFW's folders have images of pairs alone
    pairs = {test if name != "faces_own" else "pairs": 2 * FOLDS * recipe.pairs for test in OF[name]}
    counts = {"images": len(people), "identities": len({who for who, _ in people})}
    return {"counts": counts | {"pairs": pairs}}


def _shot(recipe: Recipe, world: str, who: int, number: int) -> bytes:
    """One picture; the odd ones of a test are drawn by its `View`."""
    view = TESTS[world] if number % 2 and world != TRAIN else View()
    rng = np.random.default_rng([recipe.seed, 1, WORLDS[world], who, number])
    someone = person(np.random.default_rng([recipe.seed, 0, WORLDS[world], who]))
    return jpeg(picture(someone, recipe.pixels, rng, view.yaw, view.age))


def _pairs(recipe: Recipe) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Two (person, picture) each: in every fold those of one person, then those of neighbours."""
    for fold in range(FOLDS):
        start = fold * (recipe.pairs + 1)  # no person is in two folds
        for who in range(start, start + recipe.pairs):
            yield (who, 0), (who, 1)
        for who in range(start, start + recipe.pairs):
            yield (who, 2), (who + 1, 3)


def _named(recipe: Recipe) -> list[tuple[int, int]]:
    return sorted({image for pair in _pairs(recipe) for image in pair})


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _write_lfw(folder: Path, inner: str, recipe: Recipe) -> None:
    """Folders by name, and `pairs.txt`; nobody's names are numbers."""
    for who, number in _named(recipe):
        name = f"Nobody_{who:04d}"
        _write(folder / inner / name / f"{name}_{number + 1:04d}.jpg", _shot(recipe, "lfw", who, number))
    lines = [f"{FOLDS}\t{recipe.pairs}"]
    for (first, i), (second, j) in _pairs(recipe):
        other = "" if first == second else f"\tNobody_{second:04d}"
        lines.append(f"Nobody_{first:04d}\t{i + 1}{other}\t{j + 1}")
    (folder / PAIRS).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_bin(path: Path, recipe: Recipe, test: str) -> None:
    pairs = list(_pairs(recipe))
    images = [_shot(recipe, test, *image) for pair in pairs for image in pair]
    path.write_bytes(pickle.dumps((images, [a[0] == b[0] for a, b in pairs]), protocol=4))


# Records


def write_pack(folder: Path, images: Sequence[tuple[int, bytes]], pixels: int) -> None:
    """`train.rec`, `.idx`, `.lst` and `property` of labelled image files, sorted by label from 0.

    As insightface's face2rec2.py: images first, each with the labels (identity, aligned), then the header,
    then the identities.
    """
    labels = [label for label, _ in images]
    count, stop = max(labels) + 1, len(images) + 1
    records = [(key, _record((label, 1.0), key, image)) for key, (label, image) in enumerate(images, 1)]
    records.append((0, _record((stop, stop + count), 0)))
    starts = np.searchsorted(labels, range(count + 1)) + 1
    records += [(stop + i, _record(tuple(starts[i : i + 2]), stop + i)) for i in range(count)]
    offset, index = 0, []
    with (folder / "train.rec").open("wb") as file:
        for key, payload in records:
            index.append(f"{key}\t{offset}\n")
            offset += file.write(framed(payload))
    (folder / "train.idx").write_text("".join(index), encoding="utf-8")
    rows = [f"1\tnobody/{label:05d}/{key:06d}.jpg\t{label}\n" for key, label in enumerate(labels, 1)]
    (folder / "train.lst").write_text("".join(rows), encoding="utf-8")
    (folder / "property").write_text(f"{count},{pixels},{pixels}\n", encoding="utf-8")


def _record(labels: Sequence[float], key: int, image: bytes = b"") -> bytes:
    return HEAD.pack(len(labels), 0.0, key, 0) + struct.pack(f"<{len(labels)}f", *labels) + image


def framed(payload: bytes) -> bytes:
    """A record as it lies in the file: split where the magic word stands on four bytes, and padded."""
    parts, start = [], 0
    for at in range(0, len(payload) - 3, 4):
        if payload[at : at + 4] == MAGIC:
            parts.append(payload[start:at])
            start = at + 4
    parts.append(payload[start:])
    kinds = [WHOLE] if len(parts) == 1 else [FIRST, *[MIDDLE] * (len(parts) - 2), LAST]
    return b"".join(
        MAGIC + struct.pack("<I", kind << LENGTH_BITS | len(part)) + part + bytes(-len(part) % 4)
        for kind, part in zip(kinds, parts, strict=True)
    )


STAND_INS = {name: StandIn(name, "faces 1", Recipe, SIZES, partial(draw, name)) for name in SETS}


def _dataset(name: str) -> DataSet:
    stand_in, look = STAND_INS[name], partial(survey, name=name)
    data = DataSet(name, partial(check, name), stand_in.make, stand_in.made, survey=look)
    return data.withdrawn() if name == "faces_emore" else data


DATASETS = tuple(_dataset(name) for name in SETS)
