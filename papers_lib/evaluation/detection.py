"""Average precision of boxes and masks as COCO defines it (Lin et al., ECCV 2014), by pycocotools.

AP is the mean over IoU 0.50, 0.55, … 0.95 and over the classes that occur, each the mean of the interpolated
precision at 101 recalls, at most 100 detections an image. VOC07+12 is scored by the same rule, its
difficult objects as COCO's crowds; AP50 of VOC's own devkit, which the paper's baselines report, integrates
the precision otherwise and differs by some tenths of a point. pycocotools is in the extra `detection`.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from papers_lib.datasets.scenes import Outline, Scene
from papers_lib.errors import PapersError


class Found(NamedTuple):
    """What a detector finds in one scene.

    `boxes` [m, 4] x1, y1, x2, y2 in pixels of the image file, `scores` [m], `labels` [m] from 1, `masks` m
    run-length codes of `encode`, or None.
    """

    boxes: NDArray[np.floating]
    scores: NDArray[np.floating]
    labels: NDArray[np.integer]
    masks: list[dict[str, Any]] | None = None


def require() -> None:
    """Say at once that pycocotools is missing, before hours of training.

    Raises:
        PapersError: it cannot be imported.
    """
    _pycocotools("cocoeval")


def encode(masks: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Run-length codes of masks [m, H, W]: what `Found` holds, a thousandth of the masks' size."""
    columns = np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8))
    return list(_pycocotools("mask").encode(columns))


def coco_ap(scenes: Sequence[Scene], found: Sequence[Found], masks: bool = False) -> dict[str, float]:
    """{"AP_box": …, "AP50_box": …, "AP75_box": …} as fractions, and the same with "_mask" for `masks`.

    Args:
        scenes: N scenes with their objects.
        found: what was found in each, in the same order.
        masks: score the masks, too.

    Raises:
        PapersError: no pycocotools, lengths that differ, no object to find, masks asked for and not there,
            or scores that are not finite.
    """
    if len(scenes) != len(found):
        raise PapersError(f"{len(scenes)} scenes and {len(found)} results; give one result a scene")
    if not any((~scene.ignored).any() for scene in scenes):
        raise PapersError("no object to find in these scenes, so AP is not defined; give scenes with objects")
    if masks and any(s.outlines is None or f.masks is None for s, f in zip(scenes, found, strict=True)):
        raise PapersError("masks are to be scored, and scenes or results have none; score boxes alone")
    if not all(np.isfinite(f.scores).all() and np.isfinite(f.boxes).all() for f in found):
        raise PapersError("detections hold NaN or infinity; the detector diverged")
    result = _score(_truths(scenes, masks), _finds(found), scenes, "bbox", "box")
    return result | (_score(_truths(scenes, masks), _finds(found), scenes, "segm", "mask") if masks else {})


def _pycocotools(name: str) -> ModuleType:
    from importlib import import_module

    try:
        return import_module(f"pycocotools.{name}")
    except ImportError:
        raise PapersError(
            "COCO's AP needs pycocotools, which is missing; install it: pip install -e '.[detection]'"
        ) from None


def _score(
    truths: list[dict[str, Any]], finds: list[dict[str, Any]], scenes: Sequence[Scene], kind: str, name: str
) -> dict[str, float]:
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        evaluator = _pycocotools("cocoeval").COCOeval(_coco(truths, scenes), _coco(finds, scenes), kind)
        evaluator.params.areaRng, evaluator.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluator.params.maxDets = [100]
        evaluator.evaluate()
        evaluator.accumulate()
    precision = evaluator.eval["precision"]  # [IoU, recall, class, 1, 1], −1 for a class that has no object
    at = {"AP": slice(None), "AP50": slice(0, 1), "AP75": slice(5, 6)}
    return {f"{key}_{name}": float(p[p > -1].mean()) for key, part in at.items() for p in [precision[part]]}


def _coco(annotations: list[dict[str, Any]], scenes: Sequence[Scene]) -> Any:
    coco = _pycocotools("coco").COCO()
    labels = sorted({int(label) for scene in scenes for label in scene.labels})
    coco.dataset = {
        "images": [{"id": i, "height": s.height, "width": s.width} for i, s in enumerate(scenes, 1)],
        "categories": [{"id": label} for label in labels],
        "annotations": [a for a in annotations if a["category_id"] in labels],
    }
    coco.createIndex()
    return coco


def _truths(scenes: Sequence[Scene], masks: bool) -> list[dict[str, Any]]:
    return [
        _annotation(image, scene.boxes[i], scene.labels[i])
        | {"iscrowd": int(scene.ignored[i])}
        | ({"segmentation": _shape(scene.outlines[i], scene)} if masks and scene.outlines else {})
        | {"id": number}
        for number, (image, scene, i) in enumerate(
            ((image, scene, i) for image, scene in enumerate(scenes, 1) for i in range(len(scene.boxes))), 1
        )
    ]


def _finds(found: Sequence[Found]) -> list[dict[str, Any]]:
    return [
        _annotation(image, each.boxes[i], each.labels[i])
        | {"iscrowd": 0, "score": float(each.scores[i])}
        | ({"segmentation": each.masks[i]} if each.masks is not None else {})
        | {"id": number}
        for number, (image, each, i) in enumerate(
            ((image, each, i) for image, each in enumerate(found, 1) for i in range(len(each.boxes))), 1
        )
    ]


def _annotation(image: int, box: NDArray[np.floating], label: np.integer) -> dict[str, Any]:
    x1, y1, x2, y2 = map(float, box)
    width, height = x2 - x1, y2 - y1
    return {
        "image_id": image,
        "category_id": int(label),
        "bbox": [x1, y1, width, height],
        "area": width * height,
    }


def _shape(outline: Outline, scene: Scene) -> Any:
    """A run-length code of pycocotools' own making, from polygons or from a code with a list of counts."""
    mask = _pycocotools("mask")
    codes = mask.frPyObjects(outline, scene.height, scene.width)
    return mask.merge(codes) if isinstance(codes, list) else codes
