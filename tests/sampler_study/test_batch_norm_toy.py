import numpy as np
import pytest

from papers_lib.errors import PapersError
from papers_lib.sampler_study.study import toy
from papers_lib.sampler_study.study.toy import batch_norm_toy, toy_table


def test_one_class_a_batch_leaves_nothing_of_it_and_many_what_the_noise_leaves():
    found = batch_norm_toy(32, batches=20)
    assert found.own_nearest < 0.01 and abs(found.cosine) < 1e-4
    for noise in (1.0, 2.0):
        found = batch_norm_toy(1, noise=noise, batches=20)
        assert found.own_nearest == 1
        assert found.cosine == pytest.approx(1 / np.sqrt(1 + noise**2), abs=0.03)


def test_it_is_the_number_of_classes_not_of_images_that_counts():
    fixed_batch, fixed_classes = batch_norm_toy(32, noise=2, batches=20), batch_norm_toy(32, 4, 2, batches=20)
    assert fixed_batch.own_nearest < 0.01
    assert fixed_classes.own_nearest > 0.95
    assert fixed_classes.cosine == pytest.approx(batch_norm_toy(8, noise=2, batches=20).cosine, abs=0.02)


def test_the_normalisation_is_a_plain_loop_over_batch_and_dimension():
    features = np.random.default_rng(1).normal(2, 3, (2, 5, 3)).astype(np.float32)
    found = toy._normalise(features)
    for b in range(2):
        for d in range(3):
            column = features[b, :, d].astype(float)
            expected = (column - column.mean()) / np.sqrt(((column - column.mean()) ** 2).mean() + 1e-5)
            assert found[b, :, d] == pytest.approx(expected, abs=1e-5)


def test_the_table_has_every_k_and_two_controls():
    table = toy_table()
    told = [[12, 32 / 12, 32], [16, 2.0, 32], [32, 1.0, 32], [16, 4.0, 64], [32, 4.0, 128]]
    assert [row[:3] for row in table.rows][4:] == told
    assert table.rows[6][3] < 1
    assert table.rows[8][3] > 95


@pytest.mark.parametrize("bad", [{"k": 0}, {"k": 2, "p": 0}, {"k": 1, "p": 701}, {"k": 2, "noise": -1.0}])
def test_bad_input_is_one_line(bad):
    with pytest.raises(PapersError, match="batch_norm_toy") as caught:
        batch_norm_toy(**bad)
    assert "\n" not in str(caught.value)
