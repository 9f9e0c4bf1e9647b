"""Pairs to verify, of any folder of people: balanced, seeded, in ten folds that share nobody."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np

from papers_lib.datasets.face_layouts import FOLDS, PAIRS, Survey
from papers_lib.errors import PapersError

PER_PERSON = 50  # images of a person that are drawn from: more would make one person of many
FEWEST = 2  # people in a fold

Images = list[str]  # of one person, as paths from the list's folder
Pair = tuple[str, str]


class Made(NamedTuple):
    """What was written: pairs of either kind in a fold, people, and whether the folds share nobody."""

    file: Path
    pairs: int
    people: int
    apart: bool


def make_pairs(people: Path, file: Path | None = None, count: int = 300, seed: int = 0) -> Made:
    """Write a list of pairs of the images in `people`, a folder per person.

    Args:
        people: the folder of folders; what is no image is passed over.
        file: the list, in `people` or a folder around it; by default `people/pairs.txt`. A line has two
            paths from its folder and 1 for one person or 0 for two.
        count: pairs of one person in each of ten folds, and as many of two; fewer where there are not enough.
        seed: another seed, other pairs.

    Raises:
        PapersError: no two people with images or nobody with two, a list that is there already, one that lies
            apart from the images, or names that no list can hold.
    """
    file = people / PAIRS if file is None else file
    if not people.is_dir() or not people.resolve().is_relative_to(file.parent.resolve()):
        raise PapersError(f"{people} is no folder at or below {file.parent}; give a folder per person there")
    if file.exists():
        raise PapersError(f"{file} is there already; remove it, or name another FILE")
    rng = np.random.default_rng(seed)
    found = _people(people, file.parent, rng)
    apart = len(found) >= FEWEST * FOLDS
    folds = [found[k::FOLDS] for k in range(FOLDS)] if apart else [found]
    most = count if apart else count * FOLDS
    of_one = [_of_one(fold, most, rng) for fold in folds]
    # more of two than there are of one would be left out
    of_two = [_of_two(fold, len(pairs), rng) for fold, pairs in zip(folds, of_one, strict=True)]
    if not apart:  # too few people to part: each fold has pairs of all of them
        of_one, of_two = ([pairs[0][k::FOLDS] for k in range(FOLDS)] for pairs in (of_one, of_two))
    half = min(count, *map(len, of_one), *map(len, of_two))
    if half < 1:
        raise PapersError(
            f"{people} has too few images for {FOLDS} folds with a pair of one person and one of two in "
            "each; add people with two images or more"
        )
    lines = [f"{FOLDS}\t{half}"]
    for same, other in zip(of_one, of_two, strict=True):
        lines += [f"{a}\t{b}\t1" for a, b in same[:half]] + [f"{a}\t{b}\t0" for a, b in other[:half]]
    try:
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except OSError as error:
        raise PapersError(f"cannot write {file} ({error.strerror}); name another FILE") from None
    return Made(file, half, len(found), apart)


def _people(folder: Path, base: Path, rng: np.random.Generator) -> list[Images]:
    """The people of a folder in an order of chance, those with two images first in every fold."""
    survey = Survey("faces_own", folder, folder)
    by_name = {name: files for name, files in survey.images_by_folder("", empty="").items() if files}
    if survey.problems:
        raise PapersError(survey.problems[0])
    if len(by_name) < FEWEST:
        raise PapersError(
            f"{folder} has {len(by_name)} folders with images; give one per person, two or more"
        )
    inner = folder.resolve().relative_to(base.resolve())
    people = [[(inner / file).as_posix() for file in by_name[name]] for name in sorted(by_name)]
    people = [people[i] for i in rng.permutation(len(people))]
    people = [[files[i] for i in rng.permutation(len(files))[:PER_PERSON]] for files in people]
    return sorted(people, key=lambda files: len(files) < FEWEST)  # stable: dealt to all folds alike


def _of_one(people: list[Images], most: int, rng: np.random.Generator) -> list[Pair]:
    """Up to so many pairs of one person, no two alike: a pair of each person in turn."""
    waiting = [list(combinations(files, 2)) for files in people[:most]]
    for pairs in waiting:
        rng.shuffle(pairs)
    rounds = max(map(len, waiting), default=0)
    return [pairs[k] for k in range(rounds) for pairs in waiting if k < len(pairs)][:most]


def _of_two(people: list[Images], most: int, rng: np.random.Generator) -> list[Pair]:
    """Up to so many pairs of two people, no two alike."""
    found: dict[Pair, None] = {}
    for _ in range(PER_PERSON * most):  # where hardly any are left, chance gives up
        if len(found) >= most:
            break
        i = int(rng.integers(len(people)))
        j = (i + 1 + int(rng.integers(len(people) - 1))) % len(people)  # another one
        a, b = sorted(people[k][int(rng.integers(len(people[k])))] for k in (i, j))
        found[a, b] = None
    return list(found)
