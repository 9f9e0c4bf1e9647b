"""Every data set in a folder of its own, and copies of one to be damaged."""

import shutil
from pathlib import Path

import pytest
from tiny_sets import BUILD


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("every")
    for name, build in BUILD.items():
        (root / name).mkdir()
        build(root / name)
    return root


@pytest.fixture
def copy(made, tmp_path):
    def to(name, place="here"):
        return Path(shutil.copytree(made / name, tmp_path / place))

    return to
