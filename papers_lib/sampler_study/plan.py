"""Which runs the study consists of: arms × camera networks × seeds, at a profile's size."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from papers_lib.datasets import reid
from papers_lib.files import resolve
from papers_lib.runs.planning import refuse_twice, refuse_unknown, sha256
from papers_lib.runs.spec import Data, RunSpec
from papers_lib.sampler_study.arms import ARMS, MANY_VALUES, NOISY, SWEEPS, Arm
from papers_lib.sampler_study.options import PRESETS, TrainSettings
from papers_lib.settings import NotebookSettings, Profile, data_root

PAPER = "sampler_study"
RUN = f"papers_lib.{PAPER}.study:run"
NETWORKS = ("market1501", "dukemtmc", "msmt17_v1")  # the camera networks of Tables I–IV
WARM_DATA, MANY_DATA = "pedestrians_warmup", "pedestrians_many"


class Settings(NotebookSettings):
    """The notebook's parameters. Empty text and an empty list mean: as the profile says."""

    seeds: tuple[Annotated[int, Field(ge=0, lt=2**32)], ...] = ()
    sweeps: tuple[str, ...] = ()
    arms: tuple[str, ...] = ()
    preset: str = "paper"
    eps: float = Field(0.0, ge=0, le=1)  # 0: as the preset says
    weights: str = ""
    acknowledge_withdrawn: bool = False


class Size(NamedTuple):
    """What a profile fixes: seeds, the common settings, and the warm-up that stands for ImageNet."""

    seeds: tuple[int, ...]
    common: dict[str, Any]
    warm: dict[str, Any]
    stand_in: str = ""  # the folder of the stand-ins; empty: real data


_TINY = {"backbone": "tiny16", "start": "warm", "k1": 15, "k2": 4}
_WARM = {
    "method": "supervised", "start": "scratch", "keep_weights": True, "batch_size": 64, "evaluate_every": 100,
}  # fmt: skip
SIZES: dict[Profile, Size] = {
    "smoke": Size(
        (0,),
        _TINY | {
            "height": 32, "width": 16, "pad": 2, "k1": 10, "batch_size": 32, "iters_per_epoch": 6,
            "epochs": 2, "warm_up_epochs": 0, "milestones": (), "inter_start_epoch": 1, "evaluate_every": 2,
        },
        _WARM | {"epochs": 2, "iters_per_epoch": 60, "lr": 3e-3},
        "standin",
    ),
    "small": Size(
        (0, 1, 2),
        _TINY | {
            "height": 64, "width": 32, "pad": 3, "iters_per_epoch": 40, "epochs": 10, "warm_up_epochs": 2,
            "milestones": (8,), "inter_start_epoch": 2, "evaluate_every": 2,
        },
        _WARM | {"epochs": 5, "iters_per_epoch": 100, "lr": 3e-3},
        "standin-small",
    ),
    "medium": Size(
        (0, 1, 2),
        {"precision": "bfloat16", "iters_per_epoch": 200, "epochs": 25, "warm_up_epochs": 5,
         "milestones": (15, 20), "inter_start_epoch": 3, "evaluate_every": 5},
        {},
    ),
    "paper": Size((0, 1, 2), {}, {}),
}  # fmt: skip


def plan(settings: Settings) -> list[RunSpec]:
    """All runs that the notebook's tables and figures need, the most telling first.

    Raises:
        PapersError: an unknown name, one that stands twice, data that is there but wrong or, with
            `settings.train`, not there.
    """
    _refuse(settings)
    specs = [
        _spec(settings, name, arm, seed)
        for sweep in settings.sweeps or SWEEPS
        for seed in _seeds(settings, sweep)
        for arm in ARMS.values()
        if arm.sweep == sweep and (not settings.arms or arm.name in settings.arms)
        for name in _networks(settings, arm)
        if seed in _own_seeds(settings, arm)
    ]
    # The seeds that all arms share first.
    return sorted(specs, key=lambda spec: _rank(settings, spec))


def _rank(settings: Settings, spec: RunSpec) -> tuple[int, int]:
    sweep = ARMS[arm_of(spec)].sweep
    wanted = settings.sweeps or SWEEPS
    extra = spec.seed not in (settings.seeds or SIZES[settings.profile].seeds)
    return wanted.index(sweep), int(extra)


def arm_of(spec: RunSpec) -> str:
    """The arm's name; the label names the camera network before it."""
    return spec.label.rpartition("/")[2]


def _seeds(settings: Settings, sweep: str) -> tuple[int, ...]:
    own = settings.seeds or SIZES[settings.profile].seeds
    if sweep != "grid" or settings.seeds or settings.profile == "smoke":
        return own
    return own + tuple(seed + len(own) for seed in range(len(own)))


