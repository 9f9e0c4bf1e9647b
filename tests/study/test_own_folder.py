"""A folder of one's own in every wing, at every profile that has pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from papers_lib.errors import PapersError
from papers_lib.median_triplet import images as median_images
from papers_lib.median_triplet.options import TrainSettings
from papers_lib.nar import images as nar_images
from papers_lib.nar import study as nar
from papers_lib.papers import PAPERS, get
from papers_lib.runs.spec import RunSpec
from papers_lib.settings import validate

CPU = torch.device("cpu")
# settings that decide what is loaded
SEEN = (
    "kind",
    "images",
    "valid_size",
    "score_images",
    "reward_images",
    "image_size",
    "batch_size",
    "classes",
)
SIZES = ("smoke", "small", "medium", "paper")


def paint(root: Path, counts: list[int]) -> str:
    """`root` with `folder/` in it: noise, of each class as many images as its number says, of many sizes."""
    random = np.random.default_rng(0)
    for number, count in enumerate(counts):
        (root / "folder" / f"c{number:02}").mkdir(parents=True)
        for i in range(count):
            pixels = random.integers(0, 256, (20 + i, 24 + number, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "folder" / f"c{number:02}" / f"{i:02}.png")
    return str(root)


def plan(paper: str, data_root: str, profile: str, **more: Any) -> list[RunSpec]:
    given = {"dataset": "folder", "data_root": data_root, "profile": profile} | more
    return get(paper).study.plan(validate(get(paper).settings, given))


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> str:
    return paint(tmp_path_factory.mktemp("own"), [12] * 6)


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize("profile", SIZES)
@pytest.mark.parametrize("paper", PAPERS)
def test_beside_a_folder_no_other_data_is_asked_for(own, paper, profile):
    specs = plan(paper, own, profile)
    # a start that is drawn stands for ImageNet's, and is no data to learn about
    needed = {"pedestrians_warmup"} if paper == "sampler_study" else set()
    assert {data.name for spec in specs for data in spec.all_data} <= {"folder", "simulated"} | needed
    assert {spec.data.name for spec in specs} >= {"folder"}


@pytest.mark.parametrize(("paper", "sweep"), [("nar", "faces"), ("median_triplet", "transfer")])
def test_a_sweep_of_other_data_is_unknown_beside_a_folder(own, paper, sweep):
    with pytest.raises(PapersError, match=f"sweeps: unknown '{sweep}'"):
        plan(paper, own, "paper", sweeps=[sweep])


# -- what a profile asks, as the folder has it --


def loaded_by_nar(spec: RunSpec) -> None:
    settings = nar.KINDS[spec.settings["kind"]].model_validate(spec.settings)
    images = nar_images.load((spec.data.root, spec.data.name), settings, CPU)
    parts = images.parts(settings.score_images)
    assert len(images.training) >= settings.batch_size and settings.image_size > 0
    assert len(parts.reward) >= spec.settings.get("reward_images", 2)
    # as many of each class are held out, and no class whole
    held = images.train_labels[images.validation].bincount()
    assert len(set(held.tolist())) == 1 and len(held) == images.classes
    assert len(images.train_labels[images.training].unique()) == images.classes


def loaded_by_median(spec: RunSpec) -> None:
    settings = TrainSettings.model_validate(spec.settings)
    images = median_images.load((spec.data.root, spec.data.name), settings, CPU)
    assert len(images.train) >= settings.batch_size and images.classes >= settings.classes
    assert len(images.train_labels.unique()) == images.classes


@pytest.mark.parametrize("counts", [[12] * 6, [10] * 6 + [3], [4] * 30], ids=["few", "unequal", "many"])
def test_a_folder_is_taken_at_every_profile_without_a_parameter(tmp_path, counts):
    root = paint(tmp_path, counts)
    for paper, load in (("nar", loaded_by_nar), ("median_triplet", loaded_by_median)):
        for profile in get(paper).study.sizes:
            if (paper, profile) == ("median_triplet", "frozen"):
                continue
            specs = [spec for spec in plan(paper, root, profile, seeds=[0]) if spec.data.name == "folder"]
            unlike = {tuple(spec.settings.get(name) for name in SEEN): spec for spec in specs}
            for spec in unlike.values():
                load(spec)


def test_what_nar_holds_out_is_the_profiles_share_of_the_images(tmp_path):
    root = paint(tmp_path, [25] * 5)  # 20 of each class to train with
    (search,) = plan("nar", root, "small", arms=["search"], seeds=[0])
    # of 7,000 images 2,000 are held out, of which 500 choose and 500 judge: of 20 a class 6 (5.7)
    small = {"images": 0, "valid_size": 30, "score_images": 7, "reward_images": 16, "image_size": 16}
    assert search.settings | small | {"batch_size": 70, "lr": 0.05 * 70 / 100} == search.settings
    # a tenth at `paper`: 2 a class, as many as a network is chosen and judged by at least
    for label in ("base", "enumerate"):
        spec = next(s for s in plan("nar", root, "paper", seeds=[0]) if s.label == label)
        paper = {"images": 0, "valid_size": 10, "score_images": 2, "image_size": 32, "batch_size": 90}
        assert spec.settings | paper == spec.settings
    asked = plan("nar", root, "paper", arms=["base"], seeds=[0], images=50, batch_size=128, lr=0.3)[
        0
    ].settings
    assert asked | {"images": 50, "batch_size": 128, "lr": 0.3, "valid_size": 10} == asked


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize("paper", PAPERS)
def test_a_plan_without_the_folder_is_the_profiles(paper):
    given = {"dataset": "folder", "profile": "medium"}
    study = get(paper).study
    there = study.plan(validate(get(paper).settings, given))
    assert {spec.data.root for spec in there if spec.data.name == "folder"} == {""}
    usual = study.plan(validate(get(paper).settings, {"profile": "medium"}))
    of = {spec.label.rpartition("/")[2]: spec.settings for spec in usual}
    for spec in there:
        settings = of[spec.label.rpartition("/")[2]] | {"seed": spec.seed}
        own = {"bad_start": "skip"} if paper == "sampler_study" else {}
        vector = {name: spec.settings[name] for name in ("vector",) if name in spec.settings}
        assert spec.settings == settings | own | vector


def test_a_part_of_a_batch_is_of_what_the_folder_fills(own):
    by_label = {spec.label: spec.settings for spec in plan("median_triplet", own, "medium", seeds=[0])}
    assert by_label["median"] | {"batch_size": 60, "lr": 0.06 * 60 / 128} == by_label["median"]
    assert by_label["median_n32"] | {"batch_size": 15, "lr": 0.06 * 15 / 128} == by_label["median_n32"]
    smoke = {spec.label for spec in plan("median_triplet", own, "smoke", seeds=[0])}
    assert "c5_median" in smoke and "c10_median" not in smoke  # there are six classes
    shared = plan("median_triplet", own, "medium", seeds=[0], processes=4)[0].settings
    assert shared["batch_size"] == 12  # of each of four processes, and dealt evenly


def test_no_more_neighbours_are_asked_for_than_there_are(tmp_path):
    root = paint(tmp_path, [3] * 4)  # two classes of three to train with
    assert {(s.settings["k1"], s.settings["k2"]) for s in plan("sampler_study", root, "paper")} == {(5, 5)}


def test_rates_are_left_out_where_what_chooses_them_leaves_no_quadruplet(own, tmp_path):
    """Of three training classes in two kinds one is held out: the others are of one kind, or of one each."""
    labels = {spec.label for spec in plan("quadruplet_cars196", own, "smoke")}
    assert "method_2" in labels and not any(label.startswith("rate_") for label in labels)
    more = plan("quadruplet_cars196", paint(tmp_path, [2] * 12), "smoke")
    assert any(spec.label.startswith("rate_") for spec in more)


@pytest.mark.parametrize(
    ("paper", "profile", "counts", "message"),
    [
        ("nar", "paper", [3] * 5, "2 training images of 'c00' are too few, as 2 of each class are held out"),
        ("median_triplet", "small", [3] * 5, "10 training images of 5 classes are too few, 11 or more"),
        ("median_triplet", "frozen", [12] * 6, "no picture; take another .*: smoke, small, medium, paper"),
        ("quadruplet_cars196", "frozen", [12] * 6, "no picture; take another"),
        ("sampler_study", "frozen", [12] * 6, "no picture; take another"),
    ],
)
def test_what_a_folder_cannot_give_is_one_line(tmp_path, paper, profile, counts, message):
    with pytest.raises(PapersError, match=message) as error:
        plan(paper, paint(tmp_path, counts), profile)
    assert "\n" not in str(error.value)


def test_kinds_that_give_no_quadruplet_are_refused(tmp_path):
    root = paint(tmp_path, [2] * 6)
    table = "".join(f"c{i:02},kind {i}\n" for i in range(6))
    (Path(root) / "folder" / "labels.csv").write_text(f"class,coarse\n{table}")
    with pytest.raises(PapersError, match="two classes of one kind; add classes, or take their kinds away"):
        plan("quadruplet_cars196", root, "medium")


def test_a_search_learns_from_unequal_classes(tmp_path):
    root = paint(tmp_path / "data", [10] * 6 + [3])
    (spec,) = plan("nar", root, "smoke", arms=["search"])
    folder = tmp_path / "run"
    folder.mkdir()
    result = nar.run(spec.model_copy(update={"folder": str(folder), "device": "cpu"}))
    assert len(result["history"]) == 3 and len(result["choices"]["pick"]) == 6
