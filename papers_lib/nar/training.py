"""One run of any kind, from images to plain JSON: what `study.run` calls.

A run whose vector another run decides gets that run's metrics as `needed`, and its folder for the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from papers_lib import checkpoint, compute
from papers_lib.errors import PapersError
from papers_lib.nar import faces, fitting, sampling, scoring, searching, skips, tau
from papers_lib.nar.face_options import FaceSettings
from papers_lib.nar.fitting import Report
from papers_lib.nar.images import load
from papers_lib.nar.options import (
    ScoreSettings,
    SearchSettings,
    SkipSettings,
    StandaloneSettings,
    TauSettings,
)

READ: tuple[Literal["kl", "rate", "reward"], ...] = ("kl", "rate", "reward")
TRAIN_IMAGES = 5000  # at most, of the training images, for the gap between training and test accuracy


def quiet(step: int, total: int, note: str) -> None:
    """A report that nobody reads."""


def run(
    settings: Mapping[str, Any],
    data: tuple[str, str],
    folder: Path,
    device: str = "auto",
    report: Report = quiet,
    needed: Mapping[str, Any] | None = None,
    weights: Path | None = None,
) -> dict[str, Any]:
    """Compute a run of the kind that its settings name; resumes from what lies in `folder`.

    Args:
        settings: complete settings of one kind; a face training's have no `kind`.
        data: the data set's root folder and name.
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
    if kind == "faces":
        return faces.train_faces(FaceSettings.model_validate(settings), data, folder, device, report)
    if kind == "skips":
        return simulate_skips(SkipSettings.model_validate(settings))
    if kind == "standalone":
        return train(StandaloneSettings.model_validate(settings), data, folder, device, report, needed)
    if kind == "search":
        return searching.search(SearchSettings.model_validate(settings), data, folder, device, report)
    if needed is None or weights is None:
        raise PapersError(f"a run of kind {kind} starts from a finished search; compute that first")
    if kind == "enumerate":
        return scoring.enumerate_vectors(
            ScoreSettings.model_validate(settings), data, folder, needed, weights, device, report
        )
    return tau.compare(TauSettings.model_validate(settings), data, folder, weights, device, report)


def simulate_skips(settings: SkipSettings) -> dict[str, Any]:
    """Figure 1's run: `history` has KL, share of skips and reward, an entry an epoch."""
    found = skips.simulated_search(
        settings.epochs, settings.updates, settings.samples, layers=settings.layers, preset=settings.preset,
        gain=settings.gain, noise=settings.noise, weight=settings.weight,
        target=settings.target, seed=settings.seed,
    )  # fmt: skip
    return {"history": [{name: round(float(entry[name]), 5) for name in READ} for entry in found]}


def train(
    settings: StandaloneSettings,
    data: tuple[str, str],
    folder: Path,
    device: str = "auto",
    report: Report = quiet,
    needed: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train the vector's network on all images of the run and test it.

    Returns:
        Plain JSON: `vector`, `parameters`, `multiply_accumulates`, `accuracy` (test images, last epoch),
        `train_accuracy` (training images as they are), `seconds_training`, `history` (one entry an epoch).

    Raises:
        PapersError: as `run`.
        FloatingPointError: as `run`.
    """
    where = compute.device(device)
    compute.prepare(settings.seed)
    vector = chosen(settings, needed)
    images = load(data, settings, where)
    course = fitting.Course(settings.epochs, settings.lr, settings.warm_up_epochs)
    fit = fitting.Fit(settings, vector, course, images, images.chosen, where)
    fit.resume(checkpoint.load(folder / "checkpoint.pt"))
    for epoch in range(fit.epoch, settings.epochs):
        report(epoch, settings.epochs, f"epoch {epoch + 1}")
        fit.run_epoch()
        if fit.epoch % settings.test_every == 0 or fit.epoch == settings.epochs:
            fit.history[-1]["accuracy"] = fit.accuracy(images.test, images.test_labels)
            checkpoint.save(folder / "checkpoint.pt", fit.state())
    some = images.chosen[:: -(-len(images.chosen) // TRAIN_IMAGES)]  # evenly: they may lie by class
    return {
        "vector": list(vector),
        **fitting.counted(vector, settings, images)._asdict(),
        "accuracy": fit.history[-1]["accuracy"],
        "train_accuracy": fit.accuracy(images.train[some], images.train_labels[some]),
        "seconds_training": round(sum(entry["seconds"] for entry in fit.history), 2),
        "history": fit.history,
    }


def chosen(settings: StandaloneSettings, needed: Mapping[str, Any] | None) -> tuple[int, ...]:
    """The vector that a stand-alone run trains: its own, or the one that the needed run decided.

    "random_same" has as many replacements as that run's pick, at places and with operators of the seed.

    Raises:
        PapersError: the needed run decided no such vector.
    """
    if settings.take == "vector":
        return settings.vector
    found = (needed or {}).get("choices", {})
    if settings.take != "random_same":
        if settings.take not in found:
            raise PapersError(f"the run needed decided no vector '{settings.take}'; name another in `take`")
        return tuple(found[settings.take])
    count = sum(code != 0 for code in found["pick"])
    generator = torch.Generator().manual_seed(settings.seed)
    rows = sampling.replaced(1, settings.decisions, count, settings.operators, generator)
    return tuple(rows[0].tolist())
