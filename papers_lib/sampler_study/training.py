"""One run, from unlabelled images to CMC and mAP: the loop, top to bottom.

Each epoch (Cao et al., Section III): embed all training images, cluster them, split the clusters by camera
into proxies, fill the memory with the proxies' means, let the sampler choose batches, and learn. Training
sees pixels and camera numbers; identities are read after it, for the diagnosis alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from papers_lib import checkpoint, compute
from papers_lib.errors import PapersError
from papers_lib.evaluation import retrieval
from papers_lib.networks import backbones
from papers_lib.sampler_study import diagnosis, supervised
from papers_lib.sampler_study.batches import sampler
from papers_lib.sampler_study.images import Loaded, Unlabelled, augmented, load
from papers_lib.sampler_study.learners import Learner, learner
from papers_lib.sampler_study.network import ReidNet, embed, training_mode
from papers_lib.sampler_study.options import TrainSettings
from papers_lib.sampler_study.samplers import visits

Report = Callable[[int, int, str], None]


def train(
    settings: TrainSettings,
    data: tuple[str, str],
    folder: Path,
    device: str = "auto",
    weights: Path | None = None,
    report: Report = lambda step, total, note: None,
) -> dict[str, Any]:
    """Train and evaluate one network; resumes from `folder/checkpoint.pt`.

    Args:
        settings: all that can change the result.
        data: the data set's root folder and name.
        folder: where the checkpoint (and `weights.pt`, with `keep_weights`) goes.
        device: "auto", "cpu" or "cuda".
        weights: file of backbone weights, for `start` "warm" or "file".
        report: called with step, steps in all, and a note.

    Returns:
        Plain JSON: mAP, R1, R5, R10 (fractions) of the checkpoint that `report` names, `best` and
        `last` beside it, `start` (before training), `history`, one entry an epoch.

    Raises:
        PapersError: bad data, weights that do not fit, or no clusters to begin with.
        FloatingPointError: a loss that is no longer finite.
    """
    where = compute.device(device)
    compute.prepare(settings.seed)
    images = load(data, settings, where)
    net = build(settings, weights, where)
    start = evaluate(net, images, settings)
    loop: Loop | supervised.Loop
    if settings.method == "supervised":
        loop = supervised.Loop(settings, net, images.train.pixels, images.train_ids)
    else:
        loop = Loop(settings, net, images.train)
    loop.resume(checkpoint.load(folder / "checkpoint.pt"))
    for epoch in range(loop.epoch, settings.epochs if settings.method != "none" else 0):
        report(epoch, settings.epochs, f"epoch {epoch + 1}")
        loop.run_epoch()
        if loop.epoch % settings.evaluate_every == 0 or loop.epoch == settings.epochs:
            loop.history[-1] |= evaluate(net, images, settings)
        checkpoint.save(folder / "checkpoint.pt", loop.state())
    if settings.keep_weights:
        checkpoint.save(folder / "weights.pt", net.backbone.state_dict())
    history = loop.history
    if isinstance(loop, Loop):
        history = diagnosis.with_purity(history, loop.labels, images.train_ids)
    return _result(start, history, settings) | {"parts": counts(images)}


def build(settings: TrainSettings, weights: Path | None, where: torch.device) -> ReidNet:
    """The network, its backbone from the weights that `start` names."""
    given: str | dict[str, Tensor] | None = None
    if settings.start == "imagenet":
        given = "imagenet"
    elif settings.start != "scratch":
        if weights is None:
            raise PapersError(f"start={settings.start} needs weights; give a file with -p weights FILE")
        given = checkpoint.load_weights(weights)
    net = ReidNet(*backbones.build(settings.backbone, given), settings.stem_relu)
    net.precision = settings.precision
    compute.place(net, where)
    return net


class Loop(checkpoint.Resumable):
    """State of unsupervised training between epochs: network, optimiser, random numbers, history."""

    KEPT = ("epoch", "net", "optimiser", "generator", "history", "labels")

    def __init__(self, settings: TrainSettings, net: ReidNet, images: Unlabelled) -> None:
        self.settings, self.net, self.images = settings, net, images
        self.generator = torch.Generator().manual_seed(settings.seed)
        trained = [p for p in net.parameters() if p.requires_grad]
        self.optimiser = torch.optim.Adam(trained, settings.lr, weight_decay=settings.weight_decay)
        self.learner: Learner = learner(settings)
        self.epoch = 0
        self.history: list[dict[str, float]] = []
        self.labels: list[Tensor] = []  # the clusters of each epoch, int32 [N]

    def run_epoch(self) -> None:
        """Cluster, fill the memory, and learn from the sampler's batches."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.lr * rate(self.settings, self.epoch)
        groups = self.learner.begin(self.epoch, embed(self.net, self.images.pixels), self.images.cameras)
        self.labels.append(groups.clusters.to("cpu", torch.int32))
        logged = groups.summary()
        try:
            batches = sampler(self.settings, groups, self.epoch).batches()
        except PapersError as error:
            if self.epoch == 0:
                raise PapersError(f"the start clusters too badly to learn from: {error}") from None
            # A network that has collapsed stays as it is, and its numbers are those of the collapse.
            self.history.append(logged | {"skipped": 1.0})
        else:
            self.history.append(logged | visits(batches, groups.clusters.cpu()) | self._learn(batches))
        self.epoch += 1

    def _learn(self, batches: list[Tensor]) -> dict[str, float]:
        training_mode(self.net, self.settings.freeze_bn)
        losses = torch.stack([self._step(indices) for indices in batches])
        loss = float(losses.mean())
        if not loss < float("inf"):  # NaN too
            raise FloatingPointError(f"the loss is {loss} in epoch {self.epoch + 1}; lower lr")
        return {"loss": round(loss, 5)}

    def _step(self, indices: Tensor) -> Tensor:
        """Forward, loss, backward, update of the weights, then of the memory."""
        crops = augmented(self.images.pixels, indices, self.settings, self.generator)
        features = self.net(crops)
        loss = self.learner.loss(features, indices)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        written = features.detach()
        if self.settings.memory_write == "eval":
            written = embed(self.net, self.images.pixels[indices.to(crops.device)])
        self.learner.write(written, indices)
        return loss.detach()

    def state(self) -> dict[str, Any]:
        """Everything that a killed run needs to go on as if nothing had happened."""
        return super().state() | {"learner": self.learner.state()}

    def _take(self, state: dict[str, Any]) -> bool:
        images, features = len(self.images.pixels), self.net.bn.num_features
        kept = [*state["labels"], *(v for v in state["learner"].values() if isinstance(v, Tensor))]
        if any(value.shape not in ((images,), (images, features)) for value in kept):
            raise ValueError(f"it is of other images than these {images}")
        self.learner.resume(state["learner"], self.images.pixels.device)
        return super()._take(state)


