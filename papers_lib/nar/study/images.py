"""Images as a run sees them, and drawn faces; stand-ins where no `data_root` is given, as none ships."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from papers_lib.datasets import classification, faces
from papers_lib.exhibits.figure import Figure
from papers_lib.exhibits.pictures import Picture, pictures
from papers_lib.nar.images import augmented
from papers_lib.nar.study import FACE_SETS, STUDY, Settings
from papers_lib.settings import data_root

SIDE = 0.43  # inches of an image
CLASSES = 7  # shown
LAST = "cropped and\nmirrored"  # row, with the names of the classes


def strip(settings: Settings) -> Figure:
    """A training image of some classes: as it is, at the side that the profile trains on, and augmented.

    Raises:
        PapersError: no such data set under `data_root`, or no stand-in: `make data` makes it.
    """
    given = bool(settings.data_root) and settings.dataset not in FACE_SETS  # of which no image is shown
    name = settings.dataset if given and settings.dataset else "cifar10"
    root = Path(settings.data_root) if given else data_root() / "standin"
    source = classification.load(root, name)
    first = [int(np.flatnonzero(source.train.labels == label)[0]) for label in range(CLASSES)]
    images = classification.load_images(source.train)[first]  # [n, H, W, 3]
    views = {f"{images.shape[1]} pixels": images}
    if side := STUDY.sizes[settings.profile].settings.get("image_size"):
        views[f"{side} pixels"] = classification.load_images(source.train, side)[first]
    views[LAST] = augmented(torch.tensor(images), torch.Generator().manual_seed(0)).numpy()
    rows = {
        view: [Picture(x, f"train {i}") for x, i in zip(views[view], first, strict=True)] for view in views
    }
    rows[LAST] = [
        picture._replace(caption=name.replace("_", "\n", 1).replace("_", " "))
        for picture, name in zip(rows[LAST], source.classes[:CLASSES], strict=True)
    ]
    said = ", ".join(" ".join(view.split()) for view in rows)
    badge = "rendered stand-ins, not photographs: give data_root to see yours" if source.stand_in else ""
    title = f"{source.title}: an image per class"
    shown = pictures("strip", title, f"{CLASSES} images in {len(rows)} rows: {said}.", rows, badge, side=SIDE)
    return replace(shown, colours=32)


def drawn_faces(identities: int = 1, images: int = 4, pairs: int = 1) -> Figure:
    """Rendered faces: images of some identities, and pairs of one person or of two.

    Raises:
        PapersError: no stand-in: `make data` makes it.
    """
    source = faces.load(data_root() / "standin", "faces_emore")
    assert source.train is not None
    rows: dict[str, list[Picture]] = {}
    for identity in range(identities):
        found = np.flatnonzero(source.train.labels == identity)[:images].tolist()
        faces_of = zip(source.train.pixels(found, 56), found, strict=True)
        rows[f"identity {identity + 1}"] = [Picture(image, f"train {i}") for image, i in faces_of]
    test = source.tests["lfw"]
    pixels = faces.load_images(test, 56)
    for same, label, colour in ((True, "one person", "#009E73"), (False, "two people", "#D55E00")):
        rows[label] = [
            Picture(pixels[i], f"lfw {i}", f"pair {number}", colour)
            for number, pair in enumerate(np.flatnonzero(test.same == same)[:pairs], 1)
            for i in (test.first[pair], test.second[pair])
        ]
    shown = pictures(
        "drawn_faces",
        "Drawn faces to train on, and pairs to verify",
        "Rendered faces: a row per identity, then pairs of one person, in green, and of two, in orange.",
        rows,
        "rendered stand-ins, not photographs",
        side=SIDE,
    )
    return replace(shown, colours=32)
