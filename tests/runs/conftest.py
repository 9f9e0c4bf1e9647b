from pathlib import Path

import pytest

from papers_lib.runs.spec import Data, RunSpec
from papers_lib.runs.store import Store


@pytest.fixture(autouse=True)
def toy_wing(monkeypatch):
    """Workers find `toy_wing`; a sweep in a test says what it says to a pipe."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv("PAPERS_WINGS", "toy_wing")
    monkeypatch.delenv("PAPERS_PROGRESS", raising=False)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs of Zoë {x}")


@pytest.fixture
def toy():
    def make(function, profile="smoke", needs=(), seed=0, **settings):
        return RunSpec(
            paper="toy",
            function=f"toy_wing.functions:{function}",
            profile=profile,
            settings={"seed": seed, **settings},
            data=Data(name="none"),
            needs=tuple(needs),
        )

    return make
