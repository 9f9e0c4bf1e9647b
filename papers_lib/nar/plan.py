"""Which runs the study consists of: arms × seeds at a profile's size, and the runs that they start from."""

from __future__ import annotations

import random
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple, get_args

from pydantic import Field

from papers_lib.datasets import classification, faces
from papers_lib.errors import PapersError
from papers_lib.nar.arms import ARMS, SWEEPS, Arm, Kind
from papers_lib.nar.counting import costs
from papers_lib.nar.face_options import FaceSettings
from papers_lib.nar.imagenet.options import ImageNetSettings
from papers_lib.nar.options import (
    Preset,
    ScoreSettings,
    SearchSettings,
    SkipSettings,
    StandaloneSettings,
    TauSettings,
)
from papers_lib.runs.planning import refuse_twice, refuse_unknown
from papers_lib.runs.spec import Data, RunSpec
from papers_lib.settings import Frozen, NotebookSettings, Profile, data_root

PAPER = "nar"
RUN = f"papers_lib.{PAPER}.study:run"
IMAGENET = f"papers_lib.{PAPER}.imagenet.training:run"
FACES = "faces_emore"
APART = ("skips", "faces", "imagenet")  # kinds on data of their own, with settings of their own
STAND_IN = "standin"  # the folder of the stand-ins
MODELS: dict[Kind, type[Frozen]] = {
    "standalone": StandaloneSettings, "search": SearchSettings, "enumerate": ScoreSettings,
    "tau": TauSettings, "skips": SkipSettings, "faces": FaceSettings, "imagenet": ImageNetSettings,
}  # fmt: skip


class Settings(NotebookSettings):
    """The notebook's parameters. Empty text and an empty list mean: as the profile says."""

    seeds: tuple[Annotated[int, Field(ge=0, lt=2**32)], ...] = ()
    sweeps: tuple[str, ...] = ()
    arms: tuple[str, ...] = ()
    preset: str = ""  # of the controller
    acknowledge_withdrawn: bool = False  # read a real copy of faces_emore all the same


class Size(NamedTuple):
    """What a profile fixes: seeds, data, settings common to all runs on images, and those of each kind."""

    seeds: tuple[int, ...]
    dataset: str
    common: dict[str, Any]
    by_kind: dict[Kind, dict[str, Any]]
    stand_in: bool = False


# Drawn faces: a narrow network on small pictures shows that the road is whole, and no more.
FACES_SMALL: dict[str, Any] = {
    "image_size": 56, "identities": 0, "shots": 0, "held_out": 1, "width": 16, "embedding": 128, "epochs": 10,
    "batch_size": 32, "precision": "float32",
}  # fmt: skip
SIZES: dict[Profile, Size] = {
    "smoke": Size(
        (0,), "cifar10",
        {"images": 160, "image_size": 16, "decisions": 6, "width": 8, "valid_size": 40, "batch_size": 40,
         "precision": "float32"},
        {
            "standalone": {"epochs": 1, "test_every": 1},
            "search": {"epochs": 3, "first_cycle": 1, "pretrain_epochs": 1, "updates": 2, "samples": 4,
                       "reward_images": 20, "final_samples": 4, "score_images": 40, "bn_eval": "batch"},
            "enumerate": {"score_images": 40, "checked": 4, "reward_images": 20, "beam": 2},
            "tau": {"vectors": 4, "epochs": 1, "score_images": 40},
            "skips": {"epochs": 3, "updates": 5},
            "faces": {"image_size": 32, "identities": 0, "shots": 0, "held_out": 1, "width": 8,
                      "embedding": 32, "epochs": 1,
                      "batch_size": 16, "precision": "float32"},
        },
        stand_in=True,
    ),
    "small": Size(
        (0, 1, 2), "cifar10",
        {"images": 10_000, "width": 8, "valid_size": 1000, "precision": "float32"},
        {
            "standalone": {"epochs": 12, "test_every": 4},
            "search": {"epochs": 35, "first_cycle": 5, "pretrain_epochs": 5, "updates": 20, "samples": 10,
                       "score_images": 320, "bn_eval": "batch"},
            "enumerate": {"score_images": 320, "checked": 16},
            "tau": {"vectors": 20, "epochs": 3, "score_images": 1000},
            "skips": {"epochs": 100},
            "faces": FACES_SMALL,
        },
    ),
    "medium": Size(
        (0, 1, 2), "cifar10", {},
        {
            "standalone": {"epochs": 40, "batch_size": 512, "lr": 0.4, "warm_up_epochs": 4, "test_every": 10},
            "search": {"epochs": 70, "bn_eval": "batch"},
            "enumerate": {},
            "tau": {"epochs": 10, "batch_size": 512, "lr": 0.4},
            "skips": {},
            "faces": FACES_SMALL,
        },
    ),
    "paper": Size(
        (0, 1, 2), "cifar10", {},
        {"standalone": {}, "search": {}, "enumerate": {}, "tau": {}, "skips": {}, "faces": {},
         "imagenet": {}},
    ),
}  # fmt: skip


