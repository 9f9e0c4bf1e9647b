"""The runs of the study by name: the rows of Tables 1, 5, 6 and 7, and the controls that the paper lacks.

An arm says what it changes of the profile's settings and the sweep that it is of. `epochs_times` stretches
the schedule: the paper's rows of other lengths, as a multiple of its 200 epochs.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Arm(NamedTuple):
    """A run: its name, what readers see, how it differs, its sweep, and what it is held against."""

    name: str
    label: str
    changes: dict[str, Any]
    sweep: str
    against: str = ""


METHODS = {  # name -> row of Table 1
    "random": "Random",
    "relative_location": "Relative-Loc",
    "rotation": "Rotation-Pred",
    "deepcluster": "DeepCluster",
    "npid": "NPID",
    "odc": "ODC",
    "simclr": "SimCLR",
    "moco": "MoCo",
    "moco_v2": "MoCo v2",
    "byol": "BYOL",
    "simsiam": "SimSiam",
    "supervised": "supervised",
}
# Which arm answers a row of Table 1 that another length of training gives; epochs over the paper's 200.
LENGTHS = {
    "simclr_1000": ("simclr", 5.0),
    "moco_v2_800": ("moco_v2", 4.0),
    "byol_300": ("byol", 1.5),
    "byol_1000": ("byol", 5.0),
    "simsiam_100": ("simsiam", 0.5),
    "simsiam_400": ("simsiam", 2.0),
    "simsiam_800": ("simsiam", 4.0),
    "median_600": ("median", 3.5),
    "supervised_100": ("supervised", 0.5),
    "supervised_270": ("supervised", 1.35),
}


def _triplet(head: str, k: float = 0, **more: Any) -> dict[str, Any]:
    return {"method": "triplet", "head": head, "k": k, **more}


MEDIAN = _triplet("median")
BYOL = {"method": "byol"}
PRIOR = _triplet("prior")
HEADS = (
    Arm("median", "Median triplet, k = n/2", MEDIAN, "table_1", "byol"),
    Arm("prior", "Rank-k triplet, k from the class prior", PRIOR, "heads", "median"),
    Arm("hardest", "Hardest triplet, k = 1", _triplet("hardest"), "heads", "median"),
    Arm("rank_5", "Rank-k triplet, k = 5", _triplet("rank", 5), "heads", "median"),
    Arm("quarter", "Rank-k triplet, k = n/4", _triplet("rank", 0.25), "heads", "median"),
    Arm("three_quarters", "Rank-k triplet, k = 3n/4", _triplet("rank", 0.75), "heads", "median"),
    Arm("smoothed", "Mean of ranks 2 to 10", _triplet("smoothed"), "heads", "median"),
)
SIZES = {"random_resolution": True}
CONTROLS = (
    Arm("byol_x2", "BYOL, loss doubled", BYOL | {"loss_scale": 2.0}, "controls", "byol"),
    Arm("byol_sizes", "BYOL, random resolution", BYOL | SIZES, "controls", "byol"),
    Arm("byol_x2_sizes", "BYOL, both", BYOL | SIZES | {"loss_scale": 2.0}, "controls", "byol"),
    Arm("median_sizes", "Median, random resolution", MEDIAN | SIZES, "controls", "median"),
    Arm("prior_sizes", "Class prior, random resolution", PRIOR | SIZES, "controls", "prior"),
    Arm("median_mean", "Median, views averaged", MEDIAN | {"view_reduction": "mean"}, "controls", "median"),
    Arm("median_scale_1", "Median, d = −cos", MEDIAN | {"distance_scale": 1.0}, "controls", "median"),
)  # fmt: skip
MARGINS = tuple(
    Arm(
        f"margin_{margin:g}{suffix}", f"Median, C = {margin:g}, d = {words}",
        MEDIAN | {"margin": margin, "distance_scale": scale}, "margins", "median",
    )
    for scale, suffix, words in ((2.0, "", "−2 cos"), (1.0, "_scale_1", "−cos"))
    for margin in (0.3, 1.2, 100.0)
)  # fmt: skip
# Few negatives and many, at the same number of images: k as the same share, then the same k.
BATCHES = tuple(
    Arm(f"{name}_n{n}", f"{label}, n = {n}", changes | {"batch_times": n / 128}, "batches", name)
    for n in (32, 256)
    for name, label, changes in (
        ("median", "Median", MEDIAN), ("rank_5", "k = 5", _triplet("rank", 5)), ("byol", "BYOL", BYOL),
    )
)  # fmt: skip
BANKS = tuple(
    Arm(f"moco_v2_queue_{size}", f"MoCo v2, queue of {size}", {"method": "moco_v2", "queue": size}, "banks",
        "moco_v2")
    for size in (256, 1024)
)  # fmt: skip


def _lengths() -> list[Arm]:
    methods = {"median": MEDIAN}
    found = []
    for name, (method, times) in LENGTHS.items():
        changes = methods.get(method, {"method": method})
        label = f"{METHODS.get(method, 'Median triplet')}, {times:g} × the epochs"
        found.append(Arm(name, label, changes | {"epochs_times": times}, "lengths", method))
    heads = {"median": MEDIAN, "smoothed": _triplet("smoothed"), "prior": PRIOR}
    for times, suffix in ((2.0, "400"), (3.5, "600")):
        for name, changes in heads.items():
            if (key := f"{name}_{suffix}") not in LENGTHS:
                label = f"{next(arm.label for arm in HEADS if arm.name == name)}, {times:g} × the epochs"
                found.append(Arm(key, label, changes | {"epochs_times": times}, "lengths", name))
    return found


class Transfer(NamedTuple):
    """A row of Tables 2, 3 or 4: the task, the arm whose encoder it starts from, and the printed row."""

    task: str
    arm: str
    row: str


STARTS = {  # row of Tables 2 and 3 -> arm
    "Random": "random", "Relative-Loc": "relative_location", "Rotation-Pred": "rotation", "NPID": "npid",
    "MoCo": "moco", "MoCo v2": "moco_v2", "SimCLR": "simclr", "BYOL": "byol", "median triplet": "median",
    "supervised-100": "supervised_100", "supervised-270": "supervised_270",
}  # fmt: skip
SEARCHED = ("SimCLR", "MoCo v2", "BYOL", "median triplet")  # the self-supervised rows of Table 4
TRANSFERS = tuple(
    [Transfer(task, arm, row) for task in ("mask_rcnn", "faster_rcnn") for row, arm in STARTS.items()]
    + [Transfer("search", STARTS[row], row) for row in SEARCHED]
)
ARMS = {
    arm.name: arm
    for arm in (
        *(Arm(name, label, {"method": name}, "table_1") for name, label in METHODS.items()),
        *HEADS, *CONTROLS, *MARGINS, *_lengths(), *BATCHES, *BANKS,
    )
}  # fmt: skip
SWEEPS = (*dict.fromkeys(arm.sweep for arm in ARMS.values()), "transfer")
