"""Which runs the study consists of: the rows of Table 1, the controls, and a profile's presets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from papers_lib.datasets import cars196
from papers_lib.datasets.cars196_layouts import COUNTS
from papers_lib.files import resolve
from papers_lib.quadruplet_cars196.options import TrainSettings
from papers_lib.runs.planning import refuse_twice, refuse_unknown, sha256
from papers_lib.runs.spec import Data, RunSpec
from papers_lib.settings import NotebookSettings, Profile, data_root

PAPER = "quadruplet_cars196"
RUN = f"papers_lib.{PAPER}.study:run"


class Settings(NotebookSettings):
    """The notebook's parameters. Empty text and an empty list mean: as the profile says."""

    seeds: tuple[Annotated[int, Field(ge=0, lt=2**32)], ...] = ()
    methods: tuple[str, ...] = ()
    backbone: str = ""
    weights: str = ""
    coarse_map: str = Field("type22", pattern="^(type22|body9)$")
    sibling: str = Field("union", pattern="^(union|random)$")
    no_sibling: str = Field("skip", pattern="^(skip|mask)$")
    m1_fallback: str = Field("furthest_inside", pattern="^(furthest_inside|drop)$")


class Arm(NamedTuple):
    """One row of a table: a name, what readers see, and how it differs from Method 2 as printed."""

    name: str
    label: str
    changes: dict[str, Any]
    paper_row: str = ""  # the row of Table 1 that it answers
    long_start: bool = False  # from the preset's longer warm run


def _arm(name: str, label: str, paper_row: str = "", long_start: bool = False, **changes: Any) -> Arm:
    return Arm(name, label, changes, paper_row, long_start)


TABLE_1 = (
    _arm("semi_hard", "Semi-Hard", "Semi-Hard [18]", method="semi_hard"),
    _arm("lifted", "Lifted Structure", "Lifted Structure [21]", method="lifted"),
    _arm("n_pairs", "N-Pairs", "N-Pairs [4]", method="n_pairs"),
    _arm("clustering", "Clustering", "Clustering [22]", method="clustering"),
    _arm("triplet_global", "Triplet + Global", "Triplet + Global [20]", method="triplet_global"),
    _arm("random", "Random quadruplets", "Random Quadruplet Selection [9]", method="random"),
    _arm("method_1", "Method 1", "Proposed Method 1", method="method_1"),
    _arm("method_2", "Method 2", "Proposed Method 2", method="method_2"),
)
CONTROLS = (
    _arm("start", "The start alone (no training)", method="none", epochs=0),
    _arm("ce", "Cross-entropy alone, a label a reference", method="ce"),
    _arm("ce_all", "Cross-entropy alone, four times the labels", method="ce", ce_on="all"),
    _arm("random_no_ce", "Random quadruplets, no cross-entropy", method="random", lc1=0.0, lc2=0.0),
    _arm("method_2_no_ce", "Method 2, no cross-entropy", lc1=0.0, lc2=0.0),
    _arm("method_2_no_global", "Method 2, no global term", eta=0.0),
    _arm("method_2_ce_all", "Method 2, cross-entropy on all four", ce_on="all"),
    _arm("random_ce_all", "Random, cross-entropy on all four", method="random", ce_on="all"),
    _arm("nearest_sibling", "P− = the nearest sibling", method="nearest_sibling"),
    _arm("furthest_positive", "P+ = the furthest positive", method="furthest_positive"),
    _arm("method_2_one_sibling", "Method 2, one sibling class drawn first", sibling="random"),
    _arm("method_2_body9", "Method 2, nine body styles", coarse_map="body9"),
    _arm("method_2_shuffled", "Method 2, types dealt by lot", coarse_shuffle=True),
    _arm("method_2_in_batch", "Method 2 within the batch", pool="batch"),
    _arm("method_2_fresh", "Method 2, bank refreshed every 32 steps", refresh_every=32),
    _arm("method_2_text_margin", "Method 2, the margin of the text", margin_rule="text"),
    _arm("method_2_unnormalised", "Method 2, embedding not normalised", normalise=False),
    _arm("method_2_swapped_ce", "Method 2, cross-entropy weights swapped", swap_ce_weights=True),
    _arm("random_scratch", "Random quadruplets, from scratch", method="random", start="scratch"),
    _arm("method_1_scratch", "Method 1, from scratch", method="method_1", start="scratch"),
    _arm("method_2_scratch", "Method 2, from scratch", start="scratch"),
    _arm("start_long", "The long start alone (no training)", long_start=True, method="none", epochs=0),
    _arm("random_long", "Random quadruplets, long start", long_start=True, method="random"),
    _arm("method_1_long", "Method 1, long start", long_start=True, method="method_1"),
    _arm("method_2_long", "Method 2, long start", long_start=True),
    _arm("ce_long", "Cross-entropy alone, long start", long_start=True, method="ce"),
    _arm("ce_scratch", "Cross-entropy alone, from scratch", method="ce", start="scratch"),
)
ARMS = {arm.name: arm for arm in TABLE_1 + CONTROLS}
# The order in which a sweep computes: what decides the paper's claims first.
FIRST = ("random", "method_2", "method_1", "ce", "ce_all", "start")


