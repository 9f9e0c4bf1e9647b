"""Selection against a plain loop over references, and the properties that the paper states."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from papers_lib.errors import PapersError
from papers_lib.quadruplet_cars196.selection import METHODS, select

NEAREST = METHODS[1:]


def world(seed, count=48, classes=12, types=4, spread=1.0, integer=False):
    """Features, fine and coarse labels; type 0 is never alone. Integer points are full of ties."""
    g = torch.Generator().manual_seed(seed)
    types_of = torch.randint(0, types, (classes,), generator=g)
    types_of[:4] = torch.tensor([0, 0, 1, 1])
    fine = torch.randint(0, classes, (count,), generator=g)
    fine[:4] = torch.arange(4)
    if integer:
        x = torch.randint(-2, 3, (count, 3), generator=g).double()
    else:
        centre = torch.randn(classes, 8, generator=g, dtype=torch.float64)
        x = spread * centre[fine] + torch.randn(count, 8, generator=g, dtype=torch.float64)
        x = torch.nn.functional.normalize(x, dim=1)
    return x, fine * 7 - 3, types_of[fine] * 5 + 1  # labels need not be 0, 1, 2, …


def slow(x, fine, coarse, method, r):
    """One reference by the sentences of Section 3.3, or None where no quadruplet exists."""
    everyone = range(len(x))
    to_r = [math.dist(x[i], x[r]) for i in everyone]

    def nearest(members, key):
        return min(members, key=lambda i: (key[i], i))

    n = nearest([i for i in everyone if coarse[i] != coarse[r]], to_r)
    to_n = [math.dist(x[i], x[n]) for i in everyone]

    def outside(members):
        far = [i for i in members if to_r[i] > to_r[n]]
        if far:
            return nearest(far, to_n if method == "method_1" else to_r), False
        return furthest(members), True

    def furthest(members):
        return max(members, key=lambda i: (to_r[i], -i))

    own = [i for i in everyone if fine[i] == fine[r] and i != r]
    other = [i for i in everyone if coarse[i] == coarse[r] and fine[i] != fine[r]]
    if not own or not other:
        return None
    p = (furthest(own), False) if method == "furthest_positive" else outside(own)
    m = (nearest(other, to_r), False) if method == "nearest_sibling" else outside(other)
    return [r, p[0], m[0], n], p[1], m[1]


def all_slow(x, fine, coarse, method):
    points, fine, coarse = x.tolist(), fine.tolist(), coarse.tolist()
    return [f for r in range(len(x)) if (f := slow(points, fine, coarse, method, r))]


def assert_equal(found, expected):
    assert found.quadruplets.tolist() == [e[0] for e in expected]
    assert found.positive_fallback.tolist() == [e[1] for e in expected]
    assert found.sibling_fallback.tolist() == [e[2] for e in expected]


@pytest.mark.parametrize("method", NEAREST)
@pytest.mark.parametrize("spread", [0.0, 1.0, 6.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_equals_the_loop_over_references(method, seed, spread):
    data = world(seed, spread=spread)
    expected = all_slow(*data, method)
    assert_equal(select(*data, method), expected)
    assert_equal(select(*data, method, chunk=16), expected)  # the other path: pairs of types


@pytest.mark.parametrize("method", NEAREST)
@pytest.mark.parametrize("chunk", [1024, 16, 5, 1])
@pytest.mark.parametrize("seed", [3, 4, 5])
def test_ties_and_duplicates_go_to_the_lowest_index(method, chunk, seed):
    data = world(seed, count=40, integer=True)
    assert len(data[0].unique(dim=0)) < len(data[0])
    assert_equal(select(*data, method, chunk=chunk), all_slow(*data, method))


def test_points_of_any_length_are_compared_by_distance_not_by_product():
    x, fine, coarse = world(6)
    x = x * torch.linspace(0.1, 3, len(x))[:, None] + 5
    for chunk in (1024, 8):
        assert_equal(select(x, fine, coarse, chunk=chunk), all_slow(x, fine, coarse, "method_2"))


def test_the_fallbacks_were_seen_both_ways():
    """Otherwise the tests above would prove nothing about them."""
    counts = [select(*world(0, spread=s)).fallback_counts for s in (0.0, 6.0)]
    assert counts[0]["positive"] < counts[1]["positive"]
    assert counts[1]["positive"] > 0
    tight = world(1, count=80, classes=8, types=2, spread=0.0)
    near_types = tight[2] * 100.0
    found = select(tight[0] * 0.01 + near_types[:, None], *tight[1:])
    assert found.sibling_fallback.all() and found.positive_fallback.all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), method=st.sampled_from(METHODS), chunk=st.sampled_from([9, 1024]))
def test_mined_quadruplets_keep_the_papers_constraints(seed, method, chunk):
    x, fine, coarse = world(seed, count=30, classes=8, types=3, spread=seed % 5)
    found = select(x, fine, coarse, method, chunk=chunk)
    r, p, m, n = found.quadruplets.unbind(1)
    assert (fine[p] == fine[r]).all() and (p != r).all()
    assert (coarse[m] == coarse[r]).all() and (fine[m] != fine[r]).all()
    assert (coarse[n] != coarse[r]).all()
    assert len(r) + sum(found.left_out.values()) == len(x)
    if method == "random":
        return
    d = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    radius = d[r, n]
    other = torch.where(coarse[r, None] != coarse, d[r], torch.inf)
    torch.testing.assert_close(radius, other.amin(1))  # the nearest negative
    if method in ("method_1", "method_2"):
        assert (d[r, p] > radius)[~found.positive_fallback].all()
        assert (d[r, m] > radius)[~found.sibling_fallback].all()
        assert (d[r, p] <= radius)[found.positive_fallback].all()


@pytest.mark.parametrize("method", NEAREST)
def test_does_not_depend_on_the_order_of_the_rows(method):
    x, fine, coarse = world(7)
    shuffle = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    there = select(x[shuffle], fine[shuffle], coarse[shuffle], method, chunk=16)
    back = shuffle[there.quadruplets]
    here = select(x, fine, coarse, method, chunk=16).quadruplets
    assert torch.equal(back[back[:, 0].argsort()], here)


@pytest.mark.parametrize("method", NEAREST)
@pytest.mark.parametrize("sibling", ["union"])
def test_some_anchors_are_rows_of_the_whole_result(method, sibling):
    data = world(8)
    whole = select(*data, method, sibling=sibling, chunk=16)
    kept = whole.quadruplets[:, 0]
    for count in (1, 3, len(kept)):
        pick = torch.randperm(len(kept), generator=torch.Generator().manual_seed(count))[:count]
        some = select(*data, method, anchors=kept[pick], chunk=16)
        assert torch.equal(some.quadruplets, whole.quadruplets[pick])
        assert torch.equal(some.positive_fallback, whole.positive_fallback[pick])
    assert select(*data, method, anchors=[]).quadruplets.shape == (0, 4)


def line(positions, fine, coarse):
    """Points on a line, which the eye can check."""
    return torch.tensor(positions)[:, None], torch.tensor(fine), torch.tensor(coarse)


def test_method_2_on_a_line():
    #            R    P in  P out  P far  M in  M out  N    N far
    data = line([0.0, 1.0, -2.5, 9.0, 0.5, 2.1, 2.0, 8.0], [0, 0, 0, 0, 1, 1, 2, 2], [0] * 6 + [1] * 2)
    assert select(*data, "method_2", anchors=[0]).quadruplets.tolist() == [[0, 2, 5, 6]]
    # Method 1 wants to be near N at 2: the P at −2.5 is 4.5 away, the one at 9 is 7.
    assert select(*data, "method_1", anchors=[0]).quadruplets.tolist() == [[0, 2, 5, 6]]
    assert select(*data, "nearest_sibling", anchors=[0]).quadruplets.tolist() == [[0, 2, 4, 6]]
    assert select(*data, "furthest_positive", anchors=[0]).quadruplets.tolist() == [[0, 3, 5, 6]]


def test_the_sphere_itself_is_not_outside():
    data = line([0.0, -2.0, 3.0, 5.0, 2.0], [0, 0, 1, 1, 2], [0, 0, 0, 0, 1])
    found = select(*data, anchors=[0])
    assert found.quadruplets.tolist() == [[0, 1, 2, 4]]
    assert found.positive_fallback.tolist() == [True]  # at the very distance of N


def test_only_method_1_looks_at_distances_from_the_negative():
    """Erratum E9: turn P's candidates about R, their distances to R unchanged, and see who notices."""

    def plane(angle_near, angle_far):
        turns = [(0, 0), (3.0, angle_near), (4.0, angle_far), (5.0, 90), (2.0, 0)]
        xy = [(r * math.cos(math.radians(a)), r * math.sin(math.radians(a))) for r, a in turns]
        return (
            torch.tensor(xy, dtype=torch.float64),
            torch.tensor([0, 0, 0, 1, 2]),
            torch.tensor([0, 0, 0, 0, 1]),
        )

    before, after = plane(0, 180), plane(180, 0)
    moved = [
        method
        for method in NEAREST
        if select(*before, method, anchors=[0]).quadruplets.tolist()
        != select(*after, method, anchors=[0]).quadruplets.tolist()
    ]
    assert moved == ["method_1"]


