"""Image files: the one way to open and to cut them, for all data sets, and many of them as one array.

Sets that are read again and again are decoded once: `decoded` keeps them beside the data as one file, which
is mapped and not read, so that all runs and processes of a machine share its memory.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from filelock import Timeout
from numpy.typing import NDArray
from PIL import Image

from papers_lib.datasets.folders import reason
from papers_lib.errors import PapersError
from papers_lib.files import PlaceError, locked, replacing

FORMATS = ("JPEG", "PNG", "PPM", "BMP", "WEBP", "TIFF")
"""What a data set may have, whatever a file is called: no PostScript, which would run another program."""

LARGEST = 89_478_485
"""Pixels of an image; a small file that claims more is made to fill the memory. Pillow warns from here on."""

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]  # left, top, right, bottom, from 0; the last two are outside

_CHUNK = 32  # images per task: a task for each would cost more than a small image
_WAIT = 7200  # seconds for another process that decodes the same images

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


def workers() -> int:
    """How many images may be decoded at once: this process's share of the processors.

    A sweep tells its runs in `$PAPERS_WORKERS`, torchrun its processes how many share the machine.
    """
    if told := os.environ.get("PAPERS_WORKERS"):
        return max(1, int(told))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


# -- one image --


def cut(
    image: Image.Image,
    boxes: Sequence[Box],
    size: tuple[int, int],
    resample: Image.Resampling = Image.Resampling.BILINEAR,
    reduce: bool = True,
) -> list[Pixels]:
    """Parts of an opened image, each scaled to `size` (height, width): uint8 [height, width, 3], RGB.

    With `reduce` the JPEG decoder halves the image as often as leaves each part at least `size` large.
    """
    width, height = image.size
    if reduce:
        least = [
            (math.ceil(size[1] * width / (right - left)), math.ceil(size[0] * height / (bottom - top)))
            for left, top, right, bottom in boxes
        ]
        image.draft("RGB", (max(w for w, _ in least), max(h for _, h in least)))
    # What is left of the halved image, in its own pixels.
    x, y = image.size[0] / width, image.size[1] / height
    picture = rgb(image)
    return [
        np.asarray(picture.resize(size[::-1], resample, box=(left * x, top * y, right * x, bottom * y)))
        for left, top, right, bottom in boxes
    ]


def whole(width: int, height: int) -> Box:
    """All of an image, which a scaling to another shape squashes."""
    return 0, 0, width, height


def middle_square(width: int, height: int) -> Box:
    """The largest square, in the middle."""
    side = min(width, height)
    x, y = (width - side) / 2, (height - side) / 2
    return x, y, x + side, y + side


def inside(box: Sequence[int]) -> Callable[[int, int], Box]:
    """What lies in the image of x1, y1, x2, y2 from 1 and inclusive; a ValueError of nothing."""

    def of(width: int, height: int) -> Box:
        x1, y1, x2, y2 = box
        left, top, right, bottom = max(x1 - 1, 0), max(y1 - 1, 0), min(x2, width), min(y2, height)
        if left >= right or top >= bottom:
            raise ValueError(f"its box {tuple(box)} lies outside of its {width}x{height} pixels")
        return left, top, right, bottom

    return of


def decode(
    source: Path | bytes,
    size: tuple[int, int] | None,
    part: Callable[[int, int], Box] = whole,
    resample: Image.Resampling = Image.Resampling.BILINEAR,
    reduce: bool = True,
    name: str = "",
) -> Pixels:
    """One image file, or the bytes of one, as `cut` gives it; `size` None: as large as it is.

    Raises:
        PapersError: it is missing, empty, truncated or none at all; the message names it.
    """
    with open_image(source, name) as image:
        if size is None:
            return np.asarray(rgb(image))
        return cut(image, [part(*image.size)], size, resample, reduce)[0]


# -- many images --


def load_images(
    files: Sequence[Path | bytes],
    size: tuple[int, int],
    boxes: NDArray[np.int64] | None = None,
    resample: Image.Resampling = Image.Resampling.BILINEAR,
    reduce: bool = True,
    keep: Path | None = None,
) -> Pixels:
    """Decode images to uint8 [N, height, width, 3], RGB, each squashed to `size` (height, width).

    Grey, palette and CMYK images are converted; a transparent one is laid on white.

    Args:
        files: N image files.
        size: height and width in pixels.
        boxes: [N, 4], x1, y1, x2, y2 from 1 and inclusive; what lies outside is cut off first.
        resample, reduce: as `cut` takes them.
        keep: as `decoded` takes it.

    Raises:
        PapersError: an image is missing, empty, truncated or none at all; the message names it.
    """

    def one(i: int) -> Pixels:
        part = whole if boxes is None else inside([int(corner) for corner in boxes[i]])
        return decode(files[i], size, part, resample, reduce)

    return decoded(len(files), one, size, keep)


def decoded(
    count: int, decode: Callable[[int], Pixels], size: tuple[int, int] | None, keep: Path | None = None
) -> Pixels:
    """Images 0 … count − 1 as `decode` gives them: uint8 [count, height, width, 3], in memory or mapped.

    Args:
        count: how many.
        decode: one of them, [height, width, 3]; called by several threads, as Pillow works outside Python's
            lock.
        size: height and width; None: those of the first image.
        keep: a file "<part>-<state>-<kind>.npy", where they are kept and found again. It is written once, by
            one process, and those of the same part and kind with another state are removed. Where it cannot
            be written, or would fill the disk by half of what is free, the images stay in memory.

    Raises:
        PapersError: the first that `decode` raises.
    """
    found = _mapped(keep, count)
    if found is not None:
        return found
    shape = (count, *(size or (decode(0).shape[:2] if count else (0, 0))), 3)
    if keep and count:
        with suppress(PlaceError, OSError, Timeout):
            keep.parent.mkdir(exist_ok=True)
            if shutil.disk_usage(keep.parent).free > 2 * math.prod(shape):
                with locked(keep.parent / ".lock", _WAIT):
                    found = _mapped(keep, count)  # another process was first
                    if found is None:
                        _write(keep, shape, decode)
                        found = _mapped(keep, count)
    return _fill(np.empty(shape, dtype=np.uint8), decode) if found is None else found


def _fill(pixels: Pixels, decode: Callable[[int], Pixels]) -> Pixels:
    def chunk(start: int) -> None:
        for i in range(start, min(start + _CHUNK, len(pixels))):
            pixels[i] = decode(i)

    with ThreadPoolExecutor(workers()) as pool:
        for _ in pool.map(chunk, range(0, len(pixels), _CHUNK)):
            pass  # what a thread raised is raised here
    return pixels


def _write(keep: Path, shape: tuple[int, ...], decode: Callable[[int], Pixels]) -> None:
    with replacing(keep) as temporary:
        pixels = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape)
        if hasattr(os, "posix_fallocate"):  # a map that finds the disk full kills its process
            with temporary.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, temporary.stat().st_size)
        _fill(pixels, decode)
        pixels.flush()
        with temporary.open("ab") as file:
            file.write(_digest(pixels))
    part, _, kind = keep.stem.split("-", 2)
    for old in keep.parent.glob(f"{part}-*-{kind}.npy"):
        if old != keep:
            with suppress(OSError):
                old.unlink()


def _mapped(keep: Path | None, count: int) -> Pixels | None:
    """What lies there, held against the digest behind it; None where that is not what was decoded."""
    if keep is None or not keep.is_file():
        return None
    try:
        # "c": who writes to it changes a copy of his own
        pixels = np.lib.format.open_memmap(keep, "c")
        with keep.open("rb") as file:
            file.seek(-hashlib.sha256().digest_size, os.SEEK_END)
            same = file.read() == _digest(pixels)
        return pixels if same and pixels.ndim == 4 and len(pixels) == count else None
    except Exception:  # a damaged file raises almost anything: the images are decoded again
        return None


def _digest(pixels: Pixels) -> bytes:
    """What stands behind the pixels on disk."""
    digest = hashlib.sha256(f"{pixels.dtype} {pixels.shape}".encode())
    digest.update(pixels.data)
    return digest.digest()
