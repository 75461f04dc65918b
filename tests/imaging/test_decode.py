"""Files of every kind: read upright, or refused in one sentence before their pixels are decoded."""

from __future__ import annotations

import os
import re
import socket
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import Image as PILImage

from refgc.imaging.image import MAX_PIXELS, MAX_SIDE, MIN_SIDE, open_image, open_mask
from tests.support.pictures import assert_close, encoded, noise, png_chunk, quadrants, refusal

pillow_heif.register_heif_opener()

# For each kind: how to save without or with little loss, and how far apart a level may then be.
KINDS: dict[str, tuple[str, dict[str, Any], int]] = {
    "png": ("PNG", {}, 0),
    "bmp": ("BMP", {}, 0),
    "tif": ("TIFF", {"compression": "tiff_lzw"}, 0),
    "ppm": ("PPM", {}, 0),
    "webp": ("WEBP", {"lossless": True}, 0),
    "jpg": ("JPEG", {"quality": 95, "subsampling": 0}, 6),
    "avif": ("AVIF", {"quality": 95, "subsampling": "4:4:4"}, 8),
    "heic": ("HEIF", {"quality": 95, "chroma": 444}, 8),
}

# How a stored picture is turned upright, by its EXIF orientation (EXIF 2.32, section 4.6.4).
TURNED_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored, 1),
}


def oriented(orientation: int) -> bytes:
    exif = PILImage.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize("as_text", [True, False], ids=["str", "Path"])
def test_every_kind_keeps_size_colour_and_orientation(suffix, as_text, tmp_path):
    kind, options, tolerance = KINDS[suffix]
    path = tmp_path / f"picture.{suffix}"
    path.write_bytes(encoded(PILImage.fromarray(quadrants()), kind, **options))

    image = open_image(str(path) if as_text else path, name="reference")

    assert image.size == (64, 48)
    assert image.alpha is None
    assert_close(image.pixels, quadrants(), tolerance)


def test_the_suffix_does_not_matter(tmp_path):
    path = tmp_path / "really a webp.png"
    path.write_bytes(encoded(PILImage.fromarray(quadrants()), "WEBP", lossless=True))
    assert_close(open_image(path, name="reference").pixels, quadrants(), 0)


@pytest.mark.parametrize("orientation", TURNED_UPRIGHT)
@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "jpg", "avif", "heic"])
def test_exif_orientation_is_applied(suffix, orientation, tmp_path):
    kind, options, tolerance = KINDS[suffix]
    stored = quadrants()
    path = tmp_path / f"turned.{suffix}"
    path.write_bytes(encoded(PILImage.fromarray(stored), kind, exif=oriented(orientation), **options))

    image = open_image(path, name="reference")

    assert_close(image.pixels, TURNED_UPRIGHT[orientation](stored), tolerance)


@pytest.mark.parametrize("orientation", TURNED_UPRIGHT)
def test_exif_orientation_turns_the_transparency_and_masks_alike(orientation, tmp_path):
    stored = np.dstack([quadrants(), np.full((48, 64), 255, np.uint8)])
    stored[:10, :20, 3] = 0
    path = tmp_path / "turned.png"
    path.write_bytes(encoded(PILImage.fromarray(stored), "PNG", exif=oriented(orientation)))
    upright = TURNED_UPRIGHT[orientation](stored)

    image = open_image(path, name="reference")
    assert image.alpha is not None
    np.testing.assert_array_equal(image.alpha.values, upright[..., 3] / np.float32(255))
    assert image.pixels[image.alpha.values == 0].min() == 255

    drawn = PILImage.fromarray(stored[..., 3])
    path.write_bytes(encoded(drawn, "PNG", exif=oriented(orientation)))
    mask = open_mask(path, size=image.size, name="reference mask")
    np.testing.assert_array_equal(mask.values, image.alpha.values)