LONELY = line(
    [0.0, 1.0, 2.0, 3.0, 9.0, 5.0, 6.0],  # class 3 has one image, type 1 has one class
    [0, 0, 1, 1, 3, 4, 4],
    [0, 0, 0, 0, 0, 1, 1],
)


@pytest.mark.parametrize("method", METHODS)
def test_anchors_without_positive_or_sibling_are_left_out_and_counted(method):
    found = select(*LONELY, method)
    assert found.quadruplets[:, 0].tolist() == [0, 1, 2, 3]
    assert found.left_out == {"no_positive": 1, "no_sibling": 2, "dropped": 0}
    assert found.fallback_counts["no_sibling"] == 2
    assert found.valid.all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("chunk", [1024, 2])
def test_mask_keeps_anchors_without_sibling_and_marks_them(method, chunk):
    found = select(*LONELY, method, no_sibling="mask", chunk=chunk)
    assert found.quadruplets[:, 0].tolist() == [0, 1, 2, 3, 5, 6]
    assert found.valid.tolist() == [True] * 4 + [False] * 2
    r, p, m, _ = found.quadruplets[~found.valid].unbind(1)
    assert torch.equal(m, r) and p.tolist() == [6, 5]
    assert not found.sibling_fallback[~found.valid].any()


def test_method_1_can_drop_what_would_fall_back():
    data = world(0, spread=3.0)
    kept = select(*data, "method_1")
    dropped = select(*data, "method_1", m1_fallback="drop")
    clean = ~(kept.positive_fallback | kept.sibling_fallback)
    assert 0 < clean.sum() < len(clean)
    assert torch.equal(dropped.quadruplets, kept.quadruplets[clean])
    assert dropped.left_out["dropped"] == (~clean).sum()
    same = select(*data, "method_2", m1_fallback="drop")  # an option of Method 1 alone
    assert torch.equal(same.quadruplets, select(*data, "method_2").quadruplets)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("chunk", [1024, 10])
