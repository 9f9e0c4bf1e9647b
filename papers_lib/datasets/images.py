"""Image files: the one way to open them, for all data sets, and many of them to one resident tensor.

An image is squashed to a square, as Song et al. (CVPR 2016) do; a training crop is cut later, on
the device. At 256 pixels the 16,185 images of Cars196 take 3.2 GB.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from papers_lib.datasets.folders import reason
from papers_lib.errors import PapersError

if TYPE_CHECKING:
    from torch import Tensor

FORMATS = ("JPEG", "PNG", "PPM", "BMP", "WEBP", "TIFF")
"""What a data set may have, whatever a file is called: no PostScript, which would run another program."""

LARGEST = 89_478_485
"""Pixels of an image; a small file that claims more is made to fill the memory. Pillow warns from here on."""

warnings.filterwarnings("ignore", module=r"PIL\.")  # of a damaged image one line is said, here


@contextmanager
def open_image(source: Path | bytes, name: str = "") -> Iterator[Image.Image]:
    """Open an image file, or the bytes of one, and say in one line whatever goes wrong in the block.

    Args:
        source: the file; its pixels are read in the block.
        name: what to call it in a message; a path by default.

    Raises:
        PapersError: it is missing, of none of `FORMATS`, truncated, damaged or larger than `LARGEST`. The
            checksums of a PNG are held against its bytes; other formats have none.
    """
    name = name or str(source)
    try:
        with _begun(source) as image:
            again = image.format == "PNG"
            if again:
                image.verify()  # which leaves nothing to be read
            else:
                yield image
        if again:
            with _begun(source) as image:
                yield image
    except PapersError:
        raise
    except MemoryError:
        raise PapersError(f"{name} needs more memory than is free; free some, or restore it") from None
    except Exception as error:  # a damaged image raises almost anything
        # Pillow names the bytes or the file that it could not identify, which says nothing
        said = reason(error).partition(" <")[0].partition(" '")[0].rstrip(":")
        raise PapersError(f"{name} is not a whole image ({said}); restore it") from None


def _begun(source: Path | bytes) -> Image.Image:
    image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
    if image.width * image.height > LARGEST:
        image.close()
        raise ValueError(f"{image.width}x{image.height} pixels, more than {LARGEST:,}")
    return image


def rgb(image: Image.Image) -> Image.Image:
    """An image in RGB, 8 bits each: 16 bits of grey are scaled, a transparent image is laid on white.

    Raises:
        ValueError: pixels of more than 16 bits, whose range nobody knows.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.int64)
        if image.mode == "F" or (len(grey) and not 0 <= grey.min() <= grey.max() < 2**16):
            raise ValueError("pixels of more than 16 bits: save it with 8 or 16 bits")
        clear = image.info.get("transparency")
        white = grey == (clear if isinstance(clear, int) else -1)
        return Image.fromarray(np.where(white, 255, (grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        over = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
    return image.convert("RGB")


def load_images(
    files: Sequence[Path], size: int, boxes: NDArray[np.int64] | None = None, threads: int = 2
) -> Tensor:
    """Decode images to RGB, uint8 [N, 3, size, size].

    Grey, palette and CMYK images are converted; a transparent one is laid on white.

    Args:
        files: N image files.
        size: the side in pixels.
        boxes: [N, 4], x1, y1, x2, y2 from 1 and inclusive; what lies outside is cut off first.
        threads: decoders at once (Pillow works outside Python's lock).

    Raises:
        PapersError: an image is missing, empty, truncated or none at all; the message names it.
    """
    import torch

    pixels = torch.empty(len(files), 3, size, size, dtype=torch.uint8)
    target = pixels.numpy()

    def fill(i: int) -> None:
        box = None if boxes is None else tuple(map(int, boxes[i]))
        target[i] = decode(files[i], size, box).transpose(2, 0, 1)

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(fill, range(len(files))):
            pass
    return pixels


def decode(file: Path, size: int, box: tuple[int, ...] | None = None) -> NDArray[np.uint8]:
    """One image [size, size, 3] of `load_images`."""
    with open_image(file) as image:
        window = _window(image, box)
        drafted = _draft(image, size, window)
        square = rgb(image).resize((size, size), Image.Resampling.BILINEAR, box=drafted)
    return np.asarray(square)


Window = tuple[float, float, float, float]


def _window(image: Image.Image, box: tuple[int, ...] | None) -> Window:
    width, height = image.size
    x1, y1, x2, y2 = box or (1, 1, width, height)
    window = max(x1 - 1, 0), max(y1 - 1, 0), min(x2, width), min(y2, height)
    if window[0] >= window[2] or window[1] >= window[3]:
        raise ValueError(f"its box {box} lies outside of its {width}x{height} pixels")
    return window


def _draft(image: Image.Image, size: int, window: Window) -> Window:
    """Let the JPEG decoder halve the image as often as leaves the window at least `size` wide."""
    width, height = image.size
    wanted = (
        math.ceil(size * width / (window[2] - window[0])),
        math.ceil(size * height / (window[3] - window[1])),
    )
    image.draft("RGB", wanted)
    x, y = image.size[0] / width, image.size[1] / height
    return window[0] * x, window[1] * y, window[2] * x, window[3] * y
