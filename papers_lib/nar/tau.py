"""Do the shared weights rank vectors as trainings of their own do? Kendall's τ over a sample of vectors."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from papers_lib import checkpoint, compute
from papers_lib.nar import enumeration, sampling
from papers_lib.nar.fitting import Course, Fit, Report, counted
from papers_lib.nar.images import Loaded, load, normalised
from papers_lib.nar.options import TauSettings
from papers_lib.nar.scoring import BATCH, network_of
from papers_lib.nar.supernet import SuperNet, recalibrated

READINGS = ("batch", "running", "recalibrated", "macs")
RECALIBRATION = 8  # batches


def compare(
    settings: TauSettings, data: tuple[str, str], folder: Path, weights: Path, device: str, report: Report
) -> dict[str, Any]:
    """Train some vectors alone, on the images of the shared weights, and correlate validation accuracies.

    Half of the vectors are uniform and differ greatly in cost, which alone would rank them; the other half
    have one to four replacements. `tau_few` is of all that have so few. "macs" is the ranking by cost alone.

    Returns:
        Plain JSON: `points` (vector, accuracy alone, and by each reading), `tau` and `tau_few` by reading.

    Raises:
        PapersError: bad data, or weights of another network.
    """
    where = compute.device(device)
    compute.prepare(settings.seed)
    images = load(data, settings, where)
    supernet = network_of(settings, images, weights, where)
    vectors = drawn(settings)
    kept = checkpoint.load(folder / "checkpoint.pt")
    alone = (
        checkpoint.take_up(kept, lambda state: _accuracies(state["alone"], len(vectors)), {"alone": []}) or []
    )
    for number in range(len(alone), len(vectors)):
        report(number, len(vectors), f"vector {number + 1}")
        alone.append(_alone(settings, images, vectors[number], where))
        checkpoint.save(folder / "checkpoint.pt", {"alone": alone})
    shared = _shared(settings, supernet, images, vectors)
    points: list[dict[str, Any]] = [
        {"vector": list(vector), "alone": value, **values}
        for vector, value, values in zip(vectors, alone, shared, strict=True)
    ]
    few = [point for point in points if 1 <= sum(code != 0 for code in point["vector"]) <= 4]
    return {
        "points": points,
        "tau": {name: kendall(points, name) for name in READINGS},
        "tau_few": {name: kendall(few, name) for name in READINGS},
    }


def _accuracies(kept: list[float], most: int) -> list[float]:
    """The first vectors' accuracies as a checkpoint has them."""
    if len(kept) > most or not all(0 <= value <= 1 for value in kept):  # NaN is no more between them
        raise ValueError(f"not at most {most} fractions")
    return list(kept)


def drawn(settings: TauSettings) -> list[tuple[int, ...]]:
    """The sample: uniform vectors, then vectors with one to four replacements in turn."""
    generator = torch.Generator().manual_seed(settings.seed)
    half = settings.vectors // 2
    rows = sampling.uniform(
        settings.vectors - half, settings.decisions, settings.operators, generator
    ).tolist()
    for number in range(half):
        count = 1 + number % 4
        rows += sampling.replaced(1, settings.decisions, count, settings.operators, generator).tolist()
    return [tuple(row) for row in rows]


def kendall(points: list[dict[str, Any]], reading: str) -> float | None:
    """Kendall's τ-b of a reading with the accuracy alone; None where one of them does not vary."""
    from scipy.stats import kendalltau

    found = float(kendalltau([p["alone"] for p in points], [p[reading] for p in points]).statistic)
    return None if math.isnan(found) else round(found, 5)


def _alone(settings: TauSettings, images: Loaded, vector: tuple[int, ...], where: torch.device) -> float:
    torch.manual_seed(settings.seed)
    fit = Fit(settings, vector, Course(settings.epochs, settings.lr), images, images.training, where)
    for _ in range(settings.epochs):
        fit.run_epoch()
    which = images.validation[: settings.score_images]
    return fit.accuracy(images.train[which], images.train_labels[which])


def _shared(
    settings: TauSettings, supernet: SuperNet, images: Loaded, vectors: list[tuple[int, ...]]
) -> list[dict[str, float]]:
    """Each vector's accuracy with the shared weights under three kinds of statistics, and its cost."""
    which = images.validation[: settings.score_images]
    x, y = normalised(images.train[which]), images.train_labels[which]
    found: dict[str, list[float]] = {
        norm: enumeration.score(
            supernet, x, y, vectors, batch=BATCH, norm=norm, precision=settings.precision
        ).tolist()
        for norm in ("batch", "running")
    }
    some = images.training[torch.randperm(len(images.training), generator=torch.Generator().manual_seed(0))]
    batches = [normalised(images.train[part]) for part in some.split(settings.batch_size)[:RECALIBRATION]]
    found["recalibrated"] = []
    for vector in vectors:
        with recalibrated(supernet, vector, batches), torch.no_grad():
            right = (supernet(x, vector).argmax(1) == y).float().mean()
        found["recalibrated"].append(float(right))
    found["macs"] = [float(counted(vector, settings, images).multiply_accumulates) for vector in vectors]
    return [dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True)]
