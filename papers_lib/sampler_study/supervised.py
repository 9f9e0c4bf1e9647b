"""Training with identity labels: the warm-up that stands for ImageNet, and the upper bound."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from papers_lib import pilot
from papers_lib.checkpoint import Resumable
from papers_lib.datasets.stream import take
from papers_lib.sampler_study.diagnosis import mean_loss
from papers_lib.sampler_study.images import augmented
from papers_lib.sampler_study.network import ReidNet, training_mode
from papers_lib.sampler_study.options import TrainSettings

SMOOTHING = 0.1
TEMPERATURE = 1 / 16  # of the cosine classifier


class Loop(Resumable):
    """Label-smoothed cross-entropy over the identities, on features of the unit sphere."""

    KEPT = ("epoch", "history", "net", "classifier", "optimiser", "schedule", "generator")

    def __init__(self, settings: TrainSettings, net: ReidNet, pixels: Tensor, ids: Tensor) -> None:
        self.settings, self.net, self.pixels = settings, net, pixels
        self.where = net.bn.weight.device
        self.targets = ids.unique(return_inverse=True)[1].to(self.where)  # [N]
        self.generator = torch.Generator().manual_seed(settings.seed)
        classes = int(self.targets.max()) + 1
        self.classifier = nn.Linear(net.bn.num_features, classes, bias=False).to(self.where)
        trained = [p for p in net.parameters() if p.requires_grad] + list(self.classifier.parameters())
        self.optimiser = torch.optim.Adam(trained, settings.lr, weight_decay=settings.weight_decay)
        self.steps = settings.iters_per_epoch or max(1, len(pixels) // settings.batch_size)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser, settings.lr, total_steps=max(1, settings.epochs * self.steps) + 1
        )
        self.epoch = 0
        self.history: list[dict[str, float]] = []

    def run_epoch(self) -> None:
        """`iters_per_epoch` batches, drawn from shuffled passes."""
        # -- batches --
        count = self.steps * self.settings.batch_size
        passes = -(-count // len(self.pixels))
        drawn = [torch.randperm(len(self.pixels), generator=self.generator) for _ in range(passes)]
        batches = torch.cat(drawn)[:count].split(self.settings.batch_size)

        training_mode(self.net, self.settings.freeze_bn)
        losses = []
        for indices in pilot.steps(batches, len(batches), self.settings.batch_size):  # [B]
            # -- views, forward, loss: the cosine with each class, over the temperature --
            images = take(self.pixels, indices, self.where)  # uint8 [B, H, W, 3]
            views = augmented(images, self.settings, self.generator)  # [B, 3, H, W]
            features = self.net(views)  # [B, d]
            logits = F.linear(features, F.normalize(self.classifier.weight)) / TEMPERATURE  # [B, classes]
            targets = self.targets[indices.to(logits.device)]
            loss = F.cross_entropy(logits, targets, label_smoothing=SMOOTHING)

            # -- backward, step --
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()
            self.schedule.step()
            losses.append(loss.detach())
        self.history.append({"loss": mean_loss(losses, self.epoch)})
        self.epoch += 1
