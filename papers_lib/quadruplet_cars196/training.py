"""One run, from images to Recall@K: the loop, top to bottom.

Karaman et al. 2019, Section 4: SGD with momentum, Eq. 6 over quadruplets selected from the whole
training set, evaluation on classes that training never saw. The result is that of the last epoch.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from papers_lib import checkpoint, compute
from papers_lib.errors import PapersError
from papers_lib.evaluation import clustering, retrieval
from papers_lib.networks import backbones
from papers_lib.quadruplet_cars196 import batches, losses
from papers_lib.quadruplet_cars196.baselines import BASELINES
from papers_lib.quadruplet_cars196.batches import Batch, Labels
from papers_lib.quadruplet_cars196.embedding import EmbeddingNet, Output, embed
from papers_lib.quadruplet_cars196.options import TrainSettings
from papers_lib.quadruplet_cars196.selection import Selection
from papers_lib.quadruplet_cars196.splits import Images, crops, hold_out, load

Report = Callable[[int, int, str], None]
EVERY_REFERENCE = {"no_sibling": "skip", "m1_fallback": "furthest_inside"}  # so that methods compare


def train(
    settings: TrainSettings,
    data: tuple[str, str],
    folder: Path,
    device: str = "auto",
    weights: Path | None = None,
    report: Report = lambda step, total, note: None,
) -> dict[str, Any]:
    """Train and evaluate one embedding; resumes from `folder/checkpoint.pt`.

    Args:
        settings: all that can change the result.
        data: the data set's root folder and name.
        folder: where the checkpoint (and `weights.pt`, with `keep_weights`) goes.
        device: "auto", "cpu" or "cuda".
        weights: file of backbone weights, for `start` "warm" or "file".
        report: called with step, steps in all, and a note.

    Returns:
        Plain JSON: "R@1" … "R@8", "MAP@R", "NMI", "AMI" with their k-means spread, `within_over_all`
        and `chance` (R@1 of a random order), all fractions; `history`, one entry an epoch; `mined`,
        what the selections do on the last features.

    Raises:
        PapersError: bad data, or weights that do not fit.
        FloatingPointError: a loss that is no longer finite.
    """
    where = compute.device(device)
    compute.prepare(settings.seed)
    trained, tested, classes = load(*data, settings, where)
    net = build(settings, classes, weights, where)
    loop = Loop(settings, net, trained, where)
    loop.resume(checkpoint.load(folder / "checkpoint.pt"))

    total = settings.epochs * loop.steps
    for epoch in range(loop.epoch, settings.epochs):
        loop.run_epoch(lambda step, note, e=epoch: report(e * loop.steps + step, total, note))  # type: ignore[misc]
        loop.history[-1] |= {"R@1": recall_at_1(net, loop.judged or tested, settings.crop)}
        loop.keep_best()
        checkpoint.save(folder / "checkpoint.pt", loop.state())
    loop.restore_best()

    if settings.keep_weights:
        checkpoint.save(folder / "weights.pt", net.backbone.state_dict())
    return evaluate(net, tested, settings) | {"history": loop.history, "mined": loop.mined()}


def build(
    settings: TrainSettings, classes: tuple[int, int], weights: Path | None, where: torch.device
) -> EmbeddingNet:
    """The network of Figure 1, its backbone from the weights that `start` names."""
    given: str | dict[str, Tensor] | None = None
    if settings.start == "imagenet":
        given = "imagenet"
    elif settings.start != "scratch":
        if weights is None:
            raise PapersError(f"start={settings.start} needs weights; give a file with -p weights FILE")
        given = checkpoint.load_weights(weights)
    backbone, dimension = backbones.build(settings.backbone, given)
    net = EmbeddingNet(backbone, dimension, settings.embedding_dim, *classes)
    net.normalise, net.precision = settings.normalise, settings.precision
    compute.place(net, where)
    return net


class Loop(checkpoint.Resumable):
    """State of training between epochs: network, optimiser, random numbers, history."""

    KEPT = ("epoch", "net", "optimiser", "schedule", "generator", "history", "best")

    def __init__(
        self, settings: TrainSettings, net: EmbeddingNet, images: Images, where: torch.device
    ) -> None:
        self.settings, self.net, self.where = settings, net, where
        self.judged: Images | None = None
        if settings.select == "held_out_classes":
            images, self.judged = hold_out(images)
        self.images = images
        self.steps = batches.steps_per_epoch(images.labels, settings)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.optimiser = torch.optim.SGD(
            net.parameters(), settings.lr, settings.momentum, weight_decay=settings.weight_decay
        )
        self.schedule = schedule(self.optimiser, settings, self.steps)
        self.epoch = 0
        self.history: list[dict[str, float]] = []
        self.best: tuple[float, dict[str, Tensor]] | None = None

    def run_epoch(self, report: Callable[[int, str], None]) -> None:
        """One pass over the references; its means go to `history`."""
        self.net.train()
        if self.settings.freeze_bn:
            backbones.freeze_batch_norm(self.net)
        selections: list[Selection] = []
        logged: dict[str, list[Tensor]] = {}
        stream = batches.epoch(
            self.settings, self.images.labels, self.bank, self.generator, selections.append
        )
        for step, batch in enumerate(stream, 1):
            for name, value in self.step(batch, selections.append).items():
                logged.setdefault(name, []).append(value)
            report(step, f"epoch {self.epoch + 1}")
        if not logged:
            raise PapersError("no reference has a quadruplet left; use m1_fallback=furthest_inside")
        self.epoch += 1
        means = {name: round(float(torch.stack(values).mean()), 5) for name, values in logged.items()}
        if not means["loss"] < float("inf"):  # NaN too
            raise FloatingPointError(f"the loss is {means['loss']} in epoch {self.epoch}; lower lr")
        self.history.append(means | fallback_rates(selections))

    def step(self, batch: Batch, log: Callable[[Selection], None]) -> dict[str, Tensor]:
        """Forward, loss, backward, update."""
        settings, labels = self.settings, self.images.labels
        images = crops(self.images, batch.indices, settings, self.generator)
        out = self.net(images)
        fine, coarse = (part[batch.indices].to(self.where) for part in labels)
        if settings.method in BASELINES:
            loss = BASELINES[settings.method](out.embedding, fine) * settings.batch_size
            parts = {"loss": loss}
        elif settings.method == "ce":
            loss = classify(settings, out, coarse, fine)
            parts = {"loss": loss}
        else:
            if batch.quadruplets is None:
                batch = from_batch(settings, batch, out, Labels(fine, coarse), self.generator, log)
            parts = quadruplet_loss(settings, out, batch, coarse, fine)
        self.optimiser.zero_grad(set_to_none=True)
        parts["loss"].backward()
        self.optimiser.step()
        self.schedule.step()
        return {name: value.detach() for name, value in parts.items()}

    def bank(self) -> Tensor:
        """Embeddings of the whole training set as the network is now: evaluation mode, no augmentation."""
        return embed(self.net, self.images.pixels, self.settings.crop)

    def mined(self) -> dict[str, float]:
        """What Methods 1 and 2 choose on the final features: how often they agree, and skip a sibling."""
        features, labels = self.bank(), self.images.labels
        one, two, near = (
            batches.choose(
                self.settings.model_copy(update={"method": method} | EVERY_REFERENCE),
                features, labels, None, torch.Generator().manual_seed(0),
            )
            for method in ("method_1", "method_2", "nearest_sibling")
        )  # fmt: skip
        same = (one.quadruplets == two.quadruplets).float().mean(0).tolist()
        skips = (two.quadruplets[:, 2] != near.quadruplets[:, 2]).float().mean()
        return {
            "same_positive": round(same[1], 5),
            "same_sibling": round(same[2], 5),
            "skips_a_closer_sibling": round(float(skips), 5),
            "distinct_method_1": distinct(one),
            "distinct_method_2": distinct(two),
            "method_2_positive_fallback": round(float(two.positive_fallback.float().mean()), 5),
            "method_2_sibling_fallback": round(float(two.sibling_fallback.float().mean()), 5),
        }

    def keep_best(self) -> None:
        """With held-out training classes: remember the epoch that retrieves them best."""
        score = self.history[-1]["R@1"]
        if self.judged is not None and (self.best is None or score > self.best[0]):
            self.best = score, {k: v.clone() for k, v in self.net.state_dict().items()}

    def restore_best(self) -> None:
        """Go back to the remembered epoch, if there is one."""
        if self.best is not None:
            self.net.load_state_dict(self.best[1])

    def _take(self, state: dict[str, Any]) -> bool:
        if state["best"] is not None:
            self.net.load_state_dict(state["best"][1])  # it fits, or nothing is taken up
        return super()._take(state)


def schedule(
    optimiser: torch.optim.Optimizer, settings: TrainSettings, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """Constant, or one cycle over the whole run."""
    if settings.schedule == "one_cycle" and settings.epochs:
        return torch.optim.lr_scheduler.OneCycleLR(
            optimiser, settings.lr, total_steps=settings.epochs * steps, pct_start=0.3
        )
    return torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0)


def classify(settings: TrainSettings, out: Output, coarse: Tensor, fine: Tensor) -> Tensor:
    """Eq. 4 over the images given."""
    return losses.classification_loss(
        out.coarse, out.fine, coarse, fine,
        lc1=settings.lc1, lc2=settings.lc2,
        swap_ce_weights=settings.swap_ce_weights, reduction=settings.reduction,
    )  # fmt: skip


def from_batch(
    settings: TrainSettings,
    batch: Batch,
    out: Output,
    labels: Labels,
    generator: torch.Generator,
    log: Callable[[Selection], None],
) -> Batch:
    """In-batch selection: the same rule, over the images of this step alone."""
    references = torch.arange(0, len(batch.indices), batches.PER_CLASS)[: settings.batch_size]
    chosen = batches.choose(settings, out.embedding.detach(), labels, references, generator)
    log(chosen)
    return Batch(batch.indices, chosen.quadruplets, chosen.valid)


def quadruplet_loss(
    settings: TrainSettings, out: Output, batch: Batch, coarse: Tensor, fine: Tensor
) -> dict[str, Tensor]:
    """Eq. 6 of a batch; beside it the distances and the share of hinges at work."""
    assert batch.quadruplets is not None and batch.valid is not None
    members = batch.quadruplets.to(coarse.device)
    labelled = members[:, 0] if settings.ce_on == "reference" else members.flatten()
    scores = Output(out.embedding, out.coarse[labelled], out.fine[labelled])
    members = members[batch.valid.to(coarse.device)]
    d_rp, d_rm, d_rn = losses.distances(out.embedding, members)
    loss = losses.combined_loss(
        d_rp, d_rm, d_rn, classify(settings, scores, coarse[labelled], fine[labelled]),
        m1=settings.m1, m2=settings.m2, margin_rule=settings.margin_rule,
        t1=settings.t1, t2=settings.t2, lg1=settings.lg1, lg2=settings.lg2,
        var_unbiased=settings.var_unbiased, global_distance=settings.global_distance,
        eta=settings.eta, reduction=settings.reduction,
    )  # fmt: skip
    if not len(members):  # in-batch selection found none
        return {"loss": loss}
    fine_margin = settings.m1 - (settings.m2 if settings.margin_rule == "equation" else 0)
    return {
        "loss": loss,
        "D_RP": d_rp.mean(),
        "D_RM": d_rm.mean(),
        "D_RN": d_rn.mean(),
        "active_1": (d_rm < d_rp + fine_margin).float().mean(),
        "active_2": (d_rn < d_rm + settings.m2).float().mean(),
    }


def distinct(chosen: Selection) -> float:
    """Different images among the P+ and P− chosen, a reference."""
    members = chosen.quadruplets[:, 1:3]
    return round(sum(len(torch.unique(column)) for column in members.T) / len(members), 5)


def fallback_rates(selections: list[Selection]) -> dict[str, float]:
    """Share of references whose P+ or P− came from inside the sphere, over an epoch's selections."""
    positive = torch.cat([s.positive_fallback.cpu() for s in selections]) if selections else torch.zeros(0)
    sibling = torch.cat([s.sibling_fallback.cpu() for s in selections]) if selections else torch.zeros(0)
    if not len(positive):
        return {}
    return {
        "positive_fallback": round(float(positive.float().mean()), 5),
        "sibling_fallback": round(float(sibling.float().mean()), 5),
    }


