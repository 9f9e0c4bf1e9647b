"""Which runs the study consists of: arms × seeds, and what starts from them, at a profile's size."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from papers_lib.datasets import classification, known
from papers_lib.median_triplet.arms import ARMS, SWEEPS, TRANSFERS, Arm, Transfer
from papers_lib.median_triplet.options import OF_METHOD, PRESETS, SHARED, TrainSettings, TransferSettings
from papers_lib.runs.planning import refuse_twice, refuse_unknown
from papers_lib.runs.spec import Data, RunSpec
from papers_lib.settings import NotebookSettings, Profile, data_root

PAPER = "median_triplet"
RUN = f"papers_lib.{PAPER}.study:run"
TASK_DATA = {"mask_rcnn": "coco2017", "faster_rcnn": "voc0712", "search": "sysu30k"}


class Settings(NotebookSettings):
    """The notebook's parameters. Empty text and an empty list mean: as the profile says."""

    seeds: tuple[Annotated[int, Field(ge=0, lt=2**32)], ...] = ()
    sweeps: tuple[str, ...] = ()
    arms: tuple[str, ...] = ()
    preset: str = ""
    processes: int = Field(1, ge=1)  # of torchrun, for each training of an encoder


class Size(NamedTuple):
    """What a profile fixes: seeds, data, preset, the common settings, and those of transfer."""

    seeds: tuple[int, ...]
    dataset: str
    preset: str
    common: dict[str, Any]
    transfer: dict[str, Any] | None = None
    stand_in: str = ""  # the folder of the stand-ins; empty: real data
    longest: float = 5.0  # the longest of the sweep `lengths`, as a multiple of the profile's epochs


SIZES: dict[Profile, Size] = {
    "smoke": Size(
        (0,), "cifar10", "cifar",
        {
            "image_size": 16, "backbone": "tiny16", "projector_hidden": 64, "projector_out": 32,
            "batch_size": 32, "queue": 64, "epochs": 1, "knn_every": 1, "knn_k": 20, "probe_epochs": 10,
            "images": 160, "precision": "float32",
        },
        {"backbone": "tiny16", "image_size": 96, "steps": 2, "batch_size": 2, "lr": 0.005, "proposals": 16,
         "height": 32, "width": 16},
        "standin",
    ),
    "small": Size(
        (0, 1, 2), "cifar10", "cifar",
        {
            "backbone": "resnet18_cifar16", "projector_hidden": 512, "projector_out": 128, "images": 10_000,
            "image_size": 24, "epochs": 8, "knn_every": 2, "probe_epochs": 30, "precision": "float32",
        },
        longest=2.0,
    ),
    "medium": Size((0, 1, 2), "cifar10", "cifar", {"epochs": 200, "knn_every": 10}, longest=1.0),
    "paper": Size((0,), "imagenet", "paper", {}, {}),
}  # fmt: skip


def plan(settings: Settings) -> list[RunSpec]:
    """All runs that the notebook's tables and figures need, the most telling first.

    Raises:
        PapersError: an unknown name, one that stands twice, data that is there but wrong or, with
            `settings.train`, not there.
    """
    _refuse(settings)
    size = SIZES[settings.profile]
    seeds = settings.seeds or size.seeds
    wanted = settings.sweeps or SWEEPS
    arms = [arm for arm in ARMS.values() if not settings.arms or arm.name in settings.arms]
    specs = [
        arm_spec(settings, arm, seed)
        for sweep in wanted
        for seed in seeds
        for arm in arms
        if arm.sweep == sweep and arm.changes.get("epochs_times", 1) <= size.longest
    ]
    if size.transfer is None or "transfer" not in wanted or settings.arms:
        return specs
    return specs + [_transfer_spec(settings, transfer, seed) for seed in seeds for transfer in TRANSFERS]


def arm_spec(settings: Settings, arm: Arm, seed: int) -> RunSpec:
    """The run that trains an encoder as `arm` says."""
    size = SIZES[settings.profile]
    preset = settings.preset or size.preset
    own = OF_METHOD[preset].get(arm.changes["method"], {})
    asked = PRESETS[preset] | own | size.common | arm.changes | {"seed": seed}
    asked["keep_weights"] = size.transfer is not None and arm.name in {one.arm for one in TRANSFERS}
    asked["processes"] = settings.processes if asked["method"] in SHARED else 1
    if settings.precision:
        asked["precision"] = settings.precision
    full = TrainSettings.model_validate(_resolved(asked)).model_dump(mode="json")
    data = find_data(settings, settings.dataset or size.dataset)
    return _run(settings, data, arm.name, full)


def _transfer_spec(settings: Settings, transfer: Transfer, seed: int) -> RunSpec:
    start = arm_spec(settings, ARMS[transfer.arm], seed)
    changes = SIZES[settings.profile].transfer or {}
    begin = "random" if transfer.arm == "random" else "encoder"
    asked = changes | {"task": transfer.task, "seed": seed, "start": begin}
    full = TransferSettings.model_validate(asked).model_dump(mode="json")
    label = f"{transfer.task}/{transfer.row}"
    return _run(settings, find_data(settings, TASK_DATA[transfer.task]), label, full, (start,))


def _resolved(asked: dict[str, Any]) -> dict[str, Any]:
    """Settings that an arm gives relative to the profile's."""
    asked = {name: field.default for name, field in TrainSettings.model_fields.items()} | asked
    if times := asked.pop("epochs_times", 0):
        asked["epochs"] = max(1, round(asked["epochs"] * times))
    if times := asked.pop("batch_times", 0):
        asked["batch_size"] = max(4, round(asked["batch_size"] * times))
        asked["lr"] *= times  # linear, so that equal images mean equal movement
    if asked["method"] == "random":
        asked["epochs"] = 0
    return asked


def _run(
    settings: Settings, data: Data, label: str, full: dict[str, Any], needs: tuple[RunSpec, ...] = ()
) -> RunSpec:
    return RunSpec(
        paper=PAPER, function=RUN, profile=settings.profile, settings=full, data=data, needs=needs,
        label=label, device=settings.device,
    )  # fmt: skip


def _refuse(settings: Settings) -> None:
    refuse_twice("seeds", settings.seeds)
    refuse_unknown("sweeps", settings.sweeps, SWEEPS)
    refuse_unknown("arms", settings.arms, ARMS)
    if settings.preset:
        refuse_unknown("preset", (settings.preset,), PRESETS)


def find_data(settings: Settings, name: str) -> Data:
    """A data set as it lies on disk; by its name alone where it is not there.

    Stand-ins lie apart, in `standin/`, so that none is taken for the real set of the same name;
    `data_root`, where given, is taken as it is.
    """
    size = SIZES[settings.profile]
    root = data_root(settings.data_root)
    if size.stand_in and not settings.data_root:
        root = root / size.stand_in
    return _found(root, name, bool(size.stand_in), settings.train or bool(settings.data_root))


@lru_cache(maxsize=32)
def _found(root: Path, name: str, stand_in: bool, needed: bool) -> Data:
    if not needed and not (root / name).exists():
        return Data(name=name, stand_in=stand_in)
    if name not in TASK_DATA.values():
        refuse_unknown("dataset", (name,), classification.NAMES)
    found = known.load(root, name)
    return Data(
        name=name, root=str(root), fingerprint=found.fingerprint, pixels=found.pixels, stand_in=found.stand_in
    )