def test_exif_orientation_of_a_pil_image_is_applied_without_touching_it(tmp_path):
    path = tmp_path / "turned.png"
    path.write_bytes(encoded(PILImage.fromarray(quadrants()), "PNG", exif=oriented(6)))
    with PILImage.open(path) as picture:
        image = open_image(picture, name="reference")
        assert picture.size == (64, 48)
        assert picture.getexif()[0x0112] == 6
    assert_close(image.pixels, np.rot90(quadrants(), -1), 0)


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0garbage",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x05\0\0\0\x20",
    ],
    ids=["garbage", "offset beyond the end", "orientation of the wrong type"],
)
def test_broken_exif_is_no_obstacle(exif, tmp_path, recwarn):
    path = tmp_path / "broken exif.jpg"
    path.write_bytes(encoded(PILImage.fromarray(quadrants()), "JPEG", quality=95, subsampling=0, exif=exif))
    assert_close(open_image(path, name="reference").pixels, quadrants(), 6)
    assert not recwarn.list


@pytest.mark.parametrize(
    ("suffix", "kind", "options"),
    [
        ("gif", "GIF", {}),
        ("webp", "WEBP", {"lossless": True}),
        ("png", "PNG", {}),
        ("tif", "TIFF", {}),
        ("avif", "AVIF", {"quality": 95, "subsampling": "4:4:4"}),
        ("heic", "HEIF", {"quality": 95, "chroma": 444}),
        ("mpo", "MPO", {"quality": 95, "subsampling": 0}),
    ],
)
def test_of_several_frames_the_first_is_taken(suffix, kind, options, tmp_path):
    first = PILImage.fromarray(quadrants())
    others = [PILImage.new("RGB", first.size, colour) for colour in ("black", "white")]
    path = tmp_path / f"moving.{suffix}"
    path.write_bytes(encoded(first, kind, save_all=True, append_images=others, **options))
    with PILImage.open(path) as check:
        assert getattr(check, "n_frames", 1) == 3

    image = open_image(path, name="reference")

    assert image.size == (64, 48)
    assert image.alpha is None
    assert_close(image.pixels, quadrants(), 8)


@pytest.mark.parametrize("size", [(400, 40), (40, 400), (1600, 160), (MIN_SIDE, MIN_SIDE), (MIN_SIDE, 3000)])
def test_any_aspect_ratio_works(size, tmp_path):
    path = tmp_path / "strip.png"
    pixels = noise(size[1], size[0])
    path.write_bytes(encoded(PILImage.fromarray(pixels), "PNG"))
    assert_close(open_image(path, name="reference").pixels, pixels, 0)


def test_the_same_file_is_read_the_same_twice_and_pixels_cannot_be_changed(tmp_path):
    path = tmp_path / "picture.jpg"
    path.write_bytes(encoded(PILImage.fromarray(noise(40, 50)), "JPEG"))
    first, second = (open_image(path, name="reference").pixels for _ in range(2))
    np.testing.assert_array_equal(first, second)
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0, 0] = 1


# --- refused --------------------------------------------------------------------------------------------------------


def test_missing_file(tmp_path):
    sentence = refusal(lambda: open_image(tmp_path / "nowhere.png", name="reference"))
    assert sentence == f"The reference {str(tmp_path / 'nowhere.png')!r} cannot be found; check the path."


@pytest.mark.parametrize("path", ["a\0b.png", "x" * 5000 + ".png", "line\nbreak.png", "\ud800.png", ""])
def test_impossible_paths(path):
    sentence = refusal(lambda: open_image(path, name="reference"))
    assert re.search("cannot be found; check the path|is a folder; give the path", sentence)
    assert sentence.isprintable()


def test_a_loop_of_links(tmp_path):
    (tmp_path / "one.png").symlink_to(tmp_path / "other.png")
    (tmp_path / "other.png").symlink_to(tmp_path / "one.png")
    assert "cannot be found; check the path" in refusal(lambda: open_image(tmp_path / "one.png", name="reference"))


