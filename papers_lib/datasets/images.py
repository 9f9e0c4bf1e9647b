"""Image files: the one way to open them, for all data sets, and many of them to one resident tensor.

An image is squashed to a square, as Song et al. (CVPR 2016) do; a training crop is cut later, on
the device. At 256 pixels the 16,185 images of Cars196 take 3.2 GB.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
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

_CHUNK = 32  # images per task: a task for each would cost more than a small image

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
            # Pillow checks no checksum of a PNG while it decodes.
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
    # The header alone is read so far.
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
        # [H, W]; 0 .. 65,535 → 0 .. 255, rounded
        grey = np.asarray(image).astype(np.int64)
        if image.mode == "F" or (len(grey) and not 0 <= grey.min() <= grey.max() < 2**16):
            raise ValueError("pixels of more than 16 bits: save it with 8 or 16 bits")
        clear = image.info.get("transparency")  # the one value that is transparent, if any
        white = grey == (clear if isinstance(clear, int) else -1)
        return Image.fromarray(np.where(white, 255, (grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        # Black would be what Pillow makes of it.
        over = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
    return image.convert("RGB")


def fill(pixels: NDArray[np.uint8], decode: Callable[[int], NDArray[np.uint8]], threads: int) -> None:
    """Put image i of `decode` at `pixels[i]`, with some threads (Pillow works outside Python's lock).

    Raises:
        PapersError: the first that `decode` raises.
    """

    def chunk(start: int) -> None:
        for i in range(start, min(start + _CHUNK, len(pixels))):
            pixels[i] = decode(i)

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(chunk, range(0, len(pixels), _CHUNK)):
            pass  # what a thread raised is raised here


def load_images(
    files: Sequence[Path], size: int, boxes: NDArray[np.int64] | None = None, threads: int = 2
) -> Tensor:
    """Decode images to RGB, uint8 [N, 3, size, size].

    Grey, palette and CMYK images are converted; a transparent one is laid on white.

    Args:
        files: N image files.
        size: the side in pixels.
        boxes: [N, 4], x1, y1, x2, y2 from 1 and inclusive; what lies outside is cut off first.
        threads: decoders at once.

    Raises:
        PapersError: an image is missing, empty, truncated or none at all; the message names it.
    """
    import torch

    def planes(i: int) -> NDArray[np.uint8]:
        box = None if boxes is None else tuple(map(int, boxes[i]))
        return decode(files[i], size, box).transpose(2, 0, 1)

    pixels = torch.empty(len(files), 3, size, size, dtype=torch.uint8)  # [N, 3, size, size]
    fill(pixels.numpy(), planes, threads)
    return pixels


def decode(file: Path, size: int, box: tuple[int, ...] | None = None) -> NDArray[np.uint8]:
    """One image [size, size, 3] of `load_images`."""
    with open_image(file) as image:
        width, height = image.size
        # from 1 and inclusive → from 0, right and lower edge outside
        x1, y1, x2, y2 = box or (1, 1, width, height)
        left, top, right, bottom = max(x1 - 1, 0), max(y1 - 1, 0), min(x2, width), min(y2, height)
        if left >= right or top >= bottom:
            raise ValueError(f"its box {box} lies outside of its {width}x{height} pixels")
        # The JPEG decoder halves the image as often as leaves the window at least `size` wide.
        image.draft(
            "RGB", (math.ceil(size * width / (right - left)), math.ceil(size * height / (bottom - top)))
        )
        # What is left of the halved image, in its own pixels.
        x, y = image.size[0] / width, image.size[1] / height
        window = (left * x, top * y, right * x, bottom * y)
        square = rgb(image).resize((size, size), Image.Resampling.BILINEAR, box=window)
    return np.asarray(square)
