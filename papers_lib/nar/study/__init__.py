"""What is asked of the refinement: its arms, claims and errata as tables, and the doors to them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import numpy as np
from pydantic import Field

from papers_lib.datasets import classification, folder
from papers_lib.errors import PapersError
from papers_lib.exhibits import provenance as origin
from papers_lib.exhibits.figure import Figure
from papers_lib.exhibits.provenance import Provenance
from papers_lib.exhibits.table import Table
from papers_lib.nar import options
from papers_lib.nar.counting import costs
from papers_lib.nar.study import drawings, errata, readings, table_4, tables
from papers_lib.runs import progress
from papers_lib.runs.planning import refuse_twice, refuse_unknown
from papers_lib.runs.spec import Data, RunSpec
from papers_lib.runs.store import needed_weights, read_result
from papers_lib.settings import Frozen, NotebookSettings
from papers_lib.study import QUOTED, Answer, Arm, Place, Results, Study, Values
from papers_lib.study.own import equal_share, smaller_batch

IMAGENET = "papers_lib.nar.imagenet.training:run"
FACES = ("faces", "search_faces")
APART = ("skips", *FACES, "imagenet")  # kinds on data of their own, with settings of their own
KINDS: dict[str, type[Frozen]] = {
    "standalone": options.StandaloneSettings,
    "search": options.SearchSettings,
    "enumerate": options.ScoreSettings,
    "alone": options.AloneSettings,
    "skips": options.SkipSettings,
    "faces": options.FaceSettings,
    "search_faces": options.FaceSearchSettings,
    "imagenet": options.ImageNetSettings,
}
ALONE, IMAGES = ("standalone", "alone"), ("standalone", "alone", "search", "enumerate")
GIVEN = {  # parameter -> the setting that it gives, and the kinds of run that have it
    "lr": ("lr", (*ALONE, "faces")),
    "epochs": ("epochs", (*ALONE, "faces")),
    "batch_size": ("batch_size", (*IMAGES, *FACES)),
    "search_epochs": ("epochs", ("search", "search_faces")),
    "images": ("images", IMAGES),
    "width": ("width", (*IMAGES, *FACES)),
}
# Which arms answer a printed number of Table 5, on CIFAR-10 and on ImageNet; and which metric, on which data.
MODELS = {
    "ResNet-18": ("base", "imagenet"),
    "ResNet-18-8": ("paper_8", "imagenet_8"),
    "ResNet-18-16": ("paper_16", "imagenet_16"),
}
OF_TABLE_5 = [on_cifar for on_cifar, _ in MODELS.values()]
COLUMNS = {
    "CIFAR-10": ("cifar10", "accuracy %"),
    "ImageNet Top-1": ("imagenet", "accuracy %"),
    "ImageNet Top-5": ("imagenet", "top_5 %"),
}
# What a folder of one's own is fitted to: training images of CIFAR-10 and their side, and the fewest that can
# be held out: two for rewards, two to choose by and two to judge by.
CIFAR_IMAGES, CIFAR_SIDE, LEAST_HELD = 50_000, 32, 6
FACE_SETS = ("faces_emore", "faces_own")  # that are trained on
# Numbers of the text that are results, and that no run of ours has: of faces, and of a GPU not named.
RESULTS = ("LFW", "CFP-FP", "AgeDB-30", "fewer FLOPS", "GPU hours")


class Settings(NotebookSettings):
    """The notebook's parameters. Empty text, an empty list and 0 mean: as the profile says."""

    lr: float = Field(0, ge=0)  # of a network that is trained on its own
    epochs: int = Field(0, ge=0)  # of a network that is trained on its own
    batch_size: int = Field(0, ge=0)  # of all runs on images
    search_epochs: int = Field(0, ge=0)  # of a search, PreTrain's included
    images: int = Field(0, ge=0)  # of the training set, validation included
    width: int = Field(0, ge=0)  # of the first stage
    preset: str = ""  # of the controller
    recipe: str = ""  # of a network that is trained on its own: one of `options.RECIPES`
    acknowledge_withdrawn: bool = False  # read a real copy of faces_emore all the same


