"""VOC's layout: what is read, and one line for each way it can be out of step."""

import shutil

import pytest
from PIL import Image

from papers_lib.datasets import scenes, voc
from papers_lib.errors import PapersError

OBJECT = (
    "<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmax>{x2}</xmax><xmin>{x1}</xmin>"
    "<ymin>{y1}</ymin><ymax>{y2}</ymax></bndbox></object>"
)
LISTED = {
    ("VOC2007", "trainval"): ["000005", "000007"],
    ("VOC2012", "trainval"): ["2008_000002"],
    ("VOC2007", "test"): ["000001"],
}


def drawn(name="dog", difficult=0, x1=3, y1=4, x2=12, y2=9):
    return OBJECT.format(name=name, difficult=difficult, x1=x1, y1=y1, x2=x2, y2=y2)


def annotated(objects, width=30):
    return f"<annotation><size><width>{width}</width><height>20</height></size>{objects}</annotation>"


@pytest.fixture
def root(tmp_path, monkeypatch):
    base = tmp_path / "VOCdevkit"
    for (year, split), stems in LISTED.items():
        for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
            (base / year / folder).mkdir(parents=True, exist_ok=True)
        (base / year / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{s}\n" for s in stems))
        for stem in stems:
            Image.new("RGB", (30, 20)).save(base / year / "JPEGImages" / f"{stem}.jpg")
            (base / year / "Annotations" / f"{stem}.xml").write_text(annotated(drawn()))
    monkeypatch.setattr(voc, "COUNTS", {"train": 3, "test": 1})
    return tmp_path


def write(root, text, stem="000005"):
    (root / "VOCdevkit" / "VOC2007" / "Annotations" / f"{stem}.xml").write_text(text)


def refused(root):
    with pytest.raises(PapersError) as error:
        voc.load(root)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_reads_both_years_and_counts_pixels_from_zero(root):
    write(root, annotated(drawn() + drawn("cat", 1, 1, 1, 30, 20) + drawn("cow", 0, 5.5, 6, 7, 8)))
    data = voc.load(root)
    assert [s.file.stem for s in data.train] == ["000005", "000007", "2008_000002"]
    assert [s.file.stem for s in data.test] == ["000001"]
    first = data.train[0]
    assert first.boxes.tolist() == [[2, 3, 12, 9], [0, 0, 30, 20], [4.5, 5, 7, 8]]
    assert [data.classes[i - 1] for i in first.labels] == ["dog", "cat", "cow"]
    assert first.ignored.tolist() == [False, True, False]
    assert (first.height, first.width, data.stand_in) == (20, 30, False)
    assert voc.load(root / "VOCdevkit").fingerprint == data.fingerprint
    with pytest.raises(PapersError, match="has no masks; train faster_rcnn"):
        scenes.masks(first)


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
    message = refused(root)
    assert says in message and "000005.xml" in message


def test_lists_annotations_and_images_out_of_step(root):
    base = root / "VOCdevkit" / "VOC2007"
    (base / "Annotations" / "000007.xml").unlink()
    assert "000007.xml is missing, but trainval.txt lists it" in refused(root)
    (base / "JPEGImages" / "000007.jpg").unlink()
    assert "000007.jpg is missing, but trainval.txt lists it" in refused(root)
    write(root, annotated(drawn()), "000007")
    assert "000007.xml has no image in VOC2007/JPEGImages" in refused(root)
    (base / "Annotations" / "000007.xml").unlink()
    (base / "ImageSets" / "Main" / "trainval.txt").write_text("000005\n")
    assert "voc0712 has 2 train images, 3 expected" in refused(root)
    (base / "ImageSets" / "Main" / "test.txt").unlink()
    assert "half a data set" in refused(root) and "test.txt is missing" in refused(root)


def test_one_year_alone_is_half_a_data_set(root):
    shutil.rmtree(root / "VOCdevkit" / "VOC2012")
    assert "half a data set: no image in" in refused(root)
    shutil.rmtree(root / "VOCdevkit" / "VOC2007")
    assert "no voc0712 in" in refused(root)
