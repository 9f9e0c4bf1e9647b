"""The search: shared weights and controller in turn (Sections 3.1 and 3.2; ENAS, Pham et al. 2018).

    min over w of E[loss(a; w)]   and   max over θ of E[R(a; w)],   both over a ∼ π_θ

An epoch trains the shared weights w once through the training part, with a fresh vector per batch, then the
controller θ by REINFORCE, R being accuracy on validation images. For the first epochs of "-PreTrain" the
controller rests and vectors are uniform.

`run` computes a run of any kind, from images to plain JSON; what it reaches decides the results of this wing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from papers_lib import checkpoint, compute, pilot
from papers_lib.errors import PapersError
from papers_lib.nar import faces, fitting, sampling, scoring, skips
from papers_lib.nar.controller import Controller, Reinforce
from papers_lib.nar.counting import Costs, costs
from papers_lib.nar.enumeration import Norm, score
from papers_lib.nar.fitting import Loop, Report, mean_loss, prepare, quiet, set_rate, sgd, sgdr
from papers_lib.nar.images import Given, Loaded, load, shuffled
from papers_lib.nar.options import (
    AloneSettings,
    FaceSearchSettings,
    FaceSettings,
    ScoreSettings,
    SearchSettings,
    SkipSettings,
    StandaloneSettings,
)
from papers_lib.nar.supernet import FaceSuperNet, SuperNet

PROBES = 200  # vectors drawn to read the controller's entropy


def run(
    settings: Mapping[str, Any],
    data: Given,
    folder: Path,
    device: str = "auto",
    report: Report = quiet,
    needed: Mapping[str, Any] | None = None,
    weights: Path | None = None,
) -> dict[str, Any]:
    """Compute a run of the kind that its settings name; resumes from what lies in `folder`.

    Args:
        settings: complete settings of one kind; a face training's have no `kind`.
        data: the data set's root folder and name, or tensors, but of faces.
        folder: where checkpoints go.
        device: "auto", "cpu" or "cuda".
        report: called with step, steps in all, and a note.
        needed: the metrics of the finished run that this one starts from.
        weights: the shared weights which that run left.

    Raises:
        PapersError: bad data, settings that the data cannot serve, or a needed run of another kind.
        FloatingPointError: a loss that is no longer finite.
    """
    kind = settings.get("kind", "faces")
    if kind in ("faces", "search_faces"):
        return _run_faces(settings, data, folder, device, report, needed)
    if kind == "skips":
        return skips.simulate(SkipSettings.model_validate(settings))
    if kind == "standalone":
        alone = StandaloneSettings.model_validate(settings)
        return fitting.train(alone, data, folder, device, report, needed)
    if kind == "alone":
        return fitting.train_many(AloneSettings.model_validate(settings), data, folder, device, report)
    if kind == "search":
        return search(SearchSettings.model_validate(settings), data, folder, device, report)
    if needed is None or weights is None:
        raise PapersError(f"a run of kind {kind} starts from a finished search; compute that first")
    scored = ScoreSettings.model_validate(settings)
    return scoring.enumerate_vectors(scored, data, folder, needed, weights, device, report)


def _run_faces(
    settings: Mapping[str, Any],
    data: Given,
    folder: Path,
    device: str,
    report: Report,
    needed: Mapping[str, Any] | None,
) -> dict[str, Any]:
    if isinstance(data, Loaded):
        raise PapersError("faces are read from a data set; give its root folder and name")
    if settings.get("kind") == "search_faces":
        return search_faces(FaceSearchSettings.model_validate(settings), data, folder, device, report)
    return faces.train_faces(FaceSettings.model_validate(settings), data, folder, device, report, needed)


def search(
    settings: SearchSettings, data: Given, folder: Path, device: str, report: Report
) -> dict[str, Any]:
    """Search a vector; leaves the shared weights as `folder/weights.pt`, resumes from `folder/checkpoint.pt`.

    Returns:
        Plain JSON: `choices` ("pick", the best of the final samples, and "argmax"), `samples` (vector of each
        and its score on the images of the choice), `history` (an entry per epoch), `evaluations` (rewards
        taken), `reward_images` (of all of them), and what it cost: `seconds_shared`, `seconds_controller`,
        `multiply_accumulates`.
    """
    where = prepare(settings, device)
    loop = Search(settings, load(data, settings, where), where)  # takes the seed's first draws
    return searched(loop, folder, report)


def search_faces(
    settings: FaceSearchSettings, data: tuple[str, str], folder: Path, device: str, report: Report
) -> dict[str, Any]:
    """The same over LResNet50E-IR with ArcFace, on the proxy task of Section 4.1.1.

    Rewards are of the images held out of each identity. `data` is root folder and name, of faces.
    """
    where = prepare(settings, device)
    return searched(FaceSearch(settings, faces.proxy(settings, data, where), where), folder, report)


def searched(loop: Search, folder: Path, report: Report) -> dict[str, Any]:
    """The result of a search, behind its last epoch."""
    for _ in loop.left(loop.settings.epochs, folder, report):
        loop.run_epoch()
    checkpoint.save(folder / "weights.pt", loop.supernet.state_dict())
    return loop.result()


class Search(Loop):
    """State of a search between epochs: shared weights, controller, random numbers, history."""

    KEPT = ("epoch", "supernet", "optimiser", "reinforce", "generator", "history", "macs", "evaluations")
    settings: SearchSettings | FaceSearchSettings
    batch = 1000  # images that are normalised together while they are scored

    def __init__(
        self, settings: SearchSettings | FaceSearchSettings, images: Loaded, where: torch.device
    ) -> None:
        self.settings, self.images, self.where = settings, images, where
        self.parts = images.parts(settings.score_images)
        self.generator = torch.Generator().manual_seed(settings.seed)
        # `costs`: operations of one image, by decision and operator
        self.supernet, self.costs = self.network()
        self.optimiser = sgd(self.supernet, settings, settings.lr)
        for weight in self.supernet.parameters():  # fused SGD wants all, and most have no gradient yet
            self.optimiser.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        self.controller = Controller(
            settings.decisions, settings.operators, settings.preset, generator=self.generator
        )
        self.reinforce = Reinforce(self.controller, self.controller.preset, settings.baseline)
        self.epoch, self.macs, self.evaluations = 0, 0.0, 0  # operations computed, rewards taken
        self.history: list[dict[str, Any]] = []

    # -- what differs with the backbone --

    def network(self) -> tuple[SuperNet, Costs]:
        """The supernet with fresh weights, and what its operators cost."""
        assert isinstance(self.settings, SearchSettings)
        supernet = scoring.supernet_of(self.settings, self.images, self.where)
        return supernet, scoring.costs_of(self.settings, self.images)

    def views(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """A batch to train with: images [B, 3, H, W] and labels [B]."""
        assert isinstance(self.settings, SearchSettings)
        return self.images.views(indices, self.generator, self.settings.augment)

    def loss(self, answers: Tensor, labels: Tensor) -> Tensor:
        """loss(a; w) of the supernet's answers [B, classes], a scalar."""
        return F.cross_entropy(answers.float(), labels)

    # -- an epoch --

    @property
    def pretraining(self) -> bool:
        """Whether this epoch leaves the controller alone (Section 3.2)."""
        return self.epoch < self.settings.pretrain_epochs

    def run_epoch(self) -> None:
        """Shared weights once through the training part; then, behind PreTrain, the controller."""
        settings, began = self.settings, time.perf_counter()
        batches = shuffled(self.images.training, settings.batch_size, self.generator)
        vectors = self.vectors(len(batches))  # [batches, N]
        loss = self.train_shared(batches, vectors)
        entry: dict[str, Any] = {"loss": loss, "seconds_shared": round(time.perf_counter() - began, 3)}

        # How often each decision took each operator, [N, K].
        shares = F.one_hot(vectors, settings.operators).float().mean(0)
        entry["shares"] = [[round(share, 4) for share in row] for row in shares.tolist()]
        if not self.pretraining:
            began = time.perf_counter()
            entry["reward"] = self.train_controller()
            entry["seconds_controller"] = round(time.perf_counter() - began, 3)
        self.epoch += 1

        # The controller is read with random numbers of its own: the search's draws stay as they are.
        probes, _ = self.controller.sample(PROBES, torch.Generator().manual_seed(self.epoch))
        bits = self.controller.entropies(probes) / math.log(2)  # [N]
        entry["entropy"] = [round(value, 4) for value in bits.tolist()]
        entry["argmax"] = list(self.controller.argmax())
        self.history.append(entry)

    def vectors(self, count: int) -> Tensor:
        """What the shared weights train with, [count, N]: uniform in PreTrain, else the controller's."""
        settings = self.settings
        if not self.pretraining:
            return self.controller.sample(count, self.generator)[0]
        draw = sampling.strict_fair if settings.pretrain_sampling == "strict_fair" else sampling.uniform
        return draw(count, settings.decisions, settings.operators, self.generator)

    def train_shared(self, batches: list[Tensor], vectors: Tensor) -> float:
        """One epoch of the shared weights, batches [B] of indices with vectors [batches, N]; the mean loss.

        Under strict fairness the gradients of K batches, each with a vector of its own, are summed before
        the weights move, so that every operator is trained once per step (Chu et al. 2019).
        """
        settings, losses = self.settings, []
        fair = self.pretraining and settings.pretrain_sampling == "strict_fair"
        batches_per_step = settings.operators if fair else 1  # K or 1
        self.supernet.train()
        pairs = pilot.steps(zip(batches, vectors.tolist(), strict=True), len(batches), settings.batch_size)
        for number, (indices, vector) in enumerate(pairs):
            now = self.epoch + number / len(batches)
            factor = sgdr(now, settings.first_cycle, settings.lr_min / settings.lr)
            set_rate(self.optimiser, settings.lr * factor)

            # -- batch and views --
            x, y = self.views(indices)  # [B, 3, H, W], [B]

            # -- forward of the vector's network, and loss(a; w) --
            with compute.autocast(self.where, settings.precision):
                answers = self.supernet(x, vector)  # [B, classes]
            loss = self.loss(answers, y)

            # -- backward and step: operators that did not run have no gradient and stay --
            loss.backward()
            if (number + 1) % batches_per_step == 0 or number + 1 == len(batches):
                self.optimiser.step()
                self.optimiser.zero_grad(set_to_none=True)
            losses.append(loss.detach())
            self.macs += 3 * len(y) * self.costs.macs(vector)  # forward, and twice as much backward
        return mean_loss(losses, self.epoch + 1)

    def train_controller(self) -> float:
        """One epoch of REINFORCE, the mean reward; an update's samples all see the same validation images."""
        settings, rewards = self.settings, []
        for _ in pilot.steps(range(settings.updates), settings.updates):
            vectors, _ = self.controller.sample(settings.samples, self.generator)  # [samples, N]
            reward = self.rewards(vectors)  # [samples]
            self.reinforce.step(self.controller.log_probs(vectors), reward)
            rewards.append(reward.mean())
            self.evaluations += settings.samples
            self.macs += settings.reward_images * self.costs.macs_together(vectors.tolist())
        return round(float(torch.stack(rewards).mean()), 5)

    def rewards(self, vectors: Tensor) -> Tensor:
        """R(a) = accuracy on one draw of the reward's images − cost_weight · MACs(a) / MACs(0), [B]."""
        held = self.parts.reward
        drawn = torch.randperm(len(held), generator=self.generator)[: self.settings.reward_images]
        rows = vectors.tolist()  # [B][N]
        accuracies = self.accuracies(rows, held[drawn.to(held.device)], self.settings.bn_eval)
        return accuracies - self.settings.cost_weight * self.relative_cost(rows)

    def relative_cost(self, vectors: list[list[int]]) -> Tensor:
        """Multiply-accumulates of each vector as a share of the untouched network's, [B]."""
        untouched = self.costs.macs([0] * self.settings.decisions)  # MACs(0)
        return torch.tensor([self.costs.macs(vector) for vector in vectors]) / untouched

    def accuracies(self, vectors: list[list[int]], indices: Tensor, norm: Norm = "batch") -> Tensor:
        """Accuracy of each vector with the shared weights on these training images, [B]."""
        x, y = self.images.plain(indices)
        precision = self.settings.precision
        return score(self.supernet, x, y, vectors, batch=self.batch, norm=norm, precision=precision)

    def result(self) -> dict[str, Any]:
        """The final sample with the best reward on the images of the choice, with what led to it."""
        settings = self.settings
        vectors = self.controller.sample(settings.final_samples, self.generator)[0].tolist()
        scores = self.accuracies(vectors, self.parts.choice).tolist()
        costs = (settings.cost_weight * self.relative_cost(vectors)).tolist()  # as in the reward
        best = max(range(len(vectors)), key=lambda i: scores[i] - costs[i])
        return {
            "choices": {"pick": vectors[best], "argmax": list(self.controller.argmax())},
            "samples": [{"vector": v, "score": round(s, 6)} for v, s in zip(vectors, scores, strict=True)],
            "history": self.history,
            "evaluations": self.evaluations,
            "reward_images": self.evaluations * settings.reward_images,
            "seconds_shared": round(sum(entry["seconds_shared"] for entry in self.history), 2),
            "seconds_controller": round(sum(e.get("seconds_controller", 0.0) for e in self.history), 2),
            "multiply_accumulates": self.macs,
        }


