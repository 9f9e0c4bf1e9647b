"""Image files of all kinds to pixels, by each of the doors through which a data set is decoded."""

import numpy as np
import pytest
from PIL import Image
from tiny_sets import refused

from data_prep.pictures import fault
from papers_lib.datasets import classification, faces, folders, images
from papers_lib.datasets.images import load_images


def cropped(files):
    keep = files[0].parent / folders.DECODED / "query-1-16x8.npy" if files else None
    return load_images(files, (16, 8), resample=Image.Resampling.BICUBIC, reduce=False, keep=keep)


def classified(files):
    labels = np.zeros(len(files), dtype=np.int64)
    split = classification.Split(tuple(files), labels, files[0].parent / folders.DECODED / "train-1")
    return classification.load_images(split, 8)


def trained(files):
    side = faces.Training(tuple(files), np.zeros(len(files), dtype=np.int64), 1)
    return side.pixels(range(len(files)), 8)


def paired(files):
    pairs = faces.Pairs("x", tuple(files), *np.zeros((2, 1), dtype=np.int64), np.array([True]))
    return faces.load_images(pairs, 8)


DOORS = {  # [N, H, W, 3] of each
    "squares": lambda files: load_images(files, (8, 8)),
    "crops": cropped,
    "classification": classified,
    "training faces": trained,
    "pairs of faces": paired,
}


def gradient(width, height):
    x = np.linspace(0, 255, width)[None, :, None] * np.ones((height, 1, 3))
    return Image.fromarray(x.astype(np.uint8))


@pytest.mark.parametrize("door", DOORS)
def test_every_mode_becomes_rgb_in_order_whatever_the_threads(door, tmp_path, monkeypatch):
    monkeypatch.setattr(images, "_CHUNK", 2)  # so that threads share the work
    files, greys = [], []
    for i, mode in enumerate(("RGB", "L", "CMYK", "P", "1", "RGBA", "LA")):
        files.append(tmp_path / f"bild {i} ü.{'jpg' if mode in ('L', 'CMYK') else 'png'}")
        grey = 255 if mode in ("1", "RGBA", "LA") else 51 * i + 51  # what is transparent becomes white
        greys.append(grey)
        clear = Image.new("RGBA", (30 + i, 80))
        opaque = Image.new("RGB", (30 + i, 80), (grey, grey, grey))
        (clear if mode in ("RGBA", "LA") else opaque).convert(mode).save(files[-1])
    pictures = []
    for threads in ("1", "3"):
        monkeypatch.setenv("PAPERS_WORKERS", threads)
        pictures.append(np.array(DOORS[door](files)))
        for map_of in (tmp_path / folders.DECODED).glob("*.npy"):
            map_of.unlink()
    one, three = pictures
    assert (one.shape, one.dtype) == ((7, 16 if door == "crops" else 8, 8, 3), np.uint8)
    assert (one == three).all()
    assert np.abs(one - np.reshape(greys, (7, 1, 1, 1))).max() < 3
    if door in ("squares", "crops"):
        assert DOORS[door]([]).shape == (0, *one.shape[1:])


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "missing"])
def test_a_broken_file_is_named_in_one_line(damage, door, tmp_path):
    good, bad = tmp_path / "good.jpg", tmp_path / "bad ß.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(good)
    whole = good.read_bytes()
    if damage != "missing":
        bad.write_bytes({"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"hello"}[damage])
    assert f"{bad} is not a whole image" in refused(DOORS[door], [good, bad, good])
    assert not list(tmp_path.glob(f"{folders.DECODED}/*.npy"))


@pytest.mark.parametrize("door", DOORS)
def test_rows_are_rows_of_the_image(door, tmp_path):
    pixels = np.zeros((40, 40, 3), dtype=np.uint8)
    pixels[:20, :, 0], pixels[:, 20:, 2] = 200, 100
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = np.asarray(DOORS[door]([tmp_path / "a.png"] * 2)[0]).astype(float)
    corners = {(0, 0): (200, 0, 0), (0, -1): (200, 0, 100), (-1, 0): (0, 0, 0), (-1, -1): (0, 0, 100)}
    for corner, colour in corners.items():
        assert np.abs(image[corner] - np.array(colour)).max() <= 3  # bicubic overshoots


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_of_grey_are_scaled(kind, tmp_path):
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))
    file = tmp_path / "a.img"
    for scale in (np.uint16(257), np.uint16(1)):  # the whole range, and all of it nearly black
        Image.fromarray(ramp * scale).save(file, kind)
        wanted = (ramp.astype(np.int64) * int(scale) + 128) // 257
        assert (load_images([file], (64, 64))[0] == wanted[..., None]).all()
        assert fault(file) == ""


def test_pixels_of_an_unknown_range_are_refused(tmp_path):
    for pixels in (np.full((4, 4), 0.5, np.float32), np.full((4, 4), 2**20, np.int32)):
        Image.fromarray(pixels).save(tmp_path / "a.tif")
        assert "save it with 8 or 16 bits" in fault(tmp_path / "a.tif")
        assert "pixels of more than 16 bits" in refused(load_images, [tmp_path / "a.tif"], (4, 4))


@pytest.mark.parametrize("kind", ["EPS", "PDF", "AVIF", "GIF"])
def test_formats_of_no_data_set_are_refused_whatever_the_name(kind, tmp_path, monkeypatch):
    """PostScript would run Ghostscript, if there is one."""
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", kind)
    assert "is not a whole image" in fault(tmp_path / "a.jpg")
    assert "is not a whole image" in refused(load_images, [tmp_path / "a.jpg"], (4, 4))
    assert not (tmp_path / "called").exists()


def test_the_largest_and_the_smallest_image(tmp_path):
    Image.new("1", (10_000, 10_000)).save(tmp_path / "a.png")
    assert "10000x10000 pixels, more than" in refused(load_images, [tmp_path / "a.png"], (4, 4))
    Image.new("RGB", (1, 1), (7, 8, 9)).save(tmp_path / "a.png")
    assert load_images([tmp_path / "a.png"], (3, 3))[0, 1, 1].tolist() == [7, 8, 9]


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_the_box_is_what_is_kept(suffix, tmp_path):
    file = tmp_path / f"a.{suffix}"
    gradient(400, 200).save(file, quality=95)

    def boxed(*box):
        return load_images([file], (50, 50), np.array([box]))

    expected = np.linspace(0, 255, 400)[100:200].reshape(50, 2).mean(1)  # columns from 0
    assert np.abs(boxed(101, 51, 200, 150)[0, 25, :, 0] - expected).max() < 4
    assert (boxed(1, 1, 999, 999) == load_images([file], (50, 50))).all()
    assert "lies outside" in refused(boxed, 401, 30, 440, 40)


def test_a_large_jpeg_is_the_same_as_without_draft(tmp_path):
    for suffix in ("jpg", "png"):
        gradient(640, 480).save(tmp_path / f"a.{suffix}", quality=95)
    jpg, png = load_images([tmp_path / "a.jpg", tmp_path / "a.png"], (32, 32)).astype(float)
    assert np.abs(jpg - png).max() < 6
