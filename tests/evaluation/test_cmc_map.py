"""CMC and mAP of re-identification against a plain loop, and against scikit-learn as a second oracle."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from papers_lib.evaluation import reid_ranking
from papers_lib.evaluation.retrieval import cmc_map


def world(seed, queries=40, gallery=150, people=9, cameras=3, ties=False):
    """Junk (−1), distractors (0), persons seen by one camera only; small integers are full of ties."""
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(people + 2, 6, generator=g, dtype=torch.float64)
    sides = []
    for count, least in ((queries, 1), (gallery, -1)):
        ids = torch.randint(least, people + 1, (count,), generator=g)
        seen = torch.randint(0, cameras, (count,), generator=g)
        seen[ids == 2] = 1  # no match by another camera
        x = centres[ids + 1] + 1.5 * torch.randn(count, 6, generator=g, dtype=torch.float64)
        if ties:  # of length 1, so that equal cosines are equal floats
            x = torch.eye(6, dtype=torch.float64)[torch.randint(0, 6, (count,), generator=g)]
        sides.append((x, ids, seen))
    sides[0][1][:2] = torch.tensor([-1, 77])  # a junk query, and one whose person is nowhere
    return [side[i] for i in range(3) for side in sides]


def seen_by(query, gallery, qi, gi, qc, gc):
    """For each query that is not junk, what it sees: (similarity, is a match) by gallery image."""
    unit = [np.asarray(x.double() / x.double().norm(dim=1, keepdim=True)) for x in (query, gallery)]
    similar = unit[0] @ unit[1].T
    for q in range(len(qi)):
        if qi[q] != -1:
            yield [
                (similar[q, j], bool(gi[j] == qi[q]))
                for j in range(len(gi))
                if gi[j] != -1 and not (gi[j] == qi[q] and gc[j] == qc[q])
            ]


def slow(*data, ap="rectangle", no_match="skip", ks=(1, 5, 10)):
    """By sorting: at equal similarity a non-match comes first."""
    scores, alone = [], 0
    for images in seen_by(*data):
        hits = [match for _, match in sorted(images, key=lambda image: (-image[0], image[1]))]
        found = [i for i, match in enumerate(hits) if match]
        if not found:
            alone += 1
            scores += [[0.0] * (1 + len(ks))] if no_match == "zero" else []
            continue
        total = 0.0
        for n, i in enumerate(found):
            at, before = (n + 1) / (i + 1), n / i if i else 1.0
            total += at if ap == "rectangle" else (before + at) / 2
        scores.append([total / len(found), *(found[0] < k for k in ks)])
    names = ["mAP", *(f"R{k}" for k in ks)]
    means = dict(zip(names, np.mean(scores, axis=0).tolist(), strict=True))
    return {**means, "queries": len(scores), "no_match": alone, "AP": [row[0] for row in scores]}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("no_match", ["skip", "zero"])
@pytest.mark.parametrize("ap", ["rectangle", "trapezoid"])
@pytest.mark.parametrize("seed", range(3))
def test_equals_the_loop(seed, ap, no_match, ties):
    data = world(seed, ties=ties)
    want = slow(*data, ap=ap, no_match=no_match)
    found = cmc_map(*data, ap=ap, no_match=no_match, per_query=True)
    assert found.pop("AP") == pytest.approx(want.pop("AP"), abs=1e-12)
    assert found == pytest.approx(want)
    assert want["no_match"] > 1 and 0 < want["mAP"] < 1


@pytest.mark.parametrize("many", [0, 2, 10**6])
@pytest.mark.parametrize("ties", [False, True])
def test_counting_and_sorting_agree(monkeypatch, many, ties):
    monkeypatch.setattr(reid_ranking, "COUNT", many)
    data = world(3, ties=ties)
    assert cmc_map(*data, per_query=True)["AP"] == pytest.approx(slow(*data)["AP"])


@pytest.mark.parametrize("rows", [1, 3, 17])
def test_similarities_are_held_in_small_blocks_only(monkeypatch, rows):
    data = world(4)
    want, sizes, mm = cmc_map(*data), [], torch.mm
    monkeypatch.setattr(torch, "mm", lambda *a, out: sizes.append(out.nbytes) or mm(*a, out=out))
    monkeypatch.setattr(reid_ranking, "BUFFER", rows * 8 * (150 + 6))
    assert cmc_map(*data) == pytest.approx(want, abs=1e-12)
    assert len(sizes) == -(-want["queries"] // rows) and max(sizes) <= rows * 8 * 150


def test_equals_scikit_learn():
    data = world(5)
    found = cmc_map(*data, per_query=True)["AP"]
    seen = [tuple(zip(*images, strict=True)) for images in seen_by(*data)]
    assert found == pytest.approx([average_precision_score(m, s) for s, m in seen if any(m)])


@pytest.mark.parametrize(("ap", "want"), [("rectangle", 5 / 6), ("trapezoid", 19 / 24)])
def test_by_hand(ap, want):
    # Nearest first: junk, own camera, match, distractor, match, another person.
    angles = torch.arange(1, 7) / 10
    gallery = torch.stack([angles.cos(), angles.sin()], 1)
    ids, cameras = torch.tensor([-1, 5, 5, 0, 5, 7]), torch.tensor([1, 0, 1, 1, 2, 1])
    query, who = torch.tensor([[3.0, 0.0]]), (torch.tensor([5]), ids, torch.tensor([0]), cameras)
    found = cmc_map(query, gallery, *who, ap=ap, ks=(1, 2))
    assert found == pytest.approx({"mAP": want, "R1": 1, "R2": 1, "queries": 1, "no_match": 0})


def test_a_vector_of_zeros_is_like_nothing_and_unlike_nothing():
    gallery, ids = torch.tensor([[1.0, 0.0], [0.0, 0.0], [-1.0, 0.0]]), torch.tensor([3, 5, 4])
    found = cmc_map(gallery[:1], gallery, ids[1:2], ids, torch.tensor([0]), torch.ones_like(ids))
    assert found["mAP"] == 0.5


def test_ids_are_names_only():
    query, gallery, ids, other_ids, cameras, other_cameras = world(8)
    ids, other_ids = (torch.where(x > 0, x * 2**40, x) for x in (ids, other_ids))
    renamed = query, gallery, ids, other_ids, cameras * 1000 - 7, other_cameras * 1000 - 7
    assert cmc_map(*renamed) == cmc_map(*world(8))


@pytest.mark.cuda
def test_on_a_gpu():
    data = world(11)
    on_gpu = [x.cuda() for x in data]
    assert cmc_map(*on_gpu) == pytest.approx(cmc_map(*data), abs=1e-5)
