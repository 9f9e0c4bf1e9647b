"""The long tier, `make faults`: what kills, lost nodes, full disks and the like lose or compute twice.

    python tests/faults.py [--times 6] [--seed 0] [--subjects toy,nar] [FAULT ...]

Each fault meets sweeps of toy runs and of every paper at smoke, at random moments, and then the same command
goes on. Lost is a run without result, or with other metrics than those of an undisturbed run; doubled is one
that was computed again though its result was there. Needs the stand-in data of `make data`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "runs")]
PATH = os.pathsep.join([str(HERE.parent), str(HERE / "runs")])

from sweeps import SWEEP  # noqa: E402

WINGS = ("quadruplet_cars196", "sampler_study", "median_triplet", "nar")
HOURS = 3600.0
STARTED: list[subprocess.Popen[str]] = []  # none outlives this process


class Subject:
    """A sweep that is disturbed: `toy`, or a paper at smoke."""

    def __init__(self, name: str, executor: str = "local") -> None:
        self.name, self.executor = name, executor

    def start(self, root: Path) -> subprocess.Popen[str]:
        """Begin the sweep on the store `root`, in a session of its own."""
        if self.name == "toy":
            command = ["-c", SWEEP, self.executor, str(root), "steps", "small", "6", "{'steps': 100}"]
        else:
            command = ["-m", "papers_lib", "sweep", self.name, "-p", "profile", "smoke", "--limit", "2"]
            command += ["--executor", self.executor, "--slots", "2"]
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=HERE.parent,
            env=os.environ | {"PAPERS_RUNS": str(root), "PYTHONPATH": PATH, "PAPERS_WINGS": "toy_wing"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        STARTED.append(process)
        return process

    def finish(self, root: Path) -> None:
        """The same command until it has nothing more to do; a worker that is dying may need a second."""
        for _ in range(3):
            process = self.start(root)
            said, _ = process.communicate(timeout=HOURS)
            if ended_well(process, said):
                return
        print(f"{self.name} does not end:\n{said}", file=sys.stderr)

    @cached_property
    def undisturbed(self) -> tuple[dict[str, object], float]:
        """Metrics by run, and the seconds of the sweep."""
        with tempfile.TemporaryDirectory() as folder:
            started = time.monotonic()
            self.finish(Path(folder))
            return metrics(Path(folder)), time.monotonic() - started


def ended_well(process: subprocess.Popen[str], said: str) -> bool:
    """Whether nothing failed; the toy sweep exits with 0 also then, and ends with the number of failures."""
    return process.returncode == 0 and (not said.rpartition("summary")[1] or said.endswith(" 0\n"))


def results(root: Path) -> dict[str, str]:
    """What lies in the store, by run; a result that is computed again has another time in it."""
    return {path.parent.name: path.read_text() for path in root.glob("*/*/result.json")}


def metrics(root: Path) -> dict[str, object]:
    """The metrics of all runs, without those that measure time."""
    return {key: untimed(json.loads(text)["metrics"]) for key, text in results(root).items()}


def untimed(value: object) -> object:
    if isinstance(value, list):
        return [untimed(one) for one in value]
    if isinstance(value, dict):
        return {n: untimed(v) for n, v in value.items() if "seconds" not in n and n != "waiting"}
    return value


class Trial:
    """One store under one fault, until the sweep has ended by itself or `close`."""

    def __init__(self, subject: Subject, root: Path) -> None:
        self.subject, self.root = subject, root
        self.seen: dict[str, str] = {}
        self.doubled = 0

    def look(self) -> None:
        """Count results that have been there before, and are others now."""
        now = results(self.root)
        self.doubled += sum(now.get(key) != text for key, text in self.seen.items())
        self.seen = now

    def close(self) -> tuple[int, int]:
        """Let the sweep end undisturbed; runs lost and doubled."""
        self.look()
        self.subject.finish(self.root)
        self.look()
        wanted, found = self.subject.undisturbed[0], metrics(self.root)
        lost = [key for key, value in wanted.items() if found.get(key) != value]
        for key in lost:
            print(
                f"  lost: {self.subject.name} {key}: {found.get(key)}\n  not: {wanted[key]}", file=sys.stderr
            )
        return len(lost), self.doubled


# -- the faults: each disturbs one sweep of a trial; False if it ended before --


def wait(trial: Trial, process: subprocess.Popen[str], rng: random.Random) -> bool:
    """Until a random moment of the sweep; False if it ended before."""
    try:
        process.communicate(timeout=rng.uniform(0, trial.subject.undisturbed[1]))
    except subprocess.TimeoutExpired:
        return True
    return False


def end(process: subprocess.Popen[str]) -> str:
    """Kill the whole session of a sweep; what it said."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.communicate()[0]


