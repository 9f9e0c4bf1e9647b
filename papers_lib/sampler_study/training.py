"""One run, from unlabelled images to CMC and mAP: the loop, top to bottom.

Each epoch (Cao et al., Section III): embed all training images, cluster them, split the clusters by camera
into proxies, fill the memory with the proxies' means, let the sampler choose batches, and learn. Training
sees pixels, or frozen features, and camera numbers; identities are read after it, for the diagnosis alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from papers_lib import checkpoint, compute, pilot
from papers_lib.datasets.stream import take
from papers_lib.errors import PapersError
from papers_lib.evaluation import retrieval
from papers_lib.networks import backbones
from papers_lib.sampler_study import diagnosis, supervised
from papers_lib.sampler_study.images import Loaded, Unlabelled, augmented, load
from papers_lib.sampler_study.methods import LEARNERS, CameraAware, sampler
from papers_lib.sampler_study.network import ReidNet, embed, head, training_mode
from papers_lib.sampler_study.options import TrainSettings
from papers_lib.sampler_study.samplers import visits

Report = Callable[..., None]  # epoch, epochs in all, a note, and the last epoch's numbers by name


def train(
    settings: TrainSettings,
    data: tuple[str, str] | Loaded,
    folder: Path,
    device: str = "auto",
    weights: Path | None = None,
    report: Report = lambda *_: None,
) -> dict[str, Any]:
    """Train and evaluate one network; resumes from `folder/checkpoint.pt`.

    Args:
        settings: all that can change the result.
        data: the data set's root folder and name, or tensors.
        folder: where the checkpoint (and `weights.pt`, with `keep_weights`) goes.
        device: "auto", "cpu" or "cuda".
        weights: file of backbone weights, for `start` "warm" or "file".
        report: called with step, steps in all, and a note.

    Returns:
        Plain JSON: mAP, R1, R5, R10 (fractions) of the epoch that `settings.report` names, `best` and `last`
        beside it, `start` (before training), `history`, one entry per epoch, and `parts`, how many images
        each part has.

    Raises:
        PapersError: bad data, weights that do not fit, or no clusters to begin with.
        FloatingPointError: a loss that is no longer finite.
    """
    where = compute.device(device)
    compute.prepare(settings.seed)
    images = load(data, settings, where)
    frozen = images.train.pixels.ndim == 2
    net = build(settings, weights, where, images.train.pixels.shape[1] if frozen else 0)
    start = evaluate(net, images, settings)

    # -- training --
    loop: Loop | supervised.Loop
    if settings.method == "supervised":
        loop = supervised.Loop(settings, net, images.train.pixels, images.train_ids)
    else:
        loop = Loop(settings, net, images.train)
    loop.resume(checkpoint.load(folder / "checkpoint.pt"))
    for epoch in pilot.epochs(loop.epoch, settings.epochs if settings.method != "none" else 0):
        report(epoch, settings.epochs, f"epoch {epoch + 1}", (loop.history or [start])[-1])
        loop.run_epoch()
        if loop.epoch % settings.evaluate_every == 0 or loop.epoch == settings.epochs:
            loop.history[-1] |= evaluate(net, images, settings)
        checkpoint.save(folder / "checkpoint.pt", loop.state())
    if settings.keep_weights:
        checkpoint.save(folder / "weights.pt", net.backbone.state_dict())

    # -- the result: identities are read here, and not before --
    history = loop.history
    if isinstance(loop, Loop):
        history = diagnosis.with_purity(history, loop.labels, images.train_ids)
    evaluated = [{name: epoch[name] for name in start} for epoch in history if "mAP" in epoch] or [start]
    last, best = evaluated[-1], max(evaluated, key=lambda epoch: epoch["mAP"])
    parts = {"train": images.train_ids, "query": images.query.ids, "gallery": images.gallery.ids}
    return (best if settings.report == "best" else last) | {
        "last": last,
        "best": best,
        "start": start,
        "history": history,
        "parts": {name: len(ids) for name, ids in parts.items()},
    }


def build(settings: TrainSettings, weights: Path | None, where: torch.device, features: int = 0) -> ReidNet:
    """The network, its backbone from the weights that `start` names.

    `features` is the dimension of what it is given where that is frozen features: a linear layer then.
    """
    if features:
        net = ReidNet(head(features), features, settings.stem_relu)
        compute.place(net, where)
        return net
    given: str | dict[str, Tensor] | None = None
    if settings.start == "imagenet" and not settings.weights:
        given = "imagenet"
    elif settings.start != "scratch":
        if weights is None:
            raise PapersError(f"start={settings.start} needs weights; give a file with -p weights FILE")
        given = checkpoint.load_weights(weights)
    net = ReidNet(*backbones.build(settings.backbone, given), settings.stem_relu, settings.pooling)
    net.precision = settings.precision
    compute.place(net, where)
    return net


class Loop(checkpoint.Resumable):
    """Unsupervised training. Its state between epochs is what `KEPT` names; `labels` are the clusters of
    each epoch, int32 [N]."""

    SAME = ("image_count",)
    KEPT = ("epoch", "net", "learner", "optimiser", "generator", "history", "labels")

    def __init__(self, settings: TrainSettings, net: ReidNet, images: Unlabelled) -> None:
        self.settings, self.net, self.images = settings, net, images
        self.image_count = len(images.pixels)
        self.generator = torch.Generator().manual_seed(settings.seed)
        trained = [p for p in net.parameters() if p.requires_grad]
        self.optimiser = torch.optim.Adam(trained, settings.lr, weight_decay=settings.weight_decay)
        learner = LEARNERS.get(settings.method, CameraAware)
        self.where = net.bn.weight.device
        self.learner = learner(settings, (self.image_count, net.bn.num_features)).to(self.where)
        self.epoch = 0
        self.history: list[dict[str, float]] = []
        self.labels: list[Tensor] = []

    def run_epoch(self) -> None:
        """Cluster, fill the memory, and learn from the sampler's batches."""
        s, epoch, pixels = self.settings, self.epoch, self.images.pixels  # uint8 [N, H, W, 3]
        for group in self.optimiser.param_groups:
            group["lr"] = s.lr * rate(s, epoch)

        # -- pseudo-labels, and the memory, from the features of all images --
        features = embed(self.net, pixels)  # [N, d], unit length
        groups = self.learner.begin(epoch, features, self.images.cameras)
        self.labels.append(groups.clusters.to("cpu", torch.int32))
        self.history.append(groups.summary())
        self.epoch += 1

        # -- batches --
        try:
            batches = sampler(s, groups, epoch).batches()
        except PapersError as error:
            if epoch == 0 and s.bad_start == "refuse":
                raise PapersError(f"the start clusters too badly to learn from: {error}") from None
            # A network that has collapsed stays as it is, and its numbers are those of the collapse.
            self.history[-1]["skipped"] = 1.0
            return
        self.history[-1] |= visits(batches, groups.clusters.cpu())

        training_mode(self.net, s.freeze_bn)
        losses = []
        for indices in pilot.steps(batches, len(batches), s.batch_size):  # [B]
            # -- views, forward, loss --
            images = take(pixels, indices, self.where)  # uint8 [B, H, W, 3]
            views = augmented(images, s, self.generator)  # [B, 3, H, W]
            features = self.net(views)  # [B, d]
            loss = self.learner.loss(features, indices)

            # -- backward, step --
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()

            # -- memory: the features that were learnt from, or those of the plain images after the step --
            written = features.detach()
            if s.memory_write == "eval":
                written = embed(self.net, images)
            self.learner.write(written, indices)
            losses.append(loss.detach())
        self.history[-1]["loss"] = diagnosis.mean_loss(losses, epoch)


def rate(settings: TrainSettings, epoch: int) -> float:
    """The factor of the learning rate: linear warm-up from 0.01, then a tenth after each milestone."""
    warm = settings.warm_up_epochs
    factor = 0.01 + 0.99 * epoch / warm if epoch < warm else 1.0
    return float(factor * 0.1 ** sum(epoch >= milestone for milestone in settings.milestones))


def evaluate(net: ReidNet, images: Loaded, settings: TrainSettings) -> dict[str, float]:
    """CMC at 1, 5, 10 and mAP of the query against the gallery, as fractions."""
    query, gallery = images.query, images.gallery
    measured = retrieval.cmc_map(
        embed(net, query.pixels),
        embed(net, gallery.pixels),
        query.ids,
        gallery.ids,
        query.cameras,
        gallery.cameras,
        ap=settings.ap_rule,
        no_match=settings.no_match,
    )
    return {name: round(float(measured[name]), 6) for name in ("mAP", "R1", "R5", "R10")}