def recall_at_1(net: EmbeddingNet, images: Images, crop: int) -> float:
    """R@1 of a split as the network is now."""
    features = embed(net, images.pixels, crop)
    fine = images.labels.fine.to(features.device)
    return round(retrieval.recall_at_k(features, fine, ks=(1,))[1], 5)


def evaluate(net: EmbeddingNet, images: Images, settings: TrainSettings) -> dict[str, float]:
    """Recall@K and MAP@R in one pass, NMI and AMI over k-means seeds, on the unseen classes."""
    features = embed(net, images.pixels, settings.crop)
    fine = images.labels.fine
    found = retrieval.scores(features, fine.to(features.device))
    clusters = clustering.nmi(features.cpu(), fine, seeds=range(settings.nmi_seeds))
    return {k: round(v, 6) for k, v in found.items()} | {
        "NMI": round(clusters.nmi_mean, 6),
        "NMI_sd": round(clusters.nmi_sd, 6),
        "AMI": round(clusters.ami_mean, 6),
        "AMI_sd": round(clusters.ami_sd, 6),
        "within_over_all": round(within_over_all(features.cpu(), fine), 6),
        "chance": round(chance(fine), 6),
    }


def chance(labels: Tensor) -> float:
    """R@1 of a random order: the mean share of a query's class among the others."""
    counts = labels.bincount().double()
    return float((counts * (counts - 1)).sum() / (len(labels) * (len(labels) - 1)))


def within_over_all(features: Tensor, labels: Tensor) -> float:
    """Variance within the classes over all variance, of features [N, d]: 0 tight, 1 no classes."""
    _, index, counts = labels.unique(return_inverse=True, return_counts=True)
    sums = torch.zeros(len(counts), features.shape[1]).index_add_(0, index, features.float())
    centres = sums / counts[:, None]
    within = (features - centres[index]).square().sum()
    return float(within / (features - features.mean(0)).square().sum())
