"""Which run answers which printed number: the rows of Tables 1–4, 6 and 7 by arm and metric.

`None` stands for a row that is another paper's and no run of ours can answer (Table 4, transfer learning
and weak supervision); it is shown, and quoted.
"""

from __future__ import annotations

from typing import NamedTuple

from papers_lib.median_triplet.arms import SEARCHED, STARTS


class Answer(NamedTuple):
    """The label of the runs, and the metric of theirs."""

    label: str
    metric: str = "linear"


TABLE_1 = {
    "Random": "random", "Relative-Loc [10]": "relative_location", "Rotation-Pred [16]": "rotation",
    "DeepCluster [3]": "deepcluster", "NPID [44]": "npid", "ODC [46]": "odc", "SimCLR [5]": "simclr",
    "SimCLR-1000 [5]": "simclr_1000", "MoCo [21]": "moco", "MoCo v2 [6]": "moco_v2",
    "MoCo v2-800 [6]": "moco_v2_800", "BYOL [19]-200": "byol", "BYOL [19]-300": "byol_300",
    "BYOL [19]-1000": "byol_1000", "SimSiam [7]-100": "simsiam_100", "SimSiam [7]-200": "simsiam",
    "SimSiam [7]-400": "simsiam_400", "SimSiam [7]-800": "simsiam_800", "median triplet-200": "median",
    "median triplet-600": "median_600", "supervised-100 + linear eval": "supervised_100",
}  # fmt: skip
SUPERVISED = {"supervised-100": "supervised_100", "supervised-270": "supervised_270"}
AP = {"AP Box": "AP_box", "AP Mask": "AP_mask", "AP50 Box": "AP50_box", "AP75 Box": "AP75_box"}
COLUMNS = {"Table 2": ("AP Box", "AP Mask"), "Table 3": ("AP50 Box", "AP Box", "AP75 Box")}
TASKS = {"Table 2": "mask_rcnn", "Table 3": "faster_rcnn"}
CITED = {
    "Relative-Loc": "[10]", "Rotation-Pred": "[16]", "NPID": "[44]", "MoCo": "[21]", "MoCo v2": "[6]",
    "SimCLR": "[5]", "BYOL": "[19]",
}  # fmt: skip
MARGINS = {"C = 0.3": "margin_0.3", "C = 1.2": "margin_1.2", "C = 100": "margin_100"}
BY_RANK = {"rank-1": "hardest", "rank-5": "rank_5", "rank-52": "median"}
RANKS = {f"Top-1 accuracy, k = {k}: Pr(ω|{event})": k for k in (1, 5, 52) for event in "AB"}


def _cited(row: str) -> str:
    return f"{row} {CITED[row]}" if row in CITED else row


ROWS: dict[tuple[str, str, str], Answer | None] = {
    **{("Table 1", row, "top-1 acc."): Answer(arm) for row, arm in TABLE_1.items()},
    **{("Table 1", row, "top-1 acc."): Answer(arm, "own") for row, arm in SUPERVISED.items()},
    **{
        (table, _cited(row), column): Answer(f"{TASKS[table]}/{row}", AP[column])
        for table, columns in COLUMNS.items()
        for row in STARTS
        for column in columns
    },
    **{("Table 4", _cited(row), "rank-1"): Answer(f"search/{row}", "rank1") for row in SEARCHED},
    **{
        ("Table 4", row, "rank-1"): None
        for row in ("DARI [39]", "DF [9]", "Local CNN [45]", "MGN [41]", "W-Local CNN [40]", "W-MGN [40]")
    },
    **{("Table 6", "Top-1 accuracy", column): Answer(arm) for column, arm in MARGINS.items()},
    **{("Table 7", "Top-1 accuracy", column): Answer(arm) for column, arm in BY_RANK.items()},
}
