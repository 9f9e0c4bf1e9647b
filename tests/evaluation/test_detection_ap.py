"""AP of boxes and masks against COCO's rules in a plain loop, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest

from papers_lib.datasets.scenes import Drawn, scene
from papers_lib.errors import PapersError
from papers_lib.evaluation.detection import Found, coco_ap, encode

SIDE = 64
IOUS = [0.5 + 0.05 * i for i in range(10)]


def outline(x1, y1, x2, y2):
    return [[x1, y1, x2, y1, x2, y2, x1, y2]]


def world(seed, scenes=6, classes=3):
    """Scenes of boxes on whole pixels, a crowd in some, and detections near them, far off, and double."""
    rng = np.random.default_rng(seed)
    truths, finds = [], []
    for number in range(scenes):
        objects, boxes, labels = [], [], []
        for i in range(rng.integers(1, 5)):
            x, y = rng.integers(0, SIDE - 24, 2)
            box = tuple(float(v) for v in (x, y, x + rng.integers(8, 24), y + rng.integers(8, 24)))
            label = int(rng.integers(1, classes + 1))
            objects.append(Drawn(box, label, bool(number % 3 == 0 and i == 1), outline(*box)))
            for _ in range(rng.integers(0, 3)):
                near = np.array(box) + rng.integers(-3, 4, 4)
                if near[2] > near[0] and near[3] > near[1]:
                    boxes.append(near.clip(0, SIDE))
                    labels.append(label if rng.uniform() < 0.8 else int(rng.integers(1, classes + 1)))
        boxes.append(np.array([0, 0, 5, 5]))
        labels.append(1)
        found = np.array(boxes, dtype=float)
        truths.append(scene(Path(f"{number}.jpg"), SIDE, SIDE, objects, masks=True))
        scores = rng.permutation(len(found)) / len(found)
        finds.append(Found(found, scores, np.array(labels), masks_of(found)))
    return truths, finds


def filled(box):
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    x1, y1, x2, y2 = (int(v) for v in box)
    mask[y1:y2, x1:x2] = True
    return mask


def masks_of(boxes):
    pytest.importorskip("pycocotools", reason="needs the extra 'detection'")
    return encode(np.array([filled(box) for box in boxes]).reshape(-1, SIDE, SIDE))


def overlap(found, truth, crowd):
    a, b = filled(found), filled(truth)
    return (a & b).sum() / (a.sum() if crowd else (a | b).sum())


def slow(truths, finds, iou):
    """Mean over classes: best score first, each takes the best free object, else a crowd that excuses it."""
    values = []
    for label in sorted({int(v) for s in truths for v in s.labels}):
        marks, total = [], 0
        for s, f in zip(truths, finds, strict=True):
            own = [i for i, v in enumerate(s.labels) if v == label]
            total += sum(not s.ignored[i] for i in own)
            free = {i for i in own if not s.ignored[i]}
            mine = [j for j, v in enumerate(f.labels) if v == label]
            for j in sorted(mine, key=lambda j: -f.scores[j]):
                fits = {i: overlap(f.boxes[j], s.boxes[i], s.ignored[i]) for i in own}
                near = [i for i in own if fits[i] >= iou - 1e-9]
                best = max(free.intersection(near), key=lambda i: (fits[i], i), default=None)
                if best is not None:
                    free.remove(best)
                if best is not None or not any(s.ignored[i] for i in near):
                    marks.append((f.scores[j], best is not None))
        if total:
            values.append(interpolated(sorted(marks, key=lambda m: -m[0]), total))
    return sum(values) / len(values)


def interpolated(marks, total):
    """Mean over 101 recalls of the best precision at that recall or a larger one."""
    points, right = [], 0
    for place, (_, good) in enumerate(marks, 1):
        right += good
        points.append((right / total, right / place))
    levels = [i / 100 for i in range(101)]
    return sum(max((p for r, p in points if r >= level - 1e-9), default=0.0) for level in levels) / 101


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_loop(seed):
    truths, finds = world(seed)
    found = coco_ap(truths, finds, masks=True)
    by_iou = [slow(truths, finds, iou) for iou in IOUS]
    want = {"AP": sum(by_iou) / 10, "AP50": by_iou[0], "AP75": by_iou[5]}
    assert found == pytest.approx({f"{k}_{w}": v for k, v in want.items() for w in ("box", "mask")}, abs=1e-6)
    assert 0 < want["AP75"] < want["AP50"] < 1
    assert any(s.ignored.any() for s in truths)


def test_masks_are_scored_by_their_shape():
    truths, _ = world(9, scenes=1)
    boxes = truths[0].boxes[~truths[0].ignored].astype(float)
    narrow = boxes.copy()
    narrow[:, 2] = (boxes[:, 0] + boxes[:, 2]) // 2
    labels = truths[0].labels[~truths[0].ignored]
    found = coco_ap(truths, [Found(boxes, np.ones(len(boxes)), labels, masks_of(narrow))], masks=True)
    assert found["AP_box"] == pytest.approx(1)
    assert found["AP75_mask"] == 0


def test_a_class_that_never_occurs_does_not_count():
    truths, finds = world(1)
    alone = {"boxes": np.array([[0, 0, 9, 9]]), "scores": [2.0], "labels": [99]}
    more = [Found(*(np.concatenate([getattr(f, name), new]) for name, new in alone.items())) for f in finds]
    assert coco_ap(truths, more) == coco_ap(truths, finds)


def test_nothing_found_is_zero_and_prints_nothing(capsys):
    truths, finds = world(2)
    nothing = [Found(f.boxes[:0], f.scores[:0], f.labels[:0], []) for f in finds]
    assert set(coco_ap(truths, nothing, masks=True).values()) == {0.0}
    assert capsys.readouterr().out == ""


def test_broken_input_is_one_line():
    truths, finds = world(3)
    bare = [scene(s.file, SIDE, SIDE, [], masks=True) for s in truths]
    nan = [f._replace(scores=f.scores * np.nan) for f in finds]
    for call, says in (
        ((truths, finds[1:]), "one result a scene"),
        ((bare, finds), "no object to find"),
        ((truths, [f._replace(masks=None) for f in finds], True), "have none; score boxes alone"),
        ((truths, nan), "NaN or infinity"),
    ):
        with pytest.raises(PapersError, match=says) as error:
            coco_ap(*call)
        assert "\n" not in str(error.value)
