"""One run, from images to Recall@K: the loop, top to bottom.

Karaman et al. 2019, Section 4: SGD with momentum, Eq. 6 over quadruplets selected from the whole
training set, evaluation on classes that training never saw. The result is that of the last epoch.
`Loop.batches` says what each step learns from, `Loop.step` how.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import SGD, lr_scheduler

from papers_lib import checkpoint, compute, pilot
from papers_lib.errors import PapersError
from papers_lib.networks import backbones
from papers_lib.quadruplet_cars196 import losses
from papers_lib.quadruplet_cars196.baselines import BASELINES, FREE_LENGTH, class_batches
from papers_lib.quadruplet_cars196.embedding import EmbeddingNet, Output, build, embed
from papers_lib.quadruplet_cars196.images import Given, Images, crops, hold_out, load
from papers_lib.quadruplet_cars196.measures import evaluate, mined, recall_at_1
from papers_lib.quadruplet_cars196.options import TrainSettings
from papers_lib.quadruplet_cars196.selection import Selection, select

Report = Callable[..., None]  # step, steps in all, a note, and the last epoch's numbers by name
PER_CLASS = 4  # images of a class in a class-balanced batch

# Settings that are arguments of the same name.
SELECTION = {"sibling", "no_sibling", "m1_fallback"}
EQUATION_4 = {"lc1", "lc2", "swap_ce_weights", "reduction"}
EQUATION_6 = {
    *("m1", "m2", "margin_rule", "eta", "reduction"),
    *("t1", "t2", "lg1", "lg2", "var_unbiased", "global_distance"),
}


def train(
    settings: TrainSettings,
    data: Given,
    folder: Path,
    device: str = "auto",
    weights: Path | None = None,
    report: Report = lambda *_: None,
) -> dict[str, Any]:
    """Train and evaluate one embedding; resumes from `folder/checkpoint.pt`.

    Args:
        settings: all that can change the result.
        data: the data set's root folder and name, or training and test images as tensors.
        folder: where the checkpoint goes.
        device: "auto", "cpu" or "cuda".
        weights: file of backbone weights, where the run starts from one.
        report: called with step, steps in all, and a note.

    Returns:
        Plain JSON: "R@1" … "R@8", "MAP@R", "NMI", "AMI" with their k-means spread, `within_over_all`
        and `chance` (R@1 of a random order), all fractions; `history`, one entry per epoch; `mined`,
        what the selections do on the last features.

    Raises:
        PapersError: bad data, or weights that do not fit.
        FloatingPointError: a loss that is no longer finite.
    """
    where = compute.device(device)
    compute.prepare(settings.seed)
    trained, tested, classes = load(data, settings)
    width = trained.pixels.shape[1] if trained.pixels.ndim == 2 else 0  # of frozen features
    net = build(settings, classes, weights, where, width)
    judged = tested  # whose R@1 the history shows
    if settings.select == "held_out_classes":
        trained, judged = hold_out(trained)
    # moved when they are split, so that no device holds them twice
    trained, tested = trained.to(where), tested.to(where)
    judged = judged.to(where) if settings.select == "held_out_classes" else tested
    loop = Loop(settings, net, trained, where)
    loop.resume(checkpoint.load(folder / "checkpoint.pt"))

    for _ in pilot.epochs(loop.epoch, settings.epochs):
        loop.run_epoch(report)
        recall = recall_at_1(net, judged, settings.crop)
        loop.history[-1] |= {"R@1": recall}
        # The best epoch is chosen by classes held out of training, never by the test classes.
        if settings.select == "held_out_classes" and (loop.best is None or recall > loop.best[0]):
            loop.best = recall, {name: value.clone() for name, value in net.state_dict().items()}
        checkpoint.save(folder / "checkpoint.pt", loop.state())
    if loop.best is not None:
        net.load_state_dict(loop.best[1])

    choices = mined(loop.bank(), trained, settings)
    return evaluate(net, tested, settings) | {"history": loop.history, "mined": choices}


def _normalises(net: EmbeddingNet) -> bool:
    return any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in net.modules())


class Batch(NamedTuple):
    """What a step learns from: n images, and m quadruplets among them."""

    rows: Tensor  # [n] into the training set
    chosen: Selection | None = None  # of places 0 … n − 1 in `rows`; None: chosen in the batch, or no need


class Loop(checkpoint.Resumable):
    """State of training between epochs: network, optimiser, random numbers, history."""

    KEPT = ("epoch", "net", "optimiser", "schedule", "generator", "history", "best")

    def __init__(
        self, settings: TrainSettings, net: EmbeddingNet, images: Images, where: torch.device
    ) -> None:
        self.settings, self.net, self.images, self.where = settings, net, images, where
        if settings.micro_batch and not settings.freeze_bn and _normalises(net):
            raise PapersError(
                "micro_batch is exact only where batch normalisation does not take the batch's statistics; "
                "set freeze_bn=true, or take precision=bfloat16 or a smaller batch_size instead"
            )
        # Who can be a reference: not alone in its class and, unless masked, with a sibling class.
        self.no_features = torch.zeros(len(images.fine), 1)  # random members need none
        usable = select(
            self.no_features,
            images.fine,
            images.coarse,
            "random",
            no_sibling=settings.no_sibling,
            generator=torch.Generator(),
        )
        self.references = usable.quadruplets[:, 0]  # ascending
        self.steps = math.ceil(len(self.references) / settings.batch_size)  # the same for every method
        self.generator = torch.Generator().manual_seed(settings.seed)
        heads = [p for name, p in net.named_parameters() if not name.startswith("backbone.")]
        groups: list[dict[str, Any]] = [{"params": heads}]
        if pretrained := list(net.backbone.parameters()):  # none under frozen features
            groups.append({"params": pretrained, "lr": settings.lr * settings.backbone_lr})
        self.optimiser = SGD(groups, settings.lr, settings.momentum, weight_decay=settings.weight_decay)
        # of each group's own rate: lr · (1 − step / steps), or lr
        falls = settings.schedule == "linear"
        total = max(1, settings.epochs * self.steps)
        self.schedule = lr_scheduler.LambdaLR(self.optimiser, lambda step: 1 - step / total if falls else 1.0)
        self.epoch = 0
        self.history: list[dict[str, float]] = []
        self.best: tuple[float, dict[str, Tensor]] | None = None  # R@1 of held-out classes, weights

    def run_epoch(self, report: Report = lambda *_: None) -> None:
        """One pass over the references; the means of what its steps log go to `history`."""
        before, total = self.epoch * self.steps, self.settings.epochs * self.steps
        self.net.train()
        # a new head's first gradients would spoil what the backbone knows
        self.net.backbone.requires_grad_(self.epoch >= self.settings.heads_first)
        if self.settings.freeze_bn:
            backbones.freeze_batch_norm(self.net)
        logged: dict[str, list[Tensor]] = {}
        images = (PER_CLASS if self.settings.pool == "batch" else 4) * self.settings.batch_size
        for step, batch in enumerate(pilot.steps(self.batches(), self.steps, images), 1):
            for name, values in self.step(batch).items():
                if values.numel():
                    logged.setdefault(name, []).append(values.detach().float().flatten())
            report(before + step, total, f"epoch {self.epoch + 1}", (self.history or [{}])[-1])
        if not logged:
            raise PapersError("no reference has a quadruplet left; use m1_fallback=furthest_inside")
        self.epoch += 1
        means = {name: round(float(torch.cat(values).mean()), 5) for name, values in logged.items()}
        if not means["loss"] < float("inf"):  # NaN too
            raise FloatingPointError(f"the loss is {means['loss']} in epoch {self.epoch}; lower lr")
        self.history.append(means)

    def batches(self) -> Iterator[Batch]:
        """The batches of one epoch: ⌈references / batch size⌉, whatever the method."""
        settings, generator, size = self.settings, self.generator, self.settings.batch_size
        fine, coarse = self.images.fine, self.images.coarse

        # -- cross-entropy alone: as many labels per step as Eq. 5 sees, each image once per pass --
        if settings.method == "ce":
            labelled = size * (4 if settings.ce_on == "all" else 1)
            passes = math.ceil(self.steps * labelled / len(fine))
            order = torch.cat([torch.randperm(len(fine), generator=generator) for _ in range(passes)])
            for start in range(0, self.steps * labelled, labelled):
                yield Batch(order[start : start + labelled])

        # -- baselines, and selection in the batch: four images of each of `size` classes --
        elif not settings.learns_from_quadruplets or settings.pool == "batch":
            for rows in class_batches(fine, size, PER_CLASS, self.steps, generator):
                yield Batch(rows)

        # -- selection from the whole set: references in random order, members by today's features --
        else:
            order = self.references[torch.randperm(len(self.references), generator=generator)]
            span = settings.refresh_every * size or len(order)  # references per embedding of the bank
            for start in range(0, len(order), span):
                bank = self.bank() if settings.mines else self.no_features  # [N, d]
                chosen = self.choose(bank, fine, coarse, order[start : start + span])
                for first in range(0, len(chosen.quadruplets), size):
                    part = chosen.part(slice(first, first + size))
                    rows = part.quadruplets.flatten().cpu()  # [4 · m] R, P, M, N, R, …
                    places = torch.arange(len(rows)).view(-1, 4)  # [m, 4]
                    yield Batch(rows, replace(part, quadruplets=places))

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One step of SGD; gives what the history averages: scalars per step, or [m] per reference."""
        settings, where = self.settings, self.where
        equation_4 = settings.model_dump(include=EQUATION_4)
        equation_6 = settings.model_dump(include=EQUATION_6)

        # -- views --
        views = crops(self.images, batch.rows, settings, self.generator, where)  # [n, 3, crop, crop]
        fine = self.images.fine[batch.rows].to(where)  # [n]
        coarse = self.images.coarse[batch.rows].to(where)  # [n]

        # -- forward --
        out = self.forward(views)  # embedding [n, d] on the unit sphere, scores [n, k1] and [n, k2]

        # -- loss --
        if settings.method in BASELINES:
            # Eq. 6 sums over its references; a baseline is a mean, scaled to as many.
            x = out.raw if settings.method in FREE_LENGTH else out.embedding  # [n, d]
            logged = {"loss": BASELINES[settings.method](x, fine) * settings.batch_size}
        elif settings.method == "ce":
            logged = {"loss": losses.classification_loss(out.coarse, out.fine, coarse, fine, **equation_4)}
        else:
            # In the batch: the same rule over the images of this step, the first of each class as R.
            first = torch.arange(0, len(batch.rows), PER_CLASS)
            chosen = batch.chosen or self.choose(out.embedding.detach(), fine, coarse, first)
            members = chosen.quadruplets.to(where)  # [m, 4] R, P, M, N: rows of the batch
            # Eq. 5 classifies x_R alone: L_C1C2 = − λ_c1 log softmax(coarse) − λ_c2 log softmax(fine)
            x = members[:, 0] if settings.ce_on == "reference" else members.flatten()  # [m] or [4 · m]
            entropy = losses.classification_loss(out.coarse[x], out.fine[x], coarse[x], fine[x], **equation_4)
            # Eq. 6: Σ_i [1 − D_RM / (D_RP + m1 − m2)]₊ + [1 − D_RN / (D_RM + m2)]₊ + L_C1C2, + η L_global
            d_rp, d_rm, d_rn = losses.distances(out.embedding, members[chosen.valid.to(where)])  # [≤ m]
            loss = losses.combined_loss(d_rp, d_rm, d_rn, entropy, **equation_6)
            logged = {"loss": loss, **self.geometry(d_rp, d_rm, d_rn)}
            logged |= {
                "positive_fallback": chosen.positive_fallback,
                "sibling_fallback": chosen.sibling_fallback,
            }

        # -- backward and step --
        self.optimiser.zero_grad(set_to_none=True)
        logged["loss"].backward()
        if self.settings.micro_batch:
            self.backward(views, out)
        self.optimiser.step()
        self.schedule.step()
        return logged

    # The loss needs all embeddings of a step at once, and not all activations: a first pass without gradients
    # gives the embeddings, the loss gives their gradients, and a second pass takes these on, part by part.

    def forward(self, views: Tensor) -> Output:
        """The network's output; with `micro_batch` in parts, as leaves that gradients stop at."""
        if not self.settings.micro_batch:
            return self.net(views)  # type: ignore[no-any-return]
        with torch.no_grad():
            parts = [self.net(part) for part in views.split(self.settings.micro_batch)]
        return Output(*(torch.cat(field).requires_grad_() for field in zip(*parts, strict=True)))

    def backward(self, views: Tensor, out: Output) -> None:
        """The gradients of `out`, whose leaves have theirs, on to the weights."""
        size = self.settings.micro_batch
        # what the loss did not use has no gradient, and gives its weights none
        given = {name: field.grad for name, field in out._asdict().items() if field.grad is not None}
        for number, part in enumerate(views.split(size)):
            again = self.net(part)
            fields = [getattr(again, name) for name in given]
            torch.autograd.backward(fields, [each.split(size)[number] for each in given.values()])

    def choose(self, features: Tensor, fine: Tensor, coarse: Tensor, anchors: Tensor) -> Selection:
        """Quadruplets of `anchors` among features [N, d] and their labels [N], by the run's rule."""
        options = self.settings.model_dump(include=SELECTION)
        rule: Any = self.settings.method  # `select` refuses what is no rule
        return select(features, fine, coarse, rule, anchors=anchors, generator=self.generator, **options)

    def bank(self) -> Tensor:
        """Embeddings [N, d] of the whole training set as the network is now, without augmentation."""
        return embed(self.net, self.images.pixels, self.settings.crop)

    def geometry(self, d_rp: Tensor, d_rm: Tensor, d_rn: Tensor) -> dict[str, Tensor]:
        """Mean distances [m] of a step, and the share of each hinge of Eq. 5 at work; nothing of none."""
        if not len(d_rp):  # selection in the batch found no quadruplet
            return {}
        settings = self.settings
        fine_margin = settings.m1 - (settings.m2 if settings.margin_rule == "equation" else 0)
        return {
            "D_RP": d_rp.mean(),
            "D_RM": d_rm.mean(),
            "D_RN": d_rn.mean(),
            "active_1": (d_rm < d_rp + fine_margin).float().mean(),
            "active_2": (d_rn < d_rm + settings.m2).float().mean(),
        }

    def _take(self, state: dict[str, Any]) -> bool:
        if state["best"] is not None:
            self.net.load_state_dict(state["best"][1])  # it fits, or nothing is taken up
        return super()._take(state)
