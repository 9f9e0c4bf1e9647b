"""SYSU-30k's layout: bags, query, gallery with distractors, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from standins import tell

from papers_lib.datasets import sysu30k
from papers_lib.errors import PapersError

INSIDE = "SYSU-30k-released/SYSU-30k-released"


def build(root: Path, inside: str = INSIDE) -> Path:
    """Three bags of 2, 3 and 4 images; two queries; a gallery with three distractors."""
    base = root / inside
    files = [
        f"sysu_train_set_all/{bag:010d}/{bag:010d}_c1_{i}.jpg" for bag in (1, 2, 3) for i in range(bag + 1)
    ]
    for who in ("000028311", "000028312"):
        files += [f"sysu_test_set_all/query/{who}/{who}_c2_2.jpg"]
        files += [f"sysu_test_set_all/gallery/{who}/{who}_c1_1.jpg"]
    files += [f"sysu_test_set_all/gallery/0000others/0000others_c{1 + i % 2}_{i}.jpg" for i in range(3)]
    for file in files:
        (base / file).parent.mkdir(parents=True, exist_ok=True)
        (base / file).write_bytes(file.encode())
    (base / "meta").mkdir()
    for side in ("train", "query", "gallery"):
        names = [f for f in files if f"/{side}/" in f or (side == "train" and "_train_" in f)]
        (base / "meta" / f"{side}.txt").write_text("".join(f"{Path(n).name}\n" for n in names))
    counts = {"bags": 3, "query": 2, "gallery": 5, "distractors": 3}
    tell(root, "sysu30k", counts)
    return root


def refused(root: Path, bags: int | None = None) -> str:
    with pytest.raises(PapersError) as caught:
        sysu30k.load(root, bags)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("inside", [INSIDE, "SYSU-30k-released", "."])
@pytest.mark.parametrize("around", ["", "sysu30k"])
def test_sides_follow_names_and_folders(inside, around, tmp_path):
    build(tmp_path / around, inside)
    data = sysu30k.load(tmp_path)
    assert data.stand_in
    assert [int(f.parent.name) - 1 for f in data.train.files] == data.train.bags.tolist()
    assert data.train.bags.tolist() == [0] * 2 + [1] * 3 + [2] * 4
    assert (data.query.ids.tolist(), data.query.cameras.tolist()) == ([28311, 28312], [1, 1])
    assert data.gallery.ids.tolist() == [28311, 28312, 0, 0, 0]
    assert data.gallery.cameras.tolist() == [0, 0, 0, 0, 1]  # sorted by name
    assert all(f.is_file() for f in (*data.train.files, *data.query.files, *data.gallery.files))


def test_some_bags_or_none(tmp_path):
    root = build(tmp_path)
    whole = sysu30k.load(root)
    two = sysu30k.load(root, bags=2)
    assert two.train.bags.tolist() == [0, 0, 1, 1, 1]
    assert two.pixels != whole.pixels
    shutil.rmtree(root / INSIDE / "sysu_train_set_all")
    assert len(sysu30k.load(root, bags=0).train.files) == 0
    assert len(sysu30k.load(root, bags=0).gallery.files) == 5
    assert "half a data set: sysu_train_set_all/ missing" in refused(root)
    assert "-1 bags" in refused(root, -1)


def test_the_published_counts(tmp_path):
    root = build(tmp_path)
    (root / "STANDIN.json").unlink()
    problems = sysu30k.survey(root).problems
    assert [line.partition(";")[0] for line in problems] == [
        "sysu30k has 2 queries, 1000 expected",
        "sysu30k has 5 gallery images, 479730 expected",
        "sysu30k has 3 distractors, 478730 expected",
        "sysu30k has 3 bags, 28310 expected",
    ]


def test_nothing_there(tmp_path):
    assert "does not exist" in refused(tmp_path / "no where")
    line = refused(tmp_path)
    assert "neither sysu_test_set_all/ nor sysu_train_set_all/" in line
    assert "python -m data_prep make sysu30k" in line


def test_a_query_without_its_match(tmp_path):
    root = build(tmp_path)
    shutil.rmtree(root / INSIDE / "sysu_test_set_all" / "gallery" / "000028312")
    assert "identity 000028312 is a query and not in the gallery" in refused(root)


@pytest.mark.parametrize(
    ("side", "file", "message"),
    [
        ("query", "000028311/28311.jpg", "has a name unlike 000028311_c1_1.jpg"),
        ("gallery", "000028311/000028312_c1_1.jpg", "is identity 000028312 in the folder of 000028311"),
        ("query", "0000others/0000others_c1_1.jpg", "only the gallery may have"),
    ],
)
def test_names_that_do_not_fit(side, file, message, tmp_path):
    root = build(tmp_path)
    path = root / INSIDE / "sysu_test_set_all" / side / file
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    assert message in refused(root)


@pytest.mark.parametrize("side", ["train", "query", "gallery"])
def test_lists_are_held_against_the_folders(side, tmp_path):
    root = build(tmp_path)
    path = root / INSIDE / "meta" / f"{side}.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([f"somewhere/else/{lines[0]} 0", *lines[1:], "", "nobody_c1_1.jpg"]))
    assert f"{path}, line {len(lines) + 2}: nobody_c1_1.jpg is missing" in refused(root)
    path.unlink()  # the folders alone are enough
    assert len(sysu30k.load(root).query.files) == 2


def test_empty_bags_and_leftovers(tmp_path):
    root = build(tmp_path)
    (root / INSIDE / "sysu_train_set_all" / "__MACOSX").mkdir()
    (root / INSIDE / "sysu_test_set_all" / "query" / "000028311" / "._x.jpg").write_bytes(b"mac")
    found = sysu30k.survey(root)
    assert not found.problems
    assert found.notes[0].startswith("2 leftovers of an archive or another program are ignored")
    (root / INSIDE / "sysu_train_set_all" / "0000000004").mkdir()
    assert "0000000004 holds no image" in refused(root)


def test_the_digest_of_content_sees_names_and_sizes(tmp_path):
    one = build(tmp_path / "one")
    print_of = sysu30k.load(one).pixels
    shutil.copytree(one, tmp_path / "two words")
    assert sysu30k.load(tmp_path / "two words").pixels == print_of
    image = sysu30k.load(one).gallery.files[-1]
    image.write_bytes(image.read_bytes() + b"x")
    assert sysu30k.load(one).pixels != print_of


@pytest.mark.parametrize("text", ["", "[]", '{"name": "sysu30k"}', '{"name": "x", "counts": {}}'])
def test_broken_standin_file(text, tmp_path):
    root = build(tmp_path)
    (root / "STANDIN.json").write_text(text)
    assert "STANDIN.json is broken" in refused(root)
