"""Images of one's own: what folders and the table say, what is drawn otherwise, what is refused."""

import numpy as np
import pytest
from PIL import Image
from tiny_sets import refused

from data_prep.__main__ import main
from papers_lib.datasets import folder, known

BIRDS = ("crow", "finch", "gull", "heron", "kite", "owl")


def paint(root, places):
    """So many images below each place."""
    for place, count in places.items():
        (root / "folder" / place).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (10 + i, 20), (i, 0, 0)).save(root / "folder" / place / f"{i}.png")
    return root


def plain(root):
    return paint(root, {name: 5 + i for i, name in enumerate(BIRDS)})


def test_a_folder_per_class_is_enough_for_all_wings(tmp_path):
    root = plain(tmp_path)
    learnt = folder.classified(root)
    assert learnt.classes == BIRDS and not learnt.small
    assert np.bincount(learnt.train.labels).tolist() == [4, 5, 6, 7, 8, 8]
    assert np.bincount(learnt.test.labels).tolist() == [1, 1, 1, 1, 1, 2]
    assert not set(learnt.train.images) & set(learnt.test.images)
    for side in (learnt.train, learnt.test):
        assert [file.parent.name for file in side.images] == [BIRDS[label] for label in side.labels]

    cars = folder.kinds(root)
    trained, tested = set(cars.fine[cars.train].tolist()), set(cars.fine[~cars.train].tolist())
    assert (trained, tested) == ({0, 1, 2}, {3, 4, 5})
    assert [file.parent.name for file in cars.files] == [cars.class_names[fine] for fine in cars.fine]
    for part in (cars.train, ~cars.train):  # each kind on both sides, one kind for a class
        pairs = set(zip(cars.fine[part].tolist(), cars.coarse[part].tolist(), strict=True))
        assert len(pairs) == 3 and {coarse for _, coarse in pairs} == {0, 1}

    people = folder.network(root)
    assert not set(people.train.ids.tolist()) & set(people.query.ids.tolist())
    assert set(people.query.ids.tolist()) == set(people.gallery.ids.tolist())
    assert set(people.train.cameras.tolist()) == set(people.query.cameras.tolist()) == {0}
    assert set(people.gallery.cameras.tolist()) == {1} and len(people.query.files) == 3
    assert sum(len(side.files) for side in (people.train, people.query, people.gallery)) == 45


def test_the_same_folder_is_split_alike_anywhere_and_another_is_known(tmp_path):
    one, two = plain(tmp_path / "a"), plain(tmp_path / "b")
    first, second = folder.classified(one), folder.classified(two)
    assert [f.name for f in first.test.images] == [f.name for f in second.test.images]
    print_of = known.load(one, "folder").fingerprint
    assert print_of == known.load(two, "folder").fingerprint == first.fingerprint
    assert print_of == folder.kinds(one).fingerprint == folder.network(one / "folder").fingerprint
    (two / "folder" / "crow" / "0.png").rename(two / "folder" / "gull" / "zero.png")
    assert known.load(two, "folder").fingerprint != print_of


def test_kinds_and_cameras_may_be_folders(tmp_path):
    root = paint(tmp_path, {f"{kind}/{name}": 3 for kind in ("sea", "land") for name in "abc"})
    cars = folder.kinds(root)
    assert cars.coarse_names == ("land", "sea")
    for file, coarse in zip(cars.files, cars.coarse, strict=True):
        assert file.parts[-3] == cars.coarse_names[coarse]
    root = paint(tmp_path / "b", {f"{name}/cam{i}": 3 for name in "abcd" for i in (1, 2, 7)})
    people = folder.network(root)
    assert people.cameras == 3 and len(people.query.files) == 2 * 3  # one of each person and camera
    for side in (people.train, people.query, people.gallery):
        named = [("cam1", "cam2", "cam7").index(file.parent.name) for file in side.files]
        assert side.cameras.tolist() == named


def test_the_table_says_kinds_cameras_and_sides(tmp_path):
    root = plain(tmp_path)
    labels = root / "folder" / "labels.csv"
    labels.write_text(
        "class,coarse,split\ncrow,land,train\nfinch,sea,train\ngull,land,train\n"
        "heron,sea,test\nkite,land,test\nowl,sea,test\n"
    )
    cars = folder.kinds(root)
    assert cars.class_names == BIRDS and cars.coarse_names == ("land", "sea")
    assert set(cars.fine[~cars.train].tolist()) == {3, 4, 5}
    assert cars.coarse.tolist() == [BIRDS.index(file.parent.name) % 2 for file in cars.files]
    rows = [f"{file.parent.name}/{file.name},door,train\n" for file in labels.parent.glob("*/*.png")]
    rows = [row.replace("/0.png,door,train", "/0.png,roof,test") for row in rows]
    labels.write_text("file,camera,split\n" + "".join(rows))
    learnt = folder.classified(root)
    assert [file.name for file in learnt.test.images] == ["0.png"] * 6
    # no class is of the test side as a whole
    assert "no image has its like" in refused(folder.network, root)


