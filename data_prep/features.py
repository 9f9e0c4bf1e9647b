"""Make the sets of frozen features that the library ships, from images that one has.

`python -m data_prep make cars196_half_features ROOT -p images DATA`, where DATA holds the images and the
backbone's weights, each as `import` brings them. Kernels differ between processors in the last bits, so
that a set that is made again differs from the shipped one in few codes, by one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from data_prep.pictures import shown
from data_prep.sets import DataSet, StandIn
from papers_lib.datasets import cars196, classification, features, reid, weights
from papers_lib.datasets.images import load_images
from papers_lib.files import resolve
from papers_lib.settings import Frozen, data_root

CHUNK = 128  # images at once


class Recipe(Frozen):
    """What a set of features is made of."""

    seed: int = Field(0, ge=0)
    images: str = ""  # where images and weights lie; empty: where data lies
    backbone: str = "efficientnet_lite0"
    size: int = Field(128, ge=32, le=512)  # images are squared to this side
    components: int = Field(384, ge=1)


class FeatureSet(StandIn):
    """Features are no stand-in: nothing says so beside them, and none is taken for made already."""

    def make(self, folder: Path, size: str, options: dict[str, str]) -> None:
        """Compute into an empty `folder`."""
        self.draw(folder, self.recipe(size, options))

    def made(self, folder: Path, size: str, options: dict[str, str]) -> bool:
        """Never known: a file says its digest, and not its recipe."""
        return False


class Found(NamedTuple):
    """What `check` looks at: a set of features has no image."""

    base: Path
    set: features.Features
    sizes: Mapping[str, int] = {}
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def _squares(files: Sequence[Path], size: int) -> Any:
    """Images squashed to squares, uint8 [N, 3, size, size]."""
    import torch

    return torch.from_numpy(load_images(files, (size, size))).permute(0, 3, 1, 2)


def embed(pixels: Any, recipe: Recipe) -> NDArray[np.float32]:
    """The frozen backbone's features [N, D] of images uint8 [N, 3, S, S]."""
    import torch

    from papers_lib import checkpoint
    from papers_lib.networks import backbones

    place = weights.path(resolve(recipe.images) if recipe.images else data_root(), recipe.backbone)
    net, _ = backbones.build(recipe.backbone, checkpoint.load_weights(place))
    net.eval()
    mean = torch.tensor(backbones.MEAN)[:, None, None] * 255
    sd = torch.tensor(backbones.SD)[:, None, None] * 255
    parts = []
    with torch.inference_mode():
        for part in shown(pixels.split(CHUNK), len(pixels) // CHUNK + 1, "embedding"):
            images = ((part.float() - mean) / sd).contiguous(memory_format=torch.channels_last)
            parts.append(net(images))  # [≤ CHUNK, D]
    found: NDArray[np.float32] = torch.cat(parts).numpy()
    return found


def _cars(folder: Path, recipe: Recipe) -> dict[str, Any]:
    place = resolve(recipe.images) if recipe.images else data_root()
    cars = cars196.load(place, "cars196_half")
    labels = {"fine": cars.fine, "train": cars.train}
    for coarse_map in ("type22", "body9"):
        labels[coarse_map] = cars196.load(place, "cars196_half", coarse_map).coarse
    values = embed(_squares(cars.files, recipe.size), recipe)
    # the components are those of the training classes: the test classes are never looked at
    values = features.principal(values, cars.train, recipe.components)
    features.save(folder / features.FILE, values, {k: v.astype(np.uint8) for k, v in labels.items()})
    return {}


def _cars_cameras(folder: Path, recipe: Recipe) -> dict[str, Any]:
    network = reid.load(resolve(recipe.images) if recipe.images else data_root(), "reid_from_images")
    sides = (network.train, network.query, network.gallery)  # labelled 0, 1 and 2
    side = np.repeat(np.arange(3), [len(part.files) for part in sides])
    pixels = _squares([file for part in sides for file in part.files], recipe.size)
    values = features.principal(embed(pixels, recipe), side == 0, recipe.components)
    labels: dict[str, NDArray[Any]] = {
        "side": side.astype(np.uint8),
        "identity": np.concatenate([part.ids for part in sides]).astype(np.uint16),
        "camera": np.concatenate([part.cameras for part in sides]).astype(np.uint8),
    }
    features.save(folder / features.FILE, values, labels)
    return {}


VIEWS = 9  # random ones of each training image
Side = tuple[Any, NDArray[np.int64]]  # images uint8 [N, 3, S, S] and their classes [N]


def _first(labels: NDArray[np.int64], start: int, count: int) -> NDArray[np.int64]:
    """Of each class, so many images from number `start` on."""
    places = (np.flatnonzero(labels == c)[start : start + count] for c in np.unique(labels))
    return np.concatenate(list(places))


def _cifar_views(folder: Path, recipe: Recipe) -> dict[str, Any]:
    import torch

    cifar = classification.load(resolve(recipe.images) if recipe.images else data_root(), "cifar10")
    sides = []
    for split, count in ((cifar.train, 500), (cifar.test, 300)):
        rows = _first(split.labels, 0, count)
        pixels = torch.from_numpy(classification.load_images(split)[rows]).permute(0, 3, 1, 2)
        sides.append((pixels, split.labels[rows]))
    return _views(folder, recipe, *sides)


def _cars_views(folder: Path, recipe: Recipe) -> dict[str, Any]:
    cars = cars196.load(resolve(recipe.images) if recipe.images else data_root(), "cars196_half")
    sides = []
    for start, count in ((0, 5), (5, 10)):  # of all 196 models: what is trained on, and other images
        rows = _first(cars.fine, start, count)
        # larger than a view, of which a random crop is enlarged
        sides.append((_squares([cars.files[row] for row in rows], 160), cars.fine[rows]))
    return _views(folder, recipe, *sides)


def _views(folder: Path, recipe: Recipe, trained: Side, tested: Side) -> dict[str, Any]:
    """Features of images as they are, of random views of those of `trained`, and of `tested`."""
    import torch
    from torchvision.transforms import v2

    (train, fine), (test, fine_test) = trained, tested
    # SimCLR's views at half strength and without blur, as lightly's benchmark on CIFAR-10 has them
    view = v2.Compose(
        [
            v2.RandomResizedCrop(recipe.size, (0.08, 1.0)),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8),
            v2.RandomGrayscale(0.2),
        ]
    )
    torch.manual_seed(recipe.seed)
    plain = v2.Resize((recipe.size, recipe.size))
    pictures = [plain(train), *(torch.stack([view(x) for x in train]) for _ in range(VIEWS)), plain(test)]
    values = np.concatenate([embed(part, recipe) for part in pictures])  # [(1 + views) · N + M, D]
    number = np.repeat(np.arange(VIEWS + 1), len(train))  # 0: as it is
    labels = {
        "fine": np.concatenate([np.tile(fine, VIEWS + 1), fine_test]),
        "view": np.concatenate([number, 0 * fine_test]),
        "test": np.repeat([0, 1], [len(number), len(test)]),
    }
    fitted = labels["test"] == 0  # the test images are never looked at
    values = features.principal(values, fitted, recipe.components)
    values /= values[fitted].std(0)  # every component counts alike
    features.save(folder / features.FILE, values, {k: v.astype(np.uint8) for k, v in labels.items()})
    return {}


def _survey(root: Path, name: str) -> Found:
    base = root.parent if root.name == name else root
    found = features.load(base, name)
    return Found(base / name, found)


def _summary(found: Found) -> str:
    shape = " × ".join(f"{n:,}" for n in found.set.values.shape)
    return f"{found.set.name}, {shape} features, SHA-256 {found.set.fingerprint[:16]}"


SETS: dict[str, tuple[Callable[[Path, Recipe], dict[str, Any]], dict[str, Any]]] = {
    "cars196_half_features": (_cars, {}),
    "cars_cameras_features": (_cars_cameras, {"size": 96}),
    "cars_views_features": (_cars_views, {"size": 96, "components": 64}),
    "cifar10_views_features": (_cifar_views, {"size": 64, "components": 64}),
}
DATASETS = tuple(
    DataSet(
        name,
        partial(_survey, name=name),
        _summary,
        FeatureSet(name, "features 1", Recipe, {"smoke": settings}, maker),
    )
    for name, (maker, settings) in SETS.items()
)
