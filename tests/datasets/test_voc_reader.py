"""VOC's layout: what is read, and one line for each way it can be out of step."""

import pytest
from tiny_sets import annotated, drawn, gone, put, refused, voc_scenes

from papers_lib.datasets import scenes, voc


@pytest.fixture
def root(tmp_path):
    return voc_scenes(tmp_path / "VOCdevkit").parent


def write(root, text, stem="000005"):
    (root / "VOCdevkit" / "VOC2007" / "Annotations" / f"{stem}.xml").write_text(text)


def test_reads_both_years_and_counts_pixels_from_zero(root):
    write(root, annotated(drawn() + drawn("cat", 1, 1, 1, 30, 20) + drawn("cow", 0, 5.5, 6, 7, 8)))
    data = voc.load(root)
    assert [s.file.stem for s in data.train] == ["000005", "000007", "2008_000002"]
    assert [s.file.stem for s in data.test] == ["000001"]
    first = data.train[0]
    assert first.boxes.tolist() == [[2, 3, 12, 9], [0, 0, 30, 20], [4.5, 5, 7, 8]]
    assert [data.classes[i - 1] for i in first.labels] == ["dog", "cat", "cow"]
    assert first.ignored.tolist() == [False, True, False]
    assert (first.height, first.width, data.stand_in) == (20, 30, True)
    assert "has no masks; train faster_rcnn" in refused(scenes.masks, first)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (annotated(drawn("unicorn")), "unknown class 'unicorn'"),
        (annotated(drawn(x2=2)), "has a box that is empty"),
        (annotated(drawn(y1="nan")), "has a box that is empty"),
        (annotated(drawn(x2=32)), "reaches out of the 30x20 pixels"),
        (annotated(""), "has no object"),
        (annotated(drawn(x1="left")), "cannot be read"),
        (annotated(drawn().replace("xmin", "xmim")), "no bndbox/xmin"),
        (annotated(drawn(), width=""), "no size/width"),
        ("<annotation>", "cannot be read"),
    ],
)
def test_broken_annotations(text, says, root):
    write(root, text)
    message = refused(voc.load, root)
    assert says in message and "000005.xml" in message


DEVKIT, YEAR = "VOCdevkit", "VOCdevkit/VOC2007"
MISSING = [
    (gone(f"{YEAR}/*/000007.xml"), "000007.xml is missing, but trainval.txt lists it"),
    (gone(f"{YEAR}/*/000007.*"), "000007.jpg is missing, but trainval.txt lists it"),
    (gone(f"{YEAR}/*/000007.jpg"), "000007.xml has no image in VOC2007/JPEGImages"),
    (gone(f"{YEAR}/*/*/test.txt"), "test.txt is missing; add it from the copy that you have"),
    (put(f"{YEAR}/ImageSets/Main/trainval.txt", "000005\n"), "voc0712 has 2 train images, 3 expected"),
    (gone(f"{DEVKIT}/VOC2012"), "half a data set: no image in"),
    (gone(f"{DEVKIT}/VOC*"), "no voc0712 in"),
]


@pytest.mark.parametrize(("damage", "says"), MISSING)
def test_lists_annotations_and_images_out_of_step(damage, says, root):
    damage(root)
    assert says in refused(voc.load, root)