class FaceSearch(Search):
    """The search over LResNet50E-IR: ArcFace's loss with margin trains, answers without it are rewarded."""

    settings: FaceSearchSettings
    batch = 250  # at 112 pixels the states of 24 decisions take gigabytes

    def network(self) -> tuple[SuperNet, Costs]:
        """The supernet of the face network with fresh weights, and what its operators cost."""
        s = self.settings
        sizes = (s.decisions, s.width, s.embedding, s.image_size, s.rule, s.operators)
        supernet = FaceSuperNet(self.images.classes, *sizes, s.scale, s.margin)
        compute.place(supernet, self.where)
        return supernet, costs(
            s.decisions, "lresnet50e_ir", s.rule, s.image_size, s.embedding, s.width, s.operators
        )

    def views(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Half of the images are mirrored, and nothing else."""
        return self.images.views(indices, self.generator, augment=True)

    def loss(self, answers: Tensor, labels: Tensor) -> Tensor:
        """ArcFace's, of cosines [B, C]."""
        assert isinstance(self.supernet, FaceSuperNet)
        return self.supernet.head.loss(answers, labels)

    def run_epoch(self) -> None:
        """As that of `Search`; the dropout of a resumed epoch is that of the first time."""
        torch.manual_seed(self.settings.seed + self.epoch)
        super().run_epoch()