def rate(settings: TrainSettings, epoch: int) -> float:
    """The factor of the learning rate: linear warm-up from 0.01, then a tenth after each milestone."""
    warm = settings.warm_up_epochs
    factor = 0.01 + 0.99 * epoch / warm if epoch < warm else 1.0
    return float(factor * 0.1 ** sum(epoch >= milestone for milestone in settings.milestones))


def evaluate(net: ReidNet, images: Loaded, settings: TrainSettings) -> dict[str, float]:
    """CMC at 1, 5, 10 and mAP of the query against the gallery, as fractions."""
    query, gallery = images.query, images.gallery
    found = retrieval.cmc_map(
        embed(net, query.pixels), embed(net, gallery.pixels), query.ids, gallery.ids,
        query.cameras, gallery.cameras, ap=settings.ap_rule, no_match=settings.no_match,
    )  # fmt: skip
    return {name: round(float(found[name]), 6) for name in ("mAP", "R1", "R5", "R10")}


def counts(images: Loaded) -> dict[str, int]:
    """How many images each part has."""
    return {
        "train": len(images.train_ids),
        "query": len(images.query.ids),
        "gallery": len(images.gallery.ids),
    }


def _result(
    start: dict[str, float], history: list[dict[str, float]], settings: TrainSettings
) -> dict[str, Any]:
    evaluated = [{k: e[k] for k in start} for e in history if "mAP" in e] or [start]
    last, best = evaluated[-1], max(evaluated, key=lambda e: e["mAP"])
    chosen = best if settings.report == "best" else last
    return chosen | {"last": last, "best": best, "start": start, "history": history}