@pytest.mark.parametrize(
    ("places", "reader", "words"),
    [
        ({"a": 3}, "load", "has one class alone"),
        ({"a": 3, "b": 1}, "classified", "b has one image; a class needs two or more"),
        (dict.fromkeys("abcd", 3), "kinds", "has 4 classes, 5 or more are needed"),
        (dict.fromkeys("abc", 3), "network", "has 3 classes, 4 or more are needed"),
        (dict.fromkeys("abcd", 1), "network", "no image has its like in another camera"),
        ({"a": 3, "b/c/d": 3}, "load", "b/c holds folders in folders"),
        ({"a": 3, "b": 0}, "load", "b holds no image"),
        ({"a": 3, "b/cam1": 3, "b/x": 2}, "load", "folders beside its cameras"),
    ],
)
def test_folders_that_cannot_be_used_are_one_line(places, reader, words, tmp_path):
    assert words in refused(getattr(folder, reader), paint(tmp_path, places))


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("name,kind\na,b", "has the columns kind, name; give file or class"),
        ("class,coarse\na,x\nz,x", "line 3: 'z' is not there"),
        ("class,split\na,valid", "line 2: a split is train or test"),
        ("class;coarse\na;x", "columns class;coarse; give file or class, and coarse,"),
        ("\n", "labels.csv is empty; give file or class, and coarse, camera, split,"),
        ("class,class\na,b", "has the columns class, class; give file or class"),
        ("class,coarse\n\na,x,y\n", "line 3: more cells than the 2 of its head"),
        ('class,coarse\na,"x\n', "unexpected end of data; mend that"),
        (f"class,coarse\na,{'x' * 200_000}\n", "from line 1: field larger than"),
        ("class,coarse\na,x\na,y", "3: the coarse of 'a' is y, and x in line 2"),
        ("file,class,coarse\na/0.png,b,x", "lies in the class 'a', not 'b'"),
    ],
)
def test_a_table_that_cannot_be_used_is_one_line(table, words, tmp_path):
    root = paint(tmp_path, {"a": 3, "b": 3})
    (root / "folder" / "labels.csv").write_text(table)
    assert words in refused(folder.load, root)


def test_an_images_line_stands_over_its_class_and_a_line_may_be_short_or_stand_twice(tmp_path):
    root = paint(tmp_path, {"a": 3, "b, c": 3})
    table = 'file,class,coarse,camera\na/1.png,,y\n ,a,x,\n,"b, c",x\n,"b, c",x\n'
    (root / "folder" / "labels.csv").write_text(table)
    data = folder.load(root)
    assert [data.coarse_names[kind] for kind in data.coarse] == ["x", "y", "x", "x", "x", "x"]
    assert data.cameras is None


def test_import_copies_a_folder_of_any_name_and_other_data_is_none(tmp_path, capsys):
    pictures = plain(tmp_path / "from") / "folder"
    pictures = pictures.rename(pictures.with_name("birds"))
    assert "no folder in" in refused(folder.load, tmp_path / "from")
    assert main(["import", "folder", str(pictures), str(tmp_path / "data")]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("folder: 45 images, 6 classes, no kinds, no cameras: whole")
    assert "dealt to kinds by lot" in captured.err and "taken for those of one" in captured.err
    assert len(folder.load(tmp_path / "data").files) == 45


def test_what_a_check_of_a_folder_says_beside_its_faults(tmp_path, capsys):
    """One class serves no wing; images of no class, and labels that only some have, are told."""
    one = paint(tmp_path / "one", {"a": 3})
    assert main(["import", "folder", str(one), str(tmp_path / "data")]) == 1
    assert capsys.readouterr().out.count("has one class alone; put the images into a folder per class") == 1
    assert not (tmp_path / "data" / "folder").exists()

    root = paint(tmp_path / "some", {"a": 2, "a/inner": 3, "b": 3}) / "folder"
    Image.new("RGB", (9, 9)).save(root / "top.png")
    (root / "labels.csv").write_text("file,camera,split\nb/0.png,door,test\n")
    assert main(["check", "folder", str(root)]) == 0
    notes = capsys.readouterr().err
    assert f"3 images lie beside folders and are of no class, as {root / 'a' / '0.png'}" in notes
    assert "5 images have no camera: as if none had one" in notes and "no cameras: training" in notes
    assert "5 images have no split: as if none had one" in notes and folder.load(root).cameras is None

    (root / "labels.csv").write_text("class,split\nb,test\na/inner,test\n")
    assert main(["check", "folder", str(root)]) == 0
    assert "all images are said to be of the test side: sides are drawn" in capsys.readouterr().err
    assert folder.load(root).test is None


def test_another_folder_is_not_taken_for_the_one_that_is_there(tmp_path, capsys):
    data, birds = tmp_path / "data", plain(tmp_path / "birds")
    for code, said in ((0, "whole, in"), (0, "there already, nothing imported")):
        assert main(["import", "folder", str(birds), str(data)]) == code
        assert said in capsys.readouterr().out
    (birds / "folder" / "labels.csv").write_text("class,coarse\ncrow,black\n")
    cats = paint(tmp_path / "cats", {"tabby": 2, "tom": 2})
    for source in (birds, cats):
        assert main(["import", "folder", str(source), str(data)]) == 2
        assert f"is there already and is not what {source} holds; move it away" in capsys.readouterr().err
    assert not (data / "folder" / "labels.csv").exists() and folder.load(data).classes == BIRDS


def test_a_name_that_breaks_a_line_is_said_once(tmp_path, capsys):
    root = paint(tmp_path, {"a": 2, "b": 2}) / "folder"
    (root / "a" / "new\nline.png").write_bytes(b"")
    assert main(["check", "folder", str(root)]) == 1
    assert capsys.readouterr().out.count("\n") == 1
