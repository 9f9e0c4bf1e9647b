"""Stand-ins: the same bytes for one recipe on every processor, and known by it whatever the bytes."""

import hashlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__
from PIL import Image
from prepared import TINY, content, draw, refused, settings, times

from data_prep import drawing
from data_prep.__main__ import _datasets, main
from papers_lib.datasets import features, known, reid

SLOW = ",".join(name for name in __cpu_dispatch__ if __cpu_features__[name])  # as on an old processor
MACHINES = [
    {"OPENBLAS_CORETYPE": "Haswell", "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"},
    {
        "OPENBLAS_CORETYPE": "Prescott",
        "OMP_NUM_THREADS": "1",
        "NPY_DISABLE_CPU_FEATURES": SLOW,
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F",
        "JSIMD_FORCENONE": "1",
    },
]


def test_nothing_that_is_drawn_is_left_out():
    made_of_images = {"reid_from_images", *features.NAMES}  # each has its own tests
    assert {name for name, data in _datasets().items() if data.stand_in} == {*TINY, *made_of_images}


@pytest.mark.parametrize("name", TINY)
def test_a_stand_in_is_whole_read_as_one_and_not_made_twice(name, drawn, capsys):
    assert main(["check", name, str(drawn)]) == 0
    said = capsys.readouterr()
    assert "stand-in" in said.out and len(said.out.splitlines()) == 1
    assert "2 junk images" in said.out or name != "market1501"
    if name == "cars196":
        assert "note: type22: one training class alone in its type" in said.err
    else:
        assert said.err == ""
    data = known.load(drawn, name)
    assert data.stand_in and data.fingerprint
    told = json.loads((drawn / name / "STANDIN.json").read_text())
    assert (told["name"], told["size"], told["seed"]) == (name, "smoke", 0)
    assert told["options"] == {key: told["recipe"][key] for key in told["options"]}
    assert set(told["options"]) <= set(TINY[name]) and told["recipe"].keys() >= TINY[name].keys()

    before, again = times(drawn), ["make", name, str(drawn), *settings(**TINY[name])]
    assert main(again) == 0
    capsys.readouterr()
    assert "holds something else" in refused(capsys, *again, "--seed", 7)
    first, value = next(iter(TINY[name].items()))
    assert "holds something else" in refused(capsys, *again, "-p", first, int(value) + 2)
    assert times(drawn) == before
    stand_in = _datasets()[name].stand_in
    assert stand_in.made(drawn / name, "smoke", TINY[name])
    assert not stand_in.made(drawn, "smoke", TINY[name])  # no STANDIN.json here


@pytest.mark.parametrize("name", TINY)
def test_one_recipe_gives_the_same_bytes_and_another_seed_other_pictures(name, drawn, tmp_path):
    again, other = draw(tmp_path / "a", name), draw(tmp_path / "b", name, seed="1")
    assert content(again) == content(drawn / name)
    assert not _datasets()[name].stand_in.made(other, "smoke", TINY[name])
    pictures = [
        {data for file, data in content(folder).items() if file.endswith((".jpg", ".rec", ".bin"))}
        for folder in (again, other)
    ]
    assert all(pictures) and not pictures[0] & pictures[1]


@pytest.mark.parametrize(
    ("name", "size", "options", "message"),
    [
        ("cars196", "huge", {}, "unknown size 'huge'; known: smoke, small"),
        ("cars196", "smoke", {"models": "39"}, "models"),
        ("cars196", "smoke", {"models": "many"}, "models"),
        ("cars196", "smoke", {"seed": "-1"}, "seed"),
        ("market1501", "smoke", {"seen": "9"}, "seen 9 is more than cameras 6"),
        ("market1501", "smoke", {"per_id": "4"}, "per_id 4 leaves no two pictures"),
        ("market1501", "smoke", {"gap": "NaN"}, "gap"),
        ("market1501", "smoke", {"pixels": "33"}, "pixels"),
        ("cifar10", "smoke", {"classes": "81"}, "classes: input should be less than or equal to 80"),
        ("sysu30k", "smoke", {"bag": "3"}, "unknown parameter 'bag': did you mean 'bags'?"),
        ("voc0712", "smoke", {"pixels": "4"}, "pixels"),
        ("faces_own", "smoke", {"pixels": "8"}, "pixels"),
    ],
)
def test_a_bad_recipe_is_one_line(name, size, options, message, tmp_path, capsys):
    words = ["make", name, tmp_path / "root", "--size", size, *settings(**options)]
    assert message in refused(capsys, *words)
    assert not (tmp_path / "root" / name).exists()


