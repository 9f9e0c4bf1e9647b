"""Average precision of boxes and masks as COCO defines it (Lin et al., ECCV 2014), by pycocotools.

AP is the mean over IoU 0.50, 0.55, … 0.95 and over the classes that occur, each the mean of the interpolated
precision at 101 recalls, at most 100 detections per image. VOC07+12 is scored by the same rule, its
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
    """What a detector finds in one scene."""

    boxes: NDArray[np.floating]  # [m, 4] x1, y1, x2, y2 in pixels of the image file
    scores: NDArray[np.floating]  # [m]
    labels: NDArray[np.integer]  # [m] from 1
    masks: list[dict[str, Any]] | None = None  # m run-length codes of `encode`


def require() -> None:
    """Say at once that pycocotools is missing, before hours of training.

    Raises:
        PapersError: it cannot be imported.
    """
    _pycocotools("cocoeval")


def encode(masks: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Run-length codes of masks [m, H, W]: what `Found` holds, a thousandth of the masks' size."""
    columns = np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8))  # [H, W, m]
    return list(_pycocotools("mask").encode(columns))


def coco_ap(scenes: Sequence[Scene], results: Sequence[Found], masks: bool = False) -> dict[str, float]:
    """{"AP_box": …, "AP50_box": …, "AP75_box": …} as fractions, and the same with "_mask" for `masks`.

    Args:
        scenes: N scenes with their objects.
        results: what was found in each, in the same order.
        masks: score the masks, too.

    Raises:
        PapersError: no pycocotools, lengths that differ, no object to find, masks asked for and not there,
            or scores that are not finite.
    """
    if len(scenes) != len(results):
        raise PapersError(f"{len(scenes)} scenes and {len(results)} results; give one result a scene")
    if not any((~scene.ignored).any() for scene in scenes):
        raise PapersError("no object to find in these scenes, so AP is not defined; give scenes with objects")
    if masks and any(s.outlines is None or f.masks is None for s, f in zip(scenes, results, strict=True)):
        raise PapersError("masks are to be scored, and scenes or results have none; score boxes alone")
    if not all(np.isfinite(f.scores).all() and np.isfinite(f.boxes).all() for f in results):
        raise PapersError("detections hold NaN or infinity; the detector diverged")
    ap = _score(scenes, results, masks, "bbox", "box")
    return ap | (_score(scenes, results, masks, "segm", "mask") if masks else {})


def _pycocotools(name: str) -> ModuleType:
    from importlib import import_module

    try:
        return import_module(f"pycocotools.{name}")
    except ImportError:
        raise PapersError(
            "COCO's AP needs pycocotools, which is missing; install it: pip install -e '.[detection]'"
        ) from None


def _score(
    scenes: Sequence[Scene], results: Sequence[Found], masks: bool, kind: str, name: str
) -> dict[str, float]:
    truths: list[dict[str, Any]] = []
    finds: list[dict[str, Any]] = []
    for image, (scene, result) in enumerate(zip(scenes, results, strict=True), 1):
        shapes = [_shape(outline, scene) for outline in scene.outlines or ()] if masks else []
        truths += _annotations(image, scene.boxes, scene.labels, shapes, iscrowd=scene.ignored)
        nobody = np.zeros(len(result.boxes))  # no detection is a crowd
        finds += _annotations(
            image, result.boxes, result.labels, result.masks, iscrowd=nobody, score=result.scores
        )
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
        evaluator = _pycocotools("cocoeval").COCOeval(_coco(truths, scenes), _coco(finds, scenes), kind)
        evaluator.params.areaRng, evaluator.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluator.params.maxDets = [100]
        evaluator.evaluate()
        evaluator.accumulate()
    precision = evaluator.eval["precision"]  # [IoU, recall, class, 1, 1], −1 for a class that has no object
    parts = {"AP": precision, "AP50": precision[0:1], "AP75": precision[5:6]}  # IoU .50, .55, … .95
    return {f"{key}_{name}": float(part[part > -1].mean()) for key, part in parts.items()}


def _annotations(
    image: int,
    boxes: NDArray[np.floating],
    labels: NDArray[np.integer],
    masks: Sequence[Any] | None,
    **columns: NDArray[Any],
) -> list[dict[str, Any]]:
    """The objects of one image as COCO writes them: boxes as x, y, width, height."""
    rows = []
    for i, (x1, y1, x2, y2) in enumerate(np.asarray(boxes, dtype=float).reshape(-1, 4).tolist()):
        box = [x1, y1, x2 - x1, y2 - y1]
        row = {"image_id": image, "category_id": int(labels[i]), "bbox": box, "area": box[2] * box[3]}
        row |= {name: float(values[i]) for name, values in columns.items()}
        rows.append(row | ({"segmentation": masks[i]} if masks else {}))
    return rows


def _coco(annotations: list[dict[str, Any]], scenes: Sequence[Scene]) -> Any:
    coco = _pycocotools("coco").COCO()
    labels = sorted({int(label) for scene in scenes for label in scene.labels})
    known = [row for row in annotations if row["category_id"] in labels]  # a class that never occurs is none
    coco.dataset = {
        "images": [{"id": i, "height": s.height, "width": s.width} for i, s in enumerate(scenes, 1)],
        "categories": [{"id": label} for label in labels],
        "annotations": [row | {"id": number} for number, row in enumerate(known, 1)],
    }
    coco.createIndex()
    return coco


def _shape(outline: Outline, scene: Scene) -> Any:
    """A run-length code of pycocotools' own making, from polygons or from a code with a list of counts."""
    mask = _pycocotools("mask")
    codes = mask.frPyObjects(outline, scene.height, scene.width)
    return mask.merge(codes) if isinstance(codes, list) else codes
