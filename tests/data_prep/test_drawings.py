"""What the drawings show: each trait is seen."""

import copy

import numpy as np
import pytest

from data_prep import face_drawings, objects
from data_prep.pedestrians import BAGS, HAIRS, LOWERS, PATTERNS, Look, Passage, Person, network, render
from data_prep.vehicles import STYLES, Vehicle
from data_prep.vehicles import render as render_vehicle

LOOK = Look(gap=0.3, occ=0.0, clutter=1.0, jit=0.7, lum=0.05)


def rng(*seed):
    return np.random.default_rng(seed)


def changed(thing, **values):
    other = copy.copy(thing)
    vars(other).update(values)
    return other


# -- vehicles --


@pytest.mark.parametrize("style", STYLES)
def test_a_vehicle_follows_its_model_and_the_image_and_its_dimensions_stay_in_order(style):
    def pixels(model, image):
        return np.asarray(render_vehicle(Vehicle(style, rng(model)), 24, rng(image)))

    assert pixels(0, 0).shape == (24, 24, 3)
    assert (pixels(0, 0) != pixels(1, 0)).any()
    assert (pixels(0, 0) != pixels(0, 1)).mean() > 0.5
    for seed in range(50):
        vehicle = Vehicle(style, rng(seed))
        assert 0 < vehicle.screen < vehicle.front < vehicle.back < vehicle.rear < vehicle.length


# -- pedestrians --


def shot(who, camera, passage=0, image=0, masked=False):
    return np.asarray(render(who, camera, Passage(camera, rng(passage)), rng(image), masked), dtype=float)


def test_a_picture_follows_the_person_the_camera_the_passage_and_the_image():
    here, there = network(32, LOOK, 2, rng(1))
    somebody, other = Person(rng(3)), Person(rng(4))
    first = shot(somebody, here)
    assert first.shape == (32, 16, 3)
    assert (first != shot(other, here)).any()
    for another in (shot(somebody, there), shot(somebody, here, 1), shot(somebody, here, image=1)):
        assert (first != another).mean() > 0.5


@pytest.mark.parametrize(
    ("field", "kinds"), [("pattern", PATTERNS), ("lower", LOWERS), ("bag", BAGS), ("hair", HAIRS)]
)
def test_every_kind_looks_different_from_every_other(field, kinds):
    camera, _ = network(64, LOOK._replace(jit=0.0), 2, rng(0))
    from_before = changed(Passage(camera, rng(0)), facing=0.3)
    people = [changed(Person(rng(5)), **{field: kind}) for kind in dict.fromkeys(kinds)]
    seen = [np.asarray(render(who, camera, from_before, rng(0)), dtype=float) for who in people]
    for i, a in enumerate(seen):
        assert all(np.abs(a - b).max() > 20 for b in seen[:i])


def test_pictures_of_one_passage_are_nearer_than_those_of_two_cameras_and_gap_parts_them():
    who, apart = Person(rng(6)), []
    for gap in (0.0, 0.6):
        cameras = network(32, LOOK._replace(gap=gap), 6, rng(7))
        means = [np.mean([shot(who, c, image=i).mean((0, 1)) for i in range(4)], 0) for c in cameras]
        apart.append(np.std(means, 0).mean())
        within = np.abs(shot(who, cameras[0]) - shot(who, cameras[0], image=1)).mean()
        assert within < np.abs(shot(who, cameras[0]) - shot(who, cameras[1])).mean()
    assert apart[1] > 1.5 * apart[0]


def test_occlusion_hides_and_masking_touches_the_head_alone():
    who = Person(rng(8))
    (free, _), (blocked, _) = (network(64, LOOK._replace(occ=occ), 2, rng(9)) for occ in (0.0, 0.5))
    blocked.occ = 1.0
    assert np.abs(shot(who, free) - shot(who, blocked)).max() > 50
    difference = np.abs(shot(who, free) - shot(who, free, masked=True)).max((1, 2))
    assert difference.max() > 10
    assert not difference[32:].any()


# -- objects --


@pytest.mark.parametrize("size", [10, 33, 64])
def test_an_object_fills_its_square_and_no_more(size):
    for label in range(0, 80, 7):
        rgb, mask = objects.draw(label, size, rng(label))
        assert (rgb.shape, rgb.dtype) == ((size, size, 3), np.uint8)
        assert (mask.shape, mask.dtype) == ((size, size), bool)
        assert 0.05 < mask.mean() < 0.8


def test_shapes_tell_the_class_and_mean_colours_do_not():
    """A nearest mean of aligned masks is far above chance, one of mean colours is not."""
    stream = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 40)
    drawn = [objects.draw(int(label), 24, stream) for label in labels]
    masks = np.stack([mask.ravel() for _, mask in drawn]).astype(float)
    colours = np.stack([objects.scene(int(label), 24, stream).mean((0, 1)) for label in labels])

    def accuracy(features):
        train, test = np.arange(400) % 2 == 0, np.arange(400) % 2 == 1
        means = np.stack([features[train & (labels == c)].mean(0) for c in range(10)])
        nearest = ((features[test][:, None] - means[None]) ** 2).sum(2).argmin(1)
        return (nearest == labels[test]).mean()

    assert accuracy(masks) > 0.4
    assert accuracy(colours) < 0.2


def test_paste_keeps_inside_and_touches_the_mask_alone():
    picture = np.zeros((20, 30, 3), dtype=np.uint8)
    rgb, mask = np.full((12, 12, 3), 9, dtype=np.uint8), np.zeros((12, 12), dtype=bool)
    mask[2:, 3:] = True
    objects.paste(picture, rgb, mask, 25, 15)
    expected = np.zeros((20, 30), dtype=bool)
    expected[17:, 28:] = True
    assert ((picture[..., 0] == 9) == expected).all()


# -- faces --


def test_a_person_is_nearer_to_themselves_than_to_others():
    """Means of six pictures in half size, so that pose and light average out."""

    def mean(seed, start):
        who = face_drawings.Person(rng(0, seed))
        shots = [face_drawings.render(who, 16, rng(1, seed, start + i), yaw=0.1) for i in range(6)]
        return np.mean(shots, 0)[4:12, 4:12].ravel()

    first, second = (np.stack([mean(seed, start) for seed in range(8)]) for start in (0, 6))
    nearest = np.linalg.norm(first[:, None] - second[None], axis=2).argmin(1)
    assert (nearest == np.arange(8)).sum() >= 5  # one by chance


@pytest.mark.parametrize("style", face_drawings.STYLES)
def test_every_face_can_be_drawn_turned_and_old(style):
    who = changed(face_drawings.Person(rng(0)), style=style)
    who.shape.update(glasses=0.5, beard=0.5, mole=0.03)
    front, aside, old = (
        face_drawings.render(who, 32, rng(1), yaw, age) for yaw, age in ((0.0, 0.0), (1.2, 0.0), (0.0, 1.0))
    )
    assert (front.shape, front.dtype) == ((32, 32, 3), np.uint8)
    assert (front != aside).mean() > 0.1
    assert (front != old).any()
