"""What a GPU is asked first: are the numbers right, how fast is it, and do the profiles for one GPU fit.

    python -m benchmarks.gpu_check [--minutes 8 --device cuda --data data --log build/gpu-check.log]

The parts come worthiest first, each a command of its own, limited by the time that is left. The last one
trains until the time is used, and its run resumes from its checkpoint. A part that fails does not stop the
others. What each printed is in the log, as it goes; at the end there is one table. With `--device cpu` the
same parts run at the smallest sizes, which shows that the check itself is whole.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.timing import hardware

PAPERS = ("nar", "median_triplet", "quadruplet_cars196", "sampler_study")


class Part(NamedTuple):
    """A part of the check: its name, the module that it runs, and the most of the time that it may take."""

    name: str
    module: str
    arguments: tuple[str, ...]
    share: float = 0.25


class Outcome(NamedTuple):
    """How a part ended: in a word, after so many seconds, and the last lines that it printed."""

    name: str
    result: str
    seconds: float
    said: list[str]


def parts(device: str, data: str) -> list[Part]:
    """The parts in their order; small sizes where `device` is the CPU."""
    small = device == "cpu"
    size = ("--width", "8", "--images", "256") if small else ("--width", "64", "--images", "50000")
    views = ("--backbone", "tiny16", "--batch", "32") if small else ("--batch", "512")
    profile = ("-p", "profile", "smoke" if small else "medium", "-p", "device", device)
    where = () if small else ("-p", "data_root", data)
    pilot = (*profile, *where, "-p", "pilot", "true", "--limit", "1")
    return [
        Part("tests on the device", "pytest", ("-q", "-n", "0", "-m", "cuda", "tests"), 0.4),
        *(Part(f"pilot of {paper}", "papers_lib", ("sweep", paper, *pilot)) for paper in PAPERS),
        Part("loading", "benchmarks.loading", ("--device", device)),
        Part("epoch of CIFAR", "benchmarks.cifar_epoch", (*size, "--rounds", "1", "--device", device)),
        Part("step of BYOL", "benchmarks.ssl_epoch", (*views, "--rounds", "1", "--device", device)),
        Part("nar, base", "papers_lib", ("sweep", "nar", *profile, *where, "-p", "arms", '["base"]'), 1.0),
    ]


def run(part: Part, seconds: float, log: Path, device: str) -> Outcome:
    """Run a part for at most so many seconds, its output into the log."""
    environment = os.environ | {"PAPERS_GPU_TESTS": device, "PYTHONUNBUFFERED": "1"}
    start, before = time.perf_counter(), log.stat().st_size if log.exists() else 0
    with log.open("a", encoding="utf-8") as out:
        print(f"\n== {part.name}", file=out, flush=True)
        command = [sys.executable, "-m", part.module, *part.arguments]
        try:
            code = subprocess.run(
                command, stdout=out, stderr=subprocess.STDOUT, env=environment, timeout=seconds, check=False
            ).returncode
            result = "passed" if code == 0 else f"failed with code {code}"
        except subprocess.TimeoutExpired:
            result = "ran out of time"
    said = log.read_bytes()[before:].decode(errors="replace").strip().splitlines()[1:]
    return Outcome(part.name, result, time.perf_counter() - start, said[-3:])


def check(todo: list[Part], seconds: float, log: Path, device: str) -> list[Outcome]:
    """Run the parts one after the other within the time; those that no time is left for are skipped."""
    log.parent.mkdir(parents=True, exist_ok=True)
    end, outcomes = time.perf_counter() + seconds, []
    for part in todo:
        left = end - time.perf_counter()
        if left < 5:
            outcomes.append(Outcome(part.name, "no time left", 0.0, []))
            continue
        outcomes.append(run(part, min(left, part.share * seconds), log, device))
        print(f"{outcomes[-1].name}: {outcomes[-1].result}, {outcomes[-1].seconds:.0f} s", flush=True)
    return outcomes


def main() -> int:
    """Run the check and print its table; 1 if a part failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--data", default=os.environ.get("PAPERS_DATA", "data"))
    parser.add_argument("--log", type=Path, default=Path("build/gpu-check.log"))
    options = parser.parse_args()
    outcomes = check(parts(options.device, options.data), 60 * options.minutes, options.log, options.device)
    print(f"\n{hardware()}")
    for outcome in outcomes:
        print(f"{outcome.name:28}{outcome.result:24}{outcome.seconds:7.0f} s")
        for line in outcome.said:
            print(f"    {line[:140]}")
    print(f"\nall that was printed: {options.log}")
    return int(any(outcome.result.startswith("failed") for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
