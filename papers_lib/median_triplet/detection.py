"""Tables 2 and 3: Faster R-CNN and Mask R-CNN with a C4 backbone (Ren et al. 2015; He et al. 2017).

From torchvision's parts: conv1 … layer3 give one feature map of stride 16, RoIAlign cuts proposals out of it,
and layer4, with a batch normalisation after it as in MoCo's configs, is the head of the boxes and of the
masks. All layers learn, batch normalisation too. Against detectron2 there is no PreciseBN, the mask's RoIs
pass layer4 once more, and RoIAlign takes 2 × 2 samples per bin where theirs takes as many as fit.

A step's pictures pass in `accumulation` parts, which several processes share. Batch normalisation is over the
parts that pass at once.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign, roi_align

from papers_lib import checkpoint, compute, pilot, processes
from papers_lib.datasets import coco, voc
from papers_lib.datasets.scenes import Scene, Scenes, masks, picture
from papers_lib.datasets.stream import Stream, moved
from papers_lib.errors import PapersError
from papers_lib.evaluation.detection import Found, coco_ap, encode, require
from papers_lib.median_triplet.options import PROTOCOLS, Protocol, TransferSettings
from papers_lib.networks import backbones, cifar

Report = Callable[..., None]
Weights = dict[str, Tensor] | None
Example = tuple[Tensor, dict[str, Tensor]]
Key = tuple[int, bool]  # a scene, and whether it is mirrored

READERS = {coco.NAME: coco.load, voc.NAME: voc.load}
ANCHORS = (32, 64, 128, 256, 512)  # sides in pixels, in an image with a shorter side of 800
RATIOS = (0.5, 1.0, 2.0)
EVERY = 45.0  # seconds between checkpoints


# -- the network --


class Body(nn.Sequential):
    """The backbone up to layer3: images [B, 3, H, W] to one feature map of `out_channels`."""

    out_channels: int
    stride: int  # pixels of the image per pixel of the map


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
        # aligned=True: the centre of a pixel lies at ½
        rois: Tensor = roi_align(x["0"], boxes, size, self.scale, samples, aligned=True)
        return rois


class Pooled(nn.Module):
    """Box head: RoIs [R, c, s, s] through the last stage, averaged to [R, d]."""

    def __init__(self, stage: nn.Module) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, rois: Tensor) -> Tensor:
        """Features of the RoIs."""
        features: Tensor = self.stage(rois)  # [R, d, s / 2, s / 2]
        return features.mean((2, 3))


def detector(settings: TransferSettings, classes: int, weights: Weights = None) -> FasterRCNN:
    """Faster or Mask R-CNN on any backbone of `networks.cifar.build` that ends in four stages.

    The mask head shares the last stage with the box head. Numbers of proposals are in the ratios of
    detectron2's C4.

    Args:
        settings: task, backbone, image size, proposals, RoI size, `frozen`.
        classes: without the background.
        weights: the state dict of the trained encoder; None for random weights.

    Raises:
        PapersError: weights of another architecture, or a backbone without stages.
    """
    # -- the body, which gives the map, and the last stage with its batch normalisation --
    backbone, dimension = cifar.build(settings.backbone, weights)
    body, layer4 = _stages(backbone, settings.backbone)
    stage = nn.Sequential(OrderedDict(stage=layer4, norm=nn.BatchNorm2d(dimension)))
    if settings.frozen:
        backbone.requires_grad_(False)  # the norm after the stage still learns
    body.eval()
    with torch.no_grad():
        _, body.out_channels, side, _ = body(torch.zeros(1, 3, 64, 64)).shape
    body.stride = 64 // side  # 16 of a ResNet with the ImageNet stem

    # -- proposals, RoIs and heads --
    scale, count = settings.image_size / 800, settings.proposals
    roi_size = settings.roi_size or (14 if settings.image_size >= 320 else 8)
    if settings.task == "mask_rcnn":  # drawn before the box predictor
        mask_predictor = MaskRCNNPredictor(dimension, min(256, dimension), classes + 1)
    parts = {
        "min_size": settings.image_size,
        "max_size": round(settings.image_size * 1333 / 800),
        "rpn_anchor_generator": AnchorGenerator(
            (tuple(max(4, round(a * scale)) for a in ANCHORS),), (RATIOS,)
        ),
        "rpn_pre_nms_top_n_train": 12 * count,
        "rpn_post_nms_top_n_train": 2 * count,
        "rpn_pre_nms_top_n_test": 6 * count,
        "rpn_post_nms_top_n_test": count,
        "rpn_batch_size_per_image": min(256, count),
        "box_batch_size_per_image": min(512, count),
        "box_detections_per_img": min(100, count),
        "box_roi_pool": OneMapAlign(roi_size, body.stride),
        "box_head": Pooled(stage),
        "box_predictor": FastRCNNPredictor(dimension, classes + 1),
    }
    if settings.task != "mask_rcnn":
        return FasterRCNN(body, **parts)
    return MaskRCNN(
        body,
        mask_roi_pool=OneMapAlign(roi_size, body.stride),
        mask_head=stage,
        mask_predictor=mask_predictor,
        **parts,
    )


def _stages(backbone: Any, name: str) -> tuple[Body, nn.Module]:
    """All up to the third stage, and the fourth."""
    if hasattr(backbone, "stages"):
        return Body(backbone.stem, *backbone.stages[:-1]), backbone.stages[-1]
    parts = OrderedDict(backbone.named_children())
    if "layer4" not in parts:
        raise PapersError(f"the backbone '{name}' has no layer4 to cut off; use a ResNet")
    names = list(parts)
    return Body(OrderedDict((n, parts[n]) for n in names[: names.index("layer4")])), parts["layer4"]


# -- fine-tuning --


def fine_tune(
    data: tuple[str, str],
    settings: TransferSettings,
    weights: Weights,
    folder: Path,
    device: str = "auto",
    report: Report = lambda *_: None,
) -> dict[str, Any]:
    """Train a detector from an encoder's weights and score it; resumes from `folder/checkpoint.pt`.

    Args:
        data: root folder and name, "coco2017" or "voc0712".
        settings: the same for every row of a table; `task` is "faster_rcnn" or "mask_rcnn".
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
    where = processes.device(compute.device(device))
    compute.prepare(settings.seed)
    root, name = data
    with_masks = settings.task == "mask_rcnn"
    if name not in READERS:
        raise PapersError(f"unknown data set '{name}' for detection: known are {', '.join(READERS)}")
    if with_masks and name == voc.NAME:
        raise PapersError("voc0712 has no masks; train faster_rcnn on it, or take coco2017")
    scenes = READERS[name](Path(root))
    model = detector(settings, len(scenes.classes), weights).to(where)
    processes.synchronised(model, where)
    loop = Loop(settings, model, scenes, where)
    loop.resume(checkpoint.load(folder / "checkpoint.pt"))
    processes.collected(None)  # nobody writes before all have read
    loop.run(folder / "checkpoint.pt", report)
    mine = scenes.test[processes.part(len(scenes.test))]
    found = detect(model, mine, settings.image_size, settings.precision)
    every = [one for part in processes.collected(found) for one in part]  # in the order of the test pictures
    if processes.group()[0]:
        return {}  # the first counts for all
    precision = coco_ap(scenes.test, every, with_masks)
    return {name: round(value, 6) for name, value in precision.items()} | {
        "losses": loop.means(),
        "parameters": sum(p.numel() for p in model.parameters()),
    }


