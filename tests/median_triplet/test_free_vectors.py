"""What the loss prefers alone: the rank of the negative decides how far free vectors collapse."""

import pandas as pd
import pytest
import torch

from papers_lib.errors import PapersError
from papers_lib.median_triplet.toy import COMPUTED, HEADS, free_vectors, table


def test_the_median_collapses_to_three_clumps_in_a_plane():
    found = free_vectors(steps=300)
    assert found["clusters"] == 3
    assert found["effective_rank"] == pytest.approx(2, abs=0.05)
    # Three equal clumps at 120 degrees, the stationary point: cos 120° = −1/2.
    assert found["cosine_to_negative"] == pytest.approx(-0.5, abs=0.02)
    torch.testing.assert_close(found["vectors"].norm(dim=1), torch.ones(104))


@pytest.mark.parametrize(("head", "low"), [(1, 90), (5, 65), ("smoothed", 50)])
def test_small_ranks_keep_the_dimensions(head, low):
    found = free_vectors(head=head, steps=300)
    assert low < found["effective_rank"] < 104
    assert found["clusters"] > 90
    assert abs(found["cosine_to_negative"]) < 0.1


def test_the_seed_decides_alone():
    a, b, c = (free_vectors(20, 8, steps=10, seed=seed)["vectors"] for seed in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_a_rank_that_the_vectors_do_not_have():
    with pytest.raises(PapersError, match="give 1 to 9"):
        free_vectors(10, 4, head=10)


def test_what_figure_2_shows_is_what_is_computed_here():
    kept, here = pd.read_csv(COMPUTED), table()
    assert kept[["negative", "vector", "clumps"]].equals(here[["negative", "vector", "clumps"]])
    assert list(kept["negative"].unique()) == list(HEADS)
    assert kept["rank"].to_numpy() == pytest.approx(here["rank"].to_numpy(), rel=0.01)
    length = [(t["x"] ** 2 + t["y"] ** 2).groupby(t["negative"]).mean() for t in (kept, here)]
    assert length[0].to_numpy() == pytest.approx(length[1].to_numpy(), rel=0.02), (
        "the share of two directions"
    )
