"""Stand-ins have the layout, the lists and the structure of the real sets."""

import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torchvision
from prepared import draw

from data_prep import detection_sets, reid
from data_prep.detection_sets import _polygons, _runs
from papers_lib.datasets import cars196, classification, coco, scenes, sysu30k
from papers_lib.datasets import reid as reader
from papers_lib.datasets.images import load_images
from papers_lib.evaluation.detection import Found, coco_ap, encode

NETWORKS = tuple(reid.SIZES)

# -- cars196 --


@pytest.mark.parametrize(("coarse_map", "lone_types"), [("type22", True), ("body9", False)])
def test_type22_has_types_of_one_model_and_body9_has_none(coarse_map, lone_types, rendered):
    cars = cars196.load(rendered, coarse_map=coarse_map)
    for side in (cars.train, ~cars.train):
        models = {(f, c) for f, c in zip(cars.fine[side], cars.coarse[side], strict=True)}
        sizes = Counter(c for _, c in models)
        assert (1 in sizes.values()) is lone_types
        assert len(sizes) >= 8


def test_torchvision_reads_the_same_labels(rendered):
    cars = cars196.load(rendered)
    label_of = dict(zip(cars.files, cars.fine, strict=True))
    for split in ("train", "test"):
        theirs = torchvision.datasets.StanfordCars(str(rendered), split=split)
        assert theirs.classes == list(cars.class_names)
        for file, label in theirs._samples:
            assert label_of.pop(Path(file)) == label
    assert not label_of


# -- re-identification --


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    root = tmp_path_factory.mktemp("network")
    people = {"train_ids": "16", "test_ids": "5", "per_id": "8", "per_test_id": "8", "spread": "0"}
    for name in NETWORKS:
        draw(root, name, **people, pixels="16", seen="3", distractors="0", junk="0")
    return root


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_has_the_cameras_the_people_and_the_queries_of_its_recipe(name, networks):
    told = json.loads((networks / name / "STANDIN.json").read_text())
    data = reader.load(networks, name)
    cameras = {"dukemtmc": 8, "msmt17_v1": 15, "msmt17_v2": 15}.get(name, 6)
    assert data.cameras == told["recipe"]["cameras"] == cameras
    assert len(data.train.files) == told["counts"]["train"] == 16 * 8
    assert len(set(data.train.ids)) == told["counts"]["train_ids"] == 16

    # one query for each identity and camera, with a match before another camera
    pairs = list(zip(data.query.ids, data.query.cameras, strict=True))
    assert len(set(pairs)) == len(pairs)
    seen = defaultdict(set)
    for who, camera in zip(data.gallery.ids, data.gallery.cameras, strict=True):
        seen[who].add(camera)
    assert all(seen[who] - {camera} for who, camera in pairs)
    assert {(who, c) for who, cameras in seen.items() for c in cameras} == set(pairs)


def test_junk_and_distractors_are_in_the_gallery_of_market_and_duke_alone(tmp_path):
    for name in ("market1501", "dukemtmc"):
        draw(tmp_path, name, distractors="7", junk="0")
    market, duke = reader.load(tmp_path, "market1501"), reader.load(tmp_path, "dukemtmc")
    assert (market.gallery.ids == 0).sum() == 7
    assert len(set(duke.gallery.ids) - set(duke.query.ids)) == 7


def test_sets_have_people_of_their_own_but_v2_those_of_v1_with_blurred_faces(networks):
    first, second = (reader.load(networks, name) for name in ("msmt17_v1", "msmt17_v2"))
    assert [file.name for file in first.train.files] == [file.name for file in second.train.files]
    assert first.train.files[0].read_bytes() != second.train.files[0].read_bytes()
    market, warmup = (
        {path.read_bytes() for path in (networks / name).rglob("*.jpg")}
        for name in ("market1501", "pedestrians_warmup")
    )
    assert not market & warmup


