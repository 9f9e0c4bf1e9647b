"""Selection against a plain loop over references, and what the paper says of its members."""

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

    def furthest(members):
        return max(members, key=lambda i: (to_r[i], -i))

    def outside(members):
        far = [i for i in members if to_r[i] > to_r[n]]
        to_target = to_n if method == "method_1" else to_r
        return (nearest(far, to_target), False) if far else (furthest(members), True)

    own = [i for i in everyone if fine[i] == fine[r] and i != r]
    other = [i for i in everyone if coarse[i] == coarse[r] and fine[i] != fine[r]]
    if not own or not other:
        return None
    p = (furthest(own), False) if method == "furthest_positive" else outside(own)
    m = (nearest(other, to_r), False) if method == "nearest_sibling" else outside(other)
    return [r, p[0], m[0], n], p[1], m[1]


def assert_is_the_loop(data, method, **options):
    """`select` on `data` is the loop; returns how often P and M were fallbacks."""
    points = [values.tolist() for values in data]
    found = select(*data, method, **options)
    expected = [row for r in range(len(data[0])) if (row := slow(*points, method, r))]
    assert found.quadruplets.tolist() == [e[0] for e in expected]
    assert found.positive_fallback.tolist() == [e[1] for e in expected]
    assert found.sibling_fallback.tolist() == [e[2] for e in expected]
    assert len(expected) + sum(found.left_out.values()) == len(data[0])
    return found.fallback_counts["positive"], found.fallback_counts["sibling"]


@pytest.mark.parametrize("method", NEAREST)
@pytest.mark.parametrize(
    ("chunk", "seed"), [(1024, 0), (16, 1), (5, 0), (1, 1)]
)  # all at once, or pairs of types
def test_equals_the_loop_over_references(method, chunk, seed):
    loose, _, tight = (
        assert_is_the_loop(world(seed, spread=spread), method, chunk=chunk) for spread in (0.0, 1.0, 6.0)
    )
    assert method == "furthest_positive" or loose[0] < tight[0]  # fallbacks were seen, and choices too
    ties = world(seed + 3, count=40, integer=True)
    assert len(ties[0].unique(dim=0)) < len(ties[0])
    assert_is_the_loop(ties, method, chunk=chunk)  # the lowest index wins
    x, *labels = world(6)  # by distance, not by product
    assert_is_the_loop((x * torch.linspace(0.1, 3, len(x))[:, None] + 5, *labels), method, chunk=chunk)
    x, fine, coarse = world(1, count=80, classes=8, types=2, spread=0.0)
    apart = (x * 0.01 + coarse[:, None] * 100.0, fine, coarse)  # nothing of a type is outside its spheres
    fallbacks = (80 * (method != "furthest_positive"), 80 * (method != "nearest_sibling"))
    assert assert_is_the_loop(apart, method, chunk=chunk) == fallbacks


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), method=st.sampled_from(NEAREST), chunk=st.sampled_from([9, 1024]))
def test_equals_the_loop_whatever_the_layout_of_labels(seed, method, chunk):
    layout = {"count": 8 + seed % 23, "classes": 5 + seed % 5, "types": 2 + seed % 3}
    assert_is_the_loop(world(seed, spread=seed % 5, **layout), method, chunk=chunk)


@pytest.mark.parametrize("method", NEAREST)
def test_some_anchors_in_any_order_are_rows_of_the_whole_result(method):
    x, fine, coarse = world(8)
    whole = select(x, fine, coarse, method, chunk=16)
    kept = whole.quadruplets[:, 0]
    for count in (1, 3, len(kept)):
        pick = torch.randperm(len(kept), generator=torch.Generator().manual_seed(count))[:count]
        some = select(x, fine, coarse, method, anchors=kept[pick], chunk=16)
        for name in ("quadruplets", "valid", "positive_fallback", "sibling_fallback"):
            assert torch.equal(getattr(some, name), getattr(whole.part(pick), name)), name
    assert select(x, fine, coarse, method, anchors=[]).quadruplets.shape == (0, 4)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    back = order[select(x[order], fine[order], coarse[order], method, chunk=16).quadruplets]
    assert torch.equal(back[back[:, 0].argsort()], whole.quadruplets)