def plan(settings: Settings) -> list[RunSpec]:
    """All runs that the notebook's tables and figures need, the most telling first.

    Raises:
        PapersError: an unknown name, one that stands twice, data that is there but wrong or, with
            `settings.train`, not there.
    """
    _refuse(settings)
    seeds = settings.seeds or SIZES[settings.profile].seeds
    wanted = settings.sweeps or SWEEPS
    chosen = [arm for arm in possible(settings.profile) if not settings.arms or arm.name in settings.arms]
    specs = [
        arm_spec(settings, arm, seed)
        for sweep in wanted
        for seed in seeds
        for arm in chosen
        if arm.sweep == sweep
    ]
    if not specs:
        places = ", ".join(f"{arm.name} is in {arm.sweep}" for arm in chosen)
        raise PapersError(f"no arm asked for is in the sweeps {', '.join(wanted)}: {places}")
    return specs


def possible(profile: Profile) -> list[Arm]:
    """The arms of a profile: ImageNet is for `paper` alone."""
    return [arm for arm in ARMS.values() if arm.kind in SIZES[profile].by_kind]


def arm_spec(settings: Settings, arm: Arm, seed: int) -> RunSpec:
    """The run that `arm` names; a vector that a finished run decides is named by that run, in `needs`."""
    size = SIZES[settings.profile]
    asked = dict(size.by_kind[arm.kind])
    if arm.kind not in APART:
        asked = size.common | asked
    asked |= arm.changes | {"seed": seed}
    if settings.precision and "precision" in MODELS[arm.kind].model_fields:
        asked["precision"] = settings.precision
    if settings.preset and arm.kind == "search":
        asked["preset"] = settings.preset
    if arm.kind == "standalone" and not arm.needs:
        asked |= _vector(arm, asked)
    if count := asked.pop("replacements", 0):
        asked["vector"] = random_vector(24, count, seed)
    full = MODELS[arm.kind].model_validate(asked).model_dump(mode="json")
    needs = (arm_spec(settings, ARMS[arm.needs], seed),) if arm.needs else ()
    return RunSpec(
        paper=PAPER, function=IMAGENET if arm.kind == "imagenet" else RUN, profile=settings.profile,
        settings=full, data=_data(settings, arm.kind), needs=needs, label=arm.name, device=settings.device,
    )  # fmt: skip


def _vector(arm: Arm, asked: dict[str, Any]) -> dict[str, Any]:
    """The given vector in the profile's decisions: a network without its last stage has the first six."""
    decisions = int(asked.get("decisions", 8))
    vector = tuple(asked.get("vector", ())) or (0,) * decisions
    if arm.name == "single_cheapest":
        vector = cheapest_single(decisions)
    return {"vector": vector[:decisions]}


def random_vector(decisions: int, replacements: int, seed: int) -> tuple[int, ...]:
    """A vector with that many replacements, places and operators uniform."""
    chance = random.Random(seed)
    places = chance.sample(range(decisions), replacements)
    return tuple(chance.randint(1, 3) if i in places else 0 for i in range(decisions))


@lru_cache(maxsize=4)
def cheapest_single(decisions: int) -> tuple[int, ...]:
    """The one replacement that saves most multiply-accumulates on CIFAR-10; the first of equal ones."""
    choices = costs(decisions, "resnet18_cifar", image_size=32, classes=10).choices
    saved = {
        (place, code): row[0].multiply_accumulates - cost.multiply_accumulates
        for place, row in enumerate(choices)
        for code, cost in enumerate(row)
        if code and cost and row[0]
    }
    place, code = max(saved, key=lambda key: saved[key])
    return tuple(code if i == place else 0 for i in range(decisions))


def _refuse(settings: Settings) -> None:
    refuse_twice("seeds", settings.seeds)
    arms = possible(settings.profile)
    refuse_unknown("sweeps", settings.sweeps, tuple(dict.fromkeys(arm.sweep for arm in arms)))
    refuse_unknown("arms", settings.arms, [arm.name for arm in arms])
    if settings.dataset:
        refuse_unknown("dataset", (settings.dataset,), classification.NAMES)
    if settings.preset:
        refuse_unknown("preset", (settings.preset,), get_args(Preset))


def _data(settings: Settings, kind: Kind) -> Data:
    """A run's data as it lies on disk; by its name alone where it is not there."""
    size = SIZES[settings.profile]
    if kind == "skips":
        return Data(name="simulated", root=".")
    if kind == "imagenet":
        return find_data(settings, "imagenet", False)
    if kind == "faces":
        return find_data(settings, FACES, settings.profile != "paper")
    return find_data(settings, settings.dataset or size.dataset, size.stand_in)


def find_data(settings: Settings, name: str, stand_in: bool) -> Data:
    """A data set as it lies on disk; by its name alone where it is not there.

    Stand-ins lie apart, in `standin/`, so that none is taken for the real set of the same name;
    `data_root`, where given, is taken as it is.
    """
    root = data_root(settings.data_root)
    given = bool(settings.data_root) and SIZES[settings.profile].stand_in == stand_in
    if stand_in and not given:
        root = root / STAND_IN
    return _found(root, name, stand_in, settings.train or given, settings.acknowledge_withdrawn)


@lru_cache(maxsize=32)
def _found(root: Path, name: str, stand_in: bool, needed: bool, acknowledged: bool) -> Data:
    if not needed and not (root / name).exists():
        return Data(name=name, stand_in=stand_in)
    found = faces.load(root, name, acknowledged) if name == FACES else classification.load(root, name)
    return Data(
        name=name, root=str(root), fingerprint=found.fingerprint, pixels=found.pixels, stand_in=found.stand_in
    )
