"""Open every image of a data set and say which are broken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from data_prep.progress import shown


def faults(files: Sequence[Path]) -> Iterator[str]:
    """One line for each file that is empty, no image, truncated, or one pixel."""
    with ThreadPoolExecutor(2) as pool:
        yield from filter(None, shown(pool.map(fault, files), len(files), "opening images"))


def fault(file: Path) -> str:
    """What is wrong with one image file, with what mends it; empty where it is whole."""
    try:
        if not file.stat().st_size:
            return f"{file} has zero bytes; restore the image"
        with Image.open(file) as image:
            image.load()
            size = image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = str(error).partition(" '")[0] or type(error).__name__
        return f"{file} is not a whole image ({reason}); restore the image"
    return f"{file} is a single pixel; restore the image" if size == (1, 1) else ""
