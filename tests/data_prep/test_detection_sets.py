"""Stand-ins of COCO and VOC: drawn scenes that the readers, `check` and pycocotools agree on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import detection_sets
from data_prep.detection_sets import DATASETS, _polygons, _runs, check
from papers_lib.datasets import coco, scenes, voc
from papers_lib.errors import PapersError
from papers_lib.evaluation.detection import Found, coco_ap, encode

TINY = {"train": "5", "test": "4", "pixels": "64"}
BY_NAME = {data.name: data for data in DATASETS}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes")
    for data in DATASETS:
        folder = root / data.name
        folder.mkdir()
        data.make(folder, "smoke", TINY)
    return root


@pytest.fixture
def copy(drawn, tmp_path):
    shutil.copytree(drawn, tmp_path / "data")
    return tmp_path / "data"


@pytest.mark.parametrize("name", BY_NAME)
def test_the_check_finds_a_whole_stand_in(name, drawn):
    report = check(name, drawn)
    assert report.problems == () and "stand-in" in report.summary
    assert f"{name} (stand-in): train 5 images" in report.summary


@pytest.mark.parametrize("name", BY_NAME)
def test_the_same_recipe_gives_the_same_bytes(name, drawn, tmp_path):
    again, other = tmp_path / "a" / name, tmp_path / "b" / name
    for folder, seed in ((again, "0"), (other, "1")):
        folder.mkdir(parents=True)
        BY_NAME[name].make(folder, "smoke", TINY | {"seed": seed})
    read = coco.load if name == "coco2017" else voc.load
    first, second, third = (read(p) for p in (drawn / name, again, other))
    assert first.fingerprint == second.fingerprint != third.fingerprint
    assert all((drawn / p.relative_to(tmp_path / "a")).read_bytes() == p.read_bytes() for p in files(again))
    assert BY_NAME[name].made(again, "smoke", TINY)
    assert not BY_NAME[name].made(other, "smoke", TINY)
    assert not BY_NAME[name].made(tmp_path, "smoke", TINY)


def files(folder):
    return [p for p in folder.rglob("*") if p.is_file()]


def test_masks_fill_their_boxes_and_train_and_test_differ(drawn):
    data = coco.load(drawn)
    for scene in (*data.train, *data.test):
        for mask, box in zip(scenes.masks(scene), scene.boxes, strict=True):
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            found = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            assert np.abs(np.array(found) - box).max() <= 1
        assert max(scene.height, scene.width) <= 64 * 4 / 3 + 1
    pictures = {s.file.read_bytes() for s in (*data.train, *data.test)}
    assert len(pictures) == 9
    assert any(s.ignored.any() for s in data.test) and all((~s.ignored).any() for s in data.train)


def test_polygons_and_runs_give_the_mask_back():
    rng = np.random.default_rng(3)
    mask = np.kron(rng.random((7, 9)) < 0.5, np.ones((6, 6))).astype(bool)
    frame = scenes.Drawn((0, 0, 9, 9), 1, False, _runs(mask))
    assert (scenes.masks(scenes.scene(Path("x"), *mask.shape, [frame], True))[0] == mask).all()
    disc = np.hypot(*np.mgrid[-20:21, -20:31]) < 15
    frame = scenes.Drawn((0, 0, 9, 9), 1, False, _polygons(disc))
    found = scenes.masks(scenes.scene(Path("x"), *disc.shape, [frame], True))[0]
    assert (found != disc).sum() <= 0.02 * disc.sum()


def test_a_perfect_detector_scores_one(drawn):
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
    text = detection_sets._annotation("VOC2007", "000001", (20, 20), items)
    assert text.count("<difficult>1</difficult>") == text.count("<difficult>0</difficult>") == 1
    for corner in ("<xmin>3</xmin>", "<ymin>4</ymin>", "<xmax>12</xmax>", "<ymax>9</ymax>"):
        assert corner in text


def test_check_names_all_faults_at_once(copy):
    scene = coco.load(copy).train[0]
    Image.new("RGB", (5, 5)).save(scene.file)
    assert f"{scene.file} has 5x5 pixels" in check("coco2017", copy).problems[0]
    scene.file.write_bytes(b"")
    coco.load(copy).train[1].file.unlink()
    problems = check("coco2017", copy).problems
    assert len(problems) == 2
    assert "is missing" in problems[0] and "zero bytes" in problems[1]
    path = copy / "voc0712" / "STANDIN.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps(told | {"counts": {"train": 6, "test": 4}}))
    assert check("voc0712", copy).problems[0].startswith("voc0712 has 5 train images, 6 expected")


@pytest.mark.parametrize(
    ("size", "options", "says"),
    [
        ("big", {}, "unknown size 'big'"),
        ("smoke", {"colour": "red"}, "unknown parameter 'colour'"),
        ("smoke", {"pixels": "4"}, "pixels"),
    ],
)
def test_bad_recipes_are_one_line(size, options, says, tmp_path):
    with pytest.raises(PapersError, match=says) as error:
        DATASETS[0].make(tmp_path, size, options)
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())
