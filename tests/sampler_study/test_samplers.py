"""The samplers against plain loops over what each batch must hold."""

import math
from collections import Counter, defaultdict
from itertools import groupby

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from papers_lib.errors import PapersError
from papers_lib.sampler_study.grouping import pack
from papers_lib.sampler_study.reference_samplers import reference
from papers_lib.sampler_study.samplers import (
    GroupedSampler,
    GroupSampler,
    RandomSampler,
    TripletSampler,
    visits,
)

KS = (1, 2, 4, 8, 12, 16, 32)


def labelled(sizes: list[int], outliers: int = 0, seed: int = 0) -> torch.Tensor:
    """Labels of classes of these sizes and of outliers, in random order."""
    labels = torch.tensor([c for c, size in enumerate(sizes) for _ in range(size)] + [-1] * outliers)
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]


LABELS = labelled([1, 2, 3, 4, 6, 7, 9, 12, 15, 16, 17, 31, 33, 40, 64, 100] * 3, outliers=50)


def members(labels: torch.Tensor) -> dict[int, list[int]]:
    found = defaultdict(list)
    for image, label in enumerate(labels.tolist()):
        if label >= 0:
            found[label].append(image)
    return dict(found)


def flat(sampler: GroupedSampler) -> list[int]:
    return [int(i) for batch in sampler.batches() for i in batch]


# -- random and group --


def test_random_order_is_uniform():
    orders = Counter()
    sampler = RandomSampler([0, 0, 1, -1, 2], batch_size=4)
    for epoch in range(2400):
        sampler.set_epoch(epoch)
        orders[tuple(sampler)] += 1
    assert len(orders) == 24
    assert set(next(iter(orders))) == {0, 1, 2, 4}
    chi_square = sum((count - 100) ** 2 / 100 for count in orders.values())
    assert chi_square < 49.7  # 23 degrees of freedom, p = 0.001


@pytest.mark.parametrize("n", [1, 4, 12, 32, 200])
def test_a_pass_of_groups_holds_every_inlier_once_in_runs_of_n(n):
    sampler = GroupSampler(LABELS, n, batch_size=32, drop_last=False)
    drawn, images = flat(sampler), members(LABELS)
    assert sorted(drawn) == sorted(i for of in images.values() for i in of)
    assert len(sampler) == len(drawn) == int((LABELS >= 0).sum())
    # Taken greedily, groups of at most n of one class: ⌈size / n⌉ of each class, all but one of them full.
    runs = defaultdict(list)
    for label, run in groupby(LABELS[drawn].tolist()):
        runs[label].append(len(list(run)))
    for label, of in images.items():
        assert sum(length % n > 0 for length in runs[label]) == (len(of) % n > 0)


@pytest.mark.parametrize("n", [2, 12, 32])
def test_carried_groups_are_whole_and_packed_as_they_come(n: int):
    sampler = GroupSampler(LABELS, n, batch_size=32, partial_group="carry", drop_last=False)
    images = members(LABELS)
    for batch in sampler.batches():
        assert len(batch) <= 32
        for label, count in Counter(LABELS[batch].tolist()).items():
            assert count % n in (0, len(images[label]) % n)
    assert flat(sampler) == flat(GroupSampler(LABELS, n, batch_size=32, drop_last=False))


def test_a_batch_ends_only_where_the_next_group_does_not_fit():
    for seed in range(20):
        sizes = torch.randint(1, 9, (40,), generator=torch.Generator().manual_seed(seed))
        batches: list[list[int]] = [[]]
        for size in sizes.tolist():
            if sum(batches[-1]) + size > 12:
                batches.append([])
            batches[-1].append(size)
        assert pack(sizes, 12).tolist() == [len(batch) for batch in batches]


@pytest.mark.parametrize("n", [3, 12, 30])
@pytest.mark.parametrize("kind", [GroupSampler, TripletSampler])
def test_padded_batches_are_full_of_their_own_classes_distinct_first(n, kind):
    padded, carried = (kind(LABELS, n, batch_size=32, partial_group=way, seed=1) for way in ("pad", "carry"))
    images = members(LABELS)
    assert len(padded.batches()) == len(carried.batches())
    for full, whole in zip(padded.batches(), carried.batches(), strict=True):
        assert len(full) == 32
        assert full[: len(whole)].equal(whole)
        assert set(LABELS[full].tolist()) == set(LABELS[whole].tolist())
        held, more = Counter(whole.tolist()), full[len(whole) :].tolist()
        pool = [i for label in set(LABELS[whole].tolist()) for i in images[label]]
        for image in more:  # each is one of those that the batch holds least
            assert held[image] == min(held[i] for i in pool)
            held[image] += 1


