"""CIFAR-10, CIFAR-100, Imagenette and ImageNet: check, and the stand-ins."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from data_prep.classification_standin import STAND_INS
from data_prep.pictures import faults
from data_prep.sets import DataSet, Report
from papers_lib.datasets.cifar_files import BATCHES
from papers_lib.datasets.classification_layouts import SETS, Survey, survey

MD5 = {
    "cifar10": {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
        "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    },
    "cifar100": {
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
        "meta": "7973b15100ade9c7d40fb424638fde48",
    },
}
"""Checksums of the official pickles, as torchvision has them."""

ARCHIVES: dict[str, tuple[tuple[str, ...], ...]] = {
    "cifar10": (
        ("cifar-10-python.tar.gz",),
        ("cifar-10-binary.tar.gz",),
        ("cifar10_jpeg_train.zip", "cifar10_jpeg_test.zip"),
    ),
    "cifar100": (("cifar-100-python.tar.gz",), ("cifar-100-binary.tar.gz",)),
    "imagenette": (("imagenette2-160.tgz",), ("imagenette2-320.tgz",), ("imagenette2.tgz",)),
}
KINDS = {
    "python": "official pickles",
    "binary": "official binary files",
    "folders": "class folders",
    "list": "class folders, test labels in a list",
}


def check(name: str, root: Path) -> Report:
    """Hold labels, folders and counts against each other, then open every image.

    Raises:
        PapersError: there is no such data set under `root`.
    """
    found = survey(root, name)
    files = [found.base / file for file in sorted(found.sizes)]
    problems = (*found.problems, *faults(files))
    return Report(_summary(found), problems, (*found.notes, *_unofficial(found)))


def _summary(found: Survey) -> str:
    train, test = (len(found.labels[side]) for side in ("train", "test"))
    kind = f"{found.name}, stand-in" if found.stand_in else f"{found.title}, {KINDS[found.layout]}"
    return f"{kind}: {train:,} + {test:,} images, {len(found.classes)} classes"


def _unofficial(found: Survey) -> Iterator[str]:
    """Official pickles that are not, byte by byte."""
    if found.layout != "python" or found.problems:
        return
    for file in BATCHES[found.name, "python"].files:
        with (found.base / file).open("rb") as content:
            digest = hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False))
        if digest.hexdigest() != MD5[found.name][file]:
            yield f"{found.base / file} is not the official file, by its MD5; say so with a result"


def _dataset(name: str) -> DataSet:
    stand_in, look = STAND_INS[name], partial(survey, name=name)
    archives = ARCHIVES.get(name, ())
    return DataSet(name, partial(check, name), stand_in.make, stand_in.made, survey=look, archives=archives)


DATASETS = tuple(_dataset(name) for name in SETS)