@pytest.mark.parametrize("size", ["smoke", "small"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_recipe_plans_cameras_for_all_and_enough_images(name, size):
    recipe = reid.STAND_INS[name].recipe(size, {"seed": "3"})
    train = [shot for shot in reid.plan(name, recipe) if shot.side == "train"]
    assert {shot.camera for shot in train} == set(range(recipe.cameras))
    images = np.bincount([shot.who for shot in train])[1:]
    assert len(images) == recipe.train_ids
    assert images.min() >= recipe.per_id * (1 - recipe.spread) - 1
    if (name, size) == ("pedestrians_many", "small"):
        assert images.min() >= 128


def test_a_query_of_sysu_is_like_its_match(tmp_path):
    small = {"queries": "8", "distractors": "8", "gap": "0", "pixels": "32"}
    data = sysu30k.load(draw(tmp_path, "sysu30k", bags="12", people="3", shots="4", **small))
    assert len(data.train.files) == 144
    sides = (load_images(side.files, (32, 16)) for side in (data.query, data.gallery))
    query, gallery = (pixels.reshape(len(pixels), -1).astype(float) for pixels in sides)
    order = ((query[:, None] - gallery[None]) ** 2).sum(2).argsort(1)
    is_match = data.gallery.ids[order] == data.query.ids[:, None]
    assert is_match.argmax(1).mean() < 5  # 7.5 by chance


# -- classification --


@pytest.mark.parametrize("name", classification.NAMES)
def test_a_rendered_set_is_read_with_its_labels(name, tmp_path):
    root = draw(tmp_path, name, classes="3", train="4", pixels="16")
    data = classification.load(root, name)
    assert data.classes == ("box_with_ears", "disc_with_ears", "wedge_with_ears")
    assert [f.parent.name for f in data.train.images] == [data.classes[i] for i in data.train.labels]
    assert np.bincount(data.test.labels).tolist() == [2, 2, 2]
    assert classification.load_images(data.test).shape == (6, 16, 16, 3)
    if name == "imagenet":  # test images lie without class folders
        assert {f.parent.name for f in data.test.images} == {"val"}
        rows = (data.root / "meta" / "val_labeled.txt").read_text().splitlines()
        assert rows == [f"{f.name} {i}" for f, i in zip(data.test.images, data.test.labels, strict=True)]
        # the first picture is the first class drawn, a disc, which is second among the sorted names
        assert rows[0] == "val_00000001.jpg 1"


# -- detection --


def test_masks_fill_their_boxes_and_train_and_test_differ(drawn):
    data = coco.load(drawn)
    for scene in (*data.train, *data.test):
        for mask, box in zip(scenes.masks(scene), scene.boxes, strict=True):
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            edges = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            assert np.abs(np.array(edges) - box).max() <= 1
        assert max(scene.height, scene.width) <= 64 * 4 / 3 + 1
    assert len({scene.file.read_bytes() for scene in (*data.train, *data.test)}) == 9
    assert any(s.ignored.any() for s in data.test) and all((~s.ignored).any() for s in data.train)


def test_polygons_and_runs_give_the_mask_back():
    rng = np.random.default_rng(3)
    mask = np.kron(rng.random((7, 9)) < 0.5, np.ones((6, 6))).astype(bool)
    frame = scenes.Drawn((0, 0, 9, 9), 1, False, _runs(mask))
    assert (scenes.masks(scenes.scene(Path("x"), *mask.shape, [frame], True))[0] == mask).all()
    disc = np.hypot(*np.mgrid[-20:21, -20:31]) < 15
    frame = scenes.Drawn((0, 0, 9, 9), 1, False, _polygons(disc))
    back = scenes.masks(scenes.scene(Path("x"), *disc.shape, [frame], True))[0]
    assert (back != disc).sum() <= 0.02 * disc.sum()


def test_a_perfect_detector_scores_full_marks(drawn):
    pytest.importorskip("pycocotools", reason="needs the extra 'detection'")
    test = coco.load(drawn).test
    found = []
    for scene in test:
        kept = ~scene.ignored
        masks = encode(scenes.masks(scene)[kept])
        found.append(Found(scene.boxes[kept], np.ones(kept.sum()), scene.labels[kept], masks))
    assert min(coco_ap(test, found, masks=True).values()) > 0.99


def test_difficult_objects_are_those_mostly_covered():
    box = np.zeros((20, 20), dtype=bool)
    box[3:9, 2:12] = True
    items = [detection_sets.Item(0, box, 0.39), detection_sets.Item(1, box, 0.41)]
    text = detection_sets._annotation("VOC2007", "000001", 20, 20, items)
    assert text.count("<difficult>1</difficult>") == text.count("<difficult>0</difficult>") == 1
    for corner in ("<xmin>3</xmin>", "<ymin>4</ymin>", "<xmax>12</xmax>", "<ymax>9</ymax>"):
        assert corner in text
