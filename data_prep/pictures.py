"""Open every image of a data set and say which are broken; show in a terminal how far a long job is."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from papers_lib.datasets.images import open_image, rgb
from papers_lib.errors import PapersError

T = TypeVar("T")


def faults(files: Sequence[Path]) -> Iterator[str]:
    """One line for each file that is empty, no image, truncated, or one pixel."""
    with ThreadPoolExecutor(2) as pool:
        yield from filter(None, shown(pool.map(fault, files), len(files), "opening images"))


def fault(source: Path | bytes, name: str = "") -> str:
    """What is wrong with one image file, or with its bytes, and what mends it; empty where it is whole."""
    name = name or str(source)
    try:
        if not (len(source) if isinstance(source, bytes) else source.stat().st_size):
            return f"{name} has zero bytes; restore the image"
        with open_image(source, name) as image:
            size = rgb(image).size
    except OSError as error:
        return f"{name} cannot be read ({error.strerror}); restore the image"
    except PapersError as error:
        return str(error)
    return f"{name} is a single pixel; restore the image" if size == (1, 1) else ""


def shown(items: Iterable[T], total: int | None, what: str) -> Iterator[T]:
    """Pass `items` on, and show how many of `total`, if that is known, have gone by: in a terminal only."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(items, what, total, transient=True, console=Console(stderr=True))
