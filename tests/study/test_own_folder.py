"""A folder of one's own in every wing, at every profile that has pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from papers_lib.errors import PapersError
from papers_lib.papers import PAPERS, get
from papers_lib.runs.spec import RunSpec
from papers_lib.settings import validate

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
