"""The rendered objects: a class is its shape, and nothing else tells it."""

from __future__ import annotations

import numpy as np
import pytest

from data_prep import objects


def test_classes_are_bodies_with_parts():
    assert len(set(objects.CLASSES)) == len(objects.CLASSES) == 80
    first = [name.split("_with_") for name in objects.CLASSES[:20]]
    assert (len({body for body, _ in first}), len({part for _, part in first})) == (4, 5)


@pytest.mark.parametrize("size", [10, 33, 64])
def test_an_object_fills_its_square_and_no_more(size):
    for label in range(0, 80, 7):
        rgb, mask = objects.draw(label, size, np.random.default_rng(label))
        assert (rgb.shape, rgb.dtype, mask.shape, mask.dtype) == (
            (size, size, 3),
            np.uint8,
            (size, size),
            bool,
        )
        assert 0.05 < mask.mean() < 0.8


def test_the_same_seed_gives_the_same_picture():
    pictures = [objects.scene(3, 32, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert (pictures[0] == pictures[1]).all()
    assert (pictures[0] != pictures[2]).any()


def test_shapes_tell_the_class_and_mean_colours_do_not():
    """A nearest mean of aligned masks is far above chance, one of mean colours is not."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 40)
    drawn = [objects.draw(int(label), 24, rng) for label in labels]
    masks = np.stack([mask.ravel() for _, mask in drawn]).astype(float)
    colours = np.stack([objects.scene(int(label), 24, rng).mean((0, 1)) for label in labels])

    def accuracy(features: np.ndarray) -> float:
        train, test = np.arange(400) % 2 == 0, np.arange(400) % 2 == 1
        means = np.stack([features[train & (labels == c)].mean(0) for c in range(10)])
        nearest = ((features[test][:, None] - means[None]) ** 2).sum(2).argmin(1)
        return float((nearest == labels[test]).mean())

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


def test_backgrounds_have_any_shape():
    assert objects.background(20, 31, np.random.default_rng(0)).shape == (20, 31, 3)
