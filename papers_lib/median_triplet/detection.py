"""Tables 2 and 3: Faster R-CNN and Mask R-CNN with a C4 backbone (Ren et al. 2015; He et al. 2017).

From torchvision's parts: conv1 … layer3 give one feature map of stride 16, RoIAlign cuts proposals out of it,
and layer4, with a batch normalisation after it as in MoCo's configs, is the head of the boxes and of the
masks. All layers learn, batch normalisation too. Against detectron2 there is no PreciseBN, the mask's RoIs
pass layer4 once more, and RoIAlign takes 2 × 2 samples a bin where theirs takes as many as fit.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign, roi_align

from papers_lib import checkpoint, compute
from papers_lib.datasets import coco, voc
from papers_lib.datasets.scenes import Scene, Scenes, masks, picture
from papers_lib.errors import PapersError
from papers_lib.evaluation.detection import Found, coco_ap, encode, require
from papers_lib.median_triplet.transfer_options import PROTOCOLS, Protocol, TransferSettings
from papers_lib.networks import backbones, cifar

Report = Callable[[int, int, str], None]
Weights = dict[str, Tensor] | None
Example = tuple[Tensor, dict[str, Tensor]]

READERS = {coco.NAME: coco.load, voc.NAME: voc.load}
ANCHORS = (32, 64, 128, 256, 512)  # sides in pixels, in an image with a shorter side of 800
RATIOS = (0.5, 1.0, 2.0)
THREADS, AHEAD = 4, 3  # decoders, and batches decoded ahead
EVERY = 45.0  # seconds between checkpoints


# The network


class Body(nn.Sequential):
    """The backbone up to layer3: images [B, 3, H, W] to one feature map of `out_channels`."""

    out_channels: int
    stride: int  # pixels of the image a pixel of the map


class OneMapAlign(MultiScaleRoIAlign):  # type: ignore[misc]
    """RoIAlign on the one map there is, at its scale, half a pixel of it accounted for as in detectron2.

    torchvision guesses the scale from the first batch and keeps it; with small images, which are padded to
    multiples of 32, the guess can be wrong by a factor of two, and a resumed run can guess otherwise.
    """

    def __init__(self, size: int, stride: int) -> None:
        super().__init__(["0"], size, sampling_ratio=2)
        self.scale = 1 / stride

    def forward(
        self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> Tensor:
        """RoIs [R, c, size, size] of all images."""
        size, samples = self.output_size, self.sampling_ratio
        rois: Tensor = roi_align(x["0"], boxes, size, self.scale, samples, aligned=True)
        return rois


class Pooled(nn.Module):
    """Box head: RoIs [R, c, s, s] through the last stage, averaged to [R, d]."""

    def __init__(self, stage: nn.Module) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, rois: Tensor) -> Tensor:
        """Features of the RoIs."""
        features: Tensor = self.stage(rois)
        return features.mean((2, 3))


def faster_rcnn_c4(settings: TransferSettings, classes: int, weights: Weights = None) -> FasterRCNN:
    """Faster R-CNN on any backbone of `networks.cifar.build` that ends in four stages.

    Args:
        settings: backbone, image size, proposals, RoI size, `frozen`.
        classes: without the background.
        weights: the state dict of the trained encoder; None for random weights.

    Raises:
        PapersError: weights of another architecture, or a backbone without stages.
    """
    body, stage, dimension = _cut(settings, weights)
    return FasterRCNN(body, **_common(settings, body, stage, dimension, classes))


def mask_rcnn_c4(settings: TransferSettings, classes: int, weights: Weights = None) -> MaskRCNN:
    """Mask R-CNN; the mask head shares the last stage with the box head. Arguments as `faster_rcnn_c4`."""
    body, stage, dimension = _cut(settings, weights)
    return MaskRCNN(
        body,
        mask_roi_pool=OneMapAlign(_roi_size(settings), body.stride),
        mask_head=stage,
        mask_predictor=MaskRCNNPredictor(dimension, min(256, dimension), classes + 1),
        **_common(settings, body, stage, dimension, classes),
    )


def _cut(settings: TransferSettings, weights: Weights) -> tuple[Body, nn.Module, int]:
    """Body, last stage with its batch normalisation, and the dimension of that."""
    backbone, dimension = cifar.build(settings.backbone, weights)
    body, stage = _stages(backbone, settings.backbone)
    if settings.frozen:
        backbone.requires_grad_(False)
    body.eval()
    with torch.no_grad():
        _, body.out_channels, side, _ = body(torch.zeros(1, 3, 64, 64)).shape
    body.stride = 64 // side
    return body, nn.Sequential(OrderedDict(stage=stage, norm=nn.BatchNorm2d(dimension))), dimension


def _stages(backbone: Any, name: str) -> tuple[Body, nn.Module]:
    if hasattr(backbone, "stages"):
        return Body(backbone.stem, *backbone.stages[:-1]), backbone.stages[-1]
    parts = OrderedDict(backbone.named_children())
    if "layer4" not in parts:
        raise PapersError(f"the backbone '{name}' has no layer4 to cut off; use a ResNet")
    names = list(parts)
    return Body(OrderedDict((n, parts[n]) for n in names[: names.index("layer4")])), parts["layer4"]


def _roi_size(settings: TransferSettings) -> int:
    return settings.roi_size or (14 if settings.image_size >= 320 else 8)


def _common(
    settings: TransferSettings, body: Body, stage: nn.Module, dimension: int, classes: int
) -> dict[str, Any]:
    """What both detectors have; numbers of proposals are in the ratios of detectron2's C4."""
    scale, count = settings.image_size / 800, settings.proposals
    anchors = AnchorGenerator((tuple(max(4, round(a * scale)) for a in ANCHORS),), (RATIOS,))
    return {
        "min_size": settings.image_size,
        "max_size": round(settings.image_size * 1333 / 800),
        "rpn_anchor_generator": anchors,
        "rpn_pre_nms_top_n_train": 12 * count,
        "rpn_post_nms_top_n_train": 2 * count,
        "rpn_pre_nms_top_n_test": 6 * count,
        "rpn_post_nms_top_n_test": count,
        "rpn_batch_size_per_image": min(256, count),
        "box_batch_size_per_image": min(512, count),
        "box_detections_per_img": min(100, count),
        "box_roi_pool": OneMapAlign(_roi_size(settings), body.stride),
        "box_head": Pooled(stage),
        "box_predictor": FastRCNNPredictor(dimension, classes + 1),
    }


