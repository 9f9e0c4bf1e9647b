"""Any data set by its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from papers_lib.errors import PapersError


def load(root: Path, name: str, acknowledge_withdrawn: bool = True) -> Any:
    """What the reader of `name` says of the data under `root`, with its `fingerprint` and `stand_in`.

    A withdrawn set is read by default: its holder has acknowledged that where the run was planned.

    Raises:
        PapersError: an unknown name, nothing there, or data that is not whole, or is withdrawn.
    """
    from papers_lib.datasets import (
        cars196,
        cars196_layouts,
        classification,
        coco,
        faces,
        features,
        folder,
        reid,
        sysu30k,
        voc,
    )

    if name in cars196_layouts.COUNTS:
        return cars196.load(root, name)
    if name in classification.NAMES:
        return classification.load(root, name)
    if name in reid.NAMES:
        return reid.load(root, name, acknowledge_withdrawn)
    if name in faces.NAMES:
        return faces.load(root, name, acknowledge_withdrawn)
    if name in features.NAMES:
        return features.load(root, name)
    alone: dict[str, Callable[[Path], Any]] = {
        coco.NAME: coco.load,
        voc.NAME: voc.load,
        sysu30k.NAME: sysu30k.load,
        folder.NAME: folder.load,
    }
    if name not in alone:
        raise PapersError(f"unknown data set '{name}': `python -m data_prep list` names all")
    return alone[name](root)
