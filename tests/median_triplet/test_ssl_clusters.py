"""k-means without empty clusters, against plain loops."""

import pytest
import torch
import torch.nn.functional as F

from papers_lib.errors import PapersError
from papers_lib.median_triplet.methods import kmeans


def features(n: int = 60, d: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("entries", [2**24, 20])  # in one block, in many
def test_nearest_and_means_are_the_loops(entries, monkeypatch):
    monkeypatch.setattr(kmeans, "ENTRIES", entries)
    x, centroids = features(), features(4, seed=1)
    labels = kmeans.nearest(x, centroids)
    for row, label in zip(x, labels.tolist(), strict=True):
        distances = [float((row - c).square().sum()) for c in centroids]
        assert distances[label] == min(distances)
    found = kmeans.means(x, labels, 6)
    for c in range(4):
        torch.testing.assert_close(found[c], x[labels == c].mean(0))
    assert not found[4:].any()


def test_kmeans_finds_clusters_that_stand_apart_and_repeats():
    centres = torch.eye(4).repeat_interleave(15, 0) * 20
    x = centres + features(60, 4)
    labels = kmeans.kmeans(x, 4, torch.Generator().manual_seed(3))
    again = kmeans.kmeans(x, 4, torch.Generator().manual_seed(3))
    assert torch.equal(labels, again)
    groups = [labels[i : i + 15].unique().tolist() for i in range(0, 60, 15)]
    assert sorted(groups) == [[0], [1], [2], [3]]


@pytest.mark.parametrize("k", [2, 13, 60])
@pytest.mark.parametrize("same", [0, 50, 60])
def test_no_cluster_is_empty_even_where_rows_are_the_same(k, same):
    x = features()
    x[:same] = 1.0
    sizes = kmeans.kmeans(x, k, torch.Generator().manual_seed(0)).bincount(minlength=k)
    assert len(sizes) == k and sizes.min() >= 1


def test_an_empty_cluster_takes_half_of_the_largest():
    x = torch.cat((torch.zeros(4, 2), torch.ones(3, 2), -torch.ones(2, 2) * 9))
    labels = torch.tensor([0] * 4 + [0] * 3 + [1] * 2)
    found = kmeans.refilled(x, labels, 3)
    assert found.tolist() in ([0] * 4 + [2] * 3 + [1] * 2, [2] * 4 + [0] * 3 + [1] * 2)
    assert labels.max() == 1  # the argument is left as it was
    assert kmeans.halves(torch.ones(5, 2)).tolist() == [False, True, False, True, False]


def test_whitened_features_have_unit_covariance_before_they_are_normalised():
    x = features(500, 6) @ features(6, 6, seed=1) + 3
    found = kmeans.whitened(x, 4)
    assert found.shape == (500, 4)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(500))
    centred = x - x.mean(0)
    u, _, _ = torch.linalg.svd(centred, full_matrices=False)
    expected = F.normalize(u[:, :4])
    torch.testing.assert_close((found @ found.T).abs(), (expected @ expected.T).abs(), atol=1e-3, rtol=0)


def test_whitening_leaves_out_directions_without_variance():
    flat = features(40, 3) @ features(3, 8, seed=1)
    found = kmeans.whitened(flat)
    assert found.isfinite().all()
    assert torch.linalg.matrix_rank(found, atol=1e-3) == 3


def test_the_number_of_clusters():
    assert kmeans.number_of_clusters(1_281_167, 1000) == 10_000
    assert kmeans.number_of_clusters(64, 10) == 32
    with pytest.raises(PapersError, match="at least 4"):
        kmeans.number_of_clusters(3, 10)
