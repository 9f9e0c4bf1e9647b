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
from typing import Any

import numpy as np
from pydantic import Field

from data_prep.drawing import jpeg, write
from data_prep.face_drawings import Person, render
from data_prep.pictures import fault, shown
from data_prep.sets import DataSet, StandIn
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

# -- check --


def _summary(found: Survey) -> str:
    kind = " (stand-in)" if found.stand_in else ""
    pairs = ", ".join(f"{len(test):,} pairs {name}" for name, test in found.tests.items())
    people = f"{found.images:,} images of {found.identities:,} identities"
    return f"{found.name}{kind}: {people}, {pairs or 'no pairs'}"


def _inside_packs(found: Survey, _: list[str]) -> Iterator[str]:
    """Open every image of the pairs and of the records, and hold labels and lists against each other."""
    for name, test in found.tests.items():
        for number, image in enumerate(test.images):
            if isinstance(image, bytes):
                yield from filter(None, [fault(image, f"{found.base / name}.bin, image {number}")])
    if found.pack is None:
        return
    pack = found.pack
    first = np.unique(pack.labels, return_index=True)[1]  # image of each identity
    labels = np.array([pack.file.label(int(pack.offsets[i])) for i in first])  # of each identity

    def wrong(i: int) -> str:
        where, label = f"{pack.file.path}, image {i}", labels[pack.labels[i]]
        try:
            record = pack.file.record(int(pack.offsets[i]))
        except PapersError as error:
            return str(error)
        if int(record.labels[0]) != label:
            return f"{where} has label {record.labels[0]:g} among those of {label}; fetch the pack again"
        return fault(record.image, where)

    with ThreadPoolExecutor(2) as pool:
        yield from filter(None, shown(pool.map(wrong, range(len(pack))), len(pack), "opening images"))
    path = pack.file.path.with_suffix(".lst")
    if path.is_file():
        ranks = np.unique(labels, return_inverse=True)[1][pack.labels]  # identities from 0, by label
        yield from _unlike_list(path, pack, ranks)


def _unlike_list(path: Path, pack: Pack, ranks: Any) -> Iterator[str]:
    try:
        _, labels = read_list(path)
    except PapersError as error:
        yield str(error)
        return
    if len(labels) != len(pack):
        yield f"{path} has {len(labels)} images, the records {len(pack)}; take both from one source"
    elif (np.unique(labels, return_inverse=True)[1] != ranks).any():
        yield f"{path} has other identities than the records; take both from one source"


# -- make --

FRONT = 0.4  # radians to either side
# how the second image of a pair is drawn: yaw, and the years that went by
TESTS = {"lfw": (FRONT, 0.0), "cfp_fp": (1.1, 0.0), "agedb_30": (FRONT, 0.9)}
WORLDS = {name: i for i, name in enumerate(("train", *TESTS))}
OF: dict[str, Sequence[str]] = {"faces_emore": tuple(TESTS), "faces_own": ("lfw",), "lfw": ("lfw",)}


class Recipe(Frozen):
    """What is drawn."""

    seed: int = Field(0, ge=0)
    identities: int = Field(32, ge=2)  # to train on
    shots: int = Field(10, ge=1)  # pictures of each of them
    pairs: int = Field(3, ge=1)  # of one person in each of ten folds, and as many of two
    pixels: int = Field(32, ge=16, le=512)  # of either side


SIZES: dict[str, dict[str, Any]] = {
    "smoke": {},
    "small": {"identities": 1000, "shots": 20, "pairs": 100, "pixels": 112},
}


def draw(name: str, folder: Path, recipe: Recipe) -> dict[str, Any]:
    """Write the pictures and the pairs of a data set; returns their counts."""
    pairs = _pairs(recipe)
    people = [(who, number) for who in range(recipe.identities) for number in range(recipe.shots)]
    if name == "lfw":  # whose folders have images of pairs alone
        people = sorted({image for pair in pairs for image in pair})
        _write_lfw(folder, "lfw", recipe)
    else:
        images = [_shot(recipe, "train", *shot) for shot in shown(people, len(people), "drawing")]
        labelled = [(who, image) for (who, _), image in zip(people, images, strict=True)]
    if name == "faces_emore":
        write_pack(folder, labelled, recipe.pixels)
        for test in TESTS:
            images = [_shot(recipe, test, *image) for pair in pairs for image in pair]
            content = (images, [first[0] == second[0] for first, second in pairs])
            (folder / f"{test}.bin").write_bytes(pickle.dumps(content, protocol=4))
    if name == "faces_own":
        for (who, number), image in zip(people, images, strict=True):
            write(folder / "train" / f"{who:05d}" / f"{number + 1:04d}.jpg", image)
        _write_lfw(folder, "test", recipe)
    tests = ("pairs",) if name == "faces_own" else OF[name]
    counts = {"images": len(people), "identities": len({who for who, _ in people})}
    return {"counts": counts | {"pairs": dict.fromkeys(tests, len(pairs))}}


def _shot(recipe: Recipe, world: str, who: int, number: int) -> bytes:
    """One picture; the odd ones of a test are drawn as `TESTS` says."""
    yaw, age = TESTS[world] if number % 2 and world != "train" else (FRONT, 0.0)
    someone = Person(np.random.default_rng([recipe.seed, 0, WORLDS[world], who]))
    rng = np.random.default_rng([recipe.seed, 1, WORLDS[world], who, number])
    return jpeg(render(someone, recipe.pixels, rng, yaw, age))


def _pairs(recipe: Recipe) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Two (person, picture) each: in every fold those of one person, then those of neighbours."""
    pairs = []
    for fold in range(FOLDS):
        start = fold * (recipe.pairs + 1)  # no person is in two folds
        people = range(start, start + recipe.pairs)
        pairs += [((who, 0), (who, 1)) for who in people]
        pairs += [((who, 2), (who + 1, 3)) for who in people]
    return pairs


def _write_lfw(folder: Path, inner: str, recipe: Recipe) -> None:
    """Folders by name, and `pairs.txt`; nobody's names are numbers."""
    lines, pairs = [f"{FOLDS}\t{recipe.pairs}"], _pairs(recipe)
    for who, number in sorted({image for pair in pairs for image in pair}):
        name = f"Nobody_{who:04d}"
        write(folder / inner / name / f"{name}_{number + 1:04d}.jpg", _shot(recipe, "lfw", who, number))
    for (first, i), (second, j) in pairs:
        other = "" if first == second else f"\tNobody_{second:04d}"
        lines.append(f"Nobody_{first:04d}\t{i + 1}{other}\t{j + 1}")
    (folder / PAIRS).write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_pack(folder: Path, images: Sequence[tuple[int, bytes]], pixels: int) -> None:
    """`train.rec`, `.idx`, `.lst` and `property` of labelled image files, sorted by label from 0.

    As insightface's face2rec2.py: images first, each with the labels (identity, aligned), then the header,
    then the identities.
    """
    labels = [label for label, _ in images]
    count, stop = max(labels) + 1, len(images) + 1
    records = [(key, _record((label, 1.0), key, image)) for key, (label, image) in enumerate(images, 1)]
    records.append((0, _record((stop, stop + count), 0)))  # header: where the identities are
    starts = np.searchsorted(labels, range(count + 1)) + 1  # key of each identity's first image
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
DATASETS = tuple(
    DataSet(
        name,
        partial(survey, name=name),
        _summary,
        STAND_INS[name],
        more_problems=_inside_packs,
        withdrawn=name == "faces_emore",
    )
    for name in SETS
)
