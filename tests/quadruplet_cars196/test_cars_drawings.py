"""What the explorer's plane shows is the rule of `select`, and its two ends are known rules."""

import pytest

from papers_lib.quadruplet_cars196.selection import select
from papers_lib.quadruplet_cars196.study.drawings import METHODS, choose, plane, toy

REFERENCES = range(30)  # the sixth model is alone in its type


@pytest.mark.parametrize("method", METHODS)
def test_the_sphere_at_its_own_radius_is_the_rule_of_training(method):
    points, fine, coarse = toy()
    chosen = select(points, fine, coarse, method=method).quadruplets.tolist()
    assert [choose(1, reference, method) for reference in REFERENCES] == chosen


@pytest.mark.parametrize("reference", [0, 7, 14, 21, 28])
def test_without_a_sphere_method_2_takes_the_nearest_and_inside_a_large_one_the_furthest(reference):
    points, fine, coarse = toy()
    far = [float(((points[i] - points[reference]) ** 2).sum()) for i in range(len(points))]
    mates = [i for i in range(36) if fine[i] == fine[reference] and i != reference]
    siblings = [i for i in range(36) if coarse[i] == coarse[reference] and fine[i] != fine[reference]]
    nearest, furthest = (
        [end(group, key=far.__getitem__) for group in (mates, siblings)] for end in (min, max)
    )
    assert choose(0, reference, "method_2")[1:3] == nearest
    for method in METHODS:
        assert choose(100, reference, method)[1:3] == furthest


def test_the_plane_marks_what_was_chosen():
    data = plane(2, 14).data
    for method, points in data.groupby("method"):
        roles = points["role"].tolist()
        assert [roles.index(role) for role in ("R", "P+", "P−", "N")] == choose(2, 14, method)
