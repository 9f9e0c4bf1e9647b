"""Pictures of the data: people before cameras, what a batch holds, and what a query finds.

They are photographs where the reader's `data_root` holds those of the runs, and else rendered people.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from papers_lib.datasets import features, reid
from papers_lib.datasets.images import load_images, open_image, rgb
from papers_lib.exhibits.figure import Figure
from papers_lib.exhibits.pictures import Picture, pictures
from papers_lib.sampler_study.study.drawings import COLOURS, drawn
from papers_lib.sampler_study.study.tables import SAMPLERS
from papers_lib.settings import data_root

if TYPE_CHECKING:
    from torch import Tensor

    from papers_lib.sampler_study.methods import Groups
    from papers_lib.sampler_study.network import ReidNet

FEATURES = "cars_cameras_features"
PHOTOGRAPHS = {FEATURES: "reid_from_images"}  # frozen features ship without the pictures they are of
RENDERED = ("standin", "market1501")
BADGE = "rendered stand-ins: no photograph"
HUES = 8  # of a thumbnail, so that a notebook stays small
STRIPES = 16  # of a stand-in, whose mean colours are its features
SIDE = 0.45  # inches of a thumbnail, 50 pixels
RIGHT, WRONG, ALONE = "#009E73", "#D55E00", "#BBBBBB"
TRAINED = {
    "start": "scratch",
    "lr": 3e-3,
    "epochs": 3,
    "iters_per_epoch": 50,
    "warm_up_epochs": 0,
    "milestones": (),
    "inter_start_epoch": 1,
}


class Shown(NamedTuple):
    """A camera network whose images can be shown: a feature [N, D] per image of train, query and gallery.

    `neighbours` are k1 and k2 of its clustering.
    """

    network: reid.ReID
    features: tuple[Tensor, Tensor, Tensor]
    neighbours: tuple[int, int]
    badge: str


def shown(book: Any) -> Shown:
    """The photographs of the book's runs where its `data_root` holds them, else rendered people.

    Raises:
        PapersError: neither is there, and how to make the second.
    """
    name = book.specs[0].data.name
    name, given = PHOTOGRAPHS.get(name, name), book.settings.data_root
    if given and (data_root(given) / name).is_dir():
        return _shown(data_root(given), name)
    folder, name = RENDERED
    return _shown(data_root("") / folder, name)


@lru_cache(maxsize=1)
def _shown(root: Path, name: str) -> Shown:
    import torch

    network = reid.load(root, name)
    sides = (network.train, network.query, network.gallery)
    if name == PHOTOGRAPHS[FEATURES]:
        values = torch.from_numpy(features.load(features.SHIPPED, FEATURES).values)
        train, query, gallery = values.split([len(side.files) for side in sides])
        return Shown(network, (train, query, gallery), (20, 6), "")  # neighbours as at `frozen`
    stripes = [_stripes(side) for side in sides]
    # a camera's colour cast would outweigh every coat: each camera is centred by its own training images
    cameras = [torch.from_numpy(side.cameras) for side in sides]
    casts = torch.stack([stripes[0][cameras[0] == c].mean(0) for c in range(network.cameras)])
    spread = stripes[0].std(0)
    train, query, gallery = ((x - casts[camera]) / spread for x, camera in zip(stripes, cameras, strict=True))
    return Shown(
        network, (train, query, gallery), (10, 4), BADGE if network.stand_in else ""
    )  # as at `smoke`


def _stripes(side: reid.Side) -> Tensor:
    """Mean colours [N, 3 · STRIPES] of horizontal stripes of the middle of each image."""
    import torch

    pixels = load_images(side.files, (STRIPES, 4), reduce=False)  # squashed: a row is a stripe
    return torch.from_numpy(pixels[:, :, 1:3].mean(2) / 255).float().flatten(1)


def strip(book: Any, people: int = 3) -> Figure:
    """The first people of the training images, an image before each camera that saw them."""
    network, _, _, badge = shown(book)
    train = network.train
    rows = {}
    for person in sorted(set(train.ids.tolist()))[:people]:
        places = [
            i
            for camera in range(network.cameras)
            for i in ((train.ids == person) & (train.cameras == camera)).nonzero()[0][:1].tolist()
        ]
        rows[f"identity {person}"] = [_picture(train, i) for i in places]
    return pictures(
        "strip",
        "Identities before cameras",
        "A row per identity, a thumbnail from each camera that saw it: one camera's pictures share a "
        "colour cast, and one identity looks different from camera to camera.",
        rows,
        badge,
        side=SIDE,
    )


def groups(book: Any) -> Groups:
    """Pseudo-labels of the training images, clustered as in the first epoch of a run."""
    import torch
    from torch.nn.functional import normalize

    from papers_lib.sampler_study import pseudo_labels
    from papers_lib.sampler_study.methods import Groups

    network, (train, _, _), neighbours, _ = shown(book)
    cameras = torch.from_numpy(network.train.cameras)
    clusters = pseudo_labels.cluster(normalize(train), *neighbours)
    return Groups(clusters, pseudo_labels.proxies(clusters, cameras)[0], cameras)


def batches(book: Any, k: int = 4, size: int = 8) -> Figure:
    """The first batch of each sampler as images, framed by cluster."""
    network, _, _, badge = shown(book)
    made = groups(book)
    rows = {}
    for method in ("random", *SAMPLERS):
        images = drawn(made, method, k, size)[0]
        clusters = made.clusters[images].tolist()
        several = [cluster for cluster in dict.fromkeys(clusters) if clusters.count(cluster) > 1]
        colours = dict(zip(several, COLOURS, strict=False))
        label = SAMPLERS[method].label.replace(", ", ",\n") if method in SAMPLERS else "Random"
        rows[label] = [
            _picture(network.train, i, colour=colours.get(cluster, ALONE))
            for i, cluster in zip(images, clusters, strict=True)
        ]
    return pictures(
        "batches",
        f"The first batch of each sampler, K = N = {k}",
        "A row per sampler, eight thumbnails each, framed by cluster. In the random batch many frames are "
        "grey, as their clusters occur once; triplets show two clusters of four; groups runs of up to four.",
        rows,
        badge,
        side=SIDE,
    )


def top_five(book: Any, people: int = 1) -> Figure:
    """What the first queries find, by the features as they are, and by a head that is trained here.

    As in evaluation, the query's own camera is left out where it shows the same identity.
    """
    import torch

    images = shown(book)
    network, ids = images.network, images.network.query.ids.tolist()
    net = _trained(images.features[0], torch.from_numpy(network.train.cameras))
    looks = {"before": _similarities(images, None), "after": _similarities(images, net)}
    rows = {}
    for person in sorted(set(ids))[:people]:
        query = ids.index(person)
        for when, similarity in looks.items():
            rows[f"query {query + 1}, {when}"] = _found(network, query, similarity[query])
    return pictures(
        "top_five",
        "A query and its top five",
        "Two rows per query: the query, then the five most similar images of the gallery, framed green where "
        "they show the same identity and red where they do not.",
        rows,
        images.badge,
        side=SIDE,
    )


def _trained(train: Tensor, cameras: Tensor) -> ReidNet:
    """The head of `frozen`, trained for some epochs by the loop of every run."""
    import torch

    from papers_lib import compute
    from papers_lib.sampler_study.images import Unlabelled
    from papers_lib.sampler_study.options import TrainSettings
    from papers_lib.sampler_study.training import Loop, build

    settings = TrainSettings.model_validate(TRAINED)
    compute.prepare(settings.seed)
    net = build(settings, None, torch.device("cpu"), train.shape[1])
    loop = Loop(settings, net, Unlabelled(train, cameras))
    for _ in range(settings.epochs):
        loop.run_epoch()
    return net


def _similarities(images: Shown, net: ReidNet | None) -> Tensor:
    """Cosines [Q, G] of query and gallery."""
    from torch.nn.functional import normalize

    from papers_lib.sampler_study.network import embed

    query, gallery = (embed(net, x) if net else normalize(x) for x in images.features[1:])
    return query @ gallery.T


def _found(network: reid.ReID, query: int, similarity: Tensor) -> list[Picture]:
    """The query and its top five."""
    of, gallery = network.query, network.gallery
    same = gallery.ids == of.ids[query]
    allowed = ~(same & (gallery.cameras == of.cameras[query]))
    best = [i for i in similarity.argsort(descending=True).tolist() if allowed[i]][:5]
    return [
        _picture(of, query),
        *(_picture(gallery, i, "right" if same[i] else "wrong", RIGHT if same[i] else WRONG) for i in best),
    ]


def _picture(side: reid.Side, i: int, words: str = "", colour: str = "") -> Picture:
    """A thumbnail, named as its file."""
    import numpy as np
    from PIL import Image

    file: Any = side.files[i]
    with open_image(file) as image:
        small = rgb(image)
        small.thumbnail((48, 48))
        few = small.quantize(HUES, dither=Image.Dither.NONE).convert("RGB")
    return Picture(np.asarray(few), file.name, words or f"camera {side.cameras[i] + 1}", colour)
