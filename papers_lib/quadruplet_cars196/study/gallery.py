"""Pictures of cars: the two labels, what each selection takes, and what a query finds.

They show photographs where the reader's `data_root` has them, and rendered stand-ins elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from papers_lib import compute
from papers_lib.datasets import cars196, features
from papers_lib.datasets.cars196_layouts import COUNTS
from papers_lib.datasets.images import open_image
from papers_lib.exhibits.explore import explore
from papers_lib.exhibits.figure import Figure
from papers_lib.exhibits.pictures import Picture, pictures
from papers_lib.quadruplet_cars196.embedding import build, embed
from papers_lib.quadruplet_cars196.images import Images
from papers_lib.quadruplet_cars196.selection import Method, select
from papers_lib.quadruplet_cars196.training import Loop
from papers_lib.settings import NotebookSettings, data_root

PIXELS = 40  # longer side of a thumbnail
COLOURS = 16  # of a thumbnail
SIDE, CELL, ANGLES = 64, 8, 8  # of the gradients: image side, side of a cell, directions
LENGTH = (
    19.1  # of their vectors, on average: that of the features that ship, so that one learning rate suits both
)
STEPS = 100  # of the short training
ROLES = {"R": "#000000", "P+": "#0072B2", "P−": "#E69F00", "N": "#D55E00"}  # and the colour of the frame
RELATIONS = {"model": "#0072B2", "type": "#E69F00", "neither": "#999999"}  # what two images share
CLEAR = 14  # among the stand-ins, the reference for which nothing is decided by a hair
METHODS: dict[Method, str] = {"random": "Random", "method_1": "Method 1", "method_2": "Method 2"}


class Cars(NamedTuple):
    """Images with their two labels, and a vector of each, on which the pictures choose."""

    table: cars196.Cars196
    vectors: Tensor  # [N, d]
    fine: Tensor  # [N]
    coarse: Tensor  # [N]
    train: Tensor  # [N] bool: of a training model
    badge: str

    def picture(self, index: int, caption: str = "", colour: str = "") -> Picture:
        """An image, cropped to its car."""
        with open_image(self.table.files[index]) as image:
            car = image.convert("RGB").crop(_box(self.table, index))
            car.thumbnail((PIXELS, PIXELS))
            if self.table.stand_in:  # these pictures are committed: few colours are few bytes
                car = car.quantize(COLOURS).convert("RGB")
        # two folders have the same names
        name = self.table.files[index].relative_to(self.table.root).as_posix()
        return Picture(np.asarray(car), name, caption, colour)

    def type_of(self, index: int) -> str:
        """The word before the year."""
        return self.table.coarse_names[int(self.coarse[index])]

    def model_of(self, index: int) -> str:
        """The model's name without type and year, at most twelve letters of it."""
        short = self.table.class_names[int(self.fine[index])].rpartition(f" {self.type_of(index)} ")[0]
        return short if len(short) <= 12 else f"{short[:11]}…"


def look(settings: NotebookSettings) -> Cars | None:
    """The photographs in the reader's `data_root`, or the stand-ins; None where neither is there.

    Raises:
        PapersError: a `data_root` was given, and no whole data set lies in it.
    """
    root = data_root(settings.data_root)
    root = root if settings.data_root else root / "standin"
    there = [name for name in COUNTS if (root / name).exists()]
    if not there and not settings.data_root:
        return None
    name = settings.dataset if settings.dataset in there else (there or ["cars196"])[0]
    table = cars196.load(root, name)
    # the features that ship are of these very photographs, in this order
    shipped = name == "cars196_half" and not table.stand_in
    vectors = features.load(features.SHIPPED, f"{name}_features").values if shipped else gradients(table)
    fine, coarse, train = (torch.from_numpy(x) for x in (table.fine, table.coarse, table.train))
    badge = "rendered stand-ins, no photographs" if table.stand_in else f"photographs of {name}"
    return Cars(table, torch.from_numpy(vectors), fine, coarse, train, badge)


def gradients(table: cars196.Cars196) -> NDArray[np.float32]:
    """Edges by place and direction [N, d], without any training: what a cheap embedding sees of a car.

    A car is squared, cut into cells, and the strength of its edges summed by cell and direction.
    """
    vectors = []
    for index, file in enumerate(table.files):
        with open_image(file) as image:
            grey = image.convert("L").resize((SIDE, SIDE), box=_box(table, index))
        dy, dx = np.gradient(np.asarray(grey, dtype=np.float64))
        angle = (np.arctan2(dy, dx) / np.pi % 1 * ANGLES).astype(int) % ANGLES  # [S, S]
        edges = np.hypot(dx, dy)[..., None] * np.eye(ANGLES)[angle]  # [S, S, angles]
        cells = SIDE // CELL
        vector = edges.reshape(cells, CELL, cells, CELL, ANGLES).sum((1, 3)).ravel() ** 0.5
        vectors.append(vector / np.linalg.norm(vector))
    every = np.array(vectors)
    centred = every - every[table.train].mean(0)
    scale = LENGTH / float(np.linalg.norm(centred, axis=1).mean())
    return np.asarray(centred * scale, dtype=np.float32)


def _box(table: cars196.Cars196, index: int) -> tuple[int, int, int, int] | None:
    if table.boxes is None:
        return None
    x1, y1, x2, y2 = table.boxes[index].tolist()  # from 1, inclusive
    return x1 - 1, y1 - 1, x2, y2


# The two labels ------------------------------------------------------------------------------------


