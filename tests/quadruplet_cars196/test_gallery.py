"""The pictures show what their labels and distances say, on a tiny rendered data set."""

import pytest
import torch

from papers_lib.quadruplet_cars196.study import Settings, gallery


@pytest.fixture
def cars(places):
    return gallery.look(Settings(profile="frozen"))


def index_of(cars, name):
    return cars.table.files.index(cars.table.root / name)


def test_where_there_are_no_images_the_pictures_say_so(nowhere):
    assert gallery.look(Settings(profile="frozen")) is None
    for figure in (gallery.strip(None), gallery.quadruplets(None, 0), gallery.found(None, {}, [0])):
        assert figure.data.empty and "make data" in figure.footer


def test_a_folder_of_the_reader_is_read_and_named(places, tiny_cars):
    cars = gallery.look(Settings(profile="frozen", data_root=str(tiny_cars / "standin")))
    assert cars.badge == "rendered stand-ins, no photographs" and len(cars.vectors) == len(cars.table.files)


def test_the_strip_has_each_image_under_its_two_labels(cars):
    shown = gallery.strip(cars).data
    assert shown["label"].nunique() == 2
    for row in shown.itertuples():
        model = cars.table.class_names[int(cars.fine[index_of(cars, row.image)])]
        make = row.caption.rstrip("…")
        assert model.startswith(make) and f" {row.label} " in model


def test_quadruplets_keep_to_the_labels_and_both_methods_take_the_nearest_negative(cars):
    reference = gallery.references(cars)[0][1]
    shown = gallery.quadruplets(cars, reference).data
    far = (cars.vectors - cars.vectors[reference]).norm(dim=1)
    other = cars.train & (cars.coarse != cars.coarse[reference])
    nearest = int(torch.where(other, far, torch.inf).argmin())
    for method, row in shown.groupby("label"):
        r, p, m, n = (index_of(cars, name) for name in row["image"])
        assert r == reference != p and cars.fine[p] == cars.fine[r]
        assert cars.coarse[m] == cars.coarse[r] and cars.fine[m] != cars.fine[r]
        assert cars.coarse[n] != cars.coarse[r] and cars.train[[r, p, m, n]].all()
        assert n == nearest or method == "Random"


def test_found_are_the_nearest_of_the_unseen_and_captions_say_what_they_are(cars):
    perfect = torch.cat((100 * torch.nn.functional.one_hot(cars.fine), cars.vectors), 1)
    queries = [0, 5]
    shown = gallery.found(cars, {"before": cars.vectors, "after": perfect}, queries, k=3).data
    unseen = (~cars.train).nonzero()[:, 0].tolist()
    for query, label in ((q, label) for q in (1, 2) for label in ("before", "after")):
        row = shown[shown["label"] == f"query {query}, {label}"]
        vectors, reference = cars.vectors if label == "before" else perfect, unseen[queries[query - 1]]
        far = {i: float((vectors[i] - vectors[reference]).norm()) for i in unseen if i != reference}
        near = sorted(far, key=far.get)[:3]
        assert row["image"].tolist() == [cars.picture(i).name for i in [reference, *near]]
        for found, caption in zip(near, row["caption"].tolist()[1:], strict=True):
            expected = "type" if cars.coarse[found] == cars.coarse[reference] else "neither"
            assert caption == ("model" if cars.fine[found] == cars.fine[reference] else expected)


def test_training_brings_images_of_a_model_together(cars):
    before, after = gallery.train(cars, steps=60)
    fine = cars.fine[cars.train]
    same = fine[:, None] == fine
    far = [torch.cdist(x[cars.train], x[cars.train]) for x in (before, after)]
    spread = [float(d[same].mean() / d[~same].mean()) for d in far]
    assert spread[1] < 0.9 * spread[0]