def test_a_folder(tmp_path):
    assert "is a folder; give the path of one picture" in refusal(lambda: open_image(tmp_path, name="reference"))


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")
def test_neither_file_nor_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.png")
    assert "is not a file; give the path of one picture" in refusal(lambda: open_image("pipe.png", name="reference"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
def test_unreadable_file(tmp_path):
    path = tmp_path / "secret.png"
    path.write_bytes(encoded(PILImage.fromarray(quadrants()), "PNG"))
    path.chmod(0)
    assert "check its permissions" in refusal(lambda: open_image(path, name="reference"))


def test_empty_file(tmp_path):
    path = tmp_path / "empty.png"
    path.touch()
    sentence = refusal(lambda: open_image(path, name="generated picture"))
    assert sentence == "The generated picture 'empty.png' is empty (0 bytes); save or download the picture again."


@pytest.mark.parametrize(
    "content",
    [b"This is no picture.\n", b"x", bytes(1000), b"%PDF-1.7\n", b"<svg xmlns='http://www.w3.org/2000/svg'/>"],
    ids=["text", "one byte", "zeros", "PDF", "SVG"],
)
def test_no_picture_named_png(content, tmp_path):
    path = tmp_path / "text.png"
    path.write_bytes(content)
    sentence = refusal(lambda: open_image(path, name="reference"))
    assert "'text.png' is not a picture that can be read" in sentence
    assert "give it as PNG, JPEG, WebP, AVIF, HEIC" in sentence


def test_kinds_that_start_programs_are_not_opened(tmp_path):
    path = tmp_path / "drawing.eps"
    PILImage.fromarray(quadrants()).save(path)
    assert "is not a picture that can be read" in refusal(lambda: open_image(path, name="reference"))


@pytest.mark.parametrize("kept", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("suffix", KINDS)
def test_truncated_file(suffix, kept, tmp_path):
    kind, options, _ = KINDS[suffix]
    content = encoded(PILImage.fromarray(noise(60, 80)), kind, **options)
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(content[: int(len(content) * kept)])
    sentence = refusal(lambda: open_image(path, name="reference"))
    assert re.search(r"is damaged or cut off; save or download it again|its beginning is damaged; give it as", sentence)


def test_damaged_pixels_of_a_pil_image(tmp_path):
    path = tmp_path / "cut.png"
    path.write_bytes(encoded(PILImage.fromarray(noise(60, 80)), "PNG")[:2000])
    with PILImage.open(path) as picture:
        assert "damaged or cut off" in refusal(lambda: open_image(picture, name="reference"))


@pytest.mark.parametrize(
    "address", ["https://example.org/a.png", "http://x/y", "ftp://x/y.png", "data:image/png;base64,x"]
)
@pytest.mark.parametrize("wrap", [str, Path])
def test_addresses(address, wrap):
    sentence = refusal(lambda: open_image(wrap(address), name="reference"))
    assert sentence == ("The reference is an address, not a file; download the picture and give the path of the file.")


@pytest.mark.parametrize("source", [None, 7, [[1, 2]], b"picture.png", object()])
def test_other_types(source):
    assert "give the path of a file, a PIL image or a NumPy array" in refusal(
        lambda: open_image(source, name="reference")
    )


@pytest.mark.parametrize("size", [(1, 1), (MIN_SIDE - 1, 500), (500, MIN_SIDE - 1)])
def test_too_small(size, tmp_path):
    path = tmp_path / "small.png"
    path.write_bytes(encoded(PILImage.new("RGB", size), "PNG"))
    for call in (
        lambda: open_image(path, name="reference"),
        lambda: open_image(PILImage.new("RGB", size), name="reference"),
        lambda: open_image(np.zeros((size[1], size[0], 3), np.uint8), name="reference"),
        lambda: open_mask(path, size=size, name="reference"),
    ):
        sentence = refusal(call)
        assert f"The reference is {size[0]}x{size[1]} pixels, too small" in sentence
        assert "give one of at least 16x16" in sentence


def header_of_png(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"")


def header_of_bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def header_of_gif(width: int, height: int) -> bytes:
    return (
        b"GIF89a"
        + struct.pack("<HHBBB", width, height, 0, 0, 0)
        + b",\0\0\0\0"
        + struct.pack("<HHBB", width, height, 0, 8)
    )


def header_of_tiff(width: int, height: int) -> bytes:
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: width * height}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value & 0xFFFFFFFF) for tag, value in tags.items())
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4)