# Class 3 has one image, type 1 has one class.
LONELY = (
    torch.tensor([[0.0], [1], [2], [3], [9], [5], [6]]),
    torch.tensor([0, 0, 1, 1, 3, 4, 4]),
    torch.tensor([0, 0, 0, 0, 0, 1, 1]),
)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("chunk", [1024, 2])
def test_anchors_without_positive_or_sibling_are_left_out_or_marked(method, chunk):
    found = select(*LONELY, method, chunk=chunk)
    assert found.quadruplets[:, 0].tolist() == [0, 1, 2, 3] and found.valid.all()
    assert found.left_out == {"no_positive": 1, "no_sibling": 2, "dropped": 0}
    assert found.fallback_counts["no_sibling"] == 2
    found = select(*LONELY, method, no_sibling="mask", chunk=chunk)
    assert found.quadruplets[:, 0].tolist() == [0, 1, 2, 3, 5, 6]
    assert found.valid.tolist() == [True] * 4 + [False] * 2
    r, p, m, _ = found.quadruplets[~found.valid].unbind(1)
    assert torch.equal(m, r) and p.tolist() == [6, 5]
    assert not found.sibling_fallback[~found.valid].any()


def test_method_1_can_drop_what_would_fall_back():
    data = world(0, spread=3.0)
    kept, dropped = select(*data, "method_1"), select(*data, "method_1", m1_fallback="drop")
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
    d = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    seen = set()
    for seed in range(8):
        g = torch.Generator().manual_seed(seed)
        found = select(x, fine, coarse, method, sibling="random", generator=g, chunk=chunk)
        r, _, m, n = found.quadruplets.unbind(1)
        assert (coarse[m] == coarse[r]).all() and (fine[m] != fine[r]).all()
        seen |= set(zip(r.tolist(), fine[m].tolist(), strict=True))
        for i in range(len(r) if method == "method_2" else 0):
            members = (fine == fine[m[i]]).nonzero()[:, 0]
            far = members[d[r[i], members] > d[r[i], n[i]]]
            best = far[d[r[i], far].argmin()] if len(far) else members[d[r[i], members].argmax()]
            assert m[i] == best
    pairs = sum(len(set(fine[coarse == t].tolist())) - 1 for t in coarse[r].tolist())
    assert len(seen) > 0.7 * pairs  # every sibling class has its turn


def test_random_members_are_uniform_over_the_valid_ones_and_seeded():
    fine = torch.tensor([0, 1, 2, 0, 1, 2, 3, 0, 3, 3])
    coarse = torch.tensor([0, 0, 0, 0, 0, 0, 1, 0, 1, 1])
    for sibling in ("union", "random"):
        options = {"method": "random", "anchors": [3] * 6000, "sibling": sibling}
        lots = [torch.Generator().manual_seed(seed) for seed in (0, 0, 1)]
        found, same, other = (
            select(torch.zeros(10, 2), fine, coarse, **options, generator=lot).quadruplets for lot in lots
        )
        assert torch.equal(found, same) and not torch.equal(found, other)
        assert (found[:, 0] == 3).all()
        for column, valid in ((1, [0, 7]), (2, [1, 2, 4, 5]), (3, [6, 8, 9])):
            share = found[:, column].bincount(minlength=10) / 6000
            assert share[valid].tolist() == pytest.approx([1 / len(valid)] * len(valid), abs=0.03)
            assert share[valid].sum() == pytest.approx(1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_computes_in_float32_at_least_and_without_gradient(dtype):
    x, fine, coarse = world(5)
    x = x.to(dtype).requires_grad_()
    found = select(x, fine, coarse).quadruplets
    assert torch.equal(found, select(x.double(), fine, coarse).quadruplets)
    assert not found.requires_grad


def test_one_type_class_in_two_types_and_unknown_options():
    x, fine, coarse = world(0)
    torn = coarse.clone()
    torn[(fine == fine[0]).nonzero()[0, 0]] += 5
    for types, options, says in (
        (torch.zeros_like(coarse), {}, "one coarse type"),
        (torn, {}, "two coarse types"),
        (coarse, {"method": "method_3"}, "method_1, method_2"),
        (coarse, {"sibling": "any"}, "union, random"),
        (coarse, {"chunk": 0}, "chunk"),
    ):
        with pytest.raises(PapersError, match=says) as error:
            select(x, fine, types, **options)
        assert "\n" not in str(error.value)