def strip(cars: Cars | None, types: int = 2, models: int = 2, images: int = 2) -> Figure:
    """A row per type: some images of some of its models, whose names stand below."""
    rows = {}
    if cars is not None:
        of_type = Counter(int(cars.coarse[cars.fine == model][0]) for model in cars.fine[cars.train].unique())
        for kind, _ in of_type.most_common(types):  # those of most models
            shown = [
                index
                for model in cars.fine[cars.train & (cars.coarse == kind)].unique()[:models]
                for index in (cars.fine == model).nonzero()[:images, 0].tolist()
            ]
            rows[cars.table.coarse_names[kind]] = [cars.picture(i, cars.model_of(i)) for i in shown]
    alt = (
        f"Rows of {images} images each of {models} models; a row per type, its name on the left, the model's "
        "name below each image. Images of one model differ in colour, light and background."
    )
    return _figure(cars, "strip", "Two labels: type and model", alt, rows)


# Quadruplets ---------------------------------------------------------------------------------------


def choosing(cars: Cars | None) -> Any:
    """The picture `quadruplets`, of any training model's first image that has a sibling."""
    if cars is None:
        return quadruplets(cars, 0)
    choices = references(cars)
    first = choices[min(CLEAR, len(choices) - 1)][1]

    def draw(reference: int = first) -> Figure:
        return quadruplets(cars, reference)

    return explore(draw, reference=choices)


def references(cars: Cars) -> list[tuple[str, int]]:
    """The first image of every training model that has a sibling: its name, and its place."""
    usable = _choose(cars, cars.train.nonzero()[:, 0].tolist(), "random")[:, 0]
    first = {int(cars.fine[index]): index for index in reversed(usable.tolist())}
    return [(cars.table.class_names[model], index) for model, index in sorted(first.items())]


def quadruplets(cars: Cars | None, reference: int) -> Figure:
    """What random choice, Method 1 and Method 2 put beside one reference, among the training images."""
    rows = {}
    if cars is not None:
        for method, label in METHODS.items():
            members = _choose(cars, [reference], method)[0].tolist()
            rows[label] = [
                cars.picture(
                    index, role if role in ("P+", "P−") else f"{role}: {cars.type_of(index)}", colour
                )
                for (role, colour), index in zip(ROLES.items(), members, strict=True)
            ]
    alt = (
        "Three rows of four images, for random choice, Method 1 and Method 2: the reference R, a positive P+ "
        "of its model, a sibling P− of its type and a negative N of another type. Both methods share R and N."
    )
    return _figure(cars, "quadruplets", "One reference, three quadruplets", alt, rows, side=0.56)


def _choose(cars: Cars, anchors: list[int], method: Method) -> Tensor:
    """Quadruplets [m, 4] of some training images, among the training images."""
    kept = cars.train.nonzero()[:, 0]
    labels = cars.fine[kept], cars.coarse[kept]
    places = torch.searchsorted(kept, torch.tensor(anchors))
    generator = torch.Generator().manual_seed(anchors[0])
    return kept[select(cars.vectors[kept], *labels, method, anchors=places, generator=generator).quadruplets]


# What a query finds --------------------------------------------------------------------------------


def train(cars: Cars | None, steps: int = STEPS) -> tuple[Tensor, Tensor]:
    """Embeddings of all images [N, 128] before and after a short training by Method 2, on training models."""
    from papers_lib.quadruplet_cars196.options import TrainSettings
    from papers_lib.quadruplet_cars196.study import STUDY

    if cars is None:
        return torch.zeros(0, 1), torch.zeros(0, 1)
    size = STUDY.sizes["frozen"]
    settings = TrainSettings.model_validate({**size.settings, "lr": size.more["lr"]["method_2"]})
    where = torch.device("cpu")
    compute.prepare(settings.seed)
    images = Images(cars.vectors, cars.fine, cars.coarse)
    classes = (int(cars.coarse.max()) + 1, int(cars.fine[cars.train].max()) + 1)
    net = build(settings, classes, None, where, cars.vectors.shape[1])
    loop = Loop(settings, net, images.only(cars.train), where)
    before = embed(net, cars.vectors, settings.crop)
    while loop.epoch * loop.steps < steps:
        loop.run_epoch()
    return before, embed(net, cars.vectors, settings.crop)


def found(cars: Cars | None, embeddings: Mapping[str, Tensor], queries: Sequence[int], k: int = 5) -> Figure:
    """The `k` nearest unseen images of each query, a row per query and set of embeddings [N, d].

    `queries` count among the images of models that training never saw.
    """
    rows = {}
    if cars is not None:
        kept = (~cars.train).nonzero()[:, 0]
        for number, query in enumerate(queries, 1):
            for label, vectors in embeddings.items():
                far = (vectors[kept] - vectors[kept[query]]).norm(dim=1)  # [n]
                far[query] = torch.inf
                shown = [cars.picture(int(kept[query]), "query", "#000000")]
                for index in kept[far.topk(k, largest=False).indices].tolist():
                    relation = _relation(cars, int(kept[query]), index)
                    shown.append(cars.picture(index, relation, RELATIONS[relation]))
                rows[f"query {number}, {label}"] = shown
    alt = (
        f"Two rows per query: the query, then the {k} images nearest to it before training, and those after; "
        "below each image stands what it shares with the query: the model, the type or neither."
    )
    return _figure(cars, "found", f"Unseen models: the {k} nearest images", alt, rows)


def _relation(cars: Cars, query: int, index: int) -> str:
    if cars.fine[index] == cars.fine[query]:
        return "model"
    return "type" if cars.coarse[index] == cars.coarse[query] else "neither"


def _figure(
    cars: Cars | None,
    name: str,
    title: str,
    alt: str,
    rows: Mapping[str, Sequence[Picture]],
    side: float = 0.47,
) -> Figure:
    if cars is None:
        return pictures(name, title, alt, {}, footer="`make data` renders images to show here")
    return pictures(name, title, alt, rows, cars.badge, side=side)