def test_a_random_sibling_class_is_drawn_before_the_sample(method, chunk):
    """The literal reading of 3.3.2: M comes from one class, by the method's rule inside it."""
    x, fine, coarse = world(2, count=60, classes=9, types=2)
    seen = set()
    for seed in range(8):
        g = torch.Generator().manual_seed(seed)
        found = select(x, fine, coarse, method, sibling="random", generator=g, chunk=chunk)
        r, _, m, n = found.quadruplets.unbind(1)
        assert (coarse[m] == coarse[r]).all() and (fine[m] != fine[r]).all()
        seen |= set(zip(r.tolist(), fine[m].tolist(), strict=True))
        if method == "method_2":
            d = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
            for i in range(len(r)):
                members = (fine == fine[m[i]]).nonzero()[:, 0]
                far = members[d[r[i], members] > d[r[i], n[i]]]
                best = far[d[r[i], far].argmin()] if len(far) else members[d[r[i], members].argmax()]
                assert m[i] == best
    pairs = sum(len(set(fine[coarse == t].tolist())) - 1 for t in coarse[r].tolist())
    assert len(seen) > 0.7 * pairs  # every sibling class has its turn


def test_random_members_are_uniform_over_the_valid_ones():
    fine = torch.tensor([0, 1, 2, 0, 1, 2, 3, 0, 3, 3])
    coarse = torch.tensor([0, 0, 0, 0, 0, 0, 1, 0, 1, 1])
    x = torch.zeros(10, 2)
    times = 6000
    found = select(
        x,
        fine,
        coarse,
        "random",
        anchors=[3] * times,
        generator=torch.Generator().manual_seed(0),
    )
    _, p, m, n = found.quadruplets.unbind(1)
    for members, valid in ((p, [0, 7]), (m, [1, 2, 4, 5]), (n, [6, 8, 9])):
        share = members.bincount(minlength=10) / times
        assert share[valid].sum() == pytest.approx(1)
        assert share[valid].tolist() == pytest.approx([1 / len(valid)] * len(valid), abs=0.03)


@pytest.mark.parametrize("sibling", ["union", "random"])
def test_random_is_seeded(sibling):
    data = world(3)

    def draw(seed):
        g = torch.Generator().manual_seed(seed)
        return select(*data, "random", sibling=sibling, generator=g).quadruplets

    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_computes_in_float32_at_least_and_without_gradient(dtype):
    x, fine, coarse = world(5)
    x = x.to(dtype).requires_grad_()
    before = torch.get_float32_matmul_precision()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = select(x, fine, coarse)
    assert torch.get_float32_matmul_precision() == before
    assert torch.equal(found.quadruplets, select(x.double(), fine, coarse).quadruplets)
    assert not found.quadruplets.requires_grad


def test_one_type_class_in_two_types_and_other_broken_input():
    x, fine, coarse = world(0)
    broken_x = x.clone()
    broken_x[3, 1] = torch.nan
    torn = coarse.clone()
    torn[(fine == fine[0]).nonzero()[0, 0]] += 5
    for arguments, options, says in (
        ((x, fine, torch.zeros_like(coarse)), {}, "one coarse type"),
        ((x, fine, torn), {}, "two coarse types"),
        ((broken_x, fine, coarse), {}, "NaN"),
        ((x, fine[:-1], coarse), {}, r"must be integers"),
        ((x, fine, coarse), {"anchors": [len(x)]}, "anchors run from"),
        ((x, fine, coarse), {"anchors": [-1]}, "anchors run from"),
        ((x, fine, coarse), {"method": "method_3"}, "method_1, method_2"),
        ((x, fine, coarse), {"sibling": "any"}, "union, random"),
        ((x, fine, coarse), {"chunk": 0}, "chunk"),
    ):
        with pytest.raises(PapersError, match=says) as error:
            select(*arguments, **options)
        assert "\n" not in str(error.value)
