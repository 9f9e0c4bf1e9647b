"""Image files of all kinds to one tensor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from data_prep.pictures import fault
from papers_lib.datasets.images import load_images
from papers_lib.errors import PapersError


def gradient(width: int, height: int) -> Image.Image:
    x = np.linspace(0, 255, width)[None, :, None] * np.ones((height, 1, 3))
    return Image.fromarray(x.astype(np.uint8))


def test_squashed_in_order_whatever_the_threads(tmp_path):
    files = []
    for i in range(9):
        files.append(tmp_path / f"bild {i} ü.png")
        Image.new("RGB", (10 + i, 5), (i * 20, 0, 255)).save(files[-1])
    one, four = load_images(files, 6, threads=1), load_images(files, 6, threads=4)
    assert one.dtype == torch.uint8
    assert one.shape == (9, 3, 6, 6)
    assert torch.equal(one, four)
    assert one[:, 0, 0, 0].tolist() == [i * 20 for i in range(9)]
    assert one[:, 2].unique().tolist() == [255]


@pytest.mark.parametrize(("mode", "suffix"), [("L", "jpg"), ("CMYK", "jpg"), ("1", "png"), ("P", "png")])
def test_every_mode_becomes_rgb(mode, suffix, tmp_path):
    file = tmp_path / f"a.{suffix}"
    Image.new("RGB", (9, 9), (255, 255, 255)).convert(mode).save(file)
    pixels = load_images([file], 4)
    assert pixels.shape == (1, 3, 4, 4)
    assert pixels.min() >= 250


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_is_white(mode, tmp_path):
    file = tmp_path / "a.png"
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).convert(mode).save(file)
    assert load_images([file], 4).min() == 255


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_of_grey_are_scaled(kind, tmp_path):
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))
    file = tmp_path / "a.img"
    for scale in (np.uint16(257), np.uint16(1)):  # the whole range, and all of it nearly black
        Image.fromarray(ramp * scale).save(file, kind)
        pixels = load_images([file], 64)[0]
        wanted = (ramp.astype(np.int64) * int(scale) + 128) // 257
        assert (pixels == torch.from_numpy(wanted)).all()
        assert fault(file) == ""


def test_pixels_of_an_unknown_range_are_refused(tmp_path):
    for pixels in (np.full((4, 4), 0.5, np.float32), np.full((4, 4), 2**20, np.int32)):
        Image.fromarray(pixels).save(tmp_path / "a.tif")
        assert "save it with 8 or 16 bits" in fault(tmp_path / "a.tif")
        with pytest.raises(PapersError, match="pixels of more than 16 bits"):
            load_images([tmp_path / "a.tif"], 4)


@pytest.mark.parametrize("kind", ["EPS", "PDF", "AVIF", "GIF"])
def test_formats_of_no_data_set_are_refused_whatever_the_name(kind, tmp_path, monkeypatch):
    """PostScript would run Ghostscript, if there is one."""
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", kind)
    assert "is not a whole image" in fault(tmp_path / "a.jpg")
    with pytest.raises(PapersError, match="is not a whole image"):
        load_images([tmp_path / "a.jpg"], 4)
    assert not (tmp_path / "called").exists()


def test_an_image_that_would_fill_the_memory_is_refused(tmp_path):
    Image.new("1", (10_000, 10_000)).save(tmp_path / "a.png")
    with pytest.raises(PapersError, match="10000x10000 pixels, more than"):
        load_images([tmp_path / "a.png"], 4)


def test_one_pixel_is_an_image(tmp_path):
    Image.new("RGB", (1, 1), (7, 8, 9)).save(tmp_path / "a.png")
    assert load_images([tmp_path / "a.png"], 3)[0, :, 1, 1].tolist() == [7, 8, 9]


def test_no_image_at_all():
    assert load_images([], 5).shape == (0, 3, 5, 5)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_the_box_is_what_is_kept(suffix, tmp_path):
    file = tmp_path / f"a.{suffix}"
    gradient(400, 200).save(file, quality=95)
    box = np.array([[101, 51, 200, 150]])  # from 1, inclusive: columns 100 .. 199
    kept = load_images([file], 50, box)[0].float()
    expected = np.linspace(0, 255, 400)[100:200].reshape(50, 2).mean(1)
    assert np.abs(kept[0, 25].numpy() - expected).max() < 4
    outside = np.array([[1, 1, 999, 999]])
    assert torch.equal(load_images([file], 50, outside), load_images([file], 50))


def test_a_box_beside_the_image_is_refused(tmp_path):
    gradient(20, 20).save(tmp_path / "a.png")
    with pytest.raises(PapersError, match="lies outside"):
        load_images([tmp_path / "a.png"], 5, np.array([[30, 30, 40, 40]]))


def test_a_large_jpeg_is_the_same_as_without_draft(tmp_path):
    gradient(640, 480).save(tmp_path / "a.jpg", quality=95)
    gradient(640, 480).save(tmp_path / "a.png")
    jpg, png = load_images([tmp_path / "a.jpg", tmp_path / "a.png"], 32).float()
    assert (jpg - png).abs().max() < 6


@pytest.mark.parametrize("fault", ["truncated", "empty", "text", "missing"])
def test_a_broken_file_is_named_in_one_line(fault, tmp_path):
    good, bad = tmp_path / "good.jpg", tmp_path / "bad ß.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(good)
    if fault != "missing":
        whole = good.read_bytes()
        content = {"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"hello"}
        bad.write_bytes(content[fault])
    with pytest.raises(PapersError) as caught:
        load_images([good, bad, good], 8)
    assert str(bad) in str(caught.value)
    assert "\n" not in str(caught.value)
