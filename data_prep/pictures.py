"""Open every image of a data set and say which are broken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from data_prep.progress import shown
from papers_lib.datasets.images import open_image, rgb
from papers_lib.errors import PapersError


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