def test_padding_is_shared_out_among_the_classes_of_a_batch():
    labels = labelled([40] * 6)
    for batch in TripletSampler(labels, 12, batch_size=32, partial_group="pad").batches():
        assert sorted(Counter(labels[batch].tolist()).values()) == [16, 16]
        assert len(set(batch.tolist())) == 32


# -- triplet --


@pytest.mark.parametrize("k", KS)
@pytest.mark.parametrize("partial_group", ["straddle", "carry"])
def test_triplets_hold_k_of_each_class_distinct_first_and_even(k: int, partial_group: str):
    sampler = TripletSampler(LABELS, k, batch_size=32, partial_group=partial_group, drop_last=False)
    drawn, images = flat(sampler), members(LABELS)
    assert len(drawn) == len(sampler) == k * len(images)
    groups = [drawn[i : i + k] for i in range(0, len(drawn), k)]
    assert sorted(int(LABELS[group[0]]) for group in groups) == sorted(images)
    for group in groups:
        own = images[int(LABELS[group[0]])]
        counts = Counter(group)
        assert set(counts) <= set(own)
        assert len(counts) == min(k, len(own))
        assert max(counts.values()) - min(counts.values()) <= 1
    whole = k * (32 // k) if partial_group == "carry" else 32
    assert {len(batch) for batch in sampler.batches()[:-1]} == {whole}
    assert sampler.batch_size == whole and TripletSampler(LABELS, k, 2).batch_size == 2 * k


def test_every_image_of_a_large_class_is_drawn_equally_often():
    sampler = TripletSampler(labelled([6, 6]), 4, 2)
    counts = Counter()
    for epoch in range(1500):
        sampler.set_epoch(epoch)
        counts.update(flat(sampler))
    sd = math.sqrt(1500 * (4 / 6) * (2 / 6))
    assert all(abs(count - 1000) < 4 * sd for count in counts.values())


def test_several_groups_of_a_class_share_no_image_until_all_were_drawn():
    labels = labelled([9, 12, 20])
    sampler = TripletSampler(labels, 4, batch_size=12, groups_per_class=3)
    counts = Counter(flat(sampler))
    by_class = {label: [counts[i] for i in images] for label, images in members(labels).items()}
    assert sorted(by_class[0]) == [1] * 6 + [2] * 3
    assert by_class[1] == [1] * 12
    assert sorted(by_class[2]) == [0] * 8 + [1] * 12


def test_other_cameras_come_before_the_anchors_own():
    labels, cameras = labelled([8, 8, 8, 8]), torch.arange(32) % 3
    sampler = TripletSampler(labels, 4, batch_size=16, cameras=cameras, prefer_other_cameras=True)
    for epoch in range(20):
        sampler.set_epoch(epoch)
        for group in torch.cat(sampler.batches()).view(-1, 4):
            other = cameras != cameras[group[0]]
            assert other[group[1:]].sum() == min(3, other[labels == labels[group[0]]].sum())
            assert len(group.unique()) == 4


# -- what all share --


def all_samplers(**options) -> list[GroupedSampler]:
    made = [RandomSampler(LABELS, batch_size=16, **options)]
    made += [kind(LABELS, 6, batch_size=16, **options) for kind in (GroupSampler, TripletSampler)]
    if options.get("partial_group", "straddle") == "straddle":
        cameras = torch.arange(len(LABELS)) % 3
        for name in ("cap", "spcl", "cluster_contrast", "group_sampling"):
            made.append(reference(name, LABELS, cameras, size=4, batch_size=16, **options))
    return made


@pytest.mark.parametrize("partial_group", ["straddle", "carry", "pad"])
@pytest.mark.parametrize("drop_last", [True, False])
def test_length_is_known_before_iterating_and_exact(partial_group: str, drop_last: bool):
    for sampler in all_samplers(partial_group=partial_group, drop_last=drop_last):
        for epoch in (0, 1):
            sampler.set_epoch(epoch)
            length = len(sampler)
            assert length == sum(1 for _ in sampler) == sum(len(batch) for batch in sampler.batches())
            assert len(sampler.batch_sampler) == len(sampler.batches())


def test_documented_lengths():
    inliers, classes = int((LABELS >= 0).sum()), len(members(LABELS))
    assert len(RandomSampler(LABELS)) == len(GroupSampler(LABELS, 12)) == inliers // 32 * 32
    assert len(TripletSampler(LABELS, 12, batch_size=32)) == classes * 12 // 32 * 32
    assert len(TripletSampler(LABELS, 12, batch_size=32, partial_group="carry")) == classes // 2 * 24
    assert len(RandomSampler(LABELS, outliers="own_class", drop_last=False)) == len(LABELS)
    # Batches that carry drop the last where another group would fit.
    labels = [c for c in range(5) for _ in range(4)]
    for options, want in (({}, [8, 8]), ({"drop_last": False}, [8, 8, 4])):
        sampler = GroupSampler(labels, 4, batch_size=10, partial_group="carry", **options)
        assert [len(batch) for batch in sampler.batches()] == want


def test_seed_and_epoch_decide_the_draw():
    for one, same, other in zip(*(all_samplers(seed=seed) for seed in (1, 1, 2)), strict=True):
        torch.manual_seed(7)  # the global generator has no part in it
        assert list(one) == list(same) != list(other)
        first = list(one)
        one.set_epoch(1)
        assert list(one) not in (first, list(other))
        one.set_epoch(0)
        assert list(one) == first


def test_iterations_start_a_new_pass_or_stop():
    for partial_group in ("straddle", "carry", "pad"):
        long = {"iterations": 200}
        given = ({}, long, long | {"on_exhausted": "stop"})
        made = (all_samplers(partial_group=partial_group, **options) for options in given)
        for pass_of, more, stop in zip(*made, strict=True):
            one = pass_of.batches()
            assert len(one) < 200 == len(more.batches())
            assert torch.cat(more.batches()[: len(one)]).equal(torch.cat(one))
            assert not more.batches()[len(one)].equal(one[0])
            assert torch.cat(stop.batches()).equal(torch.cat(one))
    assert len(RandomSampler(LABELS, iterations=3).batches()) == 3


def test_shuffled_batches_are_the_same_batches_and_a_short_one_stays_last():
    plain = GroupSampler(LABELS, 8, drop_last=False)
    mixed = GroupSampler(LABELS, 8, drop_last=False, shuffle_batches=True)
    assert len(plain.batches()[-1]) < 32
    assert sorted(b.tolist() for b in plain.batches()) == sorted(b.tolist() for b in mixed.batches())
    assert [len(b) for b in plain.batches()] == [len(b) for b in mixed.batches()]
    assert flat(plain) != flat(mixed)


def test_outliers_are_left_out_or_classes_of_their_own_and_numbers_may_have_gaps():
    labels = [5, 5, 5, -1, 70, 70, -1]
    assert set(RandomSampler(labels, batch_size=5)) == {0, 1, 2, 4, 5}
    drawn = TripletSampler(labels, 2, batch_size=8, outliers="own_class").batches()[0].view(-1, 2)
    assert {frozenset(pair) for pair in drawn.tolist()} >= {frozenset([3]), frozenset([6])}


@pytest.mark.parametrize("replicas", [2, 3, 8])
@pytest.mark.parametrize("drop_last", [True, False])
def test_replicas_share_out_the_same_batches(replicas: int, drop_last: bool):
    for partial_group in ("straddle", "carry", "pad"):
        common = {"drop_last": drop_last, "partial_group": partial_group}
        alone = all_samplers(**common)
        ranks = [all_samplers(rank=rank, replicas=replicas, **common) for rank in range(replicas)]
        for at, sampler in enumerate(alone):
            shares = [rank[at].batches() for rank in ranks]
            assert len({len(share) for share in shares}) == 1
            if partial_group != "carry":
                assert len({len(rank[at]) for rank in ranks}) == 1
            dealt = [batch for step in zip(*shares, strict=True) for batch in step]
            whole = sampler.batches()
            for one, two in zip(dealt, whole, strict=False):
                assert one[: len(two)].equal(two)
            assert len(dealt) % replicas == 0
            surplus = len(dealt) - len(whole)
            assert -replicas < surplus <= 0 if drop_last else 0 <= surplus < replicas


def test_replicas_count_iterations_each():
    shares = [RandomSampler(LABELS, iterations=30, rank=r, replicas=4) for r in range(4)]
    assert [len(share.batches()) for share in shares] == [30] * 4
    first_pass = len(RandomSampler(LABELS).batches()) // 4
    seen = [i for share in shares for batch in share.batches()[:first_pass] for i in batch.tolist()]
    assert len(seen) == len(set(seen))


def test_data_loaders_take_both_forms():
    for partial_group in ("straddle", "carry", "pad"):
        for sampler in all_samplers(partial_group=partial_group):
            data = torch.arange(len(LABELS))
            want = [batch.tolist() for batch in sampler.batches()]
            by_batch = DataLoader(data, batch_sampler=sampler.batch_sampler)
            assert [batch.tolist() for batch in by_batch] == want
            assert len(by_batch) == len(want)
            if partial_group != "carry" or isinstance(sampler, TripletSampler):
                flat_form = DataLoader(data, sampler=sampler, batch_size=sampler.batch_size)
                assert [batch.tolist() for batch in flat_form] == want


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=12),
    group=st.integers(1, 12),
    batch=st.integers(1, 24),
    partial_group=st.sampled_from(["straddle", "carry", "pad"]),
    repeat=st.sampled_from(["distinct_first", "cap", None]),
)
def test_any_sizes(sizes, group, batch, partial_group, repeat):
    labels = labelled(sizes, outliers=3)
    options = {"batch_size": max(batch, group), "partial_group": partial_group, "drop_last": False}
    try:
        if repeat:
            sampler, total = TripletSampler(labels, group, repeat=repeat, **options), group * len(sizes)
        else:
            sampler, total = GroupSampler(labels, group, **options), sum(sizes)
    except PapersError:
        assert repeat  # fewer classes than a batch takes
        return
    drawn = flat(sampler)
    assert len(drawn) == total if partial_group != "pad" else len(drawn) % sampler.batch_size == 0
    assert set(labels[drawn].tolist()) == set(range(len(sizes)))
    assert repeat or set(drawn) == set((labels >= 0).nonzero()[:, 0].tolist())


