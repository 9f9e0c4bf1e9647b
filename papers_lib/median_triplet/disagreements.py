"""Where the paper and the authors' released code say different things, and what is done here."""

from __future__ import annotations

from papers_lib.exhibits.table import Cell, Table

ROWS = (
    ("hinge", "max(·, C)", "relu(· + C)", "no hinge by default, either form as an option"),
    ("distance", "−cos", "−2 cos", "−2 cos, option"),
    ("negative", "rank k = m/2", "median at first (median_triplet_head.py), then the mean of ranks 2–10",
     "median; smoothed as another head"),
    ("negatives a query", "m = 104", "103; 195 in the file for 3090 cards", "n − 1"),
    ("gradient accumulation", "5", "6; 4 in the file for 3090 cards", "5"),
    ("epochs", "maximum 200; rows of 180 and 700", "1,000 configured; read-me 200 and 700–900; script ep940",
     "the schedule ends at the reported epoch"),
    ("top-1 after some 200 epochs", "73.6", "73.8 (read-me)", "both quoted"),
    ("resolution of the views", "not mentioned but for “randomly resizing”",
     "four independent sizes a step: online 96–224, target 128–224", "option, and a control for BYOL"),
    ("EMA, precision, warm-up, head widths, asymmetric views", "not mentioned",
     "0.99 → 1, fp16, 10 epochs, 4096-256, blur and solarisation by view", "as the code; bf16 on a GPU"),
    ("linear evaluation, learning rate", "not stated", "0.15 or 0.04, chosen by checkpoint",
     "a grid, chosen on a split of the training set"),
    ("protocols in line with OpenSelfSup", "all",
     "linear rate (30 there), detection rate, schedule and scales differ",
     "one protocol for every row"),
    ("COCO and VOC", "41.3 / 37.3 and 81.8 / 56.4 / 62.9", "41.7 / 36.2 and 82.6 / 56.9 / 63.8 (read-me)",
     "both quoted"),
    ("SYSU-30k, start", "its training set alone", "an ImageNet checkpoint (wanggrun/triplet#4)",
     "random weights; the other as an option"),
    ("VOC, test set", "test2017", "voc_2007_test", "test2007"),
    ("pool of negatives", "not stated", "the other images of the same GPU's batch, target side, other view",
     "as the code; all devices as an option"),
)  # fmt: skip


def disagreements_table() -> Table:
    """Fifteen points, each as the paper prints it, as the code runs it, and as it is here."""
    rows: list[list[Cell]] = [list(row) for row in ROWS]
    return Table(
        "disagreements", "The paper and the released code", ["point", "paper", "code", "here"], rows,
        footer="code and read-me of wanggrun/triplet",
    )  # fmt: skip
