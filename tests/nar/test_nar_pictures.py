"""Drawn networks say what the library counts; strips say what they are of."""

import numpy as np
import pytest

from data_prep import classification, faces
from papers_lib.datasets.faces import load
from papers_lib.errors import PapersError
from papers_lib.nar import bench
from papers_lib.nar.counting import count
from papers_lib.nar.study import Settings, images, vectors


def test_a_drawn_network_has_the_cost_and_the_ranks_of_its_vector():
    figure = vectors.network(block_1=2, block_8=1)
    parameters, macs = count((2, 0, 0, 0, 0, 0, 0, 1))
    entry = bench.load().query((2, 0, 0, 0, 0, 0, 0, 1))
    (words,) = figure.data["words"]
    assert f"{parameters / 1e6:.2f} M parameters" in words and f"{macs / 1e9:.2f} G operations" in words
    for kind, told in (("pretrain", "with PreTrain"), ("plain", "without PreTrain")):
        assert f"{min(entry.rank[kind]):,.0f} to {max(entry.rank[kind]):,.0f} {told}" in words
    assert ("not trained alone" in words) == (not entry.trained)
    assert words.splitlines()[1] in figure.alt and figure.png


def test_the_untouched_network_saves_nothing_and_its_trainings_are_told():
    (words,) = vectors.network(block_1=0).data["words"]
    assert "11.69 M parameters" in words and "1.81 G operations, 0.0% saved" in words  # as torchvision's
    alone = bench.load().query((0,) * 8).trained
    told = (
        f"trained alone {len(alone)} times: {100 * np.mean(alone):.1f} %, ± {100 * np.std(alone, ddof=1):.1f}"
    )
    assert told in words


def test_the_networks_of_table_4_are_drawn():
    figure = vectors.architectures()
    assert figure.data["vector"].str.count("1").tolist() == [0, 1, 2]
    saved = [text.rsplit(", ", 1)[1] for text in figure.data["words"]]
    assert saved == ["0.0% saved", "11.1% saved", "19.7% saved"]


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """A folder with small stand-ins of both sets, as `make data` leaves them."""
    root = tmp_path_factory.mktemp("data") / "standin"
    for made, options in (
        (classification.STAND_INS["cifar10"], {"train": "3", "test": "2"}),
        (faces.STAND_INS["faces_emore"], {"identities": "4", "shots": "3", "pairs": "2", "pixels": "24"}),
    ):
        (root / made.name).mkdir(parents=True)
        made.make(root / made.name, "smoke", options)
    return root.parent


@pytest.fixture
def drawn(rendered, monkeypatch):
    monkeypatch.setenv("PAPERS_DATA", str(rendered))
    return rendered


def test_a_strip_has_a_row_per_view_and_says_that_it_is_drawn(drawn):
    figure = images.strip(Settings(profile="frozen"))
    assert "stand-ins" in figure.badge
    assert list(dict.fromkeys(figure.data["label"])) == ["32 pixels", "12 pixels", "cropped and\nmirrored"]
    assert figure.data.groupby("row").size().tolist() == [images.CLASSES] * 3
    assert figure.data["image"].iloc[:3].tolist() == ["train 0", "train 3", "train 6"]  # three of each class
    captions = figure.data["caption"].tolist()
    assert set(captions[: -images.CLASSES]) == {""} and all(captions[-images.CLASSES :])
    assert "12 pixels" not in images.strip(Settings(profile="medium")).data["label"].tolist()


def test_a_strip_is_of_the_readers_folder_where_one_is_given(drawn, tmp_path):
    with pytest.raises(PapersError, match="nowhere"):
        images.strip(Settings(profile="frozen", data_root=str(tmp_path / "nowhere")))


def test_faces_are_framed_by_what_the_pairs_are(drawn):
    figure = images.drawn_faces(identities=2, images=3, pairs=2)
    assert "stand-ins" in figure.badge
    shown = figure.data.groupby("label", sort=False).size().to_dict()
    assert shown == {"identity 1": 3, "identity 2": 3, "one person": 4, "two people": 4}
    test = load(drawn / "standin", "faces_emore").tests["lfw"]
    same = {(int(a), int(b)) for a, b, s in zip(test.first, test.second, test.same, strict=True) if s}
    for label, is_same in (("one person", True), ("two people", False)):
        names = figure.data[figure.data["label"] == label]["image"].str.removeprefix("lfw ").astype(int)
        pairs = list(zip(names[::2], names[1::2], strict=True))
        assert [pair in same for pair in pairs] == [is_same] * 2