class Loop(checkpoint.Resumable):
    """State of fine-tuning between steps. A step's random numbers come from the seed and its number alone."""

    KEPT, SAME = ("step", "losses", "model", "optimiser"), ("kind",)

    def __init__(
        self, settings: TransferSettings, model: FasterRCNN, scenes: Scenes, where: torch.device
    ) -> None:
        self.kind, self.settings, self.model, self.where = settings.task, settings, model, where
        self.protocol = PROTOCOLS[settings.task, settings.det_schedule]
        self.steps = settings.steps or self.protocol.steps
        # a picture of crowds alone has nothing to learn from
        self.scenes = [scene for scene in scenes.train if (~scene.ignored).any()]
        trained = [p for p in model.parameters() if p.requires_grad]
        self.optimiser = torch.optim.SGD(trained, 0.0, settings.momentum, weight_decay=settings.weight_decay)
        self.step = 0
        self.losses: list[dict[str, float]] = []
        self.rank, self.world = processes.group()
        size, parts = settings.batch_size, settings.accumulation
        if size % parts or parts % self.world:
            raise PapersError(
                f"{size} pictures per step in {parts} parts over {self.world} processes: "
                "accumulation must divide batch_size, and processes accumulation"
            )
        self.stream = Stream(partial(_read_parts, self.scenes, self.kind == "mask_rcnn"), where)

    def run(self, path: Path, report: Report) -> None:
        """All steps that are left; a checkpoint to `path` every `EVERY` seconds and at the end."""
        self.model.transform.min_size = sides(self.protocol, self.settings.image_size)
        saved = time.monotonic()
        for parts in pilot.steps(self.stream(self._keys()), self.steps - self.step, self.settings.batch_size):
            # -- the step's rate --
            self.model.train()
            if self.settings.frozen:
                backbones.freeze_batch_norm(self.model.backbone)
                backbones.freeze_batch_norm(self.model.roi_heads.box_head.stage.stage)
            lr = (self.settings.lr or self.protocol.lr) * rate(self.protocol, self.step, self.steps)
            for group in self.optimiser.param_groups:
                group["lr"] = lr

            # -- forward and backward, part by part --
            self.optimiser.zero_grad(set_to_none=True)
            logged: list[dict[str, float]] = []
            for number, part in enumerate(parts):
                logged.append(self._backward(part, number * self.world + self.rank))

            # -- step --
            processes.average_gradients(p for p in self.model.parameters() if p.requires_grad)
            self.optimiser.step()

            # -- what is kept --
            names = logged[0]
            losses = processes.mean({name: sum(one[name] for one in logged) / len(logged) for name in names})
            if not math.isfinite(losses["loss"]):
                raise FloatingPointError(f"the loss is {losses['loss']} at step {self.step + 1}; lower lr")
            self.losses.append(losses)
            self.step += 1
            if self.rank:
                continue
            report(self.step, self.steps, self.kind, {"loss": losses["loss"]})
            if self.step == self.steps or time.monotonic() - saved > EVERY:
                checkpoint.save(path, self.state())
                saved = time.monotonic()

    def _backward(self, part: list[Example], number: int) -> dict[str, float]:
        """Add the gradients of a part of the step's pictures; its losses, each a mean over them."""
        # the part's own random numbers, whoever computes it
        torch.manual_seed((self.settings.seed * 1_000_003 + self.step) * 1009 + number)
        images = [moved(image, self.where) / 255 for image, _ in part]  # [3, H, W] each, of any size
        targets = [{name: moved(x, self.where) for name, x in target.items()} for _, target in part]
        with compute.autocast(self.where, self.settings.precision):
            losses: dict[str, Tensor] = self.model(images, targets)
        values = torch.stack([one.float() for one in losses.values()])
        loss = values.sum()  # each with weight one, as in the papers
        (loss / (self.settings.accumulation // self.world)).backward()
        numbers = torch.cat((loss[None], values)).tolist()  # one wait for the device
        return dict(zip(["loss", *losses], numbers, strict=True))

    def _keys(self) -> Iterator[list[list[Key]]]:
        """This process's parts of each step left: which scenes, and which of them mirrored.

        One permutation per epoch, whatever came before.
        """
        size, count, epoch = self.settings.batch_size, len(self.scenes), -1
        length = size // self.settings.accumulation  # of a part
        for step in range(self.step, self.steps):
            keys = []
            for number in range(step * size, (step + 1) * size):
                if number // count != epoch:
                    epoch = number // count
                    rng = np.random.default_rng([self.settings.seed, epoch])
                    order, mirrored = rng.permutation(count), rng.random(count) < 0.5
                keys.append((int(order[number % count]), bool(mirrored[number % count])))
            parts = [keys[at : at + length] for at in range(0, size, length)]
            yield parts[self.rank :: self.world]

    def means(self) -> dict[str, float]:
        """Each loss, averaged over the last tenth of the steps."""
        last = self.losses[-max(1, self.steps // 10) :]
        return {name: round(sum(losses[name] for losses in last) / len(last), 5) for name in last[0]}

    def state(self) -> dict[str, Any]:
        """Everything that a killed run needs to go on as if nothing had happened."""
        return super().state() | {"losses": self.losses[-max(1, self.steps // 10) :]}


def rate(protocol: Protocol, step: int, steps: int) -> float:
    """The factor of the learning rate: linear warm-up from 0.001, then drops to a tenth, or a cosine."""
    # detectron2: 0.001 + 0.999 t / T_warm, then 0.1 to the number of drops passed
    warm = protocol.warm * steps
    rising = 1.0 if step >= warm else 0.001 + 0.999 * step / warm
    if protocol.drops:
        return float(rising * 0.1 ** sum(step >= round(drop * steps) for drop in protocol.drops))
    return float(rising * (1 + math.cos(math.pi * step / steps)) / 2)  # ½ (1 + cos(π t / T))


def sides(protocol: Protocol, size: int) -> tuple[int, ...]:
    """The shorter sides in training, in steps of 32 at 800 pixels; each image draws one."""
    step = max(1, round(32 * size / 800))
    return tuple(range(round(size * protocol.shortest), round(size * protocol.longest) + 1, step))


def _read_parts(
    scenes: Sequence[Scene], with_masks: bool, parts: Sequence[Sequence[Key]]
) -> list[list[Example]]:
    return [[example(scenes[index], mirrored, with_masks) for index, mirrored in part] for part in parts]


def example(scene: Scene, mirrored: bool, with_masks: bool) -> Example:
    """A scene, uint8 [3, H, W], and its target without crowds, as torchvision's detectors take it."""
    kept = ~scene.ignored
    boxes, pixels = scene.boxes[kept], picture(scene)  # [N, 4], [H, W, 3]
    outlines = masks(scene)[kept] if with_masks else None  # [N, H, W]
    if mirrored:
        pixels = pixels[:, ::-1]
        # x ← width − x, and the right edge becomes the left
        boxes = np.stack([scene.width - boxes[:, 2], boxes[:, 1], scene.width - boxes[:, 0], boxes[:, 3]], 1)
        outlines = None if outlines is None else outlines[:, :, ::-1]
    image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    target = {"boxes": torch.from_numpy(boxes), "labels": torch.from_numpy(scene.labels[kept])}
    if outlines is not None:
        target["masks"] = torch.from_numpy(np.ascontiguousarray(outlines)).to(torch.uint8)
    return image, target


@torch.no_grad()
def detect(
    model: FasterRCNN, scenes: tuple[Scene, ...], image_size: int, precision: compute.Precision = "float32"
) -> list[Found]:
    """What a detector finds in each scene, masks as run-length codes."""
    model.eval()
    model.transform.min_size = (image_size,)
    where = next(model.parameters()).device
    detections = []
    pictures = Stream(_read_picture, where, stay=False)([[scene] for scene in scenes])
    for pixels in pilot.steps(pictures, len(scenes)):  # uint8 [3, H, W]
        with compute.autocast(where, precision):
            out: dict[str, Tensor] = model([moved(pixels, where) / 255])[0]
        boxes, scores, labels = (out[name].float().cpu().numpy() for name in ("boxes", "scores", "labels"))
        # masks [N, 1, H, W] of probabilities
        codes = encode((out["masks"][:, 0] > 0.5).cpu().numpy()) if "masks" in out else None
        detections.append(Found(boxes, scores, labels, codes))
    return pilot.repeated(detections, len(scenes))


def _read_picture(scenes: Sequence[Scene]) -> Tensor:
    return torch.from_numpy(picture(scenes[0])).permute(2, 0, 1)
