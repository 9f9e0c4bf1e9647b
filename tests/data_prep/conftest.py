"""Every stand-in once, tiny: read it where it lies, or copy it before you break it."""

import shutil

import pytest
from prepared import TINY, draw


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    root = tmp_path_factory.mktemp("drawn")
    for name in TINY:
        draw(root, name)
    return root


@pytest.fixture(scope="session")
def rendered(drawn):
    return drawn / "cars196"


@pytest.fixture
def copy(drawn, tmp_path):
    def at(place="data", name="cars196"):
        shutil.copytree(drawn / name, tmp_path / place / name)
        return tmp_path / place

    return at