def header_of_ppm(width: int, height: int) -> bytes:
    return b"P6 %d %d 255\n" % (width, height)


def header_of_jpeg(width: int, height: int) -> bytes:
    content = encoded(PILImage.fromarray(quadrants()), "JPEG")
    start = content.index(b"\xff\xc0")
    return content[: start + 5] + struct.pack(">HH", height, width) + content[start + 9 :]


def header_of_isobmff(kind: str, width: int, height: int) -> bytes:
    content = encoded(PILImage.fromarray(quadrants()), kind)
    start = content.index(b"ispe") + 8
    return content[:start] + struct.pack(">II", width, height) + content[start + 8 :]


def header_of_avif(width: int, height: int) -> bytes:
    return header_of_isobmff("AVIF", width, height)


def header_of_heic(width: int, height: int) -> bytes:
    return header_of_isobmff("HEIF", width, height)


# Just over the limit, between Pillow's own warning and its refusal, and far beyond.
@pytest.mark.parametrize("size", [(8001, 8000), (10_000, 10_000), (60_000, 60_000)])
@pytest.mark.parametrize(
    "header",
    [
        header_of_png,
        header_of_bmp,
        header_of_gif,
        header_of_tiff,
        header_of_ppm,
        header_of_jpeg,
        header_of_avif,
        header_of_heic,
    ],
)
def test_too_many_pixels_are_refused_by_the_header_alone(header, size, tmp_path, recwarn):
    path = tmp_path / "bomb"
    path.write_bytes(header(*size))
    tracemalloc.start()
    for call in (
        lambda: open_image(path, name="reference"),
        lambda: open_mask(path, size=size, name="reference"),
    ):
        sentence = refusal(call)
        assert sentence.startswith("The reference has more than 64 megapixels")
        assert sentence.endswith("; make it smaller or crop it.")
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()
    assert not recwarn.list


def test_too_many_pixels_webp(tmp_path):
    path = tmp_path / "bomb.webp"
    PILImage.new("L", (8200, 7900)).save(path, lossless=True, method=0)
    assert "more than 64 megapixels (8200x7900 pixels)" in refusal(lambda: open_image(path, name="reference"))


def test_a_real_bomb_is_refused(tmp_path):
    """A sound file of some kilobytes that takes 132 megabytes when decoded."""
    path = tmp_path / "bomb.png"
    PILImage.new("1", (12_000, 11_000)).save(path)
    assert path.stat().st_size < 50_000
    assert "more than 64 megapixels (12000x11000 pixels)" in refusal(lambda: open_image(path, name="reference"))


def test_too_many_pixels_in_memory():
    class Huge(PILImage.Image):
        def load(self):
            raise AssertionError("decoded before its size was checked")

    picture = Huge()
    picture._size = (9000, 9000)
    assert "(9000x9000 pixels)" in refusal(lambda: open_image(picture, name="reference"))
    array = np.broadcast_to(np.uint8(0), (9000, 9000, 3))
    assert "(9000x9000 pixels)" in refusal(lambda: open_image(array, name="reference"))


def test_as_many_pixels_as_allowed():
    array = np.broadcast_to(np.uint8(9), (MAX_PIXELS // MAX_SIDE, MAX_SIDE))
    assert open_image(array, name="reference").size == (MAX_SIDE, MAX_PIXELS // MAX_SIDE)


def test_too_long_a_side():
    array = np.broadcast_to(np.uint8(0), (MIN_SIDE, MAX_SIDE + 1))
    assert f"no side may exceed {MAX_SIDE}" in refusal(lambda: open_image(array, name="reference"))


def test_a_file_that_holds_more_than_its_header_says(tmp_path):
    """A GIF whose frame is larger than its screen."""
    path = tmp_path / "liar.gif"
    path.write_bytes(
        b"GIF89a" + struct.pack("<HHBBB", 20, 20, 0, 0, 0) + b",\0\0\0\0" + struct.pack("<HHBB", 60_000, 60_000, 0, 8)
    )
    assert "more than 64 megapixels" in refusal(lambda: open_image(path, name="reference"))
