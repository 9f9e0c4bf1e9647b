"""Rendered pedestrians: what is drawn, and what is written."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_prep import reid_standin
from data_prep.pedestrians import BAGS, HAIRS, LOWERS, PATTERNS, Camera, Look, Person, network, person, render
from papers_lib.datasets import reid
from papers_lib.errors import PapersError

TINY = {"train_ids": "16", "test_ids": "5", "per_id": "8", "per_test_id": "8", "spread": "0", "pixels": "16"}
TINY |= {"seen": "3", "distractors": "0", "junk": "0"}
CAMERAS = {"dukemtmc": 8, "msmt17_v1": 15, "msmt17_v2": 15}
LOOK = Look(gap=0.3, occ=0.0, clutter=1.0, jit=0.7, lum=0.05)


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def shot(who: Person, camera: Camera, passage: int = 0, image: int = 0, masked: bool = False) -> np.ndarray:
    return np.asarray(render(who, camera, camera.passage(rng(passage)), rng(image), masked), dtype=float)


def test_a_picture_follows_the_person_the_camera_the_passage_and_the_image():
    here, there = network(32, LOOK, 2, rng(1))
    one, other = person(rng(3)), person(rng(4))
    first = shot(one, here)
    assert first.shape == (32, 16, 3)
    assert np.array_equal(first, shot(one, here))
    assert (first != shot(other, here)).any()
    for changed in (shot(one, there), shot(one, here, passage=1), shot(one, here, image=1)):
        assert (first != changed).mean() > 0.5


@pytest.mark.parametrize(
    ("field", "kinds"), [("pattern", PATTERNS), ("lower", LOWERS), ("bag", BAGS), ("hair", HAIRS)]
)
def test_every_kind_looks_different_from_every_other(field, kinds):
    camera, _ = network(64, replace(LOOK, jit=0.0), 2, rng(0))
    from_before = replace(camera.passage(rng(0)), facing=0.3)
    people = [replace(person(rng(5)), **{field: kind}) for kind in dict.fromkeys(kinds)]
    seen = [np.asarray(render(who, camera, from_before, rng(0)), dtype=float) for who in people]
    for i, a in enumerate(seen):
        assert all(np.abs(a - b).max() > 20 for b in seen[:i])


def test_pictures_of_one_passage_are_nearer_than_those_of_two_cameras_and_gap_parts_them():
    who, apart = person(rng(6)), []
    for gap in (0.0, 0.6):
        cameras = network(32, replace(LOOK, gap=gap), 6, rng(7))
        means = [np.mean([shot(who, c, image=i).mean((0, 1)) for i in range(4)], 0) for c in cameras]
        apart.append(np.std(means, 0).mean())
        within = np.abs(shot(who, cameras[0]) - shot(who, cameras[0], image=1)).mean()
        assert within < np.abs(shot(who, cameras[0]) - shot(who, cameras[1])).mean()
    assert apart[1] > 1.5 * apart[0]


def test_occlusion_hides_and_masking_touches_the_head_alone():
    who = person(rng(8))
    (free, _), (blocked, _) = (network(64, replace(LOOK, occ=occ), 2, rng(9)) for occ in (0.0, 0.5))
    blocked.occ = 1.0
    assert np.abs(shot(who, free) - shot(who, blocked)).max() > 50
    difference = np.abs(shot(who, free) - shot(who, free, masked=True)).max((1, 2))
    assert difference.max() > 10
    assert not difference[32:].any()


@pytest.fixture(scope="module")
def rendered_sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("network")
    for name in reid_standin.SIZES:
        (root / name).mkdir()
        reid_standin.STAND_INS[name].make(root / name, "smoke", TINY)
    return root


@pytest.mark.parametrize("name", reid_standin.SIZES)
def test_the_reader_finds_what_standin_json_says(rendered_sets, name):
    told = json.loads((rendered_sets / name / "STANDIN.json").read_text())
    data = reid.load(rendered_sets, name)
    assert data.stand_in
    assert (
        data.cameras
        == told["recipe"]["cameras"]
        == {"d": 8, "m": 6, "p": 6}.get(name[0] * (name[1] != "s"), 15)
    )
    assert len(data.train.files) == told["counts"]["train"] == 16 * 8
    assert len(data.query.files) == told["counts"]["query"]
    assert len(set(data.train.ids)) == told["counts"]["train_ids"] == 16
    assert [told[key] for key in ("name", "size", "seed", "drawing")] == [name, "smoke", 0, "pedestrians 2"]
    assert told["options"] == {key: told["recipe"][key] for key in told["options"]}
    assert told["options"].items() >= {"train_ids": 16, "pixels": 16}.items()


@pytest.mark.parametrize("name", reid_standin.SIZES)
def test_one_query_for_each_identity_and_camera_with_matches_elsewhere(rendered_sets, name):
    data = reid.load(rendered_sets, name)
    pairs = list(zip(data.query.ids, data.query.cameras, strict=True))
    assert len(set(pairs)) == len(pairs)
    seen = defaultdict(set)
    for who, camera in zip(data.gallery.ids, data.gallery.cameras, strict=True):
        seen[who].add(camera)
    assert all(seen[who] - {camera} for who, camera in pairs)
    assert {(who, c) for who, cameras in seen.items() for c in cameras} == set(pairs)


def test_junk_and_distractors_are_in_the_gallery_of_market_and_duke_alone(tmp_path):
    for name in ("market1501", "dukemtmc"):
        (tmp_path / name).mkdir()
        reid_standin.STAND_INS[name].make(tmp_path / name, "smoke", TINY | {"distractors": "7", "junk": "0"})
    market = reid.load(tmp_path, "market1501")
    assert (market.gallery.ids == 0).sum() == 7
    assert not {0, -1} & {*market.train.ids, *market.query.ids}
    duke = reid.load(tmp_path, "dukemtmc")
    assert len(set(duke.gallery.ids) - set(duke.query.ids)) == 7


def test_v2_is_v1_with_blurred_faces(rendered_sets):
    one, two = (reid.load(rendered_sets, name) for name in ("msmt17_v1", "msmt17_v2"))
    assert [file.name for file in one.train.files] == [file.name for file in two.train.files]
    assert one.train.files[0].read_bytes() != two.train.files[0].read_bytes()
    for which in ("train", "val", "query", "gallery"):
        lines = (rendered_sets / "msmt17_v1" / f"list_{which}.txt").read_text().splitlines()
        assert lines and all(int(line.split("/")[0]) == int(line.split()[1]) for line in lines)


def test_same_recipe_same_bytes_other_seed_or_set_other_people(rendered_sets, tmp_path):
    contents = []
    for folder, seed in (("a", "0"), ("b", "1")):
        (tmp_path / folder).mkdir()
        reid_standin.STAND_INS["market1501"].make(tmp_path / folder, "smoke", TINY | {"seed": seed})
        contents.append(files(tmp_path / folder))
    assert contents[0] == files(rendered_sets / "market1501")
    pictures = [set(content.values()) for content in (*contents, files(rendered_sets / "pedestrians_warmup"))]
    assert not pictures[0] & pictures[1]
    assert not pictures[0] & pictures[2]


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_made_knows_its_own_recipe_and_name(rendered_sets):
    folder = rendered_sets / "market1501"
    assert reid_standin.STAND_INS["market1501"].made(folder, "smoke", TINY)
    assert not reid_standin.STAND_INS["pedestrians_many"].made(folder, "smoke", TINY)
    assert not reid_standin.STAND_INS["market1501"].made(folder, "smoke", TINY | {"gap": "0.4"})
    assert not reid_standin.STAND_INS["market1501"].made(rendered_sets, "smoke", TINY)


@pytest.mark.parametrize("size", ["smoke", "small"])
@pytest.mark.parametrize("name", reid_standin.SIZES)
def test_every_recipe_plans_cameras_for_all_and_enough_images(name, size):
    recipe = reid_standin.STAND_INS[name].recipe(size, {"seed": "3"})
    shots = reid_standin.plan(name, recipe)
    train = [s for s in shots if s.part == "train"]
    assert {s.camera for s in train} == set(range(recipe.cameras))
    images = np.bincount([s.who for s in train])[1:]
    assert len(images) == recipe.train_ids
    assert images.min() >= recipe.per_id * (1 - recipe.spread) - 1
    if (name, size) == ("pedestrians_many", "small"):
        assert images.min() >= 128


@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        ("huge", {}, "unknown size 'huge'; known: smoke, small"),
        ("smoke", {"camera": "5"}, "did you mean 'cameras'"),
        ("smoke", {"seen": "9"}, "seen 9 is more than cameras 6"),
        ("smoke", {"per_id": "4"}, "per_id 4 leaves no two pictures"),
        ("smoke", {"gap": "NaN"}, "gap"),
        ("smoke", {"pixels": "33"}, "pixels"),
        ("smoke", {"seed": "-1"}, "seed"),
    ],
)
def test_a_bad_network_recipe_is_one_line(size, options, message, tmp_path):
    with pytest.raises(PapersError, match=message) as caught:
        reid_standin.STAND_INS["market1501"].make(tmp_path, size, options)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