def _own_seeds(settings: Settings, arm: Arm) -> tuple[int, ...]:
    """Twice as many seeds for the arms that are random sampling."""
    if settings.seeds or settings.profile == "smoke" or arm.name not in NOISY:
        return settings.seeds or SIZES[settings.profile].seeds
    return _seeds(settings, "grid")


def _networks(settings: Settings, arm: Arm) -> tuple[str, ...]:
    if arm.sweep == "many":  # rendered for this question, and for it alone
        return (MANY_DATA,) if SIZES[settings.profile].stand_in else ()
    if settings.dataset:
        return (settings.dataset,)
    return NETWORKS if arm.sweep in ("grid", "rivals") else NETWORKS[:1]


def _refuse(settings: Settings) -> None:
    refuse_twice("seeds", settings.seeds)
    refuse_unknown("sweeps", settings.sweeps, SWEEPS)
    refuse_unknown("arms", settings.arms, ARMS)
    refuse_unknown("preset", (settings.preset,), PRESETS)
    if settings.dataset:
        refuse_unknown("dataset", (settings.dataset,), reid.NAMES)


def find_data(settings: Settings, name: str) -> Data:
    """A data set as it lies on disk; by its name alone where it is not there.

    Stand-ins lie apart, in `standin/` (smoke) and `standin-small/`, so that none is taken for the real
    set of the same name; `data_root`, where given, is taken as it is.
    """
    size = SIZES[settings.profile]
    root = data_root(settings.data_root)
    if size.stand_in and not settings.data_root:
        root = root / size.stand_in
    return _found(root, name, bool(size.stand_in), settings.train or bool(settings.data_root),
                  settings.acknowledge_withdrawn)  # fmt: skip


@lru_cache(maxsize=32)
def _found(root: Path, name: str, stand_in: bool, needed: bool, acknowledged: bool) -> Data:
    if not needed and not (root / name).exists():
        return Data(name=name, stand_in=stand_in)
    found = reid.load(root, name, acknowledge_withdrawn=acknowledged)
    return Data(
        name=name, root=str(root), fingerprint=found.fingerprint, pixels=found.pixels, stand_in=found.stand_in
    )


def _spec(settings: Settings, name: str, arm: Arm, seed: int) -> RunSpec:
    size = SIZES[settings.profile]
    asked = PRESETS[settings.preset] | size.common
    if settings.eps:
        asked |= {"eps": settings.eps}
    if settings.precision:
        asked |= {"precision": settings.precision}
    if settings.weights:
        asked |= {"start": "file", "weights": sha256(_weights(settings))}
    full = _complete(_resolved(asked | arm.changes | {"seed": seed}))
    needs: tuple[RunSpec, ...] = ()
    if full["start"] == "warm":
        shared = {
            name: full[name] for name in ("height", "width", "pad", "backbone", "precision", "stem_relu")
        }
        warm = _complete(shared | size.warm | {"seed": seed})
        needs = (_run(settings, find_data(settings, WARM_DATA), "warm-up", warm),)
    return _run(settings, find_data(settings, name), f"{name}/{arm.name}", full, needs)


def _resolved(asked: dict[str, Any]) -> dict[str, Any]:
    """Settings that an arm gives relative to the profile's."""
    default = {name: field.default for name, field in TrainSettings.model_fields.items()}
    asked = default | asked
    iterations = asked["iters_per_epoch"]
    if batch := asked.pop("samples_of_batch", 0):
        asked["iters_per_epoch"] = round(iterations * batch / asked["batch_size"])
    if times := asked.pop("iterations_times", 0):
        asked["iters_per_epoch"] = iterations * times
    if times := asked.pop("epochs_times", 0):
        asked["epochs"] = round(asked["epochs"] * times)
        asked["milestones"] = [round(m * times) for m in asked["milestones"]]
    if asked["method"] in ("supervised", "none"):
        asked["eps"] = default["eps"]  # no clustering
    return asked


def identical(n: int, largest: int) -> int | None:
    """The N of `MANY_VALUES` whose groups are those of N = n when no cluster is larger than `largest`."""
    return next((m for m in MANY_VALUES if largest <= m < n), None)


def _run(
    settings: Settings, data: Data, label: str, full: dict[str, Any], needs: tuple[RunSpec, ...] = ()
) -> RunSpec:
    return RunSpec(
        paper=PAPER, function=RUN, profile=settings.profile, settings=full, data=data, needs=needs,
        label=label, device=settings.device,
        places={"weights": str(_weights(settings))} if full["start"] == "file" else {},
    )  # fmt: skip


def _complete(changes: dict[str, Any]) -> dict[str, Any]:
    """All settings of a run as plain JSON, none left to a default."""
    return TrainSettings.model_validate(changes).model_dump(mode="json")


def _weights(settings: Settings) -> Path:
    return resolve(settings.weights)