def kill(trial: Trial, rng: random.Random) -> bool:
    """SIGKILL of the sweep and all its processes."""
    process = trial.subject.start(trial.root)
    hit = wait(trial, process, rng)
    end(process)
    return hit


def kill_driver(trial: Trial, rng: random.Random) -> bool:
    """SIGKILL of the sweep alone: its workers are to follow it."""
    process = trial.subject.start(trial.root)
    hit = wait(trial, process, rng)
    process.kill()
    time.sleep(rng.uniform(0, 1))  # the next sweep may meet workers that are not gone yet
    process.stdout.close()
    process.wait()
    return hit


def kill_worker(trial: Trial, rng: random.Random) -> bool:
    """SIGKILL of one of the processes that compute."""
    import psutil

    process = trial.subject.start(trial.root)
    wait(trial, process, rng)
    workers: list[psutil.Process] = []
    with suppress(psutil.Error):
        for child in psutil.Process(process.pid).children(recursive=True):
            if "papers_lib.runs.worker" in child.cmdline():
                workers.append(child)
    with suppress(psutil.Error):
        if workers:
            rng.choice(workers).kill()
    process.communicate(timeout=HOURS)
    return bool(workers)


def interrupt(times: int) -> Callable[[Trial, random.Random], bool]:
    def interrupted(trial: Trial, rng: random.Random) -> bool:
        process = trial.subject.start(trial.root)
        hit = wait(trial, process, rng)
        for _ in range(times):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.2)
        process.communicate(timeout=60)
        if trial.subject.executor == "local":
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 0)
                time.sleep(2)  # a worker may need a second to see that it is alone
                os.killpg(process.pid, 0)
                raise AssertionError(f"{trial.subject.name}: Ctrl-C left a process behind")
        return hit

    return interrupted


def clock_set_back(trial: Trial, rng: random.Random) -> bool:
    """A kill, and then all files are of the future, or of long ago."""
    hit = kill(trial, rng)
    when = time.time() + rng.choice([-(10**9), -3600, 3600, 10**8])
    for path in trial.root.rglob("*"):
        os.utime(path, (when, when))
    return hit


def limited(kind: int, low: int, high: int) -> Callable[[Trial, random.Random], bool]:
    """The sweep and its workers may take a random amount between two of a resource."""

    def fault(trial: Trial, rng: random.Random) -> bool:
        amount = rng.randint(low, high)
        process = trial.subject.start(trial.root)
        resource.prlimit(process.pid, kind, (amount, amount))  # its workers inherit it
        said, _ = process.communicate(timeout=HOURS)
        return not ended_well(process, said)

    return fault


def mounted(options: str) -> Callable[[Trial, random.Random], bool]:
    """A real file system over the store, too small or read-only; then it has room and may be written."""

    def fault(trial: Trial, rng: random.Random) -> bool:
        trial.root.mkdir(exist_ok=True)
        size = rng.randint(16, 512)  # KiB
        if not os.path.ismount(trial.root):
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "faults", trial.root], check=True)
        remount = ["mount", "-o"]
        subprocess.run([*remount, f"remount,{options.format(size=size)}", trial.root], check=True)
        process = trial.subject.start(trial.root)
        said, _ = process.communicate(timeout=HOURS)
        subprocess.run([*remount, "remount,rw,size=1g", trial.root], check=True)
        assert trial.subject.name == "toy" or "Traceback" not in said, said
        return process.returncode != 0

    return fault