# -- the public code bases --


def by_class(sampler: GroupedSampler, labels: torch.Tensor) -> dict[int, list[int]]:
    drawn = defaultdict(list)
    for image in sampler:
        drawn[int(labels[image])].append(image)
    return drawn


def shares(name: str, labels: torch.Tensor, cameras: torch.Tensor | None, epochs: int) -> dict[int, Counter]:
    """How many distinct images the groups of each class held, over many passes."""
    distinct: dict[int, Counter] = defaultdict(Counter)
    sampler = reference(name, labels, cameras, size=4, batch_size=4, drop_last=False)
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for label, images in by_class(sampler, labels).items():
            distinct[label][len(set(images))] += 1
    return distinct


def near(count: int, probability: float, trials: int) -> bool:
    return abs(count - trials * probability) < 4 * math.sqrt(trials * probability * (1 - probability))


def test_cap_repeats_as_drawn_from_k_copies():
    copies, trials = 400, 3
    labels = labelled([2] * copies + [3] * copies + [6] * 5)
    distinct = shares("cap", labels, None, trials)
    n = copies * trials
    of_two = sum((distinct[c] for c in range(copies)), Counter())
    of_three = sum((distinct[c] for c in range(copies, 2 * copies)), Counter())
    assert near(of_two[1], 2 / 70, n)
    assert near(of_three[2], 204 / 495, n)
    assert near(of_three[1], 3 / 495, n)
    assert all(distinct[2 * copies + c] == Counter({4: trials}) for c in range(5))


