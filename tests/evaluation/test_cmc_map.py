"""CMC and mAP of re-identification against a plain loop, and against scikit-learn as a second oracle."""

import numpy as np
import pytest
import torch

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
    assert found.pop("AP") == pytest.approx(want.pop("AP"))
    assert found == pytest.approx(want)
    assert want["no_match"] > 1 and 0 < want["mAP"] < 1
