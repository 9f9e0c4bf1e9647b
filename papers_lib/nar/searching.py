"""The search: shared weights and controller in turn (Sections 3.1 and 3.2; ENAS, Pham et al. 2018).

An epoch trains the shared weights once through the training part, with a fresh vector a batch, then the
controller by REINFORCE on validation accuracy. For the first epochs of "-PreTrain" the controller rests and
vectors are uniform.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from papers_lib import checkpoint, compute
from papers_lib.nar import sampling
from papers_lib.nar.controller import Controller, Reinforce
from papers_lib.nar.counting import costs
from papers_lib.nar.enumeration import score
from papers_lib.nar.fitting import Report, batch_of, mean_loss, sgd, shuffled
from papers_lib.nar.images import Loaded, load, normalised
from papers_lib.nar.options import Common, SearchSettings
from papers_lib.nar.schedules import sgdr
from papers_lib.nar.supernet import SuperNet

PROBES = 200  # vectors drawn to read the controller's entropy


def search(
    settings: SearchSettings, data: tuple[str, str], folder: Path, device: str, report: Report
) -> dict[str, Any]:
    """Search a vector; leaves the shared weights as `folder/weights.pt`, resumes from `folder/checkpoint.pt`.

    Returns:
        Plain JSON: `choices` ("pick", the best of the final samples, and "argmax"), `samples` (vector and
        score of each), `history` (an entry an epoch), `evaluations` (rewards taken), `reward_images` (of
        all of them), and what it cost: `seconds_shared`, `seconds_controller`, `multiply_accumulates`.

    Raises:
        PapersError: bad data, or settings that the data cannot serve.
        FloatingPointError: a loss that is no longer finite.
    """
    where = compute.device(device)
    compute.prepare(settings.seed)
    loop = Search(settings, load(data, settings, where), where)
    loop.resume(checkpoint.load(folder / "checkpoint.pt"))
    for epoch in range(loop.epoch, settings.epochs):
        report(epoch, settings.epochs, f"epoch {epoch + 1}")
        loop.run_epoch()
        checkpoint.save(folder / "checkpoint.pt", loop.state())
    checkpoint.save(folder / "weights.pt", loop.supernet.state_dict())
    return loop.result()


def build(settings: Common, classes: int, where: torch.device) -> SuperNet:
    """The supernet of these settings, on the device."""
    net = SuperNet(settings.decisions, settings.width, "cifar", classes, settings.rule, settings.operators)
    compute.place(net, where)
    return net


class Search(checkpoint.Resumable):
    """State of a search between epochs: shared weights, controller, random numbers, history."""

    KEPT = ("epoch", "supernet", "optimiser", "reinforce", "generator", "history", "macs", "evaluations")

    def __init__(self, settings: SearchSettings, images: Loaded, where: torch.device) -> None:
        self.settings, self.images, self.where = settings, images, where
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.supernet = build(settings, images.classes, where)
        self.optimiser = sgd(self.supernet, settings, settings.lr)
        for weight in self.supernet.parameters():  # fused SGD wants all, and most have no gradient yet
            self.optimiser.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        self.controller = Controller(
            settings.decisions, settings.operators, settings.preset, generator=self.generator
        )
        self.reinforce = Reinforce(self.controller, self.controller.preset)
        self.shares = mac_shares(settings, images.train.shape[1], images.classes)
        self.epoch, self.macs, self.evaluations = 0, 0.0, 0
        self.history: list[dict[str, Any]] = []

    def run_epoch(self) -> None:
        """Shared weights once through the training part; then, after PreTrain, the controller."""
        began = time.perf_counter()
        batches = shuffled(self.images.training, self.settings.batch_size, self.generator)
        vectors = self.vectors(len(batches))
        loss = self._train_shared(batches, vectors)
        entry: dict[str, Any] = {"loss": loss, "seconds_shared": round(time.perf_counter() - began, 3)}
        entry |= {"shares": _shares(vectors, self.settings.operators)}
        if self.epoch >= self.settings.pretrain_epochs:
            began = time.perf_counter()
            entry |= {"reward": self._train_controller()}
            entry |= {"seconds_controller": round(time.perf_counter() - began, 3)}
        self.epoch += 1
        self.history.append(entry | self._read_controller())

    def vectors(self, count: int) -> Tensor:
        """What the shared weights train with, [count, N]: uniform in PreTrain, else the controller's."""
        asked = self.settings
        if self.epoch >= asked.pretrain_epochs:
            return self.controller.sample(count, self.generator)[0]
        draw = sampling.strict_fair if asked.pretrain_sampling == "strict_fair" else sampling.uniform
        return draw(count, asked.decisions, asked.operators, self.generator)

    def paths_a_step(self) -> int:
        """Batches, each with a vector of its own, whose gradients are summed before the weights move.

        One; under strict fairness K, so that every operator is trained once a step (Chu et al. 2019).
        """
        fair = self.settings.pretrain_sampling == "strict_fair"
        return self.settings.operators if fair and self.epoch < self.settings.pretrain_epochs else 1

    def _train_shared(self, batches: list[Tensor], vectors: Tensor) -> float:
        self.supernet.train()
        losses = []
        low, group_size = self.settings.lr_min / self.settings.lr, self.paths_a_step()
        for number, (indices, vector) in enumerate(zip(batches, vectors.tolist(), strict=True)):
            factor = sgdr(self.epoch + number / len(batches), self.settings.first_cycle, low)
            for group in self.optimiser.param_groups:
                group["lr"] = self.settings.lr * factor
            x, y = batch_of(self.images, indices, self.generator)
            with compute.autocast(self.where, self.settings.precision):
                logits = self.supernet(x, vector)
            loss = F.cross_entropy(logits.float(), y)
            loss.backward()
            if (number + 1) % group_size == 0 or number + 1 == len(batches):
                self.optimiser.step()
                self.optimiser.zero_grad(set_to_none=True)
            losses.append(loss.detach())
            self.macs += 3 * len(y) * self._macs(vector)  # forward, and twice as much backward
        return mean_loss(losses, self.epoch + 1)

    def _train_controller(self) -> float:
        """REINFORCE; all samples of an update see the same validation images. Returns the mean reward."""
        asked, rewards = self.settings, []
        for _ in range(asked.updates):
            vectors, _ = self.controller.sample(asked.samples, self.generator)
            reward = self.rewards(vectors)
            self.reinforce.step(self.controller.log_probs(vectors), reward)
            rewards.append(reward.mean())
            self.evaluations += asked.samples
            self.macs += asked.reward_images * self._macs_together(vectors.tolist())
        return round(float(torch.stack(rewards).mean()), 5)

    def rewards(self, vectors: Tensor) -> Tensor:
        """Accuracy on one draw of validation images, less the cost if that is asked for, [B]."""
        asked, held = self.settings, self.images.validation
        drawn = torch.randperm(len(held), generator=self.generator)[: asked.reward_images]
        found = self.score(vectors.tolist(), held[drawn.to(held.device)], asked.bn_eval)
        return found - asked.cost_weight * self.relative_cost(vectors.tolist())

    def relative_cost(self, vectors: list[list[int]]) -> Tensor:
        """Multiply-accumulates of each vector as a share of the untouched network's, [B]."""
        return torch.tensor([self._macs(v) for v in vectors]) / self._macs([0] * self.settings.decisions)

    def score(self, vectors: list[list[int]], which: Tensor, norm: Any = "batch") -> Tensor:
        """Accuracy of each vector with the shared weights on these images, [B]."""
        x, y = normalised(self.images.train[which]), self.images.train_labels[which]
        return score(self.supernet, x, y, vectors, norm=norm, precision=self.settings.precision)

    def _macs(self, vector: list[int]) -> float:
        return self.shares[0] + sum(self.shares[1][place][code] for place, code in enumerate(vector))

    def _macs_together(self, vectors: list[list[int]]) -> float:
        """Of scoring these vectors: what they begin alike is computed once."""
        beginnings = {tuple(v[: place + 1]) for v in vectors for place in range(len(v))}
        own = sum(self.shares[1][len(start) - 1][start[-1]] for start in beginnings)
        return len(vectors) * self.shares[0] + own

    def _read_controller(self) -> dict[str, Any]:
        """Each decision's entropy in bits, and the likeliest vector; the search's draws stay as they are."""
        generator = torch.Generator().manual_seed(self.epoch)
        vectors, _ = self.controller.sample(PROBES, generator)
        bits = self.controller.entropies(vectors) / math.log(2)
        return {"entropy": [round(x, 4) for x in bits.tolist()], "argmax": list(self.controller.argmax())}

    def result(self) -> dict[str, Any]:
        """The final sample with the best reward on the scored images, with what led to it."""
        asked = self.settings
        vectors = self.controller.sample(asked.final_samples, self.generator)[0].tolist()
        scores = self.score(vectors, self.images.validation[: asked.score_images]).tolist()
        costs = (asked.cost_weight * self.relative_cost(vectors)).tolist()
        best = max(range(len(vectors)), key=lambda i: scores[i] - costs[i])
        return {
            "choices": {"pick": vectors[best], "argmax": list(self.controller.argmax())},
            "samples": [{"vector": v, "score": round(s, 6)} for v, s in zip(vectors, scores, strict=True)],
            "history": self.history,
            "evaluations": self.evaluations,
            "reward_images": self.evaluations * asked.reward_images,
            "seconds_shared": round(sum(entry["seconds_shared"] for entry in self.history), 2),
            "seconds_controller": round(sum(e.get("seconds_controller", 0.0) for e in self.history), 2),
            "multiply_accumulates": self.macs,
        }


def mac_shares(settings: Common, side: int, classes: int) -> tuple[float, list[list[float]]]:
    """Multiply-accumulates of one image: the fixed part, and each operator's at each decision."""
    found = costs(
        settings.decisions, "resnet18_cifar", settings.rule, side, classes, settings.width,
        settings.operators,
    )  # fmt: skip
    rows = [[float(cost.multiply_accumulates) if cost else math.inf for cost in row] for row in found.choices]
    return float(found.fixed.multiply_accumulates), rows


def _shares(vectors: Tensor, operators: int) -> list[list[float]]:
    """How often each decision took each operator, [N][K]."""
    found = F.one_hot(vectors, operators).float().mean(0)
    return [[round(x, 4) for x in row] for row in found.tolist()]
