"""The layouts of the cars, and the grey of each of their classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_sets import CLASSES, LAYOUTS, grey


@pytest.fixture
def layouts() -> dict[str, Callable[..., Path]]:
    return LAYOUTS


@pytest.fixture
def greys() -> list[int]:
    return [grey(label) for label in CLASSES]
