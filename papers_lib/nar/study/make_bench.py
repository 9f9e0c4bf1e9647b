"""NAR-Bench from the finished runs of profile `frozen`.

    python -m papers_lib sweep nar -p profile frozen -p data_root DATA
    python -m papers_lib.nar.study.make_bench [FILE]

The runs are looked up in the store by their settings and seed, whatever code made them; the file names them.
"""

from __future__ import annotations

import hashlib
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

from papers_lib import checkpoint
from papers_lib.entry import Parser, answer
from papers_lib.errors import PapersError
from papers_lib.files import replacing
from papers_lib.nar import bench
from papers_lib.nar.study import STUDY, Settings
from papers_lib.runs.store import Result, Store
from papers_lib.settings import validate

ARMS = {"pretrain": ("search", "enumerate"), "plain": ("search_plain", "enumerate_plain")}
TRAINED = ("alone", "alone_again")


def results(store: Store) -> dict[str, Result]:
    """The finished run of seed 0 of every arm that is needed, the newest where code has changed.

    Raises:
        PapersError: one is missing.
    """
    settings = validate(Settings, {"profile": "frozen", "seeds": [0]})
    planned = {spec.identity: spec.label for spec in STUDY.plan(settings)}
    found: dict[str, Result] = {}
    for result in sorted(store.finished(), key=lambda result: result.provenance["finished"]):
        if label := planned.get(result.spec.identity):
            found[label] = result
    wanted = [*TRAINED, *(name for pair in ARMS.values() for name in pair)]
    if missing := [name for name in wanted if name not in found]:
        raise PapersError(f"not run at profile frozen: {', '.join(missing)}; sweep them first")
    return {name: found[name] for name in wanted}


def packed(runs: dict[str, Result]) -> dict[str, Any]:
    """The arrays of the file."""
    alone = [runs[name].metrics for name in TRAINED]
    sample = [point["vector"] for point in alone[0]["points"]]
    tested, trained = alone[0]["test_images"], alone[0]["training_images"]
    settings = runs["enumerate"].spec.settings
    judged = settings["score_images"]

    def column(name: str) -> Any:
        return np.transpose([[point[name] for point in metrics["points"]] for metrics in alone])

    fractions = {"trained": (column("accuracy"), tested), "fitted": (column("train_accuracy"), trained)}
    picks = {}
    for name, (search, enumerate_) in ARMS.items():
        scored = runs[enumerate_]
        scores = checkpoint.load(Path(scored.spec.folder) / "scores.pt") or {}
        fractions[f"scores_{name}"] = ([scores[half].numpy() for half in ("choice", "judge")], judged)
        for kind in bench.STATISTICS:
            fractions[f"{kind}_{name}"] = ([entry[kind] for entry in scored.metrics["sample"]], judged)
        found = runs[search].metrics
        samples = len(found["samples"])
        picks[name] = {
            "vector": found["choices"]["pick"],
            "samples": samples,
            "equal_cost": scored.metrics["draws"],
        }
    about = {
        "settings": settings,
        "trained_alone": runs[TRAINED[0]].spec.settings,
        "test_images": tested,
        "training_images": trained,
        "picks": picks,
        "data": runs["alone"].spec.data.model_dump(mode="json", exclude={"root"}),
        "runs": {
            name: {"identity": result.spec.identity, "commit": result.provenance["commit"]}
            for name, result in runs.items()
        },
    }
    return bench.pack(about, sample, fractions)


def make(options: Namespace) -> int:
    """Write the file and print its digest."""
    arrays = packed(results(Store()))
    with replacing(options.file) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
    content = options.file.read_bytes()
    print(f"{options.file.name}: {len(content):,} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}")
    return 0


if __name__ == "__main__":
    parser = Parser(prog="python -m papers_lib.nar.study.make_bench", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=bench.FILE)
    parser.set_defaults(command=make)
    sys.exit(answer(parser, None))
