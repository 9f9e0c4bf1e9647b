"""The rows of Table 1: `build(name, …)` gives a `Method`."""

from __future__ import annotations

from papers_lib.errors import PapersError
from papers_lib.median_triplet.methods.base import Batch, Method, Settings
from papers_lib.median_triplet.methods.instances import MoCo, MoCoV2, Npid, SimClr
from papers_lib.median_triplet.methods.online_target import Byol, OnlineTarget, SimSiam, Triplet
from papers_lib.median_triplet.methods.pretext import Random, RelativeLocation, Rotation, Supervised
from papers_lib.median_triplet.methods.pseudo_labels import DeepCluster, Odc

__all__ = ["NAMES", "Batch", "Method", "OnlineTarget", "Supervised", "Triplet", "build"]

_METHODS: dict[str, type[Method]] = {
    "random": Random,
    "supervised": Supervised,
    "relative_location": RelativeLocation,
    "rotation": Rotation,
    "deepcluster": DeepCluster,
    "npid": Npid,
    "odc": Odc,
    "simclr": SimClr,
    "moco": MoCo,
    "moco_v2": MoCoV2,
    "byol": Byol,
    "simsiam": SimSiam,
    "triplet": Triplet,
}
NAMES = tuple(_METHODS)


def build(name: str, settings: Settings, images_total: int, classes: int | None = None) -> Method:
    """A method of Table 1 with its encoder, on the CPU.

    The encoder is drawn first, so that one seed of torch gives all methods the same one.

    Args:
        name: one of `NAMES`.
        settings: needs `backbone` and `seed`; for byol and triplet `projector_hidden`, `projector_out`,
            `random_resolution`, `online_sizes`, `target_sizes` (shares of the crop), `loss_scale`,
            `view_reduction`, `ema_base` and `ema_buffers` (moco: these two and `queue`; npid: `queue`);
            for triplet `head`, `k`, `gamma`, `margin`, `hinge`, `distance_scale` and `negative_pool`; for
            simclr, moco and npid `temperature` (0: the method's own).
        images_total: images in the training set.
        classes: how many classes it has; only `supervised`, `deepcluster`, `odc` and the triplet's
            `prior` head use the number.

    Raises:
        PapersError: an unknown name, or settings that the method cannot do with.
    """
    if name not in _METHODS:
        raise PapersError(f"unknown method '{name}': known are {', '.join(NAMES)}")
    return _METHODS[name](settings, images_total, classes)