def draw_all(root):
    """All stand-ins; and a digest of all numbers, to the last bit, that were clipped to be rounded next.

    A last bit turns over one pixel in a hundred thousand, so that small pictures alone would not show it.
    """
    seen, clip = hashlib.sha256(), np.clip

    def clipped(*given, **named):
        result = clip(*given, **named)
        seen.update(np.asarray(result).tobytes())
        return result

    images = root / "photographs"
    images.mkdir(parents=True)
    for i in range(5):
        Image.effect_mandelbrot((48, 64), (-2, -1, 1, 1), 20 + i).convert("RGB").save(images / f"{i}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "clip", clipped)
        for name in TINY:
            draw(root, name)
            (root / f"{name}.sha256").write_text(seen.hexdigest())
        made = settings(images=images, identities=4, distractors=1)
        assert main(["make", "reid_from_images", str(root), *made]) == 0
    (root / "reid_from_images.sha256").write_text(seen.hexdigest())


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    root = tmp_path_factory.mktemp("here") / "data"
    draw_all(root)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine["OPENBLAS_CORETYPE"])
def test_every_stand_in_is_the_same_bytes_on_other_machines(machine, here, tmp_path):
    code = "import sys; from pathlib import Path; import test_standins as t; t.draw_all(Path(sys.argv[1]))"
    paths = os.pathsep.join(str(Path(__file__).parents[up]) for up in (0, 2))
    environment = os.environ | machine | {"PYTHONPATH": paths}
    command = [sys.executable, "-c", code, str(tmp_path / "there")]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    ours, theirs = content(here), content(tmp_path / "there")
    assert ours.keys() == theirs.keys() and len(ours) > 500
    assert [name for name in ours if ours[name] != theirs[name]] == []


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_powers_sines_and_products_are_right(kind):
    rng = np.random.default_rng(0)
    base, angle = rng.uniform(0, 1.1, 500).astype(kind), rng.uniform(-80, 80, 500).astype(kind)
    close = {"rtol": 16 * np.finfo(kind).eps, "atol": 0}
    for exponent in (0.0, 0.25, 0.7512, 1.0, 1.4123, 2.0, 5.5):
        np.testing.assert_allclose(drawing.power(base, exponent), base.astype(float) ** exponent, **close)
    assert drawing.power(np.zeros(1, kind), 0.3) == 0 and drawing.power(np.zeros(1, kind), 0.0) == 1
    for ahead in (0.0, 0.5):
        wanted = [math.sin(x + ahead * math.pi) for x in angle.tolist()]
        np.testing.assert_allclose(drawing.sine(angle, ahead), wanted, atol=3e-7)
    rows, matrix = rng.normal(size=(4, 5, 3)).astype(kind), rng.normal(size=(3, 2)).astype(kind)
    np.testing.assert_allclose(drawing.product(rows, matrix), rows @ matrix, rtol=1e-4)
    np.testing.assert_allclose(drawing.circle(4, math.pi / 2), [[0, 1], [-1, 0], [0, -1], [1, 0]], atol=0)


def test_a_stand_in_is_known_by_its_recipe_and_not_by_its_pixels(drawn, tmp_path):
    before = reid.load(drawn, "market1501")
    root = draw(tmp_path, "market1501", seed="0", cameras="6")  # which are the usual ones
    usual = reid.load(root, "market1501")
    assert (usual.fingerprint, usual.pixels) == (before.fingerprint, before.pixels)
    picture = next(root.rglob("*.jpg"))
    picture.write_bytes(picture.read_bytes() + b"\0")
    same = reid.load(root, "market1501")
    assert same.fingerprint == before.fingerprint and same.pixels != before.pixels
    other = reid.load(draw(tmp_path / "other", "market1501", gap="0.4"), "market1501")
    assert other.fingerprint != before.fingerprint


def test_an_earlier_version_is_told_what_to_do(copy, capsys):
    folder = copy("data", "market1501") / "market1501"
    told = json.loads((folder / "STANDIN.json").read_text())
    for key in ("size", "options", "drawing"):
        del told[key]
    (folder / "STANDIN.json").write_text(json.dumps(told | {"generator": "pedestrians 2"}))
    line = f"earlier version (no size, options, drawing): remove the folder {folder}, then make it again"
    for command in ("make", "check"):
        assert line in refused(capsys, command, "market1501", folder)