class Nodes:
    """A cluster of a head without CPUs and two nodes, of which one is lost and replaced."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
        )
        self.nodes = [self.cluster.add_node(num_cpus=1) for _ in range(2)]

    def lose_one(self, trial: Trial, rng: random.Random) -> bool:
        process = trial.subject.start(trial.root)
        hit = wait(trial, process, rng)
        self.cluster.remove_node(self.nodes.pop(rng.randrange(2)), allow_graceful=False)
        self.nodes.append(self.cluster.add_node(num_cpus=1))
        process.communicate(timeout=HOURS)
        return hit


FAULTS = {
    "SIGKILL of all": kill,
    "SIGKILL of the sweep": kill_driver,
    "SIGKILL of a worker": kill_worker,
    "Ctrl-C": interrupt(1),
    "Ctrl-C twice": interrupt(2),
    "clock set back": clock_set_back,
    "full disk": mounted("size={size}k"),
    "read-only store": mounted("ro"),
    "file size limit": limited(resource.RLIMIT_FSIZE, 1 << 10, 1 << 18),
    "little memory": limited(resource.RLIMIT_AS, 1 << 28, 3 << 30),
}
OF_RAY = ("SIGKILL of all", "SIGKILL of the sweep", "Ctrl-C")


def repeat(subject: Subject, fault: Callable[..., bool], times: int, rng: random.Random) -> tuple[int, ...]:
    """Repetitions that hit, runs lost, runs doubled."""
    hits = lost = doubled = tried = 0
    while hits < times and tried < 3 * times:  # a sweep that a limit lets pass is tried again
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "runs"
            trial = Trial(subject, root)
            try:
                for _ in range(3):  # a killed sweep is killed again, as long as it has something to do
                    tried += 1
                    hit = fault(trial, rng)
                    trial.look()
                    hits += hit
                    if not hit or hits == times:
                        break
                ended = trial.close()
            finally:
                if os.path.ismount(root):
                    subprocess.run(["umount", "-l", root], check=True)  # a stopped sweep may be in it
            lost, doubled = lost + ended[0], doubled + ended[1]
    return hits, lost, doubled


@contextmanager
def cluster(wanted: bool) -> Iterator[Nodes | None]:
    if not wanted:
        yield None
        return
    nodes = Nodes()
    os.environ["RAY_ADDRESS"] = nodes.cluster.address
    try:
        yield nodes
    finally:
        nodes.cluster.shutdown()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("faults", nargs="*", help=f"of {', '.join([*FAULTS, 'ray'])}; none: all")
    parser.add_argument("--times", type=int, default=6, help="repetitions of each fault, per subject")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--subjects", default=",".join(["toy", *WINGS]))
    options = parser.parse_args()
    rng = random.Random(options.seed)
    chosen = options.faults or [*FAULTS, "ray"]
    names = options.subjects.split(",")
    with tempfile.TemporaryDirectory() as folder:
        trying = ["sh", "-c", 'mount -t tmpfs faults "$0" && umount "$0"', folder]
        may_mount = subprocess.run(trying, check=False, capture_output=True).returncode == 0
    plan = [
        (name, Subject(s), FAULTS[name])
        for name in chosen
        for s in names
        if name in FAULTS and (may_mount or name not in ("full disk", "read-only store"))
    ]
    print(f"{'fault':22} {'sweep':24} {'repetitions':>11} {'lost':>5} {'doubled':>8}", flush=True)
    total = [0, 0, 0]
    subjects: dict[tuple[str, str], Subject] = {}
    with cluster("ray" in chosen) as nodes:
        if nodes is not None:
            plan += [(f, Subject(s, "ray"), FAULTS[f]) for f in OF_RAY for s in names]
            plan += [("a node is lost", Subject(s, "ray"), nodes.lose_one) for s in names]
        for name, one, fault in plan:
            subject = subjects.setdefault((one.name, one.executor), one)  # undisturbed once
            counts = repeat(subject, fault, options.times, rng)
            total = [a + b for a, b in zip(total, counts, strict=True)]
            where = subject.name + (" on ray" if subject.executor == "ray" else "")
            print(f"{name:22} {where:24} {counts[0]:11} {counts[1]:5} {counts[2]:8}", flush=True)
    print(f"{'in all':47} {total[0]:11} {total[1]:5} {total[2]:8}")
    return int(total[1] + total[2] > 0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    finally:
        for started in STARTED:
            if started.poll() is None:
                os.killpg(started.pid, signal.SIGKILL)