def test_spcl_draws_with_repetition_unless_k_candidates_are_there():
    # Four images of cameras 0, 1, 2, 0. The anchor is of camera 0 half of the time: three draws of two;
    # else three draws of three. Distinct with the anchor: 2, 3 or 4.
    copies, trials = 400, 3
    labels = torch.arange(copies).repeat_interleave(4)
    cameras = torch.tensor([0, 1, 2, 0]).repeat(copies)
    distinct = sum(shares("spcl", labels, cameras, trials).values(), Counter())
    n = copies * trials
    assert near(distinct[2], 1 / 2 * 2 / 8 + 1 / 2 * 3 / 27, n)
    assert near(distinct[3], 1 / 2 * 6 / 8 + 1 / 2 * 18 / 27, n)
    assert near(distinct[4], 1 / 2 * 6 / 27, n)


def test_spcl_takes_other_cameras_alone_and_one_image_of_a_class_of_one():
    labels = torch.tensor([0] * 1 + [1] * 2 + [2] * 3 + [3] * 4 + [4] * 6)
    cameras = torch.arange(16) % 3
    cameras[labels == 2] = 0  # one camera: the class's other images take its place
    cameras[labels == 3] = torch.tensor([0, 0, 0, 1])
    sampler = reference("spcl", labels, cameras, batch_size=4, drop_last=False)
    assert len(sampler) == 17  # 5 classes of 4, less 3
    for epoch in range(30):
        sampler.set_epoch(epoch)
        drawn = by_class(sampler, labels)
        for label, (anchor, *rest) in drawn.items():
            assert anchor not in rest
            assert label == 2 or all(cameras[i] != cameras[anchor] for i in rest)
        assert len(set(drawn[4])) == 4  # four images of other cameras: drawn once each


