"""COCO's layout: what is read, and one line for each way it can be out of step."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_sets import coco_scenes, edit, gone, instance, put, refused

from papers_lib.datasets import coco, scenes

TRAIN = "annotations/instances_train2017.json"


@pytest.fixture
def root(tmp_path):
    return coco_scenes(tmp_path / "coco2017")


def test_reads_boxes_labels_crowds_and_masks(root):
    data = coco.load(root)
    assert data.classes == ("dog", "cat") and data.stand_in
    assert [s.file.name for s in data.train] == [f"{n:012d}.jpg" for n in (5, 6, 9)]
    first, empty, both = data.train
    assert len(empty.boxes) == 0 and scenes.masks(empty).shape == (0, 20, 30)
    assert (first.labels.tolist(), both.labels.tolist()) == ([1], [2, 1])
    assert both.ignored.tolist() == [False, True]
    assert both.boxes.tolist() == [[2, 3, 12, 9], [4, 5, 6, 8]]
    square, crowd = scenes.masks(both)
    assert square[3:9, 2:12].all() and square.sum() == 60
    assert crowd[5:8, 4:6].all() and crowd.sum() == 6
    assert scenes.picture(both).shape == (20, 30, 3)


@pytest.mark.parametrize("code", ["polygon", "runs"])
def test_masks_equal_pycocotools(code):
    mask = pytest.importorskip("pycocotools.mask", reason="needs the extra 'detection'")
    rng = np.random.default_rng(0)
    for _ in range(20):
        if code == "polygon":
            angle = np.sort(rng.uniform(0, 6.28, 9))
            corners = 50 + rng.uniform(15, 45, (9, 1)) * np.stack([np.cos(angle), np.sin(angle)], 1)
            outline = [corners.ravel().tolist(), [3, 3, 9, 3, 9, 8]]
        else:
            cuts = np.sort(rng.integers(0, 110 * 100, 11))
            outline = {"size": [110, 100], "counts": np.diff([0, *cuts, 110 * 100]).tolist()}
        want = mask.frPyObjects(outline, 110, 100)
        want = mask.decode(mask.merge(want) if code == "polygon" else want).astype(bool)
        scene = scenes.scene(Path("x"), 110, 100, [scenes.Drawn((0, 0, 9, 9), 1, False, outline)], True)
        found = scenes.masks(scene)[0]
        # pycocotools rounds a polygon's edges to a fifth of a pixel.
        assert (found != want).sum() <= (0.02 * want.sum() if code == "polygon" else 0)


def content(change):
    """Change what the training file says."""
    return lambda root: edit(root / TRAIN, change)


def annotation(number, **changes):
    """Change one annotation of the training file, by its place."""
    return content(lambda c: c["annotations"][number].update(changes))


REFUSED = [
    (annotation(0, image_id=77), "annotation 1 is of image 77, which is not listed"),
    (annotation(0, category_id=4), "annotation 1 has category 4, which is not"),
    (annotation(2, bbox=[2, 3, 0, 6]), "annotation 3 has a box that is empty"),
    (annotation(2, bbox=[2, 3, 10, -6]), "annotation 3 has a box that is empty"),
    (annotation(2, bbox=[2, 3, 10, float("nan")]), "NaN is no number"),
    (annotation(2, bbox=[25, 3, 10, 6]), "reaches out of the 30x20 pixels"),
    (annotation(2, segmentation=[]), "annotation 3 has no segmentation"),
    (content(lambda c: c["annotations"][2].pop("bbox")), "is no file of COCO instances (KeyError: 'bbox')"),
    (content(lambda c: c.pop("categories")), "is no file of COCO instances (KeyError: 'categories')"),
    (content(lambda c: c["images"].append(c["images"][0] | {"id": 10})), "is listed 2 times"),
    (content(lambda c: c["images"].pop()), "000000000006.jpg is not in instances_train2017.json"),
    (content(lambda c: c["categories"][0].update(name="cow")), "has other categories than the training file"),
    (gone("train2017/*5.jpg"), "000000000005.jpg is missing, but instances_train2017.json lists it"),
    (gone("val2017"), "half a data set: no image in"),
    (put(TRAIN, "{"), "instances_train2017.json is broken"),
    (gone(TRAIN), "instances_train2017.json is missing; add it"),
]


@pytest.mark.parametrize(("damage", "says"), REFUSED)
def test_what_is_wrong_is_a_line(damage, says, root):
    damage(root)
    assert says in refused(coco.load, root)
    # what is missing elsewhere is told beside it
    gone("val2017")(root)
    problems = "\n".join(coco.survey(root).problems)
    assert says in problems or "other categories" in says
    assert f"half a data set: no image in {root / 'val2017'}" in problems


def test_the_two_empty_boxes_of_the_release_are_left_out(root):
    def as_released(content):
        content["images"][1]["id"] = content["annotations"][2]["image_id"] = 200365
        content["annotations"].append(instance(918, 200365, 7, bbox=[2, 3, 1.03, 0.0]))

    edit(root / TRAIN, as_released)
    found = coco.survey(root)
    assert found.problems == [] and "annotation 918" in found.notes[0]
    assert [len(s.boxes) for s in found.sides["train"]] == [1, 0, 2]


def test_an_image_of_another_size_and_a_broken_one(root):
    scene = coco.load(root).train[0]
    Image.new("RGB", (31, 20)).save(scene.file)
    assert "has 31x20 pixels, its annotation says 30x20" in refused(scenes.picture, scene)
    scene.file.write_bytes(b"no image")
    assert "is not a whole image" in refused(scenes.picture, scene)
