"""The pictures of data and the explorer of the rank, against the library's own functions."""

import numpy as np
import pytest

from papers_lib.datasets.classification import Classified, Split
from papers_lib.errors import PapersError
from papers_lib.median_triplet import prior
from papers_lib.median_triplet.study import explore
from papers_lib.settings import repository


def album(seed=0, classes=10, per_class=6):
    images = np.random.default_rng(seed).integers(0, 256, (classes * per_class, 32, 32, 3), np.uint8)
    images[0] = 200  # one that is plain
    names = tuple(f"class_{i}" for i in range(classes))
    return explore.Album(images, np.repeat(np.arange(classes), per_class), names, "")


@pytest.mark.parametrize(("k", "batch_size", "classes"), [(5, 128, 10), (2, 104, 1000), (64, 128, 2)])
def test_the_explorer_shows_the_tail_of_section_3_3(k, batch_size, classes):
    data = explore.expected(k, batch_size, classes).data
    assert data["k"].tolist() == list(range(1, batch_size))
    tail = prior.tail(batch_size - 1, 1 / classes, k)
    assert data["ideal"][k - 1] == pytest.approx(batch_size * tail, rel=1e-5)
    assert data["ignorant"].tolist() == pytest.approx([batch_size / classes] * (batch_size - 1), rel=1e-5)
    # Σ_k P(at least k) is the mean of the binomial: the images of the query's class
    mean = batch_size * (batch_size - 1) / classes
    assert data["ideal"].sum() == pytest.approx(mean, rel=1e-4)


def test_the_explorer_takes_a_rank_beyond_the_batch_as_its_last():
    assert "k = 31" in explore.expected(96, 32, 10).title
    assert "0.5109 of 104" in explore.expected(2, 104, 1000).title  # 104 · 4.912e−3
    with pytest.raises(PapersError, match="classes=0"):
        explore.expected(classes=0)


def test_features_that_know_the_class_rank_it_first():
    made = explore.negatives(album(), queries=(1, 27))
    rows = {label: part["colour"].tolist() for label, part in made.data.groupby("label", sort=False)}
    own, other = explore.OWN, explore.OTHER
    # five others of the class: rank 1 is a false negative, 13 and 30 are none
    assert rows["class 0,\nclass first"] == ["", own, other, other]
    assert rows["class 4,\nclass first"] == ["", own, other, other]
    assert made.data["caption"].tolist()[:4] == ["query", "rank 1", "rank 13", "rank 30"]


def test_a_rounding_of_a_pixel_changes_no_negative():
    folder = repository() / "data" / "standin"
    if not (folder / "cifar10").is_dir():
        pytest.skip("no stand-ins: make data")
    stand_ins = explore.album(str(folder))
    shown = explore.negatives(stand_ins)
    for seed in range(5):
        noise = np.random.default_rng(seed).integers(-1, 2, stand_ins.images.shape)
        rounded = np.clip(stand_ins.images + noise, 0, 255).astype(np.uint8)
        assert explore.negatives(stand_ins._replace(images=rounded)).csv() == shown.csv()


def test_colours_alone_take_the_image_of_the_same_colours():
    given = album()
    given.images[40] = np.clip(given.images[1].astype(int) + 1, 0, 255)  # of another class
    row = explore.negatives(given).data.query("row == 0")
    assert row["colour"].tolist()[1] == explore.OTHER
    points = explore.embedded(given)
    assert points.shape == (60, 48) and (points @ points.T)[1].topk(2).indices.tolist() == [1, 40]


def test_views_are_as_wide_as_the_image_and_named():
    made = explore.two_views(album())
    assert made.data["caption"].tolist() == ["as it is", "view 1", "view 2"] * 2
    with made.drawn() as canvas:
        shown = [np.asarray(axes.images[0].get_array()) for axes in canvas.axes if axes.images]
    assert {image.shape for image in shown} == {(32, 32, 3)} and (shown[0] == 200).all()


def test_the_strip_has_a_column_per_class():
    made = explore.strip(album(), rows=3)
    assert made.data["image"].tolist()[:2] == ["class_0 0", "class_1 0"] and len(made.data) == 30
    assert made.data["caption"].tolist()[-1] == "class 9"


def test_photographs_are_shown_where_they_are_given_else_stand_ins(tmp_path, monkeypatch):
    def load(root, name):
        if root.name == "empty":
            raise PapersError(f"no {name} under {root}")
        labels = np.array([1, 0, 1, 0, 1, 0])
        images = np.arange(6, dtype=np.uint8)[:, None, None, None] + np.zeros((6, 32, 32, 3), np.uint8)
        side = Split(images, labels)
        return Classified(name, "", root, side, side, ("a", "b"), root.name == "standin", "")

    monkeypatch.setattr(explore.classification, "load", load)
    real = explore.album(str(tmp_path / "photographs"), per_class=2)
    assert real.badge == "" and real.labels.tolist() == [0, 0, 1, 1]
    assert real.images[:, 0, 0, 0].tolist() == [1, 3, 0, 2]  # the first of each class
    assert explore.album().badge == "stand-in: rendered objects, no photographs"
    # a folder without the set is said, and does not end the chapter
    assert "no cifar10 under" in explore.album(str(tmp_path / "empty")).badge
