"""Shipped features: what is written is read, rounded; principal components against NumPy's covariance."""

import numpy as np
import pytest

from papers_lib.datasets import features, known
from papers_lib.errors import PapersError


def test_codes_round_each_component_by_its_own_scale(tmp_path):
    values = np.array([[1.0, -254.0, 0.0], [0.5, 127.0, 0.0], [-1.0, 1.0, 0.0]], np.float32)
    features.save(tmp_path / "mine" / features.FILE, values, {"fine": np.array([3, 1, 2], np.uint8)})
    found = features.load(tmp_path, "mine")
    # steps of 1/127, of 2, and of nothing
    np.testing.assert_allclose(found.values[:, 0], [1, 64 / 127, -1], rtol=1e-6)
    np.testing.assert_allclose(found.values[:, 1], [-254, 128, 0], atol=1e-4)
    assert not found.values[:, 2].any()
    assert found.labels["fine"].tolist() == [3, 1, 2]
    assert not found.stand_in


def test_the_same_values_are_the_same_bytes(tmp_path):
    values = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    for place in "ab":
        features.save(tmp_path / place / features.FILE, values, {})
    assert features.load(tmp_path, "a").fingerprint == features.load(tmp_path, "b").fingerprint


def test_principal_components_are_the_eigenvectors_of_the_fitted_rows():
    rng = np.random.default_rng(0)
    values = (rng.normal(size=(60, 5)) * [5, 4, 3, 2, 1]).astype(np.float32)
    fitted = np.arange(60) < 40
    found = features.principal(values, fitted, 3)
    assert found.shape == (60, 3)
    eigenvalues, axes = np.linalg.eigh(np.cov(values[fitted].T.astype(float)))
    expected = (values - values[fitted].mean(0)) @ axes[:, ::-1][:, :3]
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-3)
    np.testing.assert_allclose(found[fitted].var(0, ddof=1), eigenvalues[::-1][:3], rtol=1e-3)
    # an axis has one sign, whatever LAPACK's: mirrored features have mirrored components
    np.testing.assert_allclose(-features.principal(-values, fitted, 3), found, atol=1e-3)


def test_damage_is_one_line(tmp_path):
    with pytest.raises(PapersError, match=r"cannot read .*restore it"):
        features.load(tmp_path, "mine")
    path = tmp_path / "mine" / features.FILE
    features.save(path, np.ones((2, 2), np.float32), {})
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(PapersError, match="is no set of features"):
        features.load(tmp_path, "mine")


@pytest.mark.parametrize("name", features.NAMES)
def test_what_is_shipped_is_small_whole_and_found_by_name(name):
    assert (features.SHIPPED / name / features.FILE).stat().st_size <= 4e6
    found = known.load(features.SHIPPED, name)
    assert np.isfinite(found.values).all()
    assert all(len(labels) == len(found.values) for labels in found.labels.values())