def test_group_sampling_puts_classes_of_one_last_and_cuts_out_of_step():
    labels = labelled([16] * 20, outliers=14)

    def outlier(at: tuple[int, int]) -> bool:
        return bool(labels[at[1]] < 0)

    sampler = reference("group_sampling", labels, size=16, batch_size=32, drop_last=False)
    assert sorted(sampler) == list(range(len(labels)))  # outliers are classes
    # The list is 320 inliers, then 14 outliers: they are the short piece.
    shifted = 0
    for epoch in range(12):
        sampler.set_epoch(epoch)
        runs = [(alone, [place for place, _ in of]) for alone, of in groupby(enumerate(sampler), outlier)]
        short = [places for alone, places in runs if alone]
        assert [(len(places), places[0] % 32) for places in short] == [(14, 0)]
        shifted += short[0][0] < 320  # what follows the short piece is cut 14 images out of step
    assert shifted > 6


# -- the log --


def test_visits_equals_a_plain_loop():
    sampler = TripletSampler(LABELS, 12, batch_size=32, outliers="own_class", iterations=7)
    batches, images = sampler.batches(), members(LABELS)
    classes = [[(int(LABELS[i]), int(i) if LABELS[i] < 0 else -1) for i in b] for b in batches]
    drawn = {int(i) for b in batches for i in b if LABELS[i] >= 0}
    assert visits(batches, LABELS) == pytest.approx(
        {
            "steps": 7,
            "distinct_images": sum(len(set(b.tolist())) for b in batches) / 7,
            "distinct_classes": sum(len(set(c)) for c in classes) / 7,
            "images_per_class": 7 * 32 / sum(len(set(c)) for c in classes),
            "classes_visited": len({int(LABELS[i]) for i in drawn}) / len(images),
            "images_drawn": len(drawn) / sum(len(of) for of in images.values()),
        }
    )


# -- bad input --


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomSampler([-1, -1]), "no class to sample from: every image is an outlier"),
        (lambda: RandomSampler([]), "no class to sample from"),
        (lambda: TripletSampler([0] * 40, 4), "1 class, and a batch of 32 takes 8 with K = 4"),
        (lambda: TripletSampler([0] * 40, 4, 2, drop_last=False), "1 class, and a batch of 8 takes 2"),
        (lambda: TripletSampler(LABELS % 5, 4, 8), "5 classes, and a batch of 32 takes 8"),
        (lambda: RandomSampler([0] * 31).batches(), "less than one batch of 32: 31 images of 1 class;"),
        (lambda: TripletSampler([0, 1, 2], 8).batches(), "less than one batch of 32"),
        (lambda: TripletSampler(LABELS, 4, 4, batch_size=32), "P·K = 4·4 is not the batch size 32"),
        (lambda: len(RandomSampler([0] * 64, replicas=3)), "3 replicas and 2 batches"),
        (lambda: RandomSampler([0] * 64, rank=2, replicas=2), "rank 2 of 2 replicas"),
        (lambda: GroupSampler(LABELS, 64, partial_group="carry"), "a whole group of 64 does not fit"),
        (lambda: GroupSampler(LABELS, 0), "the images of a group is 0"),
        (lambda: RandomSampler(LABELS, iterations=0), "iterations is 0"),
        (lambda: RandomSampler(LABELS).set_epoch(-1), "the epoch is -1"),
        (lambda: TripletSampler(LABELS, 4, groups_per_class=0), "groups_per_class is 0"),
        (lambda: RandomSampler(LABELS, partial_group="cut"), "partial_group is 'cut'"),
        (lambda: RandomSampler([0, -2]), "labels run from -2 to 0"),
        (lambda: TripletSampler(LABELS, 4, prefer_other_cameras=True), "got none"),
        (lambda: TripletSampler(LABELS, 4, cameras=[0], prefer_other_cameras=True), "cameras are int64 (1,)"),
        (lambda: reference("mmcl", LABELS), "the reference is 'mmcl'; it must be one of cap, spcl"),
        (lambda: reference("cap", LABELS, partial_group="carry"), "leave out partial_group"),
        (lambda: reference("spcl", LABELS), "needs the camera of each of 1130 images; got none"),
        (
            lambda: TripletSampler(LABELS, 4, cameras=LABELS, prefer_other_cameras=True, groups_per_class=2),
            "prefer_other_cameras takes 1",
        ),
    ],
)
def test_bad_input_is_one_clear_line(make: object, message: str):
    with pytest.raises(PapersError) as error:
        make()
    assert message in str(error.value)
    assert "\n" not in str(error.value)