class Preset(NamedTuple):
    """What a profile fixes: data set, seeds, the common settings, and the start that stands for ImageNet."""

    dataset: str
    seeds: tuple[int, ...]
    common: dict[str, Any]
    warm: dict[str, Any]
    long: int  # epochs of the longer warm start


# The warm start: cross-entropy on the fine labels of the training classes, all images labelled.
_WARM = {
    "method": "ce", "ce_on": "all", "start": "scratch", "keep_weights": True, "reduction": "mean",
    "lc1": 0.0, "lc2": 1.0, "lr": 0.1, "weight_decay": 5e-4, "schedule": "one_cycle",
}  # fmt: skip
_SMOKE = {
    "resize": 28, "crop": 24, "backbone": "tiny16", "embedding_dim": 32, "start": "warm",
    "batch_size": 8, "epochs": 2, "nmi_seeds": 2,
}  # fmt: skip
_SMALL = {
    "resize": 56, "crop": 48, "backbone": "tiny24", "embedding_dim": 128, "start": "warm",
    "epochs": 8,
}  # fmt: skip
_MEDIUM = {
    "resize": 144, "crop": 128, "backbone": "resnet18", "embedding_dim": 512, "start": "warm",
    "precision": "bfloat16", "epochs": 20,
}  # fmt: skip
PRESETS: dict[Profile, Preset] = {
    "smoke": Preset("cars196", (0, 1), _SMOKE, _WARM | {"epochs": 4}, 8),
    "small": Preset("cars196_half", (0, 1, 2), _SMALL, _WARM | {"epochs": 5}, 15),
    "medium": Preset("cars196_half", (0, 1, 2), _MEDIUM, _WARM | {"epochs": 10}, 30),
    "paper": Preset("cars196", (0, 1, 2), {"epochs": 30}, _WARM | {"epochs": 15}, 45),
}


def plan(settings: Settings) -> list[RunSpec]:
    """All runs that the notebook's tables and figures need, the most telling first.

    Raises:
        PapersError: an unknown name, one that stands twice, data that is there but wrong or, with
            `settings.train`, not there.
    """
    preset = PRESETS[settings.profile]
    names = settings.methods or tuple(ARMS)
    _refuse(settings, preset)
    order = sorted(names, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    data = find_data(settings, preset)
    seeds = settings.seeds or preset.seeds
    main = [(name, seed) for seed in seeds for name in order if name in FIRST]
    rest = [(name, seed) for seed in seeds for name in order if name not in FIRST]
    specs = [_spec(settings, preset, data, ARMS[name], seed) for name, seed in main + rest]
    return [spec for spec in specs if spec.needs or not ARMS[spec.label].long_start]


def _refuse(settings: Settings, preset: Preset) -> None:
    refuse_twice("seeds", settings.seeds)
    refuse_unknown("methods", settings.methods, ARMS)
    refuse_unknown("dataset", (settings.dataset or preset.dataset,), COUNTS)
    if settings.backbone:
        from papers_lib.networks.backbones import NAMES  # imports torch

        refuse_unknown("backbone", (settings.backbone,), NAMES)


def find_data(settings: Settings, preset: Preset) -> Data:
    """The data set as it lies on disk; by its name alone where it is not there.

    The stand-in that `smoke` learns from lies apart, in `standin/`, so that it is never taken for
    the real one of the same name.
    """
    root = data_root(settings.data_root)
    if settings.profile == "smoke" and not settings.data_root:
        root = root / "standin"
    name = settings.dataset or preset.dataset
    if not settings.data_root and not settings.train and not (root / name).exists():
        return Data(name=name, stand_in=settings.profile == "smoke")
    cars = cars196.load(root, name)
    return Data(
        name=name, root=str(root), fingerprint=cars.fingerprint, pixels=cars.pixels, stand_in=cars.stand_in
    )


def _spec(settings: Settings, preset: Preset, data: Data, arm: Arm, seed: int) -> RunSpec:
    chosen = {
        name: getattr(settings, name) for name in ("coarse_map", "sibling", "no_sibling", "m1_fallback")
    }
    if settings.backbone:
        chosen["backbone"] = settings.backbone
    if settings.precision:
        chosen["precision"] = settings.precision
    if settings.weights:
        chosen |= {"start": "file", "weights": sha256(_weights(settings))}
    full = _complete(preset.common | chosen | arm.changes | {"seed": seed})
    needs: tuple[RunSpec, ...] = ()
    if full["start"] == "warm":
        warm = {
            name: full[name]
            for name in ("resize", "crop", "backbone", "embedding_dim", "precision", "batch_size")
        }
        epochs = preset.long if arm.long_start else preset.warm["epochs"]
        warm |= preset.warm | {"seed": seed, "epochs": epochs}
        needs = (_run(settings, data, "long warm" if arm.long_start else "warm", _complete(warm)),)
    return _run(settings, data, arm.name, full, needs)


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