# Fine-tuning


def fine_tune(
    kind: str,
    data: tuple[str, str],
    settings: TransferSettings,
    weights: Weights,
    folder: Path,
    device: str = "auto",
    report: Report = lambda step, total, note: None,
) -> dict[str, Any]:
    """Train a detector from an encoder's weights and score it; resumes from `folder/checkpoint.pt`.

    Args:
        kind: "faster_rcnn" or "mask_rcnn".
        data: root folder and name, "coco2017" or "voc0712".
        settings: the same for every row of a table.
        weights: the encoder's state dict; None for random weights.
        folder: where the checkpoint goes.
        device, report: as in `training.train`.

    Returns:
        Plain JSON: AP_box, AP50_box, AP75_box, and with masks AP_mask, AP50_mask, AP75_mask, fractions of
        the test images' objects; `losses`, means over the last tenth of the steps; `parameters`.

    Raises:
        PapersError: bad data, no pycocotools, weights that do not fit.
        FloatingPointError: a loss that is no longer finite.
    """
    require()
    where = compute.device(device)
    compute.prepare(settings.seed)
    scenes = _scenes(kind, data)
    build = mask_rcnn_c4 if kind == "mask_rcnn" else faster_rcnn_c4
    model = build(settings, len(scenes.classes), weights).to(where)
    loop = Loop(kind, settings, model, scenes, where)
    loop.resume(checkpoint.load(folder / "checkpoint.pt"))
    loop.run(folder / "checkpoint.pt", report)
    found = coco_ap(scenes.test, detect(model, scenes.test, settings.image_size), kind == "mask_rcnn")
    return {name: round(value, 6) for name, value in found.items()} | {
        "losses": loop.means(),
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def _scenes(kind: str, data: tuple[str, str]) -> Scenes:
    root, name = data
    if name not in READERS:
        raise PapersError(f"unknown data set '{name}' for detection: known are {', '.join(READERS)}")
    if kind == "mask_rcnn" and name == voc.NAME:
        raise PapersError("voc0712 has no masks; train faster_rcnn on it, or take coco2017")
    return READERS[name](Path(root))


class Loop(checkpoint.Resumable):
    """State of fine-tuning between steps. A step's random numbers come from the seed and its number alone."""

    KEPT, SAME = ("step", "losses", "model", "optimiser"), ("kind",)

    def __init__(
        self, kind: str, settings: TransferSettings, model: FasterRCNN, scenes: Scenes, where: torch.device
    ) -> None:
        self.kind, self.settings, self.model, self.where = kind, settings, model, where
        self.protocol = PROTOCOLS[kind, settings.det_schedule]
        self.steps = settings.steps or self.protocol.steps
        self.scenes = [scene for scene in scenes.train if (~scene.ignored).any()]
        trained = [p for p in model.parameters() if p.requires_grad]
        self.optimiser = torch.optim.SGD(trained, 0.0, settings.momentum, weight_decay=settings.weight_decay)
        self.step = 0
        self.losses: list[dict[str, float]] = []
        self.order: tuple[int, NDArray[np.int64], NDArray[np.bool_]] | None = None  # of an epoch

    def run(self, path: Path, report: Report) -> None:
        """All steps that are left; a checkpoint to `path` every `EVERY` seconds and at the end."""
        self.model.transform.min_size = sides(self.protocol, self.settings.image_size)
        saved = time.monotonic()
        for batch in self._batches():
            self.losses.append(self._step(batch))
            self.step += 1
            report(self.step, self.steps, self.kind)
            if self.step == self.steps or time.monotonic() - saved > EVERY:
                checkpoint.save(path, self.state())
                saved = time.monotonic()

    def _step(self, batch: list[Example]) -> dict[str, float]:
        torch.manual_seed(self.settings.seed * 1_000_003 + self.step)
        self._training_mode()
        for group in self.optimiser.param_groups:
            group["lr"] = (self.settings.lr or self.protocol.lr) * rate(self.protocol, self.step, self.steps)
        images = [image.to(self.where) for image, _ in batch]
        targets = [{name: value.to(self.where) for name, value in target.items()} for _, target in batch]
        losses: dict[str, Tensor] = self.model(images, targets)
        loss = torch.stack(list(losses.values())).sum()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        values = torch.stack([loss, *losses.values()]).tolist()  # one wait for the device
        if not math.isfinite(values[0]):
            raise FloatingPointError(f"the loss is {values[0]} at step {self.step + 1}; lower lr")
        return dict(zip(["loss", *losses], values, strict=True))

    def _training_mode(self) -> None:
        self.model.train()
        if self.settings.frozen:
            backbones.freeze_batch_norm(self.model.backbone)
            backbones.freeze_batch_norm(self.model.roi_heads.box_head.stage.stage)

    def _batches(self) -> Iterator[list[Example]]:
        """The batches of the steps left, decoded ahead."""
        waiting: deque[list[Future[Example]]] = deque()
        with ThreadPoolExecutor(THREADS) as pool:
            for step in range(self.step, self.steps):
                waiting.append([pool.submit(self._example, *item) for item in self._items(step)])
                if len(waiting) > AHEAD:
                    yield [each.result() for each in waiting.popleft()]
            while waiting:
                yield [each.result() for each in waiting.popleft()]

    def _items(self, step: int) -> Iterator[tuple[Scene, bool]]:
        """Scenes of a step and whether they are mirrored: one permutation an epoch, whatever came before."""
        for number in range(step * self.settings.batch_size, (step + 1) * self.settings.batch_size):
            epoch, at = divmod(number, len(self.scenes))
            if self.order is None or self.order[0] != epoch:
                rng = np.random.default_rng([self.settings.seed, epoch])
                self.order = epoch, rng.permutation(len(self.scenes)), rng.random(len(self.scenes)) < 0.5
            _, order, mirrored = self.order
            yield self.scenes[order[at]], bool(mirrored[at])

    def _example(self, scene: Scene, mirrored: bool) -> Example:
        return example(scene, mirrored, self.kind == "mask_rcnn")

    def means(self) -> dict[str, float]:
        """Each loss, averaged over the last tenth of the steps."""
        last = self.losses[-max(1, self.steps // 10) :]
        return {name: round(sum(each[name] for each in last) / len(last), 5) for name in last[0]}

    def state(self) -> dict[str, Any]:
        """Everything that a killed run needs to go on as if nothing had happened."""
        return super().state() | {"losses": self.losses[-max(1, self.steps // 10) :]}


def rate(protocol: Protocol, step: int, steps: int) -> float:
    """The factor of the learning rate: linear warm-up from 0.001, then drops to a tenth, or a cosine."""
    warm = protocol.warm * steps
    rising = 1.0 if step >= warm else 0.001 + 0.999 * step / warm
    if protocol.drops:
        return float(rising * 0.1 ** sum(step >= round(drop * steps) for drop in protocol.drops))
    return float(rising * (1 + math.cos(math.pi * step / steps)) / 2)


def sides(protocol: Protocol, size: int) -> tuple[int, ...]:
    """The shorter sides in training, in steps of 32 at 800 pixels; each image draws one."""
    step = max(1, round(32 * size / 800))
    return tuple(range(round(size * protocol.shortest), round(size * protocol.longest) + 1, step))


def example(scene: Scene, mirrored: bool, with_masks: bool) -> Example:
    """A scene as torchvision's detectors take it: float [3, H, W] in 0 … 1, and its target without crowds."""
    kept = ~scene.ignored
    boxes, pixels = scene.boxes[kept], picture(scene)
    outlines = masks(scene)[kept] if with_masks else None
    if mirrored:
        pixels = pixels[:, ::-1]
        boxes = np.stack([scene.width - boxes[:, 2], boxes[:, 1], scene.width - boxes[:, 0], boxes[:, 3]], 1)
        outlines = None if outlines is None else outlines[:, :, ::-1]
    image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).float() / 255
    target = {"boxes": torch.from_numpy(boxes), "labels": torch.from_numpy(scene.labels[kept])}
    if outlines is not None:
        target["masks"] = torch.from_numpy(np.ascontiguousarray(outlines)).to(torch.uint8)
    return image, target


@torch.no_grad()
def detect(model: FasterRCNN, scenes: tuple[Scene, ...], image_size: int) -> list[Found]:
    """What a detector finds in each scene, masks as run-length codes."""
    model.eval()
    model.transform.min_size = (image_size,)
    where = next(model.parameters()).device
    found = []
    for scene in scenes:
        pixels = torch.from_numpy(picture(scene)).permute(2, 0, 1).to(where)
        out: dict[str, Tensor] = model([pixels.float() / 255])[0]
        boxes, scores, labels = (out[name].cpu().numpy() for name in ("boxes", "scores", "labels"))
        codes = encode((out["masks"][:, 0] > 0.5).cpu().numpy()) if "masks" in out else None
        found.append(Found(boxes, scores, labels, codes))
    return found
