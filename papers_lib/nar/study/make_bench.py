"""NAR-Bench from the finished runs of profile `frozen`.

    python -m papers_lib sweep nar -p profile frozen -p data_root DATA
    python -m papers_lib collect nar
    python -m papers_lib.nar.study.make_bench [FILE] [--keep-scores]

The trainings alone are rows of the ledger. The scores of all vectors are in no row, and are taken from the
store of the machine that enumerated them; with `--keep-scores` those of the file stay. Runs are looked up by
their settings and seed, whatever code made them; the file names them.
"""

from __future__ import annotations

import hashlib
import json
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

from papers_lib import checkpoint
from papers_lib.entry import Parser, answer
from papers_lib.errors import PapersError
from papers_lib.exhibits import ledger
from papers_lib.files import replacing
from papers_lib.nar import bench
from papers_lib.nar.study import STUDY, Settings
from papers_lib.runs.spec import RunSpec
from papers_lib.runs.store import Result, Store
from papers_lib.settings import validate

ARMS = {"pretrain": ("search", "enumerate"), "plain": ("search_plain", "enumerate_plain")}


def planned(seed: int) -> list[RunSpec]:
    """The runs of a seed. Those of seed 0 are the first draw."""
    return STUDY.plan(validate(Settings, {"profile": "frozen", "seeds": [seed]}))


def trained(rows: list[ledger.Row]) -> list[ledger.Row]:
    """Every training of the sample that the ledger has, in the order of the plan.

    Raises:
        PapersError: there are not two.
    """
    asked = [spec for spec in planned(0) if spec.settings["kind"] == "alone"]
    found = [row for spec in asked if (row := ledger.find(rows, spec))]
    if len(found) < 2:
        raise PapersError("the ledger has not two trainings of the sample: sweep them at frozen, and collect")
    return found


def stored(store: Store) -> list[dict[str, Result]]:
    """The newest finished run of each search and its enumeration, by draw: every seed that has all of them.

    Raises:
        PapersError: seed 0 has not.
    """
    finished = sorted(store.finished(), key=lambda result: result.provenance["finished"])
    draws, wanted = list[dict[str, Result]](), [name for pair in ARMS.values() for name in pair]
    for seed in STUDY.sizes["frozen"].seeds:
        labels = {spec.identity: spec.label for spec in planned(seed)}
        found = {labels[run.spec.identity]: run for run in finished if run.spec.identity in labels}
        missing = [name for name in wanted if name not in found]
        if missing and seed == 0:
            raise PapersError(f"not run at profile frozen: {', '.join(missing)}; sweep them first")
        if not missing:
            draws.append({name: found[name] for name in wanted})
    return draws


def scored(draws: list[dict[str, Result]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the file says of the scores, and their arrays."""
    arrays, picks = dict[str, Any](), dict[str, Any]()
    settings = draws[0]["enumerate"].spec.settings
    for name, (search, enumerate_) in ARMS.items():
        scores = [checkpoint.load(Path(runs[enumerate_].spec.folder) / "scores.pt") or {} for runs in draws]
        halves = [[one[half].numpy() for half in ("choice", "judge")] for one in scores]
        fractions: dict[str, Any] = {f"scores_{name}": halves}  # [draws, 2, V]
        for kind in bench.STATISTICS:  # other draws read other vectors so
            sample = draws[0][enumerate_].metrics["sample"]
            fractions[f"{kind}_{name}"] = [entry[kind] for entry in sample]
        arrays |= {key: bench.right(values, settings["score_images"]) for key, values in fractions.items()}
        picks[name] = [
            {
                "vector": runs[search].metrics["choices"]["pick"],
                "samples": len(runs[search].metrics["samples"]),
                "equal_cost": runs[enumerate_].metrics["draws"],
            }
            for runs in draws
        ]
    named = {
        f"{name}, seed {run.spec.settings['seed']}": _named(run.spec.identity, run.provenance["commit"])
        for runs in draws
        for name, run in runs.items()
    }
    return {"settings": settings, "picks": picks, "runs": named}, arrays


def alone(rows: list[ledger.Row]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the file says of the trainings alone, and their arrays."""
    metrics = [row.metrics for row in rows]
    tested, seen = metrics[0]["test_images"], metrics[0]["training_images"]

    def column(name: str) -> Any:
        return np.transpose([[point[name] for point in one["points"]] for one in metrics])

    about = {
        "trained_alone": rows[0].settings,
        "test_images": tested,
        "training_images": seen,
        "data": rows[0].data.model_dump(mode="json", exclude={"root"}),
        "runs": {f"alone, {row.settings['repeat']}": _named(row.identity, row.commit) for row in rows},
    }
    return about, {
        "sample": np.asarray([point["vector"] for point in metrics[0]["points"]], np.uint8),
        "trained": bench.right(column("accuracy"), tested),
        "fitted": bench.right(column("train_accuracy"), seen),
    }


def kept(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """As `scored`, of the file that there is; raises as `bench.load`."""
    arrays = bench.read(path)
    about = json.loads(str(arrays.pop("about")))
    about["runs"] = {name: run for name, run in about["runs"].items() if not name.startswith("alone")}
    return about, arrays


def _named(identity: str, commit: str) -> dict[str, str]:
    return {"identity": identity, "commit": commit}


def make(options: Namespace) -> int:
    """Write the file and print its digest."""
    said, scores = kept(options.file) if options.keep_scores else scored(stored(Store()))
    more, trainings = alone(trained(ledger.read("nar")))
    about = said | more | {"runs": said["runs"] | more["runs"]}
    with replacing(options.file) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, about=np.array(json.dumps(about)), **scores | trainings)
    content = options.file.read_bytes()
    count = len(trainings["trained"][0])
    print(f"{options.file.name}: {len(content):,} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}")
    draws = len(scores["scores_pretrain"])
    print(f"{count} trainings of each of {len(trainings['sample'])} vectors, {draws} draws of shared weights")
    return 0


if __name__ == "__main__":
    parser = Parser(prog="python -m papers_lib.nar.study.make_bench", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, default=bench.FILE)
    parser.add_argument("--keep-scores", action="store_true", help="the scores of the file stay")
    parser.set_defaults(command=make)
    sys.exit(answer(parser, None))
