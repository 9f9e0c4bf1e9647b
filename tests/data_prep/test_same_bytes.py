"""Stand-ins are the same bytes whatever the processor, and known by their recipe whatever the bytes."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__
from PIL import Image

from data_prep import classification_standin, detection_sets, faces, reid_standin, steady, sysu30k
from data_prep.__main__ import main
from data_prep.cars196_standin import STAND_IN as CARS
from data_prep.standins import StandIn
from papers_lib.datasets import reid
from papers_lib.datasets.reid_layouts import Survey
from papers_lib.errors import PapersError
from papers_lib.exhibits import ledger
from papers_lib.runs.spec import Data, RunSpec

PEOPLE = {"train_ids": "5", "test_ids": "2", "distractors": "2", "junk": "2"}
TINY: dict[str, dict[str, str]] = {
    **dict.fromkeys(reid_standin.SIZES, PEOPLE),
    "cars196": {"per_model": "4", "pixels": "32"},
    **{name: {"classes": "10", "train": "3", "test": "2"} for name in classification_standin.SIZES},
    "sysu30k": {"bags": "2", "people": "2", "queries": "2", "distractors": "2"},
    **{name: {"train": "4", "test": "2", "pixels": "64"} for name in detection_sets.NAMES},
    **{name: {"identities": "4", "shots": "3", "pairs": "1", "pixels": "24"} for name in faces.SETS},
}
STAND_INS: dict[str, StandIn] = {
    **reid_standin.STAND_INS, "cars196": CARS, **classification_standin.STAND_INS,
    "sysu30k": sysu30k.STAND_IN, **faces.STAND_INS, **{s.name: s for s in detection_sets.STAND_INS},
}  # fmt: skip
SLOW = ",".join(name for name in __cpu_dispatch__ if __cpu_features__[name])  # as on an old processor
MACHINES: list[dict[str, str]] = [
    {"OPENBLAS_CORETYPE": "Haswell", "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"},
    {
        "OPENBLAS_CORETYPE": "Prescott",
        "OMP_NUM_THREADS": "1",
        "NPY_DISABLE_CPU_FEATURES": SLOW,
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F",
        "JSIMD_FORCENONE": "1",
    },
]


def draw_all(root: Path) -> None:
    """All stand-ins; and a digest of all numbers, to the last bit, that were clipped to be rounded next.

    A last bit turns over one pixel in a hundred thousand, so that small pictures alone would not show it.
    """
    seen, clip = hashlib.sha256(), np.clip

    def clipped(*given: Any, **named: Any) -> Any:
        result = clip(*given, **named)
        seen.update(np.asarray(result).tobytes())
        return result

    images = root / "photographs"
    images.mkdir(parents=True)
    for i in range(5):
        Image.effect_mandelbrot((48, 64), (-2, -1, 1, 1), 20 + i).convert("RGB").save(images / f"{i}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "clip", clipped)
        for name, options in TINY.items():
            (root / name).mkdir()
            STAND_INS[name].make(root / name, "smoke", options)
            (root / f"{name}.sha256").write_text(seen.hexdigest())
        made = ["-p", "images", str(images), "-p", "identities", "4", "-p", "distractors", "1"]
        assert main(["make", "reid_from_images", str(root), *made]) == 0
    (root / "reid_from_images.sha256").write_text(seen.hexdigest())


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("here") / "data"
    draw_all(root)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine["OPENBLAS_CORETYPE"])
def test_every_stand_in_is_the_same_bytes_on_other_machines(machine, here, tmp_path):
    code = "import sys; from pathlib import Path; import test_same_bytes as t; t.draw_all(Path(sys.argv[1]))"
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
    environment = os.environ | machine | {"PYTHONPATH": paths}
    command = [sys.executable, "-c", code, str(tmp_path / "there")]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    ours, theirs = files(here), files(tmp_path / "there")
    assert ours.keys() == theirs.keys() and len(ours) > 500
    assert [name for name in ours if ours[name] != theirs[name]] == []


def test_nothing_that_is_drawn_was_left_out():
    from data_prep.__main__ import _datasets

    assert {name for name, data in _datasets().items() if data.make} == {*STAND_INS, "reid_from_images"}


# The arithmetic


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_powers_sines_and_products_are_right(kind):
    rng = np.random.default_rng(0)
    base, angle = rng.uniform(0, 1.1, 500).astype(kind), rng.uniform(-80, 80, 500).astype(kind)
    close = {"rtol": 16 * np.finfo(kind).eps, "atol": 0}
    for exponent in (0.0, 0.25, 0.7512, 1.0, 1.4123, 2.0, 5.5):
        np.testing.assert_allclose(steady.power(base, exponent), base.astype(float) ** exponent, **close)
    assert steady.power(np.zeros(1, kind), 0.3) == 0 and steady.power(np.zeros(1, kind), 0.0) == 1
    for ahead in (0.0, 0.5):
        wanted = [math.sin(x + ahead * math.pi) for x in angle.tolist()]
        np.testing.assert_allclose(steady.sine(angle, ahead), wanted, atol=3e-7)
    rows, matrix = rng.normal(size=(4, 5, 3)).astype(kind), rng.normal(size=(3, 2)).astype(kind)
    np.testing.assert_allclose(steady.product(rows, matrix), rows @ matrix, rtol=1e-4)
    np.testing.assert_allclose(steady.circle(4, math.pi / 2), [[0, 1], [-1, 0], [0, -1], [1, 0]], atol=0)


# What it is known by


def market(root: Path, **options: str) -> reid.ReID:
    folder = root / "market1501"
    folder.mkdir(parents=True)
    STAND_INS["market1501"].make(folder, "smoke", PEOPLE | options)
    return reid.load(root, "market1501")


def test_a_stand_in_is_known_by_its_recipe_and_not_by_its_pixels(here, tmp_path):
    before = reid.load(here, "market1501")
    shutil.copytree(here / "market1501", tmp_path / "other machine" / "market1501")
    picture = next((tmp_path / "other machine").rglob("*.jpg"))
    picture.write_bytes(picture.read_bytes() + b"\0")
    same = reid.load(tmp_path / "other machine", "market1501")
    assert same.fingerprint == before.fingerprint and same.pixels != before.pixels
    spelled_out = market(tmp_path / "spelled out", seed="0", cameras="6")
    assert (spelled_out.fingerprint, spelled_out.pixels) == (before.fingerprint, before.pixels)
    changes = {"seed": "1", "gap": "0.4"}
    others = {market(tmp_path / key, **{key: value}).fingerprint for key, value in changes.items()}
    others |= {reid.load(here, name).fingerprint for name in ("pedestrians_many", "pedestrians_warmup")}
    path = tmp_path / "other machine" / "market1501" / "STANDIN.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps(told | {"drawing": "another"}))
    others |= {reid.load(tmp_path / "other machine", "market1501").fingerprint}
    assert len(others - {before.fingerprint}) == 5
    picture.unlink()
    with pytest.raises(PapersError, match="restore"):
        reid.load(tmp_path / "other machine", "market1501")


def test_what_is_made_of_images_is_known_by_its_content(here, tmp_path):
    before = reid.load(here, "reid_from_images")
    shutil.copytree(here / "reid_from_images", tmp_path / "reid_from_images")
    picture = next(tmp_path.rglob("*.jpg"))
    picture.write_bytes(picture.read_bytes() + b"\0")
    assert reid.load(tmp_path, "reid_from_images").fingerprint != before.fingerprint
    assert before.pixels == ""


def test_an_earlier_version_is_told_what_to_do(here, tmp_path, capsys):
    folder = tmp_path / "market1501"
    shutil.copytree(here / "market1501", folder)
    told = json.loads((folder / "STANDIN.json").read_text())
    for key in ("size", "options", "drawing"):
        del told[key]
    (folder / "STANDIN.json").write_text(json.dumps(told | {"generator": "pedestrians 2"}))
    line = (
        f"of an earlier version (no size, options, drawing): remove the folder {folder}, then make it again"
    )
    for command in ("make", "check"):
        assert main([command, "market1501", str(tmp_path)]) == 2
        said = capsys.readouterr().err
        assert line in said and said.count("\n") == 1
    with pytest.raises(PapersError, match="earlier version"):
        reid.load(tmp_path, "market1501")


def test_rows_of_the_first_drawing_are_found_by_the_recipe_of_today(monkeypatch):
    monkeypatch.delenv("PAPERS_FIGURES", raising=False)
    rows = ledger.read("sampler_study")
    recipes = {}
    for name in ("market1501", "dukemtmc", "msmt17_v1", "pedestrians_warmup", "pedestrians_many"):
        stand_in = STAND_INS[name]
        told = stand_in.asked("small", stand_in.recipe("small", {}))
        recipes[name] = Survey(name, Path(), told=told).fingerprint
    old = [row for row in rows if not row.data.pixels]
    assert len(old) > 400
    for row in old:
        spec = _spec(row, recipes)
        assert ledger.find([row], spec) == row
        other = {name: f"other {name}" for name in recipes}
        assert ledger.find([row], _spec(row, other)) is None


def _spec(row: ledger.Row, recipes: dict[str, str]) -> RunSpec:
    def data(name: str, stand_in: bool) -> Data:
        return Data(name=name, stand_in=stand_in, fingerprint=recipes[name])

    needs = tuple(
        RunSpec(
            paper=row.paper, function=need["function"], profile=row.profile, settings=need["settings"],
            data=data(*need["data"][:2]),
        )
        for need in row.needs
    )  # fmt: skip
    return RunSpec(
        paper=row.paper, function=row.function, profile=row.profile, settings=row.settings,
        data=data(row.data.name, row.data.stand_in), needs=needs,
    )  # fmt: skip