class Refinement(Study):
    """Jiang, Zhao and Pang 2019: Tables 4 and 5, Figure 1, and the controls that the paper lacks."""

    name = "nar"
    parameters = Settings
    dataset = "cifar10"
    datasets = (*classification.NAMES, folder.NAME, *FACE_SETS)
    read_folder = folder.classified
    unpiloted = ("skips", "enumerate")
    checks = errata.CHECKS
    tests = errata.TESTS
    exact = MappingProxyType(table_4.exact_places())

    # -- the plan --

    def possible(self, settings: Settings) -> list[Arm]:
        """The arms of a profile: ImageNet is for `paper` alone, and a data set of faces for face networks.

        A folder of one's own stands for CIFAR-10, and has neither faces nor ImageNet beside it.
        NAR-Bench is made at `frozen`: nothing else needs its many trainings of each vector.
        """
        kinds = set(self.sizes[settings.profile].more)
        if settings.dataset in FACE_SETS:
            kinds &= set(FACES)
        elif settings.dataset == folder.NAME:
            kinds -= {*FACES, "imagenet"}
        left_out = () if settings.profile == "frozen" else ("repeats",)
        return [arm for arm in self.arms.values() if arm.more["kind"] in kinds and arm.sweep not in left_out]

    def chosen(self, settings: Settings) -> list[Arm]:
        """The arms that are asked for, of those that the profile has."""
        return [arm for arm in self.possible(settings) if not settings.arms or arm.name in settings.arms]

    def refuse(self, settings: Settings) -> None:
        """Names that the profile does not have, an unknown preset, and arms of none of the sweeps."""
        possible = self.possible(settings)
        refuse_twice("seeds", settings.seeds)
        refuse_unknown("sweeps", settings.sweeps, list(dict.fromkeys(arm.sweep for arm in possible)))
        refuse_unknown("arms", settings.arms, [arm.name for arm in possible])
        if settings.dataset:
            refuse_unknown("dataset", (settings.dataset,), self.datasets)
        if settings.preset:
            refuse_unknown("preset", (settings.preset,), get_args(options.Preset))
        if settings.recipe:
            refuse_unknown("recipe", (settings.recipe,), options.RECIPES)
        chosen, sweeps = self.chosen(settings), settings.sweeps or self.sweeps
        if not any(arm.sweep in sweeps for arm in chosen):
            places = ", ".join(f"{arm.name} is in {arm.sweep}" for arm in chosen)
            raise PapersError(f"no arm asked for is in the sweeps {', '.join(sweeps)}: {places}")

    def specs(self, settings: Settings, arm: Arm, seed: int) -> Iterator[RunSpec]:
        """One run per arm and seed; a vector that a finished run decides is named by that run, in `needs`."""
        kind, size = arm.more["kind"], self.sizes[settings.profile]
        if kind == "alone" and seed != size.seeds[0]:  # hundreds of trainings: one benchmark is enough
            return
        others = size.more.get("seeds_of_others", len(size.seeds))
        if not settings.seeds and arm.name not in OF_TABLE_5 and seed not in size.seeds[:others]:
            return
        values = ({} if kind in APART else size.settings) | size.more[kind] | arm.changes | {"seed": seed}
        if settings.recipe and kind == "standalone":
            values |= options.RECIPES[settings.recipe]
        if settings.precision and "precision" in KINDS[kind].model_fields:
            values["precision"] = settings.precision
        for parameter, (field, kinds) in GIVEN.items():
            if kind in kinds and (value := getattr(settings, parameter)):
                values[field] = value
        if settings.preset and kind in ("search", "search_faces"):
            values["preset"] = settings.preset
        if kind == "standalone" and not arm.more["needs"]:
            decisions = values.get("decisions", 8)
            vector = values.get("vector", [0] * decisions)
            if vector == "cheapest":
                vector = cheapest_single(decisions)
            values["vector"] = vector[:decisions]  # a network without its last stage has the first six
        if kind == "faces" and not arm.more["needs"]:
            values["vector"] = self.face_vector(arm, seed)
        if kind in FACES and settings.dataset == "faces_own":
            values |= {"identities": 0, "shots": 0}  # all that there are: the proxy task is the paper's
        data = self._data(settings, kind)
        full = KINDS[kind].model_validate(values).model_dump(mode="json")  # no default left out
        if kind in IMAGES and (own := self.own(data)):
            full = KINDS[kind].model_validate(full | self.fitted(full, own, settings)).model_dump(mode="json")
        needed = self.arms[arm.more["needs"]] if arm.more["needs"] else None
        needs = tuple(self.specs(settings, needed, seed)) if needed else ()  # of the same seed
        function = IMAGENET if kind == "imagenet" else ""
        yield self.run_spec(settings, arm.name, full, data, needs, function)

    def fitted(
        self, values: dict[str, Any], own: classification.Classified, settings: Settings
    ) -> dict[str, Any]:
        """What of `values`, of a run on images, a folder of one's own changes; what a parameter asks stays.

        As large a share of the images is held out as the profile holds out of CIFAR-10, for the same uses.

        Raises:
            PapersError: a class has too few images to hold any out.
        """
        names, counts = np.unique(own.train.labels, return_counts=True)  # of each class
        images = settings.images or equal_share(values["images"], counts)
        equal = 0 < images < counts.sum()
        rarest = images // len(counts) if equal else int(counts.min())  # images of a class
        total = rarest * len(counts) if equal else int(counts.sum())
        least = -(-LEAST_HELD // len(counts))  # of a class
        if least >= rarest:
            name = own.classes[names[counts.argmin()]]
            mend = "raise images" if settings.images else "add images to it"
            raise PapersError(
                f"{own.root}: {rarest} training images of '{name}' are too few, as {least} of each class are "
                f"held out of training; {mend}"
            )
        # the profile's share of its images, and no more than half of a class
        share = min(1, total / self.sizes[settings.profile].settings.get("images", CIFAR_IMAGES))
        held = max(least, min(rarest // 2, round(values["valid_size"] * share / len(counts)))) * len(counts)
        score = max(2, values["score_images"] * held // values["valid_size"])
        changed = {
            "images": images,
            "valid_size": held,
            "score_images": score,
            "image_size": values["image_size"] or CIFAR_SIDE,  # photographs differ in size
        }
        if "reward_images" in values:
            changed["reward_images"] = min(values["reward_images"], held - 2 * score)
        return changed | ({} if settings.batch_size else smaller_batch(values, total - held, settings.lr))

    def face_vector(self, arm: Arm, seed: int) -> tuple[int, ...]:
        """The vector of a face arm: as many replacements, of 24 blocks, as its line says."""
        return random_vector(24, int(arm.more["replacements"] or 0), seed)

    def _data(self, settings: Settings, kind: str) -> Data:
        if kind == "skips":
            return Data(name="simulated", root=".")
        if kind == "imagenet":
            return self.find_data(settings, "imagenet", "")
        if kind in FACES:
            return self.find_data(
                settings, settings.dataset if settings.dataset in FACE_SETS else "faces_emore"
            )
        return self.find_data(settings)

    # -- what the runs say --

    def tables(self, results: Results) -> dict[str, Table]:
        """Tables 4 and 5, what our text lacks, the exact rankings, and the controls."""
        return errata.tables() | tables.tables(self, results)

    def figures(self, results: Results) -> dict[str, Figure]:
        """Figure 1, the space of all vectors, and the curves of the search."""
        return drawings.figures(self, results)

    def read(self, results: Results, label: str, metric: str) -> Values:
        """The metrics of a run, and the readings of `readings`."""
        return readings.read(results, label, metric)

    def provenance(self, results: Results, labels: Sequence[str] = ()) -> Provenance:
        """Footer and badge of what is made from some arms, by default from all on the study's own images."""
        rows = [
            row
            for spec, row in results.runs
            if row is not None
            and (spec.label in labels if labels else self.arms[spec.label].more["kind"] not in APART)
        ]
        return origin.provenance(rows, results.profile, self.dataset)

    def answer(self, results: Results, place: Place) -> Answer | None:
        """Table 5 is ours to make, from runs on the column's own data; Table 4 is exact, the rest quoted."""
        exhibit, row, column = place
        if exhibit == "text" and column in RESULTS:
            return None
        if exhibit != "Table 5":
            return QUOTED
        dataset, metric = COLUMNS[column]
        label = MODELS[row][column != "CIFAR-10"]  # the arm on the column's data
        if any(run.data.name != dataset for run in results.rows(label).values()):  # say, CIFAR-100
            return None
        return Answer(label, metric)

    def comparable(self, results: Results, place: Place) -> bool:
        """Whether ours may be compared with a number of Table 5."""
        answer = self.answer(results, place)
        rows = results.rows(answer.label).values() if answer else ()
        return origin.comparable(rows, COLUMNS[place[2]][0])


def random_vector(decisions: int, replacements: int, seed: int) -> tuple[int, ...]:
    """A vector with that many replacements, places and operators uniform."""
    chance = random.Random(seed)  # Python's, the same in every version
    places = chance.sample(range(decisions), replacements)
    return tuple(chance.randint(1, 3) if i in places else 0 for i in range(decisions))


@lru_cache(maxsize=4)
def cheapest_single(decisions: int) -> tuple[int, ...]:
    """The one replacement that saves most multiply-accumulates on CIFAR-10; the first of equal ones."""
    counts = costs(decisions, "resnet18_cifar", image_size=32, classes=10)
    singles = [
        tuple(code if i == place else 0 for i in range(decisions))
        for place in range(decisions)
        for code in (1, 2, 3)
    ]
    return min(singles, key=counts.macs)


STUDY = Refinement()


def run(spec: RunSpec) -> dict[str, Any]:
    """Compute what `spec` says, in the folder that the store gave it; from the run it needs, if any.

    Raises:
        PapersError: the run that it needs has no result.
    """
    from papers_lib.nar import training

    folder = Path(spec.folder)
    needed, weights = None, None
    if spec.needs:
        before = Path(spec.needs[0].folder)
        result = read_result(before)
        if result is None:
            raise PapersError(f"{before} has no result; compute that run first")
        needed = result.metrics
        if spec.settings.get("kind") == "enumerate":
            weights = needed_weights(spec)  # shared weights; all others start fresh
    data = (spec.data.root, spec.data.name)
    report = progress.reporter(folder)
    return training.run(spec.settings, data, folder, spec.device, report, needed, weights)
