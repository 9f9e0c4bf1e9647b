"""SYSU-30k's layout: bags, query, gallery with distractors, and what is refused."""

import pytest
from tiny_sets import INSIDE, bags, empty, gone, put, refused

from papers_lib.datasets import sysu30k


@pytest.mark.parametrize("inside", [INSIDE, "SYSU-30k-released", "."])
def test_sides_follow_names_and_folders(inside, tmp_path):
    data = sysu30k.load(bags(tmp_path, inside))
    assert [int(f.parent.name) - 1 for f in data.train.files] == data.train.bags.tolist()
    assert data.train.bags.tolist() == [0] * 2 + [1] * 3 + [2] * 4
    assert (data.query.ids.tolist(), data.query.cameras.tolist()) == ([28311, 28312], [1, 1])
    assert data.gallery.ids.tolist() == [28311, 28312, 0, 0, 0]
    assert data.gallery.cameras.tolist() == [0, 0, 0, 0, 1]  # sorted by name
    assert all(f.is_file() for f in (*data.train.files, *data.query.files, *data.gallery.files))


def test_some_bags_or_none(tmp_path):
    root = bags(tmp_path)
    whole = sysu30k.load(root)
    two = sysu30k.load(root, bags=2)
    assert two.train.bags.tolist() == [0, 0, 1, 1, 1]
    assert two.pixels != whole.pixels
    gone(f"{INSIDE}/sysu_train_set_all")(root)
    assert len(sysu30k.load(root, bags=0).train.files) == 0
    assert len(sysu30k.load(root, bags=0).gallery.files) == 5
    assert "half a data set: sysu_train_set_all/ missing" in refused(sysu30k.load, root)
    assert "-1 bags" in refused(sysu30k.load, root, -1)


TEST = f"{INSIDE}/sysu_test_set_all"
REFUSED = [
    (gone(f"{TEST}/gallery/000028312"), "identity 000028312 is a query and not in the gallery"),
    (put(f"{TEST}/query/000028311/28311.jpg"), "has a name unlike 000028311_c1_1.jpg"),
    (put(f"{TEST}/gallery/000028311/000028312_c1_1.jpg"), "is identity 000028312 in the folder of 000028311"),
    (put(f"{TEST}/query/0000others/0000others_c1_1.jpg"), "only the gallery may have"),
    (empty(f"{INSIDE}/sysu_train_set_all/0000000004"), "0000000004 holds no image"),
]


@pytest.mark.parametrize(("damage", "says"), REFUSED)
def test_what_is_wrong_is_a_line(damage, says, tmp_path):
    root = bags(tmp_path)
    damage(root)
    assert says in refused(sysu30k.load, root)


@pytest.mark.parametrize("side", ["train", "query", "gallery"])
def test_lists_are_held_against_the_folders(side, tmp_path):
    root = bags(tmp_path)
    path = root / INSIDE / "meta" / f"{side}.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([f"somewhere/else/{lines[0]} 0", *lines[1:], "", "nobody_c1_1.jpg"]))
    assert f"{path}, line {len(lines) + 2}: nobody_c1_1.jpg is missing" in refused(sysu30k.load, root)
    path.unlink()  # the folders alone are enough
    assert len(sysu30k.load(root).query.files) == 2
